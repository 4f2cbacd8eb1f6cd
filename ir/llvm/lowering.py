"""Lowering: a region of IR becomes the text of one LLVM function, and functions become a module.

Guest registers that the region often touches are variables of the function (`alloca`), read at the entry and written at
the end; LLVM's promotion to SSA makes host registers of them. The others stay in the CPU state. The package says what
the text is like.
Owns: the order of its parts. Must not know: any guest, who compiles it.
"""

from __future__ import annotations

from ir.addresses import Addresses
from ir.block import Block, Inst
from ir.llvm import floats, integers
from ir.llvm.accesses import Span, recent, spans
from ir.llvm.emitter import slot_of
from ir.llvm.exits import ONCE, Exits
from ir.llvm.floats import Floats
from ir.llvm.integers import Integers
from ir.llvm.memory import Memory, valid_name
from ir.llvm.target import LATE, Lowered, Target, weight_lines
from ir.llvm.variables import Variables
from ir.region import Region


def module(functions: list[Lowered], target: Target) -> str:
    """A whole module: the functions, their exit-slot symbols and the intrinsics they may call."""
    names = (s for f in functions for s in (f.counter, *f.exits, *f.pages))
    symbols = [f"@{s} = external global i8, !absolute_symbol !0" for s in names]
    host = target.host
    calls = "" if target.translations is None else "noredzone"
    return "\n".join(
        [f'target triple = "{host.triple}"', *symbols, *(f.text for f in functions),
         *integers.DECLARES, *floats.DECLARES,
         host.carryless and f"declare <2 x i64> @{host.carryless}(<2 x i64>, <2 x i64>, i8 immarg)",
         host.read_control and _declare(host.read_control), _declare(host.write_control),
         "!0 = !{i64 0, i64 2147483648}", '!1 = !{!"branch_weights", i32 1, i32 4000}',
         '!2 = !{!"branch_weights", i32 4000, i32 1}', *weight_lines(), "attributes #0 = { nounwind strictfp }",
         f'attributes #1 = {{ nounwind {calls} noimplicitfloat "no-jump-tables"="true" }}',
         f'attributes #2 = {{ nounwind {calls} noimplicitfloat strictfp "no-jump-tables"="true" }}', ""]
    )  # fmt: skip


def _declare(name: str) -> str:
    return f"declare void @{name}(ptr)"


def lower(region: Region, name: str, target: Target) -> Lowered:
    """The function of a region of verified blocks. Exits appear as symbols `NAME.eK`."""
    return Lowering(region, name, target).run()


class BlockLowering(Integers, Memory, Floats):
    """Instructions of one block."""

    def instruction(self, inst: Inst) -> None:
        match inst.op.name:
            case "getreg":
                pass  # it is read where it is first used
            case "setreg":
                self.pending[slot_of(inst)] = inst.args[0]
            case name:
                getattr(self, f"do_{name}")(inst)


class Lowering(Variables, BlockLowering, Exits):
    """One function."""

    def __init__(self, region: Region, name: str, target: Target) -> None:
        super().__init__(name, target)
        self.region = region
        self.entries = {pc: f"%b{i}" for i, pc in enumerate(region.by_pc)}
        self.arguments = {slot: f"%p{i}" for i, slot in enumerate(target.pinned)}
        self.choose(region, self.arguments)
        machine = target.translations is not None
        self.near_accesses = [spans(block.insts) if machine else {} for block in region.blocks]
        if target.translations is not None:
            self.recent = recent(region, target.stack_slot, target.translations.recent_most)
        elif target.checks:
            highest = (1 << target.space_bits) - 1
            addresses = Addresses(region, highest, target.guard, target.stack_slot, self.kinds)
            self.looks, self.asked = addresses.looks, addresses.asked

    def run(self) -> Lowered:
        self.enter()
        for block, near in zip(self.region.blocks, self.near_accesses):
            self.one(block, near)
        self.joints()
        self.end()
        body = "\n".join(self.lines)
        attributes = "#2" if self.strict else "#1"
        head = f"define preserve_nonecc void @{self.result.name}"
        self.result.text = "\n".join(
            [f"{head}({self.parameters()}) {attributes} {{\nentry:\n{body}\n}}",
             *(self.gate(head, i) for i in range(len(self.result.gates)))]
        )  # fmt: skip
        return self.result

    def gate(self, head: str, number: int) -> str:
        """A function that enters the region at a gate: it says which in the place of the way that code came."""
        pinned = "".join(f", i64 {p}" for p in self.arguments.values())
        return (
            f"{head}.g{number}({self.parameters()}) #1 {{\n musttail call preserve_nonecc void @{self.result.name}"
            f"(ptr %m, ptr %s, i64 %t, i64 {-1 - number}{pinned})\n ret void\n}}"
        )

    def parameters(self) -> str:
        return "ptr %m, ptr %s, i64 %t, i64 %via" + "".join(f", i64 {p}" for p in self.arguments.values())

    def enter(self) -> None:
        """Variables, and the check that the budget reaches to the next one.

        The highest address is loaded and no constant: LLVM makes two instructions more of a comparison with 2^38.
        """
        self.put(f"%limit = load i64, ptr {self.field(self.target.highest)}")
        for kind, name in (("ptr", "%code"), ("i64", "%how"), ("i64", "%left")):
            self.put(f"{name} = alloca {kind}")
        for i in range(max(len({id(span) for span in near.values()}) for near in self.near_accesses)):
            self.put(f"{valid_name(i)} = alloca i1")
        self.declare()
        self.declare_marks()
        for slot in self.kinds:
            if slot in self.arguments:
                self.write_slot(slot, "i64", self.arguments[slot])
            else:
                self.bring(slot)
        self.retire("add", "%t")
        gates = self.region.gates
        self.result.gates = [(f"{self.result.name}.g{i}", pc) for i, pc in enumerate(gates)]
        if gates:
            front = self.fresh("front")
            numbered = " ".join(f"i64 {-1 - i}, label %gate{i}" for i in range(len(gates)))
            self.put(f"switch i64 %via, label {front} [{numbered}]")
            for i, pc in enumerate(gates):
                self.label(f"%gate{i}")
                self.go_in(pc)
            self.label(front)
        self.go_in(self.region.pc)

    def go_in(self, pc: int) -> None:
        """Begin with this block, if the budget allows it."""
        if self.region.boundary:
            self.when_late("%t", pc, entering=True)
            self.look_ahead(None, pc, "%t")
        self.enter_block(pc, "%t")

    def one(self, block: Block, near: dict[Inst, Span]) -> None:
        self.label(self.entries[block.pc] if block.boundary else "%b")
        self.begin(block, self.let("load i64, ptr %left", "t"))
        self.floats_only = self.loaded_floats(block)
        self.spans = near
        at = -1
        for inst in block.insts:
            if inst.at != at:
                at, self.before = inst.at, dict(self.pending)
            self.instruction(inst)
            if inst.op.effects & ONCE:
                self.restart = None
        self.exit()
        self.side_exits()

    def end(self) -> None:
        """What the region may have written goes to its place, and code goes on elsewhere. If the budget did not reach
        from where it was entered, all is where it was.
        """
        if self.region.boundary:
            self.label("%back")
            self.go_on(self.let(f"load ptr, ptr {self.field(self.target.leave)}", "f"), str(LATE), "%t", self.arguments)
        self.label("%leave")
        arguments = dict(self.arguments)
        for slot in self.written:
            if slot in arguments:
                arguments[slot] = self.read_slot(slot)
            else:
                self.take_back(slot)
        self.take_back_floats()
        code, via = self.let("load ptr, ptr %code", "f"), self.let("load i64, ptr %how")
        self.go_on(code, via, self.let("load i64, ptr %left", "t"), arguments)

    def go_on(self, code: str, via: str, budget: str, arguments: dict[int, str]) -> None:
        self.retire("sub", budget)
        pinned = "".join(f", i64 {a}" for a in arguments.values())
        memory = "%m" if self.target.translations is None else "null"
        self.put(f"musttail call preserve_nonecc void {code}(ptr {memory}, ptr %s, i64 {budget}, i64 {via}{pinned})")
        self.put("ret void")

    def retire(self, operation: str, budget: str) -> None:
        """At the entry and at the end, so that the counter grows by the instructions between."""
        left = self.let(f"ashr i64 {budget}, {self.target.budget_shift}")
        place = self.let(f"getelementptr i8, ptr %s, i64 ptrtoint (ptr @{self.result.counter} to i64)", "a")
        self.accumulate(place, operation, left)
