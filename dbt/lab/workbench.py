"""What demonstrations share: bundled programs run with their output caught, and machines without Linux.

Owns: starting things and cleaning up. Must not know: what is demonstrated.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import dbt
from dbt.engine import Translated
from dbt.memory import EXEC, READ, WRITE, AddressSpace, page_down, page_up
from dbt.options import Options
from dbt.process import LimitReached, Process, Settings
from dbt.reference import Reference, Stop
from dbt.state import State
from guests.decode import PatternError, encode
from guests.programs import find, path
from guests.spec import Guest

CODE = 0x10000  # where bare machines keep code
DATA = 0x20000


@dataclass(frozen=True)
class Ran:
    """How a bundled program ended."""

    status: int | None
    signal: int | None
    stdout: str
    registers: dict[str, int]
    stats: dict[str, Any]
    seconds: float


def run_program(
    name: str,
    *args: str,
    engine: str = "translated",
    options: Options | None = None,
    drive: Callable[[Process], object] = Process.run,
    granularity: str = "block",
) -> Ran:
    """Run bundled program `name` (by default its small case) deterministically; `drive` runs the process."""
    with ExitStack() as stack:
        out = stack.enter_context(os.fdopen(os.memfd_create("lab"), "w+b"))
        nothing = stack.enter_context(open(os.devnull, "rb"))
        settings = Settings(engine=engine, argv0=name, env={}, seed=0, stdin=nothing.fileno(), stdout=out.fileno(),
                            options=options, granularity=granularity)  # fmt: skip
        process = stack.enter_context(Process(path(name), args or find(name).small, settings))
        start = time.perf_counter()
        drive(process)
        seconds = time.perf_counter() - start
        out.seek(0)
        return Ran(process.status, process.signal, out.read().decode(), process.registers, process.stats(), seconds)


def go_on(process: Process, instructions: int) -> int:
    """Run on for so many instructions, to a boundary, or to the end; returns how many there were."""
    before = process.instructions
    with suppress(LimitReached):
        process.run(before + instructions)
    return process.instructions - before


def asm(guest: Guest, name: str, **fields: int) -> int:
    """The word of the row of this name that takes these fields."""
    error: Exception = KeyError(name)
    for row in guest.rows:
        if row.name == name:
            try:
                return encode(row, **fields)
            except PatternError as refused:
                error = refused
    raise error


class Machine:
    """A guest CPU over memory of its own, without Linux: code at CODE, a page of data at DATA."""

    def __init__(self, guest: Guest, words: Iterable[int], translated: bool = False, options: Options | None = None,
                 also: dict[int, Sequence[int]] | None = None, granularity: str = "block") -> None:  # fmt: skip
        self.guest = guest
        self.space = AddressSpace()
        self.state = State(guest)
        for address, code in {CODE: list(words), **(also or {})}.items():
            raw = b"".join(w.to_bytes(4 if w & 3 == 3 else 2, "little") for w in code)
            start, end = page_down(address), page_up(address + len(raw))
            self.space.map(start, end - start, READ | EXEC, fixed=True)
            self.space.poke(address, raw)
        self.space.map(DATA, 4096, READ | WRITE, fixed=True)
        self.engine: Any = (
            Translated(self.state, self.space, _no_clock, options)
            if translated
            else Reference(self.state, self.space, _no_clock, granularity)
        )
        self.state.pc = CODE

    def set(self, **registers: int) -> None:
        """Set registers by name."""
        for name, value in registers.items():
            self.state.slots[self.state.slot(name)] = value & (1 << 64) - 1

    def get(self, name: str) -> int:
        """A register by name."""
        return int(self.state.slots[self.state.slot(name)])

    def call(self, pc: int = CODE) -> Stop:
        """Run from `pc` until a trap."""
        self.state.pc = pc
        self.state.mid_block = False
        stop: Stop = self.engine.run(1 << 60)
        return stop

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if isinstance(self.engine, Translated):
            self.engine.close()
        self.space.close()


def _no_clock() -> int:
    return 0


def command(*words: str, python: Sequence[str] = ("-m", "dragoman")) -> subprocess.CompletedProcess[str]:
    """Run the `dragoman` command, or other Python, in a process of its own."""
    root = str(Path(dbt.__file__).resolve().parent.parent)
    path = os.pathsep.join(p for p in (root, os.environ.get("PYTHONPATH")) if p)
    return subprocess.run([sys.executable, *python, *words], env={**os.environ, "PYTHONPATH": path}, text=True,
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=60, errors="replace")  # fmt: skip
