"""A guest at a wire, by hand: frames of its own making, and the frames that come for it."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import TypeVar

from dbt.machine.net.packets import (
    ACK,
    ARP_KIND,
    EVERYBODY,
    FIN,
    ICMP,
    IPV4_KIND,
    SYN,
    TCP,
    UDP,
    Arp,
    Datagram,
    Frame,
    Message,
    Packet,
    Segment,
)
from dbt.machine.net.wire import Peer
from dbt.machine.outside import Inputs

GUEST, GATEWAY, NAMES = (socket.inet_aton(f"10.0.2.{last}") for last in (15, 2, 3))
MAC = bytes.fromhex("525400123456")
MASK = (1 << 32) - 1
T = TypeVar("T")


class Guest:
    """It keeps what it receives. `inputs` are those of the network: waiting looks at them."""

    def __init__(self, inputs: Inputs, peer: Peer, address: bytes = GUEST) -> None:
        self.inputs = inputs
        self.peer = peer
        self.address = address
        self.frames: list[Frame] = []
        peer.plug_in(self._receive)

    def _receive(self, data: bytes) -> None:
        frame = Frame.parse(data)
        assert frame is not None and len(data) <= 1514
        self.frames.append(frame)

    def send(self, packet: Packet, to: bytes = EVERYBODY) -> None:
        self.peer.send(Frame(to, MAC, IPV4_KIND, packet.pack()).pack())

    def wait(self, taken: Callable[[], T | None], seconds: float = 5.0) -> T:
        """What `taken` returns, as soon as it is anything."""
        end = time.monotonic() + seconds
        while True:
            found = taken()
            if found is not None:
                return found
            assert time.monotonic() < end, f"it did not come; there were: {self.frames}"
            self.inputs.look(0.05)

    def quiet(self, seconds: float = 0.1) -> bool:
        """Whether nothing comes for so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self.frames:
            self.inputs.look(0.02)
        return not self.frames

    def packet(self, protocol: int) -> Packet | None:
        """The next packet of a protocol, if one has come; frames before it are forgotten."""
        while self.frames:
            frame = self.frames.pop(0)
            packet = Packet.parse(frame.payload) if frame.kind == IPV4_KIND else None
            if packet is not None and packet.protocol == protocol:
                return packet
        return None

    def arp(self) -> Arp | None:
        while self.frames:
            frame = self.frames.pop(0)
            if frame.kind == ARP_KIND:
                return Arp.parse(frame.payload)
        return None

    def datagram(self) -> tuple[bytes, Datagram] | None:
        """The next datagram, and where it is from."""
        packet = self.packet(UDP)
        found = None if packet is None else Datagram.parse(packet)
        return None if packet is None or found is None else (packet.source, found)

    def message(self) -> tuple[bytes, Message] | None:
        """The next message of ICMP, and where it is from."""
        packet = self.packet(ICMP)
        found = None if packet is None else Message.parse(packet.payload)
        return None if packet is None or found is None else (packet.source, found)

    def segment(self) -> Segment | None:
        packet = self.packet(TCP)
        return None if packet is None else Segment.parse(packet)


class Connection:
    """One end of TCP, which sends what it is told and nothing else."""

    def __init__(
        self, guest: Guest, port: int, remote_port: int, remote: bytes = GATEWAY, window: int = 0xFFFF
    ) -> None:
        self.guest = guest
        self.port = port
        self.remote_port = remote_port
        self.remote = remote
        self.window = window
        self.seq = 0xFFFF_FF00  # it goes round early
        self.ack = 0

    def send(self, flags: int = ACK, data: bytes = b"", *, seq: int | None = None, ack: int | None = None,
             mss: int = 0) -> None:  # fmt: skip
        """A segment, the next one if it is not told which."""
        segment = Segment(
            self.port, self.remote_port, self.seq if seq is None else seq, self.ack if ack is None else ack, flags,
            self.window, data, mss,
        )  # fmt: skip
        if seq is None:
            self.seq = self.seq + len(data) + bool(flags & SYN) + bool(flags & FIN) & MASK
        self.guest.send(segment.packet(self.guest.address, self.remote))

    def next(self, seconds: float = 5.0) -> Segment:
        """The next segment that comes."""
        segment = self.guest.wait(self.guest.segment, seconds)
        assert (segment.source, segment.to) == (self.remote_port, self.port)
        return segment

    def take(self, seconds: float = 5.0) -> Segment:
        """The next segment with data, an end, or the begin of a connection: it is the one that is expected."""
        while True:
            segment = self.next(seconds)
            if segment.payload or segment.flags & (SYN | FIN):
                assert segment.flags & SYN or segment.seq == self.ack
                self.ack = segment.seq + len(segment.payload) + bool(segment.flags & (SYN | FIN)) & MASK
                return segment

    def open(self, mss: int = 1460) -> Connection:
        """The three segments with which the guest begins."""
        self.send(SYN, ack=0, mss=mss)
        answer = self.take()
        assert answer.flags & (SYN | ACK) == SYN | ACK and answer.ack == self.seq and answer.mss == 1460
        self.send()
        return self

    def read(self, count: int, acknowledge: bool = True) -> bytes:
        """So many bytes, each segment acknowledged."""
        data = b""
        while len(data) < count:
            data += self.take().payload
            if acknowledge:
                self.send()
        return data
