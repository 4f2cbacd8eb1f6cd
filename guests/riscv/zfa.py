"""Zfa: additional floating-point instructions of single and double precision (Unprivileged ISA).

All but the comparisons are written in integer ops on bits, exactly: hosts have few of them with the right flags.
"""

from __future__ import annotations

import struct

from guests.riscv.fp import (
    DYNAMIC,
    INVALID,
    D,
    Format,
    S,
    box,
    is_nan,
    is_signalling,
    legal_rm,
    magnitude,
    order_key,
    raise_if,
    unbox,
)  # fmt: skip
from guests.riscv.table import Extension
from ir.fp import NX, RDN, RMM, RNE, RTZ, RUP

ZFA = Extension("zfa", "Unprivileged ISA, Zfa")
# What fli loads, as assemblers write it; `min` is the least normal number of the format.
CONSTANTS = (
    "-1.0", "min", "1.52587890625e-05", "3.0517578125e-05", "0.00390625", "0.0078125", "0.0625", "0.125",
    "0.25", "0.3125", "0.375", "0.4375", "0.5", "0.625", "0.75", "0.875",
    "1.0", "1.25", "1.5", "1.75", "2.0", "2.5", "3.0", "4.0",
    "8.0", "16.0", "128.0", "256.0", "32768.0", "65536.0", "inf", "nan",
)  # fmt: skip


def constant(fmt: Format, number: int) -> int:
    """The bits of one of the constants."""
    match CONSTANTS[number]:
        case "min":
            return 1 << fmt.fraction
        case "nan":
            return fmt.canonical_nan
        case text:
            return int.from_bytes(struct.pack("<f" if fmt is S else "<d", float(text)), "little")


def bias(fmt: Format) -> int:
    """What the exponent field of 1.0 holds."""
    return fmt.infinity >> fmt.fraction + 1


def apart(m, fmt: Format, a):
    """The exponent field, and the significand with its hidden bit."""
    size, hidden = magnitude(m, fmt, a), 1 << fmt.fraction
    exponent = m.shr(size, fmt.fraction)
    return exponent, m.or_(m.and_(size, hidden - 1), m.select(m.eq(exponent, 0), 0, hidden))


def away_from_zero(m, mode: int, negative, kept, rest, half):
    """Whether kept + rest is rounded up in magnitude; `half` is of a unit of `kept`."""
    if mode == RNE:
        tie_to_even = m.both(m.eq(rest, half), m.ne(m.and_(kept, 1), 0))
        return m.either(m.ltu(half, rest), tie_to_even)
    if mode == RMM:
        return m.geu(rest, half)
    return m.both(m.ne(rest, 0), {RTZ: False, RDN: negative, RUP: m.not_(negative)}[mode])


def rounded(m, fmt: Format, a, mode: int):
    """`a` rounded to an integral number, and whether that is another number. A NaN becomes the canonical one."""
    exponent, significand = apart(m, fmt, a)
    zero = bias(fmt)
    # How many bits of the significand are below the point; what is below 1/2 keeps none, and less than half is left.
    below = m.sub(zero + fmt.fraction, exponent)
    shift = m.select(m.ltu(below, fmt.fraction + 2), below, fmt.fraction + 2)
    kept = m.shr(significand, shift)
    rest = m.sub(significand, m.shl(kept, shift))
    negative = m.ne(m.and_(a, fmt.sign), 0)
    up = away_from_zero(m, mode, negative, kept, rest, m.shr(m.shl(1, shift), 1))
    whole = m.add(kept, m.bit(up))
    # The hidden bit, and a carry out of rounding, each add 1 to the exponent field.
    large = m.add(m.shl(whole, shift), m.shl(m.sub(exponent, 1), fmt.fraction))
    small = m.select(m.ne(whole, 0), zero << fmt.fraction, 0)
    bits = m.or_(m.select(m.ltu(exponent, zero), small, large), m.and_(a, fmt.sign))
    integral = m.geu(exponent, zero + fmt.fraction)
    itself = m.select(is_nan(m, fmt, a), fmt.canonical_nan, a)
    return m.select(integral, itself, bits), m.both(m.not_(integral), m.ne(rest, 0))


def _format(fmt: Format, also: str) -> None:
    """The rows of one format; they need the extension `also`."""
    p, code = fmt.letter, fmt.code

    @ZFA.insn(f"fli.{p}", f"11110{code} 00001 uimm[4:0] 000 rd 1010011", "frd, constant", also=also)
    def fli(m, o):
        m.f[o.rd] = box(m, fmt, constant(fmt, o.imm))

    def extreme(name, funct3, prefers_first):
        """As fmin and fmax, but a NaN operand wins."""

        @ZFA.insn(f"{name}.{p}", f"00101{code} rs2 rs1 {funct3} rd 1010011", "frd, frs1, frs2", also=also)
        def body(m, o):
            a, b = unbox(m, fmt, m.f[o.rs1]), unbox(m, fmt, m.f[o.rs2])
            raise_if(m, m.either(is_signalling(m, fmt, a), is_signalling(m, fmt, b)), INVALID)
            number = m.select(prefers_first(m, order_key(m, fmt, a), order_key(m, fmt, b)), a, b)
            nan = m.either(is_nan(m, fmt, a), is_nan(m, fmt, b))
            m.f[o.rd] = box(m, fmt, m.select(nan, fmt.canonical_nan, number))

    extreme("fminm", "010", lambda m, a, b: m.lts(a, b))
    extreme("fmaxm", "011", lambda m, a, b: m.lts(b, a))

    def round_to_integral(name, select, tells_inexact):
        @ZFA.insn(
            f"{name}.{p}", f"01000{code} {select} rs1 rm rd 1010011", "frd, frs1, rm", legal=legal_rm, also=also
        )
        def body(m, o):
            mode = m.static_rounding(o.rm, DYNAMIC)
            a = unbox(m, fmt, m.f[o.rs1])
            result, inexact = rounded(m, fmt, a, mode)
            raise_if(m, is_signalling(m, fmt, a), INVALID)
            if tells_inexact:
                raise_if(m, inexact, NX)
            m.f[o.rd] = box(m, fmt, result)

    round_to_integral("fround", "00100", False)
    round_to_integral("froundnx", "00101", True)

    def quiet(name, funct3, result):
        """A comparison in which a quiet NaN is no invalid operand: feq is such, and keys give the order of numbers."""

        @ZFA.insn(f"{name}.{p}", f"10100{code} rs2 rs1 {funct3} rd 1010011", "rd, frs1, frs2", also=also)
        def body(m, o):
            a, b = unbox(m, fmt, m.f[o.rs1]), unbox(m, fmt, m.f[o.rs2])
            nan = m.either(is_nan(m, fmt, a), is_nan(m, fmt, b))
            below = m.both(m.not_(nan), m.lts(order_key(m, fmt, a), order_key(m, fmt, b)))
            m.x[o.rd] = m.bit(result(m, below, m.feq(a, b, fmt.width)))

    quiet("fleq", "100", lambda m, below, equal: m.either(below, equal))
    quiet("fltq", "101", lambda m, below, equal: m.both(below, m.not_(equal)))  # the key of -0 is below that of +0


_format(S, "f")
_format(D, "d")


@ZFA.insn("fcvtmod.w.d", "1100001 01000 rs1 001 rd 1010011", "rd, frs1, rtz", also="d")
def fcvtmod(m, o):
    """The integer part modulo 2^32, sign-extended; the flags are those of fcvt.w.d. Not a number is 0."""
    a = m.f[o.rs1]
    exponent, significand = apart(m, D, a)
    point = bias(D) + D.fraction
    fractional = m.ltu(exponent, point)
    below = m.sub(point, exponent)
    shift = m.select(m.ltu(below, 63), below, 63)
    kept = m.shr(significand, shift)
    above = m.sub(exponent, point)
    low = m.select(m.ltu(above, 32), m.shl(significand, above), 0)
    amount = m.select(fractional, kept, low)
    negative = m.shr(a, 63)
    invalid = m.either(m.not_(fractional), m.ltu(m.add((1 << 31) - 1, negative), kept))
    raise_if(m, invalid, INVALID)
    raise_if(m, m.both(m.not_(invalid), m.ne(m.shl(kept, shift), significand)), NX)
    m.x[o.rd] = m.sext(m.select(m.ne(negative, 0), m.sub(0, amount), amount), 32)
