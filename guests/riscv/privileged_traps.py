"""Entering a trap: where it goes, what it leaves behind; and which interrupt is next (Privileged ISA, mcause, mideleg).

Written against a domain as bodies are, and run by whoever runs a hart. Owns: delegation, vectors, the order of
interrupts. Must not know: when one asks. That is at block boundaries, in one place (`dbt.machine`).
"""

from __future__ import annotations

from guests.riscv import privileged as p
from guests.riscv import traps
from guests.riscv.registers import RESERVED_SIZE

INTERRUPT = 1 << 63  # of mcause
PRIORITY = (p.MEI, p.MSI, p.MTI, p.SEI, p.SSI, p.STI)  # the highest first


def enter(m, pc, cause, value):
    """Enter the trap of this cause, taken at `pc`; returns where the handler is.

    A system call's cause says from which mode it comes; the row of `ecall` says user mode.
    """
    mode = m.s[p.PRIVILEGE]
    cause = m.select(m.eq(cause, traps.USER_ECALL), m.add(cause, mode), cause)
    interrupt = m.ne(m.and_(cause, INTERRUPT), 0)
    code = m.and_(cause, 63)
    delegated = m.shr(m.select(interrupt, m.s[p.MIDELEG], m.s[p.MEDELEG]), code)
    below = m.both(m.ltu(mode, p.MACHINE), p.has(m, delegated, 1))
    status = m.s[p.MSTATUS]

    s_status = p.replaced(m, status, p.SPIE, m.shl(m.and_(status, p.SIE), 4))
    s_status = p.replaced(m, s_status, p.SPP | p.SIE, p.bit_if(m, m.eq(mode, p.SUPERVISOR), p.SPP))
    m_status = p.replaced(m, status, p.MPIE, m.shl(m.and_(status, p.MIE_BIT), 4))
    m_status = p.replaced(m, m_status, p.MPP | p.MIE_BIT, m.shl(mode, p.MPP_SHIFT))
    m.s[p.MSTATUS] = m.select(below, s_status, m_status)
    for supervisor, machine, new in (
        (p.SEPC, p.MEPC, pc), (p.SCAUSE, p.MCAUSE, cause), (p.STVAL, p.MTVAL, value),
    ):  # fmt: skip
        m.s[supervisor] = m.select(below, new, m.s[supervisor])
        m.s[machine] = m.select(below, m.s[machine], new)
    m.s[p.PRIVILEGE] = m.select(below, p.SUPERVISOR, p.MACHINE)
    m.s[RESERVED_SIZE] = 0
    m.remap()
    vector = m.select(below, m.s[p.STVEC], m.s[p.MTVEC])
    offset = m.select(m.both(interrupt, p.has(m, vector, 1)), m.shl(code, 2), 0)
    return m.add(m.and_(vector, p.ALL & ~3), offset)


def due(m, status=None, mode=None):
    """The cause of the interrupt to take now, or 0: what is pending, enabled, and not masked in this mode.

    `status` and `mode` are what mstatus and the mode will be, if not what they are. Interrupts that are not delegated
    are for machine mode, which nothing below can mask.
    """
    ready = m.and_(p.pending(m), m.s[p.MIE])
    delegated = m.s[p.MIDELEG]
    mode = m.s[p.PRIVILEGE] if mode is None else mode
    status = m.s[p.MSTATUS] if status is None else status
    machine = m.either(m.ltu(mode, p.MACHINE), p.has(m, status, p.MIE_BIT))
    supervisor = m.both(m.eq(mode, p.SUPERVISOR), p.has(m, status, p.SIE))
    supervisor = m.either(m.ltu(mode, p.SUPERVISOR), supervisor)
    first = m.select(machine, m.and_(ready, m.xor(delegated, p.ALL)), 0)
    second = m.select(supervisor, m.and_(ready, delegated), 0)
    chosen = m.select(m.ne(first, 0), first, second)
    cause = 0
    for bit in reversed(PRIORITY):
        cause = m.select(p.has(m, chosen, bit), INTERRUPT | bit.bit_length() - 1, cause)
    return cause


def timer(m, time):
    """Set or clear STIP by stimecmp (Sstc); returns the time at which it will be set, or all ones."""
    on = p.has(m, m.s[p.MENVCFG], p.STCE)
    late = m.geu(time, m.s[p.STIMECMP])
    m.s[p.LINES] = p.replaced(m, m.s[p.LINES], p.STI, p.bit_if(m, m.both(on, late), p.STI))
    return m.select(m.both(on, m.not_(late)), m.s[p.STIMECMP], p.ALL)


def awake(m):
    """Whether a hart that waits for an interrupt goes on: one that is enabled is pending, masked or not."""
    return p.has(m, m.and_(p.pending(m), m.s[p.MIE]), p.ALL)
