"""`dragoman explain`. Owns: its options and its operands, and the run that it explains a piece of."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from dbt.cli.errors import FAILURE, STATUSES, USAGE, Fail, opened, write
from dbt.cli.options import (
    Parser,
    guest_options,
    guest_settings,
    number,
    program_of,
    seed_option,
    symbols_option,
    translation,
    translator_options,
)

if TYPE_CHECKING:
    from dbt.explain.subject import Where
    from dbt.explain.watch import Watch
    from dbt.options import Options
    from dragoman import Process

EXPLAIN_LIMIT = 200_000_000  # instructions of the run: a second or two
HOTTEST = "-"
MACHINE = "boot"  # in the place of a program
MOST_PROMOTE = (1 << 31) - 1  # a counter of stencils has no more
PARTS = ("guest", "counts", "links", "ir", "llvm", "host", "stencils")
_EPILOG = """\
PLACE is a number, a symbol or a symbol with an offset, such as main+0x10; its region or its block is explained, and
without one, or with -, what most instructions were executed in. ARGS are the program's.

With boot in PROGRAM's place a machine is run, and what follows PLACE are the words of `dragoman boot`. Its time is that
of instructions, its input is read whole, its disks are left as they are. Symbols are the kernel's, if that is an ELF
file; phys:NUMBER is an address of its memory.

  dragoman explain @sieve                     the hottest block of a run without arguments
  dragoman explain @sieve - small             of a run with one
  dragoman explain --promote=1000 --recount --html=page.html @sieve - small
  dragoman explain --static @hello _start     without a run
  echo shutdown | dragoman explain boot memset @kernel

explain itself exits with 0, whatever the program's status; with 2 if PLACE is in no code of the program.
"""


def command(words: Sequence[str]) -> int:
    parser = Parser(
        "explain",
        "Run a program, and show one block or region of it from guest bytes to host bytes: classes, IR before and\n"
        "after each pass, LLVM IR, host code, stencils, counts, links. The program's output is not shown.",
        "PROGRAM|boot [PLACE] [ARGS...]", _EPILOG + "\n" + STATUSES,
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
    parser.option(
        "--recount", action="store_true",
        help="run it a second time, from stencils alone, to know how often each block ran inside regions: whatever the "
        "program does to files, it does twice",
    )
    symbols_option(parser)
    guest_options(parser)
    translator_options(parser)
    seed_option(parser, "explain")
    options, rest = parser.split(words)
    program, rest = program_of(parser, rest)
    place, args = HOTTEST, rest
    if rest and not (program == MACHINE and rest[0] != HOTTEST and rest[0][0] in "-@"):
        place, args = rest[0], rest[1:]
    if options.disk_cache:
        parser.error("--disk-cache: a translation from disk does not say what it was made of")
    if options.tiers == (1,) and options.hot is None:
        options.hot = 64
    data = _explained(parser, options, program, args, None if place == HOTTEST else place)
    if options.html is not None:
        from dbt.explain import page

        write(options.html, page.page(data))
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


def _explained(parser: Parser, options: Any, program: str, args: list[str], place: str | None) -> dict[str, Any]:
    from dbt.explain import data
    from dbt.explain.subject import NotExplained, choose
    from ir.records import replace

    chosen = translation(parser, options)
    chosen.background, chosen.disk = False, True  # translated at once; stencils may come from disk
    source = _Machines(parser, options, args) if program == MACHINE else _Programs(options, program, args)
    counted = None
    if options.recount and not options.static:
        with source.run(replace(chosen, tiers=(0,), promote=MOST_PROMOTE), options) as again:
            counted = again.ended, again.position, [watch.entered() for _, watch in again.candidates]
    with source.run(chosen, options) as ran:
        try:
            subject = choose(ran.candidates, place, ran.pc)
        except NotExplained as error:
            hint = f"; to run {program} with the argument {place}: dragoman explain {program} - {place}"
            plain = program == MACHINE or not place or place[:1].isdigit()
            raise Fail(USAGE, f"{error}{'' if plain else hint}") from None
        total = None
        if counted is not None:
            if counted[:2] != (ran.ended, ran.position):
                raise Fail(FAILURE, f"--recount: the second run was another one: {counted[0]} after {counted[1]:,} "
                           f"instructions, and not {ran.ended} after {ran.position:,}")  # fmt: skip
            total = counted[2][[where for where, _ in ran.candidates].index(subject.where)]
        return data.explain(subject, " ".join((program, *args)), ran.ended, total)


class _Ran(NamedTuple):
    """A run that was watched, on each hart: how it ended, None if there was none; after how many instructions; where.
    """

    candidates: Sequence[tuple[Where, Watch]]
    ended: str | None
    position: int
    pc: int


class _Programs:
    """Runs of a program."""

    def __init__(self, options: Any, program: str, args: list[str]) -> None:
        self._program, self._args = program, args
        self._input: bytes | None = None
        if options.recount and sys.stdin is not None and not sys.stdin.isatty():
            self._input = sys.stdin.buffer.read()  # which it will read twice
        if options.symbols is not None:
            raise Fail(USAGE, "--symbols is for machines: a program's file has its own")

    @contextmanager
    def run(self, chosen: Options, options: Any) -> Iterator[_Ran]:
        import dragoman
        from dbt.explain.process import InProcess
        from dbt.explain.watch import Watch

        nowhere = os.open(os.devnull, os.O_WRONLY)
        given = 0 if self._input is None else _file_of(self._input)
        settings = guest_settings(options) | {
            "seed": options.deterministic, "stdin": given, "stdout": nowhere, "stderr": nowhere, "options": chosen,
        }  # fmt: skip
        process: Process = opened(lambda: dragoman.load(self._program, self._args, **settings), self._program)
        try:
            where = InProcess(process)
            watch = Watch(where)
            opened(watch.attach, self._program)
            ended = None if options.static else _run(process, options.max_instructions)
            yield _Ran([(where, watch)], ended, process.instructions, process.pc)
            watch.close()
        finally:
            process.close()
            os.close(nowhere)
            if given:
                os.close(given)


class _Machines:
    """Runs of a machine."""

    def __init__(self, parser: Parser, options: Any, words: list[str]) -> None:
        from dbt.cli import boot

        self._asked = boot.looked_at(parser, options, words)
        self._make = opened(lambda: boot.repeatable(self._asked), "")

    @contextmanager
    def run(self, chosen: Options, options: Any) -> Iterator[_Ran]:
        from dbt.cli import boot
        from dbt.explain.hart import Devices, OnHart
        from dbt.explain.watch import Watch
        from dbt.machine.devices.console import Console
        from dbt.machine.exits import Intr

        board = opened(lambda: self._make(Console(lambda data: None), "translated", chosen), "")
        try:
            symbols = boot.symbols(self._asked, options.symbols, board.guest)
            devices = Devices(board)
            candidates = []
            for vcpu in board.vcpus:
                where = OnHart(board, vcpu, devices, symbols)
                watch = Watch(where)
                opened(watch.attach, "")
                candidates.append((where, watch))
            ended = None
            if not options.static:
                try:
                    exit = board.vm.run(most=options.max_instructions)
                    ended = "stopped by --max-instructions" if isinstance(exit, Intr) else boot.ending(exit, board)
                except KeyboardInterrupt:
                    ended = "interrupted"
            yield _Ran(candidates, ended, board.vm.clock.retired, board.vm.turn.state.pc)
            for _, watch in candidates:
                watch.close()
        finally:
            board.vm.close()


def _file_of(data: bytes) -> int:
    """A descriptor from which these bytes are read."""
    file = os.memfd_create("stdin")
    os.write(file, data)
    os.lseek(file, 0, os.SEEK_SET)
    return file


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
