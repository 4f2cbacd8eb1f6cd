"""How long slices are: as long as what runs is fast."""

from __future__ import annotations

import pytest

import dragoman
from dbt import process as processes
from dbt.pace import Pace
from dbt.state import SLICE


@pytest.mark.parametrize("first", [16, 1 << 20])
@pytest.mark.parametrize(("speed", "expected"), [(1e9, 2_000_000), (0.5e6, 1000), (1e3, 16), (1e12, 1 << 24)])
def test_a_slice_takes_the_wanted_time(speed: float, expected: int, first: int) -> None:
    pace, now, retired = Pace(2_000_000, 16, 1 << 24, first), 0, 0
    for _ in range(40):
        before = pace.slice
        retired += pace.slice
        now += int(pace.slice / speed * 1e9)
        pace.measure(now, retired)
        assert before // 2 <= pace.slice <= 2 * before
    assert abs(pace.slice - expected) <= expected // 50


def test_what_was_no_slice_says_nothing_of_the_speed() -> None:
    pace = Pace(2_000_000, 16, 1 << 24, 1000)
    pace.measure(10**9, 999)
    assert pace.slice == 1000
    pace.start(2 * 10**9, 5000)
    pace.measure(2 * 10**9 + 2_000_000, 6000)
    assert pace.slice == 1000


def test_slices_of_a_process_follow_its_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that waits for memory, with ten million instructions a second, is not left alone for a second."""
    now = [0]
    monkeypatch.setattr(processes.time, "monotonic_ns", lambda: now[0])
    with dragoman.load("@hello") as process:
        assert process.engine.slice == SLICE
        for speed, expected in ((1e7, processes.SHORTEST_SLICE), (1e9, 4_000_000), (1e11, SLICE)):
            for _ in range(20):
                process.state.count += process.engine.slice
                now[0] += int(process.engine.slice / speed * 1e9)
                assert not process.engine.poll()
            assert abs(process.engine.slice - expected) <= expected // 50
        process.state.count = 0
