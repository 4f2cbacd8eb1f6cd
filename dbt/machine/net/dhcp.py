"""A server of DHCP: gives guests addresses (RFC 2131, options of RFC 2132).

Owns: leases, what is answered. Must not know: how packets travel.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

SERVER_PORT, CLIENT_PORT = 67, 68
DISCOVER, OFFER, REQUEST, DECLINE, ACKNOWLEDGE, REFUSE, RELEASE, INFORM = range(1, 9)
MASK, ROUTER, NAMES, REQUESTED, LEASE, KIND, SERVER = 1, 3, 6, 50, 51, 53, 54  # options
PAD, END = 0, 255
DAY = 86_400  # seconds of a lease
COOKIE = 0x6382_5363
_FIXED = struct.Struct("!BBBBIHH4s4s4s4s16s192xI")  # 192 bytes for a server's name and a file are not used
BROADCAST_FLAG = 0x8000


class Dhcp:
    """`server` is its own address; `addresses` are what it gives away, the first one first.

    `tells`: the addresses of the router and of the server of names, each if there is one.
    """

    def __init__(self, server: bytes, mask: bytes, addresses: Sequence[bytes], tells: tuple[bytes, bytes]) -> None:
        self._server = server
        self._addresses = addresses
        self._leases: dict[bytes, bytes] = {}  # by the address of a network device
        router, names = tells
        self._network = _option(MASK, mask) + _option(ROUTER, router) + _option(NAMES, names)

    def answer(self, message: bytes) -> tuple[bytes, bytes, bytes] | None:
        """The answer to a message; None for no answer. With it the addresses of the network device and of IPv4 that
        it goes to, all bits 1 for everybody.
        """
        if len(message) < _FIXED.size:
            return None
        operation, kind, length, _, number, _, flags, own, _, _, relay, hardware, cookie = _FIXED.unpack_from(message)
        if (operation, kind, length, cookie) != (1, 1, 6, COOKIE):
            return None
        mac, options = hardware[:6], dict(_options(message[_FIXED.size :]))
        answer, address = self._decide(mac, own, options)
        if not answer:
            return None
        lease = b"" if address == bytes(4) else _option(LEASE, DAY.to_bytes(4, "big"))
        body = _option(KIND, bytes([answer])) + _option(SERVER, self._server)
        body += b"" if answer == REFUSE else lease + self._network
        fixed = _FIXED.pack(2, 1, 6, 0, number, 0, flags, own, address, self._server, relay, hardware, COOKIE)
        reply = (fixed + body + bytes([END])).ljust(300, b"\0")  # BOOTP has no shorter ones
        if answer == REFUSE or (flags & BROADCAST_FLAG and own == bytes(4)):
            return reply, b"\xff" * 6, b"\xff" * 4
        return reply, mac, address if own == bytes(4) else own

    def _decide(self, mac: bytes, own: bytes, options: dict[int, bytes]) -> tuple[int, bytes]:
        """The kind of the answer, 0 for none, and the address that is given."""
        kind = int.from_bytes(options.get(KIND, b""), "big")
        if kind == DISCOVER:
            address = self._lease(mac)
            return (OFFER, address) if address else (0, b"")
        if kind == REQUEST and options.get(SERVER, self._server) == self._server:
            address = self._lease(mac)
            right = address and address == options.get(REQUESTED, own)
            return (ACKNOWLEDGE, address) if right else (REFUSE, bytes(4))
        if kind == INFORM:
            return ACKNOWLEDGE, bytes(4)
        if kind == RELEASE:
            self._leases.pop(mac, None)
        return 0, b""

    def _lease(self, mac: bytes) -> bytes:
        """The address of a device, the one that it had if it had one; none if there is none left."""
        if mac not in self._leases:
            taken = set(self._leases.values())
            free = next((address for address in self._addresses if address not in taken), None)
            if free is None:
                return b""
            self._leases[mac] = free
        return self._leases[mac]


def _option(number: int, value: bytes) -> bytes:
    return bytes([number, len(value)]) + value if value else b""


def _options(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The options of a message; of what is cut off, those in front."""
    at = 0
    while at < len(data) and data[at] != END:
        if data[at] == PAD:
            at += 1
            continue
        length = data[at + 1] if at + 1 < len(data) else 0
        if at + 2 + length > len(data):
            return
        yield data[at], data[at + 2 : at + 2 + length]
        at += 2 + length
