"""Programs that print what system calls answer, under Dragoman and under qemu-riscv64, and in lockstep."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import cross
from support.peers import debian_program

import dragoman
from dbt.lockstep import lockstep
from dbt.process import Settings

FAMILIES = ("sockets", "events", "objects", "memory", "transfers", "terminals")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cross.build(tmp_path_factory.mktemp("families"), "families", "-static", "-w")


@pytest.mark.parametrize("engine", ["translated", "reference"])
@pytest.mark.parametrize("family", FAMILIES)
def test_calls_answer_as_under_qemu(family: str, engine: str, program: Path) -> None:
    wanted = cross.qemu(program, [family], root=None)
    assert wanted[0] == 0 and wanted[1].count(b"\n") > 10, wanted
    ours = dragoman.run(program, [family], engine=engine)
    assert ours.stdout.decode().splitlines() == wanted[1].decode().splitlines()
    assert (ours.status, ours.stderr) == (0, b"")


def test_a_larger_program_finds_all_that_it_asks_for() -> None:
    python = debian_program("usr/bin/python3")
    root, words = python.parents[2], [str(cross.PROGRAMS / "families.py")]
    wanted = cross.qemu(python, words, root=root)
    assert wanted[0] == 0, wanted
    ours = dragoman.run(python, words, sysroot=root)
    assert (ours.status, ours.stdout, ours.stderr) == wanted


def test_the_engines_agree_on_what_calls_write(program: Path, tmp_path: Path) -> None:
    """All but the objects: memory that has two addresses, lockstep does not follow."""
    families = [family for family in FAMILIES if family != "objects"]
    with open(tmp_path / "out", "wb") as out:
        report = lockstep(program, families, Settings(stdout=out.fileno()))
    assert report.difference is None and report.status == 0 and report.syscalls > 150


def test_the_engines_agree_on_a_dynamic_program(tmp_path: Path) -> None:
    """Its loader maps files, some of them in place of parts of others."""
    dynamic = cross.build(tmp_path, "dynamic_probe")
    with open(tmp_path / "out", "wb") as out:
        settings = Settings(stdout=out.fileno(), sysroot=cross.ROOT, env={"PROBE": "set"})
        report = lockstep(dynamic, ["a", "last"], settings)
    assert report.difference is None and report.status == 3 and report.syscalls > 50
