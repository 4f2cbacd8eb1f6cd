"""The privileged architecture against Spike: our reference engine's hart and Spike's go through the same steps.

Compared after each step: mode, pc, the registers that the step touched, every CSR that both have, and in the tests of
memory the entries of page tables and the data. Not compared, since there is nothing to compare with: values of the
counters, time, waiting (Spike's wfi stops its stepping), and CSRs that only one of the two has (below, by name).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from random import Random

import pytest
from support.harts import CODE, HANDLER, RAM, RAM_SIZE, S_HANDLER, OurHart, SpikeHart
from support.riscv import MASK, Tally, random_integer, scaled

from guests.decode import encode
from guests.riscv import machine, mmu
from guests.riscv import privileged as p
from guests.riscv.isa import DEFAULT

# What Spike has and we have not: contexts, mseccfg (it traps, without Smepmp), debug mode.
SPIKE_ONLY = {0x5A8, 0x747, 0x7A8, *range(0x7B0, 0x7B4)}
# Counters of steps, which are Spike's own; the clock; triggers, which Spike has; the number of Spike's architecture.
VALUES_DIFFER = {0xB00, 0xB02, 0xC00, 0xC01, 0xC02, *range(0x7A0, 0x7A5), 0xF12}
# Bits that only one of the two has: FIOM (fences are as strong as can be), exceptions 18 and 19 of extensions not here.
BITS_DIFFER = {0x30A: p.FIOM, 0x10A: p.FIOM, 0x302: 3 << 18}
# misa: Spike lets extensions be turned off, which the manual leaves to us.
NOT_WRITTEN = {0x301}
MSTATUS, MEPC, MCAUSE, MTVAL, MEDELEG, MIDELEG, MIE, MTVEC, MIP = (
    0x300, 0x341, 0x342, 0x343, 0x302, 0x303, 0x304, 0x305, 0x344,
)  # fmt: skip
STVEC, SEPC, SCAUSE, SATP, MENVCFG, PMPCFG0, PMPADDR0 = 0x105, 0x141, 0x142, 0x180, 0x30A, 0x3A0, 0x3B0
MODES = (p.USER, p.SUPERVISOR, p.MACHINE)


def word(name: str, **fields: int) -> int:
    """The word of a row, by a name that only one row has, or of the writing form of a CSR instruction."""
    found = [row for row in machine.guest(DEFAULT).rows if row.name == name]
    return encode(found[0], **fields)


class Pair:
    """Both harts."""

    def __init__(self) -> None:
        self.spike = SpikeHart()
        self.ours = OurHart()
        self.compared = sorted(self._common() - VALUES_DIFFER)

    def _common(self) -> set[int]:
        found = set()
        for number in range(1 << 12):
            try:
                self.spike.get(number)
            except Exception:
                continue
            found.add(number)
        assert found - set(self.ours.csrs) == SPIKE_ONLY
        assert set(self.ours.csrs) <= found
        return found & set(self.ours.csrs)

    @property
    def both(self) -> tuple[SpikeHart, OurHart]:
        return self.spike, self.ours

    def reset(self) -> None:
        for hart in self.both:
            hart.reset()

    def open_memory(self) -> None:
        """Physical memory protection that allows everything."""
        self.put(PMPADDR0, (1 << 54) - 1)
        self.put(PMPCFG0, 0x1F)

    def put(self, csr: int, value: int) -> None:
        for hart in self.both:
            hart.put(csr, value & ~BITS_DIFFER.get(csr, 0))

    def set_x(self, number: int, value: int) -> None:
        for hart in self.both:
            hart.set_x(number, value)

    def poke(self, address: int, value: int) -> None:
        for hart in self.both:
            hart.poke(address, value)

    def fence(self) -> None:
        for hart in self.both:
            hart.fence()

    def to(self, mode: int, pc: int) -> None:
        for hart in self.both:
            hart.to(mode, pc)

    def step(self, pc: int | None = None) -> None:
        for hart in self.both:
            if pc is not None:
                hart.pc = pc
            hart.step()

    def to_machine_mode(self) -> None:
        for hart in self.both:
            hart.to_machine_mode()

    def differences(self, registers: range | tuple[int, ...] = ()) -> str:
        """What differs, in words, or nothing."""
        found = []
        if self.ours.mode != self.spike.mode:
            found.append(f"mode {self.ours.mode}, Spike {self.spike.mode}")
        if self.ours.pc != self.spike.pc:
            found.append(f"pc {self.ours.pc:#x}, Spike {self.spike.pc:#x}")
        for number in registers:
            mine, theirs = self.ours.x(number), self.spike.x(number)
            if mine != theirs:
                found.append(f"x{number} {mine:#x}, Spike {theirs:#x}")
        for number in self.compared:
            mine, theirs = self.ours.get(number), self.spike.get(number)
            if mine != theirs:
                found.append(f"{self.ours.csrs[number].name} {mine:#x}, Spike {theirs:#x}")
        return ", ".join(found)


@pytest.fixture(scope="module")
def pair() -> Pair:
    return Pair()


def corner(rng: Random) -> int:
    """A value for a CSR: all, nothing, one bit, or random bits."""
    match rng.randrange(5):
        case 0:
            return rng.choice((0, MASK))
        case 1:
            return 1 << rng.randrange(64)
        case 2:
            return random_integer(rng)
    return rng.getrandbits(64)


def test_values_that_csrs_take(pair: Pair) -> None:
    """Every CSR, from the outside: what is written reads back the same, in whatever it also shows."""
    tally = Tally("CSRs written from outside")
    for number in pair.compared:
        if number >> 10 == 3 or number in NOT_WRITTEN:
            continue
        rng = Random(number)
        pair.reset()
        pair.put(MSTATUS, p.FS)  # Spike ends where floating-point state is written while it is off
        for _ in range(scaled(40)):
            value = corner(rng) & ~BITS_DIFFER.get(number, 0)
            if number == MENVCFG:
                value &= ~p.STCE  # Spike's mip keeps a bit of the timer that is turned off
            pair.put(number, value)
            wrong = pair.differences()
            tally.check(not wrong) or tally.note(f"{pair.ours.csrs[number].name} = {value:#x}: {wrong}")
    tally.done()


def random_state(pair: Pair, rng: Random) -> None:
    """Random privileged state, but for what would end the test: satp, protection, the timer."""
    status = rng.getrandbits(64) & ~p.MPRV & ~p.MIE_BIT
    pair.put(MSTATUS, status)
    for number in (MEDELEG, MIDELEG, MIE, MIP, MCAUSE, MTVAL, 0x106, 0x306, 0x10A, 0x140, 0x142, 0x143, 0x340):
        pair.put(number, corner(rng))
    pair.put(SEPC, rng.getrandbits(64))
    pair.put(MENVCFG, corner(rng) & ~p.STCE)
    pair.put(MTVEC, HANDLER | rng.getrandbits(1))
    pair.put(STVEC, S_HANDLER | rng.getrandbits(1))


def test_every_csr_number_in_every_mode(pair: Pair) -> None:
    """CSR instructions: what is read, what is written, and who may; all 4,096 numbers."""
    tally = Tally("CSR instructions")
    traps: Counter[str] = Counter()
    rng = Random(2)
    forms = ("csrrw", "csrrs", "csrrc", "csrrwi", "csrrsi", "csrrci")
    known = [number for number in pair.ours.csrs if number not in VALUES_DIFFER | NOT_WRITTEN]
    unknown = [number for number in range(1 << 12) if number not in pair.ours.csrs and number not in SPIKE_ONLY]
    for number in known * scaled(12) + rng.sample(unknown, min(len(unknown), scaled(800))):
        pair.reset()
        pair.open_memory()
        random_state(pair, rng)
        name = rng.choice(forms)
        read_only = rng.getrandbits(1) and name not in ("csrrw", "csrrwi")
        source = {} if name.endswith("i") else {"rs1": 0 if read_only else 10}
        if name.endswith("i"):
            source = {"imm": 0 if read_only else rng.randrange(1, 16) << 1}
        instruction = _csr_word(name, number, source)
        pair.poke(CODE, instruction)
        mode = rng.choice(MODES)
        pair.put(MIE, 0)  # what is pending comes in other tests
        pair.fence()
        pair.to(mode, CODE)
        value = corner(rng) & ~BITS_DIFFER.get(number, 0)
        if number == MENVCFG:
            value &= ~p.STCE
        pair.set_x(10, value)
        pair.set_x(11, 0x5555)
        pair.step()
        traps["trapped" if pair.ours.pc != CODE + 4 else "executed"] += 1
        wrong = pair.differences((10, 11))
        what = f"mode {mode}: {name} {number:#x} {source} x10={value:#x}"
        tally.check(not wrong) or tally.note(f"{what}: {wrong}")
        pair.to_machine_mode()
    assert traps["trapped"] > scaled(100) and traps["executed"] > scaled(100)
    tally.done(str(dict(traps)))


def _csr_word(name: str, number: int, source: dict[str, int]) -> int:
    code = {"csrrw": 1, "csrrs": 2, "csrrc": 3, "csrrwi": 5, "csrrsi": 6, "csrrci": 7}[name]
    return number << 20 | source.get("rs1", source.get("imm", 0)) << 15 | code << 12 | 11 << 7 | 0x73


def _some(rng: Random) -> tuple[str, int]:
    """An instruction that has to do with modes, and its name."""
    name = rng.choice((
        "mret", "mret", "sret", "sret", "ecall", "ebreak", "sfence.vma", "sinval.vma", "sfence.w.inval",
        "sfence.inval.ir", "fence.i", "csr", "csr", "csr", "illegal", "c.illegal", "load", "jump",
    ))  # fmt: skip
    match name:
        case "csr":
            number = rng.choice((MSTATUS, 0x100, MIE, 0x104, MIP, 0x144, MEDELEG, MIDELEG, 0x306, 0x106, SATP, 0x341))
            form = rng.choice(("csrrs", "csrrc", "csrrw"))
            return f"{form} {number:#x}", _csr_word(form, number, {"rs1": rng.choice((0, 10))})
        case "illegal":
            return name, 0xFFFF_FFFF
        case "c.illegal":
            return name, 0
        case "load":
            return name, word("ld", rd=11, rs1=0, imm=-8)
        case "jump":
            return name, word("jalr", rd=11, rs1=10, imm=0)
        case "sfence.vma" | "sinval.vma":
            return name, word(name, rs1=10, rs2=0)
        case "fence.i":
            return name, 0x100F
    return name, word(name)


def test_traps_and_returns(pair: Pair) -> None:
    """Random sequences: modes, delegation, vectors, the stacks of mstatus, and interrupts where they are unmasked."""
    tally = Tally("traps and returns")
    seen: Counter[str] = Counter()
    for case in range(scaled(400)):
        rng = Random(case)
        pair.reset()
        pair.open_memory()
        steps = [_some(rng) for _ in range(12)]
        for i, (_, instruction) in enumerate(steps):
            pair.poke(CODE + 8 * i, instruction)
        pair.fence()
        random_state(pair, rng)
        pair.put(MIE, 0)
        pair.put(SATP, 0)
        pair.to(rng.choice(MODES), CODE)
        pair.put(MIE, corner(rng))
        pair.put(MSTATUS, pair.ours.get(MSTATUS) | rng.choice((0, p.MIE_BIT)))
        pair.set_x(10, rng.getrandbits(64) & ~p.MPRV & ~BITS_DIFFER[MEDELEG])
        pair.set_x(11, 0)
        history = []
        for i, (name, _) in enumerate(steps):
            history.append(f"{name} in mode {pair.ours.mode}")
            pair.step(CODE + 8 * i)
            if pair.ours.get(SATP) >> 60:
                pair.put(SATP, 0)
            wrong = pair.differences((10, 11))
            for handler, mode, cause in ((HANDLER, p.MACHINE, MCAUSE), (S_HANDLER, p.SUPERVISOR, SCAUSE)):
                if pair.ours.mode == mode and handler <= pair.ours.pc < handler + 0x100:
                    number = pair.ours.get(cause)
                    seen[f"{'interrupt ' if number >> 63 else ''}{number & 63} to mode {mode}"] += 1
            if not (tally.check(not wrong)):
                tally.note(f"case {case}: {'; '.join(history)}: {wrong}")
                break
        pair.put(MIE, 0)
        pair.put(MSTATUS, 0)
        pair.to_machine_mode()
    assert len(seen) > 15
    tally.done(f"causes and modes that they went to: {dict(sorted(seen.items()))}")


def test_returns_from_every_state_of_mstatus(pair: Pair) -> None:
    """mret, sret and fences: every field of mstatus at random, MPRV among them, in each mode."""
    tally = Tally("returns")
    names = ("mret", "sret", "sfence.vma", "wfi")
    pair.reset()
    words = [word("sfence.vma", rs1=0, rs2=0) if name == "sfence.vma" else word(name) for name in names]
    pair.poke(CODE, words[0] | words[1] << 32)
    pair.poke(CODE + 8, words[2] | words[3] << 32)
    pair.fence()
    rng = Random(4)
    for _ in range(scaled(600)):
        pair.reset()
        pair.open_memory()
        mode, which = rng.choice(MODES), rng.randrange(4)
        pair.put(MEPC, CODE + 4 * rng.randrange(64))
        pair.put(SEPC, CODE + 4 * rng.randrange(64))
        pair.to(mode, CODE)
        status = rng.getrandbits(64)
        if names[which] == "wfi" and not (status & p.TW and mode == p.SUPERVISOR) and mode != p.USER:
            continue  # it would wait
        pair.put(MSTATUS, status)
        pair.step(CODE + 4 * which)
        wrong = pair.differences()
        tally.check(not wrong) or tally.note(f"{names[which]} in mode {mode}, mstatus {status:#x}: {wrong}")
        pair.put(MSTATUS, 0)
        pair.to_machine_mode()
    tally.done()


# --- memory -------------------------------------------------------------------------------------------

ACCESSES = [
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


def _size(name: str) -> int:
    return 64 if name == "cbo.zero" else SIZES[name.split(".")[-1].rstrip("u")[-1]]


def _lay_out(pair: Pair) -> None:
    """The accesses at CODE, one after the other, and data in pages that are unlike."""
    pair.reset()
    for i in range(0, len(ACCESSES), 2):
        words = [word(name, **fields) for name, fields in ACCESSES[i : i + 2]]
        pair.poke(CODE + 4 * i, words[0] | (words[1] << 32 if len(words) == 2 else 0))
    rng = Random(0)
    for page in PAGES:
        for offset in (*range(0, 256, 8), *range(4096 - 128, 4096, 8)):
            pair.poke(page + offset, rng.getrandbits(62) << 2 | 1)  # of which each half is a compressed instruction
    pair.fence()


def _offset(rng: Random) -> int:
    """Within a page: where there is data, sometimes at its end."""
    return rng.choice((rng.randrange(240), rng.randrange(4096 - 128, 4096)))


def _one_access(pair: Pair, rng: Random, mode: int, address: int, blocks: bool = True) -> tuple[str, str]:
    """Make an access in this mode, as data (in machine mode, by MPRV) or as a fetch: what it was, what differs.

    `blocks` False: without cbo.zero, which Spike makes by the byte, so that no entry of protection has a part of one.
    """
    if rng.randrange(4) == 0:
        pair.to(mode, address & ~1)
        pair.step()
        return "fetch", pair.differences()
    index = rng.randrange(len(ACCESSES) - (not blocks))
    name = ACCESSES[index][0]
    size = _size(name)
    if name[:2] in ("lr", "sc", "am") or rng.getrandbits(1):  # of a misaligned atomic, Spike says access fault
        address &= -size
    pair.set_x(10, address)
    pair.set_x(11, 0)
    pair.set_x(12, rng.getrandbits(64))
    status = pair.ours.get(MSTATUS)
    pair.put(MSTATUS, status & ~p.MPP | mode << p.MPP_SHIFT | p.MPRV)
    pair.step(CODE + 4 * index)
    pair.put(MSTATUS, pair.ours.get(MSTATUS) & ~p.MPRV)
    wrong = pair.differences((11,))
    if name == "cbo.zero" and "mtval" in wrong and pair.ours.get(MTVAL) & -64 == pair.spike.get(MTVAL):
        wrong = ""  # Spike's trap value is the block's address; the manual's, and ours, is what is in rs1
    return name, wrong


def _entry(rng: Random, number: int, leaf: bool) -> int:
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


def _walk(pair: Pair, rng: Random) -> tuple[int, int, list[int]]:
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
    address = address << 12 | _offset(rng)
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
            pair.poke(place, _entry(rng, number, True))
            break
        table += 0x1000
        number = table >> 12 if rng.randrange(24) else rng.choice((0x1, rng.getrandbits(44)))
        pair.poke(place, _entry(rng, number, False))
        if number != table >> 12:
            break
    return satp_mode << 60 | rng.getrandbits(16) << 44 | root, address, places


def test_page_tables(pair: Pair) -> None:
    """Random tables, rights and modes: what is reached, which fault, which bits of the entries change."""
    tally = Tally("page walks")
    outcomes: Counter[str] = Counter()
    _lay_out(pair)
    for case in range(scaled(3000)):
        rng = Random(case)
        pair.reset()
        pair.open_memory()
        satp, address, places = _walk(pair, rng)
        pair.put(SATP, satp)
        pair.put(MENVCFG, rng.choice((0, p.ADUE, p.PBMTE, p.ADUE | p.PBMTE)) | p.CBZE)
        pair.put(0x10A, p.CBZE)
        pair.put(MSTATUS, rng.choice((0, p.SUM, p.MXR, p.SUM | p.MXR)))
        pair.fence()
        mode = rng.choice((p.USER, p.SUPERVISOR))
        what, wrong = _one_access(pair, rng, mode, address)
        trapped = HANDLER <= pair.ours.pc < HANDLER + 0x100 and pair.ours.mode == p.MACHINE
        outcomes[f"{what}: cause {pair.ours.get(MCAUSE)}" if trapped else f"{what}: reached"] += 1
        pair.to_machine_mode()
        entries = [(hex(pair.ours.peek(place)), hex(pair.spike.peek(place))) for place in places]
        changed = [pairs for pairs in entries if pairs[0] != pairs[1]]
        if trapped and address % 4096 > 4096 - 8:  # Spike has stored the part before the page that faults
            for page in PAGES:
                pair.spike.poke(page + 4088, pair.ours.peek(page + 4088))
        tally.check(not wrong and not changed) or tally.note(
            f"case {case}: satp {satp:#x}, mode {mode}, {what} at {address:#x}, entries {entries}: {wrong} {changed}"
        )
    _compare_data(pair, tally)
    kinds = Counter(outcome.partition(": ")[2] for outcome in outcomes.elements())
    assert all(kinds[kind] > scaled(20) for kind in ("reached", "cause 12", "cause 13", "cause 15", "cause 5")), kinds
    tally.done(str(dict(kinds)))


def _compare_data(pair: Pair, tally: Tally) -> None:
    """All pages of data."""
    pair.reset()
    pair.fence()
    for page in PAGES:
        for offset in (*range(0, 320, 8), *range(4096 - 128, 4096, 8)):
            mine, theirs = pair.ours.peek(page + offset), pair.spike.peek(page + offset)
            tally.check(mine == theirs) or tally.note(f"memory at {page + offset:#x}: {mine:#x}, Spike {theirs:#x}")


def _protect(pair: Pair, rng: Random) -> str:
    """A random configuration of protection around the data; the code stays executable for machine mode."""
    config = [0, 0]
    lines = []
    for i in range(p.PMP_ENTRIES):
        kind = rng.choice((0, 0, 8, 16, 24, 24))
        at = rng.choice(PAGES) + rng.choice((0, 0, 4, 8, 64, 128, 0x1000, 0xF80, 0x2000))
        if rng.randrange(8) == 0:
            at = rng.choice((0, RAM, RAM + RAM_SIZE, rng.getrandbits(56)))
        value = at >> 2
        if kind == 24:
            ones = rng.choice((0, 1, 3, 9, 10, 53))
            value = value & -1 << ones + 1 | (1 << ones) - 1
        byte = kind | rng.getrandbits(3)
        if rng.randrange(8) == 0:
            byte |= rng.choice((0x80, 0x20, 0x40))
        if byte & 0x80:  # what is locked must let machine mode run
            byte |= 7
        pair.put(PMPADDR0 + i, value)
        config[i // 8] |= byte << i % 8 * 8
        lines.append(f"{byte:#x}@{value << 2:#x}")
    pair.put(PMPCFG0, config[0])
    pair.put(PMPCFG0 + 2, config[1])
    return " ".join(lines)


def test_physical_memory_protection(pair: Pair) -> None:
    """Random entries, ranges and sizes, in all modes; some are locked, and written once more."""
    tally = Tally("protected accesses")
    outcomes: Counter[str] = Counter()
    _lay_out(pair)
    for case in range(scaled(2000)):
        rng = Random(case)
        pair.reset()
        setting = _protect(pair, rng)
        for _ in range(rng.randrange(3)):
            number = rng.choice((PMPCFG0, PMPCFG0 + 2, *range(PMPADDR0, PMPADDR0 + 16)))
            pair.put(number, corner(rng) | 0x0707_0707_0707_0707)
        pair.put(MENVCFG, p.CBZE)
        pair.put(0x10A, p.CBZE)
        pair.fence()
        mode = rng.choice(MODES)
        address = rng.choice(PAGES) + _offset(rng)
        what, wrong = _one_access(pair, rng, mode, address, blocks=False)
        trapped = HANDLER <= pair.ours.pc < HANDLER + 0x100
        outcomes[f"cause {pair.ours.get(MCAUSE)}" if trapped else "reached"] += 1
        tally.check(not wrong) or tally.note(f"case {case}: {setting}: mode {mode}, {what} at {address:#x}: {wrong}")
        pair.to_machine_mode()
    _compare_data(pair, tally)
    assert all(outcomes[kind] > 20 for kind in ("reached", "cause 1", "cause 5", "cause 7")), outcomes
    tally.done(str(dict(outcomes)))


def test_the_oracle_sees_a_difference(pair: Pair) -> None:
    pair.reset()
    pair.ours.put(MSTATUS, p.SUM)
    assert "mstatus" in pair.differences()
    pair.spike.put(MSTATUS, p.SUM)
    assert pair.differences() == ""


@pytest.fixture(autouse=True)
def _machine_mode(pair: Pair) -> Iterator[None]:
    yield
    pair.to_machine_mode()
