"""`dragoman run`. Owns: its options, where its lines go, what is told of a run at its end."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any

from dbt.cli.errors import INTERRUPTED, LIMIT, STATUSES, USAGE, Fail, opened, say, show_version, why
from dbt.cli.options import (
    MAX_STACK,
    MIN_STACK,
    TRANSLATOR,
    Parser,
    events_option,
    flag,
    guest_options,
    guest_settings,
    number,
    numbered,
    program_of,
    seed,
    size,
    stages,
    stats_option,
    strace_items,
    translation,
    translator_options,
)

if TYPE_CHECKING:
    from dbt.profile import Profiler
    from dbt.timeline import Recorder
    from dragoman import Process


class Log:
    """Where lines of ours go: stderr, or files by name, each opened once."""

    def __init__(self) -> None:
        self.files: dict[str, TextIOWrapper] = {}

    def to(self, path: str | None) -> Callable[[str], None]:
        """A function that writes a line there."""
        if path is None:
            return lambda line: _write(sys.stderr, line)
        real = os.path.realpath(path)
        if real not in self.files:
            try:
                self.files[real] = open(path, "w", 1, errors="backslashreplace")  # noqa: SIM115 - closed with us
            except OSError as error:
                raise Fail(USAGE, f"cannot write {path}: {why(error)}") from None
        file = self.files[real]
        return lambda line: _write(file, line)

    def flush(self) -> None:
        for file in self.files.values():
            file.flush()

    def share(self) -> None:
        """Other processes are about to write there, too: nothing but whole lines from now on."""
        for file in self.files.values():
            file.reconfigure(line_buffering=True)


def _write(file: Any, line: str) -> None:
    """A line at once: other processes write there, too."""
    if file is not None:
        file.write(f"{line}\n")


def _epilog() -> str:
    from dbt.cli import qemu

    return f"{qemu.table()}\n{STATUSES}"


def _parser() -> Parser:
    parser = Parser(
        "run", "Run a RISC-V Linux program. Options end at the program's name: what follows is the program's.",
        "PROGRAM [ARGS...]", _epilog, qemu=True,
    )  # fmt: skip
    parser.option("--version", action="store_true", help="show the version")
    parser.option(
        "--engine", choices=("translated", "reference"),
        help="translated: compile blocks to host code (default); reference: interpret one instruction after the "
        "other, slowly and by the book",
    )
    guest_options(parser)
    parser.option(
        "--stack-size", metavar="N[K|M]", type=size(MIN_STACK, MAX_STACK),
        help="bytes of the program's stack (default: the limit of yours, if it has one, or 8M)",
    )
    parser.option("--uname", metavar="RELEASE", help="the kernel's release, as the program is told (default: yours)")
    translator_options(parser, kept=True)
    parser.option(
        "--max-instructions", metavar="N", type=number(0),
        help="stop at the end of the first block at which N instructions have been executed, with status 124",
    )
    parser.option(
        "--deterministic", metavar="SEED", nargs="?", const=0, type=seed,
        help="make the run repeatable: time is the number of instructions, and random numbers and the turns of threads "
        "come from SEED (default: 0)",
    )
    parser.option(
        "--seed", metavar="N", type=seed, help="random numbers come from N, and all else is as it is without"
    )
    events_option(parser, "write a line: how many have been executed, pc, and a digest of registers and memory")
    parser.option(
        "--granularity", choices=("block", "insn"),
        help="where events are delivered: at block boundaries, as translated code must (default), or after any "
        "instruction, as a processor does (insn, with --engine=reference)",
    )
    stats_option(parser)
    parser.option(
        "--profile", metavar="FILE", nargs="?", const="",
        help="at the end show which functions were executed, by samples, and which regions, by exact counts; with FILE "
        "write it there, as JSON if the name ends in .json",
    )
    parser.option(
        "--timeline", metavar="FILE",
        help="write a page of HTML that shows the run over time: what executed, what was compiled, how fast; only the "
        "data, as JSON, if the name ends in .json",
    )
    parser.option(
        "--strace", metavar="ITEMS", nargs="?", const="", type=strace_items,
        help="show system calls, signals and the end, as strace does. ITEMS, with commas between them: json for lines "
        "of JSON; time for seconds since the start; strings=N for how much of a string is shown (default: 32); file, "
        "desc, process, network, signal, memory, clock, or names of calls, for these alone",
    )
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
        "-D", "--log", metavar="FILE", type=numbered,
        help="write --strace, --trace, --events, --dump, --stats and --profile there, not to stderr; %%d in the name "
        "is our process number",
    )
    return parser


def command(words: Sequence[str]) -> int:
    parser = _parser()
    options, rest = parser.split(words)
    if options.version:
        return show_version()
    program, args = program_of(parser, rest)
    traced = options.trace is not None
    engine = options.engine or ("reference" if traced else "translated")
    if traced and engine != "reference":
        parser.error("--trace needs --engine=reference")
    if engine == "reference":
        for name in ("dump", *TRANSLATOR):
            if getattr(options, name) not in (None, frozenset()):
                parser.error(f"{flag(name)} is for the translator, and the reference engine does not translate")
        if options.timeline is not None:
            parser.error("--timeline shows how the translator does, and the reference engine does not translate")
    elif options.granularity == "insn":
        parser.error("--granularity=insn needs --engine=reference: translated code stops at block boundaries only")
    if options.dump_file and not options.dump:
        parser.error("--dump-file without --dump")
    others = [options.profile, options.log, options.dump_file, options.trace]
    if options.timeline and os.path.realpath(options.timeline) in [os.path.realpath(path) for path in others if path]:
        parser.error(f"--timeline={options.timeline}: something else is to be written there")
    import dragoman

    log = Log()
    line = log.to(options.log)
    views = None
    if options.profile is not None or options.timeline is not None:
        views = _Views(options, log, line)
    settings = guest_settings(options) | {
        "seed": options.deterministic, "random_seed": options.seed, "stack_size": options.stack_size,
        "release": options.uname, "granularity": options.granularity or "block", "host_signals": True,
    }  # fmt: skip
    if options.strace is not None:
        settings |= {"strace": line, "strace_items": options.strace}
    if traced:
        settings["trace"] = log.to(options.trace or options.log)
    if engine == "translated":
        settings["options"] = translation(parser, options, options.dump, log.to(options.dump_file or options.log))
    start = time.perf_counter()
    process: Process = opened(lambda: dragoman.load(program, args, engine=engine, **settings), program)
    process.flushes.append(log.share)
    process.child_killed = lambda: _tell_death(process)
    if options.events:
        process.trace_events(options.events, line)
    if engine == "translated" and sys.stderr is not None and sys.stderr.isatty():
        process.engine.progress = _show_progress
    if views is not None:
        views.attach(process)
    begin, cpu = time.perf_counter(), time.process_time()
    status = 0
    try:
        process.run(options.max_instructions)
        status = process.status or 0
    except dragoman.LimitReached as limit:
        status = LIMIT
        say(str(limit))
    except KeyboardInterrupt:
        status = INTERRUPTED if views is None or not views.ended_by else 128 + views.ended_by
        say(f"interrupted after {process.instructions:,} instructions")
    finally:
        times = begin - start, time.perf_counter() - begin, time.process_time() - cpu
        if process.signal is not None:
            _tell_death(process)
        if engine == "translated" and process.engine.note:
            say(process.engine.note)
        if engine == "translated" and process.engine.disk is not None and process.engine.disk.note:
            say(process.engine.disk.note)
        if options.stats:
            from dbt.report import statistics_shown

            line(statistics_shown(process.stats(), times, options.stats))
        if views is not None:
            views.show(process, " ".join((program, *args)))
        log.flush()
    if process.signal is not None or (views is not None and views.ended_by):
        from dbt.child import die
    if process.signal is not None:
        return die(process.signal)
    process.close()
    if views is not None and views.ended_by:
        return die(views.ended_by)
    return status


def _show_progress(done: int, of: int) -> None:
    """On a terminal: the stencils are made once for a machine, and that takes a second."""
    end = "\r\x1b[K" if done == of else ""
    text = f"\rdragoman: making stencils for this machine, once: {done} of {of}{end}"
    print(text, end="", file=sys.stderr, flush=True)


def _tell_death(process: Process) -> None:
    """Of a signal that is the guest's own doing, and by which a program does not end in good order."""
    if process.signal == signal.SIGPIPE or process.from_outside:
        return
    from dbt import report

    more = [report.registers_text(process)] if process.trap is not None else []
    if process.trap is not None or process.signal == signal.SIGABRT:
        more.append(report.backtrace(process))
    say(report.reason(process), *"\n".join(more).splitlines())


class _Views:
    """What --profile and --timeline show of a run. Files are opened before it, and written however it ends.

    SIGTERM would end us without that, so it is taken for Ctrl-C, where nobody has said otherwise; `ended_by` says so.
    """

    def __init__(self, options: Any, log: Log, line: Callable[[str], None]) -> None:
        self._profile: Profiler | None = None
        self._timeline: Recorder | None = None
        self._names: tuple[str, str] = options.profile or "", options.timeline or ""
        self._profiled, self._timed = options.profile is not None, options.timeline is not None
        self._to_profile = log.to(options.profile) if options.profile else line
        self._to_timeline = log.to(options.timeline) if self._timed else line
        self.ended_by = 0

    def attach(self, process: Process) -> None:
        """To be called when the process is about to run."""
        if self._profiled:
            from dbt.profile import Profiler

            self._profile = Profiler(process)
            self._profile.attach()
        if self._timed:
            from dbt.timeline import Recorder

            self._timeline = Recorder(process)
            self._timeline.attach()
        ours = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        if ours and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGTERM, self._terminated)

    def _terminated(self, number: int, frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)  # another one ends us at once
        self.ended_by = number
        signal.raise_signal(signal.SIGINT)

    def show(self, process: Process, title: str) -> None:
        import json

        from dbt import profile, report, timeline

        if self._timeline is not None:
            self._timeline.finish()  # before anything else takes time
        if signal.getsignal(signal.SIGTERM) == self._terminated:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        symbols = report.symbols_of(process)
        if self._profile is not None:
            data = self._profile.data(symbols)
            as_json = self._names[0].endswith(".json")
            self._to_profile(json.dumps(data) if as_json else profile.text(data))
        if self._timeline is not None:
            data = self._timeline.data(title, symbols)
            as_json = self._names[1].endswith(".json")
            self._to_timeline(json.dumps(data) if as_json else timeline.page(data))
