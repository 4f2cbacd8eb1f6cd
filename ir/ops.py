"""The op table of the IR: types, attributes, effects and the executable meaning of every op.

A value is an i64 (an unsigned 64-bit integer) or an i1 (a truth value). Floating-point operands are
bit patterns in the low bits of an i64, their format a `width` attribute; every NaN result is the
canonical NaN, and accrued exceptions are an effect. This one table is read by the builder, the folder,
the verifier, the printer, the reference interpreter (which calls the meanings with Python ints) and,
by name, the lowering to LLVM, which does not share the meanings: so lockstep compares two witnesses.

Owns: op names, types, effects, meanings. Must not know: any guest, any host, LLVM.
"""

from __future__ import annotations

from collections.abc import Callable
from keyword import iskeyword
from typing import Any

from ir.records import record

MASK = (1 << 64) - 1
SIGN = 1 << 63


@record(frozen=True)
class Op:
    """One op. `args` and `result` are types, `attrs` the names of its static attributes, in order.

    `effects` is a subset of: "getreg" and "setreg" (one register slot), "load", "store" (guest memory),
    "exit" (may leave the block here, before any effect of its own), "flags" (accrues floating-point
    exceptions), "host" (reads or sets the host's floating-point environment), "order" (of accesses, as others see
    them), "time", "remap" and "raise".
    """

    name: str
    args: tuple[str, ...]
    result: str | None
    attrs: tuple[str, ...] = ()
    effects: frozenset[str] = frozenset()
    meaning: Callable[..., Any] | None = None

    @property
    def identifier(self) -> str:
        """The name of the domain method: the op's, with an underscore where Python reserves the word."""
        return self.name + "_" if iskeyword(self.name) else self.name


OPS: dict[str, Op] = {}


def _op(signature: str, attrs: str = "", effects: str = "") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter a function into the table: its name is the op, its body the op's meaning over Python ints."""

    def enter(meaning: Callable[..., Any]) -> Callable[..., Any]:
        name = meaning.__name__.rstrip("_")
        declare(name, signature, attrs, effects, meaning)
        return meaning

    return enter


def declare(
    name: str, signature: str, attrs: str = "", effects: str = "", meaning: Callable[..., Any] | None = None
) -> None:
    """Enter an op; without a meaning it is one whose effect only an engine can give."""
    args, _, result = signature.partition("->")
    OPS[name] = Op(
        name,
        tuple(args.split()),
        result.strip() or None,
        tuple(attrs.split()),
        frozenset(effects.split()),
        meaning,
    )


def signed(a: int) -> int:
    """An i64 as a signed Python int."""
    return a - (1 << 64) if a & SIGN else a


def carryless(a: int, b: int) -> int:
    """The product of two polynomials over GF(2), whose coefficients are bits."""
    product = 0
    while b:
        product ^= a * (b & -b)
        b &= b - 1
    return product


# --- integer arithmetic: results modulo 2^64 ---------------------------------------------------------


@_op("i64 i64 -> i64")
def add(a: int, b: int) -> int:
    return (a + b) & MASK


@_op("i64 i64 -> i64")
def sub(a: int, b: int) -> int:
    return (a - b) & MASK


@_op("i64 i64 -> i64")
def mul(a: int, b: int) -> int:
    return (a * b) & MASK


@_op("i64 i64 -> i64")
def mulhu(a: int, b: int) -> int:
    """The high half of the unsigned 128-bit product."""
    return (a * b) >> 64


@_op("i64 i64 -> i64")
def mulhs(a: int, b: int) -> int:
    """The high half of the signed 128-bit product."""
    return (signed(a) * signed(b)) >> 64 & MASK


@_op("i64 i64 -> i64")
def divu(a: int, b: int) -> int:
    """Unsigned quotient; b must not be 0 (guests differ there, so their bodies select)."""
    return a // b


@_op("i64 i64 -> i64")
def remu(a: int, b: int) -> int:
    """Unsigned remainder; b must not be 0."""
    return a % b


@_op("i64 i64 -> i64")
def divs(a: int, b: int) -> int:
    """Signed quotient, rounded towards zero; b must not be 0, nor -1 where a is -2^63."""
    a, b = signed(a), signed(b)
    quotient = abs(a) // abs(b)
    return (-quotient if (a < 0) != (b < 0) else quotient) & MASK


@_op("i64 i64 -> i64")
def rems(a: int, b: int) -> int:
    """Signed remainder with the sign of a; the same preconditions as `divs`."""
    a, b = signed(a), signed(b)
    remainder = abs(a) % abs(b)
    return (-remainder if a < 0 else remainder) & MASK


@_op("i64 i64 -> i64")
def and_(a: int, b: int) -> int:
    return a & b


@_op("i64 i64 -> i64")
def or_(a: int, b: int) -> int:
    return a | b


@_op("i64 i64 -> i64")
def xor(a: int, b: int) -> int:
    return a ^ b


@_op("i64 i64 -> i64")
def shl(a: int, n: int) -> int:
    """Shifts take their amount modulo 64."""
    return a << (n & 63) & MASK


@_op("i64 i64 -> i64")
def shr(a: int, n: int) -> int:
    return a >> (n & 63)


@_op("i64 i64 -> i64")
def sar(a: int, n: int) -> int:
    return signed(a) >> (n & 63) & MASK


@_op("i64 -> i64")
def clz(a: int) -> int:
    """Zero bits above the highest one: 64 where there is none."""
    return 64 - a.bit_length()


@_op("i64 -> i64")
def ctz(a: int) -> int:
    """Zero bits below the lowest one: 64 where there is none."""
    return (a & -a).bit_length() - 1 if a else 64


@_op("i64 -> i64")
def popcount(a: int) -> int:
    """How many bits are ones."""
    return a.bit_count()


@_op("i64 -> i64")
def byteswap(a: int) -> int:
    """The eight bytes in the opposite order."""
    return int.from_bytes(a.to_bytes(8, "little"), "big")


@_op("i64 i64 -> i64")
def clmul(a: int, b: int) -> int:
    """The low half of the carry-less 128-bit product (of polynomials over GF(2))."""
    return carryless(a, b) & MASK


@_op("i64 i64 -> i64")
def clmulh(a: int, b: int) -> int:
    """The high half of the carry-less 128-bit product."""
    return carryless(a, b) >> 64


@_op("i64 -> i64", "bits")
def sext(a: int, bits: int) -> int:
    """The low `bits` bits (8, 16 or 32), sign-extended."""
    a &= (1 << bits) - 1
    return a | (MASK >> bits << bits) if a >> (bits - 1) else a


@_op("i64 -> i64", "bits")
def zext(a: int, bits: int) -> int:
    """The low `bits` bits (8, 16 or 32), zero-extended."""
    return a & ((1 << bits) - 1)


@_op("i64 -> i64", "bits otherwise")
def unbox(a: int, bits: int, otherwise: int) -> int:
    """The low bits of a NaN-boxed value, where all bits above are ones; else `otherwise`."""
    return a & ((1 << bits) - 1) if a >> bits == MASK >> bits else otherwise


# --- truth values ------------------------------------------------------------------------------------


@_op("i64 i64 -> i1")
def eq(a: int, b: int) -> bool:
    return a == b


@_op("i64 i64 -> i1")
def ne(a: int, b: int) -> bool:
    return a != b


@_op("i64 i64 -> i1")
def ltu(a: int, b: int) -> bool:
    return a < b


@_op("i64 i64 -> i1")
def geu(a: int, b: int) -> bool:
    return a >= b


@_op("i64 i64 -> i1")
def lts(a: int, b: int) -> bool:
    return (a ^ SIGN) < (b ^ SIGN)


@_op("i64 i64 -> i1")
def ges(a: int, b: int) -> bool:
    return (a ^ SIGN) >= (b ^ SIGN)


@_op("i1 i1 -> i1")
def both(p: bool, q: bool) -> bool:
    return p and q


@_op("i1 i1 -> i1")
def either(p: bool, q: bool) -> bool:
    return p or q


@_op("i1 -> i1")
def not_(p: bool) -> bool:
    return not p


@_op("i1 -> i64")
def bit(p: bool) -> int:
    """1 for true, 0 for false."""
    return 1 if p else 0


@_op("i1 i64 i64 -> i64")
def select(p: bool, a: int, b: int) -> int:
    return a if p else b


# --- state, memory, the way out ----------------------------------------------------------------------

declare("hole", "-> i64", "name bits")  # a value that is filled in when the code of a stencil is copied
declare("getreg", "-> i64", "slot", "getreg")
declare("setreg", "i64 ->", "slot", "setreg")
declare("load", "i64 -> i64", "offset size signed", "load exit")  # address = arg + offset, little endian
declare("load_of_kind", "i64 -> i64", "kind size signed", "load exit")  # by a translation of the guest's own, by number
declare("store", "i64 i64 ->", "offset size", "store exit")
# Atomic where others may access memory at the same time; addresses are aligned.
declare("amo", "i64 i64 -> i64", "kind size", "load store exit")  # address, operand -> old value
# Address, expected, new value, held -> whether it was stored: if `held`, and if nobody else may write there or the
# value there is the expected one.
declare("store_conditional", "i64 i64 i64 i1 -> i1", "size", "load store exit")
declare("fence", "->", "before after", "order")  # of accesses before and after it; sets: 1 are stores, 2 loads
declare("leave_if", "i1 ->", "why", "exit")  # leaves before the instruction; the monitor executes it
declare("remaps", "i1 ->", "", "remap")  # if true, addresses mean something else behind the block
declare("raise", "i64 ->", "cause", "raise")  # the trap, with this value, for which the next `leave_if` leaves
declare("instret", "-> i64", "", "time")  # instructions retired before this one

AMO: dict[str, Callable[[int, int], int]] = {  # kind -> new memory value of (old, operand); 64-bit operands
    "swap": lambda old, new: new,
    "add": add,
    "xor": xor,
    "and": and_,
    "or": or_,
    "min": lambda a, b: a if lts(a, b) else b,
    "max": lambda a, b: b if lts(a, b) else a,
    "minu": min,
    "maxu": max,
}

# --- floating point: meanings are those of `ir.fp`, given by the engine since flags are an effect ------
# `rounding` is an exact mode of `ir.fp`; translated code computes in the host's mode, which the builder's
# guard has made sure is the same (only `to_int` towards zero does not depend on it).

for _name in ("fadd", "fsub", "fmul", "fdiv"):
    declare(_name, "i64 i64 -> i64", "width rounding", "flags")
declare("fsqrt", "i64 -> i64", "width rounding", "flags")
declare("fma", "i64 i64 i64 -> i64", "width rounding", "flags")
declare("fconvert", "i64 -> i64", "width to rounding", "flags")
declare("from_int", "i64 -> i64", "width rounding signed bits", "flags")
declare("to_int", "i64 -> i64", "width rounding signed bits", "flags exit")  # sign-extended from `bits`
declare("feq", "i64 i64 -> i1", "width", "flags")
declare("flt", "i64 i64 -> i1", "width", "flags")
declare("fle", "i64 i64 -> i1", "width", "flags")
declare("host_flags", "-> i64", "", "host")  # exceptions that the host has accrued since they were cleared
declare("clear_host_flags", "->", "", "host")
declare("set_host_rounding", "i64 ->", "", "host")  # any i64; modes the host has not are treated as RNE
