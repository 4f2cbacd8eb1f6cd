"""One guest under one method: a monitor that answers little, and what was counted while it ran.

NESTED is no method of `dbt.kvm` but HARDWARE at another level: the virtual machine's guest is the hypervisor @middle,
which has the guest as its own. What each did is told apart where their hart goes from one into the other.

The monitor has a console, by calls, and a device at DEVICE whose register counts its reads: the call READ has so many
words of it put into memory at once. A guest may divide its run into phases, by calls of the extension MARK, whose
function is the letter of the phase that begins; the call itself is in no phase's counts.
Owns: this monitor, the counting. Must not know: how a method works, what is made of the counts.
"""

from __future__ import annotations

import hashlib
import mmap
import operator
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import Any

from dbt.events import NEVER
from dbt.kvm import METHODS, Intr, Kvm, KvmError, Mmio, RiscvSbi, SystemEvent, Vcpu, console
from dbt.machine.exits import SYSTEM_EVENT_CRASH, SYSTEM_EVENT_SHUTDOWN
from dbt.options import Options
from guests.programs import virtual_file
from guests.spec import Treat

RAM, SIZE = 0x8000_0000, 8 << 20
HARDWARE, NESTED, HYPERVISOR = "hw", "nested", "@middle"
AWAY = SIZE  # from where a nested guest has its memory to where it is in its hypervisor's (middle.c)
BENEATH = {"interp": "interp", "dbt": "bt"}  # the method that has a hypervisor as its guest, by engine
DEVICE, STEP = 0x1000_0000, 0x0101_0101  # the n-th read gives n times as much
MARK, READ = 0x0800_0000, 0x0800_0001  # extensions of SBI that are ours to answer
MOST_WORDS = 1024
WHOLE = "all"  # the phase of a guest that marks none


@dataclass(frozen=True)
class Counts:
    """What a guest did, and what was done for it."""

    instructions: int = 0
    blocks: int = 0
    classes: dict[str, int] = field(default_factory=dict)  # instructions by class
    exits: int = 0
    to_user: int = 0
    reasons: dict[str, int] = field(default_factory=dict)  # exits by name
    invalidations: int = 0  # writes that made translated code stale
    rebuilds: int = 0  # times that shadow tables of a context were begun
    seconds: float = 0.0  # of the host's

    def __add__(self, other: Counts) -> Counts:
        return self._each(operator.add, other)

    def __sub__(self, other: Counts) -> Counts:
        return self._each(operator.sub, other)

    def _each(self, how: Callable[[Any, Any], Any], other: Counts) -> Counts:
        """Count by count, also of those that have names; of reasons those that there were."""

        def named(mine: dict[str, int], theirs: dict[str, int]) -> dict[str, int]:
            return {name: how(mine.get(name, 0), theirs.get(name, 0)) for name in {**mine, **theirs}}

        pairs = {each.name: (getattr(self, each.name), getattr(other, each.name)) for each in fields(self)}
        found = {name: (named if isinstance(pair[0], dict) else how)(*pair) for name, pair in pairs.items()}
        return Counts(**found | {"reasons": {name: count for name, count in found["reasons"].items() if count}})


@dataclass(frozen=True)
class Level:
    """What is counted together, by phase and in the whole run: all of a row, or of a nested guest what it did itself
    (level 2) and what its hypervisor did, which is a guest as well (level 1).
    """

    name: str
    phases: dict[str, Counts]
    total: Counts

    @property
    def speed(self) -> float:
        """Nanoseconds of the host's for an instruction, in all phases: without what is made or loaded before them."""
        instructions = sum(counts.instructions for counts in self.phases.values())
        return sum(counts.seconds for counts in self.phases.values()) * 1e9 / instructions if instructions else 0.0


@dataclass(frozen=True)
class Row:
    """A guest under a method. `failure`: why it did not come to its end, or is empty. `digest`: of all of its memory at
    the end, SHA-256. `total` is of the whole run: also of what comes before the first phase. Of NESTED, phases and
    total are the sums of two `levels`, of which other methods have none.
    """

    method: str
    engine: str
    failure: str
    console: str
    phases: dict[str, Counts]
    total: Counts
    latency: int  # instructions by which an interrupt was late at most
    digest: str
    levels: tuple[Level, ...] = ()

    @property
    def whole(self) -> Level:
        return Level(self.method, self.phases, self.total)

    @property
    def speed(self) -> float:
        """That of the whole."""
        return self.whole.speed


def engines(method: str) -> tuple[str, ...]:
    """The engines that a method has. KeyError for a method that there is not."""
    return METHODS[HARDWARE if method == NESTED else method].engines


def run(file: str, method: str, engine: str, options: Options, most: int | None = None) -> Row:
    """Run a guest, an ELF file, to its end, or for so many instructions. NotRunnable, FileNotFoundError."""
    nested = method == NESTED
    with (under_hypervisor if nested else alone)(file, method, engine, options) as (vcpu, gpa):
        vcpu.measure_latency()
        monitor = Monitor(vcpu, Inside(vcpu) if nested else None)
        failure = monitor.run(NEVER if most is None else most)
        levels, latency = monitor.levels(), vcpu.latency
        digest = hashlib.sha256(vcpu.vm.read(gpa, SIZE)).hexdigest()
    phases = {name: sum((level.phases[name] for level in levels), Counts()) for name in levels[0].phases}
    total = sum((level.total for level in levels), Counts())
    text = monitor.console.decode(errors="replace")
    return Row(method, engine, failure, text, phases, total, latency, digest, levels if nested else ())


@contextmanager
def alone(file: str, method: str, engine: str, options: Options) -> Iterator[tuple[Vcpu, int]]:
    """A virtual CPU at the begin of a guest, and the address of the guest's memory in its virtual machine."""
    with Kvm(method, engine=engine, options=options).create_vm() as vm:
        vm.set_user_memory_region(0, RAM, SIZE)
        vcpu = vm.create_vcpu()
        vcpu.set(pc=vm.load(file, RAM))
        yield vcpu, RAM


@contextmanager
def under_hypervisor(file: str, method: str, engine: str, options: Options) -> Iterator[tuple[Vcpu, int]]:
    """The same of its hypervisor, which has the guest in its memory already, and is told where it begins."""
    memory = mmap.mmap(-1, AWAY + SIZE)
    with Kvm().create_vm() as vm:
        vm.set_user_memory_region(0, RAM, SIZE, memoryview(memory)[AWAY:])
        entry = vm.load(file, RAM)
    with Kvm(BENEATH[engine], options=options, nests=True).create_vm() as vm:
        vm.set_user_memory_region(0, RAM, AWAY + SIZE, memory)
        vcpu = vm.create_vcpu()
        vcpu.set(pc=vm.load(virtual_file(HYPERVISOR, hypervisor=True), RAM), a0=entry)
        yield vcpu, RAM + AWAY


class Inside:
    """What a hypervisor's guest did, told apart from what its hypervisor did on the same hart."""

    def __init__(self, vcpu: Vcpu) -> None:
        self.last = ""  # what the guest was left for
        self._vcpu = vcpu
        self._began: Counts | None = None  # where the guest was entered, while it runs
        self._spent = Counts()
        self._reasons: Counter[str] = Counter()
        vcpu.hart.crossed = self._crossed

    def counts(self) -> Counts:
        """Of the run so far: all exits of the guest's are answered by its hypervisor."""
        spent = self._spent if self._began is None else self._spent + executed(self._vcpu) - self._began
        return replace(spent, exits=self._reasons.total(), reasons=dict(self._reasons))

    def _crossed(self, trap: str) -> None:
        now = executed(self._vcpu)
        if self._began is None:
            self._began = now
            return
        self._spent, self._began = self._spent + now - self._began, None
        self._reasons[trap] += 1
        self.last = trap


def executed(vcpu: Vcpu) -> Counts:
    """What a virtual CPU has executed, exits aside; seconds are those of a clock."""
    did = vcpu.counted()
    classes = {treat.value: did.classes[treat] for treat in Treat}
    return Counts(
        vcpu.instructions, did.blocks, classes, invalidations=did.invalidations, rebuilds=did.rebuilds,
        seconds=time.perf_counter(),
    )  # fmt: skip


class Monitor:
    """Of one virtual CPU: `console` is what its guest has printed. Of a hypervisor's guest, whose hypervisor is the
    virtual machine's, `inside` counts.
    """

    def __init__(self, vcpu: Vcpu, inside: Inside | None = None) -> None:
        self.console = bytearray()
        self._vcpu = vcpu
        self._inside = inside
        self._call = vcpu.vm.virtual.NAMES[vcpu.vm.virtual.SUPERVISOR_CALL]
        self._reads = 0
        self._phase = ""
        self._marks = 0  # exits that are none of the guest's own
        self._start = time.perf_counter()
        self._before = self._counts()
        self._phases: list[dict[str, Counts]] = [{} for _ in self._before]

    def run(self, most: int) -> str:
        """To the guest's end; why it is not the one that it should have, or nothing."""
        vcpu = self._vcpu
        while True:
            try:
                exit = vcpu.run(most - vcpu.instructions)
            except KvmError as error:
                return str(error)
            if console.answers(vcpu, exit, self.console.extend):
                continue
            match exit:
                case RiscvSbi(extension=extension, function=function) if extension == MARK:
                    self._mark(chr(function & 0x7F))
                    vcpu.reply(0, 0)
                case RiscvSbi(extension=extension, args=args) if extension == READ:
                    words = (self._next(4) for _ in range(min(args[1], MOST_WORDS)))
                    vcpu.vm.write(args[0], b"".join(word.to_bytes(4, "little") for word in words))
                    vcpu.reply(0, 0)
                case Mmio(is_write=False):
                    vcpu.reply(self._next(exit.size) if exit.address == DEVICE else 0)
                case Mmio() | RiscvSbi():
                    pass
                case SystemEvent(kind=kind) if kind == SYSTEM_EVENT_SHUTDOWN:
                    self._end()
                    return ""
                case SystemEvent(kind=kind) if kind == SYSTEM_EVENT_CRASH and self._unanswered:
                    return f"its hypervisor has no answer to the {self._unanswered} at {vcpu.get('sepc'):#x}"
                case Intr():
                    return f"it has not ended within {most:,} instructions"
                case _:
                    return f"it ended with {exit}"

    @property
    def _unanswered(self) -> str:
        """What a hypervisor has given up at, if its guest has not asked for that end itself."""
        return self._inside.last if self._inside is not None and self._inside.last != self._call else ""

    def levels(self) -> tuple[Level, ...]:
        """What was counted of the guest, and of its hypervisor if that is a guest itself."""
        names = [f"{NESTED}-2", f"{NESTED}-1"] if self._inside is not None else [""]
        return tuple(
            Level(name, phases or {WHOLE: total}, total)
            for name, phases, total in zip(names, self._phases, self._counts())
        )

    def _counts(self) -> list[Counts]:
        """Of each level, the guest's first, in the run so far: without marks."""
        stats = self._vcpu.stats
        whole = executed(self._vcpu)
        whole = replace(
            whole, exits=stats.total, to_user=stats.to_user, reasons=dict(stats.reasons),
            seconds=whole.seconds - self._start,
        )  # fmt: skip
        marks = Counts(exits=self._marks, to_user=self._marks, reasons={self._call: self._marks})
        if self._inside is None:
            return [whole - marks]
        spent = self._inside.counts()
        outside = whole - replace(spent, exits=0, reasons={})
        return [spent - replace(marks, to_user=0), outside - marks]

    def _mark(self, phase: str) -> None:
        self._marks += 1
        self._end()
        self._phase, self._before = phase, self._counts()

    def _end(self) -> None:
        if self._phase:
            for phases, now, before in zip(self._phases, self._counts(), self._before):
                phases[self._phase] = now - before

    def _next(self, size: int) -> int:
        """What the device's next read gives."""
        self._reads += 1
        return self._reads * STEP & (1 << 8 * size) - 1
