"""Coherence: a translation must go when the guest's code is no longer what it was made from.

Three modes, `--smc`. `detect`: pages that translations were made from are write-protected on the host, so that
the first store is seen, the guest's own and the kernel's; what cannot be seen so (memory that is shared, and
written under another address) is compared when the guest executes a fence. `fencei`: nothing is watched; at a
fence (fence.i, or the system call that flushes the instruction cache) every translation is compared with
memory, as a processor without coherent caches demands of its programs. `off`: nothing at all is done about
written code, which shows what a naive cache runs: the old program. In every mode code goes that is unmapped,
mapped over, moved, or given another protection.

Only translations that hold a byte written go; the page stays watched for the others. A page whose data is
written again and again beside its code is given up for a while, and its code must be hotter each time before
it is translated once more. Owns: what is watched, what a change drops. Must not know: how code is made or run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from dbt.block import Translation
from dbt.cache import TranslationCache
from dbt.memory import PAGE_SHIFT, AddressSpace, MemoryFault

MODES = ("detect", "fencei", "off")
TOLERANCE = 1000  # writes beside a page's code until the page is given up: some 20 ms of slow stores
DROPPED = 50  # a write that hits code counts as so many, since that code must be translated again
MOST_PATIENCE = 6  # times that the threshold of a page doubles at most


class Coherence:
    """Keeps a cache true to an address space."""

    def __init__(self, space: AddressSpace, cache: TranslationCache, mode: str) -> None:
        if mode not in MODES:
            raise ValueError(f"no mode {mode!r} (there are: {', '.join(MODES)})")
        self.mode = mode
        self.writes = 0  # writes seen to pages with translations
        self._space = space
        self._cache = cache
        self._aliased: set[int] = set()  # pages with translations that may be written unseen
        self._trouble: dict[int, int] = {}  # page -> what writes to it have cost since it was given up
        self._given_up: dict[int, int] = {}  # page -> how often
        self._copied: set[int] = set()  # pages that tier 0 copies from, which may be written unseen
        self.stale: Callable[[int, int], bool] = lambda start, end: False  # told what has changed; had it copies of it?
        space.watchers.append(self._changed)

    def close(self) -> None:
        """Look no longer."""
        if self._changed in self._space.watchers:
            self._space.watchers.remove(self._changed)

    def renew(self) -> None:
        """All that was mapped is gone."""
        self._aliased.clear()
        self._trouble.clear()
        self._given_up.clear()
        self._copied.clear()

    def made(self, translation: Translation) -> None:
        """A translation was made; from now on its bytes are looked after."""
        for page in translation.pages():
            if self.mode == "detect":
                self._space.watch(page << PAGE_SHIFT, page + 1 << PAGE_SHIFT)
            region = self._space.region_at(page << PAGE_SHIFT)
            if region is not None and region.shared:
                self._aliased.add(page)

    def copied(self, pages: range) -> None:
        """Tier 0 copies from pages of one region; from now on they are looked after."""
        if self.mode == "detect":
            self._space.watch(pages.start << PAGE_SHIFT, pages.stop << PAGE_SHIFT)
        region = self._space.region_at(pages.start << PAGE_SHIFT)
        if self.mode == "fencei" or (region is not None and region.shared):
            self._copied.update(pages)

    @property
    def gave_up(self) -> bool:
        """Whether any page was given up."""
        return bool(self._given_up)

    def patience(self, pc: int) -> int:
        """How many times as hot as others a block in this place must be."""
        return 1 << self._given_up.get(pc >> PAGE_SHIFT, 0)

    def fence(self) -> None:
        """The guest asked that instructions be fetched from memory as it is now."""
        if self.mode == "detect":
            self._verify(t for page in self._aliased for t in self._cache.in_page(page))
        elif self.mode == "fencei":
            self._verify(self._cache.translations())
        if self.mode != "off":
            while self._copied:
                page = self._copied.pop()
                self.stale(page << PAGE_SHIFT, page + 1 << PAGE_SHIFT)

    def _verify(self, suspects: Iterable[Translation]) -> None:
        self._cache.drop({t for t in suspects if not self._holds(t)})

    def _holds(self, translation: Translation) -> bool:
        try:
            return all(self._space.peek(start, len(code)) == code for start, code in translation.source)
        except MemoryFault:  # a part of it is no longer mapped
            return False

    def _changed(self, start: int, end: int) -> None:
        """These bytes were written, and their pages are no longer watched; or their mapping changed."""
        dropped = self._cache.invalidate(start, end)
        stale = self.stale(start, end)
        if self.mode == "detect":
            for page in {start >> PAGE_SHIFT, end - 1 >> PAGE_SHIFT}:  # of those between, all bytes were
                self._written(page, DROPPED if dropped or stale else 1)

    def _written(self, page: int, cost: int) -> None:
        """Decide whether what is left in a page is worth that its writes are slow."""
        left = self._cache.in_page(page)
        if not left and cost < DROPPED:
            return
        self.writes += 1
        trouble = self._trouble.get(page, 0) + cost
        if trouble < TOLERANCE:
            self._trouble[page] = trouble
            if left:
                self._space.watch(page << PAGE_SHIFT, page + 1 << PAGE_SHIFT)
        else:
            self._trouble[page] = 0
            self._given_up[page] = min(self._given_up.get(page, 0) + 1, MOST_PATIENCE)
            self._cache.drop(set(left))
