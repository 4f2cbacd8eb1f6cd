"""C20: where an interrupt can enter: after any instruction in an interpreter, at block boundaries in a translator."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from random import Random
from typing import Any

import guests
from dbt.events import Events
from dbt.lab.c04_toy_cpu import program as toy_program
from dbt.lab.report import Report
from dbt.lab.workbench import CODE, DATA, Machine, asm
from dbt.options import Options
from guests.spec import Guest
from guests.toy.interrupts import INTERRUPT, TABLE, vector
from guests.toy.registers import IE

ROUNDS = 7  # of the program's loop: some 200 instructions
BODY = (7, 3, 1, 12)  # lengths of the blocks in it, without the branches that end them
HANDLER = CODE + 0x1000
SAVED, SEEN = "s10", "s11"  # where the interrupt puts the pc; what the handler counts up

Delivery = tuple[int, int]  # count, pc


def program(guest: Guest) -> list[int]:
    """A loop of blocks of different lengths that load, compute and store."""
    rng, words = Random(20), []
    for length in BODY:
        for _ in range(length):
            rd, rs1, rs2 = (rng.randrange(10, 16) for _ in range(3))
            words.append(rng.choice((
                asm(guest, "add", rd=rd, rs1=rs1, rs2=rs2), asm(guest, "xor", rd=rd, rs1=rs1, rs2=rs2),
                asm(guest, "ld", rd=rd, rs1=9, imm=8 * rng.randrange(8)),
                asm(guest, "sd", rs2=rs2, rs1=9, imm=8 * rng.randrange(8)),
            )))  # fmt: skip
        words.append(asm(guest, "bne", rs1=rd, rs2=0, imm=4))  # to the next one in any case
    words += [asm(guest, "addi", rd=7, rs1=7, imm=-1), asm(guest, "bne", rs1=7, rs2=0, imm=-4 * (len(words) + 1))]
    return [*words, asm(guest, "ebreak")]


def handler(guest: Guest) -> list[int]:
    """Count the interrupt, and return."""
    return [asm(guest, "addi", rd=27, rs1=27, imm=1), asm(guest, "jalr", rd=0, rs1=26, imm=0)]


class Rig:
    """One engine that runs the program again and again."""

    def __init__(self, guest: Guest, options: Options | None, granularity: str = "block") -> None:
        also: dict[int, Sequence[int]] = {HANDLER: handler(guest)}
        self.machine = Machine(guest, program(guest), options is not None, options, also, granularity)

    def run(self, at: int | None = None) -> tuple[list[Delivery], dict[str, Any]]:
        """Run the program with an interrupt at count `at`; where it entered, and the state and memory at the end."""
        machine, state = self.machine, self.machine.state
        state.restore(bytes(8 * len(state.slots)))
        machine.space.poke(DATA, bytes(4096))
        machine.set(s1=DATA, t2=ROUNDS, a0=1, a1=2, a2=3)
        state.pc, state.count, state.blocks, state.mid_block = CODE, 0, 0, False
        entered: list[Delivery] = []
        events = Events(state)

        def interrupt() -> None:
            entered.append((state.count, state.pc))
            machine.set(**{SAVED: state.pc})
            state.pc = HANDLER

        if at is not None:
            events.at(at, interrupt)
        assert events.run(machine.engine, 1 << 40).trap
        return entered, {**state.registers(), "count": state.count, "memory": machine.space.peek(DATA, 4096)}


def boundaries(guest: Guest) -> list[Delivery]:
    """Where the program's blocks end, without an interrupt: what the rule is applied to by hand."""
    rig, found = Rig(guest, None), [(0, CODE)]
    engine = rig.machine.engine

    def watch(pc: int, decoded: Any) -> None:
        if decoded.ends_block:
            found.append((engine.domain.count + 1, engine.domain.next))

    engine.watch = watch
    rig.run()
    return found


def without_interrupt(state: dict[str, Any]) -> dict[str, Any]:
    """The state but for what an interrupt changes."""
    own = {f"x{n}" for n in (26, 27)} | {"count"}
    return {name: value for name, value in state.items() if name not in own}


def masked(report: Report) -> None:
    """The notes' CPU, whose program turns interrupts off and on again."""
    toy, (main, service) = guests.load("toy"), toy_program()
    report.say("the notes' CPU (lab C04): ADD ADD ADD CLI ADD ADD STI ADD ADD ADD; the line is raised after k")

    def taken(k: int, options: Options | None, granularity: str = "block") -> list[Delivery]:
        also: dict[int, Sequence[int]] = {TABLE[INTERRUPT]: service}
        with Machine(toy, main, options is not None, options, also, granularity) as machine:
            state, found = machine.state, list[Delivery]()
            machine.set(r2=7, r6=1, ie=1)
            events = Events(state)

            def line() -> None:
                if state.slots[IE]:
                    found.append((state.count, state.pc))
                    state.pc = vector(state.slots, state.pc)
                else:  # it stays up until it is taken
                    events.at(state.count + 1, line)

            events.at(k, line)
            events.run(machine.engine, 1 << 40)
            return found

    table = [(k, taken(k, None, "insn"), taken(k, None), taken(k, Options(hot=0))) for k in range(1, len(main))]
    for k, *rows in table:
        after = [str(row[0][0]) if row else "the end" for row in rows]
        report.show(f"k = {k:2}: interpreter {after[0]:>7}, at boundaries {after[1]:>7}, translator {after[2]:>7}")
    sti = (7, CODE + 28)  # right after it
    at_once = all(anywhere == [sti if 4 <= k <= 6 else (k, CODE + 4 * k)] for k, anywhere, _, _ in table)
    report.check(at_once, "the interpreter takes it at once, or after STI where it was masked")
    later = all(blocks == translated == ([sti] if k <= 7 else []) for k, _, blocks, translated in table)
    report.check(later, "at boundaries, both engines take it after STI, which ends a block; the next is the last")


def run(report: Report) -> None:
    guest = guests.load("riscv64")
    ends = boundaries(guest)
    total, longest = ends[-1][0], max(b[0] - a[0] for a, b in pairwise(ends))
    engines = {
        "interpreter, anywhere": Rig(guest, None, "insn"),
        "interpreter": Rig(guest, None),
        "translator": Rig(guest, Options(hot=0)),
        "unchained": Rig(guest, Options(hot=0, chain=False)),
        "in pieces of 3": Rig(guest, Options(hot=0, max_instructions=3, region=0)),
        "half of it cold": Rig(guest, Options(hot=2 * total)),
        "disturbed at random": Rig(guest, Options(hot=20, tiers=(1,), chaos=20)),
    }
    report.say(f"a run of {total} instructions, {len(ends) - 1} blocks of up to {longest}; an interrupt at every count")
    _, plain = engines["interpreter"].run()
    late: dict[str, Counter[int]] = {name: Counter() for name in engines}
    misplaced: dict[str, int] = dict.fromkeys(engines, 0)
    disturbed = differing = 0
    for k in range(1, total + 1):
        boundary = ends[bisect_left(ends, (k, 0))]
        outcomes = []
        for name, rig in engines.items():
            entered, state = rig.run(k)
            if name == "interpreter, anywhere":
                misplaced[name] += [count for count, _ in entered] != [k]
            else:
                misplaced[name] += entered != [boundary]
                outcomes.append(state)
            late[name].update(count - k for count, _ in entered)
            disturbed += without_interrupt(state) != without_interrupt(plain) or state["x27"] != 1
        differing += any(state != outcomes[0] for state in outcomes)
    report.show(f"{'':24}{'exactly':>8}{'late':>7}{'most':>6}{'mean':>7}   instructions")
    for name, counts in late.items():
        mean = sum(n * times for n, times in counts.items()) / max(counts.total(), 1)
        rest = counts.total() - counts[0]
        report.show(f"{name:24}{counts[0]:8}{rest:7}{max(counts, default=0):6}{mean:7.2f}")
    report.say("how late, in the translator")
    for n in range(longest):
        report.show(f"{n:4} {'#' * late['translator'][n]} {late['translator'][n]}")
    report.check(not misplaced["interpreter, anywhere"], "interrupted anywhere, it is taken at every count itself")
    report.check(not any(misplaced.values()), "else each engine takes it at the first boundary, whatever is translated")
    report.say("(chained blocks look at each boundary whether they must stop, so chaining makes it no later)")
    most = max(late["translator"], default=0)
    report.check(0 < most == longest - 1, f"never more than {longest - 1} late: the longest block less one")
    report.check(not differing, "count, registers and memory at the end are the same in all of these")
    report.check(not disturbed, "and those of a run without an interrupt, which was taken once")
    masked(report)
