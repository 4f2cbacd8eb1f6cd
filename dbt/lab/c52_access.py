"""C48 and C52: two switches: what an access to no memory goes through, step by step; and who answers how many exits."""

from __future__ import annotations

import time

from dbt.kvm import Mmio, SystemEvent
from dbt.lab.a15_causes import guest
from dbt.lab.report import Report
from dbt.lab.simple_monitor import METHODS
from dbt.lab.workbench import asm, riscv

DEVICE = 0x1000_0000
A0, A1, A2, A7 = 10, 11, 12, 17
ACCESSES = (  # what the device gives, what is in a0 afterwards
    ("lb", 0x81, -0x7F), ("lbu", 0x81, 0x81), ("lh", 0x8001, -0x7FFF), ("lw", 0x8000_0001, -0x7FFF_FFFF), ("sb", 0, 0),
)  # fmt: skip
MASK = (1 << 64) - 1
SET_TIMERS = 20
ECALL = 0x73
EXITS = 1000  # to be timed


def steps(report: Report, method: str) -> None:
    """An access of each kind, by both ways of looking: as the trap that a hypervisor has, and as the user's exit."""
    for name, given, after in ACCESSES:
        store = name.startswith("s")
        word = asm(riscv(), name, imm=4, rs1=A1, **({"rs2": A2} if store else {"rd": A0}))
        vcpu = guest(method, word, 0x6F)
        start = vcpu.get("pc")
        vcpu.set(a1=DEVICE, a2=0x1234_5678)
        trap = vcpu.enter()
        decoded = riscv().decode(int.from_bytes(vcpu.vm.read(trap.sepc, 4), "little"))
        assert decoded is not None
        exit = vcpu.run()
        assert isinstance(exit, Mmio)
        if not store:
            vcpu.reply(given)
        vcpu.run(1)
        shown = f"device {given:#x} -> a0 = {vcpu.get('a0'):#x}"
        if store:
            shown = f"a2 = {vcpu.get('a2'):#x} -> device {exit.data:#x}"
        report.show(f"{method}: fault {trap.scause} at {trap.gpa:#x}; {riscv().disassemble(decoded, trap.sepc)}; "
                    f"MMIO {'write' if store else 'read'} {exit.address:#x}, {exit.size}; {shown}; pc + 4")  # fmt: skip
        right = exit.address == trap.gpa == DEVICE + 4 and exit.is_write == store
        right = right and (exit.data == 0x78 if store else vcpu.get("a0") == after & MASK)
        report.check(right and vcpu.get("pc") == start + 4, f"{name}: five steps, and the register as it has to be")
        vcpu.vm.close()


def cost(method: str) -> dict[str, float]:
    """Microseconds of processor time for an exit and the entry behind it, by kind."""
    rows = riscv()
    found = {}
    for kind, words in {
        "a load, answered by the user": (asm(rows, "lw", rd=A0, rs1=A1, imm=0), asm(rows, "jal", rd=0, imm=-4)),
        "a store": (asm(rows, "sw", rs1=A1, rs2=A0, imm=0), asm(rows, "jal", rd=0, imm=-4)),
        "a call, answered by the first switch": (ECALL, asm(rows, "jal", rd=0, imm=-4)),
    }.items():
        vcpu = guest(method, *words)
        vcpu.set(a1=DEVICE, a7=0x10)
        vcpu.run(100)
        before, start = vcpu.stats.total, time.process_time()
        while vcpu.stats.total - before < EXITS:
            if isinstance(exit := vcpu.run(2 * EXITS), Mmio) and not exit.is_write:
                vcpu.reply(1)
        found[kind] = (time.process_time() - start) * 1e6 / (vcpu.stats.total - before)
        vcpu.vm.close()
    return found


def run(report: Report) -> None:
    for method in METHODS:
        steps(report, method)
        rows = riscv()
        vcpu = guest(
            method,
            asm(rows, "addi", rd=A2, rs1=0, imm=SET_TIMERS),
            asm(rows, "addi", rd=A7, rs1=0, imm=0), 0x73,  # a timer far away, which the first switch sets
            asm(rows, "addi", rd=A2, rs1=A2, imm=-1), asm(rows, "bne", rs1=A2, rs2=0, imm=-12),
            asm(rows, "sb", rs1=A1, rs2=0, imm=0), asm(rows, "addi", rd=A7, rs1=0, imm=8), 0x73,
        )  # fmt: skip
        vcpu.set(a1=DEVICE, a0=MASK)
        seen = [vcpu.run(), vcpu.run()]
        report.check(seen == [Mmio(DEVICE, 1, True, 0), SystemEvent(1)], "the user sees the store and the end")
        stats = vcpu.stats
        report.figure(f"{method}: exits, to the user, light", f"{stats.total}, {stats.to_user}, {stats.light}")
        report.check((stats.total, stats.to_user) == (SET_TIMERS + 2, 2), "the first switch has answered the others")
        vcpu.vm.close()
        for kind, spent in cost(method).items():
            report.figure(f"{method}, {kind}: CPU time", f"{spent:.0f} us")
