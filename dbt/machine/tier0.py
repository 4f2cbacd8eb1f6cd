"""Tier 0 in a machine: its code belongs to a page of addresses and the page of RAM that it is, whoever maps it so.

Such a pair has a table in the directory, for as long as there is room. Contexts in which a hart executes the page lead
to the table by an entry for fetches of the TLB, so code survives when the hart goes elsewhere and comes back; whether
it may be executed is decided where the entry is made. What is in a table depends on no mode.
A *place* names a guest address in one such pair, as the first part of a translation's key: CODED, a generation, the
table's number, and the address in the page.
Owns: which table is whose. Must not know: page tables, modes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from dbt.code import Code
from dbt.machine.tlb import TlbSpace, native
from dbt.state import AGAIN, COPIED, CROSS, FOUND, GO_ON, MOVED, OPEN, TABLE, TABLES, TAIL, TAILS, State
from dbt.tier0 import PAGE_SHIFT, Tier0

if TYPE_CHECKING:
    from dbt.regions import Home

CODED = 1 << 62  # no address that can be executed has this bit without the one above
GENERATION = 40  # bit of a place
OFTEN = 64  # writes beside code of a page until that goes
NATIVES = {  # the words that lead to native functions, and their names
    FOUND: "found", MOVED: "moved", CROSS: "to_tail", AGAIN: "to_tail_again", GO_ON: "on",
}  # fmt: skip


class MachineTier0(Tier0):
    """The tier of a hart. `may_open` is told before a page of RAM is read, by its number; `opened` of pages of places
    that can be led to; `flushed` when all places are forgotten; `gone` by the number of a page of RAM when nothing is
    known any more of which of its bytes were looked at.
    """

    def __init__(
        self, state: State, library: bytes, natives: Code, promote: int, may_open: Callable[[int], range],
        opened: Callable[[range], None], flushed: Callable[[], None], gone: Callable[[int], object],
        space: TlbSpace,
    ) -> None:  # fmt: skip
        super().__init__(state, library, natives, promote, may_open, opened, lambda page: False)
        self._space = space
        for number, name in NATIVES.items():
            self._words[number] = self._at[name]
        space.use(native(self._at))
        self._flushed = flushed
        self._gone = gone
        self._pairs: dict[int, tuple[int, int]] = {}  # table -> its pages
        self._tables: dict[tuple[int, int], int] = {}  # page of addresses, page of RAM -> its table
        self._of: dict[int, set[int]] = {}  # page of RAM -> its tables
        self._writes: dict[int, int] = {}  # page of RAM with code -> writes that were told of beside it

    def code(self, pc: int, inside: bool) -> int | None:
        number = self._space.code_page(pc)
        if number is None:
            return None
        if self._full:
            self.flush()
        table = self._space.table(pc) or self._table_of(pc >> PAGE_SHIFT, number)
        self._space.enter_code(pc, table)
        if not self._bytes[OPEN + table // TABLE] and self._may_open(number):
            self._bytes[OPEN + table // TABLE] = 1
            place = self._page_of(table)
            self._opened(range(place, place + 1))
        return self._inside_of(table << PAGE_SHIFT | pc & (1 << PAGE_SHIFT) - 1, pc) if inside else self.dispatch

    def _table_of(self, page: int, number: int) -> int:
        """The table of a page of addresses that is this page of RAM."""
        table = self._tables.get((page, number))
        if table is None:
            table = self._tables[page, number] = self._new_table()
            self._of.setdefault(number, set()).add(table)
            self._pairs[table] = page, number
            self._space.pair(page, number, table)
        return table

    def place(self, pc: int) -> int:
        """The place of a guest address in the hart's context; of none that is known, a place that nothing has."""
        table = self._space.table(pc)
        return self._page_of(table) << PAGE_SHIFT | pc & (1 << PAGE_SHIFT) - 1

    def pair(self, place: int) -> tuple[int, int] | None:
        """The page of addresses of a place, and its page of RAM."""
        return self._pairs.get(self.table(place))

    def table(self, place: int) -> int:
        """The table of a place; 0 if it has none."""
        return self._table(place >> PAGE_SHIFT)

    def home(self, table: int) -> Home | None:
        """Where the page of addresses of a table is: see `dbt.regions`."""
        pair = self._pairs.get(table)
        if pair is None:
            return None
        page, number = pair
        return (self._page_of(table) - page << PAGE_SHIFT, number - page << PAGE_SHIFT, table)

    def _page_of(self, table: int) -> int:
        """The page of the places of a table."""
        return (CODED | (self.flushes & 0xFFFF) << GENERATION) >> PAGE_SHIFT | table // TABLE

    def changed(self, start: int, end: int) -> bool:
        """These bytes of RAM are written: forget code that depends on any; returns whether there is other code.

        A page that is written often is being filled: all of its code goes, so that the rest need not be told.
        """
        left = False
        for number in range(start >> PAGE_SHIFT, (end - 1 >> PAGE_SHIFT) + 1):
            writes = self._writes[number] = self._writes.get(number, 0) + 1
            first = max(start - (number << PAGE_SHIFT), 0) >> 1
            last = min(end - (number << PAGE_SHIFT), 1 << PAGE_SHIFT) - 1 >> 1
            for table in self._of.get(number, ()):
                if writes >= OFTEN or self._depends(table, first, last):
                    self._shut(table)
                    self._gone(number)
                left = left or bool(self._bytes[OPEN + table // TABLE])
            if not left:
                del self._writes[number]
        return left

    def depends(self, start: int, end: int) -> bool:
        """Whether code was made from any of these bytes of a page of RAM."""
        first, last = start >> 1 & (1 << PAGE_SHIFT - 1) - 1, (end - 1) >> 1 & (1 << PAGE_SHIFT - 1) - 1
        return any(self._depends(table, first, last) for table in self._of.get(start >> PAGE_SHIFT, ()))

    def _depends(self, table: int, first: int, last: int) -> bool:
        looked_at = COPIED + (table >> 3)
        return any(self._bytes[looked_at + first : looked_at + last + 1])

    def known(self, page: int, number: int) -> int | None:
        """The place where a page of addresses begins that is this page of RAM; None if it has no code."""
        table = self._tables.get((page, number))
        return None if table is None else self._page_of(table) << PAGE_SHIFT

    def looked_at(self, start: int, end: int) -> None:
        """Code that is not of this tier was made from these bytes of a page of RAM: stores to them must be told."""
        first, last = start >> 1 & (1 << PAGE_SHIFT - 1) - 1, (end - 1) >> 1 & (1 << PAGE_SHIFT - 1) - 1
        for table in self._of.get(start >> PAGE_SHIFT, ()):
            at = COPIED + (table >> 3)
            self._bytes[at + first : at + last + 1] = b"\1" * (last - first + 1)

    def _shut(self, table: int) -> None:
        """Forget the code of a table."""
        if self.forgetting is not None:
            self.forgetting(self._page_of(table))
        self._bytes[OPEN + table // TABLE] = 0
        self._words[TAILS + table // TABLE * TAIL >> 3] = 0
        self._bytes[TABLES + table : TABLES + table + TABLE] = self._empty
        self._bytes[COPIED + (table >> 3) : COPIED + (table + TABLE >> 3)] = bytes(TABLE >> 3)
        for key in [key for key in self._inside if key >> PAGE_SHIFT == table]:
            del self._inside[key]

    def _coded(self) -> Collection[int]:
        return [self._page_of(table) for table in self._pairs]

    def _close_all(self) -> None:
        for (_, number), table in self._tables.items():
            self._shut(table)
            self._space.ram.tables(number, 0)
        self._tables.clear()
        self._of.clear()
        self._writes.clear()
        self._pairs.clear()
        self._space.forget_code()
        self._flushed()

    def _table(self, page: int) -> int:
        """That of a page of places; 0 if it has none, or is of another generation."""
        table = (page & (1 << GENERATION - PAGE_SHIFT) - 1) * TABLE
        return table if self._page_of(table) == page else 0

    def is_open(self, page: int) -> bool:
        return bool(self._bytes[OPEN + self._table(page) // TABLE])
