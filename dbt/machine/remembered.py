"""The address space of the reference interpreter: a page of RAM that all of may be accessed is walked for once.

It is remembered for each context in which the hart has been, until a table entry that the walk has read is written: so
it is never stale, and as if each access walked. Owns: what is remembered. Must not know: page tables.
"""

from __future__ import annotations

from collections.abc import Set

from dbt.machine.memory import Memory, Page
from dbt.machine.space import FETCH, KINDS, PAGE, PAGE_SHIFT, STORE, HartSpace, Place
from guests.spec import Guest

AHEAD = 32  # pages that are remembered at once
OFTEN = 8  # writes to a table until all that was found in it is forgotten
CONTEXTS = 32

Pages = dict[int, Page]  # by page of an address
Entry = tuple[Pages, int]  # where it is remembered, page of an address


class Table:
    """A page of table entries: what each has led to, by its address, and how often the page was written since."""

    def __init__(self) -> None:
        self.derived: dict[int, list[Entry]] = {}
        self.writes = 0


class RememberingSpace(HartSpace):
    """The addresses of one hart."""

    def __init__(self, guest: Guest, slots: memoryview, memory: Memory) -> None:
        super().__init__(guest, slots, memory)
        self._walking = False  # a walk writes
        self._path: list[int] = []  # addresses of the table entries that this walk has read
        self._tables: dict[int, Table] = {}  # by page of memory
        self._stored: dict[int, list[Entry]] = {}  # page of RAM -> where stores to it are remembered
        self._contexts: dict[object, tuple[Pages, Pages, Pages]] = {}  # by kind; the one that was left last comes last
        memory.watchers.append(self._written)
        memory.watching.append(self._forget_stores)
        self.remap()

    def remap(self) -> None:
        key = self.mmu.context()
        known = self._contexts.pop(key, None)
        if known is None:
            if len(self._contexts) == CONTEXTS:
                self.forget()
            known = {}, {}, {}
        self._contexts[key] = self._pages = known

    def forget(self) -> None:
        self._tables.clear()
        self._stored.clear()
        for known in self._contexts.values():
            for pages in known:
                pages.clear()

    def remembered(self) -> tuple[int, list[tuple[int, int, str]]]:
        found: dict[int, tuple[int, str]] = {}
        for known, letter in zip(self._pages, "lsf"):
            for page, place in known.items():
                found[page] = place.number << PAGE_SHIFT, found.get(page, (0, ""))[1] + letter
        pages = [(page << PAGE_SHIFT, where, letters) for page, (where, letters) in sorted(found.items())]
        return len(self._contexts), pages

    def _known(self, kind: int, address: int, size: int) -> Place | None:
        page = None if self._observed else self._pages[kind].get(address >> PAGE_SHIFT)
        self._path = []
        return None if page is None else Place(page.memory, page.at + (address & PAGE - 1))

    def _read_table(self, at: int) -> int:
        self.memory.watch(at, at + 8)
        self._path.append(at)
        return super()._read_table(at)

    def _write_table(self, at: int, value: int) -> None:
        self._walking = True
        try:
            super()._write_table(at, value)
        finally:
            self._walking = False

    def _walked(self, kind: int, address: int, physical: int) -> None:
        """Note where this page is, and some behind it that go the same way: what of them is RAM of which every byte may
        be accessed so."""
        first, offset = address & -PAGE, physical - address
        left = self.mmu.span - (first & self.mmu.span - 1)
        size = PAGE if kind == FETCH else min(AHEAD * PAGE, left)
        if not self.mmu.permits(first + offset, size, KINDS[kind]):
            if size == PAGE or not self.mmu.permits(first + offset, PAGE, KINDS[kind]):
                return
            size = PAGE
        for page in range(first >> PAGE_SHIFT, first + size >> PAGE_SHIFT):
            place = self.memory.page((page << PAGE_SHIFT) + offset, kind == STORE)
            if place is None:  # such as one that is watched, to which there may be many stores
                return
            self._enter(kind, page, place)

    def _enter(self, kind: int, page: int, place: Page) -> None:
        self._pages[kind][page] = place
        entry = self._pages[kind], page
        for at in self._path:
            table = self._tables.get(at >> PAGE_SHIFT)
            if table is None:
                table = self._tables[at >> PAGE_SHIFT] = Table()
            table.derived.setdefault(at, []).append(entry)
        if kind == STORE:
            self._stored.setdefault(place.number, []).append(entry)

    def _forget_stores(self, pages: Set[int]) -> None:
        """These pages are watched: stores to them must not be remembered."""
        for page in pages:
            _drop(self._stored.pop(page, []))

    def _written(self, start: int, end: int) -> bool:
        """What depends on a table entry that has changed goes. What walks write changes nothing that is known.

        A page that is written again and again is being filled, or is no table any more: all that depends on it goes,
        so that it need not be looked after.
        """
        if self._walking:
            return True
        left = False
        for page in range(start >> PAGE_SHIFT, (end - 1 >> PAGE_SHIFT) + 1):
            table = self._tables.get(page)
            if table is None:
                continue
            first = page << PAGE_SHIFT
            changed = range(max(start & -8, first), min(end, first + PAGE), 8)
            table.writes += 1
            for at in changed if table.writes < OFTEN else list(table.derived):
                _drop(table.derived.pop(at, []))
            if table.derived:
                left = True
            else:
                del self._tables[page]
        return left


def _drop(entries: list[Entry]) -> None:
    """These pages are to be walked for again."""
    for pages, page in entries:
        pages.pop(page, None)
