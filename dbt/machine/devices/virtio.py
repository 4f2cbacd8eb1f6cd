"""The transport of virtio devices over memory-mapped registers (VIRTIO 1.2, section 4.2), version 2.

Owns: the registers, features, the device's status. Must not know: any device; it is given one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from dbt.machine.devices.virtqueue import MOST, Broken, Queue
from dbt.machine.memory import Memory

MAGIC, VERSION, VENDOR = 0x7472_6976, 2, 0x554D_4551  # "virt"; QEMU's vendor, which drivers do not look at
VERSION_1 = 1 << 32  # a driver that does not accept it, as xv6's, is taken for one that does: there is no other form
FEATURES_OK, DRIVER_OK, NEEDS_RESET = 8, 4, 64  # of the status
USED, CONFIGURATION = 1, 2  # of the interrupt's status
CONFIG = 0x100


class Function(Protocol):
    """What a virtio device does beyond being one."""

    name: str
    number: int  # its device ID
    features: int
    queues: int

    def configuration(self) -> bytes:
        """Its configuration space."""

    def serve(self, index: int, queue: Queue) -> bool:
        """Serve what is in a queue; says whether an interrupt is due. Raises Broken."""

    def listen(self, serve: Callable[[int], None]) -> None:
        """A transport has it: `serve` has a queue looked at, for what happens without the driver."""


class Nothing:
    """What a transport has where no device is: number 0, at which drivers pass on."""

    name = "virtio"
    number = features = queues = 0

    def configuration(self) -> bytes:
        return b""

    def serve(self, index: int, queue: Queue) -> bool:
        return False

    def listen(self, serve: Callable[[int], None]) -> None:
        """Nothing happens."""


class Virtio:
    """A device behind registers. `raise_irq` is its interrupt line; `broken` is told what rings made no sense."""

    size = 0x200

    def __init__(
        self, function: Function, memory: Memory, raise_irq: Callable[[bool], None],
        broken: Callable[[str], None] = lambda what: None,
    ) -> None:  # fmt: skip
        self._memory = memory
        self._broken = broken
        self._raise_irq = raise_irq
        self.attach(function)

    def attach(self, function: Function) -> None:
        """Make it the transport of this device, before the machine starts."""
        self.name = function.name
        self.function = function
        self._queues = [Queue(self._memory) for _ in range(function.queues)]
        self._reset()
        function.listen(self.serve)

    def described(self) -> list[str]:
        """What the driver has set up, for people."""
        lines = [f"status {self._status:#x}, interrupt {self._interrupt}, features {self._accepted:#x}"]
        return lines + [f"queue {i}: {queue.described()}" for i, queue in enumerate(self._queues)]

    def _reset(self) -> None:
        self._status = self._interrupt = 0
        self._selected = self._feature_half = self._driver_half = 0
        self._accepted = 0
        for queue in self._queues:
            queue.reset()
        self._raise_irq(False)

    def read(self, offset: int, size: int) -> int:
        if offset >= CONFIG:
            data = self.function.configuration()[offset - CONFIG : offset - CONFIG + size]
            return int.from_bytes(data, "little")
        features = self.function.features | VERSION_1
        queue = self._queue
        match offset:
            case 0x000:
                return MAGIC
            case 0x004:
                return VERSION
            case 0x008:
                return self.function.number
            case 0x00C:
                return VENDOR
            case 0x010:
                return features >> 32 * self._feature_half & 0xFFFF_FFFF if self._feature_half < 2 else 0
            case 0x034:
                return MOST if queue is not None else 0
            case 0x044:
                return int(queue is not None and queue.ready)
            case 0x060:
                return self._interrupt
            case 0x070:
                return self._status
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        queue = self._queue
        match offset:
            case 0x014:
                self._feature_half = value
            case 0x020 if self._driver_half < 2:
                shift = 32 * self._driver_half
                self._accepted = self._accepted & ~(0xFFFF_FFFF << shift) | value << shift
            case 0x024:
                self._driver_half = value
            case 0x030:
                self._selected = value
            case 0x038 if queue is not None and 0 < value <= MOST and value & value - 1 == 0:
                queue.size = value
            case 0x044 if queue is not None:
                queue.ready = bool(value & 1)
            case 0x050 if value < len(self._queues):
                self.serve(value)
            case 0x064:
                self._interrupt &= ~value
                self._raise_irq(bool(self._interrupt))
            case 0x070:
                self._set_status(value)
            case 0x080 | 0x084 | 0x090 | 0x094 | 0x0A0 | 0x0A4 if queue is not None:
                part = {0x8: "descriptors", 0x9: "driver", 0xA: "device"}[offset >> 4]
                shift = 8 * (offset & 4)
                old = getattr(queue, part)
                setattr(queue, part, old & ~(0xFFFF_FFFF << shift) | value << shift)

    @property
    def _queue(self) -> Queue | None:
        return self._queues[self._selected] if self._selected < len(self._queues) else None

    def _set_status(self, value: int) -> None:
        if value == 0:
            self._reset()
            return
        if self._accepted & ~(self.function.features | VERSION_1):
            value &= ~FEATURES_OK
        self._status = value | self._status & NEEDS_RESET

    def serve(self, index: int) -> None:
        """Let the device look at one of its queues."""
        if not self._status & DRIVER_OK or self._status & NEEDS_RESET:
            return
        try:
            if self.function.serve(index, self._queues[index]):
                self._signal(USED)
        except Broken as broken:
            self._broken(str(broken))
            self._status |= NEEDS_RESET
            self._signal(CONFIGURATION)

    def _signal(self, why: int) -> None:
        self._interrupt |= why
        self._raise_irq(True)
