"""Zcb: more 16-bit forms (Unprivileged ISA, code-size extensions). Each needs the extension of its base row as well."""

from __future__ import annotations

from guests.riscv.rv64i import andi, lbu, lh, lhu, sb, sh, xori
from guests.riscv.rv64m import mul
from guests.riscv.table import Extension
from guests.riscv.zba import add_uw
from guests.riscv.zbb import ZBB

ZCB = Extension("zcb", "Unprivileged ISA, Zcb")

ZCB.form("c.lbu", "100 000 rs1' uimm[0|1] rd' 00", "rd, imm(rs1)", lbu)
ZCB.form("c.lhu", "100 001 rs1' 0 uimm[1] rd' 00", "rd, imm(rs1)", lhu)
ZCB.form("c.lh", "100 001 rs1' 1 uimm[1] rd' 00", "rd, imm(rs1)", lh)
ZCB.form("c.sb", "100 010 rs1' uimm[0|1] rs2' 00", "rs2, imm(rs1)", sb)
ZCB.form("c.sh", "100 011 rs1' 0 uimm[1] rs2' 00", "rs2, imm(rs1)", sh)
ZCB.form("c.zext.b", "100 1 11 rd' 11 000 01", "rd", andi, rs1="rd", imm=255)
ZCB.form("c.sext.b", "100 1 11 rd' 11 001 01", "rd", ZBB.row("sext.b"), rs1="rd")
ZCB.form("c.zext.h", "100 1 11 rd' 11 010 01", "rd", ZBB.row("zext.h"), rs1="rd")
ZCB.form("c.sext.h", "100 1 11 rd' 11 011 01", "rd", ZBB.row("sext.h"), rs1="rd")
ZCB.form("c.zext.w", "100 1 11 rd' 11 100 01", "rd", add_uw, rs1="rd", rs2=0)
ZCB.form("c.not", "100 1 11 rd' 11 101 01", "rd", xori, rs1="rd", imm=(1 << 64) - 1)
ZCB.form("c.mul", "100 1 11 rd' 10 rs2' 01", "rd, rs2", mul, rs1="rd")
