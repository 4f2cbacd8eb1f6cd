"""What it costs to get from one block to the next, by each way there is: bare machines, without Linux.

The JSON has blocks, or round trips, a second. Ways that stay in host code are counted in millions, those through
Python in tens of thousands.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import guests
from dbt.lab.workbench import CODE, Machine, asm
from dbt.options import Options
from dbt.state import BUDGET
from guests.spec import Guest

GUEST: Guest = guests.load("riscv64")
RA, COUNT, OTHER, TARGET = 1, 5, 6, 7  # ra, t0, t1, t2
FAR = CODE + (1 << 17)  # jumps to CODE and to here share an entry of the jump cache
TIME = 0xC01
MANY, FEW = 1_000_000, 5_000  # loops through host code, and through Python

Did = Callable[..., None]


def loop(*body: int) -> list[int]:
    """The body, done as often as t0 says."""
    back = 4 * len(body) + 4
    return [*body, asm(GUEST, "addi", rd=COUNT, rs1=COUNT, imm=-1), asm(GUEST, "bne", rs1=COUNT, rs2=0, imm=-back),
            asm(GUEST, "ebreak")]  # fmt: skip


def run_loop(benchmark: BenchmarkFixture, did: Did, words: Sequence[int], times: int, each: int = 1,
             options: Options | None = None, also: dict[int, Sequence[int]] | None = None,
             **registers: int) -> Machine:  # fmt: skip
    """Measure a loop after a first round has translated it; each turn is `each` of what is counted."""
    with Machine(GUEST, words, True, options or Options(hot=0), also) as machine:

        def turn() -> None:
            machine.set(t0=times, **registers)
            assert machine.call().cause == GUEST.breakpoint_cause

        turn()
        before = machine.engine.entries, machine.state.count
        turn()
        entries, count = machine.engine.entries - before[0], machine.state.count - before[1]
        benchmark(turn)
        benchmark.extra_info["python_entries"] = entries
        did(blocks=times * each, instructions=count)
        return machine


@pytest.mark.benchmark(group="dispatch: blocks")
def test_chained_to_itself(benchmark: BenchmarkFixture, did: Did) -> None:
    run_loop(benchmark, did, loop(), MANY)


@pytest.mark.benchmark(group="dispatch: blocks")
def test_chained_jumps(benchmark: BenchmarkFixture, did: Did) -> None:
    """Eight blocks in a row, each a direct jump to the next."""
    words = loop(*[asm(GUEST, "jal", rd=0, imm=4)] * 8)
    run_loop(benchmark, did, words, MANY // 8, each=9)


@pytest.mark.benchmark(group="dispatch: blocks")
def test_indirect_jumps_through_the_jump_cache(benchmark: BenchmarkFixture, did: Did) -> None:
    """A call and a return: of the two jumps, one is indirect."""
    words = loop(asm(GUEST, "jal", rd=RA, imm=FAR + 64 - CODE))
    also: dict[int, Sequence[int]] = {FAR + 64: [asm(GUEST, "jalr", rd=0, rs1=RA, imm=0)]}
    run_loop(benchmark, did, words, MANY // 4, each=3, also=also)


@pytest.mark.benchmark(group="dispatch: blocks")
def test_indirect_jumps_that_collide_in_the_jump_cache(benchmark: BenchmarkFixture, did: Did) -> None:
    """Two targets take one entry from each other in turn, so that every indirect jump asks Python."""
    # CODE: t1 is the other target's address, and goes back and forth between CODE and FAR.
    step = asm(GUEST, "addi", rd=COUNT, rs1=COUNT, imm=-1)
    body = [step, asm(GUEST, "beq", rs1=COUNT, rs2=0, imm=8)]
    end = asm(GUEST, "ebreak")
    here = [*body, asm(GUEST, "jalr", rd=0, rs1=OTHER, imm=0), end]
    there = [*body, asm(GUEST, "jalr", rd=0, rs1=TARGET, imm=0), end]
    run_loop(benchmark, did, here, FEW, each=2, also={FAR: there}, t1=FAR, t2=CODE)


@pytest.mark.benchmark(group="dispatch: blocks")
def test_through_python(benchmark: BenchmarkFixture, did: Did) -> None:
    """Nothing is chained: every block is looked up and entered from Python."""
    run_loop(benchmark, did, loop(), FEW, options=Options(hot=0, chain=False))


@pytest.mark.benchmark(group="dispatch: round trips")
def test_into_host_code_and_back(benchmark: BenchmarkFixture, did: Did) -> None:
    """The way in and out alone: a block that is entered without budget leaves at once."""
    with Machine(GUEST, loop(), True, Options(hot=0)) as machine:
        machine.set(t0=2)
        machine.call()
        backend = machine.engine.translator.backend
        words, address = machine.state.words, machine.state.address
        entry = machine.engine.cache.get((CODE, True)).entry

        def trips() -> None:
            for _ in range(1000):
                words[BUDGET] = 0
                backend.enter(address, entry)

        benchmark(trips)
        did(round_trips=1000)


@pytest.mark.benchmark(group="dispatch: round trips")
def test_callout(benchmark: BenchmarkFixture, did: Did) -> None:
    """An instruction that the monitor executes: rdtime."""
    read = asm(GUEST, "csrrs", rd=OTHER, csr=TIME, rs1=0)
    machine = run_loop(benchmark, did, loop(read), FEW)
    assert machine.engine.exits["callout"] >= FEW
    did(round_trips=FEW)


@pytest.mark.benchmark(group="dispatch: round trips")
@pytest.mark.parametrize("name", ["ecall", "ld"])
def test_trap(benchmark: BenchmarkFixture, did: Did, name: str) -> None:
    """To the monitor with a trap, and back in: a system call that does nothing, and a page fault.

    The fault is a SIGSEGV of the host, which its handler sends on to the landing.
    """
    fields: dict[str, Any] = {"rd": OTHER, "rs1": 0, "imm": 0} if name == "ld" else {}
    with Machine(GUEST, [asm(GUEST, name, **fields)], True, Options(hot=0)) as machine:
        cause = machine.call().cause

        def trips() -> None:
            for _ in range(1000):
                assert machine.call().cause == cause

        benchmark(trips)
        assert machine.engine.exits["callout" if name == "ecall" else "side: memory"] >= 1000
        did(round_trips=1000)
