"""Zicsr: instructions on control and status registers (Unprivileged ISA).

The forms that read only (rs1 or uimm is 0) are rows of their own: they may name a read-only CSR and
never end a block. The rows are the same over every table of CSRs, so `extension(table)` makes those of one.
"""

from __future__ import annotations

from collections.abc import Mapping

from guests.riscv.csrs import CSRS, Csr
from guests.riscv.table import Extension
from guests.spec import Operands, Treat


def extension(table: Mapping[int, Csr]) -> Extension:
    """The rows over these CSRs; a number that is not among them is an illegal instruction."""
    zicsr = Extension("zicsr", "Unprivileged ISA, Zicsr")

    def readable(o: Operands) -> bool:
        return o.csr in table

    def writable(o: Operands) -> bool:
        return o.csr in table and table[o.csr].write is not None

    def treat_of(o: Operands) -> Treat:
        return table[o.csr].treat

    def write_ends_block(o: Operands) -> bool:
        return table[o.csr].ends_block

    def writing(name: str, pattern: str, syntax: str):
        return zicsr.insn(
            name, pattern, syntax, treat=Treat.INLINE, treat_of=treat_of, ends_block_of=write_ends_block, legal=writable
        )

    def reading(name: str, pattern: str, syntax: str):
        return zicsr.insn(name, pattern, syntax, treat=Treat.INLINE, treat_of=treat_of, legal=readable)

    def swap(m, o, value):
        """Read the old value, write the new one, then set rd."""
        csr = table[o.csr]
        csr.check(m)
        old = csr.read(m)
        csr.write(m, value(old if csr.stored is None else csr.stored(m)))
        m.x[o.rd] = old

    @writing("csrrw", "csr rs1 001 rd 1110011", "rd, csr, rs1")
    def csrrw(m, o):
        new = m.x[o.rs1]
        swap(m, o, lambda old: new)

    @writing("csrrs", "csr rs1!=0 010 rd 1110011", "rd, csr, rs1")
    def csrrs(m, o):
        mask = m.x[o.rs1]
        swap(m, o, lambda old: m.or_(old, mask))

    @writing("csrrc", "csr rs1!=0 011 rd 1110011", "rd, csr, rs1")
    def csrrc(m, o):
        mask = m.xor(m.x[o.rs1], (1 << 64) - 1)
        swap(m, o, lambda old: m.and_(old, mask))

    @writing("csrrwi", "csr uimm[4:0] 101 rd 1110011", "rd, csr, imm")
    def csrrwi(m, o):
        swap(m, o, lambda old: o.imm)

    @writing("csrrsi", "csr uimm[4:0]!=0 110 rd 1110011", "rd, csr, imm")
    def csrrsi(m, o):
        swap(m, o, lambda old: m.or_(old, o.imm))

    @writing("csrrci", "csr uimm[4:0]!=0 111 rd 1110011", "rd, csr, imm")
    def csrrci(m, o):
        swap(m, o, lambda old: m.and_(old, m.xor(o.imm, (1 << 64) - 1)))

    def read_only(m, o):
        csr = table[o.csr]
        csr.check(m)
        m.x[o.rd] = csr.read(m)

    reading("csrrs", "csr 00000 010 rd 1110011", "rd, csr, zero")(read_only)
    reading("csrrc", "csr 00000 011 rd 1110011", "rd, csr, zero")(read_only)
    reading("csrrsi", "csr 00000 110 rd 1110011", "rd, csr, 0")(read_only)
    reading("csrrci", "csr 00000 111 rd 1110011", "rd, csr, 0")(read_only)
    return zicsr


ZICSR = extension(CSRS)
