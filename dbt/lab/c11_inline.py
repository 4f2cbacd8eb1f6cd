"""C11: a sensitive instruction as a call of the monitor, and expanded in place: equal results, and what it is worth."""

from __future__ import annotations

import hashlib
import time
from typing import Any

import guests
from dbt.lab.report import Report
from dbt.lab.workbench import CODE, Machine, asm
from dbt.options import Options
from guests.spec import Guest
from ir.text import show

ROUNDS = 20_000
FFLAGS = 0x001
FEWER = 100  # times fewer callouts, at least


def toy_loop(guest: Guest) -> list[int]:
    """The notes' pair: interrupts off, some work, interrupts on; for ever."""
    return [
        asm(guest, "cli"),
        asm(guest, "add", rd=1, rs1=1, rs2=2),
        asm(guest, "sti"),
        asm(guest, "add", rd=3, rs1=3, rs2=1),
        asm(guest, "jump", imm=-16),
    ]


def riscv_loop(guest: Guest) -> list[int]:
    """Set and clear a sticky flag, and sum up what it was each time; for ever."""
    return [
        asm(guest, "csrrsi", rd=10, csr=FFLAGS, imm=1),
        asm(guest, "add", rd=12, rs1=12, rs2=10),
        asm(guest, "csrrci", rd=11, csr=FFLAGS, imm=1),
        asm(guest, "add", rd=12, rs1=12, rs2=11),
        asm(guest, "jal", rd=0, imm=-16),
    ]


LOOPS = {  # guest -> its loop, a register that is 1, one that counts rounds
    "toy": (toy_loop, "r2", "r1"),
    "riscv64": (riscv_loop, "zero", "a2"),
}


def once(guest: Guest, words: list[int], one: str, way: str | None) -> dict[str, Any]:
    """So many rounds in the interpreter (None), or translated; what came of it and what it took."""
    options = Options(hot=0, sensitive=way) if way else None
    with Machine(guest, words, way is not None, options) as machine:
        if one != "zero":
            machine.set(**{one: 1})
        engine, state = machine.engine, machine.state
        engine.run(len(words))  # the first round, so that it is translated
        before = dict(engine.exits) if way else {}
        start = time.perf_counter()
        engine.run(ROUNDS * len(words))
        seconds = time.perf_counter() - start
        whole = repr((state.registers(), state.count, state.blocks))
        return {
            "digest": hashlib.sha256(whole.encode()).hexdigest()[:16],
            "registers": state.registers() | {r.aliases[0]: state.slots[r.slot] for r in guest.registers if r.aliases},
            "count": state.count,
            "seconds": seconds,
            "callouts": engine.exits["callout"] - before["callout"] if way else None,
        }


def run(report: Report) -> None:
    for name, (loop, one, rounds) in LOOPS.items():
        guest = guests.load(name)
        words = loop(guest)
        report.say(f"a loop of the guest {name} that edits CPU state, {ROUNDS:,} rounds")
        for i, word in enumerate(words):
            decoded = guest.decode(word)
            assert decoded is not None
            report.show(f"{decoded.treat.value:8} {guest.disassemble(decoded, CODE + 4 * i)}")
        ways = {way or "interpreted": once(guest, words, one, way) for way in (None, "callout", "inline")}
        for way, ran in ways.items():
            callouts = "" if ran["callouts"] is None else f"{ran['callouts']:>9,} callouts"
            report.show(f"{way:12} digest {ran['digest']} {ran['seconds']:9.4f} s {callouts}")
        reference, callout, inline = ways.values()
        report.figure("inline is faster by", f"{callout['seconds'] / inline['seconds']:,.0f} times")
        report.check(callout["digest"] == inline["digest"] == reference["digest"],
                     "registers, instructions and blocks are the same in all three")  # fmt: skip
        report.check(reference["count"] == ROUNDS * len(words) and reference["registers"][rounds] == ROUNDS,
                     "every round did its work")  # fmt: skip
        report.check(ROUNDS < callout["callouts"] <= 2 * ROUNDS,
                     "as callouts: two for each round, but where the monitor executes a whole block")  # fmt: skip
        report.check(inline["callouts"] * FEWER <= callout["callouts"], f"inline: at least {FEWER} times fewer")
        report.say("one round in place, in our IR")
        with Machine(guest, words, True) as machine:
            report.show(show(machine.engine.translator.optimised(CODE, True)))
