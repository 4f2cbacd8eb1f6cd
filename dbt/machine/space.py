"""What an engine sees as its address space in a machine: translation and physical memory, put together.

Loads and stores may lie at any address, in RAM; one that crosses a page is two, and is made only if both may be.
Where a page of RAM is and that all of it may be accessed is remembered, for each context in which a hart has been,
until a page that a walk has read is written: so it is never stale, and as if each access walked.
Owns: how an access becomes accesses of physical memory, which of them faults, and what is remembered.
Must not know: page tables.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable

from dbt.machine.memory import Memory
from guests.spec import Absent, Guest, Trap

PAGE = 1 << 12
ACCESS = {1: "load", 2: "store"}  # by the bit that `check` is asked with
CONTEXTS = 256  # that are remembered

Pages = dict[int, tuple[mmap.mmap, int]]  # page of an address -> RAM, and where the page begins there


class HartSpace:
    """The addresses of one hart."""

    def __init__(self, guest: Guest, slots: memoryview, memory: Memory) -> None:
        assert guest.privileged is not None
        self._memory = memory
        self._faults = guest.privileged.access_faults
        self._mmu = guest.privileged.mmu(slots, self._read_table, lambda at, value: memory.write(at, 8, value))
        self._settled = True  # no table was written since the last walk began
        self._contexts: dict[object, tuple[Pages, Pages, Pages]] = {}
        memory.watchers.append(self)
        self.remap()

    # --- what is remembered -------------------------------------------------------------------------------

    def remap(self) -> None:
        """The hart may have come into another context: another mode, table, protection."""
        context = self._mmu.context()
        found = self._contexts.get(context)
        if found is None:
            if len(self._contexts) >= CONTEXTS:
                self._contexts.clear()
            found = self._contexts[context] = {}, {}, {}
        self._loads, self._stores, self._fetches = found

    def watched(self) -> None:
        """Stores to that page must not be remembered."""
        for _, stores, _ in self._contexts.values():
            stores.clear()

    def written(self) -> None:
        """A table has changed: nothing is known any more. If a walk does it, what it finds cannot be remembered."""
        self._settled = False
        self._contexts.clear()
        self.remap()

    def remembered(self) -> tuple[int, list[tuple[int, int, str]]]:
        """How many contexts are remembered; of the present one (address, physical address, "lsf") of each page."""
        found: dict[int, tuple[int, str]] = {}
        bases = {id(slot.memory): slot.base for slot in self._memory.slots}
        for pages, letter in ((self._loads, "l"), (self._stores, "s"), (self._fetches, "f")):
            for page, (ram, offset) in pages.items():
                letters = found.get(page, (0, ""))[1] + letter
                found[page] = bases[id(ram)] + offset, letters
        return len(self._contexts), [(page << 12, where, letters) for page, (where, letters) in sorted(found.items())]

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
        self._memory.watch(at)
        return self._memory.read(at, 8)

    def _remember(self, pages: Pages, address: int, physical: int, access: str) -> None:
        """Note where this page is, if it is RAM of which every byte may be accessed so."""
        if self._settled and self._mmu.permits_page(physical, access):
            place = self._memory.page(physical, access == "store")
            if place is not None:
                pages[address >> 12] = place

    def _translate(self, address: int, size: int, access: str) -> int:
        self._settled = True
        physical: int = self._mmu.translate(address, size, access)
        return physical

    # --- accesses -------------------------------------------------------------------------------------------

    def load(self, address: int, size: int) -> int:
        """A little-endian value. Raises Trap."""
        place = self._loads.get(address >> 12)
        if place is not None and (address & PAGE - 1) + size <= PAGE:
            at = place[1] + (address & PAGE - 1)
            return int.from_bytes(place[0][at : at + size], "little")
        first = PAGE - (address & PAGE - 1)
        if size > first:
            low, high = self._halves(address, size, first, "load")
            return self._read(low, first, address) | self._read(high, size - first, address) << 8 * first
        physical = self._translate(address, size, "load")
        if address % size:
            self._need_ram(physical, size, address, "load")
        self._remember(self._loads, address, physical, "load")
        return self._read(physical, size, address)

    def store(self, address: int, size: int, value: int) -> None:
        """Raises Trap before anything is written."""
        place = self._stores.get(address >> 12)
        if place is not None and (address & PAGE - 1) + size <= PAGE:
            at = place[1] + (address & PAGE - 1)
            place[0][at : at + size] = value.to_bytes(size, "little")
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
        self._remember(self._stores, address, physical, "store")
        self._write(physical, size, value, address)

    def fetch(self, address: int) -> int:
        """The instruction word at an address: 32 bits, or 16 where the low two are not 11. Raises Trap."""
        place = self._fetches.get(address >> 12)
        if place is not None and address & PAGE - 1 <= PAGE - 4:
            at = place[1] + (address & PAGE - 1)
            word = int.from_bytes(place[0][at : at + 4], "little")
            return word if word & 3 == 3 else word & 0xFFFF
        if address & 3 == 0:  # both halves are in one page, and protection has no finer grain
            physical = self._translate(address, 2, "fetch")
            self._remember(self._fetches, address, physical, "fetch")
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
        physical = self._translate(address, 2, "fetch")
        self._remember(self._fetches, address, physical, "fetch")
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
