"""C27: a guest's kernel changes its page table and its hypervisor does not hear of it, unless it wants to (VTVM)."""

from __future__ import annotations

from dbt.kvm import SystemEvent
from dbt.lab.a15_causes import guest
from dbt.lab.report import Report
from dbt.lab.simple_monitor import METHODS
from dbt.lab.simple_monitor import RAM as GUEST_RAM
from dbt.lab.two_stages import ENGINES, HANDLER, SPIN, csrr, go, hypervised, with_h, words_at
from dbt.lab.workbench import asm, riscv
from guests.riscv import privileged as p

SATP, SEPC = 0x180, 0x141
SWITCHES = 100
A0, A1, A7, S0, S2, T0 = 10, 11, 17, 8, 18, 5
VIRTUAL_INSTRUCTION, FROM_VS = 22, 5
ROOTS = GUEST_RAM + 0x1_0000, GUEST_RAM + 0x1_1000
ECALL = 0x73


def switching() -> list[int]:
    """So many writes of satp, of two values by turns, then on behind the loop."""
    rows = riscv()
    return [
        asm(rows, "addi", rd=S0, rs1=0, imm=SWITCHES // 2),
        asm(rows, "csrrw", rd=0, rs1=A0, csr=SATP), asm(rows, "csrrw", rd=0, rs1=A1, csr=SATP),
        asm(rows, "addi", rd=S0, rs1=S0, imm=-1), asm(rows, "bne", rs1=S0, rs2=0, imm=-12),
    ]  # fmt: skip


def by_hart(report: Report, engine: str, trapped: bool) -> None:
    """A hart whose HS mode skips and counts what comes to it."""
    rows = with_h()
    vcpu = hypervised(engine, [*switching(), SPIN], "VS")
    words_at(vcpu, HANDLER, [
        csrr(T0, SEPC), asm(rows, "addi", rd=T0, rs1=T0, imm=4),
        asm(rows, "csrrw", rd=0, rs1=T0, csr=SEPC), asm(rows, "addi", rd=S2, rs1=S2, imm=1), asm(rows, "sret"),
    ])  # fmt: skip
    slots = vcpu.state.slots
    slots[p.HSTATUS] |= p.VTVM if trapped else 0
    go(vcpu, 5000)
    exits = slots[S2]
    name = "VTVM 1" if trapped else "VTVM 0"
    report.figure(f"{engine}, {name}: exits of {SWITCHES} writes of satp", exits)
    wanted = {(VIRTUAL_INSTRUCTION, FROM_VS): SWITCHES} if trapped else {}
    report.check(exits == (SWITCHES if trapped else 0) and vcpu.taken == wanted,
                 "each is a virtual instruction" if trapped else "none")  # fmt: skip


def run(report: Report) -> None:
    for engine in ENGINES:
        by_hart(report, engine, False)
        by_hart(report, engine, True)
    for method in METHODS:
        rows = riscv()
        vcpu = guest(method, *switching(), asm(rows, "addi", rd=A7, rs1=0, imm=8), ECALL)
        for root in ROOTS:
            vcpu.vm.write(root + 8 * (GUEST_RAM >> 30), (GUEST_RAM >> 2 | 0xCF).to_bytes(8, "little"))
        first, second = (8 << 60 | root >> 12 for root in ROOTS)
        vcpu.set(a0=first, a1=second)
        exit = vcpu.run()
        exits, trapped = vcpu.stats.total - 1, vcpu.stats.reasons["csr satp"]
        report.figure(f"dragoman.kvm, {method}: exits before its end", exits)
        if method == "te":  # what all this is compared with
            report.check(trapped == SWITCHES, "in user mode each write is a trap")
        else:
            report.check(exits == 0, "the guest has changed its table, and left for its end alone")
        report.check(exit == SystemEvent(1) and vcpu.get("satp") == second, "it is the last one that was set")
        vcpu.vm.close()
