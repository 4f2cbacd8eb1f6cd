"""Rows of extensions that are known and not done: they decode to illegal instruction and are named as such.

RVA22U64 (Zba, Zbb, Zbs, Zicbom, Zicbop, Zicboz, Zfhmin) and its cheap neighbours. When an extension gets
its bodies it moves to a file of its own. Owns: nothing but these patterns. Must not know: meanings.
"""

from __future__ import annotations

from guests.riscv.table import Extension

ZBA = Extension("zba", "Unprivileged ISA, Zba")
for _name, _funct3 in (("sh1add", "010"), ("sh2add", "100"), ("sh3add", "110")):
    ZBA.todo(_name, f"0010000 rs2 rs1 {_funct3} rd 0110011", "rd, rs1, rs2")
    ZBA.todo(f"{_name}.uw", f"0010000 rs2 rs1 {_funct3} rd 0111011", "rd, rs1, rs2")
ZBA.todo("add.uw", "0000100 rs2 rs1 000 rd 0111011", "rd, rs1, rs2")
ZBA.todo("slli.uw", "000010 uimm[5:0] rs1 001 rd 0011011", "rd, rs1, imm")

ZBB = Extension("zbb", "Unprivileged ISA, Zbb")
for _name, _funct7, _funct3 in (
    ("andn", "0100000", "111"), ("orn", "0100000", "110"), ("xnor", "0100000", "100"), ("min", "0000101", "100"),
    ("minu", "0000101", "101"), ("max", "0000101", "110"), ("maxu", "0000101", "111"), ("rol", "0110000", "001"),
    ("ror", "0110000", "101"),
):  # fmt: skip
    ZBB.todo(_name, f"{_funct7} rs2 rs1 {_funct3} rd 0110011", "rd, rs1, rs2")
for _name, _funct12, _funct3, _opcode in (
    ("clz", "011000000000", "001", "0010011"), ("ctz", "011000000001", "001", "0010011"),
    ("cpop", "011000000010", "001", "0010011"), ("sext.b", "011000000100", "001", "0010011"),
    ("sext.h", "011000000101", "001", "0010011"), ("zext.h", "000010000000", "100", "0111011"),
    ("clzw", "011000000000", "001", "0011011"), ("ctzw", "011000000001", "001", "0011011"),
    ("cpopw", "011000000010", "001", "0011011"), ("rev8", "011010111000", "101", "0010011"),
    ("orc.b", "001010000111", "101", "0010011"),
):  # fmt: skip
    ZBB.todo(_name, f"{_funct12} rs1 {_funct3} rd {_opcode}", "rd, rs1")
ZBB.todo("rolw", "0110000 rs2 rs1 001 rd 0111011", "rd, rs1, rs2")
ZBB.todo("rorw", "0110000 rs2 rs1 101 rd 0111011", "rd, rs1, rs2")
ZBB.todo("rori", "011000 uimm[5:0] rs1 101 rd 0010011", "rd, rs1, imm")
ZBB.todo("roriw", "0110000 uimm[4:0] rs1 101 rd 0011011", "rd, rs1, imm")

ZBS = Extension("zbs", "Unprivileged ISA, Zbs")
for _name, _funct6, _funct3 in (
    ("bclr", "010010", "001"), ("bext", "010010", "101"), ("binv", "011010", "001"), ("bset", "001010", "001"),
):  # fmt: skip
    ZBS.todo(_name, f"{_funct6}0 rs2 rs1 {_funct3} rd 0110011", "rd, rs1, rs2")
    ZBS.todo(f"{_name}i", f"{_funct6} uimm[5:0] rs1 {_funct3} rd 0010011", "rd, rs1, imm")

ZBC = Extension("zbc", "Unprivileged ISA, Zbc")
for _name, _funct3 in (("clmul", "001"), ("clmulr", "010"), ("clmulh", "011")):
    ZBC.todo(_name, f"0000101 rs2 rs1 {_funct3} rd 0110011", "rd, rs1, rs2")

ZICOND = Extension("zicond", "Unprivileged ISA, Zicond")
ZICOND.todo("czero.eqz", "0000111 rs2 rs1 101 rd 0110011", "rd, rs1, rs2")
ZICOND.todo("czero.nez", "0000111 rs2 rs1 111 rd 0110011", "rd, rs1, rs2")

ZICBO = Extension("zicbom", "Unprivileged ISA, cache-management operations")
for _name, _funct12 in (("cbo.inval", "000000000000"), ("cbo.clean", "000000000001"), ("cbo.flush", "000000000010")):
    ZICBO.todo(_name, f"{_funct12} rs1 010 00000 0001111", "(rs1)")
ZICBOZ = Extension("zicboz", "Unprivileged ISA, cache-block zero")
ZICBOZ.todo("cbo.zero", "000000000100 rs1 010 00000 0001111", "(rs1)")

ZAWRS = Extension("zawrs", "Unprivileged ISA, Zawrs")
ZAWRS.todo("wrs.nto", "000000001101 00000 000 00000 1110011")
ZAWRS.todo("wrs.sto", "000000011101 00000 000 00000 1110011")

ZFHMIN = Extension("zfhmin", "Unprivileged ISA, Zfhmin")
ZFHMIN.todo("flh", "imm[11:0] rs1 001 rd 0000111", "frd, imm(rs1)")
ZFHMIN.todo("fsh", "imm[11:5] rs2 rs1 001 imm[4:0] 0100111", "frs2, imm(rs1)")
ZFHMIN.todo("fmv.x.h", "111001000000 rs1 000 rd 1010011", "rd, frs1")
ZFHMIN.todo("fmv.h.x", "111101000000 rs1 000 rd 1010011", "frd, rs1")
for _to, _from, _code in (("s", "h", "010000000010"), ("h", "s", "010001000000"), ("d", "h", "010000100010"),
                          ("h", "d", "010001000001")):  # fmt: skip
    ZFHMIN.todo(f"fcvt.{_to}.{_from}", f"{_code} rs1 rm rd 1010011", "frd, frs1, rm")

EXTENSIONS = (ZBA, ZBB, ZBS, ZBC, ZICOND, ZICBO, ZICBOZ, ZAWRS, ZFHMIN)
