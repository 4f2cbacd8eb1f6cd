"""Timers that end in a signal: setitimer and timer_create, by timers of the host's, or in virtual time by events.

A host timer tells one real-time signal of ours (NOTICE) of its expiry, whatever the guest's signal, so that a program
that uses this one as a library keeps its handlers. In virtual time the earliest timer is an event at its instruction.
Owns: the timers. Must not know: what a signal does, how instructions are counted.
"""

from __future__ import annotations

import _thread
import ctypes
import errno
import os
import struct
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from dbt.linux import siginfo
from dbt.linux import time as guest_time
from dbt.linux.blocking import calls
from dbt.linux.host import failure, int32
from dbt.linux.siginfo import COUNT, SI_KERNEL, SI_TIMER, SIGALRM, SIGPROF, SIGVTALRM, bit

if TYPE_CHECKING:
    from dbt.linux.kernel import Kernel
    from dbt.linux.threads import Thread

NOTICE = 64  # SIGRTMAX
_COOKIE = 0xD7A6 << 48  # in the value of a NOTICE, with the number of a timer: it is ours
_NUMBER = (1 << 48) - 1
_SIGEV_SIGNAL, _SIGEV_NONE, _SIGEV_THREAD_ID = 0, 1, 4
_ABSOLUTE = 1
_ITIMERS = {  # number: (clock, signal)
    0: (time.CLOCK_MONOTONIC, SIGALRM), 1: (time.CLOCK_PROCESS_CPUTIME_ID, SIGVTALRM),
    2: (time.CLOCK_PROCESS_CPUTIME_ID, SIGPROF),
}  # fmt: skip
_CPU = frozenset((2, 3))
_CLOCKS = frozenset((0, 1, 2, 3, 7, 8, 9, 11))
_AWAKE = {8: 0, 9: 7}  # clocks that wake a suspended machine, which needs a privilege: those that do not
_MOST_OVERRUN = (1 << 31) - 1
_SECOND = 1_000_000_000
_libc = ctypes.CDLL(None, use_errno=True)
_known: weakref.WeakValueDictionary[int, Timer] = weakref.WeakValueDictionary()


class Timer(ABC):
    """One timer, off. `number` is the guest's, -1 for those of setitimer."""

    def __init__(self, kernel: Kernel, clock: int, signal: int, number: int = -1, value: int = 0) -> None:
        self.kernel = kernel
        self.clock = clock
        self.signal = signal  # 0: none is sent
        self.number = number
        self.value = value
        self.thread: Thread | None = None  # that is told, alone
        self.overrun = 0  # of the signal that was delivered last
        self._missed = 0  # expiries since the signal that waits was sent
        self._waiting: object = None  # stands for the signal that waits

    def set(self, first: int, interval: int, absolute: bool) -> None:
        """Expire in `first` nanoseconds, or when the clock says so, and then at an interval; 0: never.

        A signal that still waits is taken back, as Linux does from 6.13 on.
        """
        self.stop()
        self._waiting = None
        self.start(first, interval, absolute)

    @abstractmethod
    def stop(self) -> None:
        """Turn it off, and be told of what has expired until now."""

    @abstractmethod
    def start(self, first: int, interval: int, absolute: bool) -> None:
        """As `set`."""

    @abstractmethod
    def get(self) -> tuple[int, int]:
        """Nanoseconds until it expires, 0 if it is off, and the interval."""

    def close(self) -> None:
        """It will not expire any more, nor has it."""
        self._waiting = None

    def expire(self, times: int = 1) -> None:
        """It has expired, so many times since the last one of which this was told."""
        signals = self.kernel.signals
        if not self.signal or times < 1:
            return
        if self.number < 0:
            signals.send(self.signal, siginfo.build(self.kernel.abi, "kill", self.signal, SI_KERNEL))
        elif self._waiting is not None and signals.pending & bit(self.signal):
            self._missed += times
        else:
            self._missed, self._waiting = times - 1, object()
            signals.send(self.signal, partial(self._delivered, self._waiting), self.thread)

    def _delivered(self, waiting: object) -> bytes | None:
        """The siginfo of a signal, now that it is taken."""
        if waiting is not self._waiting:
            return None
        self.overrun, self._waiting = min(self._missed, _MOST_OVERRUN), None
        return siginfo.build(self.kernel.abi, "timer", self.signal, SI_TIMER, si_tid=self.number,
                             si_overrun=self.overrun, si_value=self.value)


class HostTimer(Timer):
    """By a timer of the host's, which tells this thread."""

    _serial = 0
    _action: Any = None  # that NOTICE had

    def __init__(self, kernel: Kernel, clock: int, signal: int, number: int = -1, value: int = 0) -> None:
        super().__init__(kernel, clock, signal, number, value)
        if HostTimer._action is None:
            HostTimer._action = calls().take_over(NOTICE, "note", 0)
        HostTimer._serial += 1
        _known[HostTimer._serial] = self
        event = ctypes.create_string_buffer(struct.pack(
            "<Qiii", _COOKIE | HostTimer._serial, NOTICE, _SIGEV_THREAD_ID, _thread.get_native_id()), 64)
        self._host = ctypes.c_void_p()
        _checked(_libc.timer_create(_AWAKE.get(clock, clock), event, ctypes.byref(self._host)))
        self._pid = os.getpid()

    def stop(self) -> None:
        _checked(_libc.timer_settime(self._host, 0, bytes(32), None))
        self.kernel.signals.collect()

    def start(self, first: int, interval: int, absolute: bool) -> None:
        wanted = struct.pack("<qqqq", *divmod(interval, _SECOND), *divmod(first, _SECOND))
        _checked(_libc.timer_settime(self._host, _ABSOLUTE if absolute else 0, wanted, None))

    def get(self) -> tuple[int, int]:
        found = ctypes.create_string_buffer(32)
        _checked(_libc.timer_gettime(self._host, found))
        parts = struct.unpack("<qqqq", found.raw)
        return parts[2] * _SECOND + parts[3], parts[0] * _SECOND + parts[1]

    def close(self) -> None:
        super().close()
        if self._pid == os.getpid():  # a new process has no timers
            _libc.timer_delete(self._host)


class VirtualTimer(Timer):
    """In virtual time."""

    deadline: int | None = None  # on the clock that counts for it, see `elapsed`
    interval = 0

    @property
    def elapsed(self) -> int:
        """Its clock: of a processor, which does not sleep, or of all time."""
        return self.kernel.clock() if self.clock in _CPU else self.kernel.virtual_time()

    def stop(self) -> None:
        self.deadline = None

    def start(self, first: int, interval: int, absolute: bool) -> None:
        start = guest_time.now(self.kernel, self.clock) - self.elapsed if absolute else -self.elapsed
        self.deadline, self.interval = max(first - start, self.elapsed) if first else None, interval

    def get(self) -> tuple[int, int]:
        return (0 if self.deadline is None else max(1, self.deadline - self.elapsed)), self.interval

    def catch_up(self) -> None:
        """Expire, if it is time."""
        times, self.deadline = guest_time.expiries(self.deadline, self.interval, self.elapsed)
        self.expire(times)

    def close(self) -> None:
        super().close()
        self.stop()


class Waking(HostTimer):
    """While a call waits in a run that is otherwise in virtual time, that time passes as the host's does."""

    def expire(self, times: int = 1) -> None:
        timers = self.kernel.alarms
        if timers.due is not None:
            timers.let_pass(timers.due - self.kernel.virtual_time(), lambda: False)


def _checked(result: int) -> None:
    if result:
        raise failure(ctypes.get_errno())


def notice(info: bytes) -> bool:
    """Whether a signal that was noted is the expiry of a timer; then its guest is told."""
    number, _error, code, _align, _tid, overrun, value = struct.unpack_from("<iiiiiiQ", info)
    if number != NOTICE or code != SI_TIMER or value & ~_NUMBER != _COOKIE:
        return False
    timer = _known.get(value & _NUMBER)
    if timer is not None:
        timer.expire(1 + overrun)
    return True


class Timers:
    """Those of one guest process. `kernel.schedule(count, callback)` makes an event, which can be cancelled."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._interval: dict[int, Timer] = {}
        self._made: dict[int, Timer] = {}
        self._next = 0
        self._event: Any = None

    def new(self, clock: int, signal: int, number: int = -1, value: int = 0) -> Timer:
        kind = VirtualTimer if self._kernel.deterministic else HostTimer
        return kind(self._kernel, clock, signal, number, value)

    def interval(self, which: int) -> Timer:
        """One of the three of setitimer; EINVAL."""
        if which not in _ITIMERS:
            raise failure(errno.EINVAL)
        if which not in self._interval:
            self._interval[which] = self.new(*_ITIMERS[which])
        return self._interval[which]

    def create(self, clock: int, signal: int, value: int | None, thread: Thread | None) -> int:
        """The number of a new timer, which is its value too if none is given."""
        number, self._next = self._next, self._next + 1
        self._made[number] = self.new(clock, signal, number, number if value is None else value)
        self._made[number].thread = thread
        return number

    def get(self, number: int) -> Timer:
        """EINVAL if there is none."""
        if number not in self._made:
            raise failure(errno.EINVAL)
        return self._made[number]

    def delete(self, number: int) -> None:
        self.get(number).close()
        del self._made[number]
        self.changed()

    def begin_child(self) -> None:
        """A new process has no timers."""
        self._interval, self._made, self._event = {}, {}, None

    def execute(self) -> None:
        """Timers of timer_create end with the program that made them; those of setitimer go on."""
        for timer in self._made.values():
            timer.close()
        self._made = {}
        self.changed()

    def close(self) -> None:
        for timer in (*self._interval.values(), *self._made.values()):
            timer.close()
        self.begin_child()

    # --- virtual time -------------------------------------------------------------------------------------

    def _virtual(self) -> Iterable[VirtualTimer]:
        for timer in (*self._interval.values(), *self._made.values()):
            if isinstance(timer, VirtualTimer) and timer.deadline is not None:
                yield timer

    @property
    def due(self) -> int | None:
        """When the next timer expires that sleeping brings nearer, in virtual time."""
        waking = (timer.deadline for timer in self._virtual() if timer.clock not in _CPU)
        return min((deadline for deadline in waking if deadline is not None), default=None)

    def changed(self) -> None:
        """Have the next expiry happen at its instruction."""
        if self._event is not None:
            self._event.cancelled = True
            self._event = None
        counts = [self._kernel.clock() + max(0, t.deadline - t.elapsed) for t in self._virtual()
                  if t.deadline is not None]
        if counts and self._kernel.schedule is not None:
            self._event = self._kernel.schedule(min(counts), self.catch_up)

    def catch_up(self) -> None:
        """Let all expire for which it is time."""
        for timer in list(self._virtual()):
            timer.catch_up()
        self.changed()

    @contextmanager
    def waking(self) -> Iterator[None]:
        """While a call of the host's waits: the next timer ends it."""
        timer = Waking(self._kernel, time.CLOCK_MONOTONIC, 0)
        timer.set(max(1, (self.due or 0) - self._kernel.virtual_time()), 0, absolute=False)
        try:
            yield
        finally:
            timer.close()

    def let_pass(self, duration: int | None, ended: Callable[[], bool]) -> None:
        """Let virtual time pass while nothing runs, until `ended()`, or for ever if no timer is set."""
        kernel = self._kernel
        end = None if duration is None else kernel.virtual_time() + max(0, duration)
        while not ended():
            steps = [time for time in (end, self.due) if time is not None]
            if not steps:
                return
            kernel.slept += max(0, min(steps) - kernel.virtual_time())
            self.catch_up()
            if end is not None and kernel.virtual_time() >= end:
                return


# Calls ----------------------------------------------------------------------------------------------------------


def _take(kernel: Kernel, address: int, form: str) -> tuple[int, int]:
    """(first, interval) in nanoseconds; EINVAL."""
    value = kernel.take(address, form)
    unit, parts = ("usec", 1000) if form == "itimerval" else ("nsec", 1)
    found = []
    for name in ("value", "interval"):
        seconds, rest = value[f"{name}_sec"], value[f"{name}_{unit}"]
        if seconds < 0 or not 0 <= rest * parts < _SECOND:
            raise failure(errno.EINVAL)
        found.append(seconds * _SECOND + rest * parts)
    return found[0], found[1]


def _put(kernel: Kernel, address: int, form: str, times: tuple[int, int]) -> None:
    unit, parts = ("usec", 1000) if form == "itimerval" else ("nsec", 1)
    values: dict[str, int] = {}
    for name, nanoseconds in zip(("value", "interval"), times, strict=True):
        seconds, rest = divmod(nanoseconds, _SECOND)
        values |= {f"{name}_sec": seconds, f"{name}_{unit}": rest // parts}
        if nanoseconds and not seconds and not rest // parts:
            values[f"{name}_{unit}"] = 1  # it is on
    kernel.put(address, form, **values)


def setitimer(kernel: Kernel, which: int, new: int, old: int) -> None:
    timer = kernel.alarms.interval(int32(which))
    wanted = _take(kernel, new, "itimerval") if new else (0, 0)
    before = timer.get()
    timer.set(*wanted, absolute=False)
    kernel.alarms.changed()
    if old:
        _put(kernel, old, "itimerval", before)


def getitimer(kernel: Kernel, which: int, result: int) -> None:
    _put(kernel, result, "itimerval", kernel.alarms.interval(int32(which)).get())


def timer_create(kernel: Kernel, clock: int, event: int, result: int) -> None:
    clock = int32(clock)
    if clock not in _CLOCKS:
        raise failure(errno.EINVAL)
    signal, value, thread = SIGALRM, None, None
    if event:
        wanted = kernel.take(event, "sigevent")
        signal, value = wanted["sigev_signo"], wanted["sigev_value"]
        notify = wanted["sigev_notify"]
        if notify == _SIGEV_THREAD_ID:
            thread = kernel.threads.all.get(wanted["sigev_tid"])
        if notify == _SIGEV_NONE:
            signal = 0
        elif (notify != _SIGEV_SIGNAL and thread is None) or not 1 <= signal <= COUNT:
            raise failure(errno.EINVAL)
    kernel.space.check(result, 4, 2)
    kernel.space.write(result, kernel.alarms.create(clock, signal, value, thread).to_bytes(4, "little"))


def timer_settime(kernel: Kernel, number: int, flags: int, new: int, old: int) -> None:
    timer = kernel.alarms.get(int32(number))
    wanted = _take(kernel, new, "itimerspec")
    before = timer.get()
    timer.set(*wanted, absolute=bool(flags & _ABSOLUTE))
    kernel.alarms.changed()
    if old:
        _put(kernel, old, "itimerspec", before)


def timer_gettime(kernel: Kernel, number: int, result: int) -> None:
    _put(kernel, result, "itimerspec", kernel.alarms.get(int32(number)).get())


def timer_getoverrun(kernel: Kernel, number: int) -> int:
    return kernel.alarms.get(int32(number)).overrun


def timer_delete(kernel: Kernel, number: int) -> None:
    kernel.alarms.delete(int32(number))


CALLS: dict[str, Callable[..., int | None]] = {
    "setitimer": setitimer, "getitimer": getitimer, "timer_create": timer_create, "timer_settime": timer_settime,
    "timer_gettime": timer_gettime, "timer_getoverrun": timer_getoverrun, "timer_delete": timer_delete,
}
