"""Events of a run, and who takes them: those that are wanted, up to a number, each with its two times.

Owns: what an event is, the selection, the bound. Must not know: where events come from, how they look.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from dbt.events import NEVER

KINDS = {
    "exit": "native code is left to Python: why, where, and how long until it is entered again",
    "translation": "a region is made, linked, dropped and why; a block is promoted",
    "syscall": "a program's system calls, with the time that each takes",
    "signal": "signals that a program's handlers are entered for",
    "trap": "a machine's traps: cause, from which mode to which",
    "interrupt": "interrupts that a hart takes",
    "switch": "a hart enters its guest or leaves it; a hart's turn begins; the time in a virtual machine's guest",
    "vmexit": "a guest of a virtual machine is left: why, and how long until it is entered again",
    "device": "accesses of a machine's devices",
}
MOST = 100_000  # events


class Event(NamedTuple):
    """`kind` is one of KINDS. Host time is in microseconds since the begin, virtual time in instructions executed.

    `track` is who did it, and `spent` how long it took in microseconds; None for what takes no time.
    """

    host: float
    instructions: int
    track: str
    kind: str
    name: str
    spent: float | None
    what: dict[str, Any]


class Recorder:
    """Takes events and gives `write` those that are wanted: of these kinds, from one count to another, at most so many.

    What is selected and comes later than the bound is counted only. Of processes that this one forks nothing is taken;
    `flush` has what `write` has kept written before that.
    """

    def __init__(
        self, write: Callable[[Event], None], flush: Callable[[], object], kinds: Collection[str], most: int = MOST,
        first: int = 0, last: int = NEVER, clock: Callable[[], float] = time.perf_counter,
    ) -> None:  # fmt: skip
        self.kinds = frozenset(kinds)
        self.flush = flush
        self.counts: Counter[str] = Counter()  # of selected events, by kind
        self.left_out = 0
        self._write = write
        self._left = most
        self._first, self._last = first, last
        self._clock = clock
        self._begin = clock()
        self._process = os.getpid()

    def now(self) -> float:
        """Host time."""
        return (self._clock() - self._begin) * 1e6

    def note(
        self, kind: str, name: str, count: int, track: str, since: float | None = None, **what: Any
    ) -> None:
        """Something happens now; with `since` it has begun then."""
        if kind not in self.kinds or not self._first <= count <= self._last or os.getpid() != self._process:
            return
        self.counts[kind] += 1
        if not self._left:
            self.left_out += 1
            return
        self._left -= 1
        now = self.now()
        begin, spent = (now, None) if since is None else (since, now - since)
        self._write(Event(begin, count, track, kind, name, spent, what))
