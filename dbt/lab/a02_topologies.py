"""A02: a hypervisor on the hardware (type I) and one inside a host system (type II): the same guest, other ways out.

In the first everything that answers a guest is in HS mode with the hypervisor: devices are its own. In the second its
user has the devices, who is a program of the host's: each access goes on to it, and back. A third is a hypervisor that
is a guest of the second: each access leaves the guest for it, and then it for the user.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from dbt.kvm import Kvm, Mmio, SystemEvent, Vcpu
from dbt.lab.report import Report
from dbt.lab.simple_monitor import METHODS, OPTIONS, RAM, SIZE
from dbt.lab.workbench import asm, board, code_bytes, riscv
from dbt.methods.run import NESTED, under_hypervisor
from guests.programs import SYSTEMS

DEVICE, LETTERS = 0x1000_0000, 50
A0, A1, A2, A7, ECALL = 10, 11, 12, 17, 0x73
ENGINES = ("interp", "dbt")
HS_CAUSES = range(20, 24)  # guest-page faults and virtual instructions, which no guest's own kernel has
FROM_VS, CALL = 5, 8


class Console:
    """A device that the hypervisor has itself."""

    name, size = "console", 8

    def __init__(self) -> None:
        self.printed = ""

    def read(self, offset: int, size: int) -> int:
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        self.printed += chr(value)


def guest() -> list[int]:
    """It sends letters, one after the other, and turns itself off."""
    rows = riscv()
    return [
        asm(rows, "lui", rd=A1, imm=DEVICE),
        asm(rows, "addi", rd=A2, rs1=0, imm=LETTERS), asm(rows, "addi", rd=A0, rs1=0, imm=0x41),
        asm(rows, "sb", rs1=A1, rs2=A0, imm=0), asm(rows, "addi", rd=A2, rs1=A2, imm=-1),
        asm(rows, "bne", rs1=A2, rs2=0, imm=-8), asm(rows, "addi", rd=A7, rs1=0, imm=8), ECALL,
    ]  # fmt: skip


def transitions(method: str, inside: bool) -> tuple[int, int, str]:
    """How often the guest was left, how often its hypervisor was, for its user; and what was printed."""
    vm = Kvm(method, options=OPTIONS).create_vm()
    console = Console()
    vm.set_user_memory_region(0, RAM, SIZE)
    vm.write(RAM, code_bytes(guest()))
    if inside:
        vm.add_device(DEVICE, console)
    vcpu = vm.create_vcpu()
    vcpu.set(pc=RAM)
    to_its_end(vcpu, console)
    vm.close()
    return vcpu.stats.total, vcpu.stats.to_user, console.printed


def to_its_end(vcpu: Vcpu, console: Console) -> None:
    """The user's loop."""
    while isinstance(exit := vcpu.run(), Mmio):
        console.write(exit.address - DEVICE, exit.size, exit.data)
    assert exit == SystemEvent(1)


def nested(engine: str) -> tuple[int, int, str]:
    """The same of a hypervisor that is a guest itself."""
    console = Console()
    left: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "guest")
        file.write_bytes(code_bytes(guest()))
        with under_hypervisor(str(file), NESTED, engine, OPTIONS) as (vcpu, _):
            vcpu.hart.crossed = left.append
            to_its_end(vcpu, console)
            return len([trap for trap in left if trap]), vcpu.stats.to_user, console.printed


def run(report: Report) -> None:
    report.show(f"{'':8} {'':9} {'guest left':>11} {'hypervisor left':>16}")
    for method in METHODS:
        one, two = transitions(method, True), transitions(method, False)
        for name, (left, to_user, _) in (("type I", one), ("type II", two)):
            report.show(f"{method:8} {name:9} {left:11} {to_user:16}")
        report.check(one[2] == two[2] == "A" * LETTERS, "the guest cannot tell: its letters are the same")
        report.check(two[:2] == (LETTERS + 1, LETTERS + 1), "type II: each access goes to the user")
        if method == "hw":  # where a device of the hypervisor's is no memory that the hart finds by itself
            report.check(one[:2] == (LETTERS + 1, 1), "type I: as many exits, and only the end is the host's affair")
        else:
            report.check(one[1] == 1, "type I: only the end is the host's affair")
    for engine in ENGINES:
        both = nested(engine)
        report.show(f"{engine:8} {NESTED:9} {both[0]:11} {both[1]:16}")
        report.check(both == (LETTERS + 1, LETTERS + 1, "A" * LETTERS),
                     "one on the other: each access leaves the guest for its hypervisor, and that for its user"
                     )  # fmt: skip
    made, printed = board("hypervisor", SYSTEMS["hypervisor"].input.encode())
    exit = made.vm.run(most=30_000_000)
    taken = made.vm.vcpus[0].taken
    exits = sum(count for (cause, mode), count in taken.items()
                if mode & 4 and (cause in HS_CAUSES or (cause, mode) == (CALL, FROM_VS)))  # fmt: skip
    others = sum(count for (_, mode), count in taken.items() if not mode & 4)
    report.figure("@hypervisor on the bare machine: exits", exits)
    report.check(exit == SystemEvent(1) and printed.decode().replace("\r", "") == SYSTEMS["hypervisor"].output,
                 "a hypervisor with nothing beneath it but the hardware runs a whole kernel")  # fmt: skip
    report.check(exits > 100 and others == 0, "it answers all of them where it is: no trap is another system's")
