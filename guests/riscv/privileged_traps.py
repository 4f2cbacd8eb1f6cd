"""Entering a trap: where it goes, what it leaves behind; and which interrupt is next (Privileged ISA, mcause, mideleg).

Written against a domain as bodies are, and run by whoever runs a hart. Owns: delegation, vectors, the order of
interrupts. Must not know: when one asks. That is at block boundaries, in one place (`dbt.machine`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from guests.riscv import privileged as p
from guests.riscv import traps
from guests.riscv.registers import RESERVED_SIZE

INTERRUPT = 1 << 63  # of mcause
PRIORITY = (p.MEI, p.MSI, p.MTI, p.SEI, p.SSI, p.STI)  # the highest first
HYPERVISOR_PRIORITY = (*PRIORITY, p.VSEI, p.VSSI, p.VSTI)


class After(NamedTuple):
    """What the hart will be behind an instruction: mstatus, the mode, V (of a condition), and vsstatus."""

    status: Any
    mode: Any
    virtual: Any
    guest_status: Any

    @staticmethod
    def of(m, status=None, mode=None, virtual=None, guest_status=None) -> After:
        """What is not given stays as it is."""
        return After(
            m.s[p.MSTATUS] if status is None else status,
            m.s[p.PRIVILEGE] if mode is None else mode,
            p.virtual(m) if virtual is None and m.hypervisor else virtual,
            m.s[p.VSSTATUS] if guest_status is None and m.hypervisor else guest_status,
        )


def mode(m):
    """The mode for counts and for people: that of the privilege, and from 4 on those of a guest."""
    return m.or_(m.s[p.PRIVILEGE], m.shl(m.s[p.VIRTUAL], 2)) if m.hypervisor else m.s[p.PRIVILEGE]


def kept(m, status, enable: int, previous: int, mode):
    """A status register in a trap: xPIE keeps xIE, which ends, and xPP the mode."""
    status = p.replaced(m, status, enable << 4, m.shl(m.and_(status, enable), 4))
    return p.replaced(m, status, previous | enable, mode)


def enter(m, pc, cause, value):
    """Enter the trap of this cause, taken at `pc`; returns where the handler is.

    A system call's cause says from which mode it comes; the row of `ecall` says user mode.
    """
    mode = m.s[p.PRIVILEGE]
    from_supervisor = m.eq(mode, p.SUPERVISOR)
    call = m.add(mode, m.bit(m.both(p.virtual(m), from_supervisor))) if m.hypervisor else mode
    cause = m.select(m.eq(cause, traps.USER_ECALL), m.add(cause, call), cause)
    interrupt = m.ne(m.and_(cause, INTERRUPT), 0)
    code = m.and_(cause, 63)
    delegated = m.shr(m.select(interrupt, m.s[p.MIDELEG], m.s[p.MEDELEG]), code)
    below = m.both(m.ltu(mode, p.MACHINE), p.has(m, delegated, 1))
    status = m.s[p.MSTATUS]
    before = p.bit_if(m, from_supervisor, p.SPP)
    s_status = kept(m, status, p.SIE, p.SPP, before)
    m_status = kept(m, status, p.MIE_BIT, p.MPP, m.shl(mode, p.MPP_SHIFT))
    if m.hypervisor:
        inside = p.virtual(m)
        delegated = m.shr(m.select(interrupt, m.s[p.HIDELEG], m.s[p.HEDELEG]), code)
        guest = m.both(m.both(below, inside), p.has(m, delegated, 1))
        below = m.both(below, m.not_(guest))
        machine = m.not_(m.either(below, guest))
        m_status = _leave_guest(m, inside, below, machine, cause, from_supervisor, m_status)
        theirs = m.s[p.VSSTATUS]
        m.s[p.VSSTATUS] = m.select(guest, kept(m, theirs, p.SIE, p.SPP, before), theirs)
        m.s[p.VIRTUAL] = m.bit(guest)
        seen = m.sub(cause, m.bit(interrupt))  # a guest sees its interrupts under the supervisor's numbers
        for slot, new in ((p.VSEPC, pc), (p.VSCAUSE, seen), (p.VSTVAL, value)):
            m.s[slot] = m.select(guest, new, m.s[slot])
    else:
        machine = m.not_(below)
    new_status = m.select(below, s_status, m_status)
    m.s[p.MSTATUS] = m.select(guest, status, new_status) if m.hypervisor else new_status
    for supervisor_slot, machine_slot, new in (
        (p.SEPC, p.MEPC, pc), (p.SCAUSE, p.MCAUSE, cause), (p.STVAL, p.MTVAL, value),
    ):  # fmt: skip
        m.s[supervisor_slot] = m.select(below, new, m.s[supervisor_slot])
        m.s[machine_slot] = m.select(machine, new, m.s[machine_slot])
    m.s[p.PRIVILEGE] = m.select(machine, p.MACHINE, p.SUPERVISOR)
    m.s[RESERVED_SIZE] = 0
    m.remap()
    vector = m.select(below, m.s[p.STVEC], m.s[p.MTVEC])
    if m.hypervisor:
        vector = m.select(guest, m.s[p.VSTVEC], vector)
        code = m.select(guest, m.and_(seen, 63), code)
    offset = m.select(m.both(interrupt, p.has(m, vector, 1)), m.shl(code, 2), 0)
    return m.add(m.and_(vector, p.ALL & ~3), offset)


def _leave_guest(m, inside, below, machine, cause, from_supervisor, m_status):
    """What a trap to HS or machine mode leaves in hstatus, htval and htinst, or in mtval2 and mtinst; and in mstatus.

    The address of a guest-page fault is a guest's physical one, shifted by two. Of explicit accesses htinst is 0, which
    the manual allows; of implicit ones it says whether a guest's table entry was read or written.
    """
    access, address = m.s[p.GUEST_ACCESS], m.s[p.GUEST_ADDRESS]
    mask = sum(1 << code for code in traps.ADDRESS_VALUES)
    told = p.has(m, m.shr(mask, m.and_(cause, 63)), 1)
    told = m.both(m.both(inside, told), m.eq(m.and_(cause, INTERRUPT), 0))
    guest_value = m.either(told, p.has(m, access, p.GUEST_VIRTUAL))
    hstatus = m.s[p.HSTATUS]
    mode = p.replaced(m, hstatus, p.SPVP, p.bit_if(m, from_supervisor, p.SPVP))
    new = p.replaced(m, m.select(inside, mode, hstatus), p.SPV | p.H_GVA,
                     m.or_(p.bit_if(m, inside, p.SPV), p.bit_if(m, guest_value, p.H_GVA)))  # fmt: skip
    m.s[p.HSTATUS] = m.select(below, new, hstatus)
    instruction = m.and_(access, p.ALL & ~p.GUEST_VIRTUAL)
    for slot, where, value in (
        (p.HTVAL, below, address), (p.HTINST, below, instruction),
        (p.MTVAL2, machine, address), (p.MTINST, machine, instruction),
    ):  # fmt: skip
        m.s[slot] = m.select(where, value, m.s[slot])
    m.s[p.GUEST_ADDRESS] = 0
    m.s[p.GUEST_ACCESS] = 0
    return p.replaced(m, m_status, p.MPV | p.GVA,
                      m.or_(p.bit_if(m, inside, p.MPV), p.bit_if(m, guest_value, p.GVA)))  # fmt: skip


def due(m, after: After | None = None, stored=None):
    """The cause of the interrupt to take now, or after an instruction; or 0: what is pending, enabled, and not masked.

    Interrupts that are not delegated are for machine mode, which nothing below can mask; those that a hypervisor does
    not delegate are for it, which a guest cannot mask; the others are for a guest that runs. `stored` is what software
    will have set of mip, if that is another.
    """
    ready = m.and_(p.pending(m, stored), m.s[p.MIE])
    delegated = m.s[p.MIDELEG]
    status, mode, inside, guest_status = After.of(m) if after is None else after
    machine = m.either(m.ltu(mode, p.MACHINE), p.has(m, status, p.MIE_BIT))
    user, from_supervisor = m.ltu(mode, p.SUPERVISOR), m.eq(mode, p.SUPERVISOR)
    supervisor = m.either(user, m.both(from_supervisor, p.has(m, status, p.SIE)))
    first = m.select(machine, m.and_(ready, m.xor(delegated, p.ALL)), 0)
    second = m.and_(ready, delegated)
    if m.hypervisor:
        theirs = m.s[p.HIDELEG]
        guest = m.either(user, m.both(from_supervisor, p.has(m, guest_status, p.SIE)))
        third = m.select(m.both(inside, guest), m.and_(second, theirs), 0)
        second = m.and_(second, m.xor(theirs, p.ALL))
        supervisor = m.either(supervisor, m.both(inside, m.ltu(mode, p.MACHINE)))
        second = m.select(supervisor, second, 0)
        second = m.select(m.ne(second, 0), second, third)
    else:
        second = m.select(supervisor, second, 0)
    chosen = m.select(m.ne(first, 0), first, second)
    cause = 0
    for bit in reversed(HYPERVISOR_PRIORITY if m.hypervisor else PRIORITY):
        cause = m.select(p.has(m, chosen, bit), INTERRUPT | bit.bit_length() - 1, cause)
    return cause


def timer(m, time):
    """Set or clear STIP by stimecmp (Sstc); returns the time at which it will be set, or all ones.

    The same for VSTIP by vstimecmp, which a guest's own time is compared with: the sooner of both is returned.
    """
    on = p.has(m, m.s[p.MENVCFG], p.STCE)
    due = _alarm(m, on, time, m.s[p.STIMECMP], time, p.STI)
    if m.hypervisor:
        on = m.both(on, p.has(m, m.s[p.HENVCFG], p.STCE))
        theirs = m.add(time, m.s[p.HTIMEDELTA])
        guest = _alarm(m, on, time, m.s[p.VSTIMECMP], theirs, p.VSTI)
        due = m.select(m.ltu(guest, due), guest, due)
    return due


def _alarm(m, on, time, compare, clock, line: int):
    """The line of one timer; returns the time at which its clock, which it is ahead of or behind, will be there."""
    late = m.geu(clock, compare)
    m.s[p.LINES] = p.replaced(m, m.s[p.LINES], line, p.bit_if(m, m.both(on, late), line))
    there = m.add(time, m.sub(compare, clock))
    ahead = m.both(m.both(on, m.not_(late)), m.geu(there, time))
    return m.select(ahead, there, p.ALL)


def awake(m):
    """Whether a hart that waits for an interrupt goes on: one that is enabled is pending, masked or not."""
    return p.has(m, m.and_(p.pending(m), m.s[p.MIE]), p.ALL)
