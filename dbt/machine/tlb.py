"""The software TLB of a hart, which native code looks up: entries in sets of the CPU state, one for each context.

Native code fills it and keeps it true (`dbt.tier0.reach`), once there is any; from then on the monitor asks it as well.
Owns: the words that native code needs for this, new contexts, what the machine tells of writes that it makes itself.
Must not know: page tables, when code is made.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Set
from typing import NamedTuple

from dbt.machine import pages
from dbt.machine.memory import Memory, Slot
from dbt.machine.pages import Records
from dbt.machine.space import FETCH, PAGE, PAGE_SHIFT, HartSpace, Place
from dbt.state import (
    CONTEXT,
    CONTEXTS,
    ENTRY_BITS,
    FETCH_BITS,
    FETCHES,
    HARTS,
    HARTS_COUNT,
    HIGHEST,
    LOADS,
    NO_PAGE,
    NOWHERE,
    PAIR,
    PAIR_BITS,
    PAIR_FACTORS,
    PAIRS,
    RAISED,
    RAM_BASE,
    RAM_HOST,
    RECORDS,
    SET,
    SETS,
    SETS_MOST,
    STAGE_BASE,
    STAGE_HOST,
    STAGE_SIZE,
    STORES,
    WANTED,
    WINDOWS,
    State,
)
from guests.spec import Guest

MASK = (1 << 64) - 1


class Natives(NamedTuple):
    """The native functions that are called from here as well, by their names in `dbt.tier0.reach`."""

    reach: Callable[[int, int, int, int], int]
    remap: Callable[[int], int]
    written: Callable[[int, int, int, int], int]
    protect: Callable[[int, int], int]


def native(addresses: dict[str, int]) -> Natives:
    """Those at these host addresses."""
    word = ctypes.c_uint64
    counts = {"reach": 4, "remap": 1, "written": 4, "protect": 2}
    return Natives(*(ctypes.CFUNCTYPE(word, *[word] * counts[name])(addresses[name]) for name in Natives._fields))


class Ram:
    """What the harts of a machine share: the RAM that native code reaches, the records of its pages, their states."""

    def __init__(self, memory: Memory) -> None:
        self.slot: Slot = max((slot for slot in memory.slots if slot is not memory.tables), key=lambda slot: slot.size)
        self._tables = memory.tables
        self.records = Records(self.slot.size >> PAGE_SHIFT)
        self.states: list[State] = []
        self.spaces: list[TlbSpace] = []
        self._addresses = (ctypes.c_uint64 * 0)()
        self.natives: Natives | None = None
        memory.watching.append(self._watch)
        memory.unwatching.append(self._unwatch)
        memory.writing.append(self._written)

    def add(self, state: State, space: TlbSpace) -> None:
        """One hart more."""
        self.states.append(state)
        self.spaces.append(space)
        words = state.words
        if self._tables is not None:
            stage = self._tables
            words[STAGE_BASE], words[STAGE_SIZE], words[STAGE_HOST] = stage.base, stage.size, stage.host
        words[RAM_BASE], words[RAM_HOST], words[RECORDS] = self.slot.base, self.slot.host, self.records.address
        self._addresses = (ctypes.c_uint64 * len(self.states))(*(each.address for each in self.states))
        for each in self.states:
            each.words[HARTS], each.words[HARTS_COUNT] = ctypes.addressof(self._addresses), len(self.states)

    def number(self, page: int) -> int | None:
        """A page's place among the records, by its number in physical memory."""
        place = page - (self.slot.base >> PAGE_SHIFT)
        return place if 0 <= place < self.slot.size >> PAGE_SHIFT else None

    def tables(self, page: int, table: int) -> None:
        """The code of a page of RAM is in this table; 0: there is none."""
        place = self.number(page)
        if place is not None:
            known = self.records[place, pages.TABLE_OF]
            one = (not known or known == table) and len(self.states) == 1
            self.records[place, pages.TABLE_OF] = table if one or not table else pages.MANY

    def _watch(self, numbers: Set[int]) -> None:
        for number in numbers:
            place = self.number(number)
            if place is not None:
                self.records[place, pages.KIND] |= pages.CODE
                if self.natives is not None:
                    self.natives.protect(self.states[0].address, place)

    def _unwatch(self, numbers: Set[int]) -> None:
        for number in numbers:
            place = self.number(number)
            if place is not None:
                self.records[place, pages.KIND] &= ~pages.CODE

    def _written(self, start: int, end: int) -> None:
        """The machine writes by itself: what was found in tables there is forgotten."""
        if self.natives is None:
            return
        if self._tables is not None and self._tables.base <= start < self._tables.base + self._tables.size:
            for space in self.spaces:
                space.forget()
            return
        while start < end:
            place, size = self.number(start >> PAGE_SHIFT), min(end - start, PAGE - (start & PAGE - 1))
            if place is not None and self.records[place, pages.KIND] & pages.TABLE:
                self.natives.written(self.states[0].address, start, size, 0)
            start += size


class TlbSpace(HartSpace):
    """The addresses of one hart that runs translated code."""

    def __init__(self, guest: Guest, state: State, memory: Memory, ram: Ram) -> None:
        super().__init__(guest, state.slots, memory)
        self.ram = ram
        self._state = state
        self._words = state.words
        self._natives: Natives | None = None
        self._assumed: object = None  # memory protection, and whatever else no context says
        ram.add(state, self)
        ctypes.memset(state.address + NOWHERE, 0xFF, SET)
        self._words[HIGHEST] = state.address + NOWHERE

    def use(self, natives: Natives) -> None:
        """There is native code from now on."""
        self._natives = self.ram.natives = natives
        self.remap()

    @property
    def nowhere(self) -> bool:
        """Whether the hart's context has no set: native code leaves at once."""
        return self._words[HIGHEST] == self._state.address + NOWHERE

    def remap(self) -> None:
        if self._natives is None:
            return
        assumed = self.mmu.assumed()
        if assumed != self._assumed:
            self._assumed = assumed
            self.forget()
            for i, window in enumerate(self.mmu.windows(self.ram.slot.base, self.ram.slot.size, self.memory.hidden())):
                self._words[WINDOWS + 2 * i], self._words[WINDOWS + 2 * i + 1] = window
        self._natives.remap(self._state.address)
        if self.nowhere:
            self._new_context()
            self._natives.remap(self._state.address)

    def _new_context(self) -> None:
        """Give the set that was not used for the longest time to the hart's context."""
        words = self._words
        at = [CONTEXTS + CONTEXT * number for number in range(SETS_MOST)]
        oldest = min(range(SETS_MOST), key=lambda number: words[at[number] + CONTEXT - 1] if words[at[number]] else 0)
        ctypes.memset(self._state.address + SETS + oldest * SET, 0xFF, SET)
        words[at[oldest] : at[oldest] + CONTEXT - 1] = words[WANTED : WANTED + CONTEXT - 1]

    def forget(self) -> None:
        for number in range(SETS_MOST):
            self._words[CONTEXTS + CONTEXT * number] = 0
        self._words[HIGHEST] = self._state.address + NOWHERE

    def remembered(self) -> tuple[int, list[tuple[int, int, str]]]:
        found: dict[int, tuple[int, str]] = {}
        first = self._words[HIGHEST] - self._state.address
        for offset, bits, size, letter in ((LOADS, ENTRY_BITS, 2, "l"), (STORES, ENTRY_BITS, 2, "s"),
                                           (FETCHES, FETCH_BITS, 4, "f")):  # fmt: skip
            for row in range(first + offset >> 3, (first + offset >> 3) + (size << bits), size):
                tag = self._words[row]
                if tag != NO_PAGE:
                    where = (tag + self._words[row + size // 2] & MASK) - self.ram.slot.host + self.ram.slot.base
                    found[tag] = where, found.get(tag, (0, ""))[1] + letter
        used = sum(1 for number in range(SETS_MOST) if self._words[CONTEXTS + CONTEXT * number])
        return used, [(tag, where, letters) for tag, (where, letters) in sorted(found.items())]

    def _reach(self, kind: int, address: int, size: int) -> int:
        """The host address of these bytes; 0 where the monitor has to walk."""
        if self._natives is None or self._observed:
            return 0
        if self.nowhere:
            self.remap()
        host = self._natives.reach(self._state.address, address, size, kind)
        self._words[RAISED] = 0
        return host

    def _known(self, kind: int, address: int, size: int) -> Place | None:
        host = self._reach(kind, address, size)
        return Place(self.ram.slot.memory, host - self.ram.slot.host) if host else None

    # --- code -------------------------------------------------------------------------------------------------

    def code_page(self, address: int) -> int | None:
        """The number of the page of RAM that is executed at an address, if native code reaches it."""
        host = self._reach(FETCH, address & -PAGE, PAGE)
        return self.ram.slot.base + host - self.ram.slot.host >> PAGE_SHIFT if host else None

    def table(self, address: int) -> int:
        """The table of the code at an address; 0 if the TLB does not know the page."""
        row = self._row(address)
        return self._words[row + 1] if self._words[row] == address & -PAGE & MASK else 0

    def enter_code(self, address: int, table: int) -> None:
        """The code of the page of this address, which was reached, is in this table."""
        row = self._row(address)
        if self._words[row] == address & -PAGE & MASK:
            self._words[row + 1] = table

    def _row(self, address: int) -> int:
        place = (address >> PAGE_SHIFT & (1 << FETCH_BITS) - 1) << 5
        return self._words[HIGHEST] - self._state.address + FETCHES + place >> 3

    def pair(self, page: int, number: int, table: int) -> None:
        """Have native code find the table of a page of addresses that is this page of RAM."""
        place = self.ram.number(number)
        if place is None:
            return
        at = (page * PAIR_FACTORS[0] + place * PAIR_FACTORS[1] & MASK) >> 64 - PAIR_BITS
        while self._words[PAIRS + at * PAIR >> 3]:
            at = at + 1 & (1 << PAIR_BITS) - 1
        row = PAIRS + at * PAIR >> 3
        self._words[row], self._words[row + 1], self._words[row + 2] = page + 1, place, table
        self.ram.tables(number, table)

    def forget_code(self) -> None:
        """Tables of code are not what they were."""
        ctypes.memset(self._state.address + PAIRS, 0, PAIR << PAIR_BITS)
        for number in range(SETS_MOST):
            ctypes.memset(self._state.address + SETS + number * SET + FETCHES, 0xFF, 32 << FETCH_BITS)
