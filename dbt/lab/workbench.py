"""What demonstrations share: bundled programs run with their output caught, machines without Linux, and whole ones.

Owns: starting things and cleaning up. Must not know: what is demonstrated.
"""

from __future__ import annotations

import os
import re
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
from dbt.machine import images
from dbt.machine.boards import VIRT, Board
from dbt.machine.devices.console import Console
from dbt.machine.devices.virtio import Virtio
from dbt.machine.exits import Exit, Mmio
from dbt.machine.memory import Device, Memory
from dbt.machine.pool import Pool
from dbt.machine.vm import Machine as Machines
from dbt.machine.vm import Vcpu, Vm
from dbt.memory import EXEC, READ, WRITE, AddressSpace, page_down, page_up
from dbt.options import Options
from dbt.process import LimitReached, Process, Settings
from dbt.reference import Reference, Stop
from dbt.state import State
from guests.decode import PatternError, encode
from guests.programs import find, find_system, path, system_file
from guests.riscv import machine as riscv_machine
from guests.riscv import privileged as p
from guests.spec import Guest

CODE = 0x10000  # where bare machines keep code
DATA = 0x20000
RAM, RAM_SIZE = VIRT["ram"].base, 16 << 20  # of whole machines
LEAF = 0xCF  # a page table's entry: valid, all rights but user mode's, accessed and dirty
WARM = Options(patience=0, promote=8)  # native code from the first instruction on, and soon LLVM's


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


def code_bytes(words: Iterable[int]) -> bytes:
    """Instructions as they are in memory."""
    return b"".join(word.to_bytes(4 if word & 3 == 3 else 2, "little") for word in words)


class Machine:
    """A guest CPU over memory of its own, without Linux: code at CODE, with these `rights`, a page of data at DATA."""

    def __init__(self, guest: Guest, words: Iterable[int], translated: bool = False, options: Options | None = None,
                 also: dict[int, Sequence[int]] | None = None, granularity: str = "block",
                 rights: int = READ | EXEC) -> None:  # fmt: skip
        self.guest = guest
        self.space = AddressSpace()
        self.state = State(guest)
        for address, code in {CODE: list(words), **(also or {})}.items():
            raw = code_bytes(code)
            start, end = page_down(address), page_up(address + len(raw))
            self.space.map(start, end - start, rights, fixed=True)
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


def riscv() -> Guest:
    """The guest of whole machines."""
    return riscv_machine.guest()


def hart(
    words: Iterable[int], engine: str, options: Options = WARM, also: dict[int, Sequence[int]] | None = None,
    hypervisor: bool = False,
) -> Vcpu:  # fmt: skip
    """A hart of a machine without devices, in machine mode at the first of these instructions, the begin of RAM."""
    vm = Machines(riscv_machine.guest(hypervisor=hypervisor), engine, options).create_vm()
    vm.set_user_memory_region(RAM, RAM_SIZE)
    vcpu = vm.create_vcpu()
    for address, code in {RAM: list(words), **(also or {})}.items():
        vm.memory.poke(address, code_bytes(code))
    vcpu.reset(RAM)
    return vcpu


def answered(vm: Vm, devices: dict[int, Device], most: int) -> tuple[Exit, list[Mmio]]:
    """Run a machine and make each access that leaves it, to the device at that place; its end, and these exits."""
    exits: list[Mmio] = []
    while isinstance(exit := vm.run(most=most), Mmio):
        exits.append(exit)
        base, device = next((at, each) for at, each in devices.items() if at <= exit.address < at + each.size)
        if exit.is_write:
            device.write(exit.address - base, exit.size, exit.data)
        else:
            vm.turn.data = device.read(exit.address - base, exit.size)
    return exit, exits


def start_virtio(device: Virtio, queue: int, size: int, table: int, available: int, used: int) -> None:
    """What a driver does at its start: no feature but those that there must be, and one queue, of so many entries."""
    for offset, value in ((0x70, 3), (0x24, 1), (0x20, 1), (0x70, 11), (0x30, queue), (0x38, size), (0x80, table),
                          (0x90, available), (0xA0, used), (0x44, 1), (0x70, 15)):  # fmt: skip
        device.write(offset, 4, value)


def translated(vcpu: Vcpu, instructions: int) -> dict[str, str]:
    """What a hart's native code is made of, when it has run so far: texts by stage and address, "opt 80000000".

    Each translation is a block, for a hart with `region=0` among its options.
    """
    lines: list[str] = []
    engine: Any = vcpu.engine
    options = engine.options
    options.dump, options.write = frozenset({"opt", "llvm"}), lines.append
    vcpu.vm.run(most=instructions)
    texts = [line.partition("\n") for line in lines]
    found = {}
    for head, _, text in texts:
        stage, at = head.removeprefix("--- ").split(" ")[:2]
        name = text.partition("@b")[2].partition("(")[0] if stage == "llvm" else at.removeprefix("0x")
        found[f"{stage} {name}"] = text
    return found


def calls_in(text: str) -> list[str]:
    """Lines of LLVM's text that call something; to leave by a jump is none."""
    return [line.strip() for line in text.splitlines()
            if re.search(r"\bcall\b", line) and "musttail call preserve_nonecc" not in line]  # fmt: skip


def supervise(vcpu: Vcpu, vector: int) -> None:
    """Put a hart into supervisor mode, which may access all memory and takes all traps and interrupts at `vector`."""
    slots = vcpu.state.slots
    slots[p.PMPADDR0], slots[p.PMPCFG0] = (1 << 54) - 1, 0x1F
    slots[p.MEDELEG], slots[p.MIDELEG] = 0xB1FF, p.SSI | p.STI | p.SEI
    slots[p.STVEC], slots[p.PRIVILEGE] = vector, p.SUPERVISOR


def map_pages(
    memory: Memory, root: int, pages: dict[int, int], rights: int = LEAF, free: int | None = None
) -> dict[int, int]:
    """Tables of Sv39, the first at `root` and the others at `free`, or behind it, which map these pages to physical
    addresses; where the entry of each one is.
    """
    free, entries = root + 0x1000 if free is None else free, dict[int, int]()
    for address, to in pages.items():
        table = root
        for level in (2, 1):
            at = table + 8 * (address >> 12 + 9 * level & 511)
            entry = memory.read(at, 8)
            if not entry:
                entry, free = free >> 2 | 1, free + 0x1000
                memory.write(at, 8, entry)
            table = entry >> 10 << 12
        entries[address] = table + 8 * (address >> 12 & 511)
        memory.write(entries[address], 8, to >> 2 | rights)
    return entries


def board(
    name: str, feed: bytes = b"", engine: str = "translated", options: Options | None = None, pool: Pool | None = None
) -> tuple[Board, bytearray]:
    """A bundled program of a machine at its begin, with all of its input; and what it will have printed."""
    printed = bytearray()
    guest = riscv_machine.guest(hypervisor=find_system(name).hypervisor)
    made = Board(guest, RAM_SIZE, Console(printed.extend), engine, options, pool=pool)
    made.console.feed(feed)
    placed = images.place(made.vm.memory, made.guest, system_file(name), RAM)
    tree = RAM + RAM_SIZE // 2
    made.vm.memory.poke(tree, made.tree())
    made.reset(placed.entry, tree)
    return made, printed


def _no_clock() -> int:
    return 0


def command(*words: str, python: Sequence[str] = ("-m", "dragoman")) -> subprocess.CompletedProcess[str]:
    """Run the `dragoman` command, or other Python, in a process of its own."""
    root = str(Path(dbt.__file__).resolve().parent.parent)
    path = os.pathsep.join(p for p in (root, os.environ.get("PYTHONPATH")) if p)
    return subprocess.run([sys.executable, *python, *words], env={**os.environ, "PYTHONPATH": path}, text=True,
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=60, errors="replace")  # fmt: skip
