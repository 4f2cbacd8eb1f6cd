"""Which translation goes first when room is needed: thin classes over cachetools.

A policy holds the size of every translation by key, within a bound in bytes. The store asks it for a victim
before it would have to drop one by itself: so cachetools never evicts behind the store's back. cachetools' own
ways around `__delitem__` (`clear`, overwriting) are not used.
A policy learns what runs from samples: `touch` is called for the translation that Python enters, never by
translated code. Owns: order. Must not know: what a translation is.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Protocol

from cachetools import Cache, FIFOCache, LFUCache, LRUCache

from dbt.block import Key


class Policy(Protocol):
    """Keys with their sizes, in the order in which they are to go."""

    @property
    def maxsize(self) -> float: ...
    @property
    def currsize(self) -> float: ...
    def __len__(self) -> int: ...
    def __contains__(self, key: object) -> bool: ...
    def __setitem__(self, key: Key, size: int) -> None: ...
    def __delitem__(self, key: Key) -> None: ...
    def touch(self, key: Key) -> None:
        """The translation is about to run."""

    def popitem(self) -> tuple[Key, int]:
        """Remove and return the one that goes first; KeyError if there is none."""


def _size(size: int) -> int:
    return size


class Fifo(FIFOCache):
    """First in, first out: the oldest translation goes first, whatever runs."""

    def __init__(self, bound: int) -> None:
        super().__init__(bound, _size)

    def touch(self, key: Key) -> None:
        pass


class Lru(LRUCache):
    """Least recently used: the one whose last known entry is longest ago."""

    def __init__(self, bound: int) -> None:
        super().__init__(bound, _size)

    def touch(self, key: Key) -> None:
        self[key]


class Lfu(LFUCache):
    """Least frequently used: the one with the fewest known entries, of these the oldest."""

    def __init__(self, bound: int) -> None:
        super().__init__(bound, _size)

    def touch(self, key: Key) -> None:
        self[key]


class Largest(Cache):
    """By size: the largest goes first, of equal ones the oldest; the fewest have to go."""

    def __init__(self, bound: int) -> None:
        super().__init__(bound, _size)
        self._heap: list[tuple[int, int, Key]] = []  # (-size, serial, key), those that went too
        self._serial: dict[Key, int] = {}
        self._next = 0

    def __setitem__(self, key: Key, size: int) -> None:
        super().__setitem__(key, size)
        self._next += 1
        self._serial[key] = self._next
        heappush(self._heap, (-size, self._next, key))
        if len(self._heap) > 2 * len(self) + 64:
            self._heap = [entry for entry in self._heap if self._serial.get(entry[2]) == entry[1]]
            heapify(self._heap)

    def __delitem__(self, key: Key) -> None:
        super().__delitem__(key)
        del self._serial[key]

    def touch(self, key: Key) -> None:
        pass

    def popitem(self) -> tuple[Key, int]:
        while self._heap:
            size, serial, key = heappop(self._heap)
            if self._serial.get(key) == serial:
                del self[key]
                return key, -size
        raise KeyError("the policy has no keys")


POLICIES: dict[str, Callable[[int], Policy]] = {  # by name: from a bound in bytes
    "lru": Lru,
    "lfu": Lfu,
    "fifo": Fifo,
    "size": Largest,
}


def policy(name: str, bound: int) -> Policy:
    """The policy of that name for a bound in bytes; raises ValueError."""
    if name not in POLICIES:
        raise ValueError(f"no cache policy {name!r} (there are: {', '.join(POLICIES)})")
    return POLICIES[name](bound)
