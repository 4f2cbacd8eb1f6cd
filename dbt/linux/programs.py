"""Which program a path means, as execve finds it: an ELF executable, with its loader, or a script with its interpreter.

Owns: `Program`, the `#!` line, and the words for what cannot be run. Must not know: how a program is loaded or run.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Sequence

from dbt import elf
from dbt.elf import ElfFacts, Image, NotRunnable
from ir.records import record

MOST_SCRIPTS = 5  # scripts whose interpreters are scripts (Linux, fs/exec.c: exec_binprm)
_HEAD = 256  # bytes of a script in which its first line must end (BINPRM_BUF_SIZE)
_BLANKS = b" \t"
_ADVICE = "-L DIR or QEMU_LD_PREFIX names a folder with the files of such a system"


@record(frozen=True)
class Program:
    """What is to be loaded, and how it is to be called."""

    image: Image
    loader: Image | None  # of a dynamic program, what is executed first
    path: bytes  # the host's path of the image, without links
    name: bytes  # what was asked for: a script, where that is one
    argv: tuple[bytes, ...]


def find(path: bytes, argv: Sequence[bytes], facts: ElfFacts, host_path: Callable[[bytes], bytes],
         *, name: bytes | None = None, checked: bool = False) -> Program:  # fmt: skip
    """The program at the host's `path`. `host_path` translates the absolute paths of interpreters and loaders.

    `name`: how the guest calls it, if not so. `checked`: the file must have the right to be executed.
    Raises FileNotFoundError if the file is not there, and NotRunnable, whose `code` is what execve returns.
    """
    name = asked = path if name is None else name
    words = list(argv)
    said = ""
    for _ in range(MOST_SCRIPTS + 1):
        data = _contents(path, asked, checked, said)
        if data[:2] != b"#!":
            try:
                image = elf.parse(data, facts, said + os.fsdecode(asked))
            except NotRunnable as error:
                if said:
                    raise NotRunnable(f"{error}: {_ADVICE}", error.code) from None
                raise
            return Program(image, _loader(image, facts, host_path), os.path.realpath(path), name, tuple(words))
        interpreter, argument = _first_line(data[:_HEAD], said + os.fsdecode(asked))
        words = [interpreter, *argument, asked, *words[1:]]
        said += f"{os.fsdecode(asked)}: the script's interpreter "
        asked, path = interpreter, host_path(interpreter)
    raise NotRunnable(f"{os.fsdecode(name)}: the interpreters of scripts are scripts more than {MOST_SCRIPTS} deep",
                      errno.ELOOP)  # fmt: skip


def _contents(path: bytes, asked: bytes, checked: bool, said: str) -> elf.Data:
    try:
        data, mode = elf.contents(os.fsdecode(path))
    except FileNotFoundError:
        if not said:
            raise
        raise NotRunnable(f"{said}{os.fsdecode(asked)} is not here: {_ADVICE}", errno.ENOENT) from None
    except NotRunnable as error:
        raise NotRunnable(said + str(error), error.code) from None
    if checked and not (os.access(path, os.X_OK) and mode & (stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)):
        raise NotRunnable(f"{said}{os.fsdecode(asked)}: permission denied", errno.EACCES)
    return data


def _first_line(head: bytes, name: str) -> tuple[bytes, tuple[bytes, ...]]:
    """The interpreter and the one argument that the line may have."""
    line, end, _ = head[2:].partition(b"\n")
    line = line.partition(b"\0")[0].strip(_BLANKS)
    for at, byte in enumerate(line):
        if byte in _BLANKS:
            argument = line[at:].strip(_BLANKS)
            return line[:at], (argument,)
    if not line or (not end and len(head) == _HEAD):
        raise NotRunnable(f"{name}: its first line names no interpreter in {_HEAD} bytes")
    return line, ()


def _loader(image: Image, facts: ElfFacts, host_path: Callable[[bytes], bytes]) -> Image | None:
    if not image.interpreter:
        return None
    name = os.fsdecode(image.interpreter)
    said = f"{image.name} is dynamically linked, and its loader {name}"
    try:
        data, _ = elf.contents(os.fsdecode(host_path(image.interpreter)))
        return elf.parse(data, facts, name)
    except FileNotFoundError:
        raise NotRunnable(f"{said} is not here: {_ADVICE}", errno.ENOENT) from None
    except NotRunnable as error:
        raise NotRunnable(f"{said} cannot be used ({error})", errno.ELIBBAD) from None
