"""The translation cache: what an operation costs under each policy, and a program in a cache that is too small."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import dragoman
import guests
from dbt.arena import Arena
from dbt.backend import arena_size
from dbt.block import Key, Translation
from dbt.cache import TranslationCache
from dbt.cache.policies import POLICIES
from dbt.code import Code, Relocation
from dbt.state import LEAVE, State

EVERY = pytest.mark.parametrize("policy", POLICIES)
KILOBYTES = (4, 8, 1024)
SIZE, COUNT = 256, 512  # bytes of a translation; how many fit
GUEST = guests.load("riscv64")
CODE = Code(bytes(SIZE), {"f": (0, SIZE)}, (Relocation(4, "next", 0),), ((8, 16),), SIZE)

Did = Callable[..., None]


class Store:
    """A cache of translations that never run, each leading to the next."""

    def __init__(self, policy: str) -> None:
        self.state = State(GUEST)
        self.state.words[LEAVE] = 0x1000
        self.arena = Arena(arena_size(SIZE * COUNT))
        self.cache = TranslationCache(self.state, SIZE * COUNT, policy)

    def add(self, first: int, count: int = COUNT) -> None:
        for i in range(first, first + count):
            pc = 0x10000 + 16 * i
            ((at, slots),) = self.cache.admit(self.arena, [CODE])
            leads: dict[int, Key] = {slots["next"]: (pc + 16, True)}
            self.cache.insert(Translation((pc, True), ((pc, bytes(16)),), at, SIZE, SIZE, 4, exits=leads))


def full(policy: str) -> Store:
    store = Store(policy)
    store.add(0)
    assert len(store.cache) == COUNT and not store.cache.stats.evictions
    return store


@EVERY
@pytest.mark.benchmark(group="cache: look-up")
def test_hit(benchmark: BenchmarkFixture, did: Did, policy: str) -> None:
    store = full(policy)
    keys = [t.key for t in store.cache.translations()]
    found = benchmark(lambda: [store.cache.find(key) for key in keys])
    assert None not in found
    did(operations=COUNT)


@EVERY
@pytest.mark.benchmark(group="cache: look-up")
def test_miss(benchmark: BenchmarkFixture, did: Did, policy: str) -> None:
    store = full(policy)
    found = benchmark(lambda: [store.cache.find((16 * i, True)) for i in range(COUNT)])
    assert found == [None] * COUNT
    did(operations=COUNT)


@EVERY
@pytest.mark.benchmark(group="cache: change")
def test_insert_where_there_is_room(benchmark: BenchmarkFixture, did: Did, policy: str) -> None:
    """Placing the code and linking it included."""
    benchmark.pedantic(lambda store: store.add(0), setup=lambda: ((Store(policy),), {}), rounds=10)
    did(operations=COUNT)


@EVERY
@pytest.mark.benchmark(group="cache: change")
def test_insert_where_another_must_go(benchmark: BenchmarkFixture, did: Did, policy: str) -> None:
    def check(store: Store) -> None:
        store.add(COUNT)
        assert store.cache.stats.evictions == COUNT

    benchmark.pedantic(check, setup=lambda: ((full(policy),), {}), rounds=10)
    did(operations=COUNT)


@EVERY
@pytest.mark.benchmark(group="cache: change")
def test_evict_all(benchmark: BenchmarkFixture, did: Did, policy: str) -> None:
    benchmark.pedantic(lambda store: store.cache.evict_all(), setup=lambda: ((full(policy),), {}), rounds=10)
    did(operations=COUNT)


@EVERY
@pytest.mark.benchmark(group="cache: invalidate")
def test_invalidate_a_page(benchmark: BenchmarkFixture, did: Did, policy: str) -> None:
    def check(store: Store) -> None:
        assert store.cache.invalidate(0x11000, 0x12000) == 4096 // 16

    benchmark.pedantic(check, setup=lambda: ((full(policy),), {}), rounds=10)
    did(operations=4096 // 16)


@EVERY
@pytest.mark.parametrize("kilobytes", KILOBYTES)
@pytest.mark.benchmark(group="cache: a program")
def test_a_program_in_a_small_cache(benchmark: BenchmarkFixture, did: Did, policy: str, kilobytes: int) -> None:
    """Sorting, whose code takes 11 KiB; in the JSON: what was translated, evicted and found."""
    output = os.open(os.devnull, os.O_WRONLY)
    seen: dict[str, Any] = {}

    def run() -> None:
        options = dragoman.Options(cache_size=kilobytes << 10, cache_policy=policy)
        with dragoman.load("@sort", ["small"], seed=0, stdout=output, options=options) as process:
            assert process.run() == 0
            seen.update(process.stats())

    benchmark.pedantic(run, rounds=1)
    os.close(output)
    names = ("translations", "cache_evictions", "cache_hits", "cache_misses", "cache_bytes_max")
    benchmark.extra_info.update({name: seen[name] for name in names})
    did(instructions=seen["instructions"])
