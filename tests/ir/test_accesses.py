"""Which accesses of a machine's region keep the page that they found last, on hand-made blocks."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ir.block import Block, Branch, Exit, GuestInsn, Inst, Jump, Value
from ir.builder import Builder
from ir.llvm.accesses import recent
from ir.llvm.emitter import slot_of
from ir.region import Region
from ir.verify import verify

STACK, P, Q, N, SAVED = 2, 8, 9, 10, 18  # slots
Fill = Callable[[Builder], None]


def get(b: Builder, slot: int) -> Value:
    value = b.emit("getreg", (), (slot,))
    assert value is not None
    return value


def put(b: Builder, slot: int, value: Value | int) -> None:
    b.emit("setreg", (value,), (slot,))


def made(b: Builder, op: str, *args: Value | int) -> Value:
    value = b.emit(op, args, ())
    assert value is not None
    return value


def load(b: Builder, base: Value, offset: int = 0) -> Value:
    value = b.emit("load", (base,), (offset, 8, False))
    assert value is not None
    return value


def block(pc: int, fill: Fill, exit: Exit | None = None, taken: int = 0) -> Block:
    """Of one instruction; without an exit it branches to `taken`, and else goes on behind itself."""
    b = Builder(pc)
    b.begin(GuestInsn(pc, 4, "made up", "ident"))
    fill(b)
    return verify(b.finish(exit or Branch(made(b, "eq", get(b, N), 0), taken, pc + 4)))


def kept(
    *blocks: Block, weights: dict[int, int] | None = None, most: int = 8
) -> list[tuple[int | None, bool, int]]:
    """Of each base that keeps a page: the slot, if it is a register; whether it is stored to; its pair."""
    region = Region(list(blocks), weights or {block.pc: 100 for block in blocks})
    return [(slot_of(base) if isinstance(base, Inst) and base.op.name == "getreg" else None, writing, number)
            for (base, writing), number in recent(region, STACK, most).items()]  # fmt: skip


def walks(b: Builder) -> None:
    """Copies from one array to another."""
    p, q = get(b, P), get(b, Q)
    b.emit("store", (q, load(b, p)), (0, 8))
    put(b, P, made(b, "add", p, 8))
    put(b, Q, made(b, "add", q, 8))


def test_pointers_that_go_on_keep_a_page_each_kind_its_own() -> None:
    assert kept(block(0x100, walks, taken=0x100)) == [(P, False, 0), (Q, True, 8)]


def test_loads_from_one_register_in_several_blocks_share_a_pair() -> None:
    def reads(b: Builder) -> None:
        load(b, get(b, P), 8)

    found = kept(block(0x100, walks, Jump(0x104)), block(0x104, reads, taken=0x100))
    assert found == [(P, False, 0), (Q, True, 8), (P, False, 0)]


def test_without_a_loop_none_does() -> None:
    assert kept(block(0x100, walks, Jump(0x200))) == []


def follows(b: Builder) -> None:
    put(b, P, load(b, get(b, P)))


def follows_through(b: Builder) -> None:
    put(b, Q, load(b, get(b, P)))
    put(b, P, get(b, Q))


def goes_down(b: Builder) -> None:
    load(b, get(b, P))
    put(b, P, made(b, "add", get(b, P), get(b, Q)))


@pytest.mark.parametrize("fill", [follows, follows_through, goes_down])
def test_lists_and_columns_do_not(fill: Fill) -> None:
    assert kept(block(0x100, fill, taken=0x100)) == []


def test_an_address_that_is_worked_out_has_a_pair_of_its_own() -> None:
    """A register that holds two pointers in turn would ask for the wrong page each time."""

    def two(b: Builder) -> None:
        index = made(b, "shl", made(b, "and", get(b, N), 0xFF), 3)
        for array in (P, Q):
            address = made(b, "add", get(b, array), index)
            put(b, SAVED, address)
            load(b, address)
        put(b, N, made(b, "add", get(b, N), 1))

    assert kept(block(0x100, two, taken=0x100)) == [(None, False, 0), (None, False, 1)]


def test_what_a_function_saved_on_the_stack_is_what_it_was() -> None:
    def uses(b: Builder) -> None:
        load(b, get(b, SAVED), 8)

    def restores(b: Builder) -> None:
        put(b, SAVED, load(b, get(b, STACK), 16))
        put(b, STACK, made(b, "add", get(b, STACK), 32))

    found = kept(block(0x100, uses, Jump(0x104)), block(0x104, restores, taken=0x100))
    assert (SAVED, False) in [each[:2] for each in found]


def test_the_innermost_loop_counts() -> None:
    """What comes from memory once in each turn of the outer loop is steady in the inner one."""

    def outer(b: Builder) -> None:
        put(b, P, load(b, get(b, Q)))
        load(b, get(b, P))
        put(b, Q, load(b, get(b, Q), 8))

    def inner(b: Builder) -> None:
        load(b, get(b, P))
        put(b, P, made(b, "add", get(b, P), 8))

    back = block(0x108, lambda b: None, Jump(0x100))
    assert kept(block(0x100, outer, Jump(0x104)), block(0x104, inner, taken=0x104), back) == [(P, False, 0)]


def test_the_most_executed_have_the_pairs() -> None:
    def reads(slot: int) -> Fill:
        return lambda b: (load(b, get(b, slot)), None)[1]

    blocks = [block(0x100 + 4 * i, reads(slot), taken=0x100) for i, slot in enumerate((P, Q, SAVED))]
    weights = {0x100: 10, 0x104: 30, 0x108: 20}
    assert kept(*blocks, weights=weights, most=2) == [(Q, False, 0), (SAVED, False, 1)]
