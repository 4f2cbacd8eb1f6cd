"""Guest processes against the host's: forks, programs that execute programs, waiting, groups, shared memory.

`tests/programs/process_probe.c`, built for both, prints what it found, and says no number of a process. The witness is
Linux itself, since qemu-riscv64 shares no memory with a child of vfork.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import cross, peers

import dragoman

PROBES = [
    "tree", "pipes", "vfork", "spawn", "orphans", "exec", "memory", "zombies", "waits", "groups", "clone", "sigchld",
    "semaphores",
]  # fmt: skip


NAME = "process_probe"
TOLD = {"waits": re.compile(  # the deaths of children that are their own doing
    rb"dragoman: guest process \d+ \(process_probe\) killed by SIGABRT\n(#.*\n)+the backtrace ends: .*\n"
    rb"dragoman: guest process \d+ \(process_probe\) killed by SIGSEGV: store/AMO page fault at 0x8, pc .*\n"
    rb"( .*\n)+(#.*\n)+the backtrace ends: .*\n")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the probe for the guest in `guest`, and for the host in `host`."""
    folder = tmp_path_factory.mktemp("processes")
    cross.build(folder / "guest", NAME, "-static")
    cross.native(folder / "host", NAME)
    return folder


def run(command: list[str], cwd: Path) -> tuple[int, bytes, bytes]:
    env = os.environ | {"PYTHONPATH": str(peers.REPOSITORY)}
    done = subprocess.run(command, capture_output=True, timeout=120, cwd=cwd, env=env, stdin=subprocess.DEVNULL)
    return done.returncode, done.stdout, done.stderr


def agrees(folder: Path, name: str, cwd: Path, *options: str, times: int = 1) -> None:
    wanted = run([str(folder / "host" / NAME), name], cwd)
    assert wanted[0] == 0 and len(wanted[1]) > 20 and not wanted[2], wanted
    for time in range(times):
        command = [sys.executable, "-m", "dragoman", "run", *options, str(folder / "guest" / NAME), name]
        status, out, said = run(command, cwd)
        assert (status, out) == wanted[:2], time
        assert TOLD.get(name, re.compile(b"")).fullmatch(said), said


@pytest.mark.parametrize("name", PROBES)
def test_processes_are_as_the_host_has_them(name: str, folder: Path, tmp_path: Path) -> None:
    agrees(folder, name, tmp_path)


@pytest.mark.parametrize("name", ["vfork", "exec"])
def test_processes_from_python(name: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child never comes back to who has us run its parent, and what both write is captured."""
    monkeypatch.chdir(tmp_path)
    wanted = run([str(folder / "host" / NAME), name], tmp_path)
    own = os.getpid()
    result = dragoman.run(folder / "guest" / NAME, [name])
    assert os.getpid() == own
    assert (result.status, result.stdout, result.stderr) == wanted


def test_a_child_of_a_single_step_runs_to_its_end(folder: Path, tmp_path: Path) -> None:
    """And whoever steps goes on with the parent alone."""
    program = folder / "guest" / NAME
    with open(tmp_path / "out", "w+b") as out, dragoman.load(program, ["short"], stdout=out.fileno()) as guest:
        while not guest.ended:
            guest.step(1000)
        assert guest.status == 0 and not guest.child
        out.seek(0)
        assert out.read() == b"child\nexit 4\n"


def test_lockstep_follows_the_parent(folder: Path, tmp_path: Path) -> None:
    for stride in (1, 500):
        with open(tmp_path / "out", "w+b") as out:
            report = dragoman.lockstep(folder / "guest" / NAME, ["short"], stdout=out.fileno(), stride=stride)
            assert report.difference is None and report.status == 0
            out.seek(0)
            assert out.read() == b"child\nexit 4\n"


def test_lockstep_follows_a_program_into_another(folder: Path, tmp_path: Path) -> None:
    with open(tmp_path / "out", "w+b") as out:
        report = dragoman.lockstep(folder / "guest" / NAME, ["again"], stdout=out.fileno())
        assert report.difference is None and report.status == 30
        out.seek(0)
        assert out.read() == b"child | of execv\n"


def test_a_seed_decides_the_numbers_of_processes(folder: Path) -> None:
    def numbers(seed: int) -> bytes:
        return dragoman.run(folder / "guest" / NAME, ["numbers"], seed=seed).stdout

    first = numbers(1)
    assert first == numbers(1) != numbers(2)
    parent, child, seen = first.split()
    assert seen == child != parent


@pytest.mark.parametrize("name", ["vfork", "exec"])
def test_the_reference_engine_makes_processes_too(name: str, folder: Path, tmp_path: Path) -> None:
    agrees(folder, name, tmp_path, "--engine=reference")


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", PROBES)
def test_processes_are_so_every_time(name: str, folder: Path, tmp_path: Path) -> None:
    agrees(folder, name, tmp_path, times=100)
