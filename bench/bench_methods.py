"""The nano-benchmarks of `@nano` under each method: what an exit takes here, in time of the host's.

What they take in exits and in modelled cycles is `dragoman lab E07`. All of it runs on a simulated processor, so times
are those of this simulator: that of an exit under te beside that under hw, and not what either is on a processor.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from dbt.kvm import METHODS
from dbt.methods.run import Row, run
from dbt.options import Options
from guests.programs import VIRTUALS, virtual_file

PROGRAM = "nano"
ALL = [(method, engine) for method, how in METHODS.items() if how.emulates for engine in how.engines]


@pytest.mark.benchmark(group="methods")
@pytest.mark.parametrize(("method", "engine"), ALL)
def test_nano(benchmark: BenchmarkFixture, did: Callable[..., None], method: str, engine: str) -> None:
    file = virtual_file(PROGRAM, not METHODS[method].native)
    row: Row = benchmark(run, file, method, engine, Options(patience=0))
    assert row.console == VIRTUALS[PROGRAM].output
    did(exits=row.total.exits, instructions=row.total.instructions)
