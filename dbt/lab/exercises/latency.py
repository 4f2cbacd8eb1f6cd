"""`latency`: how long an interrupt waits for the end of a block, and what it costs to make it wait for less.

Wanted: a program of at least WORK instructions, executed in at most BLOCKS blocks, in which no interrupt waits for more
than PATIENCE instructions, wherever it is raised; then ebreak.
"""

from __future__ import annotations

import guests
from dbt.events import Events
from dbt.lab.exercises.machines import run_to_ebreak
from dbt.lab.exercises.reading import assembly, require
from dbt.lab.workbench import CODE, Machine
from dbt.options import Options
from guests.spec import Guest

WORK, MOST, BLOCKS, PATIENCE = 120, 500, 22, 5


def entry(guest: Guest, words: list[int], k: int) -> tuple[int, int] | None:
    """Where an interrupt enters that is raised after `k` instructions, translated: the count and the address."""
    taken: list[tuple[int, int]] = []
    with Machine(guest, words, translated=True, options=Options(hot=0)) as machine:
        state, events = machine.state, Events(machine.state)
        events.at(k, lambda: taken.append((state.count, state.pc)))
        events.run(machine.engine, MOST)
    return taken[0] if taken else None


def check(file: str) -> str:
    guest = guests.load("riscv64")
    program = assembly(file, guest, CODE)
    with Machine(guest, program.words) as machine:
        run_to_ebreak(machine, program)
        count, blocks = machine.state.count, machine.state.blocks
    require(count <= MOST, f"it has executed {count} instructions; {MOST} are enough")
    require(count >= WORK, f"it has executed {count} instructions; {WORK} are asked for")
    worst = 0
    for k in range(1, count + 1):
        entered, pc = entry(guest, program.words, k) or (count, -1)
        late, where = entered - k, program.where(pc) if pc >= 0 else "its end"
        require(late <= PATIENCE, f"an interrupt raised after {k} instructions enters {late} later, at {where}")
        worst = max(worst, late)
    require(blocks <= BLOCKS, f"{blocks} blocks are executed; {BLOCKS} are allowed")
    return f"{count} instructions in {blocks} blocks; the longest that an interrupt waits is {worst}"
