"""The page walk for native code: what of `guests.riscv.mmu` is common, written for a notation of native code.

`f` is that notation (`dbt.tier0.native`), with what `dbt.tier0.reach` adds: registers by slot, entries of tables to be
read and written, `refuse` for whatever is left to `Mmu`, which is the meaning: ranges that physical memory protection
divides, MPRV, reserved bits, memory types. A fault that is told here is one there.
Owns: these common cases. Must not know: what is done with an address, where tables lie in the host.
"""

from __future__ import annotations

from typing import Any

from guests.riscv import mmu, privileged_traps
from guests.riscv import privileged as p
from guests.riscv.mmu import PBMT, PPN_MASK, PPN_SHIFT, RESERVED, A, D, N, R, U, V, W, X


def walk(f: Any, address: Any, kind: Any) -> None:
    """Set `f.physical` to where an address leads for a load (kind 0), a store (1) or a fetch (2), or leave."""
    mode, status, satp = f.slot(p.PRIVILEGE), f.slot(p.MSTATUS), f.slot(p.SATP)
    load, store, fetch = kind == 0, kind == 1, kind == 2
    fault = f.select(load, mmu.PAGE_FAULTS[mmu.LOAD], f.select(store, mmu.PAGE_FAULTS[mmu.STORE],
                                                               mmu.PAGE_FAULTS[mmu.FETCH]))  # fmt: skip
    with f.when(f.both(f.no(fetch), (status & p.MPRV) != 0)):
        f.refuse()
    f.physical.set(address)
    f.highest_mode.set(f.select(mode == p.MACHINE, 1, 0))
    levels = (satp >> 60) - 5
    with f.when(f.both(mode != p.MACHINE, (satp >> 60) != 0)):
        above = f.signed_shift(address, levels * 9 + 11) + 1
        with f.when(above > 1):  # not sign-extended
            f.fault(fault, address)
        f.levels.set(levels)
        table = f.variable((satp & PPN_MASK) << 12)
        level = f.variable(levels)
        entry, at = f.variable(0), f.variable(0)
        with f.loop():
            level.set(level.value - 1)
            shift = level.value * 9 + 12
            at.set(table.value + (((address >> shift) & 511) << 3))
            entry.set(f.read_entry(at.value, level.value))
            found = entry.value
            with f.when((found & V) == 0):
                f.fault(fault, address)
            f.refuse_if((found & (R | W)) == W)
            f.refuse_if((found & (RESERVED | PBMT)) != 0)
            table.set(((found >> PPN_SHIFT) & PPN_MASK) << 12)
            f.leave_loop((found & (R | X)) != 0)
            f.refuse_if((found & (D | A | U | N)) != 0)
            with f.when(level.value == 0):
                f.fault(fault, address)
        found = entry.value
        user = (found & U) != 0
        supervisor = mode == p.SUPERVISOR
        barred = f.both(supervisor, f.either(fetch, (status & p.SUM) == 0))
        readable = f.select((status & p.MXR) != 0, found & (R | X), found & R)
        right = f.select(fetch, found & X, f.select(store, found & W, readable))
        refused = f.either(f.both(user, barred), f.both(f.no(user), f.no(supervisor)))
        with f.when(f.either(refused, right == 0)):
            f.fault(fault, address)
        size = f.variable(f.power(level.value * 9 + 12))
        f.refuse_if((table.value & (size.value - 1)) != 0)
        with f.when((found & N) != 0):
            f.refuse_if(level.value != 0)
            f.refuse_if(((found >> PPN_SHIFT) & (mmu.NAPOT_PAGES - 1)) != mmu.NAPOT_PAGES >> 1)
            size.set(mmu.NAPOT_PAGES * mmu.PAGE)
            table.set(table.value & -(mmu.NAPOT_PAGES * mmu.PAGE))
        wanted = f.select(store, A | D, A)
        with f.when((found & wanted) != wanted):
            with f.when((f.slot(p.MENVCFG) & p.ADUE) == 0):
                f.fault(fault, address)
            f.write_entry(at.value, found | wanted)
        f.physical.set(table.value | (address & (size.value - 1)))


def without_guests(f: Any, address: Any, kind: Any) -> None:
    """The same for a hart with the hypervisor extension, of which what a guest accesses is left to `TwoStage`."""
    f.refuse_if(f.slot(p.VIRTUAL) != 0)
    walk(f, address, kind)


def context(m: Any) -> tuple[Any, Any]:
    """All that translation depends on beside memory protection and menvcfg: what it means, and which tables."""
    status, mode = m.and_(m.s[p.MSTATUS], p.MAPPING), m.s[p.PRIVILEGE]
    lent = p.has(m, status, p.MPRV)
    status = m.select(lent, status, m.and_(status, p.ALL & ~p.MPP))
    tables = m.select(m.both(m.eq(mode, p.MACHINE), m.not_(lent)), 0, m.s[p.SATP])
    return m.or_(status, privileged_traps.mode(m)), tables
