"""`dragoman compare`. Owns: its options and the standard input that both runs are given."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from dbt.cli.errors import DIFFER, STATUSES, USAGE, Fail, opened, say, why
from dbt.cli.options import (
    Parser,
    events_option,
    guest_options,
    guest_settings,
    limit,
    program_of,
    seed_option,
    translation,
    translator_options,
)

COMPARE_LIMIT = 10_000_000  # instructions of the reference interpreter, which takes a second for less than a million


def command(words: Sequence[str]) -> int:
    parser = Parser(
        "compare",
        "Run a program in the reference interpreter and in the translator, and check that output, exit status,\n"
        "numbers of instructions and blocks, and registers are equal. The program runs twice, and what it does\n"
        "to files it does twice; both runs get the same standard input, and the program's output is not shown.",
        "PROGRAM [ARGS...]",
        STATUSES + "compare itself exits with 0 if the engines are equal, whatever the program's status.\n",
    )
    guest_options(parser)
    translator_options(parser)
    parser.option(
        "--max-instructions", metavar="N", type=limit, default=COMPARE_LIMIT,
        help="stop the slow reference interpreter after N instructions and compare there; the translator then goes "
        f"on to the end (default: {COMPARE_LIMIT:,}; none: no limit)",
    )
    events_option(parser, "compare registers and memory too, by their digests")
    seed_option(parser, "compare")
    parser.option("--stdin", metavar="FILE", help="standard input of both runs (default: ours, if it is no terminal)")
    parser.option("--json", action="store_true", help="print one JSON object instead of the table")
    options, rest = parser.split(words)
    program, args = program_of(parser, rest)
    import dragoman

    settings = guest_settings(options) | {"options": translation(parser, options)}
    opened(lambda: dragoman.find(program).stat(), program)  # before a word of input is read
    given = _input(options.stdin)
    result = opened(
        lambda: dragoman.compare(
            program, args, seed=options.deterministic, stdin=given, max_instructions=options.max_instructions,
            events=options.events, **settings,
        ),
        program,
    )  # fmt: skip
    print(json.dumps(result.as_dict()) if options.json else result.text())
    if result.equal:
        return 0
    say(f"the engines differ: {result.differences[0]}")
    return DIFFER


def _input(path: str | None) -> bytes:
    """All of the standard input that both runs are given."""
    if path is not None:
        try:
            return Path(path).read_bytes()
        except OSError as error:
            raise Fail(USAGE, f"cannot read {path}: {why(error)}") from None
    if stat.S_ISCHR(os.fstat(0).st_mode):
        return b""
    import select

    if not select.select([0], [], [], 2)[0]:
        say("reading standard input to its end, for both runs (--stdin=/dev/null gives them none)")
    chunks = []
    while chunk := os.read(0, 1 << 20):
        chunks.append(chunk)
    return b"".join(chunks)
