"""The toy guest as one value, with the text of its instructions."""

from __future__ import annotations

import re
from collections.abc import Sequence

from guests.decode import Decoder
from guests.spec import Decoded, Guest
from guests.toy import interrupts, registers
from guests.toy.instructions import ROWS

_FIELD = re.compile(r"rd|rs1|rs2|target")


def text(decoded: Decoded, pc: int) -> str:
    """One instruction in assembly; jump targets are absolute."""
    o = decoded.operands

    def operand(m: re.Match[str]) -> str:
        return hex(pc + o.imm & (1 << 64) - 1) if m[0] == "target" else f"r{getattr(o, m[0])}"

    return f"{decoded.row.name} {_FIELD.sub(operand, decoded.row.syntax)}".strip()


GUEST = Guest(
    name="toy",
    isa="toy",
    registers=registers.REGISTERS,
    slots=registers.SLOTS,
    decode=Decoder(ROWS, registers.NONE),
    rows=ROWS,
    disassemble=text,
    link=registers.link,
    flags_slot=registers.NONE,
    rounding_slot=registers.NONE,
    zero_slot=registers.NONE,
    sink_slot=registers.NONE,
    stack_slot=registers.NONE,
    floats=range(0),
    syscall_cause=-1,
    illegal_cause=interrupts.ILLEGAL_INSTRUCTION,
    breakpoint_cause=-1,
    fetch_misaligned_cause=interrupts.MISALIGNED,
    syscall_length=4,
    signals={},
    signal_codes={},
    ticks=1,
    hot_slots=(0, 1, 2, 3, 4, 5, 6),
    fault_causes={"fetch": interrupts.FETCH_FAULT},
    align=4,
    trap_names=interrupts.NAMES,
    features=frozenset({"toy"}),
)


def guest(isa: str | None, own: Sequence[object]) -> Guest:
    """The toy: there is one form of it, which ISA strings and extensions do not change."""
    if isa not in (None, GUEST.isa) or own:
        raise ValueError("the toy has no extensions")
    return GUEST
