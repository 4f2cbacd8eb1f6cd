"""A disk: virtio's block device over an image (VIRTIO 1.2, section 5.2).

Owns: requests and their statuses. Must not know: files; an image is given, and what it cannot do is an error of the
guest's request.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Protocol

from dbt.machine.devices.virtqueue import Broken, Chain, Queue, room

SECTOR = 512
PIECE = 2048  # sectors that are read at once where all are read
READ_ONLY, BLOCK_SIZE, FLUSH, DISCARD = 1 << 5, 1 << 6, 1 << 9, 1 << 13  # features
IN, OUT, FLUSH_REQUEST, GET_ID, DISCARD_REQUEST = 0, 1, 4, 8, 11
OK, IO_ERROR, UNSUPPORTED = 0, 1, 2
IDENTITY = b"dragoman".ljust(20, b"\0")
_HEADER = struct.Struct("<IIQ")
_RANGE = struct.Struct("<QII")
_CONFIGURATION = struct.Struct("<QII4sI8sBBHIII")


class Image(Protocol):
    """The content of a disk, in whole sectors. All raise OSError for what the host cannot do."""

    sectors: int
    read_only: bool
    name: str  # for people

    def read(self, sector: int, count: int) -> bytes: ...

    def write(self, sector: int, data: bytes) -> None: ...

    def discard(self, sector: int, count: int) -> None:
        """The content of these sectors is not needed any more; they read as zeros."""

    def flush(self) -> None:
        """What was written stays, whatever happens to the host."""

    def close(self) -> None:
        """It is not used any more."""


class Block:
    """The device."""

    name = "virtio_block"
    number = 2
    queues = 1

    def __init__(self, image: Image) -> None:
        self._image = image
        self.features = BLOCK_SIZE | FLUSH | (READ_ONLY if image.read_only else DISCARD)

    def described(self) -> str:
        """The disk, for people."""
        image = self._image
        return f"{image.name}: {image.sectors} sectors{', read-only' if image.read_only else ''}"

    def contents(self) -> Iterator[bytes]:
        """All of the disk, in pieces."""
        for sector in range(0, self._image.sectors, PIECE):
            yield self._image.read(sector, min(PIECE, self._image.sectors - sector))

    def listen(self, serve: Callable[[int], None]) -> None:
        """All that happens is asked for by the driver."""

    def configuration(self) -> bytes:
        limit = 0 if self._image.read_only else 0xFFFF_FFFF
        return _CONFIGURATION.pack(self._image.sectors, 0, 0, bytes(4), SECTOR, bytes(8), 0, 0, 1, limit, 1, 1)

    def serve(self, index: int, queue: Queue) -> bool:
        due = False
        while (chain := queue.pop()) is not None:
            due = queue.push(chain, self._request(queue, chain)) or due
        return due

    def _request(self, queue: Queue, chain: Chain) -> int:
        """Carry out one request; returns how many bytes were written, its status the last."""
        sent, space = queue.read(chain), room(chain)
        if len(sent) < _HEADER.size or space < 1:
            raise Broken("a request without a header or a status")
        kind, _, sector = _HEADER.unpack_from(sent)
        try:
            status, data = self._carry_out(kind, sector, sent[_HEADER.size :], space - 1)
        except OSError:
            status, data = IO_ERROR, b""
        queue.write(chain, data.ljust(space - 1, b"\0") + bytes([status]))
        return space

    def _carry_out(self, kind: int, sector: int, sent: bytes, space: int) -> tuple[int, bytes]:
        image = self._image
        if kind == IN:
            if space % SECTOR or not self._has(sector, space // SECTOR):
                return IO_ERROR, b""
            return OK, image.read(sector, space // SECTOR)
        if kind == FLUSH_REQUEST:
            image.flush()
            return OK, b""
        if kind == GET_ID:
            return OK, IDENTITY[:space]
        if kind not in (OUT, DISCARD_REQUEST):
            return UNSUPPORTED, b""
        if image.read_only:
            return IO_ERROR, b""
        if kind == OUT:
            if len(sent) % SECTOR or not self._has(sector, len(sent) // SECTOR):
                return IO_ERROR, b""
            image.write(sector, sent)
            return OK, b""
        if len(sent) != _RANGE.size:
            return UNSUPPORTED, b""
        first, count, flags = _RANGE.unpack(sent)
        if flags or not self._has(first, count):
            return UNSUPPORTED if flags else IO_ERROR, b""
        image.discard(first, count)
        return OK, b""

    def _has(self, sector: int, count: int) -> bool:
        return sector + count <= self._image.sectors
