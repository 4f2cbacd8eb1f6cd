"""What is noted of a run, so that a piece of it can be explained: how often blocks ran and where, what translations
were made of, how those went that are gone, what was written to code.

Nothing of it changes what the run does: only calls that the engine makes anyway are looked at.
Owns: these notes. Must not know: which piece will be asked for, how anything is shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from dbt.departures import Departures

if TYPE_CHECKING:
    from dbt.block import Key, Translation
    from dbt.explain.hart import OnHart
    from dbt.explain.process import InProcess, Name
    from dbt.regions import Request
    from dbt.tier0 import Tier0

MOST = 100_000  # notes of a kind


class Gone(NamedTuple):
    """A translation that was dropped, of which code: why, at which count of instructions, where the guest was."""

    name: Name
    why: str
    instructions: int
    pc: int


class Written(NamedTuple):
    """A change of guest memory that code was made from: the bytes, what had to go for it, as of `Gone`, and by whom if
    it was not that instruction alone.
    """

    start: int
    end: int
    translations: int
    stencils: bool
    instructions: int
    pc: int
    by: str


class Watch:
    """The notes of one engine that translates, which must not have run yet."""

    def __init__(self, where: InProcess | OnHart) -> None:
        self.interpreted: Counter[Name] = Counter()  # times that a block was interpreted from there
        self.stepped: Counter[Name] = Counter()  # instructions that the monitor executed one by one
        self.requests: dict[Key, Request] = {}
        self.gone: list[Gone] = []
        self.written: list[Written] = []
        self._where = where
        self._engine: Any = where.engine
        self._ran: Counter[Name] = Counter()  # in tier 0, counted by counters that are no longer
        self._given: dict[int, int] = {}  # what a counter began with, where that is not what all begin with
        self._asking = False
        self._disk: Any = None  # stencils come from there, and go there

    def attach(self) -> None:
        """Begin. Translations are made here and now: none is taken from disk, for that does not say what it is of."""
        engine = self._engine
        self._disk, engine.disk = engine.disk, None
        engine.translator.keep = lambda request, made: None
        Departures(engine, self._note_gone, self._where.ways_out)
        self._where.listen(self._note_written)
        engine.monitor.run = self._counting(self.interpreted, engine.monitor.run)
        engine.monitor.step = self._counting(self.stepped, engine.monitor.step)
        engine.monitor.system_call = lambda: None  # all go the long way, where it is seen
        request, make = engine.request, engine.translator.backend.tier0

        def noted(key: Key) -> Request:
            found: Request = request(key)
            self.requests[key] = found
            return found

        def made(*arguments: Any) -> Tier0:
            tier: Any = make(*arguments)
            for name in ("lead", "later", "again"):
                setattr(tier, name, self._recounting(tier, getattr(tier, name)))
            tier.code = self._entering(tier.code)
            tier.forgetting = lambda page: self._forget(tier, page)
            found: Tier0 = tier
            return found

        engine.request, engine.translator.backend.tier0 = noted, made

    def close(self) -> None:
        """Leave stencils that are new for later runs."""
        if self._disk is not None:
            self._disk.save()
            self._disk.close()

    def tier0(self, name: Name) -> int:
        """How often the block there has run from stencils."""
        tier, place = self._engine.tier0, self._where.place(name)
        return self._ran[name] + (0 if tier is None or place is None else self._since(tier, place))

    def near(self, name: Name) -> int:
        """How often blocks of the same page were entered, as far as they are known to."""
        page = name[0] >> 12, name[1] >> 12
        return sum(times for (pc, at), times in self.entered().items() if (pc >> 12, at >> 12) == page)

    def entered(self) -> Counter[Name]:
        """How often blocks were entered from Python or in tier 0; what regions enter is not known."""
        found = +self.interpreted
        tier = self._engine.tier0
        for name in {*self._ran, *(() if tier is None else map(self._where.named, tier.blocks()))}:
            found[name] += self.tier0(name)
        return found

    def retired(self) -> Counter[tuple[Name, bool]]:
        """Instructions that translations have retired, by the code and the boundary that they begin with."""
        found: Counter[tuple[Name, bool]] = Counter()
        for key, retired in self._engine.cache.all_retired.items():
            found[self.name(key), key[1]] += retired
        return found

    def name(self, key: Key) -> Name:
        """The code that the translation of a key began with."""
        request = self.requests[key]
        return self._where.name(request, request.blocks[0][0])

    # --- inside -------------------------------------------------------------------------------------

    def _counting(self, into: Counter[Name], call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any) -> Any:
            into[self._where.here()] += 1
            return call(*arguments)

        return counted

    def _note_gone(self, translation: Translation, why: str) -> None:
        if len(self.gone) < MOST:
            self.gone.append(Gone(self.name(translation.key), why, *self._where.position))

    def _note_written(self, start: int, end: int) -> None:
        doomed = {t for t in self._engine.cache.translations() if t.overlaps(start, end)}
        copied = self._where.depends(start, end)
        if (doomed or copied) and len(self.written) < MOST:
            count, pc = self._where.position
            self.written.append(Written(start, end, len(doomed), copied, count, pc, self._where.writer()))

    def _since(self, tier: Tier0, place: int) -> int:
        """How often the block has run since its counter was set."""
        left = tier.left(place)
        if left is None:
            return 0
        return (self._given.get(place, self._engine.options.promote) - left) // tier.cost(place)

    def _recounting(self, tier: Tier0, call: Callable[..., Any]) -> Callable[..., Any]:
        """A call that sets a block's counter, or leads past it."""

        def counted(place: int, *rest: Any) -> None:
            self._ran[self._where.named(place)] += self._since(tier, place)
            call(place, *rest)
            left = tier.left(place)
            if left is None:
                self._given.pop(place, None)
            else:
                self._given[place] = left

        return counted

    def _entering(self, call: Callable[..., int | None]) -> Callable[..., int | None]:
        """A call that gives code to enter. That of a block which is to run alone has no counter."""

        def counted(pc: int, inside: bool) -> int | None:
            again, self._asking = self._asking, True  # it asks itself again when it has made room
            try:
                found = call(pc, inside)
            finally:
                self._asking = again
            if found is not None and not again:
                name = self._where.here()
                if inside and not self._engine.state.mid_block:
                    self._ran[name] += 1
            return found

        return counted

    def _forget(self, tier: Tier0, page: int) -> None:
        """Copies in this page are about to go, and their counters with them."""
        for place in tier.blocks(page, page):
            self._ran[self._where.named(place)] += self._since(tier, place)
            self._given.pop(place, None)
