"""What tests of system calls begin with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support.kernel import Guest


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
