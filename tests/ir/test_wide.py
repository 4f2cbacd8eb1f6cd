"""Accesses beside each other that become one: on random blocks of such accesses, which may fault and leave anywhere."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from support.riscv import scaled

from ir.block import Block, Branch, GuestInsn, Inst, Jump, Value
from ir.builder import Builder
from ir.ops import MASK, OPS
from ir.passes import MACHINE, PIPELINE, optimise, wide
from ir.text import show
from ir.verify import verify

P, Q = 8, 9  # slots of pointers
TEMPORARY = range(10, 18)
WORD = 4  # bytes of a guest instruction


class Made(Builder):
    """A block of guest instructions that each read registers, do one thing and write a register."""

    def __init__(self) -> None:
        super().__init__(0x1000)

    def insn(self) -> None:
        self.begin(GuestInsn(0x1000 + WORD * len(self.block.guest), WORD, "made up", "ident"))

    def get(self, slot: int) -> Value:
        return self.emit("getreg", (), (slot,))

    def set(self, slot: int, name: str, *args: Value, attrs: tuple[object, ...] = ()) -> None:
        self.emit("setreg", (self.emit(name, args, attrs),), (slot,))

    def load(self, slot: int, base: int, offset: int, size: int = 1, signed: bool = False) -> None:
        self.insn()
        self.set(slot, "load", self.get(base), attrs=(offset, size, signed))

    def store(self, base: int, slot: int, offset: int, size: int = 1) -> None:
        self.insn()
        self.emit("store", (self.get(base), self.get(slot)), (offset, size))

    def shift(self, slot: int, other: int, name: str, by: int) -> None:
        self.insn()
        self.set(slot, name, self.get(other), by)

    def both(self, slot: int, one: int, other: int, name: str = "or") -> None:
        self.insn()
        self.set(slot, name, self.get(one), self.get(other))

    def extend(self, slot: int, name: str, bits: int = 32) -> None:
        self.insn()
        self.set(slot, name, self.get(slot), attrs=(bits,))

    def done(self) -> Block:
        return verify(self.finish(Jump(0x2000)))


def noise(b: Made, rng: Random) -> None:
    """Now and then something else, which may touch the same memory, or leave."""
    while rng.random() < 0.12:
        match rng.randrange(5):
            case 0:
                b.load(rng.choice(TEMPORARY), rng.choice((P, Q)), rng.randrange(-2, 10), rng.choice((1, 2, 4, 8)))
            case 1:
                b.store(rng.choice((P, Q)), rng.choice(TEMPORARY), rng.randrange(-2, 10), rng.choice((1, 2, 4, 8)))
            case 2:
                b.insn()
                low = b.emit("and", (b.get(rng.choice(TEMPORARY)), 7), ())
                b.emit("leave_if", (b.emit("eq", (low, 0), ()),), ("trap",))
            case 3:
                b.both(*rng.choices(TEMPORARY, k=3), rng.choice(("or", "add", "xor")))
            case 4:
                b.insn()
                b.set(rng.choice((P, Q)), "add", b.get(rng.choice((P, Q))), rng.choice((1, 8, -1 & MASK)))


def slip(rng: Random, number: int, other: int) -> int:
    return other if rng.random() < 0.04 else number


def loads(b: Made, rng: Random) -> None:
    """A word put together from bytes or halves, in either order, with a signed highest part at times."""
    part = rng.choice((1, 1, 1, 2, 4))
    count = rng.choice([n for n in (2, 4, 8) if n * part <= 8])
    base, offset, backwards = rng.choice((P, Q)), rng.randrange(-3, 5), rng.random() < 0.4
    order = list(range(count))
    rng.shuffle(order)
    for k, i in enumerate(order):
        slot = TEMPORARY[k % 3 + 1 if k else 0]
        away = (count - 1 - i if backwards else i) * part
        top = i == count - 1 and rng.random() < 0.5
        b.load(slot, base, offset + slip(rng, away, 0), part, top)
        noise(b, rng)
        by = 8 * part * slip(rng, i, 1)
        if by:
            b.shift(slot, slot, "shl", by)
        if k:
            b.both(TEMPORARY[0], TEMPORARY[0], slot, rng.choice(("or", "or", "add", "xor")))
        noise(b, rng)
    if rng.random() < 0.4:
        b.extend(TEMPORARY[0], rng.choice(("sext", "zext")), rng.choice((16, 32)))


def stores(b: Made, rng: Random) -> None:
    """A word stored by bytes or halves, or constants."""
    part = rng.choice((1, 1, 1, 2, 4))
    count = rng.choice([n for n in (2, 4, 8) if n * part <= 8])
    base, offset, value = rng.choice((P, Q)), rng.randrange(-3, 5), rng.choice(TEMPORARY[:2])
    order = list(range(count))
    rng.shuffle(order)
    if rng.random() < 0.2:
        b.insn()
        b.set(value, "load", b.get(P), attrs=(16, 8, False))
    if rng.random() < 0.3:
        b.shift(value, value, rng.choice(("shr", "sar")), rng.choice((8, 24, 48)))
    fixed = rng.random() < 0.15
    slots = {}
    for i in order:  # all shifts first, as compilers have it
        slots[i] = TEMPORARY[i] if i else value
        if fixed:
            b.insn()
            b.emit("setreg", (rng.getrandbits(8 * part),), (TEMPORARY[i],))
            slots[i] = TEMPORARY[i]
        elif i and TEMPORARY[i] != value:
            b.shift(TEMPORARY[i], value, rng.choice(("shr", "shr", "sar")), 8 * part * slip(rng, i, 1))
            if rng.random() < 0.2:
                b.extend(TEMPORARY[i], "zext", rng.choice((8, 16, 32)))
    noise(b, rng)
    for i in order:
        b.store(base, slots[i], offset + part * slip(rng, i, 0), part)
        noise(b, rng)


def copies(b: Made, rng: Random) -> None:
    """Bytes from one place to another."""
    count = rng.choice((2, 4, 8))
    to, source = rng.choice(((P, Q), (Q, P), (P, P)))
    offset = rng.randrange(-3, 5)
    for i in range(count):
        b.load(TEMPORARY[i], source, offset + slip(rng, i, 0), 1, rng.random() < 0.2)
        noise(b, rng)
    order = list(range(count))
    if rng.random() < 0.5:
        rng.shuffle(order)
    for i in order:
        b.store(to, TEMPORARY[slip(rng, i, 0)], slip(rng, i, 0), 1)
        noise(b, rng)


class Left(Exception):
    """Code leaves before a guest instruction."""


class Machine:
    """Executes a block: registers and memory, where some bytes are not mapped."""

    def __init__(self, slots: dict[int, int], memory: dict[int, int], missing: set[int]) -> None:
        self.slots, self.memory, self.missing = dict(slots), dict(memory), missing

    def run(self, block: Block, until: int | None = None) -> int | None:
        """The guest instruction that it leaves before, which `until` is at the latest, in the state that is before it.

        None: it came to its end.
        """
        values: dict[Inst, int] = {}
        at, before = -1, (self.slots, self.memory)
        for inst in block.insts:
            if inst.at != at:
                if until is not None and inst.at >= until:
                    return until
                at, before = inst.at, (dict(self.slots), dict(self.memory))
            try:
                self.one(inst, values)
            except Left:
                self.slots, self.memory = before
                return inst.at
        return until

    def one(self, inst: Inst, values: dict[Inst, int]) -> None:
        args = [values[a] if isinstance(a, Inst) else a for a in inst.args]
        match inst.op.name, inst.attrs:
            case "getreg", (int(slot),):
                values[inst] = self.slots[slot]
            case "setreg", (int(slot),):
                self.slots[slot] = args[0]
            case "load", (int(offset), int(size), has_sign):
                raw = int.from_bytes(bytes(self.memory[a] for a in self.places(args[0] + offset, size)), "little")
                values[inst] = OPS["sext"].meaning(raw, 8 * size) if has_sign else raw  # type: ignore[misc]
            case "store", (int(offset), int(size)):
                for i, address in enumerate(self.places(args[0] + offset, size)):
                    self.memory[address] = args[1] >> 8 * i & 0xFF
            case "leave_if", _:
                if args[0]:
                    raise Left
            case _, attrs:
                assert inst.op.meaning is not None
                values[inst] = int(inst.op.meaning(*args, *attrs))

    def places(self, address: int, size: int) -> list[int]:
        found = [address + i & MASK for i in range(size)]
        if any(place in self.missing or place not in self.memory for place in found):
            raise Left
        return found


def compare(block: Block, after: Block, rng: Random, counts: Counter[str]) -> None:
    base = 0x100
    slots = {slot: rng.getrandbits(64) for slot in TEMPORARY}
    slots[P], slots[Q] = base + rng.randrange(64), base + rng.randrange(64)
    memory = {base - 32 + i: rng.getrandbits(8) for i in range(160)}
    missing = {rng.randrange(base - 8, base + 80) for _ in range(rng.choice((0, 0, 1, 3)))}
    now = Machine(slots, memory, missing)
    left = now.run(after)
    first = Machine(slots, memory, missing)
    theirs = first.run(block, left)
    assert theirs == left, f"leaves before {left}, which it came to: {theirs}"
    assert (first.slots, first.memory) == (now.slots, now.memory)
    if left is not None:
        counts["left"] += 1
        rest = Machine(slots, memory, missing)
        assert rest.run(block) is not None, "it leaves, and the guest's code would not have"


def accesses(block: Block) -> int:
    return sum(inst.op.name in ("load", "store") for inst in block.insts)


def test_wide_accesses_do_what_narrow_ones_did() -> None:
    """To the end or to where code leaves: registers and memory are those before that guest instruction."""
    rng = Random(41)
    counts: Counter[str] = Counter()
    for case in range(scaled(4000)):
        b = Made()
        for _ in range(rng.randrange(1, 4)):
            rng.choice((loads, stores, copies))(b, rng)
        block = optimise(b.done(), MACHINE)
        after = optimise(block, PIPELINE)
        counts["changed"] += accesses(after) < accesses(block)
        counts["gone"] += accesses(block) - accesses(after)
        for _ in range(4):
            try:
                compare(block, after, rng, counts)
            except AssertionError as wrong:
                raise AssertionError(f"case {case}: {wrong}\n{show(block)}\n-->\n{show(after)}") from wrong
    assert counts["changed"] > scaled(1500) and counts["gone"] > scaled(8000) and counts["left"] > scaled(2000), counts


# --- what becomes one, and what does not --------------------------------------------------------------


def widths(b: Made) -> list[tuple[str, int, int]]:
    """Accesses after the passes: what, offset, size."""
    return [(inst.op.name, int(str(inst.attrs[0])), int(str(inst.attrs[1])))
            for inst in optimise(b.done()).insts if inst.op.name in ("load", "store")]  # fmt: skip


def put_together(b: Made, order: list[int], between: int | None = None) -> Made:
    """A word of four bytes at P; behind so many of them a byte at Q is stored."""
    for k, i in enumerate(order):
        if k == between:
            b.store(Q, 17, 0)
        b.load(10 + i, P, i)
        b.shift(10 + i, 10 + i, "shl", 8 * i)
    for i in order[1:]:
        b.both(10 + order[0], 10 + order[0], 10 + i)
    return b


def test_bytes_that_are_put_together_are_one_load() -> None:
    assert widths(put_together(Made(), [0, 1, 2, 3])) == [("load", 0, 4)]
    assert widths(put_together(Made(), [3, 1, 0, 2])) == [("load", 0, 4)]


@pytest.mark.parametrize("between", [1, 3])
def test_bytes_with_a_store_between_are_not(between: int) -> None:
    found = widths(put_together(Made(), [0, 1, 2, 3], between))
    assert found.count(("store", 0, 1)) == 1 and ("load", 0, 4) not in found


def test_bytes_that_are_used_by_themselves_stay_loads() -> None:
    b = Made()
    for i in range(4):
        b.load(10 + i, P, i)
    assert widths(b) == [("load", i, 1) for i in range(4)]


def test_copies_of_a_sign_are_no_byte() -> None:
    b = Made()
    b.load(10, P, 0, signed=True)
    b.shift(10, 10, "shr", 8)
    b.extend(10, "zext", 8)
    b.load(11, P, 1)
    b.shift(11, 11, "shl", 8)
    b.both(10, 10, 11)
    assert widths(b) == [("load", 0, 1), ("load", 1, 1)]


@pytest.mark.parametrize("order", [range(8), [4, 5, 6, 7, 0, 1, 2, 3], [7, 0, 3, 1, 2, 6, 5, 4]])
def test_bytes_of_a_value_are_one_store(order: list[int]) -> None:
    b = Made()
    for i in range(1, 8):
        b.shift(10 + i, 10, "shr", 8 * i)
    for i in order:
        b.store(P, 10 + i, 5 + i)
    assert widths(b) == [("store", 5, 8)]


def test_bytes_that_go_elsewhere_are_not_one_store() -> None:
    b = Made()
    b.shift(11, 10, "shr", 8)
    b.store(P, 10, 0)
    b.store(Q, 11, 1)
    assert widths(b) == [("store", 0, 1), ("store", 1, 1)]


def test_stores_with_an_access_or_a_way_out_between_them_stay_two() -> None:
    """The guest may see the first of them, if the second is never made."""
    for other in ("load", "leave", "nothing"):
        b = Made()
        b.shift(11, 10, "shr", 8)
        b.store(P, 10, 0)
        if other == "load":
            b.load(12, Q, 0)
        elif other == "leave":
            b.insn()
            b.emit("leave_if", (b.emit("eq", (b.get(12), 0), ()),), ("trap",))
        b.store(P, 11, 1)
        assert (("store", 0, 2) in widths(b)) == (other == "nothing"), other


def test_a_copy_of_bytes_is_a_load_and_a_store() -> None:
    b = Made()
    for i in range(8):
        b.load(10 + i, Q, i)
    for i in range(8):
        b.store(P, 10 + i, i)
    assert widths(b) == [("load", 0, 8), ("store", 0, 8)]


def test_constants_are_one_store() -> None:
    b = Made()
    for i in range(4):
        b.insn()
        b.emit("store", (b.get(P), 0x10 + i), (i, 1))
    stored = [inst for inst in optimise(b.done()).insts if inst.op.name == "store"]
    assert [(inst.args[1], inst.attrs) for inst in stored] == [(0x13121110, (0, 4))]


def test_a_block_without_such_accesses_is_left_as_it_is() -> None:
    b = Made()
    b.load(10, P, 0, 8)
    b.store(P, 10, 8, 8)
    test = b.emit("eq", (b.get(10), 0), ())
    block = verify(b.finish(Branch(test, 0x2000, 0x3000)))
    assert wide.run(block) is block
