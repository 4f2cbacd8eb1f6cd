"""Signals that were sent and not taken yet.

Owns: `Pending`. Must not know: to whom they were sent, what they do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from dbt.linux import siginfo
from dbt.linux.siginfo import REAL_TIME, bit

_QUEUED_MOST = 1 << 16  # real-time signals that wait at once

Info = bytes | Callable[[], bytes | None]  # a siginfo, or what gives it, or None, when the signal is to be taken


class Pending:
    """Signals that were sent and not taken: a standard one once, a real-time one as often as it was sent, in order."""

    def __init__(self, moved: Callable[[], None]) -> None:
        self.bits = 0
        self._moved = moved  # called when something has been added or taken away
        self._queues: dict[int, deque[Info]] = {}

    def add(self, number: int, info: Info) -> bool:
        """False: there is no room for another real-time signal."""
        queue = self._queues.setdefault(number, deque())
        if number < REAL_TIME and queue:
            return True
        if len(queue) >= _QUEUED_MOST:
            return False
        queue.append(info)
        self.bits |= bit(number)
        self._moved()
        return True

    def take(self, number: int) -> bytes | None:
        """The oldest of this number, which is pending; None: who sent it has taken it back."""
        queue = self._queues[number]
        info = queue.popleft()
        if not queue:
            self.bits &= ~bit(number)
        self._moved()
        return info if isinstance(info, bytes) else info()

    def discard(self, bits: int) -> None:
        for number in siginfo.numbers(bits & self.bits):
            self._queues[number].clear()
        self.bits &= ~bits
        self._moved()
