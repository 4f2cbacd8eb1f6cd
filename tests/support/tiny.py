"""Guest programs of a few instructions, made on the spot."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

from support.riscv import asm, words_to_bytes

BASE = 0x10000
START = BASE + 120  # after the headers of `elf`
READ, WRITE, EXECUTE = 4, 2, 1  # as program headers write them


def header(entry: int = START, *, kind: int = 2, machine: int = 243, bits: int = 2, count: int = 1) -> bytes:
    """An ELF file header with `count` program headers behind it."""
    ident = b"\x7fELF" + bytes((bits, 1, 1)) + bytes(9)
    return struct.pack("<16sHHIQQQIHHHHHH", ident, kind, machine, 1, entry, 64, 0, 5, 64, 56, count, 0, 0, 0)


def segment(address: int, offset: int, in_file: int, in_memory: int, kind: int = 1, flags: int = 7) -> bytes:
    """A program header."""
    return struct.pack("<IIQQQQQQ", kind, flags, offset, address, address, in_file, in_memory, 4096)


def elf(code: bytes) -> bytes:
    """A program that is one segment, readable, writable and executable, with a page of zeros behind the code."""
    return header() + segment(BASE, 0, 120 + len(code), 120 + len(code) + 4096) + code


def program(path: Path, words: Sequence[int]) -> Path:
    """Write a program of these instruction words."""
    path.write_bytes(elf(words_to_bytes(words)))
    return path


def li(register: int, value: int) -> int:
    """Load a small constant."""
    return asm("addi", rd=register, rs1=0, imm=value)


A0, A1, A2, A3, A7, SP = 10, 11, 12, 13, 17, 2
ECALL = 0x73
EBREAK = 0x00100073
LOOP = 0x0000006F  # jal zero, 0


def call(number: int) -> list[int]:
    """A system call with the arguments that are in place."""
    return [li(A7, number), ECALL]


def leave(status: int) -> list[int]:
    """exit_group(status)."""
    return [li(A0, status), *call(94)]


def kill_self(number: int) -> list[int]:
    """kill(getpid(), number), then an endless loop."""
    return [*call(172), li(A1, number), *call(129), LOOP]


def show_strings() -> list[int]:
    """Write the stack from argv[0] on to stdout: argv, the environment and the path, each ended by a zero byte."""
    return [
        asm("ld", rd=A1, rs1=SP, imm=8), li(A0, 1), asm("lui", rd=A2, imm=0x10000), *call(64), *leave(0),
    ]  # fmt: skip
