"""When a region is worth what LLVM takes for it: once its blocks have cost as much in stencils.

Whether to rent or to buy is decided in this way if nobody knows for how long one will ski: once the rent has come to
the price. LLVM takes about as long for each byte of guest code, and something for the least region. What blocks have
cost is how often they ran, and how long they are; those that run in other regions cost nothing here. Forming a region
takes milliseconds, so its blocks are told how often each will have run when it is worth it, and say so then.
Owns: that rule. Must not know: who counts, how a region is formed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING

from dbt.options import Options

if TYPE_CHECKING:
    from dbt.regions import Request

INSTRUCTION = 3  # bytes in an instruction
# In the following the unit is what going to a block costs, for as many times as make a block hot: a millisecond or two.
BYTES = 28  # bytes of guest code that LLVM translates in a unit
LEAST = 1  # units more for each region
START = 8  # and for a worker's start
ALIKE = 18  # bytes of guest code, 6 instructions, that cost as much as going to a block
NEARLY = 1.1  # times that what a region has cost may be less than its price
EQUAL = 0.99  # of the executions of the hottest block, that those of another one are for the two to be as hot


class Worth:
    """What is known of one program."""

    def __init__(self, options: Options) -> None:
        self._promote = options.promote
        self._needed: dict[int, int] = {}  # executions by place, of blocks of regions that were formed and not made yet
        self._before: dict[int, int] = {}  # executions by place in earlier runs

    def needed(self, place: int) -> int:
        """Executions after which a hot block may be worth its region, as far as is known without that."""
        return self._needed.get(place, self._promote)

    @property
    def waiting(self) -> Collection[int]:
        """Places of blocks that might be worth more to another run than to this one."""
        return self._needed.keys()

    def ran_before(self, ran: Mapping[int, int]) -> None:
        """What earlier runs have left: how often blocks ran, by place."""
        self._before.update(ran)

    def before(self, place: int) -> int:
        """Executions of a block in earlier runs."""
        return self._before.get(place, 0)

    def is_early(self, request: Request, starting: bool, counts_for: Callable[[int], int]) -> bool:
        """Whether the blocks of a region are to run more often before it is translated; `needed` says how often each.

        `starting`: no worker runs yet. `counts_for`: what one execution of the block at a place was counted as
        (`dbt.tier0`), or 0 if it runs elsewhere.
        """
        weights, size, cost = request.weights, 0, 0.0
        for pc, code in request.source:
            size += len(code)
            one = counts_for(request.key_of(pc, True)[0])
            cost += weights.get(pc, 0) * (1 + len(code) / ALIKE / one) if one else 0
        price = self._promote * (LEAST + START * starting + size / BYTES)
        is_early = cost * NEARLY < price
        times = price / cost if is_early and cost else 1
        # The head of a loop is a better entry than what is somewhere in it, so it is to be the first that says so.
        hot = EQUAL * max(weights.values())
        head = min(pc for pc, ran in weights.items() if ran >= hot)
        for pc, boundary in request.blocks:
            ran = weights.get(pc, 0) * times * (NEARLY if is_early and pc != head else 1)
            self._needed[request.key_of(pc, boundary)[0]] = max(int(ran), self._promote)
        return is_early

    def translated(self, request: Request) -> None:
        """The blocks of this region need wait no more."""
        for block in request.blocks:
            self._needed.pop(request.key_of(*block)[0], None)

    def forget(self) -> None:
        """Another program begins."""
        self._needed.clear()
        self._before.clear()
