"""C and C++ programs for the guest, built by Debian's cross compiler and run under qemu-riscv64 to be compared with."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from support.peers import missing, need

from bench.registered import NotPossible, registered

PROGRAMS = Path(__file__).parent.parent / "programs"
ROOT = Path("/usr/riscv64-linux-gnu")  # the C library of the cross compiler, as a root


def build(folder: Path, name: str, *flags: str) -> Path:
    """tests/programs/NAME.c, or .cpp, as an executable in a folder: a dynamic one, unless `flags` say -static."""
    return _build("riscv64-linux-gnu-{0}", "{0}-riscv64-linux-gnu", folder, name, *flags)


def native(folder: Path, name: str, *flags: str) -> Path:
    """The same for the host."""
    return _build("{0}", "{0}", folder, name, *flags)


def _build(compiler: str, package: str, folder: Path, name: str, *flags: str) -> Path:
    """By the compiler of the source's language, whose name is put into those of program and package."""
    source = next(PROGRAMS.glob(f"{name}.c*"))
    language = {".c": "gcc", ".cpp": "g++"}[source.suffix]
    folder.mkdir(exist_ok=True)
    out = folder / name
    made = need(compiler.format(language), package.format(language))
    subprocess.run([made, "-O2", "-g0", str(source), "-o", str(out), *flags], check=True)
    return out


def qemu(
    program: Path, arguments: Sequence[str] = (), *, root: Path | None = ROOT, timeout: float = 60,
    env: Mapping[str, str] | None = None, stdin: bytes = b"", executes: bool = False, cwd: Path | None = None,
) -> tuple[int, bytes, bytes]:  # fmt: skip
    """Status, or the negative signal, output and errors of a run under qemu-riscv64.

    `executes`: it starts other programs for the guest, which Linux must know to be qemu's.
    """
    command = [need("qemu-riscv64", "qemu-user"), *([] if root is None else ["-L", str(root)]), str(program)]
    if executes:
        try:
            command = [*registered(command[0], root or Path("/")), str(program)]
        except NotPossible as reason:
            missing(str(reason))
    done = subprocess.run(
        [*command, *arguments], input=stdin, capture_output=True, env=None if env is None else dict(env),
        timeout=timeout, cwd=cwd,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr
