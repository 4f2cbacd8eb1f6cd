"""A digest of all that a machine is: memory, its harts, its time, devices, disks, and what went through its console.

Two runs are in the same state where their digests are equal. Owns: what is digested, and how the values of a device
are found. Must not know: any device.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator
from typing import Any

from dbt.blake2 import blake2b
from dbt.machine.boards import Board
from dbt.machine.devices.block import Block
from dbt.machine.devices.virtio import Virtio

PAGE = 1 << 12
PARTS = "dbt.machine.devices."  # modules whose objects are a part of the device that has them
_ZEROS = bytes(PAGE)


def digest(board: Board) -> str:
    """BLAKE2b, 16 bytes in hexadecimal, alike in both engines. All RAM and disks are read: a second for 1 GiB."""
    hashed = blake2b(digest_size=16)
    clock = board.vm.clock
    hashed.update(repr((board.vm.turn.number, board.vm.ends, clock.waited, clock.time)).encode())
    for state in [vcpu.state for vcpu in board.vcpus]:
        hashed.update(repr((state.pc, state.count, state.blocks, state.mid_block)).encode())
        hashed.update(repr(state.registers()).encode())
    for slot in board.vm.memory.slots:
        for offset in range(0, slot.size, PAGE):
            page = slot.memory[offset : offset + PAGE]
            if page != _ZEROS:
                hashed.update(struct.pack("<Q", slot.base + offset))
                hashed.update(page)
    hashed.update(repr(list(_values("console", board.console))).encode())
    for base, device in board.vm.memory.devices:
        hashed.update(repr((base, list(_values(device.name, device)))).encode())
        if isinstance(device, Virtio) and isinstance(device.function, Block):
            for content in device.function.contents():
                hashed.update(content)
    return hashed.hexdigest()


def _values(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The plain values that something keeps, in itself and in its parts, each with where it was found."""
    match value:
        case int() | str() | bytes() | None:
            yield name, value
        case list() | tuple() | deque():
            for i, each in enumerate(value):
                yield from _values(f"{name}[{i}]", each)
        case _ if type(value).__module__.startswith(PARTS):
            for part, each in sorted(vars(value).items()):
                yield from _values(f"{name}.{part}", each)
