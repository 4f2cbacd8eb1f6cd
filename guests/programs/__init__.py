"""The bundled guest programs: what each is, how it is started, and what it must print.

What: a table of freestanding RV64GC Linux programs, for tests (`small`) and for speed measurements (`large`), and one
of programs that have a machine for themselves (`SYSTEMS`).
Owns: the names, the expected output, and where the ELF files are. What small and large mean, the sources say.
Must not know: how a program is translated or run (`dbt`), nor how it is built (`guests.programs.build`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

from ir.records import record

if TYPE_CHECKING:
    from pathlib import Path


@record(frozen=True)
class Program:
    """One program. `small` and `large` are its arguments after argv[0]; the outputs are its exact stdout.

    The instruction counts are approximate, to three digits.
    """

    name: str
    about: str
    kind: str
    small_output: str
    large_output: str
    small_instructions: int
    large_instructions: int
    small: tuple[str, ...] = ("small",)
    large: tuple[str, ...] = ("large",)


@record(frozen=True)
class System:
    """One program of a machine: what a board starts in machine mode, at the start of its RAM, QEMU's `virt` for one.

    `output` is exactly what it prints on the first UART when `input` arrives there; then it ends with status 0.
    `hypervisor`: its hart has to have the hypervisor extension.
    """

    name: str
    about: str
    input: str
    output: str
    hypervisor: bool = False


@record(frozen=True)
class Virtual:
    """One guest of a virtual machine: it begins in supervisor mode, and calls its monitor.

    `output` is exactly what it prints by calls of the console. `paravirtual`: it has a second build, whose kernel calls
    its monitor where it would do what only a supervisor may. `hypervisor`: it runs another one, and prints what that
    does; its hart has to have the hypervisor extension.
    """

    name: str
    about: str
    output: str
    paravirtual: bool = False
    hypervisor: bool = False


class UnknownProgram(KeyError):
    """No program has that name; the message lists those there are."""

    def __str__(self) -> str:
        return str(self.args[0])


_TABLE = (
    Program(
        name="hello",
        about="greets, and shows the arguments that reached it",
        kind="misc",
        small_output="Hello from RISC-V!\nargc = 1\n",
        large_output="Hello from RISC-V!\nargc = 1\n",
        small_instructions=550,
        large_instructions=550,
        small=(),
        large=(),
    ),
    Program(
        name="smc",
        about="writes over code it has run, without a fence and with one; smc itself: in the block that runs",
        kind="misc",
        small_output="smc without a fence: 2\nsmc with a fence: 2\n",
        large_output="smc without a fence: 2\nsmc with a fence: 2\n",
        small_instructions=6_380,
        large_instructions=6_380,
    ),
    Program(
        name="sieve",
        about="primes by a segmented sieve of Eratosthenes",
        kind="integer",
        small_output="sieve 60000 91f7d265085145e1\n",
        large_output="sieve 800000000 0bc5fe0285a2db36\n",
        small_instructions=758_000,
        large_instructions=11_800_000_000,
    ),
    Program(
        name="muldiv",
        about="64-bit multiplication, division, remainder: Montgomery powers, Euclid, digits",
        kind="integer",
        small_output="muldiv 200 d5cc17a1983fff28\n",
        large_output="muldiv 4000000 ae58a0f79e515c07\n",
        small_instructions=414_000,
        large_instructions=8_230_000_000,
    ),
    Program(
        name="collatz",
        about="the longest 3n+1 chain",
        kind="integer",
        small_output="collatz 1000 903a60a77eaeda1a\n",
        large_output="collatz 7500000 833e5ae38dbcfaaa\n",
        small_instructions=431_000,
        large_instructions=8_100_000_000,
    ),
    Program(
        name="bits",
        about="counting, reversing, interleaving and scattering bits",
        kind="integer",
        small_output="bits 1000 c7c17cc66ab4649a\n",
        large_output="bits 44000000 e7ee2837a25481ea\n",
        small_instructions=353_000,
        large_instructions=15_400_000_000,
    ),
    Program(
        name="life",
        about="Conway's game, byte by byte and 64 cells at a time",
        kind="integer",
        small_output="life 5 24c90c9f1c58b0aa\n",
        large_output="life 66000 c398bc0ed43fc70b\n",
        small_instructions=811_000,
        large_instructions=10_000_000_000,
    ),
    Program(
        name="nbody",
        about="bodies under gravity, with division and square root (double)",
        kind="fp",
        small_output="nbody 300 caea793a223ca522\n",
        large_output="nbody 580000 951f07c1fe0bba73\n",
        small_instructions=502_000,
        large_instructions=966_000_000,
    ),
    Program(
        name="mandel",
        about="escape times of the Mandelbrot set (double)",
        kind="fp",
        small_output="mandel 20 0bd6f602c18ac769\n",
        large_output="mandel 960 9ba5b6e463df74fa\n",
        small_instructions=332_000,
        large_instructions=709_000_000,
    ),
    Program(
        name="spectral",
        about="power iteration on an implicit matrix, with conversions and division (double)",
        kind="fp",
        small_output="spectral 48 cd60d6e39249c2bf\n",
        large_output="spectral 3030 6a7c89d625e1661a\n",
        small_instructions=342_000,
        large_instructions=1_320_000_000,
    ),
    Program(
        name="fft",
        about="convolution by fast Fourier transforms (double)",
        kind="fp",
        small_output="fft 6 969ad650691d60f6\n",
        large_output="fft 14500 1687f2f381749251\n",
        small_instructions=640_000,
        large_instructions=1_540_000_000,
    ),
    Program(
        name="matmul",
        about="matrix products of doubles, of floats in tiles, and of integers",
        kind="fp",
        small_output="matmul 24 ed89c9ec84cc5a8f\n",
        large_output="matmul 390 cc64101534218bd1\n",
        small_instructions=651_000,
        large_instructions=2_610_000_000,
    ),
    Program(
        name="poly",
        about="functions from fused multiply-adds, square roots and conversions (double, single)",
        kind="fp",
        small_output="poly 1500 25bc309f421a4e55\n",
        large_output="poly 3400000 666b994d32539cc2\n",
        small_instructions=223_000,
        large_instructions=504_000_000,
    ),
    Program(
        name="ray",
        about="a picture of mirror balls (single)",
        kind="fp",
        small_output="ray 20 465991f65c92d6f6\n",
        large_output="ray 880 7ad6ed8db123a359\n",
        small_instructions=235_000,
        large_instructions=461_000_000,
    ),
    Program(
        name="filter",
        about="resonators, a convolution and an echo over 16-bit sound (single)",
        kind="fp",
        small_output="filter 12 2b63b3bba53a3043\n",
        large_output="filter 9300 fe268200e02efa68\n",
        small_instructions=780_000,
        large_instructions=603_000_000,
    ),
    Program(
        name="stream",
        about="copies, scalings, sums and triads over large arrays",
        kind="memory",
        small_output="stream 2500 e2def76145183c06\n",
        large_output="stream 39000000 ea81519369bdec6d\n",
        small_instructions=233_000,
        large_instructions=3_130_000_000,
    ),
    Program(
        name="chase",
        about="pointers followed round a random cycle",
        kind="memory",
        small_output="chase 20000 8bb65f97457e8f15\n",
        large_output="chase 340000000 0adb3101597a8460\n",
        small_instructions=325_000,
        large_instructions=4_290_000_000,
    ),
    Program(
        name="sort",
        about="quicksort, heapsort, merge sort and radix sort",
        kind="memory",
        small_output="sort 700 b571d13787c5c173\n",
        large_output="sort 2550000 eac53eee80fbdff2\n",
        small_instructions=561_000,
        large_instructions=3_730_000_000,
    ),
    Program(
        name="trees",
        about="an own malloc and free under binary trees and a treap",
        kind="memory",
        small_output="trees 3 1f95036c8a9c4cf7\n",
        large_output="trees 33000 ae6d082d53813322\n",
        small_instructions=388_000,
        large_instructions=4_900_000_000,
    ),
    Program(
        name="lz",
        about="compression by back references, and expansion",
        kind="memory",
        small_output="lz 1 5d3981480e4864de\n",
        large_output="lz 22500 c6f6e848af5c8fb0\n",
        small_instructions=509_000,
        large_instructions=11_500_000_000,
    ),
    Program(
        name="recurse",
        about="Fibonacci, Ackermann, Takeuchi and Hanoi",
        kind="calls",
        small_output="recurse 6 247de4d59a632fe7\n",
        large_output="recurse 39000 ab5c1d98e2dbceeb\n",
        small_instructions=606_000,
        large_instructions=4_250_000_000,
    ),
    Program(
        name="queens",
        about="eight queens on boards with forbidden squares, by backtracking",
        kind="calls",
        small_output="queens 2 b4075d60fa85a573\n",
        large_output="queens 19000 ea7aeb4db2cd8ba9\n",
        small_instructions=668_000,
        large_instructions=5_590_000_000,
    ),
    Program(
        name="dispatch",
        about="calls through function-pointer tables",
        kind="calls",
        small_output="dispatch 8000 1a1ae8f85709882c\n",
        large_output="dispatch 34000000 a1b6f97167f39d73\n",
        small_instructions=397_000,
        large_instructions=1_670_000_000,
    ),
    Program(
        name="vm",
        about="a bytecode interpreter with computed goto",
        kind="calls",
        small_output="vm 400 8ef144b587c31fac\n",
        large_output="vm 540000 763a01b384bf2a09\n",
        small_instructions=347_000,
        large_instructions=3_700_000_000,
    ),
    Program(
        name="strings",
        about="splitting, counting, searching and formatting of text",
        kind="text",
        small_output="strings 1 64429308fd66924a\n",
        large_output="strings 11000 0cf9300cdad139d2\n",
        small_instructions=623_000,
        large_instructions=6_810_000_000,
    ),
    Program(
        name="edit",
        about="edit distance, common subsequence and alignment, by dynamic programming",
        kind="text",
        small_output="edit 2 2ebf821253c1f829\n",
        large_output="edit 31000 2fe947b85d166692\n",
        small_instructions=607_000,
        large_instructions=8_500_000_000,
    ),
    Program(
        name="json",
        about="a table-driven lexer and a recursive parser",
        kind="text",
        small_output="json 12 4ed22b70fdeafd0b\n",
        large_output="json 186000 ba961e6f2a5c5706\n",
        small_instructions=562_000,
        large_instructions=8_030_000_000,
    ),
    Program(
        name="sha256",
        about="a chain of SHA-256 digests",
        kind="hash",
        small_output="sha256 50 af3a82404bc4667c\n",
        large_output="sha256 1250000 4eeae021a5acbaa3\n",
        small_instructions=746_000,
        large_instructions=18_100_000_000,
    ),
    Program(
        name="digest",
        about="CRC-32, SipHash-2-4 and a rolling hash",
        kind="hash",
        small_output="digest 3 243178d616bed9f9\n",
        large_output="digest 63000 cd7c59c2152d64ea\n",
        small_instructions=592_000,
        large_instructions=12_200_000_000,
    ),
    Program(
        name="atomic",
        about="C11 atomics: counters, locks, a lock-free stack",
        kind="atomic",
        small_output="atomic 2500 c865084a25c6d9da\n",
        large_output="atomic 48000000 f333c3e3c9a287ea\n",
        small_instructions=457_000,
        large_instructions=8_740_000_000,
    ),
)

PROGRAMS: dict[str, Program] = {program.name: program for program in _TABLE}

# Of the small operating system's shell, without a disk: what is typed, and what is there then.
_SHELL_INPUT = "echo hello\nprimes 1000\nforks\nfault load\nshutdown\n"
_SHELL_OUTPUT = (
    "disk: none\n"
    "$ echo hello\n"
    "hello\n"
    "$ primes 1000\n"
    "168 primes below 1000\n"
    "$ forks\n"
    "15 processes, 0 pages lost\n"
    "$ fault load\n"
    "process 18 (fault): load page fault at pc 100d6, address 8\n"
    "process 18 was killed\n"
    "$ shutdown\n"
)

_SYSTEMS = (
    System(
        name="kernel",
        about="a small operating system: processes, Sv39, preemption, files on a virtio disk, a shell",
        input=_SHELL_INPUT,
        output="kernel: started in machine mode\n" + _SHELL_OUTPUT,
    ),
    System(
        name="hypervisor",
        about="runs the small operating system as its guest, with two stages of page tables; needs -cpu rv64,h=true",
        input=_SHELL_INPUT,
        output=(
            "hypervisor: a guest begins at 80200000\n"
            "kernel: started in supervisor mode, without stimecmp\n"
            + _SHELL_OUTPUT
            + "hypervisor: the guest has ended with status 0\n"
        ),
        hypervisor=True,
    ),
    System(
        name="uart",
        about="greets on the UART and sends a line back",
        input="a line\n",
        output="Hello from machine mode!\na line, please: a line\n",
    ),
    System(
        name="ticks",
        about="sleeps through ten timer interrupts",
        input="",
        output="10 timer interrupts, none early\n",
    ),
    System(
        name="pagefault",
        about="repairs page faults of Sv39, with mstatus.MPRV",
        input="",
        output=(
            "load page fault at 40000000: mapped, read-only\n"
            "store page fault at 40000008: now writable\n"
            "load page fault at 4000000000: stepped over\n"
            "3 page faults; read 1234, wrote 5678\n"
        ),
    ),
    System(
        name="tree",
        about="walks the device tree, and shows memory, serial ports and virtio transports",
        input="",
        output=(
            "hart 0, a device tree of version 17\n"
            "memory@80000000 at 80000000\n"
            "serial@10000000 at 10000000\n"
            "virtio_mmio@10001000 at 10001000: virt\n"
            "virtio_mmio@10002000 at 10002000: virt\n"
            "virtio_mmio@10003000 at 10003000: virt\n"
            "virtio_mmio@10004000 at 10004000: virt\n"
            "virtio_mmio@10005000 at 10005000: virt\n"
            "virtio_mmio@10006000 at 10006000: virt\n"
            "virtio_mmio@10007000 at 10007000: virt\n"
            "virtio_mmio@10008000 at 10008000: virt\n"
        ),
    ),
    System(
        name="world",
        about="enters a guest a thousand times, with 31 registers and six CSRs of both sides; needs -cpu rv64,h=true",
        input="",
        output=(
            "world: 1000 switches\n"
            "hypervisor: 8f63c9e288618380 before, 8f63c9e288618380 after\n"
            "guest: 31 registers of 31 went on\n"
        ),
        hypervisor=True,
    ),
)

SYSTEMS: dict[str, System] = {system.name: system for system in _SYSTEMS}


_VIRTUALS = (
    Virtual("skernel", "turns itself off, and nothing else", ""),
    Virtual("skernel2", "reads a register and memory that it may not, and turns itself off", ""),
    Virtual("pflash", "reads a flash memory a hundred times", "Got pflash magic: pfld\n"),
    Virtual("nano", "seven things that a kernel or its program does to a machine, a hundred times each",
            "nano: 100 calls, 100 pages, 100 faults, device 13cdcdcdba, entry 2\n", paravirtual=True),
    Virtual("quad", "nine phases of what a kernel does to its machine, each a known number of times",
            "quad: 10 ticks, checksum b8774b04279b2b60\n", paravirtual=True),
    Virtual("tasks", "two tasks that a timer takes the processor from", "Multi-task(Preemptible) ok!\n"),
    Virtual("harts", "harts that count under one lock and say their numbers: dragoman fleet --smp 4 @harts",
            "hart 0\nharts: 1, counted to 2000\n"),
    Virtual("middle", "a hypervisor that is a guest itself: dragoman compare @quad --methods hw --nested", "",
            hypervisor=True),
)

VIRTUALS: dict[str, Virtual] = {virtual.name: virtual for virtual in _VIRTUALS}


def find(reference: str) -> Program:
    """The program of user mode meant by "@name", as written on a command line, or by its bare name."""
    name = reference.removeprefix("@")
    if name in SYSTEMS:
        raise UnknownProgram(f"@{name} needs a machine for itself: dragoman boot -kernel @{name}")
    if name in VIRTUALS:
        raise UnknownProgram(f"@{name} is a guest for a monitor: docs/howto/monitor.md")
    return _find(name, PROGRAMS, "program")


def find_system(reference: str) -> System:
    """The program of a machine meant by "@name" or by its bare name."""
    name = reference.removeprefix("@")
    if name in PROGRAMS:
        raise UnknownProgram(f"@{name} is a program of user mode: dragoman run @{name}")
    if name in VIRTUALS:
        raise UnknownProgram(f"@{name} is a guest for a monitor: docs/howto/monitor.md")
    return _find(name, SYSTEMS, "program of a machine")


_Found = TypeVar("_Found")


def _find(name: str, table: Mapping[str, _Found], what: str) -> _Found:
    try:
        return table[name]
    except KeyError:
        known = ", ".join(f"@{known}" for known in sorted(table))
        raise UnknownProgram(f"there is no bundled {what} @{name}; there are: {known}") from None


def file(reference: str) -> str:
    """Where the program's ELF file is."""
    name = find(reference).name
    return os.path.join(os.path.dirname(os.path.realpath(__file__)), name, f"{name}.elf")


def system_file(reference: str) -> str:
    """Where the ELF file of a program of a machine is."""
    name = find_system(reference).name
    return os.path.join(os.path.dirname(os.path.realpath(__file__)), "system", name, f"{name}.elf")


def virtual_file(reference: str, paravirtual: bool = False, hypervisor: bool = False) -> str:
    """Where the ELF file of a guest of a virtual machine is, or that of its second build. `hypervisor`: of one that has
    a guest itself, for who can have that.
    """
    found = _find(reference.removeprefix("@"), VIRTUALS, "guest of a virtual machine")
    if found.hypervisor and not hypervisor:
        raise UnknownProgram(f"@{found.name} is a hypervisor for others: dragoman compare @quad --methods hw --nested")
    if paravirtual and not found.paravirtual:
        raise UnknownProgram(f"@{found.name} has no build for pv")
    file = f"{found.name}.pv.elf" if paravirtual else f"{found.name}.elf"
    return os.path.join(os.path.dirname(os.path.realpath(__file__)), "virtual", found.name, file)


def path(reference: str) -> Path:
    """The same as a Path."""
    from pathlib import Path  # slow to import, and nothing needs it where a program is only run

    return Path(file(reference))
