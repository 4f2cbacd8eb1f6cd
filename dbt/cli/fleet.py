"""`dragoman fleet`: virtual machines side by side, on a number of physical CPUs that are modelled.

Owns: its options, how machines are named, and where what they print goes. Must not know: how they are scheduled.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from dbt.cli.boot import harts, memory_size, normal
from dbt.cli.errors import opened, read, say, write
from dbt.cli.options import Parser, number, translation, translator_options

if TYPE_CHECKING:
    from dbt.fleet import Fleet
    from dbt.kvm.schedule import Turn

MOST_PCPUS = 1024
EPILOG = """\
With 4 vCPUs on 2 pCPUs: dragoman fleet --smp 4 --pcpus 2 --quantum 10000 @harts

exit status: 0 if every machine has turned itself off, with 0; else that of the first one, in the order of the command
line, which has another: the guest's own; 124 if it had not ended at --max-instructions; 125 if all of its vCPUs wait
and nothing will wake one (deadlock); 126 if it is lost, which hurts no other machine. A line on stderr says why of
each. As ever: 2 bad usage, 125 dragoman itself failed, 126 a file that cannot be run, 127 no such file, 130 Ctrl-C.
"""


def command(words: Sequence[str]) -> int:
    parser = Parser(
        "fleet",
        "Run virtual machines at once in one process, each from an ELF file that begins as a supervisor and calls\n"
        "its monitor (SBI), or from a bundled guest such as @tasks. Their vCPUs take turns on pCPUs, which are\n"
        "modelled: a quantum of instructions each, round robin; who waits leaves its pCPU to another one. What they\n"
        "print is shown line by line, with the machine's name in front, and at the end what was counted\n"
        "(docs/howto/fleet.md).",
        "GUEST...", EPILOG,
    )  # fmt: skip
    parser.option("--smp", metavar="N", type=harts, default=1, help="vCPUs of each machine (default: 1)")
    parser.option("--pcpus", metavar="N", type=number(1, MOST_PCPUS), default=1, help="physical CPUs (default: 1)")
    parser.option(
        "--quantum", metavar="N", type=number(1),
        help="instructions of a turn; it ends at the end of a block (default: 100000)",
    )
    parser.option(
        "--bind", action="store_true", help="bind each vCPU to a pCPU of its own, of which there must be enough"
    )
    parser.option(
        "--migrate", metavar="SEED", type=number(0),
        help="begin each quantum on pCPUs chosen at random, and not where a vCPU was before; no guest can see it",
    )
    parser.option("-m", "--memory", metavar="SIZE", type=memory_size, default=16 << 20,
                  help="RAM of each machine (default: 16M)")  # fmt: skip
    parser.option(
        "--uart", metavar="FILE",
        help="give each machine a UART (16550A) at 0x10000000, at which the bytes of FILE have arrived; none: "
        "--uart=/dev/null",
    )
    parser.option("--method", metavar="NAME", default="bt", help="how guests are run: bt (default), interp, hw, te, pv")
    parser.option(
        "--max-instructions", metavar="N", type=number(0),
        help="stop at the end of the quantum in which all machines together have executed N instructions",
    )
    parser.option("--json", action="store_true", help="print one JSON object instead, with all that was printed")
    parser.option(
        "--turns", metavar="FILE",
        help="write who had which pCPU when, in Chrome's trace format, which Perfetto opens; an instruction is a "
        "nanosecond there",
    )
    translator_options(parser, kept=True)
    options, guests = parser.split(normal(words))
    if not guests:
        parser.error("which guests?")
    for word in guests:
        if word.startswith("-"):
            parser.error(f"options come before guests: {word}")
    if options.bind and options.migrate is not None:
        parser.error("--bind lets no vCPU migrate")
    return _run(parser, options, guests)


def _run(parser: Parser, options: Any, guests: Sequence[str]) -> int:
    from dbt import fleet
    from dbt.events import NEVER
    from dbt.kvm import KvmError, schedule
    from guests.programs import virtual_file

    files: dict[str, str] = {}
    for guest in guests:
        files[_name(guest, files)] = opened(partial(virtual_file, guest), guest) if guest.startswith("@") else guest
    arrived = None if options.uart is None else read(options.uart)
    lines, turns = _Lines(max(map(len, files))), _Turns()
    place: schedule.Placement = schedule.bind if options.bind else schedule.stay
    if options.migrate is not None:
        place = schedule.migrate(options.migrate)
    try:
        result = opened(
            lambda: fleet.run(
                files, options.smp, options.pcpus, options.quantum or schedule.QUANTUM, place, options.method,
                options.memory, NEVER if options.max_instructions is None else options.max_instructions,
                translation(parser, options), arrived, _nothing if options.json else lines.put,
                _nothing if options.turns is None else turns.add,
            ),
            "",
        )  # fmt: skip
    except KvmError as error:
        parser.error(str(error))
    lines.end()
    if options.turns is not None:
        write(options.turns, turns.document(result))
    print(json.dumps(result.as_dict()) if options.json else result.text())
    if result.status:
        for ran in result.machines:
            if ran.status:
                say(f"{ran.name} has status {ran.status}" + (f": {ran.why}" if ran.why else ""))
    return result.status


def _nothing(name: str, what: object) -> None:
    """Nobody wants to know of it."""


def _name(guest: str, taken: dict[str, str]) -> str:
    """The file's, with a number where another one has it."""
    name = os.path.basename(guest).removesuffix(".elf").removeprefix("@") or guest
    return next(each for each in (name, *(f"{name}-{i}" for i in range(2, len(taken) + 3))) if each not in taken)


class _Turns:
    """Turns on physical CPUs, each of which is a track."""

    def __init__(self) -> None:
        from dbt.tracing.formats import Chrome

        self._chrome = Chrome()

    def add(self, name: str, turn: Turn) -> None:
        """One more, of this machine's."""
        from dbt.tracing.events import Event

        begin, spent = turn.start / 1e3, (turn.end - turn.start) / 1e3
        who = f"{name} vCPU {turn.vcpu.id}"
        self._chrome.add(Event(begin, turn.vcpu.instructions, f"pCPU {turn.pcpu}", "switch", who, spent, {}))

    def document(self, result: Fleet) -> str:
        """All of them."""
        return self._chrome.document("dragoman fleet", result.time / 1e3, {"switches": result.switches})


class _Lines:
    """Standard output, to which each machine writes whole lines."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._begun: dict[str, bytearray] = {}

    def put(self, name: str, data: bytes) -> None:
        begun = self._begun.setdefault(name, bytearray())
        begun += data
        *whole, rest = bytes(begun).split(b"\n")
        for line in whole:
            sys.stdout.write(f"{name:{self._width}} | {line.decode(errors='replace')}\n")
        begun[:] = rest

    def end(self) -> None:
        """Show what has no end of a line."""
        for name, begun in self._begun.items():
            if begun:
                self.put(name, b"\n")
        if self._begun:
            sys.stdout.write("\n")
