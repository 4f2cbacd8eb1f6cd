"""The command line: `dragoman run`, `boot`, `fleet`, `compare`, `lockstep`, `explore`, `bench`, `explain`, `trace`,
`lab`, `info`, `cache` and `binfmt`.

Each is a file of its own. Owns: the table of commands, and that no error reaches a user as a traceback. A command uses
the public face (`dragoman`) and the texts of `dbt.report`, both imported when it needs them; its file is imported when
it is asked for. Must not know: how anything is done.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from array import array
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module

from dbt.cli.errors import FAILURE, INTERRUPTED, STATUSES, USAGE, Fail, say, show_version

DESCRIPTION = """\
Dragoman runs RISC-V (RV64GC) Linux programs on x86-64 by translating them while they run.

commands:
  run PROGRAM [ARGS...]       run a program
  boot -kernel FILE|@NAME     start a machine: firmware, a kernel, a program for bare metal
  fleet GUEST...              run virtual machines at once, on few processors
  compare PROGRAM [ARGS...]   run it in both engines, compare them, and show how fast each is
  compare GUEST               run a guest of a virtual machine under each method, and count exits
  lockstep PROGRAM [ARGS...]  run both engines side by side, to find the first block where they differ
  explore PROGRAM [ARGS...]   run it with many seeds, to find turns of its threads that it does not bear
  bench PROGRAM [ARGS...]     measure it under each engine, qemu-riscv64 and native code
  explain PROGRAM [PLACE]     one block or region of it, from guest bytes to host bytes
  trace PROGRAM [ARGS...]     what happens in a run: exits, translations, traps, interrupts, world switches
  info PROGRAM                what a program file is and which instructions it holds
  cache info|clear|...        what runs leave on disk, so that later ones need not translate it again
  binfmt                      how to let the kernel run RISC-V programs with Dragoman
  lab NAME                    small experiments that show one mechanism each

PROGRAM is a RISC-V ELF file or a script, or @NAME for one that comes with Dragoman (`dragoman info --programs`
lists them). Try:

  dragoman run @hello
  dragoman run --stats @sieve small
  dragoman compare @sieve small

`dragoman COMMAND --help` explains a command.
"""

def _command(module: str, function: str = "command") -> Callable[[Sequence[str]], int]:
    """What carries out a command; its file is imported then."""

    def carry_out(words: Sequence[str]) -> int:
        status: int = getattr(import_module(f"dbt.cli.{module}"), function)(words)
        return status

    return carry_out


COMMANDS: Mapping[str, Callable[[Sequence[str]], int]] = {
    "run": _command("run"),
    "boot": _command("boot"),
    "fleet": _command("fleet"),
    "compare": _command("compare"),
    "lockstep": _command("lockstep"),
    "explore": _command("explore"),
    "bench": _command("bench"),
    "explain": _command("explain"),
    "trace": _command("trace"),
    "info": _command("info"),
    "cache": _command("cache"),
    "binfmt": _command("binfmt"),
    "lab": _command("info", "lab_command"),
}


RUNNERS = ("-riscv64", "-riscv64-static")  # how the names end under which we are `dragoman run`, as qemu-riscv64 is
_AUXILIARY, _AT_FLAGS, _PRESERVE_ARGV0 = "/proc/self/auxv", 8, 1


def words_of(argv: Sequence[str]) -> list[str]:
    """Our words from those that we were called with, whose first is our name.

    The kernel calls us by a runner's name with a program's path, and behind it, if it was told to, the name that the
    program was called by (binfmt_misc, flag P); a flag says so (Linux 5.12).
    """
    words = list(argv[1:])
    if not os.path.basename(argv[0]).endswith(RUNNERS):
        return words
    if len(words) > 1 and _argv0_is_preserved():
        return ["run", f"--argv0={words[1]}", "--", words[0], *words[2:]]
    return ["run", *words]


def _argv0_is_preserved() -> bool:
    try:
        with open(_AUXILIARY, "rb") as file:
            words = array("Q", file.read())
    except OSError:
        return False
    flags = dict(zip(words[::2], words[1::2], strict=True))
    return bool(flags.get(_AT_FLAGS, 0) & _PRESERVE_ARGV0)


def _dispatch(words: Sequence[str]) -> int:
    if not words:
        sys.stderr.write(DESCRIPTION)
        raise Fail(USAGE, "which command? (see above)")
    name, rest = words[0], words[1:]
    if name in ("-h", "--help", "help"):
        sys.stdout.write("usage: dragoman COMMAND [OPTIONS] ...\n\n" + DESCRIPTION + "\n" + STATUSES)
        return 0
    if name in ("-V", "--version"):
        return show_version()
    if name not in COMMANDS:
        what = "option" if name.startswith("-") else "command"
        hint = f"; to run it: dragoman run {name}" if name.startswith("@") or os.path.exists(name) else ""
        raise Fail(USAGE, f"there is no {what} {name!r} (commands: {' '.join(COMMANDS)}){hint}")
    return COMMANDS[name](rest)


def _standard_descriptors() -> None:
    """Occupy 0, 1 and 2 if they were closed, so that no file of ours gets one; using them fails as if closed."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_WRONLY if descriptor == 0 else os.O_RDONLY)


def main(words: Sequence[str]) -> int:
    """Carry out a command; returns the exit status."""
    _standard_descriptors()
    try:
        status = _dispatch(words)
        if sys.stdout is not None:
            sys.stdout.flush()
        return status
    except Fail as failure:
        say(str(failure))
        return failure.status
    except KeyboardInterrupt:
        say("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for Python's own flush at exit
        os.dup2(1, 2)
        from dbt.child import die

        return die(signal.SIGPIPE)
    except SystemExit as leaving:  # argparse, after --help
        return leaving.code if isinstance(leaving.code, int) else USAGE
    except Exception as error:
        if os.environ.get("DRAGOMAN_DEBUG") == "1":
            raise
        if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
            say("out of memory: the host gives no more (a guest reserves 256 GiB of addresses; is `ulimit -v` set?)")
            return FAILURE
        text = " ".join(str(error).split())
        say(f"internal error: {type(error).__name__}{': ' if text else ''}{text} (DRAGOMAN_DEBUG=1 shows where)")
        return FAILURE
