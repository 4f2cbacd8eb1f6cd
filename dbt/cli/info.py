"""`dragoman info` and `dragoman lab`: what there is, and experiments on it."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from dbt.cli.errors import FAILURE, Fail, opened
from dbt.cli.options import Parser, extension_option, extensions_of


def lab_command(words: Sequence[str]) -> int:
    try:
        lab = importlib.import_module("dbt.lab").main
    except ModuleNotFoundError as error:
        if error.name != "dbt.lab":
            raise
        raise Fail(FAILURE, "`dragoman lab` is not part of this installation") from None
    return int(lab(list(words)) or 0)


def command(words: Sequence[str]) -> int:
    parser = Parser("info", "Say what a program file is, or what Dragoman has.",
                    "PROGRAM | --programs | --isa | --coverage | --syscalls")
    parser.option("--programs", action="store_true", help="list the programs that come with Dragoman")
    parser.option("--isa", action="store_true", help="list the extensions of a process, and of a machine's hart")
    parser.option("--coverage", action="store_true", help="list instructions and system calls, done and not done")
    parser.option("--syscalls", action="store_true", help="list every system call, with a note (docs/syscalls.md)")
    extension_option(parser)
    options, rest = parser.split(words)
    if len(rest) + options.programs + options.isa + options.coverage + options.syscalls != 1:
        parser.error("one of PROGRAM, --programs, --isa, --coverage and --syscalls is wanted")
    import dragoman
    import guests
    from dbt import report

    if options.programs:
        print(report.programs_text())
        return 0
    guest = opened(lambda: guests.load("riscv64", extensions=extensions_of(options)), "")
    if options.isa:
        print(report.isa_text(guest, guests.load_machine("riscv64")))
    elif options.coverage:
        print(report.coverage_text(guest))
    elif options.syscalls:
        print(report.syscalls_text(guest))
    else:
        program = rest[0]
        path = opened(lambda: dragoman.find(program), program)
        bundled = None
        if program.startswith("@"):
            from guests import programs

            bundled = programs.find(program)
        print(opened(lambda: report.program_text(path, guest, bundled), program))
    return 0
