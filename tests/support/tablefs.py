"""The file system of our kernel, written and read from its description alone (docs/kernel.md): a second witness."""

from __future__ import annotations

import struct
from collections.abc import Mapping

SECTOR, FILES, MOST, METADATA = 512, 64, 16384, 69
MAGIC = b"TABLEFS\0"
FREE, LAST = 0, 1


def entry_offset(index: int) -> int:
    return SECTOR + 32 * index


def table_offset(sector: int) -> int:
    return SECTOR * 5 + 2 * sector


def write(files: Mapping[str, bytes], sectors: int = 2048) -> bytearray:
    """An image with these files, whose sectors are scattered from the end of the disk to its start."""
    image = bytearray(sectors * SECTOR)
    image[:12] = MAGIC + struct.pack("<I", sectors)
    at = sectors - 1
    for index, (name, data) in enumerate(files.items()):
        parts = [data[i : i + SECTOR] for i in range(0, len(data), SECTOR)]
        chain = [at - 2 * i for i in range(len(parts))]
        at -= 2 * len(parts)
        struct.pack_into("<24sII", image, entry_offset(index), name.encode(), chain[0] if chain else 0, len(data))
        for sector, follows, part in zip(chain, [*chain[1:], LAST], parts):
            struct.pack_into("<H", image, table_offset(sector), follows)
            image[sector * SECTOR : sector * SECTOR + len(part)] = part
    return image


def read(image: bytes, stopped: bool = False) -> dict[str, bytes]:
    """The files of an image. AssertionError if it breaks a rule: wild chains, shared or lost sectors, wrong lengths.

    If the machine `stopped` in between, sectors may be lost, and chains longer than their files.
    """
    (magic, sectors) = struct.unpack_from("<8sI", image, 0)
    assert magic == MAGIC and METADATA < sectors <= min(MOST, len(image) // SECTOR)
    files: dict[str, bytes] = {}
    taken: set[int] = set()
    for index in range(FILES):
        name, at, size = struct.unpack_from("<24sII", image, entry_offset(index))
        name = name.rstrip(b"\0").decode()
        if not name:
            continue
        assert name not in files
        data = bytearray()
        while at not in (FREE, LAST):
            assert METADATA <= at < sectors and at not in taken, name
            taken.add(at)
            data += image[at * SECTOR : (at + 1) * SECTOR]
            (at,) = struct.unpack_from("<H", image, table_offset(at))
        needed = -(-size // SECTOR) * SECTOR
        assert len(data) >= needed if stopped else len(data) == needed, name
        files[name] = bytes(data[:size])
    used = {s for s in range(METADATA, sectors) if struct.unpack_from("<H", image, table_offset(s))[0] != FREE}
    assert taken <= used if stopped else taken == used, "sectors that are in no file"
    return files
