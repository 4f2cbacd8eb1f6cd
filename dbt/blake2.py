"""`hashlib.blake2b`, without `hashlib` where that can be: it loads OpenSSL first, 2 ms of a run from the disk cache.

Owns: where the function comes from. Must not know: what is hashed.
"""

from __future__ import annotations

try:
    from _blake2 import blake2b as blake2b  # what `hashlib` itself hands out, in every Python that we know
except ImportError:
    from hashlib import blake2b as blake2b
