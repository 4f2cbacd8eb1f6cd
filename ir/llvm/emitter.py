"""What all parts of the lowering stand on: fresh names, values of IR by LLVM name, where guest registers are.

A guest register has a place in memory while a block is written, its slot: in the CPU state, or a variable of the
function. A block reads it when it is first used, and writes it where the block ends or is left.
Owns: the state of one function while it is written. Must not know: any op, why code leaves.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from ir.block import Block, Inst, Value
from ir.llvm.target import Lowered, Target

FP = {32: "float", 64: "double"}
WIDTH = {kind: width for width, kind in FP.items()}
Place = tuple[str, object]  # "i64", "float", "boxed" (with ones above) or "double" and an operand; "slot", its number


class Emitter(ABC):
    """Writes lines of LLVM text, block by block."""

    def __init__(self, name: str, target: Target) -> None:
        self.target = target
        self.host = target.host
        self.lines: list[str] = []
        self.result = Lowered(name, "")
        self.counter = 0
        self.here = "%entry"
        self.strict = False
        self.kinds: dict[int, str] = {}  # of registers that are variables of the function, by slot

    def begin(self, block: Block, left: str) -> None:
        """What follows is this block's. `left` is the budget register as it is when the block is entered."""
        self.block = block
        self.left = left
        self.names: dict[Value, str] = {}
        self.floats: dict[tuple[int, int], str] = {}
        self.pending: dict[int, Value] = {}
        self.floats_only: set[Value] = set()  # loads that nobody asks for the bits of
        self.boxed: dict[Value, str] = {}  # singles with ones above them
        self.remaps = ""  # where addresses mean something else behind the block: whether, as an operand
        self.raw: dict[object, int] = {}  # floats whose NaN may be another one than the guest's: if marked so, or 0
        self.clean: dict[object, str] = {}  # the same with the guest's NaN, where it is known

    def fresh(self, hint: str = "v") -> str:
        self.counter += 1
        return f"%{hint}{self.counter}"

    def put(self, line: str) -> None:
        self.lines.append(" " + line)

    def let(self, expression: str, hint: str = "v") -> str:
        name = self.fresh(hint)
        self.put(f"{name} = {expression}")
        return name

    def label(self, name: str) -> None:
        self.here = name
        self.lines.append(f"{name[1:]}:")

    def use(self, value: Value) -> str:
        """The LLVM operand (without its type) of an IR value."""
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, int):
            return str(value - (1 << 64) if value >> 63 else value)
        name = self.names.get(value)
        if name is None:
            name = self.fetched(self.place(value))
            self.names[value] = name
        return name

    def as_float(self, value: Value, width: int) -> str:
        """The float or double whose bits are the low bits of an IR value."""
        key = (id(value), width)
        if not isinstance(value, int) and key in self.floats:
            return self.floats[key]
        if width == 32 and value in self.boxed:
            return self.boxed[value]
        kind = FP[width]
        if isinstance(value, Inst) and value.op.name == "getreg" and width == 64 and value not in self.names:
            name = self.read_slot(slot_of(value), "double")
        else:
            bits = self.use(value)
            if width < 64:
                bits = self.let(f"trunc i64 {bits} to i{width}")
            name = self.let(f"bitcast i{width} {bits} to {kind}", "f")
        if isinstance(value, Inst):
            self.floats[key] = name
        return name

    def field(self, offset: int) -> str:
        """A pointer into the CPU state."""
        return self.let(f"getelementptr i8, ptr %s, i64 {offset}", "a")

    def accumulate(self, place: str, operation: str, operand: str) -> None:
        """Read, modify and write one word of the CPU state."""
        old = self.let(f"load i64, ptr {place}")
        new = self.let(f"{operation} i64 {old}, {operand}")
        self.put(f"store i64 {new}, ptr {place}")

    # --- guest registers ----------------------------------------------------------------------------

    def read_slot(self, slot: int, kind: str = "i64") -> str:
        """A register as it was when the block began."""
        return self.let(f"load {kind}, ptr {self.field(self.target.slot(slot))}")

    def write_slot(self, slot: int, kind: str, value: str) -> None:
        self.put(f"store {kind} {value}, ptr {self.field(self.target.slot(slot))}")

    def settle(self, changed: dict[int, Place]) -> None:
        """Write what was changed where the block ends."""
        self.write_back(changed)

    def write_back(self, changed: dict[int, Place], leaving: bool = False) -> dict[int, tuple[str, str]]:
        """Write what was changed at some point; returns that. All is read before: one may be another's old content.

        `leaving`: on the way out of the function.
        """
        values = {slot: self.kept(slot, place, leaving) for slot, place in changed.items()}
        for slot, (kind, value) in values.items():
            self.write_slot(slot, kind, value)
        return values

    def kept(self, slot: int, place: Place, leaving: bool) -> tuple[str, str]:
        """A place as an i64, a double or a boxed single, and its operand, as a register keeps it."""
        return self.whole(place)

    def whole(self, place: Place) -> tuple[str, str]:
        """A place as an i64, a double or a boxed single, and its operand."""
        kind, what = place
        if kind not in ("double", "boxed"):
            return "i64", self.fetched(place)
        return kind, self.cleaned(kind, what)

    def cleaned(self, kind: str, what: object) -> str:
        """A float, or boxed one, with its NaN canonical, for all that comes behind."""
        if what not in self.raw:
            return str(what)
        self.clean[what] = self.canonical("float" if kind == "boxed" else kind, str(what))
        return self.clean[what]

    def with_ones(self, single: str) -> str:
        """The i64 that is a single with ones above it."""
        bits = self.let(f"zext i32 {self.let(f'bitcast float {single} to i32')} to i64")
        return self.let(f"or i64 {bits}, {-1 << 32}")

    def changed(self) -> dict[int, Place]:
        """What the guest's registers are here, where they are not in their slots."""
        return self.places(self.pending)

    def places(self, values: Mapping[int, Value]) -> dict[int, Place]:
        """Where each value of these is, by slot."""
        return {slot: self.place(value) for slot, value in values.items()}

    def place(self, value: Value) -> Place:
        """Where a value is at this point of the function, without making it anywhere else."""
        if not isinstance(value, int) and value in self.boxed:
            return "boxed", self.clean.get(self.boxed[value], self.boxed[value])
        if isinstance(value, int) or value in self.names:
            return "i64", self.use(value)
        for width, kind in FP.items():
            if (id(value), width) in self.floats:
                name = self.floats[id(value), width]
                return kind, self.clean.get(name, name)
        assert value.op.name == "getreg", "a value that was not made"
        return "slot", value.attrs[0]

    def fetched(self, place: Place) -> str:
        """The i64 at a place, made here."""
        kind, what = place
        if kind == "i64":
            return str(what)
        if kind == "slot":
            return self.read_slot(what)  # type: ignore[arg-type]
        what = self.cleaned(kind, what)
        if kind == "boxed":
            return self.with_ones(what)
        width = WIDTH[kind]
        bits = self.let(f"bitcast {kind} {what} to i{width}")
        return bits if width == 64 else self.let(f"zext i{width} {bits} to i64")

    def count_inline(self, before: int) -> None:
        """Count the inline-class instructions among the first so many of the block."""
        inline = sum(1 for g in self.block.guest[:before] if g.treat == "inline")
        if inline:
            self.accumulate(self.field(self.target.inline), "add", str(inline))

    def do_remaps(self, inst: Inst) -> None:
        self.remaps = self.use(inst.args[0])

    def do_raise(self, inst: Inst) -> None:
        assert self.target.translations is not None
        cause, place = int(str(inst.attrs[0])), self.target.translations.raised
        for offset, value in ((0, str(cause + 1)), (8, self.use(inst.args[0]))):
            self.put(f"store i64 {value}, ptr {self.field(place + offset)}")

    def do_leave_if(self, inst: Inst) -> None:
        self.leave_when(self.use(inst.args[0]), inst.at, str(inst.attrs[0]))

    def leave_when(self, condition: str, at: int, reason: str) -> None:
        """Leave before guest instruction `at` if the condition holds."""
        on = self.fresh("ok")
        self.put(f"br i1 {condition}, label {self.side(at, reason)}, label {on}, !prof !1")
        self.label(on)

    @abstractmethod
    def canonical(self, kind: str, value: str) -> str:
        """A float with its NaN canonical."""

    @abstractmethod
    def side(self, at: int, reason: str) -> str:
        """The label of the way out before guest instruction `at`."""


def slot_of(inst: Inst) -> int:
    """The register slot that a getreg or setreg names: a number, or in a template what stands for one."""
    return inst.attrs[0]  # type: ignore[return-value]
