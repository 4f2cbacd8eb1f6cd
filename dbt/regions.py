"""Which blocks make a region: from a hot block along what it leads to, the most executed first.

Calls are followed into the function that is called and on behind the call, so a hot call tree is one region, and what
never ran stays outside. How often a block ran is asked of whoever counts; LLVM's time grows faster than a region, which
bounds its size. The request that comes out says all that translating it needs, the guest's bytes included.
Owns: that choice. Must not know: how executions are counted, how a region is translated.
"""

from __future__ import annotations

from collections.abc import Mapping
from heapq import heappop, heappush
from typing import NamedTuple, Protocol

from dbt.block import Key, Source
from dbt.lift import Lifter
from dbt.memory import MemoryFault


class Profile(Protocol):
    """What is known of how blocks ran, by guest address."""

    def executions(self, pc: int) -> int:
        """How often, about; 0 if the block is not worth being in a region."""

    def ways(self, pc: int) -> tuple[int, ...]:
        """Where the indirect jump of this block went, the likely ones first."""


class Request(NamedTuple):
    """A region to be translated: its blocks, the entry first; how often they ran, where their indirect jumps went, as
    far as that is known; the code that they are made from."""

    blocks: tuple[Key, ...]
    weights: Mapping[int, int]
    ways: Mapping[int, tuple[int, ...]]
    source: Source

    @property
    def key(self) -> Key:
        return self.blocks[0]


def single(lifter: Lifter, key: Key) -> Request:
    """A region of one block."""
    code = lifter.source(key[0], lifter.shape(key[0]).end)
    return Request((key,), {}, {}, ((key[0], code),) if code else ())


def form(lifter: Lifter, key: Key, profile: Profile, most: int) -> Request:
    """The region that begins at `key`, of about `most` guest instructions."""
    if not key[1]:
        return single(lifter, key)
    pc = key[0]
    heap = [(0, pc)]
    weights = {pc: max(profile.executions(pc), 1)}
    ways = {}
    blocks: list[Key] = []
    source = []
    left = most
    while heap:
        _, pc = heappop(heap)
        shape = lifter.shape(pc)
        if blocks and (shape.instructions > left or not shape.instructions):
            continue
        left -= shape.instructions
        try:
            code = lifter.source(pc, shape.end)
        except MemoryFault:
            continue
        blocks.append((pc, True))
        if code:
            source.append((pc, code))
        leads = shape.leads
        if shape.indirect:
            ways[pc] = profile.ways(pc)
            leads += ways[pc]
        for to in leads:
            if to not in weights:
                weights[to] = profile.executions(to)
                if weights[to]:
                    heappush(heap, (-weights[to], to))
    return Request(tuple(blocks), weights, {pc: to for pc, to in ways.items() if to}, tuple(source))
