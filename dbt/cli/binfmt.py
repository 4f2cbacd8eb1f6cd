"""`dragoman binfmt`: what the kernel is told so that RISC-V programs are run by us.

Owns: the line of binfmt_misc, and which line of those that are registered takes our programs. Nothing is registered.
Source: Linux, Documentation/admin-guide/binfmt-misc.rst.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Sequence

from dbt.cli.errors import USAGE, Fail, say
from dbt.cli.options import Parser

FOLDER = "/proc/sys/fs/binfmt_misc"
RUNNER = "dragoman-riscv64"
NAME = "dragoman-riscv64"
_HEADER = 20  # bytes of an ELF header up to the machine
_LONGEST = 127  # bytes of an interpreter's path, by the same page

DESCRIPTION = """\
Print the line that lets the kernel run RISC-V programs by themselves, `./program` instead of `dragoman run ./program`.
Nothing is registered: that is for root to do, once after every start of the machine,

  dragoman binfmt | sudo tee /proc/sys/fs/binfmt_misc/register

or for systemd, which does it at every start:

  dragoman binfmt | sudo tee /etc/binfmt.d/dragoman-riscv64.conf
  sudo systemctl restart systemd-binfmt

Where /proc/sys/fs/binfmt_misc is empty: sudo mount -t binfmt_misc none /proc/sys/fs/binfmt_misc
To take it back: echo -1 | sudo tee /proc/sys/fs/binfmt_misc/dragoman-riscv64

The last field of the line has flags. P, which is set: the name by which a program was called is kept, as programs like
busybox need. O and C, which are not set: the kernel would open the program for us, to run those that may not be read,
and run set-uid programs with their owner's rights; with C, whoever can change our files has the rights of root. F,
which is not set: the kernel would open the interpreter at once, to use it in containers and chroots; ours is a Python
script, whose Python would still be looked for inside. A container needs Dragoman inside, under the same path."""


def magic(machine: int) -> tuple[bytes, bytes]:
    """The first bytes of programs for an ELF machine, and which bits of them count.

    A 64-bit little-endian file of the current version, of whatever system, an executable or a shared object, which
    position-independent programs are.
    """
    value = b"\x7fELF\2\1\1\0" + bytes(8) + (2).to_bytes(2, "little") + machine.to_bytes(2, "little")
    mask = b"\xff" * 7 + b"\0" + b"\xff" * 8 + b"\xfe\xff\xff\xff"
    return value, mask


def line(interpreter: str, machine: int) -> str:
    """What is written to /proc/sys/fs/binfmt_misc/register."""
    value, mask = ("".join(f"\\x{byte:02x}" for byte in data) for data in magic(machine))
    return f":{NAME}:M::{value}:{mask}:{interpreter}:P"


def matches(head: bytes, value: bytes, mask: bytes, offset: int = 0) -> bool:
    """Whether the kernel takes a file that begins so for one of these."""
    part = head[offset : offset + len(value)]
    return len(part) == len(value) and all((a ^ b) & m == 0 for a, b, m in zip(part, value, mask, strict=True))


def registered(machine: int, folder: str = FOLDER) -> Iterator[tuple[str, str, bool]]:
    """(name, interpreter, whether it is enabled) of what is registered for programs of a machine."""
    ours = magic(machine)[0]
    for name in sorted(os.listdir(folder)):
        if name in ("register", "status"):
            continue
        with open(os.path.join(folder, name), encoding="utf-8", errors="surrogateescape") as file:
            lines = [text.partition(" ") for text in file.read().splitlines()]
        words = {word: rest for word, _, rest in lines}
        value = bytes.fromhex(words.get("magic", ""))
        mask = bytes.fromhex(words["mask"]) if "mask" in words else b"\xff" * len(value)
        if value and matches(ours, value, mask, int(words.get("offset", "0"))):
            yield name, words.get("interpreter", ""), "enabled" in words


def state(machine: int, folder: str = FOLDER) -> str:
    """A sentence on what the kernel does with our programs now."""
    if not os.path.exists(os.path.join(folder, "status")):
        return f"binfmt_misc is not mounted at {folder} here"
    found = list(registered(machine, folder))
    if not found:
        return "nothing is registered here for RISC-V programs"
    # The kernel asks what was registered last first, which nobody can see.
    each = (f"{name} ({interpreter}{'' if enabled else ', disabled'})" for name, interpreter, enabled in found)
    return f"registered here for RISC-V programs: {', '.join(each)}"


def _interpreter(given: str | None) -> str:
    found = given or shutil.which(RUNNER) or os.path.join(os.path.dirname(os.path.abspath(sys.argv[0])), RUNNER)
    path = os.path.abspath(found)
    if not os.access(path, os.X_OK) or not os.path.isfile(path):
        raise Fail(USAGE, f"{path}: there is no such command; --interpreter=PATH says where {RUNNER} is")
    if ":" in path or len(os.fsencode(path)) > _LONGEST:
        raise Fail(USAGE, f"{path}: the kernel takes no interpreter with a colon in its path, or with more than "
                          f"{_LONGEST} bytes")  # fmt: skip
    return path


def command(words: Sequence[str]) -> int:
    parser = Parser("binfmt", DESCRIPTION, "")
    parser.option("--interpreter", metavar="PATH", help=f"the command that the kernel is to call (default: {RUNNER})")
    options, rest = parser.split(words)
    if rest:
        parser.error(f"there is no argument {rest[0]!r}")
    import guests

    linux = guests.load("riscv64").linux
    print(line(_interpreter(options.interpreter), linux.ELF_MACHINE), flush=True)
    say(state(linux.ELF_MACHINE))
    return 0
