"""The translating engine: the run loop around translated code.

Translated code never calls Python. Whatever needs the monitor leaves with a reason, is handled here and
entered again; between, blocks chain natively. Both engines have one interface (`run`, `step`, `Stop`),
one boundary rule and one state, so that one can go on where the other stopped.
Owns: dispatch, slices, what each way out means. Must not know: how code is made, Linux, any guest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from dbt.block import REACH_MOST, Key, Made, Translation
from dbt.cache import TranslationCache
from dbt.cache.disk import Disk, disk_of
from dbt.coherence import Coherence
from dbt.events import NEVER
from dbt.memory import EXEC, PAGE_SHIFT, PAGE_SIZE, WRITE, MemoryFault, page_down
from dbt.options import Options
from dbt.promotion import Promotion
from dbt.reference import FAR, Integers, Reference, Stop
from dbt.reference import LIMIT as AT_LIMIT
from dbt.state import (
    BUDGET,
    BUDGET_SHIFT,
    BUDGET_UNIT,
    EXIT,
    EXITS,
    INLINE,
    LIMIT,
    MADE_BLOCKS,
    MADE_INSTRUCTIONS,
    MEMORY,
    SHARES,
    SLICE,
    State,
)
from dbt.translate import Translator
from guests.spec import Treat
from ir.llvm.target import CALLOUT, HOT, LATE, MISS, SIDE, SIDE_REASONS
from ir.records import as_dict

if TYPE_CHECKING:
    from random import Random

    from dbt.code import Code
    from dbt.regions import Request
    from dbt.tier0 import Tier0

MASK = (1 << 64) - 1
REFUSED = 1_000_000  # entries until a block that was larger than the whole cache is tried again
PATIENCE = 128  # cold blocks until stencils or translations are loaded: it costs as much as interpreting these
LONG_PATIENCE = 20_000  # until stencils are made that no other run will use
TOGETHER = 16  # guest pages that tier 0 begins to read at once, at most
BUSY_SLICE = 1 << 22  # most instructions in one entry while translations are awaited
TURNS = 1000  # of the run loop between looks at the outside world; a slice that ends is one too


REASONS = {  # why native code was left, by what it leaves behind; anything else is the slot of an exit
    LATE: "late", MISS: "miss", HOT: "hot", CALLOUT: "callout",
    **{SIDE | number << 3: f"side: {reason}" for number, reason in enumerate(SIDE_REASONS)},
}  # fmt: skip
UNLINKED = "unlinked"


class Translated:
    """The engine. `poll`, when set, is called between slices (16 M instructions); if true, `run` returns."""

    name = "translated"

    def __init__(
        self, state: State, space: Any, wall_clock: Callable[[], int], options: Options | None = None
    ) -> None:
        self.options = options or Options()
        self.state = state
        self.space = space
        self.monitor = Reference(state, space, wall_clock)
        self.disk = disk_of(state.guest, self.options)
        self.translator = Translator(state, space, self.options, self.disk)
        self._off = self.options.cache_off
        linked = self.options.chain and not self._off
        self.cache = TranslationCache(state, self.options.cache_size, self.options.cache_policy, linked)
        self.coherence = self._new_coherence()
        self.monitor.domain.code_fences.append(self.coherence.fence)
        self.poll: Callable[[], bool] | None = None
        self._turns = 0
        self.entries = 0  # times Python entered translated code
        self.exits = dict.fromkeys(("late", "unlinked", "miss", "hot", "callout", *REASONS.values()), 0)
        self._chaos = None if self.options.chaos is None else _random(self.options.chaos)
        self.stepped = 0  # callouts and slow paths, one instruction each
        self.heat: dict[Key, int] = {}  # times a block without a translation has been entered
        self.interpreted = 0  # instructions of cold blocks
        self._asked: set[int] = set()  # guest pages that were looked up on disk
        self.tier0: Tier0 | None = None  # made when enough was interpreted
        self.watcher: Callable[[int], int] | None = None  # told of the guest's pc from time to time; says when next
        self.due = NEVER  # the count at which, about, it is told; it may be told before
        self.slice = SLICE  # most instructions in one entry
        self.progress: Callable[[int, int], None] = lambda done, of: None  # told of stencils that are made
        self.note = ""  # one sentence, if the tiers are not what was asked for
        self._cold = 0  # blocks entered that had no code
        self._stencils = 0 in self.options.tiers and linked and self.options.hot > 0
        unhurried = LONG_PATIENCE if self._stencils and self.disk is None else PATIENCE
        self._patience = unhurried if self.options.patience is None else self.options.patience
        self._translates = 1 in self.options.tiers
        apart = self.options.background and self._stencils and not self.options.dump and not state.guest.own
        self.promotion = Promotion(self, apart)
        if self._stencils:
            self.cache.dropped = self._dropped
            self.coherence.stale = self._stale
        state.words[MEMORY] = space.base

    def hurry(self) -> None:
        """The program is not over after some hundred instructions: what is on disk is worth loading at once."""
        if self.options.patience is None and self.disk is not None:
            self._patience = 0

    def _new_coherence(self) -> Any:
        return Coherence(self.space, self.cache, self.options.smc)

    def prepare(self) -> None:
        """To be called before running after foreign code may have taken the fault signals."""
        if self.translator.started:
            self.translator.backend.prepare()

    def close(self) -> None:
        """Stop serving the arena's faults; the engine must not run afterwards."""
        if self.translator.started:
            self.translator.backend.close()
        if self.tier0 is not None:
            self.tier0.close()
        self.promotion.close()
        self.coherence.close()
        if self.disk is not None:
            self.disk.close()

    def renew(self) -> None:
        """Forget all that is known of the program: another one begins."""
        self.flush()
        self.coherence.renew()
        self.heat.clear()
        self._asked.clear()
        self.promotion.forget()

    def save(self, last: bool = False) -> None:
        """Leave what was translated for later runs, if they are to have it. `last`: the program has ended."""
        if self.disk is None:
            return
        if last:
            self.promotion.leave(self.disk)
        self.disk.save()

    @property
    def classes(self) -> dict[Treat, int]:
        """Instructions executed by class, in translated code and in the monitor."""
        counts = dict(self.monitor.classes)
        inline = self.state.words[INLINE]
        counts[Treat.INLINE] += inline
        retired = self.state.count + self.monitor.trapped
        counts[Treat.IDENT] = retired - counts[Treat.INLINE] - counts[Treat.CALLOUT]
        return counts

    @property
    def retired(self) -> dict[str, int]:
        """Instructions by what executed them. The parts make up all: tier 0, which does not count, has the rest."""
        monitor = sum(self.monitor.classes.values()) - self.monitor.trapped
        regions = sum(self.cache.all_retired.values())
        return {
            "reference": self.interpreted,
            "monitor": monitor - self.interpreted,
            "tier0": self.state.count - monitor - regions,
            "regions": regions,
        }

    def counts(self) -> dict[str, Any]:
        """What was translated, kept and left, as plain data."""
        from dbt.background import BackgroundStats
        from dbt.cache.disk import DiskStats

        s, cache, background = self.translator.stats, self.cache.stats, self.promotion.background
        return {
            "translations": s.translations,
            "translated_instructions": s.instructions,
            "code_bytes": s.code_bytes,
            "translations_refused": s.refused,
            "cache_hits": cache.hits,
            "cache_misses": cache.misses,
            "cache_evictions": cache.evictions,
            "cache_overwrites": cache.overwrites,
            "cache_refused": cache.refused,
            "cache_bytes": self.cache.bytes,
            "cache_bytes_max": cache.bytes_max,
            "invalidations": cache.invalidations,
            "writes_to_code_pages": self.coherence.writes,
            "python_entries": self.entries,
            "interpreted_cold": self.interpreted,
            "retired_in_regions": sum(self.cache.all_retired.values()),
            "retired": self.retired,
            "copied_instructions": self.state.words[MADE_INSTRUCTIONS],
            "copied_blocks": self.state.words[MADE_BLOCKS],
            "monitor_steps": self.stepped,
            "exits": dict(self.exits),
            "background": as_dict(BackgroundStats() if background is None else background.stats),
            "disk": as_dict(self.disk.stats if self.disk is not None else DiskStats()),
            "seconds": {stage: round(spent, 4) for stage, spent in s.seconds.items()},
        }

    # --- running ------------------------------------------------------------------------------------

    @property
    def domain(self) -> Integers:
        """The bodies' domain of what the monitor executes."""
        return self.monitor.domain

    @property
    def interruptible(self) -> bool:
        """Whether an event may come before the next instruction: at boundaries only."""
        return not self.state.mid_block

    def run(self, until: int, near: int = 0) -> Stop:
        """Run to the first boundary at which the count is at least `until`, or to a trap.

        It may be less by `near`, where host code has left since it goes no further.
        """
        state, words, translator = self.state, self.state.words, self.translator
        address, exits, chaos = state.address, self.exits, self._chaos
        domain, place, promotion = self.monitor.domain, self.place, self.promotion
        domain.until = FAR
        words[SHARES] = self.space.shares
        via = 0
        while True:
            if not domain.until:  # something may be due at the next boundary
                until = 0
            if not state.mid_block and state.count >= until:
                break
            if self._turns >= TURNS or state.count >= self.due:
                if state.mid_block:  # a loop may come here at no boundary ever: go on to one
                    stop = self.interpret()
                    if stop.trap:
                        return stop
                    continue
                self._turns = 0
                if self.disk is not None and self.disk.due:
                    self.disk.save()
                if self.watcher is not None:
                    self.due = self.watcher(state.pc)
                if self.poll is not None and self.poll():
                    break
            self._turns += 1
            if chaos is not None:
                self._disturb(chaos)
            translation, code = None, None if via else self._known_code(until)
            if code is None:
                translation = self._find((place(state.pc), not state.mid_block))
                short = translation is not None and not state.mid_block and translation.reach > until - state.count
                code = self._cold_code(short) if short or translation is None else translation.entry
            if code is None:
                via = 0
                stop = self.interpret()
                if stop.trap:
                    return stop
                continue
            if via == MISS and translation is not None:
                self.cache.remember_jump(state.pc, translation.entry)
            left = max(min(until - state.count, self.slice if promotion.idle else min(self.slice, BUSY_SLICE)), -1)
            if self.due < NEVER:  # a region that is entered with less than its reach does nothing
                left = min(left, max(self.due - state.count, 1 if translation is None else translation.reach))
            if chaos is not None:
                left = min(left, 1 << chaos.randrange(15))  # at times enough for a region, at times not
            words[LIMIT] = state.count + left
            words[BUDGET] = left << BUDGET_SHIFT & MASK
            self.entries += 1
            translator.backend.enter(address, code)
            budget = words[BUDGET]
            budget -= (budget >> 63) << 64
            state.blocks += budget & BUDGET_UNIT - 1
            state.count = words[LIMIT] - (budget >> BUDGET_SHIFT)
            via = words[EXIT]
            kind = via & 7 if via < EXITS else 0
            if kind == MISS:
                exits["miss"] += 1
                state.mid_block = False
            elif kind == LATE:
                exits["late"] += 1
                state.mid_block = False
                self._turns = TURNS
                promotion.hasten()
                promotion.collect()
                if until - state.count <= near:
                    break
            elif kind == HOT:
                exits["hot"] += 1
                state.mid_block = False
                promotion.collect()
                stop = promotion.became_hot(place(state.pc), until)
                if stop.trap:
                    return stop
            elif kind in (SIDE, CALLOUT):
                exits["callout" if kind == CALLOUT else f"side: {SIDE_REASONS[via >> 3]}"] += 1
                state.mid_block = True
                self.stepped += 1
                if kind == CALLOUT and not promotion.idle:  # a program of many system calls may never end a slice
                    promotion.collect()
                stop = self.monitor.system_call() or self.monitor.step()
                if stop.trap:
                    return stop
            else:
                exits["unlinked"] += 1
                key = self.cache.target(via)
                state.pc, boundary = self.cache.guest_address(key[0]), key[1]
                state.mid_block = not boundary
                if not boundary and self.tier0 is not None and key not in self.cache:
                    promotion.collect()
                    promotion.ask(key)  # the rest of a block that is hot
        return AT_LIMIT

    def step(self) -> Stop:
        """Execute exactly one instruction, in the monitor."""
        return self.monitor.step()

    # --- translations -------------------------------------------------------------------------------

    def place(self, pc: int) -> int:
        """What code at a guest address is known by here, the first part of its key."""
        return pc

    def _find(self, key: Key) -> Translation | None:
        """The translation of `key`, made now if the block is hot; None if it is not, or has no room."""
        if self._off:
            self.cache.evict_all()
        found = self.cache.find(key)
        if found is not None:
            return found
        self._cold += 1
        if self._cold <= self._patience:
            return None if self._stencils else self._warmed(key)
        if self._stencils and self.tier0 is None:
            try:
                self.tier0 = self.translator.backend.tier0(self.state, self._new_tier0, self.progress)
            except OSError as error:
                self.note = f"there are no stencils, and cold code is interpreted: {error.strerror or error}"
                self._stencils = False
        if self._look_up(key[0] >> PAGE_SHIFT):
            found = self.cache.get(key)
            if found is not None:
                return found
        return None if self.runs_cold(key[0]) else self._warmed(key)

    def _warmed(self, key: Key) -> Translation | None:
        """The translation of a block that has been interpreted often enough."""
        if not self._translates:
            return None
        times = self.heat.get(key, 0) + 1
        if times <= (0 if self._off else self.options.hot * self.coherence.patience(key[0])):
            self.heat[key] = times
            return None
        return self._translate(key)

    # --- tier 0 -------------------------------------------------------------------------------------

    def _new_tier0(self, library: bytes, natives: Code) -> Tier0:
        from dbt.tier0 import Tier0

        return Tier0(
            self.state, library, natives, self.options.promote, self._may_open, self._opened, self._reaches_on
        )

    def runs_cold(self, pc: int) -> bool:
        """Whether this place is for tier 0."""
        return self._stencils and self.coherence.patience(pc) == 1

    def _cold_code(self, alone: bool) -> int | None:
        """Host code of tier 0 for the guest's pc, if it is to run there. `alone`: this block is not to lead into its
        translation, which would leave at once, since the budget ends before the next check.
        """
        if self._cold <= self._patience or not self.runs_cold(self.state.pc):
            return None
        assert self.tier0 is not None
        return self.tier0.code(self.state.pc, self.state.mid_block or alone)

    def _known_code(self, until: int) -> int | None:
        """Host code for where a run begins, as behind a system call, if that is in a page which tier 0 reads.

        Its directory knows translations as well. No policy hears of them, and they are not asked whether they would
        leave at once: nothing is due for longer than any of them goes on without a look.
        """
        tier0, state = self.tier0, self.state
        if tier0 is None or self._off or self._chaos is not None or state.mid_block:
            return None
        if self.due != NEVER or until - state.count < REACH_MOST:
            return None
        return tier0.dispatch if tier0.is_open(state.pc >> PAGE_SHIFT) else None

    def _may_open(self, page: int) -> range:
        """Have the copier read a guest page, if the guest may execute it; from now on its bytes are looked after.

        Others about it as well, where nothing writes and nothing is on disk: Python is not asked for each.
        """
        region = self.space.region_at(page << PAGE_SHIFT)
        if region is None or not region.protection & EXEC or not self.runs_cold(page << PAGE_SHIFT):
            return range(0)
        pages = range(page, page + 1)
        if not region.protection & WRITE and not region.shared:
            about = range(max(page & -TOGETHER, region.start >> PAGE_SHIFT),
                          min((page | TOGETHER - 1) + 1, region.end >> PAGE_SHIFT))  # fmt: skip
            if not self.coherence.gave_up and self._lacks(about):
                pages = about
        self.coherence.copied(pages)
        return pages

    def _reaches_on(self, page: int) -> bool:
        """Whether an instruction may begin in a page's last two bytes and end in the next one."""
        end = page + 1 << PAGE_SHIFT
        return bool(self.space.peek(end - 2, 1)[0] & 3 == 3 and (self.space.protection(end) or 0) & EXEC)

    def _look_up(self, page: int) -> bool:
        """Install what is on disk of a guest page, the first time; returns whether this was it."""
        if self.disk is None or not self._translates or page in self._asked:
            return False
        self._asked.add(page)
        self._recall(self.disk, page)
        return True

    def _lacks(self, pages: range) -> bool:
        """Whether it is known that nothing is on disk of these."""
        return self.disk is None or self.disk.lacks(pages)

    def _opened(self, pages: range) -> None:
        """Translations that are there are what jumps to them lead to."""
        if self.tier0 is None:  # while it is made there are none
            return
        if self._lacks(pages):
            self._asked.update(pages)
        else:
            for page in pages:
                self._look_up(page)
        for page in pages if len(self.cache) else ():
            for translation in self.cache.in_page(page):
                self._lead_to(translation)

    def _lead_to(self, translation: Translation) -> None:
        """Tier 0 goes on in it, and in its gates, as far as the cache says so."""
        assert self.tier0 is not None
        for way in (translation, *translation.gates):
            if way.door and self.cache.get(way.key) is way:
                self.tier0.lead(way.key[0], way.door)

    def covers(self, pc: int) -> bool:
        """Whether the block there is a part of some translation."""
        return self.cache.covers(pc)

    def _dropped(self, translation: Translation) -> None:
        if self.tier0 is not None and translation.door:
            self.tier0.unlead(translation.key[0], translation.door)

    def _stale(self, start: int, end: int) -> bool:
        """Drop copies of guest code in this range; returns whether there were any."""
        return self.tier0 is not None and self.tier0.drop(start >> PAGE_SHIFT, end - 1 >> PAGE_SHIFT)

    def _disturb(self, chaos: Random) -> None:
        """Do one of the things that may happen at any time and must change nothing that a guest sees."""
        match chaos.randrange(64):
            case 0:
                self.flush()
            case 1 | 2 | 3:
                self.cache.invalidate(page_down(self.state.pc), page_down(self.state.pc) + PAGE_SIZE)
            case 4 | 5 | 6 | 7:  # the next store into that page leaves and is done by the monitor
                region = chaos.choice(self.space.regions())
                page = page_down(chaos.randrange(region.start, region.end))
                self.space.watch(page, page + PAGE_SIZE)
            case 8:
                self.heat.clear()
            case 9 | 10:
                for _ in range(min(chaos.randrange(1, 8), len(self.cache))):
                    self.cache.evict()

    def interpret(self) -> Stop:
        """Let the monitor execute a cold block, to its boundary."""
        before = self.state.count
        stop = self.monitor.run(before + 1)
        self.interpreted += self.state.count - before
        return stop

    def request(self, key: Key) -> Request:
        """What a translation of `key` is to be made of now."""
        return self.translator.request(key, self.promotion)

    def _translate(self, key: Key) -> Translation | None:
        return self.recalled(key) or self.made_now(self.request(key), key)

    def made_now(self, request: Request, key: Key) -> Translation | None:
        """The translation of a request, made here and now."""
        self.promotion.became_region(request)
        return self._admitted(self.translator.translate(request, self.cache.admit), key)

    def recalled(self, key: Key) -> Translation | None:
        """From disk: it may have been dropped since, or another process may have made it."""
        if self.disk is not None:
            self._recall(self.disk, key[0] >> PAGE_SHIFT, key)
        return self.cache.get(key)

    def came(self, asked: Request, made: Made) -> None:
        """What was asked of the worker, to be installed if the guest's code is still what it was made from."""
        located = asked.located(made)
        if located.key not in self.cache and self._holds(located):
            self._admitted(self.translator.admit(located, self.cache.admit), located.key)
            self.translator.keep(asked, made)
        self.promotion.became_region(asked)

    def refuse(self, key: Key) -> None:
        """Larger than the cache, or no code can be made of it: it is not tried again soon."""
        self.heat[key] = -REFUSED

    def is_refused(self, key: Key) -> bool:
        return self.heat.get(key, 0) < 0

    def warmth(self, key: Key) -> int:
        """How often a block was interpreted, with this time; 0 if that is seldom, or if it was refused."""
        times = self.heat.get(key, 0)
        return times + 1 if times >= self.options.hot // 8 else 0

    def _admitted(self, made: Translation | None, key: Key) -> Translation | None:
        if made is None:
            self.refuse(key)
            return None
        self._install([made])
        return made

    def _install(self, made: Iterable[Translation]) -> None:
        for translation in made:
            self.heat.pop(translation.key, None)
            self.cache.insert(translation)
            self.coherence.made(translation)
            if self.tier0 is not None and translation.door:
                self._lead_to(translation)
                self.cache.remember_jump(translation.key[0], translation.entry)

    def _recall(self, disk: Disk, page: int, key: Key | None = None) -> None:
        """Install what is on disk of a guest page: all that is not there, or the translation of one key."""
        if key is None and disk.lacks(range(page, page + 1)):
            return
        found = self.page(page)
        if found is None:
            return
        self.install_found(disk, disk.find(*found, key))
        if key is None:
            self.promotion.remember(page, disk.ran(*found))

    def page(self, number: int) -> tuple[int, bytes] | None:
        """The guest page of a number of places as the disk knows it: by its address, and its content."""
        try:
            return number, self.space.peek(number << PAGE_SHIFT, PAGE_SIZE)
        except MemoryFault:
            return None

    def install_found(self, disk: Disk, made: Sequence[Made]) -> None:
        """Install those of what was on disk that are not there and are still true."""
        found = [m for m in made if m.key not in self.cache and self._holds(m)]
        if found:
            placed = self.translator.place(found, self.cache.admit)
            self._install(placed)
            disk.stats.found += len(placed)

    def _holds(self, made: Made) -> bool:
        """Whether the guest could execute just these bytes there."""
        for start, code in made.source:
            pages = range(start >> PAGE_SHIFT, (start + len(code) - 1 >> PAGE_SHIFT) + 1)
            if not all((self.space.protection(page << PAGE_SHIFT) or 0) & EXEC for page in pages):
                return False
            if self.space.peek(start, len(code)) != code:
                return False
        return True

    def fence(self) -> None:
        """The guest's instruction fetches must see its stores from now on."""
        self.coherence.fence()

    def flush(self) -> None:
        """Drop every translation."""
        self.cache.clear()
        if self.tier0 is not None:
            self.tier0.flush()


def _random(seed: int) -> Random:
    from random import Random  # for chaos only

    return Random(seed)
