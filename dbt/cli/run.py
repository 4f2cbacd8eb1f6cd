"""`dragoman run`. Owns: its options, where its lines go, what is told of a run at its end."""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from dbt.cli.errors import INTERRUPTED, LIMIT, STATUSES, USAGE, Fail, die, opened, say, why
from dbt.cli.options import (
    TRANSLATOR,
    Parser,
    events_option,
    flag,
    guest_options,
    guest_settings,
    number,
    program_of,
    seed,
    stages,
    translation,
    translator_options,
)

if TYPE_CHECKING:
    from dragoman import Process


class Log:
    """Where lines of ours go: stderr, or files by name, each opened once."""

    def __init__(self) -> None:
        self.files: dict[str, IO[str]] = {}

    def to(self, path: str | None) -> Callable[[str], None]:
        """A function that writes a line there."""
        if path is None:
            return lambda line: print(line, file=sys.stderr)
        real = os.path.realpath(path)
        if real not in self.files:
            try:
                self.files[real] = open(path, "w", errors="backslashreplace")  # noqa: SIM115 - closed with us
            except OSError as error:
                raise Fail(USAGE, f"cannot write {path}: {why(error)}") from None
        file = self.files[real]
        return lambda line: print(line, file=file)

    def flush(self) -> None:
        for file in self.files.values():
            file.flush()


def _parser() -> Parser:
    parser = Parser(
        "run", "Run a RISC-V Linux program. Options end at the program's name: what follows is the program's.",
        "PROGRAM [ARGS...]", STATUSES,
    )  # fmt: skip
    parser.option(
        "--engine", choices=("translated", "reference"),
        help="translated: compile blocks to host code (default); reference: interpret one instruction after the "
        "other, slowly and by the book",
    )
    guest_options(parser)
    translator_options(parser, kept=True)
    parser.option(
        "--max-instructions", metavar="N", type=number(0),
        help="stop at the end of the first block at which N instructions have been executed, with status 124",
    )
    parser.option(
        "--deterministic", metavar="SEED", nargs="?", const=0, type=seed,
        help="make the run repeatable: time is the number of instructions, and random numbers come from SEED "
        "(default: 0)",
    )
    events_option(parser, "write a line: how many have been executed, pc, and a digest of registers and memory")
    parser.option(
        "--granularity", choices=("block", "insn"),
        help="where events are delivered: at block boundaries, as translated code must (default), or after any "
        "instruction, as a processor does (insn, with --engine=reference)",
    )
    parser.option(
        "--stats", metavar="json", nargs="?", const="text", choices=("text", "json"),
        help="at the end show what was executed, translated and how fast; --stats=json for one line of JSON",
    )
    parser.option("--strace", action="store_true", help="show system calls")
    parser.option(
        "--trace", metavar="FILE", nargs="?", const="",
        help="show every instruction with the registers and the memory that it changed; uses the reference engine",
    )
    parser.option(
        "--dump", metavar="STAGES", type=stages, default=frozenset(),
        help="show blocks as they are translated: any of decode,ir,opt,llvm,asm (the guest's code, IR, optimised IR, "
        "LLVM IR, host code)",
    )
    parser.option("--dump-file", metavar="FILE", help="write --dump there")
    parser.option(
        "-D", "--log", metavar="FILE", help="write --strace, --trace, --events, --dump and --stats there, not to stderr"
    )
    return parser


def command(words: Sequence[str]) -> int:
    parser = _parser()
    options, rest = parser.split(words)
    program, args = program_of(parser, rest)
    traced = options.trace is not None
    engine = options.engine or ("reference" if traced else "translated")
    if traced and engine != "reference":
        parser.error("--trace needs --engine=reference")
    if engine == "reference":
        for name in ("dump", *TRANSLATOR):
            if getattr(options, name) not in (None, frozenset()):
                parser.error(f"{flag(name)} is for the translator, and the reference engine does not translate")
    elif options.granularity == "insn":
        parser.error("--granularity=insn needs --engine=reference: translated code stops at block boundaries only")
    if options.dump_file and not options.dump:
        parser.error("--dump-file without --dump")
    import dragoman

    log = Log()
    line = log.to(options.log)
    settings = guest_settings(options) | {
        "seed": options.deterministic, "granularity": options.granularity or "block",
    }  # fmt: skip
    if options.strace:
        settings["strace"] = line
    if traced:
        settings["trace"] = log.to(options.trace or options.log)
    if engine == "translated":
        settings["options"] = translation(parser, options, options.dump, log.to(options.dump_file or options.log))
    start = time.perf_counter()
    with _uncollected():
        process: Process = opened(lambda: dragoman.load(program, args, engine=engine, **settings), program)
    if options.events:
        process.trace_events(options.events, line)
    if engine == "translated" and sys.stderr is not None and sys.stderr.isatty():
        process.engine.progress = _show_progress
    begin, cpu = time.perf_counter(), time.process_time()
    status = 0
    try:
        process.run(options.max_instructions)
        status = process.status or 0
    except dragoman.LimitReached as limit:
        status = LIMIT
        say(str(limit))
    except KeyboardInterrupt:
        status = INTERRUPTED
        say(f"interrupted after {process.instructions:,} instructions")
    finally:
        times = begin - start, time.perf_counter() - begin, time.process_time() - cpu
        if process.signal is not None and process.signal != signal.SIGPIPE:
            _tell_death(process)
        if engine == "translated" and process.engine.note:
            say(process.engine.note)
        if engine == "translated" and process.engine.disk is not None and process.engine.disk.note:
            say(process.engine.disk.note)
        if options.stats:
            _show_stats(process, times, options.stats, line)
        log.flush()
    if process.signal is not None:
        return die(process.signal)
    process.close()
    return status


def _show_progress(done: int, of: int) -> None:
    """On a terminal: the stencils are made once for a machine, and that takes a second."""
    end = "\r\x1b[K" if done == of else ""
    text = f"\rdragoman: making stencils for this machine, once: {done} of {of}{end}"
    print(text, end="", file=sys.stderr, flush=True)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Getting ready makes much that stays, and no garbage: looking for some costs milliseconds."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _tell_death(process: Process) -> None:
    from dbt import report

    say(report.reason(process))
    if process.trap is not None and sys.stderr is not None:
        print(report.registers_text(process), file=sys.stderr)


def _show_stats(process: Process, times: tuple[float, float, float], form: str, line: Callable[[str], None]) -> None:
    import json

    from dbt import report

    stats = report.statistics(process, *times)
    line(json.dumps(stats) if form == "json" else report.statistics_text(stats))
