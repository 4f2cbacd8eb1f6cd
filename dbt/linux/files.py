"""System calls on files, directories, pipes and descriptors.

Must not know: requests to devices (ioctls.py), waiting for several descriptors (polling.py), mapping (memory_calls.py).
"""

from __future__ import annotations

import ctypes
import errno
import fcntl as host_fcntl
import os
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dbt.linux import host, paths
from dbt.linux.host import failure, identity, int32, int64
from dbt.linux.vectors import Vectors

if TYPE_CHECKING:
    from dbt.linux.kernel import Kernel

_MAX_COUNT = 0x7FFFF000  # what Linux moves at most in one call
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
_F_OFD_GETLK, _F_OFD_SETLK, _F_OFD_SETLKW, _F_DUPFD_QUERY, _F_DUPFD_CLOEXEC = 36, 37, 38, 1027, 1030
# Commands that the host carries out: SETOWN, GETOWN, SETSIG, GETSIG; SETLEASE, GETLEASE, NOTIFY, CREATED_QUERY;
# SETPIPE_SZ, GETPIPE_SZ, ADD_SEALS, GET_SEALS. Then those with the address of something: its size, and who writes it.
_NUMBERS = frozenset((8, 9, 10, 11, 1024, 1025, 1026, 1028, 1031, 1032, 1033, 1034))
_F_SETOWN_EX, _F_GETOWN_EX = 15, 16
_F_GET_HINT, _F_SET_HINT, _F_GET_FILE_HINT, _F_SET_FILE_HINT = 1035, 1036, 1037, 1038
_GIVEN = {_F_SETOWN_EX: 8, _F_SET_HINT: 8, _F_SET_FILE_HINT: 8}
_FOUND = {_F_GETOWN_EX: 8, _F_GET_HINT: 8, _F_GET_FILE_HINT: 8}
_CLOSE_RANGE_CLOEXEC = 4


def host_flags(kernel: Kernel, guest: int) -> int:
    """The guest's open flags as the host's."""
    return sum(host_bit for name, host_bit in _HOST_OPEN_FLAGS.items() if guest & kernel.abi.OPEN_FLAGS[name])


def _guest_flags(kernel: Kernel, flags: int) -> int:
    return sum(kernel.abi.OPEN_FLAGS[name] for name, host_bit in _HOST_OPEN_FLAGS.items() if flags & host_bit)


def _closes_on_exec(kernel: Kernel, flags: int) -> bool:
    return bool(flags & kernel.abi.OPEN_FLAGS["O_CLOEXEC"])


# Opening and closing ------------------------------------------------------------------------------------------


def openat(kernel: Kernel, directory_fd: int, path: int, flags: int, mode: int) -> int:
    name = kernel.whole(directory_fd, kernel.path(path))
    close_on_exec = _closes_on_exec(kernel, flags)
    flags = host_flags(kernel, flags) | os.O_CLOEXEC
    own = paths.own_file(kernel, name, flags)
    if own is not None:
        return kernel.descriptors.add(own, close_on_exec)
    exclusive = flags & os.O_EXCL and flags & os.O_CREAT
    directory, name = kernel.at(directory_fd, name, follow=not (flags & os.O_NOFOLLOW or exclusive))
    if flags & (os.O_WRONLY | os.O_RDWR):
        _check_runs(kernel, directory, name)
    opened = kernel.blocking("openat", directory, name, flags, mode & 0o7777)  # a FIFO waits for its other end
    return kernel.descriptors.add(opened, close_on_exec)


def _check_runs(kernel: Kernel, directory: int, name: bytes) -> None:
    """ETXTBSY if a file is the guest's program: nobody may write to what is executed."""
    try:
        found = os.stat(name, dir_fd=None if directory == host.AT_FDCWD else directory)
        program = os.stat(kernel.executable)
    except OSError:
        return
    if os.path.samestat(found, program):
        raise failure(errno.ETXTBSY)


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
    reading, writing = os.pipe2(host_flags(kernel, flags) | os.O_CLOEXEC)
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
    made = os.eventfd(initial & 0xFFFFFFFF, host_flags(kernel, flags) | flags & 1 | os.EFD_CLOEXEC)
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
        return host_fcntl.fcntl(entry.host, host_fcntl.F_SETFL, host_flags(kernel, argument))
    if command in (_F_GETLK, _F_SETLK, _F_SETLKW, _F_OFD_GETLK, _F_OFD_SETLK, _F_OFD_SETLKW):
        size = kernel.layout("flock").size
        lock = ctypes.create_string_buffer(kernel.space.read(argument, size), size)
        kernel.blocking("fcntl", entry.host, command, lock)
        if command in (_F_GETLK, _F_OFD_GETLK):
            kernel.space.write(argument, lock.raw)
        return 0
    if command in _NUMBERS:
        return host_fcntl.fcntl(entry.host, command, int32(argument))
    if command in _GIVEN:
        return host.call("fcntl", entry.host, command, kernel.space.source(argument, _GIVEN[command]))
    if command in _FOUND:
        result = host.call("fcntl", entry.host, command, kernel.space.target(argument, _FOUND[command]))
        kernel.space.arrived(argument, _FOUND[command])
        return result
    if command == _F_DUPFD_QUERY:
        return host.call("fcntl", entry.host, command, kernel.fd(argument))
    raise failure(errno.EINVAL)


def flock(kernel: Kernel, fd: int, operation: int) -> None:
    kernel.blocking("flock", kernel.fd(fd), int32(operation))


# Reading and writing ----------------------------------------------------------------------------------------------


def _sent(kernel: Kernel, call: str, *arguments: Any) -> int:
    """A call that writes: a pipe that nobody reads sends SIGPIPE."""
    try:
        return kernel.blocking(call, *arguments)
    except BrokenPipeError:
        kernel.signals.raise_signal(kernel, _SIGPIPE)
        raise


def read(kernel: Kernel, fd: int, buffer: int, count: int) -> int:
    (source, prompt), space = kernel.descriptors.to_move(int32(fd)), kernel.space
    if kernel.timers:
        from dbt.linux.timerfds import before_read

        before_read(kernel, source)
    if kernel.signalfds:
        from dbt.linux import signalfds

        data = signalfds.read(kernel, source, min(count, kernel.writable(buffer, count) if count else 0))
        if data is not None:
            space.write(buffer, data)
            return len(data)
    if (own := _of_memory(kernel, source, False, buffer, count)) is not None:
        return own
    there, count = kernel.target(buffer, min(count, _MAX_COUNT))
    got = (os.readv(source, [space.window(buffer, count)]) if prompt and count
           else kernel.blocking("read", source, there, count))
    space.arrived(buffer, got)
    return got


def _of_memory(kernel: Kernel, descriptor: int, writes: bool, buffer: int, count: int, offset: int | None = None
               ) -> int | None:  # fmt: skip
    """What a read or a write gives of /proc/self/mem; None: it is another file."""
    if not kernel.memory_files:
        return None
    from dbt.linux import own_memory

    return own_memory.moved(kernel, descriptor, writes, buffer, count, offset)


def write(kernel: Kernel, fd: int, buffer: int, count: int) -> int:
    sink, prompt = kernel.descriptors.to_move(int32(fd))
    if (own := _of_memory(kernel, sink, True, buffer, count)) is not None:
        return own
    there, count = kernel.source(buffer, min(count, _MAX_COUNT))
    if prompt and count:
        return os.write(sink, kernel.space.window(buffer, count))
    return _sent(kernel, "write", sink, there, count)


def pread64(kernel: Kernel, fd: int, buffer: int, count: int, offset: int) -> int:
    source, space = kernel.fd(fd), kernel.space
    if (own := _of_memory(kernel, source, False, buffer, count, int64(offset))) is not None:
        return own
    there, count = kernel.target(buffer, min(count, _MAX_COUNT))
    got = kernel.blocking("pread64", source, there, count, int64(offset))
    space.arrived(buffer, got)
    return got


def pwrite64(kernel: Kernel, fd: int, buffer: int, count: int, offset: int) -> int:
    sink = kernel.fd(fd)
    if (own := _of_memory(kernel, sink, True, buffer, count, int64(offset))) is not None:
        return own
    there, count = kernel.source(buffer, min(count, _MAX_COUNT))
    return _sent(kernel, "pwrite64", sink, there, count, int64(offset))


def _position(offset: int) -> int:
    position = int64(offset)
    if position < 0:
        raise failure(errno.EINVAL)
    return position


def readv(kernel: Kernel, fd: int, vectors: int, count: int) -> int:
    source, into = kernel.fd(fd), Vectors(kernel, vectors, count, True)
    got = kernel.blocking("readv", source, into.rows, into.count)
    into.arrived(got)
    return got


def writev(kernel: Kernel, fd: int, vectors: int, count: int) -> int:
    sink, data = kernel.fd(fd), Vectors(kernel, vectors, count, False)
    return _sent(kernel, "writev", sink, data.rows, data.count)


def preadv(kernel: Kernel, fd: int, vectors: int, count: int, offset: int) -> int:
    source, into = kernel.fd(fd), Vectors(kernel, vectors, count, True)
    got = kernel.blocking("preadv", source, into.rows, into.count, int64(offset), 0)
    into.arrived(got)
    return got


def pwritev(kernel: Kernel, fd: int, vectors: int, count: int, offset: int) -> int:
    sink, data = kernel.fd(fd), Vectors(kernel, vectors, count, False)
    return _sent(kernel, "pwritev", sink, data.rows, data.count, int64(offset), 0)


def preadv2(kernel: Kernel, fd: int, vectors: int, count: int, offset: int, high: int, flags: int) -> int:
    """The flags (RWF_*) are the same on every host; at offset -1 the file's own position counts."""
    source, into = kernel.fd(fd), Vectors(kernel, vectors, count, True)
    got = kernel.blocking("preadv2", source, into.rows, into.count, int64(offset), 0, int32(flags))
    into.arrived(got)
    return got


def pwritev2(kernel: Kernel, fd: int, vectors: int, count: int, offset: int, high: int, flags: int) -> int:
    sink, data = kernel.fd(fd), Vectors(kernel, vectors, count, False)
    return _sent(kernel, "pwritev2", sink, data.rows, data.count, int64(offset), 0, int32(flags))


def sendfile(kernel: Kernel, out_fd: int, in_fd: int, offset: int, count: int) -> int:
    sink, source = kernel.fd(out_fd), kernel.fd(in_fd)
    count = min(count, _MAX_COUNT)
    if not offset:
        return _sent(kernel, "sendfile", sink, source, None, count)
    kernel.space.check(offset, 8, 2)
    position = _position(kernel.space.load(offset, 8))
    start = ctypes.c_int64(position)
    sent = _sent(kernel, "sendfile", sink, source, ctypes.byref(start), count)
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
    size = _position(length)
    _check_runs(kernel, host.AT_FDCWD, name)
    os.truncate(name, size)


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
    """linux_dirent64 is the same on every architecture, and so are the offsets in it."""
    directory = kernel.fd(fd)
    count = kernel.writable(buffer, min(count & 0xFFFFFFFF, _CHUNK))
    place = kernel.place(fd)
    if place:
        from dbt.linux import proc

        listed = proc.listed(kernel, place, directory, count)
        if listed is not None:
            kernel.space.write(buffer, listed)
            return len(listed)
    length = host.call("getdents64", directory, kernel.space.target(buffer, count), count)
    kernel.space.arrived(buffer, length)
    return length


def readlinkat(kernel: Kernel, directory_fd: int, path: int, buffer: int, size: int) -> int:
    size = int32(size)
    if size <= 0:
        raise failure(errno.EINVAL)
    name = kernel.path(path)
    if paths.own_name(kernel, kernel.whole(directory_fd, name)) == b"exe":
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
    kernel.moved()


def fchdir(kernel: Kernel, fd: int) -> None:
    os.fchdir(kernel.fd(fd))
    kernel.moved()


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
