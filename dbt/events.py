"""Events: callbacks at points of virtual time, which is the count of retired instructions.

An event of deadline D is delivered at the first block boundary at which at least D instructions have retired, after
the trap that may lie there was handled and before the next instruction. That rule is about guest code alone, so every
engine delivers the same event in the same place, whatever it translated, chained, evicted or interpreted. Events that
are due at one boundary come in the order of their deadlines, and those of one deadline in the order of registration.
Owns: the queue, and the one place that delivers. Must not know: how an engine runs, what a callback does.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Protocol

from dbt.reference import LIMIT, Stop

NEVER = 1 << 62

Callback = Callable[[], object]  # true: `run` returns to its caller at once


class Engine(Protocol):
    """What the queue asks of an engine."""

    @property
    def interruptible(self) -> bool:
        """Whether an event may come before the next instruction."""

    def run(self, until: int) -> Stop:
        """Run to the first place that is interruptible with a count of at least `until`, or to a trap."""


class Clock(Protocol):
    """Virtual time: a CPU state has it, or what counts waiting too."""

    @property
    def count(self) -> int: ...


class Event:
    """One callback and when it is due. `period` 0: once."""

    def __init__(self, deadline: int, serial: int, callback: Callback, period: int = 0) -> None:
        self.deadline = deadline
        self.serial = serial
        self.callback = callback
        self.period = period
        self.cancelled = False

    def __lt__(self, other: Event) -> bool:
        return (self.deadline, self.serial) < (other.deadline, other.serial)


class Events:
    """The events of one clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._queue: list[Event] = []
        self._serial = 0

    def at(self, deadline: int, callback: Callback) -> Event:
        """Deliver once, when `deadline` instructions have retired; if they have, at the next boundary."""
        return self._add(deadline, callback, 0)

    def every(self, period: int, callback: Callback) -> Event:
        """Deliver when a multiple of `period` instructions has been reached, once for all that were passed."""
        if period < 1:
            raise ValueError("the period of an event is at least one instruction")
        return self._add(self._next_multiple(period), callback, period)

    def cancel(self, event: Event) -> None:
        """Never deliver it again."""
        event.cancelled = True

    @property
    def due(self) -> int:
        """The earliest deadline."""
        while self._queue and self._queue[0].cancelled:
            heapq.heappop(self._queue)
        return self._queue[0].deadline if self._queue else NEVER

    def run(self, engine: Engine, until: int) -> Stop:
        """Run to the first boundary with a count of at least `until`, or to a trap, delivering what is due on the way.

        Returns earlier if a callback returns true, or if the engine does.
        """
        while True:
            if engine.interruptible:
                if self.deliver():
                    return LIMIT
                if self._clock.count >= until:
                    return LIMIT
            target = min(until, self.due)
            stop = engine.run(target)
            if stop.trap or self._clock.count < target:
                return stop

    def deliver(self) -> bool:
        """Deliver what is due now; for `run`, and for who steps an engine. Says whether a callback returned true."""
        stopping = False
        while self.due <= self._clock.count:
            event = heapq.heappop(self._queue)
            if event.period:
                event.deadline = self._next_multiple(event.period)
                heapq.heappush(self._queue, event)
            stopping = bool(event.callback()) or stopping
        return stopping

    def _add(self, deadline: int, callback: Callback, period: int) -> Event:
        self._serial += 1
        event = Event(deadline, self._serial, callback, period)
        heapq.heappush(self._queue, event)
        return event

    def _next_multiple(self, period: int) -> int:
        return (self._clock.count // period + 1) * period
