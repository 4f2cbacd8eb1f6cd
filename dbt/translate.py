"""The translator, on one page: guest bytes to host code.

    decode -> lift (bodies run against the builder) -> verify -> passes -> LLVM IR text -> code bytes -> arena

`make` takes the request for a region through all but the last, wherever it is called: here, or in a compile worker.
Every stage can be shown (`dump`) and is timed.
Owns: the pipeline. Must not know: when code is needed, what links it, what any instruction means.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from dbt.block import Gate, Key, Made, Translation
from dbt.memory import AddressSpace
from dbt.options import Options
from dbt.state import State
from ir.records import field, record, replace

if TYPE_CHECKING:  # what makes translations is imported when one is made: most short runs make none
    from dbt.arena import Arena
    from dbt.backend import Backend
    from dbt.cache.disk import Disk
    from dbt.code import Code
    from dbt.lift import GuestCode, Lifter
    from dbt.regions import Profile, Request
    from ir import llvm
    from ir.block import Block, Exit
    from ir.llvm import Target
    from ir.region import Region

    Admit = Callable[[Arena, Sequence[Code]], list[tuple[int, dict[str, int]]]]
    Compile = Callable[[str], Code]
    Seen = Callable[[Request, list[Block], list[Block], llvm.Lowered], None]

STAGES = ("decode", "ir", "opt", "llvm", "asm")
TIMED = ("lift", "passes", "lower", "llvm", "place")


def make(request: Request, lifter: Lifter, target: Target, compile: Compile, seconds: dict[str, float],
         seen: Seen | None = None) -> Made:  # fmt: skip
    """The translation of a region, not placed yet. `seconds` by stage are added to; `seen` is shown what came between.

    Raises CodegenError.
    """
    from dbt.lift import entry
    from ir import llvm, passes

    clock = time.process_time
    times = [clock()]
    blocks = request.lifted(lifter)
    times.append(clock())
    pipeline = passes.pipeline_of(target.translations is not None)
    optimised = [passes.optimise(block, pipeline) for block in blocks]
    times.append(clock())
    region = region_of(request, optimised, lifter.options)
    function = llvm.lower(region, entry(request.blocks[0]), target)
    text = llvm.module([function], target)
    times.append(clock())
    code = compile(text)
    times.append(clock())
    for stage, begin, end in zip(TIMED, times, times[1:]):
        seconds[stage] += end - begin
    if seen is not None:
        seen(request, blocks, optimised, function)
    used = {symbol for _, symbol, _ in code.relocations}
    exits = {symbol: leads for symbol, leads in function.exits.items() if symbol in used}
    assert code.functions[function.name][0] == 0
    size = max(at + length for at, length in code.functions.values())
    reach = region.reach[region.pc] if region.boundary else 1
    gates = tuple([Gate(pc, code.functions[name][0], region.reach[pc]) for name, pc in function.gates])
    counter = function.counter
    away = tuple([symbol for symbol in function.away if symbol in used])
    pages = {symbol: page for symbol, page in function.pages.items() if symbol in used}
    return Made(request.blocks[0], request.source, region.instructions, reach, size, code, exits, counter, gates, away,
                pages)  # fmt: skip


def region_of(request: Request, optimised: list[Block], options: Options) -> Region:
    """The region of a request's blocks, after the passes."""
    from ir.region import Region

    linked = options.region > 0 and options.chain and not options.cache_off
    returns = options.return_prediction
    return Region(optimised, dict(request.weights), dict(request.ways), returns, linked).reachable()


@record
class TranslationStats:
    """Work done, and CPU seconds by stage."""

    translations: int = 0
    instructions: int = 0
    code_bytes: int = 0
    refused: int = 0  # what no code could be made of, in this process
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(TIMED, 0.0))


class Translator:
    """Makes translations for one address space. What it makes is told to `disk`, if there is one."""

    def __init__(self, state: State, space: AddressSpace, options: Options, disk: Disk | None = None) -> None:
        self.guest = state.guest
        self.space = space
        self.options = options
        self.stats = TranslationStats()
        self._state = state
        self._disk = disk
        # Has what was made of a request kept for later runs.
        self.keep: Callable[[Request, Made], None] = lambda request, made: (
            None if disk is None else disk.keep([made], space.peek)
        )
        self._lifter: Lifter | None = None
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

    @property
    def lifter(self) -> Lifter:
        """Reads the guest's memory; made at the first use."""
        if self._lifter is None:
            from dbt.lift import Lifter

            self._lifter = Lifter(self.guest, self.options, self.space)
        return self._lifter

    def request(self, key: Key, profile: Profile, lifter: Lifter | None = None) -> Request:
        """What a translation of `key` is to be made of: with `options.region`, of blocks that ran."""
        from dbt import regions

        lifter = lifter or self.lifter
        if not self.options.region or not self.options.chain or self.options.cache_off:
            return regions.single(lifter, key, max(profile.executions(key[0], 0), 1))
        return regions.form(lifter, key, profile, self.options.region)

    def lifter_of(self, code: GuestCode) -> Lifter:
        """One that reads code which is given."""
        from dbt.lift import Lifter

        return Lifter(self.guest, self.options, code)

    def translate(self, request: Request, admit: Admit) -> Translation | None:
        """Translate a region now. `admit` places code if it has room; None if it has not, or no code can be made."""
        from dbt import regions
        from dbt.code import CodegenError

        dump = self.options.dump
        shown: list[tuple[Request, list[Block], list[Block], llvm.Lowered]] = []
        seen = (lambda *what: shown.append(what)) if dump else None
        shop = self.backend.shop
        try:
            lifter = self.lifter_of(regions.Bytes(request.source)) if request.homes else self.lifter
            made = make(request, lifter, shop.target, shop.compile, self.stats.seconds, seen)
        except CodegenError:
            self.stats.refused += 1
            return None
        placed = self.admit(request.located(made), admit)
        self.keep(request, made)
        if shown and placed is not None:
            self._dump(*shown[0], placed)
        return placed

    def admit(self, made: Made, admit: Admit) -> Translation | None:
        """Place what is new; None if there was no room."""
        clock = time.process_time()
        placed = self.place([made], admit)
        self.stats.seconds["place"] += time.process_time() - clock
        self.stats.translations += len(placed)
        self.stats.instructions += sum(t.instructions for t in placed)
        self.stats.code_bytes += sum(t.room for t in placed)
        return placed[0] if placed else None

    def place(self, found: Sequence[Made], admit: Admit) -> list[Translation]:
        """Give these a place, the first of them as far as there is room."""
        arena = self.backend.arena
        codes = [self._with_doors(made) for made in found]
        placed = admit(arena, [code for code, _ in codes])
        return [
            self._placed(made, at, arena.room(code), slots, [at + door if door else 0 for door in doors])
            for made, (code, doors), (at, slots) in zip(found, codes, placed)
        ]

    def _with_doors(self, made: Made) -> tuple[Code, list[int]]:
        """The code, and behind it the places where tier 0 enters, if there is that tier: their offsets, or 0."""
        text = made.code.text
        doors = []
        for at in (0, *(gate.at for gate in made.gates)):
            door = self.backend.door(len(text) - at) if made.key[1] else b""
            doors.append(len(text) if door else 0)
            text += door
        return replace(made.code, text=text), doors

    def _placed(self, made: Made, at: int, room: int, slots: dict[str, int], doors: list[int]) -> Translation:
        exits = {slots[symbol]: leads for symbol, leads in made.exits.items()}
        translation = Translation(
            made.key, made.source, at, made.size, room, made.instructions, made.reach, exits, slots[made.counter],
            doors[0],
        )  # fmt: skip
        translation.gates = tuple([
            Translation((gate.pc, True), (), at + gate.at, 0, 0, 0, gate.reach, door=door, of=translation)
            for gate, door in zip(made.gates, doors[1:])
        ])  # fmt: skip
        translation.words = {slots[symbol]: word for symbol, word in made.pages.items()}
        return translation

    def optimised(self, pc: int, boundary: bool) -> Block:
        """The IR of the block at `pc` after the passes."""
        from ir import passes

        return passes.optimise(self.lifter.lift(pc, boundary), passes.pipeline_of(self.guest.privileged is not None))

    # --- dumps --------------------------------------------------------------------------------------

    def _dump(
        self, request: Request, lifted: list[Block], optimised: list[Block], function: llvm.Lowered, made: Translation
    ) -> None:
        from dbt.trace import host_text
        from ir.text import show

        write, wanted = self.options.write, self.options.dump
        for block, better in zip(lifted, optimised):
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
            write(f"--- llvm {request.key[0]:#x}\n{function.text}")
        if "asm" in wanted:
            write(f"--- asm {request.key[0]:#x} ({made.size} bytes)")
            code = self.backend.arena.bytes_at(made.entry, made.size)
            write(host_text(code, made.entry))


def _exit_text(exit: Exit | None) -> str:
    from ir.block import Branch, Callout, Continue, Indirect, Jump

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
