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
WAYS = ("callout", "inline")


def loop(guest: Guest) -> list[int]:
    """Set and clear a sticky flag, and note what it was: t2 rounds. 0x001 is fflags."""
    return [
        asm(guest, "csrrsi", rd=10, csr=0x001, imm=1),
        asm(guest, "add", rd=12, rs1=12, rs2=10),
        asm(guest, "csrrci", rd=11, csr=0x001, imm=1),
        asm(guest, "add", rd=12, rs1=12, rs2=11),
        asm(guest, "addi", rd=7, rs1=7, imm=-1),
        asm(guest, "bne", rs1=7, rs2=0, imm=-20),
        asm(guest, "ebreak"),
    ]


def once(guest: Guest, way: str | None) -> dict[str, Any]:
    """Run the loop in the interpreter (None), or translated; what came of it and what it took."""
    options = Options(hot=0, sensitive=way) if way else None
    with Machine(guest, loop(guest), way is not None, options) as machine:
        machine.set(t2=1)
        machine.call()  # so that it is translated
        machine.set(t2=ROUNDS, a2=0)
        machine.state.slots[machine.state.slot("fflags")] = 0
        before = dict(machine.engine.exits) if way else {}
        start = time.perf_counter()
        stop = machine.call()
        seconds = time.perf_counter() - start
        state = machine.state
        whole = repr((stop, state.registers(), state.count, state.blocks))
        callouts = machine.engine.exits["callout"] - before["callout"] if way else None
        return {
            "digest": hashlib.sha256(whole.encode()).hexdigest()[:16],
            "a2": machine.get("a2"),
            "seconds": seconds,
            "callouts": callouts,
            "blocks": [made.instructions for made in machine.engine.cache.translations()] if way else [],
        }


def run(report: Report) -> None:
    guest = guests.load("riscv64")
    report.say("a loop that edits CPU state: csrrsi and csrrci set and clear a sticky floating-point flag")
    report.show("\n".join(guest.disassemble(decoded, CODE + 4 * i) for i, word in enumerate(loop(guest))
                          if (decoded := guest.decode(word)) is not None))  # fmt: skip
    reference = once(guest, None)
    callout, inline = (once(guest, way) for way in WAYS)
    for name, ran in (("interpreted", reference), ("callout", callout), ("inline", inline)):
        callouts = "" if ran["callouts"] is None else f"{ran['callouts']:>9,} callouts"
        report.show(f"{name:12} digest {ran['digest']} {ran['seconds']:9.4f} s {callouts}")
    report.figure("inline is faster by", f"{callout['seconds'] / inline['seconds']:,.0f} times")
    report.check(callout["digest"] == inline["digest"] == reference["digest"],
                 "registers, flags, instructions and blocks are the same in all three")  # fmt: skip
    report.check(reference["a2"] == ROUNDS, "each round saw the flag clear, then set")
    report.check(ROUNDS < callout["callouts"] <= 2 * ROUNDS + 1, "as callouts: two for each round, but for those that "
                 "the monitor executes with the block around them")  # fmt: skip
    report.check(inline["callouts"] == 1, "inline: none but the trap that ends it")
    report.check(6 in inline["blocks"] and 6 not in callout["blocks"], "inline, the whole round is one translation")

    report.say("the translation of `csrrsi a0, fflags, 1` in place, in our IR")
    with Machine(guest, [loop(guest)[0], asm(guest, "ebreak")], True) as machine:
        report.show(show(machine.engine.translator.optimised(CODE, True)))
