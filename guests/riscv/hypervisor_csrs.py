"""The CSRs of the hypervisor extension, as rows of the table of `privileged_csrs` (Privileged ISA, "H" Extension 1.0).

There is no interrupt controller for guests (GEILEN is 0), VMID has 14 bits, and VSXLEN is 64. What a guest's sstatus
and its like are, is in `privileged_csrs`. Owns: these rows. Must not know: engines, page tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from guests.riscv import privileged as p
from guests.riscv import privileged_csrs, privileged_traps
from guests.riscv.csrs import Csr
from guests.riscv.privileged_csrs import ALL, SSTATUS, Row, with_dirty

_HSTATUS = p.H_GVA | p.SPV | p.SPVP | p.HU | p.VTVM | p.VTW | p.VTSR
HEDELEG = 0xB1FF  # exceptions that supervisors take, but for calls from them
_MACHINE_ENABLED = p.ADUE | p.PBMTE | p.STCE  # of henvcfg: 0 where menvcfg's is
_HENVCFG = p.FIOM | p.CBIE | p.CBCFE | p.CBZE | _MACHINE_ENABLED


def read_henvcfg(m):
    return m.and_(m.s[p.HENVCFG], m.or_(m.s[p.MENVCFG], ALL & ~_MACHINE_ENABLED))


def _write_henvcfg(m, value):
    mask = m.and_(_HENVCFG, m.or_(m.s[p.MENVCFG], ALL & ~_MACHINE_ENABLED))
    old = m.s[p.HENVCFG]
    m.s[p.HENVCFG] = privileged_csrs.legal_envcfg(m, old, p.merged(m, old, mask, value))


def _vsstatus(m):
    return with_dirty(m, m.s[p.VSSTATUS], SSTATUS | p.UXL)


def _read_hip(m):
    return m.and_(p.pending(m), p.GUEST_INTERRUPTS)


def _write_mip_bits(mask: int, by_hideleg: bool, m, value):
    """A part of mip: hvip, or what hip and vsip show of it."""
    bits = m.shl(value, 1) if by_hideleg else value
    m.s[p.MIP] = p.merged(m, m.s[p.MIP], m.and_(m.s[p.HIDELEG], mask) if by_hideleg else mask, bits)


def _write_hvip(m, value):
    """In place, unless it lets an interrupt in: a hypervisor writes it at each entry of a guest, to which they go."""
    new = p.replaced(m, m.s[p.MIP], p.GUEST_INTERRUPTS, m.and_(value, p.GUEST_INTERRUPTS))
    due = m.ne(privileged_traps.due(m, None, new), 0)
    m.monitor_if(due)
    m.s[p.MIP] = new
    m.attend_if(due)


def _write_vsie(m, value):
    m.s[p.MIE] = p.merged(m, m.s[p.MIE], m.s[p.HIDELEG], m.shl(value, 1))


def _tables_not_trapped(m):
    """hgatp in HS mode, unless mstatus.TVM traps it."""
    p.need_clear(m, p.TVM)


def rows(align: int) -> Iterator[Row]:
    """Those of a hart whose instructions are so aligned."""
    epc = ALL & -align
    guest_bits = p.GUEST_INTERRUPTS
    yield Row(0x600, "hstatus", p.HSTATUS, _HSTATUS, inline=True)
    yield Row(0x602, "hedeleg", p.HEDELEG, HEDELEG)
    yield Row(0x603, "hideleg", p.HIDELEG, guest_bits, attends=True)
    yield Row(0x604, "hie", p.MIE, guest_bits, view=guest_bits, attends=True)
    yield Row(0x605, "htimedelta", p.HTIMEDELTA, attends=True)
    yield Row(0x606, "hcounteren", p.HCOUNTEREN, 0xFFFF_FFFF)
    yield Row(0x607, "hgeie", constant=0)
    yield Row(0x60A, "henvcfg", p.HENVCFG, read=read_henvcfg, write=_write_henvcfg, attends=True)
    yield Row(0x643, "htval", p.HTVAL, inline=True)
    yield Row(0x644, "hip", p.MIP, read=_read_hip, write=partial(_write_mip_bits, p.VSSI, False), attends=True)
    yield Row(0x645, "hvip", p.MIP, view=guest_bits, write=_write_hvip, inline=True)
    yield Row(0x64A, "htinst", p.HTINST, inline=True)
    yield Row(0x680, "hgatp", p.HGATP, ALL & ~(3 << 58 | 3), legal=privileged_csrs.legal_guest_tables,
              check=_tables_not_trapped, inline=True)  # fmt: skip
    yield Row(0xE12, "hgeip", constant=0)
    yield Row(0x34A, "mtinst", p.MTINST)
    yield Row(0x34B, "mtval2", p.MTVAL2)

    yield Row(0x200, "vsstatus", p.VSSTATUS, SSTATUS, read=_vsstatus, inline=True)
    yield Row(0x204, "vsie", p.MIE, read=privileged_csrs.read_vsie, write=_write_vsie, attends=True)
    yield Row(0x205, "vstvec", p.VSTVEC, ALL & ~2, inline=True)
    yield Row(0x240, "vsscratch", p.VSSCRATCH, inline=True)
    yield Row(0x241, "vsepc", p.VSEPC, epc, inline=True)
    yield Row(0x242, "vscause", p.VSCAUSE, inline=True)
    yield Row(0x243, "vstval", p.VSTVAL, inline=True)
    yield Row(0x244, "vsip", p.MIP, read=privileged_csrs.read_vsip, write=partial(_write_mip_bits, p.VSSI, True),
              attends=True)  # fmt: skip
    yield Row(0x24D, "vstimecmp", p.VSTIMECMP, check=privileged_csrs.timer_enabled, attends=True)
    yield Row(0x280, "vsatp", p.VSATP, legal=privileged_csrs.legal_guest_tables, inline=True)


def table(features: frozenset[str]) -> dict[int, Csr]:
    """All CSRs of a machine whose harts have these extensions, by number."""
    more = rows(2 if "c" in features else 4) if "h" in features else ()
    return privileged_csrs.table(features, more)
