"""Futexes: words of the guest's that threads wait at, in this process and, where memory is shared, in others.

What this process's threads wait for is kept here, by the word's address. A word that other processes have, too, is the
host's futex as well: a single thread waits there, and several ask for it again and again, since none may sleep.
Owns: `Waiter`, the queues. Must not know: threads' turns, what a C library makes of it.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from time import monotonic_ns
from typing import TYPE_CHECKING

from dbt.linux import host, waiting
from dbt.linux import time as guest_time
from dbt.linux.blocking import ERESTARTNOINTR, ERESTARTSYS, Interrupted
from dbt.linux.exits import Waits
from dbt.linux.host import failure
from dbt.linux.threads import FUTEX_OWNER_DIED, FUTEX_TID, FUTEX_WAITERS, Thread
from dbt.memory import WRITE
from ir.records import record

if TYPE_CHECKING:
    from dbt.linux.kernel import Kernel

_WAIT, _WAKE, _REQUEUE, _CMP_REQUEUE, _WAKE_OP = 0, 1, 3, 4, 5
_LOCK_PI, _UNLOCK_PI, _TRYLOCK_PI, _WAIT_BITSET, _WAKE_BITSET, _LOCK_PI2 = 6, 7, 8, 9, 10, 13
_PRIVATE, _CLOCK_REALTIME, _COMMAND = 0x80, 0x100, 0x7F
_TIMED = frozenset((_WAIT, _WAIT_BITSET, _LOCK_PI, _LOCK_PI2))  # commands with a time limit
_CLOCKED = frozenset((_WAIT, _WAIT_BITSET, _LOCK_PI2))  # commands that may say which clock it is of
_ALL = 0xFFFFFFFF
_MOST = (1 << 31) - 1


@record
class Waiter:
    """A thread's place in the queue of a word."""

    thread: Thread
    word: int
    bits: int = _ALL
    inherits: bool = False  # it waits for a lock that is handed over
    woken: bool = False


# Queues ---------------------------------------------------------------------------------------------------------------


def _queue(kernel: Kernel, waiter: Waiter) -> None:
    kernel.futexes.setdefault(waiter.word, []).append(waiter)


def _leave(kernel: Kernel, waiter: Waiter) -> None:
    queue = kernel.futexes[waiter.word]
    queue.remove(waiter)
    if not queue:
        del kernel.futexes[waiter.word]


def _wake(kernel: Kernel, waiter: Waiter) -> None:
    _leave(kernel, waiter)
    waiter.woken = True
    kernel.signals.wake(waiter.thread)


def _own(kernel: Kernel, word: int, count: int, bits: int = _ALL) -> int:
    """Wake up to `count` threads of this process: how many there were."""
    found = [each for each in kernel.futexes.get(word, ()) if each.bits & bits and not each.inherits][:count]
    for waiter in found:
        _wake(kernel, waiter)
    return len(found)


def _is_shared(kernel: Kernel, word: int) -> bool:
    region = kernel.space.region_at(word)
    return region is not None and region.shared


def wake(kernel: Kernel, word: int, count: int) -> int:
    """Wake who waits at a word, in any process."""
    woken = _own(kernel, word, count)
    if woken < count and _is_shared(kernel, word):
        woken += host.call("futex", kernel.space.base + word, _WAKE, count - woken, None, None, 0)
    return woken


# Waiting --------------------------------------------------------------------------------------------------------------


def futex(kernel: Kernel, word: int, operation: int, value: int, timeout: int, second: int, third: int) -> int:
    command, value = operation & _COMMAND, value & 0xFFFFFFFF
    if word % 4 or (command in (_REQUEUE, _CMP_REQUEUE, _WAKE_OP) and second % 4):
        raise failure(errno.EINVAL)
    if operation & _CLOCK_REALTIME and command not in _CLOCKED:
        raise failure(errno.ENOSYS)
    shared = not operation & _PRIVATE and _is_shared(kernel, word)
    limit = kernel.take_time(timeout) if timeout and command in _TIMED else None
    if command in (_WAIT, _WAIT_BITSET):
        bits = _ALL if command == _WAIT else third & _ALL
        if not bits:
            raise failure(errno.EINVAL)
        left = _left(kernel, operation, limit)
        return _wait(kernel, word, value, bits, left, shared, ERESTARTSYS if command == _WAIT_BITSET or limit is None
                     else errno.EINTR)  # fmt: skip
    if command in (_LOCK_PI, _LOCK_PI2, _TRYLOCK_PI):
        return _lock(kernel, word, _left(kernel, operation, limit), command == _TRYLOCK_PI, shared)
    if command == _UNLOCK_PI:
        return _unlock(kernel, word)
    kernel.space.check(word, 4, 1)
    count = value if value <= _MOST else 1
    if command in (_WAKE, _WAKE_BITSET):
        bits = _ALL if command == _WAKE else third & _ALL
        if not bits:
            raise failure(errno.EINVAL)
        woken = _own(kernel, word, count, bits)
        if shared and woken < count:
            woken += host.call("futex", kernel.space.base + word, command, count - woken, None, None, bits)
        return woken
    if command not in (_REQUEUE, _CMP_REQUEUE, _WAKE_OP):
        raise failure(errno.ENOSYS)
    kernel.space.check(second, 4, 1)
    return (_both_shared if shared else _both)(kernel, command, word, count, timeout & 0xFFFFFFFF, second, third)


def _left(kernel: Kernel, operation: int, limit: int | None) -> int | None:
    """Nanoseconds from now on: of WAIT since the call began, of the others until a point of time."""
    command = operation & _COMMAND
    if limit is None:
        return None
    if command == _WAIT:
        return limit - waiting.waited(kernel)
    calendar = command == _LOCK_PI or operation & _CLOCK_REALTIME
    return limit - guest_time.now(kernel, 0 if calendar else 1)


def _wait(kernel: Kernel, word: int, value: int, bits: int, left: int | None, shared: bool, restart: int) -> int:
    call = kernel.thread.call
    waiter = None if call is None else call.waiter
    if waiter is not None and waiter.woken:
        return 0
    same = int.from_bytes(kernel.space.read(word, 4), "little") == value
    if waiter is None:
        if not same:
            raise failure(errno.EAGAIN)
        if not kernel.threads.several:
            return _wait_alone(kernel, word, value, bits, left, shared, restart)
        waiter = Waiter(kernel.thread, word, bits)
        _queue(kernel, waiter)
    elif shared and not same:  # it was another process that woke us
        _leave(kernel, waiter)
        return 0
    _stay(kernel, waiter, left, shared, restart)
    raise failure(errno.ETIMEDOUT)


def _stay(kernel: Kernel, waiter: Waiter, left: int | None, asks: bool, restart: int) -> None:
    """Wait in a queue; return when time is over, out of it."""
    try:
        waiting.until(kernel, lambda: None, left=left, asks=asks, restart=restart)
    except Waits:
        waiting.begun(kernel).waiter = waiter
        raise
    except Interrupted:
        _leave(kernel, waiter)
        raise
    _leave(kernel, waiter)


def _wait_alone(kernel: Kernel, word: int, value: int, bits: int, left: int | None, shared: bool, restart: int) -> int:
    if shared:
        end = None if left is None else struct.pack("<qq", *divmod(max(0, monotonic_ns() + left), 1_000_000_000))
        return kernel.blocking("futex", kernel.space.base + word, _WAIT_BITSET, value, end, 0, bits)
    if left is None:
        kernel.stuck("the guest's only thread waits for a futex that nobody can wake")
        guest_time.sleep(kernel, None, ERESTARTSYS)
        raise AssertionError("a sleep without an end has ended")
    guest_time.sleep(kernel, left, restart)
    raise failure(errno.ETIMEDOUT)


# Two words ------------------------------------------------------------------------------------------------------------


def _both(kernel: Kernel, command: int, word: int, count: int, moved: int, second: int, third: int) -> int:
    """Wake at one word; and have others wait at the second one from now on, or wake there, too."""
    if command == _WAKE_OP:
        holds = _operate(kernel, second, third)
        woken = _own(kernel, word, count)
        return woken + (_own(kernel, second, moved) if holds else 0)
    if command == _CMP_REQUEUE and int.from_bytes(kernel.space.read(word, 4), "little") != third & 0xFFFFFFFF:
        raise failure(errno.EAGAIN)
    woken = _own(kernel, word, count)
    followers = kernel.futexes.get(word, [])[:moved]
    for waiter in followers if word != second else ():
        _leave(kernel, waiter)
        waiter.word = second
        _queue(kernel, waiter)
    return woken + len(followers)


def _both_shared(kernel: Kernel, command: int, word: int, count: int, moved: int, second: int, third: int) -> int:
    """The host does it for other processes; threads of ours are woken, and look for themselves."""
    base = kernel.space.base
    result = host.call("futex", base + word, command, count, moved, base + second, third)
    woken = _own(kernel, word, count + (0 if command == _WAKE_OP else moved))
    if command == _WAKE_OP:
        woken += _own(kernel, second, moved)
    return result + woken


def _operate(kernel: Kernel, word: int, encoded: int) -> bool:
    """Change a word as FUTEX_WAKE_OP says: whether its comparison holds for what was there."""
    operation, comparison, operand, compared = (encoded >> at & mask for at, mask in
                                                ((28, 15), (24, 15), (12, 0xFFF), (0, 0xFFF)))
    if operation & 8:
        operand = 1 << (operand & 31)
    elif operand & 0x800:
        operand -= 0x1000
    if compared & 0x800:
        compared -= 0x1000
    kernel.space.check(word, 4, WRITE)
    old = int.from_bytes(kernel.space.read(word, 4), "little", signed=True)
    results = {0: operand, 1: old + operand, 2: old | operand, 3: old & ~operand, 4: old ^ operand}
    holds = {0: old == compared, 1: old != compared, 2: old < compared, 3: old <= compared, 4: old > compared,
             5: old >= compared}
    if operation & 7 not in results:
        raise failure(errno.ENOSYS)
    kernel.space.write(word, (results[operation & 7] & 0xFFFFFFFF).to_bytes(4, "little"))
    if comparison not in holds:
        raise failure(errno.ENOSYS)
    return holds[comparison]


# Locks that are handed over (FUTEX_*_PI) ------------------------------------------------------------------------------


def _lock(kernel: Kernel, word: int, left: int | None, tries: bool, shared: bool) -> int:
    thread, call = kernel.thread, kernel.thread.call
    waiter = None if call is None else call.waiter
    if waiter is not None and waiter.woken:
        return 0  # whoever unlocked it has made it ours
    kernel.space.check(word, 4, WRITE)
    value = int.from_bytes(kernel.space.read(word, 4), "little")
    if not value & FUTEX_TID:
        if waiter is not None:
            _leave(kernel, waiter)
        waiters = FUTEX_WAITERS if kernel.futexes.get(word) or (value & FUTEX_WAITERS and shared) else 0
        _put(kernel, word, thread.tid | waiters | value & FUTEX_OWNER_DIED)
        return 0
    if value & FUTEX_TID == thread.tid:
        raise failure(errno.EDEADLK)
    if tries:
        raise failure(errno.EAGAIN)
    if value & FUTEX_TID not in kernel.threads.all and not shared:
        raise failure(errno.ESRCH)
    _put(kernel, word, value | FUTEX_WAITERS)
    if waiter is None:
        waiter = Waiter(thread, word, inherits=True)
        _queue(kernel, waiter)
    _stay(kernel, waiter, left, shared, ERESTARTNOINTR)
    raise failure(errno.ETIMEDOUT)


def _unlock(kernel: Kernel, word: int) -> int:
    kernel.space.check(word, 4, WRITE)
    value = int.from_bytes(kernel.space.read(word, 4), "little")
    if value & FUTEX_TID != kernel.thread.tid:
        raise failure(errno.EPERM)
    _hand_over(kernel, word, 0)
    return 0


def _hand_over(kernel: Kernel, word: int, died: int) -> None:
    """Give a lock to who has waited longest, or to nobody."""
    waiting_for = [each for each in kernel.futexes.get(word, ()) if each.inherits]
    if not waiting_for:
        _put(kernel, word, died)
        return
    first = waiting_for[0]
    _put(kernel, word, first.thread.tid | died | (FUTEX_WAITERS if len(waiting_for) > 1 else 0))
    _wake(kernel, first)


def _put(kernel: Kernel, word: int, value: int) -> None:
    kernel.space.write(word, value.to_bytes(4, "little"))


def hand_over_all(kernel: Kernel, thread: Thread) -> None:
    """A thread ends: who waits for a lock that it holds has it now."""
    for word in [word for word, queue in kernel.futexes.items() if any(each.inherits for each in queue)]:
        value = int.from_bytes(kernel.space.read(word, 4), "little")
        if value & FUTEX_TID == thread.tid:
            _hand_over(kernel, word, FUTEX_OWNER_DIED)


CALLS: dict[str, Callable[..., int | None]] = {"futex": futex}
