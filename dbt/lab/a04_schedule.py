"""A04 and B03: virtual CPUs on physical ones, multiplexed or bound; and where one runs, which its guest cannot see.

The guest is @harts, whose harts start each other, take a lock and wait for each other's interrupts. What it does
depends on the order in which they run, so equal digests say that it was the same one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

from dbt.kvm import Exit, Kvm, SystemEvent, Vcpu, console, errors
from dbt.kvm.schedule import Placement, Scheduler, Turn, bind, migrate, stay
from dbt.lab.report import Report
from dbt.lab.simple_monitor import OPTIONS, RAM, SIZE
from dbt.lab.workbench import asm, code_bytes, riscv
from guests.programs import virtual_file

QUANTUM = 10_000
DEVICE = 0x1000_0000
SEEDS = range(3)


class Ran(NamedTuple):
    """How @harts ran. `digest`: of its memory."""

    scheduler: Scheduler
    turns: list[Turn]
    printed: str
    digest: str

    @property
    def migrations(self) -> int:
        return sum(entity.migrations for entity in self.scheduler.entities)


def run_harts(vcpus: int, pcpus: int, place: Placement = stay, method: str = "bt") -> Ran:
    """Run @harts to its end."""
    with Kvm(method, options=OPTIONS).create_vm() as vm:
        vm.set_user_memory_region(0, RAM, SIZE)
        first, *_ = [vm.create_vcpu() for _ in range(vcpus)]
        first.set(pc=vm.load(virtual_file("harts")))
        printed, turns = bytearray(), list[Turn]()

        def answer(vcpu: Vcpu, exit: Exit) -> bool:
            return console.answers(vcpu, exit, printed.extend)

        scheduler = Scheduler([vm], answer, pcpus, QUANTUM, place, turns.append)
        scheduler.run(1_000 * QUANTUM)
        return Ran(scheduler, turns, printed.decode(), hashlib.sha256(vm.read(RAM, SIZE)).hexdigest())


def twice(turns: Sequence[Turn], of: Callable[[Turn], object]) -> int:
    """How often two turns of one virtual CPU, or of one physical one, were at once."""
    found: dict[object, list[Turn]] = {}
    for each in turns:
        found.setdefault(of(each), []).append(each)
    return sum(first.end > second.start for one in found.values()
               for first, second in pairwise(sorted(one, key=lambda each: each.start)))  # fmt: skip


def said(vcpus: int) -> str:
    """What @harts prints."""
    return "".join(f"hart {i}\n" for i in range(vcpus)) + f"harts: {vcpus}, counted to {2000 * vcpus}\n"


def chart(turns: Sequence[Turn]) -> str:
    """A line for each physical CPU: quantum by quantum the numbers of the virtual ones that it had."""
    cells: dict[int, dict[int, str]] = {}
    for turn in turns:
        row, quantum = cells.setdefault(turn.pcpu, {}), turn.start // QUANTUM
        row[quantum] = row.get(quantum, "") + str(turn.vcpu.id)
    last = max(max(row) for row in cells.values())
    width = max(len(cell) for row in cells.values() for cell in row.values())
    return "\n".join(
        f"pCPU {pcpu} |" + "|".join(row.get(quantum, "").ljust(width) for quantum in range(last + 1)) + "|"
        for pcpu, row in sorted(cells.items())
    )


def check(report: Report, ran: Ran) -> None:
    """It has come to its end, and nothing was at two places."""
    vcpus = len(ran.scheduler.entities)
    report.check(ran.scheduler.machines[0].end == SystemEvent(1) and ran.printed == said(vcpus),
                 f"all {vcpus} have counted, and have said their numbers in turn")  # fmt: skip
    report.check(twice(ran.turns, lambda each: each.vcpu) == 0, "no virtual CPU was on two physical ones at once")
    report.check(twice(ran.turns, lambda each: each.pcpu) == 0, "no physical CPU had two virtual ones at once")


def run(report: Report) -> None:
    """A04"""
    report.say(f"(a) 4 vCPUs multiplexed on 2 pCPUs, a quantum of {QUANTUM:,} instructions")
    multiplexed = run_harts(4, 2)
    switches = multiplexed.scheduler.switches
    report.figure("turns, context switches", f"{len(multiplexed.turns)}, {switches}")
    report.show(chart(multiplexed.turns))
    check(report, multiplexed)
    longest = max(each.end - each.start for each in multiplexed.turns)
    report.check(switches > 0 and longest <= QUANTUM, "pCPUs change hands, after a quantum at the latest")
    report.say("(b) bound")
    bound = run_harts(2, 2, bind)
    report.figure("2 vCPUs on 2 pCPUs: turns, context switches", f"{len(bound.turns)}, {bound.scheduler.switches}")
    report.show(chart(bound.turns))
    check(report, bound)
    homes = {each.vcpu.id: each.pcpu for each in bound.turns}
    report.check(bound.scheduler.switches == bound.migrations == 0 and homes == {0: 0, 1: 1},
                 "each has its own, and there is no switch")  # fmt: skip
    try:
        run_harts(4, 2, bind)
        refused = ""
    except errors.NotEnoughPcpus as error:
        refused = str(error)
    report.check(refused == "direct binding: 4 vCPU > 2 pCPU", f"4 on 2 cannot be bound: {refused}")


def migrations(report: Report) -> None:
    """B03"""
    usual = run_harts(6, 2)
    check(report, usual)
    report.figure("6 vCPUs on 2 pCPUs: migrations", usual.migrations)
    for seed in SEEDS:
        random = run_harts(6, 2, migrate(seed))
        report.figure(f"anywhere at random, seed {seed}: migrations", random.migrations)
        check(report, random)
        placed = [(each.vcpu.id, each.pcpu) for each in random.turns] != [(e.vcpu.id, e.pcpu) for e in usual.turns]
        report.check(placed and random.digest == usual.digest, "elsewhere, and memory is the same to the byte")
    entered = entered_twice()
    report.check("runs already" in entered, f"a virtual CPU that runs cannot be entered: {entered}")
    first, second = usual.scheduler.pcpus
    entity = usual.scheduler.entities[0]
    first.load(entity)
    try:
        second.load(entity)
        loaded = ""
    except errors.VcpuBusy as error:
        loaded = str(error)
    report.check("cannot be loaded" in loaded, f"nor loaded elsewhere: {loaded}")


def entered_twice() -> str:
    """What is said to a device that enters the virtual CPU whose access it answers."""
    vm = Kvm("bt", options=OPTIONS).create_vm()
    found: list[str] = []

    class Entering:
        name, size = "entering", 0x1000

        def read(self, offset: int, size: int) -> int:
            try:
                vcpu.run(1)
            except errors.VcpuBusy as busy:
                found.append(str(busy))
            return 0

        def write(self, offset: int, size: int, value: int) -> None:
            """Nothing is kept."""

    with vm:
        vm.set_user_memory_region(0, RAM, SIZE)
        vm.add_device(DEVICE, Entering())
        vm.write(RAM, code_bytes([asm(riscv(), "lw", rd=11, rs1=10, imm=0), asm(riscv(), "jal", rd=0, imm=0)]))
        vcpu = vm.create_vcpu()
        vcpu.set(pc=RAM, a0=DEVICE)
        vcpu.run(1)
    return found[0] if found else ""
