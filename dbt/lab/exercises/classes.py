"""`classes`: a program of which so many instructions of each class are executed, by the engine's own counts.

Given: a1, the address of a page that may be written. Wanted: the counts of WANTED, the ebreak that ends it among them.
"""

from __future__ import annotations

import guests
from dbt.lab.exercises.machines import run_to_ebreak
from dbt.lab.exercises.reading import assembly, require
from dbt.lab.workbench import CODE, DATA, Machine
from dbt.options import Options
from guests.spec import Treat

WANTED = {Treat.IDENT: 100, Treat.INLINE: 10, Treat.CALLOUT: 3}


def shown(counts: dict[Treat, int]) -> str:
    """Counts of classes, in words."""
    return ", ".join(f"{counts[each]} {each.value}" for each in Treat)


def check(file: str) -> str:
    guest = guests.load("riscv64")
    program = assembly(file, guest, CODE)
    with Machine(guest, program.words, translated=True, options=Options(hot=0)) as machine:
        machine.set(a1=DATA)
        run_to_ebreak(machine, program)
        counts = machine.engine.classes
    require(counts == WANTED, f"{shown(counts)} are executed; asked are {shown(WANTED)}")
    return f"{shown(counts)}, in {len(program.words)} instructions"
