"""A source of random bytes: virtio's entropy device (VIRTIO 1.2, section 5.4). Must not know where they come from."""

from __future__ import annotations

from collections.abc import Callable

from dbt.machine.devices.virtqueue import Queue, room

MOST = 1 << 16  # bytes for one request; a driver asks again


class Entropy:
    """`source` makes so many random bytes."""

    name = "virtio_entropy"
    number = 4
    features = 0
    queues = 1

    def __init__(self, source: Callable[[int], bytes]) -> None:
        self._source = source

    def listen(self, serve: Callable[[int], None]) -> None:
        """All that happens is asked for by the driver."""

    def configuration(self) -> bytes:
        return b""

    def serve(self, index: int, queue: Queue) -> bool:
        due = False
        while (chain := queue.pop()) is not None:
            data = self._source(min(room(chain), MOST))
            queue.write(chain, data)
            due = queue.push(chain, len(data)) or due
        return due
