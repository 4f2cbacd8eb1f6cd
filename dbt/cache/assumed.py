"""What a translation on disk was made under: a hash of everything that the translator assumed.

If anything in it changes, what is on disk under the old hash is not found, and in time goes. What is forgotten here
would be wrong code, so whole folders of sources count, and options are left out by name and not put in by name.
LLVM is not asked, since not loading it is the purpose: its library's size and time stand for it, and the processor is
what the kernel says of it. Owns: the list. Must not know: where translations are kept.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
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


def assumed(guest: Guest, options: Options) -> bytes:
    """The hash for this guest and these options on this machine. Raises Unknown."""
    total = blake2b(digest_size=HASH)
    try:
        for part in (guest.name, guest.isa, select.host().name, *_options(options)):
            total.update(part.encode() + b"\0")
        for content in (_compiler(), _processor(), *_sources()):
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


def _sources() -> Iterator[bytes]:
    """Names and bytes of our sources: 130 files in 3 ms, so that there is nothing to be remembered."""
    for name in SOURCES:
        for folder, folders, files in os.walk(os.path.join(ROOT, name)):
            folders[:] = sorted(set(folders) - NO_MATTER)
            for file in sorted(files):
                if file.endswith(".py"):
                    yield file.encode()
                    yield _read(os.path.join(folder, file))


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
