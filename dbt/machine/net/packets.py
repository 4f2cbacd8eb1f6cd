"""Frames and packets as bytes: Ethernet, ARP (RFC 826), IPv4 (791), ICMP (792), UDP (768), TCP (9293).

What is malformed, or has a wrong checksum, is parsed to None. Addresses are bytes as they are sent, 6 or 4. Owns:
layouts and checksums. Must not know: who sends what, and why.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

ARP_KIND, IPV4_KIND = 0x0806, 0x0800  # of frames
ICMP, TCP, UDP = 1, 6, 17  # protocols of packets
MTU = 1500  # bytes of a packet
EVERYBODY = b"\xff" * 6
ANY, BROADCAST = bytes(4), b"\xff" * 4
DO_NOT_FRAGMENT, MORE_FRAGMENTS, OFFSET = 0x4000, 0x2000, 0x1FFF  # of a packet's flags and offset
TTL = 64
ECHO_REPLY, UNREACHABLE, ECHO = 0, 3, 8  # types of ICMP
HOST, PROTOCOL, PORT, PROHIBITED = 1, 2, 3, 13  # codes of UNREACHABLE
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16  # flags of a segment
_ETHERNET = struct.Struct("!6s6sH")
_ARP = struct.Struct("!HHBBH6s4s6s4s")
_IPV4 = struct.Struct("!BBHHHBBH4s4s")
_UDP = struct.Struct("!HHHH")
_TCP = struct.Struct("!HHIIBBHHH")
_PSEUDO = struct.Struct("!4s4sHH")


def checksum(data: bytes) -> int:
    """The internet checksum (RFC 1071): a sum of ones' complement is a remainder. 0 over what holds a right one."""
    if len(data) % 2:
        data += b"\0"
    return 0xFFFF - (int.from_bytes(data, "big") % 0xFFFF or 0xFFFF) if any(data) else 0xFFFF


class Frame(NamedTuple):
    """An Ethernet frame, without its check sequence."""

    to: bytes
    source: bytes
    kind: int
    payload: bytes

    def pack(self) -> bytes:
        return _ETHERNET.pack(self.to, self.source, self.kind) + self.payload

    @classmethod
    def parse(cls, data: bytes) -> Frame | None:
        if len(data) < _ETHERNET.size:
            return None
        to, source, kind = _ETHERNET.unpack_from(data)
        return cls(to, source, kind, data[_ETHERNET.size :])


class Arp(NamedTuple):
    """A question (operation 1) or an answer (2): who has an address of IPv4."""

    operation: int
    sender: bytes
    sender_address: bytes
    target: bytes
    target_address: bytes

    def pack(self) -> bytes:
        return _ARP.pack(1, IPV4_KIND, 6, 4, *self)

    @classmethod
    def parse(cls, data: bytes) -> Arp | None:
        if len(data) < _ARP.size:
            return None
        hardware, protocol, length, address_length, *rest = _ARP.unpack_from(data)
        return cls(*rest) if (hardware, protocol, length, address_length) == (1, IPV4_KIND, 6, 4) else None


class Packet(NamedTuple):
    """A packet of IPv4, or a fragment of one: `fragment` is its flags and offset."""

    source: bytes
    to: bytes
    protocol: int
    payload: bytes
    identification: int = 0
    fragment: int = DO_NOT_FRAGMENT

    def pack(self) -> bytes:
        length = _IPV4.size + len(self.payload)
        fields = [0x45, 0, length, self.identification, self.fragment, TTL, self.protocol, 0, self.source, self.to]
        fields[7] = checksum(_IPV4.pack(*fields))
        return _IPV4.pack(*fields) + self.payload

    @classmethod
    def parse(cls, data: bytes) -> Packet | None:
        if len(data) < _IPV4.size:
            return None
        form, _, length, identification, fragment, _, protocol, _, source, to = _IPV4.unpack_from(data)
        begin = 4 * (form & 15)
        if form >> 4 != 4 or begin < _IPV4.size or not begin <= length <= len(data) or checksum(data[:begin]):
            return None
        return cls(source, to, protocol, data[begin:length], identification, fragment)

    def sum_with(self, part: bytes) -> int:
        """The checksum of UDP and TCP, which is over the addresses, too."""
        return checksum(_PSEUDO.pack(self.source, self.to, self.protocol, len(part)) + part)


class Message(NamedTuple):
    """A message of ICMP; `rest` is all behind the checksum."""

    kind: int
    code: int
    rest: bytes

    def pack(self) -> bytes:
        head = bytes([self.kind, self.code])
        return head + checksum(head + bytes(2) + self.rest).to_bytes(2, "big") + self.rest

    @classmethod
    def parse(cls, data: bytes) -> Message | None:
        return None if len(data) < 8 or checksum(data) else cls(data[0], data[1], data[4:])


class Datagram(NamedTuple):
    """A datagram of UDP, by its ports."""

    source: int
    to: int
    payload: bytes

    def packet(self, source: bytes, to: bytes) -> Packet:
        """It, between these addresses."""
        head = [self.source, self.to, _UDP.size + len(self.payload), 0]
        bare = Packet(source, to, UDP, b"")
        head[3] = bare.sum_with(_UDP.pack(*head) + self.payload) or 0xFFFF  # 0 is for none
        return bare._replace(payload=_UDP.pack(*head) + self.payload)

    @classmethod
    def parse(cls, packet: Packet) -> Datagram | None:
        data = packet.payload
        if len(data) < _UDP.size:
            return None
        source, to, length, check = _UDP.unpack_from(data)
        if not _UDP.size <= length <= len(data) or (check and packet.sum_with(data[:length])):
            return None
        return cls(source, to, data[_UDP.size : length])


class Segment(NamedTuple):
    """A segment of TCP. `mss`: the option of a SYN that says how long segments may be; 0 for none."""

    source: int
    to: int
    seq: int
    ack: int
    flags: int
    window: int
    payload: bytes = b""
    mss: int = 0

    def packet(self, source: bytes, to: bytes) -> Packet:
        """It, between these addresses."""
        options = struct.pack("!BBH", 2, 4, self.mss) if self.mss else b""
        length = _TCP.size + len(options)
        head = [self.source, self.to, self.seq, self.ack, length << 2, self.flags, self.window, 0, 0]
        bare = Packet(source, to, TCP, b"")
        head[7] = bare.sum_with(_TCP.pack(*head) + options + self.payload)
        return bare._replace(payload=_TCP.pack(*head) + options + self.payload)

    @classmethod
    def parse(cls, packet: Packet) -> Segment | None:
        data = packet.payload
        if len(data) < _TCP.size or packet.sum_with(data):
            return None
        source, to, seq, ack, offset, flags, window, _, _ = _TCP.unpack_from(data)
        begin = offset >> 4 << 2
        if not _TCP.size <= begin <= len(data):
            return None
        return cls(source, to, seq, ack, flags & 0x3F, window, data[begin:], _mss(data[_TCP.size : begin]))


def _mss(options: bytes) -> int:
    """The option of that name among a segment's (RFC 9293, 3.2), or 0."""
    at = 0
    while at < len(options) and options[at]:
        if options[at] == 1:
            at += 1
            continue
        length = options[at + 1] if at + 1 < len(options) else 0
        if length < 2:
            return 0
        if options[at] == 2 and length == 4 and at + 4 <= len(options):
            return int.from_bytes(options[at + 2 : at + 4], "big")
        at += length
    return 0
