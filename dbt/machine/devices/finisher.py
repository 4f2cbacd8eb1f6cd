"""The test finisher of SiFive, by which a guest turns its machine off or resets it (`sifive,test0`)."""

from __future__ import annotations

from collections.abc import Callable

from dbt.machine.exits import SYSTEM_EVENT_CRASH, SYSTEM_EVENT_RESET, SYSTEM_EVENT_SHUTDOWN, Exit, SystemEvent

FAIL, PASS, RESET = 0x3333, 0x5555, 0x7777


class Finisher:
    """One register: what to do in the low half, a status in the high one."""

    name = "test"
    size = 0x1000

    def __init__(self, end: Callable[[Exit], None]) -> None:
        self._end = end

    def read(self, offset: int, size: int) -> int:
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        if offset:
            return
        match value & 0xFFFF:
            case 0x5555:
                self._end(SystemEvent(SYSTEM_EVENT_SHUTDOWN, 0))
            case 0x3333:
                self._end(SystemEvent(SYSTEM_EVENT_CRASH, value >> 16 & 0xFFFF))
            case 0x7777:
                self._end(SystemEvent(SYSTEM_EVENT_RESET, 0))
