"""The copier: guest bytes to code of tier 0, all in native code. Here it is written, in `dbt.tier0.native`'s notation.

    translate(state, pc, inside)   copies stencils for the block at pc and for what it leads to in its guest page, and
                                   returns the host code; 0 if the page is not open or there is no room. `inside`:
                                   pc is no boundary, so the block has no head and is not entered in the directory

A block's head looks whether an event is due, counts down to the block's being hot, and takes the block's instructions
off the budget; what leaves in the middle gives the rest back. Code that lies out of line is made when a batch is
complete: then all of its blocks are known, and jumps between them are direct. All other jumps go through the directory.
Owns: the algorithm. Must not know: rows, hosts' instructions, what Python does about pages, the ways into code and out
of it (`dbt.tier0.ways`).
"""

from __future__ import annotations

from dbt.state import (
    BUDGET_SHIFT,
    CODE,
    CODE_FAULTS,
    CODE_SIZE,
    CODE_USED,
    COPIED,
    COUNTERS,
    COUNTERS_MOST,
    COUNTERS_USED,
    FOUND,
    HEAD_OUT,
    HIGHEST,
    HOT_AFTER,
    LEAVE_HERE,
    LIBRARY,
    MADE_BLOCKS,
    MADE_INSTRUCTIONS,
    MEMORY,
    NOT_MADE,
    OPEN,
    PAGES,
    SLOTS,
    SPACE_BITS,
    TABLE,
    TABLES,
    TABLES_MOST,
    TABLES_USED,
    WORK,
    WRITE,
)
from dbt.tier0 import HEADROOM
from dbt.tier0 import layout as lib
from dbt.tier0.native import Function, OnState, Value
from ir.llvm.target import CALLOUT, MISS, SIDE, Target, Translations

PAGE = 1 << 12
CROSSING = 2  # `inside`, for an instruction that lies in two pages
MOST = 192  # guest instructions of a batch, after which it begins no more blocks
WEIGHT = 9  # an execution of a block counts as one for so many bytes of its code, two to this power
SEGMENT = 64  # guest instructions that are taken off the budget at once
# Work memory: addresses to begin blocks at, then what is made at the end: four words each.
PENDING = 1 << 14
AT_HEAD, NO_REASON = 98, 99  # beside the reasons of side exits
P_SIDE, P_ACCESS, P_HEAD, P_LINK, P_BEHIND, P_MISS = range(6)
ADDRESSES = (1 << SPACE_BITS) - 1


class _Copier(OnState):
    """translate, for a process."""

    farthest = ADDRESSES  # guest address that has a place in the directory

    def __init__(self) -> None:
        super().__init__("translate", "pc", "inside")
        self.lib = self.field(LIBRARY)
        self.code, self.writes = self.field(CODE), self.field(WRITE)
        self.faults = self.field(CODE_FAULTS)
        self.missing = self.field(NOT_MADE)
        self.work = self.field(WORK)
        self.page = self.given["pc"] >> 12
        self.memory, self.beyond = self.source()
        full = self.either(self.field(CODE_SIZE) - self.field(CODE_USED) < HEADROOM,
                           self.field(COUNTERS_USED) + MOST >= COUNTERS_MOST)  # fmt: skip
        with self.when(self.either(full, self.field(TABLES_USED) + 1024 * TABLE > TABLES_MOST * TABLE)):
            self.give(0)
        self.at = self.variable(self.field(CODE_USED))  # offset in the code
        self.made = self.variable(0)
        self.todo = self.variable(0)  # bytes of the list
        self.pending = self.variable(0)
        self.settled = self.variable(0)  # of those, the ones whose instructions left are known
        self.first = self.variable(0)
        self.pc = self.variable(self.given["pc"])
        self.word = self.variable(0)
        self.length = self.variable(0)
        self.form = self.variable(0)
        self.n = self.variable(0)  # instructions of the segment
        self.price = self.variable(0)  # where its price goes
        self.cost = self.variable(0)  # where what an execution of the block counts for goes
        self.ended = self.variable(0)  # how the block ended
        self.falls = self.variable(0)
        self.floats = self.variable(0)  # instructions of the block that compute in floating point
        self.params = [self.variable(0) for _ in range(3)]
        self.wide = self.variable(0)
        self.names = [self.variable(0) for _ in range(4)]  # values of an instruction's fields
        self.i = self.variable(0)
        self.places = [self.variable(0) for _ in range(2)]  # where parameters 0 and 2 went
        self.entry_at = self.variable(0)
        self.hole = self.variable(0)

    # --- the directory ----------------------------------------------------------------------------------

    def source(self) -> tuple[Value, Value]:
        """The host address of guest address 0 in this page, and whether code may go on in the next one.

        If the page may not be read, all ends here.
        """
        with self.when(self.given["pc"] > ADDRESSES):
            self.give(0)
        with self.when(self.load(self.s + self.page + OPEN, 1) == 0):
            self.give(0)
        return self.field(MEMORY), self.load(self.s + self.page + (OPEN + 1), 1)

    def place(self, pc: Value) -> Value:
        """Displacement of the directory's entry for a guest address, whose page gets a table if it has none."""
        where = self.s + ((pc >> 12) << 2) + PAGES
        found = self.variable(self.load(where, 4))
        with self.when(found.value == 0):
            found.set(self.field(TABLES_USED))
            self.set_field(TABLES_USED, found.value + TABLE)
            self.store(where, found.value, 4)
            i = self.variable(self.s + found.value + TABLES)
            end = i.value + TABLE
            with self.loop():
                self.leave_loop(i.value == end)
                self.store(i.value, self.missing, 8)
                i.add(8)
        return found.value + ((pc & 4094) << 2) + TABLES

    def entry(self, pc: Value) -> Value:
        return self.load(self.s + self.place(pc), 8)

    def is_missing(self, pc: Value) -> Value:
        return self.entry(pc) == self.missing

    # --- notes for the end of the batch -------------------------------------------------------------------

    def note(self, kind: int, where: Value, pc: Value, extra: Value | int = 0) -> None:
        at = self.work + self.pending.value + PENDING
        self.store(at, where | (kind << 40), 8)
        self.store(at + 8, pc, 8)
        self.store(at + 16, extra, 8)
        self.store(at + 24, self.n.value, 8)
        self.pending.add(32)

    def later(self, pc: Value) -> None:
        """Have a block begin there, in this batch, if there is none."""
        near = self.both((pc >> 12) == self.page, self.todo.value < PENDING - 64)
        with self.when(near):
            with self.when(self.is_missing(pc)):
                self.store(self.work + self.todo.value, pc, 8)
                self.todo.add(8)

    # --- copying ----------------------------------------------------------------------------------------

    def copy(self, stencil: Value) -> Value:
        """The bytes; returns the offset behind them, to which `at` is not moved yet."""
        size, source = self.load(stencil, 4), self.lib + self.load(stencil + 8, 4)
        self.i.set(0)
        to = self.writes + self.at.value
        with self.loop():
            self.leave_loop(self.i.value >= size)
            pointer_from = self.let(f"inttoptr i64 {(source + self.i.value).text} to ptr")
            pointer_to = self.let(f"inttoptr i64 {(to + self.i.value).text} to ptr")
            piece = self.let(f"load <16 x i8>, ptr {pointer_from.text}, align 1")
            self.put(f"store <16 x i8> {piece.text}, ptr {pointer_to.text}, align 1")
            self.i.add(16)
        return self.at.value + size

    def fill(self, stencil: Value, behind: Value, special: bool) -> None:
        """Fill the holes of what was copied to `at`."""
        self.hole.set(stencil + 12)
        end = stencil + 12 + (self.load(stencil + 4, 4) << 4)
        value = self.variable(0)
        with self.loop():
            hole = self.hole.value
            self.leave_loop(hole == end)
            self.hole.set(hole + 16)
            kind = self.load(hole + 4, 4)
            argument = self.load(hole + 8, 4)
            addend = self.load(hole + 12, 4)
            where = self.at.value + self.load(hole, 4)
            target = self.writes + where

            def narrow(content: Value, target: Value = target, addend: Value = addend) -> None:
                self.store(target, content + addend, 4)

            def out(to: Value, where: Value = where, target: Value = target, addend: Value = addend) -> None:
                self.store(target, to - (self.code + where) + addend, 4)

            if special:
                for number, parameter in enumerate(self.params):
                    with self.when(self.both(kind == lib.PARAM32, argument == number)):
                        narrow(parameter.value)
                        if number != 1:
                            self.places[number >> 1].set(where)
                with self.when(kind == lib.PARAM64):
                    self.store(target, self.wide.value, 8)
                with self.when(kind == lib.OUT_HEAD):
                    self.note(P_HEAD, where, self.pc.value, AT_HEAD)
                with self.when(kind == lib.OUT_AT_HEAD):
                    out(self.field(HEAD_OUT))
                with self.when(kind == lib.OUT_LEAVE):
                    out(self.field(LEAVE_HERE))
                with self.when(kind == lib.OUT_NEXT):
                    out(self.code + behind)
                with self.when(kind == lib.OUT_NATIVE):
                    out(self.load(self.s + 8 * FOUND + (argument << 3), 8))
            else:
                name = self.select(argument == 0, self.names[0].value, self.select(argument == 1, self.names[1].value,
                    self.select(argument == 2, self.names[2].value, self.names[3].value)))  # fmt: skip
                slot = (name << 3) + SLOTS
                with self.when(kind == lib.READ):
                    self.store(target, slot, 1)
                    self.next_turn(kind == lib.READ)
                with self.when(kind == lib.WRITTEN):
                    self.store(target, slot, 1)
                    with self.when(name == 0):
                        self.store(target - 3, addend, 4)
                    self.next_turn(kind == lib.WRITTEN)
                with self.when(kind == lib.IMM):
                    narrow(name)
                with self.when(kind == lib.SMALL):
                    self.store(target, name, 1)
                with self.when(kind == lib.FAR):
                    narrow(slot)
                with self.when(kind == lib.ACCESS):
                    self.note(P_ACCESS, where, self.pc.value)
                with self.when(kind == lib.OUT_SIDE):
                    self.note(P_SIDE, where, self.pc.value, argument)
                with self.when(kind == lib.OUT_TAKEN):
                    to = self.pc.value + name
                    value.set(to)
                    self.note(P_LINK, where, value.value)
                    self.later(value.value)
                with self.when(kind == lib.OUT_NEXT):
                    out(self.code + behind)
                with self.when(kind == lib.PC):
                    self.store(target, self.pc.value, 8)
                with self.when(kind == lib.FOLLOWING):
                    self.store(target, self.pc.value + self.length.value, 8)
                with self.when(kind == lib.BEHIND):
                    self.note(P_BEHIND, where, self.pc.value)
                with self.when(kind == lib.OUT_MISS):
                    out(self.missing)
                with self.when(kind == lib.OUT_NATIVE):
                    out(self.load(self.s + 8 * FOUND + (argument << 3), 8))

    def special(self, name: str) -> None:
        """Copy one of the stencils that are no instruction, with `params` and `wide`."""
        stencil = self.lib + self.load(self.lib + 4 * lib.HEADER.index(name), 4)
        behind = self.copy(stencil)
        self.fill(stencil, behind, special=True)
        self.at.set(behind)

    def instruction(self) -> None:
        """Copy the stencil of `form`, with the fields of `word`."""
        form = self.lib + self.form.value
        count = self.load(form + 12, 4)
        at = self.variable(form + 16)
        for number, variable in enumerate(self.names):
            with self.when(count > number):
                pieces = self.load(at.value, 4)
                sign = self.load(at.value + 4, 4)
                total = self.variable(self.load(at.value + 8, 4))
                at.add(12)
                end = at.value + pieces * 12
                with self.loop():
                    piece = at.value
                    self.leave_loop(piece == end)
                    mask = self.let(f"sub i64 {self.let(f'shl i64 1, {self.load(piece + 4, 4).text}').text}, 1")
                    bits = (self.word.value >> self.load(piece, 4)) & mask
                    total.add(bits << self.load(piece + 8, 4))
                    at.set(piece + 12)
                with self.when(sign != 0):
                    shift = self.let(f"sub i64 64, {sign.text}")
                    up = total.value << shift
                    total.set(self.let(f"ashr i64 {up.text}, {shift.text}"))
                variable.set(total.value)
        stencil = self.lib + self.load(form, 4)
        behind = self.copy(stencil)
        self.fill(stencil, behind, special=False)
        self.at.set(behind)

    # --- decoding ---------------------------------------------------------------------------------------

    def decode(self) -> None:
        """`word`, `length` and `form` of the instruction at `pc`; form 0 is the monitor's."""
        where = self.memory + self.pc.value
        parcel = self.load(where, 2)
        self.form.set(0)
        self.length.set(2)
        self.word.set(parcel)
        self.looked_at(2)
        with self.when((parcel & 3) != 3):
            table = self.lib + self.load(self.lib + 4 * lib.HEADER.index("parcels"), 4)
            self.form.set(self.load(table + (parcel << 2), 4))
        whole = self.either((self.pc.value & 4095) != 4094, self.beyond != 0)
        with self.when(self.both((parcel & 3) == 3, whole)):
            self.length.set(4)
            self.word.set(self.whole_word(where, parcel))
            self.looked_at(4)
            word = self.word.value
            buckets = self.lib + self.load(self.lib + 4 * lib.HEADER.index("buckets"), 4)
            pair = buckets + ((((word >> 2) & 31) | (((word >> 12) & 7) << 5)) << 3)
            candidate = self.variable(self.lib + self.load(pair, 4))
            end = candidate.value + self.load(pair + 4, 4) * 12
            with self.loop():
                self.leave_loop(candidate.value == end)
                known = candidate.value
                candidate.set(known + 12)
                self.next_turn((word & self.load(known, 4)) != self.load(known + 4, 4))
                self.form.set(self.load(known + 8, 4))
                candidate.set(end)

    def whole_word(self, where: Value, parcel: Value) -> Value:
        """The 32-bit instruction that begins there, with this half."""
        return self.load(where, 4)

    def begin_tail(self) -> None:
        """What comes before an instruction that lies in two pages."""

    def not_here(self) -> None:
        """Copy the way out to the monitor, for the instruction at `pc`."""
        self.params[1].set(0)
        self.params[2].set(CALLOUT)
        self.special("callout")

    def looked_at(self, length: int) -> None:
        """Code depends on so many bytes at `pc`. In a process it depends on all of a page."""

    # --- blocks -----------------------------------------------------------------------------------------

    def settle(self, blocks: Value) -> None:
        """The segment is complete: its price, and what its ways out give back."""
        total = (self.n.value << BUDGET_SHIFT) - blocks
        self.store(self.writes + self.price.value, total, 4)
        with self.loop():
            self.leave_loop(self.settled.value == self.pending.value)
            at = self.work + self.settled.value + PENDING
            rest = self.n.value - self.load(at + 24, 8)
            with self.when((self.load(at, 8) >> 40) == P_BEHIND):
                self.store(self.writes + (self.load(at, 8) & 0xFFFFFFFF), rest, 4)
            self.store(at + 24, (rest << BUDGET_SHIFT) - blocks, 8)
            self.settled.add(32)
        self.n.set(0)

    def write(self) -> Function:
        one = self.let("add i64 0, 1")
        zero = self.let("add i64 0, 0")
        self.store(self.work, self.pc.value, 8)
        self.todo.set(8)
        with self.loop():
            self.leave_loop(self.todo.value == 0)
            self.todo.set(self.todo.value - 8)
            self.pc.set(self.load(self.work + self.todo.value, 8))
            inside = self.both(self.given["inside"] != 0, self.first.value == 0)
            there = self.variable(0)
            with self.when(self.no(inside)):
                there.set(self.select(self.is_missing(self.pc.value), 0, 1))
            self.next_turn(there.value != 0)
            self.next_turn(self.both(self.first.value != 0, self.made.value >= MOST))
            with self.loop():  # this block, and what follows it in a row
                self.block(inside, one, zero)
                self.leave_loop(self.falls.value == 0)
                near = self.both((self.pc.value >> 12) == self.page, self.made.value < MOST)
                self.falls.set(0)
                with self.when(near):
                    self.falls.set(self.select(self.is_missing(self.pc.value), 1, 0))
                with self.when(self.falls.value == 0):
                    self.store(self.writes + self.at.value, 0xE9, 1)
                    self.note(P_LINK, self.at.value + 1, self.pc.value)
                    self.at.add(5)
                self.settled.set(self.pending.value)
                self.leave_loop(self.falls.value == 0)
            self.settled.set(self.pending.value)
        self.out_of_line()
        self.set_field(CODE_USED, (self.at.value + 15) & ~15)
        self.set_field(MADE_INSTRUCTIONS, self.field(MADE_INSTRUCTIONS) + self.made.value)
        self.give(self.first.value)
        return self

    def block(self, inside: Value, one: Value, zero: Value) -> None:
        """From `pc` to the end of the block; `falls` says whether the guest goes on at `pc` then."""
        begin = self.code + self.at.value
        self.n.set(0)
        self.params[0].set(0)
        head = self.select(self.both(inside, self.first.value == 0), 0, 1)
        with self.when(head != 0):
            counter = self.field(COUNTERS_USED)
            self.set_field(COUNTERS_USED, counter + 1)
            self.set_field(MADE_BLOCKS, self.field(MADE_BLOCKS) + 1)
            self.params[1].set((counter << 2) + COUNTERS)
            self.store(self.s + self.params[1].value, self.field(HOT_AFTER), 4)
            self.store(self.s + self.place(self.pc.value), begin, 8)
            self.special("head")
            self.cost.set(self.places[1].value)
        with self.when(head == 0):
            self.begin_tail()
            self.special("segment")
        start = self.let(f"add i64 {self.at.value.text}, 0")
        with self.when(self.first.value == 0):
            self.first.set(begin)
        self.price.set(self.places[0].value)
        self.floats.set(0)
        with self.loop():
            self.decode()
            self.falls.set(0)
            with self.when(self.form.value == 0):
                self.settle(zero)
                self.wide.set(self.pc.value)
                self.not_here()
            self.leave_loop(self.form.value == 0)
            self.instruction()
            self.n.add(1)
            self.made.add(1)
            flags = self.load(self.lib + self.form.value + 4, 4)
            following = self.pc.value + self.length.value
            ends = self.either((flags & lib.ENDS) != 0, (following >> 12) != (self.pc.value >> 12))
            self.pc.set(following)
            self.falls.set(self.select((flags & lib.FALLS) != 0, 1, 0))
            self.floats.set(self.floats.value + self.select((flags & lib.FLOATS) != 0, 1, 0))
            with self.when(ends):
                self.settle(one)
            self.leave_loop(ends)
            with self.when(self.n.value == SEGMENT):
                self.settle(zero)
                self.params[0].set(0)
                self.special("segment")
                self.price.set(self.places[0].value)
        with self.when(head != 0):
            self.weigh(self.at.value - start)

    def weigh(self, size: Value) -> None:
        """An execution of the block counts for one, or for more if so many bytes of code take longer, or floats do."""
        times = (size >> WEIGHT) + self.floats.value
        self.store(self.writes + self.cost.value, self.select(times == 0, 1, times), 4)

    def link(self, pc: Value) -> None:
        """Code that goes on at `pc`, by its entry in the directory."""
        self.params[1].set(self.place(pc))
        self.special("link")

    def out_of_line(self) -> None:
        """What the notes ask for."""
        note = self.variable(0)
        last_pc, last_at = self.variable(-1), self.variable(0)  # the last way out made
        last_reason = self.variable(NO_REASON)
        to = self.variable(0)
        with self.loop():
            self.leave_loop(note.value == self.pending.value)
            at = self.work + note.value + PENDING
            note.add(32)
            kind = self.load(at, 8) >> 40
            where = self.load(at, 8) & 0xFFFFFFFF
            pc = self.load(at + 8, 8)
            reason = self.load(at + 16, 8)
            self.next_turn(kind == P_BEHIND)
            with self.when(kind == P_LINK):
                to.set(0)
                with self.when((pc >> 12) == self.page):
                    known = self.entry(pc)
                    with self.when(known - self.code < self.field(CODE_SIZE)):
                        with self.when(known != self.missing):
                            to.set(known)
                with self.when(self.both(to.value == 0, pc > self.farthest)):
                    to.set(self.code + self.at.value)
                    self.wide.set(pc)
                    self.params[1].set(0)
                    self.params[2].set(MISS)
                    self.special("side")
                with self.when(to.value == 0):
                    to.set(self.code + self.at.value)
                    self.wide.set(pc)
                    self.link(pc)
                self.store(self.writes + where, to.value - (self.code + where) - 4, 4)
                last_reason.set(NO_REASON)
            self.next_turn(kind == P_LINK)
            # The ways out of one head lie together, as do those of one instruction: they share what is made.
            same = self.both(last_pc.value == pc, last_reason.value == reason)
            with self.when(self.both(kind == P_HEAD, self.no(same))):
                last_at.set(self.at.value)
                last_pc.set(pc)
                last_reason.set(reason)
                self.wide.set(pc)
                self.special("late")
            with self.when(self.both(kind != P_HEAD, self.no(same))):
                last_at.set(self.at.value)
                last_pc.set(pc)
                last_reason.set(reason)
                self.wide.set(pc)
                self.params[1].set(self.load(at + 24, 8))
                self.params[2].set((reason << 3) | SIDE)
                self.special("side")
            with self.when(kind != P_ACCESS):
                self.store(self.writes + where, last_at.value - where - 4, 4)
            with self.when(kind == P_ACCESS):
                self.store(self.faults + ((where >> 1) << 2), last_at.value, 4)


class _MachineCopier(_Copier):
    """translate, for a machine. A page's table is in the current entry for fetches; other pages are looked up there
    whenever code goes on in them.

    An instruction that lies in two pages is copied by itself, when it is come to (`inside` is CROSSING, and the second
    page is known). Its copy assumes neither where the second page is nor what is in it: both are looked at each time.
    """

    farthest = (1 << 64) - 1

    def __init__(self, found: Translations) -> None:
        self._found = found
        super().__init__()

    def source(self) -> tuple[Value, Value]:
        found, pc = self._found, self.given["pc"]
        row = self.field(HIGHEST) + (((pc >> 7) & (((1 << found.fetch_bits) - 1) << 5)) + found.fetches)
        with self.when(self.load(row, 8) != (self.page << 12)):
            self.give(0)
        self.table = self.load(row + 8, 8)
        with self.when(self.load(self.s + self.let(f"udiv i64 {self.table.text}, {TABLE}") + OPEN, 1) == 0):
            self.give(0)
        behind = (pc & -PAGE) + PAGE
        self.other = (((behind >> 7) & (((1 << found.fetch_bits) - 1) << 5)) + found.fetches)
        return self.load(row + 16, 8), self.select(self.given["inside"] == CROSSING, 1, 0)

    def half(self) -> Value:
        """The first two bytes of the page behind."""
        behind = (self.given["pc"] & -PAGE) + PAGE
        return self.load(self.load(self.field(HIGHEST) + self.other + 16, 8) + behind, 2)

    def whole_word(self, where: Value, parcel: Value) -> Value:
        word = self.variable(0)
        cut = (self.pc.value & PAGE - 1) == PAGE - 2
        with self.when(cut):
            word.set(parcel | (self.half() << 16))
        with self.when(self.no(cut)):
            word.set(self.load(where, 4))
        return word.value

    def begin_tail(self) -> None:
        with self.when(self.given["inside"] == CROSSING):
            self.wide.set((self.given["pc"] & -PAGE) + PAGE)
            self.params[1].set(self.other)
            self.params[2].set(self.half())
            self.special("cross")

    def not_here(self) -> None:
        cut = self.both((self.pc.value & PAGE - 1) == PAGE - 2, (self.word.value & 3) == 3)
        with self.when(cut):
            self.special("tail")
        with self.when(self.no(cut)):
            super().not_here()

    def place(self, pc: Value) -> Value:
        """The same, but of this page only."""
        return self.table + ((pc & 4094) << 2) + TABLES

    def link(self, pc: Value) -> None:
        self.special("link")

    def looked_at(self, length: int) -> None:
        place = self.s + (self.table >> 3) + ((self.pc.value & 4095) >> 1) + COPIED
        beyond = (self.pc.value & PAGE - 1) + length > PAGE
        with self.when(self.no(beyond)):
            self.store(place, sum(1 << 8 * i for i in range(length // 2)), length // 2)


def translate(target: Target) -> str:
    """The function's text."""
    copier = _Copier() if target.translations is None else _MachineCopier(target.translations)
    return copier.write().text()
