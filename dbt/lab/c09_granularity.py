"""C09: why basic blocks? Programs translated in pieces of 1, 4, 16 and more instructions, and what each size costs."""

from __future__ import annotations

import time
from itertools import pairwise
from random import Random
from typing import Any, NamedTuple

from dbt.lab.report import Report
from dbt.lab.workbench import go_on, run_program
from dbt.options import Options
from dbt.process import Process
from guests.programs import find

PROGRAMS = {  # instructions in a translation at most; the last of each is longer than any block
    "sha256": (1, 4, 16, 2048),  # long blocks
    "queens": (1, 64),  # short ones
}
COUNTED = 40_000  # instructions executed unlinked, so that every execution of a translation is seen
WARM = 2_000_000  # instructions until everything is translated
MEASURED = 30_000_000  # instructions against the clock, linked; translation is not counted
STEP = 200  # instructions at most from one stop that is asked for to the next


class Level(NamedTuple):
    """What one size of translations gave for one program."""

    length: int
    translations: int
    density: float  # bytes of host code for an instruction of the guest
    translating: float  # seconds
    executed: int  # translations, in COUNTED instructions
    interpreted: int  # instructions among them that the monitor executed
    running: float  # seconds for MEASURED instructions
    late: int  # most instructions from the point at which a stop was asked for to where it was
    outcome: object


def run(report: Report) -> None:
    for name, lengths in PROGRAMS.items():
        blocks, longest, outcome = boundaries(name)
        report.say(f"@{name}: {blocks:,} basic blocks in its first {COUNTED:,} instructions, the longest of {longest}")
        levels = [measure(name, length) for length in lengths]
        report.show(f"{'at most':>8}{'translations':>14}{'bytes/insn':>12}{'translating':>13}{'dispatches':>12}"
                    f"{'running':>11}{'late by':>9}")  # fmt: skip
        for level in levels:
            report.show(f"{level.length:8,}{level.translations:14,}{level.density:12.1f}{level.translating:11.2f} s"
                        f"{level.executed:12,}{1e3 * level.running:8.1f} ms{level.late:9}")  # fmt: skip
        single, whole = levels[0], levels[-1]
        report.check(all(level.outcome == outcome for level in levels),
                     "registers, instructions and blocks are the interpreter's at every size")  # fmt: skip
        report.check(single.executed + single.interpreted == outcome[1], "of one instruction: one dispatch for each")
        report.check(whole.executed == blocks, "not cut: one dispatch for each basic block, and none inside")
        report.check(all(a.executed >= b.executed and a.translations >= b.translations
                         for a, b in pairwise(levels)),
                     "the longer they may be, the fewer are made and the fewer are dispatched")  # fmt: skip
        report.check(all(0 < level.late < longest for level in levels),
                     "a stop comes at the end of a basic block, whatever the size")  # fmt: skip
    report.say("a size beyond the basic block, past a branch, is not built: regions come later")


def boundaries(name: str) -> tuple[int, int, Any]:
    """From the interpreter: blocks in the first instructions, the longest one, and the state after them."""
    found: list[Any] = []

    def drive(process: Process) -> None:
        lengths, state = [0], process.state

        def watch(pc: int, decoded: Any) -> None:
            lengths[-1] += 1
            if decoded.ends_block or process.engine.domain.next >> 12 != pc >> 12:
                lengths.append(0)

        process.engine.watch = watch
        go_on(process, COUNTED)
        found.extend((state.blocks, max(lengths), outcome_of(process)))

    run_program(name, *find(name).large, engine="reference", drive=drive)
    return found[0], found[1], found[2]


def outcome_of(process: Process) -> tuple[dict[str, int], int, int]:
    return process.registers, process.instructions, process.state.blocks


def measure(name: str, length: int) -> Level:
    """Run the program twice: unlinked, to count; and linked, for the times."""
    found: list[Any] = []

    def count(process: Process) -> None:
        go_on(process, COUNTED)
        engine, made = process.engine, process.engine.translator.stats
        found.extend((made.translations, made.code_bytes / made.instructions, sum(made.seconds.values())))
        found.extend((engine.entries, engine.interpreted + engine.stepped))

    def clock(process: Process) -> None:
        rng, late = Random(9), 0
        while process.instructions < COUNTED:
            step = min(rng.randint(1, STEP), COUNTED - process.instructions)
            late = max(late, go_on(process, step) - step)
        outcome = outcome_of(process)
        go_on(process, WARM)
        seconds = process.engine.translator.stats.seconds
        translating, start = sum(seconds.values()), time.process_time()
        go_on(process, MEASURED)
        running = time.process_time() - start - (sum(seconds.values()) - translating)
        found.extend((running, late, outcome))

    large = find(name).large
    run_program(name, *large, options=Options(hot=0, max_instructions=length, chain=False), drive=count)
    run_program(name, *large, options=Options(hot=0, max_instructions=length), drive=clock)
    return Level(length, *found)
