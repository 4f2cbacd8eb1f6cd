"""The host-target interface of RISC-V's own test programs: two doublewords, `tohost` and `fromhost`.

A command is a device in bits 63:56, what to do in bits 55:48, and a payload. Device 0 ends the program (payload odd:
its status is in the bits above) or makes a system call for it (payload even: where its number and arguments are);
device 1 is a console. Owns: these commands. Must not know: where the doublewords are.
"""

from __future__ import annotations

from collections.abc import Callable

from dbt.machine.devices.console import Console
from dbt.machine.exits import SYSTEM_EVENT_SHUTDOWN, Exit, SystemEvent
from dbt.machine.memory import Memory
from guests.spec import Absent

WRITE = 64  # the only system call that there is: the number is Linux's
ENOSYS, EFAULT, EBADF = 38, 14, 9
MASK = (1 << 64) - 1


class Doubleword:
    """One of the two. `written` is called when it holds a whole command."""

    size = 8

    def __init__(self, name: str, written: Callable[[], None] = lambda: None) -> None:
        self.name = name
        self.value = 0
        self._written = written

    def read(self, offset: int, size: int) -> int:
        return self.value >> 8 * offset & (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        mask = (1 << 8 * size) - 1 << 8 * offset
        self.value = self.value & ~mask | value << 8 * offset
        if offset + size == self.size or self.value & 1:  # the end of a program is told by the low half alone
            self._written()


class Htif:
    """Both doublewords, to be put on a bus one by one. `end` is told how the machine ends."""

    def __init__(self, memory: Memory, console: Console, end: Callable[[Exit], None]) -> None:
        self.tohost = Doubleword("tohost", self._command)
        self.fromhost = Doubleword("fromhost")
        self._memory = memory
        self._console = console
        self._end = end

    def _command(self) -> None:
        command, self.tohost.value = self.tohost.value, 0
        device, what, payload = command >> 56, command >> 48 & 0xFF, command & (1 << 48) - 1
        match device, what:
            case 0, 0 if payload & 1:
                self._end(SystemEvent(SYSTEM_EVENT_SHUTDOWN, payload >> 1))
            case 0, 0 if payload:
                self._system_call(payload)
                self.fromhost.value = 1
            case 1, 0:
                byte = self._console.get()
                if byte is not None:
                    self.fromhost.value = 1 << 56 | byte
            case 1, 1:
                self._console.write(bytes([payload & 0xFF]))
                self.fromhost.value = 1 << 56 | 1 << 48

    def _system_call(self, at: int) -> None:
        """The number and three arguments lie at `at`; the result goes over the number."""
        try:
            number, file, address, length = (
                int.from_bytes(self._memory.peek(at + 8 * i, 8), "little") for i in range(4)
            )
            if number != WRITE:
                result = -ENOSYS
            elif file not in (1, 2):
                result = -EBADF
            else:
                self._console.write(self._memory.peek(address, length))
                result = length
        except Absent:
            result = -EFAULT
        try:
            self._memory.poke(at, (result & MASK).to_bytes(8, "little"))
        except Absent:
            return  # nowhere to put it: the program has given no address of memory
