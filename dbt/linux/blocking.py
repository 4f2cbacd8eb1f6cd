"""Host system calls that may sleep, and that a signal ends for certain.

A signal that comes just before a call begins to wait must end it too. Machine code of the host's makes the call
after a test of a flag, and a signal action of the host's sets the flag and moves a pc that lies between the two
(docs/decisions, "how a blocking call is interrupted"). A host without that code uses the C library's `syscall`: there
a signal that comes in the instant before the call is seen when the call ends.

Owns: the placed code, the queue of what came (`arrived`), which calls Linux restarts (`RESTART`), how long what is
made again still waits. Must not know: what a signal does to the guest, guest memory, any architecture.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import struct
import time
from collections.abc import Callable, Mapping
from typing import Any

# What an interrupted call gives inside the kernel (include/linux/errno.h); no guest sees these.
ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND, ERESTART_RESTARTBLOCK = 512, 513, 514, 516

# Calls that Linux does not restart by ERESTARTSYS, which is what waiting for data, locks and children gives.
RESTART = {
    "ppoll": ERESTARTNOHAND, "pselect6": ERESTARTNOHAND, "rt_sigsuspend": ERESTARTNOHAND,
    "clock_nanosleep": ERESTART_RESTARTBLOCK, "msgrcv": ERESTARTNOHAND, "msgsnd": ERESTARTNOHAND,
    "epoll_pwait": errno.EINTR, "epoll_pwait2": errno.EINTR, "rt_sigtimedwait": errno.EINTR, "semop": errno.EINTR,
    "semtimedop": errno.EINTR, "io_getevents": errno.EINTR,
}  # fmt: skip


def _less_milliseconds(timeout: int, passed: int) -> int:
    left = timeout & 0xFFFFFFFF
    return timeout if left >> 31 else max(0, left - passed // 1_000_000)


def _less_timespec(timeout: Any, passed: int) -> Any:
    if not timeout:
        return timeout
    seconds, nanoseconds = struct.unpack("<qq", bytes(timeout)[:16])
    return struct.pack("<qq", *divmod(max(0, seconds * 1_000_000_000 + nanoseconds - passed), 1_000_000_000))


# Relative timeouts: which argument, and how it becomes less by nanoseconds that have passed. The kernel itself counts
# down those of ppoll and pselect6, in place; who sleeps or waits for a futex gives a point in time.
_TIMEOUT: dict[str, tuple[int, Callable[[Any, int], Any]]] = {
    "epoll_pwait": (3, _less_milliseconds), "epoll_pwait2": (3, _less_timespec), "semtimedop": (3, _less_timespec),
    "rt_sigtimedwait": (2, _less_timespec), "recvmmsg": (4, _less_timespec), "io_getevents": (4, _less_timespec),
}  # fmt: skip

_pointer = ctypes.c_void_p
_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.argtypes = (ctypes.c_long, *[_pointer] * 6)
_libc.syscall.restype = ctypes.c_long


class Interrupted(InterruptedError):
    """A signal for the guest ended a call; `restart` says what Linux makes of it: an ERESTART code, or EINTR."""

    def __init__(self, restart: int) -> None:
        super().__init__(errno.EINTR, os.strerror(errno.EINTR))
        self.restart = restart


class Plain:
    """Where there is no machine code for it."""

    handler = 0  # the address of a signal action, or 0

    def __init__(self, host: Any) -> None:
        self.host = host  # the module of its facts
        self.numbers: Mapping[str, int] = host.CALLS

    def call(self, number: int, *arguments: Any) -> int:
        """Make a call: its result, or a negative error number; -ERESTARTSYS if a signal was before it."""
        result = int(_libc.syscall(number, *arguments))
        return -ctypes.get_errno() if result == -1 else result

    def clear(self) -> None:
        """From now on calls wait again."""

    def arrived(self) -> list[bytes]:
        """The siginfo of every signal that came since, in order."""
        return []


class Guarded(Plain):
    """The host's machine code, placed."""

    def __init__(self, host: Any) -> None:
        super().__init__(host)
        size = host.PAGE + host.RING + host.ENTRIES * host.ENTRY
        self._memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._memory[: len(host.CODE)] = host.CODE
        base = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        _libc.mprotect.argtypes = (_pointer, ctypes.c_size_t, ctypes.c_int)
        if _libc.mprotect(base, host.PAGE, mmap.PROT_READ | mmap.PROT_EXEC):
            raise OSError(ctypes.get_errno(), "mprotect of the code for blocking calls failed")
        self._words = memoryview(self._memory)[host.PAGE : host.PAGE + 24].cast("Q")
        self.handler = base + host.HANDLER
        prototype = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_long, *[_pointer] * 6)
        self._call = prototype(base + host.CALL)

    def call(self, number: int, *arguments: Any) -> int:
        return int(self._call(number, *arguments))

    def clear(self) -> None:
        self._words[self.host.FLAG >> 3] = 0

    def arrived(self) -> list[bytes]:
        host, words = self.host, self._words
        found = []
        while (tail := words[host.TAIL >> 3]) < words[host.HEAD >> 3]:
            at = host.PAGE + host.RING + tail % host.ENTRIES * host.ENTRY
            found.append(self._memory[at : at + host.ENTRY])
            words[host.TAIL >> 3] = tail + 1
        return found


_one: Plain | None = None


def calls() -> Plain:
    """The process's way to make such calls, made at the first use."""
    global _one
    if _one is None:
        if os.uname().machine == "x86_64":
            from dbt.hosts import x86_64_linux

            _one = Guarded(x86_64_linux)
        else:
            from dbt.hosts import generic_linux

            _one = Plain(generic_linux)
    return _one


def blocking(name: str, arguments: tuple[Any, ...], interrupted: Callable[[], bool]) -> int:
    """Make a host system call, again and again until it ends by itself or `interrupted()`; then Interrupted.

    Arguments are integers, bytes, None or ctypes arrays. Signals that are not for the guest do not end the call:
    handlers of Python's run, and it is made again, with what is left of its timeout.
    """
    made = calls()
    number = made.numbers[name]
    rest = [*arguments, *[0] * (6 - len(arguments))]
    timeout = _TIMEOUT.get(name)
    begin = 0 if timeout is None else time.monotonic_ns()
    while True:
        made.clear()
        if interrupted():
            raise Interrupted(RESTART.get(name, ERESTARTSYS))
        result = made.call(number, *rest)
        if result >= 0:
            return result
        if result not in (-errno.EINTR, -ERESTARTSYS):
            raise OSError(-result, os.strerror(-result))
        if timeout is not None:
            index, form = timeout
            rest[index] = form(arguments[index], time.monotonic_ns() - begin)
