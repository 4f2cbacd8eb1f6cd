"""The host as a machine sees it: its clock, and what comes over its terminal, pipes and sockets.

Both are sampled between the slices of a run. A hart that waits lets the host sleep until its next event or until input
comes. Owns: the sampling. Must not know: devices, what input means.
"""

from __future__ import annotations

import heapq
import select
import time
from collections.abc import Callable

from dbt.events import NEVER
from dbt.machine.clock import Clock
from dbt.pace import Pace

SLICE = 2_000_000  # nanoseconds between two looks at the host, about
SHORTEST, LONGEST_SLICE = 500, 1 << 24  # instructions
LONGEST = 3600.0  # seconds that one sleep takes at most
MOST = 1024  # descriptors from here on cannot be waited for, with the precision that a sleep needs (select)


class Inputs:
    """Descriptors and times of the host's, and what is done when it is their turn. Descriptors are below MOST."""

    def __init__(self) -> None:
        self._readers: dict[int, Callable[[], None]] = {}
        self._writers: dict[int, Callable[[], None]] = {}
        self._alarms: list[tuple[float, int, Callable[[], None]]] = []  # a heap
        self._serial = 0

    def __len__(self) -> int:
        """What may still come."""
        return len(self._readers) + len(self._writers) + len(self._alarms)

    def add(self, descriptor: int, ready: Callable[[], None]) -> None:
        """Call `ready` when there is something to read, or its end."""
        self._readers[descriptor] = ready

    def add_writer(self, descriptor: int, ready: Callable[[], None]) -> None:
        """Call `ready` when something can be written, or nobody takes it any more, or a connection is made."""
        self._writers[descriptor] = ready

    def after(self, seconds: float, ready: Callable[[], None]) -> None:
        """Call `ready` once, so much later."""
        self._serial += 1
        heapq.heappush(self._alarms, (time.monotonic() + seconds, self._serial, ready))

    def remove(self, descriptor: int) -> None:
        """Do not look any more whether it can be read."""
        del self._readers[descriptor]

    def remove_writer(self, descriptor: int) -> None:
        """Do not look any more whether it can be written."""
        del self._writers[descriptor]

    def look(self, seconds: float | None) -> None:
        """Wait so long, or for ever, until something comes, and have it done."""
        if self._alarms:
            left = max(0.0, self._alarms[0][0] - time.monotonic())
            seconds = left if seconds is None else min(left, seconds)
        readable, writable, _ = select.select(list(self._readers), list(self._writers), [], seconds)
        for found, ready in ((readable, self._readers), (writable, self._writers)):
            for descriptor in found:
                if descriptor in ready:
                    ready[descriptor]()
        now = time.monotonic()
        while self._alarms and self._alarms[0][0] <= now:
            heapq.heappop(self._alarms)[2]()


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
