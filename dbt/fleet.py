"""Several virtual machines at once, on physical CPUs that are modelled (`dbt.kvm.schedule`), each with a console.

    run({"dns": path, "web": path}, pcpus=2) -> Fleet    .text() .as_dict() .status

A guest begins as a supervisor, prints by calls of SBI, and turns its machine off. What becomes of one is no affair of
the others. If it is wanted, each has a UART where the board has it, whose interrupt is the external one of its first
virtual CPU: there is no PLIC in between.
Owns: how a machine of a fleet ends, and the report. Must not know: how turns are given, the command line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from dbt.events import NEVER
from dbt.kvm import Kvm, KvmError, Mmio, RiscvSbi, Shutdown, SystemEvent, Vcpu, Vm, console, errors
from dbt.kvm.schedule import QUANTUM, Machine, Placement, Scheduler, Turn, stay
from dbt.machine.exits import SYSTEM_EVENT_RESET, Exit
from dbt.native import ARENAS
from dbt.options import Options
from dbt.table import table

RAM = 0x8000_0000
MOST_TRANSLATED = ARENAS // 2 - 8  # virtual CPUs, each with a translator, whose code is in two arenas
LIMIT, DEADLOCK, LOST = 124, 125, 126  # statuses, as those of `dragoman boot`
HEAD = ("machine", "status", "vCPUs", "instructions", "exits", "to user", "migrations", "late")
PCPU_HEAD = ("pCPU", "switches", "time", "busy")
Write = Callable[[str, bytes], object]  # what a machine prints: its name, bytes


@dataclass(frozen=True)
class Vcpus:
    """What was counted of one virtual CPU. `late`: time by which it came to a physical CPU too late, at most, when it
    had been woken.
    """

    instructions: int
    exits: int
    to_user: int
    migrations: int
    late: int


@dataclass(frozen=True)
class Ran:
    """A machine: `status` is its guest's own, or says with `why` that it did not end by itself."""

    name: str
    status: int
    why: str
    console: str
    vcpus: tuple[Vcpus, ...]


@dataclass(frozen=True)
class Processor:
    """A physical CPU: switches from one virtual CPU to another, time in which it was used."""

    switches: int
    busy: int


@dataclass(frozen=True)
class Fleet:
    """How machines ran. `time` is that of the physical CPUs, in instructions of each; `blocks` are virtual CPUs'
    blocks, of which `most_current` were loaded at once at most.
    """

    machines: tuple[Ran, ...]
    pcpus: tuple[Processor, ...]
    quantum: int
    time: int
    switches: int
    blocks: int
    most_current: int

    @property
    def status(self) -> int:
        """0 where all have it, or that of the first one that has not."""
        return next((machine.status for machine in self.machines if machine.status), 0)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self) | {"status": self.status}

    def text(self) -> str:
        """A table of the machines, one of the physical CPUs, and what was counted of all."""
        lines = [[ran.name, str(ran.status), str(len(ran.vcpus)), *self._sums(ran)] for ran in self.machines]
        pcpus = [[str(number), f"{pcpu.switches:,}", f"{self.time:,}", f"{pcpu.busy / max(self.time, 1):.0%}"]
                 for number, pcpu in enumerate(self.pcpus)]  # fmt: skip
        parts = [table(HEAD, lines, 1)]
        parts += ["\n".join(found)] if (found := [f"{ran.name}: {ran.why}" for ran in self.machines if ran.why]) else []
        parts.append(table(PCPU_HEAD, pcpus, 1))
        parts.append(f"context switches: {self.switches:,}; blocks of vCPUs: {self.blocks}, loaded at once at most: "
                     f"{self.most_current}; quantum: {self.quantum:,} instructions")  # fmt: skip
        return "\n\n".join(parts)

    @staticmethod
    def _sums(ran: Ran) -> list[str]:
        sums = [sum(getattr(vcpu, name) for vcpu in ran.vcpus)
                for name in ("instructions", "exits", "to_user", "migrations")]  # fmt: skip
        return [f"{count:,}" for count in (*sums, max(vcpu.late for vcpu in ran.vcpus))]


def run(
    files: Mapping[str, str], vcpus: int = 1, pcpus: int = 1, quantum: int = QUANTUM, place: Placement = stay,
    method: str = "bt", memory: int = 16 << 20, most: int = NEVER, options: Options | None = None,
    uart: bytes | None = None, write: Write = lambda name, data: None,
    seen: Callable[[str, Turn], object] = lambda name, turn: None,
) -> Fleet:  # fmt: skip
    """Run a machine of each file, by name, with so many virtual CPUs, to the end of all, or for so many instructions.
    `seen` is told of each turn, with the machine's name. With `uart` each has a UART, at which this has arrived.

    BadValue for more virtual CPUs than can be translated in a process; that and NotEnoughPcpus of `dbt.kvm.schedule`;
    NotRunnable, FileNotFoundError.
    """
    kvm = Kvm(method, options=options)
    if kvm.engine == "translated" and len(files) * vcpus > MOST_TRANSLATED:
        raise errors.BadValue(f"{len(files) * vcpus} vCPUs cannot be translated in one process: {MOST_TRANSLATED} at "
                              f"most, and any number with the method interp")  # fmt: skip
    with ExitStack() as stack:
        printed = {name: bytearray() for name in files}

        def put(name: str, data: bytes) -> None:
            printed[name] += data
            write(name, data)

        vms = [stack.enter_context(_made(kvm, file, vcpus, memory)) for file in files.values()]
        names = dict(zip(vms, files))
        for vm, name in names.items():
            if uart is not None:
                _add_uart(vm, uart, partial(put, name))

        def answer(vcpu: Vcpu, exit: Exit) -> bool:
            written = console.answers(vcpu, exit, partial(put, names[vcpu.vm]))
            return written or isinstance(exit, RiscvSbi)  # any other call is not supported

        def told(turn: Turn) -> None:
            seen(names[turn.vcpu.vm], turn)

        scheduler = Scheduler(vms, answer, pcpus, quantum, place, told)
        scheduler.run(most)
        ends = {names[machine.vm]: machine for machine in scheduler.machines}
        machines = tuple(_ran(name, machine, printed[name]) for name, machine in ends.items())
        return Fleet(
            machines, tuple(Processor(pcpu.switches, pcpu.busy) for pcpu in scheduler.pcpus), quantum, scheduler.now,
            scheduler.switches, len({id(entity.vcpu.hart.state) for entity in scheduler.entities}),
            scheduler.most_current,
        )  # fmt: skip


def _made(kvm: Kvm, file: str, vcpus: int, memory: int) -> Vm:
    """A machine that is about to begin."""
    vm = kvm.create_vm()
    try:
        vm.set_user_memory_region(0, RAM, memory)
        first, *_ = [vm.create_vcpu() for _ in range(vcpus)]
        first.set(pc=vm.load(file, RAM))
    except BaseException:
        vm.close()
        raise
    return vm


def _add_uart(vm: Vm, arrived: bytes, put: Callable[[bytes], None]) -> None:
    """A UART of a machine's, at which these bytes have arrived."""
    from dbt.machine.boards import VIRT
    from dbt.machine.devices.console import Console
    from dbt.machine.devices.uart import Uart

    line = Console(put)
    vm.add_device(VIRT["serial"].base, Uart(line, vm.vcpus[0].interrupt))
    line.feed(arrived)


def _ran(name: str, machine: Machine, printed: bytearray) -> Ran:
    vcpus = tuple(
        Vcpus(entity.vcpu.instructions, entity.vcpu.stats.total, entity.vcpu.stats.to_user, entity.migrations,
              entity.latency)
        for entity in machine.entities
    )  # fmt: skip
    return Ran(name, *_ending(machine), printed.decode(errors="replace"), vcpus)


def _ending(machine: Machine) -> tuple[int, str]:
    """The status with which a machine ended, and a sentence if that is not its guest's own."""
    match machine.end:
        case SystemEvent(kind, code):
            return code & 0xFF, "it asked for a reset, and ended" if kind == SYSTEM_EVENT_RESET else ""
        case Shutdown(pc, cause):
            name = machine.vm.guest.trap_names.get(cause, f"cause {cause}")
            return LOST, f"a vCPU is lost: its handler at {pc:#x} traps ({name}), for ever"
        case Mmio(address=address, is_write=is_write):
            return LOST, f"it {'stores to' if is_write else 'loads from'} {address:#x}, where it has nothing"
        case errors.Deadlock() as deadlock:
            return DEADLOCK, str(deadlock)
        case KvmError() as error:
            return LOST, str(error)
        case None:
            return LIMIT, "it had not ended when the limit was reached"
    return LOST, f"it ended with {machine.end}"
