"""Makes `tests/support` importable as `support`, whatever directory the tests are started from."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

_HERE = str(Path(__file__).parent)
if _HERE not in sys.path:
    sys.path.insert(0, _HERE)

# A job in the background of a shell is started with Ctrl-C ignored, and so would be all that it starts.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# What one test leaves on disk must not be what another one runs; tests of the disk cache have folders of their own.
os.environ["DRAGOMAN_CACHE_DIR"] = ""
