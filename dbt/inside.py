"""How often blocks ran inside regions, where no counter of theirs says it.

A region counts the instructions that it retires. What it was made of, and how often that had run until then, says how
these are shared among its blocks, about. Without this a loop that has a region of its own would look cold to the region
of what is around it, which would be laid out for leaving it at once.
Owns: that estimate. Must not know: who counts, what it is for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from dbt.worth import INSTRUCTION

if TYPE_CHECKING:
    from dbt.block import Key
    from dbt.regions import Request


class Share(NamedTuple):
    """A block's part of a region."""

    key: Key  # the region's
    before: int  # executions when it was formed
    rate: float  # executions for each instruction that it retires


class Inside:
    """What is known of the blocks of one program's regions, by place: of the last region that each was in."""

    def __init__(self) -> None:
        self._shares: dict[int, Share] = {}

    def note(self, request: Request) -> None:
        """This became a region."""
        weights = request.weights
        total = sum(weights.get(pc, 0) * len(code) for pc, code in request.source) / INSTRUCTION
        if total:
            for block in request.blocks:
                ran = weights.get(block[0], 0)
                self._shares[request.key_of(*block)[0]] = Share(request.key, ran, ran / total)

    def executions(self, place: int, retired: Callable[[Key], int | None]) -> int:
        """How often the block there ran, about. `retired`: instructions that the region of a key has; None if it is
        no more.
        """
        share = self._shares.get(place)
        count = None if share is None else retired(share.key)
        return 0 if share is None or count is None else share.before + int(count * share.rate)

    def forget(self) -> None:
        """Another program begins."""
        self._shares.clear()
