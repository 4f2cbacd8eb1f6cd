"""What tests compare with but the project does not need: other programs, modules, fetched guests.

A test that needs one asks here. If it is missing the test is skipped with a sentence that names what to install;
with DRAGOMAN_REQUIRE_PEERS=1, as in continuous integration, the test fails with that sentence instead.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
REQUIRED = os.environ.get("DRAGOMAN_REQUIRE_PEERS", "") not in ("", "0")


def missing(sentence: str) -> NoReturn:
    """Skip the test, or fail it where peers are required."""
    if REQUIRED:
        pytest.fail(f"{sentence} (DRAGOMAN_REQUIRE_PEERS is set)", pytrace=False)
    pytest.skip(sentence)


def need(name: str, package: str) -> str:
    """The path of a program, or of a Python module, that `package` (Debian's, or pip's) installs."""
    found = shutil.which(name)
    if found is None and name.replace(".", "").isidentifier():
        module = importlib.util.find_spec(name)
        found = (module.origin or name) if module else None
    if found is None:
        missing(f"{name} is not installed: install the package {package}")
    return found


def need_file(path: Path, command: str) -> Path:
    """A file that `command` makes or fetches."""
    if not path.exists():
        missing(f"{path} is missing: run `{command}`")
    return path


def debian_program(path: str) -> Path:
    """A program of Debian's riscv64 packages, by its path in the root that `make debian-guests` fills."""
    root = Path(os.environ.get("DRAGOMAN_DEBIAN_ROOT") or REPOSITORY / ".cache/debian-riscv64/root")
    return need_file(root / path.lstrip("/"), "make debian-guests")
