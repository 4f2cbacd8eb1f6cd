"""openat2 and file handles.

Must not know: what else is done with files.
"""

from __future__ import annotations

import ctypes
import errno
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

from dbt.linux import files, host, paths
from dbt.linux.host import failure, int32

if TYPE_CHECKING:
    from dbt.linux.kernel import Kernel

_HOW = struct.Struct("<QQQ")  # struct open_how: flags, mode, resolve; the host's is the same
_LARGEFILE = 0o100000
_RESOLVE_NO_SYMLINKS, _RESOLVE_IN_ROOT = 0x04, 0x10
_MOST_HANDLE_BYTES = 128
_MNT_ID_UNIQUE = 1


def openat2(kernel: Kernel, directory_fd: int, path: int, how: int, size: int) -> int:
    if size < _HOW.size:
        raise failure(errno.EINVAL)
    given = kernel.space.read(how, min(size, 4096))
    if size > 4096 or any(given[_HOW.size:]):
        raise failure(errno.E2BIG)
    flags, mode, resolve = _HOW.unpack_from(given)
    known = kernel.abi.OPEN_FLAGS
    if flags & ~(sum(known.values()) | _LARGEFILE):
        raise failure(errno.EINVAL)
    name = kernel.whole(directory_fd, kernel.path(path))
    own = None if resolve & _RESOLVE_IN_ROOT else paths.own_file(kernel, name, files.host_flags(kernel, flags))
    if own is not None:
        return kernel.descriptors.add(own, bool(flags & known["O_CLOEXEC"]))
    if resolve & _RESOLVE_IN_ROOT and name.startswith(b"/"):
        directory = kernel.at(directory_fd, b"", empty=True)[0]
    else:
        follow = not (flags & known["O_NOFOLLOW"] or resolve & _RESOLVE_NO_SYMLINKS)
        directory, name = kernel.at(directory_fd, name, follow=follow)
    passed = _HOW.pack(files.host_flags(kernel, flags) | 0o2000000, mode, resolve)
    opened = host.call("openat2", directory, name, passed, _HOW.size)
    return kernel.descriptors.add(opened, bool(flags & known["O_CLOEXEC"]))


def _handle(kernel: Kernel, address: int) -> bytes:
    count = kernel.space.load(address, 4)
    if count > _MOST_HANDLE_BYTES:
        raise failure(errno.EINVAL)
    return kernel.space.read(address, 8 + count)


def name_to_handle_at(kernel: Kernel, directory_fd: int, path: int, handle: int, mount: int, flags: int) -> None:
    directory, name = kernel.at(directory_fd, kernel.path(path), empty=True)
    given = _handle(kernel, handle)
    found, identity = ctypes.create_string_buffer(given, len(given)), ctypes.create_string_buffer(8)
    size = 8 if flags & _MNT_ID_UNIQUE else 4
    try:
        host.call("name_to_handle_at", directory, name, found, identity, int32(flags))
    except OSError as error:
        if error.errno == errno.EOVERFLOW:  # how large a handle has to be
            kernel.space.write(handle, found.raw[:4])
            kernel.space.write(mount, identity.raw[:size])
        raise
    kernel.space.write(handle, found.raw)
    kernel.space.write(mount, identity.raw[:size])


def open_by_handle_at(kernel: Kernel, mount_fd: int, handle: int, flags: int) -> int:
    given = _handle(kernel, handle)
    mount = int32(mount_fd)
    where = mount if mount == host.AT_FDCWD else kernel.fd(mount)
    opened = host.call("open_by_handle_at", where, given, files.host_flags(kernel, flags) | 0o2000000)
    return kernel.descriptors.add(opened, bool(flags & kernel.abi.OPEN_FLAGS["O_CLOEXEC"]))


CALLS: dict[str, Callable[..., int | None]] = {
    "openat2": openat2, "name_to_handle_at": name_to_handle_at, "open_by_handle_at": open_by_handle_at,
}
