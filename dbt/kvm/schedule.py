"""Virtual CPUs of one or several virtual machines on physical ones, which are modelled.

    Scheduler(vms, answer, pcpus=2).run()    each virtual CPU that can go on comes to its quantum, round robin

A quantum is a number of instructions, and modelled time is counted in them: in a quantum each physical CPU (`Pcpu`)
executes so many, beside the others. All is done by one host thread, in an order that does not depend on which physical
CPU has which virtual one (`Placement`), so no guest can see that.

    who waits  (wfi) leaves its physical CPU at once, and another one has the rest of the quantum. When a quantum begins
               those come first whose interrupt has come: they have waited for it one quantum at most
    time       is a guest's own: what its CPUs execute, and what all of them wait for its timer. What others have of the
               physical CPUs is no time for it, so a guest of one CPU runs as it would alone, to the bit

Nothing outside is waited for: interrupts of other threads come too late where all wait. Times are instructions.
Owns: whose turn it is, where, what was counted of it. Must not know: exits, any architecture, what guests are for.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Sequence
from itertools import chain
from random import Random
from typing import NamedTuple

from dbt.events import NEVER
from dbt.kvm.errors import BadValue, Deadlock, KvmError, NotEnoughPcpus, VcpuBusy
from dbt.kvm.vcpu import Vcpu
from dbt.kvm.vm import Vm
from dbt.machine.exits import Exit

QUANTUM = 100_000  # instructions, as a turn of a board's harts
Answer = Callable[[Vcpu, Exit], bool]  # of an exit to the user; whether the guest goes on


class Turn(NamedTuple):
    """A physical CPU had this virtual one from `start` to `end`, in modelled time."""

    pcpu: int
    vcpu: Vcpu
    start: int
    end: int


class Entity:
    """What is scheduled: a virtual CPU."""

    def __init__(self, vcpu: Vcpu, machine: Machine, number: int) -> None:
        self.vcpu = vcpu
        self.machine = machine
        self.number = number  # among all, from 0 on
        self.left = 0  # of its quantum, in instructions
        self.owes = 0  # instructions that it has executed beyond its time, up to the end of a block
        self.waits = False
        self.current: Pcpu | None = None  # where its block was loaded last
        self.runs = False  # on that one, now
        self.due: int | None = None  # when that came which has woken it, and it has not run since
        self.migrations = 0
        self.latency = 0  # time that it came to a physical CPU too late, at most, after it was woken


class Pcpu:
    """A physical CPU. `current` is whose block is loaded, also while nobody runs: it is there until another one comes,
    or until its own goes elsewhere.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.current: Entity | None = None
        self.switches = 0  # times that a virtual CPU came which was not the last one here
        self.busy = 0  # time in which somebody ran
        self._last: Entity | None = None

    def load(self, entity: Entity) -> None:
        """Have it run here. Raises VcpuBusy if it runs."""
        if entity.runs:
            where = "nowhere" if entity.current is None else f"on pCPU {entity.current.number}"
            raise VcpuBusy(f"vCPU {entity.number} runs {where}, and cannot be loaded on pCPU {self.number}")
        if entity.current is not None and entity.current is not self:
            entity.migrations += 1
            if entity.current.current is entity:
                entity.current.current = None
        self.switches += self._last not in (None, entity)
        self.current = self._last = entity
        entity.current, entity.runs = self, True

    def put(self, entity: Entity) -> None:
        """It runs no longer."""
        entity.runs = False


class Machine:
    """A virtual machine and its entities. `wakes` is when its guest's timer will be due, if all of them wait; `end` how
    it ended: the exit with which it did, or the error.
    """

    def __init__(self, vm: Vm) -> None:
        self.vm = vm
        self.entities: list[Entity] = []
        self.ran = 0  # modelled time at which one of them ran last
        self.wakes: int | None = None
        self.wait = 0  # of its guest's time, until then
        self.end: Exit | KvmError | None = None

    def rises(self, now: int, since: int) -> list[Entity]:
        """Those that have been woken by now. `since`: when that may have come, at the earliest."""
        waiting = [entity for entity in self.entities if entity.waits]
        while waiting and self.end is None:
            if self.wakes is not None:
                if self.wakes > now:
                    break
                self.vm.pass_time(self.wait)
                since, self.wakes = self.wakes, None
            self.vm.look()
            woken = [entity for entity in waiting if not entity.vcpu.waits]
            for entity in woken:
                entity.waits, entity.due = False, since
            if woken or len(waiting) < len(self.entities):
                return woken
            self.wait = self.vm.wait
            if self.wait == NEVER:
                self.end = Deadlock("deadlock: all vCPUs waiting")
            else:
                self.wakes = max(self.ran, since) + self.wait
        return []


Placement = Callable[[Sequence[Entity], Sequence[Pcpu]], list[Pcpu]]  # where these go, which are no more than there are


def stay(entities: Sequence[Entity], pcpus: Sequence[Pcpu]) -> list[Pcpu]:
    """Each where its block is loaded; the others on what is free, in its order."""
    mine = {entity: entity.current for entity in entities if entity.current and entity.current.current is entity}
    free = iter([pcpu for pcpu in pcpus if pcpu not in mine.values()])
    return [mine.get(entity) or next(free) for entity in entities]


def bind(entities: Sequence[Entity], pcpus: Sequence[Pcpu]) -> list[Pcpu]:
    """Each on its own."""
    return [pcpus[entity.number] for entity in entities]


def migrate(seed: int) -> Placement:
    """Each anywhere, at random."""
    rng = Random(seed)
    return lambda entities, pcpus: rng.sample(pcpus, len(entities))


class Scheduler:
    """`answer` is asked about exits to the user. `seen` is told of each turn when it is over.

    BadValue for no physical CPUs or no quantum; NotEnoughPcpus for `bind` with more virtual CPUs.
    """

    def __init__(
        self, vms: Sequence[Vm], answer: Answer, pcpus: int = 1, quantum: int = QUANTUM, place: Placement = stay,
        seen: Callable[[Turn], object] = lambda turn: None,
    ) -> None:  # fmt: skip
        if pcpus < 1 or quantum < 1:
            raise BadValue("there is at least one physical CPU, and a quantum of one instruction")
        if len(set(vms)) < len(vms):
            raise VcpuBusy("a virtual machine is scheduled twice, and its vCPUs would run twice at once")
        self.machines = [Machine(vm) for vm in vms]
        numbers = iter(range(sum(len(vm.vcpus) for vm in vms)))
        for machine in self.machines:
            machine.entities = [Entity(vcpu, machine, next(numbers)) for vcpu in machine.vm.vcpus]
        self.entities = list(chain.from_iterable(machine.entities for machine in self.machines))
        if place is bind and len(self.entities) > pcpus:
            raise NotEnoughPcpus(f"direct binding: {len(self.entities)} vCPU > {pcpus} pCPU")
        self.pcpus = [Pcpu(number) for number in range(pcpus)]
        self.quantum = quantum
        self.now = 0  # modelled time
        self.most_current = 0  # blocks that were loaded at once
        self._answer = answer
        self._place = place
        self._seen = seen
        self._began = 0  # when the last quantum did
        self._ready: deque[Entity] = deque()  # in the order of their turns
        self._had: list[Entity] = []  # of the present quantum: those that have had their turn
        for entity in self.entities:
            entity.waits = entity.vcpu.waits
            if not entity.waits:
                self._ready.append(entity)

    @property
    def switches(self) -> int:
        """Context switches of all physical CPUs."""
        return sum(pcpu.switches for pcpu in self.pcpus)

    @property
    def instructions(self) -> int:
        """What all have executed."""
        return sum(entity.vcpu.instructions for entity in self.entities)

    def run(self, most: int = NEVER) -> None:
        """Until all machines have ended, or to the end of the quantum in which so many instructions have been executed:
        machines without an end go on in the next run.
        """
        while self.instructions < most:
            self._wake()
            if self._ready:
                self._one_quantum()
                continue
            left = [machine.wakes for machine in self.machines if machine.end is None and machine.wakes is not None]
            if not left:
                return
            self.now = max(self.now, min(left))

    def _wake(self) -> None:
        """Those whose interrupt has come are the next, the one that waits longest first."""
        woken: list[Entity] = []
        for machine in self.machines:
            try:
                woken += machine.rises(self.now, self._began)
            except KvmError as error:  # it was closed
                machine.end = error
        woken.sort(key=lambda entity: entity.due or 0)
        self._ready.extendleft(reversed(woken))

    def _one_quantum(self) -> None:
        self._began = self.now
        first = [self._ready.popleft() for _ in range(min(len(self._ready), len(self.pcpus)))]
        lanes = [(self._turn(entity, pcpu, 0), order, pcpu)
                 for order, (entity, pcpu) in enumerate(zip(first, self._place(first, self.pcpus)))]  # fmt: skip
        heapq.heapify(lanes)
        while self._ready and lanes[0][0] < self.quantum:  # somebody has left, and another one has what is left of it
            used, order, pcpu = lanes[0]
            heapq.heapreplace(lanes, (self._turn(self._ready.popleft(), pcpu, used), order, pcpu))
        self.now += self.quantum
        self._ready.extend(self._had)
        self._had.clear()

    def _turn(self, entity: Entity, pcpu: Pcpu, used: int) -> int:
        """Let it run there, of whose quantum so much is used; returns how much then."""
        machine, vcpu = entity.machine, entity.vcpu
        if machine.end is not None:
            return used
        start = self._began + used
        if entity.due is not None:
            entity.latency, entity.due = max(entity.latency, start - entity.due), None
        if entity.left <= 0:
            entity.left = self.quantum
        pcpu.load(entity)
        self.most_current = max(self.most_current, sum(each.current is not None for each in self.pcpus))
        before = vcpu.instructions
        most = min(entity.left, self.quantum - used)
        self._execute(entity, most - entity.owes)
        pcpu.put(entity)
        took = entity.owes + vcpu.instructions - before
        entity.owes = max(0, took - most)
        after = used + min(took, most)
        entity.left -= after - used
        pcpu.busy += after - used
        machine.ran = self._began + after
        self._seen(Turn(pcpu.number, vcpu, start, machine.ran))
        entity.waits = vcpu.waits
        if machine.end is None and not entity.waits:
            entity.left = 0
            self._had.append(entity)
        return after

    def _execute(self, entity: Entity, most: int) -> None:
        """For so many instructions, or until it waits, or its machine ends."""
        vcpu, end = entity.vcpu, entity.vcpu.instructions + most
        while vcpu.instructions < end:
            try:
                exit = vcpu.turn(end - vcpu.instructions)
                if exit is None:
                    return
                if not self._answer(vcpu, exit):
                    entity.machine.end = exit
                    return
            except KvmError as error:
                entity.machine.end = error
                return
