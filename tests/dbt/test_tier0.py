"""Tier 0: what has a stencil, that native decoding finds the same rows as Python's, and what becomes of its code.

That its code does what the reference does is in test_engines_agree.py, which runs with stencils alone and with
promotion as well as with translations alone.
"""

from __future__ import annotations

import ctypes
import json
import os
import struct
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random

import pytest
from support.riscv import GUEST, Rig, Tally, asm, scaled, words_to_bytes

import dbt.tier0
import dragoman
from dbt.backend import callouts
from dbt.code import CodegenError
from dbt.engine import Translated
from dbt.memory import EXEC, READ, WRITE
from dbt.options import Options
from dbt.state import CODE_USED, FIELDS, MADE_BLOCKS, TABLES_MOST
from dbt.tier0 import Memory, layout
from dbt.tier0.library import Form, Stencil, forms, hole_of, whole
from guests.decode import layout as pattern_of
from guests.programs import PROGRAMS
from guests.riscv.registers import F

ROOT = Path(__file__).resolve().parents[2]
CODE, DATA = 0x10000, 0x20000
ALONE = Options(tiers=(0,), patience=0)
# Callouts, and two bodies that choose among constants by an operand.
WITHOUT = {
    "ecall", "ebreak", "c.ebreak", "fence.i", "cbo.inval", "cbo.clean", "cbo.flush", "fli.s", "fli.d",
    "fcvt.s.h", "fcvt.h.s", "fcvt.d.h", "fcvt.h.d",
}  # fmt: skip


def test_all_rows_but_these_have_a_stencil() -> None:
    made = {form.row.name for form in forms(GUEST, callouts(Options())) if form.block is not None}
    assert {row.name for row in GUEST.rows} - made == WITHOUT


def test_a_stencil_that_lacks_a_hole_is_refused() -> None:
    """LLVM decides late how long some instructions are, and the place of a hole in them is nowhere then."""
    code = bytes.fromhex("4983457f02")  # addq $2, 127(%r13)
    holes: list[tuple[int, int, int | str, int]] = [(4, *hole_of("short.imm"))]
    marked = ["short.imm", "write5.rd"]
    with pytest.raises(CodegenError, match=r"lost its hole write5\.rd"):
        whole(Stencil(code, holes, True), marked)
    complete = Stencil(code, [(3, *hole_of("write5.rd")), *holes], True)
    assert whole(complete, marked) is complete
    with pytest.raises(CodegenError, match=r"lost its hole write5\.rd"):
        whole(complete, [*marked, "write5.rd"])
    longer = Stencil(b"\x49\x83\x44\x24\x7f\x02", [(4, *hole_of("write5.rd")), (5, *hole_of("short.imm"))], True)
    with pytest.raises(CodegenError, match="of another length"):
        whole(longer, marked)


class Library:
    """The tables, read as `dbt.tier0.layout` says, with the form of each place."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.parcels, self.buckets = struct.unpack_from("<2I", data)

    def find(self, word: int) -> tuple[int, int]:
        """Flags and length of the form; (0, 0) where there is none."""
        at = 0
        if word & 3 != 3:
            (at,) = struct.unpack_from("<I", self.data, self.parcels + 4 * (word & 0xFFFF))
        else:
            key = word >> 2 & 31 | (word >> 12 & 7) << 5
            first, count = struct.unpack_from("<2I", self.data, self.buckets + 8 * key)
            for i in range(count):
                mask, match, form = struct.unpack_from("<3I", self.data, first + 12 * i)
                if word & mask == match:
                    at = form
                    break
        return struct.unpack_from("<2I", self.data, at + 4) if at else (0, 0)


def test_native_tables_find_what_the_decoder_finds() -> None:
    rig = Rig(((CODE, 0x1000, 7),), ALONE, translated=True)
    rig.space.poke(CODE, words_to_bytes([asm("addi", rd=5, rs1=0, imm=1), asm("ecall")]))
    rig.state.pc = CODE
    assert rig.run(1 << 60).trap and rig.engine.tier0 is not None
    library = Library(bytes(rig.engine.tier0._library))
    by_row: dict[int, list[Form]] = {}
    for form in forms(GUEST, callouts(Options())):
        if form.block is not None:
            by_row.setdefault(id(form.row), []).append(form)
    rng, tally = Random(7), Tally("words decoded natively")
    words = [w for w in range(1 << 16) if w & 3 != 3]
    words += [rng.getrandbits(32) | 3 for _ in range(scaled(20_000))]
    for row in GUEST.rows:
        shape = pattern_of(row.pattern)
        if shape.length == 4:
            words += [rng.getrandbits(32) & ~shape.mask | shape.match for _ in range(scaled(60))]
    for word in words:
        decoded = GUEST.decode(word)
        flags, length = library.find(word)
        if decoded is None or not any(word & f.mask == f.match for f in by_row.get(id(decoded.row), ())):
            good = length == 0
        else:
            good = (length, bool(flags & layout.ENDS)) == (decoded.length, decoded.ends_block)
        tally.check(good) or tally.note(f"{word:#x}: {decoded and decoded.row.name}, found {flags, length}")
    tally.done()
    rig.close()


@pytest.mark.parametrize("name", ["sieve", "nbody", "json", "dispatch", "trees", "smc"])
@pytest.mark.parametrize("options", [ALONE, Options(patience=0, promote=3)], ids=["alone", "promotion"])
def test_lockstep(name: str, options: Options) -> None:
    with open(os.devnull, "w") as nowhere:
        report = dragoman.lockstep(
            f"@{name}", PROGRAMS[name].small, stdout=nowhere.fileno(), max_instructions=scaled(60_000),
            options=replace(options),
        )  # fmt: skip
    assert report.difference is None and report.instructions > 300


@pytest.mark.parametrize("name", sorted(PROGRAMS))
@pytest.mark.parametrize("promote", [0, 50, None])
def test_bundled_programs(name: str, promote: int | None) -> None:
    options = replace(ALONE) if promote is None else Options(patience=0, promote=promote)
    result = dragoman.run(f"@{name}", PROGRAMS[name].small, seed=0, options=options)
    assert result.status == 0 and result.stats["copied_instructions"] > 0
    if PROGRAMS[name].small_output:
        assert result.stdout.decode() == PROGRAMS[name].small_output
    if name != "hello" or promote != 50:  # nothing in it runs as often
        assert (result.stats["translations"] > 0) == (promote is not None)
    assert result.stats["interpreted_cold"] == 0 or name == "smc"


def test_promotion_is_exact_and_goes_native() -> None:
    """A call in a loop: whichever of the two is promoted first, they reach each other without Python."""
    loop = [asm("addi", rd=6, rs1=6, imm=3), asm("jal", rd=1, imm=16), asm("addi", rd=5, rs1=5, imm=-1),
            asm("bne", rs1=5, rs2=0, imm=-12), asm("ecall"), asm("addi", rd=7, rs1=7, imm=1),
            asm("jalr", rd=0, rs1=1, imm=0)]  # fmt: skip
    outcomes = []
    regions = Options(patience=0, promote=1000)
    for options in (None, replace(ALONE), regions, replace(regions, region=0)):
        rig = Rig(((CODE, 0x1000, 7),), options, translated=options is not None)
        rig.space.poke(CODE, words_to_bytes(loop))
        rig.state.pc, rig.state.slots[5] = CODE, 3000
        outcomes.append(rig.outcome(rig.run(1 << 60)))
        if options is not None and 1 in options.tiers:
            assert rig.engine.exits["hot"] >= 1 and rig.engine.entries < 20
            assert rig.engine.translator.stats.translations >= (1 if options.region else 2)
        rig.close()
    assert outcomes == outcomes[:1] * 4


def test_a_block_that_takes_long_is_hot_sooner() -> None:
    """An execution counts by the code that it runs through: 200 of a long block are as hot as 1000 of a short one."""
    for length, times, hot in ((400, 200, True), (4, 200, False), (4, 2000, True)):
        body = [asm("addi", rd=6, rs1=6, imm=1)] * length
        loop = [*body, asm("addi", rd=5, rs1=5, imm=-1), asm("bne", rs1=5, rs2=0, imm=-4 * (length + 1)), asm("ecall")]
        rig = Rig(((CODE, 0x1000, 7),), Options(patience=0, promote=1000, background=False), translated=True)
        rig.space.poke(CODE, words_to_bytes(loop))
        rig.state.pc, rig.state.slots[5] = CODE, times
        rig.run(1 << 60)
        assert rig.state.slots[6] == length * times and (rig.engine.exits["hot"] > 0) == hot
        rig.close()


def test_floating_point_is_hot_sooner() -> None:
    """Each instruction that computes with floats counts as an execution more; what moves or loads them does not."""
    computes, moves = asm("fadd.d", rd=1, rs1=1, rs2=2, rm=0), asm("fld", rd=1, rs1=2, imm=0)
    for what, times, hot in ((computes, 300, True), (moves, 300, False)):
        options = Options(patience=0, promote=1000, background=False)
        rig = Rig(((CODE, 0x1000, 7), (DATA, 0x1000, 3)), options, translated=True)
        words = [what] * 4 + [asm("addi", rd=5, rs1=5, imm=-1), asm("bne", rs1=5, rs2=0, imm=-20), asm("ecall")]
        rig.space.poke(CODE, words_to_bytes(words))
        rig.state.pc, rig.state.slots[2], rig.state.slots[5] = CODE, DATA, times
        assert isinstance(rig.engine, Translated)
        rig.run(1 << 40)
        assert (rig.engine.exits["hot"] > 0) == hot
        rig.close()


def test_how_often_a_block_has_run_is_known_whatever_its_counter_is_for() -> None:
    """Until it is hot, when it is to say so again after some more, and when it is never to."""
    loop = [asm("addi", rd=5, rs1=5, imm=-1), asm("bne", rs1=5, rs2=0, imm=-4), asm("ecall")]
    rig = Rig(((CODE, 0x1000, 7),), Options(tiers=(0,), patience=0, promote=1000), translated=True)
    rig.space.poke(CODE, words_to_bytes(loop))
    rig.state.pc, rig.state.slots[5] = CODE, 1 << 20
    rig.run(1200)
    tier = rig.engine.tier0
    assert abs(tier.executions(CODE) - 600) < 3
    for begin, is_new in ((tier.again, True), (partial(tier.later, more=4000), False), (tier.rest, False)):
        before = 0 if is_new else tier.executions(CODE)
        begin(CODE)
        rig.run(rig.state.count + 1200)
        assert abs(tier.executions(CODE) - before - 600) < 3
    rig.close()


@pytest.mark.parametrize("name", ["fadd.s", "fmul.s", "fsqrt.s", "fmadd.s", "fle.s", "fcvt.d.s", "fcvt.w.s"])
@pytest.mark.parametrize(("above", "here"), [(0xFFFF_FFFF, True), (0, False), (0xFFFF_FFFE, False), (1 << 31, False)])
def test_a_single_with_other_bits_above_it_is_left_to_the_monitor(name: str, above: int, here: bool) -> None:
    """It reads as a NaN; boxed ones are computed with in stencils."""
    row = next(row for row in GUEST.rows if row.name == name)
    fields = {one.name for one in pattern_of(row.pattern).fields}
    mode = 1 if name == "fcvt.w.s" else 7  # of a static one frm would have to be it
    operands = {field: value for field, value in (("rd", 9), ("rs1", 8), ("rs2", 8), ("rs3", 8), ("rm", mode))
                if field in fields}  # fmt: skip
    states = []
    for translated in (False, True):
        rig = Rig(((CODE, 0x1000, 7),), ALONE, translated=translated)
        rig.space.poke(CODE, words_to_bytes([asm(name, **operands), asm("ecall")]))
        rig.state.pc, rig.state.slots[F + 8] = CODE, above << 32 | 0x3FC0_0000
        stop = rig.run(10)
        states.append(rig.outcome(stop))
        if translated:
            assert rig.engine.exits["side: conversion"] == (not here)
        rig.close()
    assert states[0] == states[1]


def test_what_is_left_before_an_event_runs_here() -> None:
    """A region is not entered with less than it needs; its blocks are in tier 0 as well, which goes on exactly."""
    chain = [asm("addi", rd=6, rs1=6, imm=3), asm("jal", rd=0, imm=8), asm("ecall")] * 20
    loop = [*chain, asm("addi", rd=5, rs1=5, imm=-1), asm("bne", rs1=5, rs2=0, imm=-4 * (len(chain) + 1)), asm("ecall")]
    stops = []
    for options in (None, Options(patience=0, promote=100, background=False)):
        rig = Rig(((CODE, 0x1000, 7),), options, translated=options is not None)
        rig.space.poke(CODE, words_to_bytes(loop))
        rig.state.pc, rig.state.slots[5] = CODE, 3000
        rig.run(30_000)
        seen = []
        for _ in range(500):  # of these none is as long as a turn of the loop
            rig.run(rig.state.count + 13)
            seen.append((rig.state.count, rig.state.pc, rig.state.slots[6], rig.state.blocks))
        stops.append(seen)
        if options is not None:
            assert len(rig.engine.cache) > 0 and rig.engine.interpreted < 100
        rig.close()
    assert stops[0] == stops[1]


def test_it_goes_on_when_its_memory_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dbt.tier0, "SIZE", dbt.tier0.HEADROOM + (24 << 10))
    results = []
    for options in (Options(hot=0), replace(ALONE), Options(patience=0, promote=40)):
        process = dragoman.load("@json", ["small"], seed=0, options=options)
        with open(os.devnull, "w"), process:
            process.run()
            results.append((process.instructions, process.registers))
            if options.hot:
                assert process.engine.tier0 is not None and process.engine.tier0.flushes > 3
    assert results[0] == results[1] == results[2]


def test_code_in_more_pages_than_there_are_tables() -> None:
    """Each page with code has a table; when all are taken, everything is forgotten and it goes on."""
    count, base = TABLES_MOST + 100, 0x100_0000
    rig = Rig(((base, (count + 1) << 12, 7),), replace(ALONE), translated=True)
    for number in range(count):
        code = words_to_bytes([asm("addi", rd=5, rs1=5, imm=1), asm("jal", rd=0, imm=4092)])
        rig.space.poke(base + (number << 12), code)
    rig.space.poke(base + (count << 12), words_to_bytes([asm("ecall")]))
    for turn in (1, 2):
        rig.state.pc, rig.state.mid_block = base, False
        assert rig.run(1 << 60).trap and rig.state.slots[5] == turn * count
        assert rig.state.count == 2 * turn * count and not rig.engine.interpreted
        assert rig.engine.tier0 is not None and rig.engine.tier0.flushes == turn
    rig.close()


def test_an_instruction_across_two_pages_follows_both() -> None:
    """It is in one page and reaches into the next: what is written there is seen, and so is the loss of the right."""
    rig = Rig(((CODE, 0x2000, 7),), replace(ALONE), translated=True)
    at = CODE + 0xFFE

    def put(imm: int) -> None:
        code = words_to_bytes([asm("addi", rd=5, rs1=0, imm=imm), asm("ecall")])
        rig.space.poke(at + 2, code[2:])

    rig.space.poke(at, words_to_bytes([asm("addi", rd=5, rs1=0, imm=1), asm("ecall")]))
    for imm in (1, 2, 3):
        put(imm)
        for turn in range(3):  # with the second page open it is copied: then the monitor executes the ecall alone
            rig.state.pc, rig.state.mid_block = at if turn else at + 4, False
            before = rig.engine.stepped
            assert rig.run(1 << 60).trap and rig.state.slots[5] == (imm if turn else imm - 1)
            assert rig.engine.stepped == before + 1 and not rig.engine.interpreted
    rig.space.protect(CODE + 0x1000, 0x1000, READ | WRITE)
    rig.state.pc, rig.state.mid_block = at, False
    stop = rig.run(1 << 60)
    assert stop.trap and stop.cause == GUEST.fault_causes["fetch"] and stop.value == CODE + 0x1000
    rig.space.protect(CODE + 0x1000, 0x1000, READ | WRITE | EXEC)
    rig.state.pc, rig.state.mid_block = at, False
    assert rig.run(1 << 60).cause == GUEST.syscall_cause
    rig.close()


def test_an_instruction_across_two_pages_is_copied_at_once() -> None:
    """A loop of which it is a part never asks the monitor, though its second page was not open when it was copied."""
    rig = Rig(((CODE, 0x2000, 7),), replace(ALONE), translated=True)
    at = CODE + 0xFFE
    loop = [asm("addi", rd=5, rs1=5, imm=1), asm("bne", rs1=5, rs2=6, imm=-4), asm("ecall")]
    rig.space.poke(at, words_to_bytes(loop))
    rig.state.slots[6] = 1000
    rig.state.pc = at
    assert rig.run(1 << 60).trap and rig.state.slots[5] == 1000
    assert rig.engine.stepped == 1 and not rig.engine.interpreted  # the ecall
    rig.close()


@pytest.mark.parametrize("protection", [5, 7], ids=["read only", "written to"])
def test_pages_that_nothing_writes_are_opened_together(protection: int) -> None:
    """Code goes from page to page; where it may be written each is asked for. What was opened unasked is looked after:
    when it is written after all, its new code runs.
    """
    pages = range(CODE >> 12, (CODE >> 12) + 3)
    rig = Rig(((CODE, 0x3000, 7),), replace(ALONE), translated=True)
    for page in pages:
        rig.space.poke(page << 12, words_to_bytes([asm("addi", rd=5, rs1=5, imm=1), asm("ecall")]))
    rig.space.protect(CODE, 0x3000, protection)
    tier = None
    for number, page in enumerate(pages):
        rig.state.pc, rig.state.mid_block = page << 12, False
        assert rig.run(1 << 60).trap and rig.state.slots[5] == number + 1
        tier = rig.engine.tier0
        assert tier is not None and tier._pages == set(pages if protection == 5 else pages[: number + 1])
    rig.space.poke(pages[2] << 12, words_to_bytes([asm("addi", rd=5, rs1=5, imm=9)]))
    rig.state.pc, rig.state.mid_block = pages[2] << 12, False
    assert rig.run(1 << 60).trap and rig.state.slots[5] == 12
    rig.close()


def test_another_engine_in_the_same_state_finds_no_code_of_the_first() -> None:
    """As in a forked child of what lockstep runs."""
    rig = Rig(((CODE, 0x1000, 7),), replace(ALONE), translated=True)
    rig.space.poke(CODE, words_to_bytes([asm("addi", rd=5, rs1=5, imm=1), asm("ecall")]))
    rig.state.pc = CODE
    assert rig.run(1 << 60).trap
    other = Translated(rig.state, rig.space, lambda: 0, replace(ALONE))
    rig.state.pc, rig.state.mid_block = 0, False
    assert other.run(1 << 60).trap  # nothing is there, but the tier is made
    assert other.tier0 is not None and not other.tier0._table(CODE >> 12)
    rig.state.pc, rig.state.mid_block = CODE, False
    assert other.run(1 << 60).trap and rig.state.slots[5] == 2 and other.stepped == 1
    other.close()
    rig.close()


def test_a_host_that_refuses_the_memory_is_told_and_does_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(memory: Memory) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Memory, "_execute", refused)
    with dragoman.load("@sieve", ["small"], seed=0, stdout=2, options=Options(patience=10)) as process:
        assert process.run() == 0 and process.engine.tier0 is None
        assert "no stencils" in process.engine.note and "not permitted" in process.engine.note
        assert process.stats()["translations"] > 0 == process.stats()["copied_instructions"]


FORKED = """
import json, os, sys
import dragoman
process = dragoman.load("@json", ["small"], seed=0, env={}, options=dragoman.Options(tiers=(0,), patience=0))
try:
    process.run(40_000)
except dragoman.LimitReached:
    pass
child = os.fork()
process.run()
made = process.engine.state.words[int(sys.argv[1])]
os.write(2, (json.dumps([process.instructions, process.registers, made > 0]) + "\\n").encode())
if child:
    assert os.waitpid(child, 0)[1] == 0
os._exit(0)
"""


def test_parent_and_forked_child_make_code_of_their_own() -> None:
    line = [sys.executable, "-c", FORKED, str(MADE_BLOCKS)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("[")]
    wanted = dragoman.load("@json", ["small"], seed=0, env={}, options=Options(tiers=(1,)))
    with wanted:
        wanted.run()
        assert told == [[wanted.instructions, wanted.registers, True]] * 2
    assert MADE_BLOCKS >= FIELDS


def test_a_forked_child_executes_the_code_that_was_there_and_writes_beside_its_parent() -> None:
    with dragoman.load("@json", ["small"], seed=0, stdout=2, options=Options(tiers=(0,), patience=0)) as process:
        with pytest.raises(dragoman.LimitReached):
            process.run(40_000)
        tier0, words = process.engine.tier0, process.engine.state.words
        memory, used = tier0.memory, words[CODE_USED]
        before = ctypes.string_at(memory.base, used)
        child = os.fork()
        if child == 0:
            same, new = ctypes.string_at(memory.base, used) == before, words[CODE_USED]
            memory.put(new, b"\xcc" * 16)
            written = ctypes.string_at(memory.base + new, 16) == b"\xcc" * 16
            words[CODE_USED] = new + 16
            flushed, flushing = os.pipe()
            grandchild = os.fork()
            if grandchild == 0:
                os.read(flushed, 1)
                os._exit(ctypes.string_at(memory.base + new, 16) != b"\xcc" * 16 or words[CODE_USED] <= new)
            tier0.flush()
            memory.put(new, b"\xdd" * 16)
            os.write(flushing, b"!")
            natives = ctypes.string_at(memory.base, 4096) == before[:4096]
            ended = os.waitpid(grandchild, 0)[1] == 0
            os._exit(not (same and written and natives and ended and new >= used and new % 4096 == 0))
        assert os.waitpid(child, 0)[1] == 0 and ctypes.string_at(memory.base, used) == before
        assert ctypes.string_at(memory.base + (used + 4095 & -4096), 16) == bytes(16)
        assert process.run() == 0


def test_a_child_without_memory_for_its_code_ends(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
                                                  ) -> None:  # fmt: skip
    """It must not write where its parent's code is."""
    def refused(memory: Memory, used: int) -> None:
        raise OSError(12, "Cannot allocate memory")

    with dragoman.load("@json", ["small"], seed=0, stdout=2, options=Options(tiers=(0,), patience=0)) as process:
        with pytest.raises(dragoman.LimitReached):
            process.run(40_000)
        monkeypatch.setattr(Memory, "own", refused)
        child = os.fork()
        if child == 0:
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 125
        assert "no memory for the code" in capfd.readouterr().err
        assert process.run() == 0


def test_stencils_come_from_disk_without_llvm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAGOMAN_CACHE_DIR", str(tmp_path))
    probe = (
        "import sys, dragoman\n"
        "result = dragoman.run(sys.argv[1], ['small'], seed=0, options=dragoman.Options(disk=True))\n"
        "print(result.status, result.stats['copied_instructions'] > 0, 'llvmlite' in sys.modules)"
    )
    told = []
    for name in ("@sieve", "@sort", "@nbody"):
        line = [sys.executable, "-c", probe, name]
        told.append(subprocess.run(line, capture_output=True, text=True, timeout=60, cwd=ROOT).stdout.split()[-3:])
    assert told == [["0", "True", "True"], ["0", "True", "False"], ["0", "True", "False"]]
