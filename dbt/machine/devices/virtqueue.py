"""Split virtqueues: how a driver hands buffers to a device, and gets them back (VIRTIO 1.2, section 2.7).

The driver is not trusted: a chain that loops, or memory that is not there, is `Broken`, never an error of ours.
Owns: the rings. Must not know: transports, what is in the buffers.
"""

from __future__ import annotations

from typing import NamedTuple

from dbt.machine.memory import Memory
from guests.spec import Absent

MOST = 256  # descriptors of a queue
NEXT, WRITE = 1, 2  # flags of a descriptor
NO_INTERRUPT = 1  # flag of the driver's ring
LONGEST = 1 << 26  # bytes of a chain


class Broken(Exception):
    """The driver's rings make no sense; the device needs a reset."""


class Chain(NamedTuple):
    """One request: its number in the table, and its buffers as (address, length), in order."""

    head: int
    readable: tuple[tuple[int, int], ...]
    writable: tuple[tuple[int, int], ...]


class Queue:
    """One queue of a device."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self.reset()

    def reset(self) -> None:
        self.size = MOST
        self.ready = False
        self.descriptors = self.driver = self.device = 0  # physical addresses of the three parts
        self._taken = 0  # entries of the driver's ring that were looked at
        self._given = 0

    def described(self) -> str:
        """Its state, for people."""
        if not self.ready:
            return "not set up"
        where = f"{self.size} descriptors at {self.descriptors:#x}"
        return f"{where}, {self._taken} requests taken, {self._given} given back"

    def pop(self) -> Chain | None:
        """The next request, or None. Raises Broken."""
        if not self.ready or self._number(self.driver + 2, 2) == self._taken & 0xFFFF:
            return None
        head = self._number(self.driver + 4 + 2 * (self._taken % self.size), 2)
        self._taken += 1
        return self._chain(head)

    def _chain(self, head: int) -> Chain:
        readable: list[tuple[int, int]] = []
        writable: list[tuple[int, int]] = []
        index, total = head, 0
        for _ in range(self.size):
            if index >= self.size:
                raise Broken(f"descriptor {index} of {self.size}")
            at = self.descriptors + 16 * index
            address, length, flags = self._number(at, 8), self._number(at + 8, 4), self._number(at + 12, 2)
            total += length
            if total > LONGEST:
                raise Broken("a request of more than 64 MiB")
            if flags & WRITE:
                writable.append((address, length))
            elif writable:
                raise Broken("a buffer to read behind one to write")
            else:
                readable.append((address, length))
            if not flags & NEXT:
                return Chain(head, tuple(readable), tuple(writable))
            index = self._number(at + 14, 2)
        raise Broken("a chain without an end")

    def read(self, chain: Chain) -> bytes:
        """What the driver sends. Raises Broken."""
        try:
            return b"".join(self._memory.peek(address, length) for address, length in chain.readable)
        except Absent:
            raise Broken("a buffer that is not in memory") from None

    def write(self, chain: Chain, data: bytes) -> None:
        """Fill the driver's buffers, in order, as far as the data goes. Raises Broken."""
        at = 0
        try:
            for address, length in chain.writable:
                self._memory.poke(address, data[at : at + length])
                at += length
        except Absent:
            raise Broken("a buffer that is not in memory") from None

    def push(self, chain: Chain, written: int) -> bool:
        """Give the request back, with this many bytes written; says whether the driver wants an interrupt."""
        try:
            entry = self.device + 4 + 8 * (self._given % self.size)
            self._memory.poke(entry, chain.head.to_bytes(4, "little") + written.to_bytes(4, "little"))
            self._given = self._given + 1 & 0xFFFF
            self._memory.poke(self.device + 2, self._given.to_bytes(2, "little"))
        except Absent:
            raise Broken("a ring that is not in memory") from None
        return not self._number(self.driver, 2) & NO_INTERRUPT

    def _number(self, address: int, size: int) -> int:
        try:
            return int.from_bytes(self._memory.peek(address, size), "little")
        except Absent:
            raise Broken("a ring that is not in memory") from None


def room(chain: Chain) -> int:
    """Bytes that the driver's buffers can take."""
    return sum(length for _, length in chain.writable)
