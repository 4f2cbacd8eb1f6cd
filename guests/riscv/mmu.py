"""From a guest's addresses to physical ones: page tables, and physical memory protection (Privileged ISA).

Sv39, Sv48 and Sv57 with Svade or Svadu (menvcfg.ADUE), Svpbmt, Svnapot. Nothing is remembered here: each access is as
if it walked. Owns: the walk, permissions, and the order of faults. Must not know: what memory is; it is given as two
functions on physical addresses that raise `Absent`.
"""

from __future__ import annotations

from collections.abc import Callable, MutableSequence, Set
from functools import lru_cache, partial
from itertools import pairwise
from typing import NamedTuple

from guests.riscv import privileged as p
from guests.riscv import traps
from guests.spec import Absent, Trap

LOAD, STORE, FETCH = "load", "store", "fetch"
PAGE_FAULTS = traps.FAULTS
ACCESS_FAULTS = {LOAD: traps.LOAD_FAULT, STORE: traps.STORE_FAULT, FETCH: traps.FETCH_FAULT}
PHYSICAL_BITS = 56
PAGE = 1 << 12

# Bits of a page-table entry.
V, R, W, X, U, G, A, D = (1 << bit for bit in range(8))
PPN_SHIFT, PPN_MASK = 10, (1 << 44) - 1
RESERVED = 0x7F << 54  # bits 60:54
PBMT, PBMT_RESERVED = 3 << 61, 3 << 61
N = 1 << 63
NAPOT_PAGES = 16  # the only size of Svnapot: 64 KiB

LEVELS = {8: 3, 9: 4, 10: 5}  # by satp.MODE
PMP_RIGHTS = {LOAD: 1, STORE: 2, FETCH: 4}
PMP_LOCKED = 0x80
PMP_ON = 0x1818_1818_1818_1818  # in any of eight entries


class Stage(NamedTuple):
    """One stage of translation: what the walk of its tables has to know."""

    table: int  # physical address of the root
    levels: int
    wider: int  # bits by which its addresses are wider, and the root is larger
    envcfg: int  # ADUE and PBMTE of this stage
    permits: Callable[[int], bool]  # whether the access may be made by a leaf
    place: Callable[[int, bool], int] | None  # (address of an entry, whether it is written): where that is; None: there


class Mmu:
    """The translation of one hart, whose CPU state `slots` are. `read` and `write` reach doublewords of tables."""

    def __init__(
        self,
        slots: MutableSequence[int] | memoryview,
        read: Callable[[int], int],
        write: Callable[[int, int], None],
    ) -> None:
        self._slots = slots
        self._read = read
        self._write = write
        self.span = PAGE  # bytes around the address that was translated last, aligned, which go the same way

    def translate(self, address: int, size: int, access: str) -> int:
        """The physical address of `size` bytes that lie within one page, for a "load", a "store" or a "fetch".

        Raises Trap, with the address as its value, where the current mode may not make this access.
        """
        mode = self._mode(access)
        satp = self._slots[p.SATP]
        if mode == p.MACHINE or satp >> 60 == 0:
            physical = address
            self.span = 1 << PHYSICAL_BITS
            if physical >> PHYSICAL_BITS:
                raise Trap(ACCESS_FAULTS[access], address)
        else:
            physical = self._walk(address, access, self._own_stage(access, mode, satp))
        if not self._permitted(physical, size, PMP_RIGHTS[access], mode):
            raise Trap(ACCESS_FAULTS[access], address)
        return physical

    def absent(self, access: str, address: int) -> Trap:
        """What an access raises that was translated, to where there is nothing."""
        return Trap(ACCESS_FAULTS[access], address)

    def context(self) -> tuple[object, ...]:
        """All that translation depends on: what held in one context holds when it comes again."""
        slots = self._slots
        return slots[p.PRIVILEGE], slots[p.MSTATUS] & p.MAPPING, slots[p.SATP], self.assumed()

    def assumed(self) -> tuple[int | bytes, ...]:
        """What translation depends on that changes seldom."""
        return self._slots[p.MENVCFG], bytes(self._slots[p.PMPCFG0 : p.PMPADDR0 + p.PMP_ENTRIES])

    def windows(self, base: int, size: int, hidden: Set[int]) -> list[tuple[int, int]]:
        """The largest run of whole pages in a range of RAM that all modes but machine mode may use in all ways, and the
        same for machine mode: address and size of each. `hidden` are pages that do not count."""
        slots = self._slots
        config = slots[p.PMPCFG0], slots[p.PMPCFG0 + 1]
        ends = {base, base + size}
        for low, high, _ in _ranges(config, tuple(slots[p.PMPADDR0 : p.PMPADDR0 + p.PMP_ENTRIES])):
            ends |= {low & -PAGE, low + PAGE - 1 & -PAGE, high & -PAGE, high + PAGE - 1 & -PAGE}
        for page in hidden:
            ends |= {page * PAGE, page * PAGE + PAGE}
        inside = sorted(end for end in ends if base <= end <= base + size)
        found = []
        for mode in (p.SUPERVISOR, p.MACHINE):
            best = low = high = base
            size_of_best = 0
            for start, end in pairwise(inside):
                free = start // PAGE not in hidden and all(
                    self._permitted(start, end - start, right, mode) for right in PMP_RIGHTS.values()
                )
                low, high = (low if start == high else start, end) if free else (end, end)
                if high - low > size_of_best:
                    best, size_of_best = low, high - low
            found.append((best, size_of_best))
        return found

    def permits(self, physical: int, size: int, access: str) -> bool:
        """Whether the current mode may make this access to every byte of a range of physical memory."""
        return self._permitted(physical, size, PMP_RIGHTS[access], self._mode(access))

    def _mode(self, access: str) -> int:
        """The mode as which an access is made: that of mstatus.MPP for data under MPRV."""
        slots = self._slots
        if access != FETCH and slots[p.MSTATUS] & p.MPRV:
            return slots[p.MSTATUS] >> p.MPP_SHIFT & 3
        return slots[p.PRIVILEGE]

    def _own_stage(self, access: str, mode: int, satp: int) -> Stage:
        """The stage of virtual addresses without a hypervisor."""
        permits = partial(self._leaf_permits, access=access, mode=mode, status=self._slots[p.MSTATUS])
        return Stage((satp & PPN_MASK) << 12, LEVELS[satp >> 60], 0, self._slots[p.MENVCFG], permits, None)

    def _walk(self, address: int, access: str, stage: Stage) -> int:
        """Where an address leads in a stage, which must be sign-extended if that is not wider. Raises Trap."""
        table, levels, wider, envcfg, permits, place = stage
        top = address >> 11 + 9 * levels
        if not wider and top and top != (1 << 53 - 9 * levels) - 1:
            raise Trap(PAGE_FAULTS[access], address)
        for level in range(levels - 1, -1, -1):
            index = address >> 12 + 9 * level & (512 << (wider if level == levels - 1 else 0)) - 1
            where = table + index * 8
            at = where if place is None else place(where, False)
            entry = self._entry(at, address, access)
            if not entry & V or entry & (R | W) == W or entry & RESERVED:
                break
            if entry & PBMT and (not envcfg & p.PBMTE or entry & PBMT == PBMT_RESERVED):
                break
            number = entry >> PPN_SHIFT & PPN_MASK
            if not entry & (R | X):
                if entry & (D | A | U | N | PBMT):
                    break
                table = number << 12
                continue
            if not permits(entry) or number & (1 << 9 * level) - 1:
                break
            pages = 1 << 9 * level
            if entry & N:
                pages = NAPOT_PAGES
                if level or number & NAPOT_PAGES - 1 != NAPOT_PAGES >> 1:
                    break
            wanted = A | D if access == STORE else A
            if entry & wanted != wanted:
                if not envcfg & p.ADUE:
                    break
                if place is not None:
                    at = place(where, True)
                self._set_entry(at, entry | wanted, address, access)
            self.span = PAGE << 9 * level  # each page of a NAPOT range has an entry of its own, which may be another
            page = number & -pages | address >> 12 & pages - 1
            return page << 12 | address & PAGE - 1
        raise Trap(PAGE_FAULTS[access], address)

    @staticmethod
    def _leaf_permits(entry: int, access: str, mode: int, status: int, execute: bool = False) -> bool:
        """`execute`: a load that needs the right to execute instead of that to read."""
        if entry & U:
            if mode == p.SUPERVISOR and (access == FETCH or not status & p.SUM):
                return False
        elif mode == p.USER:
            return False
        if access == FETCH or execute:
            return bool(entry & X)
        if access == STORE:
            return bool(entry & W)
        return bool(entry & (R | X if status & p.MXR else R))

    def _entry(self, at: int, address: int, access: str) -> int:
        """Tables are read as supervisor mode reads; a fault is one of the access that asked."""
        if self._permitted(at, 8, PMP_RIGHTS[LOAD], p.SUPERVISOR):
            try:
                return self._read(at)
            except Absent:
                pass
        raise Trap(ACCESS_FAULTS[access], address)

    def _set_entry(self, at: int, entry: int, address: int, access: str) -> None:
        if self._permitted(at, 8, PMP_RIGHTS[STORE], p.SUPERVISOR):
            try:
                return self._write(at, entry)
            except Absent:
                pass
        raise Trap(ACCESS_FAULTS[access], address)

    def _permitted(self, physical: int, size: int, wanted: int, mode: int) -> bool:
        """Physical memory protection: the first entry that has any of the bytes must have all, and decides.

        `wanted` are bits of PMP_RIGHTS.
        """
        slots = self._slots
        config = slots[p.PMPCFG0], slots[p.PMPCFG0 + 1]
        if mode == p.MACHINE and not (config[0] | config[1]) & PMP_ON:
            return True
        for low, high, rights in _ranges(config, tuple(slots[p.PMPADDR0 : p.PMPADDR0 + p.PMP_ENTRIES])):
            if physical < high and low < physical + size:
                if not low <= physical <= high - size:
                    return False
                if mode == p.MACHINE and not rights & PMP_LOCKED:
                    return True
                return rights & wanted == wanted
        return mode == p.MACHINE


@lru_cache(maxsize=64)
def _ranges(config: tuple[int, int], addresses: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """The entries that are on, as (first byte, behind the last, configuration), in order of priority."""
    found = []
    for i, address in enumerate(addresses):
        rights = config[i // 8] >> i % 8 * 8 & 0xFF
        match rights >> 3 & 3:  # TOR, NA4, NAPOT
            case 1:
                low, high = (addresses[i - 1] << 2 if i else 0), address << 2
            case 2:
                low, high = address << 2, (address << 2) + 4
            case 3:
                size = (address ^ address + 1) + 1 << 2  # a power of two: the lowest 0 bit says which
                low = (address << 2) & -size
                high = low + size
            case _:
                continue
        if low < high:
            found.append((low, high, rights))
    return found
