"""Translations and the guest's code: what makes one stale in each mode, and that nothing else goes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.riscv import Rig, asm, words_to_bytes
from support.tiny import A0, A1, A2, A7, ECALL, li
from support.tiny import program as tiny_program

import dragoman
from dbt.coherence import MODES, TOLERANCE
from dbt.memory import EXEC, READ, WRITE
from dbt.options import Options

PAGE = 0x1000
CODE, OTHER, DATA = 0x10000, 0x14000, 0x20000
REGIONS = ((CODE, 0x4000, 7), (DATA, 0x2000, 3))
FENCE = asm("fence.i", imm=0, rs1=0, rd=0)
NEW, OLD = 2, 1
EACH = pytest.mark.parametrize("mode", MODES)


def returns(value: int) -> bytes:
    """A routine that leaves a value in t0 and stops."""
    return words_to_bytes([asm("addi", rd=5, rs1=0, imm=value), asm("ecall")])


class Bench(Rig):
    """An engine in one mode; a routine at `CODE`. It translates what is hot, or runs all from stencils."""

    def __init__(self, mode: str, hot: int = 0, stencils: bool = False) -> None:
        options = Options(tiers=(0,), patience=0, smc=mode) if stencils else Options(tiers=(1,), hot=hot, smc=mode)
        super().__init__(REGIONS, options, translated=True)
        self.space.poke(CODE, returns(OLD))

    def call(self, pc: int = CODE) -> int:
        """What the routine there returns."""
        self.state.pc, self.state.mid_block = pc, False
        assert self.run(1 << 60).trap
        return self.state.slots[5]

    @property
    def dropped(self) -> int:
        return self.engine.cache.stats.invalidations


@pytest.fixture(params=["translations", "stencils"])
def bench(mode: str, request: pytest.FixtureRequest) -> Iterator[Bench]:
    made = Bench(mode, stencils=request.param == "stencils")
    assert made.call() == OLD
    yield made
    assert made.engine.interpreted == 0  # nothing of it was done by the monitor, which sees all stores
    made.close()


# --- the bundled program ----------------------------------------------------------------------------------------

PRINTED = {  # mode -> without a fence, with one, in its own block
    "detect": (NEW, NEW, NEW),
    "fencei": (OLD, NEW, OLD),
    "off": (OLD, OLD, OLD),
}


# Block by block: a region also holds copies of blocks that are translations of their own, or are not translated yet, so
# which store is seen early in the modes that do not look is then a matter of chance.
WAYS = (
    {"hot": 0, "region": 0}, {"hot": 64, "tiers": (1,), "region": 0}, {"tiers": (0,), "patience": 0},
    {"patience": 0, "promote": 1, "region": 0},
)  # fmt: skip
REGIONAL = ({"hot": 0}, {"hot": 64, "tiers": (1,)}, {"patience": 0, "promote": 1}, {"patience": 0, "promote": 4})


def printed(*args: str, **how: object) -> list[int]:
    return [int(line.split()[-1]) for line in dragoman.run("@smc", args, **how).stdout.decode().splitlines()]


@EACH
@pytest.mark.parametrize("how", WAYS, ids=str)
def test_what_a_program_sees_that_writes_over_its_code(mode: str, how: dict[str, Any]) -> None:
    options = Options(smc=mode, **how)
    assert (*printed(options=options), *printed("itself", options=options)) == PRINTED[mode]


@pytest.mark.parametrize("how", REGIONAL, ids=str)
def test_regions_see_stores_no_later_than_the_mode_promises(how: dict[str, Any]) -> None:
    detected, fenced = (Options(smc=mode, **how) for mode in ("detect", "fencei"))
    assert (*printed(options=detected), *printed("itself", options=detected)) == (NEW, NEW, NEW)
    assert printed(options=fenced)[1] == NEW


def test_the_reference_sees_all_stores() -> None:
    assert (*printed(engine="reference"), *printed("itself", engine="reference")) == (NEW, NEW, NEW)


@EACH
def test_invalidations_are_counted(mode: str) -> None:
    stats = dragoman.run("@smc", options=Options(smc=mode, tiers=(1,), region=0)).stats
    assert stats["invalidations"] == (0 if mode == "off" else 2)
    assert stats["writes_to_code_pages"] == (2 if mode == "detect" else 0)


# --- each way that code changes ---------------------------------------------------------------------------------


@EACH
@pytest.mark.parametrize("by", ["the guest", "the kernel", "a debugger"])
def test_writes_are_seen_by_detection_at_once_and_else_at_a_fence(mode: str, by: str, bench: Bench) -> None:
    word = asm("addi", rd=5, rs1=0, imm=NEW)
    if by == "the guest":
        bench.space.poke(CODE + 0x100, words_to_bytes([asm("sw", rs1=8, rs2=9, imm=0), asm("ecall")]))
        bench.state.slots[8], bench.state.slots[9] = CODE, word
        bench.call(CODE + 0x100)
    else:
        (bench.space.write if by == "the kernel" else bench.space.poke)(CODE, word.to_bytes(4, "little"))
    assert bench.call() == (NEW if mode == "detect" else OLD)
    bench.engine.fence()
    assert bench.call() == (OLD if mode == "off" else NEW)


@EACH
def test_a_fence_drops_what_has_changed_and_nothing_else(mode: str) -> None:
    bench = Bench(mode)
    assert bench.call() == OLD
    bench.space.poke(CODE + 0x800, returns(7))
    assert bench.call(CODE + 0x800) == 7
    before = bench.dropped
    bench.engine.fence()
    assert bench.dropped == before
    bench.space.poke(CODE, returns(NEW))
    bench.engine.fence()
    assert bench.dropped - before == (0 if mode == "off" else 1)
    bench.close()


@EACH
def test_the_fence_instruction_is_one(mode: str, bench: Bench) -> None:
    bench.space.poke(CODE, returns(NEW))
    bench.space.poke(CODE + 0x900, words_to_bytes([FENCE, asm("ecall")]))
    bench.call(CODE + 0x900)
    assert bench.call() == (OLD if mode == "off" else NEW)


@EACH
@pytest.mark.parametrize("how", ["unmapped and mapped", "mapped over", "moved away", "given no right to run"])
def test_a_changed_mapping_is_seen_in_every_mode(mode: str, how: str, bench: Bench) -> None:
    space = bench.space
    if how == "given no right to run":
        space.protect(CODE, PAGE, READ | WRITE)
        bench.state.pc = CODE
        stop = bench.run(1 << 60)
        assert (stop.cause, stop.value) == (12, CODE)
        return
    if how == "unmapped and mapped":
        space.unmap(CODE, PAGE)
    elif how == "moved away":
        space.remap(CODE, PAGE, PAGE, may_move=True, to=0x40000)
    space.map(CODE, PAGE, 7, fixed=True)
    space.poke(CODE, returns(NEW))
    assert bench.call() == NEW
    if how == "moved away":
        assert bench.call(0x40000) == OLD


@EACH
def test_code_written_under_another_address_is_seen_at_a_fence(mode: str, bench: Bench) -> None:
    file = os.memfd_create("code")
    os.ftruncate(file, PAGE)
    space = bench.space
    space.map(OTHER, PAGE, READ | EXEC, fixed=True, fd=file, shared=True)
    space.map(OTHER + PAGE, PAGE, READ | WRITE, fixed=True, fd=file, shared=True)
    space.write(OTHER + PAGE, returns(OLD))
    assert bench.call(OTHER) == OLD
    space.write(OTHER + PAGE, returns(NEW))
    assert bench.call(OTHER) == OLD, "nobody can see this store"
    bench.engine.fence()
    assert bench.call(OTHER) == (OLD if mode == "off" else NEW)
    os.close(file)


@EACH
@pytest.mark.parametrize("tiers", [(1,), (0,)], ids=["translations", "stencils"])
def test_the_system_call_that_flushes_is_a_fence(mode: str, tiers: tuple[int, ...], tmp_path: Path) -> None:
    """A routine is called, patched, flushed by riscv_flush_icache, and called: its value is the exit status."""
    words = [
        asm("auipc", rd=8, imm=0),
        asm("jal", rd=1, imm=0x40 - 4),
        asm("lw", rd=9, rs1=8, imm=0x48),
        asm("sw", rs1=8, rs2=9, imm=0x40),
        li(A0, 0), li(A1, 0), li(A2, 0),
        asm("addi", rd=A7, rs1=0, imm=259), ECALL,
        asm("jal", rd=1, imm=0x40 - 9 * 4),
        asm("addi", rd=A7, rs1=0, imm=94), ECALL,
    ]  # fmt: skip
    words += [asm("addi", rd=0, rs1=0, imm=0)] * (0x40 // 4 - len(words))
    words += [li(A0, OLD), asm("jalr", rd=0, rs1=1, imm=0), li(A0, NEW)]
    path = tiny_program(tmp_path / "flush", words)
    options = Options(hot=0, region=0, smc=mode) if 1 in tiers else Options(tiers=tiers, patience=0, smc=mode)
    result = dragoman.run(path, options=options)
    assert result.status == (OLD if mode == "off" else NEW)
    assert dragoman.run(path, engine="reference").status == NEW


# --- precision and patience -------------------------------------------------------------------------------------


def test_a_write_drops_only_what_holds_a_byte_of_it() -> None:
    bench = Bench("detect")
    for i in range(4):
        bench.space.poke(CODE + 0x100 * i, returns(i + 1))
        assert bench.call(CODE + 0x100 * i) == i + 1
    bench.space.write(CODE + 0x102, b"\x90")  # addi t0, zero, 9: a byte in the middle
    assert bench.dropped == 1
    bench.space.write(CODE + 0x300 - 1, b"x")
    bench.space.write(CODE + 0x308, b"x")
    assert bench.dropped == 1, "the bytes before and behind belong to none"
    assert [bench.call(CODE + 0x100 * i) for i in range(4)] == [1, 9, 3, 4]
    bench.space.write(CODE + 0x200, returns(8))
    assert bench.call(CODE + 0x200) == 8, "the page was still watched"
    bench.close()


def test_data_beside_code_neither_thrashes_nor_is_lost() -> None:
    """Ten thousand writes to the page of the loop that does them: few translations, the right sum."""
    words = [
        asm("lw", rd=7, rs1=8, imm=0),
        asm("addi", rd=7, rs1=7, imm=1),
        asm("sw", rs1=8, rs2=7, imm=0),
        asm("addi", rd=6, rs1=6, imm=-1),
        asm("bne", rs1=6, rs2=0, imm=-16),
        asm("ecall"),
    ]
    bench = Bench("detect", hot=4)
    bench.space.poke(CODE, words_to_bytes(words))
    bench.state.slots[8], bench.state.slots[6] = CODE + 0x800, 10_000
    bench.call()
    assert int.from_bytes(bench.space.peek(CODE + 0x800, 4), "little") == 10_000
    assert bench.engine.coherence.writes >= TOLERANCE
    assert bench.engine.translator.stats.translations < 40
    bench.close()


def test_code_in_a_page_that_was_given_up_is_seen_to_change() -> None:
    """Nothing watches such a page, so nothing that was made from it may be left."""
    bench = Bench("detect")
    assert bench.call() == OLD
    for _ in range(TOLERANCE):
        bench.space.write(CODE + 0x800, b"x")
    bench.space.write(CODE, returns(NEW))
    assert bench.call() == NEW
    bench.close()


def test_code_that_is_rewritten_again_and_again_must_be_hotter_each_time() -> None:
    bench = Bench("detect", hot=1)
    made = bench.engine.translator.stats
    for i in range(600):
        bench.space.write(CODE, returns(i % 1000))
        for _ in range(3):
            assert bench.call() == i % 1000
    assert made.translations < 200
    bench.close()


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="no mode 'never'"):
        Bench("never")
