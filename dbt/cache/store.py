"""The store of translations: look-up by key, links between translations, room, invalidation by guest address.

A link is an exit slot, a word of data: linking and unlinking write no code. Until its target is translated
a slot leads to the monitor. However a translation goes (evicted, overwritten, invalidated, cleared), it goes
through `_drop`. Nothing here runs while guest code does, so code that runs is never dropped.
Owns: the translations, exit slots, the jump cache, the bound. Must not know: how code is made.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence, Set
from functools import cached_property
from typing import TYPE_CHECKING

from dbt.arena import Arena, ArenaFull
from dbt.block import Key, Translation
from dbt.state import (
    EXIT_SLOTS,
    EXITS,
    JUMP_CACHE,
    JUMP_EMPTY,
    JUMP_ENTRIES,
    LEADS,
    LEAVE,
    NO_LEAD,
    State,
)
from ir.records import record

if TYPE_CHECKING:
    from dbt.cache.policies import Policy
    from dbt.code import Code

PAGE_SHIFT = 12
DEFAULT = "lru"  # the policy that is not made before there is code to keep: cachetools is slow to import
SHARE = 4  # a batch may take up to one part in so many of the bound, or its first block alone more


@record
class CacheStats:
    """What happened in a cache."""

    hits: int = 0  # look-ups that found a translation
    misses: int = 0
    evictions: int = 0  # translations dropped to make room
    invalidations: int = 0  # dropped because guest code changed, or was said to have
    overwrites: int = 0  # dropped because a translation with the same key came
    refused: int = 0  # blocks that were not translated since their code is larger than the bound
    bytes_max: int = 0  # the most bytes of code at any time


class TranslationCache:
    """All translations of one engine, at most `bound` bytes of host code.

    `linked` False: translations do not lead to one another, and indirect jumps always come here.
    """

    def __init__(self, state: State, bound: int, policy_name: str = DEFAULT, linked: bool = True) -> None:
        self.bound = bound
        self.stats = CacheStats()
        self._policy_name = policy_name
        if policy_name != DEFAULT:
            _ = self._policy  # an unknown name is said at once
        self._linked = linked
        self._words = state.words
        self._arena: Arena | None = None
        self.guest_address: Callable[[int], int] = lambda address: address  # of the first part of a key
        self.dropped: Callable[[Translation], None] = lambda translation: None  # told of each that goes, and gate
        self._by_key: dict[Key, Translation] = {}
        self._gates: dict[Key, Translation] = {}  # of keys that no translation begins with
        self._covered: dict[int, int] = {}  # guest address of a block -> how many translations it is in
        self.gone: dict[Key, int] = {}  # instructions that translations retired which were dropped
        self._incoming: dict[Key, set[int]] = {}  # key -> slots that lead there, translated or not
        self._target: dict[int, Key] = {}  # slot -> key
        self._pages: dict[int, set[Translation]] = {}
        self._free: list[int] = []
        self._fresh = 0
        # New state is zero, and so are its entries: pc 0 alone would find itself, in the first one.
        self._words[JUMP_CACHE >> 3] = JUMP_EMPTY

    @cached_property
    def _policy(self) -> Policy:
        """Who goes first."""
        from dbt.cache.policies import policy

        return policy(self._policy_name, self.bound)

    def __len__(self) -> int:
        return len(self._by_key)

    def __contains__(self, key: Key) -> bool:
        return key in self._by_key or key in self._gates

    @property
    def bytes(self) -> int:
        """Bytes of host code in use."""
        return int(self._policy.currsize)

    def get(self, key: Key) -> Translation | None:
        """The translation of a key, or the gate for it, if there is one; leaves no trace."""
        return self._by_key.get(key) or self._gates.get(key)

    def find(self, key: Key) -> Translation | None:
        """The same, to run it: counted, and the policy is told.

        Python sees only some of what runs: where a slice begins, and what follows a miss, a callout or a slow
        path. That is a sample, and all that the policies know. To count every execution would cost translated
        code more than better choices could win.
        """
        found = self.get(key)
        if found is None:
            self.stats.misses += 1
            return None
        self.stats.hits += 1
        self._policy.touch((found.of or found).key)
        return found

    def translations(self) -> Iterable[Translation]:
        return self._by_key.values()

    def retired(self, translation: Translation) -> int:
        """Instructions that a translation has retired so far."""
        return self._words[translation.counter >> 3] if translation.counter else 0

    @property
    def all_retired(self) -> dict[Key, int]:
        """Instructions that translations have retired, those that are gone too."""
        found = dict(self.gone)
        for key, translation in self._by_key.items():
            found[key] = found.get(key, 0) + self.retired(translation)
        return found

    def covers(self, pc: int) -> bool:
        """Whether the block at this guest address is a part of some translation."""
        return pc in self._covered

    def in_page(self, page: int) -> Set[Translation]:
        """Those that depend on bytes in the guest page of this number."""
        return self._pages.get(page, frozenset())

    def leading(self, key: Key) -> Set[int]:
        """The slots of exits that lead to a key."""
        return self._incoming.get(key, frozenset())

    def target(self, slot: int) -> Key:
        """Where the exit through this slot leads."""
        return self._target[slot]

    # --- coming in ----------------------------------------------------------------------------------

    def admit(self, arena: Arena, batch: Sequence[Code]) -> list[tuple[int, dict[str, int]]]:
        """Place code, each piece with an exit slot for every symbol of its relocations, and evict as needed.

        Returns host address and slots of the pieces placed, from the first on: later ones that would take more
        than their share are left out, and the first one too if it does not fit the bound alone.
        """
        self._arena = arena
        size = 0
        symbols: list[list[str]] = []
        for code in batch:
            size += arena.room(code)
            if size > (self.bound // SHARE if symbols else self.bound):
                size -= arena.room(code)
                break
            symbols.append(sorted({symbol for _, symbol, _ in code.relocations}))
        if not symbols:
            self.stats.refused += 1
            return []
        wanted = sum(map(len, symbols))
        while self._by_key and (self.bytes + size > self.bound or self._slots_left() < wanted):
            self.evict()
        while True:
            slots = [{symbol: self._allocate() for symbol in names} for names in symbols]
            try:
                at = arena.place_all([(code, own.__getitem__) for code, own in zip(batch, slots)])
                return list(zip(at, slots))
            except ArenaFull:  # no hole is large enough
                self._free.extend(slot for own in slots for slot in own.values())
                if self._by_key:
                    self.evict()
                else:
                    symbols.pop()
                    if not symbols:
                        raise

    def insert(self, translation: Translation) -> None:
        """Add a translation that was admitted; what leads to its key is linked to it, its exits to what is there."""
        key = translation.key
        old = self._by_key.get(key)
        if old is not None:
            self.stats.overwrites += 1
            self._drop(old)
        elif key in self._gates:
            self._shut(self._gates.pop(key))
        self._by_key[key] = translation
        self._policy[key] = translation.room
        self.stats.bytes_max = max(self.stats.bytes_max, self.bytes)
        for page in translation.pages():
            self._pages.setdefault(page, set()).add(translation)
        for start, _ in translation.source:
            self._covered[start] = self._covered.get(start, 0) + 1
        for slot, leads in translation.exits.items():
            self._target[slot] = leads
            self._incoming.setdefault(leads, set()).add(slot)
            known = self.get(leads) if self._linked else None
            self._words[slot >> 3] = known.entry if known else self._words[LEAVE]
            self._words[slot - EXITS + LEADS >> 3] = self.guest_address(leads[0]) if leads[1] else NO_LEAD
        if translation.counter:
            self._words[translation.counter >> 3] = 0
        for slot, word in translation.words.items():
            self._words[slot >> 3] = word
        self._open(translation)
        for gate in translation.gates:
            if gate.key not in self:
                self._gates[gate.key] = gate
                self._open(gate)

    def _open(self, way: Translation) -> None:
        """What leads to its key goes there from now on."""
        if self._linked:
            for slot in self._incoming.get(way.key, ()):
                self._words[slot >> 3] = way.entry

    def remember_jump(self, pc: int, entry: int) -> None:
        """Enter an indirect jump's target into the jump cache."""
        if self._linked:
            at = _jump(pc)
            self._words[at] = pc
            self._words[at + 1] = entry

    # --- going --------------------------------------------------------------------------------------

    def evict(self) -> Key:
        """Drop the translation that the policy gives up first; KeyError if there is none."""
        key, _ = self._policy.popitem()
        self.stats.evictions += 1
        self._drop(self._by_key[key])
        return key

    def evict_all(self) -> None:
        """Drop everything, to have room."""
        while self._by_key:
            self.evict()

    def invalidate(self, start: int, end: int) -> int:
        """Drop every translation made from bytes in [start, end); returns how many there were."""
        first, last = start >> PAGE_SHIFT, end - 1 >> PAGE_SHIFT
        pages = range(first, last + 1) if last - first < len(self._pages) else list(self._pages)
        doomed = {t for page in pages for t in self._pages.get(page, ()) if t.overlaps(start, end)}
        self.drop(doomed)
        return len(doomed)

    def drop(self, stale: Collection[Translation]) -> None:
        """Invalidate these."""
        self.stats.invalidations += len(stale)
        for translation in stale:
            self._drop(translation)

    def clear(self) -> None:
        """Invalidate everything."""
        self.drop(list(self._by_key.values()))

    def _drop(self, translation: Translation) -> None:
        """The one way out: links to it and the jump-cache entry are undone, its slots and its code are free."""
        key = translation.key
        del self._by_key[key]
        if key in self._policy:
            del self._policy[key]
        self._shut(translation)
        for gate in translation.gates:
            if self._gates.get(gate.key) is gate:
                del self._gates[gate.key]
                self._shut(gate)
        for slot, target in translation.exits.items():
            self._incoming[target].discard(slot)
            if not self._incoming[target]:
                del self._incoming[target]
            del self._target[slot]
            self._free.append(slot)
        self._free.extend(translation.words)
        for start, _ in translation.source:
            self._covered[start] -= 1
            if not self._covered[start]:
                del self._covered[start]
        for page in translation.pages():
            self._pages[page].discard(translation)
            if not self._pages[page]:
                del self._pages[page]
        if translation.counter:
            self.gone[key] = self.gone.get(key, 0) + self.retired(translation)
            self._free.append(translation.counter)
        if self._arena is not None:
            self._arena.free(translation.entry)

    def _shut(self, way: Translation) -> None:
        """Nothing leads there any more."""
        for slot in self._incoming.get(way.key, ()):
            self._words[slot >> 3] = self._words[LEAVE]
        at = _jump(way.key[0])
        if self._words[at + 1] == way.entry:
            self._words[at] = JUMP_EMPTY
            self._words[at + 1] = 0
        self.dropped(way)

    # --- exit slots ---------------------------------------------------------------------------------

    def _slots_left(self) -> int:
        return len(self._free) + EXIT_SLOTS - self._fresh

    def _allocate(self) -> int:
        """The displacement of an unused exit slot."""
        if self._free:
            return self._free.pop()
        assert self._fresh < EXIT_SLOTS, "a batch has more exits than there are slots"
        self._fresh += 1
        return EXITS + 8 * (self._fresh - 1)


def _jump(pc: int) -> int:
    """Index of the words of a jump-cache entry."""
    return (JUMP_CACHE >> 3) + 2 * (pc >> 1 & JUMP_ENTRIES - 1)
