"""A08 and A19: load a guest, make its context, enter it, be left by its call, answer by the cause; a normal end."""

from __future__ import annotations

from dbt.lab.report import Report
from dbt.lab.simple_monitor import METHODS, RESET, Monitor
from guests.programs import virtual_file

PROGRAM = "skernel"


def run(report: Report) -> None:
    for method in METHODS:
        monitor = Monitor(virtual_file(PROGRAM), f"@{PROGRAM}", method)
        loaded = monitor.vm.read(monitor.entry, 2)
        report.say(f"{method}: LOAD at {monitor.entry:#x}, CONTEXT pc {monitor.vcpu.get('pc'):#x}, supervisor mode")
        supervisor = monitor.vcpu.get("mode") == 1 and monitor.vcpu.get("pc") == monitor.entry
        report.check(loaded == b"\xa1\x48" and supervisor, "the image is in its address space, the context leads to it")
        status = monitor.run()
        report.say(f"{method}: ENTRY, EXIT({monitor.exits[-1].scause}), HANDLE")
        report.show("\n".join(monitor.lines))
        report.check([exit.scause for exit in monitor.exits] == [10], "one exit, of cause 10: a call from VS-mode")
        wanted = [f"VmxExit Reason: VSuperEcall: Some({RESET})", "Shutdown vm normally!", "Hypervisor ok!"]
        report.check([line for line in monitor.lines if line in wanted] == wanted, "the console says so")
        report.check(status == 0, "the monitor's deliberate end is a normal one: status 0")
