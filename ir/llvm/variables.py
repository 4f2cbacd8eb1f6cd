"""Guest registers as variables of a region's function: which ones, of what kind, how they are read and written.

A variable is read at the entry and written at the one end; LLVM's promotion to SSA makes host registers of them. One
that is computed with as a double is a double. One that is computed with as a single is a float: what it is worth as a
single, which is the canonical NaN if it is no box around one (D extension, NaN Boxing of Narrower Values). The others
are an i64.
Owns: that choice, and boxes around singles. Must not know: budget, exits, the order of a function's parts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from ir.block import Block, Inst, Value, boxed_in
from ir.llvm.emitter import slot_of
from ir.llvm.integers import Integers
from ir.llvm.marks import RESULT, Marks, is_result
from ir.region import Region

SELDOM = 8  # a register that is read and written less often than once in so many blocks is no variable
_OPERAND = {**dict.fromkeys(RESULT, 0), "to_int": 0, "feq": 0, "flt": 0, "fle": 0}
del _OPERAND["from_int"]
_WORD = 4, False  # size and sign of a load


class Variables(Integers, Marks):
    """Registers that are variables, by `kinds`; all others stay in the CPU state."""

    def choose(self, region: Region, always: Iterable[int]) -> None:
        """Say which registers are variables: those of `always`, if they are touched at all, and what is often used."""
        insts = [inst for block in region.blocks for inst in block.insts]
        chosen = sorted(_often_used(region) | _touched(insts) & set(always))
        doubles, singles = _computed_as(64, insts), _computed_as(32, insts)
        self.kinds = dict.fromkeys(chosen, "i64")
        for slot in set(chosen).intersection(self.target.floats):
            if slot in doubles | singles:
                self.kinds[slot] = "double" if slot in doubles else "float"
        self.written = sorted({slot_of(inst) for inst in insts if inst.op.name == "setreg"} & set(chosen))
        self.choose_marks(inst for inst in insts if inst.op.name == "setreg")

    def declare(self) -> None:
        """The variables, without content."""
        for slot, kind in self.kinds.items():
            self.put(f"%r{slot} = alloca {kind}")

    def bring(self, slot: int) -> None:
        """Have a variable hold what is in the CPU state."""
        kind = self.kinds[slot]
        value = self.single_in_state(slot) if kind == "float" else super().read_slot(slot, kind)
        self.put(f"store {kind} {value}, ptr %r{slot}")

    def take_back(self, slot: int) -> None:
        """Have the CPU state hold what is in a variable; floats are seen to by `take_back_floats`."""
        kind = self.kinds[slot]
        if kind != "float":
            super().write_slot(slot, kind, self.let(f"load {kind}, ptr %r{slot}"))

    def read_slot(self, slot: int, kind: str = "i64") -> str:
        known = self.kinds.get(slot)
        if known is None:
            return super().read_slot(slot, kind)
        if known == "i64":
            return self._as(kind, known, self.let(f"load i64, ptr %r{slot}"))
        if known == "float" and kind != "float":
            return self._as(kind, "i64", self.bits_of_single(slot))
        value = self.read_float(slot)
        return value if kind == known else self._as(kind, known, self.cleaned(known, value))

    def write_slot(self, slot: int, kind: str, value: str) -> None:
        known = self.kinds.get(slot)
        if known != "float":
            if kind == "boxed":
                kind, value = "i64", self.with_ones(value)
            if known is None:
                super().write_slot(slot, kind, value)
            else:
                self.put(f"store {known} {self._as(known, kind, value)}, ptr %r{slot}")
            return
        if kind != "boxed":
            super().write_slot(slot, kind, value)
            value = self.single_in_state(slot)
        self.put(f"store float {value}, ptr %r{slot}")

    def _as(self, kind: str, known: str, value: str) -> str:
        """The same bits as another kind; a float is the low half of them."""
        if kind == known:
            return value
        if kind == "float":
            bits = self._as("i64", known, value)
            return self.let(f"bitcast i32 {self.let(f'trunc i64 {bits} to i32')} to float", "f")
        return self.let(f"bitcast {known} {value} to {kind}")

    # --- singles --------------------------------------------------------------------------------------

    def do_or(self, inst: Inst) -> None:
        """A box around a single is made where its bits are asked for."""
        inside = boxed_in(inst, 32)
        if inside is None:
            super().do_or(inst)
        else:
            self.boxed[inst] = self.as_float(inside, 32)

    def do_unbox(self, inst: Inst) -> None:
        value, slot = inst.args[0], _register(inst.args[0])
        if inst.attrs[0] == 32 and value in self.boxed:
            self.floats[id(inst), 32] = self.boxed[value]
        elif inst.attrs[0] == 32 and slot is not None and self.kinds.get(slot, "float") == "float":
            self.floats[id(inst), 32] = self.read_float(slot) if slot in self.kinds else self.single_in_state(slot)
        else:
            super().do_unbox(inst)

    def loaded_floats(self, block: Block) -> set[Value]:
        """Loads whose value goes nowhere but into arithmetic of that width, and registers that are variables of it."""
        if not {"float", "double"} & set(self.kinds.values()):
            return set()
        found: dict[Value, int] = {}
        for inst in block.insts:
            if inst.op.name == "load" and (inst.attrs[1] == 8 or inst.attrs[1:] == _WORD):
                found[inst] = 8 * int(str(inst.attrs[1]))
        if not found:
            return set()
        set_to = {inst.args[0]: self.kinds.get(slot_of(inst)) for inst in block.insts if inst.op.name == "setreg"}
        for inst in block.insts:
            for value in inst.args:
                if value in found and found[value] != self._wanted(inst, set_to):
                    del found[value]
        return set(found).difference(block.exit_values())

    def _wanted(self, inst: Inst, set_to: dict[Value, str | None]) -> object:
        """The width of the floats that an instruction takes its operands for, or none."""
        name = inst.op.name
        if name in _OPERAND:
            return inst.attrs[_OPERAND[name]]
        if name == "setreg":
            return 64 if self.kinds.get(slot_of(inst)) == "double" else None
        is_box = boxed_in(inst, 32) is not None
        return 32 if is_box and set_to.get(inst, "float") == "float" else None


def _register(value: Value) -> int | None:
    """The slot of a register as it was when the block began."""
    return slot_of(value) if isinstance(value, Inst) and value.op.name == "getreg" else None


def _touched(insts: Sequence[Inst]) -> set[int]:
    """Slots of registers that are read or written."""
    return {slot_of(inst) for inst in insts if inst.op.name in ("getreg", "setreg")}


def _often_used(region: Region) -> set[int]:
    """Slots of registers worth a variable: of the blocks that run, one in so many at least touches them.

    Another one is read and written in the CPU state. A variable costs at each entry, exit, landing and place where ways
    meet, and there are fewer host registers.
    """
    total, weight = 0, Counter[int]()
    for block in region.blocks:
        ran = region.ran(block.pc) + 1
        total += ran
        for kind in ("getreg", "setreg"):
            weight.update(dict.fromkeys({slot_of(inst) for inst in block.insts if inst.op.name == kind}, ran))
    return {slot for slot, ran in weight.items() if ran * SELDOM >= total}


def _computed_as(width: int, insts: list[Inst]) -> set[int]:
    """Slots that something computes with as floats of this width, or brings singles into from memory."""

    def is_one(value: Value) -> bool:  # and not an integer, which may be or'ed with the same ones
        inside = value if width == 64 else boxed_in(value, 32)
        loaded = width == 32 and isinstance(inside, Inst) and inside.op.name == "load" and inside.attrs[1:] == _WORD
        return loaded or is_result(inside, width)

    found = {slot_of(inst) for inst in insts if inst.op.name == "setreg" and is_one(inst.args[0])}
    for inst in insts:
        name = inst.op.name
        if (name in _OPERAND and inst.attrs[_OPERAND[name]] == width) or (name, inst.attrs[:1]) == ("unbox", (width,)):
            found |= {slot for slot in map(_register, inst.args) if slot is not None}
    return found


__all__ = ["Variables"]
