"""The walk that passes share: rebuild a block, instruction by instruction, with values replaced.

Owns: the substitution. Must not know: what any pass is after.
"""

from __future__ import annotations

from collections.abc import Callable

from ir.block import Block, Branch, Exit, Indirect, Inst, Value
from ir.records import replace

# Called with each instruction, its arguments already replaced: gives the instruction or a new one to put in
# its place, behind the new ones that it uses; an earlier value to use instead of it, or None to drop one that defines
# nothing.
Step = Callable[[Inst], Value | None]


def rewrite(block: Block, step: Step, end: Callable[[Exit], Exit] = lambda e: e) -> Block:
    """A new block in which `step` decided on every instruction."""
    new: dict[Inst, Value] = {}
    insts: list[Inst] = []
    placed: set[Inst] = set()

    def current(value: Value) -> Value:
        return new.get(value, value) if isinstance(value, Inst) else value

    def place(inst: Inst) -> None:
        if inst not in placed:
            placed.add(inst)
            for argument in inst.args:
                if isinstance(argument, Inst):
                    place(argument)
            insts.append(inst)

    for inst in block.insts:
        args = tuple(current(a) for a in inst.args)
        changed = inst if args == inst.args else Inst(inst.op, args, inst.attrs, inst.at)
        kept = step(changed)
        if isinstance(kept, Inst):
            place(kept)
        if inst.op.result is not None:
            assert kept is not None
            new[inst] = kept
    exit = block.exit
    match exit:
        case Branch(condition, target, otherwise):
            exit = Branch(current(condition), target, otherwise)
        case Indirect(target_value):
            exit = Indirect(current(target_value))
    assert exit is not None
    return replace(block, insts=insts, exit=end(exit))
