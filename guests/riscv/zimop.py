"""Zimop and Zcmop: may-be-operations (Unprivileged ISA). They write 0 or nothing, until an extension takes them."""

from __future__ import annotations

from guests.riscv.table import Extension

ZIMOP = Extension("zimop", "Unprivileged ISA, Zimop")
ZCMOP = Extension("zcmop", "Unprivileged ISA, Zcmop")


def _zero(m, o):
    m.x[o.rd] = 0


def _nothing(m, o):
    """The place of a hint to come."""


for _n in range(32):
    _bits = f"{_n:05b}"
    ZIMOP.insn(f"mop.r.{_n}", f"1{_bits[0]}00{_bits[1:3]}0111{_bits[3:]} rs1 100 rd 1110011", "rd, rs1")(_zero)
for _n in range(8):
    _bits = f"{_n:03b}"
    ZIMOP.insn(f"mop.rr.{_n}", f"1{_bits[0]}00{_bits[1:]}1 rs2 rs1 100 rd 1110011", "rd, rs1, rs2")(_zero)
for _n in range(1, 16, 2):
    ZCMOP.insn(f"c.mop.{_n}", f"01100{_n:04b}0000001")(_nothing)
