"""Promotion: what becomes of a block that stencils have run often. It waits, is asked for, or is made here and now.

A block that is hot leaves host code and comes here. If what it would be a region of is worth that (`dbt.worth`), some
blocks are interpreted first, to see where their indirect jumps go, and the region is wanted of the worker; without one
it is made at once. Regions ask here how often blocks ran, wherever they did: in stencils, in other regions, in the
interpreter, in earlier runs.
Owns: what is known of hot blocks, the worker's answers. Must not know: how code is made or kept, what a way out means.
"""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING

from dbt.block import Key
from dbt.inside import Inside
from dbt.memory import PAGE_SHIFT, PAGE_SIZE
from dbt.reference import LIMIT as AT_LIMIT
from dbt.reference import Stop
from dbt.state import SIZE
from dbt.worth import Worth

if TYPE_CHECKING:
    from dbt.background import Background
    from dbt.block import Translation
    from dbt.cache.disk import Disk
    from dbt.engine import Translated
    from dbt.regions import Request
    from dbt.tier0 import Tier0

SHARE = 64  # a region takes blocks that ran for one time in so many of its first
LOOK_MOST = 64  # blocks that are interpreted when one has become hot, to see where indirect jumps go; and at most
LOOK_SHARE = 1000  # one for so many executions that make a block hot
DEFERRED = 16  # times that a block inside a region must become hot before it is the entry of another one
AT_ONCE = 32  # blocks that were hot in earlier runs and are looked for between two slices, at most
TRIES = 32  # times that one is looked for until it has to become hot by itself
FINISH = 1.0  # seconds at most that the end of a run is put off


class Promotion:
    """That of one engine; `apart`: by a worker. Blocks go by their places, which in a process are addresses."""

    def __init__(self, engine: Translated, apart: bool) -> None:
        self._engine, self._apart = engine, apart
        self._promote = engine.options.promote
        self.background: Background | None = None  # made when something is hot
        self._worth, self._inside = Worth(engine.options), Inside()
        self._went: dict[int, dict[int, int]] = {}  # block -> where it went, how often, when it was looked at
        self._deferred: set[int] = set()  # hot blocks that lie inside regions, and had to become hotter
        self._expected: deque[tuple[int, int]] = deque()  # what was hot in earlier runs, and how often to look for it
        self._process = os.getpid()  # in which the program began

    def forget(self) -> None:
        """Another program begins."""
        self._process = os.getpid()
        self._went.clear()
        self._deferred.clear()
        self._expected.clear()
        self._worth.forget()
        self._inside.forget()
        if self.background is not None:
            self.background.queue.clear()

    def close(self) -> None:
        if self.background is not None:
            self.background.close()

    @property
    def idle(self) -> bool:
        """Whether nothing is expected of the worker."""
        return self.background is None or not self.background.waiting

    @property
    def _tier0(self) -> Tier0:
        """Where blocks become hot."""
        assert self._engine.tier0 is not None
        return self._engine.tier0

    # --- hot blocks -----------------------------------------------------------------------------------

    def became_hot(self, place: int, until: int) -> Stop:
        """Have a block translated, or let it run on where that is not worth it yet."""
        engine, stop = self._engine, AT_LIMIT
        if (place, True) not in engine.cache:
            if not engine.covers(place):
                if self._is_early(place):
                    return stop
            elif place not in self._deferred:
                self._deferred.add(place)  # most of what its region would be is in another one: it must be worth it
                self._tier0.later(place, self._promote * DEFERRED)
                return stop
            if place not in self._went:
                stop = self._look(until)
        self.promote(place)
        return stop

    def promote(self, place: int) -> None:
        """Translate what is hot, and go on there from now on."""
        found = self._engine.cache.get((place, True))
        if found is None:
            self._tier0.rest(place)
            found = self.ask((place, True)) if 1 in self._engine.options.tiers else None
        if found is not None:
            self._tier0.lead(place, found.door)

    def ask(self, key: Key) -> Translation | None:
        """The translation of what is hot: made now, or wanted of the worker."""
        engine = self._engine
        if self.background is None and self._apart:
            from dbt.background import Background

            self.background = Background(
                engine.state.guest, engine.options, self._worthwhile, self._ran, self._is_led_to, self._gave_up,
                lambda: [(engine.state.address, SIZE), *engine.space.host_ranges()],
            )  # fmt: skip
        found = engine.recalled(key)
        if found is not None:
            return found
        if self.background is None:
            request = self._worthwhile(key)
            return None if request is None else engine.made_now(request, key)
        if not engine.is_refused(key) and not self.background.want(key):
            engine.note = engine.note or self.background.note
        return None

    def collect(self) -> None:
        """Have installed what has come from the worker."""
        engine, background = self._engine, self.background
        while background is not None and background.waiting:
            asked = background.asked
            made = background.poll()
            engine.note = engine.note or background.note
            if made is None:
                return
            assert asked is not None
            engine.came(asked, made)
            if engine.tier0 is not None:
                # What was hot beside it may not be any more.
                for key in itertools.starmap(asked.key_of, asked.blocks[1:]):
                    if background.queue.pop(key, None) is not None and key not in engine.cache:
                        engine.tier0.again(key[0])

    def became_region(self, request: Request) -> None:
        """This was translated."""
        self._worth.translated(request)
        self._inside.note(request)

    def _is_early(self, place: int) -> bool:
        """Whether the block there is to run more often until it is translated, after which it says that it is hot."""
        more = self._worth.needed(place) - self._executions(place)
        if more <= 0:
            return False
        self._tier0.later(place, more)
        return True

    def _worthwhile(self, key: Key, starting: bool = False) -> Request | None:
        """A request for what is hot; None if its block is to run more often before it is worth that. `starting`: there
        is no worker yet. A block that was put off once since it runs elsewhere is worth it.
        """
        engine, place = self._engine, key[0]
        request = engine.request(key)
        if key[1] and request.source and not engine.covers(place):
            if self._worth.is_early(request, starting, self._counts_for) and self._is_early(place):
                return None
        return request

    def _counts_for(self, place: int) -> int:
        return 0 if self._engine.tier0 is None or self._engine.covers(place) else self._tier0.cost(place)

    def _ran(self, key: Key) -> int:
        return self._executions(key[0]) if key[1] else 0

    def _is_led_to(self, key: Key) -> bool:
        return bool(self._engine.cache.leading(key))

    def _gave_up(self, key: Key, cold: bool) -> None:
        """No translation will come; a block that had gone cold may become hot again."""
        if not cold:
            self._engine.refuse(key)
        elif self._engine.tier0 is not None:
            self._tier0.again(key[0])

    # --- what is known of blocks ----------------------------------------------------------------------

    def executions(self, place: int, beside: int) -> int:
        """For a region: how often the block there ran, about; 0 if it is not worth being in a region beside one that
        ran so often.
        """
        hot = max(beside, self._promote)
        ran = self._ran_anywhere(place, hot)
        return max(ran, hot // SHARE) if place in self._went else ran

    def ways(self, place: int) -> tuple[int, ...]:
        """For a region: where the indirect jump of the block there went, when it was looked at."""
        seen = self._went.get(place, {})
        return tuple(sorted(seen, key=lambda to: -seen[to]))

    def _ran_anywhere(self, place: int, hot: int) -> int:
        engine = self._engine
        inside = self._inside.executions(place, self._retired) if engine.tier0 is not None else 0
        if (place, True) in engine.cache and not inside:
            return hot
        if engine.tier0 is not None and (inside or engine.runs_cold(place)):
            ran = inside or self._executions(place)
            return ran if ran > hot // SHARE else 0
        return engine.warmth((place, True))

    def _executions(self, place: int) -> int:
        """How often the block there has run in tier 0, in this run and in those before."""
        tier0 = self._engine.tier0
        return self._worth.before(place) + (0 if tier0 is None else tier0.executions(place))

    def _retired(self, key: Key) -> int | None:
        """The instructions that the translation of a key has retired; None if there is none."""
        found = self._engine.cache.get(key)
        return None if found is None else self._engine.cache.retired(found)

    def _look(self, until: int) -> Stop:
        """Interpret some blocks of what is hot, to see where its indirect jumps go."""
        engine, state = self._engine, self._engine.state
        for _ in range(min(self._promote // LOOK_SHARE, LOOK_MOST)):
            if state.count >= until or state.mid_block:
                break
            place = engine.place(state.pc)
            stop = engine.interpret()
            if stop.trap or not engine.domain.until:
                return stop
            seen = self._went.setdefault(place, {})
            seen[state.pc] = seen.get(state.pc, 0) + 1
        return AT_LIMIT

    # --- earlier runs, and later ones -----------------------------------------------------------------

    def remember(self, page: int, ran: Mapping[int, int]) -> None:
        """How often blocks of a page of places ran in earlier runs, by their offsets."""
        places = {page << PAGE_SHIFT | offset: times for offset, times in ran.items()}
        self._worth.ran_before(places)
        hot = [place for place, times in places.items() if times >= self._promote]
        self._expected += [(place, TRIES) for place in sorted(hot, key=places.__getitem__, reverse=True)]

    def hasten(self) -> None:
        """Between slices: let blocks that were hot in earlier runs say so as soon as they run in this one."""
        for _ in range(min(len(self._expected), AT_ONCE)):
            place, tries = self._expected.popleft()
            if self._tier0.left(place) is None:  # it has not run
                self._expected.extend([(place, tries - 1)] if tries else ())
            elif not self._engine.covers(place):
                self._tier0.later(place, 1)

    def leave(self, disk: Disk) -> None:
        """The program has ended. How often blocks ran whose region this run was too short for is kept, so that the next
        one begins there. What earlier runs had wanted as well is waited for: once, for all that come. Children that the
        program has forked leave nothing, since there may be many, which only know more than their parent.
        """
        if self._process != os.getpid():
            return
        background = self.background
        if background is not None and background.asked is not None:
            if self._worth.before(background.asked.key[0]) >= self._promote and background.wait(FINISH):
                self.collect()
        pages: dict[int, dict[int, int]] = {}
        for place in self._worth.waiting:
            pages.setdefault(place >> PAGE_SHIFT, {})[place & PAGE_SIZE - 1] = self._executions(place)
        for number, ran in pages.items():
            page = self._engine.page(number)
            if page is not None:
                disk.keep_ran(*page, ran)
