"""C15: the end of a block is a return to the monitor, or a jump to the next block, which must not hold too fast."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import guests
from dbt.lab.report import Report
from dbt.lab.workbench import CODE, Machine, asm, run_program
from dbt.options import Options
from dbt.state import JUMP_CACHE, JUMP_ENTRIES, LEAVE, SLICE
from guests.programs import find
from guests.spec import Guest

PROGRAMS = {"sieve": "loops", "recurse": "calls and returns", "dispatch": "calls by function pointer"}
LESS = 10  # times fewer entries, at least
ROUNDS = 1000
FUNCTION = CODE + 0x1000
LOOKS = 4  # at the outside world, until the loop is told to end
STOPS = (1, 2, 1000, 65_537, SLICE - 1, SLICE, SLICE + 1)


def run(report: Report) -> None:
    report.say("programs with chaining and without (--chain=off): how often Python enters translated code")
    for name, kind in PROGRAMS.items():
        on, off = (run_program(name, options=Options(chain=chain)) for chain in (True, False))
        report.show(f"@{name}, {kind}: {off.stats['blocks']:,} blocks")
        for way, ran in (("off", off), ("on", on)):
            exits = ran.stats["exits"]
            report.show(f"  {way:4}{ran.stats['python_entries']:8,} entries, after {exits['unlinked']:7,} jumps and "
                        f"branches, {exits['miss']:7,} indirect jumps {ran.seconds:9.3f} s")  # fmt: skip
        report.check(on.stats["python_entries"] * LESS <= off.stats["python_entries"], f"at least {LESS} times fewer")
        same = (on.registers, on.stats["instructions"], on.stats["blocks"]) == (
            off.registers, off.stats["instructions"], off.stats["blocks"])  # fmt: skip
        report.check(same and on.stdout == off.stdout == find(name).small_output, "all else is the same")
    guest = guests.load("riscv64")
    if unchaining(report, guest):
        interrupting(report, guest)


def unchaining(report: Report, guest: Guest) -> bool:
    """A loop that calls a function, which is then changed; returns whether nothing led to what had gone."""
    report.say(f"a loop calls a function at {FUNCTION:#x}; then the function's code is changed")
    words = [
        asm(guest, "jal", rd=1, imm=FUNCTION - CODE),
        asm(guest, "addi", rd=7, rs1=7, imm=-1),
        asm(guest, "bne", rs1=7, rs2=0, imm=-8),
        asm(guest, "ebreak"),
    ]
    add = [asm(guest, "addi", rd=10, rs1=10, imm=n) for n in (1, 2)]
    also: dict[int, Sequence[int]] = {FUNCTION: [add[0], asm(guest, "jalr", rd=0, rs1=1, imm=0)]}
    with Machine(guest, words, True, Options(hot=0, region=0), also) as machine:
        engine, results = machine.engine, []
        for round_ in range(2):
            machine.set(t2=ROUNDS, a0=0)
            entries = engine.entries
            machine.call()
            results.append(machine.get("a0"))
            chained, dangling = links(machine)
            report.figure(f"{'first' if not round_ else 'second'} time: result, entries, links",
                          f"{results[-1]:,}, {engine.entries - entries}, {chained}")  # fmt: skip
            if round_ == 0:
                report.check(chained >= 4 and engine.entries < ROUNDS / LESS, "the blocks are chained")
                machine.space.poke(FUNCTION, add[1].to_bytes(4, "little"))
                left, dangling = links(machine)
                report.figure("links after the change", left)
                gone = (FUNCTION, True) not in engine.cache
                if not report.check(gone and left < chained and not dangling, "it is gone, and nothing leads there"):
                    return False
        report.check(results == [ROUNDS, 2 * ROUNDS], "first the old function ran, then the new one")
        report.check(links(machine) == (chained, 0), "and all is chained again")
    return True


def links(machine: Machine) -> tuple[int, int]:
    """How many exits and jump-cache entries lead to a translation, and how many to one that is no longer there."""
    words, cache = machine.state.words, machine.engine.cache
    entries = {made.entry for made in cache.translations()}
    first = JUMP_CACHE >> 3
    leads = [words[slot >> 3] for made in cache.translations() for slot in made.exits]
    leads = [to for to in leads if to != words[LEAVE]]
    leads += [to for to in words[first + 1 : first + 2 * JUMP_ENTRIES : 2] if to]
    return len(leads), sum(to not in entries for to in leads)


def interrupting(report: Report, guest: Guest) -> None:
    """Chained blocks that go round for ever must still be left."""
    report.say("an endless loop of one instruction, chained to itself")
    with Machine(guest, [asm(guest, "jal", rd=0, imm=0)], True, Options(hot=0)) as machine:
        engine, state = machine.engine, machine.state
        exact, count = True, 0
        for stop in STOPS:
            entries = engine.entries
            engine.run(count + stop)
            exact = exact and state.count == count + stop and engine.entries - entries <= 2 * (stop // SLICE + 1)
            count = state.count
        report.check(exact, "told to stop after so many instructions it does, exactly: " + ", ".join(map(str, STOPS)))
        seen: list[int] = []

        def look() -> bool:
            seen.append(state.count)
            return len(seen) == LOOKS

        engine.poll = look
        engine.run(1 << 60)
        most = max(later - sooner for sooner, later in pairwise(seen))
        report.figure("instructions between looks at the outside world", most)
        report.check(0 < most <= SLICE and state.count == seen[-1], f"never more than a slice of {SLICE:,}")
