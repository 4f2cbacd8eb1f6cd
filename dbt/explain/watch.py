"""What is noted of a run, so that a piece of it can be explained: how often blocks ran and where, what translations
were made of, how those went that are gone, what was written to code.

Nothing of it changes what the run does: only calls that the engine makes anyway are looked at.
Owns: these notes. Must not know: which piece will be asked for, how anything is shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from dbt.block import Key, Translation
    from dbt.process import Process
    from dbt.regions import Request
    from dbt.tier0 import Tier0

MOST = 100_000  # notes of a kind
ALL = 1 << 52  # more than any page's number


class Gone(NamedTuple):
    """A translation that was dropped: why, at which count of instructions, where the guest was."""

    key: Key
    why: str
    instructions: int
    pc: int


class Written(NamedTuple):
    """A change of guest memory that code was made from: the bytes, what had to go for it, and as of `Gone`."""

    start: int
    end: int
    translations: int
    stencils: bool
    instructions: int
    pc: int


class Watch:
    """The notes of one process under the translating engine, which must not have run yet."""

    def __init__(self, process: Process) -> None:
        self.interpreted: Counter[int] = Counter()  # guest address -> times that a block was interpreted from there
        self.stepped: Counter[int] = Counter()  # instructions that the monitor executed one by one
        self.requests: dict[Key, Request] = {}
        self.gone: list[Gone] = []
        self.written: list[Written] = []
        self._process = process
        self._engine = process.engine
        self._ran: Counter[int] = Counter()  # in tier 0, counted by counters that are no longer
        self._given: dict[int, int] = {}  # what a counter began with, where that is not what all begin with
        self._why = ""
        self._asking = False
        self._disk: Any = None  # stencils come from there, and go there

    def attach(self) -> None:
        """Begin. Translations are made here and now: none is taken from disk, for that does not say what it is of."""
        engine: Any = self._engine
        self._disk, engine.disk = engine.disk, None
        engine.translator.keep = lambda request, made: None
        engine.cache.dropped = self._then(self._note_gone, engine.cache.dropped)
        engine.cache.evict = self._because("evicted: the cache was full", engine.cache.evict)
        engine.cache.invalidate = self._because("its guest code was written, or its mapping changed",
                                                engine.cache.invalidate)  # fmt: skip
        engine.cache.drop = self._because("found stale, or flushed", engine.cache.drop)
        engine.cache.insert = self._because("replaced by a new translation", engine.cache.insert)
        engine.coherence.fence = self._because("found stale at a fence", engine.coherence.fence)
        engine.space.watchers.insert(0, self._note_written)
        engine.monitor.run = self._counting(self.interpreted, engine.monitor.run)
        engine.monitor.step = self._counting(self.stepped, engine.monitor.step)
        request, make = engine.translator.request, engine.translator.backend.tier0

        def noted(key: Key, *rest: Any) -> Request:
            found: Request = request(key, *rest)
            self.requests[key] = found
            return found

        def made(*arguments: Any) -> Tier0:
            tier: Any = make(*arguments)
            for name in ("lead", "rest", "again"):
                setattr(tier, name, self._recounting(tier, getattr(tier, name)))
            tier.code = self._entering(tier.code)
            tier.drop, tier.flush = self._forgetting(tier, tier.drop), self._forgetting(tier, tier.flush)
            found: Tier0 = tier
            return found

        engine.translator.request, engine.translator.backend.tier0 = noted, made

    def close(self) -> None:
        """Leave stencils that are new for later runs."""
        if self._disk is not None:
            self._disk.save()
            self._disk.close()

    def tier0(self, pc: int) -> int:
        """How often the block at a guest address has run from stencils."""
        tier = self._engine.tier0
        return self._ran[pc] + (0 if tier is None else self._since(tier, pc))

    def entered(self) -> Counter[int]:
        """How often blocks were entered from Python or in tier 0, by guest address; what regions enter is not known."""
        found = +self.interpreted
        tier = self._engine.tier0
        for pc in {*self._ran, *(() if tier is None else tier.blocks())}:
            found[pc] += self.tier0(pc)
        return found

    # --- inside -------------------------------------------------------------------------------------

    def _then(self, note: Callable[..., object], call: Callable[..., Any]) -> Callable[..., Any]:
        """Note first, then do it."""

        def both(*arguments: Any) -> Any:
            note(*arguments)
            return call(*arguments)

        return both

    def _because(self, why: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """What goes meanwhile goes for this reason, if there is none further out."""

        def within(*arguments: Any) -> Any:
            before = self._why
            self._why = before or why
            try:
                return call(*arguments)
            finally:
                self._why = before

        return within

    def _counting(self, into: Counter[int], call: Callable[..., Any]) -> Callable[..., Any]:
        state = self._engine.state

        def counted(*arguments: Any) -> Any:
            into[state.pc] += 1
            return call(*arguments)

        return counted

    def _note_gone(self, way: Translation) -> None:
        if way.of is None and len(self.gone) < MOST:
            state = self._engine.state
            self.gone.append(Gone(way.key, self._why, state.count, state.pc))

    def _note_written(self, start: int, end: int) -> None:
        engine, state = self._engine, self._engine.state
        pages = range(start >> 12, (end - 1 >> 12) + 1)
        doomed = {t for t in engine.cache.translations() if t.overlaps(start, end)}
        copied = engine.tier0 is not None and any(engine.tier0.blocks(page, page) for page in pages[:MOST])
        if (doomed or copied) and len(self.written) < MOST:
            self.written.append(Written(start, end, len(doomed), copied, state.count, state.pc))

    def _since(self, tier: Tier0, pc: int) -> int:
        """How often the block has run since its counter was set."""
        left = tier.left(pc)
        if left is None:
            return 0
        return (self._given.get(pc, self._engine.options.promote) - left) // tier.cost(pc)

    def _recounting(self, tier: Tier0, call: Callable[..., Any]) -> Callable[..., Any]:
        """A call that sets a block's counter, or leads past it."""

        def counted(pc: int, *rest: Any) -> None:
            self._ran[pc] += self._since(tier, pc)
            call(pc, *rest)
            left = tier.left(pc)
            if left is None:
                self._given.pop(pc, None)
            else:
                self._given[pc] = left

        return counted

    def _entering(self, call: Callable[..., int | None]) -> Callable[..., int | None]:
        """A call that gives code to enter. That of a block which is to run alone has no counter."""

        def counted(pc: int, inside: bool) -> int | None:
            again, self._asking = self._asking, True  # it asks itself again when it has made room
            try:
                found = call(pc, inside)
            finally:
                self._asking = again
            if found is not None and inside and not again and not self._engine.state.mid_block:
                self._ran[pc] += 1
            return found

        return counted

    def _forgetting(self, tier: Tier0, call: Callable[..., Any]) -> Callable[..., Any]:
        """A call that drops copies in pages of these numbers, or in all, and their counters with them."""

        def counted(first: int = 0, last: int = ALL) -> Any:
            blocks = tier.blocks(first - 1, last)  # what lies in two pages goes with either
            for pc in blocks:
                self._ran[pc] += self._since(tier, pc)
                self._given[pc] = tier.left(pc) or 0
            dropped = call() if last == ALL else call(first, last)
            for pc in blocks:
                if tier.head(pc) is None:
                    del self._given[pc]
            return dropped

        return counted
