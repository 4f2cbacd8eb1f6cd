"""A network device: virtio's (VIRTIO 1.2, section 5.1), with a receive queue and a transmit queue, and no offloads.

A frame that comes while the driver has no buffer for it waits; when too many wait, the newest are lost, as on any
network. Must not know: what is at the other end of the wire.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable

from dbt.machine.devices.virtqueue import Broken, Queue, room
from dbt.machine.net.wire import Peer

RECEIVE, TRANSMIT = 0, 1
MAC, STATUS = 1 << 5, 1 << 16  # features
LINK_UP = 1  # of the status
LONGEST = 1518  # bytes of a frame, with a tag of a virtual network
WAITING = 1024  # frames
_HEADER = struct.Struct("<BBHHHHH")  # flags, kind of offload, four numbers of it, buffers
_CONFIGURATION = struct.Struct("<6sH")


class VirtioNet:
    """The device. `mac` is its address, 6 bytes."""

    name = "virtio_net"
    number = 1
    features = MAC | STATUS
    queues = 2

    def __init__(self, mac: bytes, peer: Peer) -> None:
        self._mac = mac
        self._peer = peer
        self._waiting: deque[bytes] = deque()
        self._serve: Callable[[int], None] = lambda index: None

    def described(self) -> list[str]:
        """The device and its network, for people."""
        return [f"mac {self._mac.hex(':')}, {len(self._waiting)} frames wait", *self._peer.described()]

    def listen(self, serve: Callable[[int], None]) -> None:
        """Have the transport look at the receive queue when a frame has come."""
        self._serve = serve
        self._waiting.clear()
        self._peer.plug_in(self._arrived)

    def configuration(self) -> bytes:
        return _CONFIGURATION.pack(self._mac, LINK_UP)

    def serve(self, index: int, queue: Queue) -> bool:
        return self._send(queue) if index == TRANSMIT else self._receive(queue)

    def _send(self, queue: Queue) -> bool:
        due = False
        while (chain := queue.pop()) is not None:
            data = queue.read(chain)
            if len(data) < _HEADER.size:
                raise Broken("a frame without a header")
            if data[0] or data[1]:
                raise Broken("an offload that was not offered")
            due = queue.push(chain, 0) or due
            if len(data) <= _HEADER.size + LONGEST:
                self._peer.send(data[_HEADER.size :])
        return due

    def _arrived(self, frame: bytes) -> None:
        if len(self._waiting) < WAITING:
            self._waiting.append(frame)
        self._serve(RECEIVE)

    def _receive(self, queue: Queue) -> bool:
        due = False
        while self._waiting and (chain := queue.pop()) is not None:
            data = _HEADER.pack(0, 0, 0, 0, 0, 0, 1) + self._waiting.popleft()
            if room(chain) < len(data):
                raise Broken("a buffer that is too small for a frame")
            queue.write(chain, data)
            due = queue.push(chain, len(data)) or due
        return due
