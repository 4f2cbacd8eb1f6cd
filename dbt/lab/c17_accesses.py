"""C17: memory accesses: where the TLB knows the page, no call; the rest goes the slow way; all as in the reference.

The notes count accesses among what is dangerous. What is misaligned within a page is found like any other here.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from dbt.lab.report import Report
from dbt.lab.workbench import RAM, WARM, asm, calls_in, code_bytes, hart, map_pages, riscv, supervise, translated
from dbt.machine.vm import Vcpu
from guests.riscv import privileged as p
from ir.records import replace

ROUNDS, WARM_ROUNDS = 500, 100
ROOT, HANDLER, DATA, FURTHER, DEVICE = RAM + 0x10_0000, RAM + 0x1000, RAM + 0x2000, RAM + 0x5000, 0x1000_0000
HERE, PORT, NOTHING, MANY = 0x40_0000, 0x50_0000, 0x60_0000, 0x80_0000  # addresses: two pages, a device, none, many
PAGES = ROUNDS + WARM_ROUNDS + 1
T0, A0, A1, S2, S3, S4 = 5, 10, 11, 18, 19, 20


class Case(NamedTuple):
    """An access: its address, what is added to that each time, and whether native code is left for it."""

    what: str
    address: int
    step: int = 0
    left: bool = False
    traps: int = 0  # their cause for a load; that of a store is two more


CASES = (
    Case("in a page that is known", HERE + 8),
    Case("misaligned, in a page that is known", HERE + 3),
    Case("in a new page each time", MANY, 4096),
    Case("across two pages", HERE + 0xFFC, left=True),
    Case("of a device", PORT, left=True),
    Case("of a page that is not mapped", NOTHING, traps=13),
)


class Counter:
    """A device whose value is how often it was asked and told."""

    name = "counter"
    size = 0x1000

    def __init__(self) -> None:
        self.count = 0

    def read(self, offset: int, size: int) -> int:
        self.count += 1
        return self.count

    def write(self, offset: int, size: int, value: int) -> None:
        self.count += 1


def program(access: str) -> list[int]:
    """Load or store, sum up what was loaded, step on; for ever."""
    guest = riscv()
    first = (asm(guest, "ld", rd=A0, rs1=A1, imm=0) if access == "load" else asm(guest, "sd", rs1=A1, rs2=S2, imm=0))
    return [first, asm(guest, "add", rd=S2, rs1=S2, rs2=A0), asm(guest, "add", rd=A1, rs1=A1, rs2=S3),
            asm(guest, "jal", rd=0, imm=-12)]  # fmt: skip


def handler() -> list[int]:
    """Count the trap, and go on behind the access."""
    guest = riscv()
    return [asm(guest, "csrrs", rd=T0, rs1=0, csr=0x141), asm(guest, "addi", rd=T0, rs1=T0, imm=4),
            asm(guest, "csrrw", rd=0, rs1=T0, csr=0x141), asm(guest, "addi", rd=S4, rs1=S4, imm=1),
            asm(guest, "sret")]  # fmt: skip


def prepared(case: Case, access: str, engine: str, region: int = WARM.region) -> Vcpu:
    vcpu = hart(program(access), engine, replace(WARM, region=region), {HANDLER: handler()})
    memory, slots = vcpu.vm.memory, vcpu.state.slots
    vcpu.vm.add_device(DEVICE, Counter())
    memory.poke(DATA, code_bytes(range(3, 8192, 4)))
    supervise(vcpu, HANDLER)
    many = dict.fromkeys(range(MANY, MANY + 4096 * PAGES, 4096), DATA)
    places = {RAM: RAM, HANDLER: HANDLER, HERE: DATA, HERE + 4096: FURTHER, PORT: DEVICE, **many}
    map_pages(memory, ROOT, places)
    slots[p.SATP] = 8 << 60 | ROOT >> 12
    slots[A1], slots[S3] = case.address, case.step
    return vcpu


def once(case: Case, access: str, engine: str) -> dict[str, Any]:
    """So many accesses, once the loop is native code: what came of them, and how often it was left."""
    vcpu = prepared(case, access, engine)
    length = len(program(access)) + (len(handler()) - 1 if case.traps else 0)  # what traps does not retire
    vcpu.vm.run(most=WARM_ROUNDS * length)
    before = getattr(vcpu.engine, "stepped", 0)
    traps = vcpu.state.slots[S4]
    vcpu.vm.run(most=(WARM_ROUNDS + ROUNDS) * length)
    state = vcpu.state
    return {
        "end": (state.registers(), state.pc, state.count, state.blocks, vcpu.vm.memory.peek(RAM, 0x8000)),
        "left": getattr(vcpu.engine, "stepped", 0) - before,
        "traps": state.slots[S4] - traps,
        "cause": state.slots[p.SCAUSE],
    }


def ways(report: Report, access: str) -> None:
    """What LLVM is given for the access: the way where the entry is that of the page, and where it is not."""
    vcpu = prepared(CASES[0], access, "translated", region=0)
    text = translated(vcpu, WARM_ROUNDS * len(program(access))).get(f"llvm {RAM:x}", "")
    parts = re.split(r"^(\w+):$", text, flags=re.MULTILINE)
    blocks = dict(zip(parts[1::2], parts[2::2]))
    begin = blocks.get("b0", "")
    label = re.search(r"label %(hit\d+), label %(miss\d+)", begin)
    if not report.check(label is not None, f"{access}: two ways lead on from a look at the TLB"):
        return
    assert label is not None
    hit, miss = blocks[label[1]], blocks[label[2]]
    joined = re.search(r"br label %(on\d+)", hit)
    way = begin + hit + (blocks[joined[1]] if joined else "")
    report.show("\n".join(line.strip() for line in way.splitlines() if line.strip()))
    report.check("callbr" in way and not calls_in(way), "where the page is known: the access itself, and no call")
    report.check(len(calls_in(miss)) == 1, "where it is not: one call, of the walk in native code")


def run(report: Report) -> None:
    for access in ("load", "store"):
        ways(report, access)
    report.say(f"{ROUNDS:,} accesses of each kind, once the loop is native code; how often that was left")
    for case in CASES:
        for access in ("load", "store"):
            reference, ran = (once(case, access, engine) for engine in ("reference", "translated"))
            report.show(f"{access:6} {case.what:36} {ran['left']:5,} times, {ran['traps']:3,} traps")
            wanted = ROUNDS if case.left else 0
            report.check(ran["left"] == wanted, f"the monitor made {'each of them' if wanted else 'none'}")
            if case.traps:
                cause = case.traps + 2 * (access == "store")
                report.check((ran["traps"], ran["cause"]) == (ROUNDS, cause), f"each is a trap of cause {cause}")
            report.check(reference["end"] == ran["end"], "all registers and all data are those of the reference")
