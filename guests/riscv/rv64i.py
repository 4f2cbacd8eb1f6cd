"""RV64I base integer instructions (Unprivileged ISA, RV32I and RV64I)."""

from __future__ import annotations

from guests.riscv import traps
from guests.riscv.table import Extension
from guests.spec import Treat

I = Extension("i", "Unprivileged ISA, RV32I and RV64I")  # noqa: E741 - the manual's name


@I.insn("lui", "imm[31:12] rd 0110111", "rd, upper")
def lui(m, o):
    m.x[o.rd] = o.imm


@I.insn("auipc", "imm[31:12] rd 0010111", "rd, upper")
def auipc(m, o):
    m.x[o.rd] = m.add(m.pc(), o.imm)


@I.insn("jal", "imm[20|10:1|11|19:12] rd 1101111", "rd, target", ends_block=True)
def jal(m, o):
    m.goto(o.imm)
    m.x[o.rd] = m.next_pc()


@I.insn("jalr", "imm[11:0] rs1 000 rd 1100111", "rd, imm(rs1)", ends_block=True)
def jalr(m, o):
    target = m.and_(m.add(m.x[o.rs1], o.imm), ~1 & (1 << 64) - 1)
    m.jump(target)
    m.x[o.rd] = m.next_pc()


@I.insn("beq", "imm[12|10:5] rs2 rs1 000 imm[4:1|11] 1100011", "rs1, rs2, target", ends_block=True)
def beq(m, o):
    m.branch(m.eq(m.x[o.rs1], m.x[o.rs2]), o.imm)


@I.insn("bne", "imm[12|10:5] rs2 rs1 001 imm[4:1|11] 1100011", "rs1, rs2, target", ends_block=True)
def bne(m, o):
    m.branch(m.ne(m.x[o.rs1], m.x[o.rs2]), o.imm)


@I.insn("blt", "imm[12|10:5] rs2 rs1 100 imm[4:1|11] 1100011", "rs1, rs2, target", ends_block=True)
def blt(m, o):
    m.branch(m.lts(m.x[o.rs1], m.x[o.rs2]), o.imm)


@I.insn("bge", "imm[12|10:5] rs2 rs1 101 imm[4:1|11] 1100011", "rs1, rs2, target", ends_block=True)
def bge(m, o):
    m.branch(m.ges(m.x[o.rs1], m.x[o.rs2]), o.imm)


@I.insn("bltu", "imm[12|10:5] rs2 rs1 110 imm[4:1|11] 1100011", "rs1, rs2, target", ends_block=True)
def bltu(m, o):
    m.branch(m.ltu(m.x[o.rs1], m.x[o.rs2]), o.imm)


@I.insn("bgeu", "imm[12|10:5] rs2 rs1 111 imm[4:1|11] 1100011", "rs1, rs2, target", ends_block=True)
def bgeu(m, o):
    m.branch(m.geu(m.x[o.rs1], m.x[o.rs2]), o.imm)


@I.insn("lb", "imm[11:0] rs1 000 rd 0000011", "rd, imm(rs1)", may_trap=True)
def lb(m, o):
    m.x[o.rd] = m.load(m.x[o.rs1], o.imm, 1, True)


@I.insn("lh", "imm[11:0] rs1 001 rd 0000011", "rd, imm(rs1)", may_trap=True)
def lh(m, o):
    m.x[o.rd] = m.load(m.x[o.rs1], o.imm, 2, True)


@I.insn("lw", "imm[11:0] rs1 010 rd 0000011", "rd, imm(rs1)", may_trap=True)
def lw(m, o):
    m.x[o.rd] = m.load(m.x[o.rs1], o.imm, 4, True)


@I.insn("ld", "imm[11:0] rs1 011 rd 0000011", "rd, imm(rs1)", may_trap=True)
def ld(m, o):
    m.x[o.rd] = m.load(m.x[o.rs1], o.imm, 8, False)


@I.insn("lbu", "imm[11:0] rs1 100 rd 0000011", "rd, imm(rs1)", may_trap=True)
def lbu(m, o):
    m.x[o.rd] = m.load(m.x[o.rs1], o.imm, 1, False)


@I.insn("lhu", "imm[11:0] rs1 101 rd 0000011", "rd, imm(rs1)", may_trap=True)
def lhu(m, o):
    m.x[o.rd] = m.load(m.x[o.rs1], o.imm, 2, False)


@I.insn("lwu", "imm[11:0] rs1 110 rd 0000011", "rd, imm(rs1)", may_trap=True)
def lwu(m, o):
    m.x[o.rd] = m.load(m.x[o.rs1], o.imm, 4, False)


@I.insn("sb", "imm[11:5] rs2 rs1 000 imm[4:0] 0100011", "rs2, imm(rs1)", may_trap=True)
def sb(m, o):
    m.store(m.x[o.rs1], m.x[o.rs2], o.imm, 1)


@I.insn("sh", "imm[11:5] rs2 rs1 001 imm[4:0] 0100011", "rs2, imm(rs1)", may_trap=True)
def sh(m, o):
    m.store(m.x[o.rs1], m.x[o.rs2], o.imm, 2)


@I.insn("sw", "imm[11:5] rs2 rs1 010 imm[4:0] 0100011", "rs2, imm(rs1)", may_trap=True)
def sw(m, o):
    m.store(m.x[o.rs1], m.x[o.rs2], o.imm, 4)


@I.insn("sd", "imm[11:5] rs2 rs1 011 imm[4:0] 0100011", "rs2, imm(rs1)", may_trap=True)
def sd(m, o):
    m.store(m.x[o.rs1], m.x[o.rs2], o.imm, 8)


@I.insn("addi", "imm[11:0] rs1 000 rd 0010011", "rd, rs1, imm")
def addi(m, o):
    m.x[o.rd] = m.add(m.x[o.rs1], o.imm)


@I.insn("slti", "imm[11:0] rs1 010 rd 0010011", "rd, rs1, imm")
def slti(m, o):
    m.x[o.rd] = m.bit(m.lts(m.x[o.rs1], o.imm))


@I.insn("sltiu", "imm[11:0] rs1 011 rd 0010011", "rd, rs1, imm")
def sltiu(m, o):
    m.x[o.rd] = m.bit(m.ltu(m.x[o.rs1], o.imm))


@I.insn("xori", "imm[11:0] rs1 100 rd 0010011", "rd, rs1, imm")
def xori(m, o):
    m.x[o.rd] = m.xor(m.x[o.rs1], o.imm)


@I.insn("ori", "imm[11:0] rs1 110 rd 0010011", "rd, rs1, imm")
def ori(m, o):
    m.x[o.rd] = m.or_(m.x[o.rs1], o.imm)


@I.insn("andi", "imm[11:0] rs1 111 rd 0010011", "rd, rs1, imm")
def andi(m, o):
    m.x[o.rd] = m.and_(m.x[o.rs1], o.imm)


@I.insn("slli", "000000 uimm[5:0] rs1 001 rd 0010011", "rd, rs1, imm")
def slli(m, o):
    m.x[o.rd] = m.shl(m.x[o.rs1], o.imm)


@I.insn("srli", "000000 uimm[5:0] rs1 101 rd 0010011", "rd, rs1, imm")
def srli(m, o):
    m.x[o.rd] = m.shr(m.x[o.rs1], o.imm)


@I.insn("srai", "010000 uimm[5:0] rs1 101 rd 0010011", "rd, rs1, imm")
def srai(m, o):
    m.x[o.rd] = m.sar(m.x[o.rs1], o.imm)


@I.insn("add", "0000000 rs2 rs1 000 rd 0110011", "rd, rs1, rs2")
def add(m, o):
    m.x[o.rd] = m.add(m.x[o.rs1], m.x[o.rs2])


@I.insn("sub", "0100000 rs2 rs1 000 rd 0110011", "rd, rs1, rs2")
def sub(m, o):
    m.x[o.rd] = m.sub(m.x[o.rs1], m.x[o.rs2])


@I.insn("sll", "0000000 rs2 rs1 001 rd 0110011", "rd, rs1, rs2")
def sll(m, o):
    m.x[o.rd] = m.shl(m.x[o.rs1], m.x[o.rs2])


@I.insn("slt", "0000000 rs2 rs1 010 rd 0110011", "rd, rs1, rs2")
def slt(m, o):
    m.x[o.rd] = m.bit(m.lts(m.x[o.rs1], m.x[o.rs2]))


@I.insn("sltu", "0000000 rs2 rs1 011 rd 0110011", "rd, rs1, rs2")
def sltu(m, o):
    m.x[o.rd] = m.bit(m.ltu(m.x[o.rs1], m.x[o.rs2]))


@I.insn("xor", "0000000 rs2 rs1 100 rd 0110011", "rd, rs1, rs2")
def xor(m, o):
    m.x[o.rd] = m.xor(m.x[o.rs1], m.x[o.rs2])


@I.insn("srl", "0000000 rs2 rs1 101 rd 0110011", "rd, rs1, rs2")
def srl(m, o):
    m.x[o.rd] = m.shr(m.x[o.rs1], m.x[o.rs2])


@I.insn("sra", "0100000 rs2 rs1 101 rd 0110011", "rd, rs1, rs2")
def sra(m, o):
    m.x[o.rd] = m.sar(m.x[o.rs1], m.x[o.rs2])


@I.insn("or", "0000000 rs2 rs1 110 rd 0110011", "rd, rs1, rs2")
def or_(m, o):
    m.x[o.rd] = m.or_(m.x[o.rs1], m.x[o.rs2])


@I.insn("and", "0000000 rs2 rs1 111 rd 0110011", "rd, rs1, rs2")
def and_(m, o):
    m.x[o.rd] = m.and_(m.x[o.rs1], m.x[o.rs2])


@I.insn("addiw", "imm[11:0] rs1 000 rd 0011011", "rd, rs1, imm")
def addiw(m, o):
    m.x[o.rd] = m.sext(m.add(m.x[o.rs1], o.imm), 32)


@I.insn("slliw", "0000000 uimm[4:0] rs1 001 rd 0011011", "rd, rs1, imm")
def slliw(m, o):
    m.x[o.rd] = m.sext(m.shl(m.x[o.rs1], o.imm), 32)


@I.insn("srliw", "0000000 uimm[4:0] rs1 101 rd 0011011", "rd, rs1, imm")
def srliw(m, o):
    m.x[o.rd] = m.sext(m.shr(m.zext(m.x[o.rs1], 32), o.imm), 32)


@I.insn("sraiw", "0100000 uimm[4:0] rs1 101 rd 0011011", "rd, rs1, imm")
def sraiw(m, o):
    m.x[o.rd] = m.sar(m.sext(m.x[o.rs1], 32), o.imm)


@I.insn("addw", "0000000 rs2 rs1 000 rd 0111011", "rd, rs1, rs2")
def addw(m, o):
    m.x[o.rd] = m.sext(m.add(m.x[o.rs1], m.x[o.rs2]), 32)


@I.insn("subw", "0100000 rs2 rs1 000 rd 0111011", "rd, rs1, rs2")
def subw(m, o):
    m.x[o.rd] = m.sext(m.sub(m.x[o.rs1], m.x[o.rs2]), 32)


@I.insn("sllw", "0000000 rs2 rs1 001 rd 0111011", "rd, rs1, rs2")
def sllw(m, o):
    m.x[o.rd] = m.sext(m.shl(m.x[o.rs1], m.and_(m.x[o.rs2], 31)), 32)


@I.insn("srlw", "0000000 rs2 rs1 101 rd 0111011", "rd, rs1, rs2")
def srlw(m, o):
    m.x[o.rd] = m.sext(m.shr(m.zext(m.x[o.rs1], 32), m.and_(m.x[o.rs2], 31)), 32)


@I.insn("sraw", "0100000 rs2 rs1 101 rd 0111011", "rd, rs1, rs2")
def sraw(m, o):
    m.x[o.rd] = m.sar(m.sext(m.x[o.rs1], 32), m.and_(m.x[o.rs2], 31))


@I.insn("fence", "fm pred succ rs1 000 rd 0001111", "pred, succ")
def fence(m, o):
    m.fence(o.pred, o.succ)


@I.insn("ecall", "000000000000 00000 000 00000 1110011", treat=Treat.CALLOUT, ends_block=True, may_trap=True)
def ecall(m, o):
    m.trap(traps.USER_ECALL)


@I.insn("ebreak", "000000000001 00000 000 00000 1110011", treat=Treat.CALLOUT, ends_block=True, may_trap=True)
def ebreak(m, o):
    m.trap(traps.BREAKPOINT, m.pc())
