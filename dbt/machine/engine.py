"""The translating engine of a hart: the run loop is that of a process, what code is made from is a machine's memory.

A region may lie in several pages of addresses. Where it goes from one into another it looks at the entry for fetches,
and leaves if that is not of the page that it was made from; what leads out of a page goes through tier 0, which looks
there too. Code is known by its place (`dbt.machine.tier0`), its bytes by where they are in RAM.
Owns: the difference. Must not know: page tables, devices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from dbt.block import Key, Made, Translation
from dbt.cache import TranslationCache
from dbt.engine import Translated
from dbt.hosts import select
from dbt.machine.memory import PAGE_SHIFT, Memory
from dbt.machine.pages import MANY, TABLE_OF
from dbt.machine.tlb import TlbSpace
from dbt.memory import PAGE_SIZE, MemoryFault
from dbt.options import Options
from dbt.state import FETCH_BITS, MADE_BLOCKS, MADE_INSTRUCTIONS, State
from guests.spec import Decoded
from ir.records import replace

if TYPE_CHECKING:
    from random import Random

    from dbt.cache.disk import Disk
    from dbt.code import Code
    from dbt.machine.tier0 import MachineTier0
    from dbt.regions import Home, Request


class MachineCoherence:
    """Keeps code true to the memory of a machine: what depends on a byte that is written goes, by whomever."""

    def __init__(self, memory: Memory, cache: TranslationCache) -> None:
        self.writes = 0  # writes seen to pages that code was made from
        self.changed: Callable[[int, int], bool] = lambda start, end: False  # told of them; is there other code there?
        self.noted: Callable[[int, int], None] = lambda start, end: None  # told of bytes that code was made from
        self._memory = memory
        self._cache = cache
        memory.watchers.append(self._written)

    def close(self) -> None:
        """Look no longer."""
        if self._written in self._memory.watchers:
            self._memory.watchers.remove(self._written)

    def copied(self, page: int) -> None:
        """Tier 0 copies from a page of RAM; from now on it is looked after."""
        self._memory.watch(page << PAGE_SHIFT, page + 1 << PAGE_SHIFT)

    def made(self, translation: Translation) -> None:
        """A translation was made; from now on its bytes are looked after."""
        for start, code in translation.source:
            self._memory.watch(start, start + len(code))
            self.noted(start, start + len(code))

    def patience(self, pc: int) -> int:
        """Code is made anew as often as it is written."""
        return 1

    def fence(self) -> None:
        """All writes are seen when they are made."""

    def _written(self, start: int, end: int) -> bool:
        self.writes += 1
        pages = range(start >> PAGE_SHIFT, (end - 1 >> PAGE_SHIFT) + 1)
        left = any(self._cache.in_page(page) for page in pages)
        return self.changed(start, end) or left


class Pages:
    """The pages of addresses that a region may lie in, as far as a hart's context knows them: their code, and how their
    blocks ran. `first` is that of its entry; if the hart is elsewhere now, it is the only one.
    """

    def __init__(self, engine: MachineTranslated, memory: Memory, first: int, home: Home) -> None:
        self._engine = engine
        self._memory = memory
        self.homes: dict[int, Home] = {first: home}
        self._rows = {first & (1 << FETCH_BITS) - 1: first}  # pages by the entry for fetches, which they must not share
        self._here = engine.home(first) == home

    def home(self, pc: int) -> Home | None:
        page = pc >> PAGE_SHIFT
        if page not in self.homes and self._here and self._rows.setdefault(page & (1 << FETCH_BITS) - 1, page) == page:
            home = self._engine.home(page)
            if home is not None:
                self.homes[page] = home
        return self.homes.get(page)

    # --- as a profile, and as code --------------------------------------------------------------------------

    def executions(self, pc: int, beside: int) -> int:
        home = self.home(pc)
        return self._engine.promotion.executions(pc + home[0], beside) if home else 0

    def ways(self, pc: int) -> tuple[int, ...]:
        home = self.home(pc)
        return self._engine.promotion.ways(pc + home[0]) if home else ()

    def peek(self, address: int, length: int) -> bytes:
        home = self.home(address)
        if home is None or (address & PAGE_SIZE - 1) + length > PAGE_SIZE:
            raise MemoryFault(address, "fetch", False)
        return self._memory.peek(address + home[1], length)

    def fetch(self, address: int) -> int:
        low = int.from_bytes(self.peek(address, 2), "little")
        return low if low & 3 != 3 else int.from_bytes(self.peek(address, 4), "little")


class MachineTranslated(Translated):
    """The engine of a hart. Raises UnsupportedHost."""

    tier0: MachineTier0 | None
    space: TlbSpace

    def __init__(
        self, state: State, space: TlbSpace, memory: Memory, wall_clock: Callable[[], int], options: Options
    ) -> None:
        select.host()  # raises UnsupportedHost
        self._memory = memory
        super().__init__(state, space, wall_clock, replace(options, jump_cache=False))
        self._awaited: dict[int, set[Key]] = {}  # page of addresses -> what is on disk and goes on there
        self.translator.keep = self._keep
        self.cache.guest_address = self._address

    @property
    def watch(self) -> Callable[[int, Decoded], None] | None:
        """As the reference's: while it is set, the monitor executes all instructions."""
        return self.monitor.watch

    @watch.setter
    def watch(self, seen: Callable[[int, Decoded], None] | None) -> None:
        self.monitor.watch = seen

    def kept(self) -> list[tuple[str, str]]:
        """What is kept to be faster, for people: (what, how much)."""
        words = self.state.words
        left = {name: f"{count:,}" for name, count in self.exits.items() if count}
        return [
            ("regions", f"{len(self.cache):,}, {self.cache.bytes:,} bytes"),
            ("stencils", f"{words[MADE_INSTRUCTIONS]:,} instructions in {words[MADE_BLOCKS]:,} blocks"),
            ("interpreted", f"{self.interpreted:,} instructions"),
            ("entered", f"{self.entries:,} times; left for: {', '.join(f'{k} {v}' for k, v in left.items())}"),
        ]

    def _cold_code(self, alone: bool) -> int | None:
        return None if self.monitor.watch is not None else super()._cold_code(alone)

    def _known_code(self, until: int) -> int | None:
        """Pages of addresses are known in their context only, which has to be asked for."""
        return None

    def _new_coherence(self) -> MachineCoherence:
        coherence = MachineCoherence(self._memory, self.cache)
        coherence.changed, coherence.noted = self._changed, self._made
        return coherence

    # --- tier 0, and what is known of code by its place ---------------------------------------------------

    def _new_tier0(self, library: bytes, natives: Code) -> MachineTier0:
        from dbt.machine.tier0 import MachineTier0

        return MachineTier0(
            self.state, library, natives, self.options.promote, self._may_open, self._opened, self.cache.clear,
            self.given_up, self.space,
        )  # fmt: skip

    def _may_open(self, page: int) -> range:
        """Have the copier read a page of RAM: from now on its bytes are looked after."""
        self.coherence.copied(page)
        place = self.space.ram.number(page)
        if place is not None and self._memory.told(page):  # stores to it are the monitor's, whatever they reach
            self.space.ram.records[place, TABLE_OF] = MANY
        return range(page, page + 1)

    def given_up(self, number: int) -> None:
        """Regions of this page of RAM go with its code of tier 0, which knew of which bytes stores must be told."""
        self.cache.invalidate(number << PAGE_SHIFT, number + 1 << PAGE_SHIFT)

    def _made(self, start: int, end: int) -> None:
        if self.tier0 is not None:
            self.tier0.looked_at(start, end)

    def _changed(self, start: int, end: int) -> bool:
        return self.tier0 is not None and self.tier0.changed(start, end)

    def place(self, pc: int) -> int:
        if self.space.nowhere:  # native code has come into another context
            self.space.remap()
        return pc if self.tier0 is None else self.tier0.place(pc)

    def _address(self, place: int) -> int:
        """The guest address of a place; what is none is an address."""
        pair = None if self.tier0 is None else self.tier0.pair(place)
        return place if pair is None else pair[0] << PAGE_SHIFT | place & (1 << PAGE_SHIFT) - 1

    def covers(self, place: int) -> bool:
        pair = None if self.tier0 is None else self.tier0.pair(place)
        return pair is not None and self.cache.covers(pair[1] << PAGE_SHIFT | place & (1 << PAGE_SHIFT) - 1)

    # --- regions ------------------------------------------------------------------------------------------

    def home(self, page: int) -> Home | None:
        """Where a page of addresses is in the hart's context, as far as that is known."""
        return None if self.tier0 is None else self.tier0.home(self.space.table(page << PAGE_SHIFT))

    def request(self, key: Key) -> Request:
        """A region that begins in the page of this key, from the bytes that its pages have now."""
        from dbt.regions import Request

        here = self._located(key[0])
        if here is None:
            return Request((key,), {}, {}, ())
        pc, ((first, home),) = here.blocks[0][0], here.homes.items()
        pages = Pages(self, self._memory, first, home)
        made = self.translator.request((pc, key[1]), pages, self.translator.lifter_of(pages))
        return made._replace(homes=pages.homes)

    def _holds(self, made: Made) -> bool:
        """Whether these bytes are still there, and the place as well."""
        if self.tier0 is None or self.tier0.pair(made.key[0]) is None:
            return False
        return all(self._memory.peek(start, len(code)) == code for start, code in made.source)

    def _warmed(self, key: Key) -> None:
        """Nothing is translated that has not run in tier 0."""

    def _located(self, place: int) -> Request | None:
        """A request in the page of this place that says where its addresses are; None if it is not known."""
        from dbt.regions import Request

        pair = None if self.tier0 is None else self.tier0.pair(place)
        if self.tier0 is None or pair is None:
            return None
        home = self.tier0.home(self.tier0.table(place))
        assert home is not None
        return Request(((place - home[0], True),), {}, {}, (), {pair[0]: home})

    def _keep(self, request: Request, made: Made) -> None:
        """For later runs places are nothing: addresses are, and what is in the page of the first."""
        home = request.homes.get(made.key[0] >> PAGE_SHIFT)
        if self.disk is not None and home is not None:
            self.disk.keep([made], lambda at, length: self._memory.peek(at + home[1], length))

    def _recall(self, disk: Disk, page: int, key: Key | None = None) -> None:
        """As in a process. What goes on in pages that the hart's context does not know waits until it does."""
        from dbt.regions import Request

        here, content = self._located(page << PAGE_SHIFT if key is None else key[0]), self.page(page)
        if here is None or content is None:
            return
        pc, ((first, home),) = here.blocks[0][0], here.homes.items()
        found = []
        for made in disk.find(*content, None if key is None else (pc, key[1])):
            pages = {start >> PAGE_SHIFT for start, _ in made.source}.union(made.pages.values())
            homes = {page: self.home(page) for page in pages} if pages != {first} else {first: home}
            unknown = [page for page, home in homes.items() if home is None]
            if unknown:
                self._awaited.setdefault(unknown[0], set()).add((made.key[0] + home[0], made.key[1]))
            elif homes[first] == home:
                found.append(Request((made.key,), {}, {}, (), cast("dict[int, Home]", homes)).located(made))
        self.install_found(disk, found)
        if key is None:
            self.promotion.remember(page, disk.ran(*content))

    def page(self, number: int) -> tuple[int, bytes] | None:
        """As in a process: places have no content, addresses have."""
        here = self._located(number << PAGE_SHIFT)
        if here is None:
            return None
        ((first, home),) = here.homes.items()
        return first, self._memory.peek((first << PAGE_SHIFT) + home[1], PAGE_SIZE)

    def _lacks(self, pages: range) -> bool:
        return self.disk is None  # which knows pages of addresses, and these are of places

    def _opened(self, pages: range) -> None:
        super()._opened(pages)
        for key in self._awaited.pop(self._address(pages.start << PAGE_SHIFT) >> PAGE_SHIFT, ()):
            if key not in self.cache and self.disk is not None:
                self._recall(self.disk, key[0] >> PAGE_SHIFT, key)

    def _disturb(self, chaos: Random) -> None:
        """As in a process."""
        match chaos.randrange(64):
            case 0:
                self.flush()
            case 1 | 2:
                self.space.forget()
            case 3:
                for _ in range(min(chaos.randrange(1, 8), len(self.cache))):
                    self.cache.evict()
            case 4 | 5 | 6 | 7:  # the next store into that page leaves and is done by the monitor
                slot = chaos.choice(self._memory.slots)
                at = slot.base + chaos.randrange(slot.size)
                self._memory.watch(at, at + 1)
