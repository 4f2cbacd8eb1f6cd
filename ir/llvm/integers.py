"""Lowering of integer ops, truth values and the instruction counter."""

from __future__ import annotations

from ir.block import Inst
from ir.llvm.emitter import Emitter
from ir.ops import MASK

DECLARES = [f"declare i64 @llvm.{name}.i64(i64, i1 immarg)" for name in ("ctlz", "cttz")]
DECLARES += [f"declare i64 @llvm.{name}.i64(i64)" for name in ("ctpop", "bswap")]


class Integers(Emitter):
    """`do_` methods of the ops of that kind."""

    def binary(self, inst: Inst, operation: str) -> None:
        a, b = (self.use(v) for v in inst.args)
        self.names[inst] = self.let(f"{operation} i64 {a}, {b}")

    do_add = lambda self, i: self.binary(i, "add")
    do_sub = lambda self, i: self.binary(i, "sub")
    do_mul = lambda self, i: self.binary(i, "mul")
    do_divu = lambda self, i: self.binary(i, "udiv")
    do_remu = lambda self, i: self.binary(i, "urem")
    do_divs = lambda self, i: self.binary(i, "sdiv")
    do_rems = lambda self, i: self.binary(i, "srem")
    do_and = lambda self, i: self.binary(i, "and")
    do_or = lambda self, i: self.binary(i, "or")
    do_xor = lambda self, i: self.binary(i, "xor")
    do_eq = lambda self, i: self.binary(i, "icmp eq")
    do_ne = lambda self, i: self.binary(i, "icmp ne")
    do_ltu = lambda self, i: self.binary(i, "icmp ult")
    do_geu = lambda self, i: self.binary(i, "icmp uge")
    do_lts = lambda self, i: self.binary(i, "icmp slt")
    do_ges = lambda self, i: self.binary(i, "icmp sge")
    do_shl = lambda self, i: self.shift(i, "shl")
    do_shr = lambda self, i: self.shift(i, "lshr")
    do_sar = lambda self, i: self.shift(i, "ashr")
    do_ctz = lambda self, i: self.count(i, "cttz")
    do_clz = lambda self, i: self.count(i, "ctlz")
    do_clmul = lambda self, i: self.carryless_product(i, 0)
    do_clmulh = lambda self, i: self.carryless_product(i, 1)
    do_mulhu = lambda self, i: self.high_product(i, "zext")
    do_mulhs = lambda self, i: self.high_product(i, "sext")
    do_sext = lambda self, i: self.extend(i, "sext")
    do_zext = lambda self, i: self.extend(i, "zext")

    def shift(self, inst: Inst, operation: str) -> None:
        a, n = inst.args
        amount = str(n & 63) if isinstance(n, int) else self.let(f"and i64 {self.use(n)}, 63")
        self.names[inst] = self.let(f"{operation} i64 {self.use(a)}, {amount}")

    def count(self, inst: Inst, operation: str) -> None:
        self.names[inst] = self.let(f"call i64 @llvm.{operation}.i64(i64 {self.use(inst.args[0])}, i1 false)")

    def do_popcount(self, inst: Inst) -> None:
        self.names[inst] = self.let(f"call i64 @llvm.ctpop.i64(i64 {self.use(inst.args[0])})")

    def do_byteswap(self, inst: Inst) -> None:
        self.names[inst] = self.let(f"call i64 @llvm.bswap.i64(i64 {self.use(inst.args[0])})")

    def carryless_product(self, inst: Inst, half: int) -> None:
        if not self.host.carryless:
            self.leave_when("true", inst.at, "conversion")
            self.names[inst] = "0"
            return
        a, b = (
            self.let(f"insertelement <2 x i64> zeroinitializer, i64 {self.use(value)}, i64 0") for value in inst.args
        )
        product = self.let(f"call <2 x i64> @{self.host.carryless}(<2 x i64> {a}, <2 x i64> {b}, i8 0)")
        self.names[inst] = self.let(f"extractelement <2 x i64> {product}, i64 {half}")

    def high_product(self, inst: Inst, extend: str) -> None:
        a, b = (self.let(f"{extend} i64 {self.use(v)} to i128") for v in inst.args)
        product = self.let(f"mul i128 {a}, {b}")
        self.names[inst] = self.let(f"trunc i128 {self.let(f'lshr i128 {product}, 64')} to i64")

    def extend(self, inst: Inst, extend: str) -> None:
        narrow = self.let(f"trunc i64 {self.use(inst.args[0])} to i{inst.attrs[0]}")
        self.names[inst] = self.let(f"{extend} i{inst.attrs[0]} {narrow} to i64")

    def do_unbox(self, inst: Inst) -> None:
        bits, otherwise = inst.attrs
        assert isinstance(bits, int) and isinstance(otherwise, int)
        a = self.use(inst.args[0])
        boxed = self.let(f"icmp uge i64 {a}, {(MASK >> bits << bits) - (1 << 64)}", "c")
        low = self.let(f"and i64 {a}, {(1 << bits) - 1}")
        self.names[inst] = self.let(f"select i1 {boxed}, i64 {low}, i64 {otherwise}")

    def logic(self, inst: Inst, operation: str) -> None:
        a, b = (self.use(v) for v in inst.args)
        self.names[inst] = self.let(f"{operation} i1 {a}, {b}")

    do_both = lambda self, i: self.logic(i, "and")
    do_either = lambda self, i: self.logic(i, "or")

    def do_not(self, inst: Inst) -> None:
        self.names[inst] = self.let(f"xor i1 {self.use(inst.args[0])}, true")

    def do_bit(self, inst: Inst) -> None:
        self.names[inst] = self.let(f"zext i1 {self.use(inst.args[0])} to i64")

    def do_select(self, inst: Inst) -> None:
        p, a, b = (self.use(v) for v in inst.args)
        self.names[inst] = self.let(f"select i1 {p}, i64 {a}, i64 {b}")

    def do_instret(self, inst: Inst) -> None:
        """LIMIT - left at entry + instructions before this one."""
        left = self.let(f"ashr i64 {self.left}, {self.target.budget_shift}")
        limit = self.let(f"load i64, ptr {self.field(self.target.limit)}")
        count = self.let(f"sub i64 {limit}, {left}")
        self.names[inst] = self.let(f"add i64 {count}, {inst.at}")
