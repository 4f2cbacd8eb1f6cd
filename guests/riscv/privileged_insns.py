"""The privileged instructions (Privileged ISA, machine-level and supervisor-level instructions; Svinval).

Fences of address translation check only that they are allowed: every engine translates as if it walked the tables at
each access, so there is nothing to fence. Owns: these rows. Must not know: how an engine waits, page tables.
"""

from __future__ import annotations

from guests.riscv import privileged as p
from guests.riscv.privileged_traps import After
from guests.riscv.privileged_traps import due as due_in
from guests.riscv.registers import RESERVED_SIZE
from guests.riscv.table import Extension
from guests.spec import Treat

SYSTEM = Extension("system", "Privileged ISA, machine-level and supervisor-level instructions")
SVINVAL = Extension("svinval", "Privileged ISA, Svinval")


def returning(name: str, pattern: str):
    return SYSTEM.insn(name, pattern, treat=Treat.INLINE, ends_block=True, may_trap=True)


def enter_mode(m, after: After):
    """Go on so. A reservation ends; the new mode may take what was pending, and who asked is told of a guest's."""
    due = m.ne(due_in(m, after), 0)
    if m.hypervisor:
        due = m.either(due, m.both(after.virtual, m.ne(m.s[p.TOLD], 0)))
    m.monitor_if(due)
    m.s[p.MSTATUS] = after.status
    m.s[p.PRIVILEGE] = after.mode
    if m.hypervisor:
        m.s[p.VIRTUAL] = m.bit(after.virtual)
        m.s[p.VSSTATUS] = after.guest_status
    m.s[RESERVED_SIZE] = 0
    m.remap()
    m.attend_if(due)


def interrupts_back(m, status, enable):
    """The enable bit takes what the bit four places above has kept, which becomes 1 (xIE and xPIE)."""
    status = p.replaced(m, status, enable, m.and_(m.shr(status, 4), enable))
    return m.or_(status, enable << 4)


@returning("mret", "001100000010 00000 000 00000 1110011")
def mret(m, o):
    """To mode MPP, a guest's if MPV is set, with interrupts as they were. Leaving machine mode ends MPRV."""
    p.need(m, p.MACHINE)
    status = m.s[p.MSTATUS]
    mode = m.and_(m.shr(status, p.MPP_SHIFT), 3)
    machine = m.eq(mode, p.MACHINE)
    virtual = m.both(p.has(m, status, p.MPV), m.not_(machine)) if m.hypervisor else None
    status = m.and_(interrupts_back(m, status, p.MIE_BIT), p.ALL & ~(p.MPP | p.MPV if m.hypervisor else p.MPP))
    kept = m.select(machine, status, m.and_(status, p.ALL & ~p.MPRV))
    m.jump(m.s[p.MEPC])
    enter_mode(m, After.of(m, status=kept, mode=mode, virtual=virtual))


@returning("sret", "000100000010 00000 000 00000 1110011")
def sret(m, o):
    """To mode SPP, which is never machine mode, so MPRV ends. mstatus.TSR traps it in supervisor mode.

    A hypervisor goes to its guest by it, where hstatus.SPV is set; a guest's own uses the guest's registers.
    """
    p.need(m, p.SUPERVISOR)
    p.need_clear(m, p.TSR, p.VTSR)
    status = p.by_virtual(m, p.MSTATUS, p.VSSTATUS)
    mode = m.bit(p.has(m, status, p.SPP))
    status = m.and_(interrupts_back(m, status, p.SIE), p.ALL & ~(p.SPP | p.MPRV))
    m.jump(p.by_virtual(m, p.SEPC, p.VSEPC))
    if not m.hypervisor:
        enter_mode(m, After.of(m, status=status, mode=mode))
        return
    inside, hstatus = p.virtual(m), m.s[p.HSTATUS]
    own = m.select(inside, m.and_(m.s[p.MSTATUS], p.ALL & ~p.MPRV), status)
    theirs = m.select(inside, status, m.s[p.VSSTATUS])
    after = After.of(m, own, mode, m.either(inside, p.has(m, hstatus, p.SPV)), theirs)
    enter_mode(m, after)
    m.s[p.HSTATUS] = m.select(inside, hstatus, m.and_(hstatus, p.ALL & ~p.SPV))


@SYSTEM.insn("wfi", "000100000101 00000 000 00000 1110011", treat=Treat.CALLOUT, ends_block=True, may_trap=True)
def wfi(m, o):
    """Wait until an interrupt is pending that mie enables. User mode may not: its wait has no bound."""
    p.need_clear(m, p.TW, p.VTW)
    p.need(m, p.SUPERVISOR)
    m.s[p.WAITING] = p.WFI
    m.attend()


def fence(extension: Extension, name: str, pattern: str, syntax: str, virtual_memory: bool):
    """A fence of supervisor mode; mstatus.TVM traps those that name addresses."""

    @extension.insn(name, pattern, syntax, treat=Treat.INLINE, ends_block=True, may_trap=True)
    def body(m, o):
        p.need(m, p.SUPERVISOR)
        if virtual_memory:
            p.need_clear(m, p.TVM, p.VTVM)


fence(SYSTEM, "sfence.vma", "0001001 rs2 rs1 000 00000 1110011", "rs1, rs2", True)
fence(SVINVAL, "sinval.vma", "0001011 rs2 rs1 000 00000 1110011", "rs1, rs2", True)
fence(SVINVAL, "sfence.w.inval", "000110000000 00000 000 00000 1110011", "", False)
fence(SVINVAL, "sfence.inval.ir", "000110000001 00000 000 00000 1110011", "", False)
