"""Ways out of a block: along an edge of the region, through slots, through the jump cache, to the monitor.

Whatever leaves the function goes through one place, which stores what the region may have written; before, the budget
register, what is said to the monitor and the code to go on at are put into variables. Budget is counted at the end of
each block and checked where an edge closes a cycle.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from types import MappingProxyType

from ir.block import Block, Branch, Callout, Continue, Indirect, Jump, Value
from ir.llvm.emitter import Emitter, Place
from ir.llvm.target import CALLOUT, LATE, MISS, SIDE, SIDE_REASONS, branch_weights, fetch_row
from ir.region import Region

COLD = ", !prof !1"
PAGE_SHIFT = 12
OLD_MOST = 2  # registers whose earlier values are kept for an earlier landing: each may take a host register
ONCE = {"store", "flags", "host"}  # effects of what may not be done twice, if memory may be another's as well


class Exits(Emitter):
    """The exits of a region's blocks, and those in the middle of them."""

    region: Region
    entries: dict[int, str]  # labels of blocks by guest address
    computed: set[int]  # slots of registers for which floats are computed
    # Slots of registers that must lie in the guest's memory on the way from one block, or from outside, to another.
    asked: Mapping[tuple[int | None, int], tuple[int, ...]] = MappingProxyType({})

    def begin(self, block: Block, left: str) -> None:
        super().begin(block, left)
        self.sides: list[tuple[str, int, int, dict[int, Place]]] = []  # label, at, reason, what changed
        self.side_at: dict[tuple[int, int], str] = {}
        self.restart: int | None = None  # the guest instruction from which on all may be done again; None: the next one
        self.then: dict[int, Value] = {}  # what was pending there
        self.before: dict[int, Value] = {}  # what was pending when this guest instruction began

    # --- in the middle ------------------------------------------------------------------------------

    def side(self, at: int, reason: str) -> str:
        """The label of the way out before guest instruction `at`.

        An access leaves before an earlier one, if all that is between may be done again and few registers changed: then
        it needs no landing of its own. In a machine it may leave for a trap that is its own.
        """
        if reason == "memory" and self.target.translations is None:
            changed = sum(self.then.get(slot) is not value for slot, value in self.before.items())
            if self.restart is None or changed > OLD_MOST:
                self.restart, self.then = at, self.before
            at = self.restart
        key = (at, SIDE_REASONS.index(reason))
        if key not in self.side_at:
            label = self.fresh("side")
            self.side_at[key] = label
            self.sides.append((label, at, key[1], self.places(self.before)))
        return self.side_at[key]

    def side_exits(self) -> None:
        """Landings of the block's side exits: each says where it is, and what is not in its place goes there.

        Those between which no register changed, as where a function saves registers, do the latter together. And all
        meet before the function's end: what the block did not change has one value there, and LLVM need not move each
        register for each landing, which took most of its time. What each says is a store of its own: of a landing
        without one LLVM would make moves before the access.
        """
        if not self.sides:
            return
        meet = self.fresh("meet")
        for changed, sides in groupby(self.sides, lambda side: side[3]):
            same = self.fresh("same")
            for label, at, reason, _ in sides:
                self.label(label)
                self.count_inline(at)
                self.put(f"store i64 {self.use(self.block.guest[at].pc)}, ptr {self.field(self.target.pc)}")
                self.put(f"store i64 {SIDE | reason << 3}, ptr %how")
                self.put(f"store i64 {self.spent(at)}, ptr %left")
                self.put(f"br label {same}")
            self.label(same)
            self.write_back(changed, leaving=True)
            self.put(f"br label {meet}")
        self.label(meet)
        if self.computed:  # so that LLVM leaves this place where it is, as it does by itself where there are no floats
            self.put('call void asm sideeffect "", ""()')
        how, left = (self.let(f"load i64, ptr {place}") for place in ("%how", "%left"))
        code = self.let(f"load ptr, ptr {self.field(self.target.leave)}", "f")
        self.go(code, how, left)

    # --- counting -----------------------------------------------------------------------------------

    def spent(self, instructions: int, blocks: int = 0) -> str:
        """The budget register after the first so many instructions of the block."""
        price = (instructions << self.target.budget_shift) - blocks if self.target.counts else 0
        return self.let(f"sub i64 {self.left}, {price}", "t") if price else self.left

    def when_late(self, budget: str, to: int, entering: bool = False) -> None:
        """Leave if the budget could end before the next check. Who is `entering` has nothing to store."""
        late, on = self.fresh("late"), self.fresh("go")
        least = self.region.reach[to] << self.target.budget_shift
        self.put(f"br i1 {self.let(f'icmp slt i64 {budget}, {least}', 'c')}, label {late}, label {on}{COLD}")
        self.label(late)
        if entering:
            self.put(f"store i64 {self.use(to)}, ptr {self.field(self.target.pc)}")
            self.put("br label %back")
        else:
            self.leave(to, LATE, budget)
        self.label(on)

    # --- at the end ---------------------------------------------------------------------------------

    def exit(self) -> None:
        block = self.block
        exit = block.exit
        count = len(block.guest)
        self.count_inline(count)
        test = self.use(exit.condition) if isinstance(exit, Branch) else ""
        to = self.use(exit.target) if isinstance(exit, Indirect) else ""
        self.settle(self.changed())
        if self.remaps:
            assert self.target.translations is not None
            place = self.field(self.target.translations.changed)
            self.accumulate(place, "or", self.let(f"zext i1 {self.remaps} to i64"))
        match exit:
            case Callout(pc):
                self.leave(pc, CALLOUT, self.spent(count))
            case Continue(pc) if pc in self.region.edges[block.pc]:
                self.look_ahead(block.pc, pc, self.spent(count))
                self.enter_block(pc, self.spent(count))
            case Continue(pc):
                self.through_slot(pc, False, self.spent(count))
            case Jump(pc):
                self.follow(pc, self.spent(count, 1))
            case Branch(_, taken, otherwise):
                budget = self.spent(count, 1)
                labels = self.fresh("taken"), self.fresh("otherwise")
                weights = branch_weights(self.region.odds(block))
                self.put(f"br i1 {test}, label {labels[0]}, label {labels[1]}{weights}")
                for label, pc in zip(labels, (taken, otherwise)):
                    self.label(label)
                    self.follow(pc, budget)
            case Indirect(value) if isinstance(value, int):
                self.follow(value, self.spent(count, 1))
            case Indirect():
                budget = self.spent(count, 1)
                for pc in self.region.edges[block.pc]:
                    back, other = self.fresh("returns"), self.fresh("other")
                    same = self.let(f"icmp eq i64 {to}, {self.use(pc)}", "c")
                    self.put(f"br i1 {same}, label {back}, label {other}, !prof !2")
                    self.label(back)
                    self.follow(pc, budget)
                    self.label(other)
                self.jump_cache(to, budget)
            case _:
                raise AssertionError(f"a block without an exit: {exit}")

    def follow(self, pc: int, budget: str) -> None:
        """Go on at a boundary of the guest, its registers settled."""
        if self.remaps:
            self.leave(pc, MISS, budget)
            return
        if pc not in self.region.edges[self.block.pc]:
            self.through_slot(pc, True, budget)
            return
        self.into_page(pc, budget)
        if (self.block.pc, pc) not in self.region.back:
            self.look_ahead(self.block.pc, pc, budget)
            self.enter_block(pc, budget)
        elif pc in self.region.joined:
            self.put(f"store i64 {budget}, ptr %left")
            self.put(f"br label {self.entries[pc]}back")
        else:
            self.go_back(pc, budget)

    def enter_block(self, pc: int, budget: str) -> None:
        """Go on with a block of the region, which is its first one if code does not enter at a boundary."""
        self.put(f"store i64 {budget}, ptr %left")
        self.put(f"br label {self.entries.get(pc, '%b')}")

    def look_ahead(self, source: int | None, pc: int, budget: str) -> None:
        """Go on outside the region with a block in which accesses are not looked at, if registers are not as they need.

        The highest address is one less than a power of two: one comparison will do for several.
        """
        slots = self.asked.get((source, pc), ())
        if not slots:
            return
        known = self.read_slot(slots[0])
        for slot in slots[1:]:
            known = self.let(f"or i64 {known}, {self.read_slot(slot)}")
        strays, on = self.fresh("strays"), self.fresh("near")
        self.put(f"br i1 {self.let(f'icmp ugt i64 {known}, %limit', 'c')}, label {strays}, label {on}{COLD}")
        self.label(strays)
        self.through_slot(pc, False, budget)
        self.label(on)

    def go_back(self, pc: int, budget: str) -> None:
        """Close a cycle, if the budget allows it."""
        if not self.target.counts:
            budget = self.let(f"sub i64 {budget}, {1 << self.target.budget_shift}", "t")
        self.when_late(budget, pc)
        self.enter_block(pc, budget)

    def joints(self) -> None:
        """Where ways back meet before the check that they share."""
        for pc in self.region.joined:
            self.label(f"{self.entries[pc]}back")
            self.go_back(pc, self.let("load i64, ptr %left", "t"))

    def into_page(self, pc: int, budget: str) -> None:
        """Leave unless the page of `pc` is the one that the region was made from, and may be executed, for all that is
        known of it. In a process that goes without saying, as it does in a machine for the page where code is.
        """
        found, result = self.target.translations, self.result
        if not self.leads_away(pc) or found is None:
            return
        page = pc >> PAGE_SHIFT
        symbol = f"{result.name}.p{page:x}"
        result.pages[symbol] = page
        row = fetch_row(self.let, "%limit", self.use(pc), found)
        tag = self.let(f"load i64, ptr {row}")
        table = self.let(f"load i64, ptr {self.let(f'getelementptr i8, ptr {row}, i64 8', 'a')}")
        wanted = self.let(f"getelementptr i8, ptr %s, i64 ptrtoint (ptr @{symbol} to i64)", "a")
        same = self.let(f"icmp eq i64 {table}, {self.let(f'load i64, ptr {wanted}')}", "c")
        known = self.let(f"icmp eq i64 {tag}, {self.use(page << PAGE_SHIFT)}", "c")
        here, other = self.fresh("here"), self.fresh("away")
        self.put(f"br i1 {self.let(f'and i1 {known}, {same}', 'c')}, label {here}, label {other}, !prof !2")
        self.label(other)
        self.through_slot(pc, True, budget)
        self.label(here)

    def leads_away(self, pc: int) -> bool:
        """Whether code goes on in another page of a machine's addresses."""
        return self.target.translations is not None and pc >> PAGE_SHIFT != self.block.pc >> PAGE_SHIFT

    def through_slot(self, guest_target: int, boundary: bool, budget: str) -> None:
        """Go on at a known guest address: the slot holds its host code, or the way to the monitor."""
        result, away = self.result, self.leads_away(guest_target)
        known = {(leads, symbol in result.away): symbol for symbol, leads in result.exits.items()}
        symbol = known.get(((guest_target, boundary), away))
        if symbol is None:
            symbol = f"{result.name}.e{len(result.exits)}"
            result.exits[symbol] = (guest_target, boundary)
            if away:
                result.away.append(symbol)
        slot = f"ptrtoint (ptr @{symbol} to i64)"
        place = self.let(f"getelementptr i8, ptr %s, i64 {slot}", "a")
        self.go(self.let(f"load ptr, ptr {place}", "f"), slot, budget)

    def jump_cache(self, pc: str, budget: str) -> None:
        """Probe the jump cache; a miss leaves to the monitor, which fills it."""
        target = self.target
        if not target.probes:
            self.leave(pc, MISS, budget)
            return
        mask = (1 << target.jump_bits) - 1
        index = self.let(f"and i64 {self.let(f'lshr i64 {pc}, 1')}, {mask}")
        offset = self.let(f"shl i64 {index}, 4")
        base = self.field(target.jump_cache)
        entry = self.let(f"getelementptr i8, ptr {base}, i64 {offset}", "a")
        known = self.let(f"load i64, ptr {entry}")
        hit, miss = self.fresh("hit"), self.fresh("miss")
        same = self.let(f"icmp eq i64 {known}, {pc}", "c")
        self.put(f"br i1 {same}, label {hit}, label {miss}, !prof !2")
        self.label(hit)
        code = self.let(f"load ptr, ptr {self.let(f'getelementptr i8, ptr {entry}, i64 8', 'a')}", "f")
        self.go(code, str(MISS), budget)
        self.label(miss)
        self.leave(pc, MISS, budget)

    # --- out of the function ------------------------------------------------------------------------

    def leave(self, pc: int | str, via: int, budget: str) -> None:
        """Return to the monitor at guest address `pc`."""
        operand = pc if isinstance(pc, str) else self.use(pc)
        self.put(f"store i64 {operand}, ptr {self.field(self.target.pc)}")
        self.go(self.let(f"load ptr, ptr {self.field(self.target.leave)}", "f"), str(via), budget)

    def go(self, code: str, via: str, budget: str) -> None:
        """Go on at host code, by way of the function's one end."""
        for what, place in ((f"ptr {code}", "%code"), (f"i64 {via}", "%how"), (f"i64 {budget}", "%left")):
            self.put(f"store {what}, ptr {place}")
        self.put("br label %leave")
