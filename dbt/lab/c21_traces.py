"""C21: an interpreter that is interrupted at boundaries, and the translator: traces of events, equal to the byte."""

from __future__ import annotations

import hashlib
from itertools import zip_longest
from random import Random

from dbt.lab.report import Report
from dbt.lab.workbench import Ran, go_on, run_program
from dbt.options import Options
from dbt.process import Process

PROGRAMS = {"hello": 1, "smc": 31, "strings": 97, "vm": 97, "poly": 97}  # and the period of the events
INSTRUCTIONS = 8_000  # of each
WAYS = {
    "translated": Options(hot=12, tiers=(1,)),
    "in pieces of 5, unchained": Options(hot=12, max_instructions=5, chain=False),
    "in 2 KiB, disturbed": Options(hot=12, tiers=(1,), cache_size=2 << 10, chaos=1),
    "disturbed otherwise": Options(tiers=(0, 1), patience=0, promote=12, chaos=2),
}


def trace(
    name: str, period: int, engine: str = "translated", options: Options | None = None, granularity: str = "block"
) -> tuple[str, Ran]:
    """What events saw: count, pc and digest, a line each; those of the period, and some at random."""
    lines: list[str] = []

    def drive(process: Process) -> None:
        rng = Random(period)
        process.trace_events(period, lines.append)
        for _ in range(10):
            process.at(rng.randrange(INSTRUCTIONS), lambda p: lines.append(f"{p.instructions} {p.pc:#x} by chance"))
        go_on(process, INSTRUCTIONS)
        lines.append(f"{process.instructions} {process.pc:#x} {process.digest()} at the end")

    ran = run_program(name, engine=engine, options=options, drive=drive, granularity=granularity)
    return "".join(line + "\n" for line in lines), ran


def run(report: Report) -> None:
    report.say(f"the first {INSTRUCTIONS:,} instructions of programs; events note count, pc, a digest of everything")
    report.show(f"{'':10}{'every':>6}{'events':>8}   traces, by their SHA-256")
    equal, exact, moved, events, translations = True, True, 0, 0, 0
    for name, period in PROGRAMS.items():
        reference, _ = trace(name, period, "reference")
        anywhere, _ = trace(name, period, "reference", granularity="insn")
        events += reference.count("\n")
        report.show(f"@{name:9}{period:6}{reference.count(chr(10)):8}   {short(reference)} interpreted")
        for way, options in WAYS.items():
            found, ran = trace(name, period, options=options)
            translations += ran.stats["translations"]
            equal = equal and found == reference
            report.show(f"{'':27}{short(found)} {way} {first_difference(reference, found)}")
        report.show(f"{'':27}{short(anywhere)} interpreted, interrupted anywhere")
        moved += anywhere != reference
        counts = [int(line.split()[0]) for line in anywhere.splitlines()[:-1] if not line.endswith("chance")]
        exact = exact and counts == list(range(period, period * len(counts) + 1, period))
    report.figure("events noted by the interpreter", events)
    report.figure("translations made", translations)
    report.check(events > 300 and translations > 100, "there was something to compare")
    report.check(equal, "every trace is the interpreter's, byte for byte")
    report.check(exact, "interrupted anywhere, the interpreter notes every multiple of the period itself")
    report.check(moved == len(PROGRAMS), "those traces are others: where interrupts enter is a choice")


def short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def first_difference(expected: str, found: str) -> str:
    """Where two traces differ, if they do."""
    for wanted, line in zip_longest(expected.splitlines(), found.splitlines()):
        if wanted != line:
            return f"DIFFERS: {line} instead of {wanted}"
    return ""
