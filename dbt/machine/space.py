"""What an engine sees as its address space in a machine: translation and physical memory, put together.

Loads and stores may lie at any address, in RAM; one that crosses a page is two, and is made only if both may be.
Owns: how an access becomes accesses of physical memory, and which of them faults. Must not know: page tables.
"""

from __future__ import annotations

from dbt.machine.memory import Memory
from guests.spec import Absent, Guest, Trap

PAGE = 1 << 12
ACCESS = {1: "load", 2: "store"}  # by the bit that `check` is asked with


class HartSpace:
    """The addresses of one hart."""

    def __init__(self, guest: Guest, slots: memoryview, memory: Memory) -> None:
        assert guest.privileged is not None
        self._memory = memory
        self._faults = guest.privileged.access_faults
        self._translate = guest.privileged.mmu(
            slots, lambda at: memory.read(at, 8), lambda at, value: memory.write(at, 8, value)
        ).translate

    def load(self, address: int, size: int) -> int:
        """A little-endian value. Raises Trap."""
        first = PAGE - (address & PAGE - 1)
        if size > first:
            low, high = self._halves(address, size, first, "load")
            return self._read(low, first, address) | self._read(high, size - first, address) << 8 * first
        physical = self._translate(address, size, "load")
        if address % size:
            self._need_ram(physical, size, address, "load")
        return self._read(physical, size, address)

    def store(self, address: int, size: int, value: int) -> None:
        """Raises Trap before anything is written."""
        first = PAGE - (address & PAGE - 1)
        if size > first:
            low, high = self._halves(address, size, first, "store")
            self._write(low, first, value & (1 << 8 * first) - 1, address)
            self._write(high, size - first, value >> 8 * first, address)
            return
        physical = self._translate(address, size, "store")
        if address % size:
            self._need_ram(physical, size, address, "store")
        self._write(physical, size, value, address)

    def fetch(self, address: int) -> int:
        """The instruction word at an address: 32 bits, or 16 where the low two are not 11. Raises Trap."""
        if address & 3 == 0:  # both halves are in one page, and protection has no finer grain
            physical = self._translate(address, 2, "fetch")
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
