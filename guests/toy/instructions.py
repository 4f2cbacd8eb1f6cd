"""The toy's instructions: ADD, CLI and STI of the notes, and what a program needs around them.

The notes' machine cannot end, cannot jump, and has no way back from an interrupt; `halt`, `jump` and `iret`
are added for that. `sti` and `iret` end a block, so that an interrupt which they let in enters before the
next instruction in every engine. Owns: rows and bodies. Must not know: who delivers interrupts.
"""

from __future__ import annotations

from typing import Any

from guests.spec import Body, Operands, Row, Treat
from guests.toy.interrupts import HALT
from guests.toy.registers import IE, LR

MANUAL = "lecture notes 002: interpretation"


def _add(m: Any, o: Operands) -> None:
    m.r[o.rd] = m.add(m.r[o.rs1], m.r[o.rs2])


def _cli(m: Any, o: Operands) -> None:
    m.s[IE] = 0


def _sti(m: Any, o: Operands) -> None:
    m.s[IE] = 1


def _jump(m: Any, o: Operands) -> None:
    m.goto(o.imm)


def _iret(m: Any, o: Operands) -> None:
    """Back to where the interrupt came from, with interrupts enabled: one step, so none can come between."""
    m.s[IE] = 1
    m.jump(m.s[LR])


def _halt(m: Any, o: Operands) -> None:
    m.trap(HALT)


def _row(name: str, pattern: str, syntax: str, body: Body, treat: Treat, ends_block: bool = False) -> Row:
    needs = frozenset({"toy"})
    return Row(name, pattern, syntax, "toy", needs, body, treat, ends_block, treat is Treat.CALLOUT, MANUAL)


ROWS = (
    _row("add", "000000000 rs2 rs1 rd 00000011", "rd, rs1, rs2", _add, Treat.IDENT),
    _row("cli", "000000000000000000000000 00000111", "", _cli, Treat.INLINE),
    _row("sti", "000000000000000000000000 00001011", "", _sti, Treat.INLINE, ends_block=True),
    _row("jump", "imm[25:2] 00010011", "target", _jump, Treat.IDENT, ends_block=True),
    _row("iret", "000000000000000000000000 00010111", "", _iret, Treat.INLINE, ends_block=True),
    _row("halt", "000000000000000000000000 00001111", "", _halt, Treat.CALLOUT, ends_block=True),
)
