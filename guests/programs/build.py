"""Build the bundled guest programs: `python -m guests.programs.build [NAME...] [--native DIR]`.

What: compiles `<name>/*.c` with the shared runtime into the committed `<name>/<name>.elf`, or, with --native,
into x86-64 Linux executables of the same sources in a directory of your choice, to compare speeds with. Programs of a
machine, in `system/`, and guests of a virtual machine, in `virtual/`, are of the same pattern with runtimes of their
own.
Owns: the compiler, its version and its flags, and that the bytes of an ELF depend on nothing else.
Must not know: how programs are run, or what they print; `guests.programs` knows that.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent
SYSTEM = ROOT / "system"
VIRTUAL = ROOT / "virtual"
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

SWITCHING = {"middle": ("system/hypervisor/world.S", "system/hypervisor/access.c")}
"""What a guest of a virtual machine that has guests itself shares with the hypervisor of a machine."""

USER_FLAGS = """
    -Ilibrary -Ikernel -Tkernel/user/user.ld -ffunction-sections -fdata-sections -Wl,--gc-sections -Wl,-n -Wl,-s
"""
"""Of programs in the kernel: nothing that they do not use, no space between their parts in the file, no symbols."""


class BuildError(Exception):
    """A program could not be built; the message says why and what to do."""


def names() -> list[str]:
    """All programs of user mode that have a source."""
    return [name for name in _with_a_source(ROOT) if name != "runtime"]


def systems() -> list[str]:
    """All programs of a machine that have a source."""
    return [name for name in _with_a_source(SYSTEM) if name not in ("bare", "library")]


def virtuals() -> list[str]:
    """All guests of a virtual machine that have a source."""
    return _with_a_source(VIRTUAL)


def paravirtuals() -> list[str]:
    """Those of them that have a second build, whose kernel calls its monitor: what it does has names of sensitive.h."""
    sources = {name: VIRTUAL / name / f"{name}.c" for name in virtuals()}
    return [name for name, path in sources.items() if path.exists() and '"sensitive.h"' in path.read_text()]


def build_paravirtual(name: str, output: Path) -> None:
    """The second build of a guest of a virtual machine, from the same sources."""
    build_virtual(name, output, "-DPV")


def _with_a_source(folder: Path) -> list[str]:
    return sorted(source.stem for source in folder.glob("*/*.[cS]") if source.stem == source.parent.name)


def build_virtual(name: str, output: Path, *more: str, base: int | None = None) -> None:
    """Compile a guest of a virtual machine, linked for its place or for another one; `more` goes to the compiler."""
    own = any((VIRTUAL / name).glob("*.c"))  # what is all assembly needs no runtime
    parts = [f"virtual/{name}", *(("virtual/common", "system/library") if own else ()), *SWITCHING.get(name, ())]
    flags = ["-std=c23", "-Isystem/library", "-Isystem/hypervisor", "-Ivirtual/common", "-Wl,-n", *more]
    with tempfile.TemporaryDirectory() as scratch:
        script = Path(scratch, "moved.ld")
        script.write_text(f"BASE = {base};\nINCLUDE virtual/guest.ld\n")
        _compile(name, ROOT, parts, "system", [*flags, f"-T{'virtual/guest.ld' if base is None else script}"], output)


def build(name: str, output: Path, target: str = "riscv64") -> None:
    """Compile one program, of user mode, of a machine or of a virtual machine."""
    if name in names():
        _compile(name, ROOT, [name, "runtime"], target, ["-Iruntime"], output)
    elif name in systems() and target == "riscv64":
        _system(name, output)
    elif name in virtuals() and target == "riscv64":
        build_virtual(name, output)
    elif name in systems() + virtuals():
        raise BuildError(f"{name} is a program of a machine, which has no native form")
    else:
        raise BuildError(f"there is no program {name!r}; there are: {', '.join(names() + systems() + virtuals())}")


def build_for_firmware(name: str, output: Path) -> None:
    """Compile the kernel for the address at which firmware starts what it boots, in supervisor mode."""
    if name != "kernel":
        raise BuildError(f"{name} does not start in supervisor mode: only kernel does")
    _system(name, output, "kernel/firmware.ld")


def _system(name: str, output: Path, script: str = "library/machine.ld") -> None:
    """Compile a program of a machine. The kernel takes the programs of its user mode in, which are made before; the
    hypervisor takes the kernel in.
    """
    flags = ["-std=c23", "-Ilibrary", f"-T{script}"]  # C23 has #embed
    if name == "hypervisor":
        with tempfile.TemporaryDirectory() as scratch:
            copy = shutil.copytree(SYSTEM, Path(scratch, "system"))
            build_for_firmware("kernel", copy / "hypervisor/guest.elf")
            _compile(name, copy, ["hypervisor", "library"], "system", flags, output)
        return
    if name != "kernel":
        _compile(name, SYSTEM, [name, "bare", "library"], "system", [*flags, "-Ibare"], output)
        return
    with tempfile.TemporaryDirectory() as scratch:  # a copy, so that nothing stays in the tree
        copy = shutil.copytree(SYSTEM, Path(scratch, "system"))
        for source in sorted((copy / "kernel/user").glob("*.c")):
            if source.stem != "library":
                sources = [f"kernel/user/{source.name}", "kernel/user/library.c", "library"]
                _compile(source.stem, copy, sources, "system", USER_FLAGS.split(), source.with_suffix(".elf"))
        _compile(name, copy, ["kernel", "library"], "system", flags, output)


def _compile(name: str, root: Path, parts: Sequence[str], target: str, flags: Sequence[str], output: Path) -> None:
    """Compile sources, and all of folders. The compiler sees relative paths only: none can leak into the output."""
    if importlib.util.find_spec("ziglang") is None:
        raise BuildError('the C cross compiler is missing: pip install "dragoman[cross]"')
    found = [[root / part] if (root / part).is_file() else sorted((root / part).glob("*.[cS]")) for part in parts]
    sources = [str(path.relative_to(root)) for paths in found for path in paths]
    output = output.resolve()
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".build-") as scratch:
        fresh = Path(scratch) / output.name
        compiler = [sys.executable, "-m", "ziglang", "cc", *TARGETS[target], *FLAGS.split(), *flags]
        done = subprocess.run([*compiler, *sources, "-o", str(fresh)], cwd=root, capture_output=True, text=True)
        if done.returncode != 0:
            raise BuildError(f"the compiler refused {name}:\n{done.stderr}")
        fresh.chmod(0o755)
        fresh.replace(output)


def _each(chosen: Sequence[str], folder: Path, file: str, make: Callable[[str, Path], None]) -> None:
    """Make each program's file in a folder, and say how large it is."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in chosen:
        output = folder / file.format(name)
        make(name, output)
        print(f"{name}: {output.stat().st_size} bytes")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m guests.programs.build",
        description="Rebuild the bundled RISC-V guest programs from their sources.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="programs to build; all when none is given")
    other = parser.add_mutually_exclusive_group()
    other.add_argument("--native", metavar="DIR", type=Path, help="build x86-64 Linux executables into DIR")
    other.add_argument(
        "--firmware", metavar="DIR", type=Path,
        help="build the kernel into DIR for a start by firmware such as OpenSBI, in supervisor mode",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    try:
        if options.native is not None:
            _each(options.names or names(), options.native, "{}", lambda name, output: build(name, output, "x86_64"))
        elif options.firmware is not None:
            _each(options.names or ["kernel"], options.firmware, "{}.elf", build_for_firmware)
        else:
            others = systems() + virtuals()
            _each([name for name in options.names or names() if name not in others], ROOT, "{0}/{0}.elf", build)
            for folder, there in ((SYSTEM, systems()), (VIRTUAL, virtuals())):
                _each([name for name in options.names or there if name in there], folder, "{0}/{0}.elf", build)
            second = [name for name in options.names or paravirtuals() if name in paravirtuals()]
            _each(second, VIRTUAL, "{0}/{0}.pv.elf", build_paravirtual)
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    if not options.native and importlib.metadata.version("ziglang") != COMPILER:
        print(f"note: the committed ELFs were made by ziglang {COMPILER}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
