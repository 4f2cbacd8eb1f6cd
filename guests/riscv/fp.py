"""Floating point of RISC-V: formats, NaN boxing, rounding modes, and one factory for F, D and parts of Zfhmin.

Every format has the same instructions under other codes, so `extension(fmt)` makes the rows of one.
Arithmetic is the IR's (`ir.fp` in the reference, host instructions in translated code); what looks at
bits only (sign injection, classify, minimum and maximum) is written in integer ops here, exactly.
Unprivileged ISA, F and D extensions. Owns: boxing, rows. Must not know: hosts.
"""

from __future__ import annotations

from functools import cached_property

from guests.riscv.registers import FFLAGS
from guests.riscv.table import Extension
from guests.spec import Operands, Treat
from ir.records import record

DYNAMIC = 7  # the rm field's value for the mode in frm
INVALID = 16  # the NV bit of fflags
ONES = (1 << 64) - 1


@record(frozen=True)
class Format:
    """A floating-point format as the encodings name it."""

    letter: str  # of mnemonics: fadd.s
    width: int  # bits
    fraction: int  # bits
    code: str  # the fmt field
    load_funct3: str
    integer: str  # of fmv.x.w / fmv.x.d
    manual: str

    @cached_property
    def sign(self) -> int:
        return 1 << (self.width - 1)

    @cached_property
    def infinity(self) -> int:
        return self.sign - (1 << self.fraction)

    @cached_property
    def quiet(self) -> int:
        return 1 << (self.fraction - 1)

    @cached_property
    def canonical_nan(self) -> int:
        return self.infinity | self.quiet


S = Format("s", 32, 23, "00", "010", "w", "Unprivileged ISA, F extension")
D = Format("d", 64, 52, "01", "011", "d", "Unprivileged ISA, D extension")
H = Format("h", 16, 10, "10", "001", "h", "Unprivileged ISA, Zfhmin")


def unbox(m, fmt: Format, value):
    """The low bits of a register where it is properly NaN-boxed, else the canonical NaN (D extension, NaN boxing)."""
    return value if fmt.width == 64 else m.unbox(value, fmt.width, fmt.canonical_nan)


def box(m, fmt: Format, value):
    """The register value of `value`: ones above a narrower format."""
    return value if fmt.width == 64 else m.or_(value, ONES >> fmt.width << fmt.width)


def legal_rm(o: Operands) -> bool:
    """Modes 5 and 6 are reserved in the rm field."""
    return o.rm not in (5, 6)


def magnitude(m, fmt: Format, a):
    return m.and_(a, fmt.sign - 1)


def is_nan(m, fmt: Format, a):
    return m.ltu(fmt.infinity, magnitude(m, fmt, a))


def is_signalling(m, fmt: Format, a):
    return m.both(is_nan(m, fmt, a), m.eq(m.and_(a, fmt.quiet), 0))


def raise_if(m, condition, flags: int):
    m.s[FFLAGS] = m.or_(m.s[FFLAGS], m.select(condition, flags, 0))


def order_key(m, fmt: Format, a):
    """An i64 whose signed order is the numeric order of non-NaN values, with -0 below +0."""
    wide = a if fmt.width == 64 else m.sext(a, fmt.width)
    return m.xor(wide, m.shr(m.sar(wide, 63), 1))


def minimum(m, o, fmt: Format, prefer_first):
    """minimumNumber / maximumNumber: a NaN operand loses; two give the canonical NaN; sNaN raises NV."""
    a, b = unbox(m, fmt, m.f[o.rs1]), unbox(m, fmt, m.f[o.rs2])
    raise_if(m, m.either(is_signalling(m, fmt, a), is_signalling(m, fmt, b)), INVALID)
    first = prefer_first(order_key(m, fmt, a), order_key(m, fmt, b))
    number = m.select(first, a, b)
    b_nan, a_nan = is_nan(m, fmt, b), is_nan(m, fmt, a)
    lost = m.select(b_nan, m.select(a_nan, fmt.canonical_nan, a), m.select(a_nan, b, number))
    m.f[o.rd] = box(m, fmt, lost)


def classify(m, fmt: Format, a):
    """The one-hot mask of fclass (F extension, floating-point classify)."""
    negative = m.ne(m.and_(a, fmt.sign), 0)
    size = magnitude(m, fmt, a)
    least_normal = 1 << fmt.fraction
    finite = m.select(m.eq(size, 0), 3, m.select(m.ltu(size, least_normal), 2, 1))
    distance = m.select(m.eq(size, fmt.infinity), 0, finite)  # 0 inf, 1 normal, 2 subnormal, 3 zero
    place = m.select(negative, distance, m.sub(7, distance))
    nan = m.select(m.ne(m.and_(a, fmt.quiet), 0), 1 << 9, 1 << 8)
    return m.select(m.ltu(fmt.infinity, size), nan, m.shl(1, place))


def extension(fmt: Format) -> Extension:
    """The rows of one format's extension, but for conversions between formats."""
    table = Extension("f" if fmt is S else fmt.letter, fmt.manual)
    insn, p, code, width = table.insn, fmt.letter, fmt.code, fmt.width

    nan = fmt.canonical_nan
    if width == 64:
        get = lambda m, number: m.f[number]
    else:
        get = lambda m, number: m.unbox(m.f[number], width, nan)

    transfers(table, fmt)

    def fused(name, opcode, negate_product, negate_addend):
        @insn(f"{name}.{p}", f"rs3 {code} rs2 rs1 rm rd {opcode}", "frd, frs1, frs2, frs3, rm", legal=legal_rm)
        def body(m, o):
            mode = m.rounding(o.rm, DYNAMIC)
            a, b, c = get(m, o.rs1), get(m, o.rs2), get(m, o.rs3)
            a = m.xor(a, fmt.sign) if negate_product else a
            c = m.xor(c, fmt.sign) if negate_addend else c
            m.f[o.rd] = box(m, fmt, m.fma(a, b, c, width, mode))

    fused("fmadd", "1000011", False, False)
    fused("fmsub", "1000111", False, True)
    fused("fnmsub", "1001011", True, False)
    fused("fnmadd", "1001111", True, True)

    def arithmetic(name, funct5):
        @insn(f"{name}.{p}", f"{funct5}{code} rs2 rs1 rm rd 1010011", "frd, frs1, frs2, rm", legal=legal_rm)
        def body(m, o):
            mode = m.rounding(o.rm, DYNAMIC)
            m.f[o.rd] = box(m, fmt, getattr(m, name)(get(m, o.rs1), get(m, o.rs2), width, mode))

    arithmetic("fadd", "00000")
    arithmetic("fsub", "00001")
    arithmetic("fmul", "00010")
    arithmetic("fdiv", "00011")

    @insn(f"fsqrt.{p}", f"01011{code} 00000 rs1 rm rd 1010011", "frd, frs1, rm", legal=legal_rm)
    def fsqrt(m, o):
        mode = m.rounding(o.rm, DYNAMIC)
        m.f[o.rd] = box(m, fmt, m.fsqrt(get(m, o.rs1), width, mode))

    def inject(name, funct3, sign_of):
        @insn(f"{name}.{p}", f"00100{code} rs2 rs1 {funct3} rd 1010011", "frd, frs1, frs2")
        def body(m, o):
            a, b = get(m, o.rs1), get(m, o.rs2)
            m.f[o.rd] = box(m, fmt, m.or_(magnitude(m, fmt, a), m.and_(sign_of(m, a, b), fmt.sign)))

    inject("fsgnj", "000", lambda m, a, b: b)
    inject("fsgnjn", "001", lambda m, a, b: m.xor(b, fmt.sign))
    inject("fsgnjx", "010", lambda m, a, b: m.xor(a, b))

    @insn(f"fmin.{p}", f"00101{code} rs2 rs1 000 rd 1010011", "frd, frs1, frs2")
    def fmin(m, o):
        minimum(m, o, fmt, lambda a, b: m.lts(a, b))

    @insn(f"fmax.{p}", f"00101{code} rs2 rs1 001 rd 1010011", "frd, frs1, frs2")
    def fmax(m, o):
        minimum(m, o, fmt, lambda a, b: m.lts(b, a))

    def compare(name, funct3):
        @insn(f"{name}.{p}", f"10100{code} rs2 rs1 {funct3} rd 1010011", "rd, frs1, frs2")
        def body(m, o):
            m.x[o.rd] = m.bit(getattr(m, name)(get(m, o.rs1), get(m, o.rs2), width))

    compare("feq", "010")
    compare("flt", "001")
    compare("fle", "000")

    @insn(f"fclass.{p}", f"11100{code} 00000 rs1 001 rd 1010011", "rd, frs1")
    def fclass(m, o):
        m.x[o.rd] = classify(m, fmt, get(m, o.rs1))

    for suffix, select, signed, bits in (
        ("w", "00000", True, 32), ("wu", "00001", False, 32), ("l", "00010", True, 64), ("lu", "00011", False, 64),
    ):  # fmt: skip

        @insn(f"fcvt.{suffix}.{p}", f"11000{code} {select} rs1 rm rd 1010011", "rd, frs1, rm", legal=legal_rm)
        def to_integer(m, o, signed=signed, bits=bits):
            mode = m.rounding(o.rm, DYNAMIC)
            m.x[o.rd] = m.to_int(get(m, o.rs1), width, mode, signed, bits)

        @insn(f"fcvt.{p}.{suffix}", f"11010{code} {select} rs1 rm rd 1010011", "frd, rs1, rm", legal=legal_rm)
        def from_integer(m, o, signed=signed, bits=bits):
            mode = m.rounding(o.rm, DYNAMIC)
            a = m.x[o.rs1]
            wide = a if bits == 64 else m.sext(a, 32) if signed else m.zext(a, 32)
            m.f[o.rd] = box(m, fmt, m.from_int(wide, width, mode, signed, bits))

    return table


def transfers(table: Extension, fmt: Format) -> None:
    """What moves a format's bits and computes nothing: load, store and moves, entered into `table`."""
    insn, code, width = table.insn, fmt.code, fmt.width
    size = width // 8

    @insn(f"fl{fmt.integer}", f"imm[11:0] rs1 {fmt.load_funct3} rd 0000111", "frd, imm(rs1)", may_trap=True)
    def fload(m, o):
        m.f[o.rd] = box(m, fmt, m.load(m.x[o.rs1], o.imm, size, False))

    @insn(f"fs{fmt.integer}", f"imm[11:5] rs2 rs1 {fmt.load_funct3} imm[4:0] 0100111", "frs2, imm(rs1)", may_trap=True)
    def fstore(m, o):
        m.store(m.x[o.rs1], m.f[o.rs2], o.imm, size)

    @insn(f"fmv.x.{fmt.integer}", f"11100{code} 00000 rs1 000 rd 1010011", "rd, frs1")
    def to_x(m, o):
        bits = m.f[o.rs1]
        m.x[o.rd] = bits if width == 64 else m.sext(bits, width)

    @insn(f"fmv.{fmt.integer}.x", f"11110{code} 00000 rs1 000 rd 1010011", "frd, rs1")
    def from_x(m, o):
        m.f[o.rd] = box(m, fmt, m.x[o.rs1])


def conversion(table: Extension, to: Format, source: Format, treat: Treat = Treat.IDENT, also: str = "") -> None:
    """fcvt.TO.SOURCE, entered into `table`; the row needs the extension `also`, if one is given."""

    @table.insn(
        f"fcvt.{to.letter}.{source.letter}",
        f"01000{to.code} 000{source.code} rs1 rm rd 1010011",
        "frd, frs1, rm",
        treat=treat,
        legal=legal_rm,
        also=also,
    )
    def body(m, o):
        mode = m.rounding(o.rm, DYNAMIC)
        m.f[o.rd] = box(m, to, m.fconvert(unbox(m, source, m.f[o.rs1]), source.width, to.width, mode))
