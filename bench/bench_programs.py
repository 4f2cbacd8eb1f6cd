"""Six programs at their small sizes: the reference interpreter, the translator cold, the translator warm.

Cold is a process that has translated nothing (Python and LLVM are there already: `dragoman bench` measures with their
start). Warm is the same program once more, with its translations kept. The JSON has instructions a second.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import dragoman
from bench.again import Again

KERNELS = ("sieve", "nbody", "sort", "recurse", "strings", "sha256")
EVERY = pytest.mark.parametrize("name", KERNELS)

Did = Callable[..., None]


def once(benchmark: BenchmarkFixture, did: Did, name: str, engine: str, rounds: int) -> None:
    """Measure runs from the first instruction to the last, each in a process of its own."""
    seen: list[Again] = []

    def fresh() -> tuple[tuple[Again], dict[str, object]]:
        for old in seen:
            old.__exit__()
        seen[:] = [Again(name, engine=engine)]
        return (seen[0],), {}

    benchmark.pedantic(lambda again: again.run(), setup=fresh, rounds=rounds)
    did(instructions=seen[0].process.instructions)
    seen[0].__exit__()


@EVERY
@pytest.mark.benchmark(group="programs")
def test_reference(benchmark: BenchmarkFixture, did: Did, name: str) -> None:
    once(benchmark, did, name, "reference", rounds=2)


@EVERY
@pytest.mark.benchmark(group="programs")
def test_translated_cold(benchmark: BenchmarkFixture, did: Did, name: str) -> None:
    once(benchmark, did, name, "translated", rounds=5)


@EVERY
@pytest.mark.benchmark(group="programs")
def test_translated_warm(benchmark: BenchmarkFixture, did: Did, name: str) -> None:
    with Again(name, options=dragoman.Options(hot=0)) as again:  # nothing is left to be translated later
        again.run()
        count, made = again.process.instructions, again.process.stats()["translations"]
        benchmark.pedantic(again.run, setup=again.restart, rounds=20)
        did(instructions=count)
        assert again.process.stats()["translations"] == made
