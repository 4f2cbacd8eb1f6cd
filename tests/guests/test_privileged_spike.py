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
from support import memory
from support.harts import CODE, HANDLER, RAM, RAM_SIZE, S_HANDLER
from support.pair import (
    BITS_DIFFER,
    MCAUSE,
    MEDELEG,
    MENVCFG,
    MEPC,
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
    SPIKE_ONLY,
    STVEC,
    VALUES_DIFFER,
    Pair,
    corner,
    csr_instruction,
    csr_word,
    word,
)
from support.riscv import Tally, scaled

from guests.riscv import privileged as p

MODES = (p.USER, p.SUPERVISOR, p.MACHINE)


@pytest.fixture(scope="module")
def pair() -> Pair:
    return Pair()


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
    known = [number for number in pair.ours.csrs if number not in VALUES_DIFFER | NOT_WRITTEN]
    unknown = [number for number in range(1 << 12) if number not in pair.ours.csrs and number not in SPIKE_ONLY]
    for number in known * scaled(12) + rng.sample(unknown, min(len(unknown), scaled(800))):
        pair.reset()
        pair.open_memory()
        random_state(pair, rng)
        what, wrong = csr_instruction(pair, rng, number, MODES)
        traps["trapped" if pair.ours.pc != CODE + 4 else "executed"] += 1
        tally.check(not wrong) or tally.note(f"{what}: {wrong}")
        pair.to_machine_mode()
    assert traps["trapped"] > scaled(100) and traps["executed"] > scaled(100)
    tally.done(str(dict(traps)))


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
            return f"{form} {number:#x}", csr_word(form, number, {"rs1": rng.choice((0, 10))})
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

def _one_access(pair: Pair, rng: Random, mode: int, address: int, blocks: bool = True) -> tuple[str, str]:
    """Make an access in this mode, as data (in machine mode, by MPRV) or as a fetch: what it was, what differs.

    `blocks` False: without cbo.zero, which Spike makes by the byte, so that no entry of protection has a part of one.
    """
    if rng.randrange(4) == 0:
        pair.to(mode, address & ~1)
        pair.step()
        return "fetch", pair.differences()
    index = rng.randrange(len(memory.ACCESSES) - (not blocks))
    name = memory.ACCESSES[index][0]
    size = memory.size_of(name)
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


def test_page_tables(pair: Pair) -> None:
    """Random tables, rights and modes: what is reached, which fault, which bits of the entries change."""
    tally = Tally("page walks")
    outcomes: Counter[str] = Counter()
    memory.lay_out(pair)
    for case in range(scaled(3000)):
        rng = Random(case)
        pair.reset()
        pair.open_memory()
        satp, address, places = memory.walk(pair, rng)
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
            for page in memory.PAGES:
                pair.spike.poke(page + 4088, pair.ours.peek(page + 4088))
        tally.check(not wrong and not changed) or tally.note(
            f"case {case}: satp {satp:#x}, mode {mode}, {what} at {address:#x}, entries {entries}: {wrong} {changed}"
        )
    memory.compare_data(pair, tally)
    kinds = Counter(outcome.partition(": ")[2] for outcome in outcomes.elements())
    assert all(kinds[kind] > scaled(20) for kind in ("reached", "cause 12", "cause 13", "cause 15", "cause 5")), kinds
    tally.done(str(dict(kinds)))


def _protect(pair: Pair, rng: Random) -> str:
    """A random configuration of protection around the data; the code stays executable for machine mode."""
    config = [0, 0]
    lines = []
    for i in range(p.PMP_ENTRIES):
        kind = rng.choice((0, 0, 8, 16, 24, 24))
        at = rng.choice(memory.PAGES) + rng.choice((0, 0, 4, 8, 64, 128, 0x1000, 0xF80, 0x2000))
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
    memory.lay_out(pair)
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
        address = rng.choice(memory.PAGES) + memory.offset(rng)
        what, wrong = _one_access(pair, rng, mode, address, blocks=False)
        trapped = HANDLER <= pair.ours.pc < HANDLER + 0x100
        outcomes[f"cause {pair.ours.get(MCAUSE)}" if trapped else "reached"] += 1
        tally.check(not wrong) or tally.note(f"case {case}: {setting}: mode {mode}, {what} at {address:#x}: {wrong}")
        pair.to_machine_mode()
    memory.compare_data(pair, tally)
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
