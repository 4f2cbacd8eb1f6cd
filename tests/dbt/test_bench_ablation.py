"""`dragoman bench --ablate`: what is run, that a switch may change nothing, the arithmetic. Timings decide nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import peers, tiny

from dbt import ablation, runs
from dbt.cli import run
from guests import programs


def command(*words: str | Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, "-m", "dragoman", "bench", "--ablate", *map(str, words)], text=True,
                          timeout=300, stdin=subprocess.DEVNULL, capture_output=True,
                          env={**os.environ, "PYTHONPATH": str(peers.REPOSITORY)})  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done


def test_every_mechanism_can_be_switched_off() -> None:
    assert len(set(ablation.MECHANISMS.values())) == len(ablation.MECHANISMS)
    for words in ablation.MECHANISMS.values():
        options, rest = run._parser().split([*words, "@hello"])
        assert words and rest == ["@hello"]
    assert ablation.EVERYTHING not in ablation.MECHANISMS


def test_programs_that_are_chosen_are_of_every_kind() -> None:
    chosen = {programs.PROGRAMS[name].kind for name in ablation.DEFAULT}
    assert len(set(ablation.DEFAULT)) == 12
    assert chosen >= {"integer", "fp", "memory", "calls", "text", "hash"}


def test_programs_without_each_mechanism(tmp_path: Path) -> None:
    report, program = tmp_path / "report.json", tiny.program(tmp_path / "program", tiny.leave(7))
    done = command("--runs=1", f"--json={report}", "@hello", program)
    assert (done.returncode, done.stderr) == (0, "")
    for words in ablation.MECHANISMS.values():
        assert done.stdout.count(f"({' '.join(words)})") == len(ablation.RUNS) * len(runs.CLOCKS)
    told = json.loads(report.read_text())
    assert (told["runs"], told["differences"]) == (1, [])
    assert [found["program"] for found in told["programs"]] == ["@hello", str(program)]
    for found in told["programs"]:
        assert list(found["runs"]) == [ablation.EVERYTHING, *ablation.MECHANISMS]
        assert all(found["runs"][ablation.EVERYTHING][when]["cpu_ratio"] == 1 for when in ablation.RUNS)
        assert all(by[when]["wall_ratio"] > 0 for by in found["runs"].values() for when in ablation.RUNS)


def test_a_folder_of_pairs(tmp_path: Path) -> None:
    shutil.copyfile(programs.path("hello"), tmp_path / "pair.riscv64")
    (tmp_path / "pair.native").write_text("#!/bin/sh")
    (tmp_path / "pair.native").chmod(0o755)
    (tmp_path / "pair.args").write_text("word\n")
    done = command("--runs=1", f"--pairs={tmp_path}")
    assert done.returncode == 0 and "pair" in done.stdout


@pytest.mark.parametrize(
    "words, status, sentence",
    [
        (("--native=/bin/true", "@hello"), 2, "--ablate is about the translator"),
        (("@hello", "@nothing"), 127, "there is no bundled program @nothing"),
        (("@hello", "small"), 127, "small: there is no such file"),
    ],
)
def test_what_cannot_be_measured_is_refused(words: tuple[str, ...], status: int, sentence: str) -> None:
    done = command(*words)
    assert done.returncode == status and done.stdout == "" and sentence in done.stderr


# --- what is run --------------------------------------------------------------------------------------------------

FIRST, SECOND = ablation.RUNS


class Runs:
    """`dbt.runs.own` as it is said to be: what each of ours takes and prints."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **samples: Any) -> None:
        self.ran: list[tuple[str, ...]] = []
        self.limits: list[float | None] = []
        self.samples = samples
        self.caches = runs.Caches(tmp_path)
        monkeypatch.setattr(ablation, "own", self.own)
        monkeypatch.setattr(self.caches, "never_seen", lambda case, options: tmp_path / "none")
        monkeypatch.setattr(ablation, "MECHANISMS", {"brakes": ("--brakes=off",), "lights": ("--lights=off",)})

    def own(self, *words: Any, options: tuple[str, ...], longest: float | None, **named: Any) -> runs.Sample:
        self.ran.append(options)
        self.limits.append(longest)
        name = options[0][2:].partition("=")[0] if options else "everything"
        return self.samples.get(name) or runs.Sample(4.0, 2.0, 0, b"right", b"")

    def ablate(self, turns: int) -> ablation.Ablation:
        (found,) = ablation.ablate([runs.case_of("./program", Path("program"), ())], self.caches, turns)
        return found


def test_runs_are_taken_in_turn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ours = Runs(monkeypatch, tmp_path, lights=runs.Sample(2.0, 5.0, 0, b"right", b""))
    found = ours.ablate(2)
    assert ours.ran == [(), (), ("--brakes=off",), ("--brakes=off",), ("--lights=off",), ("--lights=off",)] * 2
    assert ours.limits[:3] == [None, None, 4.0 * ablation.SLOWEST] and found.difference is None
    assert found.seconds(ablation.EVERYTHING, FIRST) == 2.0 and found.ratio("brakes", FIRST) == 1.0
    assert (found.ratio("lights", FIRST), found.ratio("lights", SECOND, "wall")) == (2.5, 0.5)
    text = ablation.text([found, found], 2)
    assert "medians of 2 turns" in text
    row = next(line for line in text.splitlines() if line.startswith("without lights"))
    assert row.split() == ["without", "lights", "(--lights=off)", "2.50", "2.50", "2.50"]


def test_what_takes_too_long_is_not_run_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ours = Runs(monkeypatch, tmp_path, brakes=runs.Sample(40.0, 40.0, -9, b"rig", b"", cut=True))
    found = ours.ablate(3)
    assert ours.ran.count(("--brakes=off",)) == 1 and ours.ran.count(("--lights=off",)) == 6
    assert found.difference is None and found.ratio("brakes", FIRST) is None
    rows = [line.split()[3:] for line in ablation.text([found], 3).splitlines() if line.startswith("without brakes")]
    assert rows == [[">", "10", ">", "10.00"]] * 2 + [["-", "-"]] * 2


def test_a_switch_that_changes_what_is_printed_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ours = Runs(monkeypatch, tmp_path, lights=runs.Sample(1.0, 1.0, 0, b"wrong", b""))
    found = ours.ablate(3)
    assert found.difference == "./program: without lights printed 'wrong' on stdout, everything on 'right'"
    assert len(ours.ran) == 5 and ablation.text([found], 3) == ""
    assert ablation.report([found], 3)["differences"] == [found.difference]


def test_what_is_cut_must_have_printed_the_beginning(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ours = Runs(monkeypatch, tmp_path, brakes=runs.Sample(40.0, 40.0, -9, b"wr", b"", cut=True))
    assert "without brakes printed 'wr'" in (ours.ablate(1).difference or "")
