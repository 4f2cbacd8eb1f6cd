"""Every row against Spike: the reference interpreter and Spike execute the same instruction on the same state.

Compared: pc, rd and two other registers of each file (all of them at the end of a row), fcsr, the doublewords
around a memory operand, and of a trap its cause, value and address. Spike runs in user mode.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator
from itertools import product
from random import Random

import pytest
from support.programs import float_width, memory_size
from support.riscv import (
    BOX,
    COUNTERS,
    FLOAT_CSRS,
    GUEST,
    INTEGERS,
    MASK,
    SPECIALS,
    Rig,
    Tally,
    asm,
    boxed,
    decode,
    draw,
    is_float,
    label,
    random_float,
    random_integer,
    scaled,
    text,
)  # fmt: skip
from support.spike import CODE, DATA, DATA_SIZE, RAM, RAM_SIZE, Spike

from guests.decode import layout
from guests.riscv import traps
from guests.riscv.csrs import CSRS
from guests.riscv.registers import FFLAGS, FRM, RESERVED_SIZE, F
from guests.spec import Row

WORDS = 60  # distinct words of a row
OPERANDS = 20  # operand sets for each
END = RAM + RAM_SIZE

# Rows that Spike cannot be asked about. There are none.
UNCOVERED: tuple[str, ...] = ()
# CSRs whose values it cannot give, since its counters are its own; that they can be read is compared.
VALUES_NOT_COMPARED = ("cycle", "time", "instret")
# Without an MMU an absent address is an access fault to Spike and a page fault to a Linux process.
CAUSES = {
    traps.LOAD_PAGE_FAULT: traps.LOAD_FAULT,
    traps.STORE_PAGE_FAULT: traps.STORE_FAULT,
    traps.FETCH_PAGE_FAULT: traps.FETCH_FAULT,
}


class Pair:
    """Spike and the reference interpreter, kept in the same state."""

    def __init__(self, misaligned: bool) -> None:
        self.spike = Spike(misaligned)
        self.ours = Rig([(RAM, RAM_SIZE, 7)])
        self.slots = self.ours.state.slots
        self.trapped: Counter[int] = Counter()  # traps in which both agree, by Spike's cause
        self.last = 0  # cause of the last instruction's trap
        self.torn = 0
        for i in range(32):
            self.set_f(i, BOX)
        for i in range(1, 32):
            self.set_x(i, i)

    def set_x(self, number: int, value: int) -> None:
        if number:
            self.spike.x.write(number, value)
            self.slots[number] = value

    def set_f(self, number: int, value: int) -> None:
        self.spike.write_f(number, value)
        self.spike.x.write(31, self.slots[31])
        self.slots[F + number] = value

    def set_fcsr(self, flags: int, mode: int) -> None:
        self.spike.fcsr = mode << 5 | flags
        self.slots[FFLAGS], self.slots[FRM] = flags, mode

    def poke(self, address: int, value: int) -> None:
        self.spike.poke(address, value)
        self.ours.space.poke(address, value.to_bytes(8, "little"))

    def poke_code(self, address: int, code: bytes) -> None:
        self.spike.poke_code(address, code)
        self.ours.space.poke(address, code)

    def execute(self, pc: int, granule: int = 1) -> list[str]:
        """Execute the instruction at `pc` in both; what pc or trap differs, trap values to a multiple of `granule`."""
        theirs = self.spike.step(pc)
        self.last = 0 if theirs is None else theirs[0]
        state = self.ours.state
        state.pc, state.mid_block = pc, False
        stop = self.ours.engine.step()
        mine = (CAUSES.get(stop.cause, stop.cause), stop.value & -granule, state.pc) if stop.trap else None
        if mine != theirs:
            return [f"trap {_hex(mine)}, Spike {_hex(theirs)}"]
        if theirs is not None:
            self.trapped[theirs[0]] += 1
        elif state.pc != self.spike.pc:
            return [f"pc {state.pc:#x}, Spike {self.spike.pc:#x}"]
        return []

    def differences(self, xs: Iterator[int] | range | set[int], fs: range | set[int]) -> list[str]:
        """What differs among these registers, and fcsr. Ours are corrected, so that one mistake shows once."""
        found = []
        for i in xs:
            theirs = self.spike.x[i] & MASK
            if theirs != self.slots[i]:
                found.append(f"x{i} {self.slots[i]:#x}, Spike {theirs:#x}")
                self.slots[i] = theirs
        for i in fs:
            theirs = self.spike.read_f(i)
            if theirs != self.slots[F + i]:
                found.append(f"f{i} {self.slots[F + i]:#x}, Spike {theirs:#x}")
                self.slots[F + i] = theirs
        if fs:
            self.spike.x.write(31, self.slots[31])
        theirs, mine = self.spike.fcsr, self.slots[FRM] << 5 | self.slots[FFLAGS]
        if theirs != mine:
            found.append(f"fcsr {mine:#x}, Spike {theirs:#x}")
            self.slots[FFLAGS], self.slots[FRM] = theirs & 31, theirs >> 5
        return found


def _hex(values: tuple[int, ...] | None) -> str:
    return "none" if values is None else "(" + ", ".join(map(hex, values)) + ")"


@pytest.fixture(scope="module")
def pairs() -> Iterator[dict[bool, Pair]]:
    """Pairs by whether plain accesses may be misaligned: Spike then calls a misaligned AMO an access fault."""
    made = {misaligned: Pair(misaligned) for misaligned in (True, False)}
    yield made
    for pair in made.values():
        pair.ours.close()


def _address(rng: Random, size: int, atomic: bool) -> int:
    """An address: mostly in memory, at any alignment, or where an access is a fault."""
    kind = rng.randrange(10)
    if kind < 6:
        return DATA + rng.randrange(0, DATA_SIZE - 16, size)
    if kind < 8:
        return DATA + rng.randrange(DATA_SIZE - 16)
    address = rng.choice((
        END - rng.randrange(16), RAM - rng.randrange(1, 16), END + rng.getrandbits(20), -rng.randrange(1, 32) & MASK,
        1 << 63 | rng.getrandbits(40), (1 << 38) + rng.randrange(-16, 16), (1 << 56) + rng.randrange(-16, 16),
    ))  # fmt: skip
    return address & -size if atomic and rng.getrandbits(1) else address


def _one_case(pair: Pair, row: Row, word: int, pc: int, rng: Random) -> list[str]:
    """Set operands, execute, compare."""
    o = decode(word).operands
    size, width = memory_size(row), float_width(row)
    touched_f: set[int] = set()
    touched_x: set[int] = {rng.randrange(32), rng.randrange(32)}
    values: dict[int, int] = {}
    for field in ("rs1", "rs2", "rs3"):
        number = getattr(o, field, None)
        if number is None:
            continue
        if is_float(row, field):
            if width < 64:
                value = boxed(random_float(rng, width), width) if rng.randrange(12) else rng.getrandbits(64)
            else:
                value = random_float(rng, 64)
            pair.set_f(number, value)
        else:
            value = rng.choice(list(values.values())) if values and not rng.randrange(4) else random_integer(rng)
            values[number] = value
            pair.set_x(number, value)
    mode = rng.randrange(5) if rng.randrange(4) else rng.randrange(8)
    pair.set_fcsr(rng.choice((0, 0, 31, rng.getrandbits(5))), mode)
    around: list[int] = []
    if size:
        atomic = row.extension == "a"
        address = _address(rng, size, atomic)
        base = (address - getattr(o, "imm", 0)) & MASK
        if o.rs1 == 0:
            base, address = 0, getattr(o, "imm", 0)
            if address < 1 << 63:  # where Spike has its boot ROM and debugger
                return []
        pair.set_x(o.rs1, base)
        first, last = (address & -8, address + 8) if size < 64 else (address & -64, (address & -64) + 56)
        around = [a for a in range(first, last + 1, 8) if RAM <= a < END]
        for a in around:
            pair.poke(a, random_integer(rng))
    pair.slots[RESERVED_SIZE] = 0
    # Spike's trap value is the block's address; the manual's, and ours, is what is in rs1
    found = pair.execute(pc, 64 if row.name == "cbo.zero" else 1)
    rd = getattr(o, "rd", None)
    if rd is not None:
        if row.writes == "f":
            touched_f.add(rd)
        elif rd < 32:
            touched_x.add(rd)
    found += pair.differences(touched_x, touched_f)
    if pair.last == traps.STORE_FAULT and around == [END - 8]:
        # Spike writes the bytes of a misaligned store one by one until one faults; ours writes all or nothing.
        pair.torn += 1
        around = []
    for a in around:
        mine, theirs = int.from_bytes(pair.ours.space.peek(a, 8), "little"), pair.spike.peek(a)
        if mine != theirs:
            found.append(f"memory at {a:#x}: {mine:#x}, Spike {theirs:#x}")
    return found


def test_every_row(pairs: dict[bool, Pair]) -> None:
    tally = Tally("reference against Spike")
    covered: Counter[str] = Counter()
    for row in GUEST.rows:
        rng = Random(zlib.crc32(label(row).encode()))
        pair = pairs[row.extension != "a"]
        words = [draw(row, rng) for _ in range(WORDS)]
        pair.poke_code(CODE, b"".join(w.to_bytes(8, "little") for w in words))
        for i, word in enumerate(words):
            for _ in range(scaled(OPERANDS)):
                found = _one_case(pair, row, word, CODE + 8 * i, rng)
                tally.check(not found) or tally.note(f"{text(word)}: {'; '.join(found)}")
                covered[label(row)] += 1
        found = pair.differences(range(32), set(range(32)))
        tally.check(not found) or tally.note(f"after all of {label(row)}: {'; '.join(found)}")
    left_out = tuple(label(row) for row in GUEST.rows if not covered[label(row)])
    tally.done(f"{len(covered)} rows of {len(GUEST.rows)}, {min(covered.values())} or more each; not asked: "
               f"{', '.join(left_out) or 'none'}; values not compared: {', '.join(VALUES_NOT_COMPARED)}")  # fmt: skip
    trapped, torn = pairs[True].trapped + pairs[False].trapped, pairs[True].torn
    causes = ", ".join(f"{traps.NAMES[cause]} {count}" for cause, count in sorted(trapped.items()))
    print(f"  traps: {causes}; stores that Spike tears at the end of memory: {torn}")
    assert left_out == UNCOVERED
    assert set(trapped) == {2, 3, 4, 5, 6, 7, 8} and torn


FLOAT_ROWS = [r for r in GUEST.rows if any(f.name == "rm" for f in layout(r.pattern).fields)]


def test_every_rounding_mode(pairs: dict[bool, Pair]) -> None:
    """Each row that rounds, in each mode of its rm field, under each value of frm, on every special operand."""
    tally = Tally("rounding modes against Spike")
    pair = pairs[True]
    rng = Random(5)
    for row in FLOAT_ROWS:
        for rm in range(8):
            word = draw_with_mode(row, rng, rm)
            pair.poke_code(CODE, word.to_bytes(4, "little"))
            decoded = GUEST.decode(word)
            for frm in range(8) if rm == 7 else (rng.randrange(8),):
                for _ in range(scaled(24)):
                    for field in ("rs1", "rs2", "rs3"):
                        _random_source(pair, row, word, field, rng)
                    pair.set_fcsr(0, frm)
                    found = pair.execute(CODE)
                    rd = word >> 7 & 31
                    floats = row.writes == "f" and decoded is not None
                    found += pair.differences({rd}, {rd} if floats else set())
                    tally.check(not found) or tally.note(f"{text(word)} frm {frm}: {'; '.join(found)}")
    tally.done(f"{len(FLOAT_ROWS)} rows, rm 0-7, frm 0-7")


def test_additional_floating_point_on_every_special(pairs: dict[bool, Pair]) -> None:
    """Each row of Zfa that reads registers, on every pair of special operands, boxed singles and others."""
    tally = Tally("Zfa on special operands against Spike")
    pair = pairs[True]
    rows = [row for row in GUEST.rows if row.extension == "zfa" and "frs1" in row.syntax]
    for row in rows:
        width = float_width(row)
        values = [boxed(v, width) if width < 64 else v for v in SPECIALS[width]] + [SPECIALS[64][8]]
        word = draw(row, Random(1), rs1=1, rs2=2, rd=3, rm=7)
        pair.poke_code(CODE, word.to_bytes(4, "little"))
        for number, (first, second) in enumerate(product(values, values)):
            pair.set_f(1, first)
            pair.set_f(2, second)
            pair.set_fcsr(0, number % 5)
            found = pair.execute(CODE) + pair.differences({3}, {3})
            tally.check(not found) or tally.note(f"{text(word)} of {first:#x}, {second:#x}: {'; '.join(found)}")
    tally.done(f"{len(rows)} rows")


def draw_with_mode(row: Row, rng: Random, rm: int) -> int:
    """A word of the row with this rm field, which may be a reserved one."""
    return draw(row, rng, rm=0) & ~(7 << 12) | rm << 12


def _random_source(pair: Pair, row: Row, word: int, field: str, rng: Random) -> None:
    """A special operand in the register that a field names."""
    at = {"rs1": 15, "rs2": 20, "rs3": 27}[field]
    if not any(f.name == field for f in layout(row.pattern).fields):
        return
    number = word >> at & 31
    if is_float(row, field):
        width = float_width(row)
        value = rng.choice(SPECIALS[width]) if rng.getrandbits(1) else random_float(rng, width)
        pair.set_f(number, boxed(value, width) if width < 64 else value)
    else:
        pair.set_x(number, rng.choice(INTEGERS) if rng.getrandbits(1) else random_integer(rng))


def test_reservations(pairs: dict[bool, Pair]) -> None:
    """LR then SC: same or another address and size, with a plain store or a second SC between."""
    tally = Tally("LR and SC against Spike")
    pair = pairs[False]
    rng = Random(6)
    outcomes: Counter[str] = Counter()
    for _ in range(scaled(4000)):
        first, second = rng.choice("wd"), rng.choice("wd")
        code = [
            asm(f"lr.{first}", rd=5, rs1=10, aq=rng.getrandbits(1), rl=rng.getrandbits(1)),
            asm(f"sc.{second}", rd=6, rs1=11, rs2=12, aq=rng.getrandbits(1), rl=rng.getrandbits(1)),
            asm(f"sc.{second}", rd=7, rs1=11, rs2=13, aq=0, rl=0),
        ]
        if rng.getrandbits(1):
            code.insert(1, asm("sd", rs1=14, rs2=13, imm=0))
        pair.poke_code(CODE, b"".join(w.to_bytes(4, "little") for w in code))
        base = DATA + rng.randrange(0, 256, 8)
        pair.set_x(10, base)
        pair.set_x(11, base + rng.choice((0, 0, 0, 8, -8)))
        pair.set_x(14, base + rng.choice((0, 8, 64)))
        for number in (12, 13):
            pair.set_x(number, random_integer(rng))
        for offset in range(-8, 80, 8):
            pair.poke(base + offset, rng.getrandbits(64))
        pair.slots[RESERVED_SIZE] = 0
        found = []
        other_size = first != second and pair.slots[10] == pair.slots[11]
        for i in range(len(code)):
            found += pair.execute(CODE + 4 * i)
            if other_size and code[i] >> 27 == 3:
                # An SC of another size than the LR's may fail, and does here; Spike compares addresses only.
                assert pair.slots[6] == 1
                break
        if other_size:
            outcomes["of another size, Spike not compared"] += 1
            for i in (5, 6, 7):
                pair.set_x(i, 0)
            continue
        found += pair.differences({5, 6, 7}, set())
        outcomes["succeeded" if pair.slots[6] == 0 else "failed"] += 1
        for offset in range(-8, 80, 8):
            mine = int.from_bytes(pair.ours.space.peek(base + offset, 8), "little")
            if mine != pair.spike.peek(base + offset):
                found.append(f"memory at +{offset}")
        tally.check(not found) or tally.note(f"{[text(w) for w in code]}: {'; '.join(found)}")
    tally.done(", ".join(f"{n} {c}" for n, c in outcomes.items()))
    assert len(outcomes) == 3


def test_counters_can_be_read(pairs: dict[bool, Pair]) -> None:
    """Reading a counter is legal; cycle, time and instret are each engine's own, and the others are 0."""
    pair = pairs[True]
    tally = Tally("counter CSRs against Spike")
    for number in COUNTERS:
        for name in ("csrrs (reads only)", "csrrc (reads only)", "csrrsi (reads only)", "csrrci (reads only)"):
            pair.poke_code(CODE, asm(name, rd=5, csr=number).to_bytes(4, "little"))
            found = pair.execute(CODE)
            if CSRS[number].name in VALUES_NOT_COMPARED:
                pair.set_x(5, number)
            found += pair.differences({5}, set())
            tally.check(not found) or tally.note(f"{name} {number:#x}: {found}")
            pair.set_x(5, number)
    tally.done()


def test_illegal_words(pairs: dict[bool, Pair]) -> None:
    """What we do not decode is an illegal instruction to Spike too, with the word as the trap's value."""
    pair = pairs[True]
    tally = Tally("illegal words against Spike")
    rng = Random(8)
    shapes = [layout(row.pattern) for row in GUEST.rows if layout(row.pattern).length == 4]
    kinds: Counter[str] = Counter()
    words = [w for w in range(1 << 16) if w & 3 != 3 and GUEST.decode(w) is None]  # all of them at full scale
    rng.shuffle(words)
    del words[scaled(3000) :]
    while len(words) < scaled(12_000):
        word = rng.getrandbits(32) | 3
        if rng.getrandbits(1):
            shape = rng.choice(shapes)
            word = word & ~shape.mask | shape.match
            word ^= 1 << rng.randrange(2, 32) if rng.getrandbits(1) else 0
        if word & 3 == 3 and GUEST.decode(word) is None and word not in PRIVILEGED:
            words.append(word)
    for start in range(0, len(words), 256):
        part = words[start : start + 256]
        pair.poke_code(CODE, b"".join(w.to_bytes(8, "little") for w in part))
        for i, word in enumerate(part):
            number = word >> 20
            if word & 0x7F == 0x73 and word >> 12 & 3:
                kinds["CSR"] += 1
                assert number not in FLOAT_CSRS and (number not in CSRS or CSRS[number].write is None)
            found = pair.execute(CODE + 8 * i)
            tally.check(not found) or tally.note(f"{word:#010x}: {'; '.join(found)}")
    tally.done(f"{kinds['CSR']} of them on CSRs")


PRIVILEGED = (0x10500073,)  # wfi: Spike lets user mode wait; in a Linux process it is illegal here
