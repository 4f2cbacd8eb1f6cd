"""What tests of system calls and of regions begin with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support.kernel import Guest

from ir.llvm import variables


@pytest.fixture
def guest() -> Iterator[Guest]:
    """A kernel without a CPU."""
    with closing(Guest()) as made:
        yield made


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(params=[variables.SELDOM, 0], ids=["often used", "in the state"])
def registers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Registers that are often used are variables of a region; or all but the pinned ones stay in the CPU state."""
    monkeypatch.setattr(variables, "SELDOM", request.param)
