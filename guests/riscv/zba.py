"""Zba: address generation (Unprivileged ISA, B extension)."""

from __future__ import annotations

from guests.riscv.table import Extension

ZBA = Extension("zba", "Unprivileged ISA, Zba")


def _shift_add(count, funct3):
    """shNadd adds a register shifted left by N; its .uw form shifts the low word only."""

    @ZBA.insn(f"sh{count}add", f"0010000 rs2 rs1 {funct3} rd 0110011", "rd, rs1, rs2")
    def add(m, o):
        m.x[o.rd] = m.add(m.x[o.rs2], m.shl(m.x[o.rs1], count))

    @ZBA.insn(f"sh{count}add.uw", f"0010000 rs2 rs1 {funct3} rd 0111011", "rd, rs1, rs2")
    def add_uw(m, o):
        m.x[o.rd] = m.add(m.x[o.rs2], m.shl(m.zext(m.x[o.rs1], 32), count))


_shift_add(1, "010")
_shift_add(2, "100")
_shift_add(3, "110")


@ZBA.insn("add.uw", "0000100 rs2 rs1 000 rd 0111011", "rd, rs1, rs2")
def add_uw(m, o):
    m.x[o.rd] = m.add(m.x[o.rs2], m.zext(m.x[o.rs1], 32))


@ZBA.insn("slli.uw", "000010 uimm[5:0] rs1 001 rd 0011011", "rd, rs1, imm")
def slli_uw(m, o):
    m.x[o.rd] = m.shl(m.zext(m.x[o.rs1], 32), o.imm)
