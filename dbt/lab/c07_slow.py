"""C07: one guest instruction becomes many in the interpreter, and few in a translation. Times decide nothing."""

from __future__ import annotations

import sys
import time
from types import FrameType
from typing import Any

from dbt.lab.report import Report
from dbt.lab.workbench import go_on, run_program
from dbt.options import Options
from dbt.process import Process
from dbt.state import SLICE
from guests.programs import find

KERNELS = ("sieve", "nbody", "sort", "queens", "strings", "sha256")
REFERENCE = 20_000  # instructions that the interpreter is measured on
WARM = 10_000_000  # instructions until the translator has what it needs
MEASURED = 30_000_000  # instructions that it is measured on
COUNTED = 2_000  # instructions whose host operations are counted
MANY = 20  # Python instructions, at least, for any one guest instruction


def speed(process: Process, instructions: int) -> float:
    """Instructions a second, of the next so many."""
    start = time.perf_counter()
    return go_on(process, instructions) / (time.perf_counter() - start)


def bytecodes(process: Process, count: int) -> list[int]:
    """How many Python instructions the interpreter executes for each of the next `count` guest instructions."""
    each: list[int] = []
    spent = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal spent
        if frame.f_code is watch.__code__:
            return None
        frame.f_trace_opcodes = True
        spent += event == "opcode"
        return trace

    def watch(pc: int, decoded: object) -> None:
        nonlocal spent
        each.append(spent)
        spent = 0

    engine, before = process.engine, sys.gettrace()
    engine.watch = watch
    sys.settrace(trace)
    try:
        engine.run(process.instructions + count)
    finally:
        sys.settrace(before)
        engine.watch = None
    return each


def host_instructions(process: Process) -> tuple[int, int]:
    """Host instructions and guest instructions of all translations."""
    import capstone

    md = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    arena, host, guest = process.engine.translator.backend.arena, 0, 0
    for made in process.engine.cache.translations():
        host += sum(1 for _ in md.disasm_lite(arena.bytes_at(made.entry, made.size), made.entry))
        guest += made.instructions
    return host, guest


def run(report: Report) -> None:
    report.say(f"six programs in both engines to the same boundary, {REFERENCE:,} instructions on")
    report.say(f"then the translator {WARM:,} instructions further, to be warm, and {MEASURED:,} with a clock")
    report.show(f"{'':10}{'interpreted/s':>15}{'translated/s':>15}{'ratio':>9}  host instructions for one of the guest")
    unequal, least, most, entries, allowed = [], 1 << 60, 0.0, 0, 0
    for name in KERNELS:
        found: dict[str, Any] = {}

        def interpret(process: Process, found: dict[str, Any] = found) -> None:
            found["slow"] = speed(process, REFERENCE)
            found["state"] = process.registers, process.instructions, process.state.blocks
            found["each"] = bytecodes(process, COUNTED)

        def translate(process: Process, found: dict[str, Any] = found) -> None:
            go_on(process, REFERENCE)
            found["same"] = found["state"] == (process.registers, process.instructions, process.state.blocks)
            go_on(process, WARM)
            before = process.engine.entries, process.syscalls, process.engine.stepped, process.engine.interpreted
            found["fast"] = speed(process, MEASURED)
            found["entries"] = process.engine.entries - before[0]
            found["python"] = (process.syscalls + process.engine.stepped + process.engine.interpreted) - sum(before[1:])
            found["host"] = host_instructions(process)

        run_program(name, *find(name).large, engine="reference", drive=interpret)
        run_program(name, *find(name).large, drive=translate, options=Options(tiers=(1,)))
        slow, fast = found["slow"], found["fast"]
        python, host = sum(found["each"]) / len(found["each"]), found["host"][0] / found["host"][1]
        report.show(f"{name:10}{slow:15,.0f}{fast:15,.0f}{fast / slow:8,.0f}x  "
                    f"{python:5.0f} Python instructions, {host:4.1f} of the host's own")  # fmt: skip
        unequal += [name] * (not found["same"])
        least, most = min(least, *found["each"]), max(most, host)
        entries += found["entries"]
        allowed += 10 * (MEASURED // SLICE + 2) + found["python"]
    report.check(not unequal, "registers, instructions and blocks are equal at that boundary")
    report.figure("fewest Python instructions for one of the guest", least)
    report.check(least >= MANY, f"interpreted, no guest instruction costs fewer than {MANY} of Python's, each of which "
                                "is many of the host's")  # fmt: skip
    report.check(most < least, "translated, one costs fewer of the host's own than that, all ways out counted")
    report.figure(f"Python's entries to translated code, of {len(KERNELS) * MEASURED:,}", entries)
    report.check(entries <= allowed, "warm, the interpreter has no part in it: Python only starts slices")
