"""The page walk for native code: what of `guests.riscv.mmu` is common, written for a notation of native code.

`f` is that notation (`dbt.tier0.native`), with what `dbt.tier0.reach` adds: registers by slot, entries of tables to be
read and written, `second` to call the second stage, `refuse` for whatever is left to `Mmu`, which is the meaning:
ranges that physical memory protection divides, MPRV, reserved bits, memory types. A fault that is told here is one
there.
Owns: these common cases. Must not know: what is done with an address, where tables lie in the host.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from guests.riscv import mmu, privileged_traps, traps
from guests.riscv import privileged as p
from guests.riscv import two_stage as two_stages
from guests.riscv.mmu import PBMT, PPN_MASK, PPN_SHIFT, RESERVED, A, D, N, R, U, V, W, X
from guests.riscv.two_stage import WIDER

GUEST_STATUS = 8  # places by which SUM and MXR of vsstatus are above those of mstatus in a context


ACCESSES = {two_stages.GUEST_LOAD: 3, two_stages.GUEST_EXECUTE: 4}  # as one in the guest does, in the mode of SPVP


def walk(f: Any, address: Any, kind: Any) -> None:
    """Set `f.physical` to where an address leads for a load (kind 0), a store (1) or a fetch (2), or leave."""
    mode = f.slot(p.PRIVILEGE)
    _first(f, address, kind, mode, f.slot(p.MSTATUS), f.slot(p.SATP), lambda at, access: at, f.slot(p.MENVCFG))


def two_stage(f: Any, address: Any, kind: Any) -> None:
    """The same for a hart with the hypervisor extension: what a guest accesses goes through `second` as well.

    `kind` may be one of ACCESSES as well, which are loads.
    """
    lent, execute = kind > 2, kind == ACCESSES[two_stages.GUEST_EXECUTE]
    inside = f.either(f.slot(p.VIRTUAL) != 0, lent)
    theirs = f.select((f.slot(p.HSTATUS) & p.SPVP) != 0, p.SUPERVISOR, p.USER)
    mode = f.select(lent, theirs, f.slot(p.PRIVILEGE))
    done = f.select(execute, 2, f.select(lent, 0, kind))  # in the second stage
    kind = f.select(lent, 0, kind)

    def through(guest: Any, access: Any, implicit: Any = 0) -> Any:
        """Where a guest-physical address leads, or any other one where V is 0."""
        place = f.variable(guest)
        with f.when(inside):
            place.set(f.second(guest, access, implicit, kind, address))
        return place.value

    own, menvcfg = f.slot(p.MSTATUS), f.slot(p.MENVCFG)
    status = f.select(inside, f.slot(p.VSSTATUS) | (own & p.MXR), own)
    satp = f.select(inside, f.slot(p.VSATP), f.slot(p.SATP))
    place = lambda at, access: through(at, access, p.TABLE_WRITE if access else p.TABLE_READ)
    envcfg = f.select(inside, menvcfg & f.slot(p.HENVCFG), menvcfg)
    _first(f, address, kind, mode, status, satp, place, envcfg, execute)
    f.physical.set(through(f.physical.value, done))


def second(f: Any) -> None:
    """The second stage: `f.guest` is an address, `f.access` what is done there (0 to 2), `f.implicit` what htinst says
    of it; `f.kind` and `f.address` are those of the access that it is a part of.
    """
    guest, access, kind, implicit = f.guest, f.access, f.kind, f.implicit
    hgatp = f.slot(p.HGATP)
    cause = _by_kind(f, kind, traps.GUEST_FAULTS)

    def fault() -> None:
        f.set_slot(p.GUEST_ADDRESS, guest >> 2)
        f.set_slot(p.GUEST_ACCESS, implicit)
        f.fault(cause, f.address)

    def permits(entry: Any) -> Any:
        executable = f.both((f.slot(p.MSTATUS) & p.MXR) != 0, implicit == 0)
        readable = f.select(executable, entry & (R | X), entry & R)
        right = f.select(access == 2, entry & X, f.select(access == 1, entry & W, readable))
        return f.both((entry & U) != 0, right != 0)

    f.physical.set(guest)
    with f.when((hgatp >> 60) != 0):
        levels = (hgatp >> 60) - 5
        with f.when((guest >> (levels * 9 + 12 + WIDER)) != 0):
            fault()
        _tables(f, guest, access, hgatp, levels, WIDER, lambda at, write: at, permits, f.slot(p.MENVCFG), fault)
    with f.when((f.physical.value >> mmu.PHYSICAL_BITS) != 0):
        f.refuse()


def _by_kind(f: Any, kind: Any, causes: dict[str, int]) -> Any:
    return f.select(kind == 0, causes[mmu.LOAD], f.select(kind == 1, causes[mmu.STORE], causes[mmu.FETCH]))


Place = Callable[[Any, int], Any]  # (address of an entry, whether it is written): where it is in physical memory


def _first(
    f: Any, address: Any, kind: Any, mode: Any, status: Any, satp: Any, place: Place, envcfg: Any, execute: Any = None,
) -> None:  # fmt: skip
    """Virtual addresses, by the tables that `satp` names. `execute`: it is a load that needs the right to execute."""
    store, fetch = kind == 1, kind == 2
    cause = _by_kind(f, kind, mmu.PAGE_FAULTS)
    fault = lambda: f.fault(cause, address)

    def permits(entry: Any) -> Any:
        user = (entry & U) != 0
        supervisor = mode == p.SUPERVISOR
        barred = f.both(supervisor, f.either(fetch, (status & p.SUM) == 0))
        readable = f.select((status & p.MXR) != 0, entry & (R | X), entry & R)
        right = f.select(fetch, entry & X, f.select(store, entry & W, readable))
        right = right if execute is None else f.select(execute, entry & X, right)
        refused = f.either(f.both(user, barred), f.both(f.no(user), f.no(supervisor)))
        return f.both(f.no(refused), right != 0)

    with f.when(f.both(f.no(fetch), (f.slot(p.MSTATUS) & p.MPRV) != 0)):
        f.refuse()
    f.physical.set(address)
    f.highest_mode.set(f.select(mode == p.MACHINE, 1, 0))
    levels = (satp >> 60) - 5
    with f.when(f.both(mode != p.MACHINE, (satp >> 60) != 0)):
        above = f.signed_shift(address, levels * 9 + 11) + 1
        with f.when(above > 1):  # not sign-extended
            fault()
        f.levels.set(levels)
        _tables(f, address, kind, satp, levels, 0, place, permits, envcfg, fault)


def _tables(
    f: Any, address: Any, kind: Any, root: Any, levels: Any, wider: int, place: Place, permits: Callable[[Any], Any],
    envcfg: Any, fault: Callable[[], None],
) -> None:  # fmt: skip
    """Set `f.physical` to where the tables of one stage lead."""
    table = f.variable((root & PPN_MASK) << 12)
    level = f.variable(levels)
    entry, at = f.variable(0), f.variable(0)
    last = f.variable(511 << wider | (1 << wider) - 1)  # of this table's entries
    with f.loop():
        level.set(level.value - 1)
        shift = level.value * 9 + 12
        at.set(table.value + (((address >> shift) & last.value) << 3))
        last.set(511)
        entry.set(f.read_entry(place(at.value, 0), level.value))
        found = entry.value
        with f.when((found & V) == 0):
            fault()
        f.refuse_if((found & (R | W)) == W)
        f.refuse_if((found & (RESERVED | PBMT)) != 0)
        table.set(((found >> PPN_SHIFT) & PPN_MASK) << 12)
        f.leave_loop((found & (R | X)) != 0)
        f.refuse_if((found & (D | A | U | N)) != 0)
        with f.when(level.value == 0):
            fault()
    found = entry.value
    with f.when(f.no(permits(found))):
        fault()
    size = f.variable(f.power(level.value * 9 + 12))
    f.refuse_if((table.value & (size.value - 1)) != 0)
    with f.when((found & N) != 0):
        f.refuse_if(level.value != 0)
        f.refuse_if(((found >> PPN_SHIFT) & (mmu.NAPOT_PAGES - 1)) != mmu.NAPOT_PAGES >> 1)
        size.set(mmu.NAPOT_PAGES * mmu.PAGE)
        table.set(table.value & -(mmu.NAPOT_PAGES * mmu.PAGE))
    wanted = f.select(kind == 1, A | D, A)
    with f.when((found & wanted) != wanted):
        with f.when((envcfg & p.ADUE) == 0):
            fault()
        f.write_entry(place(at.value, 1), found | wanted)
    f.physical.set(table.value | (address & (size.value - 1)))


def tables(m: Any) -> Any:
    """What says where the tables are, which in a guest are its own."""
    return p.by_virtual(m, p.SATP, p.VSATP)


def context(m: Any) -> tuple[Any, ...]:
    """All that translation depends on beside memory protection and menvcfg: what it means, and which tables."""
    status, mode = m.and_(m.s[p.MSTATUS], p.mapping(m)), m.s[p.PRIVILEGE]
    lent = p.has(m, status, p.MPRV)
    status = m.select(lent, status, m.and_(status, p.ALL & ~(p.MPP | p.MPV if m.hypervisor else p.MPP)))
    own = m.select(m.both(m.eq(mode, p.MACHINE), m.not_(lent)), 0, m.s[p.SATP])
    meaning = m.or_(status, privileged_traps.mode(m))
    if not m.hypervisor:
        return meaning, own
    guest = m.either(p.virtual(m), p.has(m, status, p.MPV))
    theirs = m.shl(m.and_(m.s[p.VSSTATUS], p.SUM | p.MXR), GUEST_STATUS)
    meaning = m.or_(meaning, m.select(guest, theirs, 0))
    return meaning, m.select(guest, m.s[p.VSATP], own), m.select(guest, m.s[p.HGATP], 0)
