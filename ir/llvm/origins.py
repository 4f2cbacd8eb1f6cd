"""Lowering that notes which guest instruction each line is for, as LLVM's debug locations, for people who look at it.

A location's line is the number of the guest instruction in the region, from 1; line 0 is LLVM's own word for code of no
single origin: budget, counts, what the function's begin and end move. LLVM carries locations through its passes to the
table of lines of the object file, so what host code is for is read there, and not guessed. They change no code.
Owns: that attribution. Must not know: any op, who reads it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ir.block import Block, Inst
from ir.llvm.emitter import Place, slot_of
from ir.llvm.lowering import Lowering
from ir.llvm.target import Lowered, Target
from ir.region import Region

FIRST = 1000  # number of the first metadata of ours; lowering has none as high
_FUNCTION, _FILE, _UNIT, _TYPE, _DWARF, _VERSION = range(FIRST - 6, FIRST)
MARK = ", !dbg !"


class TracedLowering(Lowering):
    """One function. `origins` has a number for each line of `lines`: of a guest instruction, or 0."""

    def __init__(self, region: Region, name: str, target: Target) -> None:
        super().__init__(region, name, target)
        self.origins: list[int] = []
        self._origin = 0
        self._before: dict[int, int] = {}  # guest instructions in front of each block, by its identity
        count = 0
        for block in region.blocks:
            self._before[id(block)] = count
            count += len(block.guest)
        self.instructions = count
        self._landings: dict[str, int] = {}  # labels of side exits -> whose they are
        self._made: dict[str, int] = {}  # values by name -> who made them
        self._setters: dict[int, int] = {}  # slots that the block has written -> who wrote them
        self._settling = False

    @contextmanager
    def _for(self, origin: int) -> Iterator[None]:
        """What is put meanwhile is for this guest instruction."""
        before, self._origin = self._origin, origin
        try:
            yield
        finally:
            self._origin = before

    def _number(self, at: int) -> int:
        return self._before[id(self.block)] + at + 1

    def put(self, line: str) -> None:
        super().put(f"{line}{MARK}{FIRST + self._origin}")
        self.origins.append(self._origin)
        name, equals, _ = line.partition(" = ")
        if equals:
            self._made[name] = self._origin

    def label(self, name: str) -> None:
        if name in self._landings:
            self._origin = self._landings[name]
        super().label(name)
        self.origins.append(self._origin)

    def begin(self, block: Block, left: str) -> None:
        super().begin(block, left)
        self._setters = {}

    def instruction(self, inst: Inst) -> None:
        with self._for(self._number(inst.at)):
            if inst.op.name == "setreg":
                self._setters[slot_of(inst)] = self._origin
            super().instruction(inst)

    def exit(self) -> None:
        """What leads on is the last instruction's, where it is that which jumps."""
        with self._for(self._number(len(self.block.guest) - 1) if self.block.ends_by_jump else 0):
            super().exit()

    def side(self, at: int, reason: str) -> str:
        label = super().side(at, reason)
        self._landings.setdefault(label, self._number(at))
        return label

    def side_exits(self) -> None:
        with self._for(0):
            super().side_exits()

    def settle(self, changed: dict[int, Place]) -> None:
        self._settling = True
        super().settle(changed)
        self._settling = False

    def write_slot(self, slot: int, kind: str, value: str) -> None:
        with self._for(self._setters.get(slot, self._origin) if self._settling else self._origin):
            super().write_slot(slot, kind, value)

    def whole(self, place: Place) -> tuple[str, str]:
        with self._for(self._made.get(str(place[1]), self._origin)):
            return super().whole(place)

    def count_inline(self, before: int) -> None:
        with self._for(0):
            super().count_inline(before)

    def spent(self, instructions: int, blocks: int = 0) -> str:
        with self._for(0):
            return super().spent(instructions, blocks)

    def when_late(self, budget: str, to: int, entering: bool = False) -> None:
        with self._for(0):
            super().when_late(budget, to, entering)

    def run(self) -> Lowered:
        result = super().run()
        head, brace, rest = result.text.partition(" {\nentry:\n")
        result.text = f"{head}{MARK[1:]}{_FUNCTION}{brace}{rest}"
        return result

    def metadata(self) -> str:
        """What a module must hold besides: the locations, and what LLVM wants them to belong to (DWARF 4)."""
        name = self.result.name
        return "\n".join([
            f"!llvm.dbg.cu = !{{!{_UNIT}}}", f"!llvm.module.flags = !{{!{_DWARF}, !{_VERSION}}}",
            f'!{_DWARF} = !{{i32 2, !"Dwarf Version", i32 4}}',
            f'!{_VERSION} = !{{i32 2, !"Debug Info Version", i32 3}}',
            f'!{_FILE} = !DIFile(filename: "{name}", directory: "")',
            f"!{_UNIT} = distinct !DICompileUnit(language: DW_LANG_C, file: !{_FILE}, isOptimized: true, "
            "runtimeVersion: 0, emissionKind: LineTablesOnly)",
            f"!{_TYPE} = !DISubroutineType(types: !{{}})",
            f'!{_FUNCTION} = distinct !DISubprogram(name: "{name}", scope: !{_FILE}, file: !{_FILE}, line: 0, '
            f"type: !{_TYPE}, spFlags: DISPFlagDefinition, unit: !{_UNIT})",
            *(f"!{FIRST + n} = !DILocation(line: {n}, scope: !{_FUNCTION})" for n in range(self.instructions + 1)), "",
        ])  # fmt: skip
