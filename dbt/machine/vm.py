"""Machine, Vm, Vcpu: the API of a virtual machine, in KVM's shape.

    Machine(guest).create_vm()  ->  Vm: memory slots, devices, a clock
    vm.create_vcpu()            ->  Vcpu: a hart
    vm.run()                    ->  an Exit (`dbt.machine.exits`), which is that of the hart `vm.turn`

Harts run one after the other, in turns: a host thread of each hart's own would make every run another one. A turn ends
at a block boundary only, by what guest code has done, so all engines take the same turns.
Owns: the loop around engines, in it the one place where a hart takes an interrupt (a block boundary), and whose turn it
is. Must not know: which devices there are, any architecture (what a trap does is `Guest.privileged`'s).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dbt.events import NEVER, Events
from dbt.machine.clock import MASK, Clock
from dbt.machine.exits import Exit, Hlt, Intr, Mmio, Shutdown, Trapped
from dbt.machine.memory import Device, Memory
from dbt.machine.outside import Outside
from dbt.machine.pool import Pool
from dbt.machine.remembered import RememberingSpace
from dbt.machine.space import HartSpace
from dbt.options import Options
from dbt.reference import Integers, Reference, Stop
from dbt.state import CAUSES, MODES, TOLD, TRAPS, State
from guests.spec import Absent, Guest, Treat

if TYPE_CHECKING:
    from dbt.machine.engine import MachineTranslated
    from dbt.machine.tlb import Ram

ENGINES = ("reference", "translated")
TURN = 100_000  # instructions that a hart retires until another one has its turn
NEAR = 1000  # instructions, a microsecond: what is due so soon comes at once, where time follows the host


class Machine:
    """What virtual machines of one guest architecture have in common."""

    def __init__(self, guest: Guest, engine: str = "reference", options: Options | None = None) -> None:
        if guest.privileged is None:
            raise ValueError(f"{guest.name} has user mode only: it is no guest for a machine")
        if engine not in ENGINES:
            raise ValueError(f"no engine {engine!r} (there are: {', '.join(ENGINES)})")
        self.guest = guest
        self.engine = engine
        self.options = options or Options()

    def create_vm(self, pool: Pool | None = None) -> Vm:
        """A virtual machine, whose RAM is of this pool if there is one."""
        return Vm(self, pool)


class Vm:
    """Memory, devices and harts that share a clock. `ending` is the exit that a device asked for.

    With an `outside` the clock is the host's and waiting sleeps; without, a run depends on nothing but its input.
    """

    turn: Vcpu  # the hart that runs

    def __init__(self, machine: Machine, pool: Pool | None = None) -> None:
        self.machine = machine
        self.guest = machine.guest
        self.memory = Memory(pool)
        self.vcpus: list[Vcpu] = []
        self.taking = self.vcpus  # harts that have turns, that of `turn` among them
        self.yields = False  # a run is left, by Hlt, where these wait, if something will wake them or not
        self.clock = Clock(self._retired, self.guest.ticks)
        self.events = Events(self.clock)
        self.ending: Exit | None = None
        self.wanted: Mmio | None = None  # the access of the present instruction that its caller is to make
        self.ram: Ram | None = None  # what translated harts share
        self.outside: Outside | None = None  # None: time is that of instructions alone, and waiting jumps
        self.ends = TURN  # what it has retired when its turn is over
        self._alone = True  # no other hart can go on
        self._others = 0  # instructions that the other harts have retired, which have had their turns
        self.clock.changed.append(self._take_time)

    def set_user_memory_region(self, base: int, size: int) -> None:
        """A slot of RAM at a physical address. ValueError if it overlaps anything."""
        self.memory.add_ram(base, size)

    def add_device(self, base: int, device: Device) -> None:
        """A device that answers by itself. ValueError if it overlaps another."""
        self.memory.add_device(base, device)

    def add_mmio(self, base: int, size: int) -> None:
        """Addresses whose accesses leave `Vcpu.run` as Mmio, for the caller to make."""
        self.memory.add_device(base, Caller(self, base, size))

    def create_vcpu(self) -> Vcpu:
        """One more hart. The first one has the first turn."""
        vcpu = Vcpu(self, len(self.vcpus))
        if not self.vcpus:
            self.turn = vcpu
        self.vcpus.append(vcpu)
        vcpu.reset()
        return vcpu

    def end(self, exit: Exit) -> None:
        """Leave with this exit at the next boundary."""
        self.ending = exit
        self.attend()

    def take_ending(self) -> Exit | None:
        """The exit that was asked for, once."""
        ending, self.ending = self.ending, None
        return ending

    def take_over(self, other: Vm) -> None:
        """Go on where another machine stands, of the same guest and no more harts; memory and devices are our own."""
        for mine, theirs in zip(self.vcpus, other.vcpus):
            mine.take_over(theirs)
        self.turn, self.ends, self._others = self.vcpus[other.turn.number], other.ends, other._others
        self.clock.waited, self.clock.offset = other.clock.waited, other.clock.offset

    def give_turn(self, vcpu: Vcpu) -> None:
        """Let another hart run."""
        self.turn.lose_reservation()
        self._others += self.turn.retired - vcpu.retired
        self.turn = vcpu
        self.ends = vcpu.state.count + TURN
        vcpu.take_time()
        vcpu.set_timer()

    def attend(self) -> None:
        """Something happened that a hart may have to look at: it does at the next boundary."""
        for vcpu in self.vcpus:
            vcpu.engine.domain.attend()

    def close(self) -> None:
        """Keep what was translated for later runs. Nothing runs afterwards."""
        for vcpu in self.vcpus:
            vcpu.close()

    def _retired(self) -> int:
        return self._others + self.turn.retired

    def _take_time(self) -> None:
        """The clock was changed. Other harts see it when their turns begin."""
        self.turn.take_time()

    @property
    def waits_until(self) -> int:
        """The count until which all harts wait, as far as the machine knows; 0 if one can go on."""
        return 0 if any(vcpu.ready for vcpu in self.taking) else self._deadline()

    def look(self) -> None:
        """Have happen what is due by now, between two runs; harts that it wakes go on in the next one."""
        self.events.deliver()
        self._set_timers()
        for vcpu in self.vcpus:
            vcpu.wake()

    # --- running ------------------------------------------------------------------------------------------

    def run(self, until: int = NEVER, most: int = NEVER) -> Exit:
        """Let the harts run until something is for the caller to do, or to a limit: Intr at the first boundary at which
        the clock's count is at least `until`, or at least `most` instructions have been retired.
        """
        self._remap()
        while True:
            limit = near = 0  # what has begun comes to its end
            if self.turn.engine.interruptible:
                exit = self._at_boundary(until, most)
                if exit is not None:
                    return exit
                limit, near = self._limit(until, most)
            exit = self.turn.go_on(limit, near)
            if exit is not None:
                return exit

    def step(self) -> Exit | None:
        """Have the hart whose turn it is take the interrupt that is due, or execute one instruction or take its trap;
        where all harts wait, let the time come at which something is due.

        Waiting takes no time of the host, whatever the clock follows; harts that wait for input stay where they are.
        Returns an exit where `run` would.
        """
        self._remap()
        if self.turn.engine.interruptible:
            self.turn.look_inside()
            if self.ending is None:
                self.events.deliver()
            if self.ending is not None:
                return self.take_ending()
            self._set_timers()
            deadline = self._deadline()
            if not self._pass_turn():
                if deadline < NEVER:
                    self.clock.wait_until(deadline)
                elif self.outside is None or not self.outside.listening:
                    return Hlt()
                return None
            left = self.turn.interruption()
            if left is not None or self.turn.interrupt():
                return left
        return self.turn.step()

    def _remap(self) -> None:
        """The caller may have changed what harts are."""
        for vcpu in self.vcpus:
            vcpu.space.remap()
            vcpu.tell()

    def _at_boundary(self, until: int, most: int) -> Exit | None:
        """Let happen what is due, in a fixed order: the end, events, timers, a limit, whose turn it is, waiting, an
        interrupt. To come here more often than something is due changes nothing.
        """
        self.turn.look_inside()
        while True:
            if self.outside is not None:
                self.outside.sample()
                if self.outside.follows:
                    self._meet()
            if self.ending is None:
                self.events.deliver()
                self._set_timers()
            if self.ending is not None:
                return self.take_ending()
            if self.clock.retired >= most:
                return Intr()
            if not self._pass_turn():
                next_event = self._deadline()
                listening = self.outside is not None and self.outside.listening
                if self.yields or (next_event == NEVER == until and not listening):
                    return Hlt()
                (self.clock.wait_until if self.outside is None else self.outside.wait)(min(next_event, until))
                if self.clock.count < until:
                    continue
            if self.clock.count >= until:
                return Intr()
            left = self.turn.interruption()
            if left is None:
                self.turn.interrupt()
            return left

    def _pass_turn(self) -> bool:
        """Whether a hart can go on; if the turn has ended, the next one that can has it.

        A turn is over when TURN instructions have been retired in it and another hart can go on, or when its hart
        waits, if for a moment only. The next one is that of the next number, so each that can go on comes to its turn.
        A hart that gave its turn up has another one later, but who spins need not give way to it.
        """
        over = self.turn.waits or self.turn.state.count >= self.ends
        for vcpu in self.taking:
            vcpu.wake()
        at = self.turn.number
        ready = sorted((vcpu for vcpu in self.taking if vcpu.ready), key=lambda vcpu: vcpu.number <= at)
        if over and ready:
            if ready[0] is not self.turn:
                self.give_turn(ready[0])
            self.turn.go()
        self._alone = len(ready) == 1
        self.turn.crowd(any(not vcpu.waits for vcpu in ready if vcpu is not self.turn))
        return bool(ready)

    def _limit(self, until: int, most: int) -> tuple[int, int]:
        """What the hart has retired when the next thing is due, and how much less will do."""
        event = self._deadline() - self.clock.count
        ahead = min(event, until - self.clock.count, most - self.clock.retired)
        near = 0
        if self.outside is not None:
            ahead = min(ahead, self.outside.slice)
            near = NEAR if self.outside.follows and ahead == event else 0
        limit = self.turn.state.count + ahead
        return (limit, near) if self._alone or limit <= self.ends else (self.ends, 0)

    def _meet(self) -> None:
        """What is about to be due is due: a clock that follows the host may go on a little."""
        deadline = self._deadline()
        if 0 < deadline - self.clock.count <= NEAR:
            self.clock.wait_until(deadline)

    def _deadline(self) -> int:
        """The count at which something will be due by itself."""
        return min(self.events.due, self.clock.when(min([vcpu.alarm for vcpu in self.taking])), NEVER)

    def _set_timers(self) -> None:
        """Have the harts' own timers raise their lines, where they are due. That of the hart that ran may have been set
        anew.
        """
        now = self.clock.time
        for vcpu in self.vcpus:
            if vcpu is self.turn or vcpu.alarm <= now:
                vcpu.set_timer()


class Caller:
    """Addresses that belong to the caller of `run`.

    An access leaves in the middle of its instruction, as one of memory that is absent; the instruction is executed
    again when the caller has made it, and what was answered before is answered again until it has retired.
    """

    name = "mmio"

    def __init__(self, vm: Vm, base: int, size: int) -> None:
        self.size = size
        self._vm = vm
        self._base = base

    def read(self, offset: int, size: int) -> int:
        return self._access(Mmio(self._base + offset, size, False, 0))

    def write(self, offset: int, size: int, value: int) -> None:
        self._access(Mmio(self._base + offset, size, True, value))

    def _access(self, exit: Mmio) -> int:
        vcpu = self._vm.turn
        known = vcpu.answers
        instruction = vcpu.retired, vcpu.engine.domain.at
        if known.instruction != instruction:
            known.instruction, known.values, known.next = instruction, [], 0
            vcpu.data = None  # an answer to an instruction that has found something else there since
        if known.next == len(known.values):
            if exit.is_write:
                known.values.append(0)  # made when it is come back to
            if exit.is_write or vcpu.data is None:
                known.next = 0
                self._vm.wanted = exit
                raise Absent(exit.address)
            known.values.append(vcpu.data)
            vcpu.data = None
        known.next += 1
        return known.values[known.next - 1] & (1 << 8 * exit.size) - 1


class Answers:
    """What the caller has answered to the accesses of a hart's present instruction."""

    def __init__(self) -> None:
        self.instruction = (-1, 0)  # that they belong to: instructions before it, its address
        self.values: list[int] = []
        self.next = 0  # the one for its next access


class Vcpu:
    """One hart. After the exit Mmio of a load, the caller puts its value into `data`."""

    def __init__(self, vm: Vm, number: int) -> None:
        privileged = vm.guest.privileged
        assert privileged is not None
        self.vm = vm
        self.privileged = privileged
        self.state = State(vm.guest)
        self.data: int | None = None
        self.answers = Answers()
        self._taken: Counter[tuple[int, int]] = Counter()  # traps that were taken here
        self.observe: Callable[[int, int, int, int], None] | None = None  # told of each: cause, mode, pc, value
        self.crossed: Callable[[str], None] | None = None  # told where it goes into a guest of its own (an empty
        # string), before it executes anything there; and of the way out: what its trap is called
        self._inside = False  # whether it is in a guest, as far as that was told
        self.firmware: Any = None  # the host's own code, which answers calls of the mode below it
        self.leaves = [0] * MODES  # by mode: causes, as bits, of traps that leave `Vm.run` as Trapped
        self.leaves_interrupts = False  # whether interrupts leave in the same way
        self.space: HartSpace
        self.engine: MachineTranslated | Reference
        if vm.machine.engine == "translated":
            self.space, self.engine = self._translated()
        else:
            self.space = RememberingSpace(vm.guest, self.state.slots, vm.memory)
            self.engine = Reference(self.state, self.space, lambda: vm.clock.time)
        self.engine.domain.remap = self.space.remap
        self.number = number
        self.alarm = MASK  # the time at which its own timer will raise its line
        self._trapped: tuple[int, ...] = ()  # where the last trap was: instructions before it, address, mode, cause

    def _translated(self) -> tuple[HartSpace, MachineTranslated]:
        from dbt.machine.engine import MachineTranslated
        from dbt.machine.tlb import Ram, TlbSpace

        vm = self.vm
        if vm.ram is None:
            vm.ram = Ram(vm.memory)
        space = TlbSpace(vm.guest, self.state, vm.memory, vm.ram)
        return space, MachineTranslated(self.state, space, vm.memory, lambda: vm.clock.time, vm.machine.options)

    def reset(self, pc: int = 0) -> None:
        """As after a reset: machine mode, at this address. The clock goes on."""
        slots = self.state.slots
        for slot in range(len(slots)):
            slots[slot] = self.privileged.reset.get(slot, 0)
        slots[self.privileged.hart_slot] = self.number
        self.take_time()
        self.state.pc = pc
        self.state.mid_block = False
        self._trapped = ()

    def take_over(self, other: Vcpu) -> None:
        """Be what another hart is, of another machine."""
        self.state.restore(other.state.snapshot())
        self.state.pc, self.state.count, self.state.blocks = other.state.pc, other.retired, other.state.blocks
        self.state.mid_block, self.data, self.answers = other.state.mid_block, other.data, other.answers
        self._taken = other.taken
        self._trapped = other._trapped
        self.leaves = other.leaves

    def take_time(self) -> None:
        """The clock is another than what the hart has retired says."""
        slots, clock = self.state.slots, self.vm.clock
        slots[self.privileged.idle_slot] = clock.count - self.retired
        slots[self.privileged.offset_slot] = clock.offset & MASK

    def notes(self) -> list[str]:
        """Sentences for people, if the engine does not do all that it was asked for."""
        if isinstance(self.engine, Reference):
            return []
        disk = self.engine.disk
        return [note for note in (self.engine.note, disk.note if disk is not None else "") if note]

    def close(self) -> None:
        """Keep what was translated for later runs. It must not run afterwards."""
        if not isinstance(self.engine, Reference):
            self.engine.save(last=True)
            self.engine.close()

    def stats(self) -> dict[str, Any]:
        """Counts of the run so far, as plain data."""
        classes = self.engine.classes
        return {
            "engine": self.engine.name, "instructions": self.retired, "blocks": self.state.blocks,
            **{treat.value: classes[treat] for treat in Treat}, "traps": self.taken.total(),
            **({} if isinstance(self.engine, Reference) else self.engine.counts()),
        }  # fmt: skip

    @property
    def taken(self) -> Counter[tuple[int, int]]:
        """Traps by cause and the mode they came from."""
        found = Counter(self._taken)
        native = self.state.words[TRAPS : TRAPS + CAUSES * MODES]
        found.update({divmod(i, MODES): count for i, count in enumerate(native) if count})
        return found

    def tell(self) -> None:
        """Which traps are to come here: all while they are observed, or ways out of a guest are, those that leave, and
        calls of firmware. And whether ways into a guest are to.
        """
        all_of_them = self.observe is not None or self.crossed is not None
        for mode in range(MODES):
            calls = 0 if self.firmware is None else self.firmware.causes(mode)
            self.state.words[TOLD + mode] = MASK if all_of_them else calls | self.leaves[mode]
        if self.privileged.told_slot is not None:
            self.state.slots[self.privileged.told_slot] = int(self.crossed is not None)

    @property
    def retired(self) -> int:
        """Instructions retired, also while one is executed."""
        return max(self.state.count, self.engine.domain.count)

    @property
    def mode(self) -> int:
        """The mode in which it is, by the numbers of `Privileged.inspection`."""
        mode: int = self.privileged.mode(self.engine.domain)
        return mode

    @property
    def waits(self) -> bool:
        """Whether it waits, or was stopped."""
        return self.state.slots[self.privileged.waiting_slot] != 0

    @property
    def ready(self) -> bool:
        """Whether it can have a turn: it waits for nothing else."""
        return self.state.slots[self.privileged.waiting_slot] in (0, self.privileged.yielded)

    def go(self) -> None:
        """Wait no longer."""
        self.state.slots[self.privileged.waiting_slot] = 0

    def wake(self) -> None:
        """Go on, if an interrupt has come that it waits for."""
        if not self.ready and self.privileged.awake(self.engine.domain):
            self.go()

    def crowd(self, crowded: bool) -> None:
        """Tell it whether another hart could go on that has not given its turn up."""
        self.state.slots[self.privileged.crowded_slot] = int(crowded)

    def lose_reservation(self) -> None:
        """Others run now, and may store where it has loaded from."""
        self.state.slots[self.privileged.reservation_slot] = 0

    def set_line(self, name: str, level: bool) -> None:
        """Raise or lower an interrupt line of the hart, by its name in `Guest.privileged`."""
        bit = self.privileged.lines[name]
        slot = self.privileged.lines_slot
        old = self.state.slots[slot]
        self.state.slots[slot] = old | bit if level else old & ~bit
        self.vm.attend()

    def forget_access(self) -> None:
        """The instruction that left has not begun: it is another time that it is executed."""
        self.answers, self.state.mid_block = Answers(), False

    def go_on(self, limit: int, near: int) -> Exit | None:
        """Run to the first boundary at which it has retired `limit` instructions, or `near` so many, or to a trap, or
        as far as the machine lets it; the exit, if it needs the caller.
        """
        self.vm.wanted = None
        stop = self.engine.run(limit, near)
        return self._leave(stop) or self.take(stop.cause, stop.value) if stop.trap else None

    def step(self) -> Exit | None:
        """Execute one instruction, or take its trap; the exit, if it needs the caller."""
        self.vm.wanted = None
        stop = self.engine.step()
        if stop.trap:
            exit = self._leave(stop)
            if exit is not None:
                return exit
            self.enter_trap(stop.cause, stop.value)
        return None

    def _leave(self, stop: Stop) -> Exit | None:
        """The exit of an instruction that trapped, if the hart does not take the trap by itself."""
        wanted = self.vm.wanted
        self.state.mid_block = wanted is not None  # it has begun: nothing comes before its end
        if self.leaves[self.mode] >> stop.cause & 1:
            return Trapped(stop.cause, stop.value, wanted)
        return wanted

    def take(self, cause: int, value: int) -> Exit | None:
        """Have it enter the trap of the instruction at pc; the exit, if it would do so for ever."""
        pc = self.state.pc
        if self.repeats(cause, pc, self.mode):
            return Shutdown(pc, cause)
        self.enter_trap(cause, value)
        return None

    def repeats(self, cause: int, pc: int, mode: int) -> bool:
        """Whether this trap, which is to be entered, is the last one again, with nothing executed since."""
        last, self._trapped = self._trapped, (self.state.count, pc, mode, cause)
        return last == self._trapped

    def at_rest(self) -> Integers:
        """The domain of integers while no instruction is executed, for `Privileged.inspection`."""
        domain = self.engine.domain
        domain.count = self.state.count
        return domain

    def interruption(self) -> Trapped | None:
        """The interrupt that is due, if it is to leave."""
        if not self.leaves_interrupts or not self.privileged.awake(self.engine.domain):
            return None
        cause = self.privileged.due(self.engine.domain)
        return Trapped(cause, 0) if cause else None

    def interrupt(self) -> bool:
        """The one place where interrupts enter, at a boundary; whether one did."""
        if not self.privileged.awake(self.engine.domain):
            return False
        cause = self.privileged.due(self.engine.domain)
        if cause:
            self.enter_trap(cause, 0)
        return bool(cause)

    def set_timer(self) -> None:
        """Have its own timer raise or lower its line."""
        self.alarm = self.privileged.timer(self.engine.domain, self.vm.clock.time)

    def enter_trap(self, cause: int, value: int) -> None:
        """Enter a trap, from the instruction at pc."""
        state = self.state
        mode = self.mode
        self._taken[cause, mode] += 1
        if self.observe is not None:
            self.observe(cause, mode, state.pc, value)
        if self.firmware is not None and self.firmware.answers(cause):
            state.pc += self.vm.guest.syscall_length
        else:
            state.pc = self.privileged.enter(self.engine.domain, state.pc, cause, value)
        state.mid_block = False
        if self.crossed is not None:
            self._cross(self.privileged.inspection.trap(cause, mode)[1])

    def look_inside(self) -> None:
        """Tell of it, if the hart has gone into a guest of its own."""
        if self.crossed is not None:
            self._cross("")

    def _cross(self, trap: str) -> None:
        inside = self.mode in self.privileged.inspection.guests
        if inside != self._inside:
            assert self.crossed is not None
            self._inside = inside
            self.crossed(trap)
