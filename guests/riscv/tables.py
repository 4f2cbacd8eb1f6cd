"""Page tables as a monitor makes them, with the largest leaves that fit (Privileged ISA, Sv57 and Sv57x4).

Leaves have the accessed and the dirty bit from the first, so that no walk writes them.
Owns: the form of these tables, where the next one goes. Must not know: whose addresses they translate, why a page is
mapped, how a hart walks.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator

from guests.riscv.mmu import PAGE, PPN_SHIFT, A, D, R, V, W, X

MODE, LEVELS = 10, 5
LARGEST = 30  # the size of leaves, as a power of two: gigabytes at most, though the form has larger ones
BITS = 9  # of an address, for each level


class Full(Exception):
    """There is no room for one more table."""


class Tables:
    """Tables from this physical address on; `content` is what has to lie there. A root is an offset in it.

    `wider`: bits by which addresses are wider than the levels say, and a root is larger.
    """

    def __init__(self, base: int, content: bytearray | mmap.mmap, wider: int = 0) -> None:
        if base % (PAGE << wider):
            raise ValueError(f"a root table of {PAGE << wider} bytes cannot be at {base:#x}")
        self.base = base
        self.content = content
        self._wider = wider
        self.used = 0  # bytes

    def new(self, wider: int = 0) -> int:
        """One more table, in which nothing is mapped. Raises Full."""
        at, self.used = self.used, self.used + (PAGE << wider)
        if self.used > len(self.content):
            if isinstance(self.content, mmap.mmap):
                self.used = at
                raise Full
            self.content += bytes(self.used - len(self.content))
        return at

    def root(self) -> int:
        """A root table, in which nothing is mapped. Raises Full."""
        return self.new(self._wider)

    def clear(self) -> None:
        """There is no table any more."""
        self.content[: self.used] = bytes(self.used)
        self.used = 0

    def register(self, root: int) -> int:
        """The value of satp or hgatp for a root."""
        return MODE << 60 | self.base + root >> 12

    def map(self, root: int, address: int, physical: int, size: int, bits: int, single: bool = False) -> None:
        """Have addresses lead to physical ones by leaves with these bits; `single`: of one page each. Raises Full."""
        end = address + size
        while address < end:
            shift = 12
            while not single and shift < LARGEST and not (address | physical) & (PAGE << shift - 12 + BITS) - 1 \
                    and address + (1 << shift + BITS) <= end:
                shift += BITS
            struct.pack_into("<Q", self.content, self.entry(root, address, shift), leaf(physical, bits))
            address, physical = address + (1 << shift), physical + (1 << shift)

    def entry(self, root: int, address: int, shift: int) -> int:
        """The place of an entry whose page has this size; tables above it are made if there are none. Raises Full."""
        for level, at, entry in self.path(root, address):
            if 12 + BITS * level == shift:
                return at
            if not entry & V or entry & (R | X):
                struct.pack_into("<Q", self.content, at, self.base + self.new() >> 12 << PPN_SHIFT | V)
        raise AssertionError(shift)

    def path(self, root: int, address: int) -> Iterator[tuple[int, int, int]]:
        """The entries of an address, from the root on: level, place, value. What the caller puts there is followed."""
        table, width = root, BITS + self._wider
        for level in range(LEVELS - 1, -1, -1):
            at = table + (address >> 12 + BITS * level & (1 << width) - 1) * 8
            yield level, at, struct.unpack_from("<Q", self.content, at)[0]
            entry = struct.unpack_from("<Q", self.content, at)[0]
            if not entry & V or entry & (R | X):
                return
            table, width = (entry >> PPN_SHIFT << 12) - self.base, BITS


def leaf(physical: int, bits: int) -> int:
    """The entry of a page that is there."""
    return physical >> 12 << PPN_SHIFT | V | A | D | bits


def rights(readable: bool, writable: bool, executable: bool) -> int:
    """The bits of a leaf for what may be done there."""
    return (R if readable else 0) | (W if writable else 0) | (X if executable else 0)
