"""Which host path a guest path means, and the files of /proc that would show the host.

Owns: the names that need an answer of our own. Must not know: how files are opened or read.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from dbt.linux.host import failure
from dbt.memory import EXEC, READ, WRITE

if TYPE_CHECKING:
    from dbt.linux.kernel import Kernel

_STANDARD = {b"/dev/stdin": 0, b"/dev/stdout": 1, b"/dev/stderr": 2}
_DESCRIPTOR = re.compile(rb"(?:/proc/(?P<who>[^/]+)/fd|/dev/fd)/(?P<number>\d+)$")
_HOSTS = (1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 15, 18)  # fields of stat: group, session, terminal, times, priority, start
_OF_PROCESS = re.compile(rb"/proc/(?P<who>[^/]+)/(?:task/\d+/)?(?P<what>[a-z_]+)$")


def host_path(kernel: Kernel, path: bytes, follow: bool = True) -> bytes:
    """An absolute guest path as a host path. `follow`: unless the link at its end is what is meant."""
    path = kernel.sysroot.host_path(path, follow)
    if not path.startswith((b"/proc/", b"/dev/")):
        return path
    number = _STANDARD.get(path)
    match = _DESCRIPTOR.match(path)
    if match and (match["who"] is None or _is_self(kernel, match["who"])):
        number = int(match["number"])
    if number is not None:
        try:
            return b"/proc/self/fd/%d" % kernel.descriptors.host(number)
        except OSError as error:
            raise failure(errno.ENOENT) from error
    what = own_name(kernel, path)
    if what == b"exe":
        return os.fsencode(kernel.executable)
    return path if what is None else b"/proc/self/" + what


def own_name(kernel: Kernel, path: bytes) -> bytes | None:
    """`what` of /proc/self/what, when it is the guest itself that is asked about."""
    match = _OF_PROCESS.match(path)
    return match["what"] if match and _is_self(kernel, match["who"]) else None


def proc_file(kernel: Kernel, path: bytes) -> bytes | None:
    """The contents of a file below /proc that must describe the guest; None if it is the host's to answer."""
    if path == b"/proc/cpuinfo":
        return _processors(kernel)
    what = own_name(kernel, path)
    if what == b"mem":
        raise failure(errno.EACCES)  # it would be our own memory
    make = None if what is None else _FILES.get(what)
    return None if make is None else make(kernel)


def link(kernel: Kernel, path: bytes, target: bytes) -> bytes:
    """What readlink says of a link that a host path of `host_path` names, where that is one of /proc."""
    return kernel.sysroot.guest_path(target) if path.startswith(b"/proc/self/") else target


def _is_self(kernel: Kernel, who: bytes) -> bool:
    return who in (b"self", b"thread-self", b"%d" % kernel.pid)


def _processors(kernel: Kernel) -> bytes:
    count = 1 if kernel.deterministic else len(os.sched_getaffinity(0))
    return "".join(kernel.abi.CPUINFO.format(number=n, isa=kernel.isa) for n in range(count)).encode()


def _maps(kernel: Kernel) -> bytes:
    lines = []
    brk = (kernel.break_start, kernel.break_end)
    for region in kernel.space.regions():
        rights = "".join(letter if region.protection & bit else "-"
                         for letter, bit in (("r", READ), ("w", WRITE), ("x", EXEC)))
        name = "[heap]" if region.start >= brk[0] and region.end <= brk[1] + 4095 else region.name
        line = (f"{region.start:08x}-{region.end:08x} {rights}{'s' if region.shared else 'p'} "
                f"{region.offset:08x} 00:00 0 ")
        if name.startswith("/"):
            name = os.fsdecode(kernel.sysroot.guest_path(os.fsencode(name)))
        lines.append(f"{line:<73}{name}".rstrip() if name else line)
    return "".join(line + "\n" for line in lines).encode("utf-8", "surrogateescape")


def _stat(kernel: Kernel) -> bytes:
    """As the host has it, but for what it says of our own memory and name (proc(5), /proc/pid/stat)."""
    fields = [0] * 49  # from the parent's pid on
    if not kernel.deterministic:
        with open("/proc/self/stat", "rb") as file:
            found = [int(field) for field in file.read().rpartition(b")")[2].split()[1:]]
        for at in _HOSTS:
            fields[at] = found[at]
    fields[0] = 1 if kernel.deterministic else os.getppid()
    size = sum(region.end - region.start for region in kernel.space.regions())
    fields[16], fields[19], fields[20] = 1, size, size // 4096  # threads, virtual size, resident pages
    stack = next((region.end for region in kernel.space.regions() if region.name == "[stack]"), 0)
    fields[24] = stack  # start of the stack
    numbers = " ".join(str(field) for field in fields)
    return b"%d (%s) R " % (kernel.pid, kernel.thread_name) + numbers.encode() + b"\n"


def _status(kernel: Kernel) -> bytes:
    """As the host has it, but for what it says of our own memory, threads and signals."""
    signals = kernel.signals
    size = sum(region.end - region.start for region in kernel.space.regions()) >> 10
    ignored = sum(1 << number - 1 for number in signals.actions if signals.disposition(number) == 1)
    caught = sum(1 << number - 1 for number in signals.actions if signals.disposition(number) > 1)
    ours = {
        b"Name": kernel.thread_name, b"State": b"R (running)", b"Tgid": b"%d" % kernel.pid, b"Pid": b"%d" % kernel.pid,
        b"Threads": b"1", b"VmPeak": b"%8d kB" % size, b"VmSize": b"%8d kB" % size,
        b"SigPnd": b"%016x" % signals.pending, b"SigBlk": b"%016x" % signals.mask, b"SigIgn": b"%016x" % ignored,
        b"SigCgt": b"%016x" % caught,
    }  # fmt: skip
    if kernel.deterministic:
        return b"".join(b"%s:\t%s\n" % pair for pair in ours.items())
    with open("/proc/self/status", "rb") as file:
        lines = [line.partition(b":\t") for line in file.read().splitlines()]
    return b"".join(b"%s:\t%s\n" % (name, ours.get(name, value)) for name, _, value in lines)


def _cmdline(kernel: Kernel) -> bytes:
    return b"".join(word + b"\0" for word in kernel.argv)


def _environ(kernel: Kernel) -> bytes:
    return b"".join(variable + b"\0" for variable in kernel.env)


def _auxv(kernel: Kernel) -> bytes:
    return kernel.auxiliary


def _comm(kernel: Kernel) -> bytes:
    return kernel.thread_name + b"\n"


_FILES: dict[bytes, Callable[[Kernel], bytes]] = {  # by name below /proc/self
    b"auxv": _auxv, b"cmdline": _cmdline, b"comm": _comm, b"environ": _environ, b"maps": _maps, b"stat": _stat,
    b"status": _status,
}  # fmt: skip
