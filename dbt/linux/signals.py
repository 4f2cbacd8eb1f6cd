"""Signals as bookkeeping: dispositions, mask, pending set, and the end of a guest by a signal's default action.

Owns: `Signals`, and the calls on them. Running a guest's handlers is not done yet: a signal that has one stays
pending, and the user is told once.
"""

from __future__ import annotations

import errno
import os
import signal as host_signal
from collections.abc import Callable
from typing import TYPE_CHECKING

from dbt.linux.exits import Killed
from dbt.linux.host import failure, int32

if TYPE_CHECKING:
    from dbt.linux.kernel import Kernel

SIG_DFL, SIG_IGN = 0, 1
COUNT = 64
_SIGKILL, _SIGSTOP = 9, 19
_IGNORED_BY_DEFAULT = frozenset((17, 18, 23, 28))  # CHLD, CONT, URG, WINCH
_STOPPING = frozenset((19, 20, 21, 22))  # STOP, TSTP, TTIN, TTOU
_UNBLOCKABLE = 1 << (_SIGKILL - 1) | 1 << (_SIGSTOP - 1)
_BLOCK, _UNBLOCK, _SETMASK = 0, 1, 2
_SS_ONSTACK, _SS_DISABLE, _SS_AUTODISARM, _MINSIGSTKSZ = 1, 2, 1 << 31, 2048


class Signals:
    """What a process knows about its signals; numbers are Linux's generic ones."""

    def __init__(self) -> None:
        self.actions: dict[int, dict[str, int]] = {}  # a "sigaction" by signal; absent is the default action
        self.mask = 0  # bit n-1 is signal n
        self.pending = 0
        self.alternate = {"ss_sp": 0, "ss_flags": _SS_DISABLE, "ss_size": 0}

    def execute(self) -> None:
        """Another program: it has no handlers, and no stack for them."""
        self.actions = {number: action for number, action in self.actions.items() if action["handler"] == SIG_IGN}
        self.alternate = {"ss_sp": 0, "ss_flags": _SS_DISABLE, "ss_size": 0}

    def begin_child(self) -> None:
        """In a child: what is pending is its parent's."""
        self.pending = 0

    def disposition(self, number: int) -> int:
        """SIG_DFL, SIG_IGN or the address of a handler."""
        action = self.actions.get(number)
        return action["handler"] if action else SIG_DFL

    def interrupting(self) -> bool:
        """Whether a call that sleeps must end, because a signal is to be delivered: none are yet."""
        return False

    def raise_signal(self, kernel: Kernel, number: int) -> None:
        """A signal for the guest itself: nothing, pending, stopped, or Killed."""
        bit = 1 << (number - 1)
        if self.mask & bit:
            self.pending |= bit
            return
        handler = self.disposition(number)
        if handler == SIG_IGN or (handler == SIG_DFL and number in _IGNORED_BY_DEFAULT):
            return
        if handler != SIG_DFL:
            self.pending |= bit
            kernel.tell_once(f"the guest's handler for signal {number} was not run: handlers are not supported yet")
        elif number in _STOPPING:
            os.kill(os.getpid(), host_signal.SIGSTOP)
        else:
            raise Killed(number)

    def set_mask(self, kernel: Kernel, mask: int) -> None:
        self.mask = mask & ~_UNBLOCKABLE
        ready = self.pending & ~self.mask
        for number in range(1, COUNT + 1):
            if ready >> (number - 1) & 1:
                self.pending &= ~(1 << (number - 1))
                self.raise_signal(kernel, number)


def _number(value: int) -> int:
    number = int32(value)
    if not 1 <= number <= COUNT:
        raise failure(errno.EINVAL)
    return number


def rt_sigaction(kernel: Kernel, number: int, new: int, old: int, size: int) -> None:
    number = _number(number)
    if size != 8 or (new and number in (_SIGKILL, _SIGSTOP)):
        raise failure(errno.EINVAL)
    state = kernel.signals
    action = kernel.take(new, "sigaction") if new else None
    if old:
        kernel.put(old, "sigaction", **state.actions.get(number, {}))
    if action is not None:
        action["mask"] &= ~_UNBLOCKABLE
        state.actions[number] = action
        handler = action["handler"]
        if handler == SIG_IGN or (handler == SIG_DFL and number in _IGNORED_BY_DEFAULT):
            state.pending &= ~(1 << (number - 1))


def rt_sigprocmask(kernel: Kernel, how: int, new: int, old: int, size: int) -> None:
    if size != 8:
        raise failure(errno.EINVAL)
    state = kernel.signals
    mask = state.mask
    if new:
        bits = int.from_bytes(kernel.space.read(new, 8), "little")
        how = int32(how)
        if how == _BLOCK:
            mask |= bits
        elif how == _UNBLOCK:
            mask &= ~bits
        elif how == _SETMASK:
            mask = bits
        else:
            raise failure(errno.EINVAL)
    if old:
        kernel.space.write(old, state.mask.to_bytes(8, "little"))
    state.set_mask(kernel, mask)


def rt_sigpending(kernel: Kernel, result: int, size: int) -> None:
    if size > 8:
        raise failure(errno.EINVAL)
    kernel.space.write(result, kernel.signals.pending.to_bytes(8, "little")[:size])


def sigaltstack(kernel: Kernel, new: int, old: int) -> None:
    state = kernel.signals
    wanted = kernel.take(new, "sigaltstack") if new else None
    if old:
        kernel.put(old, "sigaltstack", **state.alternate)
    if wanted is None:
        return
    flags = wanted["ss_flags"] & 0xFFFFFFFF & ~_SS_AUTODISARM
    if flags not in (0, _SS_ONSTACK, _SS_DISABLE):
        raise failure(errno.EINVAL)
    if flags == _SS_DISABLE:
        state.alternate = {"ss_sp": 0, "ss_flags": _SS_DISABLE, "ss_size": 0}
    elif wanted["ss_size"] < _MINSIGSTKSZ:
        raise failure(errno.ENOMEM)
    else:
        state.alternate = {**wanted, "ss_flags": int32(wanted["ss_flags"] & _SS_AUTODISARM)}


def _send(kernel: Kernel, pid: int, number: int) -> None:
    if not 0 <= number <= COUNT:
        raise failure(errno.EINVAL)
    if pid != kernel.pid:
        os.kill(kernel.family.host(pid), number)
    elif number:
        kernel.signals.raise_signal(kernel, number)


def kill(kernel: Kernel, pid: int, number: int) -> None:
    _send(kernel, int32(pid), int32(number))


def tkill(kernel: Kernel, thread: int, number: int) -> None:
    if int32(thread) <= 0:
        raise failure(errno.EINVAL)
    if int32(thread) != kernel.pid:
        raise failure(errno.ESRCH)
    _send(kernel, kernel.pid, int32(number))


def tgkill(kernel: Kernel, group: int, thread: int, number: int) -> None:
    if int32(group) <= 0:
        raise failure(errno.EINVAL)
    if int32(group) != kernel.pid:
        raise failure(errno.ESRCH)
    tkill(kernel, thread, number)


CALLS: dict[str, Callable[..., int | None]] = {
    "rt_sigaction": rt_sigaction, "rt_sigprocmask": rt_sigprocmask, "rt_sigpending": rt_sigpending,
    "sigaltstack": sigaltstack, "kill": kill, "tkill": tkill, "tgkill": tgkill,
}
