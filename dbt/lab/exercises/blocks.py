"""`blocks`: what a basic block buys. A sum over an array in few blocks, and yet not all of it in one.

Given: a1, the address of an array of WORDS doublewords. Wanted: their sum in a0, then ebreak.
"""

from __future__ import annotations

from random import Random

import guests
from dbt.lab.exercises.machines import run_to_ebreak
from dbt.lab.exercises.reading import assembly, require
from dbt.lab.workbench import CODE, DATA, Machine
from dbt.options import Options

WORDS, BLOCKS, LENGTH = 96, 16, 40


def check(file: str) -> str:
    guest, rng = guests.load("riscv64"), Random()
    program = assembly(file, guest, CODE)
    require(len(program.words) <= LENGTH, f"it has {len(program.words)} instructions; {LENGTH} are allowed")
    blocks = set()
    for options in (None, Options(hot=0)):
        array = [rng.getrandbits(64) for _ in range(WORDS)]
        with Machine(guest, program.words, translated=options is not None, options=options) as machine:
            machine.space.poke(DATA, b"".join(word.to_bytes(8, "little") for word in array))
            machine.set(a1=DATA)
            run_to_ebreak(machine, program)
            blocks.add(machine.state.blocks)
            found, total = machine.get("a0"), sum(array) & (1 << 64) - 1
            require(found == total, f"a0 is {found:#x}, and the sum of the {WORDS} doublewords is {total:#x}")
    (executed,) = blocks  # the engines agree
    require(executed <= BLOCKS, f"{executed} blocks are executed; {BLOCKS} are allowed")
    return f"{executed} blocks executed, of {len(program.words)} instructions in all"
