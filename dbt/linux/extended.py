"""System calls on extended attributes.

Must not know: anything else about files.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

from dbt.linux.host import AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW, failure, int32

if TYPE_CHECKING:
    from dbt.linux.kernel import Kernel

_File = bytes | int


def _named(kernel: Kernel, path: int, follow: bool = True) -> bytes:
    return kernel.at(AT_FDCWD, kernel.path(path), follow=follow)[1]


def _deliver(kernel: Kernel, data: bytes, address: int, size: int) -> int:
    if size:
        if size < len(data):
            raise failure(errno.ERANGE)
        kernel.space.write(address, data)
    return len(data)


def _get(kernel: Kernel, file: _File, name: int, value: int, size: int, follow: bool = True) -> int:
    found = os.getxattr(file, kernel.space.read_cstring(name, 256), follow_symlinks=follow)
    return _deliver(kernel, found, value, size)


def _set(kernel: Kernel, file: _File, name: int, value: int, size: int, flags: int, follow: bool = True) -> None:
    if size > 65536:
        raise failure(errno.E2BIG)
    data = kernel.space.read(value, size)
    os.setxattr(file, kernel.space.read_cstring(name, 256), data, int32(flags), follow_symlinks=follow)


def _list(kernel: Kernel, file: _File, value: int, size: int, follow: bool = True) -> int:
    names = os.listxattr(os.fsdecode(file) if isinstance(file, bytes) else file, follow_symlinks=follow)
    return _deliver(kernel, b"".join(os.fsencode(name) + b"\0" for name in names), value, size)


def getxattr(kernel: Kernel, path: int, name: int, value: int, size: int) -> int:
    return _get(kernel, _named(kernel, path), name, value, size)


def lgetxattr(kernel: Kernel, path: int, name: int, value: int, size: int) -> int:
    return _get(kernel, _named(kernel, path, False), name, value, size, False)


def fgetxattr(kernel: Kernel, fd: int, name: int, value: int, size: int) -> int:
    return _get(kernel, kernel.fd(fd), name, value, size)


def setxattr(kernel: Kernel, path: int, name: int, value: int, size: int, flags: int) -> None:
    _set(kernel, _named(kernel, path), name, value, size, flags)


def lsetxattr(kernel: Kernel, path: int, name: int, value: int, size: int, flags: int) -> None:
    _set(kernel, _named(kernel, path, False), name, value, size, flags, False)


def fsetxattr(kernel: Kernel, fd: int, name: int, value: int, size: int, flags: int) -> None:
    _set(kernel, kernel.fd(fd), name, value, size, flags)


def listxattr(kernel: Kernel, path: int, value: int, size: int) -> int:
    return _list(kernel, _named(kernel, path), value, size)


def llistxattr(kernel: Kernel, path: int, value: int, size: int) -> int:
    return _list(kernel, _named(kernel, path, False), value, size, False)


def flistxattr(kernel: Kernel, fd: int, value: int, size: int) -> int:
    return _list(kernel, kernel.fd(fd), value, size)


def removexattr(kernel: Kernel, path: int, name: int) -> None:
    os.removexattr(_named(kernel, path), kernel.space.read_cstring(name, 256))


def lremovexattr(kernel: Kernel, path: int, name: int) -> None:
    os.removexattr(_named(kernel, path, False), kernel.space.read_cstring(name, 256), follow_symlinks=False)


def fremovexattr(kernel: Kernel, fd: int, name: int) -> None:
    os.removexattr(kernel.fd(fd), kernel.space.read_cstring(name, 256))


# The forms with a directory: struct xattr_args is value (u64), size and flags (u32 each).


def _relative(kernel: Kernel, directory_fd: int, path: int, flags: int) -> tuple[_File, bool]:
    """(the file, whether a link at the path's end is followed)."""
    if flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH):
        raise failure(errno.EINVAL)
    follow = not flags & AT_SYMLINK_NOFOLLOW
    directory, name = kernel.at(directory_fd, kernel.path(path), empty=bool(flags & AT_EMPTY_PATH), follow=follow)
    if directory == AT_FDCWD:
        return name or b".", follow
    return (b"/proc/self/fd/%d/%s" % (directory, name), follow) if name else (directory, True)


def _arguments(kernel: Kernel, address: int, size: int) -> tuple[int, int, int]:
    if size < 16:
        raise failure(errno.EINVAL)
    data = kernel.space.read(address, min(size, 4096))
    if size > 4096 or any(data[16:]):
        raise failure(errno.E2BIG)
    value, length, flags = struct.unpack_from("<QII", data)
    return value, length, flags


def getxattrat(kernel: Kernel, directory_fd: int, path: int, at_flags: int, name: int, arguments: int,
               size: int) -> int:
    value, length, flags = _arguments(kernel, arguments, size)
    if flags:
        raise failure(errno.EINVAL)
    file, follow = _relative(kernel, directory_fd, path, at_flags)
    return _get(kernel, file, name, value, length, follow)


def setxattrat(kernel: Kernel, directory_fd: int, path: int, at_flags: int, name: int, arguments: int,
               size: int) -> None:
    value, length, flags = _arguments(kernel, arguments, size)
    file, follow = _relative(kernel, directory_fd, path, at_flags)
    _set(kernel, file, name, value, length, flags, follow)


def listxattrat(kernel: Kernel, directory_fd: int, path: int, at_flags: int, value: int, size: int) -> int:
    file, follow = _relative(kernel, directory_fd, path, at_flags)
    return _list(kernel, file, value, size, follow)


def removexattrat(kernel: Kernel, directory_fd: int, path: int, at_flags: int, name: int) -> None:
    file, follow = _relative(kernel, directory_fd, path, at_flags)
    os.removexattr(file, kernel.space.read_cstring(name, 256), follow_symlinks=follow)


CALLS: dict[str, Callable[..., int | None]] = {
    "getxattr": getxattr, "lgetxattr": lgetxattr, "fgetxattr": fgetxattr, "setxattr": setxattr,
    "lsetxattr": lsetxattr, "fsetxattr": fsetxattr, "listxattr": listxattr, "llistxattr": llistxattr,
    "flistxattr": flistxattr, "removexattr": removexattr, "lremovexattr": lremovexattr,
    "fremovexattr": fremovexattr, "getxattrat": getxattrat, "setxattrat": setxattrat, "listxattrat": listxattrat,
    "removexattrat": removexattrat,
}
