"""Which host path a guest path means.

Owns: the names below /proc and /dev that mean something of the guest's own. Must not know: how files are opened or
read, what our own files of /proc say (proc.py).
"""

from __future__ import annotations

import errno
import os
import re
from typing import TYPE_CHECKING

from dbt.linux.host import failure

if TYPE_CHECKING:
    from dbt.linux.kernel import Kernel
    from dbt.linux.threads import Thread

_STANDARD = {b"/dev/stdin": b"fd/0", b"/dev/stdout": b"fd/1", b"/dev/stderr": b"fd/2"}
_PROCESS = re.compile(rb"/proc/(?P<who>[^/]+)(?:/task/(?P<task>[^/]+))?(?:/+(?P<what>.*))?$", re.DOTALL)
_DESCRIPTOR = re.compile(rb"(?P<folder>fd|fdinfo)/(?P<number>\d+)(?P<rest>/.*)?$", re.DOTALL)
# Not there, as in a kernel built without them: they would tell of our own memory and code.
ABSENT = frozenset((b"clear_refs", b"map_files", b"numa_maps", b"pagemap", b"smaps", b"smaps_rollup", b"stack",
                    b"syscall"))  # fmt: skip


def host_path(kernel: Kernel, path: bytes, follow: bool = True) -> bytes:
    """An absolute guest path as a host path. `follow`: unless the link at its end is what is meant."""
    path = kernel.sysroot.host_path(path, follow)
    if not path.startswith((b"/proc/", b"/dev/")):
        return path
    what = own_name(kernel, path)
    if what is None or path in (b"/proc/self", b"/proc/thread-self"):
        return path
    if what == b"exe" and follow:
        return os.fsencode(kernel.executable)
    if what.partition(b"/")[0] in ABSENT:
        raise failure(errno.ENOENT)
    match = _DESCRIPTOR.match(what)
    if match:
        try:
            number = kernel.descriptors.host(int(match["number"]))
        except OSError as error:
            raise failure(errno.ENOENT) from error
        what = b"%s/%d%s" % (match["folder"], number, match["rest"] or b"")
    return b"/proc/self/" + what


def own_name(kernel: Kernel, path: bytes) -> bytes | None:
    """`what` of /proc/self/what, when it is the guest itself that is asked about; ENOENT for another thread."""
    if path.startswith(b"/dev/"):
        return b"fd" + path[7:] if path[:7] == b"/dev/fd" and path[7:8] in (b"", b"/") else _STANDARD.get(path)
    match = _PROCESS.match(path)
    if not match or match["who"] not in (b"self", b"thread-self", b"%d" % kernel.pid):
        return None
    if match["task"] is not None and match["task"] not in {b"%d" % tid for tid in kernel.threads.all}:
        raise failure(errno.ENOENT)
    return match["what"] or b""


def own_thread(kernel: Kernel, path: bytes) -> Thread:
    """The thread that such a name is of: the first one, if it is of the process."""
    match = _PROCESS.match(path)
    assert match is not None
    if match["task"] is not None:
        return kernel.threads.all[int(match["task"])]
    return kernel.thread if match["who"] == b"thread-self" else kernel.threads.leader


def own_file(kernel: Kernel, path: bytes, flags: int) -> int | None:
    """A host descriptor of a file below /proc that must describe the guest; None if it is the host's to open."""
    if not path.startswith(b"/proc/"):
        return None
    from dbt.linux import proc

    return proc.opened(kernel, path, flags)


def place(link: bytes) -> bytes:
    """A folder of the host's below /proc that is the guest's own, as a guest path; b"" for any other."""
    ours = b"/proc/%d" % os.getpid()
    return b"/proc/self" + link[len(ours) :] if link.startswith(ours) and link[len(ours) :][:1] in (b"", b"/") else b""


def link(kernel: Kernel, path: bytes, target: bytes) -> bytes:
    """What readlink says of a link that a host path of `host_path` names, where that is one of /proc."""
    if path == b"/proc/self":
        return b"%d" % kernel.pid
    if not path.startswith(b"/proc/self/"):
        return target
    if target.startswith(b"/memfd:/proc/"):  # a file of ours
        return re.sub(rb"^/proc/(thread-)?self/", b"/proc/%d/" % kernel.pid, target[7:].removesuffix(b" (deleted)"))
    return kernel.sysroot.guest_path(target)
