"""`dragoman explore`. Owns: its options, its table."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from dbt.cli.errors import DIFFER, STATUSES, Fail, opened
from dbt.cli.options import (
    Parser,
    guest_options,
    guest_settings,
    limit,
    number,
    program_of,
    seed,
    translation,
    translator_options,
)

if TYPE_CHECKING:
    from dbt.explore import Outcome

LONGEST = 1_000_000_000  # instructions of a run; a loop without an end takes seconds for them
SHOWN = 48  # bytes of what an outcome printed


def command(words: Sequence[str]) -> int:
    parser = Parser(
        "explore",
        "Run a program with many seeds, each of which gives its threads other turns, and show the outcomes: exit\n"
        "status, signal, deadlock, output. Each run can be had again by its seed. The program gets no input, its\n"
        "output is not shown, and what it does to files it does in every run. Turns end at block boundaries.",
        "PROGRAM [ARGS...]",
        STATUSES + "explore itself exits with 0 if all runs end alike, none by a signal or never, and with 3 if not.\n",
    )
    guest_options(parser)
    translator_options(parser, kept=True)
    parser.option("--seeds", metavar="N", type=number(1), default=100, help="how many seeds (default: 100)")
    parser.option("--first", metavar="SEED", type=seed, default=0, help="the first of them (default: 0)")
    parser.option(
        "--jobs", metavar="N", type=number(1), default=len(os.sched_getaffinity(0)),
        help="runs at a time (default: one for each processor)",
    )
    parser.option(
        "--max-instructions", metavar="N", type=limit, default=LONGEST,
        help=f"a run that has not ended after N instructions is one without an end (default: {LONGEST:,}; none: no "
        "limit)",
    )
    options, rest = parser.split(words)
    program, args = program_of(parser, rest)
    import dragoman
    from dbt.explore import explore
    from dragoman import Settings

    path = opened(lambda: dragoman.find(program), program)
    given = guest_settings(options)
    if given["argv0"] is None and program.startswith("@"):
        given["argv0"] = program[1:]
    seeds = range(options.first, options.first + options.seeds)
    found = opened(
        lambda: explore(
            path, args, Settings(options=translation(parser, options), **given), seeds=seeds, jobs=options.jobs,
            max_instructions=options.max_instructions, progress=_progress(len(seeds)),
        ),
        program,
    )  # fmt: skip
    lines = [f"{len(each.seeds):8,}  {each.seeds[0]:8}  {_text(each)}" for each in found.outcomes]
    print(f"{'seeds':>8}  {'first':>8}  outcome", *lines, sep="\n", flush=True)  # before what is said of them
    if not found.suspects:
        return 0
    count = sum(len(outcome.seeds) for outcome in found.suspects)
    again = shlex.join(["dragoman", "run", f"--deterministic={found.suspects[0].seeds[0]}", program, *args])
    raise Fail(DIFFER, f"{count:,} of {len(seeds):,} runs differ or fail; `{again}` runs the first of them again")


def _text(outcome: Outcome) -> str:
    """How it ended, and the last line of what it printed."""
    lines = (outcome.stdout or outcome.stderr).splitlines()
    if not lines:
        return f"{outcome.end}; it printed nothing"
    last = lines[-1][:SHOWN].decode("utf-8", "backslashreplace")
    return f"{outcome.end}; its last line: {last if last.isprintable() else ascii(last)[1:-1]}"


def _progress(of: int) -> Callable[[int], None]:
    """Tell a person at a terminal how far it is."""
    if sys.stderr is None or not sys.stderr.isatty():
        return lambda done: None
    return lambda done: print(f"\r{done} of {of}" if done < of else "\r\x1b[K", end="", file=sys.stderr, flush=True)
