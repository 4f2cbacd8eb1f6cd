"""Dragoman: run RISC-V Linux programs on x86-64 by dynamic binary translation. This module is its public face.

    import dragoman
    result = dragoman.run("./hello", ["world"])     # run to the end, output captured
    process = dragoman.load("@sieve", ["small"])    # step, look at registers and memory, run on
    vm = dragoman.kvm.Kvm().create_vm()    # a virtual machine, in KVM's shape

Owns: the public names, the check that the packages behind them are ours, the entry point of the command.
Must not know: how anything is done. Nothing of `dbt`, `ir` or `guests` is imported before it is needed.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from dbt import kvm as kvm
    from dbt.compare import Comparison as Comparison
    from dbt.elf import NotRunnable as NotRunnable
    from dbt.hosts.select import UnsupportedHost as UnsupportedHost
    from dbt.lockstep import Report as Report
    from dbt.memory import MemoryFault as MemoryFault
    from dbt.options import Options as Options
    from dbt.process import LimitReached as LimitReached
    from dbt.process import Process as Process
    from dbt.process import Settings as Settings
    from dbt.result import Result as Result
    from guests.programs import UnknownProgram as UnknownProgram
    from guests.riscv.isa import UnknownIsa as UnknownIsa
    from guests.riscv.table import Extension as Extension
    from guests.spec import BadExtension as BadExtension

    __version__: str

DISTRIBUTION = "dragoman"
PACKAGES = ("ir", "guests", "dbt")
_COLLECT = 100_000  # objects made until garbage is looked for: a start makes 50,000 that stay, and a search visits them

_HOME = {  # public names that live elsewhere, imported at first use
    "Process": "dbt.process",
    "Settings": "dbt.process",
    "Result": "dbt.result",
    "LimitReached": "dbt.process",
    "NotRunnable": "dbt.elf",
    "MemoryFault": "dbt.memory",
    "UnsupportedHost": "dbt.hosts.select",
    "Options": "dbt.options",
    "Comparison": "dbt.compare",
    "Report": "dbt.lockstep",
    "UnknownIsa": "guests.riscv.isa",
    "Extension": "guests.riscv.table",
    "BadExtension": "guests.spec",
    "UnknownProgram": "guests.programs",
}
_MODULES = {"kvm": "dbt.kvm"}  # public names that are modules

__all__ = [
    "BadExtension", "Comparison", "Extension", "ForeignPackage", "LimitReached", "MemoryFault", "NotRunnable",
    "Options", "Process", "Report", "Result", "Settings", "UnknownIsa", "UnknownProgram", "UnsupportedHost",
    "__version__", "compare", "find", "kvm", "load", "lockstep", "main", "run",
]  # fmt: skip


class ForeignPackage(ImportError):
    """A package that Python would import in place of one of ours; the message is one sentence."""


# --- running ----------------------------------------------------------------------------------------------------


def find(program: str | os.PathLike[str]) -> Path:
    """The file that is meant by a path, or by "@name" for a bundled program; raises UnknownProgram."""
    from pathlib import Path

    return Path(_file(program))


def _file(program: str | os.PathLike[str]) -> str:
    if isinstance(program, str) and program.startswith("@"):
        _check_packages()
        from guests import programs

        return programs.file(program)
    return os.fspath(program)


def load(
    program: str | os.PathLike[str],
    args: Sequence[str] = (),
    *,
    engine: str = "translated",
    isa: str | None = None,
    extensions: Sequence[Extension] = (),
    env: Mapping[str, str] | None = None,
    argv0: str | None = None,
    sysroot: str | os.PathLike[str] | None = None,
    seed: int | None = None,
    random_seed: int | None = None,
    stack_size: int | None = None,
    release: str | None = None,
    stdin: int = 0,
    stdout: int = 1,
    stderr: int = 2,
    strace: Callable[[str], None] | None = None,
    strace_items: str = "",
    trace: Callable[[str], None] | None = None,
    granularity: str = "block",
    host_signals: bool = False,
    options: Options | None = None,
) -> Process:
    """A guest process, loaded and about to execute its first instruction. It wants `close()` in the end.

    program   path of a RISC-V ELF executable or of a script for one, or "@name" for a bundled one
    args      its arguments, without argv[0]
    engine    "translated" (fast) or "reference" (the interpreter that defines what is right)
    isa       instruction-set string such as "rv64imac"; None is all that is implemented
    extensions   instructions of your own, see docs/howto/instruction.md
    env       the guest's environment; None is the caller's own
    argv0     argv[0], if it is not the program's path (of a bundled program: its name)
    sysroot   folder in which absolute paths of the guest are looked for first
    seed      not None makes the run repeatable: clocks, randomness, pid and layout come from it
    random_seed   random numbers alone come from it
    stack_size    bytes of the stack; None is the limit that we have ourselves
    release   the kernel's release, as uname tells it; None is the host's
    stdin, stdout, stderr   host file descriptors
    strace    called with a line for every system call, signal and end
    strace_items   which of them and how, as behind --strace=: "json,file" shows calls with a path as JSON
    trace     called with a line for every instruction (engine "reference" only)
    granularity   "insn": events (`Process.at`) come after any instruction, not at block boundaries only (engine
              "reference" only)
    host_signals   True: while `run` runs it, in the main thread, signals that this process gets are the guest's, as
              its handlers and mask say; False: they stay the caller's
    options   what shapes translations, see `Options`

    Raises FileNotFoundError, NotRunnable, UnknownIsa, BadExtension, UnknownProgram, UnsupportedHost.
    """
    _check_packages()
    from dbt.process import Process

    path, settings = _settings(
        program, engine=engine, isa=isa, extensions=extensions, env=env, argv0=argv0, sysroot=sysroot, seed=seed,
        random_seed=random_seed, stack_size=stack_size, release=release, strace=strace, strace_items=strace_items,
        stdin=stdin, stdout=stdout, stderr=stderr, granularity=granularity, host_signals=host_signals,
        options=options,
    )  # fmt: skip
    if trace is not None:
        from dbt.report import TracedProcess

        return TracedProcess(path, args, settings, trace)
    return Process(path, args, settings)


def run(
    program: str | os.PathLike[str],
    args: Sequence[str] = (),
    *,
    engine: str = "translated",
    isa: str | None = None,
    extensions: Sequence[Extension] = (),
    env: Mapping[str, str] | None = None,
    argv0: str | None = None,
    sysroot: str | os.PathLike[str] | None = None,
    seed: int | None = None,
    stdin: bytes | IO[Any] | int | None = None,
    capture: bool = True,
    max_instructions: int | None = None,
    strace: Callable[[str], None] | None = None,
    strace_items: str = "",
    trace: Callable[[str], None] | None = None,
    options: Options | None = None,
) -> Result:
    """Run a guest program to its end. What `load` says of arguments holds here too; and:

    stdin     bytes, an open file or a descriptor; None is no input
    capture   collect what the guest writes to stdout and stderr; False leaves both to ours
    max_instructions   raise LimitReached at the first block boundary at or after so many; its `result`
              is the Result so far, with neither status nor signal
    """
    _check_packages()
    from dbt.process import LimitReached
    from dbt.report import reason
    from dbt.result import Result

    with ExitStack() as stack:

        def memory() -> IO[bytes]:
            return stack.enter_context(os.fdopen(os.memfd_create("dragoman"), "w+b"))

        if stdin is None:
            given = stack.enter_context(open(os.devnull, "rb")).fileno()
        elif isinstance(stdin, (bytes, bytearray, memoryview)):
            file = memory()
            file.write(stdin)
            file.seek(0)
            given = file.fileno()
        else:
            given = stdin if isinstance(stdin, int) else stdin.fileno()
        outputs = [memory(), memory()] if capture else []
        if not capture:
            for stream in (sys.stdout, sys.stderr):
                if stream is not None:
                    stream.flush()
        descriptors = [file.fileno() for file in outputs] or [1, 2]
        process = load(
            program, args, engine=engine, isa=isa, extensions=extensions, env=env, argv0=argv0, sysroot=sysroot,
            seed=seed, strace=strace, strace_items=strace_items, trace=trace, options=options, stdin=given,
            stdout=descriptors[0], stderr=descriptors[1],
        )  # fmt: skip
        stack.callback(process.close)

        def result() -> Result:
            texts = [b"", b""]
            for i, file in enumerate(outputs):
                file.seek(0)
                texts[i] = file.read()
            return Result(
                process.status, process.signal, texts[0], texts[1], process.instructions, process.stats(),
                reason(process) if process.signal is not None else "",
            )  # fmt: skip

        try:
            process.run(max_instructions)
        except LimitReached as limit:
            limit.result = result()
            raise
        return result()


def compare(
    program: str | os.PathLike[str],
    args: Sequence[str] = (),
    *,
    isa: str | None = None,
    extensions: Sequence[Extension] = (),
    env: Mapping[str, str] | None = None,
    argv0: str | None = None,
    sysroot: str | os.PathLike[str] | None = None,
    seed: int = 0,
    stdin: bytes = b"",
    max_instructions: int | None = None,
    events: int | None = None,
    options: Options | None = None,
) -> Comparison:
    """Run a program in the reference interpreter, then in the translator, and compare all that can be seen.

    Output, exit status or signal, instructions, blocks, instruction classes and registers must be equal.
    `max_instructions` bounds the slow reference run: both are compared there, and the translator goes on.
    `events`: both also note a digest of registers and memory every so many instructions, and these must be equal.
    """
    _check_packages()
    from dbt import compare as comparing

    path, settings = _settings(
        program, isa=isa, extensions=extensions, env=env, argv0=argv0, sysroot=sysroot, seed=seed, options=options
    )  # fmt: skip
    return comparing.compare(path, args, settings, stdin=stdin, max_instructions=max_instructions, events=events)


def lockstep(
    program: str | os.PathLike[str],
    args: Sequence[str] = (),
    *,
    isa: str | None = None,
    extensions: Sequence[Extension] = (),
    env: Mapping[str, str] | None = None,
    argv0: str | None = None,
    sysroot: str | os.PathLike[str] | None = None,
    seed: int = 0,
    stdin: int = 0,
    stdout: int = 1,
    stderr: int = 2,
    max_instructions: int | None = None,
    options: Options | None = None,
    progress: Callable[[Report], None] | None = None,
    stride: int = 1,
) -> Report:
    """Run both engines side by side, compare all state at every block boundary, stop at the first difference.

    A `stride` above 1 compares after at most so many instructions instead, so that translations of several blocks run.

    The report's `difference` is None where they agree; `limited` says that `max_instructions` ended the run.
    `progress` is called with the report now and then. `dbt.lockstep` can save a difference and run it again.
    """
    _check_packages()
    from dbt import lockstep as stepping

    path, settings = _settings(
        program, isa=isa, extensions=extensions, env=env, argv0=argv0, sysroot=sysroot, seed=seed, options=options,
        stdin=stdin, stdout=stdout, stderr=stderr,
    )  # fmt: skip
    return stepping.lockstep(path, args, settings, max_instructions, progress, stride=stride)


def _settings(
    program: str | os.PathLike[str], *, argv0: str | None, sysroot: str | os.PathLike[str] | None, **more: Any
) -> tuple[str, Settings]:
    """The file and its settings; a bundled program sees its bare name as argv[0], wherever we are installed."""
    from dbt.process import Settings

    path = _file(program)
    if argv0 is None:
        argv0 = os.path.basename(path).removesuffix(".elf") if str(program).startswith("@") else path
    return path, Settings(argv0=argv0, sysroot=None if sysroot is None else os.fspath(sysroot), **more)


# --- the packages behind ----------------------------------------------------------------------------------------

_checked = False


def _check_packages() -> None:
    """Raise ForeignPackage if `import dbt` (or ir, guests) would find a namesake. Nothing foreign is executed."""
    global _checked
    if _checked:
        return
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is None:
            raise ForeignPackage(f"the package {name!r} is missing: Dragoman is not installed completely")
        where = spec.origin or ", ".join(spec.submodule_search_locations or ())
        if not _is_ours(spec):
            also = " (dbt-core installs one of that name)" if name == "dbt" else ""
            raise ForeignPackage(
                f"the package {name!r} that Python finds first, {where}, is not Dragoman's{also}: "
                f"use an environment without it, or take its folder off PYTHONPATH"
            )
    _checked = True


def _is_ours(spec: Any) -> bool:
    """Whether a package's source carries our mark, by reading it."""
    try:
        source = spec.loader.get_data(spec.origin)
    except (AttributeError, ImportError, OSError, TypeError, ValueError):
        return False
    return f'DISTRIBUTION = "{DISTRIBUTION}"'.encode() in source.splitlines()


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib import metadata

        try:
            return metadata.version(DISTRIBUTION)
        except metadata.PackageNotFoundError:
            return "0+source"  # run from a source tree that is not installed
    if name in _MODULES:
        _check_packages()
        return importlib.import_module(_MODULES[name])
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    _check_packages()
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


# --- the command ------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """The `dragoman` command, or `dragoman run` if we were called as dragoman-riscv64 or the like; the exit status."""
    if arguments is None:
        gc.set_threshold(_COLLECT)
    try:
        _check_packages()
    except ForeignPackage as error:
        sys.stderr.write(f"dragoman: {error}\n")
        return 125
    from dbt import cli

    if arguments is not None:
        return cli.main(arguments)
    status = cli.main(cli.words_of(sys.argv))
    _end(status)
    return status


def _end(status: int) -> None:
    """End this process, which is ours, without taking Python apart: its memory goes back anyway.

    What was registered for the end is done. Where output cannot be written any more, Python may end and say so.
    """
    atexit._run_exitfuncs()
    with suppress(OSError):
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        os._exit(status)


if __name__ == "__main__":
    import dragoman  # the same file under its own name, which is the one that `dbt.cli` imports

    sys.exit(dragoman.main())
