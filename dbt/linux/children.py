"""System calls that make processes and wait for them. A guest's process is a process of the host: `clone` forks us.

What the child shares with its parent, other than mappings that are shared anyway, is the host's to share: open files,
the controlling terminal. A child of vfork, or of posix_spawn, has memory of its own as well, but its parent waits until
it executes a program or ends, and is then given what the child has changed until then: as if they had shared it.
Owns: what a child is told by its parent, and the way back. Must not know: registers, engines, signal actions.
"""

from __future__ import annotations

import ctypes
import errno
import marshal
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import dbt.child  # a child ends with it, and each would import it by itself;
import dbt.linux.execution  # noqa: F401 - most execute a program, too
from dbt.linux import host
from dbt.linux.exits import Forked
from dbt.linux.host import failure, int32
from dbt.linux.siginfo import EVERY
from dbt.memory import MemoryFault

if TYPE_CHECKING:
    from dbt.linux.kernel import Kernel

_VM, _FS, _FILES, _SIGHAND, _PIDFD, _VFORK = 0x100, 0x200, 0x400, 0x800, 0x1000, 0x4000
_PARENT, _THREAD, _SETTLS, _PARENT_SETTID, _CHILD_CLEARTID = 0x8000, 0x10000, 0x80000, 0x100000, 0x200000
_CHILD_SETTID, _CLEAR_SIGHAND = 0x1000000, 0x100000000
_IGNORED = 0x2000 | 0x40000 | 0x400000 | 0x800000 | 0x80000000  # PTRACE, SYSVSEM, DETACHED, UNTRACED, IO
_DONE = _VM | _PIDFD | _VFORK | _SETTLS | _PARENT_SETTID | _CHILD_CLEARTID | _CHILD_SETTID | _CLEAR_SIGHAND | _IGNORED
_SHARED = _VM | _FS | _FILES | _SIGHAND  # what a thread must share with the others
_OF_THREAD = _SHARED | _THREAD | _SETTLS | _PARENT_SETTID | _CHILD_CLEARTID | _CHILD_SETTID | _IGNORED
_SIGNAL = 0xFF  # the signal of the end, in the flags of clone
_CLONE3_FIRST_SIZE = 64
_WAIT_FLAGS = 1 | 2 | 8 | 0xE0000000  # WNOHANG, WUNTRACED, WCONTINUED, __WNOTHREAD, __WALL, __WCLONE
_P_ALL, _P_PID, _P_PGID, _P_PIDFD = range(4)


# Making processes -----------------------------------------------------------------------------------------------


def clone(kernel: Kernel, flags: int, stack: int, parent_tid: int, tls: int, child_tid: int) -> int:
    low = flags & 0xFFFFFFFF & ~_SIGNAL
    if low & _PIDFD and low & _PARENT_SETTID:
        raise failure(errno.EINVAL)  # both want the same word
    return _clone(kernel, low, flags & _SIGNAL, stack, tls, child_tid, parent_tid, parent_tid)


def clone3(kernel: Kernel, arguments: int, size: int) -> int:
    form = kernel.layout("clone_args")
    if size < _CLONE3_FIRST_SIZE:
        raise failure(errno.EINVAL)
    if size > 4096 or any(kernel.space.read(arguments + form.size, size - form.size) if size > form.size else b""):
        raise failure(errno.E2BIG)
    wanted = form.unpack(kernel.space.read(arguments, min(size, form.size)).ljust(form.size, b"\0"))
    flags, stack, length = wanted["flags"], wanted["stack"], wanted["stack_size"]
    if flags & _SIGNAL or wanted["exit_signal"] > 64 or bool(stack) != bool(length) or wanted["set_tid_size"] > 32:
        raise failure(errno.EINVAL)
    if wanted["set_tid_size"]:
        raise failure(errno.EPERM)  # the host gives the numbers
    return _clone(kernel, flags, wanted["exit_signal"], stack + length, wanted["tls"], wanted["child_tid"],
                  wanted["parent_tid"], wanted["pidfd"])  # fmt: skip


def _clone(kernel: Kernel, flags: int, end: int, stack: int, tls: int, child_tid: int, parent_tid: int,
           pidfd: int) -> int:  # fmt: skip
    if flags & (_SIGHAND | _VM) == _SIGHAND or flags & (_THREAD | _SIGHAND) == _THREAD or end > 64:
        raise failure(errno.EINVAL)
    if flags & _SIGHAND and flags & _CLEAR_SIGHAND:
        raise failure(errno.EINVAL)
    if flags & _THREAD and not flags & ~_OF_THREAD and flags & _SHARED == _SHARED:
        return _make_thread(kernel, flags, stack, tls, child_tid, parent_tid)
    if flags & ~_DONE or flags & (_VM | _VFORK) == _VM:
        kernel.tell_once(f"clone with the flags {flags:#x} is not supported; the guest gets EINVAL")
        raise failure(errno.EINVAL)
    for address in (parent_tid if flags & _PARENT_SETTID else 0, pidfd if flags & _PIDFD else 0):
        if address:
            kernel.space.check(address, 4, 2)
    number, seed = kernel.next_process()
    answers, telling = os.pipe() if flags & _VFORK else (-1, -1)
    kernel.flush()
    parent = kernel.pid, os.getpid()
    # A signal for the child would be forgotten, by Python or by us, that came before it is one.
    blocked = host.hold(signal.SIG_BLOCK, EVERY)
    try:
        made = os.fork()
        if made == 0:
            _begin_child(kernel, parent, number, seed, telling if flags & _VM else -1)
    except OSError:
        for descriptor in (answers, telling):
            if descriptor >= 0:
                os.close(descriptor)
        raise
    finally:
        host.hold(signal.SIG_SETMASK, blocked)
    if made == 0:
        if answers >= 0:
            os.close(answers)
        if flags & _CLEAR_SIGHAND:
            kernel.signals.execute()
        if flags & _VM:
            kernel.thread.rseq = None
        if flags & _CHILD_SETTID:
            with suppress(MemoryFault):  # nobody is told, as on Linux
                kernel.space.write(child_tid, kernel.pid.to_bytes(4, "little"))
        kernel.thread.clear_child_tid = child_tid if flags & _CHILD_CLEARTID else 0
        raise Forked(stack or None, tls if flags & _SETTLS else None)
    kernel.family.add(number or made, made)
    if flags & _PARENT_SETTID:
        kernel.space.write(parent_tid, kernel.family.guest(made).to_bytes(4, "little"))
    if flags & _PIDFD:
        number_of_fd = kernel.descriptors.add(os.pidfd_open(made), True)
        kernel.space.write(pidfd, number_of_fd.to_bytes(4, "little"))
    if flags & _VFORK:
        os.close(telling)
        _wait_for_program(kernel, answers)
    return kernel.family.guest(made)


def _make_thread(kernel: Kernel, flags: int, stack: int, tls: int, child_tid: int, parent_tid: int) -> int:
    threads = kernel.threads
    assert threads.spawn is not None
    if flags & _PARENT_SETTID:
        kernel.space.check(parent_tid, 4, 2)
    made = threads.make()
    kernel.family.add_thread(made.tid)
    if flags & _PARENT_SETTID:
        kernel.space.write(parent_tid, made.tid.to_bytes(4, "little"))
    if flags & _CHILD_SETTID:
        with suppress(MemoryFault):  # nobody is told, as on Linux
            kernel.space.write(child_tid, made.tid.to_bytes(4, "little"))
    made.clear_child_tid = child_tid if flags & _CHILD_CLEARTID else 0
    kernel.signals.changed()
    threads.spawn(made, stack or None, tls if flags & _SETTLS else None)
    return made.tid


def _begin_child(kernel: Kernel, parent: tuple[int, int], number: int | None, seed: int | None, telling: int) -> None:
    """What a child has of its own from the start."""
    if kernel.sharing is not None:  # what we were to tell our parent is not for our child to tell
        kernel.sharing.leave()
    kernel.begin_child(os.getpid() if number is None else number, seed)
    kernel.family.add(*parent)
    kernel.sharing = None if telling < 0 else Sharing(kernel, telling)


# Memory that a child shares until it executes a program -------------------------------------------------------------


class Sharing:
    """A child's side: what is to be told of its memory when the time has come."""

    def __init__(self, kernel: Kernel, telling: int) -> None:
        self._kernel = kernel
        self._telling = telling
        self._recording = kernel.space.record()
        self._effects = self._recording.__enter__()

    def leave(self) -> None:
        """Say nothing."""
        self._recording.__exit__(None, None, None)
        os.close(self._telling)
        self._kernel.sharing = None

    def tell(self) -> None:
        """Send the parent all that has changed: mappings, and the pages that are no longer shared with it."""
        kernel = self._kernel
        mapped = [effect for effect in self._effects if effect[0] not in ("write", "poke")]
        self._recording.__exit__(None, None, None)
        word = kernel.thread.clear_child_tid
        if word and kernel.space.protection(word):
            kernel.space.write(word, bytes(4))
        data = marshal.dumps((mapped, kernel.break_end, kernel.space.changed_since_fork()))
        with open(self._telling, "wb") as sink:
            sink.write(data)
        kernel.sharing = None


def _wait_for_program(kernel: Kernel, answers: int) -> None:
    """The parent's side: wait for the child's word, or for its end without one, and have memory as it left it."""
    with open(answers, "rb") as source:
        data = source.read()
    if not data:
        return  # it did not share memory, or was killed
    mapped, kernel.break_end, pages = marshal.loads(data)
    kernel.space.replay(mapped)
    for address, content in pages:
        kernel.space.poke(address, content)


# Waiting --------------------------------------------------------------------------------------------------------------


def wait4(kernel: Kernel, pid: int, status: int, options: int, usage: int) -> int:
    if options & 0xFFFFFFFF & ~_WAIT_FLAGS:
        raise failure(errno.EINVAL)
    number = int32(pid)
    if number == -(1 << 31):
        raise failure(errno.ESRCH)
    who = kernel.family.host(number) if number > 0 else -kernel.family.host(-number) if number < -1 else number
    ended, spent = (ctypes.c_int * 1)(), ctypes.create_string_buffer(kernel.layout("rusage").size)
    found = kernel.blocking("wait4", who, ended, int32(options), spent)
    if found and status:
        kernel.space.write(status, bytes(ended))
    if found and usage:
        kernel.space.write(usage, bytes(spent.raw) if not kernel.deterministic else bytes(len(spent)))
    return kernel.family.guest(found)


def waitid(kernel: Kernel, kind: int, pid: int, info: int, options: int, usage: int) -> None:
    kind, number = int32(kind), int32(pid)
    if kind == _P_PIDFD:
        number = kernel.fd(number)
    elif kind in (_P_PID, _P_PGID) and number > 0:
        number = kernel.family.host(number)
    found, spent = ctypes.create_string_buffer(128), ctypes.create_string_buffer(kernel.layout("rusage").size)
    kernel.blocking("waitid", kind, number, found, int32(options), spent)
    result = kernel.layout("waitid_info")
    values = result.unpack(found.raw[: result.size])
    values["si_pid"] = kernel.family.guest(values["si_pid"])
    if info:
        kernel.space.write(info, result.pack(values))
    if usage and values["si_pid"]:
        kernel.space.write(usage, bytes(spent.raw) if not kernel.deterministic else bytes(len(spent)))


# Descriptors of processes ---------------------------------------------------------------------------------------------


def pidfd_open(kernel: Kernel, pid: int, flags: int) -> int:
    if int32(pid) <= 0:
        raise failure(errno.EINVAL)
    return kernel.descriptors.add(os.pidfd_open(kernel.family.host(int32(pid)), flags & 0xFFFFFFFF), True)


def pidfd_send_signal(kernel: Kernel, fd: int, number: int, info: int, flags: int) -> None:
    given = kernel.space.read(info, 128) if info else None
    host.call("pidfd_send_signal", kernel.fd(fd), int32(number), given, flags & 0xFFFFFFFF)


CALLS: dict[str, Callable[..., int | None]] = {
    "clone": clone, "clone3": clone3, "wait4": wait4, "waitid": waitid, "pidfd_open": pidfd_open,
    "pidfd_send_signal": pidfd_send_signal,
}
