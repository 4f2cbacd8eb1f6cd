"""What the kernel knows of each thread of a guest process, and how a thread ends.

Owns: `Thread`, `Threads` (who there is, and who has the CPU), numbers of threads, the walk of robust lists. Must not
know: whose turn it is next (scheduler.py), what a wait is for (waiting.py), registers: they are bytes here.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from dbt.linux.exits import ThreadEnded
from dbt.linux.host import failure, int32
from dbt.linux.pending import Pending
from dbt.memory import MemoryFault

if TYPE_CHECKING:
    from dbt.linux.kernel import Kernel
    from dbt.linux.rseq import Area
    from dbt.linux.waiting import Waiting

SS_DISABLE = 2
NO_STACK = {"ss_sp": 0, "ss_flags": SS_DISABLE, "ss_size": 0}
FUTEX_WAITERS, FUTEX_OWNER_DIED, FUTEX_TID = 1 << 31, 1 << 30, (1 << 30) - 1  # of a lock's word
_FIRST, _LAST = 1 << 22, 1 << 30  # numbers that no process has, and that fit in a lock's word
_BLOCK = 256  # of them are one process's
_SPREAD = 0x9E3779B1
_ROBUST_HEAD_SIZE = 24
_ROBUST_MOST = 2048  # entries, as Linux


class Thread:
    """One thread. `registers`, `pc`: while another one has the CPU."""

    def __init__(self, tid: int, name: bytes, moved: Callable[[], None]) -> None:
        self.tid = tid
        self.name = name
        self.registers = b""
        self.pc = 0
        self.mask = 0
        self.own = Pending(moved)  # signals sent to it
        self.alternate = dict(NO_STACK)
        self.replaced = False  # a call has put in a mask of its own
        self.saved_mask: int | None = None  # what that call is to put back
        self.clear_child_tid = 0
        self.robust_list = (0, 0)
        self.rseq: Area | None = None  # where it says which restartable sequence it is in
        self.restart: Callable[[], int | None] | None = None  # what restart_syscall goes on with
        self.call: Waiting | None = None  # the system call that it waits in


class Threads:
    """Those of one process, by number."""

    def __init__(self, pid: int, name: bytes, moved: Callable[[], None]) -> None:
        self._moved = moved
        self.current = self.leader = Thread(pid, name, moved)
        self.all = {pid: self.current}
        self.led = True  # the leader has not ended before others
        self.woke = False  # the one whose turn it is has made another one ready
        self.spared = False  # the call that it makes could have waited, and need not
        self.spawn: Callable[[Thread, int | None, int | None], None] | None = None  # have a new one run
        self._serial = 0

    @property
    def several(self) -> bool:
        return len(self.all) > 1

    def get(self, tid: int) -> Thread:
        """0 is the one that runs; ESRCH."""
        found = self.all.get(tid) if tid else self.current
        if found is None:
            raise failure(errno.ESRCH)
        return found

    def make(self) -> Thread:
        """Another one, as the current one's child."""
        parent = self.current
        made = Thread(self._number(), parent.name, self._moved)
        made.mask = parent.mask
        self.all[made.tid] = made
        return made

    def _number(self) -> int:
        """One that is free here, and, of the first ones, in all processes. They follow each other, as on Linux."""
        for tries in range(_BLOCK):
            number = self._at((self._serial + tries) % _BLOCK)
            if number not in self.all:
                self._serial = (self._serial + tries + 1) % _BLOCK
                return number
        serial = _BLOCK
        while (number := self._at(serial)) in self.all:
            serial += 1
        return number

    def _at(self, serial: int) -> int:
        blocks = (_LAST - _FIRST) // _BLOCK
        return _FIRST + (self.leader.tid + serial // _BLOCK * _SPREAD) % blocks * _BLOCK + serial % _BLOCK

    def only(self, pid: int) -> None:
        """All others are gone, and what is left is the process's first thread."""
        left = self.current
        left.tid = pid
        self.leader, self.all, self.led, self._serial = left, {pid: left}, True, 0

    def remove(self, thread: Thread) -> None:
        del self.all[thread.tid]


# The end of a thread ------------------------------------------------------------------------------------------------


def release(kernel: Kernel, thread: Thread) -> None:
    """Let go of what a thread holds: locks, and the word that others wait for to see it end."""
    leave_locks(kernel, thread)
    word, thread.clear_child_tid = thread.clear_child_tid, 0
    if word and len(kernel.threads.all) > 1:
        with suppress(MemoryFault):  # nobody is told, as on Linux
            kernel.space.write(word, bytes(4))
            _wake(kernel, word)


def leave_locks(kernel: Kernel, thread: Thread) -> None:
    """Say of every robust lock of a thread's that its owner has died, and hand over those that are handed over."""
    with suppress(MemoryFault):
        _walk_robust_list(kernel, thread)
    thread.robust_list = 0, 0
    if kernel.futexes:
        from dbt.linux.futex_locks import hand_over_all

        hand_over_all(kernel, thread)


def _walk_robust_list(kernel: Kernel, thread: Thread) -> None:
    """The list that the C library keeps of its robust locks (Linux, kernel/futex/core.c)."""
    head = thread.robust_list[0]
    if not head:
        return
    space = kernel.space
    entry, offset, pending = (int.from_bytes(space.read(head + at, 8), "little") for at in (0, 8, 16))
    for _ in range(_ROBUST_MOST):
        if entry & -2 == head:
            break
        if entry & -2 != pending & -2:
            _died(kernel, thread, (entry & -2) + offset, bool(entry & 1), False)
        entry = int.from_bytes(space.read(entry & -2, 8), "little")
    if pending & -2:
        _died(kernel, thread, (pending & -2) + offset, bool(pending & 1), True)


def _died(kernel: Kernel, thread: Thread, word: int, inherits: bool, pending: bool) -> None:
    word &= (1 << 64) - 1
    if word % 4:
        return

    def changed(value: int) -> int:
        return value & FUTEX_WAITERS | FUTEX_OWNER_DIED if value & FUTEX_TID == thread.tid else value

    value = kernel.space.modify(word, 4, changed)
    if value & FUTEX_TID != thread.tid:
        if pending and not inherits and not value & FUTEX_TID:
            _wake(kernel, word)
        return
    if not inherits and value & FUTEX_WAITERS:
        _wake(kernel, word)


def _wake(kernel: Kernel, word: int) -> None:
    from dbt.linux.futexes import wake

    wake(kernel, word, 1)


# Calls ----------------------------------------------------------------------------------------------------------------


def exit(kernel: Kernel, status: int) -> None:
    raise ThreadEnded(status & 0xFF)


def gettid(kernel: Kernel) -> int:
    return kernel.thread.tid


def set_tid_address(kernel: Kernel, address: int) -> int:
    kernel.thread.clear_child_tid = address
    return kernel.thread.tid


def set_robust_list(kernel: Kernel, head: int, size: int) -> None:
    if size != _ROBUST_HEAD_SIZE:
        raise failure(errno.EINVAL)
    kernel.thread.robust_list = head, size


def get_robust_list(kernel: Kernel, pid: int, head: int, size: int) -> None:
    found = kernel.threads.get(int32(pid)).robust_list
    kernel.space.write(head, found[0].to_bytes(8, "little"))
    kernel.space.write(size, found[1].to_bytes(8, "little"))


CALLS: dict[str, Callable[..., int | None]] = {
    "exit": exit, "gettid": gettid, "set_tid_address": set_tid_address, "set_robust_list": set_robust_list,
    "get_robust_list": get_robust_list,
}
