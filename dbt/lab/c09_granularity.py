"""C09: why basic blocks? Programs translated in shorter pieces, and in longer ones, and what each size costs."""

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

WHOLE = 2048  # instructions in a translation at most: no limit, for a page holds no more
PROGRAMS = {  # sizes: instructions in a block at most, and in a region of several blocks
    "sha256": ((1, 0), (4, 0), (16, 0), (WHOLE, 0), (WHOLE, 500)),  # long blocks
    "recurse": ((1, 0), (WHOLE, 0), (WHOLE, 500)),  # short ones
}
COUNTED = 40_000  # instructions executed unlinked, so that every execution of a translation is seen
WARM = 2_000_000  # instructions until everything is translated
MEASURED = 30_000_000  # instructions against the clock, linked; translation is not counted
STEP = 200  # instructions at most from one stop that is asked for to the next


class Level(NamedTuple):
    """What one size of translations gave for one program."""

    length: int
    region: int
    translations: int
    density: float  # bytes of host code for an instruction of the guest
    translating: float  # seconds
    executed: int  # translations, in COUNTED instructions
    interpreted: int  # instructions among them that the monitor executed
    running: float  # seconds for MEASURED instructions
    late: int  # most instructions from the point at which a stop was asked for to where it was
    outcome: object


def run(report: Report) -> None:
    for name, sizes in PROGRAMS.items():
        blocks, longest, outcome = boundaries(name)
        report.say(f"@{name}: {blocks:,} basic blocks in its first {COUNTED:,} instructions, the longest of {longest}")
        levels = [measure(name, length, region) for length, region in sizes]
        report.show(f"{'at most':>8}{'region':>8}{'translations':>14}{'bytes/insn':>12}{'translating':>13}"
                    f"{'dispatches':>12}{'running':>11}{'late by':>9}")  # fmt: skip
        for level in levels:
            report.show(f"{level.length:8,}{level.region:8}{level.translations:14,}{level.density:12.1f}"
                        f"{level.translating:11.2f} s{level.executed:12,}{1e3 * level.running:8.1f} ms"
                        f"{level.late:9}")  # fmt: skip
        cut = [level for level in levels if not level.region]
        single, whole, beyond = cut[0], cut[-1], levels[len(cut) :]
        report.check(all(level.outcome == outcome for level in levels),
                     "registers, instructions and blocks are the interpreter's at every size")  # fmt: skip
        report.check(single.executed + single.interpreted == outcome[1], "of one instruction: one dispatch for each")
        report.check(whole.executed == blocks, "not cut: one dispatch for each basic block, and none inside")
        report.check(all(a.executed >= b.executed for a, b in pairwise(levels)) and beyond[-1].executed < blocks,
                     "the longer they may be, the fewer are dispatched; of regions, fewer than blocks")  # fmt: skip
        report.check(all(0 < level.late < longest for level in levels),
                     "a stop comes at the end of a basic block, be it inside a translation")  # fmt: skip


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


def measure(name: str, length: int, region: int) -> Level:
    """Run the program twice: unlinked, to count; and linked, for the times."""
    found: list[Any] = []

    def count(process: Process) -> None:
        process.engine.cache._linked = False  # from one translation to the next by way of the monitor
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

    for drive in (count, clock):
        options = Options(hot=0, max_instructions=length, region=region)
        run_program(name, *find(name).large, options=options, drive=drive)
    return Level(length, region, *found)
