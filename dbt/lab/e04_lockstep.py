"""E04: both engines side by side, compared at every boundary; and a planted defect that only memory shows is found."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import guests
from dbt import lockstep
from dbt.lab.report import Report
from dbt.process import Settings
from guests.programs import find, path
from ir import llvm

PROGRAM = "lz"
INSTRUCTIONS = 60_000


def run(report: Report) -> None:
    report.say("@hello in both engines to its end, compared at every architectural boundary")
    found = pair("hello")
    report.figure("boundaries compared", found.boundaries)
    report.figure("system calls, made once for both", found.syscalls)
    report.check(found.difference is None and found.status == 0 and found.syscalls > 0, "nothing differs")
    report.say(f"the first {INSTRUCTIONS:,} instructions of @{PROGRAM}")
    found = pair()
    report.figure("boundaries compared", found.boundaries)
    report.figure("pages compared", found.pages)
    report.check(found.difference is None, "registers, counts and memory are equal at each")
    report.check(found.boundaries > 1000 and found.pages > 0, "there was something to compare")

    report.say("now the translator is given a defect: one-byte stores store the value with its lowest bit turned over")
    with planted():
        found = pair()
    difference = found.difference
    report.check(difference is not None, "the difference is found")
    if difference is not None:
        report.show(difference.text().partition("\n\nIR ")[0])
        names = {line.split()[0] for line in difference.what}
        report.check(bool(names) and not names & STATE, "no register shows it: memory alone")
        stores = [line for line in difference.block if " sb " in line]
        report.check(bool(stores), "the block that is named holds the store")
    found = pair()
    report.check(found.difference is None, "without the defect the engines agree again")


STATE = {"pc", "count", "blocks", "mid_block", "stop"} | {
    "/".join((r.name, *r.aliases)) for r in guests.load("riscv64").registers
}


def pair(program: str = PROGRAM) -> lockstep.Report:
    """Lockstep over a program, its output not shown."""
    with open(os.devnull, "r+b") as nothing:
        fd = nothing.fileno()
        settings = Settings(argv0=program, env={}, stdin=fd, stdout=fd, stderr=fd)
        return lockstep.lockstep(path(program), find(program).small, settings, max_instructions=INSTRUCTIONS)


@contextmanager
def planted() -> Iterator[None]:
    """While this lasts, new translations get one-byte stores wrong."""
    right = llvm.Lowering.access_store

    def wrong(self: Any, pointer: str, value: str, size: int, at: int) -> None:
        right(self, pointer, self.let(f"xor i64 {value}, 1") if size == 1 else value, size, at)

    llvm.Lowering.access_store = wrong  # type: ignore[method-assign]
    try:
        yield
    finally:
        llvm.Lowering.access_store = right  # type: ignore[method-assign]


