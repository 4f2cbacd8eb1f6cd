"""Tables of the second stage as a monitor makes them: Sv57x4, with the largest leaves that fit (Privileged ISA, hgatp).

Leaves have the accessed and the dirty bit from the first, so that no walk writes them. A page that is written may be
protected, one by one, where its run was mapped in small leaves.
Owns: the form of these tables. Must not know: why a page is mapped or protected, how a hart walks.
"""

from __future__ import annotations

import struct

from guests.riscv.mmu import PAGE, PPN_SHIFT, A, D, R, U, V, W, X
from guests.riscv.two_stage import WIDER

MODE, LEVELS = 10, 5
ROOT = PAGE << WIDER
LARGEST = 30  # the size of leaves, as a power of two: gigabytes at most, though the form has larger ones
BITS = 9  # of an address, for each level


class SecondStage:
    """Tables from this physical address on; `content` is what has to lie there."""

    def __init__(self, base: int) -> None:
        if base % ROOT:
            raise ValueError(f"a root table of {ROOT} bytes cannot be at {base:#x}")
        self.base = base
        self.content = bytearray(ROOT)

    @property
    def hgatp(self) -> int:
        return MODE << 60 | self.base >> 12

    def map(self, guest: int, physical: int, size: int, writable: bool, single: bool) -> None:
        """Have guest physical addresses lead to physical ones; `single`: by leaves of one page each."""
        end = guest + size
        while guest < end:
            shift = 12
            while not single and shift < LARGEST and not (guest | physical) & (PAGE << shift - 12 + BITS) - 1 \
                    and guest + (1 << shift + BITS) <= end:
                shift += BITS
            at = self._entry(guest, shift)
            struct.pack_into("<Q", self.content, at, _leaf(physical, writable))
            guest, physical = guest + (1 << shift), physical + (1 << shift)

    def leaf(self, guest: int, writable: bool) -> tuple[int, int]:
        """Make a page that has a leaf of its own writable or not; where that leaf is, physically, and its value."""
        at = self._entry(guest, 12)
        value = struct.unpack_from("<Q", self.content, at)[0] & ~W | (W if writable else 0)
        struct.pack_into("<Q", self.content, at, value)
        return self.base + at, value

    def _entry(self, guest: int, shift: int) -> int:
        """The place of an entry whose page has this size; tables above it are made where there are none."""
        table, width = 0, BITS + WIDER
        for level in range(LEVELS - 1, -1, -1):
            at = table + (guest >> 12 + BITS * level & (1 << width) - 1) * 8
            if 12 + BITS * level == shift:
                return at
            entry = struct.unpack_from("<Q", self.content, at)[0]
            if not entry:
                entry = self.base + len(self.content) >> 12 << PPN_SHIFT | V
                self.content += bytes(PAGE)
                struct.pack_into("<Q", self.content, at, entry)
            table, width = (entry >> PPN_SHIFT << 12) - self.base, BITS
        raise AssertionError(shift)


def _leaf(physical: int, writable: bool) -> int:
    return physical >> 12 << PPN_SHIFT | V | R | X | U | A | D | (W if writable else 0)
