"""A guest process: address space, CPU state, kernel personality and an engine, put together.

What an engine stops for is handled here: system calls go to the kernel, other traps become signals. Every
engine therefore meets the same world. Owns: this assembly, limits, interruption (Ctrl-C) and orderly death of a run.
Must not know: how any engine works, any system call, any instruction.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, Self

import guests
from dbt.block import REACH_MOST
from dbt.events import NEVER, Event, Events
from dbt.linux import blocking as sleeping
from dbt.linux import programs, siginfo
from dbt.linux.exits import Executed, ExitGroup, Forked, Killed, Resumed, ThreadEnded, Waits, Yields
from dbt.linux.kernel import Kernel
from dbt.linux.sysroot import Sysroot
from dbt.linux.threads import Thread, release
from dbt.memory import EXEC, READ, WRITE, AddressSpace
from dbt.pace import Pace
from dbt.reference import Reference, Stop
from dbt.state import SLICE, State
from guests.spec import Treat
from ir.records import record, replace

if TYPE_CHECKING:  # pathlib is slow to import; the reference engine runs without LLVM being imported
    from pathlib import Path

    from dbt.linux.delivery import Delivery
    from dbt.linux.host_signals import HostSignals
    from dbt.linux.scheduler import Scheduler
    from dbt.linux.strace import Strace
    from dbt.options import Options

PROTECTIONS = {"load": READ, "store": WRITE, "fetch": EXEC}
ENGINES = ("translated", "reference")
DEADLY = tuple(map(signal.Signals, siginfo.ENDING))  # signals that end us once what was translated is on disk
LATENCY = 4_000_000  # nanoseconds that a slice of translated code takes, about
SHORTEST_SLICE = REACH_MOST  # instructions: any translation can be entered, and a slice's start does not matter
GRACE = 2.0  # seconds for that; then they end us anyway


class LimitReached(Exception):
    """The instruction limit ended the run after `count` instructions; the process can go on with a higher one."""

    def __init__(self, count: int) -> None:
        super().__init__(f"stopped after {count:,} instructions: the limit was reached")
        self.count = count
        self.result: Any = None  # what `dragoman.run` has collected until then


class _Dying(BaseException):
    """One of DEADLY came; no error handler of a system call may take it for its own."""


@record
class Settings:
    """How to run a process; every field has the command line's meaning."""

    engine: str = "translated"
    isa: str | None = None
    extensions: Sequence[Any] = ()  # instructions of the user's own, see `guests.load`
    sysroot: str | Path | None = None
    env: Mapping[str, str] | None = None  # None: the caller's own environment
    argv0: str | None = None
    seed: int | None = None  # not None: deterministic
    random_seed: int | None = None  # where random numbers come from; nothing else is changed by it
    stack_size: int | None = None  # bytes; None: the limit that we have ourselves
    release: str | None = None  # of the kernel, as uname tells it; None: the host's
    strace: Callable[[str], None] | None = None
    strace_items: str = ""  # what is shown and how, see `dbt.linux.strace.selection`
    stdin: int = 0
    stdout: int = 1
    stderr: int = 2
    host_signals: bool = False  # signals that are sent to us reach the guest, while it runs; the main thread only
    granularity: str = "block"  # where events are delivered; "insn", after any instruction: reference engine only
    options: Options | None = None  # how the translator translates; None: its defaults


class Process:
    """One guest program, loaded and ready to run.

    `registers` reads and `set_register` writes by name (psABI or architectural); `read` and `write` access
    guest memory; `step` executes single instructions; `run` goes on to the end or to a limit.
    Raises FileNotFoundError, `dbt.elf.NotRunnable`, `guests.riscv.isa.UnknownIsa`,
    `guests.spec.BadExtension`.
    """

    def __init__(self, path: str | Path, args: Sequence[str] = (), settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        if self.settings.engine not in ENGINES:
            raise ValueError(f"no engine {self.settings.engine!r} (there are: {', '.join(ENGINES)})")
        if self.settings.granularity != "block" and self.settings.engine != "reference":
            raise ValueError("translated code can be interrupted at block boundaries only")
        self._path = os.fspath(path)
        self.guest = guests.load("riscv64", self.settings.isa, self.settings.extensions)
        argv0 = str(path) if self.settings.argv0 is None else self.settings.argv0
        sysroot = Sysroot(self.settings.sysroot)
        program = programs.find(os.fsencode(self._path), [os.fsencode(argv0), *map(os.fsencode, args)],
                                self.guest.linux, sysroot.host_path)  # fmt: skip
        self.image = program.image
        self.space = AddressSpace()
        self.state = State(self.guest)
        self.events = Events(self.state)
        env = os.environ if self.settings.env is None else self.settings.env
        self.kernel = Kernel(
            self.space, self.guest.linux, argv=list(program.argv),
            env=[os.fsencode(f"{k}={v}") for k, v in env.items()],
            executable=os.fsdecode(program.path), sysroot=self.settings.sysroot, isa=self.guest.isa,
            stdin=self.settings.stdin, stdout=self.settings.stdout, stderr=self.settings.stderr,
            deterministic_seed=self.settings.seed, random_seed=self.settings.random_seed,
            stack_size=self.settings.stack_size, release=self.settings.release, clock=lambda: self.state.count,
        )  # fmt: skip
        self.kernel.flush, self.kernel.leaving = self.flush, self._last_words
        self.flushes: list[Callable[[], object]] = []  # called before a fork, so that nothing is written twice
        self.child_killed: Callable[[], object] = lambda: None  # called in a child of the guest's that a signal ends
        self._running = False
        self._strace = self._tracer()
        # Told of each signal that a handler is entered for, and its siginfo.
        self.signalled: list[Callable[[int, bytes], object]] = [] if self._strace is None else [self._strace.signal]
        abi = self.guest.linux
        self._number = self.state.slot(abi.CALL_NUMBER)
        self._arguments = [self.state.slot(name) for name in abi.CALL_ARGUMENTS]
        self._result = self.state.slot(abi.CALL_RESULT)
        self.status: int | None = None  # exit status, once it has exited
        self.signal: int | None = None  # the signal that killed it, if one did
        self.trap: Stop | None = None  # the trap behind that signal
        self.from_outside = False  # another process, or a terminal, has sent it
        self.syscalls = 0
        self._interrupted = False
        self._paced = Pace(LATENCY, SHORTEST_SLICE, SLICE, SLICE)
        self._dying: int | None = None  # the signal that is to end us
        self._waiting = False  # in a system call, where Ctrl-C must raise at once
        entry, pointer = self.kernel.start(program.image, program.loader, program.name)
        self.state.pc = entry
        self.state.slots[self.guest.stack_slot] = pointer
        self.kernel.stack_pointer = lambda: self.state.slots[self.guest.stack_slot]
        self.kernel.schedule = self._schedule
        self.kernel.threads.spawn = self._spawn
        self._host_signals = self._mirror()
        self.engine = self._engine()
        self.kernel.on_flush_icache = self.engine.fence

    def _tracer(self) -> Strace | None:
        if self.settings.strace is None:
            return None
        from dbt.linux.strace import Strace, selection

        return Strace(self.kernel, self.settings.strace, selection(self.settings.strace_items))

    def _mirror(self) -> HostSignals | None:
        if not self.settings.host_signals:
            return None
        from dbt.linux.host_signals import HostSignals

        mirror = self.kernel.signals.mirror = HostSignals(self.kernel.signals)
        mirror.inherit()
        return mirror

    @cached_property
    def _delivery(self) -> Delivery:
        """Made for the first signal."""
        from dbt.linux.delivery import Delivery

        made = Delivery(self.kernel, self.state)
        made.told = self._tell_signal
        return made

    def _tell_signal(self, number: int, info: bytes) -> None:
        for told in self.signalled:
            told(number, info)

    def _engine(self) -> Any:
        if self.settings.engine == "reference":
            return Reference(self.state, self.space, self.wall_clock, self.settings.granularity)
        from dbt.engine import Translated
        from dbt.options import Options

        options = self.settings.options or Options(background=True)
        engine = Translated(self.state, self.space, self.wall_clock, options)
        engine.poll = self._poll
        if self.image.has_library:
            engine.hurry()
        return engine

    def wall_clock(self) -> int:
        """What the guest's clock register reads: 10 MHz, of virtual time if the run is deterministic."""
        if self.settings.seed is not None:
            return self.state.count // self.guest.ticks
        return time.monotonic_ns() // 100

    # --- state, for debuggers and tests -------------------------------------------------------------

    @property
    def registers(self) -> dict[str, int]:
        """All registers by architectural name, unsigned, and pc."""
        return self.state.registers()

    def set_register(self, name: str, value: int) -> None:
        """Write a register by any of its names, or pc."""
        if name == "pc":
            self.state.pc = value
            self.state.mid_block = False
        elif self.state.slot(name) != self.guest.zero_slot:
            self.state.slots[self.state.slot(name)] = value & (1 << 64) - 1

    @property
    def path(self) -> Path:
        """The program's file."""
        from pathlib import Path

        return Path(self._path)

    @property
    def pc(self) -> int:
        return self.state.pc

    @property
    def instructions(self) -> int:
        """Instructions retired: virtual time."""
        return self.state.count

    @property
    def ended(self) -> bool:
        return self.status is not None or self.signal is not None

    def read(self, address: int, length: int) -> bytes:
        """Guest memory, whatever its protection; raises MemoryFault where nothing is mapped."""
        return self.space.peek(address, length)

    def write(self, address: int, data: bytes) -> None:
        """Write guest memory, whatever its protection; translations made from it are dropped."""
        self.space.poke(address, data)

    # --- running ------------------------------------------------------------------------------------

    def step(self, count: int = 1) -> int:
        """Execute up to `count` instructions (a system call is one step); returns how many were taken."""
        taken = 0
        while taken < count and not self.ended:
            if self.engine.interruptible:
                self._notice()
                self.events.deliver()
                if self.ended:
                    break
            self.handle(self.engine.step())
            taken += 1
        return taken

    def run(self, max_instructions: int | None = None) -> int | None:
        """Run to the end and return the exit status (None if a signal killed the guest: see `signal`).

        Raises LimitReached at the first block boundary at or after `max_instructions` in all, and
        KeyboardInterrupt on Ctrl-C, with the state exact; both can be followed by another `run`.

        SIGTERM and the others of DEADLY end us as they do otherwise, but translations to be kept are written first.
        """
        self._running = True
        try:
            self._run(max_instructions)
        except _Dying:
            assert self._dying is not None
            os.kill(os.getpid(), self._dying)  # its action is the default again
        except BaseException as error:
            if self.child:
                self._leave(error)
            raise
        finally:
            self._running = False
        return self.status

    @property
    def child(self) -> bool:
        """Whether we are a process that the guest has made: we end with it."""
        return self.kernel.child

    def _leave(self, error: BaseException | None) -> NoReturn:
        from dbt.child import leave

        leave(self, error)

    def _last_words(self) -> None:
        self.flush()
        if hasattr(self.engine, "save"):
            self.engine.save()

    def flush(self) -> None:
        """Write what others hold back."""
        for flush in self.flushes:
            flush()

    def _run(self, max_instructions: int | None) -> None:
        until = NEVER if max_instructions is None else max_instructions
        with self._interruptible(), self._mortal(), sleeping.calls().woken(), self._hosted():
            if hasattr(self.engine, "prepare"):
                self.engine.prepare()
            try:
                while not self.ended:
                    if sleeping.noticed() and self.engine.interruptible:
                        self._notice()
                        continue
                    stop = self.events.run(self.engine, min(until, self._slice_end()))
                    if stop.trap:
                        self.handle(stop)
                    elif self.state.count >= until and not self.ended:
                        raise LimitReached(self.state.count)
                    if self._interrupted:
                        self._interrupted = False
                        raise KeyboardInterrupt
                    if self._dying is not None:
                        raise _Dying
            finally:
                if hasattr(self.engine, "save"):
                    self.engine.save(last=self.ended)
            if self.child:  # actions and masks end with us, and need not be given back
                self._leave(None)

    def at(self, count: int, callback: Callable[[Process], object]) -> Event:
        """Call `callback(process)` at the first block boundary at which `count` instructions have retired.

        It may look at the process and change it, registers, pc and memory included, and register further events.
        """
        return self.events.at(count, lambda: (callback(self), self.ended)[1])

    def every(self, period: int, callback: Callable[[Process], object]) -> Event:
        """The same again and again: when the next multiple of `period` instructions has been reached."""
        return self.events.every(period, lambda: (callback(self), self.ended)[1])

    def digest(self) -> str:
        """32 hexadecimal digits: equal for two processes whose registers, counts and memory are equal."""
        from dbt.digest import digest

        return digest(self.state, self.space)

    def trace_events(self, period: int, write: Callable[[str], None]) -> Event:
        """Write a line "count pc digest" every `period` instructions. Engines that agree write the same lines."""
        return self.every(period, lambda process: write(f"{process.instructions} {process.pc:#x} {process.digest()}"))

    def _slice_end(self) -> int:
        """The reference interpreter is entered for short whiles, so that Ctrl-C is seen between them."""
        return self.state.count + 100_000 if self.settings.engine == "reference" else NEVER

    def handle(self, stop: Stop) -> None:
        """Do what a trap asks for: a system call, or the signal that Linux would send."""
        if not stop.trap:
            return
        self._handle(stop)
        if self._strace is not None and self.ended:
            self._strace.ended(self.status, self.signal)

    def _handle(self, stop: Stop) -> None:
        guest, state = self.guest, self.state
        for slot in guest.reset_on_trap:
            state.slots[slot] = 0
        state.mid_block = False
        if stop.cause != guest.syscall_cause:
            self._fault(stop)
            return
        if self.kernel.thread.call is None:  # or it is made again, after Ctrl-C
            self.syscalls += 1
        if not self._system_call():
            self._turn()
        if self.child and not self._running:  # whoever has us do this single step stays with the parent
            self.run()

    def _system_call(self) -> bool:
        """Make the call that pc is at. False: the thread does not go on, for now or for ever."""
        state, kernel = self.state, self.kernel
        slots, thread = state.slots, kernel.thread
        first, goes_on = slots[self._arguments[0]], True
        kernel.threads.spared = False
        self._waiting = True
        try:
            caller = self._strace or self.kernel
            result = caller.call(slots[self._number], tuple([slots[a] for a in self._arguments]))
        except Waits:
            self._scheduler.park()
            return False
        except Yields:
            result, goes_on = 0, False
        except ThreadEnded as leaving:
            return self._end_thread(leaving.status)
        except ExitGroup as leaving:
            self.status = leaving.status
            kernel.let_go()
            return True
        except Killed as leaving:
            self._killed(leaving)
            return True
        except Executed as new:
            self._execute(new)
            return True
        except Forked as here:
            self._begin_child(here)
            result = 0
        except Resumed:
            self._delivery.resume()
            self._deliver()
            return True
        finally:
            self._waiting = False
        thread.call = None
        slots[self._result] = result
        state.pc = state.pc + self.guest.syscall_length & (1 << 64) - 1
        if kernel.signals.ready or result in sleeping.INTERRUPTED:
            self._deliver(result, first)
        if kernel.threads.spared and kernel.threads.woke:
            goes_on = False  # elsewhere the woken one has begun by now, and has the lock that it was woken for
        if not goes_on:
            self._scheduler.requeue()
        return goes_on

    def _execute(self, new: Executed) -> None:
        """Begin another program, with nothing left of the old one but virtual time."""
        state = self.state
        if hasattr(self.engine, "renew"):
            self.engine.renew()
        try:
            entry, pointer = self.kernel.execute(new.program, new.env)
        except Killed as leaving:
            self.signal = leaving.signal
            return
        self._alone()
        self.image = new.program.image
        state.restore(bytes(8 * self.guest.slots))
        state.pc = entry
        state.slots[self.guest.stack_slot] = pointer

    def _begin_child(self, here: Forked) -> None:
        if self._host_signals is None:  # what is sent to who has us run the parent is not for the guest; to us, it is
            from dbt.linux.host_signals import HostSignals

            mirror = self._host_signals = self.kernel.signals.mirror = HostSignals(self.kernel.signals)
            mirror.begin_child()
            mirror.attached().__enter__()  # to our end
        self._begin(here.stack, here.thread_pointer)
        self._alone()
        options = self.settings.options
        if options is not None and options.log_stores:  # who compares every store compares the parent's
            self.settings = replace(self.settings, options=replace(options, log_stores=False))
            self.engine = self._engine()
            self.kernel.on_flush_icache = self.engine.fence

    def _alone(self) -> None:
        if "_scheduler" in self.__dict__:
            self._scheduler.only()

    # --- threads --------------------------------------------------------------------------------------

    @cached_property
    def _scheduler(self) -> Scheduler:
        """Made for the second thread."""
        from random import Random

        from dbt.linux.scheduler import Scheduler

        seed = self.settings.seed
        chosen = None if seed is None else Random(f"schedule {seed}")
        return Scheduler(self.kernel, self.state, lambda count: self.at(count, Process._tick), chosen)

    def _spawn(self, thread: Thread, stack: int | None, thread_pointer: int | None) -> None:
        """Have a new thread begin behind the system call that makes it."""
        state = self.state
        before = state.snapshot()
        self._begin(stack, thread_pointer)
        state.slots[self._result] = 0
        thread.registers, thread.pc = state.snapshot(), state.pc + self.guest.syscall_length
        state.restore(before)
        self._scheduler.add(thread)

    def _begin(self, stack: int | None, thread_pointer: int | None) -> None:
        """Registers as a new thread or process is to have them; None: as its parent's."""
        slots = self.state.slots
        if stack is not None:
            slots[self.guest.stack_slot] = stack
        if thread_pointer is not None:
            slots[self.state.slot(self.guest.linux.THREAD_POINTER)] = thread_pointer

    def _tick(self) -> None:
        if self._scheduler.tick() and not self.ended:
            self._scheduler.requeue()
            self._turn()

    def _turn(self) -> None:
        """Have the next thread go on, in the system call in which it waits or behind the one that it has made."""
        while not self.ended:
            self._waiting = True
            try:
                thread = self._scheduler.next()
            finally:
                self._waiting = False
            for slot in self.guest.reset_on_trap:  # no reservation outlasts a turn
                self.state.slots[slot] = 0
            if thread.rseq is not None:
                self._leave_section()
            if thread.call is not None:
                if not self._system_call():
                    continue
            elif self.kernel.signals.ready:
                self._deliver()
            return

    def _leave_section(self) -> None:
        from dbt.linux.rseq import leave_section

        leave_section(self.kernel, self.state)

    def _end_thread(self, status: int) -> bool:
        """The current thread ends, and its process if it is the last one."""
        threads, thread = self.kernel.threads, self.kernel.thread
        release(self.kernel, thread)
        if not threads.several:
            self.status = status
            return True
        threads.led = threads.led and thread is not threads.leader
        self.kernel.end_thread(thread)
        return False

    # --- signals to the guest -------------------------------------------------------------------------

    def _deliver(self, result: int = 0, argument: int = 0) -> None:
        """The one place where signals enter the guest, at a boundary; after a system call, with its result."""
        for slot in self.guest.reset_on_trap:
            self.state.slots[slot] = 0
        try:
            self._delivery.deliver(result, argument, self.guest.syscall_length)
        except Killed as leaving:
            self._killed(leaving)

    def _killed(self, leaving: Killed) -> None:
        self.signal, self.from_outside = leaving.signal, leaving.outside
        self.kernel.let_go()

    def _fault(self, stop: Stop) -> None:
        """An instruction of the guest's has trapped: it handles that, or dies."""
        guest = self.guest
        self.trap = stop
        number = guest.signals[stop.cause]
        access = next((name for name, cause in guest.fault_causes.items() if cause == stop.cause), None)
        try:
            if access is None:
                self._delivery.fault(number, guest.signal_codes[stop.cause], self.state.pc)
            else:
                self._delivery.page_fault(number, stop.value, PROTECTIONS[access])
        except Killed as leaving:
            self._killed(leaving)
        if not self.ended or self.from_outside:
            self.trap = None

    def _schedule(self, count: int, expire: Callable[[], object]) -> Event:
        """An event in virtual time after which there may be signals."""

        def come(process: Process) -> None:
            expire()
            if self.kernel.signals.ready:
                self._deliver()

        return self.at(count, come)

    def _notice(self) -> None:
        """Take what has come from the host, at a boundary."""
        self.kernel.signals.collect()
        if self.kernel.signals.ready:
            self._deliver()

    @contextmanager
    def _hosted(self) -> Iterator[None]:
        """What others send to us is for the guest."""
        if self._host_signals is None:
            yield
            return
        with self._host_signals.attached():
            yield

    def close(self) -> None:
        """Give back memory and descriptors."""
        if hasattr(self.engine, "close"):
            self.engine.close()
        self.kernel.close()
        self.space.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # --- signals to us: Ctrl-C and those that end us --------------------------------------------------

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Ctrl-C waits for a slice's end, where the state is exact; a blocking system call it ends at once.

        Only where Python's own handler is in place: a program with its own keeps it.
        """
        if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            yield
            return

        def note(number: int, frame: FrameType | None) -> None:
            if self._waiting:
                raise KeyboardInterrupt
            self._interrupted = True

        try:
            signal.signal(signal.SIGINT, note)
        except ValueError:  # not in the main thread, which is the one that Ctrl-C interrupts
            yield
            return
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    @contextmanager
    def _mortal(self) -> Iterator[None]:
        """Signals that end us wait like Ctrl-C where something may have to be written; for GRACE seconds at most.

        Only where nobody has said otherwise: those that are ignored or have a handler stay so. The guest's own
        actions do not matter: a signal from outside never reaches it.
        """
        theirs = [] if getattr(self.engine, "disk", None) is None else DEADLY
        ours = [number for number in theirs if signal.getsignal(number) is signal.SIG_DFL]

        def note(number: int, frame: FrameType | None) -> None:
            from threading import Timer

            for each in ours:
                signal.signal(each, signal.SIG_DFL)  # another one ends us at once
            late = Timer(GRACE, os.kill, (os.getpid(), number))
            late.daemon = True
            late.start()
            self._dying = number
            if self._waiting:
                raise _Dying

        try:
            for number in ours:
                signal.signal(number, note)
        except ValueError:  # not in the main thread
            ours = []
        try:
            yield
        finally:
            for number in ours:
                if signal.getsignal(number) is note:
                    signal.signal(number, signal.SIG_DFL)

    def _poll(self) -> bool:
        """Called by the engine between slices: whether to return to `run`."""
        self._pace()
        return self._interrupted or self._dying is not None or sleeping.noticed()

    def _pace(self) -> None:
        """Make slices so long, in instructions, that each takes about LATENCY: a signal waits for its end.

        A loop that waits for memory executes a hundred times fewer a second than another.
        """
        self._paced.measure(time.monotonic_ns(), self.state.count)
        self.engine.slice = self._paced.slice

    # --- what happened ------------------------------------------------------------------------------

    def stats(self) -> dict[str, Any]:
        """Counts of the run so far, as plain data."""
        classes: dict[Treat, int] = self.engine.classes
        result: dict[str, Any] = {
            "engine": self.engine.name,
            "instructions": self.state.count,
            "blocks": self.state.blocks,
            **{treat.value: classes[treat] for treat in Treat},
            "syscalls": self.syscalls,
        }
        if self.engine.name == "translated":
            result |= self.engine.counts()
        return result
