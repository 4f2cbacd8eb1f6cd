"""KVM and a virtual machine of it: memory regions, virtual CPUs, devices that are answered without an exit.

    Kvm(method).create_vm()  ->  Vm  .create_vcpu()  ->  Vcpu (`dbt.kvm.vcpu`)

The machine itself is that of boards (`dbt.machine.vm`), with memory that is given, and with a monitor in place of
firmware. Virtual CPUs run one at a time; threads that run several take turns.
Owns: which machine is behind a virtual machine, whose turn it is. Must not know: any device or architecture.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import guests
from dbt.events import NEVER
from dbt.kvm import abi
from dbt.kvm.errors import BadRegion, BadValue, Closed, NoMemory, NoSuchRegion, RegionOverlap, VcpuExists
from dbt.kvm.memory import PAGE, Region, Regions
from dbt.kvm.physical import TABLES, Flat, Shadowed, Staged
from dbt.kvm.vcpu import Vcpu
from dbt.machine.clock import Clock
from dbt.machine.exits import Debug, Exit, Hlt, Intr, Trapped
from dbt.machine.memory import Device, Memory
from dbt.machine.outside import Inputs, Outside
from dbt.machine.vm import Machine
from dbt.machine.vm import Vm as Behind
from dbt.options import Options
from guests.spec import Absent

if TYPE_CHECKING:
    from dbt.machine.vm import Vcpu as Hart

ARCHITECTURE = "riscv64"
NAP = 0.005  # seconds that a virtual CPU sleeps at most until it looks whether it is to be left


ENGINES = {"interp": "reference", "dbt": "translated"}  # of the machine behind, by the names that methods know


class Method(NamedTuple):
    """How a guest is run: the engines that can do it, the usual one first; how a hart has it (`guests.load_world`); and
    where it has user mode alone, whether its monitor emulates what it may not do there.
    """

    engines: tuple[str, ...]
    world: str
    emulates: bool = True

    @property
    def native(self) -> bool:
        """Whether a guest may run that knows nothing of a monitor."""
        return self.emulates and self.world != "paravirtual"


METHODS = {
    "interp": Method(("interp",), "direct"), "bt": Method(("dbt",), "direct"),
    "hw": Method(("dbt", "interp"), "hypervised"), "te": Method(("dbt", "interp"), "deprivileged"),
    "pv": Method(("dbt", "interp"), "paravirtual"), "none": Method(("dbt", "interp"), "deprivileged", False),
}  # fmt: skip


class Kvm:
    """What /dev/kvm is: it makes virtual machines. `method` is "bt", binary translation, "interp", interpretation, or
    "hw": the guest has VS and VU mode of a hart with the hypervisor extension, which itself is translated; or "te",
    trap and emulate: the guest has user mode alone; or "pv": the same, and it calls its monitor where it would trap; or
    "none", the same with nobody who emulates.

    engine    "dbt" or "interp": what runs the machine of a method that is neither of the two; None is the usual one
    isa       instruction-set string of the guest's harts; None is all that is implemented
    follows   the guest's clock is the host's, and waiting sleeps; else time is that of instructions, and waiting jumps
    eager     shadow tables, of "te", are made as a whole, and again at each fence; else page by page, as they are used
    nests     the guest may be a hypervisor: it begins in HS mode, and has guests of its own; with "bt" and "interp"
    """

    def __init__(
        self, method: str = "bt", isa: str | None = None, follows: bool = False, options: Options | None = None,
        engine: str | None = None, eager: bool = False, nests: bool = False,
    ) -> None:  # fmt: skip
        """BadValue for a method that there is not, an engine that it does not have, an extension that no guest can
        have, or a hypervisor where the method has none; UnknownIsa.
        """
        if method not in METHODS:
            raise BadValue(f"there is no method {method!r} (there are: {', '.join(METHODS)})")
        self.method = METHODS[method]
        engines = self.method.engines
        if engine is not None and engine not in engines:
            raise BadValue(f"the method {method!r} has no engine {engine!r} (it has: {', '.join(engines)})")
        self.engine = ENGINES[engine or engines[0]]
        self.follows = follows
        self.options = options
        self.eager = eager
        self.world = self.method.world
        if nests:
            if self.world != "direct":
                raise BadValue(f"a guest of the method {method!r} cannot be a hypervisor (one of bt and interp can)")
            self.world = "nesting"
        self.guest = guests.load_machine(ARCHITECTURE, isa, hypervisor=nests)
        self.features = self.guest.features  # the guest's own, though the hart may have more
        self.virtual: Any = guests.load_virtual(ARCHITECTURE)
        refused = sorted(self.features & self.virtual.REFUSED)
        if refused and not nests:
            raise BadValue(f"a guest cannot have the extension {refused[0]}: its kernel would be a hypervisor (nests)")
        if self.world == "hypervised":
            self.guest = guests.load_machine(ARCHITECTURE, isa, hypervisor=True)

    def check_extension(self, capability: int) -> int:
        """What KVM_CHECK_EXTENSION answers: 0 for what there is not."""
        return abi.CAPABILITIES.get(capability, 0)

    def create_vm(self) -> Vm:
        """A virtual machine without memory and CPUs."""
        return Vm(self)


class Vm:
    """A virtual machine. It wants `close` in the end, or to be used by `with`."""

    def __init__(self, kvm: Kvm) -> None:
        self.kvm = kvm
        self.guest = kvm.guest
        self.virtual = kvm.virtual
        self.world: Any = guests.load_world(ARCHITECTURE, kvm.features, kvm.world)
        self.vcpus: list[Vcpu] = []
        self.regions = Regions()
        self.devices: list[tuple[int, Device]] = []
        self.assigned: list[tuple[int, Device]] = []  # devices that are the guest's own
        self.firmware: list[Any] = []  # of each hart, by number
        self.closed = False
        self._inside = 0  # threads that run a virtual CPU
        self._stale = False  # it is another one that is wanted
        self.turns = Turns()
        self.physical: Flat | Staged | Shadowed
        self._behind = self._new("reference")  # until there is memory

    # --- memory and devices -------------------------------------------------------------------------------------

    def set_user_memory_region(
        self, slot: int, gpa: int, size: int, memory: object | None = None, flags: int = 0
    ) -> Region | None:
        """Put host memory at a guest physical address; move what the slot holds, change its flags, or empty it (size
        0). `memory` is a bytearray, an mmap, a memoryview; None is memory of our own. Returns what the slot holds now.

        What is written to the host's memory is the guest's at once, but for code that it has run and page tables:
        these are written by `write`, or told of by `written`. Raises BadRegion, RegionOverlap, BadMemory,
        NoHostMemory.
        """
        with self.turns:
            self.check()
            region = self.regions.set(slot, gpa, size, memory, flags, self._of_devices())
            self._stale = True
            return region

    def get_dirty_log(self, slot: int) -> bytes:
        """A bit for each page of the slot that was written since this was asked last. Raises NoSuchRegion."""
        with self.turns:
            self.check()
            self._now()
            return self.regions.dirty_log(slot, self.physical.watch)

    def read(self, gpa: int, size: int) -> bytes:
        """Guest memory. Raises NoSuchRegion where there is none."""
        with self.turns:
            return self._peek(gpa, size)

    def write(self, gpa: int, data: bytes | bytearray | memoryview) -> None:
        """Write guest memory, as a device does. Raises NoSuchRegion where there is none."""
        with self.turns:
            try:
                self.memory.poke(gpa, memoryview(data))
            except Absent:
                raise NoSuchRegion(f"the guest has no memory of {len(data):#x} bytes at {gpa:#x}") from None

    def load(self, path: str, gpa: int = 0) -> int:
        """Put a file into guest memory: an ELF file where it is linked for, anything else at `gpa`. Returns its entry.

        FileNotFoundError; NotRunnable for what cannot be read or has no memory there.
        """
        from dbt.machine import images

        with self.turns:
            self.check()
            return images.place(self.memory, self.guest, path, gpa).entry

    def written(self, gpa: int, size: int) -> None:
        """Say that guest memory was written by other ways: code and tables there are looked at again."""
        self.write(gpa, self.read(gpa, size))

    def add_device(self, gpa: int, device: Device) -> None:
        """A device whose accesses are answered without an exit to the user. RegionOverlap where something is."""
        self._add(gpa, device, self.devices)

    def assign_device(self, gpa: int, device: Device) -> None:
        """Pass a device through: its pages are mapped into the guest, whose accesses reach it without an exit. Of the
        guest's memory it knows what it is told: it is the caller's to translate the addresses that the guest gives it
        (`read`, `write`). BadRegion for what is not whole pages, RegionOverlap where something is.
        """
        if (gpa | device.size) & PAGE - 1:
            raise BadRegion(f"{device.name} at {gpa:#x} is not whole pages of {PAGE}: it cannot be passed through")
        self._add(gpa, device, self.assigned)

    def _add(self, gpa: int, device: Device, to: list[tuple[int, Device]]) -> None:
        with self.turns:
            self.check()
            end = gpa + device.size
            others = [(each.gpa, each.end, f"slot {each.slot}") for each in self.regions]
            for low, high, name in others + self._of_devices():
                if gpa < high and low < end:
                    raise RegionOverlap(f"{device.name} at {gpa:#x} lies over {name} at {low:#x}")
            to.append((gpa, device))
            self._stale = True

    def _of_devices(self) -> list[tuple[int, int, str]]:
        """Where devices are: begin, end, name."""
        return [(base, base + each.size, each.name) for base, each in (*self.devices, *self.assigned)]

    @property
    def memory(self) -> Memory:
        """Guest physical memory, with devices in it. Raises Closed."""
        self.check()
        self._now()
        return self.physical.view

    def _peek(self, gpa: int, size: int) -> bytes:
        if size < 0:
            raise BadValue(f"{size} bytes of memory cannot be read")
        try:
            return self.memory.peek(gpa, size)
        except Absent:
            raise NoSuchRegion(f"the guest has no memory of {size:#x} bytes at {gpa:#x}") from None

    # --- virtual CPUs ---------------------------------------------------------------------------------------------

    def create_vcpu(self, number: int | None = None) -> Vcpu:
        """One more virtual CPU; they are numbered from 0 on. Raises VcpuExists, BadValue."""
        with self.turns:
            self.check()
            expected = len(self.vcpus)
            number = expected if number is None else number
            if 0 <= number < expected:
                raise VcpuExists(f"virtual CPU {number} is there already")
            if number != expected or number >= abi.MAX_VCPUS:
                raise BadValue(f"the next virtual CPU is {expected}, not {number}; there are {abi.MAX_VCPUS} at most")
            vcpu = Vcpu(self, number)
            self.vcpus.append(vcpu)
            self._stale = True
            self._now()
            vcpu.begin()
            return vcpu

    def look(self) -> None:
        """Between two turns (`Vcpu.turn`): have happen what is due, and wake who waits for it. Raises Closed."""
        with self.turns:
            self.check()
            self._now().look()

    @property
    def wait(self) -> int:
        """The guest's time, in instructions, until something is due that all virtual CPUs wait for, NEVER where nothing
        ever is; 0 where one does not wait.
        """
        with self.turns:
            behind = self._now()
            behind.taking = behind.vcpus
            until = behind.waits_until
            return until if until in (0, NEVER) else max(1, until - behind.clock.count)

    def pass_time(self, instructions: int) -> None:
        """The guest's clock goes on by so much, in which no virtual CPU of it runs."""
        with self.turns:
            clock = self._now().clock
            clock.wait_until(clock.count + instructions)

    def switch(self, vcpu: Vcpu, end: int, step: bool, waiting: bool, yields: bool) -> Exit:
        """Let a virtual CPU run to this count of instructions, or by one; for `Vcpu`. `waiting`: see `world.enter`;
        `yields`: where it waits it is left at once (Hlt).
        """
        self._inside += 1
        try:
            while True:
                with self.turns:
                    self.check()
                    if not self.regions:
                        raise NoMemory("the virtual machine has no memory: it wants a region before it runs")
                    exit = self._go(vcpu, end, step, waiting, yields)
                if isinstance(exit, Hlt) and self._inside > 1 and not yields:
                    time.sleep(NAP)  # who may wake it runs in another thread
                elif exit is not _TURN:
                    return exit
                vcpu.stats.note("turn of another thread")
        finally:
            self._inside -= 1

    def _go(self, vcpu: Vcpu, end: int, step: bool, waiting: bool, yields: bool) -> Exit:
        """_TURN where another thread waits for the machine."""
        behind = self._now()
        hart = behind.vcpus[vcpu.id]
        if behind.ending in (_TURN, _ASKED):  # of a run that ended otherwise
            behind.take_ending()
        if behind.turn is not hart:
            behind.give_turn(hart)
        behind.taking, behind.yields = [hart], yields
        interruptions = vcpu.interruptions
        behind.outside = interruptions
        if vcpu.immediate_exit:
            return _ASKED
        self.world.enter(hart, waiting)
        exit: Exit | None = None
        try:
            if step:
                exit = behind.step() or Debug(hart.state.pc)
            else:
                interruptions.enter()
                exit = behind.run(most=min(NEVER, behind.clock.retired + max(0, end - hart.retired)))
        finally:  # also where a signal handler of the host's raises between two slices
            self.world.leave(hart, exit if isinstance(exit, Trapped) else None)
        return exit

    # --- the machine behind -----------------------------------------------------------------------------------------

    def _new(self, engine: str) -> Behind:
        behind = Machine(self.guest, engine, self.kvm.options).create_vm()
        if self.kvm.world == "hypervised":
            stage = guests.load_second_stage(ARCHITECTURE, TABLES)
            self.world.hgatp = stage.hgatp
            self.physical = Staged(behind, self.regions, self.devices, self.assigned, stage)
        elif self.kvm.world in ("deprivileged", "paravirtual"):
            shadows, told = guests.load_shadow(ARCHITECTURE), self.kvm.world == "paravirtual"
            eager = self.kvm.eager or told
            self.physical = Shadowed(behind, self.regions, self.devices, self.assigned, shadows, eager)
            self.world.tables, self.world.memory = self.physical.satp, self.physical
        else:
            self.physical = Flat(behind, self.regions, [*self.devices, *self.assigned])
        return behind

    def _now(self) -> Behind:
        """The machine with the memory that it is to have: another one where that has changed, which goes on as the last
        one stood.
        """
        if self._stale:
            old, self._stale = self._behind, False
            new = self._new(self.kvm.engine if self.regions else "reference")
            for _ in self.vcpus:
                new.create_vcpu()
            if old.vcpus:
                new.take_over(old)
            self._behind = new
            self.firmware.clear()
            for vcpu, hart in zip(self.vcpus, new.vcpus):
                self._attach(vcpu, hart)
            self.physical.begin()
            old.close()
            self.regions.give_back()
        return self._behind

    def _attach(self, vcpu: Vcpu, hart: Hart) -> None:
        """Have a virtual CPU be on this hart."""

        def look(ran: bool) -> None:
            if hart.vm.ending is None and (vcpu.immediate_exit or (ran and self.turns.wanted)):
                hart.vm.end(_ASKED if vcpu.immediate_exit else _TURN)

        vcpu.attach(hart, Interruptions(hart.vm.clock, self.kvm.follows, look))

    def check(self) -> None:
        """Raises Closed."""
        if self.closed:
            raise Closed("the virtual machine is closed")

    def close(self) -> None:
        """Keep what was translated for later runs; nothing runs afterwards. The host's memory is given back."""
        with self.turns:
            if not self.closed:
                self._behind.close()
                self.closed = True
                self.regions.clear()
                self.regions.give_back()

    def __enter__(self) -> Vm:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


_TURN, _ASKED = Intr(), Intr()  # the run is left for another thread; because it was asked for


class Interruptions(Outside):
    """The host as a virtual CPU sees it: between slices somebody looks whether the run is to be left. `look` is told
    whether it has had a slice.
    """

    def __init__(self, clock: Clock, follows: bool, look: Callable[[bool], None]) -> None:
        super().__init__(clock, Inputs(), follows)
        self._look = look
        self._ran = False

    def enter(self) -> None:
        """A run begins: what has passed since the last one is no slice."""
        self._pace.start(time.monotonic_ns(), self._clock.retired)
        self._ran = False

    def sample(self) -> None:
        super().sample()
        self._look(self._ran)
        self._ran = True

    def wait(self, count: int) -> None:
        """A nap at most, where waiting takes time of the host's."""
        nap = self._clock.count + int(NAP * 1e9)
        super().wait(min(count, nap) if self.follows else count)


class Turns:
    """The lock of a virtual machine, for `with`. Threads have it in the order in which they come; it may be nested."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[int] = deque()  # threads
        self._holder = 0  # the thread that has it
        self._depth = 0

    @property
    def wanted(self) -> bool:
        """Whether another thread waits."""
        return bool(self._waiting)

    def __enter__(self) -> None:
        me = threading.get_ident()
        if self._holder != me:
            with self._changed:
                self._waiting.append(me)
                try:
                    self._changed.wait_for(lambda: self._holder == 0 and self._waiting[0] == me)
                    self._holder = me
                finally:
                    self._waiting.remove(me)
        self._depth += 1

    def __exit__(self, *exception: object) -> None:
        self._depth -= 1
        if not self._depth:
            with self._changed:
                self._holder = 0
                self._changed.notify_all()
