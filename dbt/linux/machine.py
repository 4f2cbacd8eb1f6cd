"""System calls on the machine rather than the process: its clock's rate, what belongs to its administrator.

A guest does not stop, reprogram or set the machine that it is a guest of, whoever runs it: EPERM. Privileges are the
host's to give. Must not know: what the calls would do.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

from dbt.linux import host
from dbt.linux import time as guest_time
from dbt.linux.host import failure, int32
from dbt.linux.passed import process

if TYPE_CHECKING:
    from dbt.linux.kernel import Kernel

_CAPABILITY_WORDS = {0x19980330: 1, 0x20071026: 2, 0x20080522: 2}  # version -> 32-bit words of each set
_VERSION = 0x20080522

_STA_NANO = 0x2000
_KCMP_FILE = 0


def not_permitted(kernel: Kernel) -> None:
    """EPERM, whoever asks."""
    raise failure(errno.EPERM)


# Capabilities -----------------------------------------------------------------------------------------------------


def _capabilities(kernel: Kernel, header: int) -> tuple[bytes, int]:
    """(the host's header, bytes of the data); EINVAL for another version, and then ours is told."""
    version, pid = struct.unpack("<Ii", kernel.space.read(header, 8))
    words = _CAPABILITY_WORDS.get(version)
    if words is None:
        kernel.space.write(header, _VERSION.to_bytes(4, "little"))
        raise failure(errno.EINVAL)
    return struct.pack("=Ii", version, process(kernel, pid)), 12 * words


def capget(kernel: Kernel, header: int, data: int) -> None:
    try:
        given, size = _capabilities(kernel, header)
    except OSError:
        if not data:
            return  # the way to ask for the version
        raise
    found = ctypes.create_string_buffer(24)
    host.call("capget", given, found)
    if data:
        kernel.space.write(data, found.raw[:size])


def capset(kernel: Kernel, header: int, data: int) -> None:
    given, size = _capabilities(kernel, header)
    host.call("capset", given, kernel.space.read(data, size))


# Time -------------------------------------------------------------------------------------------------------------


def _adjust(kernel: Kernel, clock: int, buffer: int) -> int:
    form = kernel.layout("timex")
    wanted = kernel.take(buffer, "timex")
    if wanted["modes"]:
        raise failure(errno.EPERM)
    if kernel.deterministic:
        seconds, nanoseconds = divmod(guest_time.now(kernel, clock), 1_000_000_000)
        kernel.put(buffer, "timex", time_sec=seconds, time_usec=nanoseconds, status=_STA_NANO, precision=1, tick=10_000)
        return 0
    found = ctypes.create_string_buffer(form.pack(wanted), form.size)
    state = host.call("clock_adjtime", clock, found)
    kernel.space.write(buffer, found.raw)
    return state


def adjtimex(kernel: Kernel, buffer: int) -> int:
    return _adjust(kernel, 0, buffer)


def clock_adjtime(kernel: Kernel, clock: int, buffer: int) -> int:
    return _adjust(kernel, int32(clock), buffer)


# Comparing --------------------------------------------------------------------------------------------------------


def kcmp(kernel: Kernel, pid1: int, pid2: int, kind: int, index1: int, index2: int) -> int:
    """What two processes share. Descriptors of the guest's own are meant by its numbers."""
    pids, kind = [process(kernel, pid) for pid in (pid1, pid2)], int32(kind)
    indices = [index1, index2]
    if kind == _KCMP_FILE:
        if pids != [os.getpid()] * 2:
            raise failure(errno.EPERM)  # which host descriptor another guest's number means, it alone knows
        indices = [kernel.fd(index) for index in indices]
    return host.call("kcmp", *pids, kind, *indices)


_REFUSED = (
    "acct", "reboot", "swapon", "swapoff", "kexec_load", "kexec_file_load", "init_module", "finit_module",
    "delete_module", "clock_settime", "settimeofday", "chroot",
)  # fmt: skip

CALLS: dict[str, Callable[..., int | None]] = {
    "capget": capget, "capset": capset, "adjtimex": adjtimex, "clock_adjtime": clock_adjtime, "kcmp": kcmp,
    **dict.fromkeys(_REFUSED, not_permitted),
}
