"""A loop over sensitive instructions, translated in place and as callouts: what inline code is worth.

The sensitive state of a user program is the floating-point control register: its flags are set and cleared, its
rounding mode is changed, its counter is read. Both must leave the same state.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import guests
from dbt.lab.workbench import Machine, asm
from dbt.options import Options

GUEST = guests.load("riscv64")
FFLAGS, FRM, INSTRET = 1, 2, 0xC02
COUNT, ALL, GOT = 5, 6, 7  # t0, t1, t2
PAIRS = {
    "fflags": [asm(GUEST, "csrrsi", rd=0, csr=FFLAGS, imm=1), asm(GUEST, "csrrci", rd=GOT, csr=FFLAGS, imm=1)],
    "frm": [asm(GUEST, "csrrsi", rd=0, csr=FRM, imm=1), asm(GUEST, "csrrci", rd=GOT, csr=FRM, imm=1)],
    "instret": [asm(GUEST, "csrrs", rd=GOT, csr=INSTRET, rs1=0), asm(GUEST, "csrrs", rd=ALL, csr=INSTRET, rs1=0)],
}
TIMES = {"inline": 100_000, "callout": 2_000}


@pytest.mark.benchmark(group="sensitive")
@pytest.mark.parametrize("sensitive", TIMES)
@pytest.mark.parametrize("register", PAIRS)
def test_sensitive(benchmark: BenchmarkFixture, did: Callable[..., None], register: str, sensitive: str) -> None:
    words = [*PAIRS[register], asm(GUEST, "addi", rd=COUNT, rs1=COUNT, imm=-1),
             asm(GUEST, "bne", rs1=COUNT, rs2=0, imm=-12), asm(GUEST, "ebreak")]  # fmt: skip
    times = TIMES[sensitive]
    states = []
    for translated in (False, True):
        with Machine(GUEST, words, translated, Options(hot=0, sensitive=sensitive)) as machine:
            machine.set(t0=100)
            assert machine.call().cause == GUEST.breakpoint_cause
            states.append((machine.state.count, machine.state.blocks, machine.state.registers()))
            if translated:

                def turn() -> None:
                    machine.set(t0=times)
                    machine.call()

                before = machine.engine.stepped
                turn()
                assert (machine.engine.stepped - before >= 2 * times) == (sensitive == "callout")
                benchmark(turn)
    assert states[0] == states[1], "inline and callout code do what the interpreter does"
    did(sensitive_instructions=2 * times, loops=times)
