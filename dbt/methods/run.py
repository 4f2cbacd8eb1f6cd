"""One guest under one method: a monitor that answers little, and what was counted while it ran.

The monitor has a console, by calls, and a device at DEVICE whose register counts its reads: the call READ has so many
words of it put into memory at once. A guest may divide its run into phases, by calls of the extension MARK, whose
function is the letter of the phase that begins; the call itself is in no phase's counts.
Owns: this monitor, the counting. Must not know: how a method works, what is made of the counts.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from dataclasses import dataclass, field

from dbt.events import NEVER
from dbt.kvm import Intr, Kvm, KvmError, Mmio, RiscvSbi, SystemEvent, Vcpu, console
from dbt.options import Options
from guests.spec import Treat

RAM, SIZE = 0x8000_0000, 8 << 20
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

    def __sub__(self, other: Counts) -> Counts:
        return Counts(
            self.instructions - other.instructions, self.blocks - other.blocks,
            {name: count - other.classes.get(name, 0) for name, count in self.classes.items()},
            self.exits - other.exits, self.to_user - other.to_user,
            dict(Counter(self.reasons) - Counter(other.reasons)), self.invalidations - other.invalidations,
            self.rebuilds - other.rebuilds, self.seconds - other.seconds,
        )  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A guest under a method. `failure`: why it did not come to its end, or is empty. `digest`: of all of its memory at
    the end, SHA-256. `total` is of the whole run: also of what comes before the first phase.
    """

    method: str
    engine: str
    failure: str
    console: str
    phases: dict[str, Counts]
    total: Counts
    latency: int  # instructions by which an interrupt was late at most
    digest: str

    @property
    def speed(self) -> float:
        """Nanoseconds of the host's for an instruction, in all phases: without what is made or loaded before them."""
        instructions = sum(counts.instructions for counts in self.phases.values())
        return sum(counts.seconds for counts in self.phases.values()) * 1e9 / instructions if instructions else 0.0


def run(file: str, method: str, engine: str, options: Options, most: int | None = None) -> Row:
    """Run a guest, an ELF file, to its end, or for so many instructions. NotRunnable, FileNotFoundError."""
    vm = Kvm(method, engine=engine, options=options).create_vm()
    with vm:
        vm.set_user_memory_region(0, RAM, SIZE)
        vcpu = vm.create_vcpu()
        vcpu.set(pc=vm.load(file, RAM))
        vcpu.measure_latency()
        monitor = Monitor(vcpu)
        failure = monitor.run(NEVER if most is None else most)
        whole, latency = monitor.counts(), vcpu.latency
        digest = hashlib.sha256(vm.read(RAM, SIZE)).hexdigest()
    phases = monitor.phases or {WHOLE: whole}
    return Row(method, engine, failure, monitor.console.decode(errors="replace"), phases, whole, latency, digest)


class Monitor:
    """Of one virtual CPU: `console` is what its guest has printed, `phases` what was counted in each."""

    def __init__(self, vcpu: Vcpu) -> None:
        self.console = bytearray()
        self.phases: dict[str, Counts] = {}
        self._vcpu = vcpu
        self._reads = 0
        self._phase, self._before = "", Counts()
        self._marks = 0  # exits that are none of the guest's own
        self._start = time.perf_counter()

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
                case SystemEvent(kind=1):
                    self._end()
                    return ""
                case Intr():
                    return f"it has not ended within {most:,} instructions"
                case _:
                    return f"it ended with {exit}"

    def counts(self) -> Counts:
        """Of the run so far, without marks."""
        vcpu = self._vcpu
        did = vcpu.counted()
        reasons = Counter(vcpu.stats.reasons)
        reasons[vcpu.vm.virtual.NAMES[vcpu.vm.virtual.SUPERVISOR_CALL]] -= self._marks
        return Counts(
            vcpu.instructions, did.blocks, {treat.value: did.classes[treat] for treat in Treat},
            vcpu.stats.total - self._marks, vcpu.stats.to_user - self._marks, dict(+reasons), did.invalidations,
            did.rebuilds, time.perf_counter() - self._start,
        )  # fmt: skip

    def _mark(self, phase: str) -> None:
        self._marks += 1
        self._end()
        self._phase, self._before = phase, self.counts()

    def _end(self) -> None:
        if self._phase:
            self.phases[self._phase] = self.counts() - self._before

    def _next(self, size: int) -> int:
        """What the device's next read gives."""
        self._reads += 1
        return self._reads * STEP & (1 << 8 * size) - 1
