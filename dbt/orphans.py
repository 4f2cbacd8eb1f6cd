"""Starting a process that is no child of ours: a guest that waits for any child must not meet it.

A process in between starts it, which is one that sends no signal when it ends. There are two ways. A *copy* of this
process has in memory what Python and we have made already, and costs 50 ms of CPU less than a new one. But what another
thread holds at that moment stays held for ever in a copy, so where there are other threads it is a *new* process.
Owns: how such a process begins, and what it has of ours. Must not know: what it does.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

Ranges = Iterable[tuple[int, int]]  # of host memory: address and size, whole pages
Descriptors = tuple[int, int, int]  # what becomes standard input, output and error output

_NUMBER = struct.Struct("<i")
_CLONE = 56 if os.uname().machine == "x86_64" else 220  # the number of this call on the host
_WALL = 0x40000000  # of waitpid: children that send no signal, too
_MADV_DONTFORK, _MADV_DOFORK = 10, 11
_python = ctypes.PyDLL(None, use_errno=True)  # calls keep Python's lock, which the one thread of a new process then has
_python.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


def alone() -> bool:
    """Whether this process has one thread, and so may be copied."""
    return len(os.listdir("/proc/self/task")) == 1


def new(command: list[str], environment: dict[str, str], descriptors: Descriptors) -> int:
    """The number of a new process, in a process group of its own. OSError where none can be started."""
    actions = [(os.POSIX_SPAWN_DUP2, ours, its) for its, ours in enumerate(descriptors)]
    return _orphan(lambda: os.posix_spawn(
        command[0], command, environment, file_actions=actions,
        setpgroup=0, setsigmask=[], setsigdef=[signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE],
    ))  # fmt: skip


def copy(work: Callable[[], None], descriptors: Descriptors, apart: Ranges) -> int:
    """The number of a copy of this process that does this work and ends, in a process group of its own; it has no
    other descriptors, no handlers of signals, and nothing of the memory `apart`. OSError where none can be started.
    """
    def start() -> int:
        made = _clone()
        if not made:
            status = 1
            try:
                _forget_what_is_ours(descriptors)
                work()
                status = 0
            finally:
                os._exit(status)  # silently: what it would say is said by its absence
        return made

    with _not_copied(apart):
        return _orphan(start)


def _forget_what_is_ours(descriptors: Descriptors) -> None:
    os.setpgid(0, 0)
    for its, ours in enumerate(descriptors):
        os.dup2(ours, its)
    os.closerange(len(descriptors), os.sysconf("SC_OPEN_MAX"))
    for number in signal.valid_signals():
        with suppress(OSError, ValueError):  # what no process may set
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


@contextmanager
def _not_copied(ranges: Ranges) -> Iterator[None]:
    """While this lasts, forked processes have none of this memory: it would be copied page by page as we write it."""
    ranges = list(ranges)
    for address, size in ranges:
        _python.madvise(address, size, _MADV_DONTFORK)  # where that fails, it is copied
    try:
        yield
    finally:
        for address, size in ranges:
            _python.madvise(address, size, _MADV_DOFORK)


def _orphan(start: Callable[[], int]) -> int:
    """The number of a process that `start` has started, and that is no child of ours. OSError."""
    reading, writing = os.pipe()
    try:
        between = _clone()
        if between == 0:
            number = 0
            try:
                number = start()
            except OSError as error:
                number = -(error.errno or errno.EAGAIN)
            finally:
                os.write(writing, _NUMBER.pack(number))
                os._exit(0)
        os.close(writing)
        writing = -1
        (number,) = _NUMBER.unpack(os.read(reading, _NUMBER.size))
        os.waitpid(between, _WALL)
    finally:
        os.close(reading)
        if writing >= 0:
            os.close(writing)
    if number <= 0:
        raise OSError(-number, os.strerror(-number))
    return int(number)


def _clone() -> int:
    """As fork, but nobody is told: not the parent of an end, nor those who asked to be told of forks. OSError."""
    made: int = _python.syscall(_CLONE, 0, 0, 0, 0, 0)
    if made < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return made
