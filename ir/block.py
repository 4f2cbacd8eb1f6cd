"""Blocks of IR: values, instructions and the closed set of ways out.

Owns: the data structures. Must not know: how they are built, checked, printed or lowered.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Union

from ir.ops import MASK, OPS, Op
from ir.records import field, record


class Inst:
    """One IR instruction; it is also the value that it defines. `at` is the guest instruction's index."""

    __slots__ = ("args", "at", "attrs", "op")

    def __init__(self, op: Op, args: tuple[Value, ...], attrs: tuple[object, ...], at: int) -> None:
        self.op = op
        self.args = args
        self.attrs = attrs
        self.at = at

    def __bool__(self) -> bool:
        raise TypeError(f"a guest value ({self.op.name}) has no truth at translation: use m.select or m.branch")

    def __repr__(self) -> str:
        return f"<{self.op.name} at {self.at}>"


Value = Union[Inst, int]  # an int is a constant: of type i1 when it is a bool, else i64


class Jump(NamedTuple):
    """To a guest address known at translation."""

    target: int


class Branch(NamedTuple):
    """To one of two known guest addresses."""

    condition: Value
    target: int
    otherwise: int


class Indirect(NamedTuple):
    """To a guest address computed at run time."""

    target: Value


class Callout(NamedTuple):
    """The monitor executes the guest instruction at `pc`; the block ends before it."""

    pc: int


class Continue(NamedTuple):
    """The translation was cut; guest code goes on at `target` and this is no architectural boundary."""

    target: int


Exit = Union[Jump, Branch, Indirect, Callout, Continue]


class GuestInsn(NamedTuple):
    """Where one guest instruction of the block is, and what it was, for counts, faults and dumps."""

    pc: int
    length: int
    text: str
    treat: str


@record
class Block:
    """Straight-line IR with one exit. `guest` lists the guest instructions it retires, in order."""

    pc: int
    boundary: bool = True  # whether the entry is an architectural boundary, where events are delivered
    insts: list[Inst] = field(default_factory=list)
    exit: Exit | None = None
    guest: list[GuestInsn] = field(default_factory=list)

    @property
    def end(self) -> int:
        """The guest address after the last instruction."""
        return self.guest[-1].pc + self.guest[-1].length if self.guest else self.pc

    @property
    def ends_by_jump(self) -> bool:
        """Whether the last instruction leads on, and the block was not cut, or left to the monitor."""
        return bool(self.guest) and not isinstance(self.exit, (Callout, Continue)) and self.exit != Jump(self.end)

    def exit_values(self) -> tuple[Value, ...]:
        """The values that the exit uses."""
        match self.exit:
            case Branch(condition, _, _):
                return (condition,)
            case Indirect(target):
                return (target,)
        return ()


def type_of(value: Value) -> str:
    """ "i1" or "i64"; an instruction without a result has no type and raises TypeError."""
    if isinstance(value, bool):
        return "i1"
    if isinstance(value, int):
        return "i64"
    if value.op.result is None:
        raise TypeError(f"{value.op.name} defines no value")
    return value.op.result


def boxed_in(value: Value, bits: int) -> Value | None:
    """What has so many bits in this value, if all above them are set to ones here: a NaN-boxed float."""
    if isinstance(value, Inst) and value.op.name == "or" and value.args[1] == MASK >> bits << bits:
        return value.args[0]
    return None


def numbered(block: Block) -> Iterator[tuple[int | None, Inst]]:
    """The instructions with the numbers that print as %0, %1, ... (None where no value is defined)."""
    number = 0
    for inst in block.insts:
        if inst.op.result is None:
            yield None, inst
        else:
            yield number, inst
            number += 1


__all__ = [
    "OPS", "Block", "Branch", "Callout", "Continue", "Exit", "GuestInsn", "Indirect", "Inst", "Jump",
    "Value", "numbered", "type_of",
]  # fmt: skip
