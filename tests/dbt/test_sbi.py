"""Firmware of our own: what it answers a supervisor, beside OpenSBI under qemu-system-riscv64; and Linux on it."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from support import peers
from support.riscv import asm, words_to_bytes

from dbt.machine.boards import Board
from dbt.machine.devices.console import Console
from dbt.machine.exits import (
    SYSTEM_EVENT_CRASH,
    SYSTEM_EVENT_RESET,
    SYSTEM_EVENT_SHUTDOWN,
    Exit,
    Hlt,
    SystemEvent,
)
from guests.riscv import machine

UART, LOW = 0x1000_0000, (1 << 64) - 1
BASE, TIME, IPI, FENCE, HART, RESET, CONSOLE = 0x10, 0x54494D45, 0x735049, 0x52464E43, 0x48534D, 0x53525354, 0x4442434E
ECALL = asm("ecall")
S0, S1, A0, A1, A6, A7 = 8, 9, 10, 11, 16, 17
PC, TEXT = 0x8020_0000, 0x8020_1800

NOT_SUPPORTED, INVALID_PARAM = -2, -3
ALIKE = {  # extension, function, arguments: those to which OpenSBI 1.1 answers the same
    "probe of what there is": [(BASE, 3, e) for e in (BASE, TIME, IPI, FENCE, HART, RESET, 0, 1, 2, 8)],
    "probe of what there is not": [(BASE, 3, 0x12345), (BASE, 3, 0x9), (BASE, 3, 0xA000000)],
    "unknown": [(BASE, 99), (TIME, 7), (IPI, 3), (HART, 77, 0), (CONSOLE, 9), (0x123456, 0), (RESET, 1, 0, 0)],
    "timer": [(TIME, 0, LOW), (TIME, 0, 1 << 60)],
    "interrupts": [(IPI, 0, 1, 0), (IPI, 0, 0, LOW), (IPI, 0, 1, LOW), (IPI, 0, 0, 0), (IPI, 0, 1, 9)],
    "fences": [(FENCE, 0, 1, 0), (FENCE, 1, 1, 0, 0, LOW), (FENCE, 2, 1, 0, 0x1000, 0x1000, 3), (FENCE, 0, 0, LOW)],
    "harts": [(HART, 0, 0, PC, 0), (HART, 0, 7, PC, 0), (HART, 2, 0), (HART, 2, 9)],
    "reset of no kind": [(RESET, 0, 5, 0), (RESET, 0, 0, 9)],
    "old calls": [(0, 0, LOW), (1, 0, ord("y")), (2, 0), (3, 0), (4, 0, 0), (5, 0, 0), (8 + 1, 0)],
}


def program(calls: list[tuple[int, ...]], last: tuple[int, ...] = (RESET, 0, 0, 0)) -> bytes:
    """Make each call, write a0 and a1 to the serial port as bytes; then turn the machine off by the last one."""
    words: list[int] = []
    pool: list[int] = []
    holes: list[int] = []

    def constant(register: int, value: int) -> None:
        holes.append(len(words))
        words.extend((asm("auipc", rd=register, imm=0), 0))
        pool.append(value)
        registers.append(register)

    registers: list[int] = []
    for call in (*calls, last):
        for register, value in zip((A7, A6, *range(A0, A0 + 6)), (*call, *[0] * (8 - len(call))), strict=True):
            constant(register, value)
        words.append(ECALL)
        constant(S1, UART)
        for register in (A0, A1):
            for _ in range(8):
                words += [asm("sb", rs1=S1, rs2=register, imm=0), asm("srli", rd=register, rs1=register, imm=8)]
    words.append(asm("jal", rd=0, imm=0))
    if len(words) % 2:
        words.append(asm("addi", rd=0, rs1=0, imm=0))
    for i, (at, register) in enumerate(zip(holes, registers, strict=True)):
        distance = 4 * (len(words) - at) + 8 * i
        low = (distance + 0x800 & 0xFFF) - 0x800
        words[at] = asm("auipc", rd=register, imm=distance - low)
        words[at + 1] = asm("ld", rd=register, rs1=register, imm=low)
    return words_to_bytes(words) + struct.pack(f"<{len(pool)}Q", *pool)


def ours(path: Path, *words: str, feed: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "dragoman", "boot", "-kernel", str(path), *words]
    environment = {**os.environ, "PYTHONPATH": str(peers.REPOSITORY)}
    return subprocess.run(command, input=feed, capture_output=True, env=environment, timeout=120)


def run(code: bytes, engine: str = "reference", feed: bytes = b"") -> tuple[Exit, bytes]:
    """How a machine ends that begins with this code as a supervisor, and what it writes."""
    out = bytearray()
    console = Console(out.extend)
    board = Board(machine.guest(), 16 << 20, console, engine)
    board.vm.memory.poke(PC, code)
    board.start_supervisor(PC, 0)
    console.feed(feed)
    exit = board.vm.run()
    board.vm.close()
    return exit, bytes(out)


@pytest.mark.parametrize("kind", ALIKE)
def test_calls_are_answered_as_by_opensbi(kind: str, tmp_path: Path) -> None:
    qemu = peers.need("qemu-system-riscv64", "qemu-system-misc")
    (tmp_path / "kernel").write_bytes(program(ALIKE[kind]))
    command = [qemu, "-M", "virt", "-m", "128", "-nographic", "-kernel", str(tmp_path / "kernel")]
    theirs = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    for engine in ("reference", "translated"):
        done = ours(tmp_path / "kernel", f"--engine={engine}")
        assert (done.returncode, done.stderr) == (0, b"")
        assert theirs.stdout.endswith(done.stdout) and len(done.stdout) >= 16 * len(ALIKE[kind])


def test_users_may_read_the_counters_that_opensbi_lets_them_read(tmp_path: Path) -> None:
    """Linux without a driver for counters leaves scounteren as it finds it, and its users read `time` (udhcpc does)."""
    qemu = peers.need("qemu-system-riscv64", "qemu-system-misc")
    words = [asm("csrrw", rd=A0, rs1=0, csr=0x106), asm("lui", rd=S1, imm=UART), asm("addi", rd=A0, rs1=A0, imm=0x30),
             asm("sb", rs1=S1, rs2=A0, imm=0)]  # fmt: skip
    (tmp_path / "kernel").write_bytes(words_to_bytes(words) + program([]))
    command = [qemu, "-M", "virt", "-m", "128", "-nographic", "-kernel", str(tmp_path / "kernel")]
    theirs = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    assert theirs.stdout.endswith(b"7") and ours(tmp_path / "kernel").stdout == b"7"


def test_calls_about_another_hart_are_answered_as_by_opensbi(tmp_path: Path) -> None:
    """One that is stopped, and one that is not there."""
    qemu = peers.need("qemu-system-riscv64", "qemu-system-misc")
    calls = [(HART, 2, 1), (HART, 2, 2), (HART, 0, 0, PC, 0), (HART, 0, 2, PC, 0), (IPI, 0, 3, 0), (IPI, 0, 1, 1),
             (FENCE, 0, 3, 0), (FENCE, 1, 2, 0, 0, LOW), (FENCE, 2, 1, 1, 0x1000, 0x1000, 3)]  # fmt: skip
    (tmp_path / "kernel").write_bytes(program(calls))
    command = [qemu, "-M", "virt", "-m", "128", "-smp", "2", "-nographic", "-kernel", str(tmp_path / "kernel")]
    # It may begin on either hart, whose answers are not those of the other; until it was hart 0.
    for _ in range(20):
        theirs = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60).stdout
        if b"Boot HART ID              : 0" in theirs:
            break
    done = ours(tmp_path / "kernel", "-smp", "2")
    assert (done.returncode, done.stderr) == (0, b"")
    assert theirs.endswith(done.stdout) and len(done.stdout) >= 16 * len(calls)


CALLS = (  # what OpenSBI 1.1 does not know, or does otherwise than the specification: a call, what is written, a0, a1
    ((BASE, 0), b"", 0, 2 << 24),
    ((BASE, 3, CONSOLE), b"", 0, 1),
    ((BASE, 4), b"", 0, 0),
    ((CONSOLE, 0, 5, TEXT, 0), b"hello", 0, 5),
    ((CONSOLE, 0, 5, TEXT, 1), b"", INVALID_PARAM, 0),
    ((CONSOLE, 0, 1 << 40, TEXT, 0), b"", INVALID_PARAM, 0),
    ((CONSOLE, 0, 4, 0x1000_0000, 0), b"", INVALID_PARAM, 0),  # a device is no memory
    ((CONSOLE, 2, ord("x")), b"x", 0, 0),
    ((CONSOLE, 1, 3, TEXT + 16, 0), b"", 0, 3),
    ((CONSOLE, 0, 3, TEXT + 16, 0), b"abc", 0, 3),
    ((CONSOLE, 1, 3, TEXT + 16, 0), b"", 0, 1),  # that is all there is
    ((CONSOLE, 1, 3, 0x100, 0), b"", INVALID_PARAM, 0),
    ((CONSOLE, 9), b"", NOT_SUPPORTED, 0),
    ((IPI, 0, 2, 0), b"", INVALID_PARAM, 0),  # there is no hart 1
    ((FENCE, 0, 3, 0), b"", INVALID_PARAM, 0),
    ((HART, 3, 1 << 31, 0, 0), b"", NOT_SUPPORTED, 0),
    ((HART, 3, 5, 0, 0), b"", INVALID_PARAM, 0),
)


def test_calls_are_answered_as_specified() -> None:
    code = program([call for call, *_ in CALLS])
    assert len(code) < TEXT - PC
    code = code.ljust(TEXT - PC, b"\0") + b"hello".ljust(64, b"\0")
    wanted = b"".join(text + struct.pack("<qQ", error, value) for _, text, error, value in CALLS)
    assert run(code, feed=b"abcd") == (SystemEvent(SYSTEM_EVENT_SHUTDOWN), wanted)


@pytest.mark.parametrize(("last", "exit"), [
    ((RESET, 0, 0, 0), SystemEvent(SYSTEM_EVENT_SHUTDOWN)), ((RESET, 0, 0, 1), SystemEvent(SYSTEM_EVENT_CRASH, 1)),
    ((8, 0), SystemEvent(SYSTEM_EVENT_SHUTDOWN)), ((RESET, 0, 1, 0), SystemEvent(SYSTEM_EVENT_RESET)),
    ((RESET, 0, 2, 0), SystemEvent(SYSTEM_EVENT_RESET)), ((HART, 1), Hlt()),
])  # fmt: skip
def test_the_machine_is_turned_off_or_starts_again(last: tuple[int, ...], exit: Exit) -> None:
    assert run(program([], last)) == (exit, b"")


@pytest.mark.parametrize(("kind", "call", "cause"), [
    ("timer", (TIME, 0, 3000), 5), ("software", (IPI, 0, 1, 0), 1), ("old timer", (0, 0, 3000), 5),
    ("old software", (4, 0, 0), 1),
])  # fmt: skip
def test_interrupts_come_in_supervisor_mode(kind: str, call: tuple[int, ...], cause: int) -> None:
    """The hart waits; the handler writes scause as bytes and turns the machine off."""
    t0, sie, sstatus, stvec, scause = 5, 0x104, 0x100, 0x105, 0x142
    handler, begin = program([], (RESET, 0, 0, 0)), 0x200
    write = [asm("csrrw", rd=A0, rs1=0, csr=scause), asm("lui", rd=S1, imm=UART)]
    for _ in range(8):
        write += [asm("sb", rs1=S1, rs2=A0, imm=0), asm("srli", rd=A0, rs1=A0, imm=8)]
    enable = [asm("auipc", rd=t0, imm=0), asm("addi", rd=t0, rs1=t0, imm=begin), asm("csrrw", rd=0, rs1=t0, csr=stvec),
              asm("addi", rd=t0, rs1=0, imm=0x222), asm("csrrw", rd=0, rs1=t0, csr=sie),
              asm("addi", rd=t0, rs1=0, imm=2), asm("csrrw", rd=0, rs1=t0, csr=sstatus)]  # fmt: skip
    for register, value in zip((A7, A6, A0, A1), (*call, 0)[:4], strict=True):
        high = value + 0x800 & 0xFFFF_F000
        enable += [asm("lui", rd=register, imm=high), asm("addi", rd=register, rs1=register, imm=value - high)]
    enable += [ECALL, 0x1050_0073, asm("jal", rd=0, imm=-4)]
    code = words_to_bytes(enable).ljust(begin, b"\0") + words_to_bytes(write) + handler
    wanted = SystemEvent(SYSTEM_EVENT_SHUTDOWN), (1 << 63 | cause).to_bytes(8, "little")
    for engine in ("reference", "translated"):
        assert run(code, engine) == wanted


def test_a_kernel_linked_for_the_begin_of_ram_begins_in_machine_mode() -> None:
    """As those that come with Dragoman; others do so where there is no firmware."""
    done = ours(Path("@ticks"), "--deterministic")
    assert (done.returncode, done.stderr) == (0, b"") and done.stdout == ours(Path("@ticks"), "--deterministic",
                                                                            "-bios", "none").stdout
