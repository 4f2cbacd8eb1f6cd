"""Lowering: a block of IR becomes the text of one LLVM function, and functions become a module.

The package says what the text is like. Owns: the order of its parts. Must not know: any guest, who compiles it.
"""

from __future__ import annotations

from ir.block import Block, Inst
from ir.llvm import floats, integers
from ir.llvm.emitter import slot_of
from ir.llvm.exits import Exits
from ir.llvm.floats import Floats
from ir.llvm.integers import Integers
from ir.llvm.memory import Memory
from ir.llvm.target import LATE, Lowered, Target


def module(functions: list[Lowered], target: Target) -> str:
    """A whole module: the functions, their exit-slot symbols and the intrinsics they may call."""
    symbols = [f"@{s} = external global i8, !absolute_symbol !0" for f in functions for s in f.exits]
    host = target.host
    return "\n".join(
        [f'target triple = "{host.triple}"', *symbols, *(f.text for f in functions),
         *integers.DECLARES, *floats.DECLARES,
         host.carryless and f"declare <2 x i64> @{host.carryless}(<2 x i64>, <2 x i64>, i8 immarg)",
         host.read_control and _declare(host.read_control), _declare(host.write_control),
         "!0 = !{i64 0, i64 2147483648}", '!1 = !{!"branch_weights", i32 1, i32 4000}',
         '!2 = !{!"branch_weights", i32 4000, i32 1}', "attributes #0 = { nounwind strictfp }",
         'attributes #1 = { nounwind noimplicitfloat "no-jump-tables"="true" }',
         'attributes #2 = { nounwind noimplicitfloat strictfp "no-jump-tables"="true" }', ""]
    )  # fmt: skip


def _declare(name: str) -> str:
    return f"declare void @{name}(ptr)"


def lower(block: Block, name: str, target: Target) -> Lowered:
    """The function of one verified block. Exits appear as symbols `NAME.eK`."""
    return Lowering(block, name, target).run()


class Lowering(Integers, Memory, Floats, Exits):
    """One function."""

    def run(self) -> Lowered:
        block, target = self.block, self.target
        if block.boundary:
            self.begin_loop()
            late = self.let(f"icmp slt i64 {self.left}, {1 << target.budget_shift}", "c")
            self.put(f"br i1 {late}, label %late, label %go, !prof !1")
            self.label("%late")
            self.return_to_monitor(block.pc, LATE, self.left, self.put_back(self.changed()))
            self.label("%go")
        for inst in block.insts:
            self.instruction(inst)
        self.exit()
        self.out_exits()
        self.side_exits()
        self.end_loop()
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
                slot = slot_of(inst)
                if slot in self.arguments and inst not in self.names:
                    self.names[inst] = self.arguments[slot]
            case "setreg":
                self.pending[slot_of(inst)] = inst.args[0]
            case name:
                getattr(self, f"do_{name}")(inst)

