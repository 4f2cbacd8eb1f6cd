"""A07: a guest that knows nothing of its board is told by the device tree: a program walks it and finds its devices."""

from __future__ import annotations

from dbt.lab.report import Report
from dbt.lab.workbench import RAM, RAM_SIZE, board
from dbt.machine import fdt
from dbt.machine.boards import VIRT, VIRTIO, Board
from dbt.machine.exits import Exit, SystemEvent
from guests.programs import SYSTEMS

PROGRAM = "tree"
MOVED = 0x9000_0000  # where a tree of another board says that there is memory
HART, TREE = 10, 11  # a0, a1


def once(engine: str, moved: bool = False) -> tuple[Board, Exit, str, tuple[int, int]]:
    """The program in its end: its machine, the exit, what it printed, and a0 and a1 as it began.

    `moved`: it is handed a tree in which memory is elsewhere.
    """
    made, printed = board(PROGRAM, engine=engine)
    if moved:
        tree = fdt.parse(made.tree())
        memory = dict(tree.pop(f"memory@{RAM:x}"))
        memory["reg"] = fdt.cells(MOVED, RAM_SIZE)
        made.vm.memory.poke(RAM + RAM_SIZE // 2, made.tree(own={**tree, f"memory@{MOVED:x}": memory}))
    while made.vcpu.state.pc < RAM:  # the board's reset code hands on
        made.vm.step()
    slots = made.vcpu.state.slots
    given = slots[HART], slots[TREE]
    return made, made.vm.run(most=1_000_000), printed.decode().replace("\r", ""), given


def run(report: Report) -> None:
    places = [f"memory@{RAM:x}", f"serial@{VIRT['serial'].base:x}", *(f"virtio_mmio@{each.base:x}" for each in VIRTIO)]
    for engine in ("reference", "translated"):
        made, exit, printed, (hart, tree) = once(engine)
        report.say(f"@{PROGRAM} in the {engine} engine, {made.vm.clock.retired:,} instructions")
        report.figure("a0, the hart's number", hart)
        report.figure("a1, the tree", hex(tree))
        report.show(printed)
        report.check(made.vm.memory.peek(tree, 4) == bytes.fromhex("d00dfeed"), "a1 leads to a flattened tree")
        report.check(exit == SystemEvent(1) and printed == SYSTEMS[PROGRAM].output, "it prints what it has to")
        shown = [line.split()[0] for line in printed.splitlines()[1:]]
        report.check(shown == places, "it has found memory, the serial port and all virtio transports of the board")
        report.check(printed.count(": virt\n") == len(VIRTIO), "a transport answers at each of the places")
    report.say("the same program, with a tree that says something else")
    _, _, printed, _ = once("translated", moved=True)
    report.show(printed.splitlines()[1])
    report.check(f"memory@{MOVED:x} at {MOVED:x}\n" in printed and f"memory@{RAM:x}" not in printed,
                 "it says so: what it prints is what it read")  # fmt: skip
