"""How many instructions run between two looks at the outside world: as many as take a given time.

Owns: that estimate. Must not know: who looks, at what, any clock.
"""

from __future__ import annotations


class Pace:
    """`slice` instructions take `wanted` nanoseconds, about, and are between `shortest` and `longest`."""

    def __init__(self, wanted: int, shortest: int, longest: int, first: int) -> None:
        self.wanted = wanted
        self.shortest, self.longest = shortest, longest
        self.slice = first
        self._then, self._before = 0, 0

    def start(self, now: int, retired: int) -> None:
        """Time that was no slice's has passed until `now`, in nanoseconds."""
        self._then, self._before = now, retired

    def measure(self, now: int, retired: int) -> None:
        """A slice is over: if it was used whole, the next is as its speed says, at most twice or half as long."""
        passed, ran = max(1, now - self._then), retired - self._before
        if ran >= self.slice:
            wanted = min(max(ran * self.wanted // passed, self.slice // 2), 2 * self.slice)
            self.slice = min(max(wanted, self.shortest), self.longest)
        self.start(now, retired)
