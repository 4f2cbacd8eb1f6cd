"""The host's signals, kept as the guest has its own, so that what is sent to us reaches it.

    the guest has a handler       a native action of ours notes the signal, and it is sent to the guest
    the guest ignores it          the host ignores it
    its action is the default     so is the host's, or whatever it was: it stops us, or ends us, by itself
    ... and the guest blocks it   the host's mask blocks it: the host keeps it until the guest lets it through

So the host decides about stopping, terminals in the background and children as if the guest were the process itself.
Faults sent by others go to the guest in every case, as their action is ours. Owns: the host's actions and mask while
`attached`. Must not know: what the guest does with a signal.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dbt.linux import siginfo
from dbt.linux.blocking import calls
from dbt.linux.host import hold
from dbt.linux.siginfo import SIGBUS, SIGCHLD, SIGSEGV, SYNCHRONOUS, UNBLOCKABLE, bit

if TYPE_CHECKING:
    from dbt.linux.signals import Signals

_KINDS = ("default", "ignore")  # by SIG_DFL and SIG_IGN
_CHILD_FLAGS = 3  # SA_NOCLDSTOP, SA_NOCLDWAIT
_LIBRARY = bit(32, 33)  # the host's C library keeps these for itself
_FAULTS = bit(SIGSEGV, SIGBUS)
_OURS = ~(UNBLOCKABLE | _LIBRARY | SYNCHRONOUS)  # what the host's actions follow the guest's of
_BY_PYTHON = bit(siginfo.SIGPIPE, 25)  # the interpreter ignores these for itself: it says nothing of who started us


class HostSignals:
    """One guest's, for one run of it at a time, in the main thread."""

    def __init__(self, signals: Signals) -> None:
        self._signals = signals
        self._calls = calls()
        self._kept: dict[int, Any] = {}  # the action that a signal had before ours
        self._actions: dict[int, tuple[str, int]] = {}  # ours: what it does, and flags
        self._noted = 0  # those that are noted
        self._before = 0  # the host's mask outside runs
        self._mask = 0  # what we have the host block
        self._attached = False

    def inherit(self) -> None:
        """A program begins with the mask of who started it, and ignores what that ignored."""
        from dbt.linux.signals import SIG_IGN

        self._signals.thread.mask = hold(signal.SIG_BLOCK, 0) & ~UNBLOCKABLE
        for number in siginfo.numbers(_OURS & siginfo.EVERY & ~_BY_PYTHON):
            if signal.getsignal(number) is signal.SIG_IGN:
                self._signals.actions[number] = {"handler": SIG_IGN, "flags": 0, "mask": 0}

    @contextmanager
    def attached(self) -> Iterator[None]:
        """While the guest runs. Faults that others send stay the guest's afterwards: their action lies below ours."""
        self._before = self._mask = hold(signal.SIG_BLOCK, 0)
        for number in siginfo.numbers(_FAULTS):
            self._calls.take_over(number, "note", 0)
        self._attached = True
        self.update()
        try:
            yield
        finally:
            self._attached = False
            self._set_actions({})
            self._set_mask(self._before)

    def update(self) -> None:
        """Dispositions have changed, and the mask, perhaps."""
        if not self._attached:
            return
        wanted = dict.fromkeys(siginfo.numbers(self._signals.claimed & _OURS), ("note", 0))
        for number, action in self._signals.actions.items():
            flags = action["flags"] & _CHILD_FLAGS if number == SIGCHLD else 0
            kind = "note" if action["handler"] > 1 or number in wanted else _KINDS[action["handler"]]
            if (kind, flags) != ("default", 0) and bit(number) & _OURS:
                wanted[number] = kind, flags
        self._set_actions(wanted)
        self._noted = bit(*[number for number, (kind, _flags) in wanted.items() if kind == "note"])
        self.update_mask()

    def update_mask(self) -> None:
        """The mask has changed."""
        if self._attached:
            self._set_mask(self._signals.blocked & ~self._noted & _OURS & siginfo.EVERY)

    def begin_child(self) -> None:
        """In a new process, while all is blocked: what Python would do of its own, to end the run in order, is left."""
        for number in (siginfo.SIGINT, *siginfo.ENDING):
            if callable(signal.getsignal(number)):
                signal.signal(number, signal.SIG_DFL)
                if number in self._actions:
                    self._kept[number] = self._calls.take_over(number, *self._actions[number])

    def _set_actions(self, wanted: dict[int, tuple[str, int]]) -> None:
        """The mask is right only afterwards, so a signal may come with either action: as on Linux."""
        if wanted == self._actions:
            return
        for number in wanted.keys() | self._actions.keys():
            if number not in wanted:
                self._calls.give_back(number, self._kept.pop(number))
            elif wanted[number] != self._actions.get(number):
                self._kept.setdefault(number, self._calls.take_over(number, *wanted[number]))
        self._actions = wanted

    def _set_mask(self, mask: int) -> None:
        if mask != self._mask:
            self._mask = mask
            hold(signal.SIG_SETMASK, mask)

    @property
    def held(self) -> int:
        return self._mask

    def pending(self) -> int:
        return bit(*signal.sigpending()) & self._mask

    def unblock(self) -> None:
        """After more came than there is room for, the kernel has kept the rest."""
        hold(signal.SIG_SETMASK, self._mask)
