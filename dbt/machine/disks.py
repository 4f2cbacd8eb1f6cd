"""Disk images: a raw file, what is written over an image without changing it, and which format a file is opened as.

Owns: files of disks. Must not know: requests, guests.
"""

from __future__ import annotations

import ctypes
import errno
import os
import tempfile
from contextlib import suppress

from dbt.elf import NotRunnable
from dbt.machine.devices.block import SECTOR, Image
from dbt.machine.files import open_disk

FORMATS = ("raw", "qcow2")
DEEPEST = 32  # backing files behind one another
CLUSTER = 128  # sectors that an overlay copies together: 64 KiB
ZEROS = -1  # in place of a cluster's place: all of it was discarded
_KEEP_SIZE, _PUNCH_HOLE = 1, 2  # modes of fallocate
_fallocate = ctypes.CDLL(None, use_errno=True).fallocate
_fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


def open_image(path: str, form: str, read_only: bool, depth: int = 0) -> Image:
    """The image in a file of this format. FileNotFoundError, or NotRunnable for what is none or cannot be read."""
    if depth > DEEPEST:
        raise NotRunnable(f"{path}: is the backing file of a backing file, and so on, without an end")
    match form:
        case "raw":
            return Raw(path, read_only)
        case "qcow2":
            from dbt.machine.qcow2 import Qcow2

            return Qcow2(path, read_only, lambda name, kind: open_image(name, kind, True, depth + 1))
    raise NotRunnable(f"{path}: images of format {form!r} are not supported (there are: {' '.join(FORMATS)})")


def begins_as_qcow2(path: str) -> bool:
    """Whether a file looks like an image of format qcow2. As `open_image`, raises for what cannot be read.

    A guest can make a raw disk look so: that alone is no reason to read what the image says is behind it.
    """
    file = open_disk(path, True)
    try:
        return os.pread(file, 4, 0) == b"QFI\xfb"
    finally:
        os.close(file)


class Raw:
    """A file whose bytes are the disk's; what is behind its last whole sector is not seen."""

    def __init__(self, path: str, read_only: bool = False) -> None:
        """FileNotFoundError if there is none, NotRunnable for what is no disk."""
        self._file = open_disk(path, read_only)
        size = os.lseek(self._file, 0, os.SEEK_END)
        self.name = path
        self.sectors = size // SECTOR
        self.read_only = read_only
        if not self.sectors:
            raise NotRunnable(f"{path}: is smaller than a sector of {SECTOR} bytes")

    def read(self, sector: int, count: int) -> bytes:
        data = b""
        while len(data) < count * SECTOR:
            more = os.pread(self._file, count * SECTOR - len(data), sector * SECTOR + len(data))
            if not more:
                raise OSError(errno.EIO, "the file has become shorter")
            data += more
        return data

    def write(self, sector: int, data: bytes) -> None:
        done = 0
        while done < len(data):
            done += os.pwrite(self._file, data[done:], sector * SECTOR + done)

    def discard(self, sector: int, count: int) -> None:
        """A hole in the file where its file system has holes, else zeros."""
        if _fallocate(self._file, _PUNCH_HOLE | _KEEP_SIZE, sector * SECTOR, count * SECTOR) == 0:
            return
        zeros = bytes(CLUSTER * SECTOR)
        while count:
            some = min(count, CLUSTER)
            self.write(sector, zeros[: some * SECTOR])
            sector, count = sector + some, count - some

    def flush(self) -> None:
        os.fsync(self._file)

    def close(self) -> None:
        with suppress(OSError):
            os.close(self._file)


class Overlay:
    """Copy on write: what is written goes to a file without a name, which ends with the machine."""

    read_only = False

    def __init__(self, below: Image) -> None:
        self._below = below
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed with us
        self._clusters: dict[int, int] = {}  # cluster of the disk -> its place in the file
        self._places = 0
        self.name = f"{below.name}, written to a file of its own"
        self.sectors = below.sectors

    def read(self, sector: int, count: int) -> bytes:
        return b"".join(self._piece(cluster, first, some) for cluster, first, some in _pieces(sector, count))

    def write(self, sector: int, data: bytes) -> None:
        at = 0
        for cluster, first, some in _pieces(sector, len(data) // SECTOR):
            place = self._own(cluster)
            os.pwrite(self._file.fileno(), data[at : at + some * SECTOR], (place * CLUSTER + first) * SECTOR)
            at += some * SECTOR

    def discard(self, sector: int, count: int) -> None:
        for cluster, first, some in _pieces(sector, count):
            if some == CLUSTER:
                self._clusters[cluster] = ZEROS
            else:
                self.write(cluster * CLUSTER + first, bytes(some * SECTOR))

    def flush(self) -> None:
        """It ends with the machine, so nothing has to stay."""

    def close(self) -> None:
        self._file.close()
        self._below.close()

    def _piece(self, cluster: int, first: int, some: int) -> bytes:
        place = self._clusters.get(cluster)
        if place is None:
            return self._below.read(cluster * CLUSTER + first, some)
        if place == ZEROS:
            return bytes(some * SECTOR)
        return os.pread(self._file.fileno(), some * SECTOR, (place * CLUSTER + first) * SECTOR)

    def _own(self, cluster: int) -> int:
        """The place of a cluster's copy, which is made now if there is none."""
        place = self._clusters.get(cluster, ZEROS)
        if place == ZEROS:
            content = self._piece(cluster, 0, min(CLUSTER, self.sectors - cluster * CLUSTER))
            place = self._places
            os.pwrite(self._file.fileno(), content.ljust(CLUSTER * SECTOR, b"\0"), place * CLUSTER * SECTOR)
            self._places += 1
            self._clusters[cluster] = place
        return place


def _pieces(sector: int, count: int) -> list[tuple[int, int, int]]:
    """A run of sectors by clusters: (cluster, first sector in it, how many)."""
    found = []
    while count:
        cluster, first = divmod(sector, CLUSTER)
        some = min(count, CLUSTER - first)
        found.append((cluster, first, some))
        sector, count = sector + some, count - some
    return found
