"""From guest bytes to IR: decode a block, run its bodies against the builder, verify.

Where code is read from is given: guest memory, or the bytes that a compile worker was sent.
Owns: where a block ends, which bytes it was made from. Must not know: which blocks are wanted, what becomes of IR.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from typing import NamedTuple, Protocol

from dbt.block import Key
from dbt.memory import PAGE_SHIFT, MemoryFault
from dbt.options import Options, callouts
from guests.spec import Decoded, Guest
from ir.block import Block, Branch, Callout, Continue, Exit, GuestInsn, Indirect, Jump
from ir.builder import Builder, NeedsCallout
from ir.region import link_of
from ir.verify import verify


class GuestCode(Protocol):
    """Where guest code is read; both raise MemoryFault where there is none."""

    def fetch(self, address: int) -> int:
        """The instruction word at an address, of 32 bits or of 16."""

    def peek(self, address: int, length: int) -> bytes:
        """Bytes at an address."""


class Site(NamedTuple):
    """One guest instruction where it stands."""

    pc: int
    decoded: Decoded


class Shape(NamedTuple):
    """What a block is without what it computes: where its instructions are, where they end, where it may lead."""

    addresses: tuple[int, ...]
    end: int
    leads: tuple[int, ...]  # guest addresses of boundaries, the return address of a call among them
    indirect: bool = False  # whether it may lead elsewhere too


class Lifter:
    """Reads blocks of one guest."""

    def __init__(self, guest: Guest, options: Options, code: GuestCode) -> None:
        self.guest = guest
        self.code = code
        self.options = options
        self._callouts = callouts(options)

    def decode(self, pc: int, most: int, heads: Collection[int] = ()) -> tuple[list[Site], Exit | None]:
        """Up to `most` instructions from `pc` to the end of the block, or until one of `heads` follows; the exit where
        it is not the last one's.
        """
        sites: list[Site] = []
        while len(sites) < most:
            try:
                decoded = self.guest.decode(self.code.fetch(pc))
            except MemoryFault:
                decoded = None
            if decoded is None or decoded.treat in self._callouts:
                return sites, Callout(pc)
            sites.append(Site(pc, decoded))
            following = pc + decoded.length & (1 << 64) - 1
            if decoded.ends_block:
                return sites, None
            if following >> PAGE_SHIFT != pc >> PAGE_SHIFT:
                return sites, Jump(following)
            pc = following
            if pc in heads:
                break
        return sites, Continue(pc)

    def lift(self, pc: int, boundary: bool, heads: Collection[int] = ()) -> Block:
        """The IR of the block at `pc`, or of its part before one of `heads`; verified, before any pass."""
        builder = self._builder(pc, boundary)
        sites, exit = self.decode(pc, self.options.max_instructions, heads)
        return verify(builder.finish(self._append(builder, sites, exit)))

    def shape(self, pc: int) -> Shape:
        """The shape of the block at the boundary `pc`; only its last body is run."""
        sites, exit = self.decode(pc, self.options.max_instructions)
        if not sites:
            return Shape((), pc, ())
        builder = self._builder(sites[-1].pc, True)
        exit = self._append(builder, sites[-1:], exit)
        end = sites[-1].pc + sites[-1].decoded.length
        match exit:
            case Jump(target):
                leads: tuple[int, ...] = (target,)
            case Branch(_, taken, otherwise):
                leads = (otherwise, taken)
            case Indirect(target) if isinstance(target, int):
                leads = (target,)
            case _:
                leads = ()
        if link_of(builder.finish(exit)) is not None:
            leads = (*leads, end)
        addresses = tuple([site.pc for site in sites])
        return Shape(addresses, end, leads, isinstance(exit, Indirect) and not isinstance(exit.target, int))

    def source(self, pc: int, end: int) -> bytes:
        """The guest's code of a block, and a callout's behind it: that it is one was decided by looking at it."""
        if end >> PAGE_SHIFT == pc >> PAGE_SHIFT:
            with suppress(MemoryFault):  # which the monitor will meet
                word = self.code.fetch(end)
                decoded = self.guest.decode(word)
                if decoded is None or decoded.treat in self._callouts:
                    end += 4 if word & 3 == 3 else 2
        return self.code.peek(pc, end - pc)

    def _builder(self, pc: int, boundary: bool) -> Builder:
        guest = self.guest
        accesses = None if guest.privileged is None else guest.privileged.accesses
        builder = Builder(pc, boundary, guest.align, guest.rounding_slot, accesses)
        self.guest.link(builder)
        return builder

    def _append(self, builder: Builder, sites: list[Site], exit: Exit | None) -> Exit:
        """Run the bodies of these instructions; returns how the block ends."""
        for site in sites:
            decoded = site.decoded
            text = self.guest.disassemble(decoded, site.pc)
            builder.begin(GuestInsn(site.pc, decoded.length, text, decoded.treat.value))
            try:
                assert decoded.row.body is not None
                decoded.row.body(builder, decoded.operands)
            except NeedsCallout:
                builder.drop()
                return Callout(site.pc)
        return exit or builder.taken or Jump(builder.next_pc())


def entry(key: Key) -> str:
    """The name of the function that a key's translation becomes."""
    return f"b{key[0]:x}{'' if key[1] else 'm'}"
