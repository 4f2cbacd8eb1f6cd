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
import signal
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

# What an interrupted call gives inside the kernel (include/linux/errno.h); no guest sees these.
ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND, ERESTART_RESTARTBLOCK = 512, 513, 514, 516

INTERRUPTED = {-code & (1 << 64) - 1: code for code in
               (ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND, ERESTART_RESTARTBLOCK)}  # by a call's result

# Calls that Linux does not restart by ERESTARTSYS, which is what waiting for data, locks and children gives.
RESTART = {
    "ppoll": ERESTARTNOHAND, "pselect6": ERESTARTNOHAND, "rt_sigsuspend": ERESTARTNOHAND,
    "clock_nanosleep": ERESTART_RESTARTBLOCK, "msgrcv": ERESTARTNOHAND, "msgsnd": ERESTARTNOHAND,
    "epoll_pwait": errno.EINTR, "epoll_pwait2": errno.EINTR, "rt_sigtimedwait": errno.EINTR, "semop": errno.EINTR,
    "semtimedop": errno.EINTR, "io_getevents": errno.EINTR,
}  # fmt: skip

# Of these, what a socket has a timeout of its own for is not made again: by SO_RCVTIMEO and SO_SNDTIMEO (include/net/
# sock.h: sock_intr_errno). The descriptor is the first argument.
_SOL_SOCKET, SO_RCVTIMEO, SO_SNDTIMEO = 1, 20, 21
_OF_SOCKET = dict.fromkeys(
    ("read", "readv", "recvfrom", "recvmsg", "recvmmsg", "accept", "accept4"), SO_RCVTIMEO
) | dict.fromkeys(("write", "writev", "sendto", "sendmsg", "sendmmsg", "connect"), SO_SNDTIMEO)


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

_SA_SIGINFO = 4
_FAULTS = {signal.SIGILL, signal.SIGTRAP, signal.SIGBUS, signal.SIGFPE, signal.SIGSEGV, signal.SIGSYS}
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

    room = 1 << 62  # signals that fit in what is not yet read

    def __init__(self, host: Any) -> None:
        self.host = host  # the module of its facts
        self.numbers: Mapping[str, int] = host.CALLS
        self._noted: list[bytes] = []

    @property
    def noticed(self) -> bool:
        """Whether a signal has come since the last `clear`."""
        return bool(self._noted)

    def take_over(self, number: int, kind: str, flags: int) -> Any:
        """Make it a signal's action to "note" it, to "ignore" it or the "default": the action that it had."""
        note: Any = lambda number, frame: self._noted.append(struct.pack("<iii116x", number, 0, 0))
        return signal.signal(number, {"note": note, "ignore": signal.SIG_IGN, "default": signal.SIG_DFL}[kind])

    def give_back(self, number: int, action: Any) -> None:
        """Give a signal the action that it had."""
        signal.signal(number, action)

    @contextmanager
    def woken(self) -> Iterator[None]:
        """Signals with handlers of Python's end calls for certain as well, and then the handlers run."""
        yield  # here not in the instant before a call

    def call(self, number: int, *arguments: Any) -> int:
        """Make a call: its result, or a negative error number; -ERESTARTSYS if a signal was before it."""
        if self._noted:
            return -ERESTARTSYS
        result = int(_libc.syscall(number, *arguments))
        return -ctypes.get_errno() if result == -1 else result

    def clear(self) -> None:
        """From now on calls wait again, until a signal comes."""

    def arrived(self) -> list[bytes]:
        """Clear, and give the siginfo of every signal that was noted since the last time, in order."""
        noted, self._noted = self._noted, []
        return noted


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
        self._words = memoryview(self._memory)[host.PAGE : host.PAGE + 64].cast("Q")  # the first is the flag
        self._handler, self._waker = base + host.HANDLER, base + host.WAKER
        self.room = host.ROOM
        prototype = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_long, *[_pointer] * 6)
        self._call = prototype(base + host.CALL)

    def call(self, number: int, *arguments: Any) -> int:
        return int(self._call(number, *arguments))

    @property
    def noticed(self) -> bool:
        return self._words[0] != 0

    def take_over(self, number: int, kind: str, flags: int) -> bytes:
        handler, mask, at, size = self.host.SIGACTION
        action, old = bytearray(size), ctypes.create_string_buffer(size)
        address = {"note": self._handler, "ignore": 1, "default": 0}[kind]
        action[handler : handler + 8] = address.to_bytes(8, "little")
        action[mask : mask + 8] = self.host.HELD_BACK.to_bytes(8, "little")
        action[at : at + 4] = (flags | _SA_SIGINFO).to_bytes(4, "little")
        if _libc.sigaction(number, bytes(action), old):
            raise OSError(ctypes.get_errno(), f"sigaction of signal {number} failed")
        return old.raw

    def give_back(self, number: int, action: bytes) -> None:
        _libc.sigaction(number, action, None)

    @contextmanager
    def woken(self) -> Iterator[None]:
        at, _mask, flags, size = self.host.SIGACTION
        ours, before = self._waker.to_bytes(8, "little"), {}
        for number in range(1, signal.NSIG):
            if number in _FAULTS or not callable(signal.getsignal(number)):
                continue
            action = ctypes.create_string_buffer(size)
            _libc.sigaction(number, None, action)
            old = action.raw
            if old[at : at + 8] == ours:  # by a run that this one is in
                continue
            self._words[self.host.NEXT >> 3] = int.from_bytes(old[at : at + 8], "little")  # Python has one for all
            action[at : at + 8] = ours
            action[flags] = old[flags] | _SA_SIGINFO
            _libc.sigaction(number, action, None)
            before[number] = old
        try:
            yield
        finally:
            for number, old in before.items():
                action = ctypes.create_string_buffer(size)
                _libc.sigaction(number, None, action)
                if action.raw[at : at + 8] == ours:  # nobody has given it another one
                    _libc.sigaction(number, old, None)

    def clear(self) -> None:
        self._words[0] = 0

    def arrived(self) -> list[bytes]:
        host, words = self.host, self._words
        words[0] = 0
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


def noticed() -> bool:
    """Whether a signal has come that nobody has collected."""
    return _one is not None and _one.noticed


def socket_limit(descriptor: Any, option: int) -> int:
    """Nanoseconds that SO_RCVTIMEO or SO_SNDTIMEO allows a call to wait; 0: it has no limit, or is of no socket."""
    limit, size = ctypes.create_string_buffer(16), ctypes.c_uint32(16)
    if _libc.getsockopt(descriptor, _SOL_SOCKET, option, limit, ctypes.byref(size)):
        return 0
    seconds, microseconds = struct.unpack("<qq", limit.raw)
    return 1_000_000_000 * seconds + 1000 * microseconds


def during(name: str, first: Any) -> int:
    """What a call gives that a signal has interrupted while it waited."""
    if name in _OF_SOCKET and socket_limit(first, _OF_SOCKET[name]):
        return errno.EINTR
    return RESTART.get(name, ERESTARTSYS)


def blocking(name: str, arguments: tuple[Any, ...], interrupted: Callable[[], bool], *, restart: int | None = None,
             masked: bool = False) -> int:
    """Make a host system call, again and again until it ends by itself or `interrupted()`; then Interrupted.

    Arguments are integers, bytes, None or ctypes arrays. Signals that are not for the guest do not end the call:
    handlers of Python's run, and it is made again, with what is left of its timeout. A signal that is there before the
    call waits is one that came before it, after which it is made (ERESTARTNOINTR); but if the call has put in a mask
    (`masked`), that lets the signal through, it comes during the call. `restart` says what happens then, if it does
    not follow from the name.
    """
    made = calls()
    number = made.numbers[name]
    rest = [*arguments, *[0] * (6 - len(arguments))]
    timeout = _TIMEOUT.get(name)
    begin = 0 if timeout is None else time.monotonic_ns()
    waited = masked
    while True:
        made.clear()
        if interrupted():
            then = during(name, arguments[0]) if restart is None else restart
            raise Interrupted(then if waited else ERESTARTNOINTR)
        result = made.call(number, *rest)
        if result >= 0:
            return result
        if result == -errno.EINTR:
            waited = True
        elif result != -ERESTARTSYS:
            raise OSError(-result, os.strerror(-result))
        if timeout is not None:
            index, form = timeout
            rest[index] = form(arguments[index], time.monotonic_ns() - begin)
