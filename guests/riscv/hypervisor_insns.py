"""The instructions of the hypervisor extension: a guest's memory, and fences (Privileged ISA, "H" Extension 1.0).

Fences check only that they are allowed, as those of supervisor mode do. Owns: these rows. Must not know: page tables.
"""

from __future__ import annotations

from guests.riscv import privileged as p
from guests.riscv.table import Extension
from guests.spec import Treat

H = Extension("h", 'Privileged ISA, "H" Extension for hypervisor support')


def need_guest_memory(m):
    """What HS mode and machine mode may, and user mode where hstatus.HU lets it; virtual instructions in a guest."""
    p.virtual_if(m, p.virtual(m))
    user = m.ltu(m.s[p.PRIVILEGE], p.SUPERVISOR)
    m.illegal_if(m.both(user, m.not_(p.has(m, m.s[p.HSTATUS], p.HU))))


def _load(name: str, funct7: str, kind: str, size: int, signed: bool):
    """A load as the guest would make it in the mode of hstatus.SPVP; hlvx asks for the right to execute."""
    access = "guest execute" if name.startswith("hlvx") else "guest load"

    @H.insn(name, f"{funct7} {kind} rs1 100 rd 1110011", "rd, (rs1)", treat=Treat.INLINE, may_trap=True)
    def body(m, o):
        need_guest_memory(m)
        m.x[o.rd] = m.load_as(access, m.x[o.rs1], size, signed)


def _store(name: str, funct7: str, size: int):
    @H.insn(name, f"{funct7} rs2 rs1 100 00000 1110011", "rs2, (rs1)", treat=Treat.CALLOUT, may_trap=True)
    def body(m, o):
        need_guest_memory(m)
        m.store_as("guest store", m.x[o.rs1], m.x[o.rs2], size)


_load("hlv.b", "0110000", "00000", 1, True)
_load("hlv.bu", "0110000", "00001", 1, False)
_load("hlv.h", "0110010", "00000", 2, True)
_load("hlv.hu", "0110010", "00001", 2, False)
_load("hlvx.hu", "0110010", "00011", 2, False)
_load("hlv.w", "0110100", "00000", 4, True)
_load("hlv.wu", "0110100", "00001", 4, False)
_load("hlvx.wu", "0110100", "00011", 4, False)
_load("hlv.d", "0110110", "00000", 8, False)
_store("hsv.b", "0110001", 1)
_store("hsv.h", "0110011", 2)
_store("hsv.w", "0110101", 4)
_store("hsv.d", "0110111", 8)


def _fence(name: str, funct7: str, also: str = "", trapped: bool = False):
    """Of a guest's own tables (vvma), or of those of guest-physical addresses (gvma), which mstatus.TVM traps."""

    @H.insn(name, f"{funct7} rs2 rs1 000 00000 1110011", "rs1, rs2", treat=Treat.INLINE, ends_block=True,
            may_trap=True, also=also)  # fmt: skip
    def body(m, o):
        p.need_hypervisor(m)
        if trapped:
            p.need_clear(m, p.TVM)


_fence("hfence.vvma", "0010001")
_fence("hfence.gvma", "0110001", trapped=True)
_fence("hinval.vvma", "0010011", "svinval")
_fence("hinval.gvma", "0110011", "svinval", trapped=True)
