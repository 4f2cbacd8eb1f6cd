"""`dragoman explore`: mistakes that only some schedules show (`tests/programs/race.c`) are found, nothing else is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import cross, peers

from dbt.explore import explore
from dbt.options import Options
from dbt.process import Settings

KEPT = Settings(options=Options(disk=True))  # or each run would make stencils


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cross.build(tmp_path_factory.mktemp("explore"), "race", "-static", "-pthread")


def dragoman(*words: str) -> tuple[int, str, str]:
    env = os.environ | {"PYTHONPATH": str(peers.REPOSITORY)}
    command = [sys.executable, "-m", "dragoman", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=env)
    return done.returncode, done.stdout, done.stderr


def test_a_race_is_found_and_comes_again(program: Path) -> None:
    status, out, said = dragoman("explore", "--seeds=40", "--jobs=2", str(program), "race")
    assert status == 3
    rows = re.findall(r"^ +(\d+) +(\d+)  exit status 0; its last line: total (\d+)$", out, re.MULTILINE)
    assert len(rows) == out.count("\n") - 1 > 1 and sum(int(row[0]) for row in rows) == 40
    assert any(int(total) < 400 for _count, _seed, total in rows)
    for _count, seed, total in rows[:3]:
        for _ in range(2):
            assert dragoman("run", f"--deterministic={seed}", str(program), "race") == (0, f"total {total}\n", "")
    pattern = r"dragoman: (\d+) of 40 runs differ or fail; `dragoman run --deterministic=(\d+) .* race` "
    again = re.match(pattern, said)
    assert again is not None and (again[2], int(again[1])) == (rows[1][1], 40 - int(rows[0][0]))


@pytest.mark.parametrize("name", ["locks", "condition"])
def test_a_deadlock_is_found(name: str, program: Path) -> None:
    found = explore(program, [name], KEPT, seeds=range(40), jobs=2)
    ends = {outcome.end.partition(":")[0]: outcome for outcome in found.outcomes}
    assert set(ends) == {"a deadlock", "exit status 0"}
    assert ends["a deadlock"] in found.suspects and ends["a deadlock"].failed
    seed = ends["a deadlock"].seeds[0]
    assert explore(program, [name], KEPT, seeds=[seed]).outcomes[0].end.startswith("a deadlock")


def test_nothing_is_found_where_nothing_is(program: Path) -> None:
    status, out, said = dragoman("explore", "--seeds=20", "--first=7", str(program), "guarded")
    assert (status, said) == (0, "")
    assert re.fullmatch(r" +seeds +first  outcome\n +20 +7  exit status 0; its last line: total 400\n", out), out


def test_what_has_no_end_is_told(program: Path) -> None:
    found = explore(program, ["guarded"], KEPT, seeds=[1, 2], max_instructions=20_000)
    assert [outcome.failed for outcome in found.outcomes] == [True] * len(found.outcomes)
    assert all(re.fullmatch(r"no end after 20,\d\d\d instructions", outcome.end) for outcome in found.outcomes)


def test_a_program_that_cannot_be_run_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not a program\n")
    assert dragoman("explore", str(tmp_path / "text"))[0] == 126
    assert dragoman("explore", str(tmp_path / "nothing"))[0] == 127
    assert dragoman("explore", "--seeds=0", "@hello")[0] == 2
    assert dragoman("explore", "--seeds=3", "@hello")[:2] == (
        0, "   seeds     first  outcome\n       3         0  exit status 0; its last line: argc = 1\n")  # fmt: skip
