"""Which host path a guest path means: the sysroot rule, and the files of /proc that would show the host.

Owns: the names that need an answer of our own. Must not know: how files are opened or read.
"""

from __future__ import annotations

import errno
import os
import re
from typing import TYPE_CHECKING

from dbt.linux.host import failure
from dbt.memory import EXEC, READ, WRITE

if TYPE_CHECKING:
    from dbt.linux.kernel import Kernel

_STANDARD = {b"/dev/stdin": 0, b"/dev/stdout": 1, b"/dev/stderr": 2}
_DESCRIPTOR = re.compile(rb"(?:/proc/(?P<who>[^/]+)/fd|/dev/fd)/(?P<number>\d+)$")
_OF_PROCESS = re.compile(rb"/proc/(?P<who>[^/]+)/(?:task/\d+/)?(?P<what>[a-z_]+)$")


def host_path(kernel: Kernel, path: bytes) -> bytes:
    """An absolute guest path as a host path. A path that exists under the sysroot wins."""
    if path.startswith((b"/proc/", b"/dev/")):
        number = _STANDARD.get(path)
        match = _DESCRIPTOR.match(path)
        if match and (match["who"] is None or _is_self(kernel, match["who"])):
            number = int(match["number"])
        if number is not None:
            try:
                return b"/proc/self/fd/%d" % kernel.descriptors.host(number)
            except OSError as error:
                raise failure(errno.ENOENT) from error
        if own_name(kernel, path) == b"exe":
            return os.fsencode(kernel.executable)
        return path
    if kernel.sysroot is not None:
        under = kernel.sysroot + path
        if os.path.lexists(under):
            return under
    return path


def own_name(kernel: Kernel, path: bytes) -> bytes | None:
    """`what` of /proc/self/what, when it is the guest itself that is asked about."""
    match = _OF_PROCESS.match(path)
    return match["what"] if match and _is_self(kernel, match["who"]) else None


def proc_file(kernel: Kernel, path: bytes) -> bytes | None:
    """The contents of a file below /proc/self that must describe the guest; None if it is the host's to answer."""
    what = own_name(kernel, path)
    if what is None:
        return None
    if what == b"mem":
        raise failure(errno.EACCES)  # it would be our own memory
    if what == b"cmdline":
        return b"".join(argument + b"\0" for argument in kernel.argv)
    if what == b"environ":
        return b"".join(variable + b"\0" for variable in kernel.env)
    if what == b"auxv":
        return kernel.auxiliary
    if what == b"comm":
        return kernel.thread_name + b"\n"
    if what == b"maps":
        return _maps(kernel)
    if what == b"stat":
        return _stat(kernel)
    return None


def _is_self(kernel: Kernel, who: bytes) -> bool:
    return who in (b"self", b"thread-self", b"%d" % kernel.pid)


def _maps(kernel: Kernel) -> bytes:
    lines = []
    brk = (kernel.break_start, kernel.break_end)
    for region in kernel.space.regions():
        rights = "".join(letter if region.protection & bit else "-"
                         for letter, bit in (("r", READ), ("w", WRITE), ("x", EXEC)))
        name = "[heap]" if region.start >= brk[0] and region.end <= brk[1] + 4095 else region.name
        line = (f"{region.start:08x}-{region.end:08x} {rights}{'s' if region.shared else 'p'} "
                f"{region.offset:08x} 00:00 0 ")
        lines.append(f"{line:<73}{name}".rstrip() if name else line)
    return "".join(line + "\n" for line in lines).encode("utf-8", "surrogateescape")


def _stat(kernel: Kernel) -> bytes:
    fields = [0] * 49
    fields[0] = os.getppid()
    size = sum(region.end - region.start for region in kernel.space.regions())
    fields[16], fields[19], fields[20] = 1, size, size // 4096  # threads, virtual size, resident pages
    stack = next((region.end for region in kernel.space.regions() if region.name == "[stack]"), 0)
    fields[24] = stack  # start of the stack
    numbers = " ".join(str(field) for field in fields)
    return b"%d (%s) R " % (kernel.pid, kernel.thread_name) + numbers.encode() + b"\n"
