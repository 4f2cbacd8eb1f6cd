"""Waiting for descriptors: ppoll and pselect6, both by the host's ppoll.

Must not know: what the descriptors are.
"""

from __future__ import annotations

import ctypes
import errno
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

from dbt.linux import signals
from dbt.linux.blocking import ERESTARTNOHAND
from dbt.linux.exits import Waits
from dbt.linux.host import failure, int32

if TYPE_CHECKING:
    from dbt.linux.kernel import Kernel

_IN, _PRI, _OUT, _ERR, _HUP, _NVAL = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_RDNORM, _RDBAND, _WRNORM, _WRBAND = 0x40, 0x80, 0x100, 0x200
_READ_SET = _IN | _RDNORM | _RDBAND | _HUP | _ERR
_WRITE_SET = _OUT | _WRNORM | _WRBAND | _ERR
_EXCEPT_SET = _PRI


def _wait(kernel: Kernel, wanted: list[tuple[int, int]], timeout: int | None, told: int) -> list[int]:
    """Poll (host descriptor, events) pairs: the events found. What is left of the timeout is written to `told`."""
    array = ctypes.create_string_buffer(b"".join(struct.pack("<ihh", fd, events, 0) for fd, events in wanted),
                                        8 * len(wanted) + 1)
    left: int | None = None

    def poll(limit: int | None) -> int:
        nonlocal left
        if limit is None:
            return kernel.blocking("ppoll", array, len(wanted), None, None, 0)
        time = ctypes.create_string_buffer(struct.pack("<qq", *divmod(limit, 1_000_000_000)), 16)
        try:
            return kernel.blocking("ppoll", array, len(wanted), time, None, 0)
        finally:
            seconds, nanoseconds = struct.unpack("<qq", time.raw)
            left = seconds * 1_000_000_000 + nanoseconds

    try:
        if kernel.threads.several:
            from dbt.linux import waiting

            limit = None if timeout is None else timeout - waiting.waited(kernel)
            try:
                waiting.until(kernel, lambda: poll(0) or None, polled=wanted, left=limit, restart=ERESTARTNOHAND)
            finally:
                left = None if limit is None else max(0, limit)
        elif kernel.deterministic:
            from dbt.linux.timerfds import virtual_wait  # not for other runs

            left = virtual_wait(kernel, timeout, poll, ERESTARTNOHAND)[1]
        else:
            poll(timeout)
    except Waits:
        told = 0
        raise
    finally:
        if told and left is not None:
            seconds, nanoseconds = divmod(left, 1_000_000_000)
            kernel.put(told, "timespec", tv_sec=seconds, tv_nsec=nanoseconds)
    found = [struct.unpack_from("<H", array, 8 * index + 6)[0] for index in range(len(wanted))]
    return found


def _timeout(kernel: Kernel, address: int) -> int | None:
    return kernel.take_time(address) if address else None


def ppoll(kernel: Kernel, polled: int, count: int, timeout: int, mask: int, mask_size: int) -> int:
    count &= 0xFFFFFFFF
    if count > kernel.descriptors.limit:
        raise failure(errno.EINVAL)
    waiting = signals.mask_argument(kernel, mask, mask_size)
    rows = list(struct.iter_unpack("<ihh", kernel.space.read(polled, 8 * count)))
    limit = _timeout(kernel, timeout)
    wanted: list[tuple[int, int]] = []
    invalid = set()
    for index, (fd, events, _revents) in enumerate(rows):
        try:
            wanted.append((kernel.descriptors.host(fd) if fd >= 0 else -1, events))
        except OSError:
            invalid.add(index)
            wanted.append((-1, 0))
    with kernel.signals.masked(waiting):
        found = _wait(kernel, wanted, 0 if invalid else limit, timeout)
    for index in invalid:
        found[index] = _NVAL
    data = b"".join(struct.pack("<ihH", fd, events, seen)
                    for (fd, events, _revents), seen in zip(rows, found, strict=True))
    if data:
        kernel.space.write(polled, data)
    return sum(1 for seen in found if seen)


def pselect6(kernel: Kernel, count: int, reading: int, writing: int, exceptional: int, timeout: int,
             mask: int) -> int:
    count = int32(count)
    if count < 0:
        raise failure(errno.EINVAL)
    count = min(count, kernel.descriptors.limit)
    size = (count + 63) // 64 * 8
    sets = [(address, meaning, int.from_bytes(kernel.space.read(address, size), "little") if address else 0)
            for address, meaning in ((reading, _READ_SET), (writing, _WRITE_SET), (exceptional, _EXCEPT_SET))]
    limit = _timeout(kernel, timeout)
    waiting = None
    if mask:
        address, size_of_mask = struct.unpack("<QQ", kernel.space.read(mask, 16))
        waiting = signals.mask_argument(kernel, address, size_of_mask)
    numbers, wanted = [], []
    for fd in range(count):
        events = sum(meaning & ~(_HUP | _ERR) for _address, meaning, bits in sets if bits >> fd & 1)
        if events:
            numbers.append(fd)
            wanted.append((kernel.descriptors.host(fd), events))
    with kernel.signals.masked(waiting):
        found = _wait(kernel, wanted, limit, timeout)
    total = 0
    for address, meaning, bits in sets:
        answer = sum(1 << fd for fd, seen in zip(numbers, found, strict=True) if bits >> fd & 1 and seen & meaning)
        total += answer.bit_count()
        if address:
            kernel.space.write(address, answer.to_bytes(size, "little"))
    return total


CALLS: dict[str, Callable[..., int | None]] = {"ppoll": ppoll, "pselect6": pselect6}
