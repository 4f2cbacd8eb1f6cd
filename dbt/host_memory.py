"""The host's memory: its calls on mappings, and what of a file is copied.

Owns: how they are called. Must not know: guests, address spaces.
"""

from __future__ import annotations

import ctypes
import os
import stat
from mmap import PAGESIZE
from typing import Any

PROT_NONE, PROT_READ, PROT_WRITE = 0, 1, 2
MAP_SHARED, MAP_PRIVATE, MAP_FIXED, MAP_ANONYMOUS, MAP_NORESERVE = 0x01, 0x02, 0x10, 0x20, 0x4000
MREMAP_MAYMOVE, MREMAP_FIXED, MREMAP_DONTUNMAP = 1, 2, 4
MADV_DONTNEED, MADV_REMOVE, MADV_POPULATE_WRITE = 4, 9, 23

_libc = ctypes.CDLL(None, use_errno=True)
_mmap = _libc.mmap
_mmap.restype = ctypes.c_ssize_t
_mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64]
munmap = _libc.munmap
munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
mprotect = _libc.mprotect
mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
mremap = _libc.mremap
mremap.restype = ctypes.c_ssize_t
mremap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p]
madvise = _libc.madvise
madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
msync = _libc.msync
msync.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


class IoVec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


_vm_arguments: list[Any] = [ctypes.c_int, ctypes.POINTER(IoVec), ctypes.c_ulong,
                 ctypes.POINTER(IoVec), ctypes.c_ulong, ctypes.c_ulong]
vm_readv = _libc.process_vm_readv
vm_writev = _libc.process_vm_writev
for _function in (vm_readv, vm_writev):
    _function.restype = ctypes.c_ssize_t
    _function.argtypes = _vm_arguments


def failed() -> OSError:
    """Why the call that was made last has failed."""
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code))


def mmap(address: int, length: int, protection: int, flags: int, fd: int = -1, offset: int = 0) -> int:
    """Where the mapping is. Raises OSError."""
    got = int(_mmap(address, length, protection, flags, fd, offset))
    if got == -1:
        raise failed()
    return got


def release(mappings: tuple[tuple[int, int], ...]) -> None:
    for address, length in mappings:
        munmap(address, length)


def copy_of_file(fd: int, offset: int, length: int) -> tuple[int, int]:
    """Memory of the host's with what `bytes_of_file` gives, filled up to whole pages: its bytes and its address."""
    found = os.fstat(fd)
    size = min(length, found.st_size - offset) if stat.S_ISREG(found.st_mode) else 0
    if size <= 0:
        return 0, 0
    room = -(-size // PAGESIZE) * PAGESIZE
    address = mmap(0, room, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_PRIVATE)
    madvise(address, room, MADV_POPULATE_WRITE)  # or each page is a fault; an older kernel does not know it
    target = memoryview((ctypes.c_ubyte * size).from_address(address))
    done = 0
    try:
        while done < size and (part := os.preadv(fd, [target[done:]], offset + done)):
            done += part
    except OSError:
        munmap(address, room)
        raise
    copied = -(-done // PAGESIZE) * PAGESIZE  # less, if the file was cut short just now
    if copied < room:
        munmap(address + copied, room - copied)
    return copied, address


def bytes_of_file(fd: int, offset: int, length: int) -> bytes:
    """Up to `length` bytes of a file; devices that map but cannot be read give none."""
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        return b""
    parts = []
    while length > 0:
        part = os.pread(fd, min(length, 1 << 24), offset)
        if not part:
            break
        parts.append(part)
        offset += len(part)
        length -= len(part)
    return b"".join(parts)
