"""`bench.spike`: Spike runs the bundled programs, instruction for instruction as we do."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import peers, tiny
from support.tiny import leave

import dragoman
from bench import spike
from guests.programs import PROGRAMS


@pytest.fixture(autouse=True)
def needed() -> None:
    reason = spike.missing()
    if reason is not None:
        peers.missing(reason)


@pytest.mark.parametrize("name", ["hello", "trees", "json", "nbody", "stream", "atomic"])
def test_the_very_same_instructions(name: str) -> None:
    """@trees makes many system calls for memory; others compute with doubles, or with atomics."""
    program = PROGRAMS[name]
    ran = spike.Machine(name, program.small).run(spike.LIMIT)
    assert (ran.status, ran.output) == (0, program.small_output)
    assert ran.instructions == dragoman.run(f"@{name}", program.small).instructions
    assert ran.cpu_seconds > 0 and ran.wall_seconds > 0


@pytest.mark.parametrize("limit", [1, 300, 549])
def test_it_stops_at_its_limit(limit: int) -> None:
    ran = spike.Machine("hello", ()).run(limit)
    assert (ran.instructions, ran.status) == (limit, None)


def test_arguments_are_seen() -> None:
    ran = spike.Machine("hello", ("one", "two words")).run(spike.LIMIT)
    assert ran.output == "Hello from RISC-V!\nargc = 3\nargv[1] = one\nargv[2] = two words\n"


def test_what_it_cannot_run_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tiny.program(tmp_path / "program", leave(7))
    monkeypatch.setattr(spike, "path", lambda name: program)
    with pytest.raises(spike.CannotRun, match="@it lies at 0x10000, where this machine has no memory"):
        spike.Machine("it", ())
