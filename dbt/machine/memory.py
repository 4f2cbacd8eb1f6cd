"""Physical memory of a virtual machine: RAM in slots, and devices on a bus.

A device may lie over RAM, which is then hidden there; nothing else may overlap. Whatever neither has is Absent, unless
somebody answers beyond them, who also gets the stores to RAM that is read only. Pages may be watched, by whoever
remembers something of what is in them. Owns: the map, and telling watchers of every write, a device's too.
Must not know: what a device does, address translation.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Sequence, Set
from typing import NamedTuple, Protocol, cast

from dbt.machine.pool import Pool, address_of
from guests.spec import Absent

PAGE_SHIFT = 12


class Device(Protocol):
    """What a bus asks of a device. Offsets are from its first byte; `Absent` refuses an access."""

    name: str
    size: int  # bytes of addresses

    def read(self, offset: int, size: int) -> int:
        """The value of `size` bytes (1, 2, 4 or 8), at a multiple of that size."""

    def write(self, offset: int, size: int, value: int) -> None:
        """Take a value of `size` bytes."""


class Slot(NamedTuple):
    """A run of RAM. One that is `readonly` takes no store of a hart."""

    base: int
    size: int
    memory: mmap.mmap  # or bytes of the caller's, which are read and written in the same way
    host: int  # address of its first byte
    readonly: bool = False


class Page(NamedTuple):
    """A page of RAM: its number, and where it begins in its slot's memory."""

    number: int
    memory: mmap.mmap
    at: int


class Mapping(NamedTuple):
    """A device at its place."""

    base: int
    device: Device

    @property
    def end(self) -> int:
        return self.base + self.device.size


class Memory:
    """All that answers at physical addresses. RAM is of the host's memory, or of the pages of a pool."""

    def __init__(self, pool: Pool | None = None) -> None:
        self._pool = pool
        self.pooled: dict[int, Sequence[int]] = {}  # by the base of a slot: the numbers of its pages in the pool
        # Told of writes to watched pages, by begin and end; true: the pages are to be watched still.
        self.watchers: list[Callable[[int, int], bool]] = []
        self.watching: list[Callable[[Set[int]], object]] = []  # told of pages that are watched: writes must come here
        self.unwatching: list[Callable[[Set[int]], object]] = []  # told of pages that are watched no longer
        self.writing: list[Callable[[int, int], object]] = []  # told of each write that is made here, by begin and end
        # Told of each access of a device that it answered: it, whether it was written, address, bytes, value.
        self.accessed: list[Callable[[Device, bool, int, int, int], object]] = []
        self._watched: set[int] = set()  # pages
        self.slots: list[Slot] = []
        self.tables: Slot | None = None  # RAM of the machine's own, with tables of a second stage that it alone writes
        self.devices: list[Mapping] = []
        self._hidden: set[int] = set()  # pages of RAM over which a device lies
        self.beyond: Device | None = None  # what answers where nothing else does; offsets are addresses
        self.told: Callable[[int], bool] = lambda page: False  # whether native code must leave for each store to a page

    def add_ram(self, base: int, size: int, memory: memoryview | None = None, readonly: bool = False) -> None:
        """A slot of RAM: the host's memory that is given, or all zeros. ValueError where something is already, for what
        is not whole pages, or where the pool has too few.
        """
        if size <= 0 or (base | size) & (1 << PAGE_SHIFT) - 1:
            raise ValueError(f"RAM of {size:#x} bytes at {base:#x} is not whole pages")
        self._check_free(base, base + size, "RAM", [(s.base, s.base + s.size, "RAM") for s in self.slots])
        self._check_free(base, base + size, "RAM", [(m.base, m.end, m.device.name) for m in self.devices])
        if memory is not None:
            found = cast(mmap.mmap, memory)
        elif self._pool is None:
            found = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        else:
            found, self.pooled[base] = self._pool.take(size)
        self.slots.append(Slot(base, size, found, address_of(found), readonly))

    def add_tables(self, base: int, memory: memoryview) -> None:
        """RAM for tables of a second stage, of which no hart knows the address. ValueError as for other RAM."""
        self.add_ram(base, len(memory), memory)
        self.tables = self.slots[-1]

    def add_device(self, base: int, device: Device) -> None:
        """Put a device on the bus. ValueError where another one is, or where it is partly over RAM."""
        end = base + device.size
        self._check_free(base, end, device.name, [(m.base, m.end, m.device.name) for m in self.devices])
        for slot in self.slots:
            if base < slot.base + slot.size and slot.base < end:
                if not (slot.base <= base and end <= slot.base + slot.size):
                    raise ValueError(f"{device.name} at {base:#x} is partly over RAM at {slot.base:#x}")
                self._hidden.update(range(base >> PAGE_SHIFT, (end - 1 >> PAGE_SHIFT) + 1))
        self.devices.append(Mapping(base, device))
        self.devices.sort()

    @staticmethod
    def _check_free(base: int, end: int, name: str, taken: list[tuple[int, int, str]]) -> None:
        for low, high, other in taken:
            if base < high and low < end:
                raise ValueError(f"{name} at {base:#x} overlaps {other} at {low:#x}")

    # --- watching ----------------------------------------------------------------------------------------

    def watch(self, start: int, end: int) -> None:
        """Tell the watchers of the next write to each page of [start, end)."""
        if start >> PAGE_SHIFT in self._watched and start >> PAGE_SHIFT == end - 1 >> PAGE_SHIFT:
            return
        pages = set(range(start >> PAGE_SHIFT, (end - 1 >> PAGE_SHIFT) + 1)) - self._watched
        self._watched |= pages
        for told in self.watching:
            told(pages)

    def note(self, address: int, length: int) -> None:
        """These bytes are written. Their pages are not watched any more, unless a watcher wants it."""
        pages = range(address >> PAGE_SHIFT, (address + length - 1 >> PAGE_SHIFT) + 1)
        if not self._watched.isdisjoint(pages):
            kept = self._watched.intersection(pages)
            self._watched -= kept
            wanted = [told(address, address + length) for told in self.watchers]  # all are told
            if any(wanted):
                self._watched |= kept
            else:
                for heard in self.unwatching:
                    heard(kept)
        for noted in self.writing:
            noted(address, address + length)

    def hidden(self) -> Set[int]:
        """Pages of RAM over which a device lies."""
        return self._hidden

    def page(self, address: int, writing: bool) -> Page | None:
        """The page of RAM there; None where a device is, or where a write is watched."""
        number = address >> PAGE_SHIFT
        if number in self._hidden or (writing and number in self._watched):
            return None
        for base, length, memory, _, readonly in self.slots:
            if base <= address < base + length:
                return None if readonly and writing else Page(number, memory, (address & -1 << PAGE_SHIFT) - base)
        return None

    # --- accesses of harts: at most 8 bytes, and within a page -------------------------------------------

    def read(self, address: int, size: int) -> int:
        """The value at an address; Absent where there is none."""
        for base, length, memory, _, _ in self.slots:
            offset = address - base
            if 0 <= offset <= length - size and address >> PAGE_SHIFT not in self._hidden:
                return int.from_bytes(memory[offset : offset + size], "little")
        mapping = self._device(address, size)
        if mapping is not None:
            value = mapping.device.read(address - mapping.base, size)
            for told in self.accessed:
                told(mapping.device, False, address, size, value)
            return value
        slot = self._slot(address, size)
        if slot is None:
            return self._beyond(address).read(address, size)
        return int.from_bytes(slot.memory[address - slot.base : address - slot.base + size], "little")

    def write(self, address: int, size: int, value: int) -> None:
        """Store a value at an address; Absent where nothing takes it."""
        for base, length, memory, _, readonly in self.slots:
            offset = address - base
            if 0 <= offset <= length - size and not readonly and address >> PAGE_SHIFT not in self._hidden:
                self.note(address, size)
                memory[offset : offset + size] = value.to_bytes(size, "little")
                return
        mapping = self._device(address, size)
        if mapping is not None:
            mapping.device.write(address - mapping.base, size, value)
            for told in self.accessed:
                told(mapping.device, True, address, size, value)
            return
        slot = self._slot(address, size)
        if slot is None or slot.readonly:
            self._beyond(address).write(address, size, value)
        else:
            self.poke(address, value.to_bytes(size, "little"))

    def fetch(self, address: int, size: int) -> int:
        """The value of two or four bytes of code, which lies in RAM only; Absent where there is none."""
        for base, length, memory, _, _ in self.slots:
            offset = address - base
            if 0 <= offset <= length - size and address >> PAGE_SHIFT not in self._hidden:
                return int.from_bytes(memory[offset : offset + size], "little")
        if self._device(address, size) is not None:
            raise Absent(address)
        return int.from_bytes(self.peek(address, size), "little")

    def check(self, address: int, size: int) -> None:
        """Absent unless something is there."""
        if self._device(address, size) is None and self._slot(address, size) is None:
            self._beyond(address)

    def is_ram(self, address: int, size: int) -> bool:
        """Whether all these bytes are RAM that no device hides."""
        if any(mapping.base < address + size and address < mapping.end for mapping in self.devices):
            return False
        return any(slot.base <= address and address + size <= slot.base + slot.size for slot in self.slots)

    def _device(self, address: int, size: int) -> Mapping | None:
        """The device of these bytes; Absent if it has only some of them, or is accessed out of line."""
        for mapping in self.devices:
            if mapping.base < address + size and address < mapping.end:
                if address < mapping.base or address + size > mapping.end or address % size:
                    raise Absent(address)
                return mapping
        return None

    # --- accesses of the machine itself: loaders, devices, people ------------------------------------------

    def peek(self, address: int, length: int) -> bytes:
        """Bytes of RAM; Absent where there are none. Devices are not looked at."""
        slot = self._ram(address, length)
        return bytes(slot.memory[address - slot.base : address - slot.base + length])

    def poke(self, address: int, data: bytes | memoryview) -> None:
        """Write bytes of RAM; Absent where there are none."""
        slot = self._ram(address, len(data))
        if data:
            self.note(address, len(data))
        slot.memory[address - slot.base : address - slot.base + len(data)] = bytes(data)

    def _ram(self, address: int, length: int) -> Slot:
        slot = self._slot(address, length)
        if slot is None:
            raise Absent(address)
        return slot

    def _slot(self, address: int, length: int) -> Slot | None:
        for slot in self.slots:
            if slot.base <= address and address + length <= slot.base + slot.size:
                return slot
        return None

    def _beyond(self, address: int) -> Device:
        """What answers where there is neither a device nor RAM that takes the access."""
        if self.beyond is None:
            raise Absent(address)
        return self.beyond
