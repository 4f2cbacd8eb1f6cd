"""Guest memory as KVM's user gives it: regions of the host's memory at guest physical addresses, each in a slot.

Owns: what a region may be, and which of its pages were written since one asked. Must not know: virtual CPUs, exits.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from dbt.kvm.abi import KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY, MEMORY_SLOTS
from dbt.kvm.errors import BadMemory, BadRegion, NoHostMemory, NoSuchRegion, RegionOverlap
from dbt.machine.memory import PAGE_SHIFT, Memory
from dbt.machine.pool import address_of

PAGE = 1 << PAGE_SHIFT
ADDRESSES = 1 << 56  # guest physical addresses that a hart has
FLAGS = KVM_MEM_LOG_DIRTY_PAGES | KVM_MEM_READONLY


class Region:
    """What a slot holds. `memory` is the host's, of `size` bytes; guest and host see each other's writes to it."""

    def __init__(self, slot: int, gpa: int, memory: memoryview, flags: int) -> None:
        self.slot = slot
        self.gpa = gpa
        self.memory = memory
        self.flags = flags
        self.host = address_of(memory)
        self.dirty: set[int] = set()  # pages written, by their numbers in physical memory

    @property
    def size(self) -> int:
        return len(self.memory)

    @property
    def end(self) -> int:
        return self.gpa + self.size

    @property
    def pages(self) -> range:
        return range(self.gpa >> PAGE_SHIFT, self.end >> PAGE_SHIFT)

    @property
    def readonly(self) -> bool:
        return bool(self.flags & KVM_MEM_READONLY)

    @property
    def logs(self) -> bool:
        return bool(self.flags & KVM_MEM_LOG_DIRTY_PAGES)

    def __repr__(self) -> str:
        letters = "r-" if self.readonly else "rw"
        return f"<Region {self.slot}: {self.gpa:#x} to {self.end:#x}, {letters}{', log' if self.logs else ''}>"


class Regions:
    """Those of a virtual machine, by slot."""

    def __init__(self) -> None:
        self._regions: dict[int, Region] = {}
        self._gone: list[memoryview] = []  # that the machine still has, until it is another one

    def __iter__(self) -> Iterator[Region]:
        return iter(sorted(self._regions.values(), key=lambda region: region.gpa))

    def __len__(self) -> int:
        return len(self._regions)

    def of(self, slot: int) -> Region:
        """Raises NoSuchRegion."""
        if slot not in self._regions:
            raise NoSuchRegion(f"memory slot {slot} is empty")
        return self._regions[slot]

    def set(
        self, slot: int, gpa: int, size: int, memory: object | None, flags: int, taken: Iterable[tuple[int, int, str]]
    ) -> Region | None:
        """Fill a slot, move it, change its flags, or empty it (size 0); the region that is there now.

        `memory` None is memory of our own, all zeros, or what the slot has. `taken` are begin, end and name of what
        else no region may lie over. Raises BadRegion, RegionOverlap, BadMemory, NoHostMemory; nothing has changed then.
        """
        if not 0 <= slot < MEMORY_SLOTS:
            raise BadRegion(f"there is no memory slot {slot}: there are {MEMORY_SLOTS}")
        if flags & ~FLAGS:
            raise BadRegion(f"a memory region cannot have the flags {flags & ~FLAGS:#x}")
        if size < 0 or gpa < 0 or (gpa | size) & PAGE - 1:
            raise BadRegion(f"a region of {size:#x} bytes at {gpa:#x} is not whole pages of {PAGE}")
        if gpa + size > ADDRESSES:
            raise BadRegion(f"a region of {size:#x} bytes at {gpa:#x} reaches beyond the guest's {ADDRESSES:#x} bytes")
        old = self._regions.get(slot)
        if size == 0:
            if old is None:
                raise BadRegion(f"memory slot {slot} is empty, and cannot be emptied")
            del self._regions[slot]
            self._gone.append(old.memory)
            return None
        others = [(each.gpa, each.end, f"that of slot {each.slot}") for each in self if each is not old]
        for low, high, name in (*others, *taken):
            if gpa < high and low < gpa + size:
                raise RegionOverlap(f"a region of {size:#x} bytes at {gpa:#x} lies over {name} at {low:#x}")
        if memory is None:
            view = _own(size) if old is None else old.memory
        else:
            view = _bytes_of(memory, size)
        made = Region(slot, gpa, view, flags)
        if old is not None:
            if size != old.size or made.host != old.host:
                raise BadRegion(f"memory slot {slot} holds other memory: empty it first")
            if made.readonly != old.readonly:
                raise BadRegion(f"memory slot {slot} cannot change between read-only and writable: empty it first")
            if made.logs and old.logs:
                made.dirty = old.dirty
            if made.memory is not old.memory:
                self._gone.append(old.memory)
        self._regions[slot] = made
        return made

    def clear(self) -> None:
        """Empty all slots."""
        self._gone += [region.memory for region in self]
        self._regions.clear()

    def give_back(self) -> None:
        """The machine that had them is gone: memory that no slot has any more is the host's alone again."""
        for memory in self._gone:
            memory.release()
        self._gone.clear()

    # --- in a machine's memory ------------------------------------------------------------------------------

    def place(self, memory: Memory) -> None:
        """Make them the RAM of a machine that has none."""
        for region in self:
            memory.add_ram(region.gpa, region.size, region.memory, region.readonly)
        memory.told = self._is_watched

    def at(self, gpa: int) -> Region | None:
        """The one that has this address."""
        return next((region for region in self if region.gpa <= gpa < region.end), None)

    def watch(self, memory: Memory) -> None:
        """Have the machine, whose harts there are, tell of writes: of the next one to each page of a log's; and never
        take one to what is read only.
        """
        memory.watchers.append(self.written)
        for region in self:
            if region.readonly:
                memory.watch(region.gpa, region.end)
            elif region.logs:
                _watch(memory.watch, set(region.pages) - region.dirty)

    def dirty_log(self, slot: int, watch: Callable[[int, int], None]) -> bytes:
        """A bit for each page of a region that was written since this was asked last; 64-bit words, little-endian.
        `watch` is told from where to where the next write is to be told of.
        """
        region = self.of(slot)
        if not region.logs:
            raise NoSuchRegion(f"memory slot {slot} keeps no log of pages that are written")
        bits = sum(1 << page - region.pages.start for page in region.dirty)
        _watch(watch, region.dirty)
        region.dirty = set()
        return bits.to_bytes((len(region.pages) + 63) // 64 * 8, "little")

    def written(self, start: int, end: int) -> bool:
        """Note a write; whether the next one is to be told of as well."""
        again = False
        for region in self:
            if start < region.end and region.gpa < end:
                first, last = max(start, region.gpa), min(end, region.end) - 1
                if region.logs:
                    region.dirty.update(range(first >> PAGE_SHIFT, (last >> PAGE_SHIFT) + 1))
                again = again or region.readonly
        return again

    def _is_watched(self, page: int) -> bool:
        return any(page in region.pages for region in self if region.readonly or region.logs)


def _watch(watch: Callable[[int, int], None], pages: set[int]) -> None:
    """Runs of pages, each at once."""
    left = sorted(pages)
    at = 0
    while at < len(left):
        first = at
        while at + 1 < len(left) and left[at + 1] == left[at] + 1:
            at += 1
        watch(left[first] << PAGE_SHIFT, left[at] + 1 << PAGE_SHIFT)
        at += 1


def _own(size: int) -> memoryview:
    """Memory of ours, all zeros. Raises NoHostMemory."""
    try:
        return memoryview(mmap.mmap(-1, size))
    except OSError as error:
        raise NoHostMemory(f"the host has no {size:#x} bytes for a region: {error.strerror}") from None


def _bytes_of(memory: Any, size: int) -> memoryview:
    """The first bytes of host memory. Raises BadMemory."""
    try:
        view = memoryview(memory).cast("B")
    except (TypeError, ValueError) as error:
        raise BadMemory(f"this is no memory in one piece: {error}") from None
    if view.readonly:
        raise BadMemory("the host's memory cannot be written: a guest needs a bytearray, an mmap or the like")
    if len(view) < size:
        raise BadMemory(f"the host's memory has {len(view):#x} bytes, and the region {size:#x}")
    return view[:size]
