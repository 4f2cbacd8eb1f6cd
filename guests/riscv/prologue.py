"""Where a function has put its caller's registers, read from its own instructions: gcc writes no tables for C.

Owns: which instructions compilers move the stack pointer and save registers with. Must not know: memory.
"""

from __future__ import annotations

from collections.abc import Iterable

from guests.riscv.registers import SINK
from guests.riscv.rv64i import add, addi, jal, jalr, ld, lui, sd
from guests.spec import Decoded

RA, SP, FP = 1, 2, 8
_KEPT = frozenset((RA, FP, 9, *range(18, 28)))  # ra, and s0-s11


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def frame(instructions: Iterable[Decoded]) -> tuple[int, int, dict[int, int]] | None:
    """The frame after a function's first instructions, in order of address: register and offset that give the CFA (the
    caller's stack pointer), and the place from there of each saved register. None: it cannot be told.

    What follows an early return is reached by a jump from before it, and has the frame that was there.
    """
    depth: int | None = 0  # from the stack pointer up to the CFA
    base: int | None = None  # from the frame pointer, likewise
    saved: dict[int, int] = {}
    constants: dict[int, int] = {}
    before: tuple[int | None, int | None] | None = None  # the two where the frame began to be left
    for row, o, *_ in instructions:
        body, rd = row.body, getattr(o, "rd", None) if row.writes == "x" else None
        if body is sd.body:
            if o.rs1 == SP and depth and o.rs2 in _KEPT and 0 <= _signed(o.imm) < depth:
                saved.setdefault(o.rs2, _signed(o.imm) - depth)
        elif body in (jal.body, jalr.body) and rd == SINK:
            if before is not None:
                (depth, base), before = before, None
        elif rd == SP:
            step = _signed(o.imm) if body is addi.body else None
            if body is add.body and o.rs1 == SP:
                step = constants.get(o.rs2)
            if (step is None or step > 0) and before is None:
                before = depth, base
            if body is addi.body and o.rs1 == FP and step is not None:
                depth = None if base is None else base - step
            else:
                depth = None if depth is None or step is None or o.rs1 != SP else depth - step
        elif rd == FP:
            if body is ld.body and o.rs1 == SP and before is None:
                before = depth, base
            base = depth - _signed(o.imm) if body is addi.body and o.rs1 == SP and depth is not None else None
        if rd is not None:
            if body is lui.body:
                constants[rd] = _signed(o.imm)
            elif body is addi.body and o.rs1 in constants:
                constants[rd] = constants[o.rs1] + _signed(o.imm)
            else:
                constants.pop(rd, None)
    if depth is not None:
        return SP, depth, saved
    return None if base is None else (FP, base, saved)
