"""The hypervisor extension against Spike, whose hart goes through the same steps as ours (`support.pair`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from random import Random

import pytest
from support import memory
from support.harts import CODE, HANDLER, RAM, S_HANDLER
from support.pair import (
    BITS_DIFFER,
    MCAUSE,
    MEDELEG,
    MENVCFG,
    MIDELEG,
    MIE,
    MIP,
    MSTATUS,
    MTVAL,
    MTVEC,
    NOT_WRITTEN,
    PMPADDR0,
    PMPCFG0,
    SATP,
    SCAUSE,
    SEPC,
    SGEI,
    SHOWN_DIFFER,
    SPIKE_ONLY,
    STVEC,
    VALUES_DIFFER,
    Pair,
    corner,
    csr_instruction,
    csr_word,
    word,
)
from support.riscv import MASK, Tally, scaled

from guests.riscv import mmu
from guests.riscv import privileged as p

VS, VU = 4 | p.SUPERVISOR, 4 | p.USER
MODES = (p.USER, p.SUPERVISOR, p.MACHINE, VU, VS)
VS_HANDLER = HANDLER + 0x2000
HSTATUS, HEDELEG, HIDELEG, HIE, HTIMEDELTA, HCOUNTEREN, HENVCFG, HTVAL, HVIP, HTINST, HGATP = (
    0x600, 0x602, 0x603, 0x604, 0x605, 0x606, 0x60A, 0x643, 0x645, 0x64A, 0x680,
)  # fmt: skip
VSSTATUS, VSTVEC, VSEPC, VSCAUSE, VSATP = 0x200, 0x205, 0x241, 0x242, 0x280
MCOUNTEREN, SCOUNTEREN, STIMECMP, VSTIMECMP, TIME = 0x306, 0x106, 0x14D, 0x24D, 0xC01


@pytest.fixture(scope="module")
def pair() -> Pair:
    return Pair(hypervisor=True)


@pytest.fixture(autouse=True)
def _machine_mode(pair: Pair) -> Iterator[None]:
    yield
    pair.to_machine_mode()


def test_values_that_csrs_take(pair: Pair) -> None:
    """Every CSR, from the outside: what is written reads back the same, in whatever it also shows."""
    tally = Tally("CSRs written from outside")
    for number in pair.compared:
        if number >> 10 == 3 or number in NOT_WRITTEN:
            continue
        rng = Random(number)
        pair.reset()
        pair.put(MSTATUS, p.FS)
        for _ in range(scaled(20)):
            pair.put(MENVCFG, corner(rng) & ~p.STCE)
            pair.put(HIDELEG, corner(rng))
            value = corner(rng) & ~BITS_DIFFER.get(number, 0)
            if number == MENVCFG:
                value &= ~p.STCE
            pair.put(number, value)
            wrong = pair.differences()
            tally.check(not wrong) or tally.note(f"{pair.ours.csrs[number].name} = {value:#x}: {wrong}")
    tally.done()


# What a test that steps through instructions sets at random before it begins.
RANDOM = (
    MEDELEG, MIDELEG, MIP, MCAUSE, MTVAL, 0x106, 0x306, 0x10A, 0x140, 0x142, 0x143, 0x340, HEDELEG, HIDELEG, HCOUNTEREN,
    HTIMEDELTA, HTVAL, HTINST, HVIP, 0x240, VSCAUSE, 0x243, 0x34A, 0x34B,
)  # fmt: skip


def random_state(pair: Pair, rng: Random) -> None:
    """Random privileged state, but for what would end the test: tables, protection, timers, an interrupt now."""
    pair.put(MSTATUS, rng.getrandbits(64) & ~p.MPRV & ~p.MIE_BIT)
    for number in RANDOM:
        pair.put(number, corner(rng))
    for number in (SEPC, VSEPC, HSTATUS, VSSTATUS):
        pair.put(number, rng.getrandbits(64))
    if rng.getrandbits(1):  # all that may be delegated is
        for number in (MEDELEG, MIDELEG, HEDELEG, HIDELEG):
            pair.put(number, MASK)
    pair.put(MENVCFG, corner(rng) & ~p.STCE)
    pair.put(HENVCFG, corner(rng))
    for number, handler in ((MTVEC, HANDLER), (STVEC, S_HANDLER), (VSTVEC, VS_HANDLER)):
        pair.put(number, handler | rng.getrandbits(1))


def test_every_csr_number_in_every_mode(pair: Pair) -> None:
    """CSR instructions: what is read, what is written, who may, and which exception tells who may not."""
    tally = Tally("CSR instructions")
    outcomes: Counter[str] = Counter()
    rng = Random(2)
    known = [number for number in pair.ours.csrs if number not in VALUES_DIFFER | NOT_WRITTEN]
    unknown = [n for n in range(1 << 12) if n not in pair.ours.csrs and n not in SPIKE_ONLY | {0x6A8}]
    for number in known * scaled(12) + rng.sample(unknown, min(len(unknown), scaled(600))):
        pair.reset()
        pair.open_memory()
        random_state(pair, rng)
        what, wrong = csr_instruction(pair, rng, number, MODES, SHOWN_DIFFER.get(number, 0))
        outcomes[outcome(pair)] += 1
        tally.check(not wrong) or tally.note(f"{what}: {wrong}")
        pair.to_machine_mode()
    assert all(outcomes[kind] > scaled(50) for kind in ("executed", "trap 2", "trap 22")), outcomes
    tally.done(str(dict(outcomes)))


def outcome(pair: Pair) -> str:
    """What our hart's last step was: which trap, if any."""
    for handler, cause in ((HANDLER, MCAUSE), (S_HANDLER, SCAUSE), (VS_HANDLER, VSCAUSE)):
        if handler <= pair.ours.pc < handler + 0x100:
            number = pair.ours.get(cause)
            return f"{'interrupt' if number >> 63 else 'trap'} {number & 63}"
    return "executed"


CSRS = (
    MSTATUS, 0x100, MIE, 0x104, MIP, 0x144, MEDELEG, 0x306, 0x106, SATP, 0x341, 0x141, HSTATUS, HEDELEG, HIDELEG, HIE,
    HVIP, 0x644, HCOUNTEREN, HGATP, VSSTATUS, 0x204, 0x244, VSATP, VSEPC, HTVAL, 0x34B, 0xE12,
)  # fmt: skip
FENCES = ("sfence.vma", "sinval.vma", "hfence.vvma", "hfence.gvma", "hinval.vvma", "hinval.gvma")
LOADS = ("hlv.b", "hlv.bu", "hlv.h", "hlv.hu", "hlvx.hu", "hlv.w", "hlv.wu", "hlvx.wu", "hlv.d")
STORES = ("hsv.b", "hsv.h", "hsv.w", "hsv.d")


def some(rng: Random) -> tuple[str, int]:
    """An instruction that has to do with modes, and its name."""
    name = rng.choice((
        "mret", "mret", "mret", "sret", "sret", "sret", "ecall", "ebreak", "sfence.w.inval", "sfence.inval.ir", "wfi",
        "csr", "csr", "csr", "csr", "illegal", "load", "fsgnj", *FENCES, rng.choice(LOADS), rng.choice(STORES),
    ))  # fmt: skip
    match name:
        case "csr":
            number, form = rng.choice(CSRS), rng.choice(("csrrs", "csrrc", "csrrw"))
            return f"{form} {number:#x}", csr_word(form, number, {"rs1": rng.choice((0, 10))})
        case "illegal":
            return name, 0xFFFF_FFFF
        case "load":
            return name, word("ld", rd=11, rs1=0, imm=-8)
        case "fsgnj":
            return name, word("fsgnj.d", rd=1, rs1=2, rs2=3)
    if name in FENCES:
        return name, word(name, rs1=10, rs2=0)
    if name in LOADS:
        return name, word(name, rd=11, rs1=0)
    if name in STORES:
        return name, word(name, rs1=0, rs2=10)
    return name, word(name)


def test_traps_and_returns(pair: Pair) -> None:
    """Random sequences: five modes, delegation twice, vectors, stacks of status registers, interrupts, virtual ones."""
    tally = Tally("traps and returns")
    seen: Counter[str] = Counter()
    for case in range(scaled(500)):
        rng = Random(case)
        pair.reset()
        pair.open_memory()
        steps = [some(rng) for _ in range(12)]
        for i, (_, instruction) in enumerate(steps):
            pair.poke(CODE + 8 * i, instruction)
        pair.fence()
        random_state(pair, rng)
        pair.put(MIE, 0)
        pair.to(rng.choice(MODES), CODE)
        pair.put(MIE, corner(rng) & ~SGEI)
        pair.put(MSTATUS, pair.ours.get(MSTATUS) | rng.choice((0, p.MIE_BIT)))
        pair.set_x(10, rng.getrandbits(64) & ~p.MPRV & ~BITS_DIFFER[MEDELEG] & ~BITS_DIFFER[HGATP] & ~SGEI)
        pair.set_x(11, 0)
        history = []
        for i, (name, _) in enumerate(steps):
            history.append(f"{name} in mode {pair.ours.mode}")
            if name == "wfi" and pair.ours.mode in (p.MACHINE, p.SUPERVISOR, VS):
                continue  # it may wait, which is not compared
            pair.step(CODE + 8 * i)
            for number in (SATP, VSATP, HGATP):
                if pair.ours.get(number) >> 60:
                    pair.put(number, 0)
            wrong = pair.differences((10, 11))
            seen[f"{outcome(pair)} to {pair.ours.mode}"] += 1
            if not tally.check(not wrong):
                tally.note(f"case {case}: {'; '.join(history)}: {wrong}")
                break
        pair.put(MIE, 0)
        pair.put(MSTATUS, 0)
        pair.to_machine_mode()
    for wanted in ("trap 22 to 1", "trap 10 to 1", "trap 8 to 5", "interrupt 1 to 5", "interrupt 6 to 1"):
        assert seen[wanted] > 2, (wanted, seen)
    tally.done(f"what happened, and the mode then: {dict(sorted(seen.items()))}")


def near(rng: Random, time: int) -> int:
    """A time to compare with: hardly before or after this one, mostly."""
    return (time + rng.randrange(-2, 3)) & MASK if rng.randrange(4) else rng.choice((0, MASK))


def test_timers(pair: Pair) -> None:
    """stimecmp and vstimecmp, which a guest's own time is compared with: what is pending, which interrupt is taken in
    each mode, and what time it is there.
    """
    tally = Tally("timers")
    outcomes: Counter[str] = Counter()
    pair.reset()
    pair.poke(CODE, csr_word("csrrs", TIME, {"rs1": 0}))
    for case in range(scaled(1200)):
        rng = Random(case)
        now, delta = rng.getrandbits(60), rng.choice((0, MASK, rng.getrandbits(64)))
        pair.reset()
        pair.open_memory()
        for number, handler in ((MTVEC, HANDLER), (STVEC, S_HANDLER), (VSTVEC, VS_HANDLER)):
            pair.put(number, handler)
        pair.put(MENVCFG, rng.choice((p.STCE, p.STCE, p.STCE, 0)))
        pair.put(HENVCFG, rng.choice((p.STCE, p.STCE, p.STCE, 0)))
        pair.put(MCOUNTEREN, rng.choice((MASK, MASK, 0, 5)))
        for number in (SCOUNTEREN, HCOUNTEREN):
            pair.put(number, rng.choice((MASK, MASK, 0)))
        pair.put(MIDELEG, rng.choice((0, MASK)))
        pair.put(HIDELEG, rng.choice((0, MASK)))
        pair.put(HTIMEDELTA, delta)
        pair.put(STIMECMP, near(rng, now))
        pair.put(VSTIMECMP, near(rng, now + delta))
        pair.set_time(now)
        pair.to(p.MACHINE, CODE)
        wrong = pair.differences()
        tally.check(not wrong) or tally.note(f"case {case}, pending: {wrong}")
        for status in (MSTATUS, VSSTATUS):
            pair.put(status, rng.choice((0, p.SIE)))
        pair.put(MIE, rng.choice((0, p.STI | p.VSTI, p.VSTI, MASK & ~SGEI)))
        mode = rng.choice(MODES)
        pair.set_x(11, 0)
        pair.to(mode, CODE)
        pair.step()
        ended = outcome(pair)
        outcomes[ended] += 1
        wrong = pair.differences((11,) if ended == "executed" else ())
        tally.check(not wrong) or tally.note(f"case {case}, mode {mode}: {ended}: {wrong}")
        pair.put(MIE, 0)
        pair.put(MSTATUS, 0)
        pair.to_machine_mode()
    pair.set_time(0)
    for kind in ("interrupt 5", "interrupt 6", "trap 2", "trap 22", "executed"):
        assert outcomes[kind] > scaled(40), outcomes
    tally.done(str(dict(sorted(outcomes.items()))))


def test_returns_from_every_state(pair: Pair) -> None:
    """mret, sret, fences and wfi: every field of mstatus, hstatus and vsstatus at random, in each mode."""
    tally = Tally("returns")
    names = ("mret", "sret", "wfi", *FENCES)
    pair.reset()
    for i, name in enumerate(names):
        pair.poke(CODE + 8 * i, word(name, rs1=0, rs2=0) if name in FENCES else word(name))
    pair.fence()
    rng = Random(4)
    outcomes: Counter[str] = Counter()
    for _ in range(scaled(1000)):
        pair.reset()
        pair.open_memory()
        mode, which = rng.choice(MODES), rng.randrange(len(names))
        for number in (0x341, SEPC, VSEPC):
            pair.put(number, CODE + 4 * rng.randrange(64))
        pair.to(mode, CODE)
        status, hstatus = rng.getrandbits(64), rng.getrandbits(64)
        if mode == VS:
            status &= ~p.MPRV  # which a guest's sret ends here, as in every return; in Spike it does not
        trapped = (status & p.TW and mode != p.MACHINE) or (mode == VS and hstatus & p.VTW) or mode in (p.USER, VU)
        if names[which] == "wfi" and not trapped:
            continue  # it would wait
        pair.put(HSTATUS, hstatus)
        pair.put(VSSTATUS, rng.getrandbits(64))
        pair.put(MEDELEG, corner(rng))
        pair.put(MSTATUS, status)
        pair.step(CODE + 8 * which)
        outcomes[f"{names[which]}: {outcome(pair)}"] += 1
        wrong = pair.differences()
        tally.check(not wrong) or tally.note(
            f"{names[which]} in mode {mode}, mstatus {status:#x}, hstatus {hstatus:#x}: {wrong}"
        )
        pair.put(MSTATUS, 0)
        pair.to_machine_mode()
    assert all(outcomes[f"{name}: trap 22"] for name in names[1:]), outcomes
    tally.done(str(dict(sorted(outcomes.items()))))


# --- memory -----------------------------------------------------------------------------------------------------------

G_TABLES = RAM + 0x14_0000  # of guest-physical addresses; a guest's own are at TABLES
ACCESSES = [
    *memory.ACCESSES,
    *((name, {"rd": 11, "rs1": 10}) for name in LOADS),
    *((name, {"rs1": 10, "rs2": 12}) for name in STORES),
]


class Entries:
    """Page tables that are filled for a few addresses: what was written where, for both harts."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.places: dict[int, int] = {}

    def put(self, place: int, entry: int) -> None:
        self.places[place] = entry
        self.pair.poke(place, entry)


def second_stage(entries: Entries, rng: Random, mode: int, pages: list[int]) -> None:
    """Lead guest-physical pages to those of RAM with the same number; now and then by a wrong entry."""
    levels = mmu.LEVELS[mode]
    free = G_TABLES + 0x4000
    tables: dict[tuple[int, int], int] = {}
    for page in pages:
        table = G_TABLES
        for level in range(levels - 1, -1, -1):
            index = page >> 9 * level & (2047 if level == levels - 1 else 511)
            place = table + 8 * index
            if level == 0 or (level < 3 and rng.randrange(10) == 0):
                flags = mmu.V | mmu.U | rng.choice((0xE, 0xE, 0xE, 0xE, 0xE, 0xE, 0xA, 0x6, 0x2, 0x8, 0x4))
                flags |= rng.choice((0, mmu.A, *[mmu.A | mmu.D] * 6))
                if rng.randrange(24) == 0:
                    flags ^= rng.choice((mmu.U, mmu.V, mmu.G, mmu.N, 1 << 61, 1 << 57))
                number = page & -1 << 9 * level | (rng.randrange(24) == 0) | nowhere(rng)
                entries.put(place, number << 10 | flags)
                break
            below = tables.get((level, page >> 9 * level))
            if below is None:
                below = tables[level, page >> 9 * level] = free
                free += 0x1000
                bad = rng.choice((mmu.A, mmu.U, 0x1000_0000_0000_0000)) if rng.randrange(64) == 0 else 0
                entries.put(place, below >> 2 | nowhere(rng) << 10 | mmu.V | bad)
            table = below


def nowhere(rng: Random) -> int:
    """Bits of a page number that lead, now and then, to where there is no memory."""
    return 1 << rng.randrange(20, 44) if rng.randrange(48) == 0 else 0


def protect(pair: Pair, rng: Random, places: list[int]) -> None:
    """Physical memory protection that allows everything, but for what is done in one of these pages, or part of it."""
    size = rng.choice((8, 64, 0x1000, 0x1000))
    base = rng.choice(places) & -size
    pair.put(PMPADDR0, base >> 2 | (size >> 3) - 1)
    pair.put(PMPADDR0 + 1, (1 << 54) - 1)
    pair.put(PMPCFG0, 0x1F << 8 | 0x18 | rng.choice((0, 1, 3, 4, 5)))


def test_two_stage_translation(pair: Pair) -> None:
    """Random tables in both stages, rights, modes and instructions: what is reached, which fault and what it leaves in
    htval, htinst and hstatus, and which bits of entries change; now and then with protection of physical memory.
    """
    tally = Tally("two-stage walks")
    outcomes: Counter[str] = Counter()
    memory.lay_out(pair, ACCESSES)
    for case in range(scaled(4000)):
        rng = Random(case)
        pair.reset()
        pair.open_memory()
        vsatp, address, places = memory.walk(pair, rng)
        bare = rng.randrange(6) == 0
        if bare:
            address = rng.choice(memory.PAGES) + memory.offset(rng)
            address |= 1 << rng.randrange(32, 64) if rng.randrange(8) == 0 else 0
        pair.put(VSATP, 0 if bare else vsatp)
        entries = Entries(pair)
        hgatp_mode = rng.choice((0, 8, 8, 9, 10))
        if hgatp_mode:
            pages = dict.fromkeys([*([] if bare else places), *memory.PAGES])
            second_stage(entries, rng, hgatp_mode, list(dict.fromkeys(place >> 12 for place in pages)))
        pair.put(HGATP, hgatp_mode << 60 | G_TABLES >> 12 | rng.getrandbits(2))
        pair.put(MENVCFG, rng.choice((0, p.ADUE, p.ADUE, p.PBMTE, p.ADUE | p.PBMTE)) | p.CBZE)
        pair.put(HENVCFG, rng.choice((0, p.ADUE, p.ADUE, p.PBMTE, p.ADUE | p.PBMTE)) | p.CBZE)
        pair.put(0x10A, p.CBZE)
        pair.put(MSTATUS, rng.choice((0, p.SUM, p.MXR, p.SUM | p.MXR)))
        pair.put(VSSTATUS, rng.choice((0, p.SUM, p.MXR, p.SUM | p.MXR)))
        pair.put(HSTATUS, rng.choice((0, p.SPVP)))
        pair.put(MEDELEG, rng.choice((0, MASK & ~BITS_DIFFER[MEDELEG])))
        if rng.randrange(6) == 0:
            protect(pair, rng, [*places, *entries.places, *memory.PAGES])
        pair.fence()
        what, wrong = one_access(pair, rng, rng.choice((VU, VS)), address)
        outcomes[f"{what[:4]} {outcome(pair)}"] += 1
        ended = outcome(pair)
        pair.to_machine_mode()
        changed = [
            (hex(place), hex(pair.ours.peek(place)), hex(pair.spike.peek(place)))
            for place in {*places, *entries.places}
            if pair.ours.peek(place) != pair.spike.peek(place)
        ]
        if ended != "executed" and address % 4096 > 4096 - 8:  # Spike has stored the part before the page that faults
            for page in memory.PAGES:
                pair.spike.poke(page + 4088, pair.ours.peek(page + 4088))
        tally.check(not wrong and not changed) or tally.note(
            f"case {case}: vsatp {vsatp:#x}, hgatp {hgatp_mode}, {what} at {address:#x}: {wrong} {changed}"
        )
    memory.compare_data(pair, tally)
    kinds = Counter(one.split(" ", 1)[1] for one in outcomes.elements())
    assert all(kinds[f"trap {cause}"] > scaled(10) for cause in (1, 5, 7, 12, 13, 15, 20, 21, 23)), kinds
    tally.done(str(dict(kinds)))


def one_access(pair: Pair, rng: Random, mode: int, address: int) -> tuple[str, str]:
    """Make an access as a guest: by MPRV or HLV in machine mode, in the guest's own mode, or as a fetch."""
    if rng.randrange(5) == 0:
        pair.to(mode, address & ~1)
        pair.step()
        return "fetch", pair.differences()
    index = rng.randrange(len(ACCESSES))
    name = ACCESSES[index][0]
    size = memory.size_of(name)
    if name[:2] in ("lr", "sc", "am") or rng.getrandbits(1):
        address &= -size
    pair.set_x(10, address)
    pair.set_x(11, 0)
    pair.set_x(12, rng.getrandbits(64))
    status = pair.ours.get(MSTATUS)
    lent = name not in LOADS + STORES
    if lent:
        pair.put(MSTATUS, status & ~p.MPP | (mode & 3) << p.MPP_SHIFT | p.MPRV | p.MPV)
    pair.step(CODE + 4 * index)
    if lent:
        pair.put(MSTATUS, pair.ours.get(MSTATUS) & ~p.MPRV)
    wrong = pair.differences((11,))
    if name == "cbo.zero" and "tval" in wrong and pair.ours.get(MTVAL) & -64 == pair.spike.get(MTVAL):
        wrong = ""  # Spike's trap value is the block's address, and so is the guest-physical address
    return f"{name} in mode {mode}" if lent else name, wrong
