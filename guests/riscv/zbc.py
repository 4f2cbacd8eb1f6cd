"""Zbc: carry-less multiplication (Unprivileged ISA)."""

from __future__ import annotations

from guests.riscv.table import Extension

ZBC = Extension("zbc", "Unprivileged ISA, Zbc")


@ZBC.insn("clmul", "0000101 rs2 rs1 001 rd 0110011", "rd, rs1, rs2")
def clmul(m, o):
    m.x[o.rd] = m.clmul(m.x[o.rs1], m.x[o.rs2])


@ZBC.insn("clmulh", "0000101 rs2 rs1 011 rd 0110011", "rd, rs1, rs2")
def clmulh(m, o):
    m.x[o.rd] = m.clmulh(m.x[o.rs1], m.x[o.rs2])


@ZBC.insn("clmulr", "0000101 rs2 rs1 010 rd 0110011", "rd, rs1, rs2")
def clmulr(m, o):
    """Bits 126 to 63 of the product, of which bit 127 is 0."""
    a, b = m.x[o.rs1], m.x[o.rs2]
    m.x[o.rd] = m.or_(m.shl(m.clmulh(a, b), 1), m.shr(m.clmul(a, b), 63))
