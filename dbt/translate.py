"""The translator, on one page: guest bytes to host code.

    decode -> lift (bodies run against the builder) -> verify -> passes -> LLVM IR text -> code bytes -> arena

`Translator.translate(key)` takes a batch through that: the block asked for, and blocks it leads to, since
LLVM's cost of a module is shared by all of them. Every stage can be shown (`dump`) and is timed.
Owns: the pipeline. Must not know: when code is needed, what links it, what any instruction means.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from dbt.block import Key, Made, Translation
from dbt.memory import AddressSpace, MemoryFault
from dbt.options import Options
from dbt.state import State
from guests.spec import Decoded, Treat
from ir import llvm
from ir.block import Block, Branch, Callout, Continue, Exit, GuestInsn, Indirect, Jump
from ir.records import field, record, replace

if TYPE_CHECKING:  # what makes translations is imported when one is made: most short runs make none
    from dbt.arena import Arena
    from dbt.backend import Backend
    from dbt.cache.disk import Disk
    from dbt.code import Code
    from ir.builder import Builder

    Admit = Callable[[Arena, Sequence[Code]], list[tuple[int, dict[str, int]]]]

PAGE_SHIFT = 12
BLOCK_SHARE = 4096  # a small cache gets small batches: a block for each so many bytes
STAGES = ("decode", "ir", "opt", "llvm", "asm")


class Site(NamedTuple):
    """One guest instruction where it stands."""

    pc: int
    decoded: Decoded


@record
class TranslationStats:
    """Work done, and CPU seconds by stage."""

    translations: int = 0
    instructions: int = 0
    code_bytes: int = 0
    batches: int = 0
    seconds: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("lift", "passes", "lower", "llvm", "place"), 0.0)
    )


class Translator:
    """Makes translations for one address space. What it makes is told to `disk`, if there is one."""

    def __init__(self, state: State, space: AddressSpace, options: Options, disk: Disk | None = None) -> None:
        self.guest = state.guest
        self.space = space
        self.options = options
        self.stats = TranslationStats()
        self._state = state
        self._disk = disk
        self._callouts = {Treat.CALLOUT, *([Treat.INLINE] if options.sensitive == "callout" else [])}
        self._backend: Backend | None = None

    @property
    def backend(self) -> Backend:
        """Compiler, arena and runtime, made at the first use."""
        if self._backend is None:
            from dbt.backend import Backend

            kept = {} if self._disk is None else {"keep": self._disk.code}
            self._backend = Backend(self._state, self.options, **kept)
        return self._backend

    @property
    def started(self) -> bool:
        """Whether there is a backend: before the first translation there is none."""
        return self._backend is not None

    def translate(self, key: Key, wanted: Callable[[Key], bool], admit: Admit) -> list[Translation]:
        """Translate `key`, and what it leads to where that is `wanted`. `admit` places code, as much as has room.

        The first translation returned is the one asked for; there is none if it had no room.
        """
        from ir import passes

        clock = time.process_time
        t0 = clock()
        blocks = self._batch(key, wanted)
        t1 = clock()
        optimised = [passes.optimise(block) for block in blocks]
        t2 = clock()
        backend = self.backend
        lowered = [llvm.lower(b, f"b{b.pc:x}{'' if b.boundary else 'm'}", backend.target) for b in optimised]
        text = llvm.module(lowered, backend.target)
        t3 = clock()
        pieces = backend.compiler.compile(text, check=bool(self.options.dump)).split()
        t4 = clock()
        found = [self._made(b, f, pieces[f.name]) for b, f in zip(optimised, lowered)]
        made = self.place(found, admit)
        for stage, spent in zip(self.stats.seconds, (t1 - t0, t2 - t1, t3 - t2, t4 - t3, clock() - t4)):
            self.stats.seconds[stage] += spent
        self.stats.batches += 1
        self.stats.translations += len(made)
        self.stats.instructions += sum(t.instructions for t in made)
        self.stats.code_bytes += sum(t.room for t in made)
        if self._disk is not None:
            self._disk.keep(found, self.space)
        if self.options.dump:
            self._dump(blocks, optimised, lowered, made)
        return made

    def place(self, found: Sequence[Made], admit: Admit) -> list[Translation]:
        """Give these a place, the first of them as far as there is room."""
        arena = self.backend.arena
        codes = [self._with_door(made) for made in found]
        placed = admit(arena, codes)
        return [
            Translation(
                made.key, made.source, at, made.size, arena.room(code), made.instructions,
                {slots[symbol]: leads for symbol, leads in made.exits.items()},
                at + len(made.code.text) if code is not made.code else 0,
            )
            for made, code, (at, slots) in zip(found, codes, placed)
        ]  # fmt: skip

    def _with_door(self, made: Made) -> Code:
        """The code, and behind it the place where tier 0 enters, if there is that tier."""
        code = made.code
        door = self.backend.door(len(code.text)) if made.key[1] else b""
        return replace(code, text=code.text + door) if door else code

    def _made(self, block: Block, function: llvm.Lowered, code: Code) -> Made:
        used = {symbol for _, symbol, _ in code.relocations}
        exits = {symbol: leads for symbol, leads in function.exits.items() if symbol in used}
        size = code.functions[function.name][1]
        return Made((block.pc, block.boundary), self._source(block), len(block.guest), size, code, exits)

    # --- decode and lift ----------------------------------------------------------------------------

    def _batch(self, key: Key, wanted: Callable[[Key], bool]) -> list[Block]:
        """The block asked for, then those that it leads to, breadth first."""
        queue, seen = [key], {key}
        blocks: list[Block] = []
        most = min(self.options.batch, max(self.options.cache_size // BLOCK_SHARE, 1))
        while queue and len(blocks) < most:
            blocks.append(self.lift(*queue.pop(0)))
            for follower in _followers(blocks[-1]):
                if follower not in seen and wanted(follower) and self._executable(follower[0]):
                    seen.add(follower)
                    queue.append(follower)
        return blocks

    def _executable(self, pc: int) -> bool:
        try:
            return self.guest.decode(self.space.fetch(pc)) is not None
        except MemoryFault:
            return False

    def decode(self, pc: int, most: int) -> tuple[list[Site], Exit | None]:
        """Up to `most` instructions from `pc` to the end of the block; the exit where it is not the last one's."""
        sites: list[Site] = []
        while len(sites) < most:
            try:
                decoded = self.guest.decode(self.space.fetch(pc))
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
        return sites, Continue(pc)

    def optimised(self, pc: int, boundary: bool) -> Block:
        """The IR of the block at `pc` after the passes."""
        from ir import passes

        return passes.optimise(self.lift(pc, boundary))

    def lift(self, pc: int, boundary: bool) -> Block:
        """The IR of the block at `pc`, verified, before any pass."""
        from ir.builder import Builder
        from ir.verify import verify

        builder = Builder(pc, boundary, self.guest.align, self.guest.rounding_slot)
        self.guest.link(builder)
        guest = builder.block.guest
        sites, exit = self.decode(pc, self.options.max_instructions)
        for _ in range(self.options.superblock):
            exit = self._append(builder, sites, exit)
            if not isinstance(exit, Branch) or exit.target <= guest[-1].pc:  # backwards: a loop, which is likely taken
                break
            sites, beyond = self.decode(exit.otherwise, self.options.max_instructions - len(guest))
            if not sites or exit.otherwise >> PAGE_SHIFT != pc >> PAGE_SHIFT:
                break
            builder.go_past(exit)
            exit = beyond
        else:
            exit = self._append(builder, sites, exit)
        return verify(builder.finish(exit))

    def _append(self, builder: Builder, sites: list[Site], exit: Exit | None) -> Exit:
        """Run the bodies of these instructions; returns how the block ends if it ends there."""
        from ir.builder import NeedsCallout

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

    def _source(self, block: Block) -> bytes:
        """The guest's code of a block. A callout's belongs to it too: it was decided by looking at it."""
        length = block.end - block.pc
        if isinstance(block.exit, Callout):
            with suppress(MemoryFault):  # which the monitor will meet
                length += 4 if self.space.fetch(block.exit.pc) & 3 == 3 else 2
        return self.space.peek(block.pc, length)

    # --- dumps --------------------------------------------------------------------------------------

    def _dump(
        self, lifted: list[Block], optimised: list[Block], lowered: list[llvm.Lowered], made: list[Translation]
    ) -> None:
        from dbt.trace import host_text
        from ir.text import show

        write, wanted = self.options.write, self.options.dump
        for block, better, function, translation in zip(lifted, optimised, lowered, made):
            if "decode" in wanted:
                write(f"--- decode {block.pc:#x}")
                for g in block.guest:
                    word = self.space.peek(g.pc, g.length)[::-1].hex()
                    write(f"{g.pc:12x}  {word:>8}  {g.treat:7}  {g.text}")
                write(f"{'':12}  {_exit_text(block.exit)}")
            if "ir" in wanted:
                write(f"--- ir {block.pc:#x}\n{show(block)}")
            if "opt" in wanted:
                write(f"--- opt {block.pc:#x}\n{show(better)}")
            if "llvm" in wanted:
                write(f"--- llvm {block.pc:#x}\n{function.text}")
            if "asm" in wanted:
                write(f"--- asm {block.pc:#x} ({translation.size} bytes)")
                code = self.backend.arena.bytes_at(translation.entry, translation.size)
                write(host_text(code, translation.entry))


def _exit_text(exit: Exit | None) -> str:
    match exit:
        case Callout(pc):
            return f"callout: the monitor executes {pc:#x}"
        case Continue(pc):
            return f"cut: goes on at {pc:#x}"
        case Indirect():
            return "indirect jump"
        case Jump(pc):
            return f"to {pc:#x}"
        case Branch(_, taken, otherwise):
            return f"to {taken:#x} or {otherwise:#x}"
    return ""


def _followers(block: Block) -> Iterable[Key]:
    """Keys that the block leads to, and the return address of a call; the likely ones first."""
    match block.exit:
        case Jump(target):
            yield target, True
            if block.guest and target != block.end:
                yield block.end, True
        case Branch(_, taken, otherwise):
            yield otherwise, True
            yield taken, True
        case Continue(target):
            yield target, False
        case Indirect():
            yield block.end, True
    for inst in block.insts:
        if inst.op.name == "branch_out":
            to = inst.args[1]
            assert isinstance(to, int)
            yield to, True
