"""Dead code: what defines a value that nobody uses and has no effect goes."""

from __future__ import annotations

from ir.block import Block, Inst
from ir.records import replace

_PURE = frozenset({"getreg", "time"})  # effects that only read


def run(block: Block) -> Block:
    used: set[Inst] = {v for v in block.exit_values() if isinstance(v, Inst)}
    kept: list[Inst] = []
    for inst in reversed(block.insts):
        if inst in used or not inst.op.effects <= _PURE:
            kept.append(inst)
            used.update(a for a in inst.args if isinstance(a, Inst))
    return replace(block, insts=kept[::-1])
