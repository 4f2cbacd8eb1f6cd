"""C30: why a guest is left, by the names that processors and KVM have for it; each of ours is shown by a guest."""

from __future__ import annotations

from typing import NamedTuple

from dbt.kvm import Debug, Exit, Hlt, Intr, Mmio, RiscvSbi, Shutdown, SystemEvent, Vcpu, abi
from dbt.lab.a15_causes import guest
from dbt.lab.report import Report
from dbt.lab.simple_monitor import METHODS

ECALL, EBREAK, SPIN, WFI, LOAD = 0x73, 0x0010_0073, 0x6F, 0x1050_0073, 0x0005_3503  # ld a0, 0(a0)
ILLEGAL = 0xFFFF_FFFF


class Reason(NamedTuple):
    """One way out of a guest. `kvm` is the number; the others are text."""

    name: str
    kvm: int
    vmx: str
    arm: str
    riscv: str


REASONS = {
    Mmio: Reason("MMIO", abi.KVM_EXIT_MMIO, "48 EPT violation", "EC 0x24 data abort", "21, 23 guest-page fault"),
    RiscvSbi: Reason("RISCV_SBI", abi.KVM_EXIT_RISCV_SBI, "18 VMCALL", "EC 0x16 HVC", "10 call from VS-mode"),
    SystemEvent: Reason("SYSTEM_EVENT", abi.KVM_EXIT_SYSTEM_EVENT, "18 VMCALL", "EC 0x16 HVC (PSCI)", "10 (SRST)"),
    Hlt: Reason("HLT", abi.KVM_EXIT_HLT, "12 HLT", "EC 0x01 WFx", "22 virtual instruction"),
    Debug: Reason("DEBUG", abi.KVM_EXIT_DEBUG, "0 exception", "EC 0x3c BRK", "3 breakpoint"),
    Intr: Reason("INTR", abi.KVM_EXIT_INTR, "1 external interrupt", "IRQ", "interrupt"),
    Shutdown: Reason("SHUTDOWN", abi.KVM_EXIT_SHUTDOWN, "2 triple fault", "", ""),
}


def ways(method: str) -> list[tuple[Vcpu, type[Exit]]]:
    """A guest for each reason, about to be left for it."""
    words: dict[type[Exit], int] = {
        Mmio: LOAD, RiscvSbi: ECALL, SystemEvent: ECALL, Hlt: WFI, Debug: EBREAK, Intr: SPIN, Shutdown: ILLEGAL,
    }  # fmt: skip
    made = [(guest(method, word), kind) for kind, word in words.items()]
    for vcpu, kind in made:
        vcpu.set(a0=0x1000, a7=1 if kind is RiscvSbi else 8, stvec=vcpu.get("pc"))
        vcpu.guest_debug = abi.KVM_GUESTDBG_ENABLE if kind is Debug else 0
    return made


def run(report: Report) -> None:
    report.show(f"{'here':14} {'KVM':>4}  {'VMX':22} {'EL2':20} RISC-V (scause)")
    for reason in REASONS.values():
        report.show(f"{reason.name:14} {reason.kvm:4}  {reason.vmx:22} {reason.arm:20} {reason.riscv}")
    for method in METHODS:
        for vcpu, kind in ways(method):
            exit = vcpu.run(100)
            report.check(type(exit) is kind and exit.reason == REASONS[kind].kvm, f"{method}: {exit}")
            vcpu.vm.close()
