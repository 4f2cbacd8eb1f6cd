"""Accesses of regions that are not looked at, because what came before tells that they are near the guest's memory.

Every run is compared with the reference interpreter: faults at the ends of the address space, far below and above it,
and registers that would be far away if a turn used them. Each test makes sure that it was regions that ran.
"""

from __future__ import annotations

import ctypes
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
    RA,
    REGIONS,
    RET,
    S0,
    S1,
    SP,
    T0,
    T1,
    ZERO,
    addi,
    assemble,
    both,
    closed,
)
from support.riscv import Rig, asm, words_to_bytes

import dragoman
import guests
from dbt.engine import Translated
from dbt.memory import GUARD
from dbt.options import Options
from dbt.state import SPACE_BITS
from guests.decode import encode
from guests.riscv import traps

TOP = 1 << SPACE_BITS
MASK = (1 << 64) - 1
ON = ("beq", ZERO, ZERO, "on"), "on"  # so that a loop has two blocks
LOAD = asm("ld", rd=A3, rs1=S0, imm=0)


def at_the_end(rig: Rig) -> None:
    rig.space.map(TOP - 0x1000, 0x1000, 3, fixed=True)


@pytest.mark.usefixtures("registers")
@pytest.mark.parametrize("store", [False, True])
@pytest.mark.parametrize("step", [8, 256, 2040])
def test_a_loop_that_goes_on_beyond_the_address_space_faults_there(step: int, store: bool) -> None:
    access = asm("sd", rs1=S0, rs2=A0, imm=0) if store else LOAD
    words, _ = assemble("loop", addi(A0, A0, 1), access, *ON, addi(S0, S0, step), ("bne", S0, ZERO, "loop"), ECALL)
    reference, translated = both(words, s0=TOP - 0x1000, prepare=at_the_end)
    stop = translated.run(1 << 40)
    assert (stop.cause, stop.value) == (traps.STORE_PAGE_FAULT if store else traps.LOAD_PAGE_FAULT,
                                        TOP - 0x1000 + -(-0x1000 // step) * step)  # fmt: skip
    closed(reference, translated)


@pytest.mark.usefixtures("registers")
def test_a_loop_that_goes_down_below_address_0_faults_there() -> None:
    words, _ = assemble("loop", addi(A0, A0, 1), LOAD, *ON, addi(S0, S0, -8), ("bne", S0, RA, "loop"), ECALL)
    reference, translated = both(
        words, s0=0xF8, ra=1, prepare=lambda rig: rig.space.map(0, 0x1000, 3, fixed=True) and None
    )
    stop = translated.run(1 << 40)
    assert (stop.cause, stop.value) == (traps.LOAD_PAGE_FAULT, MASK - 7)
    closed(reference, translated)


INDICES = {  # what a 32-bit index is, and how many bits it is shifted by
    "far below": (-1 << 31, 3), "far above": ((1 << 31) - 1, 3), "farther than what is known": (-1 << 31, 5),
    "beyond the address space": ((1 << 31) - 1, 9), "in between": (3, 12),
}  # fmt: skip


@pytest.mark.usefixtures("registers")
@pytest.mark.parametrize("index", INDICES)
@pytest.mark.parametrize("base", [DATA, TOP - 0x1000])
def test_an_index_faults_where_it_leads(index: str, base: int) -> None:
    """After some that lead into a table."""
    number, shift = INDICES[index]

    def prepare(rig: Rig) -> None:
        at_the_end(rig)
        rig.space.poke(DATA + 0x1000, b"".join((n & 0xFFFFFFFF).to_bytes(4, "little") for n in (0, 0, 0, 0, number)))

    words, _ = assemble(
        "loop", asm("lw", rd=T1, rs1=S1, imm=0), addi(S1, S1, 4), asm("slli", rd=T1, rs1=T1, imm=shift),
        asm("add", rd=T1, rs1=T1, rs2=S0), asm("ld", rd=A3, rs1=T1, imm=0), *ON, addi(A0, A0, 1),
        ("bne", A0, ZERO, "loop"), ECALL,
    )  # fmt: skip
    reference, translated = both(words, s0=base, s1=DATA + 0x1000, prepare=prepare)
    stop = translated.run(1 << 40)
    assert (stop.cause, stop.value) == (traps.LOAD_PAGE_FAULT, base + (number << shift) & MASK)
    assert translated.state.slots[A0] == 4
    closed(reference, translated)


@pytest.mark.usefixtures("registers")
def test_a_base_that_is_no_address_is_one_with_its_index() -> None:
    """The base is looked at, since the index has few bits; the monitor then does what the guest asks for."""
    words, _ = assemble(
        "loop", asm("lwu", rd=T1, rs1=S1, imm=0), asm("add", rd=T1, rs1=T1, rs2=S0), asm("ld", rd=A3, rs1=T1, imm=0),
        asm("add", rd=A2, rs1=A2, rs2=A3), addi(A0, A0, -1), ("bne", A0, ZERO, "loop"), ECALL,
    )  # fmt: skip

    def prepare(rig: Rig) -> None:
        rig.space.poke(DATA, (7).to_bytes(8, "little") + (DATA + 64).to_bytes(4, "little"))

    reference, translated = both(words, s0=-64 & MASK, s1=DATA + 8, a0=9, prepare=prepare, share=0)
    assert translated.state.slots[A2] == 63
    closed(reference, translated)


@pytest.mark.parametrize("junk", [MASK, TOP, 1 << 63, TOP + GUARD, -GUARD & MASK], ids=lambda junk: f"{junk:#x}")
@pytest.mark.parametrize("first", [False, True], ids=["second", "first"])
def test_what_is_asked_for_before_a_loop_need_not_be_used_by_it(junk: int, first: bool) -> None:
    """First turns use two registers, so that they are asked for; then one is no address, and no turn uses it."""
    wild, tame = (S0, S1) if first else (S1, S0)
    words, _ = assemble(
        "again", addi(T0, ZERO, 20),
        "loop", addi(A1, A1, 1), ("beq", A2, ZERO, "unused"), LOAD, asm("sd", rs1=S1, rs2=A3, imm=0), addi(S0, S0, 8),
        addi(S1, S1, 8),
        "unused", addi(T0, T0, -1), ("bne", T0, ZERO, "loop"),
        addi(T1, T1, -1), asm("sltiu", rd=A3, rs1=T1, imm=4), ("bne", A3, ZERO, "none"),
        addi(S0, S0, -160), addi(S1, S1, -160), ("jal", ZERO, "again"),
        "none", addi(A2, ZERO, 0), asm("add", rd=wild, rs1=RA, rs2=ZERO), ("bne", T1, ZERO, "again"), ECALL,
    )  # fmt: skip
    reference, translated = both(words, s0=DATA, s1=DATA + 256, ra=junk, a2=1, t1=40, share=0.3,
                                 prepare=lambda rig: rig.space.poke(DATA, bytes(range(160))))  # fmt: skip
    engine = translated.engine
    assert isinstance(engine, Translated)
    assert any(not t.key[1] for t in engine.cache.translations()), "code has gone on outside the region"
    slots = translated.state.slots
    assert slots[A1] == 40 * 20 and slots[wild] == junk and slots[tame] in (DATA + 160, DATA + 256 + 160)
    closed(reference, translated)


@pytest.mark.usefixtures("registers")
def test_code_that_is_entered_with_a_stack_that_is_no_address() -> None:
    """A function of a loop saves a register on it now and then; each region that is entered asks for it."""
    words, _ = assemble(
        "loop", addi(A1, A1, 1), ("jal", RA, "f"), addi(T0, T0, -1), ("bne", T0, ZERO, "loop"), ECALL,
        "f", asm("andi", rd=T1, rs1=T0, imm=7), ("bne", T1, A2, "without"), asm("sd", rs1=SP, rs2=A1, imm=-8),
        "without", RET,
    )  # fmt: skip
    closed(*both(words, t0=100, a2=3, sp=DATA + 0x1000))
    closed(*both(words, t0=100, a2=9, sp=MASK - 15, share=0))
    reference, translated = both(words, t0=100, a2=3, sp=MASK - 15, share=0)
    stop = translated.run(1 << 40)
    assert (stop.cause, stop.value) == (traps.STORE_PAGE_FAULT, MASK - 23)
    closed(reference, translated)


@pytest.mark.parametrize("tiers", [(1,), (0,)], ids=["region", "stencils"])
def test_an_offset_that_is_large_does_not_lead_to_the_memory_of_the_host(tiers: tuple[int, ...]) -> None:
    """That of an instruction of the user's own."""
    own = dragoman.Extension("xfar", "our manual")
    far = [0]

    @own.insn("x.far", "0000000 00000 rs1 000 rd 0001011", "rd, rs1")
    def load(m: Any, o: Any) -> None:
        """Loads from far away."""
        m.x[o.rd] = m.load(m.x[o.rs1], far[0], 8, False)

    ours = ctypes.create_string_buffer(4096)
    words = [encode(own.rows[0], rd=A0, rs1=S0), ECALL]
    rig = Rig(REGIONS, Options(hot=0, tiers=tiers, patience=0), translated=True,
              guest=guests.load("riscv64", extensions=[own]))  # fmt: skip
    far[0] = ctypes.addressof(ours) + 2048 - DATA - rig.space.base
    rig.space.poke(CODE, words_to_bytes(words))
    rig.state.pc, rig.state.slots[S0] = CODE, DATA
    stop = rig.run(1 << 40)
    assert (stop.cause, stop.value) == (traps.LOAD_PAGE_FAULT, DATA + far[0] & MASK)
    rig.close()


def test_the_guest_s_memory_has_nothing_around_it() -> None:
    """What the regions rely on: the host refuses all of it, so it is not mapped to anything."""
    rig = Rig(((CODE, 0x1000, 7),))
    low, high = rig.space.base - GUARD, rig.space.base + TOP + GUARD
    found = 0
    with open("/proc/self/maps") as maps:
        for line in maps:
            begin, end = (int(part, 16) for part in line.split()[0].split("-"))
            if begin < high and low < end:
                inside = rig.space.base <= begin and end <= rig.space.base + TOP
                assert inside or line.split()[1].startswith("---"), line
                found += max(0, min(end, high) - max(begin, low))
    assert found == high - low, "all of it is ours"
    rig.close()
