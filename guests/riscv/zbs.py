"""Zbs: single-bit instructions (Unprivileged ISA, B extension). Bit numbers are taken modulo 64."""

from __future__ import annotations

from guests.riscv.table import Extension

ZBS = Extension("zbs", "Unprivileged ISA, Zbs")
ONES = (1 << 64) - 1


def _single(name, funct6, funct3, result):
    """The register and the immediate form of one operation on the bit of a number."""

    @ZBS.insn(name, f"{funct6}0 rs2 rs1 {funct3} rd 0110011", "rd, rs1, rs2")
    def register(m, o):
        m.x[o.rd] = result(m, m.x[o.rs1], m.x[o.rs2])

    @ZBS.insn(f"{name}i", f"{funct6} uimm[5:0] rs1 {funct3} rd 0010011", "rd, rs1, imm")
    def immediate(m, o):
        m.x[o.rd] = result(m, m.x[o.rs1], o.imm)


_single("bclr", "010010", "001", lambda m, a, n: m.and_(a, m.xor(m.shl(1, n), ONES)))
_single("bext", "010010", "101", lambda m, a, n: m.and_(m.shr(a, n), 1))
_single("binv", "011010", "001", lambda m, a, n: m.xor(a, m.shl(1, n)))
_single("bset", "001010", "001", lambda m, a, n: m.or_(a, m.shl(1, n)))
