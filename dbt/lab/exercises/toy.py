"""`toy`: a critical section on the notes' CPU. An interrupt at any moment must find the sum of two registers whole.

Given: r1 and r2, two balances; r7, an amount, and r8, its negative; interrupts are enabled. Wanted: three times the
amount from r1 to r2, then halt, and no interrupt that waits for more than three instructions.
"""

from __future__ import annotations

from random import Random

import guests
from dbt.lab.c04_toy_cpu import cpu_run
from dbt.lab.exercises.reading import assembly, require
from dbt.lab.workbench import CODE, Machine, asm
from guests.toy.interrupts import HALT, INTERRUPT, NAMES, TABLE

TIMES, PATIENCE = 3, 3
LIMIT = 200  # instructions


def check(file: str) -> str:
    toy, rng = guests.load("toy"), Random()
    program = assembly(file, toy, CODE)
    handler = [asm(toy, "add", rd=20, rs1=1, rs2=2), asm(toy, "iret")]  # r20: the sum as it finds it
    amount, first, second = rng.randint(1, 99), rng.randint(1000, 9999), rng.randint(1000, 9999)
    total, k, late = first + second, 0, 0
    while True:
        with Machine(toy, program.words, also={TABLE[INTERRUPT]: handler}) as machine:
            machine.set(r1=first, r2=second, r7=amount, r8=-amount, ie=1)
            stop, taken = cpu_run(machine, k.__eq__, LIMIT)
        end = machine.state.count - 2 * len(taken)
        require(stop.trap, f"it has not come to halt after {LIMIT} instructions")
        require(stop.cause == HALT, f"it ends with {NAMES.get(stop.cause, 'a trap')} at "
                f"{program.where(machine.state.pc)}")  # fmt: skip
        for count, pc in taken:
            seen = machine.get("r20")
            require(seen == total, f"an interrupt before {program.where(pc)} finds {seen} in r1 + r2, where there "
                    f"were {total}")  # fmt: skip
            require(count - k <= PATIENCE, f"an interrupt raised after {k} instructions has to wait for {count - k}")
            late = max(late, count - k)
        require(bool(taken) or not 1 <= k <= end - PATIENCE, f"an interrupt raised after {k} instructions never comes")
        balances = (machine.get("r1"), machine.get("r2"))
        wanted = (first - TIMES * amount, second + TIMES * amount)
        require(balances == wanted, f"in the end r1 and r2 are {balances[0]} and {balances[1]}, not {wanted[0]} and "
                f"{wanted[1]}: the amount was {amount}")  # fmt: skip
        k += 1
        if k > end:
            return (f"{k} runs, an interrupt at each of {end} boundaries: none saw half of it, none waited "
                    f"for more than {late}")  # fmt: skip
