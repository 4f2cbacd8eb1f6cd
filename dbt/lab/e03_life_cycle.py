"""E03: translations come and go in every way there is: nothing is left behind, and the bound holds."""

from __future__ import annotations

import resource
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random

import guests
from dbt import regions
from dbt.arena import Arena
from dbt.block import Translation
from dbt.cache import TranslationCache
from dbt.code import Code
from dbt.lab.report import Report
from dbt.lab.workbench import CODE, Machine, asm
from dbt.memory import EXEC, READ, WRITE, page_up
from dbt.options import Options
from guests.spec import Guest

BOUND = 64 << 10  # bytes of host code
PIECES = 30  # of code, of different lengths
REGION = 40  # instructions, or twice as many, in some of them
CYCLES = 20_000  # after a fifth as many to warm up
NOISE = 4 << 20  # bytes that Python may take meanwhile for reasons of its own
WAYS = ("invalidations", "evictions", "overwrites")
BUFFER = 0x30000  # where the guest writes code
GENERATED = 150  # functions
APART = 1024  # bytes between them
LITTLE = 2 << 10  # bytes of host code for that guest


def run(report: Report) -> None:
    guest = guests.load("riscv64")
    with Machine(guest, functions(guest), True, Options(hot=0, cache_size=BOUND)) as machine:
        pieces = compiled(machine)
        cache, arena = machine.engine.cache, machine.engine.translator.backend.arena
        empty, rng = arena.used, Random(3)
        report.say(f"{PIECES} pieces of code from LLVM, entered and dropped {CYCLES:,} times within {BOUND:,} bytes")
        churn(cache, arena, pieces, CYCLES // 5, rng)
        before, maps, counts = resident(), mappings(arena), Counter(vars(cache.stats))
        placed = churn(cache, arena, pieces, CYCLES, rng)
        grown = resident() - before
        went = {way: getattr(cache.stats, way) - counts[way] for way in WAYS}
        for way in WAYS:
            report.figure(way, went[way])
        report.figure("bytes of code placed", placed)
        report.figure("most bytes at any time", cache.stats.bytes_max)
        report.figure("growth of the process in bytes", grown)
        report.check(min(went.values()) > CYCLES // 40, "translations went in each of these ways")
        report.check(0 < cache.stats.bytes_max <= BOUND, "the bound was never exceeded")
        report.check(arena.used - empty == cache.bytes == sum(t.room for t in cache.translations()),
                     "every byte in use belongs to a translation that is there")  # fmt: skip
        report.check(mappings(arena) == maps > 0, "the arena has as many mappings as before")
        report.check(grown < NOISE < placed, f"the process grew by less than {NOISE:,} bytes, and more were placed")
        cache.clear()
        report.check((len(cache), arena.used, len(arena.holes)) == (0, empty, 1),
                     "when all are dropped, free code memory is one range again")  # fmt: skip
    generating(report, guest)


def functions(guest: Guest) -> list[int]:
    """PIECES blocks, each one instruction longer than the last."""
    words = []
    for length in range(PIECES):
        words += [asm(guest, "ld", rd=10 + i % 6, rs1=9, imm=8 * i) for i in range(length)]
        words += [asm(guest, "bne", rs1=10, rs2=11, imm=8)]
    return [*words, asm(guest, "ebreak"), asm(guest, "ebreak")]


def compiled(machine: Machine) -> list[Code]:
    """The code of each of these blocks, or of regions that begin with it, placed nowhere yet."""
    found: list[Code] = []

    def admit(arena: Arena, batch: Sequence[Code]) -> list[tuple[int, dict[str, int]]]:
        found.extend(batch)
        return []

    translator, pc = machine.engine.translator, CODE
    for length in range(PIECES):
        request = regions.form(translator.lifter, (pc, True), machine.engine.promotion, REGION * (length % 3))
        translator.translate(request, admit)
        pc += 4 * (length + 1)
    return found


def churn(cache: TranslationCache, arena: Arena, pieces: list[Code], cycles: int, rng: Random) -> int:
    """Enter translations of random guest addresses, drop some at random; returns the bytes placed."""
    placed = 0
    for _ in range(cycles):
        pc, code = rng.randrange(0x1000, 0x2000, 4), rng.choice(pieces)
        ((at, slots),) = cache.admit(arena, [code])
        counter = next(slot for symbol, slot in slots.items() if symbol.endswith(".n"))
        exits = {slot: (rng.randrange(0x1000, 0x3000, 4), True) for slot in slots.values() if slot != counter}
        source = [(pc, bytes(4)), *((rng.randrange(0x3000, 0x5000, 4), bytes(4)) for _ in range(rng.randrange(4)))]
        cache.insert(Translation((pc, True), tuple(source), at, len(code.text), arena.room(code), 1, exits=exits,
                                 counter=counter))  # fmt: skip
        placed += len(code.text)
        if rng.randrange(3) == 0:
            start = pc + rng.choice((0, 0, 0x2000)) & -0x80
            cache.invalidate(start, start + 0x80)
        elif rng.randrange(2000) == 0:
            cache.clear()
    return placed


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def mappings(arena: Arena) -> int:
    """Mappings of the arena's code and of its fault table; Python maps and unmaps memory of its own besides."""
    places = ((arena.base, arena.base + arena.size), (arena.table, arena.table + 2 * arena.size))
    count = 0
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, end = (int(bound, 16) for bound in line.split()[0].split("-"))
        count += any(start < high and low < end for low, high in places)
    return count


def generating(report: Report, guest: Guest) -> None:
    """A guest that writes a function, calls it, and writes the next."""
    report.say(f"a guest that writes {GENERATED} functions, one after the other, and calls each; {LITTLE:,} bytes")
    words = [
        asm(guest, "sw", rs2=10, rs1=8, imm=0),  # addi a1, a1, N
        asm(guest, "sw", rs2=12, rs1=8, imm=4),  # ret
        asm(guest, "jalr", rd=1, rs1=8, imm=0),
        asm(guest, "add", rd=10, rs1=10, rs2=13),  # the next N
        asm(guest, "addi", rd=8, rs1=8, imm=APART),
        asm(guest, "addi", rd=7, rs1=7, imm=-1),
        asm(guest, "bne", rs1=7, rs2=0, imm=-24),
        asm(guest, "ebreak"),
    ]
    first, step = (asm(guest, "addi", rd=11, rs1=11, imm=n) for n in (1, 2))
    with Machine(guest, words, True, Options(hot=0, cache_size=LITTLE)) as machine:
        machine.space.map(BUFFER, page_up(GENERATED * APART), READ | WRITE | EXEC, fixed=True)
        machine.set(s0=BUFFER, a0=first, a2=asm(guest, "jalr", rd=0, rs1=1, imm=0), a3=step - first, t2=GENERATED)
        machine.call()
        engine, total = machine.engine, machine.get("a1")
        report.figure("translations made", engine.translator.stats.translations)
        report.figure("invalidations, evictions", f"{engine.cache.stats.invalidations}, {engine.cache.stats.evictions}")
        report.figure("most bytes at any time", engine.cache.stats.bytes_max)
    report.check(total == GENERATED * (GENERATED + 1) // 2, "each function did what was written last")
    report.check(engine.translator.stats.translations >= GENERATED, "each was translated")
    report.check(engine.cache.stats.bytes_max <= LITTLE and engine.cache.stats.evictions > 0, "within the bound")
