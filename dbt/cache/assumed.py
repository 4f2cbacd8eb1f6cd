"""What a translation on disk was made under: a hash of everything that the translator assumed.

If anything in it changes, what is on disk under the old hash is not found, and in time goes. What is forgotten here
would be wrong code, so whole folders of sources count, and options are left out by name and not put in by name.
LLVM is not asked, since not loading it is the purpose: its library's size and time stand for it, and the processor is
what the kernel says of it. Sources count by content; what they hash to is kept for as long as no file's size, times or
inode change. Owns: the list. Must not know: where things are kept.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from importlib.util import find_spec

from dbt.blake2 import blake2b
from dbt.hosts import select
from dbt.options import Options
from guests.spec import Guest
from ir.records import names

HASH = 16  # bytes
COMPILER = "llvmlite"
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SOURCES = ("ir", "guests", "dbt")
NO_MATTER = frozenset({"programs", "cli", "lab", "linux", "__pycache__"})  # folders that shape no code
# Options that say when code is made, what becomes of it and who looks; all others shape it.
NOT_IN_CODE = frozenset(
    {
        "hot", "tiers", "promote", "patience", "cache_size", "cache_policy", "smc", "cache_off", "chaos",
        "dump", "write", "disk", "background",
    }
)
CPU = (b"vendor_id", b"cpu family", b"model", b"model name", b"stepping", b"flags")


class Unknown(Exception):
    """Something that was assumed cannot be told, so nothing can be kept; the message says what."""


Keep = Callable[[bytes, Callable[[], bytes]], bytes]  # what was made under this name, or is made now


def assumed(guest: Guest, options: Options, keep: Keep = lambda name, make: make()) -> bytes:
    """The hash for this guest and these options on this machine. `keep` may know the sources'. Raises Unknown."""
    total = blake2b(digest_size=HASH)
    try:
        for part in (guest.name, guest.isa, *sorted(guest.features), select.host().name, *_options(options)):
            total.update(part.encode() + b"\0")
        for content in (_compiler(), _processor(), _sources(keep)):
            total.update(len(content).to_bytes(8, "little") + content)
    except select.UnsupportedHost as error:
        raise Unknown(str(error)) from error
    except OSError as error:
        raise Unknown(f"{error.filename}: {(error.strerror or str(error)).lower()}") from error
    return total.digest()


def _options(options: Options) -> Iterator[str]:
    for name in names(options):
        if name not in NOT_IN_CODE:
            yield f"{name}={getattr(options, name)!r}"


def _sources(keep: Keep) -> bytes:
    """A hash of our sources, by name and content. That of files which are as they were is not worked out again."""
    files = list(_files())
    stamp = blake2b(digest_size=HASH)
    for file in files:
        found = file.stat()
        stamp.update(f"{file.path} {found.st_ino} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}\0".encode())
    return keep(stamp.digest(), lambda: _content(files))


def _files(folder: str | None = None) -> Iterator[os.DirEntry[str]]:
    """The files that count, in an order of their names."""
    if folder is None:
        for name in SOURCES:
            yield from _files(os.path.join(ROOT, name))
        return
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        if entry.name.endswith(".py"):
            yield entry
        elif entry.name not in NO_MATTER and entry.is_dir():
            yield from _files(entry.path)


def _content(files: list[os.DirEntry[str]]) -> bytes:
    """130 files in 3 ms."""
    total = blake2b(digest_size=HASH)
    for file in files:
        content = _read(file.path)
        total.update(file.name.encode() + b"\0" + len(content).to_bytes(8, "little") + content)
    return total.digest()


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.read()


def _compiler() -> bytes:
    """Its version, and which build of LLVM it brings. It is found, not imported."""
    spec = find_spec(COMPILER)
    if spec is None or spec.origin is None:
        raise Unknown(f"{COMPILER} is not installed")
    folder = os.path.dirname(spec.origin)
    library = os.stat(os.path.join(folder, "binding", "libllvmlite.so"))
    return _read(os.path.join(folder, "_version.py")) + f"{library.st_size} {library.st_mtime_ns}".encode()


def _processor() -> bytes:
    """The lines of /proc/cpuinfo on the first processor that say what it can do."""
    first = _read("/proc/cpuinfo").partition(b"\n\n")[0]
    lines = [line for line in first.split(b"\n") if line.partition(b"\t")[0] in CPU]
    if not any(line.startswith(b"flags") for line in lines):
        raise Unknown("/proc/cpuinfo does not say what the processor can do")
    return b"\n".join(lines)
