"""Accesses, data and random page tables for two harts that are compared (`support.pair`)."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from support.harts import CODE, RAM
from support.pair import Pair, word
from support.riscv import MASK, Tally

from guests.riscv import mmu

Accesses = Sequence[tuple[str, dict[str, int]]]
ACCESSES: Accesses = [
    *((name, {"rd": 11, "rs1": 10, "imm": 0}) for name in ("lb", "lh", "lw", "ld", "lbu", "lhu", "lwu")),
    *((name, {"rs1": 10, "rs2": 12, "imm": 0}) for name in ("sb", "sh", "sw", "sd")),
    *((name, {"rd": 11, "rs1": 10, "aq": 0, "rl": 0}) for name in ("lr.w", "lr.d")),
    *(
        (name, {"rd": 11, "rs1": 10, "rs2": 12, "aq": 0, "rl": 0})
        for name in ("sc.w", "sc.d", "amoadd.w", "amoswap.d", "amomaxu.d")
    ),
    ("cbo.zero", {"rs1": 10}),
]
SIZES = {"b": 1, "h": 2, "w": 4, "d": 8}
TABLES = RAM + 0x10_0000
PAGES = [RAM + 0x2_0000 + 0x1000 * i for i in range(16)]  # with data


def size_of(name: str) -> int:
    return 64 if name == "cbo.zero" else SIZES[name.split(".")[-1].rstrip("u")[-1]]


def lay_out(pair: Pair, accesses: Accesses = ACCESSES) -> None:
    """The accesses at CODE, one after the other, and data in pages that are unlike."""
    pair.reset()
    for i in range(0, len(accesses), 2):
        words = [word(name, **fields) for name, fields in accesses[i : i + 2]]
        pair.poke(CODE + 4 * i, words[0] | (words[1] << 32 if len(words) == 2 else 0))
    rng = Random(0)
    for page in PAGES:
        for offset in (*range(0, 256, 8), *range(4096 - 128, 4096, 8)):
            pair.poke(page + offset, rng.getrandbits(62) << 2 | 1)  # of which each half is a compressed instruction
    pair.fence()


def offset(rng: Random) -> int:
    """Within a page: where there is data, sometimes at its end."""
    return rng.choice((rng.randrange(240), rng.randrange(4096 - 128, 4096)))


def entry(rng: Random, number: int, leaf: bool) -> int:
    """A page-table entry: a pointer or a leaf, mostly a good one."""
    flags = mmu.V if rng.randrange(20) else 0
    if leaf:
        flags |= rng.choice((0xE, 0xE, 0xE, 0xE, 0xA, 0x6, 0x2, 0x8, 0x4, rng.getrandbits(4) & 0xE))
        flags |= rng.choice((0, mmu.U)) | rng.choice((0, mmu.A, *[mmu.A | mmu.D] * 5))
    elif rng.randrange(12) == 0:
        flags |= rng.choice((mmu.A, mmu.D, mmu.U))
    flags |= rng.choice((0, 0, mmu.G, 0x100, 0x200))
    high = 0
    match rng.randrange(16):
        case 0:
            high = rng.randrange(4) << 61
        case 1:
            high = 1 << rng.randrange(54, 61)
        case 2:
            high = mmu.N
            number = rng.choice((number, number & -16 | 8))
    return high | number << 10 | flags


def walk(pair: Pair, rng: Random) -> tuple[int, int, list[int]]:
    """Tables for one address: (satp, the address, where its entries are)."""
    satp_mode = rng.choice((8, 9, 10))
    levels = mmu.LEVELS[satp_mode]
    indices = [rng.choice((0, 1, 511, 256, rng.randrange(512))) for _ in range(levels)]
    leaf_at = rng.choice((0, 0, 0, 0, 1, 1, 2, levels - 1))
    for level in range(leaf_at):  # so that a big page leads to where there is memory
        if rng.randrange(8):
            indices[levels - 1 - level] = 0
            if level == 0:
                indices[-1] = PAGES[0] - RAM >> 12
    address = 0
    for index in indices:
        address = address << 9 | index
    address = address << 12 | offset(rng)
    top = 12 + 9 * levels
    if address >> top - 1:
        address |= MASK >> top << top
    if rng.randrange(16) == 0:
        address ^= 1 << rng.randrange(top - 1, 64)
    table = TABLES
    root = table >> 12
    places = []
    for depth, index in enumerate(indices):
        level = levels - 1 - depth
        place = table + 8 * index
        places.append(place)
        if level == leaf_at:
            number = rng.choice(PAGES) >> 12 if level == 0 else RAM >> 12
            if rng.randrange(16) == 0:
                number = rng.choice((0x1, rng.getrandbits(44), number | 1))  # absent, or not aligned
            pair.poke(place, entry(rng, number, True))
            break
        table += 0x1000
        number = table >> 12 if rng.randrange(24) else rng.choice((0x1, rng.getrandbits(44)))
        pair.poke(place, entry(rng, number, False))
        if number != table >> 12:
            break
    return satp_mode << 60 | rng.getrandbits(16) << 44 | root, address, places


def compare_data(pair: Pair, tally: Tally) -> None:
    """All pages of data."""
    pair.reset()
    pair.fence()
    for page in PAGES:
        for offset in (*range(0, 320, 8), *range(4096 - 128, 4096, 8)):
            mine, theirs = pair.ours.peek(page + offset), pair.spike.peek(page + offset)
            tally.check(mine == theirs) or tally.note(f"memory at {page + offset:#x}: {mine:#x}, Spike {theirs:#x}")
