"""Guest physical memory in the machine behind a virtual machine: where regions are there, and how writes are noted.

    Flat      guest physical addresses are the machine's own: regions and devices are at them
    Staged    regions are elsewhere in the machine's memory, and tables of the second stage lead there, which are made
              here. What they do not lead to leaves the guest; what a log is to tell of is protected by them

Owns: this placing. Must not know: exits, virtual CPUs, the form of tables (`guests.load_second_stage`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dbt.kvm.memory import PAGE, Regions
from dbt.machine.memory import PAGE_SHIFT, Device, Memory
from dbt.machine.vm import Caller
from dbt.machine.vm import Vm as Behind

TABLES, HOST = 1 << 39, 1 << 40  # where tables and the first region are in the memory of a machine with two stages
ALIGNED = 1 << 30  # regions are at the same place as for the guest, modulo the largest leaf


class Flat:
    """`view` is the memory as a monitor and its guest see it, by guest physical addresses."""

    def __init__(self, behind: Behind, regions: Regions, devices: Iterable[tuple[int, Device]]) -> None:
        self.regions = regions
        self.view = _filled(behind.memory, behind, regions, devices)

    def begin(self) -> None:
        """There are harts: writes are noted from now on."""
        self.regions.watch(self.view)

    def watch(self, start: int, end: int) -> None:
        """The next write to each of these pages is to be noted."""
        self.view.watch(start, end)

    def answers(self, gpa: int) -> bool:
        """Whether a fault here was for the log alone, which has its page now: the guest goes on."""
        return False


class Staged:
    """The same with a second stage of the hart's, `stage`, that has no table but its root."""

    def __init__(self, behind: Behind, regions: Regions, devices: Iterable[tuple[int, Device]], stage: Any) -> None:
        self.regions = regions
        self.view = _filled(Memory(), behind, regions, devices)
        self.view.writing.append(self._written)
        self._memory = behind.memory
        self._stage = stage
        self._places: list[tuple[int, int, int]] = []  # begin and end for the guest, and what leads to the machine's
        free = HOST
        for region in regions:
            place = free + (region.gpa - free) % ALIGNED
            self._memory.add_ram(place, region.size, region.memory)
            self._places.append((region.gpa, region.end, place - region.gpa))
            stage.map(region.gpa, place, region.size, not region.readonly and not region.logs, region.logs)
            free = place + region.size
        if len(regions):
            self._memory.add_tables(stage.base, memoryview(stage.content))

    def begin(self) -> None:
        for region in self.regions:
            for page in region.dirty:
                self._set(page << PAGE_SHIFT, True)

    def watch(self, start: int, end: int) -> None:
        for gpa in range(start, end, PAGE):
            self._set(gpa, False)

    def answers(self, gpa: int) -> bool:
        region = self.regions.at(gpa)
        if region is None or region.readonly:
            return False
        region.dirty.add(gpa >> PAGE_SHIFT)
        self._set(gpa & -PAGE, True)
        return True

    def _set(self, gpa: int, writable: bool) -> None:
        at, value = self._stage.leaf(gpa, writable)
        self._memory.poke(at, value.to_bytes(8, "little"))

    def _written(self, start: int, end: int) -> None:
        """Who writes by the view writes the machine's memory."""
        self.regions.written(start, end)
        for low, high, away in self._places:
            if start < high and low < end:
                first = max(start, low)
                self._memory.note(first + away, min(end, high) - first)


def _filled(
    memory: Memory, behind: Behind, regions: Regions, devices: Iterable[tuple[int, Device]]
) -> Memory:
    """A memory with all of it at guest physical addresses, in which what nothing answers is the user's."""
    regions.place(memory)
    for base, device in devices:
        memory.add_device(base, device)
    memory.beyond = Caller(behind, 0, 1 << 64)
    return memory
