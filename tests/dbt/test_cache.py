"""The translation cache: its bound, its policies, what dropping a translation undoes, and that nothing is leaked.

The first part is a contract that every policy meets; it works on made-up code that never runs. The second part runs
programs that need more than the bound.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import random
import re
import resource
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from support.riscv import GUEST, Rig, asm, words_to_bytes

import dragoman
from dbt.arena import ALIGN, Arena, ArenaFull
from dbt.block import Key, Translation
from dbt.cache import TranslationCache
from dbt.cache.policies import POLICIES, policy
from dbt.cli.options import policy as chosen
from dbt.code import Code, Relocation
from dbt.lab.e03_life_cycle import mappings
from dbt.options import Options
from dbt.state import EXIT_SLOTS, JUMP_CACHE, JUMP_EMPTY, JUMP_ENTRIES, LEAVE, State
from guests.programs import PROGRAMS

EVERY = pytest.mark.parametrize("name", POLICIES)
MONITOR = 0x1234  # where an exit leads that has no target: nothing runs here
BOUND = 1 << 14


class Bench:
    """A cache over an arena, with code that is never run."""

    def __init__(self, name: str, bound: int = BOUND, slack: int = 1 << 14) -> None:
        self.state = State(GUEST)
        self.state.words[LEAVE] = MONITOR
        self.arena = Arena(bound + slack)
        self.cache = TranslationCache(self.state, bound, name)

    def add(self, pc: int, size: int = 64, leads: tuple[int, ...] = (), faults: bool = True,
            also: tuple[int, ...] = (), gates: tuple[int, ...] = ()) -> Translation | None:  # fmt: skip
        """Admit and insert a translation of `pc`, and of the blocks at `also`, of `size` bytes with an exit to each of
        `leads`, and gates. What retires is counted where there is room for another relocation."""
        relocations = tuple(Relocation(4 * i, f"e{i}", 0) for i in range(len(leads)))
        if size >= 16:
            relocations += (Relocation(4 * len(leads), "n", 0),)
        code = Code(b"\x90" * size, {"f": (0, size)}, relocations, ((2, size - 2),) if faults else (), size)
        placed = self.cache.admit(self.arena, [code])
        if not placed:
            return None
        at, slots = placed[0]
        exits: dict[int, Key] = {slots[f"e{i}"]: (to, True) for i, to in enumerate(leads)}
        source = tuple((start, bytes(4)) for start in (pc, *also))
        made = Translation((pc, True), source, at, size, self.arena.room(code), len(source), exits=exits,
                           counter=slots.get("n", 0))  # fmt: skip
        made.gates = tuple([
            Translation((gate, True), (), at + 8 * i, 0, 0, 0, of=made) for i, gate in enumerate(gates, 1)
        ])  # fmt: skip
        self.cache.insert(made)
        return made

    def led(self, translation: Translation) -> list[int]:
        """Where its exits lead now."""
        return [self.state.words[slot >> 3] for slot in translation.exits]

    def jump(self, pc: int) -> tuple[int, int]:
        at = (JUMP_CACHE >> 3) + 2 * (pc >> 1 & JUMP_ENTRIES - 1)
        return self.state.words[at], self.state.words[at + 1]

    def check(self) -> None:
        """What holds at all times: bound, bytes, links, fault table, jump cache, pages."""
        cache, arena, words = self.cache, self.arena, self.state.words
        known = {t.key: t for t in cache.translations()}
        assert cache.bytes == sum(t.room for t in known.values()) == arena.used <= cache.bound
        assert cache.stats.bytes_max <= cache.bound
        counters = [t.counter for t in known.values() if t.counter]
        assert cache._slots_left() + len(cache._target) + len(counters) == EXIT_SLOTS
        assert not set(counters) & set(cache._target) and len(set(counters)) == len(counters)
        blocks = Counter(start for t in known.values() for start, _ in t.source)
        assert blocks == cache._covered
        begins = known | cache._gates
        assert len(begins) == len(known) + len(cache._gates) and all(begins[key] is cache.get(key) for key in begins)
        assert all(known.get(gate.of.key) is gate.of for gate in cache._gates.values() if gate.of)
        for t in known.values():
            for slot, leads in t.exits.items():
                assert words[slot >> 3] == (begins[leads].entry if leads in begins else MONITOR)
        ranges = sorted((t.entry - arena.base, t.entry - arena.base + t.room) for t in known.values())
        free = arena.holes
        both = sorted([*ranges, *free])
        assert both[0][0] == ALIGN and both[-1][1] == arena.size
        assert all(a[1] == b[0] for a, b in pairwise(both)), "every byte is placed or free, none is both"
        assert all(a[1] < b[0] for a, b in pairwise(free)), "free ranges that touch are one"

    def faults(self) -> dict[int, int]:
        """Every entry of the fault table."""
        return {2 * i: landing for i, landing in enumerate(self.arena._faults) if landing}


def keys(cache: TranslationCache) -> list[int]:
    return sorted(t.key[0] for t in cache.translations())


# --- the contract -----------------------------------------------------------------------------------------------


@EVERY
def test_bytes_never_exceed_the_bound(name: str) -> None:
    rng, bench = random.Random(name), Bench(name)
    for i in range(600):
        pcs = rng.sample(range(0x1000, 0x1000 + 4 * 500, 4), 3)
        gates = tuple(rng.sample(range(0x1000, 0x1000 + 4 * 500, 4), rng.randrange(4)))
        assert bench.add(pcs[0], rng.randrange(8, 700), (pcs[1], pcs[2]), gates=gates)
        if rng.randrange(3) == 0:
            bench.cache.find((pcs[1], True))
        if i % 20 == 0:
            bench.check()
    assert bench.cache.stats.evictions > 100
    assert BOUND * 0.8 < bench.cache.stats.bytes_max <= BOUND


@EVERY
def test_an_evicted_translation_leaves_nothing_behind(name: str) -> None:
    bench = Bench(name)
    target = bench.add(0x2000)
    source = bench.add(0x1000, 64, (0x2000, 0x3000))
    assert target and source and bench.led(source) == [target.entry, MONITOR]
    bench.cache.remember_jump(0x2000, target.entry)
    assert bench.jump(0x2000) == (0x2000, target.entry)
    at = {t.entry - bench.arena.base: t.entry - bench.arena.base + 62 for t in (target, source)}
    assert bench.faults() == {start + 2: landing for start, landing in at.items()}
    while target.key in bench.cache:
        bench.cache.evict()
    assert bench.jump(0x2000)[0] == JUMP_EMPTY
    if source.key in bench.cache:
        assert bench.led(source) == [MONITOR, MONITOR]
    assert target.entry - bench.arena.base + 2 not in bench.faults()
    bench.cache.evict_all()
    assert (len(bench.cache), bench.cache.bytes, bench.arena.used, bench.faults()) == (0, 0, 0, {})
    assert bench.arena.holes == [(ALIGN, bench.arena.size)]
    with pytest.raises(KeyError):
        bench.cache.evict()


@EVERY
def test_gates_come_and_go_with_their_translation(name: str) -> None:
    bench = Bench(name)
    source = bench.add(0x1000, 64, (0x2000, 0x3000, 0x4000))
    region = bench.add(0x2000, 128, gates=(0x3000, 0x4000))
    assert source and region
    one, two = region.gates
    assert bench.led(source) == [region.entry, region.entry + 8, region.entry + 16]
    assert (0x3000, True) in bench.cache and bench.cache.find((0x3000, True)) is one and len(bench.cache) == 2
    bench.cache.remember_jump(0x4000, two.entry)
    own = bench.add(0x3000, 64)
    assert own and bench.cache.get(own.key) is own, "a translation of its own goes before a gate"
    assert bench.led(source) == [region.entry, own.entry, two.entry]
    other = bench.add(0x5000, 64, gates=(0x4000,))
    assert other and bench.cache.get((0x4000, True)) is two, "the gate that is there stays"
    gone: list[Key] = []
    bench.cache.dropped = lambda way: gone.append(way.key)
    bench.check()
    bench.cache.drop([region])
    assert gone == [(0x2000, True), (0x4000, True)]
    assert bench.led(source) == [MONITOR, own.entry, MONITOR] and bench.jump(0x4000)[0] == JUMP_EMPTY
    bench.check()
    bench.cache.drop([own])
    assert bench.led(source) == [MONITOR] * 3
    bench.check()


@EVERY
@pytest.mark.parametrize("how", ["evict", "overwrite", "invalidate", "clear"])
def test_every_way_out_undoes_the_same(name: str, how: str) -> None:
    bench = Bench(name)
    first = bench.add(0x1000, 64, (0x1000, 0x2000))
    assert first and bench.led(first) == [first.entry, MONITOR]
    bench.cache.remember_jump(0x1000, first.entry)
    if how == "overwrite":
        second = bench.add(0x1000, 100, (0x1000,))
        assert second and bench.led(second) == [second.entry]
        assert bench.jump(0x1000)[0] == JUMP_EMPTY
        assert keys(bench.cache) == [0x1000]
        bench.check()
        bench.cache.clear()
    else:
        {"evict": bench.cache.evict, "clear": bench.cache.clear,
         "invalidate": lambda: bench.cache.invalidate(0x1000, 0x1001)}[how]()  # fmt: skip
    s = bench.cache.stats
    assert (s.evictions, s.overwrites, s.invalidations) == (how == "evict", how == "overwrite", how != "evict")
    assert (len(bench.cache), bench.cache.bytes, bench.arena.used, bench.faults()) == (0, 0, 0, {})
    assert bench.jump(0x1000)[0] == JUMP_EMPTY
    assert not (bench.cache._incoming or bench.cache._target or bench.cache._pages or bench.cache._covered)
    bench.check()


@EVERY
def test_what_is_larger_than_the_bound_is_refused_and_evicts_nothing(name: str) -> None:
    bench = Bench(name)
    assert bench.add(0x1000, BOUND // 2)
    assert bench.add(0x2000, BOUND + 1) is None
    assert (keys(bench.cache), bench.cache.stats.refused, bench.cache.stats.evictions) == ([0x1000], 1, 0)
    assert bench.add(0x2000, BOUND)
    assert keys(bench.cache) == [0x2000]
    bench.check()


@EVERY
def test_free_ranges_that_are_too_small_are_made_larger_by_eviction(name: str) -> None:
    """The bound would allow it, but no hole is large enough."""
    bench = Bench(name, BOUND, slack=ALIGN)
    for i in range(BOUND // 256):
        assert bench.add(0x1000 + 4 * i, 256)
    for i in range(0, BOUND // 256, 2):
        bench.cache.invalidate(0x1000 + 4 * i, 0x1000 + 4 * i + 1)
    bench.check()
    assert bench.add(0x8000, 4096 + 2048)
    assert bench.cache.stats.evictions > 0
    bench.check()


ORDER = {  # which of a (old, large), b (run often), c (run last), d (new) go first, one after the other
    "fifo": [0xA000, 0xB000, 0xC000, 0xD000],
    "lru": [0xD000, 0xA000, 0xB000, 0xC000],
    "lfu": [0xD000, 0xA000, 0xC000, 0xB000],
    "size": [0xA000, 0xC000, 0xB000, 0xD000],
}


@EVERY
def test_the_order_in_which_they_go(name: str) -> None:
    bench = Bench(name)
    for pc, size in ((0xA000, 400), (0xB000, 100), (0xC000, 200), (0xD000, 40)):
        bench.add(pc, size)
    for pc in (0xA000, 0xB000, 0xB000, 0xB000, 0xC000, 0xC000):
        assert bench.cache.find((pc, True))
    assert bench.cache.find((0xE000, True)) is None
    assert (bench.cache.stats.hits, bench.cache.stats.misses) == (6, 1)
    assert [bench.cache.evict()[0] for _ in range(4)] == ORDER[name]


def test_looking_without_running_changes_no_order() -> None:
    bench = Bench("lru")
    bench.add(0xA000)
    bench.add(0xB000)
    assert bench.cache.get((0xA000, True)) and (0xA000, True) in bench.cache
    assert bench.cache.evict() == (0xA000, True)


def test_a_policy_is_chosen_by_name_on_the_command_line_too(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [chosen(name) for name in POLICIES] == list(POLICIES)
    monkeypatch.setitem(POLICIES, "nonesuch", POLICIES["fifo"])
    assert chosen("nonesuch") == "nonesuch"
    monkeypatch.undo()
    with pytest.raises(argparse.ArgumentTypeError, match="there is no policy 'nonesuch'"):
        chosen("nonesuch")
    with pytest.raises(ValueError, match="no cache policy 'best'"):
        policy("best", 1)
    with pytest.raises(ValueError, match="no cache policy 'best'"):
        dragoman.load("@hello", options=dragoman.Options(cache_policy="best"))


def test_a_batch_takes_no_more_than_its_share() -> None:
    bench = Bench("lru")
    codes = [Code(b"\x90" * 1024, {"f": (0, 1024)}, (), (), 1024) for _ in range(12)]
    assert len(bench.cache.admit(bench.arena, codes)) == 4
    big = Code(b"\x90" * BOUND, {"f": (0, BOUND)}, (), (), BOUND)
    bench = Bench("lru")
    assert len(bench.cache.admit(bench.arena, [big, *codes])) == 1


# --- the arena --------------------------------------------------------------------------------------------------


def piece(size: int) -> Code:
    return Code(bytes(size), {"f": (0, size)}, (), (), size)


def test_a_batch_is_placed_wholly_or_not_at_all() -> None:
    arena = Arena(1 << 12)
    with pytest.raises(ArenaFull):
        arena.place_all([(piece(2000), {}.__getitem__), (piece(3000), {}.__getitem__)])
    assert (arena.used, arena.holes) == (0, [(ALIGN, 1 << 12)])


def test_the_smallest_hole_that_is_large_enough_is_taken() -> None:
    arena = Arena(1 << 12)
    at = [arena.place(piece(256), {}.__getitem__) for _ in range(8)]
    for i in (1, 2, 4, 6):
        arena.free(at[i])
    assert arena.place(piece(256), {}.__getitem__) == at[4]
    assert arena.place(piece(100), {}.__getitem__) == at[6]
    assert arena.place(piece(300), {}.__getitem__) == at[1]
    arena.free(at[7])
    with pytest.raises(KeyError):
        arena.free(at[7])


def protections(arena: Arena) -> set[str]:
    """Rights of the arena's mappings, from /proc/self/maps."""
    found = set()
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, end, rights = re.match(r"(\w+)-(\w+) (....)", line).groups()  # type: ignore[union-attr]
        if int(start, 16) < arena.base + arena.size and arena.base < int(end, 16):
            found.add(rights)
    return found


def test_pages_are_executable_and_not_writable_after_placing_and_freeing() -> None:
    arena = Arena(1 << 16)
    placed = arena.place_all([(piece(size), {}.__getitem__) for size in (100, 5000, 20, 9000)])
    assert protections(arena) == {"r-xp"}
    arena.free(placed[1])
    assert protections(arena) == {"r-xp"}


def test_functions_with_constants_are_placed_with_them() -> None:
    from dbt.backend import compiler
    from dbt.hosts import select

    triple = select.host().triple
    text = f'target triple = "{triple}"\n' + "\n".join(
        f"define double @f{i}(double %a) nounwind {{\n %b = fmul double %a, {value}\n ret double %b\n}}"
        for i, value in enumerate(("3.5", "0x3FF3333333333333", "7.25"))
    )
    code = compiler(triple, 1).compile(text)
    assert len(code.text) > code.constants
    arena = Arena(1 << 16)
    call = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)
    arena.place(piece(48), {}.__getitem__)  # so that it lies elsewhere
    at = arena.place(code, {}.__getitem__)
    for name, wanted in (("f0", 3.5), ("f1", 1.2), ("f2", 7.25)):
        assert call(at + code.functions[name][0])(2.0) == 2 * wanted


# --- nothing is leaked --------------------------------------------------------------------------------------------


def resident() -> int:
    """Bytes of this process in memory, when what other tests left behind has gone."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def churn(bench: Bench, cycles: int, rng: random.Random) -> None:
    for _ in range(cycles):
        pc = rng.randrange(0x1000, 0x9000, 4)
        also = tuple(rng.sample(range(0x1000, 0x9000, 4), rng.choice((0, 0, 1, 5))))  # in other pages, mostly
        made = bench.add(pc, rng.randrange(8, 500), (pc ^ 0x40, rng.randrange(0x1000, 0x9000, 4)), also=also)
        assert made is not None
        if made.counter:
            bench.state.words[made.counter >> 3] += 100
        match rng.randrange(8):
            case 0:
                bench.cache.evict()
            case 1 | 2:
                bench.cache.invalidate(pc & -0x100, (pc & -0x100) + 0x100)
            case 3:
                bench.cache.find((pc ^ 0x40, True))
            case 4 if rng.randrange(200) == 0:
                bench.cache.clear()


def leaks_nothing(name: str, cycles: int) -> None:
    rng, bench = random.Random(1), Bench(name, 1 << 16)
    churn(bench, 3000, rng)
    before = resident(), mappings(bench.arena)
    churn(bench, cycles, rng)
    bench.check()
    grown = resident() - before[0]
    assert abs(grown) < 2 << 20
    assert mappings(bench.arena) == before[1] > 0
    assert bench.cache.stats.evictions > cycles // 20 and bench.cache.stats.invalidations > cycles // 20
    bench.cache.clear()
    assert bench.arena.used == 0 and not bench.faults()
    print(f"\n{name}: {cycles} cycles, {grown} bytes more resident")


@EVERY
def test_ten_thousand_cycles_leak_nothing(name: str) -> None:
    leaks_nothing(name, 10_000)


@pytest.mark.long
@EVERY
def test_a_hundred_thousand_cycles_leak_nothing(name: str) -> None:
    leaks_nothing(name, 100_000)


# --- programs -----------------------------------------------------------------------------------------------------

CODE, DATA = 0x10000, 0x80000
REGIONS = ((CODE, 0x20000, 7), (DATA, 0x2000, 3))


def functions(count: int) -> list[int]:
    """A loop that calls each of `count` functions, by direct and indirect calls in turn, t2 times."""
    start = 8 * count + 12
    words = []
    for i in range(count):  # functions lie behind the loop, 16 bytes each; s0 points at the first
        if i % 2:
            words += [asm("jalr", rd=1, rs1=8, imm=16 * i), asm("addi", rd=6, rs1=6, imm=i)]
        else:
            words += [asm("jal", rd=1, imm=start + 16 * i - 8 * i), asm("addi", rd=6, rs1=6, imm=i)]
    words += [
        asm("addi", rd=5, rs1=5, imm=1),
        asm("bne", rs1=5, rs2=7, imm=-8 * count - 4),
        asm("jal", rd=0, imm=16 * count + 4),
    ]
    for i in range(count):
        words += [asm("addi", rd=10, rs1=10, imm=i + 1), asm("sd", rs1=9, rs2=10, imm=8 * (i % 64)),
                  asm("ld", rd=11, rs1=9, imm=8 * (i % 32)), asm("jalr", rd=0, rs1=1, imm=0)]  # fmt: skip
    return words


def run_functions(options: Options | None, count: int = 24, rounds: int = 5) -> tuple[Rig, tuple[Any, ...]]:
    words = functions(count)
    made = Rig(REGIONS, options, translated=options is not None)
    made.space.poke(CODE, words_to_bytes([*words, asm("ecall")]))
    made.state.pc = CODE
    for name, value in {"t2": rounds, "s0": CODE + 8 * count + 12, "s1": DATA}.items():
        made.state.slots[made.state.slot(name)] = value
    stop = made.run(1 << 40)
    return made, (made.outcome(stop), made.memory())


@pytest.fixture(scope="module")
def expected() -> tuple[Any, ...]:
    made, result = run_functions(None)
    made.close()
    assert result[0][0].trap and result[0][2] > 500
    return result


@EVERY
def test_a_program_that_needs_more_than_the_bound_is_right(name: str, expected: tuple[Any, ...]) -> None:
    size = 2 << 10
    made, result = run_functions(Options(hot=0, cache_size=size, cache_policy=name))
    assert result == expected
    stats = made.engine.cache.stats
    assert stats.evictions > 20 and made.engine.cache.bytes <= stats.bytes_max <= size
    made.close()


def test_without_a_cache_the_results_are_the_same(expected: tuple[Any, ...]) -> None:
    made, result = run_functions(Options(cache_off=True), 4, 3)
    reference, wanted = run_functions(None, 4, 3)
    assert result == wanted
    engine = made.engine
    assert engine.cache.stats.hits == 0 and engine.exits["miss"] > 0
    assert (
        engine.translator.stats.translations == engine.entries == made.state.blocks + 1
    )  # the last one is the ecall's
    assert len(engine.cache) == 1
    made.close()
    reference.close()


def test_without_a_cache_a_loop_of_one_block_comes_back_each_time() -> None:
    made = Rig(REGIONS, Options(cache_off=True), translated=True)
    words = [asm("addi", rd=5, rs1=5, imm=1), asm("bne", rs1=5, rs2=7, imm=-4), asm("ecall")]
    made.space.poke(CODE, words_to_bytes(words))
    made.state.pc, made.state.slots[7] = CODE, 20
    assert made.run(1 << 40).trap
    assert made.state.blocks == 20 and made.engine.entries == 21  # the last one is the ecall's
    made.close()


def test_the_policy_hears_what_the_engine_runs() -> None:
    """Two blocks, the older one run again: lru gives up the other one."""
    made = Rig(REGIONS, Options(hot=0, cache_policy="lru"), translated=True)
    old, new = CODE, CODE + 0x100
    for at in (old, new):
        made.space.poke(at, words_to_bytes([asm("addi", rd=5, rs1=0, imm=1), asm("ecall")]))
    for at in (old, new, old):
        made.state.pc = at
        assert made.run(1 << 40).trap
    assert made.engine.cache.stats.hits == 1
    assert made.engine.cache.evict()[0] in (new, new + 4)
    made.close()


@EVERY
def test_code_that_is_generated_for_ever_stays_under_the_bound(name: str) -> None:
    """The guest's memory fills with ever new code; the host's does not."""
    made = Rig(REGIONS, Options(hot=0, cache_size=4 << 10, cache_policy=name), translated=True)
    arena, rng = None, random.Random(2)
    for i in range(250):
        at = CODE + 0x100 * (i % 400)
        value = rng.randrange(2000)
        made.space.poke(
            at, words_to_bytes([asm("addi", rd=5, rs1=0, imm=value), asm("sd", rs1=9, rs2=5, imm=0), asm("ecall")])
        )
        made.state.slots[9], made.state.pc = DATA, at
        assert made.run(1 << 40).trap
        assert made.state.slots[5] == value
        arena = made.engine.translator.backend.arena
        assert made.engine.cache.bytes <= 4 << 10
    assert arena is not None and arena.used < 6 << 10  # with the way in and out
    stats = made.engine.cache.stats
    assert stats.evictions + stats.invalidations > 150
    made.close()


@EVERY
def test_a_bundled_program_in_a_tiny_cache(name: str) -> None:
    p = PROGRAMS["vm"]
    options = dragoman.Options(cache_size=2 << 10, cache_policy=name, tiers=(1,))
    result = dragoman.run(f"@{p.name}", p.small, seed=0, options=options)
    assert (result.stdout.decode(), result.status) == (p.small_output, 0)
    assert result.stats["cache_evictions"] > 0
    assert 0 < result.stats["cache_bytes"] <= result.stats["cache_bytes_max"] <= 2 << 10


def test_no_cache_at_all_changes_no_output() -> None:
    result = dragoman.run("@hello", seed=0, options=dragoman.Options(cache_off=True))
    assert (result.stdout.decode(), result.status) == (dragoman.run("@hello", seed=0).stdout.decode(), 0)
    assert result.stats["translations"] == result.stats["python_entries"] > 50 and result.stats["cache_hits"] == 0


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_disturbed_at_random_in_a_tiny_cache(seed: int, expected: tuple[Any, ...]) -> None:
    made, result = run_functions(Options(hot=2, tiers=(1,), cache_size=2 << 10, chaos=seed))
    assert result == expected
    made.close()
