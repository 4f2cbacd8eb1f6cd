"""D05: a guest's registers are virtual: what its kernel reads in scause is not what its hypervisor finds there."""

from __future__ import annotations

from typing import Any

from dbt.kvm import Vcpu, views
from dbt.lab.a15_causes import ECALL, SPIN, guest
from dbt.lab.d03_trap_and_emulate import A2, read, with_handler
from dbt.lab.report import Report
from dbt.lab.simple_monitor import METHODS, RAM
from dbt.lab.workbench import asm, riscv

T0, A0, NOP = 5, 10, 0x13
SEPC, STVEC, MHARTID, SRET = 0x141, 0x105, 0xF14, 0x1020_0073
USER, HANDLER = RAM + 28, RAM + 32
CALL_OF_USER, ILLEGAL = 8, 2
SHOWN = ("scause", "sepc", "stval")  # registers that a trap writes, by the trap's own names
KEPT = ("stvec", "sscratch", "satp", "mode")  # that only the guest has


def write(csr: int, register: int) -> int:
    return csr << 20 | register << 15 | 1 << 12 | 0x73


def kernel() -> list[int]:
    """A kernel whose user calls it; its handler reads the number of the hart, which is machine mode's."""
    machine = riscv()
    set_t0 = asm(machine, "auipc", rd=T0, imm=0), asm(machine, "addi", rd=T0, rs1=T0, imm=HANDLER - RAM)
    return [
        *set_t0, write(STVEC, T0), asm(machine, "addi", rd=T0, rs1=T0, imm=USER - HANDLER), write(SEPC, T0), SRET, NOP,
        ECALL, MHARTID << 20 | 2 << 12 | A0 << 7 | 0x73, SPIN,
    ]  # fmt: skip


def both(vcpu: Vcpu, trap: Any) -> list[tuple[str, int, int | None]]:
    """Registers of a guest that was left: name, as it reads it itself, and as its hypervisor does; None: has none."""
    rows: list[tuple[str, int, int | None]] = [(name, vcpu.get(name), getattr(trap, name)) for name in SHOWN]
    return rows + [(name, vcpu.get(name), None) for name in KEPT]


def run(report: Report) -> None:
    report.say("a user calls its kernel, whose handler reads mhartid: the guest is left in the midst of its own trap")
    for method in METHODS:
        vcpu = guest(method, *kernel())
        trap = vcpu.enter(1_000)
        found = both(vcpu, trap)
        report.say(f"{method}, registers at the exit")
        report.show(f"{'':10} {'virtual':>18}  {'real':>18}")
        for name, virtual, real in found:
            report.show(f"{name:10} {virtual:#18x}  {'' if real is None else f'{real:#x}':>18}")
        values = {name: (virtual, real) for name, virtual, real in found}
        report.check(values["scause"] == (CALL_OF_USER, ILLEGAL),
                     "scause: 8 for the guest, whose user has called; 2 for its hypervisor")  # fmt: skip
        report.check(values["sepc"] == (USER, HANDLER), "sepc: the user's call, and the kernel's instruction")
        there = values["stvec"][0] == HANDLER and values["mode"][0] == 1
        report.check(there, "the guest is in supervisor mode, in its handler")
        vcpu.vm.close()
    of_the_hart(report)


def of_the_hart(report: Report) -> None:
    """What the hart's own registers held at the last trap, under the method in which it is in user mode."""
    vcpu = with_handler("te", [ECALL, SPIN], [read(A2, "scause"), asm(riscv(), "jal", rd=0, imm=4), SPIN], 0)
    vcpu.run(2)
    report.say("te: a program has made a call, and its kernel has read scause")
    report.show(views.registers(vcpu))
    real = vcpu.vm.world.real(vcpu.hart)
    found = vcpu.get("scause"), real["scause"]
    report.check(found == (CALL_OF_USER, ILLEGAL), "virtual scause is 8, the real one is 2")
    report.check(vcpu.get("a2") == CALL_OF_USER, "the kernel has read the virtual one")
    report.check(vcpu.get("mode") == 1 and real["sstatus"] & 0x100 == 0, "its mode is supervisor, the hart's was user")
    report.check(vcpu.get("satp") == 0 and real["satp"] >> 60 != 0, "it has no tables, and the hart has the monitor's")
    vcpu.vm.close()
