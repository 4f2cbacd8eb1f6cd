"""Sockets of the host for what a guest sends, and what TCP and UDP ask of the network that they are in.

Owns: how sockets are opened. Must not know: protocols.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from typing import NamedTuple, Protocol

from dbt.machine.net.packets import Packet
from dbt.machine.outside import MOST, Inputs

LOOPBACK = socket.inet_aton("127.0.0.1")
Place = tuple[str, int]  # an address of the host's and a port


class Forward(NamedTuple):
    """Who comes to `place` at the host comes to a port of the guest; `guest` is its address."""

    protocol: str  # tcp or udp
    place: Place
    guest: bytes
    port: int

    def __str__(self) -> str:
        host, port = self.place
        return f"{self.protocol}:{host}:{port}-{socket.inet_ntoa(self.guest)}:{self.port}"


class Ends(NamedTuple):
    """Both ends of a connection, as the guest sees them."""

    guest: bytes
    port: int
    remote: bytes
    remote_port: int

    def __str__(self) -> str:
        guest, remote = socket.inet_ntoa(self.guest), socket.inet_ntoa(self.remote)
        return f"{guest}:{self.port} {remote}:{self.remote_port}"


class Network(Protocol):
    """What carries packets to the guest."""

    inputs: Inputs

    def emit(self, packet: Packet) -> None:
        """Send a packet to the guest."""

    def reach(self, address: bytes, port: int) -> Place | None:
        """Where at the host an address of the guest's network is; None if the guest may not go there."""

    def seen(self, address: str) -> bytes:
        """The address under which the guest sees one of the host's."""

    def unreachable(self, code: int, packet: Packet) -> None:
        """Tell the guest that its packet has not arrived."""


class Listeners:
    """Sockets at places of the host, waited for until all are closed."""

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs
        self._sockets: list[socket.socket] = []

    def add(self, listener: socket.socket, come: Callable[[], None]) -> None:
        """Call `come` when something comes there."""
        self._sockets.append(listener)
        self._inputs.add(listener.fileno(), come)

    def close(self) -> None:
        """Nobody can come any more."""
        for listener in self._sockets:
            self._inputs.remove(listener.fileno())
            listener.close()


def opened(kind: socket.SocketKind) -> socket.socket:
    """A socket that does not block. OSError if there is none left."""
    return usable(socket.socket(socket.AF_INET, kind))


def usable(made: socket.socket) -> socket.socket:
    """The socket, not blocking; OSError if its descriptor cannot be waited for."""
    if made.fileno() >= MOST:
        made.close()
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    made.setblocking(False)
    return made


def bound(kind: socket.SocketKind, place: Place) -> socket.socket:
    """A socket at a place of the host. OSError if it cannot be there."""
    made = opened(kind)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(kind == socket.SOCK_STREAM))
        made.bind(place)
    except OSError:
        made.close()
        raise
    return made
