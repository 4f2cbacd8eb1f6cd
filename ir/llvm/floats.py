"""Lowering of floating point: host instructions in the host's dynamic mode, with the guards that exactness needs."""

from __future__ import annotations

from collections.abc import Callable

from ir.block import Inst
from ir.llvm.emitter import FP, WIDTH, Emitter
from ir.llvm.target import flag_lines, rounding_code

DECLARES = [
    f"declare {t} @llvm.experimental.constrained.{op}.f{w}({', '.join([t] * n)}, metadata, metadata)"
    for w, t in FP.items()
    for op, n in (("fadd", 2), ("fsub", 2), ("fmul", 2), ("fdiv", 2), ("sqrt", 1), ("fma", 3))
]
for _w, _t in FP.items():
    DECLARES += [
        f"declare i1 @llvm.experimental.constrained.fcmp.f{_w}({_t}, {_t}, metadata, metadata)",
        f"declare i1 @llvm.experimental.constrained.fcmps.f{_w}({_t}, {_t}, metadata, metadata)",
        f"declare i64 @llvm.experimental.constrained.fptosi.i64.f{_w}({_t}, metadata)",
        f"declare {_t} @llvm.experimental.constrained.sitofp.f{_w}.i64(i64, metadata, metadata)",
    ]
DECLARES += [
    "declare float @llvm.experimental.constrained.fptrunc.f32.f64(double, metadata, metadata)",
    "declare double @llvm.experimental.constrained.fpext.f64.f32(float, metadata)",
]
_ROUND = 'metadata !"round.dynamic", '
_STRICT = 'metadata !"fpexcept.strict"'
_QUIET = 'metadata !"fpexcept.ignore"'
_PLAIN = ("fadd", "fsub", "fmul", "fdiv")  # what has an instruction of LLVM that knows no flags
FIELDS = {32: (8, 23), 64: (11, 52)}  # exponent bits, fraction bits


class Floats(Emitter):
    """`do_` methods of the ops of that kind; a value may exist as an i64, as a float, or as both."""

    nan_odds = ", !prof !1"  # of branches that are taken for NaNs

    def result_float(self, inst: Inst, value: str, width: int) -> None:
        """Define a float result. Its NaN becomes the canonical one where its bits are first seen (`canonical`)."""
        self.strict = True
        self.floats[id(inst), width] = value
        self.raw[value] = 0

    def canonical(self, kind: str, value: str, extra: Callable[[], None] | None = None) -> str:
        """A float with its NaN canonical; `extra` emits more for the NaN path."""

        def canonical() -> str:
            if extra:
                extra()
            return self.nan(kind)

        return self.seldom(self.are_nans(kind, value, value), kind, value, canonical)

    def nan(self, kind: str) -> str:
        """The canonical one."""
        return self.let(f"load {kind}, ptr {self.field(self.target.nan[WIDTH[kind]])}", "f")

    def are_nans(self, kind: str, a: str, b: str) -> str:
        """Whether one of two floats is a NaN."""
        call = f"call i1 @llvm.experimental.constrained.fcmp.f{WIDTH[kind]}"
        return self.let(f'{call}({kind} {a}, {kind} {b}, metadata !"uno", {_QUIET}) #0', "c")

    def seldom(self, condition: str, kind: str, value: str, otherwise: Callable[[], str]) -> str:
        """A value, or what is made `otherwise` if a condition holds, which it seldom does.

        A branch and not a select: the predictor takes the test out of the dependency chain.
        """
        before, cold, on = self.here, self.fresh("nan"), self.fresh("ok")
        self.put(f"br i1 {condition}, label {cold}, label {on}{self.nan_odds}")
        self.label(cold)
        other = otherwise()
        cold = self.here
        self.put(f"br label {on}")
        self.label(on)
        return self.let(f"phi {kind} [{other}, {cold}], [{value}, {before}]", "v" if kind == "i64" else "f")

    def arithmetic(self, inst: Inst, operation: str) -> None:
        width = inst.attrs[0]
        assert isinstance(width, int)
        kind = FP[width]
        operands = [self.as_float(v, width) for v in inst.args]
        arguments = ", ".join(f"{kind} {v}" for v in operands)
        if not self.target.fp_flags and operation in _PLAIN:
            self.result_float(inst, self.let(f"{operation} {kind} {', '.join(operands)}", "f"), width)
            return
        value = self.let(
            f"call {kind} @llvm.experimental.constrained.{operation}.f{width}({arguments}, {_ROUND}{_STRICT}) #0",
            "f",
        )
        self.result_float(inst, value, width)
        if operation == "fma":  # which must look at its NaN at once
            self.floats[id(inst), width] = self.canonical(kind, value, lambda: self.invalid_product(inst, width))

    do_fadd = lambda self, i: self.arithmetic(i, "fadd")
    do_fsub = lambda self, i: self.arithmetic(i, "fsub")
    do_fmul = lambda self, i: self.arithmetic(i, "fmul")
    do_fdiv = lambda self, i: self.arithmetic(i, "fdiv")
    do_fsqrt = lambda self, i: self.arithmetic(i, "sqrt")

    def do_fma(self, inst: Inst) -> None:
        if self.host.fused:
            self.arithmetic(inst, "fma")
            return
        self.leave_when("true", inst.at, "conversion")
        self.names[inst] = "0"

    def invalid_product(self, inst: Inst, width: int) -> None:
        """Infinity times zero is invalid even where the addend is a quiet NaN, which hosts do not say."""
        exponent, fraction = FIELDS[width]
        infinity = ((1 << exponent) - 1) << fraction
        parts = []
        for value in inst.args[:2]:
            bits = self.let(f"bitcast {FP[width]} {self.as_float(value, width)} to i{width}")
            parts.append(self.let(f"and i{width} {bits}, {(1 << width - 1) - 1}"))
        checks = []
        for a, b in (parts, parts[::-1]):
            checks.append(self.let(f"and i1 {self.let(f'icmp eq i{width} {a}, {infinity}')}, "
                                   f"{self.let(f'icmp eq i{width} {b}, 0')}"))  # fmt: skip
        invalid = self.let(f"or i1 {checks[0]}, {checks[1]}")
        flags = self.let(f"select i1 {invalid}, i64 16, i64 0")
        place = self.field(self.target.soft_flags)
        self.accumulate(place, "or", flags)

    def do_fconvert(self, inst: Inst) -> None:
        width, to, _ = inst.attrs
        assert isinstance(width, int) and isinstance(to, int)
        a = self.as_float(inst.args[0], width)
        if to < width:
            call = f"float @llvm.experimental.constrained.fptrunc.f32.f64(double {a}, {_ROUND}{_STRICT})"
        else:
            call = f"double @llvm.experimental.constrained.fpext.f64.f32(float {a}, {_STRICT})"
        self.result_float(inst, self.let(f"call {call} #0", "f"), to)

    def do_from_int(self, inst: Inst) -> None:
        """Unsigned values of 64 bits: convert half of a large one, its lost bit kept sticky, and double it."""
        width, _, signed, bits = inst.attrs
        assert isinstance(width, int)
        self.strict = True
        kind, a = FP[width], self.use(inst.args[0])
        large = None
        if not signed and bits == 64:
            large = self.let(f"icmp slt i64 {a}, 0", "c")
            half = self.let(f"or i64 {self.let(f'lshr i64 {a}, 1')}, {self.let(f'and i64 {a}, 1')}")
            a = self.let(f"select i1 {large}, i64 {half}, i64 {a}")
        value = self.let(
            f"call {kind} @llvm.experimental.constrained.sitofp.f{width}.i64(i64 {a}, {_ROUND}{_STRICT}) #0",
            "f",
        )
        if large is not None:
            double = self.let(
                f"call {kind} @llvm.experimental.constrained.fadd.f{width}({kind} {value}, {kind} {value}, "
                f"{_ROUND}{_STRICT}) #0", "f")  # fmt: skip
            value = self.let(f"select i1 {large}, {kind} {double}, {kind} {value}", "f")
        self.floats[id(inst), width] = value

    def do_to_int(self, inst: Inst) -> None:
        """In range for certain: the host's conversion. Anything else is left to the monitor."""
        width, rounding, signed, bits = inst.attrs
        assert isinstance(width, int) and isinstance(bits, int)
        self.strict = True
        exponent, fraction = FIELDS[width]
        source = inst.args[0]
        a = self.as_float(source, width)
        raw = self.let(f"bitcast {FP[width]} {a} to i{width}")
        limit = 63 if bits == 64 else bits - bool(signed) - (rounding != 1)
        if signed:
            raw = self.let(f"and i{width} {raw}, {(1 << width - 1) - 1}")
        bound = ((1 << exponent - 1) - 1 + limit) << fraction
        outside = self.let(f"icmp uge i{width} {raw}, {bound}", "c")  # unsigned: a set sign bit is outside too
        self.leave_when(outside, inst.at, "conversion")
        if rounding == 1:
            value = self.let(
                f"call i64 @llvm.experimental.constrained.fptosi.i64.f{width}({FP[width]} {a}, {_STRICT}) #0"
            )
        else:
            value = self.let(
                f'call i64 asm sideeffect "{self.host.to_int[width]}", '
                f'"{self.host.to_int_constraint}"({FP[width]} {a})'
            )
        if bits == 32 and not signed:
            value = self.let(f"sext i32 {self.let(f'trunc i64 {value} to i32')} to i64")
        self.names[inst] = value

    def compare(self, inst: Inst, call: str, predicate: str) -> None:
        width = inst.attrs[0]
        assert isinstance(width, int)
        self.strict = True
        a, b = (f"{FP[width]} {self.as_float(v, width)}" for v in inst.args)
        self.names[inst] = self.let(
            f'call i1 @llvm.experimental.constrained.{call}.f{width}({a}, {b}, metadata !"{predicate}", {_STRICT}) #0',
            "c",
        )

    do_feq = lambda self, i: self.compare(i, "fcmp", "oeq")
    do_flt = lambda self, i: self.compare(i, "fcmps", "olt")
    do_fle = lambda self, i: self.compare(i, "fcmps", "ole")

    def read_control(self) -> str:
        place = self.field(self.target.scratch)
        self.put(f"call void @{self.host.read_control}(ptr {place})")
        return self.let(f"load i32, ptr {place}")

    def write_control(self, value: str) -> None:
        place = self.field(self.target.scratch)
        self.put(f"store i32 {value}, ptr {place}")
        self.put(f"call void @{self.host.write_control}(ptr {place})")

    def do_host_flags(self, inst: Inst) -> None:
        self.strict = True
        control = self.let(f"zext i32 {self.read_control()} to i64")
        flags = self.let(f"load i64, ptr {self.field(self.target.soft_flags)}")
        for line in flag_lines(self.host, control, self.let):
            flags = self.let(f"or i64 {flags}, {line}")
        self.names[inst] = flags

    def do_clear_host_flags(self, inst: Inst) -> None:
        self.strict = True
        self.put(f"store i64 0, ptr {self.field(self.target.soft_flags)}")
        mask = ~sum(1 << b for b in self.host.flag_bits)
        self.write_control(self.let(f"and i32 {self.read_control()}, {mask}"))

    def do_set_host_rounding(self, inst: Inst) -> None:
        self.strict = True
        host = self.host
        code = rounding_code(host, self.use(inst.args[0]), self.let)
        kept = self.let(f"and i32 {self.read_control()}, {~(3 << host.rounding_shift)}")
        self.write_control(self.let(f"or i32 {kept}, {code}"))
