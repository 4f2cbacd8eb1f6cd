"""E07: one operation at a time, a hundred times: what it costs under each method (after Adams and Agesen, 2006)."""

from __future__ import annotations

from typing import NamedTuple

from dbt.kvm import METHODS
from dbt.lab.report import Report
from dbt.lab.simple_monitor import OPTIONS
from dbt.methods.report import Costs
from dbt.methods.run import NESTED, Counts, Row
from dbt.methods.run import run as run_guest
from guests.programs import VIRTUALS, virtual_file

PROGRAM = "nano"
TIMES = 100
ALL = [name for name, how in METHODS.items() if how.emulates]
COSTS = Costs()


class Operation(NamedTuple):
    """A phase of the program: what is done, and by method the exits of each time and those of the phase besides. All
    are the monitor's own affair, or all its user's.
    """

    title: str
    exits: dict[str, tuple[int, int]]
    to_user: bool = False


BEGIN = 4 + 1  # of te: three registers and sret, to have a program begin; its code is put into shadow tables
END = 3  # of te: its last call; the kernel looks why, and for its stack
OPERATIONS = {
    # te: the trap; scause, sepc twice, sret. pv: the trap; the call that resumes.
    "a": Operation("system call", {"te": (5, BEGIN + END), "pv": (2, 2)}),
    "b": Operation("load from a device", dict.fromkeys(ALL, (1, 0)), to_user=True),
    "c": Operation("interrupts off, and on", {"te": (2, 0)}),
    "d": Operation("call and return", {}),
    # te: the trap; scause, stval, sret; shadow tables. pv: the trap, one call for entry and return; shadow tables.
    "e": Operation("first use of a page", {"te": (5, BEGIN - 1 + END), "pv": (3, 2)}),
    # A program's illegal instruction leaves a guest for its monitor, which hands it on.
    "f": Operation("illegal instruction", {"interp": (1, 0), "bt": (1, 0), "hw": (1, 0),
                                           "te": (5, BEGIN - 1 + END), "pv": (2, 2)}),
    "g": Operation("entry of a page table, and fence", {"te": (1, 0), "pv": (1, 0)}),
}  # fmt: skip


def measured() -> dict[str, Row]:
    """The program under each method, by the interpreter where it can do it, which has nothing to compile."""
    return {method: run_guest(virtual_file(PROGRAM, not METHODS[method].native), method, METHODS[method].engines[-1],
                              OPTIONS) for method in ALL}  # fmt: skip


def each(counts: Counts, once: int) -> tuple[int, int]:
    """Exits and modelled cycles of one time, but for what the phase has besides."""
    light = Counts(counts.instructions, exits=counts.exits - once, to_user=counts.to_user)
    return (counts.exits - once) // TIMES, COSTS.cycles(light) // TIMES


def run(report: Report) -> None:
    rows = measured()
    table: dict[str, dict[str, tuple[int, int]]] = {}
    for phase, operation in OPERATIONS.items():
        exits, cycles = True, True
        for method, row in rows.items():
            counts = row.phases[phase]
            number, once = operation.exits.get(method, (0, 0))
            left = TIMES * number + once
            exits = exits and (counts.exits, counts.to_user) == (left, left if operation.to_user else 0)
            cost = COSTS.user if operation.to_user else COSTS.light
            cycles = cycles and COSTS.cycles(counts) == counts.instructions + left * cost
            table.setdefault(operation.title, {})[method] = each(counts, once)
        report.check(exits, f"{operation.title}: exits of each method are {TIMES} times what the formula says")
        report.check(cycles, f"{operation.title}: so are its modelled cycles")
    nested = run_guest(virtual_file(PROGRAM), NESTED, "interp", OPTIONS)
    inner, outer = nested.levels
    hardware = {phase: (rows["hw"].phases[phase].exits, rows["hw"].phases[phase].to_user) for phase in OPERATIONS}
    report.check({phase: (inner.phases[phase].exits, outer.phases[phase].exits) for phase in OPERATIONS} == hardware,
                 "nested is left as hw is, and its hypervisor for what hw's user has to answer")  # fmt: skip
    report.check((nested.console, nested.digest) == (rows["hw"].console, rows["hw"].digest),
                 "it prints the same, and has the same memory in the end")  # fmt: skip
    for phase, operation in OPERATIONS.items():
        table[operation.title][NESTED] = each(nested.phases[phase], 0)
    for at, title in enumerate(("exits each", f"cycles each (an exit {COSTS.light:,}; the user's {COSTS.user:,})")):
        report.show(f"{title:46}" + "".join(f"{method:>9}" for method in (*ALL, NESTED)))
        for name, found in table.items():
            report.show(f"{name:46}" + "".join(f"{found[method][at]:>9,}" for method in (*ALL, NESTED)))
    report.check({row.console for row in rows.values()} == {VIRTUALS[PROGRAM].output},
                 "every method prints how often each was done")  # fmt: skip
    native = [row for method, row in rows.items() if METHODS[method].native]
    report.check(all(len({row.phases[phase].instructions for row in native}) == 1 for phase in OPERATIONS),
                 "the same instructions in each phase, for all methods that run the native image")  # fmt: skip
    dear = [name for name, found in table.items() if found["te"][1] > found["hw"][1]]
    same = [name for name, found in table.items() if found["te"] == found["hw"]]
    report.check(len(dear) + len(same) == len(table) and len(same) == 2,
                 "te costs more than hw, but for a function, which is free, and a device, which is dear")  # fmt: skip
