"""Translated floating point against `ir.fp`: every F and D instruction over many operands, results and flags.

A loop in guest code applies one instruction to an array of operands and stores result and flags, so that the
vectors run in translated code. What is expected comes from `ir.fp` (which tests/ir compares with Berkeley
SoftFloat) and from the few lines of NaN boxing here, not from the instruction bodies.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from itertools import product
from random import Random

import pytest
from support.programs import REGIONS, randomise
from support.riscv import (
    BOX,
    GUEST,
    INTEGERS,
    MASK,
    SPECIALS,
    Rig,
    Tally,
    asm,
    boxed,
    draw,
    is_float,
    random_float,
    random_integer,
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
from guests.riscv.registers import FFLAGS, FRM
from guests.spec import Row
from ir import fp
from ir.llvm import variables

CODE, INPUT, OUTPUT, ROOM = 0x1_0000, 0x10_0000, 0x40_0000, 0x10_0000
ROWS = tuple(r for r in GUEST.rows if r.extension in ("f", "d") and not r.may_trap)
MODES = {0: "rne", 1: "rtz", 2: "rdn", 3: "rup", 4: "rmm"}
Vector = tuple[int, ...]
Model = Callable[[Vector, int], tuple[int, int]]


# What runs the vectors; stencils, although the page is written over for each test.
TIERS = {"translations": Options(hot=0), "stencils": Options(tiers=(0,), patience=0)}


@pytest.fixture(scope="module", params=TIERS)
def machine(request: pytest.FixtureRequest) -> Iterator[Rig]:
    made = Rig([(CODE, 0x10000, 7), (INPUT, ROOM, 3), (OUTPUT, ROOM, 3)], TIERS[request.param], translated=True)
    yield made
    made.close()


@pytest.fixture
def rig(machine: Rig, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    monkeypatch.setattr(dbt.coherence, "TOLERANCE", 1 << 60)
    yield machine
    assert isinstance(machine.engine, Translated) and 50 * machine.engine.interpreted <= machine.state.count


# --- what is expected --------------------------------------------------------------------------------


def _unbox(width: int, value: int) -> int:
    if width == 64:
        return value
    return value & 0xFFFFFFFF if value & BOX == BOX else fp.F32.canonical_nan


def _float_result(width: int, result: tuple[int, int]) -> tuple[int, int]:
    return (result[0] if width == 64 else boxed(result[0])), result[1]


def _signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


INTS = {"w": (32, True), "wu": (32, False), "l": (64, True), "lu": (64, False)}


def model(row: Row) -> Model:
    """The meaning of a row as `ir.fp` has it: from register values and a mode to a register value and flags."""
    name, *suffixes = row.name.split(".")
    if name == "fcvt":
        return _conversion(*suffixes)
    if name == "fmv":
        to, source = suffixes
        if to == "x":
            return lambda v, rm: ((_signed(v[0], 32 if source == "w" else 64)) & MASK, 0)
        return lambda v, rm: ((boxed(v[0] & 0xFFFFFFFF) if to == "w" else v[0]), 0)
    width = 32 if suffixes == ["s"] else 64
    fmt = fp.FORMATS[width]
    top = fmt.sign_bit
    operations: dict[str, Callable[..., tuple[int, int]]] = {
        "fadd": lambda a, b, rm: fp.add(fmt, a, b, rm),
        "fsub": lambda a, b, rm: fp.sub(fmt, a, b, rm),
        "fmul": lambda a, b, rm: fp.mul(fmt, a, b, rm),
        "fdiv": lambda a, b, rm: fp.div(fmt, a, b, rm),
        "fsqrt": lambda a, rm: fp.sqrt(fmt, a, rm),
        "fmadd": lambda a, b, c, rm: fp.fma(fmt, a, b, c, rm),
        "fmsub": lambda a, b, c, rm: fp.fma(fmt, a, b, c ^ top, rm),
        "fnmsub": lambda a, b, c, rm: fp.fma(fmt, a ^ top, b, c, rm),
        "fnmadd": lambda a, b, c, rm: fp.fma(fmt, a ^ top, b, c ^ top, rm),
        "fmin": lambda a, b, rm: fp.minimum(fmt, a, b),
        "fmax": lambda a, b, rm: fp.maximum(fmt, a, b),
        "fsgnj": lambda a, b, rm: (a & ~top | b & top, 0),
        "fsgnjn": lambda a, b, rm: (a & ~top | ~b & top, 0),
        "fsgnjx": lambda a, b, rm: (a ^ b & top, 0),
        "feq": lambda a, b, rm: fp.eq(fmt, a, b),
        "flt": lambda a, b, rm: fp.lt(fmt, a, b),
        "fle": lambda a, b, rm: fp.le(fmt, a, b),
        "fclass": lambda a, rm: (fp.classify(fmt, a), 0),
    }
    operation = operations[name]
    if row.writes == "x":
        return lambda v, rm: operation(*(_unbox(width, a) for a in v), rm)
    return lambda v, rm: _float_result(width, operation(*(_unbox(width, a) for a in v), rm))


def _conversion(to: str, source: str) -> Model:
    widths = {"s": 32, "d": 64}
    if to in INTS:
        bits, signed = INTS[to]
        low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
        width = widths[source]

        def to_integer(v: Vector, rm: int) -> tuple[int, int]:
            value, flags = fp.to_int(fp.FORMATS[width], _unbox(width, v[0]), rm, low, high)
            return _signed(value, bits) & MASK, flags

        return to_integer
    width = widths[to]
    if source in INTS:
        bits, signed = INTS[source]
        number = (lambda a: _signed(a, bits)) if signed else (lambda a: a & (1 << bits) - 1)
        return lambda v, rm: _float_result(width, fp.from_int(fp.FORMATS[width], number(v[0]), rm))
    other = widths[source]
    return lambda v, rm: _float_result(
        width, fp.convert(fp.FORMATS[other], fp.FORMATS[width], _unbox(other, v[0]), rm)
    )


# --- vectors -----------------------------------------------------------------------------------------


def _operand_width(row: Row) -> int:
    return 32 if row.name.split(".")[-1] in ("s", "w") else 64


def _few(specials: tuple[int, ...]) -> tuple[int, ...]:
    """Zeros, least subnormal and normal, ones, largest, infinities, quiet and signalling NaNs: 16 for triples."""
    half = len(specials) // 2
    picked = (0, 1, 4, 8, 15, 16, 17, 19)
    return tuple(specials[i] for i in picked) + tuple(specials[half + i] for i in picked)


def vectors(row: Row, count: int) -> list[Vector]:
    """Complete products of corners (pairs of all, triples of 16), then random ones; some singles not boxed."""
    rng = Random(len(row.name) * 7919 + count)
    fields = [f.name for f in layout(row.pattern).fields if f.name in ("rs1", "rs2", "rs3")]
    if not is_float(row, "rs1"):
        return [(v,) for v in INTEGERS] + [(random_integer(rng),) for _ in range(count)]
    width = _operand_width(row)
    corners = SPECIALS[width] if len(fields) < 3 else _few(SPECIALS[width])
    complete = list(product(corners, repeat=len(fields)))
    noise: list[Vector] = []
    for _ in range(count):
        first = random_float(rng, width)
        near = [first ^ rng.getrandbits(rng.choice((1, 3, 24))) if not rng.randrange(4) else random_float(rng, width)
                for _ in fields[1:]]  # fmt: skip
        noise.append((first, *near))
    if width == 64:
        return complete + noise
    registers = [tuple(map(boxed, v)) for v in complete + noise]
    loose = [tuple(a if rng.getrandbits(1) else a & 0xFFFFFFFF | rng.getrandbits(32) << 32 for a in v)
             for v in registers[:: max(1, len(registers) // 64)]]  # fmt: skip
    return registers + loose


def program(word: int, row: Row) -> bytes:
    """The loop: operands from s0, result and flags to s1, until s2; frm is set from s3 first."""
    loads = [asm("fld", rd=n, rs1=8, imm=8 * (n - 1)) for n in (1, 2, 3)] + [asm("ld", rd=6, rs1=8, imm=0)]
    store = asm("fsd", rs1=9, rs2=4, imm=0) if row.writes == "f" else asm("sd", rs1=9, rs2=5, imm=0)
    loop = [
        *loads, asm("csrrw", rd=0, rs1=0, csr=1), word, asm("csrrs (reads only)", rd=7, csr=1), store,
        asm("sd", rs1=9, rs2=7, imm=8), asm("addi", rd=8, rs1=8, imm=24), asm("addi", rd=9, rs1=9, imm=16),
    ]  # fmt: skip
    loop.append(asm("bltu", rs1=8, rs2=18, imm=-4 * len(loop)))
    return words_to_bytes([asm("csrrw", rd=0, rs1=19, csr=2), *loop, asm("ecall")])


def run(rig: Rig, word: int, row: Row, batch: list[Vector], frm: int) -> list[tuple[int, int]]:
    """Results and flags of the instruction over the vectors."""
    space, state = rig.space, rig.state
    code = program(word, row)
    if space.peek(CODE, len(code)) != code:
        space.poke(CODE, code)
    flat = [a for v in batch for a in (*v, 0, 0)[:3]]
    assert 8 * len(flat) <= ROOM
    space.poke(INPUT, struct.pack(f"<{len(flat)}Q", *flat))
    slots = state.slots
    slots[8], slots[9], slots[18], slots[19] = INPUT, OUTPUT, INPUT + 24 * len(batch), frm
    slots[FRM], slots[FFLAGS] = 3 - frm % 4, 31
    state.pc, state.mid_block = CODE, False
    assert rig.run(state.count + (1 << 40)) == Stop(True, traps.USER_ECALL, 0)
    raw = struct.unpack(f"<{2 * len(batch)}Q", space.peek(OUTPUT, 16 * len(batch)))
    return list(zip(raw[::2], raw[1::2]))


@pytest.mark.parametrize("letter", ["s", "d"])
def test_every_instruction(rig: Rig, letter: str) -> None:
    """Each row in each static mode, and under each frm; those that do not round, once."""
    tally = Tally(f"translated floating point, {'F' if letter == 's' else 'D'}")
    assert isinstance(rig.engine, Translated)
    before = rig.engine.stepped
    rows = [row for row in ROWS if row.extension == {"s": "f", "d": "d"}[letter]]
    for row in rows:
        rounds = any(f.name == "rm" for f in layout(row.pattern).fields)
        meaning = model(row)
        every = vectors(row, scaled(1500))
        for mode in MODES if rounds else (0,):
            # the monitor executes ties-to-max-magnitude: fewer vectors, evenly taken
            batch = every[:: 1 + len(every) // scaled(600)] if mode == 4 else every
            expected = [meaning(v, mode) for v in batch]
            # dynamic; static where the host is in that mode already; static where it is not (the monitor's, so few)
            variants = (("dynamic", 1), ("same", 1), ("other", 32)) if rounds else (("same", 1),)
            for variant, step in variants:
                chosen = {"rm": 7 if variant == "dynamic" else mode} if rounds else {}
                registers = {"rs1": 1 if is_float(row, "rs1") else 6, "rd": 4 if row.writes == "f" else 5}
                others = {f: n for f, n in (("rs2", 2), ("rs3", 3)) if "f" + f in row.syntax}
                word = draw(row, Random(1), **chosen, **registers, **others)
                got = run(rig, word, row, batch[::step], (mode + 1) % 5 if variant == "other" else mode)
                tally.cases += len(got)
                if got != expected[::step]:
                    for v, mine, theirs in zip(batch[::step], got, expected[::step]):
                        if mine != theirs:
                            tally.wrong += 1
                            operands = ", ".join(map(hex, v))
                            got_text, expected_text = (f"{bits:#x} flags {flags:#x}" for bits, flags in (mine, theirs))
                            tally.note(f"{text(word)} {MODES[mode]} ({operands}): {got_text}, ir.fp {expected_text}")
    stepped = rig.engine.stepped - before
    tally.done(f"{len(rows)} rows; {stepped} executed by the monitor")
    assert stepped < tally.cases / 6  # the rest ran in translated code


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_few_operands(rig: Rig, row: Row) -> None:
    """A quick look at one row: some corners, to nearest as frm says, and towards zero where the host is not."""
    tally = Tally(f"a few operands of {row.name}")
    every = vectors(row, 400)
    batch = every[:: 1 + len(every) // 500]
    registers = {"rs1": 1 if is_float(row, "rs1") else 6, "rd": 4 if row.writes == "f" else 5}
    others = {f: n for f, n in (("rs2", 2), ("rs3", 3)) if "f" + f in row.syntax}
    rounds = any(f.name == "rm" for f in layout(row.pattern).fields)
    for chosen, frm, mode in (({"rm": 7}, 0, 0), ({"rm": 1}, 3, 1)) if rounds else (({}, 0, 0),):
        word = draw(row, Random(1), **chosen, **registers, **others)
        for v, got in zip(batch, run(rig, word, row, batch, frm)):
            tally.check(got == model(row)(v, mode)) or tally.note(f"{text(word)} {', '.join(map(hex, v))}: {got}")
    tally.done()


def test_flags_accrue(rig: Rig) -> None:
    """Without clearing, flags are the union of all that was raised, and none is lost at an exit."""
    tally = Tally("accrued flags")
    rng = Random(9)
    pool = [random_float(rng, 64) for _ in range(40)]
    for _ in range(scaled(300)):
        a, b = rng.choice(pool), rng.choice(pool)
        initial = rng.getrandbits(5)
        names = [rng.choice(("fadd.d", "fdiv.d", "fmul.d", "fsub.d")) for _ in range(3)]
        words = [asm(name, rd=3, rs1=1, rs2=2, rm=0) for name in names]
        words.insert(rng.randrange(4), asm("ecall"))
        rig.space.poke(CODE, words_to_bytes([*words, asm("ecall")]))
        slots, state = rig.state.slots, rig.state
        slots[FFLAGS], slots[FRM] = initial, 0
        slots[33 + 1], slots[33 + 2] = a, b
        state.pc, state.mid_block = CODE, False
        expected = initial
        for word in [*words, asm("ecall")]:
            if word == asm("ecall"):
                rig.run(state.count + 100)
                tally.check(slots[FFLAGS] == expected) or tally.note(f"{names} {a:#x} {b:#x}: {slots[FFLAGS]:#x}")
                state.pc, state.mid_block = state.pc + 4, False
            else:
                row = next(r for r in ROWS if r.name == GUEST.decode(word).row.name)  # type: ignore[union-attr]
                expected |= model(row)((a, b), 0)[1]
    tally.done()


def test_a_flag_that_the_host_does_not_raise(rig: Rig) -> None:
    """Infinity times zero plus a quiet NaN: invalid when read, when it leaves, and gone for good once cleared."""
    read = asm("csrrs (reads only)", rd=7, csr=1)
    rig.space.poke(CODE, words_to_bytes([asm("fmadd.d", rd=4, rs1=1, rs2=2, rs3=3, rm=0), read, asm("ecall")]))
    rig.space.poke(CODE + 64, words_to_bytes([asm("addi", rd=5, rs1=5, imm=1), asm("ecall")]))
    slots, state = rig.state.slots, rig.state
    slots[FFLAGS], slots[FRM] = 0, 0
    slots[33 + 1], slots[33 + 2], slots[33 + 3] = fp.F64.infinity, 0, fp.F64.canonical_nan
    state.pc, state.mid_block = CODE, False
    rig.run(state.count + 100)
    assert slots[7] == slots[FFLAGS] == fp.NV
    slots[FFLAGS] = 0
    state.pc, state.mid_block = CODE + 64, False
    rig.run(state.count + 100)
    assert slots[FFLAGS] == 0


@pytest.mark.parametrize("options", [Options(hot=0, max_instructions=8), TIERS["stencils"]], ids=TIERS)
def test_every_pair_in_one_block(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    """The result of each instruction as an operand of each other of its extension, in one block, by both engines."""
    tally = Tally("pairs of floating-point instructions")
    rng = Random(10)
    monkeypatch.setattr(dbt.coherence, "TOLERANCE", 1 << 60)
    reference, translated = Rig(REGIONS), Rig(REGIONS, options, translated=True)
    pairs, often = 0, variables.SELDOM
    for number, first in enumerate(ROWS):
        monkeypatch.setattr(variables, "SELDOM", (often, 0)[number % 2])
        words = []
        for second in ROWS:
            if first.extension != second.extension and "fcvt" not in first.name:
                continue
            pairs += 1
            one = draw(first, rng, rd=9, rs1=(10, 11), rs2=(10, 11), rs3=(10, 12), **_rne(first))
            two = draw(second, rng, rd=range(12, 32), rs1=9, rs2=(9, 9, 10), rs3=(9, 10), **_rne(second))
            words += [one, two]
        code = words_to_bytes([*words, asm("ecall")])
        for seed in range(scaled(3)):
            outcomes = []
            for engine in (reference, translated):
                engine.space.poke(0x1_0000, code)
                randomise(engine, seed)
                engine.state.slots[FRM] = 0
                engine.state.pc, engine.state.mid_block = 0x1_0000, False
                outcomes.append(engine.outcome(engine.run(engine.state.count + 1)))
            good = tally.check(outcomes[0] == outcomes[1])
            if not good:
                slots = [i for i, (x, y) in enumerate(zip(*outcomes)) if x != y]
                tally.note(f"{first.name} before the others, seed {seed}: entries {slots}")
    assert isinstance(translated.engine, Translated)
    assert 50 * translated.engine.interpreted <= translated.state.count
    reference.close()
    translated.close()
    tally.done(f"{pairs} pairs of {len(ROWS)} rows, {scaled(3)} states each")


def _rne(row: Row) -> dict[str, int]:
    return {"rm": 0} if any(f.name == "rm" for f in layout(row.pattern).fields) else {}
