"""Whose turn it is among the threads of a guest process, which all run on one thread of the host's.

A turn is over at the first block boundary at which its quantum of instructions has retired, where another thread can go
on; when its thread waits, yields or ends; and behind a call that could have waited, if the thread has woken another
one. What decides is what guest code has done, so all engines take the same turns. Where no thread can go on, all that
they wait for is waited for at once.
Owns: `Scheduler`: who is ready, who is parked, quanta, that one wait. Must not know: system calls, engines.
"""

from __future__ import annotations

import ctypes
import struct
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

from dbt.linux import blocking as sleeping
from dbt.linux import waiting
from dbt.linux.threads import Thread

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from dbt.linux.kernel import Kernel

QUANTUM = 500_000  # instructions: five times as many as of harts, since most turns here are over before (0024)
LOOK = 1_000_000  # instructions between two looks at what parked threads wait for, while others run
SHORTEST, LONGEST = 4, 17  # bits of the quanta that a seed chooses
_LEAST_REST, _LEAST_VIRTUAL_REST = 500_000, 100_000  # nanoseconds between two such looks


class Cpu(Protocol):
    """The registers of the thread that runs."""

    pc: int

    def snapshot(self) -> bytes: ...

    def restore(self, registers: bytes) -> None: ...


class Scheduler:
    """`at(count, callback)` makes an event in virtual time, which can be cancelled; `tick` is what to call then.

    `chosen`: where a seed decides, it chooses quanta and who is next.
    """

    def __init__(self, kernel: Kernel, cpu: Cpu, at: Callable[[int], Any], chosen: Random | None) -> None:
        self._kernel = kernel
        self._threads = kernel.threads
        self._cpu = cpu
        self._at = at
        self._chosen = chosen
        self._ready: deque[Thread] = deque()
        self._parked: dict[int, Thread] = {}  # by number
        self._event: Any = None  # the end of the turn
        self._ends = 0  # its count
        self._looked = 0  # when, on the clock of waits
        kernel.signals.wake = self.wake

    # Who can go on ----------------------------------------------------------------------------------------

    def add(self, thread: Thread) -> None:
        """A new one, whose registers are set, can run."""
        self._ready.append(thread)
        self._arm()

    def park(self) -> None:
        """The current thread waits in its system call."""
        self._leave()
        self._parked[self._threads.current.tid] = self._threads.current

    def requeue(self) -> None:
        """The current thread has had its turn."""
        self._leave()
        self._ready.append(self._threads.current)

    def wake(self, thread: Thread) -> None:
        """What a thread waits for may have come."""
        if self._parked.pop(thread.tid, None) is not None:
            self._ready.append(thread)
            self._threads.woke = True
            self._arm()

    def only(self) -> None:
        """All threads but the current one are gone."""
        self._ready.clear()
        self._parked.clear()
        self._disarm()

    def tick(self) -> bool:
        """A turn may be over; says whether another thread is ready."""
        self._event = None
        self.look()
        if not self._ready:
            self._arm()
        return bool(self._ready)

    def next(self) -> Thread:
        """Have the thread run whose turn it is; while there is none, wait. KeyboardInterrupt."""
        before = self._threads.current
        self.look()
        try:
            while not self._ready:
                self._rest()
        except BaseException:  # Ctrl-C: when the run goes on, a call that waits is made again
            tid = before.tid if before.tid in self._parked else next(iter(self._parked))
            self._enter(self._parked.pop(tid))
            raise
        chosen = self._choose()
        self._enter(chosen)
        return chosen

    def _choose(self) -> Thread:
        if self._chosen is not None and len(self._ready) > 1:
            self._ready.rotate(-self._chosen.randrange(len(self._ready)))
        return self._ready.popleft()

    def _enter(self, thread: Thread) -> None:
        self._threads.current = thread
        self._threads.woke = False
        self._cpu.restore(thread.registers)
        self._cpu.pc = thread.pc
        self._disarm()
        self._arm()

    def _leave(self) -> None:
        thread = self._threads.current
        thread.registers, thread.pc = self._cpu.snapshot(), self._cpu.pc

    # Quanta -----------------------------------------------------------------------------------------------

    def _quantum(self) -> int:
        """A seed's are of any length, short ones as likely as long ones."""
        if self._chosen is None:
            return QUANTUM
        return self._chosen.getrandbits(self._chosen.randint(SHORTEST, LONGEST)) + 1

    def _arm(self) -> None:
        """Have the turn end when it must."""
        if self._ready:
            length = self._quantum()
        elif any(call.polled or call.end is not None or call.ask for _thread, call in self._calls()):
            length = min(LOOK, self._until_end())
        else:
            return
        ends = self._kernel.clock() + length
        if self._event is not None and self._ends <= ends:
            return
        self._disarm()
        self._event, self._ends = self._at(ends), ends

    def _until_end(self) -> int:
        """Instructions until the first wait is over and may be looked at, where they are what time is measured by."""
        kernel = self._kernel
        ends = [call.end for _thread, call in self._calls() if kernel.deterministic and call.end is not None]
        if not ends:
            return LOOK
        return max(1, max(min(ends), self._looked + _LEAST_VIRTUAL_REST) - kernel.virtual_time())

    def _disarm(self) -> None:
        if self._event is not None:
            self._event.cancelled = True
            self._event = None

    # What threads wait for --------------------------------------------------------------------------------

    def _calls(self) -> list[tuple[Thread, waiting.Waiting]]:
        """Who is parked, in which call."""
        return [(thread, thread.call) for thread in self._parked.values() if thread.call is not None]

    def look(self) -> None:
        """Make threads ready for which something has come; not too often, as a look is a call of the host's."""
        now = waiting.clock(self._kernel)
        rest = _LEAST_VIRTUAL_REST if self._kernel.deterministic else _LEAST_REST
        if self._parked and now - self._looked >= rest:
            self._looked = now
            self._poll(0)

    def _rest(self) -> None:
        """No thread can go on: wait for the first thing that any waits for, or let virtual time pass until then."""
        if self._kernel.deterministic:
            self._poll(0)
            if self._ready or self._jump():
                return
        soonest = self._soonest()
        if soonest is None and all(call.waiter for _thread, call in self._calls()):
            self._kernel.stuck("all of the guest's threads wait for futexes that nobody can wake")
        self._poll(soonest)

    def _soonest(self) -> int | None:
        """Nanoseconds until the end of a wait, or until something has to be asked for again."""
        now = waiting.clock(self._kernel)
        points = [point for _thread, call in self._calls() for point in (call.end, call.ask) if point is not None]
        return max(0, min(points) - now) if points else None

    def _poll(self, limit: int | None) -> None:
        """Look at descriptors, times, and what has to be asked for; up to `limit` nanoseconds, or until one is ready.

        When all have waited in earnest, whoever asks may do so, though virtual time stood still.
        """
        calls = self._calls()
        owners = [(thread, row) for thread, call in calls for row in call.polled]
        self._pass_time()
        for index in self._descriptors([row for _thread, row in owners], limit):
            self.wake(owners[index][0])
        now = waiting.clock(self._kernel)
        for thread, call in calls:
            if (call.end is not None and call.end <= now) or (call.ask is not None and (call.ask <= now or limit != 0)):
                self.wake(thread)

    def _descriptors(self, polled: list[tuple[int, int]], limit: int | None) -> list[int]:
        """Which of them are ready; a signal that makes a thread ready ends the wait."""
        if limit == 0:
            self._kernel.signals.collect()
            return waiting.ready(*polled) if polled else []
        array = waiting.rows(polled)
        left = None if limit is None else ctypes.create_string_buffer(
            struct.pack("<qq", *divmod(limit, 1_000_000_000)), 16)
        try:
            sleeping.blocking("ppoll", (array, len(polled), left, None, 0), self._interrupted)
        except sleeping.Interrupted:
            return []
        return waiting.found(array)

    def _interrupted(self) -> bool:
        self._kernel.signals.collect()
        return bool(self._ready)

    # Virtual time -----------------------------------------------------------------------------------------

    def _pass_time(self) -> None:
        """Timers that are descriptors count what has expired."""
        kernel = self._kernel
        for timer in kernel.timers.values():
            timer.pass_time(kernel.virtual_time())

    def _jump(self) -> bool:
        """Go on to the next point of virtual time at which something happens; False: there is none."""
        kernel = self._kernel
        points = [call.end for _thread, call in self._calls() if call.end is not None]
        points += [timer.next for timer in kernel.timers.values() if timer.next is not None]
        if "alarms" in kernel.__dict__ and kernel.alarms.due is not None:
            points.append(kernel.alarms.due)
        if not points:
            return False
        kernel.slept += max(0, min(points) - kernel.virtual_time())
        if "alarms" in kernel.__dict__:
            kernel.alarms.catch_up()
        return True
