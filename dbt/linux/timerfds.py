"""Timers as descriptors: the host's, or in a deterministic run an eventfd that virtual time counts up.

Owns: `Countdown`, and how virtual time goes on while the guest waits for a descriptor. Must not know: what else a
descriptor is.
"""

from __future__ import annotations

import errno
import os
import re
import select
from collections.abc import Callable
from typing import TYPE_CHECKING

from dbt.linux import host
from dbt.linux import time as guest_time
from dbt.linux.blocking import Interrupted
from dbt.linux.host import failure, int32

if TYPE_CHECKING:
    from dbt.linux.kernel import Kernel

_CLOEXEC, _NONBLOCK = 0o2000000, 0o4000
_CLOCKS = frozenset((0, 1, 7, 8, 9))  # REALTIME, MONOTONIC, BOOTTIME and the two that wake the machine
_ABSOLUTE, _CANCEL_ON_SET = 1, 2
_SIZE = 32  # of struct itimerspec
_IDENTITY = re.compile(rb"^eventfd-id:\s*(\d+)", re.MULTILINE)


class Countdown:
    """One timer. `next` is the point of virtual time at which it expires, or None."""

    def __init__(self, clock: int, descriptor: int) -> None:
        self.clock = clock
        self.descriptor = descriptor  # of ours, for the same eventfd
        self.next: int | None = None
        self.interval = 0

    def pass_time(self, now: int) -> None:
        """Count what has expired until `now`."""
        count, self.next = guest_time.expiries(self.next, self.interval, now)
        if count:
            os.eventfd_write(self.descriptor, count)

    def set(self, now: int, first: int, interval: int) -> None:
        if counted(self.descriptor):
            os.eventfd_read(self.descriptor)  # what expired before is forgotten
        self.next, self.interval = (now + first if first else None), interval


def identity(descriptor: int) -> int:
    """The number of an eventfd, the same for all its descriptors; -1 for another file."""
    with open(f"/proc/self/fdinfo/{descriptor}", "rb") as file:
        found = _IDENTITY.search(file.read())
    return int(found[1]) if found else -1


def timer_of(kernel: Kernel, descriptor: int) -> Countdown | None:
    """The virtual timer behind a host descriptor."""
    return kernel.timers.get(identity(descriptor)) if kernel.timers else None


def before_read(kernel: Kernel, descriptor: int) -> None:
    """A read of a timer that has not expired waits for it: virtual time goes on until it has."""
    timer = timer_of(kernel, descriptor)
    if timer is None:
        return
    timer.pass_time(kernel.virtual_time())
    if kernel.threads.several:  # others may have something to do until then
        return
    if timer.next is not None and os.get_blocking(descriptor) and not counted(descriptor):
        kernel.slept += timer.next - kernel.virtual_time()
        timer.pass_time(kernel.virtual_time())


def counted(descriptor: int) -> bool:
    """Whether an eventfd's count is above 0."""
    asked = select.poll()
    asked.register(descriptor, select.POLLIN)
    return bool(asked.poll(0))


def virtual_wait(kernel: Kernel, timeout: int | None, poll: Callable[[int | None], int],
                 restart: int) -> tuple[int, int | None]:
    """Wait by `poll(nanoseconds, or None for ever)` while virtual time passes: (what it found, what is left).

    Nothing that virtual time brings is waited for in earnest: it goes on to the next timer, or to the timeout.
    Interrupted with `restart` if one of the timers sends a signal.
    """
    end = None if timeout is None else kernel.virtual_time() + timeout
    while True:
        now = kernel.virtual_time()
        for timer in kernel.timers.values():
            timer.pass_time(now)
        expiries = (kernel.alarms.due, *(timer.next for timer in kernel.timers.values()))
        soonest = min((point for point in expiries if point is not None), default=None)
        if soonest is None and end is None:
            return poll(None), None
        ready = poll(0)
        if ready or end == now:
            return ready, None if end is None else end - now
        reached = min(point for point in (soonest, end) if point is not None)
        kernel.slept += max(0, reached - now)
        kernel.alarms.catch_up()
        if kernel.signals.interrupting():
            raise Interrupted(restart)


def timerfd_create(kernel: Kernel, clock: int, flags: int) -> int:
    clock = int32(clock)
    if not kernel.deterministic:
        made = host.call("timerfd_create", clock, int32(flags) | _CLOEXEC)
        return kernel.descriptors.add(made, bool(flags & _CLOEXEC))
    if clock not in _CLOCKS or flags & ~(_CLOEXEC | _NONBLOCK):
        raise failure(errno.EINVAL)
    made = os.eventfd(0, os.EFD_CLOEXEC | (os.EFD_NONBLOCK if flags & _NONBLOCK else 0))
    timer = Countdown(clock, os.dup(made))
    number = kernel.descriptors.add(made, bool(flags & _CLOEXEC))
    kernel.timers[identity(timer.descriptor)] = timer
    return number


def _specification(first: int, interval: int) -> dict[str, int]:
    seconds, nanoseconds = divmod(first, 1_000_000_000)
    again, rest = divmod(interval, 1_000_000_000)
    return {"value_sec": seconds, "value_nsec": nanoseconds, "interval_sec": again, "interval_nsec": rest}


def timerfd_settime(kernel: Kernel, fd: int, flags: int, new: int, old: int) -> None:
    descriptor = kernel.fd(fd)
    if not kernel.deterministic:
        given = kernel.space.source(new, _SIZE) if new else None
        host.call("timerfd_settime", descriptor, int32(flags), given, kernel.space.target(old, _SIZE) if old else None)
        if old:
            kernel.space.arrived(old, _SIZE)
        return
    interval, first = kernel.take_time(new), kernel.take_time(new + 16)
    timer = timer_of(kernel, descriptor)
    if timer is None or flags & ~(_ABSOLUTE | _CANCEL_ON_SET):
        raise failure(errno.EINVAL)
    if old:
        timerfd_gettime(kernel, fd, old)
    now = kernel.virtual_time()
    if first and flags & _ABSOLUTE:
        first = max(1, first - guest_time.now(kernel, timer.clock))
    timer.set(now, first, interval)


def timerfd_gettime(kernel: Kernel, fd: int, result: int) -> None:
    descriptor = kernel.fd(fd)
    if not kernel.deterministic:
        host.call("timerfd_gettime", descriptor, kernel.space.target(result, _SIZE))
        kernel.space.arrived(result, _SIZE)
        return
    timer = timer_of(kernel, descriptor)
    if timer is None:
        raise failure(errno.EINVAL)
    timer.pass_time(kernel.virtual_time())
    left = 0 if timer.next is None else timer.next - kernel.virtual_time()
    kernel.put(result, "itimerspec", **_specification(left, timer.interval))


CALLS: dict[str, Callable[..., int | None]] = {
    "timerfd_create": timerfd_create, "timerfd_settime": timerfd_settime, "timerfd_gettime": timerfd_gettime,
}
