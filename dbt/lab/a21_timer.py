"""A21: a timer for a guest: setting it is an exit, so is the host's; then the guest has an interrupt of its own."""

from __future__ import annotations

from dbt.lab.report import Report
from dbt.lab.simple_monitor import METHODS, Monitor
from guests.programs import VIRTUALS, virtual_file

PROGRAM = "tasks"
SWITCHES = 10
TIMER = 1 << 63 | 5


class Watching(Monitor):
    """Notes what the guest found in its registers when it set its timer."""

    found: list[tuple[int, int]]

    def _call(self, exit: object) -> bool:
        if self.vcpu.get("a7") == 0:
            self.found.append((self.vcpu.get("scause"), self.vcpu.get("sepc")))
        return super()._call(exit)


def run(report: Report) -> None:
    for method in METHODS:
        monitor = Watching(virtual_file(PROGRAM), f"@{PROGRAM}", method)
        monitor.found = []
        status = monitor.run()
        report.say(f"{method}: {monitor.printed.rstrip()}")
        report.check(status == 0 and monitor.printed == VIRTUALS[PROGRAM].output, "two tasks have run by turns")
        report.figure("exits: calls, of the host's timer", f"{len(monitor.exits)}, {len(monitor.ticks)}")
        report.check(len(monitor.ticks) == SWITCHES, "an exit of the host's timer for each switch")
        causes = {cause for cause, _ in monitor.found[1:]}
        report.check(causes == {TIMER}, "the guest sees its own timer's interrupt, 0x8000000000000005")
        report.check([pc for _, pc in monitor.found[1:]] == monitor.ticks, "sepc: the first instruction not executed")
