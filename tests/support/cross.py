"""C programs for the guest, built by Debian's cross compiler and run under qemu-riscv64 to be compared with."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from support.peers import need

PROGRAMS = Path(__file__).parent.parent / "programs"
ROOT = Path("/usr/riscv64-linux-gnu")  # the C library of the cross compiler, as a root


def build(folder: Path, name: str, *flags: str) -> Path:
    """tests/programs/NAME.c as an executable in a folder: a dynamic one, unless `flags` say -static."""
    out = folder / name
    compiler = need("riscv64-linux-gnu-gcc", "gcc-riscv64-linux-gnu")
    subprocess.run([compiler, "-O2", "-g0", str(PROGRAMS / f"{name}.c"), "-o", str(out), *flags], check=True)
    return out


def qemu(
    program: Path, arguments: Sequence[str] = (), *, root: Path | None = ROOT, timeout: float = 60,
    env: Mapping[str, str] | None = None, stdin: bytes = b"",
) -> tuple[int, bytes, bytes]:  # fmt: skip
    """Status, or the negative signal, output and errors of a run under qemu-riscv64."""
    prefix = [] if root is None else ["-L", str(root)]
    done = subprocess.run(
        [need("qemu-riscv64", "qemu-user"), *prefix, str(program), *arguments], input=stdin, capture_output=True,
        env=None if env is None else dict(env), timeout=timeout,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr
