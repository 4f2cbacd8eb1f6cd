"""Register traffic within a block: a read after a write or a read is the value itself.

Afterwards every slot is read at most once, before any write to it. Writes all stay: each may be what a
side exit must store, and the lowering stores only the last one before any exit.
"""

from __future__ import annotations

from ir.block import Block, Inst, Value
from ir.passes.rewrite import rewrite


def run(block: Block) -> Block:
    known: dict[object, Value] = {}

    def step(inst: Inst) -> Value | None:
        if inst.op.name == "getreg":
            return known.setdefault(inst.attrs[0], inst)
        if inst.op.name == "setreg":
            known[inst.attrs[0]] = inst.args[0]
        return inst

    return rewrite(block, step)
