"""Rows of extensions that are known and not done: they decode to illegal instruction and are named as such.

Zacas, compare and swap. When an extension gets its bodies it moves to a file of its own. Owns: nothing but these
patterns. Must not know: meanings.
"""

from __future__ import annotations

from guests.riscv.table import Extension

ZACAS = Extension("zacas", "Unprivileged ISA, Zacas")
for _size, _funct3 in (("w", "010"), ("d", "011"), ("q", "100")):
    ZACAS.todo(f"amocas.{_size}", f"00101 aq rl rs2 rs1 {_funct3} rd 0101111", "rd, rs2, (rs1)")

EXTENSIONS = (ZACAS,)
