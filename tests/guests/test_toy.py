"""The toy guest: decoding, meanings in both engines, and that it needs nothing of RISC-V."""

from __future__ import annotations

import subprocess
import sys
from random import Random

import pytest
from support.riscv import scaled

import guests
from dbt.lab.workbench import CODE, Machine, asm
from dbt.options import Options
from dbt.reference import Stop
from guests.decode import encode, layout, overlaps
from guests.toy.interrupts import FETCH_FAULT, HALT, ILLEGAL_INSTRUCTION, INTERRUPT, MISALIGNED, TABLE, vector
from guests.toy.registers import IE, LR, NONE, SLOTS

TOY = guests.load("toy")
ENGINES = pytest.mark.parametrize("translated", [False, True], ids=["reference", "translated"])


def toy(name: str, **fields: int) -> int:
    return asm(TOY, name, **fields)


def machine(words: list[int], translated: bool) -> Machine:
    return Machine(TOY, words, translated, Options(hot=0) if translated else None)


def test_rows() -> None:
    assert overlaps(TOY.rows) == []
    assert [row.name for row in TOY.rows] == ["add", "cli", "sti", "jump", "iret", "halt"]
    assert all(layout(row.pattern).length == 4 for row in TOY.rows)
    assert TOY.slots == SLOTS and max(r.slot for r in TOY.registers) < NONE


@pytest.mark.parametrize(
    ("word", "text"),
    [
        (toy("add", rd=31, rs1=1, rs2=2), "add r31, r1, r2"),
        (toy("cli"), "cli"),
        (toy("sti"), "sti"),
        (toy("jump", imm=-8), "jump 0xfff8"),
        (toy("iret"), "iret"),
        (toy("halt"), "halt"),
    ],
)
def test_disassembly(word: int, text: str) -> None:
    decoded = TOY.decode(word)
    assert decoded is not None
    assert TOY.disassemble(decoded, CODE) == text


def test_decode_gives_back_what_was_encoded() -> None:
    rng = Random(3)
    add, jump = TOY.rows[0], TOY.rows[3]
    for _ in range(scaled(500)):
        fields = {name: rng.randrange(32) for name in ("rd", "rs1", "rs2")}
        decoded = TOY.decode(encode(add, **fields))
        assert decoded is not None and {n: getattr(decoded.operands, n) for n in fields} == fields
        distance = rng.randrange(-(1 << 23), 1 << 23) * 4
        decoded = TOY.decode(encode(jump, imm=distance))
        assert decoded is not None and decoded.operands.imm == distance & (1 << 64) - 1


@pytest.mark.parametrize("word", [0xFFFFFFFF, toy("add", rd=0, rs1=0, rs2=0) | 1 << 31, toy("cli") | 1 << 8, 0, 0x1002])
def test_illegal_words(word: int) -> None:
    assert TOY.decode(word) is None


def test_there_is_one_form_of_it() -> None:
    assert guests.load("toy") is guests.load("toy", "toy")
    for isa, extensions in (("rv64gc", ()), (None, (object(),))):
        with pytest.raises(ValueError, match="the toy has no extensions"):
            guests.load("toy", isa, extensions)


@ENGINES
def test_program(translated: bool) -> None:
    words = [toy("cli"), toy("add", rd=1, rs1=1, rs2=2), toy("jump", imm=8), toy("add", rd=1, rs1=1, rs2=1), toy("sti"),
             toy("halt")]  # fmt: skip
    with machine(words, translated) as m:
        m.set(r1=40, r2=2)
        assert m.call() == Stop(True, HALT)
        assert (m.get("r1"), m.get("ie"), m.state.count, m.state.pc) == (42, 1, 4, CODE + 20)


@ENGINES
def test_sums_are_modulo_2_to_the_64(translated: bool) -> None:
    with machine([toy("add", rd=0, rs1=0, rs2=0), toy("halt")], translated) as m:
        m.set(r0=(1 << 63) + 5)
        m.call()
        assert m.get("r0") == 10  # and r0 is a register like any other


@ENGINES
def test_iret_restores_flag_and_address(translated: bool) -> None:
    with machine([toy("iret"), toy("halt"), toy("halt")], translated) as m:
        m.set(lr=CODE + 8)
        assert m.call() == Stop(True, HALT)
        assert (m.get("ie"), m.state.pc, m.state.count) == (1, CODE + 8, 1)


@ENGINES
@pytest.mark.parametrize(
    ("words", "lr", "stop"),
    [
        ([0], 0, Stop(True, ILLEGAL_INSTRUCTION, 0)),
        ([0xFFFFFFFF], 0, Stop(True, ILLEGAL_INSTRUCTION, 0xFFFFFFFF)),
        ([toy("iret")], CODE + 2, Stop(True, MISALIGNED, CODE + 2)),
        ([toy("iret")], 0x5000_0000, Stop(True, FETCH_FAULT, 0x5000_0000)),
    ],
)
def test_traps(words: list[int], lr: int, stop: Stop, translated: bool) -> None:
    with machine(words, translated) as m:
        m.set(lr=lr)
        assert m.call() == stop


def test_interrupt_entry() -> None:
    slots = [0] * SLOTS
    slots[IE] = 1
    assert vector(slots, 0x1234) == TABLE[INTERRUPT]
    assert slots[IE] == 0 and slots[LR] == 0x1234


def test_engines_agree_on_random_programs() -> None:
    """Forward jumps, additions, flag changes: every register, the counts and the trap are equal."""
    rng = Random(11)
    for case in range(scaled(30)):
        length = rng.randrange(1, 40)
        words = []
        for at in range(length):
            words.append(rng.choice((
                toy("add", rd=rng.randrange(32), rs1=rng.randrange(32), rs2=rng.randrange(32)),
                toy("add", rd=rng.randrange(8), rs1=rng.randrange(8), rs2=rng.randrange(8)),
                toy("cli"),
                toy("sti"),
                toy("jump", imm=4 * rng.randrange(1, length - at + 1)),
            )))  # fmt: skip
        words.append(toy("halt"))
        values = {f"r{i}": rng.getrandbits(64) for i in range(32)}
        ends = []
        for translated in (False, True):
            with machine(words, translated) as m:
                m.set(**values)
                stop = m.call()
                ends.append((stop, m.state.registers(), m.state.count, m.state.blocks, m.engine.classes))
        assert ends[0] == ends[1], f"case {case}"
        assert ends[0][0] == Stop(True, HALT)


def test_needs_nothing_of_another_guest() -> None:
    probe = "import sys, guests; guests.load('toy'); sys.exit(any(m.startswith('guests.riscv') for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", probe]).returncode == 0


def test_unknown_guest_names_what_there_is() -> None:
    with pytest.raises(KeyError, match="riscv64, toy"):
        guests.load("vax")
