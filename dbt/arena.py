"""The code arena: one reserved mapping in which all code of an engine lives, and its fault table.

The mapping is private, so that a forked child's code is its own; pages are writable or executable, never
both, toggled a placement at a time. The fault table has a 32-bit entry for every two bytes of code: the
landing offset of the guest access that starts there, or 0. Nothing here is a dictionary of blocks.
Owns: placement, protection, relocation. Must not know: what code means or who links to it.
"""

from __future__ import annotations

import ctypes
import mmap
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dbt.codegen import Code

PAGE = 4096
ALIGN = 16
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


class ArenaFull(Exception):
    """No room for a placement: the caller must free something, or clear."""


class Arena:
    """`size` bytes of code. Offsets count from the arena's start; 0 is never a placement's."""

    def __init__(self, size: int = 64 << 20) -> None:
        self.size = size
        self._code = mmap.mmap(
            -1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=mmap.PROT_READ | mmap.PROT_WRITE
        )
        self._table = mmap.mmap(-1, size * 2, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.base = ctypes.addressof(ctypes.c_char.from_buffer(self._code))
        self.table = ctypes.addressof(ctypes.c_char.from_buffer(self._table))
        self._faults = memoryview(self._table).cast("I")
        self._top = ALIGN
        self._floor = ALIGN  # below it: what `clear` keeps
        self._protect(0, size, executable=True)

    @property
    def used(self) -> int:
        """Bytes placed and not freed."""
        return self._top

    def keep(self) -> None:
        """What has been placed so far survives `clear`."""
        self._floor = self._top

    def place(self, code: Code, value: Callable[[str], int]) -> int:
        """Copy code in, apply its relocations with `value(symbol)`, and return its host address.

        Raises ArenaFull.
        """
        start = self._top
        end = start + len(code.text) + ALIGN - 1 & -ALIGN
        if end > self.size:
            raise ArenaFull
        text = bytearray(code.text)
        for offset, symbol, addend in code.relocations:
            struct.pack_into("<I", text, offset, value(symbol) + addend)
        self._protect(start, end, executable=False)
        self._code[start : start + len(text)] = bytes(text)
        self._protect(start, end, executable=True)
        for access, landing in code.faults:
            self._faults[start + access >> 1] = start + landing
        self._top = end
        return self.base + start

    def bytes_at(self, address: int, length: int) -> bytes:
        """The code bytes at a host address, for dumps."""
        return self._code[address - self.base : address - self.base + length]

    def clear(self) -> None:
        """Free every placement since `keep`."""
        first, last = self._floor >> 1, (self._top >> 1) + 1
        ctypes.memset(self.table + first * 4, 0, (last - first) * 4)
        self._top = self._floor

    def _protect(self, start: int, end: int, executable: bool) -> None:
        protection = mmap.PROT_READ | (mmap.PROT_EXEC if executable else mmap.PROT_WRITE)
        first = start & -PAGE
        if _libc.mprotect(self.base + first, (end - first + PAGE - 1) & -PAGE, protection):
            raise OSError(ctypes.get_errno(), "mprotect of the code arena failed")
