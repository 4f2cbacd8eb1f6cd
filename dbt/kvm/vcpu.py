"""A virtual CPU: `enter` lets its guest run until a trap ends the run, `run` answers what KVM answers by itself.

    enter()   the world switch: returns the trap as a hypervisor finds it, or what ended the run besides
    run()     enters again and again; of each trap the first switch decides (`_first`): it is answered here, which is a
              light exit, or becomes an Exit for the caller's own switch, a heavy one
    turn()    the same for a scheduler (`dbt.kvm.schedule`), which has the guest's time and its waiting

Owns: this loop, what an exit waits for, its counts. Must not know: devices, how a hart runs, any architecture (what
traps and calls are is `guests.load_virtual`'s).
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from dbt.events import NEVER
from dbt.kvm import abi
from dbt.kvm.deprivileged import Alone, Called, Emulating
from dbt.kvm.emulate import Emulator
from dbt.kvm.errors import BadValue, NoSuchRegion, NoSuchRegister, NotEmulated, VcpuBusy
from dbt.kvm.physical import Shadowed
from dbt.machine.exits import (
    SYSTEM_EVENT_CRASH,
    SYSTEM_EVENT_RESET,
    SYSTEM_EVENT_SHUTDOWN,
    Debug,
    Exit,
    Hlt,
    Intr,
    Mmio,
    RiscvSbi,
    Shutdown,
    SystemEvent,
    Trapped,
)
from dbt.reference import Reference
from guests.spec import Absent, Trap, Treat

if TYPE_CHECKING:
    from dbt.kvm.vm import Interruptions, Vm
    from dbt.machine.vm import Vcpu as Hart


class Stats:
    """Exits since the virtual CPU was made: `total` of them, `to_user`, and how many there were of each name."""

    def __init__(self) -> None:
        self.total = 0
        self.to_user = 0
        self.reasons: Counter[str] = Counter()
        self.told: Callable[[str], object] = lambda name: None  # of each, when it is noted

    @property
    def light(self) -> int:
        """Those that were answered here."""
        return self.total - self.to_user

    def note(self, name: str) -> None:
        """An exit of the guest."""
        self.told(name)
        self.total += 1
        self.reasons[name] += 1


class Counted(NamedTuple):
    """What the machine behind a virtual CPU has counted. Memory that changes makes it count anew, but for blocks."""

    blocks: int
    classes: dict[Treat, int]  # instructions by class
    invalidations: int  # writes to what code was made from
    rebuilds: int  # times that shadow tables of a context were begun


class Vcpu:
    """One of a virtual machine. It begins in supervisor mode at address 0; all but the first begin stopped."""

    interruptions: Interruptions
    _emulating: Emulating | None  # what answers traps that a hart of the guest's own would not have

    def __init__(self, vm: Vm, number: int) -> None:
        self.vm = vm
        self.id = number
        self.shared = abi.Run()  # what KVM's user maps
        self.stats = Stats()
        self.exit: Exit | None = None  # that is to be replied to
        self._virtual = vm.virtual
        self._world = vm.world
        self._reply: tuple[int, ...] = ()
        self._debug = 0
        self._access: Mmio | None = None  # that the last trap was of
        self._running = threading.Lock()
        self.latency = 0  # instructions by which an interrupt of the guest's timer was late at most, if it was measured
        self._measured = False

    def begin(self) -> None:
        """As it is made."""
        self._firmware.begin(0)
        if self.id:
            self._firmware.stop()
        self._leave_for(False)

    def attach(self, hart: Hart, interruptions: Interruptions) -> None:
        """Be on this hart, of the machine as it is now."""
        self._hart, self.interruptions = hart, interruptions
        self._firmware = self._world.firmware(hart.state.slots, _Platform(self.vm, hart), self.vm.firmware)
        self._emulator = Emulator(hart, self._world, self.vm.physical.view)
        if self._measured:
            hart.observe = self._observed
        self._emulating = None
        if isinstance(physical := self.vm.physical, Shadowed):
            method = self.vm.kvm.method
            kind = Alone if not method.emulates else Emulating if method.native else Called
            self._emulating = kind(
                hart, self._world, self._virtual, physical, self._emulator, self.stats.note, self._redirect
            )

    @property
    def hart(self) -> Hart:
        """The hart that it is on, for who looks behind it."""
        return self._hart

    @property
    def immediate_exit(self) -> bool:
        """While it is set, by any thread, `run` returns Intr at once, or as soon as the guest can be left."""
        return bool(self.shared.immediate_exit)

    @immediate_exit.setter
    def immediate_exit(self, asked: bool) -> None:
        self.shared.immediate_exit = asked

    # --- registers and states --------------------------------------------------------------------------------

    def get_one_reg(self, number: int) -> int:
        """The register of this number of KVM's. Raises NoSuchRegister."""
        return self._one(number).get(self._hart)

    def set_one_reg(self, number: int, value: int) -> None:
        """Raises NoSuchRegister, and BadValue where it has no such value."""
        register = self._one(number)
        bits = 8 << (number >> 52 & 15)
        if not 0 <= value < 1 << bits:
            raise BadValue(f"register {register.name} has {bits} bits: {value:#x} is no value of it")
        if register.set is None:
            if value != register.get(self._hart):
                raise BadValue(f"register {register.name} is {register.get(self._hart):#x} and cannot be set")
            return
        with self._alone():
            register.set(self._hart, value)
            self._hart.space.remap()

    def reg_list(self) -> list[int]:
        """The numbers of all registers."""
        return list(self._registers())

    def get(self, name: str) -> int:
        """A register by its name: "pc", "a0", "sstatus". Raises NoSuchRegister."""
        return self.get_one_reg(self._number(name))

    def set(self, **values: int) -> None:
        """Set registers by their names. Raises NoSuchRegister, BadValue."""
        for name, value in values.items():
            self.set_one_reg(self._number(name), value)

    @property
    def mp_state(self) -> int:
        """KVM_MP_STATE_RUNNABLE or _STOPPED: stopped, until it is set runnable or another one's guest starts it."""
        stopped = self._hart.state.slots[self._hart.privileged.waiting_slot] == self._virtual.STOPPED
        return abi.KVM_MP_STATE_STOPPED if stopped else abi.KVM_MP_STATE_RUNNABLE

    @mp_state.setter
    def mp_state(self, state: int) -> None:
        with self._alone():
            if state == abi.KVM_MP_STATE_RUNNABLE:
                self._hart.go()
            elif state == abi.KVM_MP_STATE_STOPPED:
                self._firmware.stop()
            else:
                raise BadValue(f"a virtual CPU cannot be in the state {state}")

    @property
    def guest_debug(self) -> int:
        """KVM_GUESTDBG_ENABLE: breakpoints exit; with _SINGLESTEP also each instruction does."""
        return self._debug

    @guest_debug.setter
    def guest_debug(self, control: int) -> None:
        if control & ~(abi.KVM_GUESTDBG_ENABLE | abi.KVM_GUESTDBG_SINGLESTEP):
            raise BadValue(f"guest debugging has no control {control:#x}")
        self._debug = control
        self._leave_for(bool(control & abi.KVM_GUESTDBG_ENABLE))

    @property
    def waits(self) -> bool:
        """Whether it waits, for an interrupt or to be started."""
        return not self._hart.ready

    @property
    def _stepping(self) -> bool:
        return bool(self._debug & abi.KVM_GUESTDBG_SINGLESTEP)

    def interrupt(self, level: bool) -> None:
        """Raise or lower the guest's external interrupt. Any thread may."""
        with self.vm.turns:
            self._world.interrupt(self._hart, level)

    @property
    def instructions(self) -> int:
        """Instructions that it has retired."""
        return self._hart.retired

    def counted(self) -> Counted:
        """Blocks, classes of instructions, translations that went stale."""
        hart, engine = self._hart, self._hart.engine
        writes = 0 if isinstance(engine, Reference) else engine.coherence.writes
        here = self._emulator.classes  # what the monitor has executed for the guest
        classes = {treat: engine.classes[treat] + here[treat] for treat in (Treat.INLINE, Treat.CALLOUT)}
        rebuilds = physical.shadow.rebuilds if isinstance(physical := self.vm.physical, Shadowed) else 0
        classes |= {Treat.IDENT: hart.retired - sum(classes.values())}
        return Counted(hart.state.blocks, classes, writes, rebuilds)

    def measure_latency(self) -> None:
        """Note from now on in `latency` how late the guest's timer interrupts it. All its traps become slower."""
        self._measured = True
        self._hart.observe = self._observed

    def _observed(self, cause: int, mode: int, pc: int, value: int) -> None:
        """The hart takes a trap."""
        if cause == self._world.timer_cause:
            clock = self._hart.vm.clock
            self.latency = max(self.latency, clock.count - clock.when(self._hart.state.slots[self._world.timer]))

    def _registers(self) -> dict[int, Any]:
        found: dict[int, Any] = self._world.registers
        return found

    def _one(self, number: int) -> Any:
        register = self._registers().get(number)
        if register is None:
            raise NoSuchRegister(f"there is no register {number:#x}")
        return register

    def _number(self, name: str) -> int:
        for number, register in self._registers().items():
            if register.name == name:
                return number
        raise NoSuchRegister(f"there is no register {name}")

    def _leave_for(self, debug: bool) -> None:
        for mode, causes in self._world.leaves(debug).items():
            self._hart.leaves[mode] = causes

    # --- running ---------------------------------------------------------------------------------------------

    def run(self, most: int = NEVER) -> Exit:
        """Let the guest run until something is for the caller, or for `most` instructions: Intr.

        An exit that wants an answer has it by `reply` before the next call. Raises VcpuBusy, NoMemory, NotEmulated.
        """
        with self._alone():
            return self._for_user(self._until_exit(most, yields=False))

    def turn(self, most: int) -> Exit | None:
        """The same; None where the time is over, or where it waits, which ends no time and is no exit to the user."""
        with self._alone():
            found = self._until_exit(most, yields=True)
            return None if isinstance(found, Intr | Hlt) else self._for_user(found)

    def enter(self, most: int = NEVER) -> Any:
        """The world switch alone, for who answers all traps: `VmExit` of the architecture, or an Exit.

        The guest goes on at its pc: `skip` has it go on behind the instruction, `inject` take the trap itself.
        """
        with self._alone():
            end = min(self.instructions + most, NEVER)
            seen = self._complete()
            while seen is None:
                seen = self._enter(end, waiting=False, yields=False)
                if not isinstance(seen, Exit) and self._is_for_log(seen):
                    seen = None
            if isinstance(seen, Exit):
                return self._for_user(seen)
            self._emulator.forget()
            self.stats.to_user += 1
            return seen

    def reply(self, *values: int) -> None:
        """Answer the last exit: the value of a load (Mmio); error and value (RiscvSbi). Without, a load has 0, and a
        call is not supported.
        """
        wanted = {Mmio: 1, RiscvSbi: 2}.get(type(self.exit)) if self.exit is not None else None
        if wanted is None or (isinstance(self.exit, Mmio) and self.exit.is_write):
            raise BadValue("the last exit wants no reply")
        if len(values) != wanted:
            raise BadValue(f"the last exit wants {wanted} value{'s' if wanted > 1 else ''}")
        self._reply = values

    def skip(self) -> None:
        """Go on behind the instruction at pc. Raises NoSuchRegion where the guest finds none, Closed."""
        pc = self.get("pc")
        with self.vm.turns:
            self.vm.check()
            try:
                half = self._world.fetch(self._hart, pc)
            except Trap:
                raise NoSuchRegion(f"virtual CPU {self.id} finds no instruction at {pc:#x}") from None
        self.set(pc=pc + self._virtual.length(half))

    def inject(self, cause: int, value: int) -> None:
        """Have the guest's own handler take a trap at pc. Raises BadValue where there is no such trap for it."""
        if cause not in self._virtual.TAKEN or not 0 <= value < 1 << 64:
            raise BadValue(f"a guest takes no trap of cause {cause} with the value {value:#x}")
        with self._alone():
            self._world.redirect(self._hart, cause, value)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._running.acquire(blocking=False):
            raise VcpuBusy(f"virtual CPU {self.id} runs already")
        try:
            yield
        finally:
            self._running.release()

    def _until_exit(self, most: int, yields: bool) -> Exit:
        """Answer what is for the first switch, until there is something else."""
        end = min(self.instructions + most, NEVER)
        found = self._complete()
        while found is None:
            seen = self._enter(end, waiting=True, yields=yields)
            found = seen if isinstance(seen, Exit) else self._first(seen)
        return found

    def _for_user(self, exit: Exit) -> Exit:
        self.stats.to_user += 1
        self.exit = exit
        return exit

    def _complete(self) -> Exit | None:
        """What the last exit was answered becomes the guest's; what its instruction wants besides."""
        exit, self.exit = self.exit, None
        values, self._reply = self._reply, ()
        if isinstance(exit, Mmio) and not exit.is_write:
            self._hart.data = values[0] if values else 0
        elif isinstance(exit, RiscvSbi):
            error, value = values or (self._virtual.NOT_SUPPORTED, 0)
            self._virtual.answer(self._hart.state.slots, exit.extension, error, value)
            self._pass_call()
        if not self._emulator.waits:
            return None
        found = self._emulate()
        if found is None and self._stepping:
            found = Debug(self._world.pc(self._hart))  # this was the step
        if found is not None:
            self.stats.note(type(found).__name__)
        return found

    def _pass_call(self) -> None:
        """The guest goes on behind its call."""
        self._world.set_pc(self._hart, self._world.pc(self._hart) + self.vm.guest.syscall_length)

    def _enter(self, end: int, waiting: bool, yields: bool) -> Any:
        """Let the guest run until a trap ends it that is its hart's own, or to this count of instructions."""
        stepping = self._stepping
        while True:
            before = self.instructions, self._world.pc(self._hart)
            exit: Exit | None = self.vm.switch(self, end, stepping, waiting, yields)
            if isinstance(exit, Trapped) and self._emulating is not None:
                exit = self._emulating.answer(exit)
                if exit is None and stepping and before != (self.instructions, self._world.pc(self._hart)):
                    exit = Debug(self._world.pc(self._hart))
            if exit is None:
                continue
            if not isinstance(exit, Trapped):
                self.stats.note(type(exit).__name__)
                return exit
            self._access = exit.access
            absent = exit.access.address if exit.access is not None else self._absent(exit)
            seen = self._world.seen(self._hart, exit, absent)
            self.stats.note(self._virtual.NAMES[seen.scause])
            return seen

    def _absent(self, exit: Trapped) -> int | None:
        """Where a fetch goes that finds no memory."""
        hart = self._hart
        if exit.cause != hart.privileged.access_faults["fetch"]:
            return None
        found = hart.privileged.inspection.physical(hart.state.slots, self._read, exit.value)
        return None if found is None else int(found)

    def _read(self, address: int) -> int:
        return int.from_bytes(self.vm.physical.view.peek(address, 8), "little")

    # --- the first switch --------------------------------------------------------------------------------------

    def _first(self, trap: Any) -> Exit | None:
        """What KVM makes of a trap: None if it has answered it, and the guest goes on."""
        virtual = self._virtual
        handler: Callable[[Any], Exit | None] = {
            virtual.SUPERVISOR_CALL: self._call,
            virtual.LOAD_GUEST: self._guest_page_fault,
            virtual.STORE_GUEST: self._guest_page_fault,
            virtual.FETCH_GUEST: self._guest_page_fault,
            virtual.VIRTUAL_INSTRUCTION: self._virtual_instruction,
            virtual.BREAK: self._break,
        }.get(trap.scause, lambda trap: self._redirect(trap.scause, trap.stval))
        return handler(trap)

    def _call(self, trap: Any) -> Exit | None:
        slots = self._hart.state.slots
        extension, function, arguments = self._virtual.call(slots)
        if self._virtual.is_for_user(extension):
            return RiscvSbi(extension, function, arguments)
        before = self._hart.state.snapshot()
        self._firmware.answers(self.vm.guest.syscall_cause)
        ending = self._hart.vm.take_ending()
        if ending is None:
            self._pass_call()
            if self._emulating is not None and extension == self._virtual.FENCES:
                self._emulating.fence()
        else:
            self._hart.state.restore(before)  # it does not come back from this call
        return ending

    def _guest_page_fault(self, trap: Any) -> Exit | None:
        if self._is_for_log(trap):
            return None
        if trap.scause == self._virtual.FETCH_GUEST:
            raise NotEmulated(f"virtual CPU {self.id} executes at {trap.sepc:#x}, where its guest has no memory "
                              f"(guest physical address {trap.gpa:#x})")  # fmt: skip
        return self._access or self._emulate()

    def _is_for_log(self, trap: Any) -> bool:
        """Whether it was a write of a page of which the log has taken note now."""
        return trap.scause in self._virtual.GUEST_FAULTS.values() and self.vm.physical.answers(trap.gpa)

    def _virtual_instruction(self, trap: Any) -> Exit | None:
        """To wait is allowed; whatever else a hypervisor could do is illegal."""
        if trap.stval == self._virtual.WAIT and self._emulator.execute() == (None, None):
            return None
        return self._redirect(self._virtual.ILLEGAL, trap.stval)

    def _break(self, trap: Any) -> Exit | None:
        return Debug(trap.sepc)

    def _redirect(self, cause: int, value: int) -> Exit | None:
        """It is the guest's own; the exit, if it would take this trap for ever."""
        hart, world = self._hart, self._world
        pc = world.pc(hart)
        if hart.repeats(cause, pc, world.mode(hart)):
            return Shutdown(pc, cause)
        world.redirect(hart, cause, value)
        return None

    def _emulate(self) -> Exit | None:
        """Execute the guest's instruction, which left for an access; the access, if it is the user's."""
        access, trap = self._emulator.execute()
        return access if access is not None or trap is None else self._redirect(*trap)


class _Platform:
    """What firmware asks of a virtual machine, for a hart (`guests.riscv.sbi.Platform`). It has no console: calls of it
    are the user's.
    """

    def __init__(self, vm: Vm, hart: Hart) -> None:
        self._vm = vm
        self._hart = hart
        self.read = vm.physical.view.peek
        self.write = vm.physical.view.poke
        self.load = partial(vm.world.load, hart)

    def put(self, data: bytes) -> None:
        raise Absent(0)

    def get(self) -> int | None:
        return None

    def shut_down(self, failed: bool) -> None:
        self._hart.vm.end(SystemEvent(SYSTEM_EVENT_CRASH, 1) if failed else SystemEvent(SYSTEM_EVENT_SHUTDOWN))

    def restart(self) -> None:
        self._hart.vm.end(SystemEvent(SYSTEM_EVENT_RESET))

    def go_to(self, address: int) -> None:
        self._vm.world.set_pc(self._hart, address)
        self._hart.space.remap()
