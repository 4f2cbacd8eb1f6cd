"""The M extension: multiplication and division (Unprivileged ISA).

Division by zero gives all ones (remainder: the dividend); the overflowing signed division gives the
dividend (remainder: 0). The IR's division leaves both undefined, so the divisor is replaced first.
"""

from __future__ import annotations

from guests.riscv.table import Extension

M = Extension("m", "Unprivileged ISA, M extension")
ONES = (1 << 64) - 1
MINIMUM = 1 << 63


def signed_division(m, divide, a, b, by_zero, overflow):
    """`divide(a, b)` with RISC-V's results for b = 0 and for -2^63 / -1."""
    zero = m.eq(b, 0)
    over = m.both(m.eq(a, MINIMUM), m.eq(b, ONES))
    result = divide(a, m.select(m.either(zero, over), 1, b))
    return m.select(zero, by_zero, m.select(over, overflow, result))


def unsigned_division(m, divide, a, b, by_zero):
    """`divide(a, b)` with RISC-V's result for b = 0."""
    zero = m.eq(b, 0)
    return m.select(zero, by_zero, divide(a, m.select(zero, 1, b)))


@M.insn("mul", "0000001 rs2 rs1 000 rd 0110011", "rd, rs1, rs2")
def mul(m, o):
    m.x[o.rd] = m.mul(m.x[o.rs1], m.x[o.rs2])


@M.insn("mulh", "0000001 rs2 rs1 001 rd 0110011", "rd, rs1, rs2")
def mulh(m, o):
    m.x[o.rd] = m.mulhs(m.x[o.rs1], m.x[o.rs2])


@M.insn("mulhsu", "0000001 rs2 rs1 010 rd 0110011", "rd, rs1, rs2")
def mulhsu(m, o):
    a, b = m.x[o.rs1], m.x[o.rs2]
    m.x[o.rd] = m.sub(m.mulhu(a, b), m.and_(m.sar(a, 63), b))


@M.insn("mulhu", "0000001 rs2 rs1 011 rd 0110011", "rd, rs1, rs2")
def mulhu(m, o):
    m.x[o.rd] = m.mulhu(m.x[o.rs1], m.x[o.rs2])


@M.insn("div", "0000001 rs2 rs1 100 rd 0110011", "rd, rs1, rs2")
def div(m, o):
    a = m.x[o.rs1]
    m.x[o.rd] = signed_division(m, m.divs, a, m.x[o.rs2], ONES, a)


@M.insn("divu", "0000001 rs2 rs1 101 rd 0110011", "rd, rs1, rs2")
def divu(m, o):
    m.x[o.rd] = unsigned_division(m, m.divu, m.x[o.rs1], m.x[o.rs2], ONES)


@M.insn("rem", "0000001 rs2 rs1 110 rd 0110011", "rd, rs1, rs2")
def rem(m, o):
    a = m.x[o.rs1]
    m.x[o.rd] = signed_division(m, m.rems, a, m.x[o.rs2], a, 0)


@M.insn("remu", "0000001 rs2 rs1 111 rd 0110011", "rd, rs1, rs2")
def remu(m, o):
    a = m.x[o.rs1]
    m.x[o.rd] = unsigned_division(m, m.remu, a, m.x[o.rs2], a)


@M.insn("mulw", "0000001 rs2 rs1 000 rd 0111011", "rd, rs1, rs2")
def mulw(m, o):
    m.x[o.rd] = m.sext(m.mul(m.x[o.rs1], m.x[o.rs2]), 32)


@M.insn("divw", "0000001 rs2 rs1 100 rd 0111011", "rd, rs1, rs2")
def divw(m, o):
    a = m.sext(m.x[o.rs1], 32)
    m.x[o.rd] = m.sext(signed_division(m, m.divs, a, m.sext(m.x[o.rs2], 32), ONES, a), 32)


@M.insn("divuw", "0000001 rs2 rs1 101 rd 0111011", "rd, rs1, rs2")
def divuw(m, o):
    a = m.zext(m.x[o.rs1], 32)
    m.x[o.rd] = m.sext(unsigned_division(m, m.divu, a, m.zext(m.x[o.rs2], 32), ONES), 32)


@M.insn("remw", "0000001 rs2 rs1 110 rd 0111011", "rd, rs1, rs2")
def remw(m, o):
    a = m.sext(m.x[o.rs1], 32)
    m.x[o.rd] = m.sext(signed_division(m, m.rems, a, m.sext(m.x[o.rs2], 32), a, 0), 32)


@M.insn("remuw", "0000001 rs2 rs1 111 rd 0111011", "rd, rs1, rs2")
def remuw(m, o):
    a = m.zext(m.x[o.rs1], 32)
    m.x[o.rd] = m.sext(unsigned_division(m, m.remu, a, m.zext(m.x[o.rs2], 32), a), 32)
