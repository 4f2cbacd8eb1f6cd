"""Guest physical memory in the machine behind a virtual machine: where regions are there, and how writes are noted.

    Flat      guest physical addresses are the machine's own: regions and devices are at them
    Staged    regions are elsewhere in the machine's memory, and tables of the second stage lead there, which are made
              here. What they do not lead to leaves the guest; what a log is to tell of is protected by them
    Shadowed  the same without a second stage: shadow tables of the guest's virtual addresses lead there

Owns: this placing. Must not know: exits, virtual CPUs, the form of tables (`guests.load_second_stage`,
`guests.load_shadow`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from dbt.kvm.memory import PAGE, Region, Regions
from dbt.machine.memory import PAGE_SHIFT, Device, Memory
from dbt.machine.vm import Caller
from dbt.machine.vm import Vm as Behind

if TYPE_CHECKING:
    from dbt.machine.vm import Vcpu as Hart

TABLES, HOST = 1 << 39, 1 << 40  # where tables and the first region are in a machine's memory, if regions are apart
Attached = Iterable[tuple[int, Device]]  # devices, by guest physical address
ALIGNED = 1 << 30  # regions are at the same place as for the guest, modulo the largest leaf


class Flat:
    """`view` is the memory as a monitor and its guest see it, by guest physical addresses."""

    def __init__(self, behind: Behind, regions: Regions, devices: Attached) -> None:
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


class Apart:
    """The same with regions elsewhere, and with devices that are the guest's own, `assigned`."""

    def __init__(self, behind: Behind, regions: Regions, devices: Attached, assigned: Attached) -> None:
        self.regions = regions
        self.view = _filled(Memory(), behind, regions, [*devices, *assigned])
        self.view.writing.append(self._written)
        self._memory = behind.memory
        self._places: list[tuple[Region, int]] = []  # with what leads from the guest's addresses to the machine's
        self._assigned: list[tuple[int, int, int]] = []  # the guest's address, bytes, the machine's address
        free = HOST
        for region in regions:
            place = free + (region.gpa - free) % ALIGNED
            self._memory.add_ram(place, region.size, region.memory)
            self._places.append((region, place - region.gpa))
            free = place + region.size
        for gpa, device in assigned:
            place = free + (gpa - free) % ALIGNED
            self._memory.add_device(place, device)
            self._assigned.append((gpa, device.size, place))
            free = place + device.size

    def begin(self) -> None:
        """There are harts."""

    def answers(self, gpa: int) -> bool:
        """Whether a page may be written, of which a log has taken note now."""
        region = self.regions.at(gpa)
        if region is None or region.readonly:
            return False
        region.dirty.add(gpa >> PAGE_SHIFT)
        return True

    def places(self) -> list[tuple[int, int, int]]:
        """Where memory and devices of the guest are: its address, bytes, the machine's address."""
        return [*((region.gpa, region.size, region.gpa + away) for region, away in self._places), *self._assigned]

    def _written(self, start: int, end: int) -> None:
        """Who writes by the view writes the machine's memory."""
        self.regions.written(start, end)
        for region, away in self._places:
            if start < region.end and region.gpa < end:
                first = max(start, region.gpa)
                self._memory.note(first + away, min(end, region.end) - first)


class Staged(Apart):
    """The same with a second stage of the hart's, `stage`, that has no table but its root."""

    def __init__(
        self, behind: Behind, regions: Regions, devices: Attached, assigned: Attached, stage: Any
    ) -> None:
        super().__init__(behind, regions, devices, assigned)
        self._stage = stage
        for region, away in self._places:
            writable = not region.readonly and not region.logs
            stage.map(region.gpa, region.gpa + away, region.size, writable, region.logs)
        for gpa, size, place in self._assigned:
            stage.map(gpa, place, size, True, False)
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
        if not super().answers(gpa):
            return False
        self._set(gpa & -PAGE, True)
        return True

    def _set(self, gpa: int, writable: bool) -> None:
        at, value = self._stage.leaf(gpa, writable)
        self._memory.poke(at, value.to_bytes(8, "little"))


class Shadowed(Apart):
    """The same with shadow tables, by the module `shadows`; `eager`: see there."""

    def __init__(
        self, behind: Behind, regions: Regions, devices: Attached, assigned: Attached, shadows: Any, eager: bool
    ) -> None:
        super().__init__(behind, regions, devices, assigned)
        self._shadows = shadows
        self._views: dict[int, Any] = {}  # by the hart's number
        self.shadow = shadows.Shadow(TABLES, self, eager, self._changed)
        self._memory.add_tables(TABLES, memoryview(self.shadow.tables.content))

    def _changed(self) -> None:
        """What was found in any of the tables is to be forgotten."""
        self._memory.note(TABLES, self.shadow.tables.used)

    def answers(self, gpa: int) -> bool:
        return super().answers(gpa) or any(low <= gpa < low + size for low, size, _ in self._assigned)

    def view_of(self, hart: Hart) -> Any:
        """What the tables of a hart's guest say."""
        return self._views.setdefault(hart.number, self._shadows.View(hart.state.slots, self))

    def satp(self, hart: Hart) -> int:
        """The tables for what a hart's guest is in."""
        found: int = self.shadow.satp(self.view_of(hart))
        return found

    def watch(self, start: int, end: int) -> None:
        """Nothing may be written that was not written again: the next store to each page is a fault."""
        self.shadow.clear()

    def read(self, gpa: int) -> int:
        """A doubleword of RAM, for walks of a guest's tables. Absent where there is none."""
        return int.from_bytes(self.view.peek(gpa, 8), "little")

    def write(self, gpa: int, value: int) -> None:
        self.view.write(gpa, 8, value)

    def pieces(self, gpa: int, size: int) -> Iterator[Any]:
        """The runs of memory which have any of these addresses, of pages that may all be written or not."""
        for region, away in self._places:
            low, high = max(gpa, region.gpa), min(gpa + size, region.end)
            if low >= high:
                continue
            if not region.logs:
                yield self._shadows.Piece(region.gpa, region.size, region.gpa + away, not region.readonly, False)
                continue
            for page in range(low >> PAGE_SHIFT, (high - 1 >> PAGE_SHIFT) + 1):
                at = page << PAGE_SHIFT
                yield self._shadows.Piece(at, PAGE, at + away, page in region.dirty and not region.readonly, True)
        for low, length, place in self._assigned:
            if gpa < low + length and low < gpa + size:
                yield self._shadows.Piece(low, length, place, True, False)


def _filled(memory: Memory, behind: Behind, regions: Regions, devices: Attached) -> Memory:
    """A memory with all of it at guest physical addresses, in which what nothing answers is the user's."""
    regions.place(memory)
    for base, device in devices:
        memory.add_device(base, device)
    memory.beyond = Caller(behind, 0, 1 << 64)
    return memory
