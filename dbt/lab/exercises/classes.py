"""`classes`: a program of which so many instructions of each class are executed, by the engine's own counts.

Given: a1, the address of a page that may be written. Wanted: the counts of WANTED, the ebreak that ends it among them.
"""

from __future__ import annotations

import guests
from dbt.lab.exercises.reading import assembly, require
from dbt.lab.workbench import CODE, DATA, Machine
from dbt.options import Options
from guests.spec import Treat

WANTED = {Treat.IDENT: 100, Treat.INLINE: 10, Treat.CALLOUT: 3}
LIMIT = 10_000  # instructions


def shown(counts: dict[Treat, int]) -> str:
    """Counts of classes, in words."""
    return ", ".join(f"{counts[each]} {each.value}" for each in Treat)


def check(file: str) -> str:
    guest = guests.load("riscv64")
    program = assembly(file, guest, CODE)
    with Machine(guest, program.words, translated=True, options=Options(hot=0)) as machine:
        machine.set(a1=DATA)
        stop = machine.engine.run(LIMIT)
        counts, pc = machine.engine.classes, machine.state.pc
    require(stop.trap, f"it has not come to ebreak after {LIMIT:,} instructions")
    cause = guest.trap_names.get(stop.cause, str(stop.cause))
    require(stop.cause == guest.breakpoint_cause, f"it ends with {cause} at {program.where(pc)}, and not with ebreak")
    require(counts == WANTED, f"{shown(counts)} are executed; asked are {shown(WANTED)}")
    return f"{shown(counts)}, in {len(program.words)} instructions"
