"""Lowering of a template: one guest instruction whose operands are holes, as one LLVM function.

    define preserve_nonecc void @NAME(ptr %m, ptr %s, i64 %t, i64 %via, i64 %limit)

%s, %m, %t and %via are what they are in `ir.llvm`; %limit is the highest address that a base register may hold, or in a
machine the host address of the current set of translations. Guest
registers stay in the CPU state. A hole is a symbol of its own, whose relocations the copier fills; ways out are tail
calls of such symbols. All state is written after the last way out, so a way out in the middle needs to store nothing,
and an access that faults is one as well: the table of accesses has no landings, for the copier makes those.

Owns: the text. Must not know: which rows there are, how code is copied.
"""

from __future__ import annotations

from typing import Any

from ir.block import Block, Branch, Continue, Indirect, Inst, Jump, Value
from ir.llvm import floats, integers
from ir.llvm.emitter import FP, Place, slot_of
from ir.llvm.lowering import BlockLowering
from ir.llvm.target import MISS, SIDE_REASONS, Lowered, Target, fetch_row

PARAMETERS = "ptr %m, ptr %s, i64 %t, i64 %via, i64 %limit"
NEXT, TAKEN, MISSED = "to.next", "to.taken", "to.miss"  # symbols of ways out; side exits are `side.` and the reason
# Symbols of native functions of a machine, in the order of their words.
NATIVES = ("native.found", "native.remap", "to.cross", "to.again")
IMMEDIATE, SHORT = "imm", "short.imm"  # symbols of the immediate operand: in 32 bits, and in 8
# Of a register's slot: `read.` and the field; where it is written that says how many bytes the instruction has, which
# begins with the four of a NOP of that length instead, if the guest's register is 0.
READ = "read"
NOPS = {f"write{size}": nop for size, nop in ((4, 0x0040_1F0F), (5, 0x0044_1F0F), (8, 0x0084_1F0F))}
_BYTE = range(-128, 128)  # displacements of one byte
_WITH_IMMEDIATE = {  # operations on a value and the immediate operand: assembly, its constraints
    "add": (f"leaq {IMMEDIATE}($1), $0", "=r,r"),
    **{name: (f"{name}q $${IMMEDIATE}, $0", "=r,0,~{flags}") for name in ("and", "or", "xor")},
    **{name: (f"{what}q $${SHORT}, $0", "=r,0,~{flags}") for name, what in
       (("shl", "shl"), ("lshr", "shr"), ("ashr", "sar"))},
}  # fmt: skip
_UPDATES = ("add", "sub", "and", "or", "xor", "shl", "shr", "sar")  # what the host does in memory, by its mnemonics
_ACCESS = r"\0A.pushsection .ext,\22\22\0A.long 1b-.\0A.popsection"


def declarations(target: Target) -> list[str]:
    """What a module of stencils declares besides its holes."""
    host = target.host
    outs = (NEXT, TAKEN, MISSED, *(f"side.{reason}" for reason in SIDE_REASONS))
    return [
        f'target triple = "{host.triple}"',
        *(f'declare preserve_nonecc void @"{name}"(ptr, ptr, i64, i64, i64)' for name in outs),
        *integers.DECLARES, *floats.DECLARES,
        *([f"declare <2 x i64> @{host.carryless}(<2 x i64>, <2 x i64>, i8 immarg)"] if host.carryless else []),
        f"declare void @{host.read_control}(ptr)", f"declare void @{host.write_control}(ptr)",
        "!0 = !{i64 0, i64 2147483648}", '!1 = !{!"branch_weights", i32 1, i32 4000}',
        '!2 = !{!"branch_weights", i32 4000, i32 1}', "!3 = !{i64 -2147483648, i64 2147483648}",
        'attributes #1 = { nounwind noredzone minsize optsize noimplicitfloat "no-jump-tables"="true" }',
        'attributes #2 = { nounwind noredzone minsize optsize noimplicitfloat strictfp "no-jump-tables"="true" }',
        "attributes #0 = { nounwind strictfp }",
    ]  # fmt: skip


class StencilLowering(BlockLowering):
    """One function. `holes` are the symbols of its holes."""

    nan_odds = ""  # so that LLVM puts it on the way, and no jump leads around it

    def __init__(self, block: Block, name: str, target: Target) -> None:
        super().__init__(name, target)
        self.begin(block, "%t")
        self.checked: set[object] = set()  # bases of accesses before
        self.holes: set[str] = set()
        self.marked: list[str] = []  # those that are a byte of an instruction
        self.immediates: set[str] = set()  # operands that are the immediate operand's value
        self.update = self._update()
        self.outside: list[tuple[str, str]] = []
        self.limit = "%limit"

    def run(self) -> Lowered:
        for inst in self.block.insts:
            if inst is not self.update:
                self.instruction(inst)
        self.exit()
        self.limit = "%limit"
        for label, target in self.outside:
            self.label(label)
            self.go(target)
        attributes = "#2" if self.strict else "#1"
        self.result.text = (
            f'define preserve_nonecc void @"{self.result.name}"({PARAMETERS}) {attributes} {{\nentry:\n'
            + "\n".join(self.lines) + "\n}"
        )  # fmt: skip
        return self.result

    def hole(self, name: str) -> str:
        """The operand that a hole is in an address."""
        self.holes.add(name)
        return f'ptrtoint (ptr @"{name}" to i64)'

    def symbols(self) -> list[str]:
        """Declarations of the holes."""
        return [f'@"{name}" = external global i8, !absolute_symbol !3' for name in sorted(self.holes)]

    def field(self, offset: object) -> str:
        return super().field(offset if isinstance(offset, int) else self.hole(str(offset)))  # type: ignore[arg-type]

    def do_hole(self, inst: Inst) -> None:
        name, bits = inst.attrs
        self.names[inst] = self.immediate(str(name), int(str(bits)))
        if _is_immediate(inst):
            self.immediates.add(self.names[inst])

    # --- registers ------------------------------------------------------------------------------------
    #
    # By moves of their own, which are short, and which processors rename: a load that is part of another instruction
    # waits for the store before it.

    def read_slot(self, slot: int, kind: str = "i64") -> str:
        if not self.is_near(slot):
            return super().read_slot(slot, kind)
        place, hole = self.place_of(slot, READ)
        value = self.let(f'call i64 asm sideeffect "movq {place}($1), $0{hole}", "=r,r"(ptr %s)')
        return value if kind == "i64" else self.let(f"bitcast i64 {value} to {kind}")

    def write_slot(self, slot: int, kind: str, value: str) -> None:
        if not self.is_near(slot):
            super().write_slot(slot, kind, value)
        elif value in self.immediates:
            self.holes.add(IMMEDIATE)
            place, hole = self.place_of(slot, "write8", 5)
            self.put(f'call void asm sideeffect "movq $${IMMEDIATE}, {place}($0){hole}", "r"(ptr %s)')
        else:
            if kind != "i64":
                value = self.let(f"bitcast {kind} {value} to i64")
            self.with_register("movq", value, slot)

    def with_register(self, instruction: str, value: str, slot: int) -> None:
        """An instruction on a slot and a value in a host register."""
        place, hole = self.place_of(slot, "write4")
        self.put(f'call void asm sideeffect "{instruction} $0, {place}($1){hole}", "r,r,~{{flags}}"'
                 f"(i64 {value}, ptr %s)")  # fmt: skip

    def settle(self, changed: dict[int, Place]) -> None:
        """Write what was changed; where all that is done is an update of one register, do it in its slot."""
        if self.update is None:
            super().settle(changed)
            return
        (slot,), name, b = self.pending, self.update.op.name, self.update.args[1]
        if _is_immediate(b):  # 2 is none: how long an instruction with a symbol is LLVM decides late, and loses holes
            place, hole = self.place_of(slot, "write5", 2)
            self.put(f'call void asm sideeffect "{name}q $$2, {place}($0){hole}{self.mark(SHORT, 1)}", '
                     '"r,~{flags}"(ptr %s)')  # fmt: skip
        else:
            self.with_register(f"{name}q", self.use(b), slot)

    def changed(self) -> dict[int, Place]:
        return super().changed() if self.update is None else {}

    def _update(self) -> Inst | None:
        """The operation of a block that does nothing but this: a register with something becomes that register."""
        written = [inst for inst in self.block.insts if inst.op.name == "setreg"]
        made = written[0].args[0] if len(written) == 1 else None
        if not isinstance(made, Inst) or made.op.name not in _UPDATES or not isinstance(self.block.exit, Continue):
            return None
        a, slot = made.args[0], slot_of(written[0])
        if not isinstance(a, Inst) or a.op.name != "getreg" or slot_of(a) != slot or not self.is_near(slot):
            return None
        known = ("getreg", "hole")
        return made if all(i is made or i in written or i.op.name in known for i in self.block.insts) else None

    def displacement(self, slot: int) -> object:
        """That of a slot: a number, or what stands for one."""
        return self.target.slot(slot)

    def is_near(self, slot: int) -> bool:
        """Whether one byte is enough for the displacement of a slot: holes of other slots have a file's number."""
        where = self.displacement(slot)
        return where in _BYTE if isinstance(where, int) else "." not in str(where)

    def place_of(self, slot: int, use: str, behind: int = 1) -> tuple[str, str]:
        """The displacement of a near slot, and what makes a hole of it, so many bytes before the instruction's end."""
        where = self.displacement(slot)
        return (str(where), "") if isinstance(where, int) else ("127", self.mark(f"{use}.{where}", behind))

    def mark(self, symbol: str, behind: int) -> str:
        """A line that makes a hole of the byte that is so many before the end of what stands there."""
        self.marked.append(symbol)
        return rf"\0A.reloc .-{behind}, R_X86_64_8, {symbol}"

    # --- operations -----------------------------------------------------------------------------------

    def do_unbox(self, inst: Inst) -> None:
        """Made where it is asked for, as bits or as a float."""
        if _single_in(inst) is None:
            super().do_unbox(inst)

    def use(self, value: Value) -> str:
        if isinstance(value, Inst) and value not in self.names and _single_in(value) is not None:
            super().do_unbox(value)
        return super().use(value)

    def as_float(self, value: Value, width: int) -> str:
        """A register as a single is loaded as one; where there are no ones above it, the monitor executes this."""
        key, register = (id(value), width), _single_in(value)
        if not isinstance(value, Inst) or register is None or value in self.names or key in self.floats:
            return super().as_float(value, width)
        slot = self.target.slot(slot_of(register))
        above = self.let(f"load i32, ptr {self.let(f'getelementptr i8, ptr {self.field(slot)}, i64 4', 'a')}")
        self.leave_when(self.let(f"icmp ne i32 {above}, -1", "c"), value.at, "conversion")
        self.floats[key] = self.let(f"load float, ptr {self.field(slot)}", "f")
        return self.floats[key]

    def binary(self, inst: Inst, operation: str) -> None:
        if operation in _WITH_IMMEDIATE and _is_immediate(inst.args[1]):
            self.names[inst] = self.with_immediate(operation, self.use(inst.args[0]))
        else:
            super().binary(inst, operation)

    def shift(self, inst: Inst, operation: str) -> None:
        if _is_immediate(inst.args[1]):
            self.names[inst] = self.with_immediate(operation, self.use(inst.args[0]))
        else:
            super().shift(inst, operation)

    def with_immediate(self, operation: str, a: str) -> str:
        """An operation on a value and the immediate operand, as one instruction."""
        assembly, constraints = _WITH_IMMEDIATE[operation]
        self.holes.add(SHORT if SHORT in assembly else IMMEDIATE)
        return self.let(f'call i64 asm "{assembly}", "{constraints}"(i64 {a})')

    def immediate(self, name: str, bits: int = 32) -> str:
        """A hole as a value: 32 bits, sign-extended, or 64."""
        self.holes.add(name)
        return self.let(f'call i64 asm "{"movq" if bits == 32 else "movabsq"} $${name}, $0", "=r"()')

    # --- ways out -------------------------------------------------------------------------------------

    def go(self, target: str, via: str = "%via") -> None:
        what = target if target.startswith("%") else f'@"{target}"'
        self.put(f"musttail call preserve_nonecc void {what}(ptr %m, ptr %s, i64 %t, i64 {via}, i64 {self.limit})")
        self.put("ret void")

    def leave_when(self, condition: str, at: int, reason: str) -> None:
        self.out(condition, self.side(at, reason))

    def side(self, at: int, reason: str) -> str:
        return f"side.{reason}"

    def out(self, condition: str, target: str) -> None:
        label, on = f"%out{len(self.outside)}", self.fresh("ok")
        self.outside.append((label, target))
        self.put(f"br i1 {condition}, label {label}, label {on}, !prof !1")
        self.label(on)

    def exit(self) -> None:
        exit = self.block.exit
        test = self.use(exit.condition) if isinstance(exit, Branch) else ""
        to = self.use(exit.target) if isinstance(exit, Indirect) else ""
        self.count_inline(len(self.block.guest))
        self.settle(self.changed())
        if self.remaps:
            self.remapped()
        match exit:
            case Continue():
                self.go(NEXT)
            case Jump():
                self.go(TAKEN)
            case Branch():
                self.put(f"br i1 {test}, label %taken, label %otherwise, !prof !1")
                self.label("%taken")
                self.go(TAKEN)
                self.label("%otherwise")
                self.go(NEXT)
            case Indirect() if self.target.translations is not None:
                self.go(self.entry_of(to), to)
            case Indirect():
                beyond = self.let(f"icmp ugt i64 {to}, %limit", "c")
                self.put(f"br i1 {beyond}, label %beyond, label %inside, !prof !1")
                self.label("%beyond")
                self.go(MISSED, to)
                self.label("%inside")
                self.go(self.entry_of(to), to)

    def entry_of(self, pc: str) -> str:
        """Host code of the guest address in a value, or the code that makes it."""
        return entry_of(self, pc, self.target)

    # --- memory ---------------------------------------------------------------------------------------

    def displaced(self, base: str, offset: object) -> str:
        if isinstance(offset, Inst):
            return self.with_immediate("add", base)
        return super().displaced(base, offset)

    def address(self, inst: Inst, offset: object, size: int, writing: bool) -> str:
        base, at = inst.args[0], inst.at
        if self.target.translations is not None:
            return self.translated(self.target.translations, base, offset, at, size, writing)
        known = isinstance(base, int) or base in self.checked
        if not known:
            self.checked.add(base)
            if self.target.checks:
                self.leave_when(self.let(f"icmp ugt i64 {self.use(base)}, %limit", "c"), at, "memory")
        pointer = self.let(f"getelementptr i8, ptr %m, i64 {self.use(base)}", "a")
        if isinstance(offset, Inst):
            return self.let(f"getelementptr i8, ptr {pointer}, i64 {self.hole(str(offset.attrs[0]))}", "a")
        return self.let(f"getelementptr i8, ptr {pointer}, i64 {offset}", "a") if offset else pointer

    @property
    def may_fault(self) -> str:
        """The access's entry in the table of those that may fault: what a machine's translations know does not."""
        return _ACCESS if self.target.translations is None else ""

    def reached(self, address: str, size: int, kind: int) -> str:
        return self.native(0, address, str(size | kind << 4))

    def native(self, number: int, first: str, second: str) -> str:
        """What the native function of a number gives."""
        host = self.host
        call = f'asm sideeffect "{host.native_call % NATIVES[number]}", "{host.native_constraint % ""}"'
        return self.let(f"call i64 {call}(i64 {first}, i64 {second}, ptr %s)")

    def access_load(self, pointer: str, size: int, signed: bool, at: int) -> str:
        template = self.host.loads[size, signed] + self.may_fault
        return self.let(f'call i64 asm sideeffect "{template}", "=r,*m"(ptr elementtype(i{size * 8}) {pointer})')

    def access_store(self, pointer: str, value: str, size: int, at: int) -> None:
        template = self.host.stores[size] + self.may_fault
        self.put(f'call void asm sideeffect "{template}", "=*m,r"(ptr elementtype(i{size * 8}) {pointer}, i64 {value})')
        if self.target.log is not None:
            self.log_store(pointer, *self.target.log)

    def access_exchange(self, pointer: str, expected: str, new: str, size: int, at: int) -> str:
        template = self.host.exchanges[size] + self.may_fault
        found = self.let(
            f'call i64 asm sideeffect "{template}", "{self.host.exchange_constraint % ""}"'
            f"(ptr elementtype(i{size * 8}) {pointer}, i64 {expected}, i64 {new})"
        )
        return self.exchanged(pointer, found, size)

    def remapped(self) -> None:
        """Have the set of translations of the hart's context."""
        remap, same, on = self.fresh("remap"), self.here, self.fresh("on")
        self.put(f"br i1 {self.remaps}, label {remap}, label {on}")
        self.label(remap)
        made = self.native(1, "0", "0")
        self.put(f"br label {on}")
        self.label(on)
        self.limit = self.let(f"phi i64 [%limit, {same}], [{made}, {remap}]")

    # --- time -----------------------------------------------------------------------------------------

    def do_instret(self, inst: Inst) -> None:
        """The block's instructions are taken off at its begin, so what is behind this one is added again."""
        left = self.let(f"ashr i64 %t, {self.target.budget_shift}")
        limit = self.let(f"load i64, ptr {self.field(self.target.limit)}")
        count = self.let(f"sub i64 {limit}, {left}")
        self.names[inst] = self.let(f"sub i64 {count}, {self.immediate('behind')}")


def _single_in(value: Value) -> Inst | None:
    """The read of a register, if the value is the single in one."""
    if not isinstance(value, Inst) or value.op.name != "unbox" or value.attrs[0] != 32:
        return None
    register = value.args[0]
    return register if isinstance(register, Inst) and register.op.name == "getreg" else None


def _is_immediate(value: Value) -> bool:
    return isinstance(value, Inst) and value.op.name == "hole" and value.attrs == (IMMEDIATE, 32)


def entry_of(text: Any, pc: str, target: Target) -> str:
    """Lines that look a guest address up in the directory; returns the operand of its host code.

    In a process the address must be below the limit. In a machine `%limit` is the current set of translations, and
    where that does not know the page its table is the one of all pages without one.
    """
    let = text.let
    pages, tables = target.directory
    found = target.translations
    if found is None:
        page = let(f"lshr i64 {pc}, 12")
        row = let(f"getelementptr i32, ptr %s, i64 {page}", "a")
        place = let(f"getelementptr i8, ptr {row}, i64 {pages}", "a")
        table = let(f"zext i32 {let(f'load i32, ptr {place}')} to i64")
    else:
        row = fetch_row(let, text.limit, pc, found)
        tag = let(f"load i64, ptr {row}")
        table = let(f"load i64, ptr {let(f'getelementptr i8, ptr {row}, i64 8', 'a')}")
        hit = let(f"icmp eq i64 {tag}, {let(f'and i64 {pc}, -4096')}", "c")
        table = let(f"select i1 {hit}, i64 {table}, i64 0")
    inside = let(f"and i64 {pc}, 4094")
    column = let(f"shl i64 {inside}, 2")
    base = let(f"getelementptr i8, ptr %s, i64 {table}", "a")
    entry = let(f"getelementptr i8, ptr {base}, i64 {column}", "a")
    return str(let(f"load ptr, ptr {let(f'getelementptr i8, ptr {entry}, i64 {tables}', 'a')}", "f"))


__all__ = [
    "FP", "MISS", "MISSED", "NEXT", "PARAMETERS", "TAKEN", "StencilLowering", "declarations", "entry_of",
]  # fmt: skip
