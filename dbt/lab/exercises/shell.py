"""`shell`: what is typed into a kernel, so that it takes the hart from a process that would not give it up.

Wanted: lines for the shell of @kernel after which two processes have printed letters by turns, TURNS times at least; a
process was killed for a store that it may not; and the machine has ended with status STATUS.
"""

from __future__ import annotations

import re
from itertools import pairwise

from dbt.lab.exercises.reading import require, text
from dbt.lab.workbench import board
from dbt.machine.exits import Intr, SystemEvent
from dbt.options import Options

TURNS, STATUS = 8, 7
TIMER = 1 << 63 | 5  # a cause
LIMIT = 100_000_000  # instructions


def turns(printed: str) -> int:
    """How often one letter follows another in what is no word: the most in a line."""
    lines = [line for line in printed.splitlines() if re.fullmatch(r"[a-z]*", line) and len(set(line)) == 2]
    return max((sum(a != b for a, b in pairwise(line)) for line in lines), default=0)


def check(file: str) -> str:
    typed = text(file)
    require(bool(typed.strip()), "nothing is typed")
    made, output = board("kernel", typed.encode(), options=Options(patience=0))
    exit = made.vm.run(most=LIMIT)
    printed = output.decode(errors="replace").replace("\r", "")
    how = f"after {LIMIT:,} instructions it is still running" if isinstance(exit, Intr) else "it waits for more input"
    last = (printed.splitlines() or [""])[-1]
    require(isinstance(exit, SystemEvent), f"the machine has not ended: {how}, and its console ends with {last!r}")
    found = turns(printed)
    require(found >= TURNS, f"letters of two processes follow each other {found} times in a line, not {TURNS}")
    traps = made.vcpu.taken
    interrupts = sum(count for (cause, _), count in traps.items() if cause == TIMER)
    killed = re.search(r"\((\w+)\): store page fault at pc", printed)
    require(killed is not None, "no process was killed for a store page fault")
    status = getattr(exit, "code", 0)
    require(status == STATUS, f"the machine has ended with status {status}, not {STATUS}")
    return f"{found} changes of letters, {interrupts} interrupts of the timer, {made.vm.clock.retired:,} instructions"
