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

from dbt.block import Key, Made, Source
from dbt.lift import Lifter, Shape
from dbt.memory import PAGE_SHIFT, MemoryFault
from ir.block import Block
from ir.records import replace


class Profile(Protocol):
    """What is known of how blocks ran, by guest address."""

    def executions(self, pc: int, beside: int) -> int:
        """How often, about; 0 if the block is not worth being in a region beside one that ran so often."""

    def ways(self, pc: int) -> tuple[int, ...]:
        """Where the indirect jump of this block went, the likely ones first."""


Home = tuple[int, int, int]


class Request(NamedTuple):
    """A region to be translated: its blocks, the entry first; how often they ran, where their indirect jumps went, as
    far as that is known; the code that they are made from.

    In a machine `homes` says of each page of addresses where it is: what is added to a guest address there for a key,
    and for the address of its code in RAM, and the word that is current for as long as it is there.
    """

    blocks: tuple[Key, ...]
    weights: Mapping[int, int]
    ways: Mapping[int, tuple[int, ...]]
    source: Source
    homes: Mapping[int, Home] = {}

    @property
    def key(self) -> Key:
        return self.key_of(*self.blocks[0])

    def lifted(self, lifter: Lifter) -> list[Block]:
        """The IR of its blocks. Code that leads into another of them without a jump ends before it, so no instruction
        is there twice, and ways that meet in the middle of a block meet.
        """
        heads = {pc for pc, boundary in self.blocks if boundary}
        return [lifter.lift(pc, boundary, heads) for pc, boundary in self.blocks]

    def key_of(self, pc: int, boundary: bool) -> Key:
        """The key of a guest address; that of a page which is not known has none, and stays what it is."""
        home = self.homes.get(pc >> PAGE_SHIFT)
        return (pc + home[0] if home else pc, boundary)

    def located(self, made: Made) -> Made:
        """What was made of this request, by keys, and by where its code is."""
        homes, away = self.homes, made.away
        if not homes:
            return made
        return replace(
            made,
            key=self.key,
            source=tuple([(start + homes[start >> PAGE_SHIFT][1], code) for start, code in made.source]),
            exits={symbol: leads if symbol in away else self.key_of(*leads) for symbol, leads in made.exits.items()},
            gates=tuple([gate._replace(pc=self.key_of(gate.pc, True)[0]) for gate in made.gates]),
            pages={symbol: homes[page][2] for symbol, page in made.pages.items()},
        )


class Bytes:
    """Guest code that is given (`dbt.lift.GuestCode`)."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def peek(self, address: int, length: int) -> bytes:
        for start, code in self._source:
            if start <= address and address + length <= start + len(code):
                return code[address - start : address - start + length]
        raise MemoryFault(address, "fetch", False)

    def fetch(self, address: int) -> int:
        low = int.from_bytes(self.peek(address, 2), "little")
        return low if low & 3 != 3 else int.from_bytes(self.peek(address, 4), "little")


def single(lifter: Lifter, key: Key, ran: int = 1) -> Request:
    """A region of one block, which ran so often."""
    code = lifter.source(key[0], lifter.shape(key[0]).end)
    return Request((key,), {key[0]: ran}, {}, ((key[0], code),) if code else ())


def form(lifter: Lifter, key: Key, profile: Profile, most: int) -> Request:
    """The region that begins at `key`, of about `most` guest instructions."""
    if not key[1]:
        return single(lifter, key)
    pc = key[0]
    heap = [(0, pc)]
    ran = max(profile.executions(pc, 0), 1)
    weights = {pc: ran}
    ways = {}
    shapes: dict[int, Shape] = {}
    codes: dict[int, bytes] = {}
    inside: set[int] = set()  # guest instructions
    while heap:
        _, pc = heappop(heap)
        shape = lifter.shape(pc)
        more = inside.union(shape.addresses)
        if shapes and (len(more) > most or not shape.addresses):
            continue
        try:
            codes[pc] = lifter.source(pc, shape.end)
        except MemoryFault:
            continue
        shapes[pc], inside = shape, more
        leads = shape.leads
        if shape.indirect:
            ways[pc] = profile.ways(pc)
            leads += ways[pc]
        for to in leads:
            if to not in weights:
                weights[to] = profile.executions(to, ran)
                if weights[to]:
                    heappush(heap, (-weights[to], to))
    source = []
    for pc, shape in shapes.items():
        behind = [at for at in shape.addresses[1:] if at in shapes]
        if behind:
            codes[pc] = codes[pc][: behind[0] - pc]
            if pc in ways:  # it is the last of them that jumps
                ways[behind[-1]] = tuple(dict.fromkeys((*ways[behind[-1]], *ways[pc])))
        if codes[pc]:
            source.append((pc, codes[pc]))
    blocks = tuple([(pc, True) for pc in shapes])
    return Request(blocks, weights, {pc: to for pc, to in ways.items() if to}, tuple(source))
