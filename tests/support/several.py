"""Programs of a few words for machines of several harts, run by both engines in lockstep."""

from __future__ import annotations

from functools import partial

from support.riscv import asm, words_to_bytes
from support.small import ECALL, GUEST, RAM, ROWS, SIZE, Setup, agreed, end

from dbt.machine.boards import Board
from dbt.machine.devices.console import Console
from dbt.machine.exits import SystemEvent
from dbt.machine.lockstep import lockstep
from dbt.options import Options
from guests.decode import encode
from guests.riscv import privileged as p
from guests.spec import Guest

MSIP = 0x200_0000
CODE, HANDLER, FUNCTION, DATA, TABLES = RAM, RAM + 0x1000, RAM + 0x2000, RAM + 0x3000, RAM + 0x10_0000
WFI, SFENCE = encode(ROWS["wfi"]), encode(ROWS["sfence.vma"], rs1=0, rs2=0)
PAUSE, FENCE_I = asm("pause"), asm("fence.i", imm=0, rs1=0, rd=0)
RA, T0, T1, T2, S0, S1, A0, A1, A2, A6, A7, S2, S3, S4, S5, S6 = 1, *range(5, 13), *range(16, 23)
SIP = 0x144
MOST = 2_000_000  # instructions, after which a program that should have ended hangs
LONG = 20_000

Item = int | str | tuple[str, str, dict[str, int]]


def to(name: str, label: str, **fields: int) -> Item:
    """A branch or jump to a label."""
    return name, label, fields


def program(*items: Item) -> list[int]:
    """Words: instructions, with names for the places of those behind them."""
    places: dict[str, int] = {}
    at = 0
    for item in items:
        if isinstance(item, str):
            places[item] = at
        else:
            at += 4
    words: list[int] = []
    for item in items:
        if isinstance(item, tuple):
            name, label, fields = item
            words.append(asm(name, imm=places[label] - 4 * len(words), **fields))
        elif isinstance(item, int):
            words.append(item)
    return words


JUMP: dict[str, int] = {"rd": 0}
BOUNDARY = asm("jal", rd=0, imm=4)  # a block ends here, so a turn may
END = tuple(end())
IDLE: tuple[Item, ...] = ("idle", WFI, to("jal", "idle", **JUMP))


def made(
    harts: list[tuple[int, dict[int, int]]], places: dict[int, list[int]], setup: Setup | None, guest: Guest,
    console: Console, engine: str, options: Options,
) -> Board:  # fmt: skip
    board = Board(guest, SIZE, console, engine, options, harts=len(harts))
    for at, words in places.items():
        board.vm.memory.poke(at, words_to_bytes(words))
    for vcpu in board.vcpus:
        vcpu.reset(CODE)
        vcpu.state.slots[p.MTVEC] = HANDLER
    if setup is not None:
        setup(board)
    for vcpu, (start, values) in zip(board.vcpus, harts, strict=True):
        vcpu.state.pc = start
        for slot, value in values.items():
            vcpu.state.slots[slot] = value
    return board


def run(
    harts: list[tuple[int, dict[int, int]]], places: dict[int, list[int]], setup: Setup | None = None,
    stride: int = 200, most: int = MOST, guest: Guest = GUEST,
) -> Board:  # fmt: skip
    """Run each hart from its address with its registers, in lockstep; returns the translated machine in its end."""
    boards: list[Board] = []
    report = agreed(lockstep(partial(made, harts, places, setup, guest), stride, 3, most, mutate=boards.append))
    assert report.exit == SystemEvent(1), report.exit
    return boards[0]


def constant(register: int, value: int) -> list[int]:
    """31 bits."""
    high = value + 0x800 & 0xFFFF_F000
    return [asm("lui", rd=register, imm=high), asm("addi", rd=register, rs1=register, imm=value - high)]


def call(extension: int, function: int, *arguments: int) -> list[int]:
    """A call of firmware."""
    words = [*constant(A7, extension), *constant(A6, function)]
    for register, value in zip(range(A0, A0 + 6), arguments, strict=False):
        words += constant(register, value)
    return [*words, ECALL]
