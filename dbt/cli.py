"""The command line: `dragoman run`, `compare`, `lockstep`, `lab`, `info`.

Owns: options, messages, exit statuses, dying by the guest's signal. It uses the public face (`dragoman`) and the
texts of `dbt.report`, both imported when a command needs them, so that `--help` is quick.
Must not know: how anything is done.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import json
import os
import signal
import stat
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from dragoman import Process

USAGE, DIFFER, LIMIT, FAILURE, NOT_RUNNABLE, NOT_FOUND, INTERRUPTED = 2, 3, 124, 125, 126, 127, 130
STAGES = ("decode", "ir", "opt", "llvm", "asm")
CACHE_POLICIES = ("lru", "lfu", "fifo", "size")
MIN_CACHE, MAX_CACHE = 1 << 10, 1 << 30  # bytes of host code; code is reached by 32-bit offsets
MAX_BLOCK = 2048  # a translation never crosses a page, and a page holds no more instructions
COMPARE_LIMIT = 10_000_000  # instructions of the reference interpreter, which takes a second for less than a million

DESCRIPTION = """\
Dragoman runs RISC-V (RV64GC) Linux programs on x86-64 by translating them while they run.

commands:
  run PROGRAM [ARGS...]       run a program
  compare PROGRAM [ARGS...]   run it in both engines, compare them, and show how fast each is
  lockstep PROGRAM [ARGS...]  run both engines side by side, to find the first block where they differ
  info PROGRAM                what a program file is and which instructions it holds
  lab NAME                    small experiments that show one mechanism each

PROGRAM is a statically linked RISC-V ELF file, or @NAME for one that comes with Dragoman
(`dragoman info --programs` lists them). Try:

  dragoman run @hello
  dragoman run --stats @sieve small
  dragoman compare @sieve small

`dragoman COMMAND --help` explains a command.
"""

STATUSES = """\
exit status: the program's own. If a signal kills the program, dragoman dies by the same signal.
Dragoman's own, each with a line on stderr that begins "dragoman:":
  2  bad usage             124  --max-instructions reached      127  program not found
  3  the engines differ    125  dragoman itself failed          130  interrupted (Ctrl-C)
                           126  the file cannot be run
"""


class Fail(Exception):
    """Ends the command with a sentence and a status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def say(message: str) -> None:
    """A line of ours on stderr."""
    if sys.stderr is not None:
        sys.stderr.write(f"dragoman: {message}\n")
        sys.stderr.flush()


# --- options ----------------------------------------------------------------------------------------------------


class _Help(argparse.HelpFormatter):
    """An optional value is shown as it must be written: --stats[=json]."""

    def _format_args(self, action: argparse.Action, default_metavar: str) -> str:
        if action.nargs == "?":
            return f"[={action.metavar}]"
        return super()._format_args(action, default_metavar)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        return super()._format_action_invocation(action).replace(" [=", "[=")

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "".join(indent + line for line in text.splitlines(keepends=True))


class Parser(argparse.ArgumentParser):
    """Options before the program's name; all that follows it is the program's."""

    def __init__(self, name: str, description: str, operands: str = "", epilog: str = "") -> None:
        super().__init__(
            prog=f"dragoman {name}", usage=f"dragoman {name} [OPTIONS] {operands}".rstrip(), description=description,
            epilog=epilog, allow_abbrev=False, formatter_class=_Help,
        )  # fmt: skip
        self._takes: dict[str, tuple[str, bool]] = {"-h": ("--help", False), "--help": ("--help", False)}

    def option(self, *names: str, **how: Any) -> None:
        """An option. The last name is the long one; one that takes a value may have it in the next word."""
        action = self.add_argument(*names, **how)
        for name in names:
            self._takes[name] = names[-1], action.nargs is None

    def error(self, message: str) -> NoReturn:
        raise Fail(USAGE, f"{message.removeprefix('argument ')} (see `{self.prog} --help`)")

    def split(self, words: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
        """Parse the options in front; also returns what is left, from the first word that is none.

        The words are made unambiguous before argparse sees them, since it would look for options further on.
        """
        options: list[str] = []
        rest = list(words)
        while rest and rest[0].startswith("-") and rest[0] != "-":
            word = rest.pop(0)
            if word == "--":
                break
            name, equals, value = word.partition("=")
            if not word.startswith("--"):
                name, value = word[:2], word[2:]
                equals = value
            if name not in self._takes:
                self.error(f"there is no option {name}")
            long, takes = self._takes[name]
            if takes and not equals:
                if not rest:
                    self.error(f"{name} needs a value")
                value, equals = rest.pop(0), "="
            options.append(f"{long}={value}" if equals else long)
        return self.parse_args(options), rest


def _number(low: int, high: int | None = None) -> Callable[[str], int]:
    def convert(text: str) -> int:
        try:
            value = int(text.replace("_", ""), 0)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
        if value < low or (high is not None and value > high):
            limits = f"at least {low}" if high is None else f"from {low} to {high}"
            raise argparse.ArgumentTypeError(f"{text} is not {limits}")
        return value

    return convert


def _size(text: str) -> int:
    digits, unit = (text[:-1], text[-1].upper()) if text[-1:] in tuple("kKmM") else (text, "")
    if not digits.isascii() or not digits.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a size, such as 65536, 64K or 1M")
    value = int(digits[:12]) << {"": 0, "K": 10, "M": 20}[unit]
    if not MIN_CACHE <= value <= MAX_CACHE:
        raise argparse.ArgumentTypeError(f"{text} is not from {MIN_CACHE >> 10}K to {MAX_CACHE >> 20}M")
    return value


def _limit(text: str) -> int | None:
    return None if text == "none" else _number(0)(text)


def _seed(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form VAR=VALUE")
    return name, value


def _stages(text: str) -> frozenset[str]:
    found = frozenset(text.split(","))
    unknown = sorted(found - set(STAGES))
    if unknown:
        raise argparse.ArgumentTypeError(f"there is no stage {unknown[0]!r} (there are: {', '.join(STAGES)})")
    return found


def _folder(text: str) -> str:
    if not os.path.isdir(text):
        raise argparse.ArgumentTypeError(f"{text}: is not a folder")
    return text


class _Edit(argparse.Action):
    """-E and -U, in the order given."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option: str | None = None) -> None:
        edits = getattr(namespace, self.dest) or []
        setattr(namespace, self.dest, [*edits, values if isinstance(values, tuple) else (values, None)])


def _guest_options(parser: Parser) -> None:
    """The options that say what world the program meets."""
    parser.option(
        "--isa", metavar="STRING",
        help="the processor's instruction set, such as rv64imac or rv64gc_zicntr; other instructions are illegal then "
        "(default: all that is implemented)",
    )
    parser.option(
        "-L", "--sysroot", metavar="DIR", type=_folder,
        help="look here first for the absolute paths that the program opens (default: QEMU_LD_PREFIX, if it is set)",
    )
    parser.option(
        "-E", "--env", metavar="VAR=VALUE", dest="edits", action=_Edit, type=_assignment,
        help="set a variable in the program's environment, which is otherwise yours; may be repeated",
    )
    parser.option("-U", "--unset", metavar="VAR", dest="edits", action=_Edit, help="remove a variable from it")
    parser.option("-0", "--argv0", metavar="NAME", help="what the program sees as its own name")


def _translator_options(parser: Parser) -> None:
    """The options that say how the translator works; none of them changes what a program sees."""
    parser.option(
        "--max-block", metavar="N", type=_number(1, MAX_BLOCK),
        help="most instructions translated as one block (default: 64)",
    )
    parser.option(
        "--hot", metavar="N", type=_number(0),
        help="translate a block once it has been interpreted N times (default: 64; with --dump: 0, so that all that "
        "runs is shown)",
    )
    parser.option(
        "--cache", choices=("on", "off"),
        help="off: keep no translation, and translate a block whenever it is entered; shows what the cache is worth, "
        "and is slow beyond use for all but the smallest programs (default: on)",
    )
    parser.option(
        "--cache-size", metavar="N[K|M]", type=_size,
        help="most bytes of host code that are kept, such as 64K (default: 32M); what does not fit is dropped, and "
        "translated again if it is still needed",
    )
    parser.option(
        "--cache-policy", choices=CACHE_POLICIES,
        help="which translation is dropped first: the least recently used (lru, default) or the least frequently used "
        "(lfu), as far as the engine sees what runs; the oldest (fifo); the largest (size)",
    )
    parser.option(
        "--chaos", metavar="SEED", type=_seed,
        help="disturb the translator at random, to test it: drop translations, leave host code early; a program must "
        "not notice",
    )


def _seed_option(parser: Parser, command: str) -> None:
    parser.option(
        "--deterministic", metavar="SEED", nargs="?", const=0, default=0, type=_seed,
        help=f"{command} is deterministic anyway; --deterministic=7 chooses the seed (default: 0)",
    )


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """The guest options as arguments of the public functions."""
    env = None
    if options.edits:
        env = dict(os.environ)
        for name, value in options.edits:
            env.pop(name, None)
            if value is not None:
                env[name] = value
    sysroot = options.sysroot
    if sysroot is None and os.path.isdir(os.environ.get("QEMU_LD_PREFIX", "")):
        sysroot = os.environ["QEMU_LD_PREFIX"]
    return {"isa": options.isa, "sysroot": sysroot, "env": env, "argv0": options.argv0}


def _program(parser: Parser, rest: list[str]) -> tuple[str, list[str]]:
    if not rest:
        parser.error("which program?")
    return rest[0], rest[1:]


@dataclass
class Log:
    """Where lines of ours go: stderr, or files by name, each opened once."""

    files: dict[str, IO[str]] = field(default_factory=dict)

    def to(self, path: str | None) -> Callable[[str], None]:
        """A function that writes a line there."""
        if path is None:
            return lambda line: print(line, file=sys.stderr)
        real = os.path.realpath(path)
        if real not in self.files:
            try:
                self.files[real] = open(path, "w", errors="backslashreplace")  # noqa: SIM115 - closed with us
            except OSError as error:
                raise Fail(USAGE, f"cannot write {path}: {_why(error)}") from None
        file = self.files[real]
        return lambda line: print(line, file=file)

    def flush(self) -> None:
        for file in self.files.values():
            file.flush()


def _why(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _opened(action: Callable[[], Any], program: str) -> Any:
    """Do what opens a program, and say what went wrong in our words."""
    import dragoman

    try:
        return action()
    except dragoman.UnknownProgram as error:
        raise Fail(NOT_FOUND, str(error)) from None
    except FileNotFoundError:
        raise Fail(NOT_FOUND, f"{program}: there is no such file") from None
    except dragoman.NotRunnable as error:
        raise Fail(NOT_RUNNABLE, str(error)) from None
    except dragoman.UnknownIsa as error:
        raise Fail(USAGE, str(error)) from None
    except dragoman.UnsupportedHost as error:
        raise Fail(FAILURE, f"{error}; --engine=reference runs anywhere, slowly") from None


# --- run --------------------------------------------------------------------------------------------------------


def _run_parser() -> Parser:
    parser = Parser(
        "run", "Run a RISC-V Linux program. Options end at the program's name: what follows is the program's.",
        "PROGRAM [ARGS...]", STATUSES,
    )  # fmt: skip
    parser.option(
        "--engine", choices=("translated", "reference"),
        help="translated: compile blocks to host code (default); reference: interpret one instruction after the "
        "other, slowly and by the book",
    )
    _guest_options(parser)
    _translator_options(parser)
    parser.option(
        "--max-instructions", metavar="N", type=_number(0),
        help="stop at the end of the first block at which N instructions have been executed, with status 124",
    )
    parser.option(
        "--deterministic", metavar="SEED", nargs="?", const=0, type=_seed,
        help="make the run repeatable: time is the number of instructions, and random numbers come from SEED "
        "(default: 0)",
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
        "--dump", metavar="STAGES", type=_stages, default=frozenset(),
        help="show blocks as they are translated: any of decode,ir,opt,llvm,asm (the guest's code, IR, optimised IR, "
        "LLVM IR, host code)",
    )
    parser.option("--dump-file", metavar="FILE", help="write --dump there")
    parser.option(
        "-D", "--log", metavar="FILE", help="write --strace, --trace, --dump and --stats there, not to stderr"
    )
    return parser


def _run(words: Sequence[str]) -> int:
    parser = _run_parser()
    options, rest = parser.split(words)
    program, args = _program(parser, rest)
    traced = options.trace is not None
    engine = options.engine or ("reference" if traced else "translated")
    if traced and engine != "reference":
        parser.error("--trace needs --engine=reference")
    if engine == "reference":
        for name in ("dump", "max_block", "hot", "chaos", "cache", "cache_size", "cache_policy"):
            if getattr(options, name) not in (None, frozenset()):
                parser.error(
                    f"--{name.replace('_', '-')} is for the translator, and the reference engine does not translate"
                )
    if options.cache == "off" and (options.cache_size or options.cache_policy):
        parser.error("--cache=off keeps nothing, so there is nothing for --cache-size and --cache-policy to say")
    if options.dump_file and not options.dump:
        parser.error("--dump-file without --dump")
    import dragoman

    log = Log()
    line = log.to(options.log)
    settings = _settings(options) | {"seed": options.deterministic}
    if options.strace:
        settings["strace"] = line
    if traced:
        settings["trace"] = log.to(options.trace or options.log)
    if engine == "translated":
        settings["options"] = _translation(options, options.dump, log.to(options.dump_file or options.log))
    start = time.perf_counter()
    process: Process = _opened(lambda: dragoman.load(program, args, engine=engine, **settings), program)
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
        if options.stats:
            _show_stats(process, times, options.stats, line)
        log.flush()
    if process.signal is not None:
        return die(process.signal)
    process.close()
    return status


def _translation(
    options: argparse.Namespace, dump: frozenset[str] = frozenset(), write: Callable[[str], None] = print
) -> Any:
    """The translator options as the public `Options`."""
    import dragoman

    chosen = dragoman.Options(dump=dump, write=write, chaos=options.chaos)
    if options.max_block is not None:
        chosen.max_instructions = options.max_block
    chosen.cache_off = options.cache == "off"
    chosen.cache_size = options.cache_size or chosen.cache_size
    chosen.cache_policy = options.cache_policy or chosen.cache_policy
    if options.hot is not None or dump:
        chosen.hot = options.hot or 0
    return chosen


def _tell_death(process: Process) -> None:
    from dbt import report

    say(report.reason(process))
    if process.trap is not None and sys.stderr is not None:
        print(report.registers_text(process), file=sys.stderr)


def _show_stats(process: Process, times: tuple[float, float, float], form: str, line: Callable[[str], None]) -> None:
    from dbt import report

    stats = report.statistics(process, *times)
    line(json.dumps(stats) if form == "json" else report.statistics_text(stats))


def die(number: int) -> int:
    """End by a signal, as the guest did, without a core dump of ours; 128 + number if we survive it."""
    import ctypes
    import resource

    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE: a core-dump program ignores the limit
    with suppress(OSError, ValueError):  # SIGKILL has no other action
        signal.signal(number, signal.SIG_DFL)
    with suppress(OSError, ValueError):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number} & signal.valid_signals())
        os.kill(os.getpid(), number)
    return 128 + number


# --- compare, lockstep, lab, info -------------------------------------------------------------------------------


def _compare(words: Sequence[str]) -> int:
    parser = Parser(
        "compare",
        "Run a program in the reference interpreter and in the translator, and check that output, exit status,\n"
        "numbers of instructions and blocks, and registers are equal. The program runs twice, and what it does\n"
        "to files it does twice; both runs get the same standard input, and the program's output is not shown.",
        "PROGRAM [ARGS...]",
        STATUSES + "compare itself exits with 0 if the engines are equal, whatever the program's status.\n",
    )
    _guest_options(parser)
    _translator_options(parser)
    parser.option(
        "--max-instructions", metavar="N", type=_limit, default=COMPARE_LIMIT,
        help="stop the slow reference interpreter after N instructions and compare there; the translator then goes "
        f"on to the end (default: {COMPARE_LIMIT:,}; none: no limit)",
    )
    _seed_option(parser, "compare")
    parser.option("--stdin", metavar="FILE", help="standard input of both runs (default: ours, if it is no terminal)")
    parser.option("--json", action="store_true", help="print one JSON object instead of the table")
    options, rest = parser.split(words)
    program, args = _program(parser, rest)
    import dragoman

    settings = _settings(options) | {"options": _translation(options)}
    _opened(lambda: dragoman.find(program).stat(), program)  # before a word of input is read
    given = _input(options.stdin)
    result = _opened(
        lambda: dragoman.compare(
            program, args, seed=options.deterministic, stdin=given, max_instructions=options.max_instructions,
            **settings,
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
            raise Fail(USAGE, f"cannot read {path}: {_why(error)}") from None
    if stat.S_ISCHR(os.fstat(0).st_mode):
        return b""
    import select

    if not select.select([0], [], [], 2)[0]:
        say("reading standard input to its end, for both runs (--stdin=/dev/null gives them none)")
    chunks = []
    while chunk := os.read(0, 1 << 20):
        chunks.append(chunk)
    return b"".join(chunks)


def _lockstep(words: Sequence[str]) -> int:
    parser = Parser(
        "lockstep",
        "Run both engines side by side and compare registers, counts and written memory at every block boundary.\n"
        "At the first difference show what differs, the block's instructions and its IR. Slow: use it to find out\n"
        "where `dragoman compare` goes wrong.",
        "PROGRAM [ARGS...] | --reproduce=FILE",
        STATUSES + "lockstep itself exits with 0 if the engines agree, whatever the program's status.\n",
    )
    _guest_options(parser)
    _translator_options(parser)
    parser.option("--max-instructions", metavar="N", type=_number(0), help="stop after N instructions")
    _seed_option(parser, "lockstep")
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
        return _reproduce(options.reproduce)
    program, args = _program(parser, rest)
    report = _opened(
        lambda: dragoman.lockstep(
            program, args, seed=options.deterministic, max_instructions=options.max_instructions,
            options=_translation(options), progress=_progress(), **_settings(options),
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
            raise Fail(USAGE, f"cannot write {file}: {_why(error)}") from None
        raise Fail(
            DIFFER,
            f"the engines differ after {report.boundaries:,} boundaries; "
            f"`dragoman lockstep --reproduce={file}` runs that block again",
        )
    end = "stopped at --max-instructions" if report.limited else f"exit status {report.status}"
    if report.signal is not None:
        from dbt.report import signal_name

        end = f"killed by {signal_name(report.signal)}"
    print(f"The engines agree at all of {report.boundaries:,} boundaries: {report.instructions:,} instructions, "
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


def _reproduce(path: str) -> int:
    from dbt import lockstep

    try:
        lines = lockstep.reproduce(path)
    except FileNotFoundError:
        raise Fail(NOT_FOUND, f"{path}: there is no such file") from None
    except OSError as error:
        raise Fail(NOT_RUNNABLE, f"{path}: {_why(error)}") from None
    except lockstep.ReproducerError as error:
        raise Fail(NOT_RUNNABLE, str(error)) from None
    if not lines:
        print("The engines agree on this block now.")
        return 0
    print("\n".join(lines))
    raise Fail(DIFFER, "the engines differ on this block")


def _lab(words: Sequence[str]) -> int:
    try:
        lab = importlib.import_module("dbt.lab").main
    except ModuleNotFoundError as error:
        if error.name != "dbt.lab":
            raise
        raise Fail(FAILURE, "`dragoman lab` is not part of this installation") from None
    return int(lab(list(words)) or 0)


def _info(words: Sequence[str]) -> int:
    parser = Parser("info", "Say what a program file is, or what Dragoman has.", "PROGRAM | --programs | --coverage")
    parser.option("--programs", action="store_true", help="list the programs that come with Dragoman")
    parser.option("--coverage", action="store_true", help="list instructions and system calls, done and not done")
    options, rest = parser.split(words)
    if len(rest) + options.programs + options.coverage != 1:
        parser.error("one of PROGRAM, --programs and --coverage is wanted")
    import dragoman
    from dbt import report

    if options.programs:
        print(report.programs_text())
    elif options.coverage:
        print(report.coverage_text())
    else:
        program = rest[0]
        path = _opened(lambda: dragoman.find(program), program)
        bundled = None
        if program.startswith("@"):
            from guests import programs

            bundled = programs.find(program)
        print(_opened(lambda: report.program_text(path, bundled), program))
    return 0


# --- the whole --------------------------------------------------------------------------------------------------

COMMANDS: Mapping[str, Callable[[Sequence[str]], int]] = {
    "run": _run,
    "compare": _compare,
    "lockstep": _lockstep,
    "info": _info,
    "lab": _lab,
}


def _dispatch(words: Sequence[str]) -> int:
    if not words:
        sys.stderr.write(DESCRIPTION)
        raise Fail(USAGE, "which command? (see above)")
    name, rest = words[0], words[1:]
    if name in ("-h", "--help", "help"):
        sys.stdout.write("usage: dragoman COMMAND [OPTIONS] ...\n\n" + DESCRIPTION + "\n" + STATUSES)
        return 0
    if name in ("-V", "--version"):
        import dragoman

        print(f"dragoman {dragoman.__version__}")
        return 0
    if name not in COMMANDS:
        what = "option" if name.startswith("-") else "command"
        hint = f"; to run it: dragoman run {name}" if name.startswith("@") or os.path.exists(name) else ""
        raise Fail(USAGE, f"there is no {what} {name!r} (commands: {' '.join(COMMANDS)}){hint}")
    return COMMANDS[name](rest)


def _standard_descriptors() -> None:
    """Occupy 0, 1 and 2 if they were closed, so that no file of ours gets one; using them fails as if closed."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_WRONLY if descriptor == 0 else os.O_RDONLY)


def main(words: Sequence[str]) -> int:
    """Carry out a command; returns the exit status."""
    _standard_descriptors()
    try:
        status = _dispatch(words)
        if sys.stdout is not None:
            sys.stdout.flush()
        return status
    except Fail as failure:
        say(str(failure))
        return failure.status
    except KeyboardInterrupt:
        say("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for Python's own flush at exit
        os.dup2(1, 2)
        return die(signal.SIGPIPE)
    except SystemExit as leaving:  # argparse, after --help
        return leaving.code if isinstance(leaving.code, int) else USAGE
    except Exception as error:
        if os.environ.get("DRAGOMAN_DEBUG") == "1":
            raise
        if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
            say("out of memory: the host gives no more (a guest reserves 256 GiB of addresses; is `ulimit -v` set?)")
            return FAILURE
        text = " ".join(str(error).split())
        say(f"internal error: {type(error).__name__}{': ' if text else ''}{text} (DRAGOMAN_DEBUG=1 shows where)")
        return FAILURE
