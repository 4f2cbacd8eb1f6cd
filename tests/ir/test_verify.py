"""The verifier: what it refuses, with the place it names, and that it accepts what it must."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ir.block import Block, Branch, Callout, Continue, GuestInsn, Indirect, Inst, Jump, type_of
from ir.ops import OPS
from ir.verify import InvalidIR, verify

GUEST = GuestInsn(0x1000, 4, "add a0, a0, a0", "ident")


def inst(name: str, *args: object, attrs: tuple[object, ...] = (), at: int = 0) -> Inst:
    return Inst(OPS[name], args, attrs, at)  # type: ignore[arg-type]


def block(*insts: Inst, exit: object = Callout(0x1004), guest: int = 1) -> Block:
    return Block(0x1000, True, list(insts), exit, [GUEST] * guest)  # type: ignore[arg-type]


def getreg(slot: int = 1) -> Inst:
    return inst("getreg", attrs=(slot,))


def used_before_definition() -> Block:
    value = getreg()
    return block(inst("add", value, 1), value)


def defined_twice() -> Block:
    value = getreg()
    return block(value, value)


def condition_of_another_block() -> Block:
    return block(exit=Branch(inst("eq", 1, 2), 0x1000, 0x1004))


def uses_a_store_as_value() -> Block:
    store = inst("store", 0, 0, attrs=(0, 8))
    return block(store, inst("add", store, 1))


def at(number: int) -> Callable[[], Block]:
    return lambda: block(inst("getreg", attrs=(1,), at=number))


REFUSED: dict[str, tuple[Callable[[], Block], str]] = {
    "too few arguments": (lambda: block(inst("add", 1)), r"instruction 0 \(add\): takes"),
    "too many arguments": (lambda: block(inst("not", True, True)), r"\(not\): takes"),
    "an attribute is missing": (lambda: block(inst("sext", 1)), r"\(sext\): takes"),
    "an attribute too many": (lambda: block(inst("add", 1, 2, attrs=(3,))), r"\(add\): takes"),
    "i1 where i64 is wanted": (lambda: block(inst("add", True, 1)), "has type i1, not i64"),
    "i64 where i1 is wanted": (lambda: block(inst("bit", 1)), "has type i64, not i1"),
    "a compare's result as a number": (lambda: block(c := inst("eq", 1, 2), inst("add", c, 1)), "has type i1, not i64"),
    "a number as a condition": (lambda: block(v := getreg(), exit=Branch(v, 0, 4)), "exit: .* has type i64, not i1"),
    "a truth value as an address": (lambda: block(exit=Indirect(True)), "exit: True has type i1, not i64"),
    "used before its definition": (used_before_definition, "is used before its definition"),
    "defined twice": (defined_twice, "defined twice"),
    "the exit uses what is not there": (condition_of_another_block, "exit: .* is used before its definition"),
    "a constant below zero": (lambda: block(inst("add", -1, 1)), "constant -1 is no unsigned 64-bit value"),
    "a constant that is too large": (lambda: block(inst("add", 1 << 64, 1)), "is no unsigned 64-bit value"),
    "a value of no kind": (lambda: block(inst("add", "1", 1)), "'1' is no value"),
    "a value of None": (lambda: block(inst("add", None, 1)), "None is no value"),
    "a float": (lambda: block(inst("add", 1.0, 1)), "1.0 is no value"),
    "beyond the guest instructions": (at(1), "belongs to guest instruction 1 of 1"),
    "before the guest instructions": (at(-1), "belongs to guest instruction -1 of 1"),
    "no exit": (lambda: block(exit=None), "exit: missing"),
    "an exit of no kind": (lambda: block(exit="return"), "exit: missing"),
    "a jump without an instruction": (lambda: block(exit=Jump(0x1000), guest=0), "a jump without a guest instruction"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    build, message = REFUSED[name]
    with pytest.raises(InvalidIR, match=message) as refused:
        verify(build())
    assert str(refused.value).startswith("block 0x1000, ")


def test_a_value_of_an_effect_is_refused() -> None:
    """The op defines nothing, so there is no type to have."""
    with pytest.raises((InvalidIR, TypeError), match="store"):
        verify(uses_a_store_as_value())


def test_accepted() -> None:
    value = getreg()
    condition = inst("ltu", value, (1 << 64) - 1)
    known = (Jump(0x1004), Callout(0x1004), Continue(0x1004))
    for exit in (Branch(condition, 0, 4), Branch(True, 0, 4), Indirect(value), Indirect(0), *known):
        good = block(value, condition, exit=exit)
        assert verify(good) is good


def test_accepted_without_guest_instructions() -> None:
    for exit in (Callout(0x1000), Continue(0x1000)):
        verify(block(exit=exit, guest=0))


def test_values_have_no_truth() -> None:
    """A Python `if` on a guest value in an instruction body must fail when it is lifted, not choose a way."""
    with pytest.raises(TypeError, match=r"use m\.select or m\.branch"):
        if getreg():
            pass


def test_types() -> None:
    assert type_of(True) == "i1" and type_of(1) == "i64" and type_of(getreg()) == "i64"
    assert type_of(inst("eq", 1, 2)) == "i1"
    with pytest.raises(TypeError, match="store defines no value"):
        type_of(inst("store", 0, 0, attrs=(0, 8)))
