"""A machine and its host: what an idle guest costs, how late interrupts are, how long slices are."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import peers
from support.riscv import asm, words_to_bytes
from support.small import A0, CODE, S2, SIZE, T0, loop

from dbt.machine import outside, start
from dbt.machine.boards import Board
from dbt.machine.clock import Clock
from dbt.machine.devices.console import Console
from dbt.machine.exits import SystemEvent
from dbt.machine.outside import LONGEST_SLICE, SHORTEST, SLICE, Inputs, Outside
from dbt.machine.vm import ENGINES
from dbt.options import Options
from guests.programs import system_file
from guests.riscv import machine

PAGE_OF_INSTRUCTIONS = 2048  # boundaries are never further apart: those of a page, each of two bytes


def processor_time(process: int) -> float:
    """Seconds that a process has computed."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("engine", ENGINES)
def test_an_idle_guest_costs_nothing(engine: str) -> None:
    """Our kernel waits at its prompt, without a tick: the host sleeps until a key is pressed, which is answered."""
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "dragoman", "boot", f"--engine={engine}", "-m", "32", "@kernel"]
    environment = {**os.environ, "PYTHONPATH": str(peers.REPOSITORY)}
    process = subprocess.Popen(command, stdin=slave, stdout=slave, env=environment)

    def expect(text: bytes) -> None:
        seen = b""
        while text not in seen:
            assert select.select([master], [], [], 60)[0], seen
            seen += os.read(master, 4096)

    try:
        expect(b"$ ")
        time.sleep(0.5)
        before = processor_time(process.pid)
        time.sleep(2)
        assert processor_time(process.pid) - before <= 0.04
        os.write(master, b"echo awake\n")
        expect(b"\nawake")
    finally:
        process.kill()
        process.wait()
        os.close(master)
        os.close(slave)


@pytest.mark.parametrize("engine", ENGINES)
def test_an_event_is_late_by_less_than_a_page_of_instructions(engine: str) -> None:
    """Events at odd places of our kernel's run, in all its modes: each at a boundary, and the next one is never far."""
    console = Console(lambda data: None)
    console.feed(b"forks\nprimes 500\nfault load\nshutdown\n")
    board = Board(machine.guest(), 32 << 20, console, engine, Options(disk=True))
    start.place(board, start.Files(None, system_file("kernel"), None))
    late: list[int] = []
    board.vm.events.every(997, lambda: late.append(board.vm.clock.count % 997))
    board.vm.run()
    board.vm.close()
    late.sort()
    assert len(late) > 1000 and late[-1] < PAGE_OF_INSTRUCTIONS
    assert late[len(late) // 2] < 20 and late[-1] < 200  # as this kernel's code has it; measured: 1 and 32


@pytest.fixture
def nanoseconds(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The host's clock, which stands still but for what a test adds."""
    now = [0]
    monkeypatch.setattr(outside.time, "monotonic_ns", lambda: now[0])
    yield now


@pytest.mark.parametrize(
    ("speed", "expected"), [(0.4e6, 800), (1e9, 2_000_000), (1e3, SHORTEST), (1e12, LONGEST_SLICE)]
)
def test_slices_are_as_long_as_the_machine_is_fast(nanoseconds: list[int], speed: float, expected: int) -> None:
    """A look at the host each two milliseconds, about, from a thousand instructions a second to a million million."""
    retired = [0]
    host = Outside(Clock(lambda: retired[0], 100), Inputs())
    for _ in range(40):
        retired[0] += host.slice
        nanoseconds[0] += int(host.slice / speed * 1e9)
        host.sample()
    assert abs(host.slice - expected) <= expected // 50 and SLICE == 2_000_000


def test_a_slice_that_was_cut_short_says_nothing_of_the_speed(nanoseconds: list[int]) -> None:
    retired = [0]
    host = Outside(Clock(lambda: retired[0], 100), Inputs())
    before = host.slice
    retired[0] += 1
    nanoseconds[0] += 1
    host.sample()
    assert host.slice == before


def events_of(engine: str, follows: bool) -> tuple[list[int], Board]:
    """When something was due that comes every 10,001 instructions, in a loop around eight others, and its end."""
    inner = [asm("addi", rd=T0, rs1=0, imm=3), asm("addi", rd=T0, rs1=T0, imm=-1), asm("bne", rs1=T0, rs2=0, imm=-4)]
    board = Board(machine.guest(), SIZE, Console(lambda data: None), engine, Options(patience=0, promote=1000))
    board.vm.memory.poke(CODE, words_to_bytes(loop(*[*inner, *[asm("addi", rd=A0, rs1=A0, imm=1)] * 20] * 8)))
    board.vcpu.reset(CODE)
    board.vcpu.state.slots[S2] = 5000
    board.vm.outside = Outside(board.vm.clock, Inputs(), follows)
    came: list[int] = []
    board.vm.events.every(10_001, lambda: came.append(board.vm.clock.count))
    assert board.vm.run() == SystemEvent(1) and board.vcpu.state.slots[A0] == 5000 * 160
    return came, board


def test_what_is_about_to_be_due_costs_one_exit() -> None:
    """Regions that cannot reach it leave, each loop by itself; a clock that follows the host goes on instead."""
    came, board = events_of("translated", True)
    assert len(came) > 100 and all(at >= 10_001 * (i + 1) for i, at in enumerate(came))
    assert 0 < board.vcpu.engine.exits["late"] < 1.5 * len(came)


def test_where_time_is_that_of_instructions_each_event_has_its_place() -> None:
    came, board = events_of("translated", False)
    assert came == events_of("reference", False)[0] and board.vm.clock.waited == 0


def test_a_machine_that_was_faster_than_its_clock_does_not_stand_still(nanoseconds: list[int]) -> None:
    """Three instructions a nanosecond put its clock ahead; a wait is then as long as it says, and no longer."""
    retired = [0]
    clock = Clock(lambda: retired[0], 100)
    host = Outside(clock, Inputs())
    retired[0], nanoseconds[0] = 3_000_000_000, 1_000_000_000
    host.sample()
    assert clock.count == 3_000_000_000
    nanoseconds[0] += 500
    host.sample()
    assert clock.count == 3_000_000_500


def test_time_stands_still_with_the_machine(nanoseconds: list[int]) -> None:
    """The host's clock is followed, but for the time in which the machine stood still."""
    clock = Clock(lambda: 0, 100)
    host = Outside(clock, Inputs())
    nanoseconds[0] = 1000
    host.sample()
    assert clock.count == 1000
    nanoseconds[0] = 5_000_000
    host.resume()
    host.sample()
    assert clock.count == 1000
    nanoseconds[0] += 7
    host.sample()
    assert clock.count == 1007
