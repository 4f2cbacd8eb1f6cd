"""Futexes: words of the guest's that threads wait at, in this process and, where memory is shared, in others.

What this process's threads wait for is kept here, by the word's address. A word that other processes have, too, is the
host's futex as well: a single thread waits there, and several ask for it again and again, since none may sleep.
Owns: `Waiter`, the queues, waits for one word and for several. Must not know: threads' turns, what a C library makes of
it, locks that are handed over (futex_locks.py).
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from time import monotonic_ns
from typing import TYPE_CHECKING

from dbt.linux import host, waiting
from dbt.linux import time as guest_time
from dbt.linux.blocking import ERESTARTSYS, Interrupted
from dbt.linux.exits import Waits
from dbt.linux.host import failure
from dbt.linux.threads import Thread
from dbt.memory import WRITE
from ir.records import field, record

if TYPE_CHECKING:
    from dbt.linux.kernel import Kernel

_WAIT, _WAKE, _REQUEUE, _CMP_REQUEUE, _WAKE_OP = 0, 1, 3, 4, 5
LOCK_PI, UNLOCK_PI, TRYLOCK_PI, _WAIT_BITSET, _WAKE_BITSET, LOCK_PI2 = 6, 7, 8, 9, 10, 13
WAIT_REQUEUE_PI, CMP_REQUEUE_PI = 11, 12
_LOCKS = frozenset((LOCK_PI, UNLOCK_PI, TRYLOCK_PI, LOCK_PI2, WAIT_REQUEUE_PI, CMP_REQUEUE_PI))
_PRIVATE, _CLOCK_REALTIME, _COMMAND = 0x80, 0x100, 0x7F
_TIMED = frozenset((_WAIT, _WAIT_BITSET, LOCK_PI, LOCK_PI2, WAIT_REQUEUE_PI))  # commands with a time limit
_CLOCKED = frozenset((_WAIT, _WAIT_BITSET, LOCK_PI2, WAIT_REQUEUE_PI))  # that may say which clock it is of
_TWO = frozenset((_REQUEUE, _CMP_REQUEUE, _WAKE_OP, WAIT_REQUEUE_PI, CMP_REQUEUE_PI))  # with a second word
_VECTOR_MOST = 128  # words that futex_waitv waits for
_VECTOR_SIZE32, _VECTOR_PRIVATE = 2, 0x80  # flags of one of them
_REALTIME, _MONOTONIC = 0, 1
_ALL = 0xFFFFFFFF
_MOST = (1 << 31) - 1


@record
class Waiter:
    """A thread's place in the queue of a word; of one that waits for several, its call has the first, with `all`."""

    thread: Thread
    word: int
    bits: int = _ALL
    inherits: bool = False  # it waits for a lock that is handed over
    lock: int = 0  # the one that it is to wait for when it is moved, and else for none
    woken: bool = False
    all: list[Waiter] = field(default_factory=list)


# Queues ---------------------------------------------------------------------------------------------------------------


def enqueue(kernel: Kernel, waiter: Waiter) -> None:
    kernel.futexes.setdefault(waiter.word, []).append(waiter)


def leave(kernel: Kernel, waiter: Waiter) -> None:
    """It waits no longer, nor does what waits with it."""
    for each in waiter.all or (waiter,):
        _dequeue(kernel, each)


def _dequeue(kernel: Kernel, waiter: Waiter) -> None:
    queue = [each for each in kernel.futexes.pop(waiter.word) if each is not waiter]
    if queue:
        kernel.futexes[waiter.word] = queue


def move(kernel: Kernel, waiter: Waiter, word: int) -> None:
    """It waits at another word from now on."""
    _dequeue(kernel, waiter)
    waiter.word = word
    enqueue(kernel, waiter)


def wake_one(kernel: Kernel, waiter: Waiter) -> None:
    leave(kernel, waiter)
    waiter.woken = True
    kernel.signals.wake(waiter.thread)


def waiter_of(kernel: Kernel) -> Waiter | None:
    """The place that the call which is being made has had since before."""
    call = kernel.thread.call
    return None if call is None else call.waiter


def _own(kernel: Kernel, word: int, count: int, bits: int = _ALL) -> int:
    """Wake up to `count` threads of this process: how many there were."""
    queue = kernel.futexes.get(word, ())
    found = [each for each in queue if each.bits & bits and not each.inherits and not each.lock][:count]
    for waiter in found:
        wake_one(kernel, waiter)
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
    if word % 4 or (command in _TWO and second % 4):
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
    if command in _LOCKS:
        from dbt.linux import futex_locks

        left, moved = _left(kernel, operation, limit), timeout & 0xFFFFFFFF
        return futex_locks.carry_out(kernel, command, word, value, left, moved, second, third & 0xFFFFFFFF, shared)
    kernel.space.check(word, 4, 1)
    if any(each.lock or each.inherits for each in kernel.futexes.get(word, ())):
        raise failure(errno.EINVAL)
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
    calendar = command == LOCK_PI or operation & _CLOCK_REALTIME
    return limit - guest_time.now(kernel, _REALTIME if calendar else _MONOTONIC)


def _wait(kernel: Kernel, word: int, value: int, bits: int, left: int | None, shared: bool, restart: int) -> int:
    waiter = waiter_of(kernel)
    if waiter is not None and waiter.woken:
        return 0
    same = read(kernel, word) == value
    if waiter is None:
        if not same:
            raise failure(errno.EAGAIN)
        if not kernel.threads.several:
            return _wait_alone(kernel, word, value, bits, left, shared, restart)
        waiter = Waiter(kernel.thread, word, bits)
        enqueue(kernel, waiter)
    elif shared and not same:  # it was another process that woke us
        leave(kernel, waiter)
        return 0
    stay(kernel, waiter, left, shared, restart)
    raise failure(errno.ETIMEDOUT)


def read(kernel: Kernel, word: int) -> int:
    return int.from_bytes(kernel.space.read(word, 4), "little")


def stay(kernel: Kernel, waiter: Waiter, left: int | None, asks: bool, restart: int) -> None:
    """Wait in a queue; return when time is over, out of it."""
    try:
        waiting.until(kernel, lambda: None, left=left, asks=asks, restart=restart)
    except Waits:
        waiting.begun(kernel).waiter = waiter
        raise
    except Interrupted:
        leave(kernel, waiter)
        raise
    leave(kernel, waiter)


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
    if command == _CMP_REQUEUE and read(kernel, word) != third & 0xFFFFFFFF:
        raise failure(errno.EAGAIN)
    woken = _own(kernel, word, count)
    followers = kernel.futexes.get(word, [])[:moved]
    for waiter in followers if word != second else ():
        move(kernel, waiter, second)
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


# Several words --------------------------------------------------------------------------------------------------------


def futex_waitv(kernel: Kernel, waiters: int, count: int, flags: int, timeout: int, clock: int) -> int:
    if flags or not 0 < count <= _VECTOR_MOST or not waiters:
        raise failure(errno.EINVAL)
    left = None
    if timeout:
        if clock not in (_REALTIME, _MONOTONIC):
            raise failure(errno.EINVAL)
        left = kernel.take_time(timeout) - guest_time.now(kernel, clock)
    rows = [struct.unpack("<QQII", kernel.space.read(waiters + 24 * i, 24)) for i in range(count)]
    for _value, word, how, reserved in rows:
        if how & ~_VECTOR_PRIVATE != _VECTOR_SIZE32 or reserved or word % 4:
            raise failure(errno.EINVAL)
    first = waiter_of(kernel)
    if first is not None and (woken := [i for i, each in enumerate(first.all) if each.woken]):
        return woken[0]
    shared = [not how & _VECTOR_PRIVATE and _is_shared(kernel, word) for _value, word, how, _reserved in rows]
    changed = [i for i, (value, word, *_rest) in enumerate(rows) if read(kernel, word) != value & 0xFFFFFFFF]
    if first is None:
        if changed:
            raise failure(errno.EAGAIN)
        places = [Waiter(kernel.thread, word) for _value, word, *_rest in rows]
        for each in places:
            each.all = places
            enqueue(kernel, each)
        first = places[0]
    elif found := [i for i in changed if shared[i]]:  # it was another process that woke us
        leave(kernel, first)
        return found[0]
    stay(kernel, first, left, any(shared), ERESTARTSYS)
    raise failure(errno.ETIMEDOUT)


CALLS: dict[str, Callable[..., int | None]] = {"futex": futex, "futex_waitv": futex_waitv}
