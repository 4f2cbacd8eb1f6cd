"""Futexes that are locks, and are handed over by the kernel (FUTEX_*_PI): their word holds the owner's number.

A lock in shared memory may be another process's, which asks for it again and again. Threads that wait for one have no
priorities to hand on. Owns: these commands of futex. Must not know: threads' turns.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from dbt.linux.blocking import ERESTARTNOINTR
from dbt.linux.futexes import (
    CMP_REQUEUE_PI,
    TRYLOCK_PI,
    UNLOCK_PI,
    WAIT_REQUEUE_PI,
    Waiter,
    enqueue,
    leave,
    move,
    read,
    stay,
    waiter_of,
    wake_one,
)
from dbt.linux.host import failure
from dbt.linux.threads import FUTEX_OWNER_DIED, FUTEX_TID, FUTEX_WAITERS, Thread
from dbt.memory import WRITE

if TYPE_CHECKING:
    from dbt.linux.kernel import Kernel


def carry_out(
    kernel: Kernel, command: int, word: int, value: int, left: int | None, moved: int, second: int, third: int,
    shared: bool,
) -> int:  # fmt: skip
    """One of these commands; `left` are nanoseconds, `moved` what is in the place of a time."""
    if command == UNLOCK_PI:
        return _unlock(kernel, word)
    if command == WAIT_REQUEUE_PI:
        return _wait_for_lock(kernel, word, value, left, second)
    if command == CMP_REQUEUE_PI:
        return _move_to_lock(kernel, word, value, moved, second, third)
    return _lock(kernel, word, left, command == TRYLOCK_PI, shared)


def _lock(kernel: Kernel, word: int, left: int | None, tries: bool, shared: bool) -> int:
    thread, waiter = kernel.thread, waiter_of(kernel)
    if waiter is not None and waiter.woken:
        return 0  # whoever unlocked it has made it ours

    def refused(value: int) -> int:
        """The error of a lock that cannot be waited for, or 0."""
        owner = value & FUTEX_TID
        if owner == thread.tid:
            return errno.EDEADLK
        return errno.EAGAIN if tries else errno.ESRCH if owner not in kernel.threads.all and not shared else 0

    def taken(value: int) -> int:
        if value & FUTEX_TID:
            return value if refused(value) else value | FUTEX_WAITERS
        others = kernel.futexes.get(word, [])
        waiters = FUTEX_WAITERS if [each for each in others if each is not waiter] else value & FUTEX_WAITERS * shared
        return thread.tid | waiters | value & FUTEX_OWNER_DIED

    value = kernel.space.modify(word, 4, taken)
    if not value & FUTEX_TID:
        if waiter is not None:
            leave(kernel, waiter)
        return 0
    if error := refused(value):
        raise failure(error)
    if waiter is None:
        waiter = Waiter(thread, word, inherits=True)
        enqueue(kernel, waiter)
    stay(kernel, waiter, left, shared, ERESTARTNOINTR)
    raise failure(errno.ETIMEDOUT)


def _unlock(kernel: Kernel, word: int) -> int:
    kernel.space.check(word, 4, WRITE)
    if read(kernel, word) & FUTEX_TID != kernel.thread.tid:
        raise failure(errno.EPERM)
    _hand_over(kernel, word, 0)
    return 0


def _wait_for_lock(kernel: Kernel, word: int, value: int, left: int | None, second: int) -> int:
    """Wait at a word until somebody has it wait for the lock that is the second word, and then for that."""
    waiter = waiter_of(kernel)
    if waiter is None:
        if word == second:
            raise failure(errno.EINVAL)
        kernel.space.check(second, 4, WRITE)
        if read(kernel, word) != value:
            raise failure(errno.EAGAIN)
        waiter = Waiter(kernel.thread, word, lock=second)
        enqueue(kernel, waiter)
    elif waiter.woken:
        return 0
    stay(kernel, waiter, left, False, errno.EAGAIN if waiter.inherits else ERESTARTNOINTR)
    raise failure(errno.ETIMEDOUT)


def _move_to_lock(kernel: Kernel, word: int, count: int, moved: int, second: int, expected: int) -> int:
    """Have who waits at a word wait for a lock; if that is free, the first one has it."""
    if count != 1 or word == second:
        raise failure(errno.EINVAL)
    kernel.space.check(second, 4, WRITE)
    if read(kernel, word) != expected:
        raise failure(errno.EAGAIN)
    followers = kernel.futexes.get(word, [])[: 1 + moved]
    if any(each.lock != second for each in followers):
        raise failure(errno.EINVAL)
    held = read(kernel, second)
    if held & FUTEX_TID and held & FUTEX_TID not in kernel.threads.all:
        raise failure(errno.ESRCH)
    for waiter in followers:
        waiter.inherits = True
        move(kernel, waiter, second)
    if followers and held & FUTEX_TID:
        _put(kernel, second, held | FUTEX_WAITERS)
    elif followers:
        _hand_over(kernel, second, held & FUTEX_OWNER_DIED)
    return len(followers)


def _hand_over(kernel: Kernel, word: int, died: int) -> None:
    """Give a lock to who has waited longest, or to nobody."""
    waiting_for = [each for each in kernel.futexes.get(word, ()) if each.inherits]
    if not waiting_for:
        _put(kernel, word, died)
        return
    first = waiting_for[0]
    _put(kernel, word, first.thread.tid | died | (FUTEX_WAITERS if len(waiting_for) > 1 else 0))
    wake_one(kernel, first)


def _put(kernel: Kernel, word: int, value: int) -> None:
    kernel.space.write(word, value.to_bytes(4, "little"))


def hand_over_all(kernel: Kernel, thread: Thread) -> None:
    """A thread ends: who waits for a lock that it holds has it now."""
    for word in [word for word, queue in kernel.futexes.items() if any(each.inherits for each in queue)]:
        if read(kernel, word) & FUTEX_TID == thread.tid:
            _hand_over(kernel, word, FUTEX_OWNER_DIED)
