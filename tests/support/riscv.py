"""What tests of the RISC-V guest share: rows by name, random instruction words, operand values, counts, rigs.

`DRAGOMAN_TEST_SCALE` (a float, default 1) scales every number of random cases.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from random import Random

import guests
from dbt.engine import Translated
from dbt.memory import AddressSpace
from dbt.options import Options
from dbt.reference import Reference, Stop
from dbt.state import State
from guests.decode import PatternError, encode, extract, layout
from guests.riscv.registers import FFLAGS, FRM, RESERVED_ADDRESS, RESERVED_SIZE, SINK, F
from guests.spec import Decoded, Guest, Row

SCALE = float(os.environ.get("DRAGOMAN_TEST_SCALE", "1"))
MASK = (1 << 64) - 1
GUEST = guests.load("riscv64")
FLOAT_CSRS = (0x001, 0x002, 0x003)
COUNTERS = tuple(range(0xC00, 0xC20))  # the first three count
BOX = 0xFFFF_FFFF_0000_0000


def scaled(count: int) -> int:
    """`count` at the chosen scale, at least 1."""
    return max(1, int(count * SCALE))


# --- rows and words ----------------------------------------------------------------------------------


def label(row: Row) -> str:
    """A name that is unique among rows: the forms that only read a CSR share a name with those that write."""
    reads_only = row.extension == "zicsr" and row.syntax.endswith((", zero", ", 0"))
    return f"{row.name} (reads only)" if reads_only else row.name


BY_NAME: dict[str, Row] = {label(row): row for row in GUEST.rows}
assert len(BY_NAME) == len(GUEST.rows)


def asm(name: str, **fields: int) -> int:
    """The word of the row of this name."""
    return encode(BY_NAME[name], **fields)


def csrr(rd: int, csr: int) -> int:
    """Read a CSR."""
    return asm("csrrs (reads only)", rd=rd, csr=csr)


def words_to_bytes(words: Iterable[int]) -> bytes:
    """Instruction words as they stand in memory: four bytes each, or two where the low two bits are not 11."""
    return b"".join(w.to_bytes(4 if w & 3 == 3 else 2, "little") for w in words)


def register_fields(row: Row) -> set[str]:
    """The encoded fields of a row that name registers."""
    return {field.name for field in layout(row.pattern).fields} & {"rd", "rs1", "rs2", "rs3"}


def is_float(row: Row, field: str) -> bool:
    """Whether a register field of a row names a floating-point register."""
    return "f" + field in row.syntax


def draw(row: Row, rng: Random, guest: Guest = GUEST, **chosen: int | Sequence[int]) -> int:
    """A random legal word of `row`. `chosen` gives a field a value, or values to choose from."""
    shape = layout(row.pattern)
    if any(field.name == "csr" for field in shape.fields):
        chosen.setdefault("csr", FLOAT_CSRS)
    for _ in range(10_000):
        noise = rng.getrandbits(8 * shape.length)
        values = {}
        for field in shape.fields:
            if field.name in chosen:
                choice = chosen[field.name]
                values[field.name] = choice if isinstance(choice, int) else rng.choice(choice)
            else:
                values[field.name] = extract(field, noise)
        try:
            word = encode(row, **values)
        except PatternError:
            continue
        decoded = guest.decode(word)
        if decoded is not None and decoded.row is row:
            return word
    raise AssertionError(f"no legal word of {label(row)} with {chosen}")


def decode(word: int) -> Decoded:
    """The decoded word, which must be legal."""
    decoded = GUEST.decode(word)
    assert decoded is not None, hex(word)
    return decoded


def text(word: int, pc: int = 0) -> str:
    """The disassembly of a word, for messages."""
    decoded = GUEST.decode(word)
    return f"{word:#x} illegal" if decoded is None else f"{word:#010x} {GUEST.disassemble(decoded, pc)}"


# --- values ------------------------------------------------------------------------------------------

INTEGERS = tuple(
    v & MASK
    for v in (
        0, 1, 2, 3, -1, -2, 1 << 63, (1 << 63) - 1, (1 << 63) + 1, 1 << 31, (1 << 31) - 1, (1 << 31) + 1, 1 << 32,
        (1 << 32) - 1, (1 << 32) + 1, -(1 << 31), -(1 << 31) - 1, -(1 << 31) + 1, 63, 64, 31, 32, 127, 128, 255, 256,
        0x7FFF, 0x8000, 0xFFFF, 0x5555555555555555, 0xAAAAAAAAAAAAAAAA, 0x0123456789ABCDEF,
        1 << 53, (1 << 53) + 1, (1 << 24) + 1, (1 << 63) - 512, (1 << 63) - 1024, -1024, 0xFFFFFF7FFFFFFFFF,
    )
)  # fmt: skip


def _specials(exponent_bits: int, fraction_bits: int) -> tuple[int, ...]:
    """Every class and border of a format, both signs."""
    top = 1 << (exponent_bits + fraction_bits)
    one = ((1 << (exponent_bits - 1)) - 1) << fraction_bits
    infinity = ((1 << exponent_bits) - 1) << fraction_bits
    unit = 1 << fraction_bits
    half = one - unit
    positive = (
        0, 1, 2, unit - 1, unit, unit + 1, half, one - 1, one, one + 1, one + unit, one + unit + unit // 2,
        one + (fraction_bits << fraction_bits), one + ((fraction_bits + 1) << fraction_bits), infinity - unit,
        infinity - 1, infinity, infinity | unit >> 1, infinity | unit >> 1 | 5, infinity | 1,
        infinity | unit >> 2, half + unit // 2,
    )  # fmt: skip
    return positive + tuple(v | top for v in positive)


SPECIALS = {16: _specials(5, 10), 32: _specials(8, 23), 64: _specials(11, 52)}
_INTEGER_BORDERS = {
    16: (0x7BFF, 0x7800, 0xF800, 0xFBFF, 0x3800, 0xB800, 0x3E00, 0x4100, 0x6400, 0x67FF),
    32: (0x4EFFFFFF, 0x4F000000, 0x4F7FFFFF, 0x4F800000, 0x5EFFFFFF, 0x5F000000, 0x5F7FFFFF, 0x5F800000, 0xCF000000,
         0xCF000001, 0xDF000000, 0xDF000001, 0xBF7FFFFF, 0xBF800000, 0xBF000000, 0x3F000000, 0x3FC00000, 0x40200000),
    64: (0x41DFFFFFFFC00000, 0x41DFFFFFFFE00000, 0x41E0000000000000, 0x41EFFFFFFFE00000, 0x41EFFFFFFFF00000,
         0x41F0000000000000, 0x43DFFFFFFFFFFFFF, 0x43E0000000000000, 0x43EFFFFFFFFFFFFF, 0x43F0000000000000,
         0xC1E0000000000000, 0xC1E0000000100000, 0xC1E0000000200000, 0xC3E0000000000000, 0xC3E0000000000001,
         0xBFEFFFFFFFFFFFFF, 0xBFE0000000000000, 0x3FE0000000000000, 0x3FF8000000000000, 0x4004000000000000),
}  # fmt: skip


def random_integer(rng: Random) -> int:
    """A corner, a random value, or a random value of random length, either sign."""
    match rng.randrange(4):
        case 0:
            return rng.choice(INTEGERS)
        case 1:
            return rng.getrandbits(64)
    value = rng.getrandbits(rng.randrange(1, 65))
    return value if rng.getrandbits(1) else -value & MASK


def random_float(rng: Random, width: int) -> int:
    """A special, an integer border, a value near 1, or random bits, of one format."""
    match rng.randrange(5):
        case 0:
            return rng.choice(SPECIALS[width])
        case 1:
            return rng.choice(_INTEGER_BORDERS[width])
        case 2 | 3:
            fraction, bias = {16: (10, 15), 32: (23, 127), 64: (52, 1023)}[width]
            spread = min(rng.choice((2, 2, 30, 70, bias - 1)), bias - 1)
            exponent = bias + rng.randrange(-spread, spread)
            kept = rng.choice((fraction, fraction, 3, 8))
            mantissa = rng.getrandbits(fraction) >> (fraction - kept) << (fraction - kept)
            return (rng.getrandbits(1) << (width - 1)) | (exponent << fraction) | mantissa
    return rng.getrandbits(width)


def boxed(value: int, width: int = 32) -> int:
    """A value of 16 or 32 bits as a floating-point register holds it."""
    return MASK >> width << width | value


def random_float_register(rng: Random, loose: bool = True) -> int:
    """A register value: a double, or a NaN-boxed single or half; if `loose`, rarely a single that is not boxed."""
    match rng.randrange(12 if loose else 11):
        case 0 | 1 | 2 | 3 | 4:
            return random_float(rng, 64)
        case 11:
            return rng.getrandbits(32) << 32 | random_float(rng, 32)
        case 10:
            return boxed(random_float(rng, 16), 16)
    return boxed(random_float(rng, 32))


# --- counting ----------------------------------------------------------------------------------------


class Tally:
    """Counts comparisons and keeps the first mismatches; `done` prints the counts and asserts there are none."""

    def __init__(self, what: str, keep: int = 12) -> None:
        self.what = what
        self.cases = 0
        self.wrong = 0
        self.mismatches: list[str] = []
        self._keep = keep

    def check(self, good: bool) -> bool:
        """Count one case. Where it is wrong the caller says so: `tally.check(x) or tally.note(f"...")`."""
        self.cases += 1
        self.wrong += not good
        return good

    def note(self, message: str) -> None:
        """Keep the description of a mismatch, if it is among the first."""
        if len(self.mismatches) < self._keep:
            self.mismatches.append(message)

    def done(self, note: str = "") -> None:
        print(f"\n{self.what}: {self.cases} cases, {self.wrong} mismatches{'; ' + note if note else ''}")
        assert self.cases, f"{self.what}: nothing was compared"
        assert not self.wrong, f"{self.what}: {self.wrong} of {self.cases} differ\n" + "\n".join(self.mismatches)


# --- rigs --------------------------------------------------------------------------------------------


class Rig:
    """One engine over its own state and memory, without Linux. `regions` are (address, length, protection).

    Without options the translating engine translates everything, since what it interprets tests nothing.
    """

    def __init__(self, regions: Iterable[tuple[int, int, int]], options: Options | None = None,
                 translated: bool = False, guest: Guest = GUEST) -> None:  # fmt: skip
        self.regions = tuple(regions)
        self.space = AddressSpace()
        for address, length, protection in self.regions:
            self.space.map(address, length, protection, fixed=True)
        self.state = State(guest)
        self.engine: Reference | Translated
        if translated:
            self.engine = Translated(self.state, self.space, _clock, options or Options(hot=0))
        else:
            self.engine = Reference(self.state, self.space, _clock)

    def close(self) -> None:
        if isinstance(self.engine, Translated):
            self.engine.close()
        self.space.close()

    def run(self, until: int) -> Stop:
        return self.engine.run(until)

    def memory(self) -> list[bytes]:
        """All bytes of all regions."""
        return [self.space.peek(address, length) for address, length, _ in self.regions]

    def outcome(self, stop: Stop | None = None) -> tuple[object, ...]:
        """What two engines must agree on, but for memory."""
        state = self.state
        return (stop, state.pc, state.count, state.blocks, state.mid_block, *visible(state))


def visible(state: State) -> list[int]:
    """Every slot, without the sink of writes to x0."""
    slots = list(state.slots)
    slots[SINK] = 0
    return slots


def _clock() -> int:
    return 0x1234_5678


NAMES = {
    **{i: f"x{i}" for i in range(32)}, **{F + i: f"f{i}" for i in range(32)}, FFLAGS: "fflags", FRM: "frm",
    RESERVED_ADDRESS: "reserved_address", RESERVED_SIZE: "reserved_size",
}  # fmt: skip


def difference(a: tuple[object, ...], b: tuple[object, ...]) -> str:
    """Where two outcomes differ, in words."""
    heads = ("stop", "pc", "count", "blocks", "mid_block")
    names = [*heads, *(NAMES.get(i, f"slot {i}") for i in range(len(a) - len(heads)))]
    return ", ".join(f"{n}: {_show(x)} / {_show(y)}" for n, x, y in zip(names, a, b) if x != y)


def _show(value: object) -> str:
    return hex(value) if isinstance(value, int) and not isinstance(value, bool) else str(value)
