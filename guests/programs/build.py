"""Build the bundled guest programs: `python -m guests.programs.build [NAME...] [--native DIR]`.

What: compiles `<name>/*.c` with the shared runtime into the committed `<name>/<name>.elf`, or, with --native,
into x86-64 Linux executables of the same sources in a directory of your choice, to compare speeds with. Programs of a
machine, in `system/`, are of the same pattern with runtimes of their own.
Owns: the compiler, its version and its flags, and that the bytes of an ELF depend on nothing else.
Must not know: how programs are run, or what they print; `guests.programs` knows that.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent
SYSTEM = ROOT / "system"
COMPILER = "0.17.1"
"""The ziglang version that made the committed ELFs. Another version may well make other bytes."""

TARGETS = {
    # IMAFDC, no Zb*, no vectors; "relax" is no extension: it lets the linker shorten calls, as linkers do.
    "riscv64": ("-target", "riscv64-freestanding-none", "-mcpu=generic_rv64+m+a+f+d+c+relax"),
    "x86_64": ("-target", "x86_64-freestanding-none"),
    # For programs of a machine: no floating point, so that traps need not keep its registers.
    "system": (
        "-target", "riscv64-freestanding-none", "-mcpu=generic_rv64+m+a+c+zicsr+zifencei+relax", "-mcmodel=medany",
    ),
}
FLAGS = """
    -std=c11 -O2 -g0 -Wall -Wextra -Werror -ffreestanding -fbuiltin
    -nostdlib -static -fno-pie -no-pie -Wl,--build-id=none -fno-ident -fomit-frame-pointer
    -fno-sanitize=all -fno-stack-protector -fno-asynchronous-unwind-tables -fno-unwind-tables
    -fno-math-errno -ffp-contract=off
"""
"""No a*b+c becomes an fma unless the source says fma, so that every machine prints the same checksums."""


class BuildError(Exception):
    """A program could not be built; the message says why and what to do."""


def names() -> list[str]:
    """All programs of user mode that have a source."""
    return [name for name in _with_a_source(ROOT) if name != "runtime"]


def systems() -> list[str]:
    """All programs of a machine that have a source."""
    return [name for name in _with_a_source(SYSTEM) if name not in ("bare", "library")]


def _with_a_source(folder: Path) -> list[str]:
    return sorted(source.stem for source in folder.glob("*/*.c") if source.stem == source.parent.name)


def build(name: str, output: Path, target: str = "riscv64") -> None:
    """Compile one program, of user mode or of a machine."""
    if name in names():
        _compile(name, ROOT, [name, "runtime"], target, ["-Iruntime"], output)
    elif name in systems() and target == "riscv64":
        _system(name, output)
    elif name in systems():
        raise BuildError(f"{name} is a program of a machine, which has no native form")
    else:
        raise BuildError(f"there is no program {name!r}; there are: {', '.join(names() + systems())}")


def _system(name: str, output: Path) -> None:
    """Compile a program of a machine."""
    flags = ["-Ibare", "-Ilibrary", "-Tlibrary/machine.ld"]
    _compile(name, SYSTEM, [name, "bare", "library"], "system", flags, output)


def _compile(name: str, root: Path, folders: Sequence[str], target: str, flags: Sequence[str], output: Path) -> None:
    """Compile all sources of some folders. The compiler sees relative paths only: none can leak into the output."""
    if importlib.util.find_spec("ziglang") is None:
        raise BuildError('the C cross compiler is missing: pip install "dragoman[cross]"')
    sources = [str(path.relative_to(root)) for each in folders for path in sorted((root / each).glob("*.[cS]"))]
    output = output.resolve()
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".build-") as scratch:
        fresh = Path(scratch) / output.name
        compiler = [sys.executable, "-m", "ziglang", "cc", *TARGETS[target], *FLAGS.split(), *flags]
        done = subprocess.run([*compiler, *sources, "-o", str(fresh)], cwd=root, capture_output=True, text=True)
        if done.returncode != 0:
            raise BuildError(f"the compiler refused {name}:\n{done.stderr}")
        fresh.chmod(0o755)
        fresh.replace(output)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m guests.programs.build",
        description="Rebuild the bundled RISC-V guest programs from their sources.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="programs to build; all when none is given")
    parser.add_argument("--native", metavar="DIR", type=Path, help="build x86-64 Linux executables into DIR")
    options = parser.parse_args(arguments)
    target = "riscv64" if options.native is None else "x86_64"
    try:
        if options.native is not None:
            options.native.mkdir(parents=True, exist_ok=True)
        for name in options.names or names() + systems() * (target == "riscv64"):
            folder = SYSTEM if name in systems() else ROOT
            output = folder / name / f"{name}.elf" if options.native is None else options.native / name
            build(name, output, target)
            print(f"{name}: {output.stat().st_size} bytes")
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    if target == "riscv64" and importlib.metadata.version("ziglang") != COMPILER:
        print(f"note: the committed ELFs were made by ziglang {COMPILER}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
