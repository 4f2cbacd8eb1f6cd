"""Two-stage translation, of harts with the hypervisor extension (Privileged ISA, "H" Extension, two-stage address
translation): a guest's addresses go through its own tables (vsatp) and those of its hypervisor (hgatp).

Owns: which stages an access goes through, what is different in each, what a guest-page fault leaves for its trap. Must
not know: the walk of one stage (`guests.riscv.mmu`).
"""

from __future__ import annotations

from functools import partial

from guests.riscv import mmu, traps
from guests.riscv import privileged as p
from guests.riscv.mmu import FETCH, LEVELS, LOAD, PMP_RIGHTS, PPN_MASK, STORE, Mmu, R, Stage, U, W, X
from guests.spec import Trap

GUEST_LOAD, GUEST_EXECUTE, GUEST_STORE = "guest load", "guest execute", "guest store"  # HLV, HLVX, HSV
KINDS = {GUEST_LOAD: LOAD, GUEST_EXECUTE: LOAD, GUEST_STORE: STORE}
ACCESS_FAULTS = mmu.ACCESS_FAULTS | {access: mmu.ACCESS_FAULTS[kind] for access, kind in KINDS.items()}
WIDER = 2  # bits of guest-physical addresses beyond those of virtual ones; the root table is so much larger
EXECUTABLE = PMP_RIGHTS[LOAD] | PMP_RIGHTS[FETCH]  # HLVX reads, and needs the right to execute as well


class TwoStage(Mmu):
    """The translation of one hart with the hypervisor extension."""

    def translate(self, address: int, size: int, access: str) -> int:
        slots = self._slots
        slots[p.GUEST_ADDRESS] = slots[p.GUEST_ACCESS] = 0
        mode, virtual = self._as(access)
        if not virtual:
            return super().translate(address, size, access)
        kind = KINDS.get(access, access)
        try:
            physical = self._guest(address, kind, mode, access == GUEST_EXECUTE)
            rights = EXECUTABLE if access == GUEST_EXECUTE else PMP_RIGHTS[kind]
            if not self._permitted(physical, size, rights, mode):
                raise Trap(mmu.ACCESS_FAULTS[kind], address)
        except Trap:
            self._tell_guest()
            raise
        return physical

    def absent(self, access: str, address: int) -> Trap:
        if self._as(access)[1]:
            self._tell_guest()
        return Trap(ACCESS_FAULTS[access], address)

    def _tell_guest(self) -> None:
        """Have the trap of an access know that its address is a guest's, where the mode does not say so."""
        if not self._slots[p.VIRTUAL]:
            self._slots[p.GUEST_ACCESS] |= p.GUEST_VIRTUAL

    def context(self) -> tuple[object, ...]:
        slots = self._slots
        status = slots[p.MSTATUS] & (p.MAPPING | p.MPV), slots[p.VSSTATUS] & (p.SUM | p.MXR)
        tables = slots[p.SATP], slots[p.VSATP], slots[p.HGATP]
        return slots[p.PRIVILEGE], slots[p.VIRTUAL], *status, *tables, self.assumed()

    def assumed(self) -> tuple[int | bytes, ...]:
        return self._slots[p.HENVCFG], *super().assumed()

    def _as(self, access: str) -> tuple[int, bool]:
        """The mode as which an access is made, and whether in a guest."""
        slots = self._slots
        if access in KINDS:
            return (p.SUPERVISOR if slots[p.HSTATUS] & p.SPVP else p.USER), True
        mode = self._mode(access)
        if access != FETCH and slots[p.MSTATUS] & p.MPRV:
            return mode, bool(slots[p.MSTATUS] & p.MPV) and mode != p.MACHINE
        return mode, bool(slots[p.VIRTUAL])

    def _guest(self, address: int, kind: str, mode: int, execute: bool) -> int:
        """The physical address of a guest's virtual one."""
        slots = self._slots
        vsatp = slots[p.VSATP]
        physical, span = address, 1 << 64
        if vsatp >> 60:
            status = slots[p.VSSTATUS] | slots[p.MSTATUS] & p.MXR
            stage = Stage(
                (vsatp & PPN_MASK) << 12, LEVELS[vsatp >> 60], 0, slots[p.HENVCFG] & slots[p.MENVCFG],
                partial(self._leaf_permits, access=kind, mode=mode, status=status, execute=execute),
                partial(self._table_entry, address, kind),
            )  # fmt: skip
            physical = self._walk(address, kind, stage)
            span = self.span
        physical = self._second(physical, address, kind, kind, execute, 0)
        self.span = min(span, self.span)
        return physical

    def _table_entry(self, address: int, kind: str, at: int, write: bool) -> int:
        """Where an entry of the guest's tables is, which is read, or marked as accessed or dirty."""
        implicit = p.TABLE_WRITE if write else p.TABLE_READ
        return self._second(at, address, kind, STORE if write else LOAD, False, implicit)

    def _second(self, guest: int, address: int, kind: str, access: str, execute: bool, implicit: int) -> int:
        """The physical address of a guest-physical one. All accesses are as from user mode.

        `access` is what is done there, `kind` what the guest's program does at `address`, whose fault it is.
        """
        slots = self._slots
        hgatp = slots[p.HGATP]
        if not hgatp >> 60:
            self.span = 1 << mmu.PHYSICAL_BITS
            if guest >> mmu.PHYSICAL_BITS:
                raise Trap(mmu.ACCESS_FAULTS[kind], address)
            return guest
        levels = LEVELS[hgatp >> 60]
        mxr = bool(slots[p.MSTATUS] & p.MXR) and not implicit

        def permits(entry: int) -> bool:
            if not entry & U:
                return False
            if access == FETCH or execute:
                return bool(entry & X)
            return bool(entry & (W if access == STORE else R | X if mxr else R))

        stage = Stage((hgatp & PPN_MASK) << 12, levels, WIDER, slots[p.MENVCFG], permits, None)
        try:
            if guest >> 12 + 9 * levels + WIDER:
                raise Trap(mmu.PAGE_FAULTS[access])
            return self._walk(guest, access, stage)
        except Trap as trap:
            if trap.cause != mmu.PAGE_FAULTS[access]:
                raise Trap(mmu.ACCESS_FAULTS[kind], address) from None
            slots[p.GUEST_ADDRESS], slots[p.GUEST_ACCESS] = guest >> 2, implicit
            raise Trap(traps.GUEST_FAULTS[kind], address) from None
