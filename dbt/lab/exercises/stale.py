"""`stale`: self-modifying code, on which a translator that does not look runs what is not there any more.

Wanted: a program that writes over an instruction of its own, executes it before and after, and puts what came of it
into a0; then ebreak. The interpreter and a cache that looks agree on a0; a cache that does not has another value.
"""

from __future__ import annotations

import guests
from dbt.lab.exercises.machines import run_to_ebreak
from dbt.lab.exercises.reading import assembly, require
from dbt.lab.workbench import CODE, Machine
from dbt.memory import EXEC, READ, WRITE
from dbt.options import Options

RUNS = {
    "the interpreter": None,
    "the translator": Options(hot=0, region=0, tiers=(1,)),
    "the translator with --smc=off": Options(hot=0, region=0, tiers=(1,), smc="off"),
}


def check(file: str) -> str:
    guest = guests.load("riscv64")
    program = assembly(file, guest, CODE)
    found = {}
    for name, options in RUNS.items():
        with Machine(guest, program.words, options is not None, options, rights=READ | WRITE | EXEC) as machine:
            before = machine.space.peek(CODE, 4096)
            run_to_ebreak(machine, program, f"in {name} it")
            require(before != machine.space.peek(CODE, 4096), "it does not write over its code")
            found[name] = machine.get("a0")
    interpreted, translated, naive = found.values()
    require(interpreted == translated, f"a0 is {interpreted:#x} in the interpreter, and {translated:#x} translated")
    require(naive != interpreted, f"a0 is {naive:#x} under --smc=off as well: there, too, the new code was executed")
    return f"a0 is {interpreted:#x}, and {naive:#x} where nobody looks"
