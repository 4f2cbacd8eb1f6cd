"""`dragoman compare`: a program in both engines, or a guest of a virtual machine under the methods of `dbt.kvm`.

Owns: its options and the standard input that both runs are given. Must not know: what is compared.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dbt.cli.errors import DIFFER, STATUSES, opened, read, say, write
from dbt.cli.options import (
    Parser,
    events_option,
    guest_options,
    guest_settings,
    is_guest,
    limit,
    program_of,
    seed_option,
    translation,
    translator_options,
)

COMPARE_LIMIT = 10_000_000  # instructions of the reference interpreter, which takes a second for less than a million
ENGINES = ("interp", "dbt")
FOR_PROGRAMS = {  # options that a guest of a virtual machine has no use for, by attribute
    "isa": "--isa", "extensions": "--extension", "sysroot": "--sysroot", "edits": "--env", "argv0": "--argv0",
    "events": "--events", "stdin": "--stdin",
}  # fmt: skip


def names(text: str) -> list[str]:
    """The words of a list."""
    return text.split(",")


def command(words: Sequence[str]) -> int:
    parser = Parser(
        "compare",
        "Run a program in the reference interpreter and in the translator, and check that output, exit status,\n"
        "numbers of instructions and blocks, and registers are equal. The program runs twice, and what it does\n"
        "to files it does twice; both runs get the same standard input, and the program's output is not shown.\n"
        "Or, with --methods or for a bundled guest of a virtual machine such as @quad: run that guest under each\n"
        "method of running one, and count what each method does for it (docs/howto/compare.md).",
        "PROGRAM [ARGS...] | GUEST [OPTIONS]",
        STATUSES + "compare itself exits with 0 if the engines, or the methods, are equal, whatever the program's "
        "status.\n",
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
    parser.option(
        "--methods", metavar="LIST", type=names,
        help="of a guest of a virtual machine: methods of running it, separated by commas, such as bt,hw; all: every "
        "one but none, in which nobody emulates, and pv only of guests with a build for it (default)",
    )
    parser.option(
        "--engines", metavar="LIST", type=names, default=list(ENGINES),
        help="and what runs the machine behind each method: interp, dbt, or both (default), as far as the method has "
        "them",
    )
    parser.option(
        "--nested", action="store_true",
        help="and under hw once more, with a hypervisor that is a guest itself: its exits beside those of its guest",
    )
    parser.option("--html", metavar="FILE", help="and write charts of it as a page of HTML that needs nothing else")
    options, rest = parser.split(words)
    program, args = program_of(parser, rest)
    if options.methods is not None or options.html is not None or is_guest(program):
        options, more = parser.split([*words[: len(words) - len(rest)], *args])
        return _methods(parser, options, program, more)
    if options.nested:
        parser.error("--nested is for guests of a virtual machine, such as @quad: programs have no hypervisor")
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


def _methods(parser: Parser, options: Any, program: str, more: Sequence[str]) -> int:
    """A guest under the methods that there are."""
    if more:
        parser.error(f"a guest of a virtual machine has no arguments: {' '.join(more)}")
    for attribute, name in FOR_PROGRAMS.items():
        if getattr(options, attribute):
            parser.error(f"{name} is for programs: a guest of a virtual machine has none of that")
    from dbt.kvm import METHODS, KvmError
    from dbt.methods import compare
    from dbt.options import Options
    from guests.programs import VIRTUALS, virtual_file

    chosen: Options = translation(parser, options)
    chosen.patience = 0  # what bt is compared for is translation
    bundled = VIRTUALS[program[1:]] if is_guest(program) else None
    second = virtual_file(program, True) if bundled is not None and bundled.paravirtual else None
    methods = options.methods
    if methods in (None, ["all"]):
        methods = [name for name, how in METHODS.items() if how.native or (how.emulates and second is not None)]
    file = opened(lambda: virtual_file(program) if program.startswith("@") else str(Path(program)), program)
    try:
        result = opened(
            lambda: compare(
                program, file, None if bundled is None else bundled.output, methods, options.engines, chosen,
                options.max_instructions, second, options.nested,
            ),
            program,
        )  # fmt: skip
    except KvmError as error:
        parser.error(str(error))
    if options.html is not None:
        write(options.html, result.page())
    if options.json:
        print(json.dumps(result.as_dict()))
    elif options.html is None:
        print(result.text())
    if result.equal:
        return 0
    say(f"the methods differ: {next(f'{row.method}: {why}' for row in result.rows if (why := result.why(row)))}")
    return DIFFER


def _input(path: str | None) -> bytes:
    """All of the standard input that both runs are given."""
    if path is not None:
        return read(path)
    if stat.S_ISCHR(os.fstat(0).st_mode):
        return b""
    import select

    if not select.select([0], [], [], 2)[0]:
        say("reading standard input to its end, for both runs (--stdin=/dev/null gives them none)")
    chunks = []
    while chunk := os.read(0, 1 << 20):
        chunks.append(chunk)
    return b"".join(chunks)
