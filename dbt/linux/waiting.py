"""How a thread waits in a system call while other threads run.

All threads are one thread of the host's, so none may sleep there. A call that would is tried in a form that does not;
if it is in vain, `Waits` leaves the kernel, the thread is parked with what it waits for, and when that may have come
the call is made again from the start. What has to outlast that is kept in `Waiting`, until the call ends.
Owns: `Waiting`, the forms that do not sleep. Must not know: whose turn it is, registers, what calls are for.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import select
import stat
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from dbt.linux import blocking as sleeping
from dbt.linux.blocking import ERESTARTNOINTR, ERESTARTSYS, SO_RCVTIMEO, SO_SNDTIMEO, Interrupted
from dbt.linux.exits import Waits

if TYPE_CHECKING:
    from dbt.linux.futexes import Waiter
    from dbt.linux.kernel import Kernel

T = TypeVar("T")
Polled = Sequence[tuple[int, int]]  # host descriptors and events, as poll has them
IN, OUT = select.POLLIN, select.POLLOUT
_FIRST_PERIOD, _LONGEST_PERIOD = 500_000, 4_000_000  # nanoseconds between two questions
_PIPE_BUF = select.PIPE_BUF  # bytes that fit where a pipe says that it can be written to
_DONTWAIT = 0x40  # MSG_DONTWAIT
_NOHANG = 1
_LOCK_NB = 4
_SETLK = {fcntl.F_SETLKW: fcntl.F_SETLK, 38: 37}  # the second pair: of locks of open files
_NOWAIT = 0o4000  # IPC_NOWAIT


class Waiting:
    """What is remembered of a call that waits."""

    def __init__(self, begin: int) -> None:
        self.begin = begin  # on the clock of `clock`
        self.parked = False  # it has waited
        self.polled: Polled = ()
        self.end: int | None = None  # on that clock
        self.ask: int | None = None  # the same: when to try again what nothing tells of,
        self.period = _FIRST_PERIOD  # and how long after the last time that is
        self.signals = 0  # that end it, though they are blocked
        self.waiter: Waiter | None = None  # its place at a futex
        self.done = 0  # bytes that have been moved


def clock(kernel: Kernel) -> int:
    """What waits are measured by, in nanoseconds: the host's time, or virtual time."""
    return kernel.virtual_time() if kernel.deterministic else time.monotonic_ns()


def waited(kernel: Kernel) -> int:
    """Nanoseconds for which the call that is being made has waited already."""
    call = kernel.thread.call
    return 0 if call is None else clock(kernel) - call.begin


def begun(kernel: Kernel) -> Waiting:
    """What is remembered of the call that is being made, from now on."""
    thread = kernel.thread
    if thread.call is None:
        thread.call = Waiting(clock(kernel))
    return thread.call


def until(kernel: Kernel, attempt: Callable[[], T | None], *, polled: Polled = (), left: int | None = None,
          asks: bool = False, restart: int = ERESTARTSYS, signals: int = 0) -> T | None:  # fmt: skip
    """What `attempt` gives, when that is not None; or None when `left` nanoseconds from now have passed. Until then,
    Waits: for one of the `polled` to be ready, or to be asked again if it `asks`. A signal ends it: Interrupted with
    `restart`."""
    thread = kernel.thread
    found = attempt() if signals else None
    if found is None and kernel.signals.interrupting():
        call = thread.call
        raise Interrupted(restart if thread.replaced or (call is not None and call.parked) else ERESTARTNOINTR)
    if found is None and not signals:
        found = attempt()
    if found is not None or (left is not None and left <= 0):
        kernel.threads.spared = found is not None and left != 0
        return found
    call = begun(kernel)
    call.parked, call.polled, call.signals = True, polled, signals
    call.end = None if left is None else clock(kernel) + left
    if asks:
        call.ask = clock(kernel) + call.period
        call.period = min(2 * call.period, _LONGEST_PERIOD)
    raise Waits


def rows(polled: Polled) -> Any:
    """The array that poll takes."""
    return ctypes.create_string_buffer(
        b"".join(struct.pack("<ihh", fd, events, 0) for fd, events in polled), 8 * len(polled) + 1)


def found(array: Any) -> list[int]:
    """Which rows of such an array say that something has come."""
    return [at // 8 for at in range(0, len(array) - 1, 8) if struct.unpack_from("<H", array, at + 6)[0]]


def ready(*polled: tuple[int, int]) -> list[int]:
    """Which of the descriptors are ready, by index."""
    made, array = sleeping.calls(), rows(polled)
    made.clear()
    made.call(made.numbers["ppoll"], array, len(polled), bytes(16), None, 0, 0)
    return found(array)


# Calls of the host's, by name -----------------------------------------------------------------------------------------


def call(kernel: Kernel, name: str, arguments: tuple[Any, ...]) -> int:
    """Make a call of the host's that may sleep, as `Kernel.blocking`."""
    form = _FORMS.get(name)
    if form is None:
        return sleeping.blocking(name, arguments, kernel.signals.interrupting, masked=kernel.thread.replaced)
    return form(kernel, name, arguments)


def _made(kernel: Kernel, name: str, arguments: Sequence[Any]) -> int:
    """Make a call that does not sleep."""
    return sleeping.blocking(name, tuple(arguments), lambda: False)


def _result(found: int | None) -> int:
    """Of a call whose descriptor has a time limit of its own, which has passed."""
    if found is None:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return found


def _limit(kernel: Kernel, descriptor: int, option: int) -> int | None:
    """Nanoseconds that a socket still lets a call wait."""
    limit = sleeping.socket_limit(descriptor, option)
    return None if not limit else limit - waited(kernel)


def _on_descriptor(events: int, option: int) -> Callable[[Kernel, str, tuple[Any, ...]], int]:
    """The form of a call that does not sleep once its descriptor is ready."""

    def form(kernel: Kernel, name: str, arguments: tuple[Any, ...]) -> int:
        descriptor = arguments[0]
        if not os.get_blocking(descriptor):
            return _made(kernel, name, arguments)

        def attempt() -> int | None:
            return _made(kernel, name, arguments) if ready((descriptor, events)) else None

        if (flags := _FLAGS.get(name)) is not None and arguments[flags] & _DONTWAIT:
            return _made(kernel, name, arguments)
        polled = ((descriptor, events),)
        left, restart = _limit(kernel, descriptor, option), sleeping.during(name, descriptor)
        return _result(until(kernel, attempt, polled=polled, left=left, restart=restart))

    return form


def _sent(kernel: Kernel, name: str, arguments: tuple[Any, ...]) -> int:
    """All of a buffer, a piece at a time: a pipe is ready when there is room for _PIPE_BUF bytes."""
    descriptor, address, count, *rest = arguments
    kind = os.fstat(descriptor).st_mode
    stream, pipe = stat.S_ISSOCK(kind), stat.S_ISFIFO(kind)
    waits = os.get_blocking(descriptor) and not (rest and rest[0] & _DONTWAIT)
    if not waits or not (stream or pipe) or (pipe and count <= _PIPE_BUF):
        return _on_descriptor(OUT, SO_SNDTIMEO)(kernel, name, arguments)

    def attempt() -> int | None:
        """None while something is left; what comes after the first piece is told by what has been written."""
        call = begun(kernel)
        while call.done < count or not count:
            if not ready((descriptor, OUT)):
                return None
            left = min(count - call.done, _PIPE_BUF) if pipe else count - call.done
            try:
                if pipe:
                    moved = _made(kernel, name, (descriptor, address + call.done, left))
                else:
                    flags, *name_and_size = rest or (0, None, 0)
                    moved = _made(kernel, "sendto", (descriptor, address + call.done, left, flags | _DONTWAIT,
                                                     *name_and_size))  # fmt: skip
            except BlockingIOError:
                return None
            except OSError:
                if call.done:
                    break
                raise
            call.done += moved
            if not count:
                break
        return call.done

    polled, call, restart = ((descriptor, OUT),), begun(kernel), sleeping.during(name, descriptor)
    left = _limit(kernel, descriptor, SO_SNDTIMEO)
    try:
        return _result(until(kernel, attempt, polled=polled, left=left, restart=restart))
    except (Interrupted, BlockingIOError):
        if call.done:
            return call.done
        raise


@contextmanager
def _unblocked(descriptor: int) -> Iterator[None]:
    os.set_blocking(descriptor, False)
    try:
        yield
    finally:
        os.set_blocking(descriptor, True)


def _connect(kernel: Kernel, name: str, arguments: tuple[Any, ...]) -> int:
    descriptor = arguments[0]
    if not os.get_blocking(descriptor):
        return _made(kernel, name, arguments)

    def attempt() -> int | None:
        with _unblocked(descriptor):
            try:
                return _made(kernel, name, arguments)
            except OSError as error:
                if error.errno in (errno.EINPROGRESS, errno.EALREADY, errno.EAGAIN):
                    return None
                raise

    polled = ((descriptor, OUT),)
    left = _limit(kernel, descriptor, SO_SNDTIMEO)
    found = until(kernel, attempt, polled=polled, left=left, asks=True, restart=sleeping.during(name, descriptor))
    if found is None:
        raise BlockingIOError(errno.EINPROGRESS, os.strerror(errno.EINPROGRESS))
    return found


def _asked(change: Callable[[tuple[Any, ...]], tuple[Any, ...] | None], empty: Callable[[int, tuple[Any, ...]], bool],
           *codes: int) -> Callable[[Kernel, str, tuple[Any, ...]], int]:  # fmt: skip
    """The form of a call that nothing tells the end of: made again and again, changed so that it does not sleep.

    `change` gives None where the guest itself has asked for that. It was in vain if `empty`, or with these errors.
    """

    def form(kernel: Kernel, name: str, arguments: tuple[Any, ...]) -> int:
        changed = change(arguments)
        if changed is None:
            return _made(kernel, name, arguments)

        def attempt() -> int | None:
            try:
                result = _made(kernel, name, changed)
            except OSError as error:
                if error.errno in codes:
                    return None
                raise
            return None if empty(result, changed) else result

        restart = sleeping.RESTART.get(name, ERESTARTSYS)
        return _result(until(kernel, attempt, asks=True, restart=restart))

    return form


def _with_flag(index: int, flag: int) -> Callable[[tuple[Any, ...]], tuple[Any, ...] | None]:
    """A change of arguments: one more flag, where it is not there."""

    def change(arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if arguments[index] & flag:
            return None
        return (*arguments[:index], arguments[index] | flag, *arguments[index + 1 :])

    return change


def _of_lock(arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
    command = _SETLK.get(arguments[1])
    return None if command is None else (arguments[0], command, *arguments[2:])


def _nothing(result: int, arguments: tuple[Any, ...]) -> bool:
    return False


_READS, _WRITES = _on_descriptor(IN, SO_RCVTIMEO), _on_descriptor(OUT, SO_SNDTIMEO)
_FLAGS = {"recvfrom": 3, "recvmsg": 2, "sendto": 3, "sendmsg": 2}  # where MSG_DONTWAIT is
_FORMS: dict[str, Callable[[Kernel, str, tuple[Any, ...]], int]] = {
    **dict.fromkeys(("read", "readv", "pread64", "preadv", "preadv2", "recvfrom", "recvmsg", "accept4"), _READS),
    **dict.fromkeys(("writev", "pwrite64", "pwritev", "pwritev2", "sendmsg", "sendfile"), _WRITES),
    "write": _sent, "sendto": _sent, "connect": _connect,
    "wait4": _asked(_with_flag(2, _NOHANG), lambda result, arguments: not result),
    "waitid": _asked(_with_flag(3, _NOHANG), lambda result, arguments: not any(arguments[2].raw[:4])),
    "flock": _asked(_with_flag(1, _LOCK_NB), _nothing, errno.EWOULDBLOCK),
    "fcntl": _asked(_of_lock, _nothing, errno.EAGAIN, errno.EACCES),
    "msgrcv": _asked(_with_flag(4, _NOWAIT), _nothing, errno.ENOMSG),
    "msgsnd": _asked(_with_flag(3, _NOWAIT), _nothing, errno.EAGAIN),
}  # fmt: skip
