"""Clocks and sleeping: the host's, or virtual time when the run is deterministic.

Owns: the mapping from clock numbers to time. Under a deterministic seed one retired instruction is one
nanosecond, the calendar starts at a fixed date, and a sleep moves the clock instead of waiting.
"""

from __future__ import annotations

import errno
import os
import struct
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from dbt.linux.blocking import ERESTART_RESTARTBLOCK, ERESTARTNOHAND, Interrupted, blocking
from dbt.linux.host import failure, int32

if TYPE_CHECKING:
    from dbt.linux.kernel import Kernel

EPOCH = 1_700_000_000 * 1_000_000_000  # 2023-11-14: when every deterministic run begins
_CALENDAR = frozenset((0, 5, 8, 11))  # REALTIME, REALTIME_COARSE, REALTIME_ALARM, TAI
_CPU = frozenset((2, 3))
_KNOWN = frozenset(range(12)) - {10}
_SLEEPABLE = frozenset((0, 1, 2, 7, 8, 9, 11))
_ABSOLUTE = 1
_FAR = (1 << 63) - 1  # nanoseconds: no timer of the kernel's goes further


def now(kernel: Kernel, clock: int) -> int:
    """Nanoseconds of a clock; EINVAL for one that is not there."""
    if kernel.deterministic:
        if clock not in _KNOWN:
            raise failure(errno.EINVAL)
        if clock in _CPU:
            return kernel.clock()
        return kernel.virtual_time() + (EPOCH if clock in _CALENDAR else 0)
    return time.clock_gettime_ns(clock)


def expiries(due: int | None, interval: int, now: int) -> tuple[int, int | None]:
    """How often a timer that was due then, and again at an interval, has expired by now, and when it is due next."""
    if due is None or due > now:
        return 0, due
    if not interval:
        return 1, None
    times = 1 + (now - due) // interval
    return times, due + times * interval


def sleep(kernel: Kernel, duration: int | None, restart: int, ended: Callable[[], bool] | None = None) -> None:
    """Let nanoseconds pass, None: for ever. A signal ends it: Interrupted with `restart`.

    In virtual time nothing is waited for: the clock moves on, from timer to timer.
    """
    ended = ended or kernel.signals.interrupting
    if kernel.threads.several:
        from dbt.linux import waiting

        waiting.until(kernel, lambda: None, left=duration, restart=restart)
        return
    if kernel.deterministic and (duration is not None or kernel.alarms.due is not None):
        kernel.alarms.let_pass(duration, ended)
        if ended():
            raise Interrupted(restart)
    elif duration is None or duration > 0:
        end = None
        if duration is not None:
            end = struct.pack("<qq", *divmod(min(time.monotonic_ns() + duration, _FAR), 1_000_000_000))
        name, arguments = (("ppoll", (None, 0, None, None, 0)) if end is None else
                           ("clock_nanosleep", (time.CLOCK_MONOTONIC, _ABSOLUTE, end, None)))
        blocking(name, arguments, ended, restart=restart, masked=kernel.thread.replaced)


def _put(kernel: Kernel, address: int, nanoseconds: int) -> None:
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    kernel.put(address, "timespec", tv_sec=seconds, tv_nsec=rest)


def clock_gettime(kernel: Kernel, clock: int, result: int) -> None:
    _put(kernel, result, now(kernel, int32(clock)))


def clock_getres(kernel: Kernel, clock: int, result: int) -> None:
    number = int32(clock)
    if kernel.deterministic:
        now(kernel, number)
        resolution = 1
    else:
        resolution = max(1, round(time.clock_getres(number) * 1e9))
    if result:
        _put(kernel, result, resolution)


def gettimeofday(kernel: Kernel, result: int, zone: int) -> None:
    if result:
        seconds, rest = divmod(now(kernel, 0), 1_000_000_000)
        kernel.put(result, "timeval", tv_sec=seconds, tv_usec=rest // 1000)
    if zone:
        kernel.space.write(zone, bytes(8))


def nanosleep(kernel: Kernel, request: int, remaining: int) -> None:
    _sleep_until(kernel, 1, now(kernel, 1) - _waited(kernel) + kernel.take_time(request), remaining)


def clock_nanosleep(kernel: Kernel, clock: int, flags: int, request: int, remaining: int) -> None:
    number = int32(clock)
    if number not in _SLEEPABLE or flags & ~_ABSOLUTE:
        raise failure(errno.EINVAL)
    duration = kernel.take_time(request)
    if flags & _ABSOLUTE:
        sleep(kernel, duration - now(kernel, number), ERESTARTNOHAND)
    else:
        _sleep_until(kernel, number, now(kernel, number) - _waited(kernel) + duration, remaining)


def _waited(kernel: Kernel) -> int:
    """How long the call that is made has slept already, since other threads have run in between."""
    call = kernel.thread.call
    if call is None:
        return 0
    from dbt.linux import waiting

    return waiting.waited(kernel)


def _sleep_until(kernel: Kernel, clock: int, end: int, remaining: int) -> None:
    """Sleep, and when a signal ends that, say how long it would still have been; restart_syscall goes on with it."""
    try:
        sleep(kernel, end - now(kernel, clock), ERESTART_RESTARTBLOCK)
    except Interrupted:
        if remaining:
            _put(kernel, remaining, max(0, end - now(kernel, clock)))
        kernel.thread.restart = lambda: _sleep_until(kernel, clock, end, remaining)
        raise


def times(kernel: Kernel, result: int) -> int:
    if kernel.deterministic:
        ticks, used = kernel.virtual_time() // 10_000_000, [kernel.clock() // 10_000_000, 0, 0, 0]
    else:
        found = os.times()
        ticks = time.monotonic_ns() // 10_000_000
        used = [int(part * 100) for part in found[:4]]
    if result:
        kernel.put(result, "tms", **dict(zip(("tms_utime", "tms_stime", "tms_cutime", "tms_cstime"), used,
                                             strict=True)))
    return ticks


CALLS: dict[str, Callable[..., int | None]] = {
    "clock_gettime": clock_gettime, "clock_getres": clock_getres, "gettimeofday": gettimeofday,
    "nanosleep": nanosleep, "clock_nanosleep": clock_nanosleep, "times": times,
}
