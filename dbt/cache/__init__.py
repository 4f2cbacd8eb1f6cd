"""The translation cache: what is kept, what leads where, and what goes when room is needed.

`store` has the translations, their links and the one way by which a translation goes; `policies` says which
one goes first. Owns: that. Must not know: how code is made, what an engine does with it.
"""

from __future__ import annotations

from dbt.cache.store import TranslationCache

__all__ = ["TranslationCache"]
