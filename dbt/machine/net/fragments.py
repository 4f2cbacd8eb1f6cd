"""Packets that are longer than a frame: taken apart, and put together (RFC 791, 3.2).

Owns: fragments that wait for others. Must not know: what is in a packet.
"""

from __future__ import annotations

from collections.abc import Iterator

from dbt.machine.net.packets import MORE_FRAGMENTS, MTU, OFFSET, Packet

PIECE = (MTU - 20) & -8  # bytes of a fragment
LONGEST = 65_515  # bytes in a packet
MOST, MOST_PIECES = 16, 128  # packets that are not whole, and fragments of one


def pieces(packet: Packet) -> Iterator[Packet]:
    """The packet, or the fragments that it is sent as."""
    if len(packet.payload) <= MTU - 20:
        yield packet
        return
    for at in range(0, len(packet.payload), PIECE):
        more = MORE_FRAGMENTS if at + PIECE < len(packet.payload) else 0
        yield packet._replace(payload=packet.payload[at : at + PIECE], fragment=more | at >> 3)


class Fragments:
    """Of packets that are not whole; of too many, the oldest is forgotten."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[bytes, bytes, int, int], dict[int, Packet]] = {}  # by what is one packet, and offset

    def whole(self, packet: Packet) -> Packet | None:
        """The packet, or the one that is whole with this fragment; None if it is not, or makes no sense."""
        at = (packet.fragment & OFFSET) << 3
        more = packet.fragment & MORE_FRAGMENTS
        if not at and not more:
            return packet
        if at + len(packet.payload) > LONGEST or (more and (len(packet.payload) % 8 or not packet.payload)):
            return None
        key = packet.source, packet.to, packet.protocol, packet.identification
        found = self._waiting.pop(key, {})
        if len(found) >= MOST_PIECES:
            return None
        found[at] = packet
        whole = b""
        for begin, fragment in sorted(found.items()):
            if begin != len(whole):
                break
            whole += fragment.payload
            if not fragment.fragment & MORE_FRAGMENTS:
                return packet._replace(payload=whole, fragment=0)
        if len(self._waiting) >= MOST:
            del self._waiting[next(iter(self._waiting))]
        self._waiting[key] = found
        return None
