"""Programs that print what system calls answer, under Dragoman and under qemu-riscv64."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import cross

import dragoman


@pytest.mark.parametrize("engine", ["translated", "reference"])
def test_calls_answer_as_under_qemu(engine: str, tmp_path: Path) -> None:
    program = cross.build(tmp_path, "families", "-static", "-w")
    wanted = cross.qemu(program, root=None)
    assert wanted[0] == 0, wanted
    ours = dragoman.run(program, engine=engine)
    assert ours.stdout.decode().splitlines() == wanted[1].decode().splitlines()
    assert (ours.status, ours.stderr) == (0, b"")
