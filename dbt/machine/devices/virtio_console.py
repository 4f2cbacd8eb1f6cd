"""A console without registers: virtio's console device (VIRTIO 1.2, section 5.3), one port.

A line of text is one exit for the guest, where the serial port's is one for each byte. Must not know: terminals.
"""

from __future__ import annotations

from collections.abc import Callable

from dbt.machine.devices.console import Console
from dbt.machine.devices.virtqueue import Queue, room

RECEIVE, TRANSMIT = 0, 1


class VirtioConsole:
    """`wake` is called when input has come, so that the transport looks at the queue for it."""

    name = "virtio_console"
    number = 3
    features = 0
    queues = 2

    def __init__(self, console: Console) -> None:
        self._console = console

    def listen(self, serve: Callable[[int], None]) -> None:
        """Have the transport look at the queue for input when there is some."""
        self._console.arrived = lambda: serve(RECEIVE)

    def configuration(self) -> bytes:
        return b""

    def serve(self, index: int, queue: Queue) -> bool:
        return self._send(queue) if index == TRANSMIT else self._receive(queue)

    def _send(self, queue: Queue) -> bool:
        due = False
        while (chain := queue.pop()) is not None:
            self._console.write(queue.read(chain))
            due = queue.push(chain, 0) or due
        return due

    def _receive(self, queue: Queue) -> bool:
        due = False
        while len(self._console) and (chain := queue.pop()) is not None:
            taken = bytearray()
            while len(taken) < room(chain) and (byte := self._console.get()) is not None:
                taken.append(byte)
            queue.write(chain, bytes(taken))
            due = queue.push(chain, len(taken)) or due
        return due
