"""Why basic blocks? Two programs with translations of at most 1, 2, 4, ... 64 instructions, then with regions.

In the JSON, for each size:

translation_seconds     to translate all that the program runs
run_seconds             of a second run, with all translations kept
translations, host_bytes
dispatches              translations entered for each instruction, by a run in which none leads to another
latency, latency_most   instructions from a random moment to the next boundary: how long an interrupt would wait

An event is delivered at the guest's own boundaries, which do not move with the size of translations, so that both
engines deliver it at the same instruction: latency is the same in all rows, and it is the interpreter that could do
better. `latency_granule` is what it would be if events were delivered wherever a translation ends.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import dragoman
from bench.again import Again
from dbt.process import LimitReached
from dbt.state import BUDGET, BUDGET_SHIFT, LIMIT

PROGRAMS = ("sha256", "lz")  # long blocks, and short ones
# Most instructions of a block, and of a region.
SIZES = ((1, 0), (2, 0), (4, 0), (8, 0), (16, 0), (32, 0), (64, 0), (512, 100), (512, 200), (512, 500))
SOME = 400_000  # instructions of the runs for dispatches and latency: most of the program
MOMENTS = 500


def latencies(program: str, options: dragoman.Options) -> list[int]:
    """Instructions executed beyond each of many random moments, until the engine may stop."""
    rng = Random(program)
    moments = sorted(rng.sample(range(1, SOME), MOMENTS))
    found = []
    with Again(program, options=options) as again:
        for moment in moments:
            if moment > again.process.instructions:
                with pytest.raises(LimitReached):
                    again.process.run(moment)
            found.append(again.process.instructions - moment)
    return found


def granules(program: str, options: dragoman.Options) -> list[int]:
    """Lengths of the translations that a run enters, one after the other."""
    with Again(program, options=options) as again:
        again.process.engine.cache._linked = False
        state, backend = again.process.state, again.process.engine.translator.backend
        enter, lengths = backend.enter, []

        def noted(address: int, entry: int) -> None:
            enter(address, entry)
            budget = state.words[BUDGET]
            left = budget - (budget >> 63 << 64) >> BUDGET_SHIFT
            lengths.append(state.words[LIMIT] - left - state.count)

        backend.enter = noted
        with pytest.raises(LimitReached):
            again.process.run(SOME)
    return lengths


@pytest.mark.benchmark(group="granularity")
@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("size, region", SIZES)
def test_granularity(
    benchmark: BenchmarkFixture, did: Callable[..., None], size: int, region: int, program: str
) -> None:
    def options(**more: Any) -> dragoman.Options:
        return dragoman.Options(hot=0, max_instructions=size, region=region, **more)

    with Again(program, options=options()) as again:
        again.run()
        stats = again.process.stats()
        spent = sum(stats["seconds"].values())
        benchmark.pedantic(again.run, setup=again.restart, rounds=5)
        assert again.process.stats()["translations"] == stats["translations"]
    entered, late = granules(program, options()), latencies(program, options())
    assert region or max(entered) <= size
    benchmark.extra_info.update(
        translation_seconds=spent, translations=stats["translations"], host_bytes=stats["code_bytes"],
        dispatches=len(entered) / sum(entered), latency=sum(late) / len(late), latency_most=max(late),
        latency_granule=sum(n * (n - 1) / 2 for n in entered) / sum(entered),
    )  # fmt: skip
    did(instructions=stats["instructions"])
