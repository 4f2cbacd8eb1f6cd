"""C14: what changes the address space: a callout each, or in place with guards; and no mapping is ever stale.

The notes leave such instructions to the monitor. Here satp, sfence.vma and sret are expanded in place (decision 0023);
`sensitive=callout` is the notes' way, with the same results.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from dbt.lab.report import Report
from dbt.lab.workbench import LEAF, RAM, WARM, asm, code_bytes, hart, map_pages, riscv, supervise
from dbt.options import Options
from guests.riscv import privileged as p
from ir.records import replace

ROUNDS = 1_000
SATP, SSTATUS = 0x180, 0x100
ROOTS = RAM + 0x10_0000, RAM + 0x20_0000
ONE, HUNDRED, AWAY = RAM + 0x1000, RAM + 0x2000, 0x40_0000  # two pages of data, and an address that leads to either
A0, A1, S2, S3, S4, S5 = 10, 11, 18, 19, 20, 21


class Loop(NamedTuple):
    """A loop: its instructions, values of its registers, what a round adds to S2, and sensitive ones in a round."""

    words: list[int]
    registers: dict[int, int]
    adds: int
    sensitive: int


def loops(entry: int) -> dict[str, Loop]:
    """The loops, by what they show; `entry` is where the page table leads AWAY."""
    guest = riscv()
    look = [asm(guest, "ld", rd=A0, rs1=A1, imm=0), asm(guest, "add", rd=S2, rs1=S2, rs2=A0)]
    tables = {S3: 8 << 60 | ROOTS[0] >> 12, S4: 8 << 60 | ROOTS[1] >> 12, A1: AWAY}
    entries = {S3: ONE >> 2 | LEAF, S4: HUNDRED >> 2 | LEAF, A1: AWAY, S5: entry}
    fence = [asm(guest, "sfence.vma", rs1=0, rs2=0)]

    def forever(*parts: list[int]) -> list[int]:
        words = [word for part in parts for word in part]
        return [*words, asm(guest, "jal", rd=0, imm=-4 * len(words))]

    def switched(to: int) -> list[int]:
        return [asm(guest, "csrrw", rd=0, rs1=to, csr=SATP)]

    def edited(to: int) -> list[int]:
        return [asm(guest, "sd", rs1=S5, rs2=to, imm=0)]

    back = [asm(guest, "csrrs", rd=0, rs1=S3, csr=SSTATUS), *look, asm(guest, "sret")]
    return {
        "satp: another table": Loop(forever(switched(S3), look, switched(S4), look), tables, 101, 2),
        "an entry, then sfence.vma": Loop(forever(edited(S3), fence, look, edited(S4), fence, look), entries, 101, 2),
        "an entry, and no fence": Loop(forever(edited(S3), look, edited(S4), look), entries, 101, 0),
        "sret, and who it returns to": Loop(back, {S3: p.SPP, A1: AWAY}, 1, 2),
    }


def once(which: str, engine: str, options: Options = WARM) -> dict[str, Any]:
    """So many rounds of a loop, once it is native code."""
    vcpu = hart([], engine, options)
    memory, slots = vcpu.vm.memory, vcpu.state.slots
    supervise(vcpu, RAM + 0x3000)
    entry = 0
    for root, page, value in zip(ROOTS, (ONE, HUNDRED), (1, 100)):
        same = {at: at for at in (RAM, *range(ROOTS[0], ROOTS[0] + 0x8000, 0x1000))}
        entries = map_pages(memory, root, {**same, AWAY: page})
        entry = entry or entries[AWAY]
        memory.write(page, 8, value)
    loop = loops(entry)[which]
    memory.poke(RAM, code_bytes(loop.words))
    slots[p.SATP], slots[p.SEPC] = 8 << 60 | ROOTS[0] >> 12, RAM
    for register, value in loop.registers.items():
        slots[register] = value
    length = len(loop.words)
    vcpu.vm.run(most=100 * length)
    exits = getattr(vcpu.engine, "exits", {})
    before, sum_before = dict(exits), slots[S2]
    vcpu.vm.run(most=(100 + ROUNDS) * length)
    return {
        "end": (vcpu.state.registers(), vcpu.state.pc, vcpu.state.count, vcpu.state.blocks),
        "seen": slots[S2] - sum_before,
        "callouts": exits.get("callout", 0) - before.get("callout", 0),
        "left": sum(exits.values()) - sum(before.values()),
    }


def run(report: Report) -> None:
    report.say(f"{ROUNDS:,} rounds of loops that look through an address, and change between what it means")
    report.show(f"{'loop':28} {'':8} {'seen':>8} {'callouts':>9} {'left for the monitor':>21}")
    for which, loop in loops(0).items():
        reference = once(which, "reference")
        ways = {way: once(which, "translated", replace(WARM, sensitive=way)) for way in ("callout", "inline")}
        for way, ran in ways.items():
            report.show(f"{which:28} {way:8} {ran['seen']:8,} {ran['callouts']:9,} {ran['left']:21,}")
        callout, inline = ways.values()
        report.check(callout["callouts"] == loop.sensitive * ROUNDS,
                     f"a callout for each sensitive instruction, of which a round has {loop.sensitive}")  # fmt: skip
        report.check(inline["callouts"] == 0 and inline["left"] < ROUNDS // 100,
                     "in place: no callout, and native code is not left for it")  # fmt: skip
        report.check(reference["seen"] == callout["seen"] == inline["seen"] == loop.adds * ROUNDS,
                     "every look is through the mapping of that moment")  # fmt: skip
        report.check(reference["end"] == callout["end"] == inline["end"], "all registers are those of the reference")
