"""Accesses of bytes that are one in a region, against the reference: values, faults in their middle, code."""

from __future__ import annotations

from random import Random

import pytest
from support.regions import (
    A0,
    CODE,
    DATA,
    ECALL,
    NOP,
    S0,
    S1,
    T0,
    ZERO,
    Item,
    addi,
    assemble,
    both,
    closed,
    text_of,
)
from support.riscv import GUEST, Rig, asm, words_to_bytes

from dbt.hosts.x86_64 import X86_64
from dbt.options import Options
from dbt.regions import Request
from guests.riscv import machine, traps

LAST = DATA + 0x2000  # nothing is mapped here
TEMPORARY = range(20, 28)
ON = ("beq", ZERO, ZERO, "on"), "on"  # so that a loop has two blocks


def load_word(count: int, order: list[int], backwards: bool = False, to: int = A0) -> list[int]:
    """An unsigned word at s1, put together from its bytes."""
    words = [asm("lbu", rd=TEMPORARY[i], rs1=S1, imm=count - 1 - i if backwards else i) for i in order]
    words += [asm("slli", rd=TEMPORARY[i], rs1=TEMPORARY[i], imm=8 * i) for i in range(1, count)]
    words += [asm("or", rd=TEMPORARY[0], rs1=TEMPORARY[0], rs2=TEMPORARY[i]) for i in range(1, count)]
    return [*words, addi(to, TEMPORARY[0], 0)]


def store_word(count: int, order: list[int]) -> list[int]:
    """The low bytes of a0 at s0."""
    words = [asm("srli", rd=TEMPORARY[i], rs1=A0, imm=8 * i) for i in range(1, count)]
    return [*words, *(asm("sb", rs1=S0, rs2=TEMPORARY[i] if i else A0, imm=i) for i in order)]


def orders(count: int) -> list[list[int]]:
    half = count // 2
    return [[*range(count)], [*range(count)][::-1], [*range(half, count), *range(half)]]


def loop(*body: Item, step: int) -> list[int]:
    words, _ = assemble("loop", *body, *ON, addi(S0, S0, step), addi(S1, S1, step), addi(T0, T0, -1),
                        ("bne", T0, ZERO, "loop"), ECALL)  # fmt: skip
    return words


def filled(rig: Rig) -> None:
    rig.space.poke(DATA, Random(7).randbytes(0x2000))


@pytest.mark.usefixtures("registers")
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("count", [2, 4, 8])
def test_words_are_loaded_and_stored_at_any_alignment(count: int, backwards: bool) -> None:
    for order in orders(count):
        words = loop(*load_word(count, order, backwards), *store_word(count, order), step=3)
        closed(*both(words, s0=DATA + 1, s1=DATA + 0x1001, t0=40, prepare=filled))


@pytest.mark.usefixtures("registers")
@pytest.mark.parametrize("count", [2, 4, 8])
@pytest.mark.parametrize("kind", ["load", "store"])
def test_a_word_that_is_mapped_in_part_faults_at_its_byte(kind: str, count: int) -> None:
    """The bytes before that one have been stored, in the order in which the guest does it."""
    for order in orders(count):
        body = load_word(count, order) if kind == "load" else store_word(count, order)
        words = loop(*body, step=1)
        reference, translated = both(words, s0=LAST - 64, s1=LAST - 64, a0=0x8877665544332211, t0=99, prepare=filled)
        stop = translated.run(1 << 40)
        assert stop.cause == (traps.LOAD_PAGE_FAULT if kind == "load" else traps.STORE_PAGE_FAULT)
        assert stop.value == LAST
        closed(reference, translated)


@pytest.mark.parametrize("count", [2, 4, 8])
def test_a_word_is_stored_over_code(count: int) -> None:
    """Instructions of the loop itself, by bytes: what they were before comes again, or something else."""
    words = loop(*store_word(count, orders(count)[2]), NOP, NOP, NOP, addi(28, 28, 1), step=0)
    at = CODE + 4 * words.index(NOP)
    changed = words_to_bytes([addi(29, 29, 1), addi(30, 30, 1)])
    for code in (words_to_bytes([NOP, NOP]), changed):
        reference, translated = both(words, s0=at, a0=int.from_bytes(code, "little"), t0=9, share=0)
        assert translated.state.slots[29] == (9 if code == changed and count > 2 else 0)
        closed(reference, translated)


def test_a_machine_has_narrow_accesses() -> None:
    """Where a page ends, one that is wide would be left to the monitor."""
    words, _ = assemble(*load_word(4, [0, 1, 2, 3]), ECALL)
    request = Request(((CODE, True),), {CODE: 1}, {}, ((CODE, words_to_bytes(words[:-1])),))
    byte = X86_64.loads[1, False]
    counts = [text_of(request, Options(), guest).count(byte) for guest in (GUEST, machine.guest())]
    assert counts == [0, 4]
