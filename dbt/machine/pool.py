"""A pool of host pages, of which the RAM of machines is made: contiguous for a machine, wherever its pages are.

A pool is a file in memory. RAM is a range of host addresses at which pages of it are mapped, in the pool's order or
each by itself at random; so the map of guest pages to pages of the pool is the host's own, and nobody who reaches RAM
by its host address has to know of it. Machines of one pool have no page in common.
Owns: which pages are taken, and the mappings. Must not know: guest addresses, machines.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import weakref
from collections.abc import Iterator, Sequence
from random import Random

PAGE_SHIFT = 12
ROOM = 4096  # mappings that are left to the rest of the process
MOST_MAPPINGS = "/proc/sys/vm/max_map_count"
MAP_FIXED = 0x10
_FAILED = ctypes.c_void_p(-1).value
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)


class Pool:
    """So many bytes of pages. With a `seed` RAM is scattered over them; without, it is in their order."""

    def __init__(self, size: int, seed: int | None = None) -> None:
        """ValueError if the host allows fewer mappings than this could need."""
        self.size = size
        self._free = list(range(size >> PAGE_SHIFT))
        if seed is not None:
            _check_mappings(len(self._free))
            Random(seed).shuffle(self._free)
        self._file = os.memfd_create("dragoman-pool")
        self._closing = weakref.finalize(self, os.close, self._file)
        os.ftruncate(self._file, size)
        self._taken: list[mmap.mmap] = []

    def take(self, size: int) -> tuple[mmap.mmap, Sequence[int]]:
        """RAM of so many bytes, all zeros, and its pages' numbers in the pool. ValueError if there are too few left."""
        count = size >> PAGE_SHIFT
        if count > len(self._free):
            raise ValueError(f"the pool has {len(self._free):,} pages left, of {count:,} that are wanted")
        pages, self._free = self._free[:count], self._free[count:]
        memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._map(address_of(memory), pages)
        self._taken.append(memory)
        return memory, pages

    def _map(self, address: int, pages: Sequence[int]) -> None:
        for at, page, count in runs(pages):
            _map(address + (at << PAGE_SHIFT), count << PAGE_SHIFT, mmap.MAP_SHARED, self._file, page << PAGE_SHIFT)

    def read(self, page: int) -> bytes:
        """What is in a page of the pool."""
        return os.pread(self._file, 1 << PAGE_SHIFT, page << PAGE_SHIFT)

    def close(self) -> None:
        """The host has its pages back. Whatever RAM was taken reads as zeros, for those who still have it."""
        for memory in self._taken:
            _map(address_of(memory), len(memory), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
        self._taken.clear()
        self._closing()


def address_of(memory: mmap.mmap | memoryview) -> int:
    """The host address of its first byte."""
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


def runs(pages: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Pages that follow one another in RAM and in the pool: index of the first in RAM, its page, how many they are."""
    first = 0
    for at in range(1, len(pages) + 1):
        if at == len(pages) or pages[at] != pages[at - 1] + 1:
            yield first, pages[first], at - first
            first = at


def _map(address: int, size: int, flags: int, file: int, offset: int) -> None:
    """Map bytes of a file at an address, over what is there. Raises OSError."""
    found = _libc.mmap(address, size, mmap.PROT_READ | mmap.PROT_WRITE, flags | MAP_FIXED, file, offset)
    if found == _FAILED:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def _check_mappings(wanted: int) -> None:
    """ValueError if the host does not allow the process so many mappings more."""
    with open(MOST_MAPPINGS) as limit, open("/proc/self/maps") as maps:
        most = int(limit.read())
        left = most - sum(1 for _ in maps) - ROOM
    if wanted > left:
        raise ValueError(f"{wanted:,} pages, a mapping each, are more than the {max(left, 0):,} that are left of the "
                         f"host's {most:,} (vm.max_map_count)")  # fmt: skip
