"""Input that means harm: damaged programs, and system calls with wild arguments.

Whatever comes, there is a result or one sentence: no traceback, no call that does not end, nothing written beside the
guest's memory. `support.hostile` makes the cases; a failure says its number and seed, with which it comes again.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from support import hostile
from support.hostile import ROOT, Outcome, watch

SCALE = float(os.environ.get("DRAGOMAN_TEST_SCALE", "1"))


def well(outcome: Outcome, count: int, *ends: str) -> None:
    """Every case came to an end, and to each of these ends some did."""
    assert not outcome.wrong, "\n".join(outcome.wrong)
    assert sum(outcome.ends.values()) == count
    assert all(outcome.ends.get(end) for end in ends), outcome.ends


def test_damaged_programs(tmp_path: Path) -> None:
    count = round(2000 * SCALE)
    well(watch("programs", 1, count, tmp_path), count, "refused", "exited", "killed")


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_very_many_damaged_programs(tmp_path: Path) -> None:
    """In one process, which one that is lost would not be."""
    outcome = watch("programs", 2, 100_000, tmp_path)
    print(outcome.ends)
    well(outcome, 100_000, "refused", "exited", "killed", "went on")


def test_calls_with_wild_arguments(tmp_path: Path) -> None:
    if not hostile.has_namespaces():
        pytest.skip("users, mounts, processes and a network of one's own are not to be had here")
    count = round(4000 * SCALE)
    well(watch("isolated", 1, count, tmp_path), count, "done", "failed", "waited", "left")


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_very_many_calls_with_wild_arguments(tmp_path: Path) -> None:
    if not hostile.has_namespaces():
        pytest.skip("users, mounts, processes and a network of one's own are not to be had here")
    well(watch("isolated", 2, 100_000, tmp_path), 100_000, "done", "failed", "waited", "left")


def test_programs_of_wild_calls(tmp_path: Path) -> None:
    if not hostile.has_namespaces():
        pytest.skip("users, mounts, processes and a network of one's own are not to be had here")
    count = round(100 * SCALE)
    well(watch("processes", 1, count, tmp_path), count, "exited", "killed", "waited")


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_many_programs_of_wild_calls(tmp_path: Path) -> None:
    if not hostile.has_namespaces():
        pytest.skip("users, mounts, processes and a network of one's own are not to be had here")
    well(watch("processes", 2, 3000, tmp_path), 3000, "exited", "killed", "waited")


def test_calls_where_the_host_permits_nothing(tmp_path: Path) -> None:
    count = round(2000 * SCALE)
    well(watch("recorded", 1, count, tmp_path), count, "done", "failed", "waited")


def start(number: int, folder: Path, made: list[bytes]) -> None:
    """A whole run of a damaged program, by the command."""
    path = folder / "program"
    path.write_bytes(hostile.program(3, number, made))
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-m", "dragoman", "run", "--max-instructions=100000", f"--sysroot={folder}", str(path)]
    done = subprocess.run(words, env=env, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    said = done.stderr.decode(errors="replace")
    assert "Traceback" not in said and "internal error" not in said, f"case {number}: {said}"
    if done.returncode in (2, 124, 125, 126, 127) or done.returncode < 0:
        first = said.splitlines()[0] if said else ""
        assert first.startswith("dragoman: "), f"case {number}: {done.returncode}, {said!r}"
        assert all(line.isprintable() for line in said.splitlines()), f"case {number}: {said!r}"
        assert done.returncode != 126 or said.count("\n") == 1, f"case {number}: {said!r}"


def starts(count: int, folder: Path) -> None:
    made = hostile.bases(folder)
    for number in random.Random(count).sample(range(10_000), count):
        start(number, folder, made)


def test_starts_of_damaged_programs(tmp_path: Path) -> None:
    starts(round(20 * SCALE), tmp_path)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_many_starts_of_damaged_programs(tmp_path: Path) -> None:
    starts(500, tmp_path)


HARM = """
import ctypes, sys, time
from support import hostile
case = hostile.Calls.case
def harmful(self, number):
    case(self, number)
    if number == 7:
        {}
hostile.Calls.case = harmful
hostile.main(sys.argv[1:])
"""
HARMS = (
    ("ctypes.memset(self.space.base - 1, 0, 1)", "something was written beside the guest's memory"),
    ("ctypes.memset(self.space.base + self.space.size, 7, 1)", "something was written beside the guest's memory"),
    ("ctypes.string_at(1)", "case 7 of seed 1: the process is lost"),
    ("raise ValueError('harm')", "ValueError: harm"),
    ("time.sleep(100)", "nothing happens"),
)


@pytest.mark.parametrize(("harm", "said"), HARMS)
def test_harm_is_seen(harm: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hostile, "QUIET", 5.0)
    monkeypatch.setattr(hostile, "_command", lambda *words: [
        sys.executable, "-c", HARM.format(harm), *map(str, words)])
    outcome = watch("recorded", 1, 30, tmp_path, most=1)
    assert said in "\n".join(outcome.wrong)


def test_a_case_is_its_seed(tmp_path: Path) -> None:
    made = hostile.bases(tmp_path)
    cases = [hostile.program(1, number, made) for number in range(50)]
    assert cases == [hostile.program(1, number, made) for number in range(50)]
    assert len(set(cases)) > 40 and cases[0] != hostile.program(2, 0, made)
