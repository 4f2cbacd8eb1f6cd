"""The code arena: one reserved mapping in which all code of an engine lives, and its fault table.

The mapping is private, so that a forked child's code is its own; pages are writable or executable, never
both, toggled for all placements of a batch together. The fault table has a 32-bit entry for every two bytes of
code: the landing offset of the guest access that starts there, or 0. A placement takes the smallest free range that
is large enough, and of several the first; free ranges that touch become one.
Owns: placement, freeing, protection, relocation. Must not know: what code means or who links to it.
"""

from __future__ import annotations

import ctypes
import mmap
import struct
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dbt.code import Code

PAGE = 4096
ALIGN = 16
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)

Values = Callable[[str], int]  # of the symbols in relocations


class ArenaFull(Exception):
    """No room for a placement: the caller must free something."""


class Arena:
    """`size` bytes of code. Offsets count from the arena's start; 0 is never a placement's."""

    def __init__(self, size: int) -> None:
        self.size = size = size + PAGE - 1 & -PAGE
        self._code = mmap.mmap(
            -1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=mmap.PROT_READ | mmap.PROT_WRITE
        )
        self._table = mmap.mmap(-1, size * 2, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.base = ctypes.addressof(ctypes.c_char.from_buffer(self._code))
        self.table = ctypes.addressof(ctypes.c_char.from_buffer(self._table))
        self._faults = memoryview(self._table).cast("I")
        self.used = 0  # bytes placed and not freed
        self._placed: dict[int, int] = {}  # start -> end
        self._hole_at: dict[int, int] = {}  # start -> end, of each free range
        self._hole_to: dict[int, int] = {}  # end -> start
        self._by_size: list[tuple[int, int]] = []  # length and start, in order
        self._add_hole(ALIGN, size)
        self._protect([(0, size)], executable=True)

    @staticmethod
    def room(code: Code) -> int:
        """Bytes that a placement of this code takes."""
        return len(code.text) + ALIGN - 1 & -ALIGN

    @property
    def holes(self) -> list[tuple[int, int]]:
        """The free ranges, in order."""
        return sorted(self._hole_at.items())

    def place(self, code: Code, value: Values) -> int:
        """Copy code in, apply its relocations with `value(symbol)`, and return its host address.

        Raises ArenaFull.
        """
        return self.place_all([(code, value)])[0]

    def place_all(self, batch: Sequence[tuple[Code, Values]]) -> list[int]:
        """Place several pieces, each of which can be freed by itself; all, or none and ArenaFull."""
        starts: list[int] = []
        try:
            for code, _ in batch:
                starts.append(self._take(self.room(code)))
        except ArenaFull:
            for start in starts:
                self._give(start)
            raise
        ranges = [(start, self._placed[start]) for start in starts]
        self._protect(ranges, executable=False)
        for start, (code, value) in zip(starts, batch):
            text = bytearray(code.text)
            for offset, symbol, addend in code.relocations:
                struct.pack_into("<I", text, offset, value(symbol) + addend)
            self._code[start : start + len(text)] = bytes(text)
            for access, landing in code.faults:
                self._faults[start + access >> 1] = start + landing
        self._protect(ranges, executable=True)
        return [self.base + start for start in starts]

    def free(self, address: int) -> None:
        """Give back a placement, by the address that placing returned."""
        start = address - self.base
        end = self._placed[start]
        ctypes.memset(self.table + start * 2, 0, (end - start) * 2)
        self._give(start)

    def bytes_at(self, address: int, length: int) -> bytes:
        """The code bytes at a host address, for dumps."""
        return self._code[address - self.base : address - self.base + length]

    def _take(self, length: int) -> int:
        """Reserve the start of the smallest hole that is large enough."""
        i = bisect_left(self._by_size, (length, 0))
        if i == len(self._by_size):
            raise ArenaFull
        _, start = self._by_size[i]
        end = self._remove_hole(start)
        if end - start > length:
            self._add_hole(start + length, end)
        self._placed[start] = start + length
        self.used += length
        return start

    def _give(self, start: int) -> None:
        """Make a reserved range a hole again, one with the holes that it touches."""
        end = self._placed.pop(start)
        self.used -= end - start
        if start in self._hole_to:
            start = self._hole_to[start]
            self._remove_hole(start)
        if end in self._hole_at:
            end = self._remove_hole(end)
        self._add_hole(start, end)

    def _add_hole(self, start: int, end: int) -> None:
        self._hole_at[start] = end
        self._hole_to[end] = start
        insort(self._by_size, (end - start, start))

    def _remove_hole(self, start: int) -> int:
        """Returns where it ended."""
        end = self._hole_at.pop(start)
        del self._hole_to[end]
        del self._by_size[bisect_left(self._by_size, (end - start, start))]
        return end

    def _protect(self, ranges: Iterable[tuple[int, int]], executable: bool) -> None:
        protection = mmap.PROT_READ | (mmap.PROT_EXEC if executable else mmap.PROT_WRITE)
        for first, end in _pages(ranges):
            if _libc.mprotect(self.base + first, end - first, protection):
                raise OSError(ctypes.get_errno(), "mprotect of the code arena failed")


def _pages(ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The ranges in whole pages, those that touch joined."""
    first = last = -1
    for start, end in sorted((start & -PAGE, end + PAGE - 1 & -PAGE) for start, end in ranges):
        if start > last:
            if last > 0:
                yield first, last
            first = start
        last = max(last, end)
    if last > 0:
        yield first, last
