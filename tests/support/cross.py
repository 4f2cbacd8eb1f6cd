"""C programs for the guest, built by Debian's cross compiler and run under qemu-riscv64 to be compared with."""

from __future__ import annotations

import functools
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from support.peers import missing, need

PROGRAMS = Path(__file__).parent.parent / "programs"
ROOT = Path("/usr/riscv64-linux-gnu")  # the C library of the cross compiler, as a root


def build(folder: Path, name: str, *flags: str) -> Path:
    """tests/programs/NAME.c as an executable in a folder: a dynamic one, unless `flags` say -static."""
    return _build(need("riscv64-linux-gnu-gcc", "gcc-riscv64-linux-gnu"), folder, name, *flags)


def native(folder: Path, name: str, *flags: str) -> Path:
    """The same for the host."""
    return _build(need("gcc", "gcc"), folder, name, *flags)


def _build(compiler: str, folder: Path, name: str, *flags: str) -> Path:
    folder.mkdir(exist_ok=True)
    out = folder / name
    subprocess.run([compiler, "-O2", "-g0", str(PROGRAMS / f"{name}.c"), "-o", str(out), *flags], check=True)
    return out


# Registers qemu-riscv64 for programs of the guest, in a user and mount namespace of its own, and executes one.
_REGISTER = r"""
"$2" -t binfmt_misc none /proc/sys/fs/binfmt_misc || exit 97
printf %s ':riscv:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xf3\x00:'\
'\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:'"$0:POCF" \
    > /proc/sys/fs/binfmt_misc/register || exit 97
export QEMU_LD_PREFIX="$1"
shift 2
exec "$@"
"""


@functools.cache
def registered(root: Path) -> tuple[str, ...]:
    """The beginning of a command that runs guest programs, and those that they execute, under qemu-riscv64.

    `root`: where their libraries are. It needs a kernel that lets a user namespace register formats (6.7).
    """
    command = (
        need("unshare", "util-linux"), "-Urm", need("sh", "dash"), "-c", _REGISTER, need("qemu-riscv64", "qemu-user"),
        str(root), need("mount", "mount"),
    )  # fmt: skip
    tried = subprocess.run([*command, shutil.which("true") or "true"], capture_output=True)
    if tried.returncode:
        missing("this kernel lets no user namespace register program formats, which needs Linux 6.7")
    return command


def qemu(
    program: Path, arguments: Sequence[str] = (), *, root: Path | None = ROOT, timeout: float = 60,
    env: Mapping[str, str] | None = None, stdin: bytes = b"", executes: bool = False, cwd: Path | None = None,
) -> tuple[int, bytes, bytes]:  # fmt: skip
    """Status, or the negative signal, output and errors of a run under qemu-riscv64.

    `executes`: it starts other programs for the guest, which Linux must know to be qemu's.
    """
    command = [need("qemu-riscv64", "qemu-user"), *([] if root is None else ["-L", str(root)]), str(program)]
    if executes:
        command = [*registered(root or Path("/")), str(program)]
    done = subprocess.run(
        [*command, *arguments], input=stdin, capture_output=True, env=None if env is None else dict(env),
        timeout=timeout, cwd=cwd,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr
