"""Ways out of a function: through slots, through the jump cache, to the monitor; and what each has counted."""

from __future__ import annotations

from collections.abc import Mapping

from ir.block import Branch, Callout, Continue, Indirect, Inst, Jump, Value
from ir.llvm.emitter import Place
from ir.llvm.loops import Loops
from ir.llvm.target import CALLOUT, LATE, MISS, SIDE
from ir.ops import MASK


class Exits(Loops):
    """The exits of a block, and those in the middle of it."""

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

    def store(self, values: Mapping[int, str]) -> list[str]:
        """Store values that were all read; those of pinned registers become arguments. Returns the arguments."""
        arguments = dict(self.arguments)
        for slot, value in values.items():
            if slot in arguments:
                arguments[slot] = value
            else:
                self.put(f"store i64 {value}, ptr {self.field(self.target.slot(slot))}")
        return list(arguments.values())

    def put_back(self, changed: Mapping[int, Place]) -> list[str]:
        """The same for what was changed at some point, out of line."""
        return self.store({slot: self.fetched(place) for slot, place in changed.items()})

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
        return self.let(f"sub i64 {self.left}, {self.price(instructions, blocks)}", "t")

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
            case Jump(pc) if pc == self.loop_at:
                self.again(self.spent(count, 1), self.changed())
            case Jump(pc):
                self.through_slot(pc, True, self.spent(count, 1), self.flush(self.pending))
            case Continue(pc):
                self.through_slot(pc, False, self.spent(count), self.flush(self.pending))
            case Branch(condition, taken, otherwise):
                test = self.use(condition)
                budget, changed = self.spent(count, 1), self.changed()
                loops = self.loop_at in (taken, otherwise)
                arguments = [] if loops else self.flush(self.pending)
                self.put(f"br i1 {test}, label %taken, label %otherwise")
                for label, pc in (("%taken", taken), ("%otherwise", otherwise)):
                    self.label(label)
                    if pc == self.loop_at:
                        self.again(budget, changed)
                    else:
                        self.through_slot(pc, True, budget, self.put_back(changed) if loops else arguments)
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
            arguments = self.put_back(changed)
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
        budget = self.let(f"sub i64 {self.left}, {spent}", "t")
        code = self.let(f"load ptr, ptr {self.field(self.target.leave)}", "f")
        self.call(code, budget, via, arguments)
