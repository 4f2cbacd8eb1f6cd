"""Guest registers as variables of a region's function: which ones, of what kind, how they are read and written.

A variable is read at the entry and written at the one end; LLVM's promotion to SSA makes host registers of them. One
that is computed with as a double is a double. One that is computed with as a single is two variables: a float, and the
32 bits above it, which are ones if it is NaN-boxed (D extension, NaN Boxing of Narrower Values); LLVM then mostly knows
that they are. The others are an i64.
Owns: that choice, and boxes around singles. Must not know: budget, exits, the order of a function's parts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from ir.block import Block, Inst, Value, boxed_in
from ir.llvm.emitter import slot_of
from ir.llvm.floats import Floats
from ir.llvm.integers import Integers
from ir.region import Region

SELDOM = 8  # a register that is read and written less often than once in so many blocks is no variable
_RESULT = {"fadd": 0, "fsub": 0, "fmul": 0, "fdiv": 0, "fsqrt": 0, "fma": 0, "from_int": 0, "fconvert": 1}
_OPERAND = {**dict.fromkeys(_RESULT, 0), "to_int": 0, "feq": 0, "flt": 0, "fle": 0}
del _OPERAND["from_int"]
_WORD = 4, False  # size and sign of a load


class Variables(Integers, Floats):
    """Registers that are variables, by `kinds`; all others stay in the CPU state."""

    def choose(self, region: Region, always: Iterable[int]) -> None:
        """Say which registers are variables: those of `always`, if they are touched at all, and what is often used."""
        insts = [inst for block in region.blocks for inst in block.insts]
        chosen = sorted(_often_used(region) | _touched(insts) & set(always))
        doubles, singles = _computed_as(64, insts), _computed_as(32, insts)
        self.kinds = {s: "double" if s in doubles else "float" if s in singles else "i64" for s in chosen}
        self.written = sorted({slot_of(inst) for inst in insts if inst.op.name == "setreg"} & set(chosen))

    def parts(self, slot: int) -> list[tuple[str, str, int]]:
        """What a variable consists of: each one's name, LLVM type, and offset in the slot in the CPU state."""
        kind = self.kinds[slot]
        return [(f"%r{slot}", kind, 0), *([(f"%u{slot}", "i32", 4)] if kind == "float" else [])]

    def declare(self) -> None:
        """The variables, without content."""
        for slot in self.kinds:
            for name, kind, _ in self.parts(slot):
                self.put(f"{name} = alloca {kind}")

    def bring(self, slot: int) -> None:
        """Have a variable hold what is in the CPU state."""
        for name, kind, offset in self.parts(slot):
            value = self.let(f"load {kind}, ptr {self.field(self.target.slot(slot) + offset)}")
            self.put(f"store {kind} {value}, ptr {name}")

    def take_back(self, slot: int) -> None:
        """Have the CPU state hold what is in a variable."""
        for name, kind, offset in self.parts(slot):
            value = self.let(f"load {kind}, ptr {name}")
            self.put(f"store {kind} {value}, ptr {self.field(self.target.slot(slot) + offset)}")

    def read_slot(self, slot: int, kind: str = "i64") -> str:
        known = self.kinds.get(slot)
        if known is None:
            return super().read_slot(slot, kind)
        low = self.let(f"load {known}, ptr %r{slot}", "v" if known == "i64" else "f")
        if known != "float" or kind == "float":
            return self._as(kind, known, low)
        above = self.let(f"zext i32 {self.let(f'load i32, ptr %u{slot}')} to i64")
        bits = self.let(f"zext i32 {self.let(f'bitcast float {low} to i32')} to i64")
        return self._as(kind, "i64", self.let(f"or i64 {self.let(f'shl i64 {above}, 32')}, {bits}"))

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
        above = "-1"
        if kind != "boxed":
            bits = self._as("i64", kind, value)
            value = self._as("float", "i64", bits)
            above = self.let(f"trunc i64 {self.let(f'lshr i64 {bits}, 32')} to i32")
        self.put(f"store float {value}, ptr %r{slot}")
        self.put(f"store i32 {above}, ptr %u{slot}")

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
        """A branch and not a select: the predictor takes the test out of the dependency chain."""
        value, slot = inst.args[0], _register(inst.args[0])
        if inst.attrs[0] == 32 and value in self.boxed:
            self.floats[id(inst), 32] = self.boxed[value]
        elif inst.attrs[0] == 32 and slot is not None and self.kinds.get(slot) == "float":
            self.floats[id(inst), 32] = self.unboxed(slot)
        else:
            super().do_unbox(inst)

    def unboxed(self, slot: int) -> str:
        """A variable as a single: the canonical NaN where there are no ones above it."""
        above, low = self.let(f"load i32, ptr %u{slot}"), self.read_slot(slot, "float")
        return self.unless(self.let(f"icmp ne i32 {above}, -1", "c"), "float", low)

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

    def is_float(value: Value | None) -> bool:
        return isinstance(value, Inst) and value.op.name in _RESULT and value.attrs[_RESULT[value.op.name]] == width

    def is_single(value: Value) -> bool:  # and not an integer, which may be or'ed with the same ones
        inside = boxed_in(value, 32)
        return is_float(inside) or (isinstance(inside, Inst) and inside.op.name == "load" and inside.attrs[1:] == _WORD)

    is_one = is_float if width == 64 else is_single
    found = {slot_of(inst) for inst in insts if inst.op.name == "setreg" and is_one(inst.args[0])}
    for inst in insts:
        name = inst.op.name
        if (name in _OPERAND and inst.attrs[_OPERAND[name]] == width) or (name, inst.attrs[:1]) == ("unbox", (width,)):
            found |= {slot for slot in map(_register, inst.args) if slot is not None}
    return found


__all__ = ["Variables"]
