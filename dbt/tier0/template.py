"""The domain of holes: a body runs once with operands that are not known yet, and leaves a template behind.

A register field is a hole for the displacement of its slot, an immediate one for its value, an address one that the
copier knows. What a body must know while it runs (a rounding mode, a CSR's number) is asked for with `NeedsStatic`,
and the row then has a template for each value that it may have.
Owns: this reading of bodies. Must not know: how templates are lowered, copied, found by an instruction word.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from guests.spec import Guest, Row
from ir.block import Block, Branch, Continue, GuestInsn, Indirect, Inst, Jump, Value
from ir.builder import Builder, NeedsCallout, SlotFile
from ir.passes import fold, getset

REGISTERS = ("rd", "rs1", "rs2", "rs3")


class NeedsStatic(Exception):
    """The body must know this operand field."""

    def __init__(self, field: str) -> None:
        super().__init__(field)
        self.field = field


class Unsuited(Exception):
    """The body cannot be a template; the message says why."""


class SlotHole(NamedTuple):
    """The displacement of a register's slot: of the file that begins at slot `first`, by an operand field."""

    first: int
    field: str

    def __str__(self) -> str:
        return f"slot.{self.first}.{self.field}" if self.first else self.field


class RegisterField:
    """A register operand that is not known yet."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __radd__(self, first: int) -> SlotHole:
        return SlotHole(first, self.name)


class Fields:
    """The operands of a row: holes, and what is known. `same`: fields that are always those of another name."""

    def __init__(self, template: Template, known: Mapping[str, int], same: Mapping[str, str]) -> None:
        self._template = template
        self._known = known
        self._same = same

    def __getattr__(self, name: str) -> Any:
        if name in self._known:
            return self._known[name]
        if name in REGISTERS:
            return RegisterField(self._same.get(name, name))
        if name == "imm":
            return self._template.hole("imm")
        raise NeedsStatic(name)


class _File(SlotFile):
    """A register file in which no slot is read that a body has written: two holes may name one slot."""

    def __init__(self, builder: Template, *arguments: Any) -> None:
        super().__init__(builder, *arguments)
        self._template = builder

    def __getitem__(self, number: int) -> Value:
        if self._template.written and isinstance(number, RegisterField):
            raise Unsuited("it reads a register after it wrote one")
        return super().__getitem__(number)

    def __setitem__(self, number: int, value: Value) -> None:
        self._template.written = self._template.written or isinstance(number, RegisterField)
        super().__setitem__(number, value)


class Template(Builder):
    """Builds the template of one body."""

    def __init__(self, guest: Guest) -> None:
        accesses = None if guest.privileged is None else guest.privileged.accesses
        super().__init__(0, False, guest.align, guest.rounding_slot, accesses)
        self.written = False

    def files(self) -> Callable[..., SlotFile]:
        return lambda first, count, zero=None, sink=None: _File(self, first, zero, sink)

    def hole(self, name: str, bits: int = 32) -> Inst:
        return self.emit("hole", (), (name, bits))

    def pc(self) -> Any:
        return self.hole("pc", 64)

    def next_pc(self) -> Any:
        return self.hole("next", 64)

    def goto(self, displacement: Any) -> None:
        self._exit = Jump(displacement)

    def branch(self, condition: Value, displacement: Any) -> None:
        self._exit = Branch(condition, displacement, 0)


def template(guest: Guest, row: Row, known: Mapping[str, int]) -> Block:
    """The block of one row. Raises NeedsStatic, NeedsCallout, Unsuited."""
    builder = Template(guest)
    guest.link(builder)
    builder.begin(GuestInsn(0, 4, row.name, row.treat.value))
    assert row.body is not None
    try:
        same = {name: other for name, other in row.fixed if isinstance(other, str)}
        row.body(builder, Fields(builder, known, same))  # type: ignore[arg-type]
    except TypeError as error:  # Python's own arithmetic on a hole
        raise Unsuited(str(error)) from error
    if isinstance(builder.taken, Indirect) and isinstance(builder.taken.target, int):
        raise Unsuited("it jumps to a constant")
    exit = builder.taken
    if exit is None:  # where addresses mean something else, what lies behind may be elsewhere
        remaps = any(inst.op.name == "remaps" for inst in builder.block.insts)
        exit = Indirect(builder.next_pc()) if remaps else Continue(0)
    return fold.run(getset.run(builder.finish(exit)))  # a slot read after it was written is the value


__all__ = ["Fields", "NeedsCallout", "NeedsStatic", "SlotHole", "Unsuited", "template"]
