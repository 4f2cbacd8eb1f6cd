"""What all tests have: `tests/support` as `support`, and what is made once in a run and shared by its processes.

Two things are shared, in one folder that goes with the run: the disk cache of programs that tests start, as users have
one, and what LLVM makes in processes that run tests (`support.objects`). Tests of either have their own.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import pytest

_HERE = str(Path(__file__).parent)
if _HERE not in sys.path:
    sys.path.insert(0, _HERE)

# A job in the background of a shell is started with Ctrl-C ignored, and so would be all that it starts.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

if "DRAGOMAN_TESTS" not in os.environ:
    os.environ["DRAGOMAN_TESTS"] = tempfile.mkdtemp(prefix="dragoman-tests-")
    atexit.register(shutil.rmtree, os.environ["DRAGOMAN_TESTS"], ignore_errors=True)
_SHARED = Path(os.environ["DRAGOMAN_TESTS"])
os.environ["DRAGOMAN_CACHE_DIR"] = str(_SHARED / "cache")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Not before: what cannot be imported is to fail where a test imports it."""
    from support import objects

    if session.items and not session.config.option.collectonly:
        objects.keep(_SHARED / "objects")
