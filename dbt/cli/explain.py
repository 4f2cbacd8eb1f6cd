"""`dragoman explain`. Owns: its options and its operands, and the run that it explains a piece of."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dbt.cli.errors import STATUSES, USAGE, Fail, opened, why
from dbt.cli.options import (
    Parser,
    guest_options,
    guest_settings,
    number,
    program_of,
    seed_option,
    translation,
    translator_options,
)

if TYPE_CHECKING:
    from dragoman import Process

EXPLAIN_LIMIT = 200_000_000  # instructions of the run: a second or two
HOTTEST = "-"
PARTS = ("guest", "counts", "links", "ir", "llvm", "host", "stencils")
_EPILOG = """\
PLACE is a number, a symbol or a symbol with an offset, such as main+0x10; its region or its block is explained, and
without one, or with -, what most instructions were executed in. ARGS are the program's.

  dragoman explain @sieve                     the hottest block of a run without arguments
  dragoman explain @sieve - small             of a run with one
  dragoman explain --promote=1000 --html=page.html @sieve - small
  dragoman explain --static @hello _start     without a run

explain itself exits with 0, whatever the program's status; with 2 if PLACE is in no code of the program.
"""


def command(words: Sequence[str]) -> int:
    parser = Parser(
        "explain",
        "Run a program, and show one block or region of it from guest bytes to host bytes: classes, IR before and\n"
        "after each pass, LLVM IR, host code, stencils, counts, links. The program's output is not shown.",
        "PROGRAM [PLACE] [ARGS...]", _EPILOG + "\n" + STATUSES,
    )  # fmt: skip
    parser.option("--static", action="store_true", help="do not run the program; without PLACE its entry is explained")
    parser.option("--json", action="store_true", help="print the data as one JSON object")
    parser.option("--html", metavar="FILE", help="write a page that needs nothing else, in which lines are linked")
    parser.option(
        "--parts", metavar="LIST", type=_parts, default=PARTS,
        help=f"what the text shows: any of {','.join(PARTS)} (default: all)",
    )
    parser.option(
        "--max-instructions", metavar="N", type=number(0), default=EXPLAIN_LIMIT,
        help=f"stop the run at the end of the first block at which N instructions have been executed (default: "
        f"{EXPLAIN_LIMIT:,})",
    )
    guest_options(parser)
    translator_options(parser)
    seed_option(parser, "explain")
    options, rest = parser.split(words)
    program, rest = program_of(parser, rest)
    place, args = (rest[0], rest[1:]) if rest else (HOTTEST, [])
    if options.disk_cache:
        parser.error("--disk-cache: a translation from disk does not say what it was made of")
    if options.tiers == (1,) and options.hot is None:
        options.hot = 64
    data = _explained(parser, options, program, args, None if place == HOTTEST else place)
    if options.html is not None:
        from dbt.explain import page

        _write(options.html, page.page(data))
    if options.json:
        print(json.dumps(data))
    elif options.html is None:
        from dbt.explain import text

        print(text.text(data, options.parts))
    return 0


def _parts(text: str) -> tuple[str, ...]:
    found = tuple(text.split(","))
    unknown = [part for part in found if part not in PARTS]
    if unknown:
        from dbt.cli.options import bad

        raise bad(f"there is no part {unknown[0]!r} (there are: {', '.join(PARTS)})")
    return found


def _write(path: str, text: str) -> None:
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise Fail(USAGE, f"cannot write {path}: {why(error)}") from None


def _explained(parser: Parser, options: Any, program: str, args: list[str], place: str | None) -> dict[str, Any]:
    import dragoman
    from dbt.explain import data
    from dbt.explain.subject import NotExplained, choose
    from dbt.explain.watch import Watch

    chosen = translation(parser, options)
    chosen.background, chosen.disk = False, True  # translated at once; stencils may come from disk
    nowhere = os.open(os.devnull, os.O_WRONLY)
    settings = guest_settings(options) | {
        "seed": options.deterministic, "stdout": nowhere, "stderr": nowhere, "options": chosen,
    }  # fmt: skip
    process: Process = opened(lambda: dragoman.load(program, args, **settings), program)
    try:
        watch = opened(lambda: Watch(process), program)
        opened(watch.attach, program)
        ended = None if options.static else _run(process, options.max_instructions)
        try:
            subject = choose(process, watch, place)
        except NotExplained as error:
            hint = f"; to run {program} with the argument {place}: dragoman explain {program} - {place}"
            raise Fail(USAGE, f"{error}{hint if place and not place[:1].isdigit() else ''}") from None
        found = data.explain(process, watch, subject, " ".join((program, *args)), ended)
        watch.close()
        return found
    finally:
        process.close()
        os.close(nowhere)


def _run(process: Process, most: int) -> str:
    """Run the program; how that ended."""
    import dragoman

    try:
        process.run(most)
    except dragoman.LimitReached:
        return "stopped by --max-instructions"
    except KeyboardInterrupt:
        return "interrupted"
    if process.signal is not None:
        from dbt.report import signal_name

        return f"killed by {signal_name(process.signal)}"
    return f"exit status {process.status}"
