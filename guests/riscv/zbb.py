"""Zbb: basic bit manipulation (Unprivileged ISA, B extension)."""

from __future__ import annotations

from guests.riscv.table import Extension

ZBB = Extension("zbb", "Unprivileged ISA, Zbb")
ONES = (1 << 64) - 1
HIGH_BITS = 0x8080808080808080  # of every byte


def _three(name, funct7, funct3, result):
    """A row of two sources whose result is `result(m, a, b)`."""

    @ZBB.insn(name, f"{funct7} rs2 rs1 {funct3} rd 0110011", "rd, rs1, rs2")
    def body(m, o):
        m.x[o.rd] = result(m, m.x[o.rs1], m.x[o.rs2])


def _two(name, funct12, funct3, opcode, result):
    """A row of one source whose result is `result(m, a)`."""

    @ZBB.insn(name, f"{funct12} rs1 {funct3} rd {opcode}", "rd, rs1")
    def body(m, o):
        m.x[o.rd] = result(m, m.x[o.rs1])


def rotated(m, a, left):
    """`a` rotated left by a number of bits, which is taken modulo 64."""
    return m.or_(m.shl(a, left), m.shr(a, m.sub(0, left)))


def rotated_word(m, a, left):
    """The low word of `a` rotated left by a number of bits, taken modulo 32, and sign-extended."""
    word = m.zext(a, 32)
    right = m.and_(m.sub(0, left), 31)
    return m.sext(m.or_(m.shl(word, m.and_(left, 31)), m.shr(word, right)), 32)


def or_combined(m, a):
    """Every byte that is not 0 becomes 255. No byte of a sum or difference here carries into the next."""
    low = m.and_(a, ONES ^ HIGH_BITS)
    marks = m.and_(m.or_(m.add(low, ONES ^ HIGH_BITS), a), HIGH_BITS)
    return m.or_(m.sub(marks, m.shr(marks, 7)), marks)


_three("andn", "0100000", "111", lambda m, a, b: m.and_(a, m.xor(b, ONES)))
_three("orn", "0100000", "110", lambda m, a, b: m.or_(a, m.xor(b, ONES)))
_three("xnor", "0100000", "100", lambda m, a, b: m.xor(m.xor(a, b), ONES))
_three("min", "0000101", "100", lambda m, a, b: m.select(m.lts(a, b), a, b))
_three("minu", "0000101", "101", lambda m, a, b: m.select(m.ltu(a, b), a, b))
_three("max", "0000101", "110", lambda m, a, b: m.select(m.lts(a, b), b, a))
_three("maxu", "0000101", "111", lambda m, a, b: m.select(m.ltu(a, b), b, a))
_three("rol", "0110000", "001", rotated)
_three("ror", "0110000", "101", lambda m, a, b: rotated(m, a, m.sub(0, b)))

_two("clz", "011000000000", "001", "0010011", lambda m, a: m.clz(a))
_two("ctz", "011000000001", "001", "0010011", lambda m, a: m.ctz(a))
_two("cpop", "011000000010", "001", "0010011", lambda m, a: m.popcount(a))
_two("clzw", "011000000000", "001", "0011011", lambda m, a: m.sub(m.clz(m.zext(a, 32)), 32))
_two("ctzw", "011000000001", "001", "0011011", lambda m, a: m.ctz(m.or_(a, 1 << 32)))
_two("cpopw", "011000000010", "001", "0011011", lambda m, a: m.popcount(m.zext(a, 32)))
_two("sext.b", "011000000100", "001", "0010011", lambda m, a: m.sext(a, 8))
_two("sext.h", "011000000101", "001", "0010011", lambda m, a: m.sext(a, 16))
_two("zext.h", "000010000000", "100", "0111011", lambda m, a: m.zext(a, 16))
_two("rev8", "011010111000", "101", "0010011", lambda m, a: m.byteswap(a))
_two("orc.b", "001010000111", "101", "0010011", or_combined)


@ZBB.insn("rori", "011000 uimm[5:0] rs1 101 rd 0010011", "rd, rs1, imm")
def rori(m, o):
    m.x[o.rd] = rotated(m, m.x[o.rs1], m.sub(0, o.imm))


@ZBB.insn("rolw", "0110000 rs2 rs1 001 rd 0111011", "rd, rs1, rs2")
def rolw(m, o):
    m.x[o.rd] = rotated_word(m, m.x[o.rs1], m.x[o.rs2])


@ZBB.insn("rorw", "0110000 rs2 rs1 101 rd 0111011", "rd, rs1, rs2")
def rorw(m, o):
    m.x[o.rd] = rotated_word(m, m.x[o.rs1], m.sub(0, m.x[o.rs2]))


@ZBB.insn("roriw", "0110000 uimm[4:0] rs1 101 rd 0011011", "rd, rs1, imm")
def roriw(m, o):
    m.x[o.rd] = rotated_word(m, m.x[o.rs1], m.sub(0, o.imm))
