"""Signals of a guest process: dispositions, mask, what is pending, and the calls on them.

A signal that is sent waits in a set; `take` gives the next one that the mask lets through, and `dbt.linux.delivery`
makes the guest run its handler. Nothing here touches registers. Sets are bits: bit n-1 is signal n.
Owns: `Signals`, `Pending`, the calls. Must not know: the CPU, frames, how the host tells of signals (`mirror`).
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from dbt.linux import blocking as sleeping
from dbt.linux import host, siginfo
from dbt.linux import time as guest_time
from dbt.linux.exits import Resumed
from dbt.linux.host import failure, int32
from dbt.linux.siginfo import (
    COUNT,
    EVERY,
    IGNORED_BY_DEFAULT,
    REAL_TIME,
    SI_TKILL,
    SIGCONT,
    STOPPING,
    SYNCHRONOUS,
    UNBLOCKABLE,
    bit,
)

if TYPE_CHECKING:
    from dbt.linux.kernel import Kernel

SIG_DFL, SIG_IGN = 0, 1
SA_ONSTACK, SA_RESTART, SA_NODEFER, SA_RESETHAND = 0x08000000, 0x10000000, 0x40000000, 0x80000000
SS_ONSTACK, SS_DISABLE, SS_AUTODISARM = 1, 2, 1 << 31
NO_STACK = {"ss_sp": 0, "ss_flags": SS_DISABLE, "ss_size": 0}
_BLOCK, _UNBLOCK, _SETMASK = 0, 1, 2
_MINSIGSTKSZ = 2048
_QUEUED_MOST = 1 << 16  # real-time signals that wait at once

Info = bytes | Callable[[], bytes | None]  # a siginfo, or what gives it, or None, when the signal is to be taken


class Pending:
    """Signals that were sent and not taken: a standard one once, a real-time one as often as it was sent, in order."""

    def __init__(self, moved: Callable[[], None]) -> None:
        self.bits = 0
        self._moved = moved  # called when something has been added or taken away
        self._queues: dict[int, deque[Info]] = {}

    def add(self, number: int, info: Info) -> bool:
        """False: there is no room for another real-time signal."""
        queue = self._queues.setdefault(number, deque())
        if number < REAL_TIME and queue:
            return True
        if len(queue) >= _QUEUED_MOST:
            return False
        queue.append(info)
        self.bits |= bit(number)
        self._moved()
        return True

    def take(self, number: int) -> bytes | None:
        """The oldest of this number, which is pending; None: who sent it has taken it back."""
        queue = self._queues[number]
        info = queue.popleft()
        if not queue:
            self.bits &= ~bit(number)
        self._moved()
        return info if isinstance(info, bytes) else info()

    def discard(self, bits: int) -> None:
        for number in siginfo.numbers(bits & self.bits):
            self._queues[number].clear()
        self.bits &= ~bits
        self._moved()


class Mirror(Protocol):
    """What keeps the host's signals as the guest has its own (`dbt.linux.host_signals`)."""

    def update(self) -> None:
        """Dispositions or the mask have changed."""

    @property
    def held(self) -> int:
        """Signals that the host keeps because the guest blocks them and has no handler."""

    def pending(self) -> int:
        """Those of them that have been sent."""

    def begin_child(self) -> None:
        """We are in a new process, in which all is blocked for now."""

    def unblock(self) -> None:
        """The host may send again what it kept while there was no room here."""


class Signals:
    """What a process, and its one thread, know about their signals."""

    def __init__(self) -> None:
        self.actions: dict[int, dict[str, int]] = {}  # a "sigaction" by signal; absent is the default action
        self.mask = 0
        self.claimed = 0  # signals that are read from a descriptor: the host has us note them whatever their action
        self.moved: Callable[[], None] = lambda: None  # called when what is pending has changed
        self.shared = self._nothing()  # sent to the process
        self.own = self._nothing()  # sent to the thread
        self.alternate = dict(NO_STACK)
        self.replaced = False  # a call has put in a mask of its own
        self.saved_mask: int | None = None  # what a call that put in a mask of its own is to put back
        self.mirror: Mirror | None = None
        self.collect: Callable[[], None] = lambda: None  # send what has come from outside

    def _nothing(self) -> Pending:
        return Pending(lambda: self.moved())

    def disposition(self, number: int) -> int:
        """SIG_DFL, SIG_IGN or the address of a handler."""
        action = self.actions.get(number)
        return action["handler"] if action else SIG_DFL

    def ignores(self, number: int) -> bool:
        handler = self.disposition(number)
        return handler == SIG_IGN or (handler == SIG_DFL and bool(bit(number) & IGNORED_BY_DEFAULT))

    @property
    def pending(self) -> int:
        """Everything that was sent and not taken."""
        return self.shared.bits | self.own.bits

    @property
    def ready(self) -> int:
        """What the mask lets through."""
        return (self.shared.bits | self.own.bits) & ~self.mask

    def interrupting(self) -> bool:
        """Whether a call that sleeps must end, because a signal is to be delivered."""
        self.collect()
        return bool(self.ready)

    # Sending and taking -----------------------------------------------------------------------------------

    def send(self, number: int, info: Info, own: bool = False) -> bool:
        """A signal for the process, or for its thread; False if there is no room for one more."""
        if number == SIGCONT:
            self._discard(STOPPING)
        elif bit(number) & STOPPING:
            self._discard(bit(SIGCONT))
        if self.ignores(number) and not self.mask & bit(number):
            return True
        return (self.own if own else self.shared).add(number, info)

    def raise_signal(self, kernel: Kernel, number: int) -> None:
        """A signal that the thread's own doing has brought about, such as SIGPIPE."""
        self.send(number, siginfo.sent(kernel, number), own=True)

    def force(self, number: int, info: bytes) -> None:
        """A fault of the thread's own: it cannot be held back. Blocked or ignored, it has its default action again."""
        if self.mask & bit(number) or self.disposition(number) == SIG_IGN:
            self.actions.pop(number, None)
            self.mask &= ~bit(number)
            self.changed()
        self.own.discard(bit(number))
        self.own.add(number, info)

    def take(self, wanted: int) -> tuple[int, bytes] | None:
        """The next signal of a set: faults first, then the lowest; the thread's own before the process's."""
        for pending in (self.own, self.shared):
            while bits := pending.bits & wanted:
                bits = bits & SYNCHRONOUS or bits
                number = (bits & -bits).bit_length()
                info = pending.take(number)
                if info is not None:
                    return number, info
        return None

    def _discard(self, bits: int) -> None:
        self.shared.discard(bits)
        self.own.discard(bits)

    # Masks ------------------------------------------------------------------------------------------------

    def set_mask(self, mask: int) -> None:
        self.mask = mask & EVERY & ~UNBLOCKABLE
        self.changed()

    def changed(self) -> None:
        if self.mirror is not None:
            self.mirror.update()

    @contextmanager
    def masked(self, mask: int | None) -> Iterator[None]:
        """While a call waits, another mask; if a signal ends the call, until the signal's handler is entered."""
        if mask is None:
            yield
            return
        before = self.mask
        self.set_mask(mask)
        self.replaced = True
        try:
            yield
        except sleeping.Interrupted:
            self.saved_mask = before
            raise
        except BaseException:
            self.set_mask(before)
            raise
        else:
            self.set_mask(before)
        finally:
            self.replaced = False

    def restore_mask(self) -> None:
        """After such a call, if no handler was entered."""
        if self.saved_mask is not None:
            mask, self.saved_mask = self.saved_mask, None
            self.set_mask(mask)

    # Other programs ---------------------------------------------------------------------------------------

    def begin_child(self) -> None:
        """In a new process: nothing was sent to it yet."""
        self.shared, self.own = self._nothing(), self._nothing()
        if self.mirror is not None:
            self.mirror.begin_child()

    def execute(self) -> None:
        """A new program runs: what had a handler has the default action; the mask and what is pending stay."""
        self.actions = {n: action for n, action in self.actions.items() if action["handler"] == SIG_IGN}
        self.alternate = dict(NO_STACK)
        self.saved_mask = None
        self.changed()

    def on_alternate(self, pointer: int) -> bool:
        """Whether a stack pointer lies on the alternate stack."""
        if self.alternate["ss_flags"] & SS_AUTODISARM:
            return False
        base, size = self.alternate["ss_sp"], self.alternate["ss_size"]
        return base < pointer <= base + size

    def alternate_state(self, pointer: int) -> dict[str, int]:
        """The alternate stack as sigaltstack tells of it to who runs on a stack."""
        flags = self.alternate["ss_flags"]
        return {**self.alternate, "ss_flags": int32(flags | (SS_ONSTACK if self.on_alternate(pointer) else 0))}

    def set_alternate(self, wanted: dict[str, int], pointer: int) -> None:
        """EPERM on the stack itself, EINVAL, ENOMEM."""
        if self.on_alternate(pointer):
            raise failure(errno.EPERM)
        flags = wanted["ss_flags"] & 0xFFFFFFFF & ~SS_AUTODISARM
        if flags not in (0, SS_ONSTACK, SS_DISABLE):
            raise failure(errno.EINVAL)
        if flags == SS_DISABLE:
            self.alternate = dict(NO_STACK)
        elif wanted["ss_size"] < _MINSIGSTKSZ:
            raise failure(errno.ENOMEM)
        else:
            self.alternate = {**wanted, "ss_flags": wanted["ss_flags"] & SS_AUTODISARM}


# Calls ----------------------------------------------------------------------------------------------------------


def _number(value: int) -> int:
    number = int32(value)
    if not 1 <= number <= COUNT:
        raise failure(errno.EINVAL)
    return number


def _set(kernel: Kernel, address: int, size: int) -> int:
    if size != 8:
        raise failure(errno.EINVAL)
    return int.from_bytes(kernel.space.read(address, 8), "little")


def mask_argument(kernel: Kernel, address: int, size: int) -> int | None:
    """The mask that a call such as ppoll waits with; None: it keeps the one there is."""
    return _set(kernel, address, size) if address else None


def rt_sigaction(kernel: Kernel, number: int, new: int, old: int, size: int) -> None:
    number = _number(number)
    if size != 8 or (new and bit(number) & UNBLOCKABLE):
        raise failure(errno.EINVAL)
    state = kernel.signals
    action = kernel.take(new, "sigaction") if new else None
    if old:
        kernel.put(old, "sigaction", **state.actions.get(number, {}))
    if action is not None:
        action["mask"] &= ~UNBLOCKABLE
        state.actions[number] = action
        if state.ignores(number):
            state.shared.discard(bit(number))
            state.own.discard(bit(number))
        state.changed()


def rt_sigprocmask(kernel: Kernel, how: int, new: int, old: int, size: int) -> None:
    if size != 8:
        raise failure(errno.EINVAL)
    state = kernel.signals
    mask = before = state.mask
    if new:
        bits = _set(kernel, new, 8)
        how = int32(how)
        if how == _BLOCK:
            mask |= bits
        elif how == _UNBLOCK:
            mask &= ~bits
        elif how == _SETMASK:
            mask = bits
        else:
            raise failure(errno.EINVAL)
    if new:
        state.set_mask(mask)
    if old:
        kernel.space.write(old, before.to_bytes(8, "little"))


def rt_sigpending(kernel: Kernel, result: int, size: int) -> None:
    if size > 8:
        raise failure(errno.EINVAL)
    state = kernel.signals
    state.collect()
    bits = state.pending & state.mask
    if state.mirror is not None:
        bits |= state.mirror.pending()
    kernel.space.write(result, bits.to_bytes(8, "little")[:size])


def rt_sigsuspend(kernel: Kernel, mask: int, size: int) -> None:
    with kernel.signals.masked(_set(kernel, mask, size)):
        guest_time.sleep(kernel, None, sleeping.ERESTARTNOHAND)


def rt_sigtimedwait(kernel: Kernel, wanted: int, info: int, timeout: int, size: int) -> int:
    bits = _set(kernel, wanted, size) & ~UNBLOCKABLE
    limit = kernel.take_time(timeout) if timeout else None
    found = _wait_for(kernel, bits, limit)
    if found is None:
        raise failure(errno.EAGAIN)
    number, data = found
    if info:
        kernel.space.write(info, data)
    return number


def _wait_for(kernel: Kernel, bits: int, limit: int | None) -> tuple[int, bytes] | None:
    """Take a signal of a set, here or from the host, which holds back what the guest blocks; None: time is over."""
    state = kernel.signals

    def come() -> bool:
        state.collect()
        return bool(state.pending & bits or state.ready)

    buffer = ctypes.create_string_buffer(128)
    held = state.mirror.held & bits if state.mirror is not None else 0
    end = None if limit is None else struct.pack("<qq", *divmod(limit, 1_000_000_000))
    try:
        if not come() and kernel.deterministic and not held:
            guest_time.sleep(kernel, limit, errno.EINTR, come)
            return None
        number = sleeping.blocking("rt_sigtimedwait", (held.to_bytes(8, "little"), buffer, end, 8), come)
    except sleeping.Interrupted:
        found = state.take(bits)
        if found is None:
            raise
        return found
    except BlockingIOError:  # EAGAIN
        return None
    return number, buffer.raw


def sigaltstack(kernel: Kernel, new: int, old: int) -> None:
    state, pointer = kernel.signals, kernel.stack_pointer()
    wanted = kernel.take(new, "sigaltstack") if new else None
    before = state.alternate_state(pointer)
    if wanted is not None:
        state.set_alternate(wanted, pointer)
    if old:
        kernel.put(old, "sigaltstack", **before)


def rt_sigreturn(kernel: Kernel) -> None:
    """The registers are those of the frame on the stack: whoever runs the CPU puts them back."""
    raise Resumed


def restart_syscall(kernel: Kernel) -> int:
    """Go on with the call that a signal interrupted."""
    again, kernel.restart = kernel.restart, None
    if again is None:
        raise failure(errno.EINTR)
    return again() or 0


# Sending --------------------------------------------------------------------------------------------------------


def _send(kernel: Kernel, number: int, info: bytes, own: bool) -> None:
    if not kernel.signals.send(number, info, own):
        raise failure(errno.EAGAIN)


def kill(kernel: Kernel, pid: int, number: int) -> None:
    pid, number = int32(pid), int32(number)
    if not 0 <= number <= COUNT:
        raise failure(errno.EINVAL)
    if pid != kernel.pid:
        os.kill(kernel.family.host(pid), number)
    elif number:
        _send(kernel, number, siginfo.sent(kernel, number), own=False)


def tkill(kernel: Kernel, thread: int, number: int) -> None:
    tgkill(kernel, thread, thread, number)


def _only_thread(kernel: Kernel, group: int, thread: int) -> None:
    """The guest's process has one: what else the host has of threads in ours is not for it to reach."""
    if (thread == kernel.pid) != (group == kernel.pid):
        raise failure(errno.ESRCH)


def tgkill(kernel: Kernel, group: int, thread: int, number: int) -> None:
    group, thread, number = int32(group), int32(thread), int32(number)
    if group <= 0 or thread <= 0 or not 0 <= number <= COUNT:
        raise failure(errno.EINVAL)
    _only_thread(kernel, group, thread)
    if thread != kernel.pid:
        host.call("tgkill", kernel.family.host(group), kernel.family.host(thread), number)
    elif number:
        _send(kernel, number, siginfo.sent(kernel, number, SI_TKILL), own=True)


def _queued(kernel: Kernel, number: int, info: int, mine: bool) -> bytes:
    """The guest's siginfo for a signal; EPERM where it would look as if the kernel had sent it to somebody else."""
    data = kernel.space.read(info, 128)
    if not mine and (siginfo.code_of(data) >= 0 or siginfo.code_of(data) == SI_TKILL):
        raise failure(errno.EPERM)
    return int32(number).to_bytes(4, "little", signed=True) + data[4:]


def rt_sigqueueinfo(kernel: Kernel, pid: int, number: int, info: int) -> None:
    mine = int32(pid) == kernel.pid
    data = _queued(kernel, number, info, mine)
    if int32(number) and not 1 <= int32(number) <= COUNT:
        raise failure(errno.EINVAL)
    if not mine:
        host.call("rt_sigqueueinfo", kernel.family.host(int32(pid)), int32(number), data)
    elif int32(number):
        _send(kernel, int32(number), data, own=False)


def rt_tgsigqueueinfo(kernel: Kernel, group: int, thread: int, number: int, info: int) -> None:
    if int32(group) <= 0 or int32(thread) <= 0:
        raise failure(errno.EINVAL)
    _only_thread(kernel, int32(group), int32(thread))
    mine = int32(thread) == kernel.pid
    data = _queued(kernel, number, info, mine)
    if int32(number) and not 1 <= int32(number) <= COUNT:
        raise failure(errno.EINVAL)
    if not mine:
        host.call("rt_tgsigqueueinfo", kernel.family.host(int32(group)), kernel.family.host(int32(thread)),
                  int32(number), data)
    elif int32(number):
        _send(kernel, int32(number), data, own=True)


CALLS: dict[str, Callable[..., int | None]] = {
    "rt_sigaction": rt_sigaction, "rt_sigprocmask": rt_sigprocmask, "rt_sigpending": rt_sigpending,
    "rt_sigsuspend": rt_sigsuspend, "rt_sigtimedwait": rt_sigtimedwait, "rt_sigreturn": rt_sigreturn,
    "restart_syscall": restart_syscall, "sigaltstack": sigaltstack, "kill": kill, "tkill": tkill, "tgkill": tgkill,
    "rt_sigqueueinfo": rt_sigqueueinfo, "rt_tgsigqueueinfo": rt_tgsigqueueinfo,
}
