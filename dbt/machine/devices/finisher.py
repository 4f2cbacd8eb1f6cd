"""The test finisher of SiFive, by which a guest turns its machine off or resets it (`sifive,test0`)."""

from __future__ import annotations

from collections.abc import Callable

from dbt.machine.exits import SYSTEM_EVENT_CRASH, SYSTEM_EVENT_RESET, SYSTEM_EVENT_SHUTDOWN, Exit, SystemEvent

EVENTS = {0x5555: SYSTEM_EVENT_SHUTDOWN, 0x3333: SYSTEM_EVENT_CRASH, 0x7777: SYSTEM_EVENT_RESET}


class Finisher:
    """One register: what to do in the low half, a status in the high one."""

    name = "test"
    size = 0x1000

    def __init__(self, end: Callable[[Exit], None]) -> None:
        self._end = end

    def read(self, offset: int, size: int) -> int:
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        event = EVENTS.get(value & 0xFFFF)
        if offset == 0 and event is not None:
            self._end(SystemEvent(event, value >> 16 & 0xFFFF if event == SYSTEM_EVENT_CRASH else 0))
