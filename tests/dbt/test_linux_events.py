"""epoll, timers as descriptors and eventfd, called directly."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from support.kernel import BAD, BUFFER, SCRATCH, Guest

IN, OUT, HUP, ONESHOT = 1, 4, 16, 1 << 30
ADD, DELETE, MODIFY = 1, 2, 3


@pytest.fixture(params=[None, 5], ids=["real time", "virtual time"])
def guest(request: pytest.FixtureRequest) -> Iterator[Guest]:
    with closing(Guest(deterministic_seed=request.param)) as made:
        yield made


def pipe(guest: Guest) -> tuple[int, int]:
    guest.ok("pipe2", BUFFER, 0)
    reading, writing = guest.get(BUFFER, "<ii")
    return reading, writing


def watch(guest: Guest, epoll: int, operation: int, fd: int, events: int = 0, data: int = 0) -> int:
    guest.put(SCRATCH, "<IIQ", events, 0xAAAA, data)
    return guest.call("epoll_ctl", epoll, operation, fd, SCRATCH)


def found(guest: Guest, epoll: int, timeout: int = 0, most: int = 8) -> list[tuple[int, int]]:
    count = guest.ok("epoll_pwait", epoll, SCRATCH + 0x100, most, timeout, 0, 0)
    return [(events, data) for events, _pad, data in
            (guest.get(SCRATCH + 0x100 + 16 * index, "<IIQ") for index in range(count))]


def test_epoll_tells_what_is_ready_with_the_guests_data(guest: Guest) -> None:
    epoll = guest.ok("epoll_create1", 0)
    reading, writing = pipe(guest)
    data = 0xFEDC_BA98_7654_3210
    assert watch(guest, epoll, ADD, reading, IN, data) == 0
    assert watch(guest, epoll, ADD, writing, OUT | ONESHOT, 7) == 0
    assert found(guest, epoll) == [(OUT, 7)]
    assert found(guest, epoll) == []
    guest.ok("write", writing, BUFFER, 1)
    assert watch(guest, epoll, MODIFY, writing, OUT, 1 << 63) == 0
    assert sorted(found(guest, epoll)) == [(IN, data), (OUT, 1 << 63)]
    assert len(found(guest, epoll, most=1)) == 1
    assert watch(guest, epoll, DELETE, writing) == 0
    guest.ok("close", writing)
    assert found(guest, epoll) == [(IN | HUP, data)]
    guest.ok("close", reading)  # leaves by itself
    assert found(guest, epoll) == []


def test_epoll_errors(guest: Guest) -> None:
    epoll = guest.ok("epoll_create1", 0)
    reading, writing = pipe(guest)
    assert watch(guest, epoll, ADD, reading, IN) == 0
    rows = [(errno.EEXIST, (epoll, ADD, reading)), (errno.ENOENT, (epoll, MODIFY, writing)),
            (errno.EBADF, (99, ADD, reading)), (errno.EBADF, (epoll, ADD, 99)),
            (errno.EINVAL, (epoll, 9, reading)), (errno.EINVAL, (epoll, ADD, epoll)),
            (errno.EINVAL, (reading, ADD, epoll))]
    for code, arguments in rows:
        assert watch(guest, *arguments) == -code, arguments
    guest.fails(errno.EFAULT, "epoll_ctl", epoll, ADD, 0, BAD)
    guest.fails(errno.EINVAL, "epoll_pwait", epoll, SCRATCH, 0, 0, 0, 0)
    guest.fails(errno.EINVAL, "epoll_pwait", reading, SCRATCH, 1, 0, 0, 0)
    guest.fails(errno.EBADF, "epoll_pwait", 99, SCRATCH, 1, 0, 0, 0)
    guest.fails(errno.EFAULT, "epoll_pwait", epoll, SCRATCH, 1, 0, BAD, 8)
    guest.fails(errno.EINVAL, "epoll_pwait", epoll, SCRATCH, 1, 0, SCRATCH, 4)
    guest.fails(errno.EFAULT, "epoll_pwait2", epoll, SCRATCH, 1, BAD, 0, 0)
    guest.ok("write", writing, BUFFER, 1)
    guest.fails(errno.EFAULT, "epoll_pwait", epoll, BAD, 1, 0, 0, 0)


def test_epoll_waits_as_long_as_it_is_told(guest: Guest) -> None:
    epoll = guest.ok("epoll_create1", 0)
    began, virtual = time.monotonic(), guest.kernel.virtual_time()
    assert found(guest, epoll, 30) == []
    guest.put(SCRATCH, "<qq", 0, 20_000_000)
    assert guest.ok("epoll_pwait2", epoll, BUFFER, 4, SCRATCH, 0, 0) == 0
    if guest.kernel.deterministic:
        assert guest.kernel.virtual_time() - virtual == 50_000_000
    else:
        assert time.monotonic() - began >= 0.05


def timer(guest: Guest, first: int, interval: int = 0, flags: int = 0, clock: int = 1) -> int:
    fd = guest.ok("timerfd_create", clock, flags)
    guest.put(SCRATCH, "<4q", *divmod(interval, 1_000_000_000), *divmod(first, 1_000_000_000))
    guest.ok("timerfd_settime", fd, 0, SCRATCH, 0)
    return fd


def test_timers_expire(guest: Guest) -> None:
    fd = timer(guest, 20_000_000, 10_000_000)
    guest.ok("timerfd_gettime", fd, BUFFER)
    seconds, nanoseconds = guest.get(BUFFER + 16, "<qq")
    assert guest.get(BUFFER, "<qq") == (0, 10_000_000) and seconds == 0 and 0 < nanoseconds <= 20_000_000
    began = guest.kernel.virtual_time() if guest.kernel.deterministic else time.monotonic_ns()
    assert guest.ok("read", fd, BUFFER, 8) == 8 and guest.get(BUFFER, "<Q")[0] >= 1
    now = guest.kernel.virtual_time() if guest.kernel.deterministic else time.monotonic_ns()
    assert now - began >= 19_000_000
    guest.put(BUFFER, "<ihh", fd, IN, 0)
    assert guest.ok("ppoll", BUFFER, 1, 0, 0, 8) == 1 and guest.get(BUFFER, "<ihh") == (fd, IN, IN)
    if guest.kernel.deterministic:
        assert guest.kernel.virtual_time() - began == 30_000_000
        guest.kernel.slept += 25_000_000
        assert guest.ok("read", fd, BUFFER, 8) == 8 and guest.get(BUFFER, "<Q") == (3,)
    guest.put(SCRATCH, "<4q", 0, 0, 0, 0)
    guest.ok("timerfd_settime", fd, 0, SCRATCH, BUFFER)
    assert guest.get(BUFFER, "<qq") == (0, 10_000_000)
    guest.ok("timerfd_gettime", fd, BUFFER)
    assert guest.get(BUFFER, "<4q")[2:] == (0, 0)


def test_timers_wake_epoll_in_their_order(guest: Guest) -> None:
    epoll = guest.ok("epoll_create1", 0)
    for data, after in ((1, 30_000_000), (2, 10_000_000), (3, 60_000_000_000)):
        assert watch(guest, epoll, ADD, timer(guest, after), IN | ONESHOT, data) == 0
    assert [found(guest, epoll, -1), found(guest, epoll, 5_000)] == [[(IN, 2)], [(IN, 1)]]
    assert found(guest, epoll, 20) == []


def test_timer_errors(guest: Guest) -> None:
    fd = timer(guest, 0, flags=0o2004000)
    assert guest.ok("fcntl", fd, 1, 0) == 1
    guest.fails(errno.EAGAIN, "read", fd, BUFFER, 8)
    guest.fails(errno.EINVAL, "timerfd_create", 77, 0)
    guest.fails(errno.EINVAL, "timerfd_create", 1, 1)
    guest.fails(errno.EFAULT, "timerfd_settime", fd, 0, BAD, 0)
    guest.fails(errno.EFAULT, "timerfd_gettime", fd, BAD)
    guest.fails(errno.EBADF, "timerfd_gettime", 99, BUFFER)
    guest.put(SCRATCH, "<4q", 0, 0, 1, 1_000_000_000)
    guest.fails(errno.EINVAL, "timerfd_settime", fd, 0, SCRATCH, 0)
    guest.put(SCRATCH, "<4q", 0, 0, 1, 0)
    guest.fails(errno.EINVAL, "timerfd_settime", fd, 99, SCRATCH, 0)
    guest.fails(errno.EINVAL, "timerfd_gettime", pipe(guest)[0], BUFFER)


def test_absolute_timers_follow_their_clock(guest: Guest) -> None:
    for clock in (0, 1):
        fd = guest.ok("timerfd_create", clock, 0)
        guest.ok("clock_gettime", clock, BUFFER)
        seconds, nanoseconds = guest.get(BUFFER, "<qq")
        guest.put(SCRATCH, "<4q", 0, 0, seconds + 5, nanoseconds)
        guest.ok("timerfd_settime", fd, 1, SCRATCH, 0)
        guest.ok("timerfd_gettime", fd, BUFFER)
        left = guest.get(BUFFER + 16, "<qq")
        assert 4_900_000_000 < left[0] * 1_000_000_000 + left[1] <= 5_000_000_000
        guest.put(SCRATCH, "<4q", 0, 0, max(seconds - 5, 0), 1)  # in the past
        guest.ok("timerfd_settime", fd, 1, SCRATCH, 0)
        assert guest.ok("read", fd, BUFFER, 8) == 8 and guest.get(BUFFER, "<Q") == (1,)


def test_eventfd_counts(guest: Guest) -> None:
    fd = guest.ok("eventfd2", 3, 0o4000)
    guest.put(BUFFER, "<Q", 4)
    assert guest.ok("write", fd, BUFFER, 8) == 8
    assert guest.ok("read", fd, BUFFER, 8) == 8 and guest.get(BUFFER, "<Q") == (7,)
    guest.fails(errno.EAGAIN, "read", fd, BUFFER, 8)
    guest.fails(errno.EINVAL, "read", fd, BUFFER, 4)
