"""What native code knows of each page of a machine's RAM: a record of 128 bytes, shared by all harts.

    KIND      CODE: code was made from it; TABLE: a walk has read a table entry in it. Stores to either are not
              remembered in a TLB, so that each comes to `dbt.tier0.reach`
    WRITES    stores to table entries since a walk has read one
    COVERS    the first page of addresses that its entries tell of, and its level below; MANY: several
    OWNER     the context of tables (satp) in which they do; MANY: several
    STORED    the page of addresses, plus one, through which stores to it are remembered; 0: none; MANY: several
    TABLE_OF  the displacement of its code's table; 0: none; MANY: several, or of several harts
    USED      a bit for each of 512 table entries: whether something that is remembered was found through it

Owns: where these words are. Must not know: who writes them.
"""

from __future__ import annotations

import ctypes
import mmap

CODE, TABLE = 1, 2
KIND, WRITES, COVERS, OWNER, STORED, TABLE_OF, USED = 0, 8, 16, 24, 32, 40, 64  # byte offsets
SHIFT = 7
SIZE = 1 << SHIFT
MANY = (1 << 64) - 1
OFTEN = 8  # stores to a table until all that was found in it is forgotten


class Records:
    """Those of a run of RAM of so many pages."""

    def __init__(self, pages: int) -> None:
        self._memory = mmap.mmap(-1, pages << SHIFT, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.words = memoryview(self._memory).cast("Q")
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))

    def __getitem__(self, place: tuple[int, int]) -> int:
        """A word: (page, byte offset)."""
        return self.words[(place[0] << SHIFT) + place[1] >> 3]

    def __setitem__(self, place: tuple[int, int], value: int) -> None:
        self.words[(place[0] << SHIFT) + place[1] >> 3] = value
