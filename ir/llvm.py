"""Lowering: a block of IR becomes the text of one LLVM function.

    define preserve_nonecc void @NAME(ptr %s, ptr %m, i64 %t, i64 %via, i64 %p0, ...)

%s is the CPU state, %m the host address of guest address 0, %t the budget register (instructions left in
its high bits, blocks executed in the low ones), %via says to the monitor which way code left, and %pK are
guest registers that travel in host registers from block to block. Every way out is a tail call with the
same arguments: through an exit slot, through the jump cache, or to the code that returns to the monitor.

Guest memory is accessed by `callbr` inline assembly whose fault label is the access's side exit; a table
of (access, landing) offsets goes with the code, so that a host fault leaves with exact state. The base
register is checked, not the address: guard zones around guest memory cover the offset's reach.

Owns: the text. Must not know: any guest (slots are numbers in a `Target`), who compiles it, where it lives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ir.block import Block, Branch, Callout, Continue, Indirect, Inst, Jump, Value, type_of
from ir.ops import MASK

# Ways out that no exit slot stands for: the value of %via. Slot displacements are larger.
LATE, SIDE, CALLOUT, MISS = 1, 2, 3, 4
SIDE_REASONS = ("memory", "rounding", "conversion", "trap", "misaligned")  # %via = SIDE | reason << 3


@dataclass(frozen=True)
class Host:
    """What lowering needs to know of a host: assembly templates and its floating-point control register.

    `loads` and `stores` map (size, signed) and size to a template with $0, $1 in AT&T order; the extra
    `table` line is appended by the lowering. Control register: `read_control` and `write_control` are LLVM
    calls on a pointer; flag bit i of `ir.fp` is control bit `flag_bits[i]`; `rounding_codes[mode]` goes to
    bit `rounding_shift`; `control` is the register's value with all exceptions masked and no flags.
    """

    name: str
    triple: str
    pinned: int
    loads: Mapping[tuple[int, bool], str]
    stores: Mapping[int, str]
    load_constraint: str
    store_constraint: str
    fault_entry: str
    read_control: str
    write_control: str
    control: int
    flag_bits: tuple[int, ...]
    rounding_codes: tuple[int, ...]
    rounding_shift: int
    to_int: Mapping[int, str]
    to_int_constraint: str
    fused: bool
    carryless: str  # LLVM's call for a carry-less product of halves of two vectors; "" where the CPU has none


@dataclass(frozen=True)
class Target:
    """Where things are: byte offsets in the CPU state and facts of the memory model."""

    host: Host
    slot: Callable[[int], int]
    pc: int
    inline: int
    limit: int
    scratch: int
    soft_flags: int
    leave: int
    nan: Mapping[int, int]  # width -> offset of its canonical NaN
    jump_cache: int
    jump_bits: int
    rounding_slot: int
    budget_shift: int
    space_bits: int
    pinned: tuple[int, ...] = ()
    log: tuple[int, int] | None = None  # offsets of the store log's length and of the log, if stores are logged
    checks: bool = True  # False leaves out the base-register check (for measuring its cost only)


@dataclass
class Lowered:
    """One function's text, and the exits that need a slot: symbol -> (guest target, is a boundary)."""

    name: str
    text: str
    exits: dict[str, tuple[int, bool]] = field(default_factory=dict)


def module(functions: list[Lowered], target: Target) -> str:
    """A whole module: the functions, their exit-slot symbols and the intrinsics they may call."""
    symbols = [f"@{s} = external global i8, !absolute_symbol !0" for f in functions for s in f.exits]
    host = target.host
    return "\n".join(
        [f'target triple = "{host.triple}"', *symbols, *(f.text for f in functions), *_DECLARES,
         host.carryless and f"declare <2 x i64> @{host.carryless}(<2 x i64>, <2 x i64>, i8 immarg)",
         host.read_control and _declare(host.read_control), _declare(host.write_control),
         "!0 = !{i64 0, i64 2147483648}", '!1 = !{!"branch_weights", i32 1, i32 4000}',
         '!2 = !{!"branch_weights", i32 4000, i32 1}', "attributes #0 = { nounwind strictfp }",
         'attributes #1 = { nounwind noimplicitfloat "no-jump-tables"="true" }',
         'attributes #2 = { nounwind noimplicitfloat strictfp "no-jump-tables"="true" }', ""]
    )  # fmt: skip


def _declare(name: str) -> str:
    return f"declare void @{name}(ptr)"


_FP = {32: "float", 64: "double"}
Place = tuple[str, object]  # "i64", "float" or "double" and an operand, or "slot" and its number
_DECLARES = [
    f"declare {t} @llvm.experimental.constrained.{op}.f{w}({', '.join([t] * n)}, metadata, metadata)"
    for w, t in _FP.items()
    for op, n in (("fadd", 2), ("fsub", 2), ("fmul", 2), ("fdiv", 2), ("sqrt", 1), ("fma", 3))
]
for _w, _t in _FP.items():
    _DECLARES += [
        f"declare i1 @llvm.experimental.constrained.fcmp.f{_w}({_t}, {_t}, metadata, metadata)",
        f"declare i1 @llvm.experimental.constrained.fcmps.f{_w}({_t}, {_t}, metadata, metadata)",
        f"declare i64 @llvm.experimental.constrained.fptosi.i64.f{_w}({_t}, metadata)",
        f"declare {_t} @llvm.experimental.constrained.sitofp.f{_w}.i64(i64, metadata, metadata)",
    ]
_DECLARES += [
    "declare float @llvm.experimental.constrained.fptrunc.f32.f64(double, metadata, metadata)",
    "declare double @llvm.experimental.constrained.fpext.f64.f32(float, metadata)",
]
_DECLARES += [f"declare i64 @llvm.{_name}.i64(i64, i1 immarg)" for _name in ("ctlz", "cttz")]
_DECLARES += [f"declare i64 @llvm.{_name}.i64(i64)" for _name in ("ctpop", "bswap")]
_ROUND = 'metadata !"round.dynamic", '
_STRICT = 'metadata !"fpexcept.strict"'
_QUIET = 'metadata !"fpexcept.ignore"'
_FIELDS = {32: (8, 23), 64: (11, 52)}  # exponent bits, fraction bits


def lower(block: Block, name: str, target: Target) -> Lowered:
    """The function of one verified block. Exits appear as symbols `NAME.eK`."""
    return _Lowering(block, name, target).run()


class _Lowering:
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
        self.arguments = {slot: f"%p{i}" for i, slot in enumerate(target.pinned)}

    # --- small helpers ------------------------------------------------------------------------------

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
        kind = _FP[width]
        if (
            isinstance(value, Inst)
            and value.op.name == "getreg"
            and width == 64
            and value not in self.names
            and _slot(value) not in self.arguments
        ):
            name = self.let(f"load double, ptr {self.field(self.target.slot(_slot(value)))}", "f")
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

    # --- the function -------------------------------------------------------------------------------

    def run(self) -> Lowered:
        block, target = self.block, self.target
        if block.boundary:
            late = self.let(f"icmp slt i64 %t, {1 << target.budget_shift}", "c")
            self.put(f"br i1 {late}, label %late, label %go, !prof !1")
            self.label("%late")
            self.leave(block.pc, LATE, "%t", {})
            self.label("%go")
        for inst in block.insts:
            self.instruction(inst)
        self.exit()
        self.out_exits()
        self.side_exits()
        body = "\n".join(self.lines)
        attributes = "#2" if self.strict else "#1"
        self.result.text = (
            f"define preserve_nonecc void @{self.result.name}({self.parameters()}) {attributes} {{\nentry:\n{body}\n}}"
        )
        return self.result

    def parameters(self) -> str:
        return "ptr %s, ptr %m, i64 %t, i64 %via" + "".join(f", i64 {p}" for p in self.arguments.values())

    def instruction(self, inst: Inst) -> None:
        match inst.op.name:
            case "getreg":
                slot = _slot(inst)
                if slot in self.arguments:
                    self.names[inst] = self.arguments[slot]
            case "setreg":
                self.pending[_slot(inst)] = inst.args[0]
            case name:
                getattr(self, f"do_{name}")(inst)

    # --- integers -----------------------------------------------------------------------------------

    def binary(self, inst: Inst, operation: str) -> None:
        a, b = (self.use(v) for v in inst.args)
        self.names[inst] = self.let(f"{operation} i64 {a}, {b}")

    do_add = lambda self, i: self.binary(i, "add")
    do_sub = lambda self, i: self.binary(i, "sub")
    do_mul = lambda self, i: self.binary(i, "mul")
    do_divu = lambda self, i: self.binary(i, "udiv")
    do_remu = lambda self, i: self.binary(i, "urem")
    do_divs = lambda self, i: self.binary(i, "sdiv")
    do_rems = lambda self, i: self.binary(i, "srem")
    do_and = lambda self, i: self.binary(i, "and")
    do_or = lambda self, i: self.binary(i, "or")
    do_xor = lambda self, i: self.binary(i, "xor")
    do_eq = lambda self, i: self.binary(i, "icmp eq")
    do_ne = lambda self, i: self.binary(i, "icmp ne")
    do_ltu = lambda self, i: self.binary(i, "icmp ult")
    do_geu = lambda self, i: self.binary(i, "icmp uge")
    do_lts = lambda self, i: self.binary(i, "icmp slt")
    do_ges = lambda self, i: self.binary(i, "icmp sge")
    do_shl = lambda self, i: self.shift(i, "shl")
    do_shr = lambda self, i: self.shift(i, "lshr")
    do_sar = lambda self, i: self.shift(i, "ashr")
    do_ctz = lambda self, i: self.count(i, "cttz")
    do_clz = lambda self, i: self.count(i, "ctlz")
    do_clmul = lambda self, i: self.carryless_product(i, 0)
    do_clmulh = lambda self, i: self.carryless_product(i, 1)
    do_mulhu = lambda self, i: self.high_product(i, "zext")
    do_mulhs = lambda self, i: self.high_product(i, "sext")
    do_sext = lambda self, i: self.extend(i, "sext")
    do_zext = lambda self, i: self.extend(i, "zext")

    def shift(self, inst: Inst, operation: str) -> None:
        a, n = inst.args
        amount = str(n & 63) if isinstance(n, int) else self.let(f"and i64 {self.use(n)}, 63")
        self.names[inst] = self.let(f"{operation} i64 {self.use(a)}, {amount}")

    def count(self, inst: Inst, operation: str) -> None:
        self.names[inst] = self.let(f"call i64 @llvm.{operation}.i64(i64 {self.use(inst.args[0])}, i1 false)")

    def do_popcount(self, inst: Inst) -> None:
        self.names[inst] = self.let(f"call i64 @llvm.ctpop.i64(i64 {self.use(inst.args[0])})")

    def do_byteswap(self, inst: Inst) -> None:
        self.names[inst] = self.let(f"call i64 @llvm.bswap.i64(i64 {self.use(inst.args[0])})")

    def carryless_product(self, inst: Inst, half: int) -> None:
        if not self.host.carryless:
            self.leave_when("true", inst.at, "conversion")
            self.names[inst] = "0"
            return
        a, b = (
            self.let(f"insertelement <2 x i64> zeroinitializer, i64 {self.use(value)}, i64 0") for value in inst.args
        )
        product = self.let(f"call <2 x i64> @{self.host.carryless}(<2 x i64> {a}, <2 x i64> {b}, i8 0)")
        self.names[inst] = self.let(f"extractelement <2 x i64> {product}, i64 {half}")

    def high_product(self, inst: Inst, extend: str) -> None:
        a, b = (self.let(f"{extend} i64 {self.use(v)} to i128") for v in inst.args)
        product = self.let(f"mul i128 {a}, {b}")
        self.names[inst] = self.let(f"trunc i128 {self.let(f'lshr i128 {product}, 64')} to i64")

    def extend(self, inst: Inst, extend: str) -> None:
        narrow = self.let(f"trunc i64 {self.use(inst.args[0])} to i{inst.attrs[0]}")
        self.names[inst] = self.let(f"{extend} i{inst.attrs[0]} {narrow} to i64")

    def do_unbox(self, inst: Inst) -> None:
        bits, otherwise = inst.attrs
        assert isinstance(bits, int) and isinstance(otherwise, int)
        a = self.use(inst.args[0])
        boxed = self.let(f"icmp uge i64 {a}, {(MASK >> bits << bits) - (1 << 64)}", "c")
        low = self.let(f"and i64 {a}, {(1 << bits) - 1}")
        self.names[inst] = self.let(f"select i1 {boxed}, i64 {low}, i64 {otherwise}")

    def logic(self, inst: Inst, operation: str) -> None:
        a, b = (self.use(v) for v in inst.args)
        self.names[inst] = self.let(f"{operation} i1 {a}, {b}")

    do_both = lambda self, i: self.logic(i, "and")
    do_either = lambda self, i: self.logic(i, "or")

    def do_not(self, inst: Inst) -> None:
        self.names[inst] = self.let(f"xor i1 {self.use(inst.args[0])}, true")

    def do_bit(self, inst: Inst) -> None:
        self.names[inst] = self.let(f"zext i1 {self.use(inst.args[0])} to i64")

    def do_select(self, inst: Inst) -> None:
        p, a, b = (self.use(v) for v in inst.args)
        self.names[inst] = self.let(f"select i1 {p}, i64 {a}, i64 {b}")

    def do_instret(self, inst: Inst) -> None:
        """LIMIT - left at entry + instructions before this one."""
        left = self.let(f"ashr i64 %t, {self.target.budget_shift}")
        limit = self.let(f"load i64, ptr {self.field(self.target.limit)}")
        count = self.let(f"sub i64 {limit}, {left}")
        self.names[inst] = self.let(f"add i64 {count}, {inst.at}")

    # --- memory -------------------------------------------------------------------------------------

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
        for width, kind in _FP.items():
            if (id(value), width) in self.floats:
                return kind, self.floats[id(value), width]
        return "slot", value.attrs[0]

    def fetched(self, place: Place) -> str:
        """The i64 at a place, made here."""
        kind, what = place
        if kind == "i64":
            return str(what)
        if kind == "slot":
            assert isinstance(what, int)
            return self.let(f"load i64, ptr {self.field(self.target.slot(what))}")
        width = {name: bits for bits, name in _FP.items()}[kind]
        bits = self.let(f"bitcast {kind} {what} to i{width}")
        return bits if width == 64 else self.let(f"zext i{width} {bits} to i64")

    def leave_when(self, condition: str, at: int, reason: str) -> None:
        on = self.fresh("ok")
        self.put(f"br i1 {condition}, label {self.side(at, reason)}, label {on}, !prof !1")
        self.label(on)

    def address(self, base: Value, offset: int, at: int) -> str:
        """The host address of an access whose base register is checked."""
        limit = 1 << self.target.space_bits
        known = base < limit if isinstance(base, int) else base in self.checked
        if not known:
            self.checked.add(base)
            if self.target.checks:
                outside = self.let(f"icmp ugt i64 {self.use(base)}, {limit - 1}", "c")
                self.leave_when(outside, at, "memory")
        pointer = self.let(f"getelementptr i8, ptr %m, i64 {self.use(base)}", "a")
        if offset:
            pointer = self.let(f"getelementptr i8, ptr {pointer}, i64 {self.use(offset)}", "a")
        return pointer

    def access_load(self, pointer: str, size: int, signed: bool, at: int) -> str:
        host, on, name = self.host, self.fresh("ok"), self.fresh()
        template = host.loads[size, signed] + host.fault_entry
        self.put(
            f'{name} = callbr i64 asm sideeffect "{template}", "{host.load_constraint}"'
            f"(ptr elementtype(i{size * 8}) {pointer}) to label {on} [label {self.side(at, 'memory')}]"
        )
        self.label(on)
        return name

    def access_store(self, pointer: str, value: str, size: int, at: int) -> None:
        host, on = self.host, self.fresh("ok")
        template = host.stores[size] + host.fault_entry
        self.put(
            f'callbr void asm sideeffect "{template}", "{host.store_constraint}"'
            f"(ptr elementtype(i{size * 8}) {pointer}, i64 {value}) to label {on} [label {self.side(at, 'memory')}]"
        )
        self.label(on)
        if self.target.log is not None:
            self.log_store(pointer, *self.target.log)

    def log_store(self, pointer: str, length: int, log: int) -> None:
        """Note the very pointer that was stored through."""
        place = self.field(length)
        index = self.let(f"load i64, ptr {place}")
        entry = self.let(f"getelementptr i64, ptr {self.field(log)}, i64 {index}", "a")
        self.put(f"store ptr {pointer}, ptr {entry}")
        self.put(f"store i64 {self.let(f'add i64 {index}, 1')}, ptr {place}")

    def do_load(self, inst: Inst) -> None:
        offset, size, signed = inst.attrs
        assert isinstance(offset, int) and isinstance(size, int)
        pointer = self.address(inst.args[0], offset, inst.at)
        self.names[inst] = self.access_load(pointer, size, bool(signed), inst.at)

    def do_store(self, inst: Inst) -> None:
        offset, size = inst.attrs
        assert isinstance(offset, int) and isinstance(size, int)
        base, stored = inst.args
        pointer = self.address(base, offset, inst.at)
        if isinstance(stored, int):  # as a literal the assembler would range-check it
            stored &= (1 << size * 8) - 1
            stored = stored - (1 << size * 8) & MASK if stored >> (size * 8 - 1) else stored
        self.access_store(pointer, self.use(stored), size, inst.at)

    def do_amo(self, inst: Inst) -> None:
        kind, size = inst.attrs
        assert isinstance(kind, str) and isinstance(size, int)
        pointer = self.address(inst.args[0], 0, inst.at)
        operand = self.use(inst.args[1])
        old = self.access_load(pointer, size, size == 4, inst.at)
        compared = old
        if size == 4 and kind.endswith("u"):
            compared = self.let(f"and i64 {old}, 4294967295")
        order = {"min": "slt", "max": "sgt", "minu": "ult", "maxu": "ugt"}.get(kind)
        if order:
            keep = self.let(f"icmp {order} i64 {compared}, {operand}", "c")
            new = self.let(f"select i1 {keep}, i64 {old}, i64 {operand}")
        elif kind == "swap":
            new = self.let(f"or i64 {operand}, 0")
        else:
            new = self.let(f"{kind} i64 {old}, {operand}")
        self.access_store(pointer, new, size, inst.at)
        self.names[inst] = old

    def do_leave_if(self, inst: Inst) -> None:
        self.leave_when(self.use(inst.args[0]), inst.at, str(inst.attrs[0]))

    def do_branch_out(self, inst: Inst) -> None:
        """Out of line, where the branch is taken and where the budget ends at the boundary behind it."""
        condition, to = inst.args
        assert isinstance(to, int)
        changed = self.changed()
        self.out_when(self.use(condition), to, inst.at, changed)
        self.passed.append(inst.at)
        late = self.let(f"icmp slt i64 {self.spent(inst.at + 1)}, {1 << self.target.budget_shift}", "c")
        self.out_when(late, None, inst.at, changed)

    def out_when(self, condition: str, to: int | None, at: int, changed: dict[int, Place]) -> None:
        label, on = f"%out{len(self.outs)}", self.fresh("ok")
        self.outs.append((label, to, at, changed))
        weights = ", !prof !1" if to is None else ""
        self.put(f"br i1 {condition}, label {label}, label {on}{weights}")
        self.label(on)

    # --- floating point -----------------------------------------------------------------------------

    def result_float(self, inst: Inst, value: str, width: int, extra: Callable[[], None] | None = None) -> None:
        """Define a float result, its NaN canonical; `extra` emits more for the NaN path.

        A branch and not a select: the predictor takes the test out of the dependency chain.
        """
        self.strict = True
        kind = _FP[width]
        nan = self.let(
            f'call i1 @llvm.experimental.constrained.fcmp.f{width}({kind} {value}, {kind} {value}, metadata !"uno", '
            f"{_QUIET}) #0", "c")  # fmt: skip
        before, cold, on = self.here, self.fresh("nan"), self.fresh("ok")
        self.put(f"br i1 {nan}, label {cold}, label {on}, !prof !1")
        self.label(cold)
        if extra:
            extra()
        canonical = self.let(f"load {kind}, ptr {self.field(self.target.nan[width])}", "f")
        self.put(f"br label {on}")
        self.label(on)
        self.floats[id(inst), width] = self.let(f"phi {kind} [{canonical}, {cold}], [{value}, {before}]", "f")

    def arithmetic(self, inst: Inst, operation: str) -> None:
        width = inst.attrs[0]
        assert isinstance(width, int)
        kind = _FP[width]
        operands = [self.as_float(v, width) for v in inst.args]
        arguments = ", ".join(f"{kind} {v}" for v in operands)
        value = self.let(
            f"call {kind} @llvm.experimental.constrained.{operation}.f{width}({arguments}, {_ROUND}{_STRICT}) #0",
            "f",
        )
        extra = (lambda: self.invalid_product(inst, width)) if operation == "fma" else None
        self.result_float(inst, value, width, extra)

    do_fadd = lambda self, i: self.arithmetic(i, "fadd")
    do_fsub = lambda self, i: self.arithmetic(i, "fsub")
    do_fmul = lambda self, i: self.arithmetic(i, "fmul")
    do_fdiv = lambda self, i: self.arithmetic(i, "fdiv")
    do_fsqrt = lambda self, i: self.arithmetic(i, "sqrt")

    def do_fma(self, inst: Inst) -> None:
        if self.host.fused:
            self.arithmetic(inst, "fma")
            return
        self.leave_when("true", inst.at, "conversion")
        self.names[inst] = "0"

    def invalid_product(self, inst: Inst, width: int) -> None:
        """Infinity times zero is invalid even where the addend is a quiet NaN, which hosts do not say."""
        exponent, fraction = _FIELDS[width]
        infinity = ((1 << exponent) - 1) << fraction
        parts = []
        for value in inst.args[:2]:
            bits = self.let(f"bitcast {_FP[width]} {self.as_float(value, width)} to i{width}")
            parts.append(self.let(f"and i{width} {bits}, {(1 << width - 1) - 1}"))
        checks = []
        for a, b in (parts, parts[::-1]):
            checks.append(self.let(f"and i1 {self.let(f'icmp eq i{width} {a}, {infinity}')}, "
                                   f"{self.let(f'icmp eq i{width} {b}, 0')}"))  # fmt: skip
        invalid = self.let(f"or i1 {checks[0]}, {checks[1]}")
        flags = self.let(f"select i1 {invalid}, i64 16, i64 0")
        place = self.field(self.target.soft_flags)
        self.accumulate(place, "or", flags)

    def do_fconvert(self, inst: Inst) -> None:
        width, to, _ = inst.attrs
        assert isinstance(width, int) and isinstance(to, int)
        a = self.as_float(inst.args[0], width)
        if to < width:
            call = f"float @llvm.experimental.constrained.fptrunc.f32.f64(double {a}, {_ROUND}{_STRICT})"
        else:
            call = f"double @llvm.experimental.constrained.fpext.f64.f32(float {a}, {_STRICT})"
        self.result_float(inst, self.let(f"call {call} #0", "f"), to)

    def do_from_int(self, inst: Inst) -> None:
        """Unsigned values of 64 bits: convert half of a large one, its lost bit kept sticky, and double it."""
        width, _, signed, bits = inst.attrs
        assert isinstance(width, int)
        self.strict = True
        kind, a = _FP[width], self.use(inst.args[0])
        large = None
        if not signed and bits == 64:
            large = self.let(f"icmp slt i64 {a}, 0", "c")
            half = self.let(f"or i64 {self.let(f'lshr i64 {a}, 1')}, {self.let(f'and i64 {a}, 1')}")
            a = self.let(f"select i1 {large}, i64 {half}, i64 {a}")
        value = self.let(
            f"call {kind} @llvm.experimental.constrained.sitofp.f{width}.i64(i64 {a}, {_ROUND}{_STRICT}) #0",
            "f",
        )
        if large is not None:
            double = self.let(
                f"call {kind} @llvm.experimental.constrained.fadd.f{width}({kind} {value}, {kind} {value}, "
                f"{_ROUND}{_STRICT}) #0", "f")  # fmt: skip
            value = self.let(f"select i1 {large}, {kind} {double}, {kind} {value}", "f")
        self.floats[id(inst), width] = value

    def do_to_int(self, inst: Inst) -> None:
        """In range for certain: the host's conversion. Anything else is left to the monitor."""
        width, rounding, signed, bits = inst.attrs
        assert isinstance(width, int) and isinstance(bits, int)
        self.strict = True
        exponent, fraction = _FIELDS[width]
        source = inst.args[0]
        a = self.as_float(source, width)
        raw = self.let(f"bitcast {_FP[width]} {a} to i{width}")
        limit = 63 if bits == 64 else bits - bool(signed) - (rounding != 1)
        if signed:
            raw = self.let(f"and i{width} {raw}, {(1 << width - 1) - 1}")
        bound = ((1 << exponent - 1) - 1 + limit) << fraction
        outside = self.let(f"icmp uge i{width} {raw}, {bound}", "c")  # unsigned: a set sign bit is outside too
        self.leave_when(outside, inst.at, "conversion")
        if rounding == 1:
            value = self.let(
                f"call i64 @llvm.experimental.constrained.fptosi.i64.f{width}({_FP[width]} {a}, {_STRICT}) #0"
            )
        else:
            value = self.let(
                f'call i64 asm sideeffect "{self.host.to_int[width]}", '
                f'"{self.host.to_int_constraint}"({_FP[width]} {a})'
            )
        if bits == 32 and not signed:
            value = self.let(f"sext i32 {self.let(f'trunc i64 {value} to i32')} to i64")
        self.names[inst] = value

    def compare(self, inst: Inst, call: str, predicate: str) -> None:
        width = inst.attrs[0]
        assert isinstance(width, int)
        self.strict = True
        a, b = (f"{_FP[width]} {self.as_float(v, width)}" for v in inst.args)
        self.names[inst] = self.let(
            f'call i1 @llvm.experimental.constrained.{call}.f{width}({a}, {b}, metadata !"{predicate}", {_STRICT}) #0',
            "c",
        )

    do_feq = lambda self, i: self.compare(i, "fcmp", "oeq")
    do_flt = lambda self, i: self.compare(i, "fcmps", "olt")
    do_fle = lambda self, i: self.compare(i, "fcmps", "ole")

    def read_control(self) -> str:
        place = self.field(self.target.scratch)
        self.put(f"call void @{self.host.read_control}(ptr {place})")
        return self.let(f"load i32, ptr {place}")

    def write_control(self, value: str) -> None:
        place = self.field(self.target.scratch)
        self.put(f"store i32 {value}, ptr {place}")
        self.put(f"call void @{self.host.write_control}(ptr {place})")

    def do_host_flags(self, inst: Inst) -> None:
        self.strict = True
        control = self.let(f"zext i32 {self.read_control()} to i64")
        flags = self.let(f"load i64, ptr {self.field(self.target.soft_flags)}")
        for line in flag_lines(self.host, control, self.let):
            flags = self.let(f"or i64 {flags}, {line}")
        self.names[inst] = flags

    def do_clear_host_flags(self, inst: Inst) -> None:
        self.strict = True
        self.put(f"store i64 0, ptr {self.field(self.target.soft_flags)}")
        mask = ~sum(1 << b for b in self.host.flag_bits)
        self.write_control(self.let(f"and i32 {self.read_control()}, {mask}"))

    def do_set_host_rounding(self, inst: Inst) -> None:
        self.strict = True
        host = self.host
        code = rounding_code(host, self.use(inst.args[0]), self.let)
        kept = self.let(f"and i32 {self.read_control()}, {~(3 << host.rounding_shift)}")
        self.write_control(self.let(f"or i32 {kept}, {code}"))

    # --- ways out -----------------------------------------------------------------------------------

    def store(self, values: Mapping[int, str]) -> list[str]:
        """Store values that were all read; those of pinned registers become arguments. Returns the arguments."""
        arguments = dict(self.arguments)
        for slot, value in values.items():
            if slot in arguments:
                arguments[slot] = value
            else:
                self.put(f"store i64 {value}, ptr {self.field(self.target.slot(slot))}")
        return list(arguments.values())

    def flush(self, pending: Mapping[int, Value]) -> list[str]:
        """Store what changed; pinned registers become arguments. Returns those arguments."""
        arguments = dict(self.arguments)
        stores = []
        for slot, value in pending.items():  # all are read before any is stored: one may be another's old content
            if slot in arguments:
                arguments[slot] = self.use(value)
                continue
            double = self.floats.get((id(value), 64))
            what = f"double {double}" if double and value not in self.names else f"i64 {self.use(value)}"
            stores.append((what, slot))
        for what, slot in stores:
            self.put(f"store {what}, ptr {self.field(self.target.slot(slot))}")
        return list(arguments.values())

    def call(self, target: str, budget: str, via: str, arguments: list[str]) -> None:
        pinned = "".join(f", i64 {a}" for a in arguments)
        self.put(f"musttail call preserve_nonecc void {target}(ptr %s, ptr %m, i64 {budget}, i64 {via}{pinned})")
        self.put("ret void")

    def leave(self, pc: int | str, via: int, budget: str, pending: Mapping[int, Value]) -> None:
        """Return to the monitor at guest address `pc`."""
        self.return_to_monitor(pc, via, budget, self.flush(pending))

    def return_to_monitor(self, pc: int | str, via: int, budget: str, arguments: list[str]) -> None:
        """The same, with all registers in place."""
        operand = pc if isinstance(pc, str) else self.use(pc)
        self.put(f"store i64 {operand}, ptr {self.field(self.target.pc)}")
        code = self.let(f"load ptr, ptr {self.field(self.target.leave)}", "f")
        self.call(code, budget, str(via), arguments)

    def through_slot(self, guest_target: int, boundary: bool, budget: str, arguments: list[str]) -> None:
        """Go on at a known guest address: the slot holds its host code, or the way to the monitor."""
        symbol = f"{self.result.name}.e{len(self.result.exits)}"
        self.result.exits[symbol] = (guest_target, boundary)
        place = self.let(f"getelementptr i8, ptr %s, i64 ptrtoint (ptr @{symbol} to i64)", "a")
        code = self.let(f"load ptr, ptr {place}", "f")
        self.call(code, budget, f"ptrtoint (ptr @{symbol} to i64)", arguments)

    def price(self, instructions: int, blocks: int = 0) -> int:
        """What the first so many instructions take off the budget register, if `blocks` more than inside end there."""
        inside = sum(1 for at in self.passed if at < instructions)
        return (instructions << self.target.budget_shift) - inside - blocks

    def spent(self, instructions: int, blocks: int = 0) -> str:
        """The budget register after them."""
        return self.let(f"sub i64 %t, {self.price(instructions, blocks)}", "t")

    def count_inline(self, before: int) -> None:
        """Count the inline-class instructions among the first so many of the block."""
        inline = sum(1 for g in self.block.guest[:before] if g.treat == "inline")
        if inline:
            self.accumulate(self.field(self.target.inline), "add", str(inline))

    def exit(self) -> None:
        block = self.block
        self.count_inline(len(block.guest))
        exit = block.exit
        count = len(block.guest)
        match exit:
            case Callout(pc):
                self.leave(pc, CALLOUT, self.spent(count), self.pending)
            case Jump(pc):
                self.through_slot(pc, True, self.spent(count, 1), self.flush(self.pending))
            case Continue(pc):
                self.through_slot(pc, False, self.spent(count), self.flush(self.pending))
            case Branch(condition, taken, otherwise):
                test = self.use(condition)
                arguments = self.flush(self.pending)
                budget = self.spent(count, 1)
                self.put(f"br i1 {test}, label %taken, label %otherwise")
                for label, pc in (("%taken", taken), ("%otherwise", otherwise)):
                    self.label(label)
                    self.through_slot(pc, True, budget, arguments)
            case Indirect(value):
                pc_name = self.use(value)
                if isinstance(value, int):
                    self.through_slot(value, True, self.spent(count, 1), self.flush(self.pending))
                    return
                arguments = self.flush(self.pending)
                budget = self.spent(count, 1)
                self.jump_cache(pc_name, budget, arguments)
            case _:
                raise AssertionError(f"a block without an exit: {exit}")

    def jump_cache(self, pc: str, budget: str, arguments: list[str]) -> None:
        """Probe the jump cache; a miss leaves to the monitor, which fills it."""
        target = self.target
        mask = (1 << target.jump_bits) - 1
        index = self.let(f"and i64 {self.let(f'lshr i64 {pc}, 1')}, {mask}")
        offset = self.let(f"shl i64 {index}, 4")
        base = self.field(target.jump_cache)
        entry = self.let(f"getelementptr i8, ptr {base}, i64 {offset}", "a")
        known = self.let(f"load i64, ptr {entry}")
        hit = self.let(f"icmp eq i64 {known}, {pc}", "c")
        self.put(f"br i1 {hit}, label %hit, label %miss, !prof !2")
        self.label("%hit")
        code = self.let(f"load ptr, ptr {self.let(f'getelementptr i8, ptr {entry}, i64 8', 'a')}", "f")
        self.call(code, budget, str(MISS), arguments)
        self.label("%miss")
        self.put(f"store i64 {pc}, ptr {self.field(target.pc)}")
        code = self.let(f"load ptr, ptr {self.field(target.leave)}", "f")
        self.call(code, budget, str(MISS), arguments)

    def out_exits(self) -> None:
        """Where a branch inside is taken, or an event is due behind it."""
        for label, to, at, changed in self.outs:
            self.label(label)
            self.count_inline(at + 1)
            values = {slot: self.fetched(place) for slot, place in changed.items()}
            arguments = self.store(values)
            budget = self.spent(at + 1)  # its own boundary is among those passed
            if to is not None:
                self.through_slot(to, True, budget, arguments)
            else:
                guest = self.block.guest[at]
                self.return_to_monitor(guest.pc + guest.length & MASK, LATE, budget, arguments)

    def side_exits(self) -> None:
        """One landing for every site, which says where it is, and one common end that stores the state."""
        if not self.sides:
            return
        slots = sorted({slot for _, _, _, changed in self.sides for slot in changed})
        incoming: dict[int, list[str]] = {slot: [] for slot in slots}
        for label, at, _, changed in self.sides:
            self.label(label)
            self.put(f"store i64 {self.use(self.block.guest[at].pc)}, ptr {self.field(self.target.pc)}")
            self.count_inline(at)
            for slot in slots:
                if slot in changed:
                    value = self.fetched(changed[slot])
                elif slot in self.arguments:
                    value = self.arguments[slot]
                else:
                    value = self.let(f"load i64, ptr {self.field(self.target.slot(slot))}")
                incoming[slot].append(f"[{value}, {label}]")
            self.put("br label %side")
        self.label("%side")
        spent = self.let("phi i64 " + ", ".join(
            f"[{self.price(at)}, {label}]" for label, at, _, _ in self.sides))  # fmt: skip
        via = self.let("phi i64 " + ", ".join(
            f"[{SIDE | reason << 3}, {label}]" for label, _, reason, _ in self.sides))  # fmt: skip
        values = {slot: self.let("phi i64 " + ", ".join(edges)) for slot, edges in incoming.items()}
        arguments = self.store(values)
        budget = self.let(f"sub i64 %t, {spent}", "t")
        code = self.let(f"load ptr, ptr {self.field(self.target.leave)}", "f")
        self.call(code, budget, via, arguments)


def _slot(inst: Inst) -> int:
    """The register slot that a getreg or setreg names."""
    slot = inst.attrs[0]
    assert isinstance(slot, int)
    return slot


def flag_lines(host: Host, control: str, let: Callable[..., str]) -> list[str]:
    """Operands that together are the `ir.fp` flags of a 64-bit control-register value."""
    parts = []
    for bit, source in enumerate(host.flag_bits):
        shift = source - bit
        moved = let(f"lshr i64 {control}, {shift}") if shift >= 0 else let(f"shl i64 {control}, {-shift}")
        parts.append(let(f"and i64 {moved}, {1 << bit}"))
    return parts


def rounding_code(host: Host, mode: str, let: Callable[..., str]) -> str:
    """The control-register bits (i32) of a rounding mode; modes that the host has not give nearest."""
    table = sum(code << 2 * mode for mode, code in enumerate(host.rounding_codes))
    known = let(f"icmp ult i64 {mode}, 4", "c")
    twice = let(f"shl i64 {mode}, 1")
    place = let(f"and i64 {twice}, 63")
    shifted = let(f"lshr i64 {table}, {place}")
    code = let(f"and i64 {shifted}, 3")
    chosen = let(f"select i1 {known}, i64 {code}, i64 {host.rounding_codes[0]}")
    narrow = let(f"trunc i64 {chosen} to i32")
    return let(f"shl i32 {narrow}, {host.rounding_shift}")


__all__ = ["CALLOUT", "LATE", "MISS", "SIDE", "SIDE_REASONS", "Host", "Lowered", "Target", "lower", "module", "type_of"]
