"""The translation cache: look-up by key, links between translations, invalidation by guest address.

A link is an exit slot, a word of data: linking and unlinking write no code. Until its target is translated
a slot leads to the monitor. Owns: the translations, exit slots, the jump cache. Must not know: how code is made.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable

from dbt.block import Key, Translation
from dbt.state import EXIT_SLOTS, EXITS, JUMP_CACHE, JUMP_EMPTY, JUMP_ENTRIES, LEAVE, State

PAGE_SHIFT = 12


class SlotsExhausted(Exception):
    """All exit slots are in use: the caller must clear the cache."""


class TranslationCache:
    """All translations of one engine."""

    def __init__(self, state: State) -> None:
        self._words = state.words
        self._state = state
        self._by_key: dict[Key, Translation] = {}
        self._incoming: dict[Key, set[int]] = {}  # key -> slots that lead there, translated or not
        self._target: dict[int, Key] = {}  # slot -> key
        self._pages: dict[int, set[Translation]] = {}
        self._free: list[int] = []
        self._fresh = 0
        self.invalidations = 0
        self._clear_jumps()

    def __len__(self) -> int:
        return len(self._by_key)

    def __contains__(self, key: Key) -> bool:
        return key in self._by_key

    def get(self, key: Key) -> Translation | None:
        return self._by_key.get(key)

    def translations(self) -> Iterable[Translation]:
        return self._by_key.values()

    def target(self, slot: int) -> Key:
        """Where the exit through this slot leads."""
        return self._target[slot]

    def allocate(self) -> int:
        """The displacement of an unused exit slot; raises SlotsExhausted."""
        if self._free:
            return self._free.pop()
        if self._fresh == EXIT_SLOTS:
            raise SlotsExhausted
        self._fresh += 1
        return EXITS + 8 * (self._fresh - 1)

    def insert(self, translation: Translation) -> None:
        """Add a translation; whatever leads to its key is linked to it, and its exits to what is there."""
        assert translation.key not in self._by_key
        self._by_key[translation.key] = translation
        first, last = translation.key[0] >> PAGE_SHIFT, max(translation.end - 1, translation.key[0]) >> PAGE_SHIFT
        for page in range(first, last + 1):
            self._pages.setdefault(page, set()).add(translation)
        for slot, key in translation.exits.items():
            self._target[slot] = key
            self._incoming.setdefault(key, set()).add(slot)
            known = self._by_key.get(key)
            self._words[slot >> 3] = known.entry if known else self._words[LEAVE]
        for slot in self._incoming.get(translation.key, ()):
            self._words[slot >> 3] = translation.entry

    def remember_jump(self, pc: int, entry: int) -> None:
        """Enter an indirect jump's target into the jump cache."""
        at = self._jump(pc)
        self._words[at] = pc
        self._words[at + 1] = entry

    def invalidate(self, start: int, end: int) -> int:
        """Drop every translation made from bytes in [start, end); returns how many there were."""
        doomed: set[Translation] = set()
        first, last = start >> PAGE_SHIFT, end - 1 >> PAGE_SHIFT
        pages = range(first, last + 1) if last - first < len(self._pages) else list(self._pages)
        for page in pages:
            for translation in self._pages.get(page, ()):
                if translation.key[0] < end and start < max(translation.end, translation.key[0] + 1):
                    doomed.add(translation)
        for translation in doomed:
            self._drop(translation)
        self.invalidations += len(doomed)
        return len(doomed)

    def _drop(self, translation: Translation) -> None:
        key = translation.key
        del self._by_key[key]
        for slot in self._incoming.get(key, ()):
            self._words[slot >> 3] = self._words[LEAVE]
        at = self._jump(key[0])
        if self._words[at + 1] == translation.entry:
            self._words[at] = JUMP_EMPTY
        for slot, target in translation.exits.items():
            self._incoming[target].discard(slot)
            if not self._incoming[target]:
                del self._incoming[target]
            del self._target[slot]
            self._free.append(slot)
        for page in range(key[0] >> PAGE_SHIFT, (max(translation.end - 1, key[0]) >> PAGE_SHIFT) + 1):
            self._pages[page].discard(translation)
            if not self._pages[page]:
                del self._pages[page]

    def clear(self) -> None:
        """Drop everything."""
        self.invalidations += len(self._by_key)
        for table in (self._by_key, self._incoming, self._target, self._pages):
            table.clear()
        self._free.clear()
        self._fresh = 0
        self._clear_jumps()

    def _jump(self, pc: int) -> int:
        return (JUMP_CACHE >> 3) + 2 * (pc >> 1 & JUMP_ENTRIES - 1)

    def _clear_jumps(self) -> None:
        """Entry 0 could match pc 0, so empty entries hold an odd address; only touched pages are reset."""
        empty = JUMP_EMPTY.to_bytes(8, "little") + bytes(8)
        ctypes.memmove(self._state.address + JUMP_CACHE, empty * JUMP_ENTRIES, 16 * JUMP_ENTRIES)
