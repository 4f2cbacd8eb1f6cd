"""`dragoman lockstep`. Owns: its options, its progress, running a saved difference again."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dbt.cli.errors import DIFFER, NOT_FOUND, NOT_RUNNABLE, STATUSES, USAGE, Fail, opened, say, why
from dbt.cli.options import (
    Parser,
    extensions_of,
    guest_options,
    guest_settings,
    number,
    program_of,
    seed_option,
    translation,
    translator_options,
)


def command(words: Sequence[str]) -> int:
    parser = Parser(
        "lockstep",
        "Run both engines side by side and compare registers, counts and written memory at every block boundary.\n"
        "At the first difference show what differs, the block's instructions and its IR. Slow: use it to find out\n"
        "where `dragoman compare` goes wrong.",
        "PROGRAM [ARGS...] | --reproduce=FILE",
        STATUSES + "lockstep itself exits with 0 if the engines agree, whatever the program's status.\n",
    )
    guest_options(parser)
    translator_options(parser)
    parser.option("--max-instructions", metavar="N", type=number(0), help="stop after N instructions")
    seed_option(parser, "lockstep")
    parser.option(
        "--stride", metavar="N", type=number(1, 4000), default=1,
        help="compare at random, after at most N instructions, so that stencils and translations of several blocks run "
        "(default: 1, at every boundary, and all is translated block by block)",
    )
    parser.option(
        "--save",
        metavar="FILE",
        help="where to write the block that makes a difference, with all that it needs (default: "
        "lockstep-PROGRAM-COUNT.json in the current directory)",
    )
    parser.option("--reproduce", metavar="FILE", help="run the block of such a file again, in both engines")
    options, rest = parser.split(words)
    import dragoman

    if options.reproduce is not None:
        if rest:
            parser.error("--reproduce runs a saved block, and no PROGRAM")
        return _reproduce(options.reproduce, extensions_of(options))
    program, args = program_of(parser, rest)
    report = opened(
        lambda: dragoman.lockstep(
            program, args, seed=options.deterministic, max_instructions=options.max_instructions,
            options=translation(parser, options), progress=_progress(), stride=options.stride,
            **guest_settings(options),
        ),
        program,
    )  # fmt: skip
    if report.difference is not None:
        print(report.difference.text())
        from dbt import lockstep

        file = options.save or f"lockstep-{Path(program).stem.lstrip('@')}-{report.difference.count}.json"
        try:
            lockstep.save(report.difference, file)
        except OSError as error:
            raise Fail(USAGE, f"cannot write {file}: {why(error)}") from None
        own = "".join(f"--extension={path} " for path in options.extensions)
        raise Fail(
            DIFFER,
            f"the engines differ after {report.boundaries:,} boundaries; "
            f"`dragoman lockstep {own}--reproduce={file}` runs that block again",
        )
    end = "stopped at --max-instructions" if report.limited else f"exit status {report.status}"
    if report.signal is not None:
        from dbt.report import signal_name

        end = f"killed by {signal_name(report.signal)}"
    where = "boundaries" if options.stride == 1 else "stops"
    regions = f", {report.in_regions:,} of them in translations of several blocks" if options.stride > 1 else ""
    print(f"The engines agree at all of {report.boundaries:,} {where}: {report.instructions:,} instructions{regions}, "
          f"{report.syscalls:,} system calls, {report.pages:,} pages compared; {end}.")  # fmt: skip
    return 0


def _progress() -> Callable[[Any], None] | None:
    """Tell a person at a terminal how far it is, every two seconds."""
    if sys.stderr is None or not sys.stderr.isatty():
        return None
    last = time.monotonic()

    def tell(report: Any) -> None:
        nonlocal last
        if time.monotonic() - last > 2:
            last = time.monotonic()
            say(f"{report.instructions:,} instructions, equal so far")

    return tell


def _reproduce(path: str, extensions: Sequence[Any]) -> int:
    import dragoman
    from dbt import lockstep

    try:
        lines = lockstep.reproduce(path, extensions=extensions)
    except FileNotFoundError:
        raise Fail(NOT_FOUND, f"{path}: there is no such file") from None
    except OSError as error:
        raise Fail(NOT_RUNNABLE, f"{path}: {why(error)}") from None
    except dragoman.BadExtension as error:
        raise Fail(USAGE, str(error)) from None
    except lockstep.ReproducerError as error:
        raise Fail(NOT_RUNNABLE, str(error)) from None
    if not lines:
        print("The engines agree on this block now.")
        return 0
    print("\n".join(lines))
    raise Fail(DIFFER, "the engines differ on this block")
