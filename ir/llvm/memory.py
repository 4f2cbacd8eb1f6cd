"""Lowering of loads, stores and atomic operations: assembly with an entry in the fault table, base checked.

In a machine the address is looked up in a table instead, and what is not found there leaves. An access that crosses a
page is never found: the tag that it asks for is that of its last byte, at the place of its first. Accesses of a block
near each other, from one base, are looked up as one: where all of the span lies in a page that is found, the others ask
no table. Accesses in a loop whose base goes on in steps keep the page that they found last, and ask it first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from ir.block import Block, Inst, Value
from ir.llvm.accesses import Span
from ir.llvm.emitter import FP, Emitter, slot_of
from ir.llvm.target import Translations
from ir.ops import MASK


def valid_name(number: int) -> str:
    """The variable of the span that is looked up as the one of this number in its block."""
    return f"%valid{number}"


class Memory(Emitter):
    """`do_` methods of the ops of that kind."""

    recent: Mapping[tuple[Value, bool], int] = MappingProxyType({})  # by base, and whether it stores: a pair
    looks: Mapping[Inst, Value] = MappingProxyType({})  # by access, what must lie in the guest's memory

    def begin(self, block: Block, left: str) -> None:
        super().begin(block, left)
        self.spans: dict[Inst, Span] = {}  # accesses that are near others
        self.looked_up: list[Span] = []

    def address(self, inst: Inst, offset: object, size: int, writing: bool) -> str:
        """The host address of an access, which is looked at or looked up if it has to be."""
        base, at = inst.args[0], inst.at
        if self.target.translations is not None:
            span = self.spans.get(inst)
            if span is None:
                return self.translated(self.target.translations, base, offset, at, size, writing)
            return self.near(self.target.translations, span, offset, at, size, writing)
        if inst in self.looks:
            outside = self.let(f"icmp ugt i64 {self.use(self.looks[inst])}, %limit", "c")
            self.leave_when(outside, at, "memory")
        pointer = self.let(f"getelementptr i8, ptr %m, i64 {self.use(base)}", "a")
        assert isinstance(offset, int)
        if offset:
            pointer = self.let(f"getelementptr i8, ptr {pointer}, i64 {self.use(offset)}", "a")
        return pointer

    def near(
        self, tables: Translations, span: Span, offset: object, at: int, size: int, writing: bool
    ) -> str:
        """The host address of an access in a span, which the first one of it looks up."""
        assert isinstance(offset, int)
        span.left -= 1
        if not span.pointer:
            self.look_up(tables, span)
        valid = self.let(f"load i1, ptr {span.valid}", "c")
        far, on, before = self.fresh("far"), self.fresh("on"), self.here
        self.put(f"br i1 {valid}, label {on}, label {far}, !prof !2")
        self.label(far)
        there = self.translated(tables, span.base, offset, at, size, writing)
        found = self.let(f"getelementptr i8, ptr {there}, i64 {span.low - offset}", "a")
        found_in = self.here
        self.put(f"br label {on}")
        self.label(on)
        # Where the span is not valid its pointer is nobody's: that of this access may take its host register.
        span.pointer = self.let(f"phi ptr [{span.pointer}, {before}], [{found}, {found_in}]", "a")
        return self.let(f"getelementptr i8, ptr {span.pointer}, i64 {offset - span.low}", "a")

    def look_up(self, tables: Translations, span: Span) -> None:
        """Have a span's pointer, and whether all of the span is in one page that the table knows."""
        span.valid = valid_name(len(self.looked_up))
        self.looked_up.append(span)
        address, size = self.displaced(self.use(span.base), span.low), span.high - span.low
        number = self.recent.get((span.base, span.writing))
        if number is None:
            row, hit = self.row(tables, address, size, span.writing)
            self.put(f"store i1 {hit}, ptr {span.valid}")
            word = self.let(f"getelementptr i8, ptr {row}, i64 8", "a")
        else:
            on, unknown = self.fresh("on"), self.fresh("unknown")
            self.put(f"store i1 true, ptr {span.valid}")
            word = self.ask(tables, number, address, size, span.writing, on, unknown)
            self.label(unknown)
            self.put(f"store i1 false, ptr {span.valid}")
            self.put(f"br label {on}")
            self.label(on)
        span.pointer = self.pointer(self.let(f"add i64 {address}, {self.let(f'load i64, ptr {word}')}"))

    def ask(
        self, tables: Translations, number: int, address: str, size: int, writing: bool, hit: str, miss: str
    ) -> str:
        """Go to `hit` if these bytes are in the page of this pair, or of an entry that it keeps from now on. Returns
        where the word is that is added to the address there.
        """
        pair = tables.recent + 16 * number
        added = self.field(pair + 8)
        other, known = self.fresh("other"), self.fresh("known")
        page = self.let(f"load i64, ptr {self.field(pair)}")
        still = self.let(f"icmp ult i64 {self.let(f'sub i64 {address}, {page}')}, {4097 - size}", "c")
        self.put(f"br i1 {still}, label {hit}, label {other}, !prof !2")
        self.label(other)
        row, found = self.row(tables, address, size, writing)
        self.put(f"br i1 {found}, label {known}, label {miss}, !prof !2")
        self.label(known)
        for offset in (0, 8):
            word = self.let(f"load i64, ptr {self.let(f'getelementptr i8, ptr {row}, i64 {offset}', 'a')}")
            self.put(f"store i64 {word}, ptr {self.field(pair + offset)}")
        self.put(f"br label {hit}")
        return added

    def row(self, tables: Translations, address: str, size: int, writing: bool) -> tuple[str, str]:
        """A pointer to the entry for these bytes, and whether it is theirs."""
        last = self.let(f"add i64 {address}, {size - 1}") if size > 1 else address
        tag = self.let(f"and i64 {last}, -4096")
        place = self.let(f"lshr i64 {address}, 8")
        place = self.let(f"and i64 {place}, {((1 << tables.entry_bits) - 1) << 4}")
        row = self.let(f"getelementptr i8, ptr {self.let('inttoptr i64 %limit to ptr', 'a')}, i64 {place}", "a")
        row = self.let(f"getelementptr i8, ptr {row}, i64 {tables.stores if writing else tables.loads}", "a")
        known = self.let(f"load i64, ptr {row}")
        return row, self.let(f"icmp eq i64 {known}, {tag}", "c")

    def translated(
        self, tables: Translations, base: Value, offset: object, at: int, size: int, writing: bool
    ) -> str:
        """The host address of an access: the current set of translations knows it, or native code finds it."""
        address = self.displaced(self.use(base), offset)
        hit, miss, on = self.fresh("hit"), self.fresh("miss"), self.fresh("on")
        number = self.recent.get((base, writing))
        if number is None:
            row, known = self.row(tables, address, size, writing)
            self.put(f"br i1 {known}, label {hit}, label {miss}, !prof !2")
        else:
            word = self.ask(tables, number, address, size, writing, hit, miss)
        self.label(miss)
        found = self.reached(address, size, 1 if writing else 0)
        self.leave_when(self.let(f"icmp eq i64 {found}, 0", "c"), at, "memory")
        away = self.let(f"sub i64 {found}, {address}")
        found_in = self.here
        self.put(f"br label {on}")
        self.label(hit)
        if number is None:
            word = self.let(f"getelementptr i8, ptr {row}, i64 8", "a")
        known = self.let(f"load i64, ptr {word}")
        self.put(f"br label {on}")
        self.label(on)  # the difference, and not the address: the sum is the access's own
        delta = self.let(f"phi i64 [{known}, {hit}], [{away}, {found_in}]")
        return self.pointer(self.let(f"add i64 {address}, {delta}"))

    def pointer(self, host: str) -> str:
        """What is found is a host address already; %m, which is 0 in a machine, is left alone."""
        return self.let(f"inttoptr i64 {host} to ptr", "a")

    def reached(self, address: str, size: int, kind: int) -> str:
        """The host address that native code finds, or 0. A call that LLVM knew of would cost all ways.

        It may store to a table, or make a table of a page that is stored to: no span is valid any more.
        """
        assert self.target.translations is not None
        reach = self.let(f"load ptr, ptr {self.field(self.target.translations.found)}", "f")
        call = f'asm sideeffect "{self.host.native_at}", "{self.host.native_constraint % ",r"}"'
        for span in self.looked_up:
            if span.left:
                self.put(f"store i1 false, ptr {span.valid}")
        return self.let(f"call i64 {call}(i64 {address}, i64 {size | kind << 4}, ptr %s, ptr {reach})")

    def displaced(self, base: str, offset: object) -> str:
        """The guest address of an access."""
        return self.let(f"add i64 {base}, {offset}") if offset else base

    def load_float(self, pointer: str, width: int, at: int) -> str:
        """The same as a float in a register for those, where nothing asks for its bits."""
        host, kind, on, name = self.host, FP[width], self.fresh("ok"), self.fresh("f")
        self.put(
            f'{name} = callbr {kind} asm sideeffect "{host.float_loads[width]}{host.fault_entry % 2}", '
            f'"{host.float_load_constraint}"(ptr elementtype({kind}) {pointer}) to label {on} '
            f"[label {self.side(at, 'memory')}]"
        )
        self.label(on)
        return name

    def store_float(self, pointer: str, value: str, width: int, at: int) -> None:
        host, kind, on = self.host, FP[width], self.fresh("ok")
        template = host.float_stores[width] + host.fault_entry % 2
        self.put(
            f'callbr void asm sideeffect "{template}", "{host.float_store_constraint}"'
            f"(ptr elementtype({kind}) {pointer}, {kind} {value}) to label {on} [label {self.side(at, 'memory')}]"
        )
        self.label(on)
        if self.target.log is not None:
            self.log_store(pointer, *self.target.log)

    def access_load(self, pointer: str, size: int, signed: bool, at: int) -> str:
        host, on, name = self.host, self.fresh("ok"), self.fresh()
        template = host.loads[size, signed] + host.fault_entry % 2
        self.put(
            f'{name} = callbr i64 asm sideeffect "{template}", "{host.load_constraint}"'
            f"(ptr elementtype(i{size * 8}) {pointer}) to label {on} [label {self.side(at, 'memory')}]"
        )
        self.label(on)
        return name

    def access_store(self, pointer: str, value: str, size: int, at: int) -> None:
        host, on = self.host, self.fresh("ok")
        template = host.stores[size] + host.fault_entry % 2
        self.put(
            f'callbr void asm sideeffect "{template}", "{host.store_constraint}"'
            f"(ptr elementtype(i{size * 8}) {pointer}, i64 {value}) to label {on} [label {self.side(at, 'memory')}]"
        )
        self.label(on)
        if self.target.log is not None:
            self.log_store(pointer, *self.target.log)

    def log_store(self, pointer: str, length: int, log: int) -> None:
        """Note the very pointer that was stored through."""
        place = self.field(length)
        index = self.let(f"load i64, ptr {place}")
        entry = self.let(f"getelementptr i64, ptr {self.field(log)}, i64 {index}", "a")
        self.put(f"store ptr {pointer}, ptr {entry}")
        self.put(f"store i64 {self.let(f'add i64 {index}, 1')}, ptr {place}")

    def do_load(self, inst: Inst) -> None:
        offset, size, signed = inst.attrs
        assert isinstance(size, int)
        pointer = self.address(inst, offset, size, False)
        if inst in self.floats_only:
            self.floats[id(inst), size * 8] = self.load_float(pointer, size * 8, inst.at)
        else:
            self.names[inst] = self.access_load(pointer, size, bool(signed), inst.at)

    def do_load_of_kind(self, inst: Inst) -> None:
        """Nothing is remembered of where it was: each one is looked for."""
        kind, size, signed = inst.attrs
        assert isinstance(size, int) and isinstance(kind, int)
        found = self.reached(self.use(inst.args[0]), size, kind)
        self.leave_when(self.let(f"icmp eq i64 {found}, 0", "c"), inst.at, "memory")
        pointer = self.pointer(found)
        self.names[inst] = self.access_load(pointer, size, bool(signed), inst.at)

    def do_store(self, inst: Inst) -> None:
        offset, size = inst.attrs
        assert isinstance(size, int)
        stored = inst.args[1]
        pointer = self.address(inst, offset, size, True)
        if isinstance(stored, int):  # as a literal the assembler would range-check it
            stored &= (1 << size * 8) - 1
            stored = stored - (1 << size * 8) & MASK if stored >> (size * 8 - 1) else stored
        elif size * 8 in FP and self.kinds and stored not in self.names:
            value = self.floating(stored, size * 8)
            if value:
                self.store_float(pointer, value, size * 8, inst.at)
                return
        self.access_store(pointer, self.use(stored), size, inst.at)

    def floating(self, value: Inst, width: int) -> str:
        """The float that has the low bits of a value, if it is one here, or its register is a variable of that."""
        kind, what = self.place(value)
        if kind == "slot" and self.kinds.get(slot_of(value)) == "double":
            kind, what = "double", self.read_slot(slot_of(value), "double")
        return self.cleaned(kind, what) if {"boxed": "float"}.get(kind, kind) == FP[width] else ""

    def access_exchange(self, pointer: str, expected: str, new: str, size: int, at: int) -> str:
        """What is found in memory, sign-extended; `new` is put there if that is `expected`."""
        host, on = self.host, self.fresh("ok")
        template = host.exchanges[size] + host.fault_entry % 4
        found = self.fresh()
        self.put(
            f'{found} = callbr i64 asm sideeffect "{template}", "{host.exchange_constraint % ",!i"}"'
            f"(ptr elementtype(i{size * 8}) {pointer}, i64 {expected}, i64 {new}) to label {on} "
            f"[label {self.side(at, 'memory')}]"
        )
        self.label(on)
        return self.exchanged(pointer, found, size)

    def exchanged(self, pointer: str, found: str, size: int) -> str:
        """What an exchange has found, in full."""
        if self.target.log is not None:
            self.log_store(pointer, *self.target.log)
        return found if size == 8 else self.let(f"sext i32 {self.let(f'trunc i64 {found} to i32')} to i64")

    def where_shared(self, shared: Callable[[], str], alone: Callable[[], str]) -> str:
        """What one of two ways gives: of a process that shares memory, or of one that does not, as of a machine.

        What both ways use must have been made before.
        """
        if self.target.shares is None:
            return alone()
        word = self.let(f"load i64, ptr {self.field(self.target.shares)}")
        on, ways = self.fresh("on"), []
        labels = self.fresh("shared"), self.fresh("alone")
        test = self.let(f"icmp ne i64 {word}, 0", "c")
        self.put(f"br i1 {test}, label {labels[0]}, label {labels[1]}")
        for label, way in zip(labels, (shared, alone)):
            self.label(label)
            ways.append(f"[{way()}, {self.here}]")
            self.put(f"br label {on}")
        self.label(on)
        return self.let(f"phi i64 {', '.join(ways)}")

    def do_amo(self, inst: Inst) -> None:
        kind, size = inst.attrs
        assert isinstance(kind, str) and isinstance(size, int)
        pointer = self.address(inst, 0, size, True)
        operand = self.use(inst.args[1])
        old = self.access_load(pointer, size, size == 4, inst.at)

        def shared() -> str:
            return self.exchange_until_done(pointer, old, kind, operand, size, inst.at)

        def alone() -> str:
            self.access_store(pointer, self.combined(kind, old, operand, size), size, inst.at)
            return old

        self.names[inst] = self.where_shared(shared, alone)

    def exchange_until_done(self, pointer: str, first: str, kind: str, operand: str, size: int, at: int) -> str:
        """The value that an atomic operation has replaced. `first` is what has been read there."""
        before, found = self.here, self.fresh("found")
        attempt, again, done = self.fresh("attempt"), self.fresh("again"), self.fresh("done")
        self.put(f"br label {attempt}")
        self.label(attempt)
        old = self.let(f"phi i64 [{first}, {before}], [{found}, {again}]")
        there = self.access_exchange(pointer, old, self.combined(kind, old, operand, size), size, at)
        self.put(f"{found} = or i64 {there}, 0")
        self.put(f"br i1 {self.let(f'icmp eq i64 {found}, {old}', 'c')}, label {done}, label {again}, !prof !2")
        self.label(again)
        self.put(f"br label {attempt}")
        self.label(done)
        return old

    def combined(self, kind: str, old: str, operand: str, size: int) -> str:
        """What an atomic operation of this kind makes of an old value."""
        compared = old
        if size == 4 and kind.endswith("u"):
            compared = self.let(f"and i64 {old}, 4294967295")
        order = {"min": "slt", "max": "sgt", "minu": "ult", "maxu": "ugt"}.get(kind)
        if order:
            keep = self.let(f"icmp {order} i64 {compared}, {operand}", "c")
            return self.let(f"select i1 {keep}, i64 {old}, i64 {operand}")
        return operand if kind == "swap" else self.let(f"{kind} i64 {old}, {operand}")

    def do_store_conditional(self, inst: Inst) -> None:
        """What is shared, and is not as expected, is left to the monitor, who knows whether others can write there."""
        size = inst.attrs[0]
        assert isinstance(size, int)
        pointer = self.address(inst, 0, size, True)
        expected, new, held = (self.use(a) for a in inst.args[1:])

        def shared() -> str:
            put = self.let(f"select i1 {held}, i64 {new}, i64 {expected}")
            found = self.access_exchange(pointer, expected, put, size, inst.at)
            changed = self.let(f"icmp ne i64 {found}, {expected}", "c")
            self.leave_when(self.let(f"and i1 {held}, {changed}", "c"), inst.at, "memory")
            return found

        def alone() -> str:
            old = self.access_load(pointer, size, False, inst.at)
            self.access_store(pointer, self.let(f"select i1 {held}, i64 {new}, i64 {old}"), size, inst.at)
            return old

        self.where_shared(shared, alone)
        self.names[inst] = held

    def do_fence(self, inst: Inst) -> None:
        before, after = (int(str(a)) & 3 for a in inst.attrs)

        def shared() -> str:
            self.put(f"fence {'seq_cst' if before & 1 and after & 2 else 'acq_rel'}")
            return "0"

        if before and after:
            self.where_shared(shared, lambda: "0")
