"""The RISC-V project's tests: which are for what we claim, programs made of them, and a machine that runs one.

Owns: how a file of assembly is built, the ways in which it runs. Must not know: which tests there are.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from support import peers

from dbt.machine import images
from dbt.machine.boards import Board
from dbt.machine.devices.console import Console
from dbt.machine.engine import MachineTranslated
from dbt.machine.exits import SYSTEM_EVENT_SHUTDOWN, SystemEvent
from dbt.options import Options
from guests.riscv import machine

CODE = "-static -fno-pic -mcmodel=medany -fvisibility=hidden -mabi=lp64d".split()
SCRIPT = Path(__file__).with_suffix(".ld")
LINK = [*"-no-pie -nostdlib -nostartfiles -march=rv64g -std=gnu99 -O2".split(), f"-T{SCRIPT}",
        "-Wl,--build-id=none,--no-warn-rwx-segments"]  # fmt: skip
RAM = 0x8000_0000
MOST = 5_000_000  # instructions
# Most code of a test is executed once. Stencils are made for all of it, regions where it takes LLVM no hours.
ENGINES = {
    "reference": ("reference", Options()),
    "stencils": ("translated", Options(patience=0, disk=True)),
    "regions": ("translated", Options(patience=0, promote=0, disk=True)),
}


def claimed() -> set[str]:
    """The extensions and modes that `dragoman info --isa` prints for a machine's hart."""
    command = [sys.executable, "-m", "dragoman", "info", "--isa"]
    environment = {**os.environ, "PYTHONPATH": str(peers.REPOSITORY)}
    text = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    rows = dict(line.split(maxsplit=1) for line in text.splitlines())
    base, *others = rows["machine"].split("_")
    return {*base.removeprefix("rv64").replace("g", "imafd"), *others, *rows["modes"].split()}


def build(
    source: Path, folder: Path, entry: str, extensions: Sequence[str], flags: Sequence[str], more: Sequence[str] = ()
) -> Path | str:
    """Assembly, with `more` files, as a program for a machine, or what the compilers say.

    `extensions` beyond rv64g are those that assemblers are told of. What gcc cannot assemble, clang does.
    """
    gcc = shutil.which("riscv64-linux-gnu-gcc")
    if gcc is None:
        peers.missing("riscv64-linux-gnu-gcc is not installed: install the package gcc-riscv64-linux-gnu")
    made, part = folder / source.stem, folder / f"{source.stem}.o"
    march = "rv64g" + "".join(name if len(name) == 1 else f"_{name}" for name in extensions)
    features = "".join(f"+{name}" for name in ("m", "a", "f", "d", *extensions))
    link = [gcc, *CODE, *LINK, *flags, f"-Wl,--entry={entry}", *more, str(part), "-o", str(made)]
    assemblers = (
        [gcc, f"-march={march}"],
        [sys.executable, "-m", "ziglang", "cc", "-target", "riscv64-freestanding", f"-mcpu=generic_rv64{features}"],
    )
    for assembler in assemblers:
        words = [*assembler, *CODE, *flags, "-c", str(source), "-o", str(part)]
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode == 0:
            done = subprocess.run(link, capture_output=True, text=True)
            return made if done.returncode == 0 else done.stderr
    return done.stderr


def run(program: Path, engine: str, executed: Counter[str]) -> tuple[str, bytes, bytes]:
    """What went wrong, if anything did, and the program's signature, if it has one, before and afterwards.

    Instructions are counted by who executed them: `engine`, and its monitor.
    """
    kind, options = ENGINES[engine]
    board = Board(machine.guest(), 16 << 20, Console(lambda data: None), kind, options)
    with closing(board.vm):
        placed = images.place(board.vm.memory, board.guest, str(program), RAM)
        board.add_htif(placed.symbols)
        board.reset(placed.entry, 0)
        begin, end = (placed.symbols.get(name, 0) for name in ("begin_signature", "end_signature"))
        before = board.vm.memory.peek(begin, end - begin)
        exit = board.vm.run(MOST)
        hart = board.vcpu.engine
        monitors = hart.interpreted + hart.stepped if isinstance(hart, MachineTranslated) else 0
        executed[f"{engine}, monitor"] += monitors
        executed[engine] += board.vcpu.state.count - monitors
        afterwards = board.vm.memory.peek(begin, end - begin)
    return "" if exit == SystemEvent(SYSTEM_EVENT_SHUTDOWN, 0) else str(exit), before, afterwards
