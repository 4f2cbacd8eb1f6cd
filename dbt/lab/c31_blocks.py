"""C31: how many blocks of state there are, and how many of them are on physical CPUs at once."""

from __future__ import annotations

from dbt import fleet
from dbt.lab.a04_schedule import said
from dbt.lab.report import Report
from dbt.lab.simple_monitor import OPTIONS
from guests.programs import virtual_file

PCPUS, MACHINES, VCPUS = 8, 10, 4
QUANTUM = 10_000


def run(report: Report) -> None:
    files = {f"VM {i}": virtual_file("harts") for i in range(MACHINES)}
    found = fleet.run(files, VCPUS, PCPUS, QUANTUM, options=OPTIONS)
    report.figure(f"{MACHINES} VMs of {VCPUS} vCPUs on {PCPUS} pCPUs: blocks", found.blocks)
    report.figure("blocks that are current on a pCPU at once, at most", found.most_current)
    report.figure("context switches; migrations", f"{found.switches}; {sum(each.migrations for each in cpus(found))}")
    report.check(found.blocks == MACHINES * VCPUS, "each vCPU has a block of its own, however few pCPUs there are")
    report.check(found.most_current == PCPUS, "each pCPU has one at a time, so no more are current at once")
    right = all(ran.status == 0 and ran.console == said(VCPUS) for ran in found.machines)
    report.check(right, "and each VM has run as it should")
    alone = fleet.run({"VM": virtual_file("harts")}, VCPUS, 1, QUANTUM, options=OPTIONS)
    report.check((alone.blocks, alone.most_current) == (VCPUS, 1), "with one VM on one pCPU: 4 blocks, one is current")


def cpus(found: fleet.Fleet) -> list[fleet.Vcpus]:
    """All virtual CPUs."""
    return [vcpu for ran in found.machines for vcpu in ran.vcpus]
