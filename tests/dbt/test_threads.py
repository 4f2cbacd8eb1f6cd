"""Threads of a guest against the host's: made, waited for, woken, signalled and ended, in any order.

`tests/programs/thread_probe.c`, built for both, prints what it found, and nothing that depends on whose turn it is. The
witness is Linux itself. With a seed the same run comes again, to the instruction; other seeds take other turns.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support import cross, peers

import dragoman
from dbt.lockstep import lockstep

PROBES = ("many", "conditions", "barriers", "atomic", "tls", "ends", "fork", "signals", "waiting", "futexes",
          "shared", "locks", "vectors", "sequences", "proc")  # fmt: skip
ALONE = ("many", "conditions", "barriers", "atomic", "tls", "signals", "futexes", "locks")  # in a process by themselves
NAME = "thread_probe"
TOLD = {"ends": re.compile(  # the death that is a child's own doing
    rb"dragoman: guest process \d+ \(thread_probe\) killed by SIGABRT\n(#.*\n)+the backtrace ends: .*\n"),
    "sequences": re.compile(rb"dragoman: guest process \d+ \(thread_probe\) killed by SIGSEGV\n")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the probe for the guest in `guest`, and for the host in `host`."""
    folder = tmp_path_factory.mktemp("threads")
    cross.build(folder / "guest", NAME, "-static", "-pthread")
    cross.native(folder / "host", NAME, "-pthread")
    return folder


def run(command: list[str], cwd: Path) -> tuple[int, bytes, bytes]:
    env = os.environ | {"PYTHONPATH": str(peers.REPOSITORY), "GLIBC_TUNABLES": "glibc.pthread.rseq=0"}
    done = subprocess.run(command, capture_output=True, timeout=120, cwd=cwd, env=env, stdin=subprocess.DEVNULL)
    return done.returncode, done.stdout, done.stderr


def ours(folder: Path, *words: str) -> list[str]:
    *options, name = words
    return [sys.executable, "-m", "dragoman", "run", *options, str(folder / "guest" / NAME), name]


_known: dict[str, tuple[int, bytes, bytes]] = {}


def host(folder: Path, name: str, cwd: Path) -> tuple[int, bytes]:
    if name not in _known:
        _known[name] = run([str(folder / "host" / NAME), name], cwd)
    status, out, said = _known[name]
    assert status == 0 and len(out) > 8 and not said, _known.pop(name)
    return status, out


def agrees(folder: Path, name: str, cwd: Path, *options: str) -> None:
    status, out, said = run(ours(folder, *options, name), cwd)
    assert (status, out) == host(folder, name, cwd), options
    assert TOLD.get(name, re.compile(b"")).fullmatch(said), said


@pytest.mark.parametrize("name", PROBES)
def test_threads_are_as_the_host_has_them(name: str, folder: Path, tmp_path: Path) -> None:
    agrees(folder, name, tmp_path)


@pytest.mark.parametrize("name", PROBES)
def test_whatever_turns_a_seed_chooses(name: str, folder: Path, tmp_path: Path) -> None:
    for seed in range(3):
        agrees(folder, name, tmp_path, f"--deterministic={seed}")


@pytest.mark.parametrize("name", PROBES)
def test_in_the_reference_interpreter(name: str, folder: Path, tmp_path: Path) -> None:
    agrees(folder, name, tmp_path, "--engine=reference")


@pytest.mark.long
@pytest.mark.parametrize("name", PROBES)
def test_a_hundred_seeds(name: str, folder: Path, tmp_path: Path) -> None:
    for seed in range(100):
        agrees(folder, name, tmp_path, f"--deterministic={seed}")


@pytest.fixture(scope="module")
def pools(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """`tests/programs/pool.cpp` for the guest and for the host."""
    folder = tmp_path_factory.mktemp("pools")
    flags = ("-std=c++20", "-pthread")
    return cross.build(folder / "guest", "pool", "-static", *flags), cross.native(folder / "host", "pool", *flags)


@pytest.mark.parametrize("option", ["--tiers=0,1", "--deterministic=1", "--deterministic=2"])
def test_a_pool_of_cpp_threads(option: str, pools: tuple[Path, Path], tmp_path: Path) -> None:
    guest, native = pools
    status, out, said = run([str(native), "1"], tmp_path)
    assert status == 0 and out.count(b"\n") == 4 and not said
    assert run([sys.executable, "-m", "dragoman", "run", option, str(guest), "1"], tmp_path) == (0, out, b"")


def counts(folder: Path, name: str, cwd: Path, *options: str) -> dict[str, int]:
    done = run(ours(folder, "--stats=json", *options, name), cwd)
    stats = json.loads(done[2].splitlines()[-1])
    return {key: stats[key] for key in ("instructions", "blocks", "syscalls")}


@pytest.mark.parametrize("name", ALONE)
def test_a_seed_gives_the_same_run_again(name: str, folder: Path, tmp_path: Path) -> None:
    """To the instruction, in either engine; and another seed gives another run."""
    first = counts(folder, name, tmp_path, "--deterministic=11")
    assert counts(folder, name, tmp_path, "--deterministic=11") == first
    assert counts(folder, name, tmp_path, "--deterministic=11", "--engine=reference") == first
    assert any(counts(folder, name, tmp_path, f"--deterministic={seed}") != first for seed in range(12, 16))


def test_who_spins_while_others_sleep_is_seldom_interrupted(folder: Path, tmp_path: Path) -> None:
    """A wait that is over in virtual time is looked at when the next look is due, not asked for at every block."""
    with open(tmp_path / "out", "w+b") as out, dragoman.load(
        folder / "guest" / NAME, ["waiting"], stdout=out.fileno(), seed=1
    ) as guest:
        assert guest.run() == 0
        assert guest.engine.entries < 2 * guest.syscalls


def test_digests_of_memory_are_the_same(folder: Path, tmp_path: Path) -> None:
    lines = []
    for engine in ("translated", "reference", "translated"):
        words = ours(folder, "--deterministic=4", "--events=20000", f"--engine={engine}", "conditions")
        lines.append(run(words, tmp_path)[2])
    assert lines[0].count(b"\n") > 8 and lines[0] == lines[1] == lines[2]


@pytest.mark.parametrize(("name", "stride"), [*((name, 300) for name in ALONE), ("tls", 1), ("futexes", 1)])
def test_engines_agree(name: str, stride: int, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    report = lockstep(folder / "guest" / NAME, [name], dragoman.Settings(seed=8), stride=stride)
    assert report.difference is None, report.difference.text()
    assert report.status == 0 and report.instructions > 50_000


def test_inside_another_program(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a signal of the host's."""
    monkeypatch.chdir(tmp_path)
    for name in ("many", "tls", "futexes"):
        done = dragoman.run(folder / "guest" / NAME, [name])
        assert (done.status, done.stdout, done.stderr) == (*host(folder, name, tmp_path), b"")


def test_atomics_in_many_schedules(folder: Path, tmp_path: Path) -> None:
    """Turns end between a load-reserved and its store-conditional, too."""
    for seed in range(12):
        done = dragoman.run(folder / "guest" / NAME, ["atomic"], seed=seed, options=dragoman.Options(disk=True))
        assert (done.status, done.stdout) == host(folder, "atomic", tmp_path), seed


def test_who_is_woken_for_a_lock_gets_it(folder: Path, tmp_path: Path) -> None:
    """A lock is free while its thread makes a call that could have waited, as Python's is: the woken one takes it."""
    with open(tmp_path / "out", "w+b") as out, dragoman.load(
        folder / "guest" / NAME, ["convoy"], stdout=out.fileno()
    ) as guest:
        assert guest.run(200_000_000) == 0
        out.seek(0)
        assert int(out.read().split()[0]) <= 300


def test_a_run_goes_on_after_ctrl_c(folder: Path, tmp_path: Path) -> None:
    """Though it came while all threads slept, whichever of them was the last to run."""
    with open(tmp_path / "out", "w+b") as out, dragoman.load(
        folder / "guest" / NAME, ["barriers", "slow"], stdout=out.fileno()
    ) as guest:
        for _ in range(3):
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            before = signal.signal(signal.SIGALRM, lambda number, frame: signal.raise_signal(signal.SIGINT))
            try:
                with pytest.raises(KeyboardInterrupt):
                    guest.run()
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, before)
        assert guest.run() == 0
        out.seek(0)
        assert out.read() == host(folder, "barriers", tmp_path)[1] + b"slept 3000\n"


def test_single_steps_take_turns_too(folder: Path, tmp_path: Path) -> None:
    with open(tmp_path / "out", "w+b") as out, dragoman.load(
        folder / "guest" / NAME, ["futexes"], stdout=out.fileno(), seed=1
    ) as guest:
        while not guest.ended:
            guest.step(1000)
        out.seek(0)
        assert (guest.status, out.read()) == host(folder, "futexes", tmp_path)


def test_system_calls_that_wait_are_shown_once(folder: Path, tmp_path: Path) -> None:
    """By the thread that makes them, and when they end."""
    status, _out, said = run(ours(folder, "--strace=process,desc", "--deterministic", "waiting"), tmp_path)
    lines = said.decode().splitlines()
    assert status == 0
    assert sum(line.split("] ")[-1].startswith("accept(") for line in lines) == 1
    assert sum(" = ?" in line for line in lines) == sum(line.split("] ")[-1].startswith("exit") for line in lines)
