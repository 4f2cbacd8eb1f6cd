"""Transfers between guest memory and elsewhere that are neither reads nor writes of a file.

Must not know: files, sockets.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from dbt.linux import host
from dbt.linux.host import failure, int32
from dbt.linux.passed import process
from dbt.linux.vectors import Vectors

if TYPE_CHECKING:
    from dbt.linux.kernel import Kernel


def vmsplice(kernel: Kernel, fd: int, vectors: int, count: int, flags: int) -> int:
    """Into a pipe, or out of one: the end of the pipe says which."""
    pipe = kernel.fd(fd)
    receiving = fcntl.fcntl(pipe, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
    data = Vectors(kernel, vectors, count, receiving)
    moved = kernel.blocking("vmsplice", pipe, data.rows, data.count, int32(flags))
    if receiving:
        data.arrived(moved)
    return moved


def _memory_of(kernel: Kernel, pid: int) -> None:
    """Another process's memory is laid out by whoever runs it, so a guest reaches its own only."""
    number = process(kernel, pid)
    if number != os.getpid():
        os.kill(number, 0)  # ESRCH, EPERM
        raise failure(errno.EPERM)


def process_vm_readv(kernel: Kernel, pid: int, local: int, local_count: int, remote: int, remote_count: int,
                     flags: int) -> int:
    if flags:
        raise failure(errno.EINVAL)
    _memory_of(kernel, pid)
    into, source = Vectors(kernel, local, local_count, True), Vectors(kernel, remote, remote_count, False)
    moved = host.call("process_vm_readv", os.getpid(), into.rows, into.count, source.rows, source.count, 0)
    into.arrived(moved)
    return moved


def process_vm_writev(kernel: Kernel, pid: int, local: int, local_count: int, remote: int, remote_count: int,
                      flags: int) -> int:
    return process_vm_readv(kernel, pid, remote, remote_count, local, local_count, flags)


CALLS: dict[str, Callable[..., int | None]] = {
    "vmsplice": vmsplice, "process_vm_readv": process_vm_readv, "process_vm_writev": process_vm_writev,
}
