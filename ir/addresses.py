"""Which accesses of a process's region are preceded by a look at their address.

Nothing is mapped for `guard` bytes below and above the guest's memory, so an access there faults as any other does that
the guest may not make. To be ruled out is one farther away. A value is *near* if it is no farther away than that; what
is known of one is an interval: it is at least `low`, and at most `high` above the guest's highest address.

- Of a base and an index of few bits the base is looked at, and constants are taken off, so that one look is enough for
  all that is reached from one value.
- An access tells as much as a look: it has not faulted.
- What is known of registers goes from block to block; where ways meet, it is what is known on all of them.
- A pointer that goes through memory in a loop is looked at before the loop. From then on each access tells that of the
  next turn. So it is with the stack pointer, and with other registers that most turns use as they come into the loop or
  step on from there. The same registers are looked at where the region is entered in the middle.

Before a loop it is not known that the register is used at all. One that is not near keeps code out of the loop, but not
from going on: see `Addresses.asked`.
Owns: that choice. Must not know: how looks and accesses are lowered, any host.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple, Union

from ir.block import Block, Inst, Value
from ir.ops import MASK, signed
from ir.records import record
from ir.region import Region

Interval = tuple[int, int]
Root = Union[int, Inst]  # a register as it is when a block begins, by its slot; or another value
Facts = dict[int, Interval]  # by slot

SURE = 1 << 60  # sums of what is smaller do not wrap
GROWS = 2  # times that what is known of a register may get less where ways meet, before nothing is


class Form(NamedTuple):
    """What a value is made of: `seen` and an amount from `low` to `high`, where `seen` is the root and `away`."""

    root: Root
    away: int
    low: int
    high: int
    seen: Inst


class Access(NamedTuple):
    """One that may need a look: at `seen`, the root and `away`; bytes from `low` to `high` of that are accessed."""

    inst: Inst
    root: Root
    away: int
    low: int
    high: int
    seen: Inst
    told: int | None  # where the address itself is from the root, if that is a constant


@record
class Straight:
    """A block, as far as addresses matter: its accesses, and what registers are behind it if they have changed."""

    accesses: list[Access]
    changed: set[int]
    bounded: dict[int, Interval]  # to what lies in these distances
    moved: dict[int, tuple[Root, int, int]]  # to what lies in these distances from a root


class Addresses:
    """Of one region.

    `looks`: what is looked at before an access, by its instruction. `asked`: slots of the registers that must be near
    where code goes from one block to another, and (with None in the place of the first) where the region is entered;
    else code goes on at that block outside.
    """

    def __init__(self, region: Region, highest: int, guard: int, stack: int, cheap: Collection[int]) -> None:
        """`highest` address of the guest; `stack`: the slot of the register that points to the stack; `cheap`: slots of
        the registers that may be asked for. An access's constant offset, and its size, are to be less than the `guard`.
        """
        self._region = region
        self._highest = highest
        self._guard = guard
        self._cheap = cheap
        self.looks: dict[Inst, Value] = {}
        self.asked: dict[tuple[int | None, int], tuple[int, ...]] = {}
        self._straight = {block.pc: self._forms(block) for block in region.blocks}
        self._matters = self._roots()
        gates = {region.pc, *region.gates}
        before: dict[int, list[int]] = {pc: [] for pc in self._straight}
        for pc, leads in region.edges.items():
            for to in leads:
                before[to].append(pc)
        wanted = self._wanted(stack, gates)
        known, after = self._solved(wanted, gates, before)
        for pc, straight in self._straight.items():
            self._walk(straight, known.get(pc, {}), self.looks)
        for pc, slots in wanted.items():
            kept = sorted(slots & known.get(pc, {}).keys())
            if pc in gates and kept:
                self.asked[None, pc] = tuple(kept)
            for source in set(before[pc]):
                if self._is_before_loop(source, pc):
                    missing = tuple(slot for slot in kept if slot not in after[source])
                    if missing:
                        self.asked[source, pc] = missing

    def _is_near(self, low: int, high: int) -> bool:
        return -self._guard <= low and high <= self._guard

    def _is_before_loop(self, source: int, pc: int) -> bool:
        return pc in self._region.loops and (source, pc) not in self._region.back

    # --- blocks by themselves -------------------------------------------------------------------------

    def _forms(self, block: Block) -> Straight:
        bounds: dict[Inst, Interval] = {}
        forms: dict[Inst, Form] = {}
        found = Straight([], set(), {}, {})
        last: dict[int, Value] = {}
        for inst in block.insts:
            if inst.op.name == "setreg":
                last[int(str(inst.attrs[0]))] = inst.args[0]
                continue
            if inst.op.effects & {"load", "store"}:
                self._access(inst, bounds, forms, found.accesses)
            if inst.op.result == "i64":
                bound = bound_of(inst, bounds)
                if bound is not None:
                    bounds[inst] = bound
                forms[inst] = self._form(inst, bounds, forms)
        found.changed.update(last)
        for slot, value in last.items():
            bound = interval(value, bounds)
            if bound is not None:
                found.bounded[slot] = min(bound[0], 0), max(bound[1] - self._highest, 0)
            elif value in forms:
                form = forms[value]
                found.moved[slot] = form.root, form.away + form.low, form.away + form.high
        return found

    def _access(self, inst: Inst, bounds: Mapping[Inst, Interval], forms: Mapping[Inst, Form],
                accesses: list[Access]) -> None:  # fmt: skip
        base = inst.args[0]
        offset, size = reach_of(inst)
        bound = interval(base, bounds)
        if bound is not None and self._is_near(bound[0] + offset, bound[1] + offset + size - self._highest):
            return
        if isinstance(base, int):
            self.looks[inst] = base
            return
        form = forms[base]
        if not self._is_near(form.low + offset, form.high + offset + size):
            form = Form(base, 0, 0, 0, base)
        root, away, low, high, seen = form
        told = away + offset if low == high == 0 else None
        accesses.append(Access(inst, root, away, low + offset, high + offset + size, seen, told))

    def _form(self, inst: Inst, bounds: Mapping[Inst, Interval], forms: Mapping[Inst, Form]) -> Form:
        name, args = inst.op.name, inst.args
        if name == "getreg":
            return Form(int(str(inst.attrs[0])), 0, 0, 0, inst)
        if name in ("add", "sub", "and") and inst not in bounds:
            for base, other in (args, args[::-1]) if name != "sub" else (args,):
                form = None if isinstance(base, int) else forms.get(base)
                step = _step(name, other, bounds)
                if form is None or step is None:
                    continue
                low, high = form.low + step[0], form.high + step[1]
                if form.low == form.high == 0 and step[0] == step[1]:
                    if abs(form.away + low) < SURE:
                        return Form(form.root, form.away + low, 0, 0, inst)
                elif self._is_near(2 * low, 2 * high):  # so that there is room for an offset
                    return form._replace(low=low, high=high)
        return Form(inst, 0, 0, 0, inst)

    # --- blocks in turn -------------------------------------------------------------------------------

    def _roots(self) -> set[int]:
        """Slots of registers from which some access is reached, in whatever block."""
        found = {access.root for block in self._straight.values() for access in block.accesses}
        sources: dict[object, set[Root]] = {}
        for block in self._straight.values():
            for slot, (root, _, _) in block.moved.items():
                sources.setdefault(slot, set()).add(root)
        ahead = list(found)
        while ahead:
            for root in sources.get(ahead.pop(), ()):
                if root not in found:
                    found.add(root)
                    ahead.append(root)
        return {root for root in found if isinstance(root, int)}

    def _wanted(self, stack: int, gates: Iterable[int]) -> dict[int, set[int]]:
        """Slots of registers that are looked at before a loop, by its head, and where the region is entered, if they
        are near on all other ways that lead there.
        """
        region = self._region
        always = {stack} & self._matters
        roots = {pc: {access.root for access in block.accesses if isinstance(access.root, int)}
                 for pc, block in self._straight.items()}  # fmt: skip
        ran = {pc: region.ran(pc) for pc in roots} if region.loops else {}
        found: dict[int, set[int]] = {}
        for head, loop in region.loops.items():
            slots = set[int]().union(*(roots[pc] for pc in loop if 2 * ran[pc] >= ran[head]))
            found[head] = always | {slot for slot in slots if self._steps(slot, loop)}
        for gate in gates:
            if gate not in found:
                around = [found[head] for head, loop in region.loops.items() if gate in loop]
                found[gate] = always.union(roots[gate], *around)
        return {pc: slots.intersection(self._cheap) for pc, slots in found.items()}

    def _steps(self, slot: int, loop: Iterable[int]) -> bool:
        """Whether a register is in a loop what it was, or goes on from there."""
        changes = [block for block in map(self._straight.__getitem__, loop) if slot in block.changed]
        return all(slot in block.moved and block.moved[slot][0] == slot for block in changes)

    def _solved(self, wanted: Mapping[int, set[int]], gates: set[int],
                before: Mapping[int, list[int]]) -> tuple[dict[int, Facts], dict[int, Facts]]:  # fmt: skip
        """What is known where each block begins, and behind it. To begin with all is, and then less and less."""
        known: dict[int, Facts] = {}
        after: dict[int, Facts] = {}
        shrunk: dict[tuple[int, int], int] = {}
        order = self._region.forward
        changed = True
        while changed:
            changed = False
            for pc in order:
                ways = []
                looked_at = dict.fromkeys(wanted.get(pc, ()), (0, 0))
                for source in before[pc]:
                    if source in after:
                        ways.append({**looked_at, **after[source]} if self._is_before_loop(source, pc)
                                    else after[source])  # fmt: skip
                if pc in gates:
                    ways.append(looked_at if before[pc] else {})
                if not ways:
                    continue
                facts = ways[0] if len(ways) == 1 else self._met(ways, pc, known.get(pc), shrunk)
                if facts != known.get(pc):
                    known[pc] = facts
                    after[pc] = self._walk(self._straight[pc], facts, {})
                    changed = True
        return known, after

    def _met(self, ways: list[Facts], pc: int, old: Facts | None, shrunk: dict[tuple[int, int], int]) -> Facts:
        """What is known on all these ways."""
        found = {}
        for slot in set.intersection(*map(set, ways)):
            low, high = min(way[slot][0] for way in ways), max(way[slot][1] for way in ways)
            times = shrunk.get((pc, slot), 0)
            if old is not None and old.get(slot) != (low, high):
                shrunk[pc, slot] = times = times + 1
            if times <= GROWS and self._is_near(low, high):
                found[slot] = low, high
        return found

    def _walk(self, block: Straight, before: Facts, looks: dict[Inst, Value]) -> Facts:
        """What is known of registers behind a block; adds the looks that it needs."""
        facts: dict[Root, Interval] = dict(before.items())
        for inst, root, away, low, high, seen, told in block.accesses:
            known = facts.get(root)
            if known is None or not self._is_near(known[0] + away + low, known[1] + away + high):
                looks[inst] = seen
                facts[root] = -away, -away
            if told is not None:
                facts[root] = -told, -told
        found = {slot: what for slot, what in facts.items() if isinstance(slot, int) and slot in self._matters}
        for slot in block.changed & found.keys():
            del found[slot]
        ahead = {**block.bounded, **{
            slot: (facts[root][0] + low, facts[root][1] + high)
            for slot, (root, low, high) in block.moved.items() if root in facts
        }}  # fmt: skip
        found.update((slot, what) for slot, what in ahead.items() if slot in self._matters and self._is_near(*what))
        return found


def reach_of(inst: Inst) -> Interval:
    """An access's offset from its base, and size."""
    offset, size = {"load": (0, 1), "store": (0, 1), "amo": (None, 1), "store_conditional": (None, 0)}[inst.op.name]
    at = 0 if offset is None else signed(int(str(inst.attrs[offset])) & MASK)
    return at, int(str(inst.attrs[size]))


def interval(value: Value, bounds: Mapping[Inst, Interval]) -> Interval | None:
    """What a value lies between, as a signed integer, if that is known and not much."""
    if isinstance(value, int):
        number = signed(value)
        return (number, number) if -SURE < number < SURE else None
    return bounds.get(value)


def _step(name: str, value: Value, bounds: Mapping[Inst, Interval]) -> Interval | None:
    """What an operation with this value adds to the other one."""
    known = interval(value, bounds)
    if name == "and":
        lower = -known[0] if known is not None and known[0] == known[1] < 0 else 0
        return (1 - lower, 0) if lower and lower & lower - 1 == 0 else None
    if known is None or name == "add":
        return known
    return -known[1], -known[0]


def bound_of(inst: Inst, bounds: Mapping[Inst, Interval]) -> Interval | None:
    """What the result of an operation lies between, as a signed integer, if that is known."""
    name, args, attrs = inst.op.name, inst.args, inst.attrs
    match name:
        case "zext" | "sext" | "load":
            bits = 8 * int(str(attrs[1])) if name == "load" else int(str(attrs[0]))
            has_sign = name == "sext" or (name == "load" and bool(attrs[2]))
            found = (-1 << bits - 1, (1 << bits - 1) - 1) if has_sign else (0, (1 << bits) - 1)
            inner = None if name == "load" else interval(args[0], bounds)
            if inner is not None and found[0] <= inner[0] and inner[1] <= found[1]:
                found = inner
        case "bit":
            found = 0, 1
        case "clz" | "ctz" | "popcount":
            found = 0, 64
        case "and":
            highest = [known[1] for known in (interval(a, bounds) for a in args) if known is not None and known[0] >= 0]
            if not highest:
                return None
            found = 0, min(highest)
        case "or" | "xor":
            each = [interval(a, bounds) for a in args]
            if any(known is None or known[0] < 0 for known in each):
                return None
            found = 0, (1 << max(known[1] for known in each if known is not None).bit_length()) - 1
        case "shl" | "shr" | "sar":
            known, by = interval(args[0], bounds), args[1]
            if not isinstance(by, int):
                return None
            by &= 63
            if name == "shr" and (known is None or known[0] < 0):
                found = 0, MASK >> by
            elif known is None:
                return None
            else:
                found = (known[0] << by, known[1] << by) if name == "shl" else (known[0] >> by, known[1] >> by)
        case "add" | "sub":
            one, other = interval(args[0], bounds), _step(name, args[1], bounds)
            if one is None or other is None:
                return None
            found = one[0] + other[0], one[1] + other[1]
        case "select":
            ways = interval(args[1], bounds), interval(args[2], bounds)
            if ways[0] is None or ways[1] is None:
                return None
            found = min(ways[0][0], ways[1][0]), max(ways[0][1], ways[1][1])
        case _:
            return None
    return found if found[0] > -SURE and found[1] < SURE else None
