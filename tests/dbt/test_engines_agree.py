"""The reference interpreter against the translating engine: same state, same code, same outcome.

Compared: why the engine stopped, pc, count, blocks, mid_block, instructions by class, every register slot, and
memory. The two share the instruction bodies, so this says nothing about what an instruction means (see the tests
against Spike and Unicorn); it is about building, folding, lowering, chaining, counting, boundaries and faults.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections import Counter
from collections.abc import Iterator
from itertools import product
from random import Random

import pytest
from support.programs import (
    CODE,
    CODE_SIZE,
    DATA,
    LIMIT,
    POINTERS,
    QUIET,
    READ_ONLY,
    REGIONS,
    memory_size,
    random_block,
    random_instruction,
    random_program,
    randomise,
    row_words,
    set_operands,
    start_program,
)
from support.regions import Watch
from support.riscv import (
    GUEST,
    INTEGERS,
    MASK,
    SCALE,
    Rig,
    Tally,
    asm,
    difference,
    draw,
    is_float,
    label,
    register_fields,
    scaled,
    text,
    words_to_bytes,
)

import dbt.coherence
from dbt.engine import Translated
from dbt.options import Options
from dbt.reference import Stop
from guests.decode import layout
from guests.riscv import traps
from guests.riscv.registers import FRM
from guests.spec import Row
from ir.llvm import variables

ECALL = asm("ecall")


class Both:
    """A reference and a translating engine with the same memory map.

    A page whose code changes again and again is given up by stencils and interpreted, and the tests here put one
    program over the other: `busy` is to be asked for what then would compare the reference with itself.
    """

    def __init__(self, options: Options | None = None) -> None:
        self.reference = Rig(REGIONS)
        self.translated = Rig(REGIONS, options, translated=True)
        self.rigs = (self.reference, self.translated)
        assert isinstance(self.translated.engine, Translated)
        self.regions = self.translated.engine.options.region > 0
        self.watch = Watch(self.translated.engine)

    def close(self) -> None:
        for rig in self.rigs:
            rig.close()

    def busy(self) -> tuple[int, int]:
        """Instructions that the translating engine has executed so far, and those that it interpreted in cold code."""
        engine = self.translated.engine
        assert isinstance(engine, Translated)
        return self.translated.state.count, engine.interpreted

    def stride(self, rng: Random, small: tuple[int, ...]) -> int:
        """One of `small`, or for regions mostly more: what is short of a region's longest way is interpreted."""
        return rng.choice((*small, *(1 << rng.randrange(8, 13) for _ in range(2 * len(small))))) if self.regions else (
            rng.choice(small))  # fmt: skip

    def poke(self, address: int, data: bytes) -> None:
        for rig in self.rigs:
            rig.space.poke(address, data)

    def start(self, pc: int) -> None:
        for rig in self.rigs:
            rig.state.pc, rig.state.mid_block = pc, False

    def run(self, instructions: int) -> tuple[Stop, str]:
        """Run both to the first boundary after so many instructions; the stop, and how they differ."""
        stops = [rig.run(rig.state.count + instructions) for rig in self.rigs]
        mine, theirs = (rig.outcome(stop) for rig, stop in zip(self.rigs, stops))
        found = difference(mine, theirs) if mine != theirs else ""
        if not found and stops[0].trap:
            classes = [{c.value: n for c, n in rig.engine.classes.items()} for rig in self.rigs]
            found = f"instructions by class: {classes[0]} / {classes[1]}" if classes[0] != classes[1] else ""
        return stops[0], found

    def memory_difference(self, everything: bool = False) -> str:
        """Where the memories differ; only the data page is looked at unless `everything` is."""
        regions = REGIONS if everything else REGIONS[1:2]
        for address, length, _ in regions:
            a, b = (rig.space.peek(address, length) for rig in self.rigs)
            if a != b:
                where = next(i for i in range(length) if a[i] != b[i])
                return f"memory at {address + where:#x}: {a[where : where + 8].hex()} / {b[where : where + 8].hex()}"
        return ""

    def resync(self) -> None:
        """Make the translated rig's state and memory those of the reference, after a mismatch."""
        a, b = self.reference, self.translated
        b.state.slots[:] = a.state.slots
        for name in ("pc", "count", "blocks", "mid_block"):
            setattr(b.state, name, getattr(a.state, name))
        for address, length, _ in REGIONS:
            b.space.poke(address, a.space.peek(address, length))


# What runs code: a translation of each block; stencils alone; stencils, and translations of what has run once.
TIERS = {
    "translations": Options(hot=0, region=0),
    "stencils": Options(tiers=(0,), patience=0, region=0),
    "promotion": Options(patience=0, promote=0, region=0),
}
REGIONAL = {  # of several blocks
    "regions": Options(hot=0),
    "promotion to regions": Options(patience=0, promote=4),
}


@pytest.fixture(scope="module", params=TIERS)
def engines(request: pytest.FixtureRequest) -> Iterator[Both]:
    made = Both(TIERS[request.param])
    yield made
    made.close()


@pytest.fixture(scope="module", params=TIERS | REGIONAL)
def all_engines(request: pytest.FixtureRequest) -> Iterator[Both]:
    made = Both((TIERS | REGIONAL)[request.param])
    yield made
    made.close()


@pytest.fixture
def both(engines: Both, monkeypatch: pytest.MonkeyPatch) -> Iterator[Both]:
    """The engines, whose code may change as often as it likes; they must not have interpreted much of it."""
    monkeypatch.setattr(dbt.coherence, "TOLERANCE", 1 << 60)
    count, interpreted = engines.busy()
    yield engines
    executed, cold = engines.busy()
    assert 50 * (cold - interpreted) <= executed - count


@pytest.fixture
def every(all_engines: Both, monkeypatch: pytest.MonkeyPatch) -> Iterator[Both]:
    """The same, with regions too, in which most of what is executed must have been."""
    monkeypatch.setattr(dbt.coherence, "TOLERANCE", 1 << 60)
    (count, interpreted), retired = all_engines.busy(), all_engines.watch.retired
    yield all_engines
    executed, cold = all_engines.busy()
    if all_engines.regions:
        within = all_engines.watch.retired - retired
        print(f"{within} of {executed - count} instructions in regions, {cold - interpreted} interpreted")
        assert 2 * within > executed - count
    else:
        assert 50 * (cold - interpreted) <= executed - count


def test_every_row(both: Both) -> None:
    """Each row with random, corner, aliased and x0 operands, alone before an ecall."""
    tally = Tally("reference against translated, row by row")
    stops: Counter[str] = Counter()
    at = CODE
    for row in GUEST.rows:
        rng = Random(zlib.crc32(label(row).encode()))
        words = row_words(row, rng, scaled(8))
        code = b"".join(words_to_bytes([w, ECALL]).ljust(16, b"\0") for w in words)
        if at + len(code) > CODE + CODE_SIZE:
            at = CODE
        both.poke(at, code)
        for i, word in enumerate(words):
            for _ in range(scaled(16)):
                seed = rng.getrandbits(32)
                for rig in both.rigs:
                    set_operands(rig, row, word, Random(seed))
                both.start(at + 16 * i)
                stop, found = both.run(1)
                found = found or (both.memory_difference() if memory_size(row) else "")
                stops[GUEST.trap_names[stop.cause] if stop.trap else "no trap"] += 1
                if not tally.check(not found):
                    tally.note(f"{text(word)} seed {seed}: {found}")
                    both.resync()
        at += len(code)
    tally.done(f"{len(GUEST.rows)} rows; " + ", ".join(f"{n} {c}" for n, c in stops.items()))
    assert set(stops) == {"no trap", *(traps.NAMES[c] for c in (2, 3, 4, 6, 8, 13, 15))}


def _with_immediates(row: Row, word: int) -> list[int]:
    """The word with each bit of its immediate alone set, or alone clear, and with all or none."""
    found = []
    for one in layout(row.pattern).fields:
        bits = [piece.low + i for piece in one.pieces for i in range(piece.width)]
        if one.name == "imm":
            every = sum(1 << bit for bit in bits)
            variants = {0, every, *(1 << bit for bit in bits), *(every ^ 1 << bit for bit in bits)}
            found += [word & ~every | variant for variant in sorted(variants)]
    return [new for new in found if (decoded := GUEST.decode(new)) is not None and decoded.row is row]


def test_every_bit_of_an_immediate(both: Both) -> None:
    """Each row that has one, for the value it computes, the address it accesses, or where it goes."""
    tally = Tally("immediates bit by bit")
    rows: Counter[str] = Counter()
    at = CODE
    for row in GUEST.rows:
        rng = Random(zlib.crc32(label(row).encode()))
        words = _with_immediates(row, draw(row, rng))
        code = b"".join(words_to_bytes([w, ECALL]).ljust(8, b"\0") for w in words)
        at = CODE if at + len(code) > CODE + CODE_SIZE else at
        both.poke(at, code)
        for i, word in enumerate(words):
            rows[label(row)] += 1
            for taken in range(4):  # several operands, for a branch to be taken and not
                seed = rng.getrandbits(32)
                for rig in both.rigs:
                    set_operands(rig, row, word, Random(seed + taken))
                both.start(at + 8 * i)
                _, found = both.run(1)
                found = found or (both.memory_difference() if memory_size(row) else "")
                if not tally.check(not found):
                    tally.note(f"{text(word)} seed {seed + taken}: {found}")
                    both.resync()
        at += len(code)
    tally.done(f"{len(rows)} rows, {rows.total()} words")
    assert len(rows) > 80 and rows.total() > 1500


# Of `ir.llvm.variables.SELDOM`: registers are variables of a region, or those that are not pinned stay in the state.
VARIABLES = (variables.SELDOM, 0)
# No way out in the middle, so that the block runs as one; writing sp would spoil what follows.
PLAIN = tuple(row for row in QUIET if row.extension in ("i", "m", "zba", "zbb", "zbs") and row.writes == "x")


def test_long_blocks(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    """Straight lines of up to some 400 instructions: the count is read in them, and at times an access faults."""
    tally = Tally("long blocks")
    rng = Random(71)
    causes: Counter[str] = Counter()
    read = asm("csrrs (reads only)", rd=13, csr=0xC02)
    for number in range(scaled(60)):
        monkeypatch.setattr(variables, "SELDOM", VARIABLES[number % 2])
        length = rng.choice((62, 63, 64, 65, 66, 127, 128, 129, 191, 192, 193, rng.randrange(60, 400)))
        rows = rng.choice((QUIET, PLAIN))
        words = [random_instruction(rng, rows, (*POINTERS, 13, 14, 15)) for _ in range(length)]
        for _ in range(rng.randrange(1, 6)):
            words[rng.randrange(length)] = read
        for place in sorted(rng.sample(range(length), 2)):  # the count as it was there is kept in the data
            words[place] = asm("sd", rs1=8, rs2=13, imm=8 * rng.randrange(16))
        if rng.random() < 0.5:  # at the end of a part of the block, or near it
            words[min(rng.choice((0, 1, 62, 63, 64, 65, 127, 128, 129, length - 1)), length - 1)] = (
                asm("ld", rd=14, rs1=15, imm=0)
            )
        code = words_to_bytes([*words, ECALL])
        at = CODE + rng.randrange(0, 0x8000, 2)
        both.poke(at, code)
        for wild in (False, True):
            seed = rng.getrandbits(32)
            for rig in both.rigs:
                randomise(rig, seed)
                rig.state.slots[15] = READ_ONLY + 0x1000 if wild else DATA
                rig.state.slots[FRM] = 0
            both.start(at)
            while True:
                stop, found = both.run(rng.choice((1, 60, 1000)))
                found = found or (both.memory_difference() if stop.trap else "")
                if not tally.check(not found):
                    tally.note(f"block {number} of {length}, seed {seed}: {found}")
                    both.resync()
                if stop.trap or found:
                    causes[GUEST.trap_names[stop.cause] if stop.trap else "a difference"] += 1
                    break
    tally.done(", ".join(f"{n} {c}" for n, c in causes.items()))
    assert len(causes) >= 2 or SCALE < 1


LOADS = {"lb": (1, True), "lbu": (1, False), "lh": (2, True), "lhu": (2, False), "lw": (4, True), "lwu": (4, False),
         "ld": (8, False)}  # fmt: skip


@pytest.mark.parametrize("name", LOADS)
def test_every_load_extends_as_its_name_says(both: Both, name: str) -> None:
    size, signed = LOADS[name]
    both.poke(CODE, words_to_bytes([asm(name, rd=5, rs1=6, imm=-8), ECALL]))
    for value in (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 1 << 31, (1 << 31) - 1, 1 << 63, MASK, 0x80 << 8):
        content = value.to_bytes(8, "little")
        both.poke(DATA, content)
        for rig in both.rigs:
            rig.state.slots[6] = DATA + 8
        both.start(CODE)
        _, found = both.run(1 << 40)
        assert not found
        assert both.rigs[1].state.slots[5] == int.from_bytes(content[:size], "little", signed=signed) & MASK


PAIRS = tuple(row for row in GUEST.rows if row.writes == "x" and register_fields(row) == {"rd", "rs1", "rs2"}
              and not is_float(row, "rs1"))  # fmt: skip


@pytest.mark.parametrize("row", PAIRS, ids=lambda row: row.name)
def test_every_pair_of_corners(both: Both, row: Row) -> None:
    """A row of two operands on all pairs of corners, in a loop; of an atomic one the memory operand is the second."""
    tally = Tally(f"corners of {row.name}")
    one, two, result, place, table, last = 5, 6, 7, 10, 11, 12
    atomic = row.may_trap
    word = draw(row, Random(1), rd=result, rs1=place if atomic else one, rs2=one if atomic else two)
    loop = [
        asm("ld", rd=one, rs1=table, imm=0), asm("ld", rd=two, rs1=table, imm=8),
        asm("sd", rs1=place, rs2=two, imm=0), word, asm("ld", rd=two, rs1=place, imm=0),
        asm("sd", rs1=table, rs2=result, imm=0), asm("sd", rs1=table, rs2=two, imm=8),
        asm("addi", rd=table, rs1=table, imm=16),
    ]  # fmt: skip
    loop.append(asm("bltu", rs1=table, rs2=last, imm=-4 * len(loop)))
    both.poke(CODE, words_to_bytes([*loop, ECALL]))
    pairs = list(product(INTEGERS, repeat=2))
    for start in range(0, len(pairs), 128):
        part = pairs[start : start + 128]
        both.poke(DATA, struct.pack(f"<{2 * len(part)}Q", *(n for pair in part for n in pair)))
        for rig in both.rigs:
            slots = rig.state.slots
            slots[table], slots[last], slots[place] = DATA, DATA + 16 * len(part), DATA + 0x900
        both.start(CODE)
        _, found = both.run(1 << 40)
        found = found or both.memory_difference()
        tally.check(not found) or tally.note(f"{text(word)} from pair {start} on: {found}")
    tally.done()


def test_random_blocks(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 1 to 60 random instructions of all rows, from several states each; some lie across a page's end."""
    tally = Tally("random blocks")
    rng = Random(20)
    lengths = stops = 0
    causes: Counter[str] = Counter()
    at = CODE
    for number in range(scaled(250)):
        monkeypatch.setattr(variables, "SELDOM", VARIABLES[number // 8 % 2])
        words = random_block(rng, rng.randrange(1, 61))
        code = words_to_bytes([*words, ECALL])
        if at + len(code) > CODE + CODE_SIZE:
            at = CODE
        if number % 8 == 0:  # across a page's end
            at = max(at + 4095 & -4096, CODE + 0x1000) - rng.randrange(2, 40, 2)
            at -= 0x1000 if at + len(code) > CODE + CODE_SIZE else 0
        both.poke(at, code)
        for _ in range(3):
            seed = rng.getrandbits(32)
            for rig in both.rigs:
                randomise(rig, seed)
                if seed % 16 == 0:  # a pointer to the block itself: it may store into its own code
                    rig.state.slots[9] = at + 2 * (seed >> 4) % len(code)
            both.start(at)
            while True:
                before = both.reference.state.count
                stop, found = both.run(rng.choice((1, 5, 100)))
                lengths += both.reference.state.count - before
                stops += 1
                found = found or (both.memory_difference() if stop.trap else "")
                good = tally.check(not found)
                if not good:
                    listing = "\n  ".join(map(text, words))
                    tally.note(f"block {number} at {at:#x}, seed {seed}: {found}\n  {listing}")
                    both.resync()
                pc = both.reference.state.pc
                if stop.trap or not good or not at <= pc < at + len(code) or both.reference.state.count - before > 100:
                    causes[GUEST.trap_names[stop.cause] if stop.trap else "left the block"] += 1
                    break
        at += len(code) + 3 & -2
    found = both.memory_difference(everything=True)
    tally.check(not found) or tally.note(f"at the end: {found}")
    ends = ", ".join(f"{n} {c}" for n, c in causes.items())
    tally.done(f"{scaled(250)} blocks, {lengths} instructions, {stops} stops; ends: {ends}")
    assert len(causes) >= 6 or SCALE < 1


def test_registers_exchanged(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values moved around between few registers within a block: a register's old content goes where it should."""
    tally = Tally("moves")
    rng = Random(25)
    numbers = (5, 6, 10, 15, 26, 27, 28)  # pinned to host registers, and not
    at = CODE
    for number in range(scaled(250)):
        monkeypatch.setattr(variables, "SELDOM", VARIABLES[number % 2])
        words = []
        for _ in range(rng.randrange(3, 14)):
            to, source, third = (rng.choice(numbers) for _ in range(3))
            words.append(rng.choice((
                asm("addi", rd=to, rs1=source, imm=0), asm("c.mv", rd=to, rs2=source), asm("addi", rd=to, rs1=0, imm=7),
                asm("add", rd=to, rs1=source, rs2=third), asm("fsgnj.d", rd=to, rs1=source, rs2=source),
                asm("fmv.x.d", rd=to, rs1=source), asm("fmv.d.x", rd=to, rs1=source),
                asm("csrrw", rd=to, rs1=source, csr=2), asm("csrrw", rd=to, rs1=source, csr=1),
            )))  # fmt: skip
        code = words_to_bytes([*words, ECALL])
        at = CODE if at + len(code) > CODE + CODE_SIZE else at
        both.poke(at, code)
        seed = rng.getrandbits(32)
        for rig in both.rigs:
            randomise(rig, seed)
        both.start(at)
        _, found = both.run(1)
        if not tally.check(not found):
            listing = "\n  ".join(map(text, words))
            tally.note(f"block {number}, seed {seed}: {found}\n  {listing}")
            both.resync()
        at += len(code) + 2
    tally.done()


SLICES = (1, 1, 2, 3, 5, 8, 13, 40, 1000)


def _slices(rng: Random) -> int:
    return rng.choice(SLICES)


def test_random_loops(every: Both) -> None:
    """A random block that jumps back to its beginning, always or on a condition, with a branch out in the middle."""
    both = every
    tally = Tally("random loops")
    rng = Random(22)
    turns = 0
    for _ in range(scaled(150)):
        parts = [random_block(rng, rng.randrange(1, 16)) for _ in range(2 if both.regions else rng.randrange(1, 3))]
        registers = [rng.randrange(32) for _ in range(4)]
        if len(parts) == 2:
            beyond = len(words_to_bytes(parts[1])) + 8
            parts.insert(1, [asm(rng.choice(("beq", "blt")), rs1=registers[0], rs2=registers[1], imm=beyond)])
        body = [word for part in parts for word in part]
        back = -len(words_to_bytes(body))
        end = asm("jal", rd=0, imm=back)
        if rng.random() < 0.6:
            end = asm(rng.choice(("bne", "bgeu")), rs1=registers[2], rs2=registers[3], imm=back)
        both.poke(CODE, words_to_bytes([*body, end, ECALL, ECALL]))
        for _ in range(2):
            seed = rng.getrandbits(32)
            for rig in both.rigs:
                randomise(rig, seed)
            both.start(CODE)
            for _ in range(8):
                stop, found = both.run(both.stride(rng, (1, 5, 60, 300)))
                turns += both.reference.state.pc == CODE
                found = found or both.memory_difference()
                if not tally.check(not found):
                    tally.note(f"seed {seed}, {[text(word) for word in [*body, end]]}: {found}")
                    both.resync()
                if stop.trap:
                    break
    tally.done(f"{turns} stops at the head of the loop")
    assert turns > scaled(300)


def test_random_control_flow(every: Both) -> None:
    """Programs of branches, calls, returns and indirect jumps, run in random slices: all stops are the same."""
    both = every
    tally = Tally("random control flow")
    rng = Random(30)
    programs, instructions, stops = scaled(200), 0, 0
    at = CODE
    for number in range(programs):
        words = random_program(rng, at)
        code = words_to_bytes(words)
        if at + len(code) > CODE + CODE_SIZE:
            at = CODE
            words = random_program(rng, at)
            code = words_to_bytes(words)
        both.poke(at, code)
        for _ in range(3):
            seed, loops = rng.getrandbits(32), rng.choice((30, 200, 500) if both.regions else (3, 30, 200))
            for rig in both.rigs:
                start_program(rig, words, at, seed, loops)
            start = both.reference.state.count
            while True:
                stop, found = both.run(both.stride(rng, SLICES))
                stops += 1
                found = found or (both.memory_difference() if stop.trap else "")
                if not tally.check(not found):
                    listing = "\n  ".join(map(text, words))
                    tally.note(f"program {number} at {at:#x}, seed {seed}: {found}\n  {listing}")
                    both.resync()
                    break
                if stop.trap:
                    break
            instructions += both.reference.state.count - start
        at += len(code) + rng.randrange(0, 64, 2)
    tally.done(f"{programs} programs, {instructions} instructions, {stops} stops")
    assert instructions > 20 * programs


def test_engines_take_turns() -> None:
    """One state, run by either engine in random slices, gives what the reference alone gives."""
    tally = Tally("engines in turns on one state")
    rng = Random(31)
    both = Both()
    mixed = both.translated
    try:
        for number in range(scaled(60)):
            words = random_program(rng, CODE)
            both.poke(CODE, words_to_bytes(words))
            seed, loops = rng.getrandbits(32), rng.choice((30, 200))
            for rig in both.rigs:
                start_program(rig, words, CODE, seed, loops)
            while True:
                amount, who = _slices(rng), rng.randrange(3)
                expected = both.reference.run(both.reference.state.count + amount)
                assert isinstance(mixed.engine, Translated)
                monitor = mixed.engine.monitor
                if who == 0:
                    stop = monitor.run(mixed.state.count + amount)
                elif who == 1:
                    stop = mixed.run(mixed.state.count + amount)
                else:
                    target = mixed.state.count + amount
                    monitor.run(mixed.state.count + amount // 2)
                    stop = mixed.run(target)
                mine, theirs = both.reference.outcome(expected), mixed.outcome(stop)
                if not tally.check(mine == theirs):
                    tally.note(f"program {number}: {difference(mine, theirs)}")
                    both.resync()
                if stop.trap or expected.trap:
                    break
    finally:
        both.close()
    tally.done()


# --- options -----------------------------------------------------------------------------------------


def _digest(rig: Rig, cases: list[tuple[int, list[int], int, int, list[int]]]) -> str:
    """A digest of every stop of every case: outcome at each, memory at the end of each."""
    digest = hashlib.sha256()
    for at, words, seed, loops, slices in cases:
        rig.space.poke(at, words_to_bytes(words))
        start_program(rig, words, at, seed, loops)
        rig.state.count = rig.state.blocks = 0
        for amount in slices:
            stop = rig.run(rig.state.count + amount)
            digest.update(repr(rig.outcome(stop)).encode())
            if stop.trap:
                break
        for part in rig.memory():
            digest.update(part)
    return digest.hexdigest()


def test_options_change_nothing() -> None:
    """What shapes translations is invisible to the guest."""
    rng = Random(40)
    cases = []
    for number in range(scaled(3)):
        at = CODE + 0x1000 * number + (0xF80 if number % 2 else 0)
        at = CODE + at % (CODE_SIZE - 0x2000)
        slices = [_slices(rng) for _ in range(60)]
        cases.append((at, random_program(rng, at), rng.getrandbits(32), 40, slices))
    for number in range(scaled(3)):
        at = CODE + CODE_SIZE // 2 + 0x800 * number
        cases.append((at, [*random_block(rng, 40), ECALL], rng.getrandbits(32), 1, [1, 7, 50]))
    reference = Rig(REGIONS)
    expected = _digest(reference, cases)
    reference.close()
    wrong, combinations = [], 0
    for length, region, pinned, level in product((1, 2, 5, 512), (0, 500), (0, None), (0, 1, 2)):
        options = Options(hot=0, max_instructions=length, region=region, pinned=pinned, optimisation=level)
        rig = Rig(REGIONS, options, translated=True)
        combinations += 1
        if _digest(rig, cases) != expected:
            wrong.append(f"max_instructions={length} region={region} pinned={pinned} optimisation={level}")
        rig.close()
    others = (
        Options(), Options(hot=2), Options(hot=0, log_stores=True), Options(hot=0, chaos=1), Options(chaos=2),
        Options(hot=0, region=0), Options(hot=0, region=20), Options(hot=0, region=2000, max_instructions=9),
        Options(hot=0, region=60), Options(hot=0, return_prediction=False), Options(hot=0, jump_cache=False),
        Options(hot=0, passes=()), Options(hot=0, region=0, passes=()), Options(hot=0, sensitive="callout"),
        Options(hot=0, chain=False), Options(hot=0, smc="fencei"),
        Options(tiers=(0,), patience=0), Options(patience=3, promote=2), Options(tiers=(0,), patience=0, chaos=3),
        Options(patience=3, promote=2, region=0), Options(patience=0, promote=1, chaos=4, region=0),
        Options(patience=0, promote=1, chaos=4), Options(tiers=(0,), patience=0, log_stores=True),
        Options(patience=0, promote=3, smc="fencei"), Options(tiers=(0,), patience=0, sensitive="callout"),
    )  # fmt: skip
    for options in others:
        rig = Rig(REGIONS, options, translated=True)
        combinations += 1
        if _digest(rig, cases) != expected:
            wrong.append(repr(options))
        rig.close()
    print(f"\noptions: {combinations} combinations, {len(cases)} programs each, {len(wrong)} other than the reference")
    assert not wrong


# --- faults ------------------------------------------------------------------------------------------

WHERE = {
    "below the first page": DATA - 8,
    "into the first page": DATA - 1,
    "crossing out of the last page": READ_ONLY + 0x1000 - 1,
    "crossing into the read-only page": READ_ONLY - 1,
    "read-only": READ_ONLY + 64,
    "last byte below the end": LIMIT - 1,
    "at the end": LIMIT,
    "beyond the end": LIMIT + 4096,
    "far beyond": 1 << 63,
    "last byte": MASK,
    "wrapping": MASK - 2,
    "page zero": 0,
    "code": CODE + CODE_SIZE - 64,
    "crossing out of the code": CODE + CODE_SIZE - 1,
}


@pytest.mark.parametrize("offset", [0, 1, -1, 2047, -2048])
def test_faults_are_exact(both: Both, offset: int) -> None:
    """An access that faults: trap, address and all registers as in the reference, in mid-block, with work pending."""
    tally = Tally(f"faults with offset {offset}")
    rng = Random(50 + offset)
    rows = [row for row in GUEST.rows if memory_size(row) and not row.name.startswith("c.")]
    at = CODE
    faults: Counter[str] = Counter()
    for row in rows:
        has_offset = "imm" in row.syntax
        if not has_offset and offset:
            continue
        word = draw(row, rng, rs1=9, rd=(5, 9), rs2=(6, 9), **({"imm": offset} if has_offset else {}))
        # what changed before it, in registers that are pinned and that are not, must be there at the fault
        before = [
            asm("addi", rd=15, rs1=15, imm=1), asm("addi", rd=31, rs1=31, imm=1), asm("ld", rd=10, rs1=8, imm=0),
            asm("fadd.d", rd=3, rs1=4, rs2=5, rm=7), asm("csrrsi", rd=14, csr=1, imm=4),
            asm("sd", rs1=8, rs2=15, imm=8), asm("fdiv.s", rd=6, rs1=7, rs2=8, rm=0),
        ]  # fmt: skip
        after = [asm("addi", rd=15, rs1=15, imm=1), asm("addi", rd=31, rs1=31, imm=1), ECALL]
        code = words_to_bytes([*before, word, *after])
        if at + len(code) > CODE + CODE_SIZE - 4096:
            at = CODE
        both.poke(at, code)
        for name, address in WHERE.items():
            seed = rng.getrandbits(32)
            for rig in both.rigs:
                randomise(rig, seed)
                rig.state.slots[9] = (address - (offset if has_offset else 0)) & MASK
                rig.state.slots[FRM] = seed % 5
            both.start(at)
            stop, found = both.run(1)
            found = found or both.memory_difference()
            tally.check(not found) or tally.note(f"{text(word)} {name}: {found}")
            if found:
                both.resync()
            if stop.cause != traps.USER_ECALL:
                faults[GUEST.trap_names[stop.cause]] += 1
                pc = both.reference.state.pc
                tally.check(pc == at + 4 * len(before)) or tally.note(f"{text(word)} {name}: trap at {pc:#x}")
        at += len(code)
    tally.done(f"{len(rows)} rows, {len(WHERE)} places; " + ", ".join(f"{n} {c}" for n, c in faults.items()))
    assert faults[traps.NAMES[traps.LOAD_PAGE_FAULT]] and faults[traps.NAMES[traps.STORE_PAGE_FAULT]]


def test_fetch_faults_are_exact(both: Both) -> None:
    """Running off the code, jumping to unmapped, read-only, odd and far addresses."""
    tally = Tally("fetch faults")
    rng = Random(60)
    end = CODE + CODE_SIZE
    last = [asm("addi", rd=5, rs1=5, imm=1)] * 3
    both.poke(end - 12, words_to_bytes(last))
    both.poke(end - 14, words_to_bytes([asm("c.nop", imm=0)]))
    for rig in both.rigs:
        randomise(rig, 1)
    for start in (end - 12, end - 4, end - 14):  # falls off the end of the mapping
        both.start(start)
        stop, found = both.run(100)
        good = not found and stop == Stop(True, traps.FETCH_PAGE_FAULT, end)
        tally.check(good) or tally.note(f"off the end from {start:#x}: {stop} {found}")
    both.poke(end - 2, b"\x93\x82")  # the first half of a 32-bit instruction, whose rest is not there
    both.start(end - 2)
    stop, found = both.run(1)
    good = not found and stop == Stop(True, traps.FETCH_PAGE_FAULT, end)
    tally.check(good) or tally.note(f"half an instruction: {stop} {found}")
    at = CODE
    both.poke(at, words_to_bytes([asm("jalr", rd=1, rs1=9, imm=0), ECALL]))
    far = (LIMIT, LIMIT - 2, 1 << 63, MASK, MASK - 1, rng.getrandbits(64))
    for target in (0, 2, DATA, READ_ONLY, end, 1 << 20 | 1, *far):
        for rig in both.rigs:
            rig.state.slots[9] = target
        both.start(at)
        stop, found = both.run(50)
        good = not found and stop == Stop(True, traps.FETCH_PAGE_FAULT, target & ~1)
        tally.check(good) or tally.note(f"jump to {target:#x}: {stop} {found}")
    tally.done()


def test_stores_to_code_are_seen_at_once(both: Both) -> None:
    """A block that overwrites one of its own next instructions executes the new one, in both engines."""
    tally = Tally("stores to code")
    rng = Random(70)
    at = CODE
    for number in range(scaled(60)):
        victim = rng.randrange(1, 12)
        new = asm("addi", rd=rng.randrange(1, 32), rs1=5, imm=rng.randrange(-2048, 2048))
        words = [asm("sw", rs1=9, rs2=6, imm=0)]
        words += [asm("addi", rd=rng.randrange(10, 32), rs1=rng.randrange(32), imm=number) for _ in range(14)]
        both.poke(at, words_to_bytes([*words, ECALL]))
        for repeat in range(3):  # translated and then run from the cache, and after it was changed
            for rig in both.rigs:
                randomise(rig, number)
                rig.state.slots[9], rig.state.slots[6] = at + 4 * victim, new if repeat else words[victim]
            both.start(at)
            stop, found = both.run(1)
            found = found or both.memory_difference(everything=True)
            good = not found and stop.cause == traps.USER_ECALL
            tally.check(good) or tally.note(f"{number} {repeat}: {stop} {found}")
        at += 4 * len(words) + 8
        at = CODE if at > CODE + CODE_SIZE - 4096 else at
    tally.done()
