"""Constant folding, by the op table's own meanings, and the identities that guest code is full of.

Division is folded only where its preconditions hold.
"""

from __future__ import annotations

from ir.block import Block, Branch, Exit, Inst, Jump, Value, boxed_in
from ir.ops import MASK
from ir.passes.rewrite import rewrite

_DIVISIONS = ("divu", "remu", "divs", "rems")
_NARROW = {"fadd", "fsub", "fmul", "fdiv", "fsqrt", "fma", "from_int"}


def run(block: Block) -> Block:
    return rewrite(block, fold, end)


def fold(inst: Inst) -> Value | None:
    """The value that the instruction has, or the instruction itself."""
    op, args = inst.op, inst.args
    if op.name == "leave_if" and args[0] is False:
        return None
    if op.meaning is None:
        return inst
    if all(isinstance(a, int) for a in args):
        if op.name in _DIVISIONS and (args[1] == 0 or args[1] == MASK):
            return inst
        result: Value = op.meaning(*args, *inst.attrs)
        return result
    return _identity(inst)


def _identity(inst: Inst) -> Value:
    args = inst.args
    match inst.op.name:
        case "add" | "or" | "xor":
            if args[0] == 0 and isinstance(args[0], int):
                return args[1]
            if _is(args[1], 0):
                return args[0]
        case "sub" | "shl" | "shr" | "sar":
            if _is(args[1], 0):
                return args[0]
        case "and":
            if _is(args[0], 0) or _is(args[1], 0):
                return 0
            if _is(args[1], MASK):
                return args[0]
        case "mul":
            if _is(args[1], 1):
                return args[0]
        case "select":
            if isinstance(args[0], bool):
                return args[1] if args[0] else args[2]
            if args[1] is args[2]:
                return args[1]
        case "zext":
            return _narrowed(inst)
        case "unbox":
            return _unboxed(inst)
        case "eq" | "geu" | "ges":
            if args[0] is args[1]:
                return True
        case "ne" | "ltu" | "lts":
            if args[0] is args[1]:
                return False
        case "both" | "either":
            for known, other in (args, args[::-1]):
                if isinstance(known, bool):
                    return other if known == (inst.op.name == "both") else known
    return inst


def _is(value: Value, constant: int) -> bool:
    return isinstance(value, int) and value == constant


def _narrowed(inst: Inst) -> Value:
    """zext of what is narrow already: the value itself."""
    a, bits = inst.args[0], inst.attrs[0]
    assert isinstance(bits, int)
    return a if isinstance(a, Inst) and _width(a) <= bits else inst


def _unboxed(inst: Inst) -> Value:
    """unbox of a box just made: what was put in, if that was narrow."""
    bits = inst.attrs[0]
    assert isinstance(bits, int)
    inside = boxed_in(inst.args[0], bits)
    return inside if isinstance(inside, Inst) and _width(inside) <= bits else inst


def _width(value: Inst) -> int:
    """Bits that can be set in a value."""
    if value.op.name in _NARROW or value.op.name == "fconvert":
        width = value.attrs[1 if value.op.name == "fconvert" else 0]
        assert isinstance(width, int)
        return width
    if value.op.name == "load" and not value.attrs[2]:
        size = value.attrs[1]
        assert isinstance(size, int)
        return size * 8
    if value.op.name in ("zext", "unbox"):
        bits = value.attrs[0]
        assert isinstance(bits, int)
        return bits
    return 64


def end(exit: Exit) -> Exit:
    """A branch whose way is known is a jump."""
    if isinstance(exit, Branch) and isinstance(exit.condition, bool):
        return Jump(exit.target if exit.condition else exit.otherwise)
    return exit
