"""`ir.fp` against oracles that share no code with it.

Berkeley SoftFloat 3e (softfloatpy) is the main one: bits and flags, all rounding modes, all formats.  Host
floats are a second.  A third, a witness on every platform, is in this file: it reads encodings as fractions
and finds a result's two neighbours by bisection over encodings, so it neither aligns nor rounds integers.

Each test prints how many comparisons it made.  DRAGOMAN_TEST_SCALE scales the number of random vectors.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import os
import struct
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import product
from random import Random
from typing import Any

import pytest

from ir import fp
from ir.fp import DZ, F16, F32, F64, FORMATS, NV, NX, OF, RDN, RMM, RNE, RTZ, RUP, UF, Format

softfloatpy: Any = importlib.import_module("softfloatpy") if importlib.util.find_spec("softfloatpy") else None

needs_softfloat = pytest.mark.skipif(
    softfloatpy is None, reason="softfloatpy is not installed; it has no wheels for Python >= 3.14"
)
every_format = pytest.mark.parametrize("fmt", FORMATS.values(), ids=lambda fmt: f"f{fmt.width}")

MODES = (RNE, RTZ, RDN, RUP, RMM)
SCALE = float(os.environ.get("DRAGOMAN_TEST_SCALE", "1"))
INT_TYPES = {
    "i32": (-(1 << 31), (1 << 31) - 1),
    "ui32": (0, (1 << 32) - 1),
    "i64": (-(1 << 63), (1 << 63) - 1),
    "ui64": (0, (1 << 64) - 1),
}

Operands = tuple[int, ...]
Evaluate = Callable[..., tuple[int, int]]


def scaled(count: int) -> int:
    return max(1, int(count * SCALE))


class Tally:
    """Counts comparisons, keeps the first mismatches, and reports both."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.count = 0
        self.mismatches: list[str] = []

    def check(self, got: object, expected: object, *context: object) -> None:
        self.count += 1
        if got != expected and len(self.mismatches) < 10:
            shown = " ".join(hex(x) if isinstance(x, int) else str(x) for x in context)
            self.mismatches.append(f"{shown}: got {got}, expected {expected}")

    def finish(self) -> None:
        print(f"\n{self.what}: {self.count} comparisons")
        assert self.count > 0
        assert not self.mismatches, "\n".join(self.mismatches)


# ---- operands -----------------------------------------------------------------------------------


def corners(fmt: Format) -> list[int]:
    """Both signs of every special encoding, and of the numbers where formats and rounding have edges."""
    one = fmt.bias << fmt.fraction_bits
    ulp_of_one = one - (fmt.fraction_bits << fmt.fraction_bits)
    magnitudes = [
        *(0, 1, 2, 3),  # smallest subnormals
        *(fmt.hidden_bit >> 1, fmt.hidden_bit - 1),  # middle and largest subnormal
        *(fmt.hidden_bit, fmt.hidden_bit + 1, fmt.hidden_bit << 1),  # smallest normals
        *(one - 1, one, one + 1, one + 2),
        *(one - fmt.hidden_bit, one + fmt.quiet_bit, one + fmt.quiet_bit + 1),  # 0.5, 1.5
        *(one + fmt.hidden_bit, one + fmt.hidden_bit + fmt.quiet_bit),  # 2, 3
        *(ulp_of_one, ulp_of_one - fmt.hidden_bit, ulp_of_one - fmt.hidden_bit + 1),  # halfway beside 1
        *(fmt.largest - fmt.hidden_bit, fmt.largest - 1, fmt.largest, fmt.infinity),
        *(fmt.infinity + 1, fmt.infinity + fmt.quiet_bit - 1),  # signalling NaNs
        *(fmt.canonical_nan, fmt.canonical_nan + 1, fmt.magnitude_mask),  # quiet NaNs
    ]
    return [sign | magnitude for magnitude in magnitudes for sign in (0, fmt.sign_bit)]


def few_corners(fmt: Format) -> list[int]:
    """A subset small enough to be tried in every triple."""
    one = fmt.bias << fmt.fraction_bits
    magnitudes = (0, 1, fmt.hidden_bit - 1, fmt.hidden_bit, one, one + 1, fmt.largest, fmt.infinity)
    signed = [sign | magnitude for magnitude in magnitudes for sign in (0, fmt.sign_bit)]
    return [*signed, fmt.canonical_nan, fmt.infinity + 1]


def encode(fmt: Format, sign: int, exponent_field: int, fraction: int) -> int:
    """An encoding, its exponent field clamped to what exists and is finite."""
    top = (1 << fmt.exponent_bits) - 2
    return sign << (fmt.width - 1) | min(max(exponent_field, 0), top) << fmt.fraction_bits | fraction


def exponent_field(fmt: Format, a: int) -> int:
    return (a & fmt.infinity) >> fmt.fraction_bits


def random_fraction(fmt: Format, rng: Random) -> int:
    """Uniform bits, or runs of equal bits, or few bits: the latter two make ties and long carries."""
    bits = fmt.fraction_bits
    kind = rng.randrange(4)
    if kind == 0:
        return rng.getrandbits(bits)
    if kind == 1:
        return fmt.fraction_mask & (-1 << rng.randrange(bits + 1))
    if kind == 2:
        return fmt.fraction_mask >> rng.randrange(bits + 1)
    return (1 << rng.randrange(bits)) | (1 << rng.randrange(bits))


def random_operand(fmt: Format, rng: Random) -> int:
    kind = rng.randrange(8)
    if kind == 0:
        return rng.choice(corners(fmt)) if rng.randrange(4) == 0 else rng.getrandbits(fmt.width)
    sign, fraction = rng.getrandbits(1), random_fraction(fmt, rng)
    if kind <= 3:  # near 1, so that operands meet
        return encode(fmt, sign, fmt.bias + rng.randint(-4, 4), fraction)
    if kind == 4:  # subnormal or nearly
        return encode(fmt, sign, rng.randrange(3), fraction)
    return encode(fmt, sign, rng.randrange(1 << fmt.exponent_bits), fraction)


def random_pair(fmt: Format, rng: Random) -> Operands:
    """Unrelated operands, or a second one chosen to make the first one's result hard to round."""
    a = random_operand(fmt, rng)
    kind = rng.randrange(7)
    if kind <= 1:
        return a, random_operand(fmt, rng)
    sign, fraction, e = rng.getrandbits(1), random_fraction(fmt, rng), exponent_field(fmt, a)
    if kind == 2:  # cancellation: the same number but for a few ulps
        return a, (a ^ sign << (fmt.width - 1)) ^ rng.randrange(4)
    if kind == 3:  # cancellation across a binade, or sums that need a few bits more
        return a, encode(fmt, sign, e + rng.randint(-3, 3), fraction)
    if kind == 4:  # near half an ulp of a
        return a, encode(fmt, sign, e - fmt.precision + rng.randint(-2, 2), fraction)
    # Products and quotients at the subnormal boundary and at the overflow boundary.
    target = rng.choice((rng.randint(-fmt.precision - 2, 3), (1 << fmt.exponent_bits) - rng.randint(0, 4)))
    return a, encode(fmt, sign, target + fmt.bias - e if kind == 5 else e - target + fmt.bias, fraction)


def random_triple(fmt: Format, rng: Random) -> Operands:
    """A pair, and an addend that is unrelated, or nearly cancels the product, or falls at one of its ends."""
    a, b = random_pair(fmt, rng)
    kind = rng.randrange(4)
    if kind == 0:
        return a, b, random_operand(fmt, rng)
    sign, fraction = rng.getrandbits(1), random_fraction(fmt, rng)
    if kind == 1:
        cancelling = fp.mul(fmt, a, b, rng.choice(MODES))[0] ^ fmt.sign_bit
        return a, b, max(cancelling + rng.randint(-1, 1), 0) & (fmt.sign_bit | fmt.magnitude_mask)
    product_field = exponent_field(fmt, a) + exponent_field(fmt, b) - fmt.bias
    distance = rng.choice((0, fmt.precision, -fmt.precision, 2 * fmt.precision, -2 * fmt.precision))
    return a, b, encode(fmt, sign, product_field + distance + rng.randint(-2, 2), fraction)


def random_singleton(fmt: Format, rng: Random) -> Operands:
    return (random_operand(fmt, rng),)


def vectors(fmt: Format, arity: int, count: int, seed: int) -> Iterator[Operands]:
    """Every tuple of corners, then `count` random ones."""
    yield from product(few_corners(fmt) if arity == 3 else corners(fmt), repeat=arity)
    rng = Random(seed * 1000 + fmt.width)
    generate = (random_singleton, random_pair, random_triple)[arity - 1]
    for _ in range(scaled(count)):
        yield generate(fmt, rng)


# ---- SoftFloat ----------------------------------------------------------------------------------


def softfloat(name: str, *types: str) -> Evaluate:
    """SoftFloat's function `name` on operands of the given types ("f32", "ui64", ...), as bits and flags.

    SoftFloat's rounding mode must be set beforehand.  Integers are passed and returned as their bits.
    """
    function = getattr(softfloatpy, name)
    classes = {"f": "Float", "i": "Int", "ui": "UInt"}
    operands = []
    for kind in types:
        letters = kind.rstrip("0123456789")
        width = int(kind[len(letters) :])
        operands.append((getattr(softfloatpy, classes[letters] + str(width)).from_bytes, width // 8))
    set_flags, get_flags = softfloatpy.set_exception_flags, softfloatpy.get_exception_flags

    def evaluate(*values: int, **options: object) -> tuple[int, int]:
        arguments = [make(v.to_bytes(size, "big")) for v, (make, size) in zip(values, operands, strict=True)]
        set_flags(0)
        result = function(*arguments, **options)
        bits = int(result) if isinstance(result, bool) else int.from_bytes(result.to_bytes(), "big")
        return bits, int(get_flags())

    return evaluate


def set_mode(rm: int) -> object:
    mode = softfloatpy.RoundingMode(rm)
    softfloatpy.set_rounding_mode(mode)
    softfloatpy.set_tininess_mode(softfloatpy.TininessMode.AFTER_ROUNDING)
    return mode


@needs_softfloat
@every_format
@pytest.mark.parametrize(
    ("name", "arity", "count"),
    [
        *(("add", 2, 9000), ("sub", 2, 4000), ("mul", 2, 9000), ("div", 2, 9000)),
        *(("sqrt", 1, 8000), ("mul_add", 3, 14000)),
    ],
)
def test_arithmetic_matches_softfloat(fmt: Format, name: str, arity: int, count: int) -> None:
    ours: Evaluate = fp.fma if name == "mul_add" else getattr(fp, name)
    reference = softfloat(f"f{fmt.width}_{name}", *[f"f{fmt.width}"] * arity)
    cases = list(vectors(fmt, arity, count, seed=arity))
    tally = Tally(f"{name} f{fmt.width}")
    for rm in MODES:
        set_mode(rm)
        for case in cases:
            tally.check(ours(fmt, *case, rm), reference(*case), rm, *case)
    tally.finish()


@needs_softfloat
def test_sqrt_of_every_f16_matches_softfloat() -> None:
    reference = softfloat("f16_sqrt", "f16")
    tally = Tally("sqrt f16, exhaustive")
    for rm in MODES:
        set_mode(rm)
        for a in range(1 << 16):
            tally.check(fp.sqrt(F16, a, rm), reference(a), rm, a)
    tally.finish()


@needs_softfloat
@every_format
def test_comparisons_match_softfloat(fmt: Format) -> None:
    tally = Tally(f"eq lt le f{fmt.width}")
    kind = f"f{fmt.width}"
    references = [(ours, softfloat(f"{kind}_{ours.__name__}", kind, kind)) for ours in (fp.eq, fp.lt, fp.le)]
    for a, b in vectors(fmt, 2, 10000, seed=4):
        for ours, reference in references:
            tally.check(ours(fmt, a, b), reference(a, b), ours.__name__, a, b)
    tally.finish()


def narrowing_neighbours(src: Format, dst: Format, rng: Random) -> int:
    """A number of `src` at, or one ulp beside, a number of `dst` or the middle of two."""
    wide, _ = fp.convert(dst, src, rng.randrange(fp.F64.infinity) % dst.infinity, RNE)
    half_ulp = 1 << max(src.fraction_bits - dst.fraction_bits - 1, 0)
    sign = rng.getrandbits(1) << (src.width - 1)
    return sign | max(wide + rng.choice((0, half_ulp, -half_ulp)) + rng.randint(-1, 1), 0)


@needs_softfloat
@pytest.mark.parametrize(("source", "target"), [(s, t) for s in FORMATS for t in FORMATS if s != t])
def test_format_conversions_match_softfloat(source: int, target: int) -> None:
    src, dst = FORMATS[source], FORMATS[target]
    reference = softfloat(f"f{source}_to_f{target}", f"f{source}")
    rng = Random(source + target)
    cases = [a for (a,) in vectors(src, 1, 2000, seed=5)]
    cases += [narrowing_neighbours(src, dst, rng) for _ in range(scaled(5000))]
    if src is F16:
        cases = list(range(1 << 16))
    tally = Tally(f"f{source} to f{target}")
    for rm in MODES[:1] if src is F16 else MODES:
        set_mode(rm)
        for a in cases:
            tally.check(fp.convert(src, dst, a, rm), reference(a), rm, a)
    tally.finish()


def near_integer(fmt: Format, rng: Random) -> int:
    """A number with integral and fractional bits, often at a half or at the end of an integer type."""
    sign = rng.getrandbits(1)
    if rng.randrange(3) == 0:
        edge = rng.choice((31, 32, 63, 64))
        a, _ = fp.from_int(fmt, (1 << edge) - rng.choice((0, 1, 1 << 11, 1 << 40)), rng.choice(MODES))
        return sign << (fmt.width - 1) | max(a + rng.randint(-3, 3), 0) % fmt.infinity
    if rng.randrange(2):
        a, _ = fp.from_int(fmt, 2 * rng.getrandbits(rng.randrange(1, fmt.precision - 1)) + 1, RNE)  # odd
        return sign << (fmt.width - 1) | max(a - fmt.hidden_bit + rng.randint(-1, 1), 0)  # half of it
    return encode(fmt, sign, fmt.bias + rng.randint(-2, 66), random_fraction(fmt, rng))


@needs_softfloat
@every_format
@pytest.mark.parametrize("kind", INT_TYPES)
def test_conversion_to_integers_matches_softfloat(fmt: Format, kind: str) -> None:
    low, high = INT_TYPES[kind]
    mask = high - low
    reference = softfloat(f"f{fmt.width}_to_{kind}", f"f{fmt.width}")
    rng = Random(fmt.width)
    cases = [a for (a,) in vectors(fmt, 1, 1000, seed=6)]
    cases += [near_integer(fmt, rng) for _ in range(scaled(3000))]
    tally = Tally(f"f{fmt.width} to {kind}")
    for rm in MODES:
        mode = set_mode(rm)
        for a in cases:
            value, flags = fp.to_int(fmt, a, rm, low, high)
            tally.check(low <= value <= high, True, rm, a)
            tally.check((value & mask, flags), reference(a, rounding_mode=mode), rm, a)
    tally.finish()


def random_integer(low: int, high: int, rng: Random) -> int:
    """Of any length; often a run of ones, a tie, or beside a power of two."""
    if rng.randrange(2):
        value = rng.getrandbits(rng.randrange(1, 65))
    else:
        tie = rng.choice((-1, 0, 1)) << rng.randrange(64)
        value = (1 << rng.randrange(64)) + tie + rng.randint(-1, 1)
    return min(max(value if rng.randrange(2) else -value, low), high)


@needs_softfloat
@every_format
@pytest.mark.parametrize("kind", INT_TYPES)
def test_conversion_from_integers_matches_softfloat(fmt: Format, kind: str) -> None:
    low, high = INT_TYPES[kind]
    reference = softfloat(f"{kind}_to_f{fmt.width}", kind)
    rng = Random(fmt.width)
    cases = [value for edge in (low, 0, high) for value in range(edge - 3, edge + 4) if low <= value <= high]
    cases += [random_integer(low, high, rng) for _ in range(scaled(3000))]
    tally = Tally(f"{kind} to f{fmt.width}")
    for rm in MODES:
        set_mode(rm)
        for value in cases:
            tally.check(fp.from_int(fmt, value, rm), reference(value & (high - low)), rm, value)
    tally.finish()


@needs_softfloat
@every_format
def test_round_to_integral_matches_softfloat(fmt: Format) -> None:
    reference = softfloat(f"f{fmt.width}_round_to_int", f"f{fmt.width}")
    rng = Random(fmt.width)
    cases = [a for (a,) in vectors(fmt, 1, 1000, seed=7)]
    cases += [near_integer(fmt, rng) for _ in range(scaled(3000))]
    tally = Tally(f"round_to_integral f{fmt.width}")
    for rm, exact in product(MODES, (False, True)):
        mode = set_mode(rm)
        for a in cases:
            expected = reference(a, rounding_mode=mode, exact=exact)
            tally.check(fp.round_to_integral(fmt, a, rm, exact), expected, rm, exact, a)
    tally.finish()


# ---- host floats --------------------------------------------------------------------------------

HOST_CODES = {16: "e", 32: "f", 64: "d"}


def host_float(fmt: Format, a: int) -> float:
    number: float = struct.unpack(f"<{HOST_CODES[fmt.width]}", a.to_bytes(fmt.width // 8, "little"))[0]
    return number


def host_bits(fmt: Format, number: float) -> int:
    """The encoding of a float: any NaN as the canonical one, what is too large for the format as infinity."""
    if math.isnan(number):
        return fmt.canonical_nan
    try:
        return int.from_bytes(struct.pack(f"<{HOST_CODES[fmt.width]}", number), "little")
    except OverflowError:
        return fmt.infinity | (fmt.sign_bit if number < 0 else 0)


def host_divide(x: float, y: float) -> float:
    if y != 0:
        return x / y
    return math.nan if x == 0 or math.isnan(x) else math.copysign(math.inf, x) * math.copysign(1.0, y)


def host_sqrt(x: float) -> float:
    return math.nan if x < 0 else math.sqrt(x)


@pytest.mark.parametrize(
    ("ours", "host"),
    [
        (fp.add, float.__add__),
        (fp.sub, float.__sub__),
        (fp.mul, float.__mul__),
        (fp.div, host_divide),
        (fp.sqrt, host_sqrt),
    ],
    ids=lambda f: f.__name__,
)
def test_f64_arithmetic_matches_host(ours: Evaluate, host: Callable[..., float]) -> None:
    tally = Tally(f"{ours.__name__} against host floats")
    for case in vectors(F64, 1 if ours is fp.sqrt else 2, 20000, seed=8):
        expected = host_bits(F64, host(*[host_float(F64, a) for a in case]))
        tally.check(ours(F64, *case, RNE)[0], expected, *case)
    tally.finish()


def test_conversions_match_host() -> None:
    tally = Tally("conversions against host floats")
    for (a,) in vectors(F64, 1, 10000, seed=9):
        number = host_float(F64, a)
        for dst in FORMATS.values():
            tally.check(fp.convert(F64, dst, a, RNE)[0], host_bits(dst, number), a)
        if math.isfinite(number):
            tally.check(fp.to_int(F64, a, RTZ, -(1 << 1100), 1 << 1100)[0], int(number), a)
            tally.check(fp.to_int(F64, a, RNE, -(1 << 1100), 1 << 1100)[0], round(number), a)
    rng = Random(9)
    for _ in range(scaled(10000)):
        value = rng.getrandbits(rng.randrange(1, 1020)) * rng.choice((1, -1))
        tally.check(fp.from_int(F64, value, RNE)[0], host_bits(F64, float(value)), value)
    tally.finish()


# ---- fractions ----------------------------------------------------------------------------------

WIDE_BIAS = 4096  # of a format that no result here overflows or underflows


def number_of(fraction_bits: int, bias: int, encoding: int) -> Fraction:
    """The number that a finite, positive encoding stands for, as IEEE 754-2008 3.4 defines it."""
    biased, fraction = divmod(encoding, 1 << fraction_bits)
    exponent = max(biased, 1) - bias - fraction_bits
    digits = fraction + (1 << fraction_bits if biased else 0)
    return Fraction(digits << exponent) if exponent >= 0 else Fraction(digits, 1 << -exponent)


def choose(
    fraction_bits: int, bias: int, sign: int, rm: int, compare_exact: Callable[[Fraction], int]
) -> tuple[int, bool]:
    """The encoding chosen for an exact magnitude, and whether it is inexact.

    The magnitude is known only by `compare_exact(x)`: -1, 0 or 1 as it lies below, at or above x.
    """
    below, above = (
        0,
        2 * bias + 1 << fraction_bits,
    )  # the latter is infinity's, read as the number it would be
    while above - below > 1:
        middle = (below + above) // 2
        if compare_exact(number_of(fraction_bits, bias, middle)) >= 0:
            below = middle
        else:
            above = middle
    low, high = number_of(fraction_bits, bias, below), number_of(fraction_bits, bias, above)
    if compare_exact(low) == 0:
        return below, False
    side = compare_exact((low + high) / 2)
    even = above if below % 2 else below
    chosen = {
        RNE: above if side > 0 else below if side < 0 else even,
        RTZ: below,
        RDN: above if sign else below,
        RUP: below if sign else above,
        RMM: above if side >= 0 else below,
    }[rm]
    return chosen, True


def rounded(fmt: Format, sign: int, rm: int, compare_exact: Callable[[Fraction], int]) -> tuple[int, int]:
    """A non-zero exact result as (bits, flags), by the words of IEEE 754-2008 clauses 4.3 and 7."""
    sign_bit = sign << (fmt.width - 1)
    wide, _ = choose(fmt.fraction_bits, WIDE_BIAS, sign, rm, compare_exact)
    unbounded = number_of(fmt.fraction_bits, WIDE_BIAS, wide)
    if unbounded > number_of(fmt.fraction_bits, fmt.bias, fmt.largest):
        finite = rm == RTZ or (rm == RDN and not sign) or (rm == RUP and sign)
        return sign_bit | (fmt.largest if finite else fmt.infinity), OF | NX
    bits, inexact = choose(fmt.fraction_bits, fmt.bias, sign, rm, compare_exact)
    tiny = unbounded < Fraction(1, 1 << (fmt.bias - 1))
    return sign_bit | bits, (NX | (UF if tiny else 0)) if inexact else 0


def comparer(exact: Fraction) -> Callable[[Fraction], int]:
    magnitude = abs(exact)
    return lambda x: (magnitude > x) - (magnitude < x)


def root_comparer(square: Fraction) -> Callable[[Fraction], int]:
    return lambda x: (square > x * x) - (square < x * x)


def signed_number(fmt: Format, a: int) -> Fraction:
    number = number_of(fmt.fraction_bits, fmt.bias, a & fmt.magnitude_mask)
    return -number if a & fmt.sign_bit else number


EXACT: dict[str, tuple[int, Callable[..., Fraction]]] = {
    "add": (2, lambda a, b: a + b),
    "sub": (2, lambda a, b: a - b),
    "mul": (2, lambda a, b: a * b),
    "div": (2, lambda a, b: a / b if b else Fraction(0)),
    "fma": (3, lambda a, b, c: a * b + c),
    "sqrt": (1, lambda a: max(a, Fraction(0))),  # whose root is the result
}


@every_format
@pytest.mark.parametrize("name", EXACT)
def test_arithmetic_matches_fractions(fmt: Format, name: str) -> None:
    arity, exactly = EXACT[name]
    ours: Evaluate = getattr(fp, name)
    generate = (random_singleton, random_pair, random_triple)[arity - 1]
    rng = Random(fmt.width)
    tally = Tally(f"{name} f{fmt.width} against fractions")
    for _ in range(scaled(250)):
        case, rm = generate(fmt, rng), rng.choice(MODES)
        if any(a & fmt.infinity == fmt.infinity for a in case):
            continue
        exact = exactly(*[signed_number(fmt, a) for a in case])
        if exact:
            compare_exact = root_comparer(exact) if name == "sqrt" else comparer(exact)
            tally.check(ours(fmt, *case, rm), rounded(fmt, int(exact < 0), rm, compare_exact), rm, *case)
    tally.finish()


def test_conversions_match_fractions() -> None:
    rng = Random(10)
    tally = Tally("narrowing and from_int against fractions")
    for dst, _ in product((F16, F32), range(scaled(250))):
        a, rm = narrowing_neighbours(F64, dst, rng), rng.choice(MODES)
        exact = signed_number(F64, a)
        if exact:
            tally.check(fp.convert(F64, dst, a, rm), rounded(dst, int(exact < 0), rm, comparer(exact)), rm, a)
    for fmt, _ in product(FORMATS.values(), range(scaled(150))):
        value, rm = rng.getrandbits(rng.randrange(1, 1200)) * rng.choice((1, -1)), rng.choice(MODES)
        if value:
            expected = rounded(fmt, int(value < 0), rm, comparer(Fraction(value)))
            tally.check(fp.from_int(fmt, value, rm), expected, rm, value)
    tally.finish()


# ---- what only the definition can judge ---------------------------------------------------------


def class_by_spelling(fmt: Format, a: int) -> str:
    """The class of an encoding, read off its binary digits."""
    digits = f"{a:0{fmt.width}b}"
    sign, exponent, fraction = digits[0], digits[1 : 1 + fmt.exponent_bits], digits[1 + fmt.exponent_bits :]
    if "0" not in exponent:
        if "1" in fraction:
            return "qNaN" if fraction[0] == "1" else "sNaN"
        kind = "inf"
    elif "1" in exponent:
        kind = "normal"
    else:
        kind = "subnormal" if "1" in fraction else "0"
    return ("-" if sign == "1" else "+") + kind


FCLASS = ("-inf", "-normal", "-subnormal", "-0", "+0", "+subnormal", "+normal", "+inf", "sNaN", "qNaN")


@every_format
def test_classify_matches_spelling(fmt: Format) -> None:
    tally = Tally(f"classify, is_nan, is_snan f{fmt.width}")
    cases = [(a,) for a in range(1 << 16)] if fmt is F16 else vectors(fmt, 1, 8000, seed=11)
    for (a,) in cases:
        kind = class_by_spelling(fmt, a)
        tally.check(fp.classify(fmt, a), 1 << FCLASS.index(kind), a)
        tally.check(fp.is_nan(fmt, a), "NaN" in kind, a)
        tally.check(fp.is_snan(fmt, a), kind == "sNaN", a)
    tally.finish()


def extreme_by_host(fmt: Format, pick: Callable[..., float], a: int, b: int) -> tuple[int, int]:
    """minimumNumber or maximumNumber by way of Python's own min or max."""
    flags = NV if "sNaN" in (class_by_spelling(fmt, a), class_by_spelling(fmt, b)) else 0
    numbers = [host_float(fmt, x) for x in (a, b) if "NaN" not in class_by_spelling(fmt, x)]
    if not numbers:
        return fmt.canonical_nan, flags
    return host_bits(fmt, pick(numbers, key=lambda x: (x, math.copysign(1, x)))), flags


@every_format
def test_minimum_and_maximum_match_host(fmt: Format) -> None:
    tally = Tally(f"minimum, maximum f{fmt.width}")
    for a, b in vectors(fmt, 2, 6000, seed=12):
        tally.check(fp.minimum(fmt, a, b), extreme_by_host(fmt, min, a, b), a, b)
        tally.check(fp.maximum(fmt, a, b), extreme_by_host(fmt, max, a, b), a, b)
    tally.finish()


def test_format_constants() -> None:
    assert [(f.width, f.exponent_bits, f.precision, f.bias) for f in FORMATS.values()] == [
        (16, 5, 11, 15),
        (32, 8, 24, 127),
        (64, 11, 53, 1023),
    ]
    assert [f.canonical_nan for f in FORMATS.values()] == [0x7E00, 0x7FC0_0000, 0x7FF8_0000_0000_0000]
    assert [f.infinity for f in FORMATS.values()] == [0x7C00, 0x7F80_0000, 0x7FF0_0000_0000_0000]
    for fmt in FORMATS.values():
        assert fmt.min_exponent == 1 - fmt.bias
        assert fmt.min_place == fmt.min_exponent - fmt.fraction_bits
        assert fmt.largest == fmt.infinity - 1


@every_format
def test_special_results(fmt: Format) -> None:
    """The choices stated in the module, spelled out."""
    zero, minus_zero, inf, nan = 0, fmt.sign_bit, fmt.infinity, fmt.canonical_nan
    one = fmt.bias << fmt.fraction_bits
    snan, payload = inf + 1, nan + 5
    for rm in MODES:
        assert fp.fma(fmt, inf, zero, nan, rm) == (nan, NV)  # invalid though c is a quiet NaN
        assert fp.fma(fmt, one, inf, inf | fmt.sign_bit, rm) == (nan, NV)
        assert fp.add(fmt, payload, one, rm) == (nan, 0)  # payloads and signs do not propagate
        assert fp.mul(fmt, one, snan | fmt.sign_bit, rm) == (nan, NV)
        assert fp.sub(fmt, inf, inf, rm) == (nan, NV)
        assert fp.sub(fmt, one, one, rm) == (minus_zero if rm == RDN else zero, 0)
        assert fp.add(fmt, minus_zero, minus_zero, rm) == (minus_zero, 0)
        assert fp.div(fmt, one, minus_zero, rm) == (inf | fmt.sign_bit, DZ)
        assert fp.div(fmt, zero, minus_zero, rm) == (nan, NV)
        assert fp.sqrt(fmt, minus_zero, rm) == (minus_zero, 0)
        assert fp.sqrt(fmt, one | fmt.sign_bit, rm) == (nan, NV)
        assert fp.convert(fmt, fmt, snan, rm) == (nan, NV)
        assert fp.to_int(fmt, snan, rm, -8, 7) == (7, NV)
        assert fp.to_int(fmt, inf | fmt.sign_bit, rm, 0, 7) == (0, NV)
        assert fp.to_int(fmt, one | fmt.sign_bit, rm, 0, 7) == (0, NV)
    half = one - fmt.hidden_bit
    assert [fp.to_int(fmt, half | fmt.sign_bit, rm, 0, 7) for rm in MODES] == [
        (0, NX),
        (0, NX),
        (0, NV),
        (0, NX),
        (0, NV),
    ]
    # Tininess after rounding.  Both products are below the smallest normal number and round to it, but the
    # first can be written with `precision` digits as it is, and the second rounds up even with all of them.
    assert fp.mul(fmt, fmt.hidden_bit, one - 1, RNE) == (fmt.hidden_bit, NX | UF)
    assert fp.mul(fmt, fmt.hidden_bit + 1, one - 2, RNE) == (fmt.hidden_bit, NX)
    assert fp.mul(fmt, fmt.hidden_bit + 1, one - 2, RTZ) == (fmt.hidden_bit - 1, NX | UF)


def test_unknown_rounding_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="no such rounding mode: 5"):
        fp.div(F32, 0x3F80_0000, 0x4040_0000, 5)
