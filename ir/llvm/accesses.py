"""Which accesses of a machine's region are looked up as one, and which keep the page that they found last.

Owns: spans, bases that go on in steps. Must not know: tables, how an access is lowered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ir.block import Block, Inst, Value
from ir.llvm.emitter import slot_of
from ir.records import record
from ir.region import Region

WIDEST = 1024  # bytes of a span: a longer one lies in two pages too often
SUMS = frozenset(("add", "sub", "and", "shl", "shr", "sar", "sext", "zext"))  # what indices are made with


@record
class Span:
    """Bytes of the guest that accesses of a block lie in, from `low` to below `high` of one base."""

    base: Value
    writing: bool
    low: int
    high: int
    left: int = 0  # accesses that are still to come
    pointer: str = ""  # the host address of its first byte, if `valid`
    valid: str = ""  # the variable that says whether the pointer may be used

    def takes(self, low: int, high: int) -> bool:
        """Whether these bytes as well are few enough; then they are its own."""
        low, high = min(low, self.low), max(high, self.high)
        if high - low > WIDEST:
            return False
        self.low, self.high = low, high
        self.left += 1
        return True


def spans(insts: Sequence[Inst]) -> dict[Inst, Span]:
    """Which accesses are near others. A load may be in a span that is written to, no store in one that is read."""
    found: dict[Inst, Span] = {}
    last: dict[tuple[Value, bool], Span] = {}
    for inst in insts:
        access = accessed(inst)
        base = inst.args[0] if access is not None else 0
        if access is None or isinstance(base, int):
            continue
        offset, size, writing = access
        known = [last.get((base, kind)) for kind in ((True,) if writing else (True, False))]
        span = next((span for span in known if span is not None and span.takes(offset, offset + size)), None)
        if span is None:
            span = last[base, writing] = Span(base, writing, offset, offset + size, 1)
        found[inst] = span
    return {inst: span for inst, span in found.items() if span.left > 1}


def recent(region: Region, stack: int, most: int) -> dict[tuple[Value, bool], int]:
    """The accesses that keep the page they found last, by their base and whether they store; with a pair's number.

    Those are the ones that run most often in loops and whose base goes on in steps: one that comes from memory is in
    another page each time, and the processor cannot foresee which. All loads from one register share a pair, and all
    stores to where it points. `most` are for loads, and as many for stores.
    """
    weights: Counter[tuple[Value, bool]] = Counter()
    ways: dict[tuple[Value, bool], tuple[Value, bool]] = {}
    steady = stepping(region, stack)
    for block in region.blocks:
        for inst in block.insts:
            access = accessed(inst)
            if access is not None and inst.args[0] in steady:
                base, writing = inst.args[0], access[2]
                shared = slot_of(base) if isinstance(base, Inst) and base.op.name == "getreg" else base
                ways[base, writing] = shared, writing
                weights[shared, writing] += region.ran(block.pc)
    numbers: dict[tuple[Value, bool], int] = {}
    for kind in (False, True):
        often = [key for key, ran in weights.most_common() if key[1] is kind and ran][:most]
        numbers.update((key, i) for i, key in enumerate(often, most * kind))
    return {way: numbers[shared] for way, shared in ways.items() if shared in numbers}


def stepping(region: Region, stack: int) -> set[Value]:
    """Values that go on in steps in the innermost loop around them: sums, masks and shifts of constants and of
    registers that come into the loop, or have such a value whichever way a block is come to. A step is a constant:
    rows of a matrix are in a page each. What is loaded from where the register in slot `stack` points is what had been
    saved there.
    """
    found: set[Value] = set()
    done: set[int] = set()
    for loop in sorted(region.loops.values(), key=len):
        blocks = [block for block in region.blocks if block.pc in loop]
        slots = {slot_of(inst) for block in blocks for inst in block.insts if inst.op.name in ("getreg", "setreg")}
        before = {pc: set(slots) for pc in loop}
        steady: dict[int, set[Value]] = {}
        changed = True
        while changed:
            changed = False
            for block in blocks:
                steady[block.pc], after = _steps(block, before[block.pc], stack)
                for pc in region.edges[block.pc]:
                    if pc in loop and not before[pc] <= after:
                        before[pc] &= after
                        changed = True
        found.update(*(steady[pc] for pc in loop - done))
        done |= loop
    return found


def _steps(block: Block, steady: set[int], stack: int) -> tuple[set[Value], set[int]]:
    """The same of one block, before which registers of these slots go on in steps, and what they are behind it."""
    made_of: dict[Value, set[int]] = {}  # of which registers
    restored: set[Value] = set()
    after = set(steady)
    for inst in block.insts:
        steps = all(isinstance(value, int) or value in made_of for value in inst.args)
        slots: set[int] = set().union(*(made_of.get(value, ()) for value in inst.args))
        if inst.op.name == "load" and slots == {stack}:
            restored.add(inst)
        elif inst.op.name == "setreg" and inst.args[0] not in restored:
            slot = slot_of(inst)
            (after.add if steps and (slot not in slots or len(slots) == 1) else after.discard)(slot)
        elif inst.op.name == "getreg":
            if slot_of(inst) in after:
                made_of[inst] = {slot_of(inst)}
        elif inst.op.name in SUMS and steps:
            made_of[inst] = slots
    return set(made_of), after


def accessed(inst: Inst) -> tuple[int, int, bool] | None:
    """Offset, size, and whether it is written, of an access whose page may be remembered."""
    match inst.op.name, inst.attrs:
        case "load", (int(offset), int(size), _):
            return offset, size, False
        case "store", (int(offset), int(size)):
            return offset, size, True
        case ("amo", (_, int(size))) | ("store_conditional", (int(size), *_)):
            return 0, size, True
    return None
