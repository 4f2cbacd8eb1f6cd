"""Arrays of struct iovec: the guest's, as the host's kernel takes them.

The host's kernel reads and writes guest memory itself and stops where the guest may not go on, so that nothing is
copied and a call that comes half-way says how far, as Linux does. Must not know: what is moved.
"""

from __future__ import annotations

import ctypes
import errno
import struct
from typing import TYPE_CHECKING

from dbt.linux.host import failure, int32
from dbt.memory import MemoryFault

if TYPE_CHECKING:
    from dbt.linux.kernel import Kernel

MOST = 1024
_MAX_COUNT = 0x7FFFF000  # what Linux moves at most in one call


class Vectors:
    """`count` vectors at an address; EINVAL, EFAULT. `rows` is the host's array."""

    def __init__(self, kernel: Kernel, address: int, count: int, receiving: bool, too_many: int = errno.EINVAL) -> None:
        self.kernel = kernel
        self.count = count = int32(count)
        if not 0 <= count <= MOST:
            raise failure(too_many)
        self.parts: list[tuple[int, int]] = list(struct.iter_unpack("<QQ", kernel.space.read(address, 16 * count)))
        if any(length >> 63 for _address, length in self.parts):
            raise failure(errno.EINVAL)
        rows, left = [], _MAX_COUNT
        for start, length in self.parts:
            length = min(length, left)
            left -= length
            if start + length > kernel.space.size:
                raise MemoryFault(start, "load", False)
            if receiving and length:
                prepare(kernel, start, length)
            rows.append(struct.pack("=QQ", kernel.space.base + start, length))
        self.rows = ctypes.create_string_buffer(b"".join(rows), max(16 * count, 1))

    def arrived(self, total: int) -> None:
        """The host's kernel has written so many bytes."""
        for address, length in self.parts:
            if total <= 0:
                break
            self.kernel.space.arrived(address, min(length, total))
            total -= length


def prepare(kernel: Kernel, address: int, length: int) -> int:
    """Make what the guest may write of a range ready for the host's kernel: how much that is, perhaps nothing."""
    try:
        reach = kernel.writable(address, length)
    except MemoryFault:
        return 0
    kernel.space.target(address, reach)
    return reach
