"""A block that leads to itself becomes a loop of the host: what it writes stays in host registers from turn to turn.

The budget is tested at the head, as at the entry of any block, so that a loop stops where it must. Whatever leaves, at
the head, in the middle or at the end, puts back all that the loop carries.
Owns: what is carried, and the phis. Must not know: why the loop is left.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ir.block import Branch, Inst, Jump, Value
from ir.llvm.emitter import Emitter, Place, slot_of
from ir.ops import OPS

_DOUBLE_RESULT = {"fadd": 0, "fsub": 0, "fmul": 0, "fdiv": 0, "fsqrt": 0, "fma": 0, "from_int": 0, "fconvert": 1}
_DOUBLE_OPERAND = {**dict.fromkeys(_DOUBLE_RESULT, 0), "to_int": 0, "feq": 0, "flt": 0, "fle": 0}
del _DOUBLE_OPERAND["from_int"]


class Carried(NamedTuple):
    """One register of a loop: its phi, and what it is at the first turn."""

    slot: int
    kind: str  # "i64", or "double" where the loop computes it as one
    name: str
    initial: str


class Loops(Emitter):
    """The head and the back edge."""

    loop_at: int | None = None  # the guest address of the head, where this is a loop

    def begin_loop(self) -> None:
        """If the block leads to itself, load what it reads and begin the loop."""
        block = self.block
        match block.exit:
            case Jump(target) if target == block.pc:
                pass
            case Branch(_, taken, otherwise) if block.pc in (taken, otherwise):
                pass
            case _:
                return
        if not self.target.loops:
            return
        self.loop_at = block.pc
        reads = {slot_of(inst): inst for inst in block.insts if inst.op.name == "getreg"}
        writes = {slot_of(inst): inst.args[0] for inst in block.insts if inst.op.name == "setreg"}
        self.carried = [self.carry(slot, last, reads.get(slot)) for slot, last in writes.items()]
        for slot, inst in reads.items():
            if slot not in writes and slot not in self.arguments:
                self.have(inst, *self.loaded(slot, _is_operand_as_double(inst, block.insts)))
        self.edges: list[tuple[str, str, list[str]]] = []  # label, budget, a value of each that is carried
        self.before = self.here
        self.put("br label %head")
        self.label("%head")
        self.phis = len(self.lines)
        self.left = self.fresh("t")

    def carry(self, slot: int, last: Value, read: Inst | None) -> Carried:
        """A register that the loop writes: it is what `last` was, or at the first turn what it was before."""
        if slot in self.arguments:
            kind, initial = "i64", self.arguments[slot]
        else:
            kind, initial = self.loaded(slot, _is_double(last))
        value = Inst(OPS["getreg"], (), (slot,), 0) if read is None else read
        name = self.fresh("r")
        self.have(value, kind, name)
        self.pending[slot] = value
        return Carried(slot, kind, name, initial)

    def loaded(self, slot: int, double: bool) -> tuple[str, str]:
        kind = "double" if double else "i64"
        return kind, self.let(f"load {kind}, ptr {self.field(self.target.slot(slot))}")

    def have(self, value: Inst, kind: str, name: str) -> None:
        """From here on the value is known by this name."""
        if kind == "double":
            self.floats[id(value), 64] = name
        else:
            self.names[value] = name

    def again(self, budget: str, changed: Mapping[int, Place]) -> None:
        """The back edge."""
        values = [
            self.doubles(changed[c.slot]) if c.kind == "double" else self.fetched(changed[c.slot]) for c in self.carried
        ]
        self.edges.append((self.here, budget, values))
        self.put("br label %head")

    def end_loop(self) -> None:
        """Write the phis, whose values are known now."""
        if self.loop_at is None:
            return
        edges = "".join(f", [{budget}, {label}]" for label, budget, _ in self.edges)
        phis = [f" {self.left} = phi i64 [%t, {self.before}]{edges}"]
        for i, c in enumerate(self.carried):
            edges = "".join(f", [{values[i]}, {label}]" for label, _, values in self.edges)
            phis.append(f" {c.name} = phi {c.kind} [{c.initial}, {self.before}]{edges}")
        self.lines[self.phis : self.phis] = phis


def _is_double(value: Value) -> bool:
    """Whether this is computed as a double."""
    return isinstance(value, Inst) and value.op.name in _DOUBLE_RESULT and (
        value.attrs[_DOUBLE_RESULT[value.op.name]] == 64)  # fmt: skip


def _is_operand_as_double(value: Inst, insts: list[Inst]) -> bool:
    """Whether something computes with this as a double."""
    return any(value in inst.args and inst.attrs[_DOUBLE_OPERAND[inst.op.name]] == 64 for inst in insts
               if inst.op.name in _DOUBLE_OPERAND)  # fmt: skip
