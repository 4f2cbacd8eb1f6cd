"""qemu-riscv64 known to the kernel, so that programs which it runs can execute others: in a namespace of one command.

Owns: the command in front. Must not know: what is run. It needs a kernel that lets a user namespace register formats.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
from pathlib import Path

# A program of the guest is one with this beginning, under this mask; $0 is who runs it, $1 the root, $2 `mount`.
_REGISTER = r"""
"$2" -t binfmt_misc none /proc/sys/fs/binfmt_misc || exit 97
printf %s ':riscv:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xf3\x00:'\
'\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:'"$0:POCF" \
    > /proc/sys/fs/binfmt_misc/register || exit 97
export QEMU_LD_PREFIX="$1"
shift 2
exec "$@"
"""


class NotPossible(Exception):
    """The kernel does not let us; the message says what is needed."""


@functools.cache
def registered(qemu: str, root: Path) -> tuple[str, ...]:
    """The beginning of a command: a program of the guest, whose libraries are below `root`, follows. NotPossible."""
    found = {name: shutil.which(name) for name in ("unshare", "sh", "mount", "true")}
    lacking = [name for name, path in found.items() if path is None]
    if lacking:
        raise NotPossible(f"{lacking[0]} is not installed")
    command = (f"{found['unshare']}", "-Urm", f"{found['sh']}", "-c", _REGISTER, qemu, str(root), f"{found['mount']}")
    tried = subprocess.run([*command, f"{found['true']}"], capture_output=True)
    if tried.returncode:
        raise NotPossible("this kernel lets no user namespace register program formats, which needs Linux 6.7")
    return command
