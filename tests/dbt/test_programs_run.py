"""The bundled programs under both engines: what they print, and that the engines agree on all that can be counted."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

import dragoman
from dbt import compare
from guests.programs import PROGRAMS, Program

EACH = pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS.keys())
COUNTS = ("instructions", "blocks", "ident", "inline", "callout", "syscalls")
BOUND = 40_000_000


def counts(result: dragoman.Result) -> dict[str, Any]:
    """What does not depend on the engine."""
    return {name: result.stats[name] for name in COUNTS}


def run(program: Program, size: str = "small", **settings: Any) -> dragoman.Result:
    return dragoman.run(f"@{program.name}", program.small if size == "small" else program.large, seed=0, **settings)


@EACH
def test_engines_agree_on_small_size(program: Program) -> None:
    reference = run(program, engine="reference")
    translated = run(program)
    for result in (reference, translated):
        assert (result.status, result.signal, result.stderr) == (0, None, b"")
        assert result.stdout.decode() == program.small_output
    assert counts(translated) == counts(reference)
    assert reference.instructions == pytest.approx(program.small_instructions, rel=0.005, abs=60)


@EACH
def test_every_block_translated_at_once(program: Program) -> None:
    """Nothing is interpreted because it is cold: blocks that run once are translated too."""
    warm, eager = run(program), run(program, options=dragoman.Options(hot=0))
    assert eager.stdout.decode() == program.small_output
    assert counts(eager) == counts(warm)
    assert eager.stats["interpreted_cold"] == 0


@EACH
def test_two_runs_are_the_same(program: Program) -> None:
    first, second = run(program), run(program)
    for result in (first, second):
        result.stats.pop("seconds")
    assert first == second
    assert first.stats == second.stats


@pytest.mark.parametrize("max_instructions", [1, 7])
@pytest.mark.parametrize("name", ["sieve", "nbody", "lz", "atomic"])
def test_short_blocks_change_no_count(name: str, max_instructions: int) -> None:
    """Where a translation ends is the translator's affair; the guest's blocks are what they are."""
    program = PROGRAMS[name]
    short = run(program, options=dragoman.Options(max_instructions=max_instructions))
    assert short.stdout.decode() == program.small_output
    assert counts(short) == counts(run(program))


@pytest.mark.parametrize("name", ["queens", "spectral", "json", "chase", "vm"])
def test_large_size_stops_at_a_bound(name: str) -> None:
    """Two different ways of translating stop at the same block boundary, with the same counts."""
    program = PROGRAMS[name]
    results = []
    for options in (dragoman.Options(), dragoman.Options(hot=0, pinned=0, optimisation=0)):
        with pytest.raises(dragoman.LimitReached) as caught:
            run(program, "large", max_instructions=BOUND, options=options)
        results.append(caught.value.result)
        assert caught.value.count == results[-1].instructions
    assert BOUND <= results[0].instructions < BOUND + 1000
    assert counts(results[0]) == counts(results[1])


@pytest.mark.parametrize("name", ["hello", "digest", "ray"])
def test_compare_finds_nothing(name: str) -> None:
    comparison = dragoman.compare(f"@{name}", PROGRAMS[name].small)
    assert comparison.equal, comparison.differences


def test_compare_looks_at_everything() -> None:
    """Whatever is different in one of two snapshots has a sentence of its own."""
    one = compare.Snapshot(
        status=0, signal=None, reason="", instructions=10, blocks=3, classes={"ident": 9, "inline": 1}, syscalls=1,
        registers={"x1": 5, "pc": 8}, stdout=b"out", stderr=b"err", events=("5 0x10 aa",),
    )  # fmt: skip
    others = {
        "status": 1, "signal": 11, "reason": "why", "instructions": 11, "blocks": 4, "syscalls": 2, "stdout": b"oup",
        "stderr": b"er", "classes": {"ident": 8, "inline": 1}, "registers": {"x1": 5, "pc": 9},
        "events": ("5 0x10 aa", "10 0x14 bb"),
    }  # fmt: skip
    assert set(others) == {field.name for field in fields(compare.Snapshot)}
    assert compare._differences(one, replace(one)) == []
    for name, value in others.items():
        (sentence,) = compare._differences(one, replace(one, **{name: value}))
        assert {"classes": "class ident", "registers": "register pc"}.get(name, name) in sentence


@pytest.mark.long
@EACH
def test_large_size_prints_what_the_table_says(program: Program) -> None:
    result = run(program, "large")
    assert (result.status, result.stdout.decode(), result.stderr) == (0, program.large_output, b"")
    assert result.instructions == pytest.approx(program.large_instructions, rel=0.005, abs=60)
