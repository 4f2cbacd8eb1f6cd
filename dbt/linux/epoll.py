"""epoll: the host's instance, with the guest's layout of events.

Must not know: what the descriptors are. A closed descriptor leaves the host's instance by itself, as each number of
the guest's has a host descriptor of its own.
"""

from __future__ import annotations

import ctypes
import errno
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

from dbt.linux import host
from dbt.linux.blocking import calls
from dbt.linux.host import failure, int32
from dbt.linux.signals import mask_argument

if TYPE_CHECKING:
    from dbt.linux.kernel import Kernel

_DELETE = 2
_MOST_EVENTS = 4096  # that are asked for at once
_LARGEST_COUNT = 0x7FFFFFFF


def epoll_ctl(kernel: Kernel, epoll_fd: int, operation: int, fd: int, event: int) -> None:
    instance, watched, operation = kernel.fd(epoll_fd), kernel.fd(fd), int32(operation)
    given = None
    if operation != _DELETE:
        wanted = kernel.take(event, "epoll_event")
        size, data_at = calls().host.EPOLL_EVENT
        given = ctypes.create_string_buffer(size)
        struct.pack_into("=I", given, 0, wanted["events"])
        struct.pack_into("=Q", given, data_at, wanted["data"])
    host.call("epoll_ctl", instance, operation, watched, given)


def _wait(kernel: Kernel, epoll_fd: int, events: int, count: int, timeout: int | None) -> int:
    instance, count = kernel.fd(epoll_fd), int32(count)
    form = kernel.layout("epoll_event")
    if not 0 < count <= _LARGEST_COUNT // form.size:
        raise failure(errno.EINVAL)
    count = min(count, _MOST_EVENTS)
    size, data_at = calls().host.EPOLL_EVENT
    found = ctypes.create_string_buffer(size * count)

    def poll(limit: int | None) -> int:
        if limit is None:
            return kernel.blocking("epoll_pwait", instance, found, count, -1, None, 8)
        return kernel.blocking("epoll_pwait2", instance, found, count,
                               struct.pack("=qq", *divmod(limit, 1_000_000_000)), None, 8)

    if kernel.threads.several:
        from dbt.linux import waiting

        left = None if timeout is None else timeout - waiting.waited(kernel)
        ready = waiting.until(kernel, lambda: poll(0) or None, polled=((instance, waiting.IN),), left=left,
                              restart=errno.EINTR) or 0
    elif kernel.deterministic:
        from dbt.linux.timerfds import virtual_wait

        ready = virtual_wait(kernel, timeout, poll, errno.EINTR)[0]
    else:
        ready = poll(timeout)
    raw = found.raw
    for index in range(ready):
        at = index * size
        kernel.put(events + index * form.size, "epoll_event", events=struct.unpack_from("=I", raw, at)[0],
                   data=struct.unpack_from("=Q", raw, at + data_at)[0])
    return ready


def epoll_pwait(kernel: Kernel, epoll_fd: int, events: int, count: int, timeout: int, mask: int, size: int) -> int:
    milliseconds = int32(timeout)
    with kernel.signals.masked(mask_argument(kernel, mask, size)):
        return _wait(kernel, epoll_fd, events, count, None if milliseconds < 0 else milliseconds * 1_000_000)


def epoll_pwait2(kernel: Kernel, epoll_fd: int, events: int, count: int, timeout: int, mask: int, size: int) -> int:
    limit = kernel.take_time(timeout) if timeout else None
    with kernel.signals.masked(mask_argument(kernel, mask, size)):
        return _wait(kernel, epoll_fd, events, count, limit)


CALLS: dict[str, Callable[..., int | None]] = {
    "epoll_ctl": epoll_ctl, "epoll_pwait": epoll_pwait, "epoll_pwait2": epoll_pwait2,
}
