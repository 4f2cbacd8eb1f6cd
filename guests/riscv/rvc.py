"""The C extension: 16-bit forms of 32-bit instructions (Unprivileged ISA).

A form has no meaning of its own: it names its base row and which operands it fixes or copies.
Code points that the manual calls HINTs execute as the base instruction does, writing to x0.
"""

from __future__ import annotations

from guests.riscv.rv64d import D
from guests.riscv.rv64i import (
    add,
    addi,
    addiw,
    addw,
    and_,
    andi,
    beq,
    bne,
    ebreak,
    jal,
    jalr,
    ld,
    lui,
    lw,
    or_,
    sd,
    slli,
    srai,
    srli,
    sub,
    subw,
    sw,
    xor,
)  # fmt: skip
from guests.riscv.table import Extension

C = Extension("c", "Unprivileged ISA, C extension")
RA, SP = 1, 2
fld, fsd = D.row("fld"), D.row("fsd")

# Quadrant 0
C.form("c.addi4spn", "000 uimm[5:4|9:6|2|3]!=0 rd' 00", "rd, sp, imm", addi, rs1=SP)
C.form("c.fld", "001 uimm[5:3] rs1' uimm[7:6] rd' 00", "frd, imm(rs1)", fld)
C.form("c.lw", "010 uimm[5:3] rs1' uimm[2|6] rd' 00", "rd, imm(rs1)", lw)
C.form("c.ld", "011 uimm[5:3] rs1' uimm[7:6] rd' 00", "rd, imm(rs1)", ld)
C.form("c.fsd", "101 uimm[5:3] rs1' uimm[7:6] rs2' 00", "frs2, imm(rs1)", fsd)
C.form("c.sw", "110 uimm[5:3] rs1' uimm[2|6] rs2' 00", "rs2, imm(rs1)", sw)
C.form("c.sd", "111 uimm[5:3] rs1' uimm[7:6] rs2' 00", "rs2, imm(rs1)", sd)

# Quadrant 1
C.form("c.nop", "000 imm[5] 00000 imm[4:0] 01", "", addi, rd=0, rs1=0)
C.form("c.addi", "000 imm[5] rd!=0 imm[4:0] 01", "rd, imm", addi, rs1="rd")
C.form("c.addiw", "001 imm[5] rd!=0 imm[4:0] 01", "rd, imm", addiw, rs1="rd")
C.form("c.li", "010 imm[5] rd imm[4:0] 01", "rd, imm", addi, rs1=0)
C.form("c.addi16sp", "011 imm[9] 00010 imm[4|6|8:7|5]!=0 01", "sp, imm", addi, rd=SP, rs1=SP)
C.form("c.lui", "011 imm[17] rd!=2 imm[16:12]!=0 01", "rd, upper", lui)
C.form("c.srli", "100 uimm[5] 00 rd' uimm[4:0] 01", "rd, imm", srli, rs1="rd")
C.form("c.srai", "100 uimm[5] 01 rd' uimm[4:0] 01", "rd, imm", srai, rs1="rd")
C.form("c.andi", "100 imm[5] 10 rd' imm[4:0] 01", "rd, imm", andi, rs1="rd")
C.form("c.sub", "100 0 11 rd' 00 rs2' 01", "rd, rs2", sub, rs1="rd")
C.form("c.xor", "100 0 11 rd' 01 rs2' 01", "rd, rs2", xor, rs1="rd")
C.form("c.or", "100 0 11 rd' 10 rs2' 01", "rd, rs2", or_, rs1="rd")
C.form("c.and", "100 0 11 rd' 11 rs2' 01", "rd, rs2", and_, rs1="rd")
C.form("c.subw", "100 1 11 rd' 00 rs2' 01", "rd, rs2", subw, rs1="rd")
C.form("c.addw", "100 1 11 rd' 01 rs2' 01", "rd, rs2", addw, rs1="rd")
C.form("c.j", "101 imm[11|4|9:8|10|6|7|3:1|5] 01", "target", jal, rd=0)
C.form("c.beqz", "110 imm[8|4:3] rs1' imm[7:6|2:1|5] 01", "rs1, target", beq, rs2=0)
C.form("c.bnez", "111 imm[8|4:3] rs1' imm[7:6|2:1|5] 01", "rs1, target", bne, rs2=0)

# Quadrant 2
C.form("c.slli", "000 uimm[5] rd uimm[4:0] 10", "rd, imm", slli, rs1="rd")
C.form("c.fldsp", "001 uimm[5] rd uimm[4:3|8:6] 10", "frd, imm(sp)", fld, rs1=SP)
C.form("c.lwsp", "010 uimm[5] rd!=0 uimm[4:2|7:6] 10", "rd, imm(sp)", lw, rs1=SP)
C.form("c.ldsp", "011 uimm[5] rd!=0 uimm[4:3|8:6] 10", "rd, imm(sp)", ld, rs1=SP)
C.form("c.jr", "100 0 rs1!=0 00000 10", "rs1", jalr, rd=0, imm=0)
C.form("c.mv", "100 0 rd rs2!=0 10", "rd, rs2", add, rs1=0)
C.form("c.ebreak", "100 1 00000 00000 10", "", ebreak)
C.form("c.jalr", "100 1 rs1!=0 00000 10", "rs1", jalr, rd=RA, imm=0)
C.form("c.add", "100 1 rd rs2!=0 10", "rd, rs2", add, rs1="rd")
C.form("c.fsdsp", "101 uimm[5:3|8:6] rs2 10", "frs2, imm(sp)", fsd, rs1=SP)
C.form("c.swsp", "110 uimm[5:2|7:6] rs2 10", "rs2, imm(sp)", sw, rs1=SP)
C.form("c.sdsp", "111 uimm[5:3|8:6] rs2 10", "rs2, imm(sp)", sd, rs1=SP)
