"""Signals of a guest process: dispositions, mask, what is pending, and the calls on them.

A signal that is sent waits in a set; `take` gives the next one that the mask lets through, and `dbt.linux.delivery`
makes the guest run its handler. Nothing here touches registers. Sets are bits: bit n-1 is signal n.
Owns: `Signals`, the calls. Must not know: the CPU, frames, how the host tells of signals (`mirror`).
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from dbt.linux import blocking as sleeping
from dbt.linux import host, siginfo
from dbt.linux import time as guest_time
from dbt.linux.exits import Resumed, Waits
from dbt.linux.host import failure, int32
from dbt.linux.pending import Info, Pending
from dbt.linux.siginfo import (
    COUNT,
    EVERY,
    IGNORED_BY_DEFAULT,
    SI_TKILL,
    SIGCONT,
    STOPPING,
    SYNCHRONOUS,
    UNBLOCKABLE,
    bit,
)
from dbt.linux.threads import NO_STACK, SS_DISABLE, Thread, Threads

if TYPE_CHECKING:
    from dbt.linux.kernel import Kernel

SIG_DFL, SIG_IGN = 0, 1
SA_ONSTACK, SA_RESTART, SA_NODEFER, SA_RESETHAND = 0x08000000, 0x10000000, 0x40000000, 0x80000000
SS_ONSTACK, SS_AUTODISARM = 1, 1 << 31
_BLOCK, _UNBLOCK, _SETMASK = 0, 1, 2
_MINSIGSTKSZ = 2048


class Mirror(Protocol):
    """What keeps the host's signals as the guest has its own (`dbt.linux.host_signals`)."""

    def update(self) -> None:
        """Dispositions have changed, and the mask, perhaps."""

    def update_mask(self) -> None:
        """The mask has changed."""

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
    """What a process, and the thread of it that runs, know about their signals."""

    def __init__(self, threads: Threads) -> None:
        self.threads = threads
        self.actions: dict[int, dict[str, int]] = {}  # a "sigaction" by signal; absent is the default action
        self.claimed = 0  # signals that are read from a descriptor: the host has us note them whatever their action
        self.moved: Callable[[], None] = lambda: None  # called when what is pending has changed
        self.wake: Callable[[Thread], None] = lambda thread: None  # called when one may have something to deliver
        self.shared = self._nothing()  # sent to the process
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
    def thread(self) -> Thread:
        """The one that runs."""
        return self.threads.current

    @property
    def mask(self) -> int:
        return self.threads.current.mask

    @property
    def pending(self) -> int:
        """Everything that was sent to the thread or its process and not taken."""
        return self.shared.bits | self.threads.current.own.bits

    @property
    def ready(self) -> int:
        """What the thread is to take now."""
        return self.ready_for(self.threads.current)

    def ready_for(self, thread: Thread) -> int:
        """What a thread's mask lets through. What is sent to the process is for the first thread that does so."""
        shared = self.shared.bits
        if shared and thread is not self.threads.leader and self.threads.led:
            shared &= self.threads.leader.mask
        return (thread.own.bits | shared) & ~thread.mask

    @property
    def blocked(self) -> int:
        """What no thread's mask lets through."""
        common = EVERY
        for thread in self.threads.all.values():
            common &= thread.mask
        return common

    def interrupting(self) -> bool:
        """Whether a call that sleeps must end, because a signal is to be delivered."""
        self.collect()
        return bool(self.ready)

    # Sending and taking -----------------------------------------------------------------------------------

    def send(self, number: int, info: Info, to: Thread | None = None) -> bool:
        """A signal for the process, or for a thread of it; False if there is no room for one more."""
        if number == SIGCONT:
            self.discard(STOPPING)
        elif bit(number) & STOPPING:
            self.discard(bit(SIGCONT))
        mask = (to or self.threads.leader).mask
        if self.ignores(number) and not mask & bit(number):
            return True
        if not (to.own if to else self.shared).add(number, info):
            return False
        self.rouse(number, to)
        return True

    def rouse(self, number: int, to: Thread | None = None) -> None:
        """Wake who may take a signal that is pending: a handler's thread, or one that waits for it."""
        for thread in (to,) if to else self.threads.all.values():
            waits = thread.call is not None and thread.call.signals & bit(number)
            if waits or self.ready_for(thread) & bit(number):
                self.wake(thread)
                return

    def raise_signal(self, kernel: Kernel, number: int) -> None:
        """A signal that the thread's own doing has brought about, such as SIGPIPE."""
        self.send(number, siginfo.sent(kernel, number), self.thread)

    def force(self, number: int, info: bytes) -> None:
        """A fault of the thread's own: it cannot be held back. Blocked or ignored, it has its default action again."""
        thread = self.thread
        if thread.mask & bit(number) or self.disposition(number) == SIG_IGN:
            self.actions.pop(number, None)
            thread.mask &= ~bit(number)
            self.changed()
        thread.own.discard(bit(number))
        thread.own.add(number, info)

    def take(self, wanted: int) -> tuple[int, bytes] | None:
        """The next signal of a set: faults first, then the lowest; the thread's own before the process's."""
        for pending in (self.thread.own, self.shared):
            while bits := pending.bits & wanted:
                bits = bits & SYNCHRONOUS or bits
                number = (bits & -bits).bit_length()
                info = pending.take(number)
                if info is not None:
                    return number, info
        return None

    def discard(self, bits: int) -> None:
        """Forget signals of a set, to whomever they were sent."""
        self.shared.discard(bits)
        for thread in self.threads.all.values():
            thread.own.discard(bits)

    # Masks ------------------------------------------------------------------------------------------------

    def set_mask(self, mask: int) -> None:
        self.thread.mask = mask & EVERY & ~UNBLOCKABLE
        if self.mirror is not None:
            self.mirror.update_mask()

    def changed(self) -> None:
        if self.mirror is not None:
            self.mirror.update()

    @contextmanager
    def masked(self, mask: int | None) -> Iterator[None]:
        """While a call waits, another mask; if a signal ends the call, until the signal's handler is entered."""
        if mask is None:
            yield
            return
        thread = self.thread
        before, thread.saved_mask = thread.mask if thread.saved_mask is None else thread.saved_mask, None
        self.set_mask(mask)
        thread.replaced = True
        try:
            yield
        except (sleeping.Interrupted, Waits):
            thread.saved_mask = before
            raise
        except BaseException:
            self.set_mask(before)
            raise
        else:
            self.set_mask(before)
        finally:
            thread.replaced = False

    def restore_mask(self) -> None:
        """After such a call, if no handler was entered."""
        thread = self.thread
        if thread.saved_mask is not None:
            mask, thread.saved_mask = thread.saved_mask, None
            self.set_mask(mask)

    # Other programs ---------------------------------------------------------------------------------------

    def begin_child(self) -> None:
        """In a new process: nothing was sent to it yet."""
        self.shared, self.thread.own = self._nothing(), self._nothing()
        if self.mirror is not None:
            self.mirror.begin_child()

    def execute(self) -> None:
        """A new program runs: what had a handler has the default action; the mask and what is pending stay."""
        self.actions = {n: action for n, action in self.actions.items() if action["handler"] == SIG_IGN}
        self.thread.alternate = dict(NO_STACK)
        self.thread.saved_mask = None
        self.changed()

    def on_alternate(self, pointer: int) -> bool:
        """Whether a stack pointer lies on the alternate stack."""
        alternate = self.thread.alternate
        if alternate["ss_flags"] & SS_AUTODISARM:
            return False
        base, size = alternate["ss_sp"], alternate["ss_size"]
        return base < pointer <= base + size

    def alternate_state(self, pointer: int) -> dict[str, int]:
        """The alternate stack as sigaltstack tells of it to who runs on a stack."""
        alternate = self.thread.alternate
        flags = alternate["ss_flags"]
        return {**alternate, "ss_flags": int32(flags | (SS_ONSTACK if self.on_alternate(pointer) else 0))}

    def set_alternate(self, wanted: dict[str, int], pointer: int) -> None:
        """EPERM on the stack itself, EINVAL, ENOMEM."""
        if self.on_alternate(pointer):
            raise failure(errno.EPERM)
        flags = wanted["ss_flags"] & 0xFFFFFFFF & ~SS_AUTODISARM
        if flags not in (0, SS_ONSTACK, SS_DISABLE):
            raise failure(errno.EINVAL)
        if flags == SS_DISABLE:
            self.thread.alternate = dict(NO_STACK)
        elif wanted["ss_size"] < _MINSIGSTKSZ:
            raise failure(errno.ENOMEM)
        else:
            self.thread.alternate = {**wanted, "ss_flags": wanted["ss_flags"] & SS_AUTODISARM}


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
            state.discard(bit(number))
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
    found = _wait_beside(kernel, bits, limit) if kernel.threads.several else _wait_for(kernel, bits, limit)
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


def _wait_beside(kernel: Kernel, bits: int, limit: int | None) -> tuple[int, bytes] | None:
    """The same while other threads run. What the host would hold back, it tells us of from now on."""
    from dbt.linux import waiting

    state = kernel.signals
    if state.mirror is not None and state.mirror.held & bits:
        state.claimed |= state.mirror.held & bits
        state.changed()

    def taken() -> tuple[int, bytes] | None:
        state.collect()
        return state.take(bits)

    left = None if limit is None else limit - waiting.waited(kernel)
    return waiting.until(kernel, taken, left=left, restart=errno.EINTR, signals=bits)


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
    thread = kernel.thread
    again, thread.restart = thread.restart, None
    if again is None:
        raise failure(errno.EINTR)
    try:
        return again() or 0
    except Waits:
        thread.restart = again
        raise


# Sending --------------------------------------------------------------------------------------------------------


def _send(kernel: Kernel, number: int, info: bytes, to: Thread | None = None) -> None:
    if not kernel.signals.send(number, info, to):
        raise failure(errno.EAGAIN)


def kill(kernel: Kernel, pid: int, number: int) -> None:
    pid, number = int32(pid), int32(number)
    if not 0 <= number <= COUNT:
        raise failure(errno.EINVAL)
    if pid != kernel.pid:
        os.kill(kernel.family.host(pid), number)
    elif number:
        _send(kernel, number, siginfo.sent(kernel, number))


def tkill(kernel: Kernel, thread: int, number: int) -> None:
    group = kernel.pid if int32(thread) in kernel.threads.all else thread
    tgkill(kernel, group, thread, number)


def _of_group(kernel: Kernel, group: int, thread: int) -> Thread | None:
    """A thread of the guest's own; None for another process's. ESRCH: what else the host has of threads in ours is not
    for the guest to reach."""
    found = kernel.threads.all.get(thread)
    if (found is not None) != (group == kernel.pid):
        raise failure(errno.ESRCH)
    return found


def tgkill(kernel: Kernel, group: int, thread: int, number: int) -> None:
    group, thread, number = int32(group), int32(thread), int32(number)
    if group <= 0 or thread <= 0 or not 0 <= number <= COUNT:
        raise failure(errno.EINVAL)
    to = _of_group(kernel, group, thread)
    if to is None:
        host.call("tgkill", kernel.family.host(group), kernel.family.host(thread), number)
    elif number:
        _send(kernel, number, siginfo.sent(kernel, number, SI_TKILL), to)


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
        _send(kernel, int32(number), data)


def rt_tgsigqueueinfo(kernel: Kernel, group: int, thread: int, number: int, info: int) -> None:
    if int32(group) <= 0 or int32(thread) <= 0:
        raise failure(errno.EINVAL)
    to = _of_group(kernel, int32(group), int32(thread))
    data = _queued(kernel, number, info, to is not None)
    if int32(number) and not 1 <= int32(number) <= COUNT:
        raise failure(errno.EINVAL)
    if to is None:
        host.call("rt_tgsigqueueinfo", kernel.family.host(int32(group)), kernel.family.host(int32(thread)),
                  int32(number), data)
    elif int32(number):
        _send(kernel, int32(number), data, to)


CALLS: dict[str, Callable[..., int | None]] = {
    "rt_sigaction": rt_sigaction, "rt_sigprocmask": rt_sigprocmask, "rt_sigpending": rt_sigpending,
    "rt_sigsuspend": rt_sigsuspend, "rt_sigtimedwait": rt_sigtimedwait, "rt_sigreturn": rt_sigreturn,
    "restart_syscall": restart_syscall, "sigaltstack": sigaltstack, "kill": kill, "tkill": tkill, "tgkill": tgkill,
    "rt_sigqueueinfo": rt_sigqueueinfo, "rt_tgsigqueueinfo": rt_tgsigqueueinfo,
}
