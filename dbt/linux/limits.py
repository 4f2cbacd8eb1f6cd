"""Resource limits of the guest, kept as numbers: the host's own limits stay as they are.

Must not know: system calls or guest memory.
"""

from __future__ import annotations

import errno
import os
import resource

from dbt.linux.host import failure

INFINITY = (1 << 64) - 1
STACK, DESCRIPTORS, COUNT = 3, 7, 16
_DEFAULT_STACK = 8 << 20
_LARGEST_STACK = 64 << 20


class Limits:
    def __init__(self, stack: int | None = None) -> None:
        self._values: dict[int, tuple[int, int]] = {}
        for number in range(COUNT):
            soft, hard = resource.getrlimit(number)
            self._values[number] = (INFINITY if soft == resource.RLIM_INFINITY else soft,
                                    INFINITY if hard == resource.RLIM_INFINITY else hard)

        if stack is not None:
            self._values[STACK] = stack, max(stack, self._values[STACK][1])

    def get(self, number: int) -> tuple[int, int]:
        if number not in self._values:
            raise failure(errno.EINVAL)
        return self._values[number]

    def set(self, number: int, soft: int, hard: int) -> None:
        _soft, limit = self.get(number)
        if soft > hard:
            raise failure(errno.EINVAL)
        if hard > limit and os.geteuid() != 0:
            raise failure(errno.EPERM)
        self._values[number] = soft, hard

    def stack(self) -> int:
        """How large to make the stack."""
        soft = self._values[STACK][0]
        return _DEFAULT_STACK if soft == INFINITY else min(max(soft, 1 << 16), _LARGEST_STACK)

    def descriptors(self) -> int:
        return min(self._values[DESCRIPTORS][0], 1 << 20)
