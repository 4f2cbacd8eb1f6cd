"""`dragoman trace`. Owns: its options, where events go, what is said at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dbt.cli.errors import FAILURE, INTERRUPTED, LIMIT, STATUSES, USAGE, Fail, opened, say, why
from dbt.cli.options import (
    Parser,
    bad,
    guest_options,
    guest_settings,
    is_guest,
    number,
    program_of,
    seed,
    symbols_option,
    translation,
    translator_options,
)

if TYPE_CHECKING:
    from dbt.machine.boards import Board
    from dbt.tracing.events import Event, Recorder

MACHINE = "boot"  # in the place of a program
FORMATS = ("text", "json", "chrome")
_EPILOG = """\
With boot in PROGRAM's place a machine is run, and what follows are the words of `dragoman boot`. Its time is that of
instructions, its input is read whole, its disks are left as they are. Events go to stderr, or to the file of -o.

  dragoman trace --kinds=exit,translation --promote=1000 @sieve small
  dragoman trace --format=chrome -o trace.json @sieve small           for ui.perfetto.dev or chrome://tracing
  echo shutdown | dragoman trace --kinds=trap,interrupt boot @kernel
  echo shutdown | dragoman trace --kinds=switch boot @hypervisor -cpu rv64,h=true
  dragoman trace --method=te @tasks
  dragoman trace --kinds=none --max-instructions=300000 --walk=0x80200000 boot @hypervisor -cpu rv64,h=true
"""


def command(words: Sequence[str]) -> int:
    from dbt.tracing.events import KINDS, MOST

    kinds = "".join(f"  {name:<12} {about}\n" for name, about in KINDS.items())
    parser = Parser(
        "trace", "Run a program or a machine, and write what happens, event by event, with the host's time and the\n"
        "count of instructions.", "PROGRAM|boot [ARGS...]", f"events:\n{kinds}\n{_EPILOG}\n{STATUSES}",
    )  # fmt: skip
    parser.option(
        "--format", choices=FORMATS, default="text",
        help="text: a line for each event (default); json: a JSON object a line; chrome: one file in Chrome's trace "
        "format, which Perfetto opens",
    )
    parser.option("-o", "--output", metavar="FILE", help="write events there, not to stderr; chrome needs it")
    parser.option(
        "--kinds", metavar="LIST", type=_kinds, default=frozenset(KINDS),
        help=f"which events: any of {','.join(KINDS)}, or none (default: all that there are)",
    )
    parser.option("--from", metavar="N", dest="first", type=number(0), default=0,
                  help="only events after N instructions")  # fmt: skip
    parser.option("--until", metavar="N", type=number(0), help="and none after N instructions")
    parser.option(
        "--most", metavar="N", type=number(0), default=MOST,
        help=f"at most N events; what comes later is counted (default: {MOST:,})",
    )
    parser.option(
        "--max-instructions", metavar="N", type=number(0),
        help="stop at the end of the first block at which N instructions have been executed, with status 124",
    )
    parser.option(
        "--walk", metavar="ADDRESS[,ACCESS]", type=_walk,
        help="at the end show the walk of a machine's page tables for a load, store or fetch there, entry by entry, in "
        "both stages",
    )
    parser.option(
        "--method", metavar="NAME",
        help="run a guest of a virtual machine, such as @quad, under this method of `dragoman compare --methods` "
        "(default: bt)",
    )
    symbols_option(parser)
    guest_options(parser)
    translator_options(parser, kept=True)
    parser.option(
        "--deterministic", metavar="SEED", nargs="?", const=0, type=seed,
        help="make a program's run repeatable: time is the number of instructions, and random numbers come from SEED "
        "(default: 0); a machine's is, anyway",
    )
    options, rest = parser.split(words)
    program, args = program_of(parser, rest)
    if options.format == "chrome" and options.output is None:
        parser.error("--format=chrome is a file: -o FILE is wanted")
    if program != MACHINE and (options.walk or options.symbols):
        parser.error("--walk and --symbols are for machines")
    if program == MACHINE:
        return _machine(parser, options, args)
    if options.method is not None or is_guest(program):
        return _guest(parser, options, program, args)
    return _program(parser, options, program, args)


def _kinds(text: str) -> frozenset[str]:
    from dbt.tracing.events import KINDS

    found = frozenset(text.split(",")) - {"none"}
    for name in sorted(found):
        if name not in KINDS:
            raise bad(f"there is no kind {name!r} (there are: {', '.join(KINDS)})")
    return found


def _walk(text: str) -> tuple[int, str]:
    from dbt.machine.space import KINDS

    address, _, access = text.partition(",")
    if access not in ("", *KINDS):
        raise bad(f"there is no access {access!r} (there are: {', '.join(KINDS)})")
    return number(0, (1 << 64) - 1)(address), access or KINDS[0]


@contextmanager
def _recorder(options: Any, title: str) -> Iterator[Recorder]:
    """Takes a run's events to where they go; at the end says how many there were, and how long the run took."""
    from dbt.events import NEVER
    from dbt.tracing import formats
    from dbt.tracing.events import Recorder

    file = sys.stderr
    if options.output is not None:
        try:
            file = open(options.output, "w", encoding="utf-8")  # noqa: SIM115 - closed below
        except OSError as error:
            raise Fail(USAGE, f"cannot write {options.output}: {why(error)}") from None
    chrome = formats.Chrome()
    form = formats.text if options.format == "text" else formats.line

    def put(event: Event) -> None:
        file.write(form(event) + "\n")

    write: Callable[[Event], None] = chrome.add if options.format == "chrome" else put
    last = NEVER if options.until is None else options.until
    recorder = Recorder(write, file.flush, options.kinds, options.most, options.first, last)
    begin = time.perf_counter()
    try:
        yield recorder
        seconds = time.perf_counter() - begin
        counts = ", ".join(f"{kind} {count:,}" for kind, count in sorted(recorder.counts.items())) or "none"
        if options.format == "chrome":
            about = {"events": dict(recorder.counts), "left_out": recorder.left_out, "seconds": round(seconds, 3)}
            file.write(chrome.document(title, recorder.now(), about) + "\n")
        left_out = f"; {recorder.left_out:,} left out (--most)" if recorder.left_out else ""
        say(f"events: {counts}{left_out}; the run took {seconds:.2f} s")
    finally:
        if options.output is not None:
            file.close()


def _program(parser: Parser, options: Any, program: str, args: list[str]) -> int:
    import dragoman
    from dbt.tracing.process import ProcessEvents

    settings = guest_settings(options) | {
        "seed": options.deterministic, "options": translation(parser, options), "host_signals": True,
    }  # fmt: skip
    process = opened(lambda: dragoman.load(program, args, **settings), program)
    with _recorder(options, " ".join((program, *args))) as recorder:
        process.flushes.append(recorder.flush)
        events = ProcessEvents(process, recorder)
        status = 0
        try:
            process.run(options.max_instructions)
            status = process.status or 0
        except dragoman.LimitReached as limit:
            status = LIMIT
            say(str(limit))
        except KeyboardInterrupt:
            status = INTERRUPTED
        events.finish()
    if process.signal is not None:
        from dbt.child import die

        return die(process.signal)
    process.close()
    return status


def _guest(parser: Parser, options: Any, program: str, args: list[str]) -> int:
    """A guest of a virtual machine, under a method."""
    from pathlib import Path

    from dbt.events import NEVER
    from dbt.kvm import Kvm, KvmError
    from dbt.methods.run import RAM, SIZE, Monitor
    from dbt.tracing.virtual import GuestEvents
    from guests.programs import virtual_file

    if args:
        parser.error(f"a guest of a virtual machine has no arguments: {' '.join(args)}")
    chosen = translation(parser, options)
    try:
        vm = Kvm(options.method or "bt", options=chosen).create_vm()
    except KvmError as error:
        parser.error(f"--method: {error}")
    with vm, _recorder(options, f"{options.method or 'bt'} {program}") as recorder:
        vm.set_user_memory_region(0, RAM, SIZE)
        vcpu = vm.create_vcpu()
        file = opened(lambda: virtual_file(program) if program.startswith("@") else str(Path(program)), program)
        vcpu.set(pc=opened(lambda: vm.load(file, RAM), program))
        monitor, events = Monitor(vcpu), GuestEvents(vcpu, recorder)
        failure = monitor.run(NEVER if options.max_instructions is None else options.max_instructions)
        events.finish()
        sys.stdout.write(monitor.console.decode(errors="replace"))
    if failure:
        say(failure)
    return FAILURE if failure else 0


def _machine(parser: Parser, options: Any, words: list[str]) -> int:
    from dbt.cli import boot
    from dbt.machine.devices.console import Console
    from dbt.tracing.machine import MachineEvents

    asked = boot.looked_at(parser, options, words)
    make = opened(lambda: boot.repeatable(asked), "")
    chosen = translation(parser, options)

    printed = bytearray(b"\n")  # the last byte

    def shown(data: bytes) -> None:
        printed[:] = data[-1:] or printed
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    board: Board = opened(lambda: make(Console(shown), "translated", chosen), "")
    try:
        with _recorder(options, "boot " + " ".join(words)) as recorder:
            events = MachineEvents(board, recorder, boot.symbols(asked, options.symbols, board.guest))
            most = {} if options.max_instructions is None else {"most": options.max_instructions}
            try:
                status = boot.status(board.vm.run(**most), board)
            except KeyboardInterrupt:
                status = INTERRUPTED
            events.finish()
        if options.walk is not None:
            from dbt.machine import views

            begin = "" if printed == b"\n" else "\n"
            sys.stdout.write(begin + views.walk(board.vm.turn, *options.walk))
        return status
    finally:
        board.vm.close()
