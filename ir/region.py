"""Regions: blocks that become one function. What leads to a block of a region stays in it.

A region is entered at its first block, and at its gates: blocks that code outside is likely to go to. Without them a
region would have to be made again for each such block.

Where a block leads is read off its exit. Of an indirect jump it may be known where it went before, and it may come back
to where a call of the region returns: a call is a block that puts the address behind it into a register, and a jump
through that register may be a return.
A block that was cut leads to the one behind it, and there is no boundary between them.
Budget is checked at the entry and at boundaries in every cycle, so `reach` says how much each needs: a check passes if
no boundary before the next check can be the one to stop at.
Owns: edges, cycles, reach. Must not know: what blocks compute, which blocks are worth a region.
"""

from __future__ import annotations

from functools import cached_property

from ir.block import Block, Branch, Continue, Indirect, Inst, Jump, Value
from ir.records import field, record

MOST_WAYS = 12  # addresses that an indirect jump is compared with
MOST_GATES = 16


@record
class Region:
    """`weights` tells how often blocks ran, by guest address, and `ways` where indirect jumps went: what is known."""

    blocks: list[Block]
    weights: dict[int, int] = field(default_factory=dict)
    ways: dict[int, tuple[int, ...]] = field(default_factory=dict)  # block -> targets, the likely ones first
    returns: bool = True  # whether returns are looked for inside
    linked: bool = True  # False: no block leads to another inside

    @property
    def pc(self) -> int:
        return self.blocks[0].pc

    @property
    def boundary(self) -> bool:
        return self.blocks[0].boundary

    @property
    def instructions(self) -> int:
        return sum(len(block.guest) for block in self.blocks)

    def reachable(self) -> Region:
        """The region without blocks that no edge leads to."""
        kept = set(self._searched[1])
        blocks = [block for block in self.blocks if block.pc in kept]
        if len(blocks) == len(self.blocks):
            return self
        return Region(blocks, self.weights, self.ways, self.returns, self.linked).reachable()

    @cached_property
    def by_pc(self) -> dict[int, Block]:
        """The blocks that edges may lead to."""
        return {block.pc: block for block in self.blocks if block.boundary}

    @cached_property
    def edges(self) -> dict[int, list[int]]:
        """Guest address of each block, and those of the blocks of the region where it leads, likely returns first."""
        known = self.by_pc if self.linked else {}
        return {block.pc: [to for to in self._leads(block) if to in known] for block in self.blocks}

    def _leads(self, block: Block) -> list[int]:
        if remaps(block):
            return []
        match block.exit:
            case Jump(target) | Continue(target):
                return [target]
            case Branch(_, taken, otherwise):
                return [taken, otherwise]
            case Indirect(int(target)):
                return [target]
            case Indirect(target):
                seen = self.ways.get(block.pc, ())
                back = self._return_addresses if self.returns and self._may_return(block, target) else []
                return [*seen, *(pc for pc in back if pc not in seen)][:MOST_WAYS]
        return []

    @cached_property
    def _calls(self) -> dict[int, int]:
        """Return address of each call, and the slot that holds it."""
        found = {}
        for block in self.blocks:
            slot = link_of(block)
            if slot is not None:
                found[block.end] = slot
        return found

    @cached_property
    def _return_addresses(self) -> list[int]:
        found = [pc for pc in self._calls if pc in self.by_pc]
        return sorted(found, key=lambda pc: -self.weights.get(pc, 0))

    def _may_return(self, block: Block, target: Value) -> bool:
        """Whether the jump is through a register that calls of the region write, and is no call itself."""
        if link_of(block) is not None:
            return False
        links = set(self._calls.values())
        last = {inst.attrs[0]: inst.args[0] for inst in block.insts if inst.op.name == "setreg"}
        via = {id(value) for slot, value in last.items() if slot in links}
        while isinstance(target, Inst):
            if id(target) in via or (target.op.name == "getreg" and target.attrs[0] in links):
                return True
            target = target.args[0] if target.op.name in ("and", "add") else 0
        return False

    @cached_property
    def _searched(self) -> tuple[set[tuple[int, int]], list[int]]:
        """Edges without which there is no cycle, and all blocks in the order in which a depth-first search over the
        others is done with them.

        None of those is the way out of a block that was cut: where the search comes back by one, the edges are taken
        that lead to what comes before it.
        """
        closing: set[tuple[int, int]] = set()
        while True:
            back, done = self._search(closing)
            cut = [pc for pc, _ in back if self._is_cut(pc)]
            if not cut:
                return back | closing, done
            for pc in cut:
                closing |= self._boundaries_before(pc, set(done))

    def _search(self, closing: set[tuple[int, int]]) -> tuple[set[tuple[int, int]], list[int]]:
        """Edges that come back to where the search is, and the order in which it is done, without these edges."""
        back: set[tuple[int, int]] = set()
        done: list[int] = []
        state: dict[int, int] = {}  # 1: on the path, 2: done
        for root in (self.pc, *sorted({to for _, to in closing})):
            if root in state:
                continue
            state[root] = 1
            path = [(root, iter(self.edges[root]))]
            while path:
                pc, leads = path[-1]
                for to in leads:
                    if (pc, to) in closing:
                        continue
                    if to not in state:
                        state[to] = 1
                        path.append((to, iter(self.edges[to])))
                        break
                    if state[to] == 1:
                        back.add((pc, to))
                else:
                    state[pc] = 2
                    done.append(pc)
                    path.pop()
        return back, done

    def _is_cut(self, pc: int) -> bool:
        return isinstance(self._block(pc).exit, Continue)

    def _boundaries_before(self, pc: int, known: set[int]) -> set[tuple[int, int]]:
        """The edges of these blocks by which a boundary is the last before this block."""
        found: set[tuple[int, int]] = set()
        for before in known.intersection(self._before.get(pc, ())):
            found |= self._boundaries_before(before, known) if self._is_cut(before) else {(before, pc)}
        return found

    @property
    def back(self) -> set[tuple[int, int]]:
        """Edges without which there is no cycle: the budget is checked there."""
        return self._searched[0]

    @cached_property
    def joined(self) -> list[int]:
        """Heads of loops that several ways of one branch lead back to, without another branch on them: one check of the
        budget is enough, where they have met.
        """
        return [head for head in sorted({to for _, to in self.back}) if self._is_joined(head)]

    def _is_joined(self, head: int) -> bool:
        ways = {tail: self._before.get(tail, []) for tail, to in self.back
                if to == head and not isinstance(self._block(tail).exit, (Branch, Indirect))}  # fmt: skip
        branches = [before[0] for before in ways.values() if len(before) == 1]
        return any((pc, head) in self.back or branches.count(pc) > 1 for pc in branches)

    @cached_property
    def forward(self) -> list[int]:
        """All blocks, each behind those that lead to it, as far as there are no cycles."""
        return self._searched[1][::-1]

    @cached_property
    def loops(self) -> dict[int, set[int]]:
        """By its head, the blocks of each loop: the head, and from where all jumps back to that come."""
        found: dict[int, set[int]] = {}
        for tail, head in self.back:
            loop = found.setdefault(head, {head})
            ahead = [tail]
            while ahead:
                pc = ahead.pop()
                if pc not in loop:
                    loop.add(pc)
                    ahead += self._before.get(pc, ())
        return found

    @cached_property
    def reach(self) -> dict[int, int]:
        """By block: the instructions that must be left for entering it, if no check follows before the next cycle."""
        back, done = self._searched
        found: dict[int, int] = {}
        for pc in done:  # whatever it leads to was done before
            ahead = [found[to] for to in self.edges[pc] if (pc, to) not in back]
            found[pc] = len(self._block(pc).guest) + max(ahead) if ahead else 1
        return found

    @cached_property
    def gates(self) -> list[int]:
        """Where it can be entered beside its first block: functions that it calls, places that calls return to, loops.

        The most executed first.
        """
        if not self.boundary or not self.linked:
            return []
        found = {to for _, to in self.back} | set(self._calls)
        for block in self.blocks:
            if link_of(block) is not None:
                found.update(self.edges[block.pc])
        found = {pc for pc in found if pc in self.by_pc} - {self.pc}
        return sorted(found, key=lambda pc: (-self.weights.get(pc, 0), pc))[:MOST_GATES]

    @cached_property
    def _before(self) -> dict[int, list[int]]:
        """By block: those that lead to it, as often as they do."""
        found: dict[int, list[int]] = {}
        for pc, leads in self.edges.items():
            for to in leads:
                found.setdefault(to, []).append(pc)
        return found

    def odds(self, block: Block) -> tuple[int, int] | None:
        """How often a branch was taken and not taken, as far as counts of blocks tell; None if they do not."""
        assert isinstance(block.exit, Branch)
        ran = self.ran(block.pc)
        ways = block.exit.target, block.exit.otherwise
        counts = [min(self.weights.get(to, 0), ran) for to in ways]
        if not ran or not any(counts):
            return None
        for this, other in ((1, 0), (0, 1)):  # a block that is entered from nowhere else ran as often as its edge
            if ways[this] not in self.by_pc or (ways[this] != self.pc and len(self._before[ways[this]]) == 1):
                counts[other] = ran - counts[this]
                break
        return counts[0], counts[1]

    def ran(self, pc: int) -> int:
        """How often a block was executed, as far as is known: where it was begun, and where one ran into it."""
        return sum(self.weights.get(begun, 0) for begun in self.running(pc))

    def running(self, pc: int) -> set[int]:
        """A block, and those that were cut before it: who begins one of them runs it."""
        found = {pc}
        for before in self._before.get(pc, ()):
            if self._is_cut(before):
                found |= self.running(before)
        return found

    def _block(self, pc: int) -> Block:
        return self.by_pc.get(pc) or self.blocks[0]


def remaps(block: Block) -> bool:
    """Whether addresses may mean something else behind it."""
    return any(inst.op.name == "remaps" for inst in block.insts)


def link_of(block: Block) -> int | None:
    """The slot into which a block puts the address behind it, if it is a call."""
    if not isinstance(block.exit, (Jump, Indirect)):
        return None
    for inst in block.insts:
        if inst.op.name == "setreg" and inst.args[0] == block.end and isinstance(inst.args[0], int):
            return int(str(inst.attrs[0]))
    return None
