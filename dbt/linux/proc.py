"""The files and folders of /proc that tell of the guest, not of us: what they say (proc(5)).

Owns: their contents. Must not know: how files are opened or read.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

from dbt.linux import paths
from dbt.memory import EXEC, READ, WRITE

if TYPE_CHECKING:
    from dbt.linux.kernel import Kernel
    from dbt.linux.threads import Thread

_HOSTS = (1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 15, 18)  # fields of stat: group, session, terminal, times, priority, start
_DT_DIR, _DT_REG, _DT_LNK = 4, 8, 10
_ENTRY = struct.Struct("<QqHB")  # linux_dirent64, without the name


def opened(kernel: Kernel, path: bytes, flags: int) -> int | None:
    """A host descriptor of a file that must describe the guest, with the host's flags; None if it is the host's."""
    what = paths.own_name(kernel, path)
    if what == b"mem":
        from dbt.linux import own_memory

        return own_memory.opened(kernel, flags)
    make = _processors if path == b"/proc/cpuinfo" else None if what is None else _FILES.get(what)
    if make is None:
        return None
    made = os.memfd_create(os.fsdecode(path))
    with open(made, "wb", closefd=False) as out:
        out.write(make(kernel, kernel.thread if what is None else paths.own_thread(kernel, path)))
    os.lseek(made, 0, os.SEEK_SET)
    return made


# Folders --------------------------------------------------------------------------------------------------------------


def listed(kernel: Kernel, place: bytes, directory: int, room: int) -> bytes | None:
    """What getdents64 gives of a host directory that is `place` below /proc; None if that is the host's answer.

    The position in the folder is the host's, as Linux counts there: 2 and the number of a descriptor or thread.
    """
    what = place.removeprefix(b"/proc/self/")
    if what in (b"fd", b"fdinfo"):
        numbers, kind = kernel.descriptors.numbers(), _DT_LNK if what == b"fd" else _DT_REG
    elif what == b"task":
        numbers, kind = sorted(kernel.threads.all), _DT_DIR
    else:
        return None
    names = [(0, b".", _DT_DIR), (1, b"..", _DT_DIR), *((number + 2, b"%d" % number, kind) for number in numbers)]
    position, found = os.lseek(directory, 0, os.SEEK_CUR), b""
    for at, name, kind in names:
        size = _ENTRY.size + len(name) + 1 + 7 & -8
        if at < position:
            continue
        if len(found) + size > room:
            break
        inode = os.lstat(place if at == 0 else b"/proc/self" if at == 1 else paths.host_path(
            kernel, b"%s/%s" % (place, name), False)).st_ino  # fmt: skip
        found += (_ENTRY.pack(inode, at + 1, size, kind) + name).ljust(size, b"\0")
        position = at + 1
    os.lseek(directory, position, os.SEEK_SET)
    return found


# Files ----------------------------------------------------------------------------------------------------------------


def _processors(kernel: Kernel, thread: Thread) -> bytes:
    count = 1 if kernel.deterministic else len(os.sched_getaffinity(0))
    return "".join(kernel.abi.CPUINFO.format(number=n, isa=kernel.isa) for n in range(count)).encode()


def _device(name: str) -> str:
    """Device and inode of the file that a region is of, which is not its own if another has taken its name."""
    try:
        found = os.stat(name) if name.startswith("/") else None
    except (OSError, ValueError):
        found = None
    if found is None:
        return "00:00 0"
    return f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x} {found.st_ino}"


def _maps(kernel: Kernel, thread: Thread) -> bytes:
    lines, hosts, devices = [], _host_names(kernel), {"": "00:00 0"}
    brk = (kernel.break_start, kernel.break_end)
    for region in kernel.space.regions():
        rights = "".join(letter if region.protection & bit else "-"
                         for letter, bit in (("r", READ), ("w", WRITE), ("x", EXEC)))
        heap = region.start >= brk[0] and region.end <= brk[1] + 4095
        name = "[heap]" if heap else hosts.get(region.name, region.name)
        if name not in devices:
            devices[name] = _device(name)
        line = (f"{region.start:08x}-{region.end:08x} {rights}{'s' if region.shared else 'p'} "
                f"{region.offset:08x} {devices[name]} ")
        if name.startswith("/"):
            name = os.fsdecode(kernel.sysroot.guest_path(os.fsencode(name)))
        lines.append(f"{line:<73}{name}".rstrip() if name else line)
    return "".join(line + "\n" for line in lines).encode("utf-8", "surrogateescape")


def _host_names(kernel: Kernel) -> dict[str, str]:
    """The files of the program and its loader, which are mapped under the names that they were asked for by."""
    names = {}
    if kernel.loader is not None:
        name = kernel.loader.image.name
        names[name] = os.fsdecode(paths.host_path(kernel, os.fsencode(name)))
    if kernel.loaded is not None:
        names[kernel.loaded.image.name] = kernel.executable
    return names


def _statm(kernel: Kernel, thread: Thread) -> bytes:
    """Pages: all, resident, shared, code, 0, data and stack, 0."""
    sizes = {EXEC: 0, WRITE: 0, 0: 0}
    for region in kernel.space.regions():
        for bit in sizes:
            if region.protection & bit == bit:
                sizes[bit] += region.end - region.start >> 12
    return b"%d %d 0 %d 0 %d 0\n" % (sizes[0], sizes[0], sizes[EXEC], sizes[WRITE])


def _stat(kernel: Kernel, thread: Thread) -> bytes:
    """As the host has it, but for what it says of our own memory and name (proc(5), /proc/pid/stat)."""
    fields = [0] * 49  # from the parent's pid on
    if not kernel.deterministic:
        with open("/proc/self/stat", "rb") as file:
            found = [int(field) for field in file.read().rpartition(b")")[2].split()[1:]]
        for at in _HOSTS:
            fields[at] = found[at]
    fields[0] = 1 if kernel.deterministic else os.getppid()
    size = sum(region.end - region.start for region in kernel.space.regions())
    fields[16] = len(kernel.threads.all)
    fields[19], fields[20] = size, size // 4096  # virtual size, resident pages
    stack = next((region.end for region in kernel.space.regions() if region.name == "[stack]"), 0)
    fields[24] = stack  # start of the stack
    numbers = " ".join(str(field) for field in fields)
    return b"%d (%s) %c " % (thread.tid, thread.name, b"S" if thread.call else b"R") + numbers.encode() + b"\n"


def _status(kernel: Kernel, thread: Thread) -> bytes:
    """As the host has it, but for what it says of our own memory, threads and signals."""
    signals = kernel.signals
    size = sum(region.end - region.start for region in kernel.space.regions()) >> 10
    ignored = sum(1 << number - 1 for number in signals.actions if signals.disposition(number) == 1)
    caught = sum(1 << number - 1 for number in signals.actions if signals.disposition(number) > 1)
    state = b"S (sleeping)" if thread.call else b"R (running)"
    ours = {
        b"Name": thread.name, b"State": state, b"Tgid": b"%d" % kernel.pid, b"Pid": b"%d" % thread.tid,
        b"Threads": b"%d" % len(kernel.threads.all), b"VmPeak": b"%8d kB" % size, b"VmSize": b"%8d kB" % size,
        b"SigPnd": b"%016x" % thread.own.bits, b"ShdPnd": b"%016x" % signals.shared.bits,
        b"SigBlk": b"%016x" % thread.mask, b"SigIgn": b"%016x" % ignored, b"SigCgt": b"%016x" % caught,
    }  # fmt: skip
    if kernel.deterministic:
        return b"".join(b"%s:\t%s\n" % pair for pair in ours.items())
    with open("/proc/self/status", "rb") as file:
        lines = [line.partition(b":\t") for line in file.read().splitlines()]
    return b"".join(b"%s:\t%s\n" % (name, ours.get(name, value)) for name, _, value in lines)


def _cmdline(kernel: Kernel, thread: Thread) -> bytes:
    return b"".join(word + b"\0" for word in kernel.argv)


def _environ(kernel: Kernel, thread: Thread) -> bytes:
    return b"".join(variable + b"\0" for variable in kernel.env)


def _auxv(kernel: Kernel, thread: Thread) -> bytes:
    return kernel.auxiliary


def _comm(kernel: Kernel, thread: Thread) -> bytes:
    return thread.name + b"\n"


_FILES: dict[bytes, Callable[[Kernel, Thread], bytes]] = {  # by name below /proc/self
    b"auxv": _auxv, b"cmdline": _cmdline, b"comm": _comm, b"environ": _environ, b"maps": _maps, b"stat": _stat,
    b"statm": _statm, b"status": _status,
}  # fmt: skip
