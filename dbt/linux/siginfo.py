"""The 128 bytes that say where a signal comes from (linux/uapi/asm-generic/siginfo.h), and signals by number.

Owns: numbers, default actions, codes. Must not know: who is told.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from dbt.linux.abi import Abi, layout

if TYPE_CHECKING:
    from dbt.linux.kernel import Kernel

SIZE = 128  # bytes of a siginfo
COUNT = 64
REAL_TIME = 32  # the first of those of which several may be pending
SIGINT, SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGKILL, SIGSEGV, SIGPIPE, SIGALRM = 2, 4, 5, 7, 8, 9, 11, 13, 14
SIGCHLD, SIGCONT, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU = 17, 18, 19, 20, 21, 22
SIGURG, SIGVTALRM, SIGPROF, SIGWINCH, SIGSYS = 23, 26, 27, 28, 31

SI_USER, SI_KERNEL, SI_QUEUE, SI_TIMER, SI_TKILL = 0, 0x80, -1, -2, -6
SEGV_MAPERR, SEGV_ACCERR, BUS_ADRERR = 1, 2, 2


def bit(*numbers: int) -> int:
    """A set of signals, as the kernel keeps it: bit n-1 is signal n."""
    bits = 0
    for number in numbers:
        bits |= 1 << number - 1
    return bits


EVERY = (1 << COUNT) - 1
UNBLOCKABLE = bit(SIGKILL, SIGSTOP)
IGNORED_BY_DEFAULT = bit(SIGCHLD, SIGCONT, SIGURG, SIGWINCH)
STOPPING = bit(SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU)
# These end a process by default when others send them, in order: HUP, QUIT, USR1, USR2, ALRM, TERM, STKFLT, XCPU,
# VTALRM, PROF, IO, PWR. A terminal's Ctrl-C, faults, and those that Python ignores are not among them.
ENDING = (1, 3, 10, 12, 14, 15, 16, 24, 26, 27, 29, 30)
SYNCHRONOUS = bit(SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV, SIGSYS)  # these are delivered before all others


def numbers(bits: int) -> list[int]:
    """The signals of a set, the lowest first."""
    found = []
    while bits:
        lowest = bits & -bits
        found.append(lowest.bit_length())
        bits ^= lowest
    return found


def build(abi: Abi, form: str, number: int, code: int, **fields: int) -> bytes:
    """A siginfo. `form` says which part of the union holds: kill, timer or fault."""
    return layout(abi, f"siginfo_{form}").pack({"si_signo": number, "si_code": code, **fields})


def sent(kernel: Kernel, number: int, code: int = SI_USER) -> bytes:
    """The siginfo of a signal that the guest sends by kill or tkill."""
    return build(kernel.abi, "kill", number, code, si_pid=kernel.pid, si_uid=os.getuid())


def code_of(info: bytes) -> int:
    return int.from_bytes(info[8:12], "little", signed=True)
