"""The host as a machine sees it: its clock, and input from its terminal, pipes and sockets.

Both are sampled between the slices of a run. A hart that waits lets the host sleep until its next event or until input
comes. Owns: the sampling. Must not know: devices, what input means.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable

from dbt.events import NEVER
from dbt.machine.clock import Clock
from dbt.pace import Pace

SLICE = 2_000_000  # nanoseconds between two looks at the host, about
SHORTEST, LONGEST_SLICE = 500, 1 << 24  # instructions
LONGEST = 3600.0  # seconds that one sleep takes at most


class Inputs:
    """Descriptors that can be read, and what is done then."""

    def __init__(self) -> None:
        self._ready: dict[int, Callable[[], None]] = {}

    def __len__(self) -> int:
        return len(self._ready)

    def add(self, descriptor: int, ready: Callable[[], None]) -> None:
        """Call `ready` when there is something to read, or its end."""
        self._ready[descriptor] = ready

    def remove(self, descriptor: int) -> None:
        """Do not look at it any more."""
        del self._ready[descriptor]

    def look(self, seconds: float | None) -> None:
        """Wait so long, or for ever, until there is something to read, and have it read."""
        readable, _, _ = select.select(list(self._ready), [], [], seconds)
        for descriptor in readable:
            if descriptor in self._ready:
                self._ready[descriptor]()


class Outside:
    """Looks at inputs and, if it `follows` the host, keeps a clock with the host's.

    A machine that does not follow has the time of its instructions alone, and its waiting jumps.
    """

    def __init__(self, clock: Clock, inputs: Inputs, follows: bool = True) -> None:
        self._clock = clock
        self._inputs = inputs
        self.follows = follows
        self._pace = Pace(SLICE, SHORTEST, LONGEST_SLICE, SHORTEST)
        self.resume()

    @property
    def slice(self) -> int:
        """Instructions until it is to be sampled again: as many as take the time of a slice."""
        return self._pace.slice

    def resume(self) -> None:
        """The machine stood still: its time goes on from here."""
        self._start = time.monotonic_ns() - self._clock.count
        self._pace.start(time.monotonic_ns(), self._clock.retired)

    @property
    def listening(self) -> bool:
        """Whether input may still come."""
        return bool(self._inputs)

    def sample(self) -> None:
        """Take what the host has by now."""
        self._pace.measure(time.monotonic_ns(), self._clock.retired)
        self._keep_up()
        if self._inputs:
            self._inputs.look(0.0)

    def wait(self, count: int) -> None:
        """Wait until the clock shows this count, or until there is input."""
        if not self.follows and count < NEVER:
            self._clock.wait_until(count)
            return
        seconds = LONGEST if count >= NEVER else min(LONGEST, max(0, count - self._clock.count) / 1e9)
        self._inputs.look(seconds)
        self._keep_up()
        self._pace.start(time.monotonic_ns(), self._clock.retired)

    def _keep_up(self) -> None:
        """The clock is not behind the host's. Where it has run ahead, as an instruction counts for a nanosecond and
        took less, it goes on from there: it must not stand still until the host has caught up.
        """
        if self.follows:
            host = time.monotonic_ns() - self._start
            self._clock.wait_until(host)
            self._start -= self._clock.count - host
