"""What of the mount interface is no row of `passed.py`: structures that hold descriptors, values of several kinds.

Must not know: what is mounted. All of it is by the host's privileges.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

from dbt.linux import host
from dbt.linux.host import failure, int32
from dbt.linux.passed import string

if TYPE_CHECKING:
    from dbt.linux.kernel import Kernel

_SMALLEST, _LARGEST = 32, 4096  # of struct mount_attr
_IDMAP = 0x00100000
_OPEN_TREE_CLOEXEC = 0o2000000
_SET_BINARY, _SET_PATH, _SET_PATH_EMPTY, _SET_FD = 2, 3, 4, 5


def fsconfig(kernel: Kernel, fd: int, command: int, key: int, value: int, auxiliary: int) -> int:
    context, command, auxiliary = kernel.fd(fd), int32(command), int32(auxiliary)
    given: int | bytes | None = string(kernel, value)
    if command in (_SET_PATH, _SET_PATH_EMPTY):
        auxiliary, given = kernel.at(auxiliary, kernel.path(value), empty=command == _SET_PATH_EMPTY)
    elif command == _SET_BINARY:
        given = kernel.space.source(value, auxiliary)
    elif command == _SET_FD:
        auxiliary = kernel.fd(auxiliary)
    return host.call("fsconfig", context, command, string(kernel, key), given, auxiliary)


def _attributes(kernel: Kernel, address: int, size: int) -> bytes:
    if size < _SMALLEST:
        raise failure(errno.EINVAL)
    if size > _LARGEST:
        raise failure(errno.E2BIG)
    data = bytearray(kernel.space.read(address, size))
    wanted, _clear, _propagation, namespace = struct.unpack_from("<4Q", data)
    if wanted & _IDMAP:
        struct.pack_into("=Q", data, 24, kernel.fd(namespace))
    return bytes(data)


def mount_setattr(kernel: Kernel, directory_fd: int, path: int, flags: int, attributes: int, size: int) -> None:
    directory, name = kernel.at(directory_fd, kernel.path(path), empty=True)
    host.call("mount_setattr", directory, name, int32(flags), _attributes(kernel, attributes, size), size)


def open_tree_attr(kernel: Kernel, directory_fd: int, path: int, flags: int, attributes: int, size: int) -> int:
    directory, name = kernel.at(directory_fd, kernel.path(path), empty=True)
    given = _attributes(kernel, attributes, size) if size else None
    made = host.call("open_tree_attr", directory, name, int32(flags) | _OPEN_TREE_CLOEXEC, given, size)
    return kernel.descriptors.add(made, bool(flags & _OPEN_TREE_CLOEXEC))


CALLS: dict[str, Callable[..., int | None]] = {
    "fsconfig": fsconfig, "mount_setattr": mount_setattr, "open_tree_attr": open_tree_attr,
}
