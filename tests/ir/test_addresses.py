"""Which accesses are preceded by a look at their address: on hand-made regions, and on random ones that are run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random

import pytest
from support.riscv import scaled

from ir.addresses import Addresses
from ir.block import Block, Branch, Exit, GuestInsn, Inst, Jump, Value
from ir.builder import Builder
from ir.llvm.emitter import slot_of
from ir.ops import MASK, OPS, signed
from ir.passes import optimise
from ir.region import Region

STACK, P, Q, N, LINK = 2, 8, 9, 10, 1  # slots
HIGHEST, GUARD = 0xFFFF, 0x1000
Fill = Callable[["Made"], None]


class Made(Builder):
    """Blocks of one instruction, from shorter words."""

    def get(self, slot: int) -> Value:
        return self.emit("getreg", (), (slot,))

    def put(self, slot: int, value: Value) -> None:
        self.emit("setreg", (value,), (slot,))

    def op(self, name: str, *args: Value, attrs: tuple[object, ...] = ()) -> Value:
        return self.emit(name, args, attrs)

    def read(self, base: Value, offset: int = 0, size: int = 8) -> Value:
        return self.emit("load", (base,), (offset, size, False))

    def write(self, base: Value, offset: int = 0) -> None:
        self.emit("store", (base, 7), (offset, 8))


def block(pc: int, fill: Fill, exit: Exit | None = None, taken: int = 0) -> Block:
    """Without an exit it branches to `taken`, and else goes on behind itself."""
    b = Made(pc)
    b.begin(GuestInsn(pc, 4, "made up", "ident"))
    fill(b)
    return optimise(b.finish(exit or Branch(b.op("eq", b.get(N), 0), taken, pc + 4)))


Looks, Asked = list[tuple[int, object]], dict[object, object]


def found(
    *blocks: Block, weights: dict[int, int] | None = None, cheap: tuple[int, ...] = (STACK, P, Q)
) -> tuple[Looks, Asked]:
    """Block and what is looked at, by each look: a slot, a constant, or else the name of an op; and what is asked."""
    region = Region(list(blocks), weights or {block.pc: 100 for block in blocks})
    addresses = Addresses(region, HIGHEST, GUARD, STACK, cheap)
    looks = []
    for each in blocks:
        for inst in each.insts:
            seen = addresses.looks.get(inst)
            if isinstance(seen, Inst):
                looks.append((each.pc, slot_of(seen) if seen.op.name == "getreg" else seen.op.name))
            elif seen is not None:
                looks.append((each.pc, signed(seen)))
    return looks, dict(addresses.asked)


def nothing(b: Made) -> None:
    pass


def reads(slot: int) -> Fill:
    def fill(b: Made) -> None:
        b.read(b.get(slot))

    return fill


def writes(slot: int) -> Fill:
    return lambda b: b.write(b.get(slot))


# --- one block --------------------------------------------------------------------------------------------------------


def test_one_look_is_enough_for_all_that_is_reached_from_a_value_with_few_bits_more() -> None:
    def fill(b: Made) -> None:
        p = b.get(P)
        b.read(p, 8)
        b.write(b.op("add", p, 64), -8)
        index = b.op("shl", b.op("and", b.get(Q), 0xFF), 3)
        b.read(b.op("add", index, p))
        b.read(b.op("sub", p, index), 16)
        b.read(b.op("and", p, -16 & MASK))

    assert found(block(0x100, fill, Jump(0x900))) == ([(0x100, P)], {})


def test_what_has_more_bits_is_looked_at_itself() -> None:
    def fill(b: Made) -> None:
        p, q = b.get(P), b.get(Q)
        b.read(p)
        b.read(b.op("add", p, q))
        b.read(b.op("add", p, b.op("zext", q, attrs=(16,))))
        b.read(b.op("add", p, 0x20000))

    assert found(block(0x100, fill, Jump(0x900)))[0] == [(0x100, P), (0x100, "add"), (0x100, "add"), (0x100, "add")]


@pytest.mark.parametrize("more", [0, 1])
def test_what_is_far_from_what_was_looked_at_is_looked_at_too(more: int) -> None:
    """An index or a mask tells nothing of where in its range the address was."""

    def indexed(b: Made) -> None:
        p = b.get(P)
        b.read(b.op("add", b.op("add", p, 2000), b.op("and", b.get(Q), 0x7FF)))
        b.read(b.op("sub", p, GUARD - 2000 + more))

    def masked(b: Made) -> None:
        b.read(b.op("and", b.get(P), -2048 & MASK))
        b.read(b.op("and", b.get(P), -2048 & MASK), 2047 - GUARD - more)

    assert found(block(0x100, indexed, Jump(0x900)))[0] == [(0x100, "add"), (0x100, "sub")][: 1 + more]
    assert found(block(0x100, masked, Jump(0x900)))[0] == [(0x100, P), (0x100, "and")][: 1 + more]


@pytest.mark.parametrize(("address", "seen"), [
    (0x1000, False), (HIGHEST + GUARD - 8, False), (HIGHEST + GUARD - 7, True), (-GUARD, False), (-GUARD - 1, True),
])  # fmt: skip
def test_constants_are_known(address: int, seen: bool) -> None:
    looks, _ = found(block(0x100, lambda b: b.write(address & MASK), Jump(0x900)))
    assert looks == ([(0x100, address)] if seen else [])


def test_an_index_alone_is_near_where_the_guest_s_memory_begins_at_zero() -> None:
    def fill(b: Made) -> None:
        b.read(b.op("zext", b.get(P), attrs=(16,)))
        b.read(b.op("add", b.op("shl", b.read(0x100, 0, 1), 4), 0x1000))
        b.read(b.op("zext", b.get(P), attrs=(32,)))

    assert found(block(0x100, fill, Jump(0x900)))[0] == [(0x100, "zext")]


# --- several ----------------------------------------------------------------------------------------------------------


def test_what_one_block_has_found_holds_in_the_next_until_the_register_changes() -> None:
    def changes(b: Made) -> None:
        b.read(b.get(P))
        b.put(P, b.read(b.get(P), 8))

    looks, _ = found(block(0x100, writes(P), Jump(0x104)), block(0x104, changes, Jump(0x108)),
                     block(0x108, writes(P), Jump(0x900)))  # fmt: skip
    assert looks == [(0x100, P), (0x108, P)]


def test_where_ways_meet_only_what_is_known_on_both_is() -> None:
    def both(b: Made) -> None:
        b.read(b.get(P))
        b.read(b.get(Q))

    looks, _ = found(
        block(0x100, writes(P), taken=0x108),
        block(0x104, writes(Q), Jump(0x108)),
        block(0x108, both, Jump(0x900)),
    )
    assert looks == [(0x100, P), (0x104, Q), (0x108, Q)]


def test_a_pointer_that_goes_through_memory_is_looked_at_before_the_loop() -> None:
    """Where the region is entered in the loop, and on the way from the block before it."""

    def steps(b: Made) -> None:
        b.read(b.get(P))
        b.put(P, b.op("add", b.get(P), 8))

    looks, asked = found(block(0x100, nothing, Jump(0x104)), block(0x104, steps, taken=0x104))
    assert looks == [] and asked == {(None, 0x104): (P,), (0x100, 0x104): (P,)}
    looks, asked = found(block(0x100, nothing, Jump(0x104)), block(0x104, steps, taken=0x104), cheap=(Q, STACK))
    assert looks == [(0x104, P)] and asked == {}, "it would have to be loaded there"
    known = block(0x100, writes(P), Jump(0x104))
    assert found(known, block(0x104, steps, taken=0x104)) == ([(0x100, P)], {(None, 0x104): (P,)})


def test_one_that_goes_on_without_an_access_is_lost() -> None:
    """It would be far away some day."""

    def skips(b: Made) -> None:
        b.put(P, b.op("add", b.get(P), 8))

    looks, asked = found(block(0x100, nothing, Jump(0x104)), block(0x104, nothing, taken=0x10C),
                         block(0x108, reads(P), Jump(0x10C)), block(0x10C, skips, taken=0x104))  # fmt: skip
    assert looks == [(0x108, P)] and asked == {}


def test_one_that_goes_far_at_each_step_is_looked_at_in_each() -> None:
    def leaps(b: Made) -> None:
        b.read(b.get(P))
        b.put(P, b.op("add", b.get(P), GUARD + 8))

    looks, asked = found(block(0x100, nothing, Jump(0x104)), block(0x104, leaps, taken=0x104))
    assert looks == [(0x104, P)] and asked == {}


def test_what_is_loaded_in_a_loop_is_looked_at_there() -> None:
    def follows(b: Made) -> None:
        b.put(P, b.read(b.get(P), 8))

    looks, asked = found(block(0x100, nothing, Jump(0x104)), block(0x104, follows, taken=0x104))
    assert looks == [(0x104, P)] and asked == {}


def test_what_each_turn_puts_into_a_register_before_it_is_used_is_not_asked_for() -> None:
    looks, asked = found(block(0x100, nothing, Jump(0x104)), block(0x104, lambda b: b.put(P, 0x2000), Jump(0x108)),
                         block(0x108, reads(P), taken=0x104))  # fmt: skip
    assert looks == [] and asked == {}


def test_what_few_turns_use_is_not_asked_for_before_a_loop_but_for_the_stack() -> None:
    def seldom(b: Made) -> None:
        b.read(b.get(P))
        b.read(b.get(STACK))

    blocks = [block(0x100, nothing, Jump(0x104)), block(0x104, nothing, taken=0x10C),
              block(0x108, seldom, Jump(0x10C)), block(0x10C, nothing, taken=0x104)]  # fmt: skip
    looks, asked = found(*blocks, weights={0x100: 1, 0x104: 100, 0x108: 49, 0x10C: 100})
    assert looks == [(0x108, P)] and asked == {(None, 0x104): (STACK,), (0x100, 0x104): (STACK,)}
    looks, asked = found(*blocks, weights={0x100: 1, 0x104: 100, 0x108: 50, 0x10C: 100})
    assert looks == [] and asked == {(None, 0x104): (STACK, P), (0x100, 0x104): (STACK, P)}


def test_a_function_that_is_entered_from_outside_asks_for_what_its_callers_know() -> None:

    def calls(b: Made) -> None:
        b.write(b.get(P))
        b.put(LINK, 0x104)

    def function(b: Made) -> None:
        b.read(b.get(P))
        b.read(b.get(Q))

    looks, asked = found(block(0x100, calls, Jump(0x200)), block(0x200, function, Jump(0x900)))
    assert looks == [(0x100, P), (0x200, Q)] and asked == {(None, 0x200): (P,)}


# --- random regions, which are run ------------------------------------------------------------------------------------

SLOTS = (STACK, P, Q, N)
OFFSETS = (0, 8, -8, 1000, 2000, -1500)
STEPS = (8, -8 & MASK, 1000, 2000, 3000, -4000 & MASK, GUARD - 16, GUARD)
UNARY = {"zext": (8, 16, 32), "sext": (8, 16, 32), "clz": (), "bit": ()}


def random_block(rng: Random, pc: int, places: list[int]) -> Block:
    b = Made(pc)
    b.begin(GuestInsn(pc, 4, "made up", "ident"))
    values: list[Value] = [rng.choice((8, -8 & MASK, 0x100, GUARD, HIGHEST, 1 << 63))]

    def value() -> Value:
        return b.get(rng.choice(SLOTS)) if rng.random() < 0.4 else rng.choice(values[-6:])

    for _ in range(rng.randrange(1, 12)):
        match rng.randrange(14):
            case 10 | 11 | 12 | 13:  # a register goes on
                slot = rng.choice(SLOTS)
                step = b.op("and", value(), 0x7FF) if rng.random() < 0.2 else rng.choice(STEPS)
                if rng.random() < 0.7:
                    b.read(b.get(slot), rng.choice(OFFSETS))
                b.put(slot, b.op(rng.choice(("add", "sub")), b.get(slot), step))
            case 0 | 1 | 2:
                values.append(b.read(value(), rng.choice(OFFSETS), rng.choice((1, 2, 4, 8))))
            case 3:
                b.write(value(), rng.choice(OFFSETS))
            case 4 | 5:
                b.put(rng.choice(SLOTS), value())
            case 6:
                step = value() if rng.random() < 0.2 else rng.choice(STEPS)
                values.append(b.op(rng.choice(("add", "add", "sub")), value(), step))
            case 7:
                values.append(b.op("and", value(), rng.choice((0xF8, 0xFFF, -16 & MASK, -6 & MASK, value()))))
            case 8:
                values.append(b.op(rng.choice(("shl", "shr", "sar")), value(), rng.choice((1, 3, 50, 60))))
            case 9:
                name = rng.choice(("zext", "sext", "or", "xor", "select", "clz"))
                if name == "select":
                    values.append(b.op("select", b.op("ltu", value(), value()), value(), value()))
                elif name in UNARY:
                    bits = UNARY[name]
                    values.append(b.op(name, value(), attrs=(rng.choice(bits),) if bits else ()))
                else:
                    values.append(b.op(name, value(), value()))
    test = b.op("ltu", b.op("and", value(), 0xFF), rng.choice((0x40, 0x80, 0xC0)))
    return optimise(b.finish(Branch(test, rng.choice(places), rng.choice(places))))


def evaluated(value: Value, known: dict[Inst, int]) -> int:
    return known[value] if isinstance(value, Inst) else value


class Run:
    """Executes a region as translated code does, with values from `rng` where memory is read."""

    def __init__(self, region: Region, addresses: Addresses, rng: Random) -> None:
        self.region, self.addresses, self.rng = region, addresses, rng
        self.counts: Counter[str] = Counter()

    def strays(self, way: tuple[int | None, int], registers: dict[int, int]) -> bool:
        return any(registers[slot] > HIGHEST for slot in self.addresses.asked.get(way, ()))

    def go(self, pc: int, registers: dict[int, int]) -> None:
        source: int | None = None
        for _ in range(40):
            if self.strays((source, pc), registers):
                self.counts["asked for"] += 1
                return
            block = self.region.by_pc[pc]
            known: dict[Inst, int] = {}
            after = dict(registers)
            for inst in block.insts:
                if not self.one(inst, known, registers, after):
                    return
            registers = after
            source = pc
            match block.exit:
                case Branch(condition, taken, otherwise):
                    pc = taken if evaluated(condition, known) else otherwise
                case Jump(target):
                    pc = target
            if pc not in self.region.edges[source]:
                return

    def one(self, inst: Inst, known: dict[Inst, int], registers: dict[int, int], after: dict[int, int]) -> bool:
        args = [evaluated(a, known) for a in inst.args]
        match inst.op.name:
            case "getreg":
                known[inst] = registers[slot_of(inst)]
            case "setreg":
                after[slot_of(inst)] = args[0]
            case "load" | "store":
                seen = self.addresses.looks.get(inst)
                if seen is not None and evaluated(seen, known) > HIGHEST:
                    return False
                self.counts["looked at" if seen is not None else "not looked at"] += 1
                offset, size = int(str(inst.attrs[0])), int(str(inst.attrs[1]))
                address = signed(args[0] + offset & MASK)
                assert -GUARD <= address <= HIGHEST + 1 + GUARD - size, f"an access at {address:#x} in {self.region}"
                if not 0 <= address <= HIGHEST + 1 - size:
                    self.counts["faulted"] += 1
                    return False
                known[inst] = anything(self.rng) & (1 << 8 * size) - 1
            case _:
                meaning = OPS[inst.op.name].meaning
                assert meaning is not None
                known[inst] = meaning(*args, *inst.attrs)
        return True


def anything(rng: Random) -> int:
    """What is in memory or a register: an address mostly, often one near an end of memory, or anything."""
    if rng.random() < 0.8:
        return rng.choice((rng.randrange(HIGHEST + 1), rng.randrange(GUARD), HIGHEST - rng.randrange(GUARD)))
    return rng.choice((rng.getrandbits(64), -rng.randrange(GUARD) & MASK, HIGHEST + rng.randrange(1, 2 * GUARD)))


def test_no_access_of_a_random_region_is_far_away() -> None:
    rng = Random(40)
    counts: Counter[str] = Counter()
    for _ in range(scaled(3000)):
        places = [0x100 + 4 * i for i in range(rng.randrange(1, 6))]
        blocks = [random_block(rng, pc, places) for pc in places]
        region = Region(blocks, {pc: rng.choice((1, 50, 100)) for pc in places}).reachable()
        addresses = Addresses(region, HIGHEST, GUARD, STACK, rng.sample(SLOTS, rng.randrange(2, 5)))
        run = Run(region, addresses, rng)
        for _ in range(12):
            run.go(rng.choice([region.pc, *region.gates]), {slot: anything(rng) for slot in SLOTS})
        counts += run.counts
    assert counts["not looked at"] > counts["looked at"] > scaled(3000), counts
    assert min(counts["faulted"], counts["asked for"]) > scaled(3000), counts
