"""Zicond: conditional zero (Unprivileged ISA)."""

from __future__ import annotations

from guests.riscv.table import Extension

ZICOND = Extension("zicond", "Unprivileged ISA, Zicond")


@ZICOND.insn("czero.eqz", "0000111 rs2 rs1 101 rd 0110011", "rd, rs1, rs2")
def czero_eqz(m, o):
    m.x[o.rd] = m.select(m.eq(m.x[o.rs2], 0), 0, m.x[o.rs1])


@ZICOND.insn("czero.nez", "0000111 rs2 rs1 111 rd 0110011", "rd, rs1, rs2")
def czero_nez(m, o):
    m.x[o.rd] = m.select(m.ne(m.x[o.rs2], 0), 0, m.x[o.rs1])
