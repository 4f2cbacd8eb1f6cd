"""D02: services on one box, each in a machine of its own: what they do, and what becomes of one that crashes."""

from __future__ import annotations

from dbt import fleet
from dbt.lab.report import Report
from dbt.lab.simple_monitor import OPTIONS
from guests.programs import VIRTUALS, virtual_file

SERVICES = {"dns": "tasks", "fw": "harts", "web": "tasks"}  # what stands for them
CRASH = "skernel2"  # reads a register that it may not, and has no handler
QUANTUM = 10_000


def run_all(services: dict[str, str]) -> fleet.Fleet:
    """All at once, on one physical CPU."""
    files = {name: virtual_file(guest) for name, guest in services.items()}
    return fleet.run(files, quantum=QUANTUM, options=OPTIONS)


def run(report: Report) -> None:
    together = run_all(SERVICES)
    report.show(together.text())
    right = all(ran.status == 0 and ran.console == VIRTUALS[SERVICES[ran.name]].output for ran in together.machines)
    report.check(right, "each has printed what it does, and has turned itself off")
    report.check(together.switches > len(SERVICES), "they have had the processor in turns, and not one after the other")
    alone = {name: run_all({name: guest}).machines[0] for name, guest in SERVICES.items()}
    report.check(all(counts(alone[ran.name]) == counts(ran) for ran in together.machines),
                 "each has executed what it executes alone, to the instruction, with as many exits")  # fmt: skip
    first, *rest = SERVICES.items()
    broken = run_all(dict([first, ("broken", CRASH), *rest]))
    crashed = broken.machines[1]
    report.say(f"and one that crashes among them: status {crashed.status}: {crashed.why}")
    report.check(crashed.status == fleet.LOST == broken.status, "it is lost, and the fleet's status says so")
    others = [ran for ran in broken.machines if ran is not crashed]
    report.check([(ran.name, ran.status, ran.console, counts(ran)) for ran in others]
                 == [(ran.name, ran.status, ran.console, counts(ran)) for ran in together.machines],
                 "the others have run as without it")  # fmt: skip


def counts(ran: fleet.Ran) -> list[tuple[int, int]]:
    """What a machine has executed, and exits to its user."""
    return [(vcpu.instructions, vcpu.to_user) for vcpu in ran.vcpus]
