"""/proc/self/mem: the guest's memory as a file, at its addresses, whatever its protection (proc(5)).

The host's descriptor is an empty file of ours, which has the position and is told by its identity. Like the open file
that it stands for it can be read and written by read, pread64 and their like; vectors and transfers find it empty.
Owns: that. Must not know: how memory is kept.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from dbt.linux.host import failure
from dbt.memory import WRITE, MemoryFault

if TYPE_CHECKING:
    from dbt.linux.kernel import Kernel

_MOST = 1 << 20  # bytes of one call


def opened(kernel: Kernel, flags: int) -> int:
    """A host descriptor for it, opened with the host's flags."""
    made = os.memfd_create("/proc/self/mem", os.MFD_CLOEXEC)
    kernel.memory_files[_identity(made)] = flags & os.O_ACCMODE
    return made


def _identity(descriptor: int) -> tuple[int, int]:
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino


def moved(kernel: Kernel, descriptor: int, writes: bool, buffer: int, count: int, offset: int | None) -> int | None:
    """Bytes read into a buffer of the guest's, or written from there; None: it is another file. EIO, EBADF, EFAULT.

    At an offset, or else at the file's position, which then moves.
    """
    mode = kernel.memory_files.get(_identity(descriptor))
    if mode is None:
        return None
    if mode == (os.O_RDONLY if writes else os.O_WRONLY):
        raise failure(errno.EBADF)
    space = kernel.space
    address = os.lseek(descriptor, 0, os.SEEK_CUR) if offset is None else offset
    count = (kernel.readable if writes else kernel.writable)(buffer, min(count, _MOST))
    length = _there(kernel, address, count, WRITE if writes else 0)
    try:
        content = space.read(buffer, length) if writes else space.peek(address, length)
        if writes:
            space.poke(address, content)
        else:
            space.write(buffer, content)
    except MemoryFault:  # of a mapped file that is shorter now
        raise failure(errno.EIO) from None
    if offset is None:
        os.lseek(descriptor, address + length, os.SEEK_SET)
    return length


def _there(kernel: Kernel, address: int, count: int, protection: int) -> int:
    """How many bytes from there on are mapped, and may be changed without anybody else seeing it; EIO if none."""
    end = address
    while end < address + count:
        region = kernel.space.region_at(end)
        if region is None or (region.shared and region.protection & protection != protection):
            break
        end = region.end
    if end == address and count:
        raise failure(errno.EIO)
    return min(end - address, count)
