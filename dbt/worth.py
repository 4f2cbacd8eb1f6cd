"""When a region is worth what LLVM takes for it: how often its block has to have run from stencils.

LLVM takes about as long for each byte of guest code, and what a region saves grows with how often it runs. So `promote`
executions of a block pay for a small region, and a larger one needs more. Whether to rent or to buy is decided in that
way if nobody knows for how long one will ski: once the rent has come to the price. Forming a region to learn how large
it is takes milliseconds, so before that it is taken to be what is hot beside the block, and in no region.
Owns: that rule, and the hot blocks that are in no region. Must not know: who counts, how a region is formed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from dbt.options import Options

if TYPE_CHECKING:
    from dbt.regions import Request

PAID = 384  # bytes of guest code, about 125 instructions, that `promote` executions pay for
BLOCK = 15  # bytes in a hot block
INSTRUCTION = 3  # bytes in an instruction
START = 450  # bytes that could be translated in the time that a worker needs to start


class Worth:
    """What is known of one program."""

    def __init__(self, options: Options) -> None:
        self._promote, self._most = options.promote, options.region * INSTRUCTION
        self._hot: set[int] = set()
        self._sizes: dict[int, int] = {}  # of the last region that was formed with this block, if it has to wait

    def guessed(self, place: int, starting: bool) -> int:
        """Executions that a hot block in no region needs, as far as is known without its region. `starting`: no worker
        runs yet.
        """
        self._hot.add(place)
        size = self._sizes.get(place) or min(len(self._hot) * BLOCK, self._most)
        return self._needed(size + (START if starting else 0))

    def of(self, request: Request) -> int:
        """Executions that the first block of this region needs, and what its others will be told if they are hot."""
        size = sum(len(code) for _, code in request.source)
        self._sizes.update(dict.fromkeys(_places(request), size))
        return self._needed(size)

    def _needed(self, size: int) -> int:
        return self._promote * max(size, PAID) // PAID

    def translated(self, request: Request) -> None:
        """The blocks of this region need wait no more."""
        for place in _places(request):
            self._hot.discard(place)
            self._sizes.pop(place, None)

    def settled(self, covers: Callable[[int], bool]) -> None:
        """There are translations that may not have been asked for, as from disk. `covers`: if a place is in one."""
        self._hot = {place for place in self._hot if not covers(place)}

    def forget(self) -> None:
        """Another program begins."""
        self._hot.clear()
        self._sizes.clear()


def _places(request: Request) -> Iterator[int]:
    return (request.key_of(*block)[0] for block in request.blocks)
