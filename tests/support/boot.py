"""`dragoman boot` in a process of its own, whose console is a pipe each way."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

from support.peers import REPOSITORY
from support.qemu_system import Console


@contextlib.contextmanager
def booted(seconds: float, *words: str) -> Iterator[Console]:
    """The console of a machine, which ends with the block; seconds until what is expected must have come."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dragoman", "boot", *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    try:
        yield Console(process, seconds)
    finally:
        process.kill()
        process.wait()
