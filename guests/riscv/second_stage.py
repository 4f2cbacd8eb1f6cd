"""Tables of the second stage as a monitor makes them: Sv57x4 (Privileged ISA, hgatp).

A page that is written may be protected, one by one, where its run was mapped in small leaves.
Owns: which rights a guest has. Must not know: why a page is mapped or protected, how a hart walks.
"""

from __future__ import annotations

import struct

from guests.riscv.mmu import U, W
from guests.riscv.tables import Tables, rights
from guests.riscv.two_stage import WIDER


class SecondStage:
    """Tables from this physical address on; `content` is what has to lie there."""

    def __init__(self, base: int) -> None:
        self._tables = Tables(base, bytearray(), WIDER)
        self._root = self._tables.root()
        self.base = base

    @property
    def content(self) -> bytearray:
        found = self._tables.content
        assert isinstance(found, bytearray)
        return found

    @property
    def hgatp(self) -> int:
        return self._tables.register(self._root)

    def map(self, guest: int, physical: int, size: int, writable: bool, single: bool) -> None:
        """Have guest physical addresses lead to physical ones; `single`: by leaves of one page each."""
        self._tables.map(self._root, guest, physical, size, U | rights(True, writable, True), single)

    def leaf(self, guest: int, writable: bool) -> tuple[int, int]:
        """Make a page that has a leaf of its own writable or not; where that leaf is, physically, and its value."""
        at = self._tables.entry(self._root, guest, 12)
        value = struct.unpack_from("<Q", self.content, at)[0] & ~W | (W if writable else 0)
        struct.pack_into("<Q", self.content, at, value)
        return self.base + at, value
