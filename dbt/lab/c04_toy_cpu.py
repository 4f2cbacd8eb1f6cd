"""C04: the notes' interpreter loop, on the notes' CPU and on RISC-V: fetch, execute, then the interrupt check."""

from __future__ import annotations

from collections.abc import Callable

import guests
from dbt.lab.report import Report
from dbt.lab.workbench import CODE, Machine, asm, run_program
from dbt.process import Process
from dbt.reference import Stop
from guests.toy.interrupts import HALT, INTERRUPT, TABLE, vector
from guests.toy.registers import IE

Line = Callable[[int], bool]  # after how many instructions the interrupt line is up


def cpu_run(machine: Machine, line: Line, limit: int = 1000) -> tuple[Stop, list[tuple[int, int]]]:
    """The notes' CPU_Run: step, then the interrupt check. Returns the trap and (count, pc) of each interrupt.

    An interrupt that is taken lowers the line: it is one event, and is delivered once.
    """
    state, raised = machine.state, False
    taken: list[tuple[int, int]] = []
    while state.count < limit:
        stop = machine.engine.step()
        if stop.trap:
            return stop, taken
        raised = raised or line(state.count)
        if raised and state.slots[IE]:
            raised = False
            taken.append((state.count, state.pc))
            state.pc = vector(state.slots, state.pc)
    return Stop(False), taken


def program() -> tuple[list[int], list[int]]:
    """Main: three ADDs, CLI, two ADDs, STI, three ADDs, HALT. Handler: count in r5, return."""
    toy = guests.load("toy")
    add, handler = asm(toy, "add", rd=1, rs1=1, rs2=2), asm(toy, "add", rd=5, rs1=5, rs2=6)
    main = [add, add, add, asm(toy, "cli"), add, add, asm(toy, "sti"), add, add, add, asm(toy, "halt")]
    return main, [handler, asm(toy, "iret")]


def start(line: Line) -> tuple[Machine, Stop, list[tuple[int, int]]]:
    """Run the program with this interrupt line, interrupts enabled at the start."""
    main, handler = program()
    with Machine(guests.load("toy"), main, also={TABLE[INTERRUPT]: handler}) as machine:
        machine.set(r2=7, r6=1, ie=1)
        stop, taken = cpu_run(machine, line)
    return machine, stop, taken


def run(report: Report) -> None:
    toy, (main, _) = guests.load("toy"), program()
    report.say("the program, on the notes' CPU (halt and iret are ours: the notes' machine neither ends nor returns)")
    for i, word in enumerate(main):
        decoded = toy.decode(word)
        assert decoded is not None
        report.show(f"{CODE + 4 * i:#x}  {decoded.treat.value:7}  {toy.disassemble(decoded, CODE + 4 * i)}")
    machine, stop, taken = start(lambda count: False)
    report.check(stop == Stop(True, HALT) and machine.get("r1") == 8 * 7 and machine.state.count == 10,
                 "with the line down: ten instructions, then halt; r1 is 8 x 7")  # fmt: skip

    report.say("raise the line once, after instruction k, for every k")
    wrong, table = 0, []
    for k in range(1, 11):
        machine, stop, taken = start(k.__eq__)
        masked = 4 <= k <= 6  # between CLI (the fourth) and STI (the seventh)
        due = 7 if masked else k
        expected = [(due, CODE + 4 * due)]
        good = (taken == expected and machine.get("lr") == CODE + 4 * due and machine.get("r5") == 1
                and machine.get("r1") == 56 and machine.state.count == 12 and machine.get("ie") == 1)  # fmt: skip
        wrong += not good
        when = f"taken after {taken[0][0]:2}" if taken else "never taken"
        table.append(f"raised after {k:2}: {when}{'  (was masked)' if masked else ''}")
    report.show("\n".join(table))
    report.check(wrong == 0, "taken if and only if IRQ and IE, at the boundary, once; LR is the next address")
    taken = start(lambda count: count == 5)[2]
    report.check(taken == [(7, CODE + 28)], "raised between CLI and STI: taken right after STI")

    report.say("the same contract on RV64: the reference interpreter, one step at a time")
    whole = run_program("hello", engine="reference")
    checks, advances = 0, True

    def stepping(process: Process) -> None:
        nonlocal checks, advances
        while not process.ended:
            before, count = process.pc, process.instructions
            decoded = process.guest.decode(process.space.fetch(before))
            process.step()
            if decoded is not None and process.instructions == count + 1:
                checks += 1  # here an interrupt would be looked for
                advances = advances and (decoded.ends_block or process.pc == before + decoded.length)

    stepped = run_program("hello", engine="reference", drive=stepping)
    report.figure("instructions", stepped.stats["instructions"])
    report.check(checks == stepped.stats["instructions"], "one boundary after each instruction")
    report.check(advances, "PC moves by the instruction's length, but where control flow says otherwise")
    report.check((stepped.stdout, stepped.registers) == (whole.stdout, whole.registers),
                 "stepping and running give the same output and registers")  # fmt: skip
