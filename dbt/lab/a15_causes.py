"""A15, A16, A17: what a supervisor may not is an exit: a register of machine mode, memory that is not there, a call."""

from __future__ import annotations

from dbt.kvm import Intr, Kvm, RiscvSbi, SystemEvent, Vcpu
from dbt.lab.report import Report
from dbt.lab.simple_monitor import CALL, LOAD_FAULT, METHODS, OPTIONS, RAM, SIZE, Monitor
from dbt.lab.workbench import asm, code_bytes, riscv
from guests.programs import virtual_file

AWAY = 0x9000_0AB8
A0, A1, A7 = 10, 11, 17
NOT_SUPPORTED = (1 << 64) - 2
ECALL = 0x73
SPIN = 0x6F


def guest(method: str, *words: int) -> Vcpu:
    """A virtual CPU at the first of these instructions."""
    vm = Kvm(method, options=OPTIONS).create_vm()
    vm.set_user_memory_region(0, RAM, SIZE)
    vm.write(RAM, code_bytes(words))
    vcpu = vm.create_vcpu()
    vcpu.set(pc=RAM)
    return vcpu


def illegal(report: Report) -> None:
    """A15"""
    for method in METHODS:
        monitor = Monitor(virtual_file("skernel2"), "@skernel2", method, (LOAD_FAULT, CALL))
        status = monitor.run()
        report.say(f"{method}, a monitor without an answer: {monitor.lines[-1]}")
        report.check(status == 1 and len(monitor.exits) == 1, "it panics at the first exit, with status 1")
        report.check(monitor.exits[0].scause == 2, "mhartid is no register of HS mode's: illegal (2), not virtual (22)")
        answered = Monitor(virtual_file("skernel2"), "@skernel2", method)
        report.check(answered.run() == 0 and "a1 = 0x1234" in answered.lines[-3], "with its answer the guest goes on")


def memory(report: Report) -> None:
    """A16"""
    kinds = (
        ("load", 21, asm(riscv(), "ld", rd=A0, rs1=A1, imm=0)),
        ("store", 23, asm(riscv(), "sd", rs1=A1, rs2=A0, imm=0)),
        ("fetch", 20, asm(riscv(), "jalr", rd=0, rs1=A1, imm=0)),
    )  # fmt: skip
    for method in METHODS:
        for name, cause, word in kinds:
            vcpu = guest(method, word, SPIN)
            vcpu.set(a1=AWAY)
            trap = vcpu.enter()
            report.figure(f"{method}, {name}: scause, stval, htval", f"{trap.scause}, {trap.stval:#x}, {trap.htval:#x}")
            found = (trap.scause, trap.stval, trap.htval << 2)
            report.check(found == (cause, AWAY, AWAY), f"a {name} where there is no memory is cause {cause}")
            vcpu.vm.close()
        vcpu = guest(method, kinds[0][2], SPIN)
        vcpu.set(a1=AWAY)
        vcpu.enter()
        vcpu.vm.set_user_memory_region(1, AWAY & -0x1000, 0x1000, bytearray(b"\x77" * 0x1000))
        report.check(vcpu.enter(100) == Intr() and vcpu.get("a0") == 0x7777_7777_7777_7777,
                     "mapped, and tried again: the guest has read what was put there")  # fmt: skip
        vcpu.vm.close()


def calls(report: Report) -> None:
    """A17"""
    cases = (
        (0x0, "answered", 0), (0x1, "the user's", None), (0x8, "the end", None), (0x10, "answered", 0),
        (0x53525354, "the end", None), (0x4442434E, "the user's", None), (0x1234, "answered", NOT_SUPPORTED),
    )  # fmt: skip
    for method in METHODS:
        for extension, what, error in cases:
            vcpu = guest(method, ECALL, SPIN)
            vcpu.set(a7=extension)
            exit = vcpu.run(20)
            kind = {RiscvSbi: "the user's", SystemEvent: "the end"}.get(type(exit), "answered")
            answer = "" if error is None else f", a0 {vcpu.get('a0'):#x}"
            report.figure(f"{method}, a7 = {extension:#x}", kind + answer)
            right = kind == what and (error is None or vcpu.get("a0") == error)
            report.check(right, f"call {extension:#x}: {what}" + ("" if error is None else f", error {error:#x}"))
            vcpu.vm.close()
    user = guest("bt", ECALL, SPIN)
    user.set(a7=0, mode=0, stvec=RAM + 4)
    user.run(5)
    report.check(user.get("scause") == 8 and user.stats.total == 1, "a call from user mode is the guest's own: cause 8")
    user.vm.close()
