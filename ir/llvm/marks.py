"""Marks: what a region knows of its floats only while it runs, a bit for each guest register that holds one.

A float that was computed stays as the host made it until its bits are seen: its NaN may be another one than the guest's
canonical one. And a register that is a variable as a single may not have been written, and be no box: then its
bits are still in the CPU state, where whatever else is written to it goes at once. Where ways meet, neither can be told
from the code. But it matters for NaNs alone, so marks are read where a float is one, and written where blocks end.
Owns: marks, and what floats become on the way out. Must not know: which registers are variables, and why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import reduce
from itertools import zip_longest

from ir.block import Inst, Value, boxed_in
from ir.llvm.emitter import WIDTH, Place, slot_of
from ir.llvm.floats import FIELDS, Floats

COMPUTED = "%computed"  # the mark of what was computed
SINGLE = "%single"  # that of another single that was written
UNSEEN = "%unseen"  # marks that have not been looked at yet on the way out
PARKED = "%parked"  # where singles wait while their marks are looked at
RESULT = {"fadd": 0, "fsub": 0, "fmul": 0, "fdiv": 0, "fsqrt": 0, "fma": 0, "from_int": 0, "fconvert": 1}


class Marks(Floats):
    """Registers that hold floats by `kinds`, or as doubles in the CPU state."""

    def choose_marks(self, written: Iterable[Inst]) -> None:
        """Say which registers have marks, from all that writes to registers."""
        self.computed: set[int] = set()  # slots of registers that computed floats are written to,
        self.singles: set[int] = set()  # of variables that singles are written to,
        others: set[int] = set()  # and to which something else is
        for inst in written:
            slot = slot_of(inst)
            if slot not in self.target.floats:
                continue
            kind = self.kinds.get(slot, "double")
            inside = boxed_in(inst.args[0], 32) if kind == "float" else inst.args[0]
            if kind == "float" and inside is not None:
                self.singles.add(slot)
            if kind in WIDTH and is_result(inside, WIDTH[kind]):
                self.computed.add(slot)
            else:
                others.add(slot)
        self.only_computed = self.computed.difference(others).intersection(self.kinds)

    def declare_marks(self) -> None:
        """At the entry nothing is marked."""
        for name in (COMPUTED, SINGLE, UNSEEN) if self.computed or self.singles else ():
            self.put(f"{name} = alloca i32")
            self.put(f"store i32 0, ptr {name}")
        if self.singles:
            self.put(f"{PARKED} = alloca [{len(self.target.floats)} x float]")

    def bit(self, slot: int) -> int:
        """The mark of a register."""
        return 1 << self._index(slot)

    def _index(self, slot: int) -> int:
        return self.target.floats.index(slot)

    def is_marked(self, which: str, bits: int) -> str:
        """Whether one of these marks was set where the block was entered."""
        marks = self.let(f"load i32, ptr {which}")
        return self.let(f"icmp ne i32 {self.let(f'and i32 {marks}, {bits}')}, 0", "c")

    # --- reading ------------------------------------------------------------------------------------

    def read_float(self, slot: int) -> str:
        """What a variable is worth as a float of its kind."""
        value = self.let(f"load {self.kinds[slot]}, ptr %r{slot}", "f")
        if slot in self.computed:
            self.raw[value] = self.bit(slot)
        return value

    def cleaned(self, kind: str, what: object) -> str:
        bit = self.raw.get(what)
        if not bit:
            return super().cleaned(kind, what)
        value, known = str(what), "float" if kind == "boxed" else kind

        def marked() -> str:
            return self._exact(known, value, self.is_marked(COMPUTED, bit))

        self.clean[what] = self.seldom(self.may_be_nans(known, value, value), known, value, marked)
        return self.clean[what]

    def _exact(self, kind: str, value: str, computed: str) -> str:
        """A float with the guest's NaN, if it was `computed`."""
        wrong = self.let(f"and i1 {self.is_nan(kind, value)}, {computed}", "c")
        return self.let(f"select i1 {wrong}, {kind} {self.nan(kind)}, {kind} {value}", "f")

    def may_be_nans(self, kind: str, a: str, b: str) -> str:
        """Whether one of two floats is a NaN, or perhaps an infinity, without a flag for a signaling NaN.

        Made quiet, as NaNs that were computed are, infinities are NaNs too.
        """
        return self.are_nans(kind, self._quiet(kind, a), self._quiet(kind, b))

    def _quiet(self, kind: str, value: str) -> str:
        width = WIDTH[kind]
        bits = self.let(f"or i{width} {self.let(f'bitcast {kind} {value} to i{width}')}, {1 << FIELDS[width][1] - 1}")
        return self.let(f"bitcast i{width} {bits} to {kind}", "f")

    def is_nan(self, kind: str, value: str) -> str:
        """Whether a float is a NaN, without a flag, by its bits."""
        width = WIDTH[kind]
        exponent, fraction = FIELDS[width]
        bits = self.let(f"bitcast {kind} {value} to i{width}")
        magnitude = self.let(f"and i{width} {bits}, {(1 << width - 1) - 1}")
        return self.let(f"icmp ugt i{width} {magnitude}, {((1 << exponent) - 1) << fraction}", "c")

    def bits_of_single(self, slot: int) -> str:
        """All bits of a register that is a float."""
        if slot not in self.singles:
            return self.bits_in_state(slot)
        value = self.let(f"load float, ptr %r{slot}", "f")
        boxed = self.with_ones(value)

        def marked() -> str:
            bit, kept = self.bit(slot), self.bits_in_state(slot)
            kept = self.let(f"select i1 {self.is_marked(SINGLE, bit)}, i64 {boxed}, i64 {kept}")
            if slot in self.computed:
                canonical = self.with_ones(self.nan("float"))
                computed = self.let(f"select i1 {self.is_nan('float', value)}, i64 {canonical}, i64 {boxed}")
                kept = self.let(f"select i1 {self.is_marked(COMPUTED, bit)}, i64 {computed}, i64 {kept}")
            return kept

        return self.seldom(self.may_be_nans("float", value, value), "i64", boxed, marked)

    def bits_in_state(self, slot: int) -> str:
        """What the CPU state has of a register."""
        return self.let(f"load i64, ptr {self.field(self.target.slot(slot))}")

    def single_in_state(self, slot: int) -> str:
        """What that is worth as a single: the canonical NaN where there are no ones above it."""
        place = self.target.slot(slot)
        above, low = (self.let(f"load {kind}, ptr {self.field(place + at)}") for kind, at in (("i32", 4), ("float", 0)))
        no_box = self.let(f"icmp ne i32 {above}, -1", "c")
        return self.seldom(no_box, "float", low, lambda: self.nan("float"))

    # --- writing ------------------------------------------------------------------------------------

    def kept(self, slot: int, place: Place, leaving: bool) -> tuple[str, str]:
        """What was computed stays as it is in variables, and on the way out."""
        kind, what = place
        if (leaving or slot in self.kinds) and slot in self.computed and self.raw.get(what) == 0:
            if kind == ("boxed" if self.kinds.get(slot) == "float" else "double"):
                return kind, str(what)
        return self.whole(place)

    def write_back(self, changed: dict[int, Place], leaving: bool = False) -> dict[int, tuple[str, str]]:
        values = super().write_back(changed, leaving)
        touched = computed = single = 0
        for slot, (kind, value) in values.items():
            if slot in self.computed | self.singles and (leaving or slot in self.kinds):
                bit = self.bit(slot)
                if slot in self.only_computed or value in self.raw:
                    computed |= bit
                elif kind == "boxed":
                    single |= bit
                touched |= bit
        self._set(COMPUTED, touched & ~computed, computed)
        self._set(SINGLE, touched & ~single & ~computed, single)
        return values

    def _set(self, which: str, zeros: int, ones: int) -> None:
        """Change marks."""
        if not zeros and not ones:
            return
        marks = self.let(f"load i32, ptr {which}")
        for operation, bits in (("and", ~zeros), ("or", ones)):
            if bits not in (0, -1):
                marks = self.let(f"{operation} i32 {marks}, {bits}")
        self.put(f"store i32 {marks}, ptr {which}")

    # --- the way out --------------------------------------------------------------------------------

    def take_back_floats(self) -> None:
        """At the end, when all else is in the CPU state: singles go there, and NaNs become canonical.

        Two registers are looked at by one comparison, which asks whether they can be ordered.
        """
        values = {kind: {slot: self.read_float(slot) for slot in sorted(slots)}
                  for kind, slots in (("double", self._variables("double") & self.computed), ("float", self.singles))}
        outside = sum(map(self.bit, self.computed.difference(self.kinds)))
        nans = [self.is_marked(COMPUTED, outside)] if outside else []
        for kind, found in values.items():
            each = list(found.values())
            nans += [self.may_be_nans(kind, a, b or a) for a, b in zip_longest(each[::2], each[1::2])]
        if not nans:
            return
        some, none, on = self.fresh("nans"), self.fresh("none"), self.fresh("ok")
        any_nan = reduce(lambda a, b: self.let(f"or i1 {a}, {b}", "c"), nans)
        self.put(f"br i1 {any_nan}, label {some}, label {none}{self.nan_odds}")
        self.label(none)
        for slot, value in values["float"].items():
            self.put(f"store i64 {self.with_ones(value)}, ptr {self.field(self.target.slot(slot))}")
        self.put(f"br label {on}")
        self.label(some)
        for slot, value in values["float"].items():
            self.put(f"store float {value}, ptr {self._parked(str(self._index(slot)))}")
        self._take_back_marked()
        self.put(f"br label {on}")
        self.label(on)

    def _take_back_marked(self) -> None:
        """The same, where one of them is a NaN: of each by its marks."""
        computed, single = (self.let(f"load i32, ptr {which}") for which in (COMPUTED, SINGLE))
        floats = sum(map(self.bit, self.singles))
        doubles = sum(map(self.bit, self.computed - self.singles))

        def place(number: str) -> str:
            first = self.field(self.target.slot(self.target.floats[0]))
            return self.let(f"getelementptr i64, ptr {first}, i32 {number}", "a")

        def a_single(number: str) -> None:
            value = self.let(f"load float, ptr {self._parked(number)}", "f")
            is_computed = self.let(f"trunc i32 {self.let(f'lshr i32 {computed}, {number}')} to i1", "c")
            self.put(f"store i64 {self.with_ones(self._exact('float', value, is_computed))}, ptr {place(number)}")

        def a_double(number: str) -> None:
            at = place(number)
            value = self.let(f"load double, ptr {at}", "f")
            self.put(f"store double {self._exact('double', value, 'true')}, ptr {at}")

        if floats:
            written = self.let(f"or i32 {computed}, {single}")
            self._for_each(self.let(f"and i32 {written}, {floats}"), a_single)
        if doubles:
            self._for_each(self.let(f"and i32 {computed}, {doubles}"), a_double)

    def _for_each(self, marks: str, body: Callable[[str], None]) -> None:
        """A loop over the numbers of the marks that are set."""
        head, do, done = map(self.fresh, ("marks", "do", "done"))
        self.put(f"store i32 {marks}, ptr {UNSEEN}")
        self.put(f"br label {head}")
        self.label(head)
        left = self.let(f"load i32, ptr {UNSEEN}")
        self.put(f"br i1 {self.let(f'icmp eq i32 {left}, 0', 'c')}, label {done}, label {do}")
        self.label(do)
        wide = self.let(f"call i64 @llvm.cttz.i64(i64 {self.let(f'zext i32 {left} to i64')}, i1 true)")
        body(self.let(f"trunc i64 {wide} to i32"))
        below = self.let(f"sub i32 {left}, 1")
        self.put(f"store i32 {self.let(f'and i32 {left}, {below}')}, ptr {UNSEEN}")
        self.put(f"br label {head}")
        self.label(done)

    def _parked(self, number: str) -> str:
        return self.let(f"getelementptr float, ptr {PARKED}, i32 {number}", "a")

    def _variables(self, kind: str) -> set[int]:
        return {slot for slot, known in self.kinds.items() if known == kind}


def is_result(value: Value | None, width: int) -> bool:
    """Whether it is a float of this width that was computed."""
    return isinstance(value, Inst) and value.op.name in RESULT and value.attrs[RESULT[value.op.name]] == width


__all__ = ["RESULT", "Marks", "is_result"]
