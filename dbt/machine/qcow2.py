"""Disk images of QEMU's format qcow2, versions 2 and 3: a disk in clusters of which only the written ones are there.

What is not there is in a backing file, if the image has one, which is never written. Owns: the format (QEMU,
docs/interop/qcow2). Must not know: requests, guests. Images that ask for what is not done here are refused: encryption,
external data files, other compression than deflate, subclusters.
"""

from __future__ import annotations

import errno
import os
import struct
import zlib
from collections.abc import Callable, Iterator

from dbt.elf import NotRunnable
from dbt.machine.devices.block import SECTOR, Image
from dbt.machine.files import open_disk

MAGIC = b"QFI\xfb"
COPIED, COMPRESSED, ZERO = 1 << 63, 1 << 62, 1
OFFSET = (1 << 56) - (1 << 9)
DIRTY, CORRUPT = 1, 2  # incompatible features that are states
BACKING_FORMAT = 0xE279_2ACA  # a header extension
AUTOCLEAR = 88  # where the header has its features that a writer clears who does not know them
LARGEST_TABLE = 32 << 20  # bytes of the first table
_HEADER = struct.Struct(">4sIQIIQIIQQIIQ")
_MORE = struct.Struct(">QQQII")  # of version 3

Open = Callable[[str, str], Image]  # (path, format): a backing file, read only


class Qcow2:
    """An image that is read, and written unless it is `read_only`."""

    def __init__(self, path: str, read_only: bool, backing: Open) -> None:
        """FileNotFoundError if there is none, NotRunnable for what is no such image or not done."""
        self.name = path
        self.read_only = read_only
        self._file = open_disk(path, read_only)
        try:
            self._read_header(backing)
        except BaseException:
            os.close(self._file)
            raise

    # --- the header ----------------------------------------------------------------------------------------

    def _refuse(self, why: str) -> NotRunnable:
        return NotRunnable(f"{self.name}: {why}")

    def _read_header(self, backing: Open) -> None:
        data = os.pread(self._file, 1 << 16, 0)
        if len(data) < _HEADER.size or not data.startswith(MAGIC):
            raise self._refuse("is no image of format qcow2")
        (_, self._version, backing_at, backing_size, bits, size, encrypted, l1_size, l1_at, self._counts_at,
         count_clusters, _, _) = _HEADER.unpack_from(data)  # fmt: skip
        incompatible, self_clearing, order, length = 0, 0, 4, _HEADER.size
        if self._version == 3 and len(data) >= _HEADER.size + _MORE.size:
            incompatible, _, self_clearing, order, length = _MORE.unpack_from(data, _HEADER.size)
        elif self._version != 2:
            raise self._refuse(f"has version {self._version} of qcow2, which is not supported")
        if encrypted or incompatible & ~(DIRTY | CORRUPT):
            raise self._refuse("is encrypted, or needs features of qcow2 that are not supported")
        if incompatible and not self.read_only:
            raise self._refuse("was not closed, or is damaged: qemu-img check repairs it (readonly=on reads it)")
        self._size = end = os.lseek(self._file, 0, os.SEEK_END)
        if not 9 <= bits <= 21 or not 3 <= order <= 6 or size % SECTOR or not size:
            raise self._refuse("has sizes that qcow2 does not have here")
        self._bits, self._cluster = bits, 1 << bits
        self._width = 1 << order >> 3  # bytes of a reference count
        self.sectors = size // SECTOR
        needed = -(-size // (self._cluster * self._cluster // 8))
        if l1_size < needed or 8 * l1_size > LARGEST_TABLE or l1_at + 8 * l1_size > end or (
                self._counts_at + count_clusters * self._cluster > end):  # fmt: skip
            raise self._refuse("is truncated, or damaged")
        self._l1_at = l1_at
        self._l1 = list(struct.unpack(f">{l1_size}Q", os.pread(self._file, 8 * l1_size, l1_at)))
        counts = os.pread(self._file, count_clusters * self._cluster, self._counts_at)
        self._counts = list(struct.unpack(f">{len(counts) // 8}Q", counts))
        self._end = -(-end // self._cluster)  # the first cluster behind the file
        self._free: list[int] = []  # clusters that nothing refers to any more
        self._tables: dict[int, bytearray] = {}  # second tables by their place, as the file has them
        if self_clearing and not self.read_only:
            self._write(AUTOCLEAR, bytes(8))  # what they stand for is not kept true here
        self._below: Image | None = None
        if backing_at:
            name = os.fsdecode(data[backing_at : backing_at + backing_size])
            form = next((text for kind, text in _extensions(data[length:backing_at]) if kind == BACKING_FORMAT), None)
            if form is None:
                raise self._refuse(f"does not say of which format its backing file {name} is")
            self._below = backing(os.path.join(os.path.dirname(self.name), name), form.decode(errors="replace"))

    # --- what a disk does -------------------------------------------------------------------------------------

    def read(self, sector: int, count: int) -> bytes:
        return b"".join(self._piece(*piece) for piece in self._pieces(sector, count))

    def write(self, sector: int, data: bytes) -> None:
        at = 0
        for cluster, first, length in self._pieces(sector, len(data) // SECTOR):
            self._put(cluster, first, data[at : at + length])
            at += length

    def discard(self, sector: int, count: int) -> None:
        """A cluster that is discarded whole leaves the file; it reads as zeros, whatever the backing file has."""
        for cluster, first, length in self._pieces(sector, count):
            whole = length == self._cluster
            if whole and (self._version == 3 or self._below is None):
                self._release(cluster, ZERO if self._version == 3 else 0)
            else:
                self._put(cluster, first, bytes(length))

    def flush(self) -> None:
        os.fsync(self._file)

    def close(self) -> None:
        os.close(self._file)
        if self._below is not None:
            self._below.close()

    # --- clusters ---------------------------------------------------------------------------------------------

    def _pieces(self, sector: int, count: int) -> Iterator[tuple[int, int, int]]:
        """A run of sectors by clusters: (cluster, first byte in it, how many bytes)."""
        at, left = sector * SECTOR, count * SECTOR
        while left:
            cluster, first = at >> self._bits, at & self._cluster - 1
            length = min(left, self._cluster - first)
            yield cluster, first, length
            at, left = at + length, left - length

    def _piece(self, cluster: int, first: int, length: int) -> bytes:
        entry = self._entry(cluster)
        if entry & COMPRESSED:
            return self._unpacked(entry)[first : first + length]
        if entry & ZERO and self._version == 3:
            return bytes(length)
        if entry & OFFSET:
            return self._at((entry & OFFSET) + first, length)
        if self._below is None:
            return bytes(length)
        sector = (cluster << self._bits) + first >> 9
        there = max(0, min(length // SECTOR, self._below.sectors - sector))  # it may be the smaller disk
        return (self._below.read(sector, there) if there else b"").ljust(length, b"\0")

    def _unpacked(self, entry: int) -> bytes:
        """A compressed cluster: in so many sectors of the file, not aligned to anything."""
        at, length = self._packed_place(entry)
        try:
            data = zlib.decompressobj(-12).decompress(os.pread(self._file, length, at), self._cluster)
        except zlib.error as error:
            raise OSError(errno.EIO, f"a cluster is damaged: {error}") from None
        if len(data) != self._cluster:
            raise OSError(errno.EIO, "a cluster is damaged")
        return data

    def _packed_place(self, entry: int) -> tuple[int, int]:
        shift = 62 - (self._bits - 8)
        at = entry & (1 << shift) - 1
        sectors = (entry & COMPRESSED - 1) >> shift
        return at, (sectors + 1) * SECTOR - at % SECTOR

    def _put(self, cluster: int, first: int, data: bytes) -> None:
        """Write a part of a cluster: in its place if it is this image's alone, else into a new one."""
        entry = self._entry(cluster)
        own = entry & COPIED and entry & OFFSET and not entry & COMPRESSED
        if own and not (entry & ZERO and self._version == 3):
            self._write((entry & OFFSET) + first, data)
            return
        if len(data) < self._cluster:
            whole = bytearray(self._piece(cluster, 0, self._cluster))
            whole[first : first + len(data)] = data
            data = bytes(whole)
        place = self._allocate()
        self._write(place, data)
        self._release(cluster, place | COPIED)

    def _release(self, cluster: int, entry: int) -> None:
        """Let a cluster be what this entry says, and forget where it was."""
        old = self._entry(cluster)
        self._set_entry(cluster, entry)
        if old & COMPRESSED:
            at, length = self._packed_place(old)
            for index in range(at >> self._bits, (at + length - 1 >> self._bits) + 1):
                self._count(index, -1)
        elif old & OFFSET:
            self._count((old & OFFSET) >> self._bits, -1)

    # --- tables -----------------------------------------------------------------------------------------------

    def _table(self, place: int) -> bytearray:
        """A second table, as it is in the file."""
        found = self._tables.get(place)
        if found is None:
            found = self._tables[place] = bytearray(self._at(place, self._cluster))
        return found

    def _entry(self, cluster: int) -> int:
        """The entry of a cluster of the disk; 0 where there is none."""
        first, second = divmod(cluster, self._cluster // 8)
        place = self._l1[first] & OFFSET
        return int.from_bytes(self._table(place)[8 * second : 8 * second + 8], "big") if place else 0

    def _set_entry(self, cluster: int, entry: int) -> None:
        first, second = divmod(cluster, self._cluster // 8)
        old = self._l1[first]
        place = old & OFFSET
        if not old & COPIED:  # there is no table yet, or a snapshot has it too
            content = bytes(self._table(place)) if place else bytes(self._cluster)
            place = self._allocate()
            self._write(place, content)
            self._l1[first] = place | COPIED
            self._write(self._l1_at + 8 * first, self._l1[first].to_bytes(8, "big"))
            if old & OFFSET:
                self._count((old & OFFSET) >> self._bits, -1)
        self._table(place)[8 * second : 8 * second + 8] = entry.to_bytes(8, "big")
        self._write(place + 8 * second, entry.to_bytes(8, "big"))

    # --- reference counts -------------------------------------------------------------------------------------

    def _allocate(self) -> int:
        """The place of a cluster that is ours from now on. It is counted before anything refers to it."""
        if self._free:
            index = self._free.pop()
        else:
            index, self._end = self._end, self._end + 1
        self._count(index, 1)
        return index << self._bits

    def _count(self, index: int, change: int) -> None:
        """Change how often a cluster of the file is referred to."""
        block, number = divmod(index, self._cluster // self._width)
        if block >= len(self._counts):
            self._enlarge(block + 1)
        if not self._counts[block]:
            at, self._end = self._end, self._end + 1
            self._write(at << self._bits, bytes(self._cluster))
            self._counts[block] = at << self._bits
            self._write(self._counts_at + 8 * block, self._counts[block].to_bytes(8, "big"))
            self._count(at, 1)
        place = self._counts[block] + number * self._width
        count = int.from_bytes(self._at(place, self._width), "big") + change
        if not 0 <= count < 1 << 8 * self._width:
            raise OSError(errno.EIO, "a reference count is wrong: qemu-img check repairs it")
        self._write(place, count.to_bytes(self._width, "big"))
        if count == 0:
            self._free.append(index)

    def _enlarge(self, blocks: int) -> None:
        """Move the table of the blocks of counts to the end of the file, and make it larger."""
        old, old_clusters = self._counts_at, len(self._counts) * 8 >> self._bits
        clusters = max(2 * old_clusters, -(-blocks * 8 // self._cluster) + 1)
        at, self._end = self._end, self._end + clusters
        self._counts += [0] * ((clusters << self._bits) // 8 - len(self._counts))
        self._counts_at = at << self._bits
        self._write(self._counts_at, struct.pack(f">{len(self._counts)}Q", *self._counts))
        self._write(48, struct.pack(">QI", self._counts_at, clusters))
        for index in range(at, at + clusters):
            self._count(index, 1)
        for index in range(old >> self._bits, (old >> self._bits) + old_clusters):
            self._count(index, -1)

    # --- the file ---------------------------------------------------------------------------------------------

    def _at(self, place: int, length: int) -> bytes:
        """Bytes of the file, which may end within its last cluster."""
        data = os.pread(self._file, length, place)
        if len(data) < length and (place + len(data) < self._size or place + length > self._end << self._bits):
            raise OSError(errno.EIO, "the image is truncated")
        return data.ljust(length, b"\0")

    def _write(self, place: int, data: bytes) -> None:
        done = 0
        while done < len(data):
            done += os.pwrite(self._file, data[done:], place + done)
        self._size = max(self._size, place + len(data))


def _extensions(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The extensions of a header: kind and content."""
    at = 0
    while at + 8 <= len(data):
        kind, length = struct.unpack_from(">II", data, at)
        if kind == 0:
            return
        yield kind, data[at + 8 : at + 8 + length]
        at += 8 + length + -length % 8
