"""The run loop and its mechanisms: boundaries, budgets, chaining, invalidation, faults, the host's environment."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import struct
import subprocess
import sys

import pytest
from support.riscv import GUEST, Rig, asm, words_to_bytes
from support.tiny import elf

from dbt.memory import READ, WRITE
from dbt.native import ARENAS
from dbt.options import Options
from dbt.process import Process, Settings
from dbt.reference import Stop
from dbt.state import JUMP_ENTRIES, SLOTS
from guests.spec import Treat

CODE, DATA = 0x10000, 0x20000
REGIONS = ((CODE, 0x4000, 7), (DATA, 0x2000, 3))
ENGINES = ("reference", "translated")


def rig(engine: str, words: list[int], at: int = CODE, options: Options | None = None, **registers: int) -> Rig:
    """A rig with code in place; the word after the last is an ecall."""
    made = Rig(REGIONS, options, translated=engine == "translated")
    made.space.poke(at, words_to_bytes([*words, asm("ecall")]))
    made.state.pc = at
    for name, value in registers.items():
        made.state.slots[made.state.slot(name)] = value
    return made


def stops(made: Rig, most: int = 1000) -> list[tuple[int, int, int]]:
    """(pc, count, blocks) at every boundary until the first trap."""
    seen = []
    for _ in range(most):
        stop = made.run(made.state.count + 1)
        seen.append((made.state.pc, made.state.count, made.state.blocks))
        if stop.trap:
            break
    return seen


NOP = asm("addi", rd=0, rs1=0, imm=0)
BOUNDARIES = {  # name -> (words, registers, pcs at which a boundary lies, in order)
    "a jump": ([asm("jal", rd=0, imm=8), NOP], {}, [CODE + 8]),
    "a branch taken": ([asm("beq", rs1=0, rs2=0, imm=8), NOP], {}, [CODE + 8]),
    "a branch not taken": ([asm("bne", rs1=0, rs2=0, imm=8), NOP], {}, [CODE + 4]),
    "an indirect jump": ([asm("jalr", rd=1, rs1=5, imm=0), NOP], {"t0": CODE + 8}, [CODE + 8]),
    "a compressed jump": ([asm("c.j", imm=4), asm("c.nop", imm=0)], {}, [CODE + 4]),
    "fence.i": ([NOP, asm("fence.i", imm=0, rs1=0, rd=0), NOP], {}, [CODE + 8]),
    "no CSR that floating point has": ([asm("csrrwi", csr=1, imm=31, rd=0), asm("csrrwi", csr=2, imm=1, rd=0)], {}, []),
    "no store, load or atomic": (
        [asm("sd", rs1=5, rs2=5, imm=0), asm("amoadd.w", rd=6, rs1=5, rs2=5, aq=0, rl=0)], {"t0": DATA}, []),
    "no arithmetic, not even division by zero": ([asm("div", rd=6, rs1=6, rs2=0)], {}, []),
}  # fmt: skip


@pytest.mark.parametrize("name", BOUNDARIES)
@pytest.mark.parametrize("engine", ENGINES)
def test_the_boundary_rule(engine: str, name: str) -> None:
    words, registers, wanted = BOUNDARIES[name]
    made = rig(engine, words, **registers)
    assert [pc for pc, _, _ in stops(made)[:-1]] == wanted
    made.close()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("most", [1, 3, 512])
def test_a_page_end_is_a_boundary_and_a_length_limit_is_none(engine: str, most: int) -> None:
    """A straight line over two pages: boundaries only where an instruction starts in another page."""
    words = [NOP] * 1500
    made = rig(engine, words, CODE + 0x800, Options(hot=0, max_instructions=most))
    assert stops(made) == [(CODE + 0x1000, 512, 1), (CODE + 0x800 + 4 * 1500, 1500, 1)]
    made.close()


@pytest.mark.parametrize("engine", ENGINES)
def test_an_instruction_across_a_page_end_belongs_to_its_first_page(engine: str) -> None:
    made = rig(engine, [asm("c.nop", imm=0), asm("addi", rd=5, rs1=5, imm=1), asm("c.nop", imm=0)], CODE + 0xFFC)
    assert [pc for pc, _, _ in stops(made)] == [CODE + 0x1002, CODE + 0x1004]
    made.close()


@pytest.mark.parametrize("engine", ENGINES)
def test_the_second_half_of_an_instruction_may_be_missing(engine: str) -> None:
    made = Rig(((CODE, 0x1000, 7),), translated=engine == "translated")
    made.space.poke(CODE + 0xFFA, words_to_bytes([asm("addi", rd=5, rs1=0, imm=7)]) + b"\x13\x03")
    made.state.pc = CODE + 0xFFA
    stop = made.run(100)
    assert (stop.trap, stop.cause, stop.value) == (True, 12, CODE + 0x1000)
    assert (made.state.pc, made.state.count, made.state.slots[5]) == (CODE + 0xFFE, 1, 7)
    made.close()


def test_a_system_call_traps_the_short_way_as_when_it_is_executed() -> None:
    found = []
    for short in (True, False):
        made = rig("reference", [asm("ecall"), asm("ebreak")])
        made.state.count, made.state.blocks, made.state.mid_block = 7, 3, True
        monitor = made.engine
        stop = monitor.system_call() if short else monitor.step()
        state = made.state
        found.append((stop, state.registers(), state.count, state.blocks, state.mid_block, monitor.classes.copy(),
                      monitor.trapped))  # fmt: skip
        for elsewhere in (CODE + 4, CODE - 4):  # another callout, and no memory
            state.pc, state.mid_block = elsewhere, True
            assert monitor.system_call() is None and state.mid_block and monitor.trapped == 1
        made.close()
    assert found[0] == found[1] and found[0][0] == Stop(True, GUEST.syscall_cause, 0)


def test_a_cut_does_not_lead_to_the_block_that_begins_there() -> None:
    """What was jumped to is entered at a boundary; what goes on after a cut is not, though the address is the same."""
    made = rig("translated", [NOP] * 5, options=Options(hot=0, max_instructions=2))
    made.state.pc = CODE + 8
    assert stops(made) == [(CODE + 20, 3, 0)]
    made.state.pc = CODE
    assert stops(made) == [(CODE + 20, 8, 0)]
    made.close()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_guest_counts_its_own_instructions(engine: str) -> None:
    """In the middle of a block, after a chained jump, and after an instruction that the monitor executed."""
    read = [asm("csrrs (reads only)", csr=0xC02, rd=5 + i) for i in range(3)]
    clock = asm("csrrs (reads only)", csr=0xC01, rd=11)
    made = rig(engine, [NOP, NOP, read[0], NOP, asm("jal", rd=0, imm=8), NOP, NOP, read[1], clock, NOP, read[2]])
    for start in (0, 10):  # translated, and then run again
        made.state.pc = CODE
        made.run(1 << 60)
        assert [n - start for n in made.state.slots[5:8].tolist()] == [2, 6, 9]
    made.close()


LOOP = [
    asm("addi", rd=5, rs1=5, imm=1),
    asm("addi", rd=6, rs1=6, imm=3),
    asm("bne", rs1=5, rs2=7, imm=-8),
]  # three instructions, t2 times


@pytest.mark.parametrize("until", [1, 2, 3, 4, 100, 299, 300, 301])
def test_the_budget_ends_at_the_first_boundary_at_or_after(until: int) -> None:
    seen = []
    for engine in ENGINES:
        made = rig(engine, LOOP, t2=100)
        stop = made.run(until)
        seen.append((stop.trap, made.state.pc, made.state.count, made.state.blocks, made.state.slots[6]))
        made.close()
    assert seen[0] == seen[1]
    assert seen[0][2] == min(-(-until // 3) * 3, 300)


BRANCHES = [
    asm("addi", rd=6, rs1=6, imm=1),
    asm("beq", rs1=5, rs2=0, imm=40),  # out at t0 = 0
    asm("ld", rd=7, rs1=8, imm=0),
    asm("csrrsi", csr=1, imm=1, rd=0),
    asm("blt", rs1=7, rs2=0, imm=28),  # out where the word is negative
    asm("sd", rs1=8, rs2=6, imm=8),
    asm("addi", rd=5, rs1=5, imm=-1),
    asm("fence.i", imm=0, rs1=0, rd=0),  # a callout behind a boundary inside
    asm("bne", rs1=5, rs2=9, imm=-32),
    asm("ecall"), asm("ecall"),
    asm("addi", rd=28, rs1=0, imm=77),
]  # fmt: skip


@pytest.mark.parametrize("first, word, address", [(3, 5, DATA), (0, 5, DATA), (3, 1 << 63, DATA), (3, 5, 0x70000)])
def test_a_translation_goes_past_branches_and_nobody_can_tell(first: int, word: int, address: int) -> None:
    """To the end, out at the first branch, out at the second, a fault behind the first: stopped at every boundary."""
    seen = []
    for options in (None, Options(hot=0, region=0), Options(hot=0), Options(hot=0, max_instructions=3)):
        made = rig("reference" if options is None else "translated", BRANCHES, options=options, t0=first, s0=address)
        made.space.write(DATA, word.to_bytes(8, "little"))
        trace = [*stops(made), made.outcome(), made.memory(), dict(made.engine.classes)]
        made.state.pc, made.state.slots[made.state.slot("t0")] = CODE, first
        trace += [made.run(made.state.count + 2), made.outcome(), made.run(1 << 60), made.outcome()]
        seen.append(trace)
        made.close()
    assert seen[1:] == seen[:1] * 3


def test_a_region_is_one_translation() -> None:
    """Three branches that are not taken, then a loop: one function, and each boundary in it is counted."""
    made = []
    for region in (0, 7, 8):
        words = [*[asm("beq", rs1=5, rs2=6, imm=40), NOP] * 3, asm("addi", rd=7, rs1=7, imm=-1),
                 asm("bne", rs1=7, rs2=0, imm=-28)]  # fmt: skip
        machine = rig("translated", words, options=Options(hot=0, region=region), t0=1, t2=1000)
        assert machine.run(1 << 60).trap
        assert (machine.state.count, machine.state.blocks) == (8000, 4000)
        found = [t for t in machine.engine.cache.translations() if CODE <= t.key[0] < CODE + 32]
        made.append(sorted(t.instructions for t in found))
        machine.close()
    assert made[0] == [1, 2, 2, 3] and made[2] == [8]
    assert len(made[1]) > 1 and 3 < max(made[1]) <= 7


@pytest.mark.parametrize("until", [1, 5, 6, 24, 31, 1 << 40])
def test_a_loop_exchanges_registers(until: int) -> None:
    """a0 and a1, carried between blocks, s2 and s3, which are not, and doubles change places at each turn."""
    words = [
        asm("addi", rd=5, rs1=10, imm=0), asm("addi", rd=10, rs1=11, imm=0), asm("addi", rd=11, rs1=5, imm=0),
        asm("addi", rd=6, rs1=18, imm=0), asm("addi", rd=18, rs1=19, imm=0), asm("addi", rd=19, rs1=6, imm=0),
        asm("fadd.d", rd=0, rs1=8, rs2=8, rm=0), asm("fadd.d", rd=8, rs1=9, rs2=9, rm=0),
        asm("fmul.d", rd=9, rs1=0, rs2=0, rm=0),
        asm("addi", rd=7, rs1=7, imm=-1), asm("bne", rs1=7, rs2=0, imm=-40),
    ]  # fmt: skip
    seen = []
    for engine in ENGINES:
        made = rig(engine, words, t2=7, a0=1, a1=2, s2=3, s3=4)
        for name, value in (("f8", 1.25), ("f9", 3.5)):
            made.state.slots[made.state.slot(name)] = struct.unpack("<Q", struct.pack("<d", value))[0]
        seen.append([made.outcome(made.run(until)), made.outcome(made.run(1 << 60))])
        made.close()
    assert seen[0] == seen[1]


def test_chained_blocks_run_without_python() -> None:
    made = rig("translated", LOOP, t2=1_000_000)
    assert made.run(1 << 60).trap
    assert made.state.blocks == 1_000_000
    assert made.engine.entries < 10
    made.close()


def test_without_chaining_every_block_comes_back() -> None:
    made = rig("translated", LOOP, options=Options(hot=0, chain=False), t2=50)
    assert made.run(1 << 60).trap
    assert made.state.blocks == 50 and made.engine.entries >= 50
    made.close()


def test_indirect_jumps_stay_native() -> None:
    """A call and a return through registers, over and over: the jump cache answers."""
    words = [
        asm("addi", rd=5, rs1=5, imm=1),
        asm("jalr", rd=1, rs1=8, imm=0),
        asm("bne", rs1=5, rs2=7, imm=-8),
        asm("jal", rd=0, imm=8),
        asm("jalr", rd=0, rs1=1, imm=0),
    ]
    made = rig("translated", words, t2=100_000, s0=CODE + 16)
    assert made.run(1 << 60).trap
    assert made.state.count == 4 * 100_000 + 1
    assert made.engine.entries < 20
    made.close()


def test_targets_that_share_an_entry_of_the_jump_cache_are_told_apart() -> None:
    far = 2 * JUMP_ENTRIES
    made = Rig(((CODE, far + 0x1000, 7),), translated=True)
    words = [
        asm("addi", rd=5, rs1=5, imm=1),
        asm("jalr", rd=1, rs1=8, imm=0),
        asm("jalr", rd=1, rs1=9, imm=0),
        asm("bne", rs1=5, rs2=7, imm=-12),
        asm("ecall"),
    ]
    made.space.poke(CODE, words_to_bytes(words))
    for at, value in ((CODE + 0x100, 1), (CODE + 0x100 + far, 3)):
        made.space.poke(at, words_to_bytes([asm("addi", rd=10, rs1=10, imm=value), asm("jalr", rd=0, rs1=1, imm=0)]))
    made.state.pc, made.state.slots[7] = CODE, 50
    made.state.slots[8], made.state.slots[9] = CODE + 0x100, CODE + 0x100 + far
    assert made.run(1 << 60).trap
    assert made.state.slots[10] == 4 * 50
    made.close()


def test_a_chained_endless_loop_gives_the_processor_back() -> None:
    made = rig("translated", [asm("jal", rd=0, imm=0)])
    assert not made.run(50_000_000).trap
    assert made.state.count == 50_000_000
    made.close()


@pytest.mark.parametrize("how", ["poke", "write", "unmap", "protect", "flush"])
def test_changed_code_is_translated_again(how: str) -> None:
    made = rig("translated", [asm("addi", rd=5, rs1=0, imm=1), asm("jal", rd=0, imm=4)])
    made.run(1 << 60)
    assert made.state.slots[5] == 1
    new = words_to_bytes([asm("addi", rd=5, rs1=0, imm=2)])
    if how == "poke":
        made.space.poke(CODE, new)
    elif how == "write":
        made.space.write(CODE, new)
    elif how == "unmap":
        made.space.unmap(CODE, 0x4000)
        made.space.map(CODE, 0x4000, 7, fixed=True)
        made.space.poke(CODE, words_to_bytes([asm("addi", rd=5, rs1=0, imm=2), asm("jal", rd=0, imm=4), asm("ecall")]))
    elif how == "protect":
        made.space.protect(CODE, 0x4000, 3)
    else:
        made.engine.flush()
    made.state.pc = CODE
    stop = made.run(1 << 60)
    if how == "protect":
        assert (stop.cause, stop.value) == (12, CODE)
    else:
        assert made.state.slots[5] == (1 if how == "flush" else 2)
    made.close()


def test_a_block_that_patches_itself_is_right() -> None:
    """The store hits the very next instructions of its own block."""
    seen = []
    for engine in ENGINES:
        words = [
            asm("sw", rs1=8, rs2=9, imm=8),
            asm("addi", rd=5, rs1=5, imm=1),
            asm("addi", rd=6, rs1=0, imm=1),
            asm("addi", rd=5, rs1=5, imm=1),
        ]
        made = rig(engine, words, s0=CODE, s1=asm("addi", rd=6, rs1=0, imm=99))
        for _ in range(3):
            made.state.pc = CODE
            stop = made.run(1 << 60)
        seen.append(made.outcome(stop))
        assert made.state.slots[6] == 99
        made.close()
    assert seen[0] == seen[1]


def test_links_to_an_invalidated_block_are_undone() -> None:
    """The loop jumps between two pages; the code in the other page changes between runs."""
    made = rig("translated", [asm("jal", rd=0, imm=0x1000)], options=Options(hot=0, region=0))
    made.space.poke(CODE + 0x1000, words_to_bytes([asm("addi", rd=5, rs1=0, imm=1), asm("ecall")]))
    for value in (1, 2, 3):
        made.space.poke(CODE + 0x1000, words_to_bytes([asm("addi", rd=5, rs1=0, imm=value)]))
        made.state.pc = CODE
        made.run(1 << 60)
        assert made.state.slots[5] == value
    made.close()


STORE = 0x3000  # beside the code that changes


def run_store(made: Rig, address: int, value: int, name: str = "sw") -> None:
    """Let translated code, in a page of its own, store `value`."""
    made.space.poke(CODE + STORE, words_to_bytes([asm(name, rs1=28, rs2=29, imm=0), asm("ecall")]))
    made.state.slots[28], made.state.slots[29], made.state.pc = address, value, CODE + STORE
    assert made.run(1 << 60).cause == 8


def test_code_beside_code_that_was_changed_is_still_looked_after() -> None:
    """Two blocks in one page: the guest changes the one, then the other, which has not run in between."""
    made = rig("translated", [asm("addi", rd=5, rs1=0, imm=1)])
    made.space.poke(CODE + 0x100, words_to_bytes([asm("addi", rd=6, rs1=0, imm=1), asm("ecall")]))
    for at in (CODE, CODE + 0x100):
        made.state.pc = at
        made.run(1 << 60)
    run_store(made, CODE, asm("addi", rd=5, rs1=0, imm=2))
    run_store(made, CODE + 0x100, asm("addi", rd=6, rs1=0, imm=2))
    for at in (CODE, CODE + 0x100):
        made.state.pc = at
        made.run(1 << 60)
    assert made.state.slots[5:7].tolist() == [2, 2]
    made.close()


def test_an_instruction_across_a_page_end_is_made_from_both_pages() -> None:
    """A jump of which only the second half is in the next page, where no block begins; the guest changes that half."""
    made = rig("translated", [asm("addi", rd=5, rs1=0, imm=1)])
    made.space.poke(CODE + 0x100, words_to_bytes([asm("addi", rd=5, rs1=0, imm=2), asm("ecall")]))
    at = CODE + 0xFFE
    for wanted, target in ((1, CODE), (2, CODE + 0x100)):
        jump = asm("jal", rd=0, imm=target - at)
        if wanted == 1:
            made.space.poke(at, words_to_bytes([jump]))
        else:
            run_store(made, at + 2, jump >> 16, "sh")
        made.state.pc = at
        made.run(1 << 60)
        assert made.state.slots[5] == wanted
    made.close()


def test_a_page_that_becomes_read_only_is_so_for_translated_code() -> None:
    made = rig("translated", [asm("sd", rs1=8, rs2=8, imm=0)], s0=DATA)
    assert made.run(1 << 60).cause == 8
    made.space.protect(DATA, 0x1000, READ)
    made.state.pc = CODE
    stop = made.run(1 << 60)
    assert (stop.cause, stop.value) == (15, DATA)
    made.close()


# --- the host's environment ---------------------------------------------------------------------------


def rounded_up() -> float:
    return float("0.3") - float("0.1")


def test_the_guest_does_not_leak_its_rounding_mode_or_flags() -> None:
    before = rounded_up()
    words = [
        asm("csrrwi", csr=2, imm=3, rd=0),  # frm = up
        asm("fcvt.d.w", rd=1, rs1=5, rm=0),
        asm("fcvt.d.w", rd=2, rs1=6, rm=0),
        asm("fdiv.d", rd=3, rs1=1, rs2=2, rm=7),
        asm("csrrs (reads only)", csr=1, rd=7),
    ]
    made = rig("translated", words, t0=1, t1=3)
    for _ in range(3):
        made.state.pc = CODE
        made.run(1 << 60)
        assert rounded_up() == before
    assert struct.pack("<Q", made.state.slots[33 + 3]) == struct.pack("<d", 0.33333333333333337)  # rounded up
    assert made.state.slots[7] == 1  # inexact, the guest's own doing only
    made.close()


def test_the_hosts_flags_do_not_reach_the_guest() -> None:
    made = rig("translated", [asm("csrrs (reads only)", csr=1, rd=7)])
    assert 1.0 / 3.0 > 0.3  # inexact on the host
    made.run(1 << 60)
    assert made.state.slots[7] == 0
    made.close()


@pytest.mark.parametrize("engine", ENGINES)
def test_an_invalid_dynamic_rounding_mode_is_illegal(engine: str) -> None:
    made = rig(engine, [asm("csrrwi", csr=2, imm=6, rd=0), asm("fadd.d", rd=1, rs1=1, rs2=1, rm=7)])
    stop = made.run(1 << 60)
    assert (stop.trap, stop.cause, made.state.pc) == (True, 2, CODE + 4)
    made.close()


def test_ties_to_max_magnitude_leaves_to_the_monitor_and_is_right() -> None:
    words = [
        asm("csrrwi", csr=2, imm=4, rd=0),
        asm("fadd.d", rd=3, rs1=1, rs2=2, rm=7),
        asm("fadd.d", rd=4, rs1=1, rs2=2, rm=4),
    ]
    results = []
    for engine in ENGINES:
        made = rig(engine, words)
        made.state.slots[33 + 1] = 0x3FF0000000000001
        made.state.slots[33 + 2] = 0x3CA0000000000000
        made.run(1 << 60)
        results.append((made.state.slots[33 + 3], made.state.slots[33 + 4], made.state.slots[65]))
        if engine == "translated":
            assert made.engine.exits["side: rounding"] == 1
            assert made.engine.exits["callout"] >= 1
        made.close()
    assert results[0] == results[1] == (0x3FF0000000000002, 0x3FF0000000000002, 1)


# --- faults -----------------------------------------------------------------------------------------


def test_a_fault_has_exact_registers_and_count() -> None:
    words = [
        asm("addi", rd=5, rs1=0, imm=1),
        asm("fcvt.d.w", rd=1, rs1=5, rm=0),
        asm("addi", rd=6, rs1=0, imm=2),
        asm("ld", rd=6, rs1=8, imm=0),
        asm("addi", rd=5, rs1=0, imm=9),
    ]
    made = rig("translated", words, s0=DATA + 0x2000)
    stop = made.run(1 << 60)
    assert (stop.cause, stop.value, made.state.pc, made.state.count) == (13, DATA + 0x2000, CODE + 12, 3)
    assert made.state.slots[5:7].tolist() == [1, 2]
    assert made.state.slots[34] == 0x3FF0000000000000
    assert made.engine.exits["side: memory"] == 1
    made.close()


def test_many_engines_in_one_process_fault_apart() -> None:
    rigs = [rig("translated", [asm("ld", rd=6, rs1=8, imm=0)], s0=DATA + 0x2000 + 8 * i) for i in range(5)]
    for i, made in enumerate(rigs):
        stop = made.run(1 << 60)
        assert (stop.cause, stop.value) == (13, DATA + 0x2000 + 8 * i)
    for made in rigs:
        made.close()


def test_an_engine_that_was_forgotten_serves_no_faults() -> None:
    """Its arena's addresses come to belong to others, whose faults must find their own table."""
    code = (
        "import gc, os, dragoman\n"
        "def go(size, close):\n"
        "    options = dragoman.Options(hot=0, cache_size=size)\n"
        "    process = dragoman.load('@smc', seed=0, stdout=os.open(os.devnull, os.O_WRONLY), options=options)\n"
        "    process.run()\n"
        "    assert process.stats()['writes_to_code_pages']\n"
        "    if close: process.close()\n"
        "go(8 << 20, False)\n"
        "gc.collect()\n"
        "for size in (1, 2, 3, 4): go(size << 20, True)\n"
        "print('well')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "well\n"), done.stderr


def test_engines_that_were_forgotten_do_not_keep_new_ones_out() -> None:
    """Only so many are served at once; who has closed none of his, and has none any more, may make more of them."""
    gc.disable()
    try:
        for _ in range(ARENAS + 1):
            made = rig("translated", [asm("ld", rd=6, rs1=8, imm=0)], s0=DATA + 0x2000)
            made.run(1 << 60)
    finally:
        gc.enable()
    made.close()


def test_a_fault_that_is_not_the_guests_is_given_back() -> None:
    """With the translator at work a real host fault still ends the process, through faulthandler."""
    code = (
        "import faulthandler, ctypes; faulthandler.enable()\n"
        "from dbt.process import Process; from guests import programs\n"
        "p = Process(programs.path('hello')); p.run(); print('ran', flush=True); ctypes.string_at(8)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60)
    assert done.returncode == -signal.SIGSEGV
    assert b"ran" in done.stdout
    assert b"Segmentation fault" in done.stderr


def test_another_handler_installed_later_does_not_take_guest_faults() -> None:
    import faulthandler

    image = elf(words_to_bytes([asm("addi", rd=5, rs1=0, imm=0), asm("ld", rd=6, rs1=5, imm=64)]))
    process = Process(image_file(image))
    faulthandler.enable()
    try:
        process.run()
    finally:
        faulthandler.disable()
    assert process.signal == signal.SIGSEGV
    process.close()


def image_file(image: bytes) -> str:
    fd = os.memfd_create("guest")
    os.write(fd, image)
    return f"/proc/self/fd/{fd}"


# --- fork, Ctrl-C, classes ------------------------------------------------------------------------------


def test_after_a_fork_both_sides_translate_for_themselves() -> None:
    made = rig("translated", [asm("addi", rd=5, rs1=5, imm=1)])
    made.run(1 << 60)
    child = os.fork()
    made.space.poke(CODE, words_to_bytes([asm("addi", rd=5, rs1=0, imm=7 if child else 8)]))
    made.state.pc = CODE
    made.run(1 << 60)
    right = made.state.slots[5] == (7 if child else 8)
    if not child:
        os._exit(0 if right else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert right
    made.state.pc = CODE
    made.run(1 << 60)
    assert made.state.slots[5] == 7
    made.close()


@pytest.mark.parametrize(
    "words",
    [
        [asm("jal", rd=0, imm=0)],
        [asm("csrrs (reads only)", csr=0xC01, rd=10), asm("jal", rd=0, imm=-4)],
        [asm("fence.i", imm=0, rs1=0, rd=0), asm("jal", rd=0, imm=-4)],
    ],
    ids=["jump", "callout", "flush"],
)
@pytest.mark.parametrize("engine", ENGINES)
def test_an_interrupt_ends_any_loop_with_exact_state(engine: str, words: list[int]) -> None:
    settings = Settings(engine=engine, options=Options(hot=2, tiers=(1,)))
    process = Process(image_file(elf(words_to_bytes(words))), (), settings)
    signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
    for _ in range(2):  # and it can go on
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(KeyboardInterrupt):
            process.run()
        assert process.instructions > 0
        assert not process.state.mid_block
    process.close()


def test_classes_are_counted_the_same_by_both_engines() -> None:
    words = [
        asm("csrrwi", csr=1, imm=0, rd=0),
        asm("csrrs (reads only)", csr=0xC00, rd=5),
        asm("csrrs (reads only)", csr=0xC01, rd=6),
        asm("fence.i", imm=0, rs1=0, rd=0),
        NOP,
    ]
    counts = []
    for engine in ENGINES:
        made = rig(engine, words)
        made.run(1 << 60)
        counts.append(made.engine.classes)
        made.close()
    assert counts[0] == counts[1] == {Treat.IDENT: 1, Treat.INLINE: 2, Treat.CALLOUT: 3}  # the ecall too


@pytest.mark.parametrize("hot", [0, 1, 3, 100])
def test_the_heat_threshold_changes_nothing_but_work(hot: int) -> None:
    made = rig("translated", LOOP, options=Options(hot=hot, tiers=(1,)), t2=50)
    assert made.run(1 << 60).trap
    assert (made.state.count, made.state.blocks, made.state.slots[6]) == (150, 50, 150)
    assert (made.engine.translator.stats.translations == 0) == (hot == 100)
    made.close()


def test_guest_memory_is_out_of_reach_beyond_its_region() -> None:
    """Every wild address is a guest fault; none reaches the host's memory around the reservation."""
    made = rig("translated", [asm("sd", rs1=8, rs2=8, imm=-8), asm("ld", rd=5, rs1=8, imm=2040)])
    size = made.space.size
    for base in (0, 8, size - 8, size, size + 4096, 1 << 47, (1 << 64) - 8, (1 << 64) - 4096, 1 << 63):
        made.state.slots[8] = base
        made.state.pc = CODE
        stop = made.run(1 << 60)
        assert stop.cause in (13, 15), hex(base)
        assert made.state.pc == CODE
    made.close()


def test_the_memory_of_the_host_is_out_of_reach() -> None:
    """An address that, added to where guest memory is, gives a place of ours: far beyond the guard zones."""
    made = rig("translated", [asm("sd", rs1=8, rs2=8, imm=0), asm("ld", rd=5, rs1=8, imm=0)])
    ours = ctypes.create_string_buffer(4096)
    address = ctypes.addressof(ours) + 2048 - made.space.base & (1 << 64) - 1
    for pc, cause in ((CODE, 15), (CODE + 4, 13)):
        made.state.slots[8], made.state.pc = address, pc
        stop = made.run(1 << 60)
        assert (stop.cause, stop.value, made.state.pc) == (cause, address, pc)
    assert ours.raw == bytes(4096)
    made.close()


def test_the_state_is_where_ctypes_says() -> None:
    made = rig("reference", [])
    made.state.slots[5] = 0x1122334455667788
    assert ctypes.c_uint64.from_address(made.state.address + SLOTS + 40).value == 0x1122334455667788
    assert made.space.protection(DATA) == READ | WRITE
    made.close()
