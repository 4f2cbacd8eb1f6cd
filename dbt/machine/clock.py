"""The time of a machine: retired instructions and the time it waited, which is one instruction a nanosecond.

`time`, the guest's clock, counts its ticks (`Guest.ticks` instructions each). Whoever makes the clock follow the
host adds waiting time, too. Owns: this sum. Must not know: what waits.
"""

from __future__ import annotations

from collections.abc import Callable

MASK = (1 << 64) - 1


class Clock:
    """Virtual time. `retired` says how many instructions the harts have retired."""

    def __init__(self, retired: Callable[[], int], ticks: int) -> None:
        self._retired = retired
        self.ticks = ticks
        self.waited = 0  # instructions' worth of time in which none was retired
        self.offset = 0  # ticks that the guest has put the clock forward, or back
        self.changed: list[Callable[[], None]] = []  # told when one of these has changed

    @property
    def retired(self) -> int:
        """Instructions retired."""
        return self._retired()

    @property
    def count(self) -> int:
        """The time in instructions."""
        return self._retired() + self.waited

    @property
    def time(self) -> int:
        """The time in ticks, of 64 bits."""
        return self.count // self.ticks + self.offset & MASK

    @time.setter
    def time(self, value: int) -> None:
        self.offset = value - self.count // self.ticks
        self._tell()

    def when(self, time: int) -> int:
        """The first count at which the clock shows this time, which is not past."""
        return (time - self.offset) * self.ticks

    def wait_until(self, count: int) -> None:
        """Nothing happens until then."""
        self.waited += max(0, count - self.count)
        self._tell()

    def _tell(self) -> None:
        for told in self.changed:
            told()
