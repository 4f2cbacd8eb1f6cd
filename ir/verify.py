"""The verifier: types, one definition before use, attributes, exactly one exit.

It runs after the builder and after every pass. Owns: the rules. Must not know: why a block is as it is.
"""

from __future__ import annotations

from ir.block import Block, Branch, Callout, Continue, Indirect, Inst, Jump, type_of


class InvalidIR(Exception):
    """A block breaks a rule of the IR; the message says where."""


def verify(block: Block) -> Block:
    """Return the block, or raise InvalidIR."""
    defined: set[Inst] = set()
    for number, inst in enumerate(block.insts):
        where = f"block {block.pc:#x}, instruction {number} ({inst.op.name})"
        if len(inst.args) != len(inst.op.args) or len(inst.attrs) != len(inst.op.attrs):
            raise InvalidIR(f"{where}: takes {inst.op.args} and {inst.op.attrs}")
        for value, wanted in zip(inst.args, inst.op.args):
            _check(value, wanted, defined, where)
        if not 0 <= inst.at < max(1, len(block.guest)):
            raise InvalidIR(f"{where}: belongs to guest instruction {inst.at} of {len(block.guest)}")
        if inst in defined:
            raise InvalidIR(f"{where}: defined twice")
        defined.add(inst)
    where = f"block {block.pc:#x}, exit"
    match block.exit:
        case Branch(condition, _, _):
            _check(condition, "i1", defined, where)
        case Indirect(target):
            _check(target, "i64", defined, where)
        case Jump() | Callout() | Continue():
            pass
        case _:
            raise InvalidIR(f"{where}: missing")
    if isinstance(block.exit, (Jump, Branch, Indirect)) and not block.guest:
        raise InvalidIR(f"{where}: a jump without a guest instruction")
    return block


def _check(value: object, wanted: str, defined: set[Inst], where: str) -> None:
    if isinstance(value, Inst):
        if value not in defined:
            raise InvalidIR(f"{where}: {value!r} is used before its definition")
        found = type_of(value)
    elif isinstance(value, int):
        found = type_of(value)
        if not 0 <= value < 1 << 64:
            raise InvalidIR(f"{where}: constant {value} is no unsigned 64-bit value")
    else:
        raise InvalidIR(f"{where}: {value!r} is no value")
    if found != wanted:
        raise InvalidIR(f"{where}: {value!r} has type {found}, not {wanted}")
