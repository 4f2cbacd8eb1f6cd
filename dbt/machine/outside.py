"""The host as a machine sees it: its clock, and the input of its terminal or pipe.

Both are sampled between the slices of a run. A hart that waits lets the host sleep until its next event or until input
comes. Owns: the sampling. Must not know: devices, what input means.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable

from dbt.events import NEVER
from dbt.machine.clock import Clock

SLICE = 20_000  # instructions between two looks at the host: under a tenth of a second in the reference interpreter
LONGEST = 3600.0  # seconds that one sleep takes at most


class Outside:
    """Keeps a clock with the host's, and hands input to `feed`; `descriptor` None is no input."""

    def __init__(self, clock: Clock, descriptor: int | None, feed: Callable[[bytes], None]) -> None:
        self._clock = clock
        self._descriptor = descriptor
        self._feed = feed
        self._start = time.monotonic_ns() - clock.count

    @property
    def listening(self) -> bool:
        """Whether input may still come."""
        return self._descriptor is not None

    def sample(self) -> None:
        """Take what the host has by now."""
        self._clock.wait_until(time.monotonic_ns() - self._start)
        self._look(0.0)

    def wait(self, count: int) -> None:
        """Sleep until the clock shows this count, or until there is input."""
        seconds = LONGEST if count >= NEVER else min(LONGEST, max(0, count - self._clock.count) / 1e9)
        if self._descriptor is None:
            time.sleep(seconds)
        else:
            self._look(seconds)
        self._clock.wait_until(time.monotonic_ns() - self._start)

    def _look(self, seconds: float) -> None:
        if self._descriptor is None:
            return
        readable, _, _ = select.select([self._descriptor], [], [], seconds)
        if readable:
            data = os.read(self._descriptor, 4096)
            if not data:
                self._descriptor = None  # its end
            self._feed(data)
