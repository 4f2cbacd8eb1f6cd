"""Makes `tests/support` importable as `support`, whatever directory the tests are started from."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

_HERE = str(Path(__file__).parent)
if _HERE not in sys.path:
    sys.path.insert(0, _HERE)

# A job in the background of a shell is started with Ctrl-C ignored, and so would be all that it starts.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Stencils are made once for all tests of a run, on disk, as for a user; tests of the disk cache have their own folders.
if "DRAGOMAN_TESTS" not in os.environ:
    os.environ["DRAGOMAN_TESTS"] = tempfile.mkdtemp(prefix="dragoman-tests-")
    atexit.register(shutil.rmtree, os.environ["DRAGOMAN_TESTS"], ignore_errors=True)
os.environ["DRAGOMAN_CACHE_DIR"] = os.environ["DRAGOMAN_TESTS"]
