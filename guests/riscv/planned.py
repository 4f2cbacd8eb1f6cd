"""Rows of extensions that are known and not done: they decode to illegal instruction and are named as such.

Zfa, additional floating-point instructions of single and double precision. When an extension gets its bodies it
moves to a file of its own. Owns: nothing but these patterns. Must not know: meanings.
"""

from __future__ import annotations

from guests.riscv.table import Extension

ZFA = Extension("zfa", "Unprivileged ISA, Zfa")
for _p, _code in (("s", "00"), ("d", "01")):
    ZFA.todo(f"fli.{_p}", f"11110{_code} 00001 rs1 000 rd 1010011", "frd, rs1")
    ZFA.todo(f"fminm.{_p}", f"00101{_code} rs2 rs1 010 rd 1010011", "frd, frs1, frs2")
    ZFA.todo(f"fmaxm.{_p}", f"00101{_code} rs2 rs1 011 rd 1010011", "frd, frs1, frs2")
    ZFA.todo(f"fround.{_p}", f"01000{_code} 00100 rs1 rm rd 1010011", "frd, frs1, rm")
    ZFA.todo(f"froundnx.{_p}", f"01000{_code} 00101 rs1 rm rd 1010011", "frd, frs1, rm")
    ZFA.todo(f"fleq.{_p}", f"10100{_code} rs2 rs1 100 rd 1010011", "rd, frs1, frs2")
    ZFA.todo(f"fltq.{_p}", f"10100{_code} rs2 rs1 101 rd 1010011", "rd, frs1, frs2")
ZFA.todo("fcvtmod.w.d", "1100001 01000 rs1 001 rd 1010011", "rd, frs1, rtz")

EXTENSIONS = (ZFA,)
