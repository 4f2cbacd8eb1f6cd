"""What an engine sees as its address space in a machine: translation and physical memory, put together.

Loads and stores may lie at any address, in RAM; one that crosses a page is two, and is made only if both may be.
Each access walks, unless an engine knows better: the reference remembers pages (`dbt.machine.remembered`), translated
code has a TLB (`dbt.machine.tlb`), and what both do is as if each access walked.
Owns: how an access becomes accesses of physical memory, and which of them faults. Must not know: page tables.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from typing import NamedTuple

from dbt.machine.memory import Memory
from guests.spec import Absent, Guest, Trap

PAGE_SHIFT = 12
PAGE = 1 << PAGE_SHIFT
MASK = (1 << 64) - 1
ACCESS = {1: "load", 2: "store"}  # by the bit that `check` is asked with
LOAD, STORE, FETCH = range(3)
KINDS = ("load", "store", "fetch")


class Place(NamedTuple):
    """Where bytes of RAM are in their slot's memory."""

    memory: mmap.mmap
    at: int


class HartSpace:
    """The addresses of one hart."""

    shares = False  # with anybody who writes while a hart has its turn
    base = 0  # of guest memory, %m of `ir.llvm`: what a table leads to is a host address

    def __init__(self, guest: Guest, slots: memoryview, memory: Memory) -> None:
        assert guest.privileged is not None
        self.memory = memory
        self.mmu = guest.privileged.mmu(slots, self._read_table, self._write_table)
        self._translate: Callable[[int, int, str], int] = self.mmu.translate
        self._observed = False

    def host_ranges(self) -> list[tuple[int, int]]:
        """The host memory that is RAM here and nothing else: address and bytes."""
        return [(slot.host, slot.size) for slot in self.memory.slots if isinstance(slot.memory, mmap.mmap)]

    # --- what an engine knows ---------------------------------------------------------------------------

    def remap(self) -> None:
        """The hart may have come into another context: another mode, table, protection."""

    def forget(self) -> None:
        """All pages are to be walked for again."""

    def _known(self, kind: int, address: int, size: int) -> Place | None:
        """Where these bytes, which are within a page, are known to be, and may be accessed so."""
        return None

    def _walked(self, kind: int, address: int, physical: int) -> None:
        """A walk has found where an address leads."""

    def remembered(self) -> tuple[int, list[tuple[int, int, str]]]:
        """How many contexts are remembered; of the present one (address, physical address, "lsf") of each page."""
        return 0, []

    def observe(self, seen: Callable[[int, int, str, int | Trap], None] | None) -> None:
        """Call `seen(address, size, access, physical address or Trap)` after every translation; all accesses walk."""
        translate = self.mmu.translate
        self._observed = seen is not None
        self._translate = translate
        if seen is None:
            return

        def noted(address: int, size: int, access: str) -> int:
            try:
                physical: int = translate(address, size, access)
            except Trap as trap:
                seen(address, size, access, trap)
                raise
            seen(address, size, access, physical)
            return physical

        self._translate = noted

    def _read_table(self, at: int) -> int:
        return self.memory.read(at, 8)

    def _write_table(self, at: int, value: int) -> None:
        """A walk marks a page as accessed, or as written."""
        self.memory.write(at, 8, value)

    # --- accesses -------------------------------------------------------------------------------------------

    def load(self, address: int, size: int) -> int:
        """A little-endian value. Raises Trap."""
        if size <= PAGE - (address & PAGE - 1):
            place = self._known(LOAD, address, size)
            if place is not None:
                return int.from_bytes(place.memory[place.at : place.at + size], "little")
            physical = self._within(address, size, "load")
            self._walked(LOAD, address, physical)
            return self._read(physical, size, address)
        return self.load_as("load", address, size)

    def load_as(self, access: str, address: int, size: int) -> int:
        """A load of this kind, of those that the guest's translation has; it walks."""
        first = PAGE - (address & PAGE - 1)
        if size <= first:
            return self._read(self._within(address, size, access), size, address, access)
        low, high = self._halves(address, size, first, access)
        return self._read(low, first, address) | self._read(high, size - first, address) << 8 * first

    def store(self, address: int, size: int, value: int) -> None:
        """Raises Trap before anything is written."""
        if size > PAGE - (address & PAGE - 1):
            self.store_as("store", address, size, value)
            return
        place = self._known(STORE, address, size)
        if place is not None:
            place.memory[place.at : place.at + size] = value.to_bytes(size, "little")
            return
        physical = self._within(address, size, "store")
        self._walked(STORE, address, physical)
        self._write(physical, size, value, address)

    def store_as(self, access: str, address: int, size: int, value: int) -> None:
        """A store of this kind, as `load_as`."""
        first = PAGE - (address & PAGE - 1)
        if size <= first:
            self._write(self._within(address, size, access), size, value, address, access)
            return
        low, high = self._halves(address, size, first, access)
        self._write(low, first, value & (1 << 8 * first) - 1, address)
        self._write(high, size - first, value >> 8 * first, address)

    def modify(self, address: int, size: int, change: Callable[[int], int]) -> int:
        """The value there, in whose place change(value) is put: all harts are one thread of the host's."""
        self.check(address, size, 2)
        old = self.load(address, size)
        self.store(address, size, change(old))
        return old

    def others_write(self, address: int) -> bool:
        """Other harts have had no turn since a reservation."""
        return False

    def fence(self) -> None:
        """One thread of the host's makes all accesses, in the order of the program."""

    def fetch(self, address: int) -> int:
        """The instruction word at an address: 32 bits, or 16 where the low two are not 11. Raises Trap."""
        if address & PAGE - 1 <= PAGE - 4:
            place = self._known(FETCH, address, 4)
            if place is not None:
                word = int.from_bytes(place.memory[place.at : place.at + 4], "little")
                return word if word & 3 == 3 else word & 0xFFFF
        if address & 3 == 0:  # both halves are in one page, and protection has no finer grain
            physical = self._translate(address, 2, "fetch")
            self._walked(FETCH, address, physical)
            try:
                word = self.memory.fetch(physical, 4)
            except Absent:
                raise self.mmu.absent("fetch", address) from None
            return word if word & 3 == 3 else word & 0xFFFF
        low = self._parcel(address)
        return low if low & 3 != 3 else low | self._parcel(address + 2 & MASK) << 16

    def check(self, address: int, length: int, protection: int) -> None:
        """Raise the Trap of a load (1) or store (2) that may not be made."""
        access = ACCESS[protection]
        physical = self._translate(address, length, access)
        try:
            self.memory.check(physical, length)
        except Absent:
            raise self.mmu.absent(access, address) from None

    def _parcel(self, address: int) -> int:
        place = self._known(FETCH, address, 2)
        if place is not None:
            return int.from_bytes(place.memory[place.at : place.at + 2], "little")
        physical = self._translate(address, 2, "fetch")
        self._walked(FETCH, address, physical)
        try:
            return self.memory.fetch(physical, 2)
        except Absent:
            raise self.mmu.absent("fetch", address) from None

    def _within(self, address: int, size: int, access: str) -> int:
        """The physical address of an access within a page; of a misaligned one, it is RAM."""
        physical = self._translate(address, size, access)
        if address % size:
            self._need_ram(physical, size, address, access)
        return physical

    def _halves(self, address: int, size: int, first: int, access: str) -> tuple[int, int]:
        """The physical addresses of both parts of an access that crosses a page; both are RAM."""
        behind = address + first & MASK
        low = self._translate(address, first, access)
        self._need_ram(low, first, address, access)
        high = self._translate(behind, size - first, access)
        self._need_ram(high, size - first, behind, access)
        return low, high

    def _need_ram(self, physical: int, size: int, address: int, access: str) -> None:
        if not self.memory.is_ram(physical, size):
            raise self.mmu.absent(access, address)

    def _read(self, physical: int, size: int, address: int, access: str = "load") -> int:
        try:
            return self.memory.read(physical, size)
        except Absent:
            raise self.mmu.absent(access, address) from None

    def _write(self, physical: int, size: int, value: int, address: int, access: str = "store") -> None:
        try:
            self.memory.write(physical, size, value)
        except Absent:
            raise self.mmu.absent(access, address) from None
