"""What an engine sees as its address space in a machine: translation and physical memory, put together.

Loads and stores may lie at any address, in RAM; one that crosses a page is two, and is made only if both may be.
Where a page of RAM is and that all of it may be accessed is remembered, for each context in which a hart has been,
until a page that a walk has read is written: so it is never stale, and as if each access walked. What native code looks
up (`dbt.machine.tlb`) is a part of what is remembered.
Owns: how an access becomes accesses of physical memory, which of them faults, and what is remembered.
Must not know: page tables.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from contextlib import suppress

from dbt.machine.memory import Memory, Page
from dbt.machine.tlb import Tlb
from guests.spec import Absent, Guest, Trap

PAGE_SHIFT = 12
PAGE = 1 << PAGE_SHIFT
ACCESS = {1: "load", 2: "store"}  # by the bit that `check` is asked with

Pages = dict[int, Page]  # by page of an address


LOAD, STORE, FETCH = range(3)
KINDS = ("load", "store", "fetch")
AHEAD = 32  # pages that are remembered at once
OFTEN = 8  # writes to a table until all that was found in it is forgotten
OLD = 256  # contexts that were given up, until nothing that was derived for them is kept


class Context:
    """What is known while a hart is in one mode, with one table, one protection. `number` is the set of a TLB."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.known: tuple[Pages, Pages, Pages] = {}, {}, {}  # by kind of access
        self.tables: dict[int, int] = {}  # of code, by page of an address: whoever makes code enters them


Entry = tuple[Context, int, int]  # context, kind of access, page of an address


class Table:
    """A page of table entries: what each has led to, by its address, and how often the page was written since."""

    def __init__(self) -> None:
        self.derived: dict[int, set[Entry]] = {}
        self.writes = 0


class HartSpace:
    """The addresses of one hart."""

    base = 0  # of guest memory: what native code adds to an address leads to a host address

    def __init__(self, guest: Guest, slots: memoryview, memory: Memory, tlb: Tlb | None = None) -> None:
        assert guest.privileged is not None
        self._memory = memory
        self._tlb = tlb
        self._faults = guest.privileged.access_faults
        self._mmu = guest.privileged.mmu(slots, self._read_table, self._write_table)
        self._walking = False  # a walk writes
        self._path: list[int] = []  # addresses of the table entries that the last walk has read
        self._tables: dict[int, Table] = {}  # by page of memory
        self._stored: dict[int, set[Entry]] = {}  # page of RAM -> where stores to it are remembered
        self._contexts: dict[object, Context] = {}  # the one that was left last comes last
        self._old = 0  # contexts given up
        memory.watchers.append(self._written)
        memory.watching.append(self._forget_stores)
        self.remap()

    # --- what is remembered -------------------------------------------------------------------------------

    def remap(self) -> None:
        """The hart may have come into another context: another mode, table, protection."""
        key = self._mmu.context()
        context = self._contexts.pop(key, None)
        if context is None:
            context = self._new_context()
        self._contexts[key] = self._context = context
        self._loads, self._stores, self._fetches = context.known
        self.tables = context.tables
        if self._tlb is not None:
            self._tlb.select(context.number)

    def _new_context(self) -> Context:
        number = len(self._contexts)
        if number == Tlb.sets:
            old = self._contexts.pop(next(iter(self._contexts)))
            number, old.number = old.number, -1
            self._old += 1
            if self._old > OLD:
                self.forget()
        if self._tlb is not None:
            self._tlb.empty(number)
        return Context(number)

    def _forget_stores(self, pages: Set[int]) -> None:
        """These pages are watched: stores to them must not be remembered."""
        for page in pages:
            for entry in self._stored.pop(page, ()):
                self._drop(entry)

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
                for entry in table.derived.pop(at, ()):
                    self._drop(entry)
            if table.derived:
                left = True
            else:
                del self._tables[page]
        return left

    def _drop(self, entry: Entry) -> None:
        """A page is to be walked for again."""
        context, kind, page = entry
        if context.known[kind].pop(page, None) is not None and self._tlb is not None and context.number >= 0:
            self._tlb.remove(context.number, kind, page)
        if kind == FETCH:
            context.tables.pop(page, None)

    def forget(self) -> None:
        """All pages are to be walked for again."""
        self._tables.clear()
        self._stored.clear()
        self._old = 0
        for context in self._contexts.values():
            for known in (*context.known, context.tables):
                known.clear()
            if self._tlb is not None:
                self._tlb.empty(context.number)

    def forget_code(self) -> None:
        """Tables of code are not what they were."""
        for context in self._contexts.values():
            context.tables.clear()
            if self._tlb is not None:
                self._tlb.empty_fetches(context.number)

    def remembered(self) -> tuple[int, list[tuple[int, int, str]]]:
        """How many contexts are remembered; of the present one (address, physical address, "lsf") of each page."""
        found: dict[int, tuple[int, str]] = {}
        for known, letter in ((self._loads, "l"), (self._stores, "s"), (self._fetches, "f")):
            for page, place in known.items():
                found[page] = place.number << PAGE_SHIFT, found.get(page, (0, ""))[1] + letter
        pages = [(page << PAGE_SHIFT, where, letters) for page, (where, letters) in sorted(found.items())]
        return len(self._contexts), pages

    def observe(self, seen: Callable[[int, int, str, int | Trap], None]) -> None:
        """Call `seen(address, size, access, physical address or Trap)` after every translation from now on."""
        translate = self._mmu.translate

        def noted(address: int, size: int, access: str) -> int:
            try:
                physical: int = translate(address, size, access)
            except Trap as trap:
                seen(address, size, access, trap)
                raise
            seen(address, size, access, physical)
            return physical

        self._mmu.translate = noted

    def _read_table(self, at: int) -> int:
        self._memory.watch(at, at + 8)
        self._path.append(at)
        return self._memory.read(at, 8)

    def _write_table(self, at: int, value: int) -> None:
        """A walk marks a page as accessed, or as written."""
        self._walking = True
        try:
            self._memory.write(at, 8, value)
        finally:
            self._walking = False

    def _remember(self, kind: int, address: int, physical: int) -> None:
        """Note where this page is, and some behind it that go the same way: what of them is RAM of which every byte may
        be accessed so."""
        first, offset = address & -PAGE, physical - address
        left = self._mmu.span - (first & self._mmu.span - 1)
        size = PAGE if kind == FETCH else min(AHEAD * PAGE, left)
        if not self._mmu.permits(first + offset, size, KINDS[kind]):
            if size == PAGE or not self._mmu.permits(first + offset, PAGE, KINDS[kind]):
                return
            size = PAGE
        for page in range(first >> PAGE_SHIFT, first + size >> PAGE_SHIFT):
            place = self._memory.page((page << PAGE_SHIFT) + offset, kind == STORE)
            if place is None:  # such as one that is watched, to which there may be many stores
                return
            self._enter(kind, page, place)

    def _enter(self, kind: int, page: int, place: Page) -> None:
        self._context.known[kind][page] = place
        entry = self._context, kind, page
        for at in self._path:
            table = self._tables.get(at >> PAGE_SHIFT)
            if table is None:
                table = self._tables[at >> PAGE_SHIFT] = Table()
            table.derived.setdefault(at, set()).add(entry)
        if kind == STORE:
            self._stored.setdefault(place.number, set()).add(entry)
        if self._tlb is not None and kind != FETCH:
            self._tlb.enter(kind == STORE, page, place.host)

    def code_page(self, address: int) -> Page | None:
        """The page of RAM that is executed at an address, if all of it may be."""
        place = self._fetches.get(address >> PAGE_SHIFT)
        if place is None:
            with suppress(Trap):  # whoever executes there will meet it
                self.fetch(address)
            place = self._fetches.get(address >> PAGE_SHIFT)
        return place

    def enter_code(self, address: int, table: int, place: Page) -> None:
        """The code of the page of this address is in this table."""
        assert self._tlb is not None
        self.tables[address >> PAGE_SHIFT] = table
        self._tlb.enter_code(address >> PAGE_SHIFT, table, place.host)

    def _translate(self, address: int, size: int, access: str) -> int:
        self._path = []
        physical: int = self._mmu.translate(address, size, access)
        return physical

    # --- accesses -------------------------------------------------------------------------------------------

    def load(self, address: int, size: int) -> int:
        """A little-endian value. Raises Trap."""
        place = self._loads.get(address >> PAGE_SHIFT)
        if place is not None and (address & PAGE - 1) + size <= PAGE:
            if self._tlb is not None:  # another page may have taken its place there
                self._tlb.enter(False, address >> PAGE_SHIFT, place.host)
            at = place.at + (address & PAGE - 1)
            return int.from_bytes(place.memory[at : at + size], "little")
        first = PAGE - (address & PAGE - 1)
        if size > first:
            low, high = self._halves(address, size, first, "load")
            return self._read(low, first, address) | self._read(high, size - first, address) << 8 * first
        physical = self._translate(address, size, "load")
        if address % size:
            self._need_ram(physical, size, address, "load")
        self._remember(LOAD, address, physical)
        return self._read(physical, size, address)

    def store(self, address: int, size: int, value: int) -> None:
        """Raises Trap before anything is written."""
        place = self._stores.get(address >> PAGE_SHIFT)
        if place is not None and (address & PAGE - 1) + size <= PAGE:
            if self._tlb is not None:
                self._tlb.enter(True, address >> PAGE_SHIFT, place.host)
            at = place.at + (address & PAGE - 1)
            place.memory[at : at + size] = value.to_bytes(size, "little")
            return
        first = PAGE - (address & PAGE - 1)
        if size > first:
            low, high = self._halves(address, size, first, "store")
            self._write(low, first, value & (1 << 8 * first) - 1, address)
            self._write(high, size - first, value >> 8 * first, address)
            return
        physical = self._translate(address, size, "store")
        if address % size:
            self._need_ram(physical, size, address, "store")
        self._remember(STORE, address, physical)
        self._write(physical, size, value, address)

    def fetch(self, address: int) -> int:
        """The instruction word at an address: 32 bits, or 16 where the low two are not 11. Raises Trap."""
        place = self._fetches.get(address >> PAGE_SHIFT)
        if place is not None and address & PAGE - 1 <= PAGE - 4:
            at = place.at + (address & PAGE - 1)
            word = int.from_bytes(place.memory[at : at + 4], "little")
            return word if word & 3 == 3 else word & 0xFFFF
        if address & 3 == 0:  # both halves are in one page, and protection has no finer grain
            physical = self._translate(address, 2, "fetch")
            self._remember(FETCH, address, physical)
            try:
                word = self._memory.fetch(physical, 4)
            except Absent:
                raise Trap(self._faults["fetch"], address) from None
            return word if word & 3 == 3 else word & 0xFFFF
        low = self._parcel(address)
        return low if low & 3 != 3 else low | self._parcel(address + 2 & (1 << 64) - 1) << 16

    def check(self, address: int, length: int, protection: int) -> None:
        """Raise the Trap of a load (1) or store (2) that may not be made."""
        access = ACCESS[protection]
        physical = self._translate(address, length, access)
        try:
            self._memory.check(physical, length)
        except Absent:
            raise Trap(self._faults[access], address) from None

    def _parcel(self, address: int) -> int:
        place = self._fetches.get(address >> PAGE_SHIFT)
        if place is not None:
            at = place.at + (address & PAGE - 1)
            return int.from_bytes(place.memory[at : at + 2], "little")
        physical = self._translate(address, 2, "fetch")
        self._remember(FETCH, address, physical)
        try:
            return self._memory.fetch(physical, 2)
        except Absent:
            raise Trap(self._faults["fetch"], address) from None

    def _halves(self, address: int, size: int, first: int, access: str) -> tuple[int, int]:
        """The physical addresses of both parts of an access that crosses a page; both are RAM."""
        behind = address + first & (1 << 64) - 1
        low = self._translate(address, first, access)
        self._need_ram(low, first, address, access)
        high = self._translate(behind, size - first, access)
        self._need_ram(high, size - first, behind, access)
        return low, high

    def _need_ram(self, physical: int, size: int, address: int, access: str) -> None:
        if not self._memory.is_ram(physical, size):
            raise Trap(self._faults[access], address)

    def _read(self, physical: int, size: int, address: int) -> int:
        try:
            return self._memory.read(physical, size)
        except Absent:
            raise Trap(self._faults["load"], address) from None

    def _write(self, physical: int, size: int, value: int, address: int) -> None:
        try:
            self._memory.write(physical, size, value)
        except Absent:
            raise Trap(self._faults["store"], address) from None
