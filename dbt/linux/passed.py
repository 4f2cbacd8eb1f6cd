"""System calls that the host carries out as they are, once descriptors, paths and pointers are the host's.

Owns: `ROWS`, one row a call, and the translation of arguments that the rows ask for. Must not know: what the calls
do. Only calls whose structures and numbers are the same on every host we have belong here.

A row is a C prototype with kinds in the place of types, and what a result is:

    fd            a descriptor of the guest's
    at, path      a directory descriptor and the path it goes with; a path alone begins at the working directory
    pid           a process number; the guest's own may be made up
    int, long     a number of 32 bits, or of 64
    string        the address of a string that is not a path, or of what tells its size itself
    in, out, io   the address of something that the call reads, writes, or both. Its size follows: a number of
                  bytes, the name of a structure, or @ and the parameter that holds the size; `8+@size` adds, and
                  `6*@count` multiplies.
    time          the address of a struct timespec that is read
    -> fd         the result is a new descriptor. `-> fd flags 0x80000`: it closes on exec if that bit is in `flags`.
    !             the call may wait, so that a signal interrupts it
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from dbt.linux import host
from dbt.linux.host import int32, int64
from dbt.memory import MemoryFault

if TYPE_CHECKING:
    from dbt.linux.kernel import Kernel

ROWS = {
    # events
    "epoll_create1": "int flags -> fd flags 0x80000",
    "inotify_init1": "int flags -> fd flags 0x80000",
    "inotify_add_watch": "fd fd, path path, int mask",
    "inotify_rm_watch": "fd fd, int watch",
    "pidfd_getfd": "fd process_fd, int target, int flags -> fd",
    "process_mrelease": "fd process_fd, int flags",
    # transfers
    "splice": "fd in_fd, io:8 in_offset, fd out_fd, io:8 out_offset, long count, int flags !",
    "tee": "fd in_fd, fd out_fd, long count, int flags !",
    "sync_file_range": "fd fd, long offset, long count, int flags",
    "cachestat": "fd fd, in:16 range, out:40 result, int flags",
    # files
    "umount2": "path path, int flags",
    "mount": "string source, path path, string type, int flags, string data",
    "pivot_root": "path new_path, path old_path",
    "open_tree": "at directory_fd, path path, int flags -> fd flags 0x80000",
    "move_mount": "at from_fd, path from_path, at to_fd, path to_path, int flags",
    "fsopen": "string name, int flags -> fd flags 1",
    "fsmount": "fd fd, int flags, int attributes -> fd flags 1",
    "fspick": "at directory_fd, path path, int flags -> fd flags 1",
    "statmount": "string request, out:@size buffer, long size, int flags",
    "listmount": "string request, out:8*@count identities, long count, int flags",
    "vhangup": "",
    # the process
    "unshare": "int flags",
    "setns": "fd fd, int type",
    "ioprio_get": "int which, pid who",
    "ioprio_set": "int which, pid who, int priority",
    "sched_getattr": "pid pid, out:@size attributes, int size, int flags",
    "sched_setattr": "pid pid, in:48 attributes, int flags",
    "sched_getparam": "pid pid, out:4 parameter",
    "sched_setparam": "pid pid, in:4 parameter",
    "sched_getscheduler": "pid pid",
    "sched_setscheduler": "pid pid, int policy, in:4 parameter",
    "sched_rr_get_interval": "pid pid, out:timespec interval",
    # the system
    "sethostname": "in:@size name, long size",
    "setdomainname": "in:@size name, long size",
    "syslog": "int action, out:@size buffer, int size !",
    # message queues and semaphores
    "mq_unlink": "string name",
    "mq_timedsend": "fd fd, in:@size message, long size, int priority, time timeout !",
    "mq_timedreceive": "fd fd, out:@size message, long size, out:4 priority, time timeout !",
    "mq_getsetattr": "fd fd, in:64 new, out:64 old",
    "msgget": "int key, int flags",
    "msgsnd": "int queue, in:8+@size message, long size, int flags !",
    "msgrcv": "int queue, out:8+@size message, long size, long type, int flags !",
    "semop": "int set, in:6*@count operations, int count !",
    "semtimedop": "int set, in:6*@count operations, int count, time timeout !",
    "semget": "int key, int count, int flags",
    "shmget": "int key, long size, int flags",
}  # fmt: skip

_Convert = Callable[["Kernel", tuple[int, ...], list[tuple[int, int]]], int | bytes | None]
_Size = Callable[["Kernel", tuple[int, ...]], int]


class Passed:
    """The handler of one row."""

    note = "by the host"

    def __init__(self, name: str, row: str) -> None:
        self.name = name
        self.waits = row.endswith("!")
        prototype, _, result = row.removesuffix("!").partition("->")
        pairs = [part.split() for part in prototype.split(",") if part.strip()]
        self.parameters = tuple(parameter for _kind, parameter in pairs)
        self.count = len(pairs)
        self.kinds = tuple(kind for kind, _parameter in pairs)
        self._converts = [self._convert(index, kind) for index, kind in enumerate(self.kinds)]
        self._descriptor = result.split()[:1] == ["fd"]
        self._close_on_exec = (0, 0)  # index of the flags, and the bit in them; no bit: always
        if len(words := result.split()) == 3:
            self._close_on_exec = self.parameters.index(words[1]), int(words[2], 0)

    def __call__(self, kernel: Kernel, *arguments: int) -> int:
        written: list[tuple[int, int]] = []
        given: list[Any] = [convert(kernel, arguments, written) for convert in self._converts]
        index, bit = self._close_on_exec
        if bit:
            given[index] |= bit  # no child of ours shall have it
        result = kernel.blocking(self.name, *given) if self.waits else host.call(self.name, *given)
        for address, size in written:
            kernel.space.arrived(address, size)
        if not self._descriptor:
            return result
        return kernel.descriptors.add(result, not bit or bool(arguments[index] & bit))

    def _convert(self, index: int, kind: str) -> _Convert:
        kind, _, size = kind.partition(":")
        if kind == "path":
            return _path_at(index - 1, index) if index and self.kinds[index - 1] == "at" else _path(index)
        if kind == "at":
            return _directory(index)
        if kind in _PLAIN:
            convert = _PLAIN[kind]
            return lambda kernel, arguments, written: convert(kernel, arguments[index])
        return _pointer(index, kind, self._size(size))

    def _size(self, text: str) -> _Size:
        for sign, operation in (("+", operator.add), ("*", operator.mul)):
            first, _, second = text.partition(sign)
            if second:
                plain, varying = int(first), self._size(second)
                return partial(_combined, operation, plain, varying)
        first = text
        if first.startswith("@"):
            index = self.parameters.index(first[1:])
            bits = 0xFFFFFFFF if self.kinds[index] == "int" else (1 << 64) - 1
            return lambda kernel, arguments: arguments[index] & bits
        if first.isdigit():
            size = int(first)
            return lambda kernel, arguments: size
        return lambda kernel, arguments: kernel.layout(first).size


def _combined(operation: Callable[[int, int], int], plain: int, varying: _Size, kernel: Kernel,
              arguments: tuple[int, ...]) -> int:
    return operation(plain, varying(kernel, arguments))


def process(kernel: Kernel, pid: int) -> int:
    """A process number as the host's."""
    return kernel.family.host(int32(pid))


def string(kernel: Kernel, address: int) -> int:
    """The host address of a string for the host's kernel, which stops at what it may not read."""
    if address >= kernel.space.size:
        raise MemoryFault(address, "load", False)
    return kernel.space.base + address if address else 0


def _time(kernel: Kernel, address: int) -> bytes | None:
    return kernel.space.read(address, 16) if address else None


_PLAIN: dict[str, Callable[[Kernel, int], int | bytes | None]] = {
    "int": lambda kernel, value: int32(value),
    "long": lambda kernel, value: int64(value),
    "fd": lambda kernel, value: kernel.fd(value),
    "pid": process,
    "string": string,
    "time": _time,
}


def _path(index: int) -> _Convert:
    return lambda kernel, arguments, written: kernel.at(host.AT_FDCWD, kernel.path(arguments[index]), empty=True)[1]


def _path_at(directory: int, index: int) -> _Convert:
    return lambda kernel, arguments, written: kernel.at(arguments[directory], kernel.path(arguments[index]),
                                                        empty=True)[1]


def _directory(index: int) -> _Convert:
    return lambda kernel, arguments, written: kernel.at(arguments[index], kernel.path(arguments[index + 1]),
                                                        empty=True)[0]


def _pointer(index: int, kind: str, size_of: _Size) -> _Convert:
    """A null pointer is passed on: the host knows where it is allowed."""

    def convert(kernel: Kernel, arguments: tuple[int, ...], written: list[tuple[int, int]]) -> int:
        address = arguments[index]
        if not address:
            return 0
        size = size_of(kernel, arguments)
        if kind != "out":
            address_there = kernel.space.source(address, size)
        if kind != "in":
            size = kernel.writable(address, size)
            address_there = kernel.space.target(address, size)
            written.append((address, size))
        return address_there

    return convert


CALLS: dict[str, Callable[..., int | None]] = {name: Passed(name, row) for name, row in ROWS.items()}
