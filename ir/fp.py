"""IEEE 754-2008 binary arithmetic on bit patterns, in exact integer arithmetic that rounds once.

This is the executable meaning of the floating-point IR operations, and so the arithmetic of the reference
interpreter.  An operand is the encoding of a number as a Python int; a result is `(bits, flags)`.  Every
operation reads the same way: settle NaNs, infinities and zeros; form the exact result as
`significand * 2**exponent` on unbounded integers; hand it to `round_pack`, the one place that rounds to a
format.

It owns the three formats, the five rounding modes, the five exception flags, and every choice that IEEE 754
leaves open.  Those choices are RISC-V's: each NaN result is the canonical NaN, tininess is detected after
rounding, and inf * 0 + qNaN raises invalid.

It must not know any guest: no NaN boxing, no control registers, no decoding of rounding-mode fields.  A
caller passes a rounding mode in `range(5)` and operands that fit the format, and accumulates flags itself.
"""

from __future__ import annotations

from math import isqrt

from ir.records import record

# Rounding modes: RISC-V's numbers, IEEE 754's names.
RNE = 0  # roundTiesToEven
RTZ = 1  # roundTowardZero
RDN = 2  # roundTowardNegative
RUP = 3  # roundTowardPositive
RMM = 4  # roundTiesToAway (ties to max magnitude)

# Exception flags.
NX = 1  # inexact
UF = 2  # underflow
OF = 4  # overflow
DZ = 8  # divideByZero
NV = 16  # invalid operation

Result = tuple[int, int]  # (bits or value, flags)


@record(frozen=True)
class Format:
    """One interchange format: its sizes, and the bit patterns that follow from them."""

    width: int
    exponent_bits: int
    fraction_bits: int
    precision: int  # bits of a normal significand, the hidden one included
    bias: int
    min_exponent: int  # of the smallest normal number, 2**min_exponent
    min_place: int  # of the smallest subnormal number, 2**min_place: no result bit has a lower place
    sign_bit: int
    magnitude_mask: int  # everything but the sign
    fraction_mask: int
    hidden_bit: int  # also the encoding of the smallest normal number
    quiet_bit: int
    infinity: int  # encoding of +infinity, also the mask of the exponent field
    largest: int  # encoding of the largest finite number
    canonical_nan: int  # positive, quiet, payload 0


def _interchange(exponent_bits: int, fraction_bits: int) -> Format:
    width = 1 + exponent_bits + fraction_bits
    bias = (1 << (exponent_bits - 1)) - 1
    hidden_bit = 1 << fraction_bits
    infinity = ((1 << exponent_bits) - 1) << fraction_bits
    quiet_bit = hidden_bit >> 1
    return Format(
        width=width,
        exponent_bits=exponent_bits,
        fraction_bits=fraction_bits,
        precision=fraction_bits + 1,
        bias=bias,
        min_exponent=1 - bias,
        min_place=1 - bias - fraction_bits,
        sign_bit=1 << (width - 1),
        magnitude_mask=(1 << (width - 1)) - 1,
        fraction_mask=hidden_bit - 1,
        hidden_bit=hidden_bit,
        quiet_bit=quiet_bit,
        infinity=infinity,
        largest=infinity - 1,
        canonical_nan=infinity | quiet_bit,
    )


F16 = _interchange(5, 10)
F32 = _interchange(8, 23)
F64 = _interchange(11, 52)
FORMATS = {16: F16, 32: F32, 64: F64}


# ---- taking numbers apart ------------------------------------------------------------------------


def is_nan(fmt: Format, a: int) -> bool:
    return (a & fmt.magnitude_mask) > fmt.infinity


def is_snan(fmt: Format, a: int) -> bool:
    return (a & fmt.magnitude_mask) > fmt.infinity and not a & fmt.quiet_bit


def is_special(fmt: Format, a: int) -> bool:
    """Infinity or NaN: the exponent field is all ones."""
    return (a & fmt.infinity) == fmt.infinity


def is_zero(fmt: Format, a: int) -> bool:
    return (a & fmt.magnitude_mask) == 0


def unpack(fmt: Format, a: int) -> tuple[int, int, int]:
    """`(sign, exponent, significand)` of a finite `a`, where |a| = significand * 2**exponent."""
    biased = (a & fmt.infinity) >> fmt.fraction_bits
    if biased:
        return a >> (fmt.width - 1), fmt.min_place + biased - 1, (a & fmt.fraction_mask) | fmt.hidden_bit
    return a >> (fmt.width - 1), fmt.min_place, a & fmt.fraction_mask


# ---- putting them together: the only rounding ----------------------------------------------------


def round_shift(sign: int, significand: int, shift: int, rm: int) -> Result:
    """significand / 2**shift as an integer, with NX if it had to be rounded; `sign` is for directed modes."""
    if shift <= 0:
        return significand << -shift, 0
    kept = significand >> shift
    rest = significand - (kept << shift)
    if rest == 0:
        return kept, 0
    half = 1 << (shift - 1)
    if rm == RNE:
        away = rest > half or (rest == half and kept & 1)
    elif rm == RTZ:
        away = False
    elif rm == RDN:
        away = sign
    elif rm == RUP:
        away = not sign
    elif rm == RMM:
        away = rest >= half
    else:
        raise ValueError(f"no such rounding mode: {rm}")
    return (kept + 1 if away else kept), NX


def round_pack(fmt: Format, sign: int, exponent: int, significand: int, rm: int) -> Result:
    """(-1)**sign * significand * 2**exponent in `fmt`, rounded once.  The significand is not zero.

    A result that cannot be written exactly (a quotient, a root) comes with at least `precision + 1` leading
    bits, and one more lowest bit that says whether anything non-zero follows: see `with_sticky`.
    """
    unbounded_place = exponent + significand.bit_length() - fmt.precision
    place = max(unbounded_place, fmt.min_place)
    kept, flags = round_shift(sign, significand, place - exponent, rm)
    # A normal number's hidden bit, and a carry out of rounding, each add 1 to the exponent field.
    bits = ((place - fmt.min_place) << fmt.fraction_bits) + kept
    if bits >= fmt.infinity:
        return _overflow(fmt, sign, rm), OF | NX
    if flags and bits <= fmt.hidden_bit:
        # Tiny: below the smallest normal number when rounded as if exponents had no lower bound.
        unbounded, _ = round_shift(sign, significand, unbounded_place - exponent, rm)
        if unbounded < fmt.hidden_bit << (fmt.min_place - unbounded_place):
            flags |= UF
    return (bits | fmt.sign_bit if sign else bits), flags


def _overflow(fmt: Format, sign: int, rm: int) -> int:
    to_infinity = rm in (RNE, RMM) or rm == (RDN if sign else RUP)
    return _signed(fmt, sign, fmt.infinity if to_infinity else fmt.largest)


def with_sticky(significand: int, sticky: bool) -> int:
    """Append the bit that stands for everything non-zero below `significand`; the exponent drops by 1."""
    return significand << 1 | sticky


def _signed(fmt: Format, sign: int, magnitude: int) -> int:
    return magnitude | fmt.sign_bit if sign else magnitude


def _nan(fmt: Format, *operands: int) -> Result:
    """The result of an operation with a NaN among its operands."""
    return fmt.canonical_nan, NV if any(is_snan(fmt, a) for a in operands) else 0


def _invalid(fmt: Format) -> Result:
    return fmt.canonical_nan, NV


# ---- arithmetic ----------------------------------------------------------------------------------


def add(fmt: Format, a: int, b: int, rm: int) -> Result:
    if is_special(fmt, a) or is_special(fmt, b):
        return _add_special(fmt, a, b)
    return _sum(fmt, unpack(fmt, a), unpack(fmt, b), rm)


def sub(fmt: Format, a: int, b: int, rm: int) -> Result:
    return add(fmt, a, b ^ fmt.sign_bit, rm)


def _sum(fmt: Format, a: tuple[int, int, int], b: tuple[int, int, int], rm: int) -> Result:
    """The rounded sum of two finite `(sign, exponent, significand)` of any size."""
    a_sign, a_exponent, a_significand = a
    b_sign, b_exponent, b_significand = b
    if a_exponent > b_exponent:
        exponent = b_exponent
        a_significand <<= a_exponent - b_exponent
    else:
        exponent = a_exponent
        b_significand <<= b_exponent - a_exponent
    total = (-a_significand if a_sign else a_significand) + (-b_significand if b_sign else b_significand)
    if total > 0:
        return round_pack(fmt, 0, exponent, total, rm)
    if total < 0:
        return round_pack(fmt, 1, exponent, -total, rm)
    # An exact zero keeps the sign its operands agree on; if they differ, the rounding mode says which zero.
    sign = a_sign if a_sign == b_sign else rm == RDN
    return _signed(fmt, sign, 0), 0


def _add_special(fmt: Format, a: int, b: int) -> Result:
    if is_nan(fmt, a) or is_nan(fmt, b):
        return _nan(fmt, a, b)
    if is_special(fmt, a) and is_special(fmt, b) and a != b:  # inf - inf
        return _invalid(fmt)
    return (a if is_special(fmt, a) else b), 0


def mul(fmt: Format, a: int, b: int, rm: int) -> Result:
    if is_special(fmt, a) or is_special(fmt, b):
        return _mul_special(fmt, a, b)
    a_sign, a_exponent, a_significand = unpack(fmt, a)
    b_sign, b_exponent, b_significand = unpack(fmt, b)
    sign = a_sign ^ b_sign
    product = a_significand * b_significand
    if product == 0:
        return _signed(fmt, sign, 0), 0
    return round_pack(fmt, sign, a_exponent + b_exponent, product, rm)


def _mul_special(fmt: Format, a: int, b: int) -> Result:
    if is_nan(fmt, a) or is_nan(fmt, b):
        return _nan(fmt, a, b)
    if is_zero(fmt, a) or is_zero(fmt, b):  # inf * 0
        return _invalid(fmt)
    return fmt.infinity | (a ^ b) & fmt.sign_bit, 0


def div(fmt: Format, a: int, b: int, rm: int) -> Result:
    if is_special(fmt, a) or is_special(fmt, b):
        return _div_special(fmt, a, b)
    a_sign, a_exponent, a_significand = unpack(fmt, a)
    b_sign, b_exponent, b_significand = unpack(fmt, b)
    sign = a_sign ^ b_sign
    if b_significand == 0:
        return (_signed(fmt, sign, fmt.infinity), DZ) if a_significand else _invalid(fmt)
    if a_significand == 0:
        return _signed(fmt, sign, 0), 0
    # a >= 1 and b < 2**precision, so this much makes the quotient longer than precision + 1 bits.
    shift = 2 * fmt.precision + 1
    quotient, remainder = divmod(a_significand << shift, b_significand)
    exponent = a_exponent - b_exponent - shift
    return round_pack(fmt, sign, exponent - 1, with_sticky(quotient, remainder != 0), rm)


def _div_special(fmt: Format, a: int, b: int) -> Result:
    if is_nan(fmt, a) or is_nan(fmt, b):
        return _nan(fmt, a, b)
    if is_special(fmt, a) and is_special(fmt, b):  # inf / inf
        return _invalid(fmt)
    return (fmt.infinity if is_special(fmt, a) else 0) | (a ^ b) & fmt.sign_bit, 0


def sqrt(fmt: Format, a: int, rm: int) -> Result:
    if is_nan(fmt, a):
        return _nan(fmt, a)
    if is_zero(fmt, a):
        return a, 0  # -0 included
    if a & fmt.sign_bit:
        return _invalid(fmt)
    if is_special(fmt, a):
        return a, 0
    _, exponent, significand = unpack(fmt, a)
    # Long enough for a root of more than precision + 1 bits, and leaving an even exponent to halve.
    shift = 2 * fmt.precision + 2
    shift += (exponent - shift) & 1
    radicand = significand << shift
    root = isqrt(radicand)
    return round_pack(fmt, 0, (exponent - shift) // 2 - 1, with_sticky(root, root * root != radicand), rm)


def fma(fmt: Format, a: int, b: int, c: int, rm: int) -> Result:
    """a * b + c, rounded once."""
    if is_special(fmt, a) or is_special(fmt, b) or is_special(fmt, c):
        return _fma_special(fmt, a, b, c)
    a_sign, a_exponent, a_significand = unpack(fmt, a)
    b_sign, b_exponent, b_significand = unpack(fmt, b)
    product = a_sign ^ b_sign, a_exponent + b_exponent, a_significand * b_significand
    return _sum(fmt, product, unpack(fmt, c), rm)


def _fma_special(fmt: Format, a: int, b: int, c: int) -> Result:
    if is_special(fmt, a) or is_special(fmt, b):
        product, flags = _mul_special(fmt, a, b)
    else:
        product, flags = (a ^ b) & fmt.sign_bit, 0  # finite: nothing but its sign matters beside a special c
    # inf * 0 is invalid even when c is a quiet NaN: its flag is kept whatever the addition says.
    result, more = _add_special(fmt, product, c)
    return result, flags | more


# ---- comparison ----------------------------------------------------------------------------------


def _order(fmt: Format, a: int) -> int:
    """An integer that compares as the number does, with -0 equal to +0.  Not for NaN."""
    magnitude = a & fmt.magnitude_mask
    return -magnitude if a & fmt.sign_bit else magnitude


def eq(fmt: Format, a: int, b: int) -> Result:
    """compareQuietEqual: only a signalling NaN is invalid."""
    if is_nan(fmt, a) or is_nan(fmt, b):
        return 0, _nan(fmt, a, b)[1]
    return int(_order(fmt, a) == _order(fmt, b)), 0


def lt(fmt: Format, a: int, b: int) -> Result:
    """compareSignalingLess: any NaN is invalid."""
    if is_nan(fmt, a) or is_nan(fmt, b):
        return 0, NV
    return int(_order(fmt, a) < _order(fmt, b)), 0


def le(fmt: Format, a: int, b: int) -> Result:
    """compareSignalingLessEqual: any NaN is invalid."""
    if is_nan(fmt, a) or is_nan(fmt, b):
        return 0, NV
    return int(_order(fmt, a) <= _order(fmt, b)), 0


def minimum(fmt: Format, a: int, b: int) -> Result:
    """IEEE 754-2019 minimumNumber: a NaN yields the other operand, and -0 < +0."""
    if is_nan(fmt, a) or is_nan(fmt, b):
        return _other_number(fmt, a, b)
    return (a if _zeros_apart(fmt, a) <= _zeros_apart(fmt, b) else b), 0


def maximum(fmt: Format, a: int, b: int) -> Result:
    """IEEE 754-2019 maximumNumber: a NaN yields the other operand, and -0 < +0."""
    if is_nan(fmt, a) or is_nan(fmt, b):
        return _other_number(fmt, a, b)
    return (a if _zeros_apart(fmt, a) >= _zeros_apart(fmt, b) else b), 0


def _zeros_apart(fmt: Format, a: int) -> int:
    """As `_order`, with -0 below +0."""
    magnitude = a & fmt.magnitude_mask
    return ~magnitude if a & fmt.sign_bit else magnitude


def _other_number(fmt: Format, a: int, b: int) -> Result:
    nan, flags = _nan(fmt, a, b)
    if not is_nan(fmt, a):
        return a, flags
    if not is_nan(fmt, b):
        return b, flags
    return nan, flags


def classify(fmt: Format, a: int) -> int:
    """One bit of ten, as RISC-V's fclass: -inf, -normal, -subnormal, -0, +0, ..., +inf, sNaN, qNaN."""
    if is_nan(fmt, a):
        return 1 << 8 if is_snan(fmt, a) else 1 << 9
    if is_special(fmt, a):
        away_from_zero = 3
    elif a & fmt.infinity:
        away_from_zero = 2
    else:
        away_from_zero = 0 if is_zero(fmt, a) else 1
    return 1 << (3 - away_from_zero if a & fmt.sign_bit else 4 + away_from_zero)


# ---- conversion ----------------------------------------------------------------------------------


def convert(src: Format, dst: Format, a: int, rm: int) -> Result:
    """The number `a` of format `src` in format `dst`."""
    if is_nan(src, a):
        return dst.canonical_nan, NV if is_snan(src, a) else 0
    if is_special(src, a):
        return _signed(dst, a & src.sign_bit, dst.infinity), 0
    if is_zero(src, a):
        return _signed(dst, a & src.sign_bit, 0), 0
    sign, exponent, significand = unpack(src, a)
    return round_pack(dst, sign, exponent, significand, rm)


def from_int(fmt: Format, value: int, rm: int) -> Result:
    """Any integer, of any length, as the nearest number."""
    if value == 0:
        return 0, 0
    return round_pack(fmt, int(value < 0), 0, abs(value), rm)


def to_int(fmt: Format, a: int, rm: int, low: int, high: int) -> Result:
    """`a` rounded to an integer of [low, high], as `(value, flags)`.

    What lies outside after rounding is invalid, not inexact, and saturates; a NaN counts as too large.
    """
    if is_nan(fmt, a):
        return high, NV
    if is_special(fmt, a):
        return (low if a & fmt.sign_bit else high), NV
    sign, exponent, significand = unpack(fmt, a)
    value, flags = round_shift(sign, significand, -exponent, rm)
    if sign:
        value = -value
    if value < low:
        return low, NV
    if value > high:
        return high, NV
    return value, flags


def round_to_integral(fmt: Format, a: int, rm: int, exact: bool) -> Result:
    """The integral number near `a`, in the same format; a zero keeps the sign of `a`.  NX only if `exact`."""
    if is_nan(fmt, a):
        return _nan(fmt, a)
    if is_special(fmt, a):
        return a, 0
    sign, exponent, significand = unpack(fmt, a)
    if exponent >= 0:
        return a, 0
    integer, flags = round_shift(sign, significand, -exponent, rm)
    bits = round_pack(fmt, sign, 0, integer, rm)[0] if integer else _signed(fmt, sign, 0)
    return bits, flags if exact else 0
