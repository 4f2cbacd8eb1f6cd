"""Regions at work: which blocks are chosen, and that a region of several is exact, whatever happens inside.

Every run is compared with the reference interpreter. Each test makes sure that it was regions that ran.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from random import Random
from typing import Any

import pytest
from support.regions import (
    A0,
    A1,
    A2,
    A3,
    CODE,
    DATA,
    ECALL,
    NOP,
    PAGE,
    RA,
    RET,
    S0,
    S1,
    SP,
    T0,
    T1,
    T2,
    ZERO,
    Item,
    Watch,
    addi,
    assemble,
    both,
    closed,
    made_of,
    outcome,
    text_of,
)
from support.riscv import Rig, Tally, asm, scaled, words_to_bytes

from dbt import regions
from dbt.backend import Workshop
from dbt.block import Gate, Made
from dbt.cache.record import pack_made, unpack_made
from dbt.code import Code, Relocation
from dbt.engine import Translated
from dbt.lab.e03_life_cycle import resident
from dbt.lift import Lifter
from dbt.options import Options
from dbt.regions import Bytes, Request
from dbt.translate import TIMED, make
from guests.riscv import traps
from ir import llvm
from ir.records import replace


class Profile:
    """What is known of blocks: counts by address, and ways."""

    def __init__(self, counts: dict[int, int] | int, ways: dict[int, tuple[int, ...]] | None = None) -> None:
        self.counts, self.went = counts, ways or {}

    def executions(self, pc: int, beside: int) -> int:
        return self.counts if isinstance(self.counts, int) else self.counts.get(pc, 0)

    def ways(self, pc: int) -> tuple[int, ...]:
        return self.went.get(pc, ())


def formed(words: list[int], profile: Profile, most: int = 500, pc: int = CODE, options: Options | None = None,
           pages: int = 4) -> Request:  # fmt: skip
    rig = Rig(((CODE, pages * PAGE, 7),), translated=True)
    rig.space.poke(CODE, words_to_bytes(words))
    request = regions.form(Lifter(rig.state.guest, options or Options(), rig.space), (pc, True), profile, most)
    rig.close()
    return request


def starts(request: Request) -> list[int]:
    return [pc for pc, _ in request.blocks]


# --- which blocks -----------------------------------------------------------------------------------------------------


def test_the_most_executed_block_is_taken_first_and_cold_ones_stay_outside() -> None:
    words, at = assemble(
        "loop", NOP, ("beq", A0, ZERO, "rare"), "often", NOP, NOP, ("beq", A1, ZERO, "never"), "tail", NOP,
        ("bne", A2, ZERO, "loop"), "end", ECALL, "rare", NOP, ("jal", ZERO, "tail"), "never", NOP, ("jal", ZERO, "end"),
    )  # fmt: skip
    counts = {at["loop"]: 1000, at["often"]: 900, at["rare"]: 100, at["tail"]: 950, at["end"]: 1}
    request = formed(words, Profile(counts))
    order = ["loop", "often", "tail", "rare"]
    assert starts(request) == [at[name] for name in order]  # `end` has no instruction of its own
    assert request.key == (CODE, True) and all(boundary for _, boundary in request.blocks)
    assert request.weights == {**counts, at["never"]: 0}
    assert [start for start, _ in request.source] == starts(request)
    assert dict(request.source)[at["often"]] == words_to_bytes(words[2:5])


@pytest.mark.parametrize("most", [0, 1, 2, 3, 4, 7, 11, 12, 100])
def test_a_region_is_no_larger_than_it_may_be_but_for_its_first_block(most: int) -> None:
    """What is too large for what is left is passed over, and a smaller block is taken."""
    words, at = assemble(
        "a", NOP, NOP, NOP, ("beq", A0, ZERO, "c"), "b", NOP, NOP, NOP, NOP, NOP, ("jal", ZERO, "a"), "c", NOP,
        ("jal", ZERO, "a"),
    )  # fmt: skip
    request = formed(words, Profile({at["a"]: 3, at["b"]: 2, at["c"]: 1}), most)
    wanted = ["a"]
    left = most - 4
    for name, size in (("b", 6), ("c", 2)):
        if size <= left:
            wanted.append(name)
            left -= size
    assert starts(request) == [at[name] for name in wanted]


def test_calls_are_followed_into_what_is_called_and_on_behind_them() -> None:
    words, at = assemble(
        "main", NOP, ("jal", RA, "f"), "behind", NOP, ("jal", RA, "g"), "after", ("bne", A0, ZERO, "main"), ECALL,
        "f", NOP, RET, "g", NOP, NOP, RET,
    )  # fmt: skip
    request = formed(words, Profile(1))
    assert sorted(starts(request)) == sorted(at[name] for name in ("main", "behind", "after", "f", "g"))


def test_where_an_indirect_jump_went_is_followed() -> None:
    jump = asm("jalr", rd=0, rs1=A0, imm=0)
    words, at = assemble("main", NOP, jump, "f", NOP, ("jal", ZERO, "main"), "g", NOP, ECALL)
    assert starts(formed(words, Profile(1))) == [CODE]
    ways = {at["main"]: (at["g"], at["f"])}
    request = formed(words, Profile(1, ways))
    assert starts(request) == [at["main"], at["f"], at["g"]] and request.ways == ways


def test_no_instruction_is_in_a_region_twice() -> None:
    """Where code runs into a block that is jumped to it ends there, its bytes too. Only new instructions count."""
    words, at = assemble(
        "main", NOP, ("beq", A0, ZERO, "meet"), "over", NOP, NOP, "meet", NOP, NOP, asm("jalr", rd=0, rs1=A0, imm=0),
        "f", NOP, ("jal", ZERO, "main"), "g", NOP, ("jal", ZERO, "main"),
    )  # fmt: skip
    profile = Profile(1, {at["meet"]: (at["f"],), at["over"]: (at["g"], at["f"])})
    request = formed(words, profile)
    assert sorted(starts(request)) == [at[name] for name in ("main", "over", "meet", "f", "g")]
    assert dict(request.source)[at["over"]] == words_to_bytes(words[2:4])
    assert request.ways[at["meet"]] == (at["f"], at["g"]), "where the jump went, whichever way it was come to"
    whole = [CODE + 4 * i for i in range(len(words))]
    with closing(made_of(words)) as rig:
        lifter = Lifter(rig.state.guest, Options(), rig.space)
        for most, inside in ((len(whole), whole), (len(whole) - 1, whole[:-2])):
            blocks = formed(words, profile, most).lifted(lifter)
            assert sorted(insn.pc for block in blocks for insn in block.guest) == inside


def test_a_region_reaches_over_pages_and_skips_what_cannot_be_fetched() -> None:
    words = [*[NOP] * 1023, asm("beq", rs1=A0, rs2=ZERO, imm=-4), NOP, ECALL]
    long = Options(max_instructions=2048)
    request = formed(words, Profile(1), most=4000, options=long)
    assert [pc >> 12 for pc in starts(request)][-1] == CODE + PAGE >> 12
    request = formed(words[:1024], Profile(1), most=4000, options=long, pages=1)
    assert {pc >> 12 for pc in starts(request)} == {CODE >> 12}
    assert formed([], Profile(1), pc=CODE + 8 * PAGE, pages=1).source == ()


def test_a_way_inside_a_block_is_a_region_of_its_own() -> None:
    words = [NOP, asm("jal", rd=0, imm=-4)]
    rig = made_of([*words, NOP])
    engine = rig.engine
    request = regions.form(engine.translator.lifter, (CODE, False), Profile(1), 500)  # type: ignore[union-attr]
    assert request.blocks == ((CODE, False),) and request.source == ((CODE, words_to_bytes(words)),)
    rig.close()


@pytest.mark.parametrize("options", [Options(hot=0, region=0), Options(hot=0, chain=False), Options(cache_off=True)])
def test_without_regions_each_translation_is_one_block(options: Options) -> None:
    words, _ = assemble("loop", addi(T0, T0, -1), ("beq", A0, ZERO, "next"), NOP, "next", NOP,
                        ("bne", T0, ZERO, "loop"),
                        ECALL)  # fmt: skip
    rig = made_of(words, options, t0=50)
    assert rig.run(1 << 40).trap and rig.state.slots[T0] == 0
    found = list(rig.engine.cache.translations())  # type: ignore[union-attr]
    assert found and all(len(t.source) <= 1 and t.reach == 1 for t in found)
    rig.close()


# --- variables --------------------------------------------------------------------------------------------------------


def test_a_register_that_is_seldom_used_is_no_variable() -> None:
    """What runs in one turn of twenty uses t2, every turn t0 and t1."""
    words, at = assemble(
        "loop", addi(T1, T1, 1), ("bne", T1, T0, "on"), addi(T2, T2, 1), "on", ("bne", T1, T0, "loop"), ECALL,
    )  # fmt: skip
    profile = Profile({CODE: 1000, CODE + 8: 50, at["on"]: 1000})
    for counts, variables in ((profile, {T0, T1}), (Profile(1000), {T0, T1, T2})):
        text = text_of(formed(words, counts), Options(pinned=0))
        assert {int(slot) for slot in re.findall(r"%r(\d+) = alloca", text)} == variables


# --- exact at every boundary ------------------------------------------------------------------------------------------

# Two loops, one in the other, which call a function that calls another one and stores: a0, a1 count, s0 points to data.
NEST, NEST_AT = assemble(
    addi(A0, ZERO, 4), "outer", addi(A1, ZERO, 3), "inner", ("jal", RA, "f"), addi(A1, A1, -1),
    ("bne", A1, ZERO, "inner"), ("beq", A0, T1, "skip"), asm("csrrsi", csr=1, imm=1, rd=0), "skip", addi(A0, A0, -1),
    ("bne", A0, ZERO, "outer"), ECALL,
    "f", addi(SP, SP, -16), asm("sd", rs1=SP, rs2=RA, imm=8), ("jal", RA, "g"), asm("ld", rd=RA, rs1=SP, imm=8),
    addi(SP, SP, 16), RET,
    "g", asm("ld", rd=A2, rs1=S0, imm=0), asm("add", rd=A2, rs1=A2, rs2=A1), asm("sd", rs1=S0, rs2=A2, imm=0),
    asm("csrrs (reads only)", csr=0xC02, rd=A3), asm("sd", rs1=S0, rs2=A3, imm=8), RET,
)  # fmt: skip
START = {"sp": DATA + 0x1000, "s0": DATA, "t1": 2}


def nest(translated: bool, options: Options | None = None) -> Rig:
    return made_of(NEST, options, translated=translated, **START)


def again(rig: Rig) -> None:
    """Begin once more, with what was translated."""
    rig.state.pc, rig.state.mid_block = CODE, False
    rig.state.count = rig.state.blocks = 0
    for number in range(len(rig.state.slots)):
        rig.state.slots[number] = 0
    for name, value in START.items():
        rig.state.slots[rig.state.slot(name)] = value
    rig.space.poke(DATA, bytes(0x2000))


@pytest.mark.usefixtures("registers")
@pytest.mark.parametrize("options", [
    Options(hot=0), Options(hot=0, region=16), Options(hot=0, max_instructions=2),
    Options(hot=0, return_prediction=False),
    Options(hot=0, pinned=0), Options(hot=0, sensitive="callout"), Options(patience=0, promote=1, hot=1),
], ids=["whole", "small", "cut", "no returns", "unpinned", "callouts", "promoted"])  # fmt: skip
def test_a_run_ends_where_the_reference_does_for_every_count(options: Options) -> None:
    """Every count of a nest of loops with calls, each from the start; then on to the end."""
    tally = Tally("every count of a nest of loops")
    reference, translated = nest(False), nest(True, options)
    reference.run(1 << 40)
    total = reference.state.count
    watch = Watch(translated.engine)  # type: ignore[arg-type]
    executed = 0
    for count in range(total + 2):
        ends = []
        for rig in (reference, translated):
            again(rig)
            first = outcome(rig, rig.run(count))
            ends.append((first, outcome(rig, rig.run(1 << 40))))
            executed += rig.state.count if rig is translated else 0
        tally.check(ends[0] == ends[1]) or tally.note(f"stopped at {count}: {ends[0][0][0]} / {ends[1][0][0]}")  # type: ignore[func-returns-value]
    tally.done(f"{watch.retired} of {executed} instructions in regions")
    assert watch.retired > executed * (0.3 if options.max_instructions == 2 else 0.5)  # what is cut is no region
    reference.close()
    translated.close()


@pytest.mark.parametrize("counts", [True, False])
def test_ways_back_that_meet_are_checked_once_and_stop_in_time(counts: bool) -> None:
    """A branch around one instruction, behind which both ways lead back to the loop's head."""
    words, _ = assemble(
        "loop", addi(A0, A0, 1), asm("andi", rd=A1, rs1=A0, imm=3), ("beq", T0, ZERO, "end"), addi(T0, T0, -1),
        ("bne", A1, ZERO, "loop"), addi(A2, A2, 1), ("jal", ZERO, "loop"), "end", ECALL,
    )  # fmt: skip
    for strides in ((1,) * 60, (7,) * 30, (100,)):
        closed(*both(words, Options(hot=0), strides=strides, share=0, t0=40))
    rig = made_of(words, Options(hot=0, counts=counts))
    assert isinstance(rig.engine, Translated)
    text = text_of(rig.engine.request((CODE, True)), rig.engine.options)
    assert len(re.findall(r"(?m)^late\d+:", text)) == 2 and "\nb0back:\n" in text
    rig.close()


def stops(rig: Rig, count: int) -> list[Any]:
    """What is so each time that a run in strides of `count` stops, up to a trap."""
    seen = []
    while True:
        stop = rig.run(rig.state.count + count)
        seen.append(outcome(rig, stop))
        if stop.trap:
            return seen


@pytest.mark.parametrize("count", [1, 2, 3, 7, 20, 60, 150])
def test_stopping_again_and_again_is_the_same(count: int) -> None:
    """The same steps from boundary to boundary, in either engine."""
    traces = []
    for translated in (False, True):
        rig = nest(translated)
        traces.append(stops(rig, count))
        rig.close()
    assert traces[0] == traces[1]


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_where_little_is_left_the_monitor_goes_on(limit: int) -> None:
    """A limit below what the region needs: it is not entered, and is once the limit allows it."""
    rig = nest(True)
    rig.run(1 << 40)
    engine = rig.engine
    translation = engine.cache.get((CODE, True))  # type: ignore[union-attr]
    assert translation is not None and translation.reach > 16
    again(rig)
    entries, interpreted = engine.entries, engine.interpreted  # type: ignore[union-attr]
    rig.run(limit)
    assert engine.entries == entries and engine.interpreted > interpreted  # type: ignore[union-attr]
    again(rig)
    interpreted = engine.interpreted  # type: ignore[union-attr]
    rig.run(translation.reach)
    assert engine.entries > entries and engine.interpreted - interpreted < translation.reach  # type: ignore[union-attr]
    rig.close()


def twice() -> tuple[list[int], dict[str, int]]:
    """Two loops that call one function, one loop after the other."""
    return assemble(
        "first", ("jal", RA, "f"), addi(T0, T0, -1), ("bne", T0, ZERO, "first"),
        "second", ("jal", RA, "f"), addi(A1, A1, 3), addi(T1, T1, -1), ("bne", T1, ZERO, "second"), ECALL,
        "f", addi(A0, A0, 1), addi(A2, A2, 1), asm("andi", rd=T2, rs1=A2, imm=3), ("bne", T2, ZERO, "back"),
        addi(A3, A3, 1), "back", RET,
    )  # fmt: skip


def test_what_is_in_a_region_is_entered_there_from_outside() -> None:
    """The function is translated with the first loop; when the second one calls it, that is where it runs."""
    words, at = twice()
    options = Options(promote=200, patience=0)
    rig = made_of(words, options, t0=3000, t1=100)
    rig.run(1 << 40)
    cache = rig.engine.cache  # type: ignore[union-attr]
    way = cache.get((at["f"], True))
    assert way is not None and way.of is not None and way.of.key == (at["first"], True)
    held = way.of
    before, entered = cache.retired(held), rig.state.count
    rig.engine.tier0.flush()  # type: ignore[union-attr] # with the counts of what was hot
    rig.state.pc = at["second"]
    rig.state.slots[T1] = 150  # too few for a region of its own
    rig.run(1 << 40)
    spent = rig.state.count - entered
    assert cache.retired(held) - before > spent * 0.5, "most of it is the function"
    rig.close()


@pytest.mark.parametrize("count", [1, 2, 3, 5, 9, 17, 40])
def test_runs_that_stop_at_gates_again_and_again_are_the_same(count: int) -> None:
    words, at = twice()
    traces = []
    for translated in (False, True):
        rig = made_of(words, Options(promote=50, patience=0), translated=translated, t0=300, t1=300)
        rig.run(1 << 40)
        rig.state.pc, rig.state.slots[T0], rig.state.slots[T1] = CODE, 40, 40
        traces.append(stops(rig, count))
        if translated:
            assert any(t.gates for t in rig.engine.cache.translations())  # type: ignore[union-attr]
        rig.close()
    assert traces[0] == traces[1]


# --- calls and returns ------------------------------------------------------------------------------------------------

FIBONACCI, _ = assemble(
    ("jal", RA, "fib"), ECALL,
    "fib", addi(SP, SP, -32), asm("sd", rs1=SP, rs2=RA, imm=0), asm("sd", rs1=SP, rs2=S0, imm=8),
    asm("sd", rs1=SP, rs2=S1, imm=16), addi(S0, A0, 0), addi(T0, ZERO, 2), ("blt", A0, T0, "done"),
    addi(A0, S0, -1), ("jal", RA, "fib"), addi(S1, A0, 0), addi(A0, S0, -2), ("jal", RA, "fib"),
    asm("add", rd=A0, rs1=A0, rs2=S1),
    "done", asm("ld", rd=RA, rs1=SP, imm=0), asm("ld", rd=S0, rs1=SP, imm=8), asm("ld", rd=S1, rs1=SP, imm=16),
    addi(SP, SP, 32), RET,
)  # fmt: skip


@pytest.mark.usefixtures("registers")
@pytest.mark.parametrize("options", [Options(hot=0), Options(hot=0, region=20), Options(patience=0, promote=8)],
                         ids=["whole", "small", "promoted"])  # fmt: skip
def test_recursion(options: Options) -> None:
    reference, translated = both(FIBONACCI, options, strides=(1000, 3, 5000, 11), sp=DATA + 0x1F00, a0=15)
    assert translated.state.slots[A0] == 610 and translated.state.count > 20_000
    assert translated.engine.entries < 400  # type: ignore[union-attr]
    closed(reference, translated)


def test_a_return_to_an_unexpected_address_leaves_the_region() -> None:
    """The function adds to ra at times: it returns behind the call, or past the instruction there, or far away."""
    words, at = assemble(
        "loop", ("jal", RA, "f"), addi(A1, A1, 1), addi(A2, A2, 1), addi(T0, T0, -1), ("bne", T0, ZERO, "loop"), ECALL,
        "f", asm("andi", rd=T1, rs1=T0, imm=7), ("bne", T1, ZERO, "plain"), addi(RA, RA, 4), RET,
        "plain", addi(T1, T1, -5), ("bne", T1, ZERO, "more"), asm("jalr", rd=0, rs1=S0, imm=0), "more", RET,
    )  # fmt: skip
    far = CODE + 0x1000
    words += [NOP] * (0x400 - len(words))
    words += [addi(A3, A3, 1), RET]
    reference, translated = both(words, strides=(5000, 77), t0=4000, s0=far)
    slots = translated.state.slots
    assert (slots[A1], slots[A2], slots[A3]) == (3500, 4000, 500)
    closed(reference, translated)


def test_indirect_jumps_go_where_they_go() -> None:
    """A table of targets, of which the region knows some: the others are found by the jump cache or the monitor."""
    items: list[Item] = [
        "loop", asm("andi", rd=T1, rs1=T0, imm=15), asm("slli", rd=T1, rs1=T1, imm=4),
        asm("add", rd=T1, rs1=T1, rs2=S0),
        asm("jalr", rd=0, rs1=T1, imm=0), "join", addi(T0, T0, -1), ("bne", T0, ZERO, "loop"), ECALL, "table",
    ]  # fmt: skip
    for i in range(16):
        items += [addi(A0, A0, i), asm("xori", rd=A1, rs1=A0, imm=i), NOP, ("jal", ZERO, "join")]
    words, at = assemble(*items)
    for options in (Options(hot=0), Options(hot=0, jump_cache=False), Options(patience=0, promote=2000)):
        reference, translated = both(words, options, strides=(30_000, 5), share=0.3, t0=20_000, s0=at["table"])
        closed(reference, translated)


def test_where_indirect_jumps_went_becomes_a_part_of_the_region() -> None:
    words, at = assemble(
        "loop", asm("jalr", rd=RA, rs1=S0, imm=0), addi(T0, T0, -1), ("bne", T0, ZERO, "loop"), ECALL, NOP,
        "f", addi(A0, A0, 3), RET,
    )  # fmt: skip
    reference, translated = both(words, Options(patience=0, promote=4000), t0=100_000, s0=at["f"])
    found = translated.engine.cache.translations()  # type: ignore[union-attr]
    assert any({CODE, at["f"]} <= {start for start, _ in t.source} for t in found)
    assert translated.engine.entries < 100  # type: ignore[union-attr]
    closed(reference, translated)


# --- the guest's code changes -----------------------------------------------------------------------------------------


def patching(page: int) -> tuple[list[int], int, int]:
    """A loop that calls functions in three pages and stores a word over the first instruction of one of them, late."""
    words = [NOP] * (3 * 1024)
    functions = [CODE + 0x800, CODE + PAGE + 0x100, CODE + 2 * PAGE + 0x40]
    main, at = assemble(
        "loop", asm("jalr", rd=0, rs1=0, imm=0), asm("jalr", rd=0, rs1=0, imm=0), asm("jalr", rd=0, rs1=0, imm=0),
        ("bne", T0, T1, "same"), asm("sw", rs1=S0, rs2=S1, imm=0), "same", addi(T0, T0, -1), ("bne", T0, ZERO, "loop"),
        ECALL,
    )  # fmt: skip
    for i, to in enumerate(functions):
        main[i] = asm("jal", rd=RA, imm=to - (CODE + 4 * i))
        words[to - CODE >> 2] = addi(A0 + i, A0 + i, 1)
        words[(to - CODE >> 2) + 1] = RET
    words[: len(main)] = main
    return words, functions[page], addi(A0 + page, A0 + page, 100)


@pytest.mark.parametrize("how", [Options(hot=0), Options(patience=0, promote=20)], ids=["translated", "promoted"])
@pytest.mark.parametrize("page", [0, 1, 2])
def test_a_write_to_any_page_that_a_region_was_made_from_drops_it(page: int, how: Options) -> None:
    words, place, new = patching(page)
    reference, translated = both(words, how, strides=(1 << 40,), share=0.5, t0=600, t1=200, s0=place, s1=new)
    wanted = [600, 600, 600]
    wanted[page] = 401 + 100 * 199
    assert list(translated.state.slots[A0 : A0 + 3]) == wanted
    assert translated.engine.cache.stats.invalidations > 0  # type: ignore[union-attr]
    closed(reference, translated)


@pytest.mark.parametrize("page", [0, 1, 2])
@pytest.mark.parametrize("mode", ["detect", "fencei"])
def test_a_write_from_outside_is_seen_in_every_page(page: int, mode: str) -> None:
    words, place, new = patching(page)
    rig = made_of(words, Options(hot=0, smc=mode), t0=100, t1=1000)
    assert rig.run(1 << 40).trap
    wide = [t for t in rig.engine.cache.translations() if len(t.pages()) == 3]  # type: ignore[union-attr]
    assert wide
    rig.space.write(place, new.to_bytes(4, "little"))
    rig.engine.fence()  # type: ignore[union-attr]
    left = set(rig.engine.cache.translations())  # type: ignore[union-attr]
    written = {t for t in wide if t.overlaps(place, place + 4)}
    assert written and not left & written
    rig.state.pc, rig.state.slots[T0] = CODE, 100
    assert rig.run(1 << 40).trap
    assert rig.state.slots[A0 + page] == 100 + 100 * 100
    rig.close()


def test_a_write_beside_the_ranges_of_a_region_drops_nothing() -> None:
    """Between the functions lie bytes that no block was made from."""
    words, place, _ = patching(1)
    rig = made_of(words, t0=100, t1=1000)
    rig.run(1 << 40)
    before = len(rig.engine.cache)  # type: ignore[union-attr]
    for address in (place - 4, place + 8, CODE + 0x400, CODE + 2 * PAGE + 0x48):
        rig.space.write(address, b"\0\0\0\0")
    assert len(rig.engine.cache) == before and rig.engine.cache.stats.invalidations == 0  # type: ignore[union-attr]
    rig.close()


def test_a_page_that_goes_takes_the_region_along() -> None:
    """Unmapped, and mapped without the right to execute: the call that leads there faults."""
    for remap in (False, True):
        words, place, _ = patching(2)
        rig = made_of(words, t0=100, t1=1000)
        rig.run(1 << 40)
        if remap:
            rig.space.protect(CODE + 2 * PAGE, PAGE, 3)
        else:
            rig.space.unmap(CODE + 2 * PAGE, PAGE)
        rig.state.pc, rig.state.slots[T0] = CODE, 100
        stop = rig.run(1 << 40)
        assert (stop.cause, stop.value, rig.state.slots[A0]) == (traps.FETCH_PAGE_FAULT, place, 101)
        rig.close()


def test_a_block_that_overwrites_the_next_block_of_its_region() -> None:
    """The store and what it changes are in one function of the host: the new instruction is executed."""
    words, at = assemble(
        "loop", addi(T0, T0, -1), asm("sw", rs1=S0, rs2=S1, imm=0), ("beq", ZERO, ZERO, "victim"), NOP,
        "victim", addi(A0, A0, 1), asm("xor", rd=S1, rs1=S1, rs2=A2), ("bne", T0, ZERO, "loop"), ECALL,
    )  # fmt: skip
    one, two = addi(A0, A0, 1), addi(A0, A0, 2)
    reference, translated = both(words, Options(hot=0), share=0, t0=40, s0=at["victim"], s1=two, a2=one ^ two)
    assert translated.state.slots[A0] == 20 * 1 + 20 * 2
    closed(reference, translated)


# --- nothing leads to what is gone ------------------------------------------------------------------------------------


def written(words: memoryview) -> Iterator[tuple[int, int]]:
    """The words of all pages that hold something, numbered: of half a gigabyte most holds nothing."""
    data, empty = words.cast("B"), bytes(PAGE)
    for start in range(0, len(data), PAGE):
        page = data[start : start + PAGE].tobytes()
        if page != empty:
            yield from enumerate(memoryview(page).cast("Q"), start // 8)


@pytest.mark.parametrize("how", ["invalidate", "evict", "clear", "flush"])
def test_no_way_is_left_into_a_region_that_is_gone(how: str) -> None:
    """Jump cache, slots and doors: each translation that is dropped is entered no more, and its pages are let go."""
    for options in (Options(hot=0, region=10), Options(patience=0, promote=4, region=10)):
        rig = nest(True, options)
        engine: Any = rig.engine
        rig.run(1 << 40)
        gone = {t.entry for t in engine.cache.translations()} | {t.door for t in engine.cache.translations()}
        assert len(gone) > 2
        match how:
            case "invalidate":
                engine.cache.invalidate(CODE, CODE + 4 * len(NEST))
            case "evict":
                engine.cache.evict_all()
            case "clear":
                engine.cache.clear()
            case "flush":
                engine.flush()
        assert len(engine.cache) == 0 and not engine.cache._pages and not engine.cache._covered
        entered = []
        enter = engine.translator.backend.enter

        def noted(address: int, code: int, entered: list[int] = entered, enter: Any = enter) -> None:
            entered.append(code)
            enter(address, code)

        leading = {8 * n for n, word in written(rig.state.words) if word in gone - {0}}
        assert not leading - set(engine.cache._free), "some word in use still holds the address of what is gone"
        engine.translator.backend.enter = noted
        again(rig)
        rig.run(1 << 40)
        assert entered and rig.state.slots[A0] == 0
        rig.close()


def test_in_a_small_cache_regions_push_each_other_out() -> None:
    reference = nest(False)
    wanted = outcome(reference, reference.run(1 << 40))
    evicted = 0
    for kilobytes in (1, 2, 3):
        for region in (8, 16, 500):
            rig = nest(True, Options(hot=0, region=region, cache_size=kilobytes << 10))
            assert outcome(rig, rig.run(1 << 40)) == wanted
            evicted += rig.engine.cache.stats.evictions  # type: ignore[union-attr]
            rig.close()
    assert evicted > 20
    reference.close()


@pytest.mark.usefixtures("registers")
@pytest.mark.parametrize("seed", range(scaled(6)))
def test_disturbed_at_random(seed: int) -> None:
    """Chaos drops regions, limits budgets and makes pages read-only; nothing changes."""
    reference = nest(False)
    wanted = outcome(reference, reference.run(1 << 40))
    rng = Random(seed)
    for options in (Options(hot=0, chaos=seed), Options(patience=0, promote=2, chaos=seed)):
        rig = nest(True, options)
        for _ in range(20):
            again(rig)
            rig.run(rng.randrange(1, 300))
            assert outcome(rig, rig.run(1 << 40)) == wanted
        rig.close()
    reference.close()


@pytest.mark.long
@pytest.mark.parametrize("passes, most", [((), 512), (Options().passes, 3 << 10)], ids=["no passes", "passes"])
def test_regions_that_are_compiled_and_freed_leave_little_behind(passes: tuple[str, ...], most: int) -> None:
    """In this process LLVM's passes keep some 2 KB for each region; a worker is replaced before that matters."""
    rig = nest(True, Options(hot=0, region=40, passes=passes))
    engine: Any = rig.engine

    def cycle(regions: int) -> None:
        until = engine.translator.stats.translations + regions
        while engine.translator.stats.translations < until:
            again(rig)
            rig.run(1 << 40)
            engine.flush()

    cycle(300)
    before = resident()
    cycle(1500)
    grown = (resident() - before) // 1500
    print(f"\n{grown} bytes for each of 1,500 regions")
    assert grown < most and engine.cache.bytes == 0
    rig.close()


def test_what_leaves_a_page_of_a_machine_leads_to_an_address() -> None:
    """Keys of another page are for what looks where that page is. In one page, exits and gates lead to keys."""
    pages = {0x10: (1 << 62, 0x8000_0000, 0x4000), 0x11: (1 << 61, 0x9000_0000, 0x8000)}
    request = Request(((0x10008, True), (0x11004, True)), {}, {}, (), pages)
    code = Code(b"\x90" * 8, {}, (), (), 0)
    made = Made(
        (0x10008, True), ((0x10008, b"one."), (0x11004, b"two.")), 2, 1, 1, code,
        {"in": (0x11010, True), "out": (0x11010, True), "far": (0x50000, True)}, "n", (Gate(0x11004, 0, 1),),
        ("out", "far"), {"p": 0x11},
    )  # fmt: skip
    found = request.located(unpack_made(pack_made(replace(made, code=replace(code, relocations=tuple(
        Relocation(0, symbol, 0) for symbol in (*made.exits, *made.pages, made.counter)))))))  # fmt: skip
    assert found.key == (0x10008 + (1 << 62), True) and [gate.pc for gate in found.gates] == [0x11004 + (1 << 61)]
    assert [start for start, _ in found.source] == [0x8001_0008, 0x9001_1004]
    assert sorted(pc for pc, _ in found.exits.values()) == sorted([0x11010 + (1 << 61), 0x11010, 0x50000])
    assert list(found.pages.values()) == [0x8000]


def test_a_page_that_code_does_not_ask_for_is_none_of_a_translation(monkeypatch: pytest.MonkeyPatch) -> None:
    """LLVM may find that a way into a page is never gone. Its symbol is nowhere in the code then, nor in a record."""
    lower = llvm.lower

    def with_another(*words: Any) -> Any:
        function = lower(*words)
        function.pages["nobodys"] = 7
        return function

    monkeypatch.setattr(llvm, "lower", with_another)
    rig = nest(True, Options(hot=0, region=40))
    engine, guest = rig.engine, rig.state.guest
    request = engine.translator.request((rig.state.pc, True), engine.promotion)  # type: ignore[union-attr]
    shop = Workshop(guest, Options())
    lifter = Lifter(guest, Options(), Bytes(request.source))
    made = make(request, lifter, shop.target, shop.compile, dict.fromkeys(TIMED, 0.0))
    assert unpack_made(pack_made(made)).key == request.blocks[0] and not made.pages
    rig.close()
