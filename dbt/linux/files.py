"""System calls on files, directories, pipes and descriptors.

Must not know: terminals (terminal.py), waiting for several descriptors (polling.py), mapping (memory_calls.py).
"""

from __future__ import annotations

import ctypes
import errno
import fcntl as host_fcntl
import os
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

from dbt.linux import host, paths
from dbt.linux.host import failure, identity, int32, int64
from dbt.memory import MemoryFault

if TYPE_CHECKING:
    from dbt.linux.kernel import Kernel

_MAX_COUNT = 0x7FFFF000  # what Linux moves at most in one call
_MAX_VECTORS = 1024
_SIGPIPE = 13
_CHUNK = 1 << 20

# Open flags that the host has under the same name; the rest of a guest's flags are dropped as Linux drops them.
_HOST_OPEN_FLAGS = {
    name: getattr(os, name) for name in (
        "O_WRONLY", "O_RDWR", "O_CREAT", "O_EXCL", "O_NOCTTY", "O_TRUNC", "O_APPEND", "O_NONBLOCK", "O_DSYNC",
        "O_DIRECT", "O_DIRECTORY", "O_NOFOLLOW", "O_NOATIME", "O_PATH")
} | {
    "FASYNC": os.O_ASYNC, "__O_SYNC": os.O_SYNC & ~os.O_DSYNC, "__O_TMPFILE": os.O_TMPFILE & ~os.O_DIRECTORY,
}
_FD_CLOEXEC = 1
_F_DUPFD, _F_GETFD, _F_SETFD, _F_GETFL, _F_SETFL, _F_GETLK, _F_SETLK, _F_SETLKW = range(8)
_F_SETOWN, _F_GETOWN, _F_OFD_GETLK, _F_OFD_SETLK, _F_OFD_SETLKW = 8, 9, 36, 37, 38
_F_DUPFD_CLOEXEC, _F_SETPIPE_SZ, _F_GETPIPE_SZ, _F_ADD_SEALS, _F_GET_SEALS = 1030, 1031, 1032, 1033, 1034
_CLOSE_RANGE_CLOEXEC = 4


def _host_flags(kernel: Kernel, guest: int) -> int:
    return sum(host_bit for name, host_bit in _HOST_OPEN_FLAGS.items() if guest & kernel.abi.OPEN_FLAGS[name])


def _guest_flags(kernel: Kernel, flags: int) -> int:
    return sum(kernel.abi.OPEN_FLAGS[name] for name, host_bit in _HOST_OPEN_FLAGS.items() if flags & host_bit)


def _closes_on_exec(kernel: Kernel, flags: int) -> bool:
    return bool(flags & kernel.abi.OPEN_FLAGS["O_CLOEXEC"])


# Opening and closing ------------------------------------------------------------------------------------------


def openat(kernel: Kernel, directory_fd: int, path: int, flags: int, mode: int) -> int:
    name = kernel.path(path)
    close_on_exec = _closes_on_exec(kernel, flags)
    contents = paths.proc_file(kernel, name)
    if contents is not None:
        return kernel.descriptors.add(_memory_file(name, contents), close_on_exec)
    flags = _host_flags(kernel, flags) | os.O_CLOEXEC
    exclusive = flags & os.O_EXCL and flags & os.O_CREAT
    directory, name = kernel.at(directory_fd, name, follow=not (flags & os.O_NOFOLLOW or exclusive))
    opened = kernel.blocking("openat", directory, name, flags, mode & 0o7777)  # a FIFO waits for its other end
    return kernel.descriptors.add(opened, close_on_exec)


def _memory_file(name: bytes, contents: bytes) -> int:
    made = os.memfd_create(os.fsdecode(name.rpartition(b"/")[2]))
    with open(made, "wb", closefd=False) as out:
        out.write(contents)
    os.lseek(made, 0, os.SEEK_SET)
    return made


def close(kernel: Kernel, fd: int) -> None:
    kernel.descriptors.close(int32(fd))


def close_range(kernel: Kernel, first: int, last: int, flags: int) -> None:
    first, last = first & 0xFFFFFFFF, last & 0xFFFFFFFF
    if first > last or flags & ~(_CLOSE_RANGE_CLOEXEC | 2):
        raise failure(errno.EINVAL)
    for number in kernel.descriptors.numbers():
        if first <= number <= last:
            if flags & _CLOSE_RANGE_CLOEXEC:
                kernel.descriptors.get(number).close_on_exec = True
            else:
                kernel.descriptors.close(number)


def dup(kernel: Kernel, fd: int) -> int:
    return kernel.descriptors.add(os.dup(kernel.fd(fd)))


def dup3(kernel: Kernel, old_fd: int, new_fd: int, flags: int) -> int:
    old, new = kernel.fd(old_fd), int32(new_fd)
    if int32(old_fd) == new or flags & ~kernel.abi.OPEN_FLAGS["O_CLOEXEC"]:
        raise failure(errno.EINVAL)
    if not 0 <= new < kernel.descriptors.limit:
        raise failure(errno.EBADF)
    kernel.descriptors.put(new, os.dup(old), _closes_on_exec(kernel, flags))
    return new


def pipe2(kernel: Kernel, pair: int, flags: int) -> None:
    known = sum(kernel.abi.OPEN_FLAGS[name] for name in ("O_CLOEXEC", "O_NONBLOCK", "O_DIRECT"))
    if flags & ~known:
        raise failure(errno.EINVAL)
    kernel.space.check(pair, 8, 2)
    reading, writing = os.pipe2(_host_flags(kernel, flags) | os.O_CLOEXEC)
    try:
        first = kernel.descriptors.add(reading, _closes_on_exec(kernel, flags))
    except OSError:
        os.close(writing)
        raise
    try:
        second = kernel.descriptors.add(writing, _closes_on_exec(kernel, flags))
    except OSError:
        kernel.descriptors.close(first)
        raise
    kernel.space.write(pair, struct.pack("<ii", first, second))


def memfd_create(kernel: Kernel, path: int, flags: int) -> int:
    name = kernel.space.read_cstring(path, 250)
    made = os.memfd_create(os.fsdecode(name), flags & ~1 | os.MFD_CLOEXEC)
    return kernel.descriptors.add(made, bool(flags & 1))


def eventfd2(kernel: Kernel, initial: int, flags: int) -> int:
    made = os.eventfd(initial & 0xFFFFFFFF, _host_flags(kernel, flags) | flags & 1 | os.EFD_CLOEXEC)
    return kernel.descriptors.add(made, _closes_on_exec(kernel, flags))


def fcntl(kernel: Kernel, fd: int, command: int, argument: int) -> int:
    entry = kernel.descriptors.get(int32(fd))
    if command in (_F_DUPFD, _F_DUPFD_CLOEXEC):
        lowest = int32(argument)
        if not 0 <= lowest < kernel.descriptors.limit:
            raise failure(errno.EINVAL)
        return kernel.descriptors.add(os.dup(entry.host), command == _F_DUPFD_CLOEXEC, lowest)
    if command == _F_GETFD:
        return _FD_CLOEXEC if entry.close_on_exec else 0
    if command == _F_SETFD:
        entry.close_on_exec = bool(argument & _FD_CLOEXEC)
        return 0
    if command == _F_GETFL:
        flags = host_fcntl.fcntl(entry.host, host_fcntl.F_GETFL)
        return _guest_flags(kernel, flags) | flags & 0o100000  # O_LARGEFILE, which Linux sets on its own
    if command == _F_SETFL:
        return host_fcntl.fcntl(entry.host, host_fcntl.F_SETFL, _host_flags(kernel, argument))
    if command in (_F_GETLK, _F_SETLK, _F_SETLKW, _F_OFD_GETLK, _F_OFD_SETLK, _F_OFD_SETLKW):
        size = kernel.layout("flock").size
        lock = ctypes.create_string_buffer(kernel.space.read(argument, size), size)
        kernel.blocking("fcntl", entry.host, command, lock)
        if command in (_F_GETLK, _F_OFD_GETLK):
            kernel.space.write(argument, lock.raw)
        return 0
    if command in (_F_SETOWN, _F_GETOWN, _F_SETPIPE_SZ, _F_GETPIPE_SZ, _F_ADD_SEALS, _F_GET_SEALS):
        return host_fcntl.fcntl(entry.host, command, int32(argument))
    raise failure(errno.EINVAL)


def flock(kernel: Kernel, fd: int, operation: int) -> None:
    kernel.blocking("flock", kernel.fd(fd), int32(operation))


# Reading and writing ----------------------------------------------------------------------------------------------


def _receive(kernel: Kernel, address: int, count: int, source: Callable[[int], bytes]) -> int:
    """Read into a buffer, asking for no more than the guest could take."""
    count = min(count, _MAX_COUNT)
    if count == 0:
        return len(source(0))
    data = source(kernel.writable(address, count))
    kernel.space.write(address, data)
    return len(data)


def _read(kernel: Kernel, source: int) -> Callable[[int], bytes]:
    """A function that reads up to so many bytes from a host descriptor."""

    def read_some(wanted: int) -> bytes:
        buffer = ctypes.create_string_buffer(wanted)
        return ctypes.string_at(buffer, kernel.blocking("read", source, buffer, wanted))

    return read_some


def _write(kernel: Kernel, sink: int) -> Callable[[bytes], int]:
    return lambda data: kernel.blocking("write", sink, data, len(data))


def _send(kernel: Kernel, sink: Callable[[bytes], int], data: bytes) -> int:
    try:
        return sink(data)
    except BrokenPipeError:
        kernel.signals.raise_signal(kernel, _SIGPIPE)
        raise


def _buffer(kernel: Kernel, address: int, count: int) -> bytes:
    count = min(count, _MAX_COUNT)
    return kernel.space.read(address, kernel.readable(address, count)) if count else b""


def read(kernel: Kernel, fd: int, buffer: int, count: int) -> int:
    return _receive(kernel, buffer, count, _read(kernel, kernel.fd(fd)))


def write(kernel: Kernel, fd: int, buffer: int, count: int) -> int:
    sink = kernel.fd(fd)
    return _send(kernel, _write(kernel, sink), _buffer(kernel, buffer, count))


def pread64(kernel: Kernel, fd: int, buffer: int, count: int, offset: int) -> int:
    source = kernel.fd(fd)
    return _receive(kernel, buffer, count, lambda wanted: os.pread(source, wanted, _position(offset)))


def pwrite64(kernel: Kernel, fd: int, buffer: int, count: int, offset: int) -> int:
    sink, position = kernel.fd(fd), _position(offset)
    return _send(kernel, lambda data: os.pwrite(sink, data, position), _buffer(kernel, buffer, count))


def _position(offset: int) -> int:
    position = int64(offset)
    if position < 0:
        raise failure(errno.EINVAL)
    return position


def _vectors(kernel: Kernel, vectors: int, count: int) -> list[tuple[int, int]]:
    count = int32(count)
    if not 0 <= count <= _MAX_VECTORS:
        raise failure(errno.EINVAL)
    data = kernel.space.read(vectors, 16 * count)
    found = list(struct.iter_unpack("<QQ", data))
    if sum(length for _address, length in found) >= 1 << 63:
        raise failure(errno.EINVAL)
    return found


def _scatter(kernel: Kernel, vectors: list[tuple[int, int]], source: Callable[[int], bytes]) -> int:
    room = 0
    for address, length in vectors:
        if length == 0:
            continue
        try:
            reach = kernel.writable(address, min(length, _MAX_COUNT))
        except MemoryFault:
            if room == 0:
                raise
            break
        room += reach
        if reach < length:
            break
    data = memoryview(source(min(room, _MAX_COUNT)))
    total = len(data)
    for address, length in vectors:
        if not data:
            break
        part = data[:length]
        kernel.space.write(address, part)
        data = data[length:]
    return total


def _gather(kernel: Kernel, vectors: list[tuple[int, int]]) -> bytes:
    return b"".join(kernel.space.read(address, length) for address, length in vectors if length)


def readv(kernel: Kernel, fd: int, vectors: int, count: int) -> int:
    source = kernel.fd(fd)
    return _scatter(kernel, _vectors(kernel, vectors, count), _read(kernel, source))


def writev(kernel: Kernel, fd: int, vectors: int, count: int) -> int:
    sink = kernel.fd(fd)
    return _send(kernel, _write(kernel, sink), _gather(kernel, _vectors(kernel, vectors, count)))


def preadv(kernel: Kernel, fd: int, vectors: int, count: int, offset: int) -> int:
    source, position = kernel.fd(fd), _position(offset)
    return _scatter(kernel, _vectors(kernel, vectors, count), lambda wanted: os.pread(source, wanted, position))


def pwritev(kernel: Kernel, fd: int, vectors: int, count: int, offset: int) -> int:
    sink, position = kernel.fd(fd), _position(offset)
    data = _gather(kernel, _vectors(kernel, vectors, count))
    return _send(kernel, lambda part: os.pwrite(sink, part, position), data)


def preadv2(kernel: Kernel, fd: int, vectors: int, count: int, offset: int, high: int, flags: int) -> int:
    if flags:
        raise failure(errno.EOPNOTSUPP)
    return readv(kernel, fd, vectors, count) if int64(offset) == -1 else preadv(kernel, fd, vectors, count, offset)


def pwritev2(kernel: Kernel, fd: int, vectors: int, count: int, offset: int, high: int, flags: int) -> int:
    if flags:
        raise failure(errno.EOPNOTSUPP)
    return (writev(kernel, fd, vectors, count) if int64(offset) == -1
            else pwritev(kernel, fd, vectors, count, offset))


def sendfile(kernel: Kernel, out_fd: int, in_fd: int, offset: int, count: int) -> int:
    sink, source = kernel.fd(out_fd), kernel.fd(in_fd)
    count = min(count, _MAX_COUNT)
    if not offset:
        return _send(kernel, lambda _data: kernel.blocking("sendfile", sink, source, None, count), b"")
    kernel.space.check(offset, 8, 2)
    position = _position(kernel.space.load(offset, 8))
    start = ctypes.c_int64(position)
    sent = _send(kernel, lambda _data: kernel.blocking("sendfile", sink, source, ctypes.byref(start), count), b"")
    kernel.space.write(offset, struct.pack("<q", position + sent))
    return sent


def copy_file_range(kernel: Kernel, in_fd: int, in_offset: int, out_fd: int, out_offset: int, count: int,
                    flags: int) -> int:
    source, sink = kernel.fd(in_fd), kernel.fd(out_fd)
    if flags:
        raise failure(errno.EINVAL)
    positions = []
    for pointer in (in_offset, out_offset):
        if pointer:
            kernel.space.check(pointer, 8, 2)
        positions.append(_position(int.from_bytes(kernel.space.read(pointer, 8), "little")) if pointer else None)
    copied = os.copy_file_range(source, sink, min(count, _MAX_COUNT), *positions)
    for pointer, position in zip((in_offset, out_offset), positions, strict=True):
        if position is not None:
            kernel.space.write(pointer, struct.pack("<q", position + copied))
    return copied


def lseek(kernel: Kernel, fd: int, offset: int, whence: int) -> int:
    return os.lseek(kernel.fd(fd), int64(offset), int32(whence))


def ftruncate(kernel: Kernel, fd: int, length: int) -> None:
    os.ftruncate(kernel.fd(fd), _position(length))


def truncate(kernel: Kernel, path: int, length: int) -> None:
    _directory, name = kernel.at(host.AT_FDCWD, kernel.path(path))
    os.truncate(name, _position(length))


def fallocate(kernel: Kernel, fd: int, mode: int, offset: int, length: int) -> None:
    host.call("fallocate", kernel.fd(fd), int32(mode), int64(offset), int64(length))


def fsync(kernel: Kernel, fd: int) -> None:
    os.fsync(kernel.fd(fd))


def fdatasync(kernel: Kernel, fd: int) -> None:
    os.fdatasync(kernel.fd(fd))


def syncfs(kernel: Kernel, fd: int) -> None:
    host.call("syncfs", kernel.fd(fd))


def sync(kernel: Kernel) -> None:
    os.sync()


def fadvise64(kernel: Kernel, fd: int, offset: int, length: int, advice: int) -> None:
    os.posix_fadvise(kernel.fd(fd), int64(offset), int64(length), int32(advice))


def readahead(kernel: Kernel, fd: int, offset: int, count: int) -> None:
    kernel.fd(fd)  # advice: only a bad descriptor is an error


# What files are -----------------------------------------------------------------------------------------------


def _put_stat(kernel: Kernel, address: int, found: os.stat_result) -> None:
    times: dict[str, int] = {}
    for name in ("st_atime", "st_mtime", "st_ctime"):
        times[name], times[f"{name}_nsec"] = divmod(getattr(found, f"{name}_ns"), 1_000_000_000)
    kernel.put(address, "stat", st_dev=found.st_dev, st_ino=found.st_ino, st_mode=found.st_mode,
               st_nlink=found.st_nlink & 0xFFFFFFFF, st_uid=found.st_uid, st_gid=found.st_gid,
               st_rdev=found.st_rdev, st_size=found.st_size, st_blksize=found.st_blksize,
               st_blocks=found.st_blocks, **times)


def fstat(kernel: Kernel, fd: int, result: int) -> None:
    _put_stat(kernel, result, os.fstat(kernel.fd(fd)))


def newfstatat(kernel: Kernel, directory_fd: int, path: int, result: int, flags: int) -> None:
    empty = bool(flags & host.AT_EMPTY_PATH)
    name = kernel.path(path) if path or not empty else b""
    directory, name = kernel.at(directory_fd, name, empty=empty, follow=not flags & host.AT_SYMLINK_NOFOLLOW)
    at = None if directory == host.AT_FDCWD else directory
    if not name:
        found = os.stat(".") if at is None else os.fstat(at)
    else:
        found = os.stat(name, dir_fd=at, follow_symlinks=not flags & host.AT_SYMLINK_NOFOLLOW)
    _put_stat(kernel, result, found)


def statx(kernel: Kernel, directory_fd: int, path: int, flags: int, mask: int, result: int) -> None:
    empty = bool(flags & host.AT_EMPTY_PATH)
    name = kernel.path(path) if path or not empty else b""
    directory, name = kernel.at(directory_fd, name, empty=empty, follow=not flags & host.AT_SYMLINK_NOFOLLOW)
    found = ctypes.create_string_buffer(256)  # the same on every architecture
    host.call("statx", directory, name, int32(flags), mask & 0xFFFFFFFF, found)
    kernel.space.write(result, found.raw)


def statfs(kernel: Kernel, path: int, result: int) -> None:
    _directory, name = kernel.at(host.AT_FDCWD, kernel.path(path))
    found = ctypes.create_string_buffer(kernel.layout("statfs").size + 64)
    host.call("statfs", name, found)
    kernel.space.write(result, found.raw[:kernel.layout("statfs").size])


def fstatfs(kernel: Kernel, fd: int, result: int) -> None:
    found = ctypes.create_string_buffer(kernel.layout("statfs").size + 64)
    host.call("fstatfs", kernel.fd(fd), found)
    kernel.space.write(result, found.raw[:kernel.layout("statfs").size])


def getdents64(kernel: Kernel, fd: int, buffer: int, count: int) -> int:
    directory = kernel.fd(fd)
    count = kernel.writable(buffer, min(count & 0xFFFFFFFF, _CHUNK))
    entries = ctypes.create_string_buffer(count)  # linux_dirent64 is the same on every architecture
    length = host.call("getdents64", directory, entries, count)
    kernel.space.write(buffer, entries.raw[:length])
    return length


def readlinkat(kernel: Kernel, directory_fd: int, path: int, buffer: int, size: int) -> int:
    size = int32(size)
    if size <= 0:
        raise failure(errno.EINVAL)
    name = kernel.path(path)
    if paths.own_name(kernel, name) == b"exe":
        target = kernel.sysroot.guest_path(os.fsencode(kernel.executable))
    else:
        directory, name = kernel.at(directory_fd, name, empty=True, follow=False)
        found = ctypes.create_string_buffer(4096)
        length = host.call("readlinkat", directory, name, found, 4096)
        target = paths.link(kernel, name, found.raw[:length])
    target = target[:size]
    kernel.space.write(buffer, target)
    return len(target)


def faccessat(kernel: Kernel, directory_fd: int, path: int, mode: int) -> None:
    faccessat2(kernel, directory_fd, path, mode, 0)


def faccessat2(kernel: Kernel, directory_fd: int, path: int, mode: int, flags: int) -> None:
    directory, name = kernel.at(directory_fd, kernel.path(path), follow=not flags & host.AT_SYMLINK_NOFOLLOW)
    host.call("faccessat", directory, name, int32(mode), int32(flags))


def _named(kernel: Kernel, directory_fd: int, path: int, flags: int) -> tuple[int, bytes]:
    """The file that the arguments and flags of an *at call mean: a link only where they say so."""
    return kernel.at(directory_fd, kernel.path(path), empty=bool(flags & host.AT_EMPTY_PATH),
                     follow=not flags & host.AT_SYMLINK_NOFOLLOW)


# Changing the tree ------------------------------------------------------------------------------------------------


def getcwd(kernel: Kernel, buffer: int, size: int) -> int:
    current = kernel.sysroot.guest_path(os.getcwdb()) + b"\0"
    if size < len(current):
        raise failure(errno.ERANGE)
    kernel.space.write(buffer, current)
    return len(current)


def chdir(kernel: Kernel, path: int) -> None:
    _directory, name = kernel.at(host.AT_FDCWD, kernel.path(path))
    os.chdir(name)


def fchdir(kernel: Kernel, fd: int) -> None:
    os.fchdir(kernel.fd(fd))


def mkdirat(kernel: Kernel, directory_fd: int, path: int, mode: int) -> None:
    directory, name = kernel.at(directory_fd, kernel.path(path), follow=False)
    host.call("mkdirat", directory, name, mode & 0o7777)


def mknodat(kernel: Kernel, directory_fd: int, path: int, mode: int, device: int) -> None:
    directory, name = kernel.at(directory_fd, kernel.path(path), follow=False)
    host.call("mknodat", directory, name, mode & 0xFFFFFFFF, device)


def unlinkat(kernel: Kernel, directory_fd: int, path: int, flags: int) -> None:
    directory, name = kernel.at(directory_fd, kernel.path(path), follow=False)
    host.call("unlinkat", directory, name, int32(flags))


def renameat2(kernel: Kernel, old_directory_fd: int, old_path: int, new_directory_fd: int, new_path: int,
              flags: int) -> None:
    old = kernel.at(old_directory_fd, kernel.path(old_path), follow=False)
    new = kernel.at(new_directory_fd, kernel.path(new_path), follow=False)
    host.call("renameat2", *old, *new, flags & 0xFFFFFFFF)


def linkat(kernel: Kernel, old_directory_fd: int, old_path: int, new_directory_fd: int, new_path: int,
           flags: int) -> None:
    old = kernel.at(old_directory_fd, kernel.path(old_path), empty=bool(flags & host.AT_EMPTY_PATH),
                    follow=bool(flags & host.AT_SYMLINK_FOLLOW))
    new = kernel.at(new_directory_fd, kernel.path(new_path), follow=False)
    host.call("linkat", *old, *new, int32(flags))


def symlinkat(kernel: Kernel, target_path: int, directory_fd: int, path: int) -> None:
    target = kernel.path(target_path)
    if not target:
        raise failure(errno.ENOENT)
    directory, name = kernel.at(directory_fd, kernel.path(path), follow=False)
    host.call("symlinkat", target, directory, name)


def fchmod(kernel: Kernel, fd: int, mode: int) -> None:
    os.fchmod(kernel.fd(fd), mode & 0o7777)


def fchmodat(kernel: Kernel, directory_fd: int, path: int, mode: int) -> None:
    fchmodat2(kernel, directory_fd, path, mode, 0)


def fchmodat2(kernel: Kernel, directory_fd: int, path: int, mode: int, flags: int) -> None:
    directory, name = _named(kernel, directory_fd, path, flags)
    if not name:
        os.fchmod(directory, mode & 0o7777)
    else:
        host.call("fchmodat", directory, name, mode & 0o7777, int32(flags))


def fchown(kernel: Kernel, fd: int, user: int, group: int) -> None:
    os.fchown(kernel.fd(fd), identity(user), identity(group))


def fchownat(kernel: Kernel, directory_fd: int, path: int, user: int, group: int, flags: int) -> None:
    directory, name = _named(kernel, directory_fd, path, flags)
    host.call("fchownat", directory, name, user & 0xFFFFFFFF, group & 0xFFFFFFFF, int32(flags))


def utimensat(kernel: Kernel, directory_fd: int, path: int, times: int, flags: int) -> None:
    both = kernel.space.read(times, 32) if times else None
    if path:
        directory, name = _named(kernel, directory_fd, path, flags)
    else:  # the form behind futimens
        directory, name = host.AT_FDCWD, b"/proc/self/fd/%d" % kernel.fd(directory_fd)
    if not name:
        name, directory, flags = b"/proc/self/fd/%d" % directory, host.AT_FDCWD, 0
    host.call("utimensat", directory, name, both, int32(flags))


def umask(kernel: Kernel, mask: int) -> int:
    return os.umask(mask & 0o777)


CALLS: dict[str, Callable[..., int | None]] = {
    "openat": openat, "close": close, "close_range": close_range, "dup": dup, "dup3": dup3, "pipe2": pipe2,
    "memfd_create": memfd_create, "eventfd2": eventfd2, "fcntl": fcntl, "flock": flock,
    "read": read, "write": write, "pread64": pread64, "pwrite64": pwrite64, "readv": readv, "writev": writev,
    "preadv": preadv, "pwritev": pwritev, "preadv2": preadv2, "pwritev2": pwritev2, "sendfile": sendfile,
    "copy_file_range": copy_file_range, "lseek": lseek, "ftruncate": ftruncate, "truncate": truncate,
    "fallocate": fallocate, "fsync": fsync, "fdatasync": fdatasync, "syncfs": syncfs, "sync": sync,
    "fadvise64": fadvise64, "readahead": readahead,
    "fstat": fstat, "newfstatat": newfstatat, "statx": statx, "statfs": statfs, "fstatfs": fstatfs,
    "getdents64": getdents64, "readlinkat": readlinkat, "faccessat": faccessat, "faccessat2": faccessat2,
    "getcwd": getcwd, "chdir": chdir, "fchdir": fchdir, "mkdirat": mkdirat, "mknodat": mknodat,
    "unlinkat": unlinkat, "renameat2": renameat2, "linkat": linkat, "symlinkat": symlinkat, "fchmod": fchmod,
    "fchmodat": fchmodat, "fchmodat2": fchmodat2, "fchown": fchown, "fchownat": fchownat, "utimensat": utimensat,
    "umask": umask,
}
