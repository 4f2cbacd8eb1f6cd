"""Atomic instructions and fences in memory that processes share, and run at the same time on the host's processors.

`tests/programs/shared_atomics.c` has three processes that hammer the same words, and prints what comes out.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support import cross, peers

from dbt.lockstep import lockstep
from dbt.process import Settings

NAME = "shared_atomics"
ENGINES = {
    "default": ([], 1), "stencils": (["--tiers=0"], 1), "regions": (["--tiers=1"], 1),
    "reference": (["--engine=reference"], 250),
}  # fmt: skip
# What WHAT prints after so many rounds, which are fewer by the second number above.
HAMMERS = {
    "add": (5_000_000, "{n3} {high}, 0, held {high}, 0 wrong\n"),
    "swap": (5_000_000, "0 0, 0, held 6, 0 wrong\n"),
    "max": (5_000_000, "{last} {last}, 0, held {last}, 0 wrong\n"),
    "bits": (5_000_000, "0 0, 0, held 0, 0 wrong\n"),
    "reserved": (3_000_000, "{n15} {n9}, 0, held {n9}, 0 wrong\n"),
    "mutex": (1_000_000, "0 0, {n21}, held 0, 0 wrong\n"),
    "semaphore": (1_000_000, "0 0, {n21}, held 0, 0 wrong\n"),
    "order": (20_000, "0 0, 0, held 0, 0 wrong\n"),
}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cross.build(tmp_path_factory.mktemp("atomics"), NAME, "-static", "-pthread")


def run(program: Path, options: list[str], *arguments: str) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "dragoman", "run", *options, str(program), *arguments]
    done = subprocess.run(command, capture_output=True, timeout=120, cwd=peers.REPOSITORY, text=True)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("what", HAMMERS)
def test_nothing_is_lost_between_processes(what: str, engine: str, program: Path) -> None:
    options, slower = ENGINES[engine]
    rounds, wanted = HAMMERS[what]
    rounds //= slower
    # Words are 32 bits, and wrap.
    values = {f"n{k}": k * rounds for k in (3, 9, 15, 21)} | {"high": 3 * rounds << 32, "last": 3 * rounds - 1}
    assert run(program, options, what, str(rounds)) == (0, wanted.format(**values), "")


SINGLE = "own 0 0, shared 1 0, now 5 6\n" + "fault at 3, 9\nfault at 512, 9\n" * 2


@pytest.mark.parametrize("engine", ENGINES)
def test_a_reservation_is_of_the_value_too_where_others_may_write(engine: str, program: Path) -> None:
    """A store of one's own between ends it only in shared memory, and there only if it changes the value."""
    times = 50 if engine == "reference" else 300
    assert run(program, ENGINES[engine][0], "single", str(times)) == (0, SINGLE * times, "")


@pytest.mark.parametrize("stride", [1, 500])
def test_the_engines_agree_about_them(stride: int, program: Path, tmp_path: Path) -> None:
    with open(tmp_path / "out", "wb") as out:
        report = lockstep(program, ["single", "20"], Settings(stdout=out.fileno()), stride=stride)
    assert report.difference is None and report.status == 0 and report.boundaries > 100
    assert (tmp_path / "out").read_text() == SINGLE * 20
