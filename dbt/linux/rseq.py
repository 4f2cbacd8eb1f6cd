"""Restartable sequences: sections of a thread's code that go on elsewhere where it has lost the processor in them.

A thread has told where it keeps the address of the section that it is in (Linux, include/uapi/linux/rseq.h). When its
turn comes again, and before a signal's handler is entered, a pc inside the section moves to where the section says.
There is one processor, as for `getcpu`, and its number is 0: nothing but that can happen to a section.
Owns: the call, and that move. Must not know: whose turn it is, which handler.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from signal import SIGSEGV
from typing import TYPE_CHECKING, NamedTuple, Protocol

from dbt.linux import siginfo
from dbt.linux.host import failure
from dbt.memory import WRITE, MemoryFault

if TYPE_CHECKING:
    from dbt.linux.kernel import Kernel

_SIZE = 32  # bytes of the area at least, and what it is aligned to
_SECTION, _NODE = 8, 20  # byte offsets in it: the section's address; node and number among the threads that run
_UNREGISTER = 1
_NOBODY = 0xFFFFFFFF  # the processor where no area is registered
_DESCRIPTION = struct.Struct("<IIQQQ")  # of a section: version, flags, start, length, where it goes on


class Area(NamedTuple):
    """What a thread has registered. `signature`: the word before each place where a section goes on."""

    address: int
    size: int
    signature: int


class Registers(Protocol):
    """The thread's program counter."""

    pc: int


def rseq(kernel: Kernel, address: int, size: int, flags: int, signature: int) -> None:
    thread, asked = kernel.thread, Area(address, size & 0xFFFFFFFF, signature & 0xFFFFFFFF)
    known = thread.rseq
    if flags & ~_UNREGISTER or (flags and known is None):
        raise failure(errno.EINVAL)
    if known is not None:
        if asked[:2] != known[:2]:
            raise failure(errno.EINVAL)
        if asked != known:
            raise failure(errno.EPERM)
        if not flags:
            raise failure(errno.EBUSY)
        _tell(kernel, address, _NOBODY)
        thread.rseq = None
        return
    if asked.size < _SIZE or address % _SIZE:
        raise failure(errno.EINVAL)
    kernel.space.check(address, asked.size, WRITE)
    _tell(kernel, address, 0)
    kernel.space.write(address + _SECTION, bytes(8))
    thread.rseq = asked


def _tell(kernel: Kernel, address: int, processor: int) -> None:
    kernel.space.write(address, struct.pack("<II", 0, processor))
    kernel.space.write(address + _NODE, bytes(8))


def leave_section(kernel: Kernel, registers: Registers) -> None:
    """The current thread had lost the processor, or a handler is to be entered. SIGSEGV for what is no section."""
    area = kernel.thread.rseq
    if area is None:
        return
    space = kernel.space
    try:
        section = int.from_bytes(space.read(area.address + _SECTION, 8), "little")
        if not section:
            return
        version, flags, start, length, elsewhere = _DESCRIPTION.unpack(space.read(section, _DESCRIPTION.size))
        inside = start <= registers.pc < start + length
        wrong = version or start + length > space.size or start <= elsewhere < start + length or (inside and flags)
        before = int.from_bytes(space.read(elsewhere - 4, 4), "little") if elsewhere >= 4 else None
        if not wrong and before == area.signature:
            space.write(area.address + _SECTION, bytes(8))
            if inside:
                registers.pc = elsewhere
            return
    except MemoryFault:
        pass  # it is as wrong as one that says nonsense
    kernel.signals.force(SIGSEGV, siginfo.build(kernel.abi, "kill", SIGSEGV, siginfo.SI_KERNEL))


CALLS: dict[str, Callable[..., int | None]] = {"rseq": rseq}
