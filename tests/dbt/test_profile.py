"""Where instructions were executed: the sums of --stats, and --profile with its samples and its counts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from support import tiny
from support.tiny import EBREAK

import dragoman
from dbt import cli, profile, report
from dbt.options import Options
from guests.programs import file

ROOT = Path(__file__).resolve().parents[2]
BUSY = ("--promote=1000", "--background=off", "--no-disk-cache", "--deterministic")  # regions in a short run


def run(*words: str, status: int = 0) -> None:
    assert cli.main(["run", *words]) == status


def stats_of(capfd: pytest.CaptureFixture[str], *words: str) -> Any:
    run("--stats=json", *words)
    return json.loads(capfd.readouterr().err.splitlines()[-1])


def profile_of(path: Path, *words: str) -> Any:
    run(f"--profile={path}", *words)
    return json.loads(path.read_text())


# --- what --stats says of it ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [
    (),
    BUSY,
    ("--tiers=0", "--no-disk-cache"),
    ("--tiers=1", "--hot=8", "--no-disk-cache"),
    ("--tiers=1", "--hot=8", "--region=0", "--no-disk-cache"),
    (*BUSY, "--cache-size=2K"),
    (*BUSY, "--chaos=5"),
], ids=" ".join)  # fmt: skip
@pytest.mark.parametrize("program", ["@smc", "@sieve", "@nbody", "@strings"])
def test_the_parts_make_up_all(options: Sequence[str], program: str, capfd: pytest.CaptureFixture[str]) -> None:
    stats = stats_of(capfd, *options, program, "small")
    retired = stats["retired"]
    assert list(retired) == ["reference", "monitor", "tier0", "regions"]
    assert sum(retired.values()) == stats["instructions"] and min(retired.values()) >= 0
    assert retired["reference"] == stats["interpreted_cold"] and retired["regions"] == stats["retired_in_regions"]
    if "--tiers=0" in options:
        assert retired["regions"] == 0
    if "--tiers=1" in options:  # tier 0 has what nothing else counted: here that must be nothing
        assert retired["tier0"] == 0 and (retired["regions"] > 0 or program == "@smc")


def test_the_table_has_a_line_for_each(capfd: pytest.CaptureFixture[str]) -> None:
    run("--stats", *BUSY, "@sieve", "small")
    lines = [line.split() for line in capfd.readouterr().err.splitlines()]
    total = next(int(words[1].replace(",", "")) for words in lines if words[0] == "instructions")
    at = lines.index(["executed", "by"])
    parts = {" ".join(words[: words.index("%") - 2]): words for words in lines[at + 1 : at + 5]}
    assert set(parts) == {"regions", "tier 0", "monitor", "reference"}
    found = [int(words[words.index("%") - 2].replace(",", "")) for words in parts.values()]
    assert sum(found) == total
    shares = [float(words[words.index("%") - 1]) for words in parts.values()]
    assert abs(sum(shares) - 100) < 0.03
    assert ["in", "the", "worker", "0.0000"] in lines and any(words[:3] == ["in", "this", "process"] for words in lines)


def test_the_worker_has_its_lines(capfd: pytest.CaptureFixture[str]) -> None:
    stats = stats_of(capfd, "--promote=10000", "--no-disk-cache", "@sieve", "small")
    background = stats["background"]
    text = report.statistics_text(stats)
    assert ("asked of the worker" in text) == (background["asked"] > 0)
    assert "workers lost" not in text
    background |= {"asked": 3, "answered": 1, "refused": 1, "lost": 1}
    text = report.statistics_text(stats)
    assert "3  1 answered, 1 refused, 0 forgotten" in text and "workers lost" in text


def test_the_reference_engine_has_no_such_parts(capfd: pytest.CaptureFixture[str]) -> None:
    assert "retired" not in stats_of(capfd, "--engine=reference", "@hello")
    run("--engine=reference", "--stats", "@hello")
    assert "executed by" not in capfd.readouterr().err


# --- symbols --------------------------------------------------------------------------------------------------------


def test_around_is_the_function_and_where_it_begins() -> None:
    with dragoman.load("@queens") as process:
        symbols = report.symbols_of(process)
        start = next(s.address for s in symbols.symbols if s.name == "main")
        assert symbols.around(start + 4) == ("main", start) and symbols.at(start + 4) == "main+0x4"
        assert symbols.around(0x10) == ("", 0x10) and symbols.at(0x10) == ""


# --- the profile ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("program", "name"), [("@queens", "solutions"), ("@sieve", "main")])
def test_it_names_the_hot_function(program: str, name: str, tmp_path: Path) -> None:
    found = profile_of(tmp_path / "p.json", *BUSY, program, "small")
    functions = found["functions"]
    assert functions[0]["name"] == name or program == "@sieve"
    assert sum(f["instructions"] for f in functions) == found["sampled_instructions"] <= found["instructions"]
    assert sum(f["samples"] for f in functions) == found["samples"] > 100
    for function in functions:
        assert sum(p["instructions"] for p in function["places"]) == function["instructions"]
        assert all(p["address"] >= function["address"] for p in function["places"])
    assert [f["instructions"] for f in functions] == sorted((f["instructions"] for f in functions), reverse=True)


def test_it_names_the_functions_of_recurse(tmp_path: Path) -> None:
    found = profile_of(tmp_path / "p.json", *BUSY, "@recurse", "small")
    names = {f["name"] for f in found["functions"][:5]}
    assert {"hanoi", "takeuchi", "ackermann", "fibonacci"} <= names


def test_regions_have_exact_counts(tmp_path: Path) -> None:
    found = profile_of(tmp_path / "p.json", *BUSY, "@json", "small")
    regions = found["regions"]
    assert sum(row["retired"] for row in regions) == found["retired"]["regions"] > 0
    assert sum(found["retired"].values()) == found["instructions"]
    first = regions[0]
    assert first["symbol"] and first["host_bytes"] > 0 and first["guest_instructions"] > 0
    assert first["blocks"] == len(first["code"])


def test_regions_that_are_gone_are_counted(tmp_path: Path) -> None:
    found = profile_of(tmp_path / "p.json", *BUSY, "--cache-size=8K", "@json", "small")
    gone = [row for row in found["regions"] if "host_bytes" not in row]
    assert gone and sum(row["retired"] for row in found["regions"]) == found["retired"]["regions"]
    assert "gone" in profile.text(found)


def test_a_profile_changes_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    run(*BUSY, "--events=100000", "@strings", "small")
    plain = capfd.readouterr()
    run(*BUSY, "--events=100000", "--profile=/dev/null", "@strings", "small")
    assert capfd.readouterr() == plain


def test_samples_are_repeatable(tmp_path: Path) -> None:
    words = (*BUSY, "@strings", "small")
    assert profile_of(tmp_path / "1.json", *words) == profile_of(tmp_path / "2.json", *words)


def test_the_table(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run("--profile", *BUSY, "@queens", "small")
    text = capfd.readouterr().err
    assert text.startswith("hot functions, of ") and " solutions " in text and "hot regions, by exact counts" in text
    log, own = tmp_path / "log", tmp_path / "profile.txt"
    run("--profile", "-D", str(log), *BUSY, "@queens", "small")
    assert log.read_text().startswith("hot functions")
    run(f"--profile={own}", "--stats", "-D", str(log), *BUSY, "@queens", "small")
    assert own.read_text().startswith("hot functions") and log.read_text().startswith("engine")
    run("--profile", "--engine=reference", "@hello")
    text = capfd.readouterr().err
    assert text.startswith("hot functions") and "no samples" in text and "regions" not in text


def test_a_stripped_program_has_addresses(tmp_path: Path) -> None:
    data = bytearray(Path(file("@queens".removeprefix("@"))).read_bytes())
    data[0x28:0x30] = bytes(8)  # where section headers are,
    data[0x3C:0x40] = bytes(4)  # and how many: there are no symbols then
    path = tmp_path / "stripped"
    path.write_bytes(data)
    path.chmod(0o755)
    found = profile_of(tmp_path / "p.json", *BUSY, str(path), "small")
    assert found["functions"] and not any(f["name"] for f in found["functions"])
    assert "(no symbol)" in profile.text(found)


def test_a_path_that_cannot_be_written(capfd: pytest.CaptureFixture[str]) -> None:
    run("--profile=/nowhere/at/all", "@hello", status=2)
    out, err = capfd.readouterr()
    assert out == "" and err == "dragoman: cannot write /nowhere/at/all: no such file or directory\n"


def test_it_is_written_when_the_run_ends_early(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    run(f"--profile={path}", "--max-instructions=200000", "@queens", "small", status=124)
    assert json.loads(path.read_text())["instructions"] >= 200000
    killed = tiny.program(tmp_path / "program", [EBREAK])
    command = [sys.executable, "-m", "dragoman", "run", f"--profile={path}", str(killed)]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, timeout=60)
    assert done.returncode == -5 and json.loads(path.read_text())["instructions"] == 0


def test_when_samples_are_taken() -> None:
    """Many in a short run, few in a long one; each stands for what lies before it."""
    with dragoman.load("@hello", options=Options(background=False)) as process:
        one = profile.Profiler(process)
        counts = [0]
        for n in range(4000):
            counts.append(one._next())
            one.sample(n & 7, counts[-1])
        steps = [b - a for a, b in pairwise(counts)]
        assert sum(p.samples for p in one.places.values()) == one.samples == 4000
        assert sum(p.instructions for p in one.places.values()) == counts[-1]
        low, high = profile.FINEST, profile.COARSEST
        assert low // 2 <= min(steps) and max(steps) < 2 * high and high // 2 <= max(steps[-50:])
        assert len(set(steps[-50:])) > 40  # not in step


def test_both_engines_have_the_same_samples(tmp_path: Path) -> None:
    found = []
    for engine in (("--engine=reference",), BUSY, ("--promote=1000", "--tiers=1", "--hot=8", "--no-disk-cache")):
        path = tmp_path / "p.json"
        words = (f"--profile={path}", "--deterministic", "--max-instructions=300000", *engine, "@recurse", "small")
        run(*words, status=124)
        found.append(json.loads(path.read_text()))
        assert ("regions" in found[-1]) == (engine != ("--engine=reference",))
    assert found[0]["functions"] == found[1]["functions"] == found[2]["functions"] and found[0]["samples"] > 100
