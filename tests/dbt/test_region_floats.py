"""Floating point in regions: registers are variables of the kind that is computed with, and hold the same bits anyway.

Every run is compared with the reference interpreter. Each test makes sure that it was regions that ran.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from random import Random

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
    S0,
    S1,
    T0,
    T1,
    ZERO,
    Item,
    addi,
    assemble,
    both,
    closed,
    made_of,
    text_of,
)
from support.riscv import GUEST, Rig, asm, boxed, draw, is_float, random_float_register, register_fields, scaled

from dbt.arena import Arena
from dbt.backend import compiler
from dbt.engine import Translated
from dbt.hosts import select
from dbt.options import Options
from guests.decode import layout
from guests.riscv.registers import FFLAGS, F
from guests.spec import Row

ACCESSES = ("flw", "fld", "fsw", "fsd")
ROWS = tuple(r for r in GUEST.rows if r.name in ACCESSES or (r.extension in ("f", "d", "zfa") and not r.may_trap))


def program(rng: Random) -> list[int]:
    """A loop of blocks that compute with few registers in both widths, load, store, and branch by what they find."""
    items: list[Item] = ["loop"]
    for number in range(6):
        items += [drawn(rng.choice(ROWS), rng) for _ in range(rng.randrange(1, 8))]
        where = ("bne", rng.choice((A0, A1)), ZERO, f"on{number}")
        items += [asm("andi", rd=A1, rs1=T0, imm=1 << number % 3), where, drawn(rng.choice(ROWS), rng), f"on{number}"]
    return assemble(*items, addi(S1, S1, 8), addi(T0, T0, -1), ("bne", T0, ZERO, "loop"), ECALL)[0]


def drawn(row: Row, rng: Random) -> int:
    """An instruction on some registers of few; an access is by s0 or s1."""
    access = row.name in ACCESSES
    chosen: dict[str, int | tuple[int, ...]] = {
        field: tuple(range(6)) if is_float(row, field) else (S0, S1) if access else (A0, A2, A3)
        for field in register_fields(row)
    }  # fmt: skip
    if access:
        chosen["imm"] = (0, 8, 16, 20)
    if any(field.name == "rm" for field in layout(row.pattern).fields):
        chosen["rm"] = (0, 0, 0, 7, 1)
    return draw(row, rng, **chosen)


def content(rng: Random) -> Callable[[Rig], None]:
    """Registers and memory with floats of both widths, NaNs and what is no box among them."""
    registers = [random_float_register(rng) for _ in range(32)]
    data = b"".join(random_float_register(rng).to_bytes(8, "little") for _ in range(0x400))

    def prepare(rig: Rig) -> None:
        for number, value in enumerate(registers):
            rig.state.slots[F + number] = value
        rig.space.poke(DATA, data)

    return prepare


@pytest.mark.usefixtures("registers")
@pytest.mark.parametrize("seed", range(scaled(30)))
def test_loops_of_floating_point_at_random(seed: int) -> None:
    """Stopped again and again, and to the end, which is a fault in one of two."""
    rng = Random(seed)
    words, prepare = program(rng), content(rng)
    end = DATA + 0x1FE8 - (8 * rng.randrange(10, 60) if seed % 2 else 0x1000)
    strides = tuple(rng.randrange(1, 300) for _ in range(20))
    closed(*both(words, Options(hot=0), prepare, strides, share=0.2, t0=80, s0=DATA, s1=end))


def test_what_is_computed_with_as_a_float_is_one() -> None:
    words, _ = assemble("loop", asm("fadd.s", rd=1, rs1=1, rs2=2, rm=0), asm("fadd.d", rd=3, rs1=3, rs2=3, rm=0),
                        asm("fcvt.d.s", rd=4, rs1=1, rm=0), ("jal", ZERO, "loop"))  # fmt: skip
    rig = made_of(words, Options(hot=0))
    assert isinstance(rig.engine, Translated)
    text = text_of(rig.engine.request((CODE, True)), Options())
    rig.close()
    found = dict(re.findall(r"%r(\d+) = alloca (\w+)", text))
    assert [found[str(F + number)] for number in (1, 2, 3, 4)] == ["float", "float", "double", "double"]


def test_an_integer_register_is_no_float() -> None:
    """Not even one that the bits of what was computed are moved to."""
    words, _ = assemble("loop", asm("fadd.d", rd=1, rs1=1, rs2=2, rm=0), asm("fmv.x.d", rd=A0, rs1=1),
                        asm("fadd.s", rd=3, rs1=3, rs2=4, rm=0), asm("fmv.x.d", rd=A1, rs1=3),
                        ("jal", ZERO, "loop"))  # fmt: skip
    rig = made_of(words, Options(hot=0))
    assert isinstance(rig.engine, Translated)
    found = dict(re.findall(r"%r(\d+) = alloca (\w+)", text_of(rig.engine.request((CODE, True)), Options())))
    rig.close()
    assert {found[str(register)] for register in (A0, A1)} == {"i64"}


def test_ones_above_an_integer_make_no_single_of_it() -> None:
    """Constants of a program, and tags of pointers, may have the bits of a box."""
    words, _ = assemble(
        "loop", addi(A0, ZERO, -1), asm("slli", rd=A0, rs1=A0, imm=32), asm("or", rd=A1, rs1=A1, rs2=A0),
        asm("addw", rd=A2, rs1=A1, rs2=A0), addi(T0, T0, -1), ("bne", T0, ZERO, "loop"), ECALL,
    )  # fmt: skip
    reference, translated = both(words, Options(hot=0), share=0, t0=300, a1=0x1234_5678_9ABC_DEF0)
    assert isinstance(translated.engine, Translated)
    assert translated.state.slots[A1] == 0xFFFF_FFFF_9ABC_DEF0
    assert "float" not in re.findall(r"= alloca (\w+)", text_of(translated.engine.request((CODE, True)), Options()))
    closed(reference, translated)


@pytest.mark.usefixtures("registers")
@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_register_that_is_no_single_keeps_all_bits(turns: int) -> None:
    """f1 holds a double and is read as a single, which it is not; f2 is made one in the second turn."""
    words, _ = assemble(
        "loop", asm("fadd.s", rd=3, rs1=1, rs2=1, rm=0), asm("fsd", rs1=S0, rs2=1, imm=8), ("bne", T0, T1, "on"),
        asm("fmul.s", rd=2, rs1=4, rs2=4, rm=0), "on", asm("fsd", rs1=S0, rs2=2, imm=16), addi(T0, T0, -1),
        ("bne", T0, ZERO, "loop"), ECALL,
    )  # fmt: skip
    half, pi = 0x3FE0_0000_0000_0000, 0x4009_21FB_5444_2D18

    def prepare(rig: Rig) -> None:
        rig.state.slots[F + 1], rig.state.slots[F + 2], rig.state.slots[F + 4] = half, pi, boxed(0x4000_0000)

    reference, translated = both(words, Options(hot=0), prepare, t0=turns, t1=turns - 1, s0=DATA, share=0)
    wanted = [half, pi if turns == 1 else boxed(0x4080_0000), boxed(0x7FC0_0000)]
    assert list(translated.state.slots[F + 1 : F + 4]) == wanted
    closed(reference, translated)


@pytest.mark.usefixtures("registers")
def test_what_was_no_single_is_one_once_it_is_written() -> None:
    words, _ = assemble("loop", asm("fmul.s", rd=2, rs1=4, rs2=4, rm=0), addi(T0, T0, -1), ("bne", T0, ZERO, "loop"),
                        ECALL)  # fmt: skip

    def prepare(rig: Rig) -> None:
        rig.state.slots[F + 2], rig.state.slots[F + 4] = 0x4009_21FB_5444_2D18, boxed(0x4000_0000)

    reference, translated = both(words, Options(hot=0), prepare, t0=30, share=0)
    assert translated.state.slots[F + 2] == boxed(0x4080_0000)
    closed(reference, translated)


@pytest.mark.usefixtures("registers")
@pytest.mark.parametrize(("name", "store"), [("fadd.s", "fsw"), ("fadd.s", "fsd"), ("fadd.d", "fsd")])
def test_what_is_stored_is_the_guests_nan(name: str, store: str) -> None:
    """In the block that computes it, twice; and the sum is one more operand."""
    words, _ = assemble(
        "loop", asm(name, rd=9, rs1=8, rs2=8, rm=7), asm(store, rs1=S0, rs2=9, imm=0),
        asm(store, rs1=S0, rs2=9, imm=8), asm(name, rd=9, rs1=9, rs2=9, rm=7), asm(store, rs1=S0, rs2=9, imm=16),
        addi(T0, T0, -1), ("bne", T0, ZERO, "loop"), ECALL,
    )  # fmt: skip

    def payload(rig: Rig) -> None:
        rig.state.slots[F + 8] = 0xFFF8_0000_0000_1234 if name == "fadd.d" else boxed(0xFFC0_1234)

    rigs = both(words, Options(hot=0), payload, share=0, t0=100, s0=DATA)
    wanted = 0x7FF8 << 48 if name == "fadd.d" else boxed(0x7FC0_0000) if store == "fsd" else 0x7FC0_0000
    assert [rig.space.peek(DATA, 24) for rig in rigs] == [wanted.to_bytes(8, "little") * 3] * 2
    closed(*rigs)


@pytest.mark.usefixtures("registers")
@pytest.mark.parametrize("width", ["s", "d"])
def test_what_is_seen_in_another_block_is_what_was_put_there(width: str) -> None:
    """In turns the sum, whose NaN the host gives a payload that is not the guest's, and a NaN from memory whose payload
    is. Where ways have met, its bits are stored and moved to registers of both kinds, and nothing else changes it.
    """
    load, store, to_integer = ("flw", "fsw", "fmv.x.w") if width == "s" else ("fld", "fsd", "fmv.x.d")
    words, _ = assemble(
        "loop", asm("andi", rd=A1, rs1=T0, imm=1), ("bne", A1, ZERO, "loaded"),
        asm(f"fadd.{width}", rd=9, rs1=8, rs2=8, rm=7), ("jal", ZERO, "met"),
        "loaded", asm(load, rs1=S0, rd=9, imm=0), "met", asm(store, rs1=S1, rs2=9, imm=0),
        asm(to_integer, rd=A2, rs1=9), asm(f"fsgnj.{width}", rd=10, rs1=9, rs2=9), asm("sd", rs1=S1, rs2=A2, imm=8),
        asm("fsd", rs1=S1, rs2=10, imm=16), ("bne", ZERO, ZERO, "on"), "on", asm("fsd", rs1=S1, rs2=9, imm=24),
        addi(S1, S1, 32), addi(T0, T0, -1), ("bne", T0, ZERO, "loop"), ECALL,
    )  # fmt: skip
    payload, canonical = (0xFFC0_1234, 0x7FC0_0000) if width == "s" else (0xFFF8_0000_0000_1234, 0x7FF8 << 48)

    def prepare(rig: Rig) -> None:
        rig.state.slots[F + 8] = boxed(payload) if width == "s" else payload
        rig.space.poke(DATA, payload.to_bytes(8, "little"))

    rigs = both(words, Options(hot=0), prepare, share=0, t0=50, s0=DATA, s1=DATA + 8)
    for turn, wanted in enumerate((canonical, payload) * 25):
        whole = boxed(wanted) if width == "s" else wanted
        moved = wanted | -(wanted >> 31 << 31) & (1 << 64) - 1 if width == "s" else wanted
        stored = b"".join(each.to_bytes(8, "little") for each in (wanted, moved, whole, whole))
        assert rigs[1].space.peek(DATA + 8 + 32 * turn, 32) == stored
    closed(*rigs)


@pytest.mark.usefixtures("registers")
@pytest.mark.parametrize("width", ["s", "d"])
def test_looking_for_a_nan_raises_no_flag_and_changes_no_infinity(width: str) -> None:
    """f9 comes in as a signaling NaN, which is stored while another way would compute it; f10 is an infinite sum."""
    store = "fsw" if width == "s" else "fsd"
    words, _ = assemble(
        "loop", ("bne", T0, T1, "sums"), asm(f"fadd.{width}", rd=9, rs1=8, rs2=8, rm=7), "sums",
        asm(store, rs1=S0, rs2=9, imm=0), asm(f"fadd.{width}", rd=10, rs1=8, rs2=8, rm=7), ("bne", ZERO, ZERO, "on"),
        "on", asm(store, rs1=S0, rs2=10, imm=8), asm("csrrs (reads only)", rd=A2, csr=1), addi(T0, T0, -1),
        ("bne", T0, ZERO, "loop"), ECALL,
    )  # fmt: skip
    signaling, infinity = (0x7F80_0001, 0xFF80_0000) if width == "s" else (0x7FF0_0000_0000_0001, 0xFFF0 << 48)

    def prepare(rig: Rig) -> None:
        for number, value in ((8, infinity), (9, signaling)):
            rig.state.slots[F + number] = boxed(value) if width == "s" else value

    for end in (0, 1):  # it is never computed, or in the last turn
        rigs = both(words, Options(hot=0), prepare, (100,), share=0, t0=50, t1=end, s0=DATA)
        slots = rigs[1].state.slots
        wanted = [infinity if end else signaling, infinity]
        assert list(slots[F + 9 : F + 11]) == [boxed(each) if width == "s" else each for each in wanted]
        assert slots[FFLAGS] == slots[A2] == 0
        closed(*rigs)


@pytest.mark.parametrize("name", ["fadd.s", "fadd.d"])
def test_a_landing_leaves_the_guests_nan(name: str) -> None:
    """The host passes a payload on; what faults leaves before the block's end, where NaNs become canonical."""
    words, _ = assemble(
        "loop", asm(name, rd=9, rs1=8, rs2=8, rm=7), asm("ld", rd=A0, rs1=A1, imm=0),
        addi(A1, A1, 8), ("jal", ZERO, "loop"),
    )  # fmt: skip

    def payload(rig: Rig) -> None:
        rig.state.slots[F + 8] = 0xFFF8_0000_0000_1234 if name == "fadd.d" else boxed(0xFFC0_1234)

    rigs = both(words, Options(hot=0), payload, share=0, a1=DATA + 0x2000 - 8 * 300)
    wanted = 0x7FF8 << 48 if name == "fadd.d" else boxed(0x7FC0_0000)
    assert [rig.state.slots[F + 9] for rig in rigs] == [wanted] * 2
    engine = rigs[1].engine
    assert isinstance(engine, Translated)
    made = engine.cache.get((CODE, True))
    assert made is not None and engine.cache.retired(made) > 1000
    text = text_of(engine.request((CODE, True)), Options())
    assert f"%r{F + 9} = alloca" in text
    closed(*rigs)


def test_a_landing_leaves_the_guests_nan_in_a_register_that_is_no_variable() -> None:
    """The host passes a payload on; the register is used in one block of a dozen, so it stays in the CPU state."""
    idle = [item for i in range(11) for item in (NOP, ("bne", ZERO, ZERO, f"next{i}"), f"next{i}")]
    words, _ = assemble(
        "loop", *idle, asm("fadd.d", rd=9, rs1=8, rs2=8, rm=7), asm("ld", rd=A0, rs1=A1, imm=0), addi(A1, A1, 8),
        ("jal", ZERO, "loop"),
    )  # fmt: skip

    def payload(rig: Rig) -> None:
        rig.state.slots[F + 8] = 0xFFF8_0000_0000_1234

    rigs = both(words, Options(hot=0), payload, a1=DATA + 0x2000 - 8 * 300)
    assert [rig.state.slots[F + 9] for rig in rigs] == [0x7FF8 << 48] * 2
    engine = rigs[1].engine
    assert isinstance(engine, Translated)
    text = text_of(engine.request((CODE, True)), Options())
    assert f"%r{F + 9} =" not in text
    closed(*rigs)


def test_a_choice_between_two_floats_that_are_constants() -> None:
    """LLVM makes a table of the two, as at the check of a box around a single that is known before a loop: it can be
    placed, and an exit slot's displacement is a constant still."""
    host = select.host().triple
    text = f"""target triple = "{host}"
@f.e0 = external global i8, !absolute_symbol !0
define void @f(ptr %s, i64 %a) {{
 %c = icmp ugt i64 %a, 5
 %x = select i1 %c, float 0.5, float 3.0
 %p = getelementptr i8, ptr %s, i64 ptrtoint (ptr @f.e0 to i64)
 store float %x, ptr %p
 ret void
}}
!0 = !{{i64 0, i64 2147483648}}
"""
    code = compiler(host, 2).compile(text, passes=Options().passes)
    assert len(code.text) > code.constants
    arena, place = Arena(1 << 16), (ctypes.c_float * 4)()
    arena.place(code, lambda symbol: 0)  # so that it lies elsewhere than at first
    at = arena.place(code, lambda symbol: 8)
    for number, wanted in ((5, 3.0), (6, 0.5)):
        ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint64)(at)(ctypes.addressof(place), number)
        assert list(place) == [0, 0, wanted, 0]


