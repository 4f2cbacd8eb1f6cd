"""ELF: what is refused and in which words, loading, symbols."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

import guests.riscv.linux as facts
from dbt.elf import MAGIC, NotRunnable, Symbol, contents, load, open_image, parse
from dbt.memory import EXEC, LARGE, PAGE_SIZE, READ, WRITE, AddressSpace

P = PAGE_SIZE
Program = tuple[int, int, int, int, int, int]  # type, flags, offset, address, file size, memory size
TEXT: Program = (1, 5, 0, 0x10000, 0x200, 0x200)
DATA: Program = (1, 6, 0x200, 0x11200, 0x80, 0x3000)


def elf(*programs: Program, entry: int = 0x10100, kind: int = 2, machine: int = 243, flags: int = 5,
        size: int = 0x280, ident: bytes = b"\x7fELF\2\1\1", phnum: int | None = None, phentsize: int = 56,
        phoff: int = 64) -> bytes:
    headers = b"".join(struct.pack("<IIQQQQQQ", kind_, flags_, offset, address, address, file_size, memory_size, P)
                       for kind_, flags_, offset, address, file_size, memory_size in programs)
    count = len(programs) if phnum is None else phnum
    header = struct.pack("<16sHHIQQQIHHHHHH", ident, kind, machine, 1, entry, phoff, 0, flags, 64, phentsize, count,
                         64, 0, 0)
    body = bytearray(header + headers).ljust(size, b"\xaa")
    return bytes(body)


BAD: list[tuple[str, Callable[[], bytes], str]] = [
    ("empty", lambda: b"", "is empty"),
    ("text", lambda: b"#!/bin/sh\n", "is not an ELF file"),
    ("short", lambda: elf(TEXT)[:40], r"the ELF header is truncated \(40 of 64 bytes\)"),
    ("32 bit", lambda: elf(TEXT, ident=b"\x7fELF\1\1\1"), "is a 32-bit ELF file"),
    ("no class", lambda: elf(TEXT, ident=b"\x7fELF\7\1\1"), "has the unknown ELF class 7"),
    ("big endian", lambda: elf(TEXT, ident=b"\x7fELF\2\2\1"), "is a big-endian ELF file"),
    ("no encoding", lambda: elf(TEXT, ident=b"\x7fELF\2\5\1"), "has the unknown ELF data encoding 5"),
    ("version", lambda: elf(TEXT, ident=b"\x7fELF\2\1\2"), "has an unknown ELF version"),
    ("host program", lambda: elf(TEXT, machine=62), "is for x86-64, and this guest is RISC-V"),
    ("odd machine", lambda: elf(TEXT, machine=4711), "is for ELF machine 4711, and this guest is RISC-V"),
    ("object", lambda: elf(TEXT, kind=1), r"is not an executable: it is a relocatable object file \(not linked\)"),
    ("core", lambda: elf(TEXT, kind=4), "is not an executable: it is a core dump"),
    ("type 9", lambda: elf(TEXT, kind=9), "is not an executable: it is of ELF type 9"),
    ("quad", lambda: elf(TEXT, flags=6), "is built for the quad-precision float ABI, which is not supported"),
    ("RVE", lambda: elf(TEXT, flags=8), r"is built for the RVE ABI \(16 registers\), which is not supported"),
    ("no headers", elf, "has no program headers"),
    ("header size", lambda: elf(TEXT, phentsize=32), "has program headers of a wrong size or number"),
    ("headers cut", lambda: elf(TEXT, phoff=0x270), "the program headers are truncated"),
    ("many headers", lambda: elf(TEXT, phnum=2000), "has program headers of a wrong size or number"),
    ("headers wrap", lambda: elf(TEXT, phoff=(1 << 64) - 8), "the program headers are truncated"),
    ("loader", lambda: elf(TEXT, (3, 4, 0x210, 0, 16, 16)), r"names its loader in a damaged header \(PT_INTERP\)"),
    ("no loader", lambda: elf(TEXT, (3, 4, 0x280, 0, 0, 0)), r"names its loader in a damaged header \(PT_INTERP\)"),
    ("nothing", lambda: elf((4, 4, 0, 0, 0, 0)), r"has nothing to load \(no PT_LOAD segment\)"),
    ("beyond file", lambda: elf(TEXT, (1, 6, 0x200, 0x20000, 0x81, 0x81)),
     "the segment at 0x20000 is truncated: it ends beyond the end of the file"),
    ("far beyond", lambda: elf((1, 6, (1 << 64) - 1, 0x20000, 1, 1)), "the segment at 0x20000 is truncated"),
    ("memsz", lambda: elf((1, 5, 0, 0x10000, 0x200, 0x1FF)),
     "the segment at 0x10000 has more bytes in the file than in memory"),
    ("wraps", lambda: elf(TEXT, (1, 6, 0, (1 << 64) - P, 0, 2 * P)), "the segment at .* ends beyond the address space"),
    ("overlap", lambda: elf(TEXT, (1, 6, 0, 0x101FF, 4, 4)), "the segments at 0x10000 and 0x101ff overlap"),
    ("odd entry", lambda: elf(TEXT, entry=0x10101), "the entry point 0x10101 is not aligned to 2 bytes"),
    ("no entry", lambda: elf(TEXT, entry=0x10200), "the entry point 0x10200 is in no segment"),
]


@pytest.mark.parametrize(("make", "sentence"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_bad_files_get_one_sentence(make: Callable[[], bytes], sentence: str) -> None:
    with pytest.raises(NotRunnable, match=f"^prog: {sentence}") as caught:
        parse(make(), facts, "prog")
    assert "\n" not in str(caught.value)


def test_every_truncation_and_many_corruptions_are_refused_or_load() -> None:
    data = elf(TEXT, DATA)
    for length in range(len(data)):
        with pytest.raises(NotRunnable):
            parse(data[:length], facts)
    space = AddressSpace()
    for position in range(64 + 2 * 56):
        for value in (0, 1, 0x7F, 0x80, 0xFF):
            broken = bytearray(data)
            broken[position] = value
            with contextlib.suppress(NotRunnable):
                load(space, parse(bytes(broken), facts))
            space.unmap(0, space.size)
    space.close()


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_image(tmp_path / "missing", facts)
    with pytest.raises(NotRunnable, match="is a directory"):
        open_image(tmp_path, facts)
    with pytest.raises(NotRunnable, match="is not a regular file"):
        open_image("/dev/null", facts)
    file = tmp_path / "file"
    file.write_bytes(elf(TEXT))
    with pytest.raises(NotRunnable, match="not a directory"):
        open_image(file / "below", facts)
    if os.geteuid() != 0:
        file.chmod(0)
        with pytest.raises(NotRunnable, match="permission denied"):
            open_image(file, facts)


def test_loading_maps_fills_and_zeroes() -> None:
    space = AddressSpace()
    loaded = load(space, parse(elf(TEXT, DATA), facts))
    assert (loaded.entry, loaded.phdr_address, loaded.phnum) == (0x10100, 0x10040, 2)
    assert (loaded.start, loaded.end, loaded.brk_start) == (0x10000, 0x15000, 0x15000)
    assert [(region.start, region.end, region.protection) for region in space.regions()] == [
        (0x10000, 0x11000, READ | EXEC), (0x11000, 0x15000, READ | WRITE)]
    assert space.read(0x10000, 4) == b"\x7fELF"
    assert space.read(0x11200, 0x84) == b"\xaa" * 0x80 + bytes(4)
    assert space.read(0x14FFF, 1) == b"\0"
    with pytest.raises(NotRunnable, match="where something else is mapped"):
        load(space, loaded.image)
    space.close()


def test_a_position_independent_image_moves_whole() -> None:
    space = AddressSpace()
    image = parse(elf((1, 5, 0, 0, 0x200, 0x200), (1, 6, 0x200, 0x1200, 0x80, 0x80), entry=0x100, kind=3), facts)
    loaded = load(space, image, 0x2000000000)
    assert (loaded.entry, loaded.phdr_address) == (0x2000000100, 0x2000000040)
    assert space.read(0x2000001200, 1) == b"\xaa"
    with pytest.raises(NotRunnable, match="beyond the guest's address space"):
        load(space, image, space.size - P)
    space.close()


def test_segments_that_share_a_page_share_its_rights() -> None:
    space = AddressSpace()
    load(space, parse(elf(TEXT, (1, 6, 0x200, 0x10200, 0x80, 0x2000)), facts))
    assert [(region.start, region.end, region.protection) for region in space.regions()] == [
        (0x10000, 0x11000, 7), (0x11000, 0x13000, 3)]
    assert space.read(0x101FF, 2) == b"\xaa\xaa"
    space.close()


def test_an_image_too_large_for_the_guest() -> None:
    space = AddressSpace()
    with pytest.raises(NotRunnable, match="beyond the guest's address space"):
        load(space, parse(elf(TEXT, (1, 6, 0, 1 << 38, 0, P)), facts))
    space.close()


def test_symbols_are_sorted_and_a_damaged_table_gives_none() -> None:
    names = b"\0main\0data\0$x\0undefined\0"
    symbols = b"".join(struct.pack("<IBBHQQ", *row) for row in (
        (0, 0, 0, 0, 0, 0), (6, 1, 0, 2, 0x11200, 8), (1, 0x12, 0, 1, 0x10100, 16), (11, 0, 0, 1, 0x10100, 0),
        (14, 0x12, 0, 0, 0, 0)))
    base = elf(TEXT, DATA)
    at = len(base)
    tables = base + symbols + names
    sections = b"".join(struct.pack("<IIQQQQIIQQ", *row) for row in (
        (0,) * 10, (0, 2, 0, 0, at, len(symbols), 2, 0, 8, 24),
        (0, 3, 0, 0, at + len(symbols), len(names), 0, 0, 1, 0)))
    data = bytearray(tables + sections)
    struct.pack_into("<Q", data, 40, len(tables))
    struct.pack_into("<HHH", data, 58, 64, 3, 0)
    assert parse(bytes(data), facts).symbols() == [Symbol(0x10100, 16, "main"), Symbol(0x11200, 8, "data")]
    assert parse(bytes(data[:-100]), facts).symbols() == []
    assert parse(base, facts).symbols() == []
    for beyond in (1 << 63, (1 << 64) - 1):
        struct.pack_into("<Q", data, 40, beyond)
        assert parse(bytes(data), facts).symbols() == []


@pytest.mark.parametrize("more", [0, 1, LARGE, 5 << 20])
def test_a_file_of_any_size_is_read_whole(tmp_path: Path, more: int) -> None:
    data = MAGIC + Random(more).randbytes(LARGE - 5 + more)
    path = tmp_path / "large"
    path.write_bytes(data)
    assert contents(str(path))[0][:] == data
