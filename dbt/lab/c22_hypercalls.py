"""C22: a para-virtualized kernel calls its monitor where another one's instruction would trap, and less often."""

from __future__ import annotations

from dbt.lab.report import Report
from dbt.lab.simple_monitor import OPTIONS
from dbt.methods import Row
from dbt.methods.run import run as run_guest
from guests.programs import VIRTUALS, virtual_file

PROGRAM = "quad"
CALL = "hypercall "


def sensitive(row: Row) -> dict[str, int]:
    """Exits of instructions that user mode does not have."""
    return {name: count for name, count in row.total.reasons.items() if name.startswith("csr ")
            or name in ("sret", "wfi", "sfence.vma")}  # fmt: skip


def run(report: Report) -> None:
    trapped = run_guest(virtual_file(PROGRAM), "te", "dbt", OPTIONS)
    calling = run_guest(virtual_file(PROGRAM, paravirtual=True), "pv", "dbt", OPTIONS)
    for row in (trapped, calling):
        report.say(f"@{PROGRAM} under {row.method}: {row.total.exits:,} exits")
        for name, count in sorted(row.total.reasons.items(), key=lambda each: -each[1]):
            report.figure(name, count)
    report.check(calling.console == trapped.console == VIRTUALS[PROGRAM].output, "both print what they have to")
    report.check(bool(sensitive(trapped)), "the native kernel's instructions trap")
    report.check(not sensitive(calling), "none of the other one's does")
    calls = {name.removeprefix(CALL) for name in calling.total.reasons if name.startswith(CALL)}
    report.check({"set_entry", "set_tables", "flush", "resume", "multicall"} <= calls, "it calls instead")
    off_and_on = calling.phases["a"].exits
    report.check(off_and_on == 0 < trapped.phases["a"].exits,
                 "its interrupt flag is a word that both may write: off and on again is no exit at all")  # fmt: skip
    report.check(calling.total.exits < trapped.total.exits, "and it is left less often")
