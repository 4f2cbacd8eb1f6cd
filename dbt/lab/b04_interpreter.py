"""B04: a CPU is fetch, decode, execute; the reference interpreter does just that, its state wholly in memory."""

from __future__ import annotations

import ctypes

from dbt.lab.report import Report
from dbt.lab.workbench import command, run_program
from dbt.process import LimitReached, Process
from dbt.reference import Reference
from dbt.state import SLOTS
from guests.programs import find

PROGRAM = "stream"
EVERY = 5_000


def run(report: Report) -> None:
    expected = find(PROGRAM).small_output
    report.say(f"run @{PROGRAM} in the reference interpreter: every instruction fetched, decoded, executed in turn")
    plain = run_program(PROGRAM, engine="reference")
    report.figure("instructions", plain.stats["instructions"])
    report.figure("instructions a second", round(plain.stats["instructions"] / plain.seconds))
    report.check(plain.status == 0 and plain.stdout == expected, "its output is the one written down for the program")

    report.say(f"the same, but every {EVERY:,} instructions the interpreter is thrown away and a new one is made")
    changes, named = 0, True

    def in_pieces(process: Process) -> None:
        nonlocal changes, named
        while not process.ended:
            try:
                process.run(process.instructions + EVERY)
            except LimitReached:
                process.engine = Reference(process.state, process.space, process.wall_clock)
                changes += 1
                slots = process.state.address + SLOTS
                named = named and all(
                    process.registers[r.name] == ctypes.c_uint64.from_address(slots + 8 * r.slot).value
                    for r in process.guest.registers
                )

    pieces = run_program(PROGRAM, engine="reference", drive=in_pieces)
    report.figure("interpreters used", changes + 1)
    report.check(changes > 0 and named, "every register is a 64-bit word of one block of host memory")
    same = (pieces.stdout, pieces.registers, pieces.stats["instructions"]) == (
        plain.stdout, plain.registers, plain.stats["instructions"])  # fmt: skip
    report.check(same, "output, registers and count are the same: the interpreter itself remembers nothing")

    report.say("the other engine, with the interpreter as its oracle")
    translated = run_program(PROGRAM)
    for what, a, b in (
        ("output", plain.stdout, translated.stdout),
        ("registers", plain.registers, translated.registers),
        ("instructions", plain.stats["instructions"], translated.stats["instructions"]),
        ("blocks", plain.stats["blocks"], translated.stats["blocks"]),
    ):
        report.check(a == b, f"the translated run has the same {what}")

    probe = ("import sys; from dbt.process import Process, Settings; from guests.programs import path; "
             "p = Process(path('hello'), (), Settings(engine='reference')); p.run(); sys.stdout.flush(); "
             "sys.exit('llvmlite' in sys.modules)")  # fmt: skip
    report.check(command("-c", probe, python=()).returncode == 0, "the interpreter runs without LLVM being loaded")
