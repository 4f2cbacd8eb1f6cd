"""Assembly text of decoded instructions, from each row's `syntax` column, in psABI register names.

Owns: the text. Must not know: meanings. Addresses in targets are absolute.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from guests.riscv.csrs import CSRS, Csr
from guests.riscv.registers import ABI_F, ABI_X, SINK
from guests.riscv.zfa import CONSTANTS
from guests.spec import Decoded

ROUNDING = ("rne", "rtz", "rdn", "rup", "rmm", "?", "?", "dyn")
ORDERING = ("", ".rl", ".aq", ".aqrl")
# Conversions that cannot round: where assemblers see no mode, they write rne.
EXACT = ("fcvt.d.w", "fcvt.d.wu", "fcvt.d.s", "fcvt.s.h", "fcvt.d.h")
_WORD = re.compile(r"[a-z][a-z0-9]*")


def text(decoded: Decoded, pc: int, csrs: Mapping[int, Csr] = CSRS) -> str:
    """One instruction as an assembler would take it. `csrs` are those that have names."""
    row, o = decoded.row, decoded.operands

    def operand(m: re.Match[str]) -> str:
        match m[0]:
            case "rd" | "rs1" | "rs2":
                number = getattr(o, m[0])
                return ABI_X[0 if number == SINK else number]
            case "frd" | "frs1" | "frs2" | "frs3":
                return ABI_F[getattr(o, m[0][1:])]
            case "imm":
                return str(o.imm - (1 << 64) if o.imm >> 63 else o.imm)
            case "upper":
                return hex(o.imm >> 12 & 0xFFFFF)
            case "target":
                return hex(pc + o.imm & (1 << 64) - 1)
            case "constant":
                return CONSTANTS[o.imm]
            case "csr":
                return csrs[o.csr].name if o.csr in csrs else hex(o.csr)
            case "rm":
                return ROUNDING[o.rm]
            case "pred" | "succ":
                return "".join(c for bit, c in zip((8, 4, 2, 1), "iorw") if getattr(o, m[0]) & bit) or "0"
        return m[0]

    name = row.name + (ORDERING[o.aq << 1 | o.rl] if hasattr(o, "aq") else "")
    operands = _WORD.sub(operand, row.syntax).removesuffix(", rne" if name in EXACT else ", dyn")
    if name == "fence" and (o.fm, o.pred, o.succ) == (8, 3, 3):
        return "fence.tso"
    return f"{name} {operands}".strip()
