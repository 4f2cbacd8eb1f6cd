"""The translating engine of a hart: the run loop is that of a process, what code is made from is a machine's memory.

A region lies in one page of addresses, so it assumes no other page's mapping; what leads out of the page goes through
tier 0, which looks at the entry for fetches. Its code is known by its place (`dbt.machine.tier0`), its bytes by where
they are in RAM. Owns: the difference. Must not know: page tables, devices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from dbt.block import Key, Made, Translation
from dbt.cache import TranslationCache
from dbt.engine import Translated
from dbt.hosts import select
from dbt.machine.memory import PAGE_SHIFT, Memory
from dbt.machine.pages import MANY, TABLE_OF
from dbt.machine.tlb import TlbSpace
from dbt.options import Options
from dbt.state import MADE_BLOCKS, MADE_INSTRUCTIONS, State
from guests.spec import Decoded
from ir.records import replace

if TYPE_CHECKING:
    from random import Random

    from dbt.cache.disk import Disk
    from dbt.code import Code
    from dbt.machine.tier0 import MachineTier0
    from dbt.regions import Request


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


class PageProfile:
    """What is known of how blocks of one page ran, for a region there. `place` is added to their addresses."""

    def __init__(self, engine: MachineTranslated, page: int, place: int) -> None:
        self._engine = engine
        self._page = page
        self._place = place

    def executions(self, pc: int) -> int:
        return self._engine.executions(pc + self._place) if pc >> PAGE_SHIFT == self._page else 0

    def ways(self, pc: int) -> tuple[int, ...]:
        return self._engine.ways(pc + self._place)


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

    def _cold_code(self) -> int | None:
        return None if self.monitor.watch is not None else super()._cold_code()

    def _new_coherence(self) -> MachineCoherence:
        coherence = MachineCoherence(self._memory, self.cache)
        coherence.changed, coherence.noted = self._changed, self._made
        return coherence

    # --- tier 0, and what is known of code by its place ---------------------------------------------------

    def _new_tier0(self, library: bytes, natives: Code) -> MachineTier0:
        from dbt.machine.tier0 import MachineTier0

        return MachineTier0(
            self.state, library, natives, self.options.promote, self._may_open, self._opened, self.cache.clear,
            self._gone, self.space,
        )  # fmt: skip

    def _may_open(self, page: int) -> bool:
        """Have the copier read a page of RAM: from now on its bytes are looked after."""
        self.coherence.copied(page)
        place = self.space.ram.number(page)
        if place is not None and self._memory.told(page):  # stores to it are the monitor's, whatever they reach
            self.space.ram.records[place, TABLE_OF] = MANY
        return True

    def _gone(self, number: int) -> None:
        """Regions of this page of RAM go with its code of tier 0, which knew of which bytes stores must be told."""
        self.cache.invalidate(number << PAGE_SHIFT, number + 1 << PAGE_SHIFT)

    def _made(self, start: int, end: int) -> None:
        if self.tier0 is not None:
            self.tier0.looked_at(start, end)

    def _changed(self, start: int, end: int) -> bool:
        return self.tier0 is not None and self.tier0.changed(start, end)

    def _place(self, pc: int) -> int:
        if self.space.nowhere:  # native code has come into another context
            self.space.remap()
        return pc if self.tier0 is None else self.tier0.place(pc)

    def _address(self, place: int) -> int:
        """The guest address of a place; what is none is an address."""
        pair = None if self.tier0 is None else self.tier0.pair(place)
        return place if pair is None else pair[0] << PAGE_SHIFT | place & (1 << PAGE_SHIFT) - 1

    def _covers(self, place: int) -> bool:
        pair = None if self.tier0 is None else self.tier0.pair(place)
        return pair is not None and self.cache.covers(pair[1] << PAGE_SHIFT | place & (1 << PAGE_SHIFT) - 1)

    # --- regions ------------------------------------------------------------------------------------------

    def _request(self, key: Key) -> Request:
        """A region in the page of this key, from the bytes that the page has now."""
        from dbt.regions import Bytes, Request

        here = self._located(key[0])
        if here is None:
            return Request((key,), {}, {}, ())
        pc, first = here.blocks[0][0], here.blocks[0][0] & -1 << PAGE_SHIFT
        code = Bytes(((first, self._memory.peek(first + here.home, 1 << PAGE_SHIFT)),))
        profile = PageProfile(self, pc >> PAGE_SHIFT, here.place)
        made = self.translator.request((pc, key[1]), profile, self.translator.lifter_of(code))
        return made._replace(place=here.place, home=here.home)

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
        if pair is None:
            return None
        page, number = pair
        pc = page << PAGE_SHIFT | place & (1 << PAGE_SHIFT) - 1
        return Request(((pc, True),), {}, {}, (), place - pc, number - page << PAGE_SHIFT)

    def _keep(self, made: Made) -> None:
        """For later runs places are nothing: addresses are, and what is in their page."""
        here = self._located(made.key[0])
        if self.disk is not None and here is not None:
            addresses = here._replace(blocks=(made.key,), place=-here.place, home=-here.home)
            self.disk.keep([addresses.located(made)], lambda at, length: self._memory.peek(at + here.home, length))

    def _recall(self, disk: Disk, page: int, key: Key | None = None) -> None:
        here = self._located(page << PAGE_SHIFT if key is None else key[0])
        if here is None:
            return
        first = here.blocks[0][0] & -1 << PAGE_SHIFT
        wanted = None if key is None else (here.blocks[0][0], key[1])
        content = self._memory.peek(first + here.home, 1 << PAGE_SHIFT)
        found = [here._replace(blocks=(made.key,)).located(made)
                 for made in disk.find(first >> PAGE_SHIFT, content, wanted)]  # fmt: skip
        self._install_found(disk, found)

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
