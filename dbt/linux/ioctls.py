"""ioctl: terminals, network interfaces, files and devices, by the guest's table of requests.

Numbers and structures are the same on every host we have (asm-generic/ioctls.h). Must not know: reading and writing. A
request that is not in the table is not for this kind of file: ENOTTY; the host must not be given one whose argument
may hold pointers.
"""

from __future__ import annotations

import ctypes
import errno
import struct
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from dbt.linux import host
from dbt.linux.host import failure, int32

if TYPE_CHECKING:
    from dbt.linux.descriptors import Descriptor
    from dbt.linux.kernel import Kernel

_CLOEXEC = 0o2000000
_IFREQ_SIZE = 40


class Request(NamedTuple):
    name: str
    kind: str
    size: int


@cache
def _requests(rows: str) -> dict[int, Request]:
    found = {}
    for line in rows.strip().splitlines():
        name, number, kind, *size = line.split()
        found[int(number, 16)] = Request(name, kind, int(size[0]) if size else 0)
    return found


def ioctl(kernel: Kernel, fd: int, request: int, argument: int) -> int:
    entry = kernel.descriptors.get(int32(fd))
    number = request & 0xFFFFFFFF
    row = _requests(kernel.abi.ioctl_rows()).get(number)
    if row is None:
        raise failure(errno.ENOTTY)
    special = _SPECIAL.get(row.kind)
    if special is not None:
        return special(kernel, entry, number, row, argument)
    space, address = kernel.space, 0
    if row.kind != "out":
        address = space.source(argument, row.size)
    if row.kind != "in":
        address = space.target(argument, row.size)
    result = kernel.blocking("ioctl", entry.host, number, address)
    if row.kind != "in":
        space.arrived(argument, row.size)
    return result


def _number(kernel: Kernel, entry: Descriptor, number: int, row: Request, argument: int) -> int:
    return kernel.blocking("ioctl", entry.host, number, int32(argument))


def _flag(kernel: Kernel, entry: Descriptor, number: int, row: Request, argument: int) -> int:
    """Close on exec: the guest's own flag."""
    entry.close_on_exec = row.name == "FIOCLEX"
    return 0


def _opens(kernel: Kernel, entry: Descriptor, number: int, row: Request, argument: int) -> int:
    """The argument, where there is one, is a set of open flags."""
    from dbt.linux.files import host_flags

    made = host.call("ioctl", entry.host, number, host_flags(kernel, argument) | _CLOEXEC)
    always = row.name != "TIOCGPTPEER"
    return kernel.descriptors.add(made, always or bool(argument & kernel.abi.OPEN_FLAGS["O_CLOEXEC"]))


def _descriptor(kernel: Kernel, entry: Descriptor, number: int, row: Request, argument: int) -> int:
    return host.call("ioctl", entry.host, number, kernel.fd(argument))


def _range(kernel: Kernel, entry: Descriptor, number: int, row: Request, argument: int) -> int:
    """struct file_clone_range: a descriptor, then three numbers."""
    source, *rest = struct.unpack("<q3Q", kernel.space.read(argument, 32))
    return host.call("ioctl", entry.host, number, struct.pack("=q3Q", kernel.fd(source), *rest))


def _list(kernel: Kernel, entry: Descriptor, number: int, row: Request, argument: int) -> int:
    """struct ifconf: bytes of room, and where the list goes; without a place, how long it would be."""
    length, buffer = struct.unpack("<i4xQ", kernel.space.read(argument, 16))
    if length < 0:
        raise failure(errno.EINVAL)
    room = min(length, 1024 * _IFREQ_SIZE)
    there = kernel.space.target(buffer, room) if buffer else 0
    given = ctypes.create_string_buffer(struct.pack("=i4xQ", room, there), 16)
    result = host.call("ioctl", entry.host, number, given)
    used = struct.unpack_from("=i", given)[0]
    if buffer:
        kernel.space.arrived(buffer, used)
    kernel.space.write(argument, used.to_bytes(4, "little"))
    return result


_SPECIAL: dict[str, Callable[[Kernel, Descriptor, int, Request, int], int]] = {
    "number": _number, "flag": _flag, "opens": _opens, "fd": _descriptor, "range": _range, "list": _list,
}

CALLS: dict[str, Callable[..., int | None]] = {"ioctl": ioctl}
