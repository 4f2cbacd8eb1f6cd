"""What goes wrong at KVM's interface: each kind has a class, the error number that KVM has for it, and a sentence.

Owns: these classes. Must not know: who raises them.
"""

from __future__ import annotations

import errno


class KvmError(OSError):
    """A request was refused, and nothing has changed."""

    number = errno.EINVAL

    def __init__(self, what: str) -> None:
        super().__init__(self.number, what)

    def __str__(self) -> str:
        return str(self.args[1])


class BadRegion(KvmError):
    """A memory region that cannot be: not whole pages, outside the addresses, changed in what cannot change."""


class RegionOverlap(KvmError):
    """A memory region over another one, or over a device."""

    number = errno.EEXIST


class BadMemory(KvmError):
    """Host memory that is not there, or cannot be written."""

    number = errno.EFAULT


class NoHostMemory(KvmError):
    """The host has no room for a region's memory."""

    number = errno.ENOMEM


class NoSuchRegion(KvmError):
    """A slot that holds nothing, or keeps no log; guest memory that is not there."""

    number = errno.ENOENT


class NoSuchRegister(KvmError):
    """A register number that this virtual CPU has not."""

    number = errno.ENOENT


class BadValue(KvmError):
    """A value that a register, a state or a flag cannot have."""


class VcpuExists(KvmError):
    """A virtual CPU of this number was made before."""

    number = errno.EEXIST


class VcpuBusy(KvmError):
    """Another thread runs this virtual CPU."""

    number = errno.EBUSY


class NotEnoughPcpus(KvmError):
    """Each virtual CPU is to have a physical one of its own, and there are fewer of these."""

    number = errno.EBUSY


class Deadlock(KvmError):
    """All virtual CPUs of a virtual machine wait, and nothing will ever wake one."""

    number = errno.EDEADLK


class NoMemory(KvmError):
    """The virtual machine has no memory to run in."""

    number = errno.ENOEXEC


class NotEmulated(KvmError):
    """The guest did what nobody has an answer to: it executes where there is no memory, or, with the method "none",
    what user mode may not execute.
    """

    number = errno.EOPNOTSUPP


class NotParavirtual(NotEmulated):
    """The guest does by itself what a para-virtualized one asks of its monitor."""


class UnknownRequest(KvmError):
    """An ioctl that this kind of descriptor does not have."""

    number = errno.ENOTTY


class Closed(KvmError):
    """The virtual machine, or what stands for a descriptor, was closed, or is none."""

    number = errno.EBADF
