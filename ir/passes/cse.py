"""Equal computations once, and no second test of what has been tested.

Only ops without effects count as computations; a `leave_if` that was passed cannot leave later.
"""

from __future__ import annotations

from ir.block import Block, Inst, Value
from ir.passes.rewrite import rewrite


def run(block: Block) -> Block:
    known: dict[object, Inst] = {}

    def step(inst: Inst) -> Value | None:
        if inst.op.effects and inst.op.name != "leave_if":
            return inst
        arguments = tuple(id(a) if isinstance(a, Inst) else (type(a), a) for a in inst.args)
        key = (inst.op.name, arguments, () if inst.op.name == "leave_if" else inst.attrs)
        first = known.setdefault(key, inst)
        if first is inst or inst.op.result is not None:
            return first
        return None

    return rewrite(block, step)
