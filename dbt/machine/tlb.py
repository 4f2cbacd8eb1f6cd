"""The translations in a CPU state that native code looks up: a software TLB, in sets, one for each context of a hart.

An entry's tag is the first address of a page; an entry that is not in use has a tag that no access asks for. Owns: the
words of these entries (`dbt.state` says where they are). Must not know: when an entry is right.
"""

from __future__ import annotations

import ctypes

from dbt.state import (
    ENTRY_BITS,
    FETCH_BITS,
    FETCHES,
    HIGHEST,
    LOADS,
    NO_PAGE,
    SET,
    SETS,
    SETS_MOST,
    STORES,
    State,
)

PAGE_SHIFT = 12
ENTRIES = (LOADS, ENTRY_BITS, 16), (STORES, ENTRY_BITS, 16), (FETCHES, FETCH_BITS, 32)  # offset, how many, size
MASK = (1 << 64) - 1


class Tlb:
    """All sets of one hart. What is entered is entered into the one that is selected."""

    sets = SETS_MOST

    def __init__(self, state: State) -> None:
        self._words = state.words
        self._first = state.address + SETS
        self._set = 0  # byte offset in the state

    def select(self, number: int) -> None:
        """Native code looks into this set from now on."""
        self._set = SETS + number * SET
        self._words[HIGHEST] = self._first + number * SET

    def empty(self, number: int) -> None:
        """Nothing is in this set."""
        self._forget(number, 0, SET)

    def remove(self, number: int, kind: int, page: int) -> None:
        """A page of addresses is not in this set any more: to load from (0), to store to (1), to execute (2)."""
        offset, bits, size = ENTRIES[kind]
        at = (SETS + number * SET + offset >> 3) + (page & (1 << bits) - 1) * (size >> 3)
        if self._words[at] == page << PAGE_SHIFT:
            self._words[at] = NO_PAGE

    def empty_fetches(self, number: int) -> None:
        self._forget(number, FETCHES, 32 << FETCH_BITS)

    def _forget(self, number: int, offset: int, size: int) -> None:
        ctypes.memset(self._first + number * SET + offset, 0xFF, size)

    def enter(self, writing: bool, page: int, host: int) -> None:
        """The page of addresses of this number is at a host address, to load from or to store to."""
        at = (self._set + (STORES if writing else LOADS) >> 3) + ((page & (1 << ENTRY_BITS) - 1) << 1)
        self._words[at] = page << PAGE_SHIFT
        self._words[at + 1] = host - (page << PAGE_SHIFT) & MASK

    def enter_code(self, page: int, table: int, host: int) -> None:
        """It is at a host address to be executed, and its code is in this table."""
        at = (self._set + FETCHES >> 3) + ((page & (1 << FETCH_BITS) - 1) << 2)
        self._words[at] = page << PAGE_SHIFT
        self._words[at + 1] = table
        self._words[at + 2] = host - (page << PAGE_SHIFT) & MASK
