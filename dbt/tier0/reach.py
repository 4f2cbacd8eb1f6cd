"""What a machine's addresses mean, in native code: no Python where a translation is not known, in a trap, or at a
change of address space. Here it is written, in `dbt.tier0.native`'s notation.

    reach(state, address, size, kind)       the host address of an access (kind 0: a load, 1: a store, 2: a fetch,
                                            from 3 on: a load of the guest's own kind) that is going to be made at once;
                                            0: the monitor makes it. What can be remembered is entered into the current
                                            set of translations, of the first three kinds
    written(state, physical, size, asking)  these bytes of table entries are about to change: what was found through
                                            them is forgotten. `asking`: 1 and nothing is done if code that may be
                                            running would be
    mark(state, at, covers, owner)          this table entry has led to something: which addresses its page covers, and
                                            whose; either may be MANY
    second(state, guest, ...)               where a guest-physical address leads, if there are two stages of tables;
                                            MISSING: nowhere, or the monitor makes the access
    protect(state, page)                    stores to this page of RAM must come to `reach` from now on
    remap(state)                            select the set of the hart's context, or the one in which nothing is known
    tail(state, pc)                         the copy of the instruction at `pc`, which lies in two pages; 0: the monitor
                                            executes it. `tail_again`: what the copy was made from may have changed
    refuse(state, pc, cause)                raise the trap of the illegal instruction at `pc`, whose value it is; not of
                                            one that may lie in two pages
    take(state, pc, left)                   enter the trap that was raised at `pc`: the handler's address; 0: the
                                            monitor takes it

The walk is the guest's (`Privileged.walk`), and so is what a trap does. Whatever is not common returns 0, and is done
by the monitor, whose meaning is the reference's.
What was found is never stale: the record of a page (`dbt.machine.pages`) says which of its table entries have led to
something, and a store to one of these forgets it, in all sets of its owner. A page that is written often is being
filled or given back: all that was found in it goes, and it is no table any more until a walk reads it again.
Owns: these functions. Must not know: the form of tables, causes, modes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from dbt.machine import pages
from dbt.state import (
    CONTEXT,
    CONTEXTS,
    COPIED,
    ENTRY_BITS,
    FETCH_BITS,
    FETCHES,
    HARTS,
    HARTS_COUNT,
    HIGHEST,
    LOADS,
    LOG,
    LOG_END,
    MODES,
    NO_ADDRESS,
    NO_PAGE,
    NOWHERE,
    OPEN,
    PAIR,
    PAIR_BITS,
    PAIR_FACTORS,
    PAIRS,
    PATH,
    RAISED,
    RAISED_VALUE,
    RAM_BASE,
    RAM_HOST,
    RECENT,
    RECENT_MOST,
    RECORDS,
    SET,
    SETS,
    SETS_MOST,
    STAGE_BASE,
    STAGE_HOST,
    STAGE_SIZE,
    STAMP,
    STORES,
    TABLE,
    TAIL,
    TAILS,
    TOLD,
    TRAPPED_AT,
    TRAPPED_LEFT,
    TRAPS,
    WANTED,
    WINDOWS,
)
from dbt.tier0.native import Body, Function, OnState, Value
from guests.spec import Privileged

PAGE_SHIFT = 12
PAGE = 1 << PAGE_SHIFT
LEVELS_SHIFT = 3  # in COVERS: the level below, the number of levels above
LEVEL_BITS = 9  # of an address, for each level of tables
IN_USE = 1 << 63  # of a context
MISSING = (1 << 64) - 1  # no physical address
KINDS = 2  # the last of those that every guest has: loads, stores, fetches


class _Walk(OnState):
    """What a guest's walk asks for. `nothing` is given where there is no address for the caller."""

    nothing = 0

    def __init__(self, log: bool, name: str, *parameters: str) -> None:
        super().__init__(name, *parameters)
        self.log = log
        self.physical = self.variable(0)

    def refuse(self) -> None:
        self.give(self.nothing)

    def refuse_if(self, condition: Value) -> None:
        with self.when(condition):
            self.give(self.nothing)

    def fault(self, cause: Value, address: Value) -> None:
        self.set_field(RAISED, cause + 1)
        self.set_field(RAISED_VALUE, address)
        self.give(self.nothing)

    def _host(self, physical: Value, window: Value | int) -> Value:
        """The host address of what lies in RAM, in a page that this mode (1: the highest) may use in all ways."""
        words = self.s + 8 * WINDOWS + (window << 4)
        self.refuse_if(physical - self.load(words, 8) >= self.load(words + 8, 8))
        return self.field(RAM_HOST) + (physical - self.field(RAM_BASE))

    def read_entry(self, at: Value, level: Value) -> Value:
        """Of tables that the machine alone writes nothing is noted: it says so itself."""
        entry = self.variable(0)
        apart = self.is_machines(at)
        with self.when(apart):
            entry.set(self.load(self.field(STAGE_HOST) + (at - self.field(STAGE_BASE)), 8))
        with self.when(self.no(apart)):
            entry.set(self.load(self._host(at, 0), 8))
            self.note_entry(at, entry.value)
        return entry.value

    def is_machines(self, at: Value) -> Value:
        """Whether an entry is one of the machine's own tables."""
        return at - self.field(STAGE_BASE) < self.field(STAGE_SIZE)

    def note_entry(self, at: Value, entry: Value) -> None:
        """An entry in RAM was read."""

    def write_entry(self, at: Value, value: Value) -> None:
        """What a walk marks changes nothing that is known."""
        found = record(self, at)
        self.refuse_if((self.load(found + pages.KIND, 8) & pages.CODE) != 0)
        host = self._host(at, 0)
        self.store(host, value, 8)
        if self.log:
            end = self.field(LOG_END)
            self.store(self.s + LOG + (end << 3), host, 8)
            self.set_field(LOG_END, end + 1)


class _Second(_Walk):
    """second: where the second stage leads. What was found is known to be so through `mark` at once.

    Its entries tell of guest-physical addresses, so a store to one of them forgets all.
    """

    nothing = MISSING

    def __init__(self, log: bool) -> None:
        super().__init__(log, "second", "guest", "access", "implicit", "kind", "address")
        self.guest, self.access, self.implicit, self.kind, self.address = (
            self.given[name] for name in ("guest", "access", "implicit", "kind", "address")
        )

    def note_entry(self, at: Value, entry: Value) -> None:
        with self.when(entry != 0):
            self.call("mark", self.s, at, pages.MANY, pages.MANY)

    def write(self, walk: Callable[[Any], None]) -> _Second:
        walk(self)
        self.give(self.physical.value)
        return self


class _Reach(_Walk):
    """reach."""

    def __init__(self, log: bool, tables: Callable[[OnState], Value]) -> None:
        super().__init__(log, "reach", "address", "size", "kind")
        self.tables = tables
        self.highest_mode = self.variable(0)
        self.levels = self.variable(0)  # of tables; 0: there are none
        self.level = self.variable(0)  # the last one that was read

    # --- for the walk -----------------------------------------------------------------------------------

    def fault(self, cause: Value, address: Value) -> None:
        """That of an access of the guest's own kinds is the monitor's."""
        self.refuse_if(self.given["kind"] > KINDS)
        super().fault(cause, address)

    def read_entry(self, at: Value, level: Value) -> Value:
        self.level.set(level)
        self.store(self.s + 8 * PATH + (level << 3), at, 8)
        return super().read_entry(at, level)

    def second(self, *arguments: Value | int) -> Value:
        """What the second stage says, or leave."""
        place = self.call("second", self.s, *arguments)
        with self.when(place == MISSING):
            with self.when(self.given["kind"] > KINDS):
                self.set_field(RAISED, 0)
            self.refuse()
        return place

    # --- what is known of pages ---------------------------------------------------------------------------

    def write(self, walk: Callable[[Any, Any, Any], None]) -> _Reach:
        address, size, kind = (self.given[name] for name in ("address", "size", "kind"))
        self.refuse_if(self.field(HIGHEST) == self.s + NOWHERE)
        self.refuse_if((address & PAGE - 1) + size > PAGE)
        walk(self, address, kind)
        physical = self.physical.value
        page = self._host(physical & -PAGE, self.highest_mode.value)
        host = page + (physical & PAGE - 1)
        with self.when(kind > KINDS):  # nothing is remembered of it
            self.give(host)
        found = record(self, physical)
        with self.when(self.both(kind == 1, self.load(found + pages.KIND, 8) != 0)):
            self._watched(physical, size, found)
            with self.when(self.load(found + pages.KIND, 8) != 0):
                self.give(host)
        self._mark(address)
        number = address >> PAGE_SHIFT
        with self.when(kind == 2):
            self._enter_code(number, physical, page)
            self.give(host)
        row = self.field(HIGHEST) + ((number & (1 << ENTRY_BITS) - 1) << 4)
        row = row + self.select(kind == 1, STORES, LOADS)
        self.store(row, number << PAGE_SHIFT, 8)
        self.store(row + 8, page - (number << PAGE_SHIFT), 8)
        with self.when(kind == 1):
            stored = self.load(found + pages.STORED, 8)
            fresh = self.either(stored == 0, stored == number + 1)
            self.store(found + pages.STORED, self.select(fresh, number + 1, pages.MANY), 8)
        self.give(host)
        return self

    def _watched(self, physical: Value, size: Value, found: Value) -> None:
        """A store to a page of tables, of code, or of both; leaves if it is the monitor's."""
        with self.when((self.load(found + pages.KIND, 8) & pages.TABLE) != 0):
            self.refuse_if(self.call("written", self.s, physical, size, 1) != 0)
        with self.when((self.load(found + pages.KIND, 8) & pages.CODE) != 0):
            table = self.load(found + pages.TABLE_OF, 8)
            self.refuse_if(self.either(table == 0, table == pages.MANY))
            looked_at = self.s + (table >> 3) + COPIED
            at = self.variable((physical & PAGE - 1) >> 1)
            end = ((physical & PAGE - 1) + size + 1) >> 1
            with self.loop():
                self.leave_loop(at.value >= end)
                self.refuse_if(self.load(looked_at + at.value, 1) != 0)
                at.add(1)

    def _mark(self, address: Value) -> None:
        """Note of all table entries of this walk that they have led to something."""
        with self.when(self.levels.value != 0):
            tables = self.tables(self)
            level = self.variable(self.level.value)
            with self.loop():
                this = level.value
                self.leave_loop(this == self.levels.value)
                level.set(this + 1)
                below = (this + 1) * LEVEL_BITS
                mask = self.power(self.levels.value * LEVEL_BITS) - 1
                first = (((address >> PAGE_SHIFT) & mask) >> below) << below
                covers = first | this | (self.levels.value << LEVELS_SHIFT)
                at = self.load(self.s + 8 * PATH + (this << 3), 8)
                with self.when(self.no(self.is_machines(at))):
                    self.call("mark", self.s, at, covers, tables)

    def _enter_code(self, number: Value, physical: Value, page: Value) -> None:
        """The entry for fetches, with the page's table if it has one and may be read."""
        row = self.field(HIGHEST) + (((number & (1 << FETCH_BITS) - 1) << 5) + FETCHES)
        known = self.both(self.load(row, 8) == (number << PAGE_SHIFT), self.load(row + 8, 8) != 0)
        with self.when(known):
            self.give(page + (physical & PAGE - 1))
        place = (physical - self.field(RAM_BASE)) >> PAGE_SHIFT
        at = self.variable((number * PAIR_FACTORS[0] + place * PAIR_FACTORS[1]) >> 64 - PAIR_BITS)
        table = self.variable(0)
        with self.loop():
            pair = self.s + PAIRS + at.value * PAIR
            self.leave_loop(self.load(pair, 8) == 0)
            at.set((at.value + 1) & (1 << PAIR_BITS) - 1)
            same = self.both(self.load(pair, 8) == number + 1, self.load(pair + 8, 8) == place)
            with self.when(same):
                table.set(self.load(pair + 16, 8))
            self.leave_loop(same)
        number_of = self.let(f"udiv i64 {table.value.text}, {TABLE}")
        with self.when(self.load(self.s + number_of + OPEN, 1) == 0):
            table.set(0)
        self.store(row, number << PAGE_SHIFT, 8)
        self.store(row + 8, table.value, 8)
        self.store(row + 16, page - (number << PAGE_SHIFT), 8)


def record(f: OnState, physical: Value) -> Value:
    """The record of a page of RAM."""
    return f.field(RECORDS) + (((physical - f.field(RAM_BASE)) >> PAGE_SHIFT) << pages.SHIFT)


def _mark() -> Function:
    f = OnState("mark", "at", "covers", "owner")
    at, given = f.given["at"], ((pages.COVERS, f.given["covers"]), (pages.OWNER, f.given["owner"]))
    found = record(f, at)
    with f.when((f.load(found + pages.KIND, 8) & pages.TABLE) == 0):
        f.store(found + pages.KIND, f.load(found + pages.KIND, 8) | pages.TABLE, 8)
        f.call("protect", f.s, (at - f.field(RAM_BASE)) >> PAGE_SHIFT)
        for word, now in given:
            f.store(found + word, now, 8)
        for i in range(8):
            f.store(found + (pages.USED + 8 * i), 0, 8)
    f.store(found + pages.WRITES, 0, 8)
    for word, now in given:
        same = f.load(found + word, 8) == now
        f.store(found + word, f.select(same, now, pages.MANY), 8)
    index = (at >> 3) & 511
    used = found + pages.USED + ((index >> 6) << 3)
    f.store(used, f.load(used, 8) | f.power(index & 63), 8)
    f.give(0)
    return f


def _for_each_hart(f: OnState, then: Callable[[Value], None]) -> None:
    """Do it with the address of each hart's state."""
    hart = f.variable(0)
    with f.loop():
        f.leave_loop(hart.value == f.field(HARTS_COUNT))
        state = f.load(f.field(HARTS) + (hart.value << 3), 8)
        hart.add(1)
        then(state)


def _in_each_set(f: OnState, then: Callable[[Value, Value], None]) -> None:
    """Do it for all sets of all harts that are in use: with a set's address, and whose tables it is of."""
    number = f.variable(0)

    def sets(state: Value) -> None:
        number.set(0)
        with f.loop():
            f.leave_loop(number.value == SETS_MOST)
            this = number.value
            number.add(1)
            words = state + 8 * CONTEXTS + this * (8 * CONTEXT)
            f.next_turn(f.load(words, 8) == 0)
            then(state + SETS + this * SET, f.load(words + 8, 8))

    _for_each_hart(f, sets)


def _forget(f: OnState, entries: Value, kind: int, first: Value, count: Value, mask: Value) -> None:
    """Entries of one kind in a set that are of `count` pages from `first` on, modulo the addresses of the tables."""
    offset, bits, shift = ((LOADS, ENTRY_BITS, 4), (STORES, ENTRY_BITS, 4), (FETCHES, FETCH_BITS, 5))[kind]
    i = f.variable(0)
    most = f.select(count > (1 << bits), 1 << bits, count)
    with f.loop():
        f.leave_loop(i.value == most)
        row = entries + (((first + i.value) & (1 << bits) - 1) << shift) + offset
        i.add(1)
        tag = f.load(row, 8) >> PAGE_SHIFT
        with f.when(((tag - first) & mask) < count):
            f.store(row, NO_PAGE, 8)


def _forget_recent(f: OnState, state: Value) -> None:
    """What accesses of a hart's regions have found last, in the set that it uses."""
    for pair in range(RECENT, RECENT + 4 * RECENT_MOST, 2):
        f.store(state + 8 * pair, NO_ADDRESS, 8)
        f.store(state + (8 * pair + 8), (1 << 64) - NO_ADDRESS, 8)


def _written() -> Function:
    f = OnState("written", "physical", "size", "asking")
    physical, size, asking = (f.given[name] for name in ("physical", "size", "asking"))
    _for_each_hart(f, partial(_forget_recent, f))
    found = record(f, physical)
    writes = f.load(found + pages.WRITES, 8) + 1
    f.store(found + pages.WRITES, writes, 8)
    often = writes >= pages.OFTEN
    offset = physical & PAGE - 1
    index = f.variable(f.select(often, 0, offset >> 3))
    last = f.select(often, 511, (offset + size - 1) >> 3)
    covers, owner = f.load(found + pages.COVERS, 8), f.load(found + pages.OWNER, 8)
    level, levels = covers & 7, (covers >> LEVELS_SHIFT) & 7
    start = (covers >> LEVEL_BITS) << LEVEL_BITS
    mask = f.power(levels * LEVEL_BITS) - 1
    with f.loop():
        f.leave_loop(index.value > last)
        this = index.value
        used = found + pages.USED + ((this >> 6) << 3)
        bits = f.load(used, 8)
        with f.when(bits == 0):
            index.set((this | 63) + 1)
        f.next_turn(bits == 0)
        bit = f.power(this & 63)
        index.set(this + 1)
        f.next_turn((bits & bit) == 0)
        with f.when(covers == pages.MANY):
            with f.when(asking != 0):
                f.give(1)
            f.call("forget", f.s)
        with f.when(covers != pages.MANY):
            first = start + (this << level * LEVEL_BITS)
            count = f.power(level * LEVEL_BITS)
            with f.when(asking != 0):  # code of a page that goes might be running
                i = f.variable(0)
                most = f.select(count > (1 << FETCH_BITS), 1 << FETCH_BITS, count)
                with f.loop():
                    f.leave_loop(i.value == most)
                    row = f.field(HIGHEST) + (((first + i.value) & (1 << FETCH_BITS) - 1) << 5) + FETCHES
                    i.add(1)
                    tag = f.load(row, 8)
                    hit = f.both(tag != NO_PAGE, (((tag >> PAGE_SHIFT) - first) & mask) < count)
                    with f.when(hit):
                        f.give(1)

            def each(entries: Value, tables: Value) -> None:
                with f.when(f.either(owner == pages.MANY, tables == owner)):
                    for kind in range(3):
                        _forget(f, entries, kind, first, count, mask)

            _in_each_set(f, each)
        f.store(used, f.load(used, 8) & f.let(f"xor i64 {bit.text}, -1"), 8)
    with f.when(often):
        f.store(found + pages.KIND, f.load(found + pages.KIND, 8) & pages.CODE, 8)
    f.give(0)
    return f


def _forget_all() -> Function:
    """forget(state): nothing is known in any set."""
    f = OnState("forget")

    def each(entries: Value, tables: Value) -> None:
        for kind, bits in enumerate((ENTRY_BITS, ENTRY_BITS, FETCH_BITS)):
            _forget(f, entries, kind, f.let("add i64 0, 0"), f.let(f"add i64 0, {1 << bits}"), f.let("add i64 0, 0"))

    _in_each_set(f, each)
    f.give(0)
    return f


def _protect() -> Function:
    f = OnState("protect", "page")
    found = f.field(RECORDS) + (f.given["page"] << pages.SHIFT)
    stored = f.load(found + pages.STORED, 8)
    f.store(found + pages.STORED, 0, 8)
    _for_each_hart(f, partial(_forget_recent, f))
    host = f.field(RAM_HOST) + (f.given["page"] << PAGE_SHIFT)
    with f.when(stored == 0):
        f.give(0)

    def each(entries: Value, tables: Value) -> None:
        with f.when(stored == pages.MANY):  # wherever it is
            i = f.variable(0)
            with f.loop():
                f.leave_loop(i.value == 1 << ENTRY_BITS)
                row = entries + (i.value << 4) + STORES
                i.add(1)
                with f.when(f.load(row, 8) + f.load(row + 8, 8) == host):
                    f.store(row, NO_PAGE, 8)
        with f.when(stored != pages.MANY):
            row = entries + (((stored - 1) & (1 << ENTRY_BITS) - 1) << 4) + STORES
            with f.when(f.load(row, 8) + f.load(row + 8, 8) == host):
                f.store(row, NO_PAGE, 8)

    _in_each_set(f, each)
    f.give(0)
    return f


def _remap(privileged: Privileged, link: Callable[[Any], None]) -> Function:
    f = OnState("remap")
    _forget_recent(f, f.s)
    first, *more = privileged.context(Body(f, link, lambda: None))
    context = (first | IN_USE, *more)
    f.set_field(STAMP, f.field(STAMP) + 1)
    number = f.variable(0)
    with f.loop():
        f.leave_loop(number.value == SETS_MOST)
        this = number.value
        number.add(1)
        words = f.s + 8 * CONTEXTS + this * (8 * CONTEXT)
        for i, word in enumerate(context):
            f.next_turn(f.load(words + 8 * i, 8) != word)
        f.store(words + 8 * (CONTEXT - 1), f.field(STAMP), 8)
        f.set_field(HIGHEST, f.s + SETS + this * SET)
        f.give(f.s + SETS + this * SET)
    for i, word in enumerate(context):
        f.set_field(WANTED + i, word)
    f.set_field(HIGHEST, f.s + NOWHERE)
    f.give(f.s + NOWHERE)
    return f


def _take(privileged: Privileged, link: Callable[[Any], None]) -> Function:
    f = OnState("take", "pc", "left")
    cause = f.field(RAISED) - 1
    f.set_field(RAISED, 0)
    mode = privileged.mode(Body(f, link, lambda: None))
    told = f.load(f.s + 8 * TOLD + (mode << 3), 8)
    with f.when((told >> cause & 1) != 0):
        f.give(0)
    again = f.both(f.field(TRAPPED_AT) == f.given["pc"], f.field(TRAPPED_LEFT) == f.given["left"])
    f.set_field(TRAPPED_AT, f.given["pc"])
    f.set_field(TRAPPED_LEFT, f.given["left"])
    with f.when(again):  # a handler that traps at once would do so for ever
        f.set_field(TRAPPED_AT, 1)
        f.give(0)
    count = f.s + 8 * TRAPS + cause * (8 * MODES) + (mode << 3)
    f.store(count, f.load(count, 8) + 1, 8)
    remap = lambda: f.put(f"call preserve_mostcc i64 @remap(i64 {f.s.text})")
    f.give(privileged.enter(Body(f, link, remap), f.given["pc"], cause, f.field(RAISED_VALUE)))
    return f


def _refuse() -> Function:
    f = OnState("refuse", "pc", "cause")
    pc = f.given["pc"]
    host = f.let(f"call preserve_mostcc i64 @reach(i64 {f.s.text}, i64 {pc.text}, i64 4, i64 2)")
    f.set_field(RAISED, 0)
    with f.when(host != 0):
        word = f.load(host, 4)
        f.set_field(RAISED, f.given["cause"] + 1)
        f.set_field(RAISED_VALUE, f.select((word & 3) == 3, word, word & 0xFFFF))
    f.give(0)
    return f


def _tail(again: bool) -> Function:
    f = OnState("tail_again" if again else "tail", "pc")
    pc = f.given["pc"]
    row = f.field(HIGHEST) + (((pc >> PAGE_SHIFT & (1 << FETCH_BITS) - 1) << 5) + FETCHES)

    def reached(address: Value) -> None:
        host = f.let(f"call preserve_mostcc i64 @reach(i64 {f.s.text}, i64 {address.text}, i64 2, i64 2)")
        f.set_field(RAISED, 0)
        with f.when(host == 0):
            f.give(0)

    with f.when(f.load(row, 8) != (pc & -PAGE)):
        reached(pc)
    number = f.let(f"udiv i64 {f.load(row + 8, 8).text}, {TABLE}")
    with f.when(f.load(f.s + number + OPEN, 1) == 0):
        f.give(0)
    place = f.s + TAILS + number * TAIL
    if again:
        behind = pc + 2
        reached(behind)
        other = f.field(HIGHEST) + (((behind >> PAGE_SHIFT & (1 << FETCH_BITS) - 1) << 5) + FETCHES)
        now = f.load(f.load(other + 16, 8) + behind, 2)
        with f.when(now != f.load(place + 8, 8)):
            f.store(place, 0, 8)
    with f.when(f.load(place, 8) == 0):
        if not again:
            f.give(f.call("tail_again", f.s, pc))
        else:
            f.store(place + 8, now, 8)
            f.store(place, f.call("translate", f.s, pc, 2), 8)
    f.give(f.load(place, 8))
    return f


def functions(privileged: Privileged, link: Callable[[Any], None], log: bool) -> list[str]:
    """The text of all of them. `link` gives a domain the guest's register files; `log`: stores are noted."""
    reach = _Reach(log, lambda f: privileged.tables(Body(f, link, lambda: None)))
    made = [_forget_all(), _written(), _protect(), _mark(), _refuse(), _take(privileged, link), _tail(True)]
    made.append(_tail(False))
    if privileged.second is not None:
        made.append(_Second(log).write(privileged.second))
    kept = [_remap(privileged, link), reach.write(privileged.walk)]  # called from code that keeps values in registers
    return [*(one.text() for one in made), *(one.text("preserve_mostcc") for one in kept)]
