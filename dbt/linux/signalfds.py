"""Signals that are read from a descriptor: signalfd4. An eventfd each, readable while a signal of its set is pending.

So polling and epoll are the host's own. Who reads is given what is pending here; signals of a set are noted for the
guest whatever their action (`Signals.claimed`). A new process has its own, in the same places, since a descriptor of
signals tells whoever reads it of its own signals.
Owns: `SignalFd`, the structures that are read. Must not know: how signals are sent.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from dbt.linux import siginfo
from dbt.linux.host import failure, int32
from dbt.linux.siginfo import SI_KERNEL, SI_TIMER, SI_USER, SIGCHLD, SIGSYS, SYNCHRONOUS, UNBLOCKABLE, bit
from dbt.linux.timerfds import counted, identity

if TYPE_CHECKING:
    from dbt.linux.kernel import Kernel

_CLOEXEC, _NONBLOCK = 0o2000000, 0o4000
_SIGIO, _SI_SIGIO = 29, -5
_EVENT = 8  # bytes of an eventfd

# What is copied, by what a siginfo is of: field -> (offset, size) in the siginfo (fs/signalfd.c, signalfd_copyinfo).
_SENDER = {"ssi_pid": (16, 4), "ssi_uid": (20, 4)}
_VALUE = {"ssi_int": (24, 4), "ssi_ptr": (24, 8)}
_HEAD = {"ssi_signo": (0, 4), "ssi_errno": (4, 4), "ssi_code": (8, 4)}
_COPIED: dict[str, dict[str, tuple[int, int]]] = {
    "kill": _SENDER,
    "queue": {**_SENDER, **_VALUE},
    "timer": {"ssi_tid": (16, 4), "ssi_overrun": (20, 4), **_VALUE},
    "poll": {"ssi_band": (16, 4), "ssi_fd": (24, 4)},
    "fault": {"ssi_addr": (16, 8)},
    "child": {**_SENDER, "ssi_status": (24, 4), "ssi_utime": (32, 8), "ssi_stime": (40, 8)},
    "call": {"ssi_call_addr": (16, 8), "ssi_syscall": (24, 4), "ssi_arch": (28, 4)},
}


def _form(number: int, code: int) -> str:
    """What a siginfo is of (kernel/signal.c, siginfo_layout)."""
    if SI_USER < code < SI_KERNEL:
        if number == SIGSYS:
            return "call"
        if bit(number) & SYNCHRONOUS:
            return "fault"
        return {SIGCHLD: "child", _SIGIO: "poll"}.get(number, "kill")
    return {SI_TIMER: "timer", _SI_SIGIO: "poll"}.get(code, "queue" if code < 0 else "kill")


def _told(kernel: Kernel, info: bytes) -> bytes:
    """A siginfo as it is read."""
    fields = _HEAD | _COPIED[_form(int.from_bytes(info[:4], "little"), siginfo.code_of(info))]
    form = kernel.layout("signalfd_siginfo")
    data = bytearray(form.size)
    for name, (offset, size) in fields.items():
        data[form.offsets[name] : form.offsets[name] + size] = info[offset : offset + size]
    return bytes(data)


class SignalFd:
    """One of them: what it tells of, and a descriptor of ours for its eventfd."""

    def __init__(self, mask: int, descriptor: int) -> None:
        self.mask = mask
        self.descriptor = descriptor

    def show(self, pending: int) -> None:
        """Be readable, or not."""
        wanted = bool(pending & self.mask)
        if wanted != counted(self.descriptor):
            if wanted:
                os.eventfd_write(self.descriptor, 1)
            else:
                os.eventfd_read(self.descriptor)


def _show(kernel: Kernel) -> None:
    pending = kernel.signals.pending
    for each in kernel.signalfds.values():
        each.show(pending)


def _claim(kernel: Kernel, mask: int) -> None:
    kernel.signals.claimed |= mask
    kernel.signals.changed()
    _show(kernel)


def _forget_closed(kernel: Kernel) -> None:
    """Give back what no descriptor of the guest's leads to any more."""
    there = {identity(kernel.descriptors.host(number)) for number in kernel.descriptors.numbers()}
    for number in kernel.signalfds.keys() - there:
        os.close(kernel.signalfds.pop(number).descriptor)


def signalfd4(kernel: Kernel, fd: int, mask: int, size: int, flags: int) -> int:
    if size != 8:
        raise failure(errno.EINVAL)
    wanted = int.from_bytes(kernel.space.read(mask, 8), "little") & ~UNBLOCKABLE
    if int32(flags) & ~(_CLOEXEC | _NONBLOCK):
        raise failure(errno.EINVAL)
    if int32(fd) != -1:
        known = kernel.signalfds.get(identity(kernel.fd(fd)))
        if known is None:
            raise failure(errno.EINVAL)
        known.mask = wanted
        _claim(kernel, wanted)
        return int32(fd)
    _forget_closed(kernel)
    made = os.eventfd(0, os.EFD_CLOEXEC | (os.EFD_NONBLOCK if flags & _NONBLOCK else 0))
    number = kernel.descriptors.add(made, bool(flags & _CLOEXEC))
    kernel.signalfds[identity(made)] = SignalFd(wanted, os.dup(made))
    kernel.signals.moved = lambda: _show(kernel)
    _claim(kernel, wanted)
    return number


def read(kernel: Kernel, descriptor: int, count: int) -> bytes | None:
    """What a read of up to `count` bytes gives; None: the host's descriptor is something else. EINVAL, EAGAIN."""
    found = kernel.signalfds.get(identity(descriptor))
    if found is None:
        return None
    most = count // kernel.layout("signalfd_siginfo").size
    if not most:
        raise failure(errno.EINVAL)
    data: list[bytes] = []
    while True:
        kernel.signals.collect()
        while len(data) < most and (taken := kernel.signals.take(found.mask)) is not None:
            data.append(_told(kernel, taken[1]))
        if data:
            return b"".join(data)
        kernel.blocking("read", descriptor, ctypes.create_string_buffer(_EVENT), _EVENT)
        _show(kernel)


def begin_child(kernel: Kernel) -> None:
    """In a new process: its descriptors tell of its own signals, of which there are none yet."""
    before, kernel.signalfds = kernel.signalfds, {}
    hosts = {number: kernel.descriptors.host(number) for number in kernel.descriptors.numbers()}
    places: dict[int, list[int]] = {}
    for host in hosts.values():
        places.setdefault(identity(host), []).append(host)
    for number, old in before.items():
        made = os.eventfd(0, os.EFD_CLOEXEC | (0 if os.get_blocking(old.descriptor) else os.EFD_NONBLOCK))
        for place in places.get(number, ()):
            os.dup2(made, place, inheritable=False)
        os.close(old.descriptor)
        kernel.signalfds[identity(made)] = SignalFd(old.mask, made)


CALLS: dict[str, Callable[..., int | None]] = {"signalfd4": signalfd4}
