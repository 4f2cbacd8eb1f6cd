"""Files that a machine starts from: ELF, the Image of a Linux kernel, or raw bytes; compressed ones are unpacked.

Owns: telling them apart, and where their bytes go in physical memory. Must not know: boards, how a hart starts.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import struct
import subprocess
import zlib
from collections.abc import Callable
from typing import NamedTuple

from dbt import elf
from dbt.elf import NotRunnable
from dbt.machine.memory import Memory
from guests.spec import Absent, Guest

_PACKED: tuple[tuple[bytes, Callable[[bytes], bytes] | str], ...] = (  # magic number, what unpacks it, or a program
    (b"\x1f\x8b", gzip.decompress),
    (b"BZh", bz2.decompress),
    (b"\xfd7zXZ\0", lzma.decompress),
    (b"\x5d\0\0", lzma.decompress),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"\x02\x21\x4c\x18", "lz4"),
    (b"\x89LZO\0\r\n\x1a\n", "lzop"),
)
_ZBOOT = struct.Struct("<4s4sII")  # drivers/firmware/efi/libstub/zboot-header.S: a kernel that unpacks itself
_IMAGE = struct.Struct("<8sQQQIIQQ4sI")  # Documentation/arch/riscv/boot-image-header
_IMAGE_MAGIC = b"RSC\x05"
MOST = 1 << 32  # bytes of a file, unpacked


class Placed(NamedTuple):
    """Where a file's bytes are: the entry, the first byte, behind the last; and symbols, if it has any."""

    entry: int
    start: int
    end: int
    symbols: dict[str, int]


def read(path: str) -> bytes:
    """The bytes of a file, unpacked. FileNotFoundError if there is none, NotRunnable for what cannot be read."""
    try:
        if os.path.isdir(path):
            raise NotRunnable(f"{path}: is a directory")
        with open(path, "rb") as file:
            data = file.read(MOST)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise NotRunnable(f"{path}: {(error.strerror or str(error)).lower()}") from error
    if len(data) >= _ZBOOT.size:
        begin, kind, at, size = _ZBOOT.unpack_from(data)
        if begin[:2] == b"MZ" and kind == b"zimg":
            data = data[at : at + size]
    data = _unpacked(data, path)
    if not data:
        raise NotRunnable(f"{path}: is empty")
    return data


def _unpacked(data: bytes, path: str) -> bytes:
    """The bytes that are packed in others, or these, if they are not packed."""
    how = next((how for magic, how in _PACKED if data.startswith(magic)), None)
    if how is None:
        return data
    try:
        return _by_program(how, data, path) if isinstance(how, str) else how(data)
    except (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error) as error:
        raise NotRunnable(f"{path}: is compressed, and damaged: {str(error).lower()}") from error


def _by_program(name: str, data: bytes, path: str) -> bytes:
    """What a program of the host unpacks. ValueError with its last words."""
    try:
        done = subprocess.run([name, "-dc"], input=data, capture_output=True)
    except FileNotFoundError:
        hint = "install it, or unpack the file first"
        raise NotRunnable(f"{path}: is compressed with {name}, which is not installed: {hint}") from None
    if done.returncode:
        words = done.stderr.decode(errors="replace").split("\n")
        raise ValueError(next((line for line in words if line.strip()), name))
    return done.stdout


def place(memory: Memory, guest: Guest, path: str, base: int) -> Placed:
    """Read a file into physical memory; what is not an ELF file goes to `base`, or as its header says from there."""
    data = read(path)
    if data.startswith(b"\x7fELF"):
        return _place_elf(memory, guest, data, path)
    start = base
    if len(data) >= _IMAGE.size:
        fields = _IMAGE.unpack_from(data)
        if fields[8] == _IMAGE_MAGIC:
            return _place_raw(memory, data, path, base, max(len(data), fields[2]))
    return _place_raw(memory, data, path, start, len(data))


def put(memory: Memory, data: bytes, path: str, address: int) -> None:
    """Bytes of a file at an address; NotRunnable where there is no RAM for them."""
    try:
        memory.poke(address, data)
    except Absent:
        raise NotRunnable(f"{path}: {len(data):,} bytes at {address:#x} are not in the machine's RAM") from None


def _place_raw(memory: Memory, data: bytes, path: str, start: int, size: int) -> Placed:
    put(memory, data, path, start)
    return Placed(start, start, start + size, {})


def _place_elf(memory: Memory, guest: Guest, data: bytes, path: str) -> Placed:
    image = elf.parse(data, guest.linux, path)
    entry = None
    for segment in image.segments:
        content = data[segment.offset : segment.offset + segment.file_size]
        put(memory, content + bytes(segment.size - segment.file_size), path, segment.physical)
        if segment.address <= image.entry < segment.end:
            entry = image.entry - segment.address + segment.physical
    assert entry is not None  # `elf.parse` has looked
    start = min(segment.physical for segment in image.segments)
    end = max(segment.physical + segment.size for segment in image.segments)
    symbols = {symbol.name: symbol.address for symbol in image.symbols()}
    return Placed(entry, start, end, symbols)
