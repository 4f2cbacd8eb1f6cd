"""The passes, in order, each position with its reason; the verifier runs after every one.

1. getset: registers become values, so that all later passes see through them.
2. fold: constants and identities, now that values are visible; it also decides conditions.
3. cse: equal computations once; after fold, so that equal means equal.
4. wide: accesses of bytes become wider ones; after cse, so that one base is one value. For processes alone.
5. dce: last, since every pass before leaves unused values behind.
"""

from __future__ import annotations

from collections.abc import Callable

from ir.block import Block
from ir.passes import cse, dce, fold, getset, wide
from ir.verify import verify

Pass = Callable[[Block], Block]
PIPELINE: tuple[tuple[str, Pass], ...] = (
    ("getset", getset.run),
    ("fold", fold.run),
    ("cse", cse.run),
    ("wide", wide.run),
    ("dce", dce.run),
)
MACHINE = tuple(each for each in PIPELINE if each[0] != "wide")


def pipeline_of(machine: bool) -> tuple[tuple[str, Pass], ...]:
    """The passes for code of a machine, or of a process."""
    return MACHINE if machine else PIPELINE


def optimise(block: Block, pipeline: tuple[tuple[str, Pass], ...] = PIPELINE) -> Block:
    """Run every pass and verify after each; raises InvalidIR naming nothing but the block."""
    for _, run in pipeline:
        block = verify(run(block))
    return block
