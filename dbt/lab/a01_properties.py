"""A01: what virtualization promises, each with numbers: the same result, most of it direct, and nothing out of control.
"""

from __future__ import annotations

from dbt.kvm import Intr, Vcpu
from dbt.lab.a15_causes import A0, A1, SPIN, guest
from dbt.lab.report import Report
from dbt.lab.simple_monitor import METHODS, RAM, SIZE
from dbt.lab.workbench import asm, board, riscv
from dbt.machine.digest import digest
from dbt.machine.exits import SystemEvent
from guests.spec import Treat

FEED = b"primes 2000\nshutdown\n"
MOST = 10_000_000  # instructions, more than the kernel needs
SHARE = 0.95  # of a guest that computes, without the monitor
QUANTUM, BLOCK = 1_000, 2  # instructions; and of the block in which a quantum ends
OUTSIDE = RAM + SIZE
CAUSES = {"load": 21, "store": 23, "jump": 20}  # what a hypervisor is told of an address that a guest has not


def escapes() -> dict[str, tuple[int, ...]]:
    """Instructions that try to reach what is not the guest's, at the address in a1; behind its RAM nothing is."""
    machine = riscv()
    return {
        "load": (asm(machine, "ld", rd=A0, rs1=A1, imm=0), SPIN),
        "store": (asm(machine, "sd", rs1=A1, rs2=A0, imm=0), SPIN),
        "jump": (asm(machine, "jalr", rd=0, rs1=A1, imm=0), SPIN),
    }


def trapped(vcpu: Vcpu, address: int) -> tuple[int, int]:
    """The cause and the address by which a guest is left that reaches there."""
    vcpu.set(a0=0x5A5A, a1=address)
    trap = vcpu.enter(QUANTUM)
    return (0, 0) if isinstance(trap, Intr) else (trap.scause, trap.stval)


def run(report: Report) -> None:
    report.say("equivalence: the kernel, interpreted and translated, from reset to its end")
    digests = []
    for engine in ("reference", "translated"):
        machine, printed = board("kernel", FEED, engine)
        ended = machine.vm.run(most=MOST)
        digests.append((digest(machine), bytes(printed), ended, machine.vm.clock.retired))
        report.figure(f"{engine}: instructions; digest of all of it", f"{digests[-1][3]:,}; {digests[-1][0]}")
        classes = machine.vcpu.engine.classes
        machine.vm.close()
    report.check(digests[0] == digests[1] and digests[0][2] == SystemEvent(1), "state, output, end, count: all equal")

    report.say("efficiency: the same run, by class of instruction")
    total = sum(classes.values())
    for treat in Treat:
        report.figure(treat.value, f"{classes[treat]:>12,}  {100 * classes[treat] / total:6.2f} %")
    report.check(classes[Treat.IDENT] >= SHARE * total, f"at least {SHARE:.0%} run as themselves, without a monitor")

    report.say("control: what a guest tries to reach that is not its own")
    for method in METHODS:
        for name, words in escapes().items():
            vcpu = guest(method, *words)
            report.check(trapped(vcpu, OUTSIDE) == (CAUSES[name], OUTSIDE),
                         f"{method}, {name} behind its RAM: the guest is left, scause {CAUSES[name]}")  # fmt: skip
            vcpu.vm.close()
        vcpu = guest(method, SPIN)  # interrupts are off
        exit = vcpu.run(QUANTUM)
        spent = vcpu.instructions
        report.check(exit == Intr() and spent <= QUANTUM + BLOCK,
                     f"{method}, a loop without an end, interrupts off: left after {spent:,} instructions")  # fmt: skip
        vcpu.vm.close()
