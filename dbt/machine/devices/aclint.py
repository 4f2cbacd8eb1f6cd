"""ACLINT, once CLINT: software interrupts and the timer of machine mode, for one hart (RISC-V ACLINT specification).

Owns: msip, mtimecmp, mtime. Must not know: what a hart does with its lines.
"""

from __future__ import annotations

from collections.abc import Callable

from dbt.events import Event, Events
from dbt.machine.clock import Clock

MSIP, MTIMECMP, MTIME = 0, 0x4000, 0xBFF8
MASK = (1 << 64) - 1


class Aclint:
    """`set_line` raises and lowers the hart's lines "software" and "timer"."""

    name = "clint"
    size = 0x10000

    def __init__(self, clock: Clock, events: Events, set_line: Callable[[str, bool], None]) -> None:
        self._clock = clock
        self._events = events
        self._set_line = set_line
        self._msip = 0
        self._compare = MASK
        self._event: Event | None = None

    def read(self, offset: int, size: int) -> int:
        base, value = self._register(offset)
        return value >> 8 * (offset - base) & (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        base, old = self._register(offset)
        shift = 8 * (offset - base)
        new = (old & ~((1 << 8 * size) - 1 << shift) | value << shift) & MASK
        if base == MSIP:
            self._msip = new & 1
            self._set_line("software", bool(self._msip))
        elif base == MTIMECMP:
            self._compare = new
            self._schedule()
        elif base == MTIME:
            self._clock.time = new
            self._schedule()

    def _register(self, offset: int) -> tuple[int, int]:
        """Where the register of an offset begins, and its value; there is nothing in between."""
        if offset < MSIP + 4:
            return MSIP, self._msip
        if MTIMECMP <= offset < MTIMECMP + 8:
            return MTIMECMP, self._compare
        if MTIME <= offset < MTIME + 8:
            return MTIME, self._clock.time
        return offset & -8, 0

    def _schedule(self) -> None:
        """The line is up from the time of mtimecmp on."""
        if self._event is not None:
            self._events.cancel(self._event)
            self._event = None
        late = self._clock.time >= self._compare
        self._set_line("timer", late)
        if not late:
            self._event = self._events.at(self._clock.when(self._compare), self._fire)

    def _fire(self) -> None:
        self._event = None
        self._schedule()
