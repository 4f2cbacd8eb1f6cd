"""C13: the interrupt-enable flag of a kernel, in place: no call, and what was pending enters before what comes next.

`csrrci zero, sstatus, 2` masks interrupts, as the notes' CLI, and `csrrsi zero, sstatus, 2` lets them in, as STI.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from dbt.lab.report import Report
from dbt.lab.workbench import RAM, WARM, asm, calls_in, hart, riscv, supervise, translated
from dbt.machine.vm import Vcpu
from dbt.options import Options
from guests.riscv import privileged as p
from ir.records import replace

ROUNDS = 5_000
WARMING = 200  # rounds until all of the loop is native code
SSTATUS, SIE = 0x100, 2
HANDLER = RAM + 0x1000
S2 = 18


def loop() -> list[int]:
    """Interrupts off, work, interrupts on, work; for ever."""
    guest = riscv()
    off, on = (asm(guest, name, rd=0, csr=SSTATUS, imm=SIE) for name in ("csrrci", "csrrsi"))
    work = asm(guest, "addi", rd=S2, rs1=S2, imm=1)
    return [off, work, work, on, work, work, asm(guest, "jal", rd=0, imm=-24)]


def supervisor(engine: str, options: Options = WARM) -> Vcpu:
    """The loop in supervisor mode, which takes software interrupts; they are masked at first."""
    vcpu = hart(loop(), engine, options, {HANDLER: [asm(riscv(), "jal", rd=0, imm=0)]})
    supervise(vcpu, HANDLER)
    vcpu.state.slots[p.MIE] = p.SSI
    return vcpu


def turns(engine: str, way: str) -> dict[str, Any]:
    """So many rounds of the loop, once it is native code: what came of it and what it took."""
    vcpu = supervisor(engine, replace(WARM, sensitive=way))
    length = len(loop())
    vcpu.vm.run(most=WARMING * length)
    exits = getattr(vcpu.engine, "exits", {})
    before, start = dict(exits), time.perf_counter()
    vcpu.vm.run(most=(WARMING + ROUNDS) * length)
    return {
        "seconds": time.perf_counter() - start,
        "left": sum(exits.values()) - sum(before.values()),
        "end": (vcpu.state.registers(), vcpu.state.pc, vcpu.state.count, vcpu.state.blocks),
    }


def taken(engine: str, at: int) -> tuple[int, int]:
    """The line is raised at the first boundary after `at` instructions: where it enters, and what S2 has counted."""
    vcpu = supervisor(engine)
    vcpu.vm.run(most=at)
    vcpu.state.slots[p.MIP] |= p.SSI
    vcpu.vm.attend()
    vcpu.vm.run(most=at + 3 * len(loop()))
    slots = vcpu.state.slots
    return (slots[p.SEPC], slots[S2]) if slots[p.SCAUSE] == 1 << 63 | 1 else (0, slots[S2])


def run(report: Report) -> None:
    guest, words = riscv(), loop()
    for i, word in enumerate(words):
        decoded = guest.decode(word)
        assert decoded is not None
        report.show(f"{decoded.treat.value:8} {guest.disassemble(decoded, RAM + 4 * i)}")
    report.say("IR of the first of them, and what LLVM is given for it")
    texts = translated(supervisor("translated", replace(WARM, region=0)), 100 * len(words))
    ir, llvm = (texts.get(f"{stage} {RAM:x}", "") for stage in ("opt", "llvm"))
    ops = [line.split("= ")[-1].split()[0] for line in ir.partition("  at 0\n")[2].splitlines()]
    report.show(", ".join(f"{count} {op}" for op, count in Counter(ops).items()))
    report.check("setreg" in ops and not {"callout", "load", "store"}.intersection(ops),
                 "it reads and writes CPU state: no callout, no access to memory")  # fmt: skip
    calls = calls_in(llvm)
    report.show("\n".join(calls))
    report.check("define" in llvm and not calls, "LLVM's text of it has no call")

    report.say(f"{ROUNDS:,} rounds of the loop, with each of the two in place, and by a callout")
    ways = {way: turns("translated", way) for way in ("inline", "callout")}
    reference = turns("reference", "inline")
    for way, ran in ways.items():
        report.show(f"{way:8} {ran['seconds']:8.4f} s, {ran['left']:,} times left for the monitor")
    inline, callout = ways.values()
    report.figure("inline is faster by", f"{callout['seconds'] / inline['seconds']:,.0f} times")
    report.check(inline["end"] == callout["end"] == reference["end"], "registers, instructions and blocks are equal, "
                 "in the reference as well")  # fmt: skip
    report.check(callout["left"] >= 2 * ROUNDS, "by a callout: at least two a round")
    report.check(inline["left"] < ROUNDS // 100, "in place: none but what ends a slice of the run")

    report.say("an interrupt is raised at the first boundary after k instructions, masked or not")
    warm, rows = WARMING * len(words), []
    for k in range(len(words)):
        rows.append((k, taken("reference", warm + k), taken("translated", warm + k)))
        shown = [f"{pc - RAM:#x} after {work} additions" for pc, work in rows[-1][1:]]
        report.show(f"k = {k}: interpreter at {shown[0]}, translator at {shown[1]}")
    report.check(all(one == other for _, one, other in rows), "both engines take it at the same place")
    behind = RAM + 4 * 4
    report.check(all(pc == behind for k, (pc, _), _ in rows if 0 < k < 4),
                 "masked, it enters right behind what lets interrupts in, before the next instruction")  # fmt: skip
    report.check(len({pc for _, (pc, _), _ in rows}) > 1, "not masked, it enters elsewhere as well")
