"""A06: a device that is mapped has one exit, at the first access; one that is emulated has one for each access."""

from __future__ import annotations

from typing import NamedTuple

from dbt.kvm import Kvm, Mmio, RiscvSbi, SystemEvent, Vcpu
from dbt.lab.report import Report
from dbt.lab.simple_monitor import LOAD_FAULT, METHODS, OPTIONS, RAM, SIZE
from guests.programs import VIRTUALS, virtual_file

PROGRAM = "pflash"
FLASH, PAGE = 0x2200_0000, 0x1000
CONTENT = b"pfld" + bytes(PAGE - 4)
TIMES = 100


class Ran(NamedTuple):
    """What the guest printed, and how often its accesses of the device were exits."""

    printed: str
    exits: int


def guest(method: str) -> Vcpu:
    vm = Kvm(method, options=OPTIONS).create_vm()
    vm.set_user_memory_region(0, RAM, SIZE)
    vcpu = vm.create_vcpu()
    vcpu.set(pc=vm.load(virtual_file(PROGRAM)))
    return vcpu


def emulated(method: str) -> Ran:
    """Each access is the monitor's."""
    vcpu, printed, exits = guest(method), "", 0
    while (exit := vcpu.run()) != SystemEvent(1):
        if isinstance(exit, Mmio):
            exits += 1
            at = exit.address - FLASH
            vcpu.reply(int.from_bytes(CONTENT[at : at + exit.size], "little"))
        elif isinstance(exit, RiscvSbi):
            printed += chr(exit.args[0])
            vcpu.reply(0, 0)
    vcpu.vm.close()
    return Ran(printed, exits)


def passed_through(method: str) -> Ran:
    """The first access maps the device's page into the guest, which tries again."""
    vcpu, printed, exits = guest(method), "", 0
    while True:
        trap = vcpu.enter()
        if trap.scause == LOAD_FAULT:
            exits += 1
            vcpu.vm.set_user_memory_region(1, trap.gpa & -PAGE, PAGE, bytearray(CONTENT))
        elif vcpu.get("a7") == 8:
            vcpu.vm.close()
            return Ran(printed, exits)
        else:
            printed += chr(vcpu.get("a0"))
            vcpu.skip()


def run(report: Report) -> None:
    for method in METHODS:
        for name, ran, expected in (
            ("emulated", emulated(method), TIMES), ("passed through", passed_through(method), 1),
        ):  # fmt: skip
            report.figure(f"{method}, {name}: exits for {TIMES} reads", ran.exits)
            report.check(ran.exits == expected, f"{expected} for the device")
            report.check(ran.printed == VIRTUALS[PROGRAM].output, f"the guest prints: {ran.printed.rstrip()}")
