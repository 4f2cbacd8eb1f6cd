"""Programs of a few words, run by both engines of a machine in lockstep."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.riscv import asm, words_to_bytes

from dbt.machine.boards import Board
from dbt.machine.devices.console import Console
from dbt.machine.exits import SystemEvent
from dbt.machine.lockstep import Report, lockstep
from dbt.options import Options
from guests.decode import encode
from guests.riscv import machine
from guests.spec import Guest

RAM, TREE, TEST = 0x8000_0000, 0x8080_0000, 0x10_0000
SIZE = 16 << 20
GUEST = machine.guest()
ROWS = {row.name: row for row in GUEST.rows if row.extension == "system"}
FENCE, MRET = encode(ROWS["sfence.vma"], rs1=0, rs2=0), encode(ROWS["mret"])
ECALL = 0x73
MEPC, MCAUSE, MTVAL, SATP = 0x341, 0x342, 0x343, 0x180
RA, T0, T1, T2, A0, A1, A2, A3, A4, A5, S2, S3, S4 = 1, 5, 6, 7, 10, 11, 12, 13, 14, 15, 18, 19, 20
RETURN = asm("jalr", rd=0, rs1=RA, imm=0)
STRIDES = pytest.mark.parametrize("stride", [1, 7, 300])

CODE, OTHER, HANDLER, TABLES = RAM, RAM + 0x1000, RAM + 0x2000, RAM + 0x10_0000
Setup = Callable[[Board], None]
LEAF, USER_LEAF = 0xCF, 0xDF  # valid, all rights, accessed and dirty


def end() -> list[int]:
    """Shut the machine down: T0 is clobbered, the finisher is at its address."""
    return [asm("lui", rd=T0, imm=TEST), asm("lui", rd=T1, imm=0x5000), asm("addi", rd=T1, rs1=T1, imm=0x555),
            asm("sw", rs1=T0, rs2=T1, imm=0), asm("jal", rd=0, imm=0)]  # fmt: skip


def run(
    stride: int, places: dict[int, list[int]], registers: dict[int, int], setup: Setup | None = None,
    guest: Guest = GUEST,
) -> Board:
    """Run words at their places from CODE on, in lockstep; returns the translated machine in its end."""
    boards = []

    def make(console: Console, engine: str, options: Options) -> Board:
        board = Board(guest, SIZE, console, engine, options)
        for at, words in places.items():
            board.vm.memory.poke(at, words_to_bytes(words))
        board.vcpu.reset(CODE)
        for slot, value in registers.items():
            board.vcpu.state.slots[slot] = value
        if setup is not None:
            setup(board)
        boards.append(board)
        return board

    assert agreed(lockstep(make, stride, seed=3)).exit == SystemEvent(1)
    return boards[0]


def loop(*body: int) -> list[int]:
    """The body as often as S2 says, then the end."""
    back = asm("addi", rd=S2, rs1=S2, imm=-1), asm("bne", rs1=S2, rs2=0, imm=-4 * (len(body) + 1))
    return [*body, *back, *end()]


def agreed(report: Report) -> Report:
    assert not report.difference, "\n".join(report.difference)
    return report


def mapped(
    board: Board, root: int, pages: dict[int, tuple[int, int]], root_size: int = 0x1000, levels: int = 3
) -> None:
    """Levels of tables from `root` on: page addresses to (physical address, flags)."""
    memory = board.vm.memory

    def entry(table: int, index: int, value: int | None = None) -> int:
        at = table + 8 * index
        if value is not None:
            memory.poke(at, value.to_bytes(8, "little"))
        return int.from_bytes(memory.peek(at, 8), "little")

    free = root + root_size
    for address, (to, flags) in pages.items():
        table = root
        for level in range(levels - 1, 0, -1):
            index = address >> 12 + 9 * level & (root_size // 8 - 1 if level == levels - 1 else 511)
            if not entry(table, index):
                entry(table, index, free >> 2 | 1)
                free += 0x1000
            table = entry(table, index) >> 10 << 12
        entry(table, address >> 12 & 511, to >> 2 | flags)
