"""What the benchmarks share. `pytest bench --benchmark-only` times them; `pytest bench` runs each once, untimed.

Times are CPU seconds of this process (`--benchmark-timer`, set for the project), which other processes disturb least.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

HERE = Path(__file__).parent


def pytest_configure(config: pytest.Config) -> None:
    """The project's own options disable benchmarks: here `--benchmark-only` is enough to have them."""
    if config.option.benchmark_only:
        config.option.benchmark_enable = True


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Untimed, this is a test that nothing has rotted: the first parameters of each benchmark are enough for that."""
    if config.option.benchmark_only:
        return
    seen, kept = set(), []
    for item in items:
        function = item.nodeid.partition("[")[0]
        if function not in seen or not item.path.is_relative_to(HERE):
            kept.append(item)
        seen.add(function)
    items[:] = kept


@pytest.fixture
def did(benchmark: BenchmarkFixture) -> Callable[..., None]:
    """Note, after the measurement, how much of what one round did; how much that is a second goes with it."""

    def note(**amounts: float) -> None:
        benchmark.extra_info.update(amounts)
        if benchmark.stats is not None:  # timings are on
            median = benchmark.stats.stats.median
            benchmark.extra_info.update({f"{name}_per_second": amount / median for name, amount in amounts.items()})

    return note
