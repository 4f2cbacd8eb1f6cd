"""UDP between a guest and sockets of the host: a socket for each pair of ends, which is where answers come from.

When there are too many pairs, the one that was quiet for longest is forgotten. Owns: these pairs. Must not know:
frames, other protocols.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from dbt.machine.net.host import Ends, Forward, Listeners, Network, bound, opened
from dbt.machine.net.packets import HOST, PORT, PROHIBITED, Datagram, Packet

MOST = 128  # pairs
BURST = 64  # datagrams that are read from a socket in one go
LONGEST = 65_507  # bytes of a datagram


class _Flow(NamedTuple):
    """A pair of ends: how to send to the remote one, and how to end."""

    send: Callable[[bytes], object]
    close: Callable[[], None]


class Udp:
    """All pairs of a network."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._flows: dict[Ends, _Flow] = {}  # the quietest first
        self._listeners = Listeners(network.inputs)

    def described(self) -> list[str]:
        """The pairs, for people."""
        return [f"udp {ends}" for ends in self._flows]

    def forget(self) -> None:
        """The guest is another one now."""
        while self._flows:
            self._flows.pop(next(iter(self._flows))).close()

    def close(self) -> None:
        """Nothing is sent any more."""
        self.forget()
        self._listeners.close()

    def forward(self, forward: Forward) -> None:
        """Hand on what comes to a place of the host. OSError if nothing can be there."""
        listener = bound(socket.SOCK_DGRAM, forward.place)
        self._listeners.add(listener, partial(self._come, listener, forward))

    def receive(self, packet: Packet) -> None:
        """A packet from the guest."""
        datagram = Datagram.parse(packet)
        if datagram is None:
            return
        ends = Ends(packet.source, datagram.source, packet.to, datagram.to)
        flow = self._flows.pop(ends, None)
        try:
            flow = flow or self._open(ends, packet)
            if flow is not None:
                self._keep(ends, flow)
                flow.send(datagram.payload)
        except BlockingIOError:
            pass  # it is lost, as on any network
        except OSError as error:
            self._network.unreachable(PORT if isinstance(error, ConnectionRefusedError) else HOST, packet)

    def _keep(self, ends: Ends, flow: _Flow) -> None:
        if len(self._flows) >= MOST:
            self._flows.pop(next(iter(self._flows))).close()
        self._flows[ends] = flow

    def _open(self, ends: Ends, packet: Packet) -> _Flow | None:
        """A socket for a new pair; None if the guest may not go there."""
        place = self._network.reach(ends.remote, ends.remote_port)
        if place is None:
            self._network.unreachable(PROHIBITED, packet)
            return None
        made = opened(socket.SOCK_DGRAM)
        try:
            made.connect(place)
        except OSError:
            made.close()
            raise
        self._network.inputs.add(made.fileno(), partial(self._arrived, made, ends))
        return _Flow(made.send, partial(self._end, made))

    def _end(self, made: socket.socket) -> None:
        self._network.inputs.remove(made.fileno())
        made.close()

    def _arrived(self, made: socket.socket, ends: Ends) -> None:
        """Something has come to the socket of a pair."""
        for _ in range(BURST):
            try:
                data = made.recv(LONGEST)
            except BlockingIOError:
                return
            except OSError:  # what was sent has come to nobody
                asked = Datagram(ends.port, ends.remote_port, b"").packet(ends.guest, ends.remote)
                self._network.unreachable(PORT, asked)
                return
            self._deliver(ends, data)

    def _come(self, listener: socket.socket, forward: Forward) -> None:
        """Something has come to a place that is handed on; who sent it gets what the guest answers."""
        for _ in range(BURST):
            try:
                data, client = listener.recvfrom(LONGEST)
            except OSError:
                return
            ends = Ends(forward.guest, forward.port, self._network.seen(client[0]), client[1])
            old = self._flows.pop(ends, None)
            if old is not None:
                old.close()
            self._keep(ends, _Flow(partial(_send_to, listener, client), lambda: None))
            self._deliver(ends, data)

    def _deliver(self, ends: Ends, data: bytes) -> None:
        self._network.emit(Datagram(ends.remote_port, ends.port, data).packet(ends.remote, ends.guest))


def _send_to(listener: socket.socket, client: tuple[str, int], data: bytes) -> None:
    listener.sendto(data, client)
