"""System V shared memory, semaphores and message queues, and what of POSIX queues is no row of `passed.py`.

The objects are the host's, so that guests and programs of the host's share them. Must not know: files.
"""

from __future__ import annotations

import ctypes
import errno
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

from dbt.linux import host
from dbt.linux.blocking import calls
from dbt.linux.host import failure, int32
from dbt.linux.passed import string
from dbt.memory import EXEC, PAGE_SIZE, READ, WRITE, page_up

if TYPE_CHECKING:
    from dbt.linux.kernel import Kernel

_IPC_64 = 0x100  # a flag of old architectures in commands
_RMID, _SET, _STAT, _INFO = 0, 1, 2, 3
_SHM_LOCK, _SHM_UNLOCK, _SHM_STAT, _SHM_INFO, _SHM_STAT_ANY = 11, 12, 13, 14, 15
_MSG_STAT, _MSG_INFO, _MSG_STAT_ANY = 11, 12, 13
_GETPID, _GETVAL, _GETALL, _GETNCNT, _GETZCNT, _SETVAL, _SETALL = 11, 12, 13, 14, 15, 16, 17
_SEM_STAT, _SEM_INFO, _SEM_STAT_ANY = 18, 19, 20
_SHM_RDONLY, _SHM_RND, _SHM_REMAP, _SHM_EXEC = 0o10000, 0o20000, 0o40000, 0o100000
_SIGEV_THREAD = 2

# Command -> (structure that is read, structure that is written); sizes are the same on every host, semid_ds apart.
_SHMID, _MSQID = 112, 120
_SHM = {
    _RMID: (0, 0), _SET: (_SHMID, 0), _STAT: (0, _SHMID), _INFO: (0, 72), _SHM_LOCK: (0, 0), _SHM_UNLOCK: (0, 0),
    _SHM_STAT: (0, _SHMID), _SHM_INFO: (0, 48), _SHM_STAT_ANY: (0, _SHMID),
}  # fmt: skip
_MSG = {
    _RMID: (0, 0), _SET: (_MSQID, 0), _STAT: (0, _MSQID), _INFO: (0, 32), _MSG_STAT: (0, _MSQID), _MSG_INFO: (0, 32),
    _MSG_STAT_ANY: (0, _MSQID),
}  # fmt: skip
_SEM_STATS = (_STAT, _SEM_STAT, _SEM_STAT_ANY)
_SEM_INFOS = (_INFO, _SEM_INFO)
_SEMINFO_SIZE = 40
_PERM_SIZE = 48  # of struct ipc64_perm, with which each of them begins


def _control(kernel: Kernel, call: str, table: dict[int, tuple[int, int]], identity: int, command: int,
             buffer: int) -> int:
    command = int32(command) & ~_IPC_64
    if command not in table:
        raise failure(errno.EINVAL)
    taken, given = table[command]
    space, address = kernel.space, 0
    if taken:
        address = space.source(buffer, taken)
    elif given:
        address = space.target(buffer, given)
    result = host.call(call, int32(identity), command, address)
    space.arrived(buffer, given)
    return result


def shmctl(kernel: Kernel, identity: int, command: int, buffer: int) -> int:
    return _control(kernel, "shmctl", _SHM, identity, command, buffer)


def msgctl(kernel: Kernel, identity: int, command: int, buffer: int) -> int:
    return _control(kernel, "msgctl", _MSG, identity, command, buffer)


# Shared memory ----------------------------------------------------------------------------------------------------


def shmat(kernel: Kernel, identity: int, address: int, flags: int) -> int:
    identity, flags = int32(identity), int32(flags)
    found = ctypes.create_string_buffer(_SHMID)
    if address % PAGE_SIZE:
        if not flags & _SHM_RND:
            raise failure(errno.EINVAL)
        address &= -PAGE_SIZE
    if not address and flags & _SHM_REMAP:
        raise failure(errno.EINVAL)
    here = host.call("shmat", identity, None, flags & _SHM_RDONLY)  # first: it says whether we may
    host.call("shmctl", identity, _STAT, found)
    key, size = struct.unpack_from("=i", found)[0], struct.unpack_from("=Q", found, _PERM_SIZE)[0]
    length = page_up(size)
    protection = READ | (0 if flags & _SHM_RDONLY else WRITE) | (EXEC if flags & _SHM_EXEC else 0)
    try:
        if address and not flags & _SHM_REMAP and not kernel.space.is_free(address, address + length):
            raise failure(errno.EINVAL)
        start = kernel.space.map(address, length, protection, fixed=bool(address), shared=True, attached=here,
                                 name=f"/SYSV{key & 0xFFFFFFFF:08x}")
    except OSError:
        host.call("shmdt", here)
        raise
    kernel.attached[start] = length
    return start


def shmdt(kernel: Kernel, address: int) -> None:
    length = kernel.attached.pop(address, 0)
    if not length:
        raise failure(errno.EINVAL)
    end = address + length
    for region in kernel.space.regions():  # what of it is still there
        if region.name.startswith("/SYSV") and address <= region.start < end:
            kernel.space.unmap(region.start, min(region.end, end) - region.start)


# Semaphores -------------------------------------------------------------------------------------------------------


def semctl(kernel: Kernel, identity: int, number: int, command: int, argument: int) -> int:
    identity, number, command = int32(identity), int32(number), int32(command) & ~_IPC_64
    space = kernel.space
    if command in (_GETALL, _SETALL):
        size = 2 * _count(identity)
        address = space.target(argument, size) if command == _GETALL else space.source(argument, size)
        result = host.call("semctl", identity, number, command, address)
        if command == _GETALL:
            space.arrived(argument, size)
        return result
    if command in _SEM_INFOS:
        result = host.call("semctl", identity, number, command, space.target(argument, _SEMINFO_SIZE))
        space.arrived(argument, _SEMINFO_SIZE)
        return result
    if command in _SEM_STATS:
        return _status(kernel, identity, command, argument)
    if command == _SET:
        size, *_offsets = calls().host.SEMID_DS
        given = ctypes.create_string_buffer(space.read(argument, _PERM_SIZE), size)
        return host.call("semctl", identity, number, command, given)
    if command not in (_RMID, _GETPID, _GETVAL, _GETNCNT, _GETZCNT, _SETVAL):
        raise failure(errno.EINVAL)
    return host.call("semctl", identity, number, command, int32(argument))


def _count(identity: int) -> int:
    size, _last, _changed, count_at = calls().host.SEMID_DS
    found = ctypes.create_string_buffer(size)
    host.call("semctl", identity, 0, _STAT, found)
    return int(struct.unpack_from("=Q", found, count_at)[0])


def _status(kernel: Kernel, identity: int, command: int, address: int) -> int:
    size, *offsets = calls().host.SEMID_DS
    found = ctypes.create_string_buffer(size)
    result = host.call("semctl", identity, 0, command, found)
    last, changed, count = (struct.unpack_from("=q", found, offset)[0] for offset in offsets)
    kernel.put(address, "semid_ds", sem_perm=found.raw[:_PERM_SIZE], sem_otime=last, sem_ctime=changed, sem_nsems=count)
    return result


# POSIX message queues ---------------------------------------------------------------------------------------------


def mq_open(kernel: Kernel, name: int, flags: int, mode: int, attributes: int) -> int:
    from dbt.linux.files import host_flags

    given = kernel.space.source(attributes, 64) if attributes else None
    made = host.call("mq_open", string(kernel, name), host_flags(kernel, flags) | 0o2000000, mode & 0o7777, given)
    return kernel.descriptors.add(made, bool(flags & 0o2000000))


def mq_notify(kernel: Kernel, fd: int, event: int) -> None:
    """A signal of the guest's, or none; the third way (SIGEV_THREAD) is the C library's, with a socket of its own."""
    queue = kernel.fd(fd)
    if not event:
        host.call("mq_notify", queue, None)
        return
    given = bytearray(kernel.space.read(event, 64))
    value, number, way = struct.unpack_from("<Qii", given)
    if way == _SIGEV_THREAD:
        struct.pack_into("=Qi", given, 0, kernel.space.source(value, 32), kernel.fd(number))
    host.call("mq_notify", queue, bytes(given))


CALLS: dict[str, Callable[..., int | None]] = {
    "shmctl": shmctl, "msgctl": msgctl, "shmat": shmat, "shmdt": shmdt, "semctl": semctl, "mq_open": mq_open,
    "mq_notify": mq_notify,
}
