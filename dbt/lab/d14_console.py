"""D14: an emulated device: each access of the guest to the UART is an exit, and the model answers it."""

from __future__ import annotations

from typing import NamedTuple

from dbt.lab.report import Report
from dbt.lab.workbench import RAM, RAM_SIZE, WARM, answered, riscv
from dbt.machine import images
from dbt.machine.boards import VIRT
from dbt.machine.devices.console import Console
from dbt.machine.devices.finisher import Finisher
from dbt.machine.devices.uart import Uart
from dbt.machine.exits import Exit, Mmio, SystemEvent
from dbt.machine.vm import Machine
from guests.programs import SYSTEMS, system_file

PROGRAM = "uart"
UART = VIRT["serial"].base
INPUT = b"a line\n"


class Ran(NamedTuple):
    """A run: its end, what was printed, exits to the UART, and accesses of it as the guest's translations show them."""

    exit: Exit
    printed: str
    exits: list[Mmio]
    accesses: int
    instructions: int


def console(engine: str, observed: bool = False) -> Ran:
    """The program on a machine that has no UART: its caller has one, and makes each access that leaves.

    `observed`: count the accesses as well, where addresses are translated, which makes all of them walk.
    """
    printed, accesses = bytearray(), 0
    terminal = Console(printed.extend)
    uart = Uart(terminal, lambda level: None)
    terminal.feed(INPUT)
    vm = Machine(riscv(), engine, WARM).create_vm()
    vm.set_user_memory_region(RAM, RAM_SIZE)
    vm.add_device(VIRT["test"].base, Finisher(vm.end))
    vm.add_mmio(UART, Uart.size)
    vcpu = vm.create_vcpu()
    vcpu.reset(images.place(vm.memory, vm.guest, system_file(PROGRAM), RAM).entry)

    def seen(address: int, size: int, access: str, physical: object) -> None:
        nonlocal accesses
        if access != "fetch" and isinstance(physical, int) and UART <= physical < UART + Uart.size:
            accesses += 1

    if observed:
        vcpu.space.observe(seen)
    exit, exits = answered(vm, {UART: uart}, 1_000_000)
    return Ran(exit, printed.decode(), exits, accesses, vm.clock.retired)


def run(report: Report) -> None:
    report.say(f"@{PROGRAM} on a machine without a UART; the caller of its harts has one, and answers their exits")
    runs = {engine: console(engine) for engine in ("reference", "translated")}
    observed = console("reference", observed=True)
    for engine, ran in runs.items():
        writes = sum(each.is_write and each.address == UART for each in ran.exits)
        states = sum(not each.is_write and each.address == UART + 5 for each in ran.exits)
        report.say(f"{engine}: {ran.instructions:,} instructions")
        report.figure("exits to the UART", len(ran.exits))
        report.figure("of these, bytes sent", writes)
        report.figure("of these, looks at its state", states)
        printed = ran.exit == SystemEvent(1) and ran.printed == SYSTEMS[PROGRAM].output
        report.check(printed, "the console is as it has to be")
        reads = len(ran.exits) - writes - states
        report.figure("of these, bytes that arrived", reads)
        report.check((writes, reads) == (len(ran.printed), len(INPUT)), "an exit for each byte")
    report.show(runs["translated"].printed)
    reference, translated = runs.values()
    report.check(reference.exits == translated.exits, "both engines leave for the same accesses, in the same order")
    # An access that leaves is translated once more when it is come back to.
    report.figure("accesses, where addresses are translated", observed.accesses)
    report.check(len(observed.exits) == len(reference.exits) and observed.accesses == 2 * len(reference.exits),
                 "each access is an exit: it is translated once before it, and once when it is made")  # fmt: skip
