"""ACLINT, once CLINT: software interrupts and timers of machine mode, for each hart (RISC-V ACLINT specification).

Owns: msip and mtimecmp of each hart, mtime. Must not know: what a hart does with its lines.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from dbt.events import Event, Events
from dbt.machine.clock import Clock

MSIP, MTIMECMP, MTIME = 0, 0x4000, 0xBFF8
MASK = (1 << 64) - 1


class Aclint:
    """`lines`, one for each hart, raise and lower its lines "software" and "timer"."""

    name = "clint"
    size = 0x10000

    def __init__(self, clock: Clock, events: Events, lines: Sequence[Callable[[str, bool], None]]) -> None:
        self._clock = clock
        self._events = events
        self._lines = lines
        self._msip = [0] * len(lines)
        self._compare = [MASK] * len(lines)
        self._timers: list[Event | None] = [None] * len(lines)

    def read(self, offset: int, size: int) -> int:
        base, value = self._register(offset)
        return value >> 8 * (offset - base) & (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        base, old = self._register(offset)
        shift = 8 * (offset - base)
        new = (old & ~((1 << 8 * size) - 1 << shift) | value << shift) & MASK
        hart = base - MSIP >> 2
        if hart < len(self._lines):
            self._msip[hart] = new & 1
            self._lines[hart]("software", bool(new & 1))
            return
        hart = base - MTIMECMP >> 3
        if 0 <= hart < len(self._lines):
            self._compare[hart] = new
            self._schedule(hart)
        elif base == MTIME:
            self._clock.time = new
            for hart in range(len(self._lines)):
                self._schedule(hart)

    def _register(self, offset: int) -> tuple[int, int]:
        """Where the register of an offset begins, and its value; there is nothing in between."""
        if offset < MSIP + 4 * len(self._lines):
            return offset & -4, self._msip[offset - MSIP >> 2]
        if MTIMECMP <= offset < MTIMECMP + 8 * len(self._lines):
            return offset & -8, self._compare[offset - MTIMECMP >> 3]
        if MTIME <= offset < MTIME + 8:
            return MTIME, self._clock.time
        return offset & -8, 0

    def _schedule(self, hart: int) -> None:
        """The line is up from the time of mtimecmp on."""
        timer, compare = self._timers[hart], self._compare[hart]
        if timer is not None:
            self._events.cancel(timer)
            self._timers[hart] = None
        late = self._clock.time >= compare
        self._lines[hart]("timer", late)
        if not late:
            self._timers[hart] = self._events.at(self._clock.when(compare), partial(self._fire, hart))

    def _fire(self, hart: int) -> None:
        self._timers[hart] = None
        self._schedule(hart)
