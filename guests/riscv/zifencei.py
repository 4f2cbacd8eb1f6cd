"""Zifencei: instruction-fetch fence (Unprivileged ISA)."""

from __future__ import annotations

from guests.riscv.table import Extension
from guests.spec import Treat

ZIFENCEI = Extension("zifencei", "Unprivileged ISA, Zifencei")


@ZIFENCEI.insn("fence.i", "imm[11:0] rs1 001 rd 0001111", treat=Treat.CALLOUT, ends_block=True)
def fence_i(m, o):
    m.fence_code()
