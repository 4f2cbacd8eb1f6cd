"""What all parts of the lowering stand on: fresh names, values of IR by LLVM name, and side exits.

Owns: the state of one function while it is written. Must not know: any op.
"""

from __future__ import annotations

from ir.block import Block, Inst, Value
from ir.llvm.target import SIDE_REASONS, Lowered, Target

FP = {32: "float", 64: "double"}
Place = tuple[str, object]  # "i64", "float" or "double" and an operand, or "slot" and its number


class Emitter:
    """Writes lines of LLVM text for one block."""

    def __init__(self, block: Block, name: str, target: Target) -> None:
        self.block = block
        self.target = target
        self.host = target.host
        self.lines: list[str] = []
        self.names: dict[Value, str] = {}
        self.floats: dict[tuple[int, int], str] = {}
        self.pending: dict[int, Value] = {}
        self.checked: set[object] = set()
        self.sides: list[tuple[str, int, int, dict[int, Place]]] = []  # label, at, reason, what changed
        self.side_at: dict[tuple[int, int], str] = {}
        self.outs: list[tuple[str, int | None, int, dict[int, Place]]] = []  # label, where to (None: late), at, changed
        self.passed: list[int] = []  # the guest instructions whose boundary lies inside
        self.result = Lowered(name, "")
        self.counter = 0
        self.here = "%entry"
        self.strict = False
        self.left = "%t"  # the budget register as it was when the block was entered
        self.arguments = {slot: f"%p{i}" for i, slot in enumerate(target.pinned)}

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
        kind = FP[width]
        if (
            isinstance(value, Inst)
            and value.op.name == "getreg"
            and width == 64
            and value not in self.names
            and slot_of(value) not in self.arguments
        ):
            name = self.let(f"load double, ptr {self.field(self.target.slot(slot_of(value)))}", "f")
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

    def side(self, at: int, reason: str) -> str:
        """The label of the side exit before guest instruction `at`."""
        key = (at, SIDE_REASONS.index(reason))
        if key not in self.side_at:
            label = f"%side{len(self.sides)}"
            self.side_at[key] = label
            self.sides.append((label, at, key[1], self.changed()))
        return self.side_at[key]

    def changed(self) -> dict[int, Place]:
        """What the guest's registers are here, where they are not in their slots."""
        return {slot: self.place(value) for slot, value in self.pending.items()}

    def place(self, value: Value) -> Place:
        """Where a value is at this point of the function, without making it anywhere else."""
        if isinstance(value, int) or value in self.names:
            return "i64", self.use(value)
        for width, kind in FP.items():
            if (id(value), width) in self.floats:
                return kind, self.floats[id(value), width]
        return "slot", value.attrs[0]

    def fetched(self, place: Place) -> str:
        """The i64 at a place, made here."""
        kind, what = place
        if kind == "i64":
            return str(what)
        if kind == "slot":
            return self.let(f"load i64, ptr {self.field(self.target.slot(what))}")  # type: ignore[arg-type]
        width = {name: bits for bits, name in FP.items()}[kind]
        bits = self.let(f"bitcast {kind} {what} to i{width}")
        return bits if width == 64 else self.let(f"zext i{width} {bits} to i64")

    def doubles(self, place: Place) -> str:
        """The double at a place, made here."""
        return str(place[1]) if place[0] == "double" else self.let(f"bitcast i64 {self.fetched(place)} to double", "f")

    def leave_when(self, condition: str, at: int, reason: str) -> None:
        on = self.fresh("ok")
        self.put(f"br i1 {condition}, label {self.side(at, reason)}, label {on}, !prof !1")
        self.label(on)


def slot_of(inst: Inst) -> int:
    """The register slot that a getreg or setreg names: a number, or in a template what stands for one."""
    return inst.attrs[0]  # type: ignore[return-value]
