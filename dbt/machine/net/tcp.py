"""TCP between a guest and sockets of the host (RFC 9293): a connection of the guest's ends here, and goes on as one of
the host's, which does all that a real network needs.

Between the guest and us no segment is late, and none overtakes another. One is lost if too many wait for the guest's
driver, or if the guest throws it away: what is not acknowledged is sent again after a second, and then less and less
often. Segments of the guest that are not the next ones are for it to send again. There are no other options than the
length of segments, no urgent data and no congestion control; a window is 64 KiB at most. A connection that has ended
for both is forgotten: if its last acknowledgement was lost, a reset follows. Owns: connections. Must not know: frames,
other protocols.
"""

from __future__ import annotations

import errno
import socket
import struct
import time
from contextlib import suppress
from enum import Enum
from functools import partial

from dbt.machine.net.host import Ends, Forward, Listeners, Network, Place, bound, opened, usable
from dbt.machine.net.packets import ACK, FIN, MTU, PSH, RST, SYN, Packet, Segment

MOST = 256  # connections
BUFFER = 0xFFFF  # bytes of each direction that are kept
MSS = MTU - 40  # bytes of a segment
DEFAULT_MSS, LEAST_MSS = 536, 64  # of a guest that says nothing, or too little
PATIENCE, MOST_PATIENCE = 1.0, 4.0  # seconds until something is sent again
TRIES = 30  # with them a guest has two minutes to answer
DUPLICATES = 3  # acknowledgements of the same, after which something is sent again
_HALF = 1 << 31
_MASK = (1 << 32) - 1


def distance(later: int, earlier: int) -> int:
    """How far a sequence number is ahead of another, from -2^31 to 2^31 - 1."""
    return (later - earlier + _HALF & _MASK) - _HALF


class State(Enum):
    """Of a connection. What is sent and received after the handshake is told by numbers, and both may end first."""

    CONNECTING = "connecting"  # the host's side is not there yet
    SYN_SENT = "SYN sent"
    SYN_RECEIVED = "SYN received"
    OPEN = "open"
    CLOSED = "closed"


class Tcp:
    """All connections of a network."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self._connections: dict[Ends, Connection] = {}
        self._listeners = Listeners(network.inputs)

    def described(self) -> list[str]:
        """The connections, for people."""
        return [f"tcp {ends} {connection.state.value}" for ends, connection in self._connections.items()]

    def forget(self) -> None:
        """The guest is another one now."""
        for connection in list(self._connections.values()):
            connection.abort(tell=False)

    def close(self) -> None:
        """Nothing is sent any more."""
        self.forget()
        self._listeners.close()

    def forward(self, forward: Forward) -> None:
        """Lead connections to a place of the host to the guest. OSError if nothing can be there."""
        listener = bound(socket.SOCK_STREAM, forward.place)
        listener.listen(16)
        self._listeners.add(listener, partial(self._come, listener, forward))

    def receive(self, packet: Packet) -> None:
        """A packet from the guest."""
        segment = Segment.parse(packet)
        if segment is None:
            return
        ends = Ends(packet.source, segment.source, packet.to, segment.to)
        connection = self._connections.get(ends)
        if connection is not None:
            connection.receive(segment)
        elif segment.flags & (SYN | ACK | RST | FIN) == SYN:
            self._open(ends, segment)
        elif not segment.flags & RST:
            self._refuse(ends, segment)

    def gone(self, ends: Ends) -> None:
        """A connection has ended."""
        del self._connections[ends]

    def _refuse(self, ends: Ends, segment: Segment) -> None:
        """Reset what is no connection (RFC 9293, 3.5.2)."""
        if segment.flags & ACK:
            seq, ack, flags = segment.ack, 0, RST
        else:
            length = len(segment.payload) + bool(segment.flags & SYN) + bool(segment.flags & FIN)
            seq, ack, flags = 0, segment.seq + length & _MASK, RST | ACK
        answer = Segment(ends.remote_port, ends.port, seq, ack, flags, 0)
        self.network.emit(answer.packet(ends.remote, ends.guest))

    def _open(self, ends: Ends, segment: Segment) -> None:
        """The guest wants a connection."""
        place = self.network.reach(ends.remote, ends.remote_port)
        if place is None or len(self._connections) >= MOST:
            self._refuse(ends, segment)
            return
        try:
            made = opened(socket.SOCK_STREAM)
        except OSError:
            self._refuse(ends, segment)
            return
        connection = Connection(self, ends, made)
        self._connections[ends] = connection
        connection.connect(place, segment)

    def _come(self, listener: socket.socket, forward: Forward) -> None:
        """Somebody wants a connection to the guest."""
        try:
            made, client = listener.accept()
            made = usable(made)
        except OSError:  # it has left again, or there is no descriptor for it
            return
        ends = Ends(forward.guest, forward.port, self.network.seen(client[0]), client[1])
        if len(self._connections) >= MOST or ends in self._connections:
            _reset(made)
            return
        connection = Connection(self, ends, made)
        self._connections[ends] = connection
        connection.greet()


class Connection:
    """One connection. `una`, `nxt`, `highest`: numbers of what is not acknowledged, is sent next, was sent at most."""

    def __init__(self, tcp: Tcp, ends: Ends, made: socket.socket) -> None:
        self._tcp = tcp
        self._inputs = tcp.network.inputs
        self._ends = ends
        self._socket = made
        self.state = State.CONNECTING
        self._una = self._nxt = self._highest = int(time.monotonic() * 250_000) & _MASK  # as in RFC 9293, 3.4.1
        self._window = 0  # of the guest, from `una` on
        self._mss = DEFAULT_MSS
        self._for_guest = bytearray()  # from `una` on
        self._host_ended = self._end_acknowledged = False
        self._expected = 0  # the number of the guest's next byte
        self._for_host = bytearray()
        self._guest_ended = self._shut = False
        self._answer = False  # the guest is to be told how far we are
        self._duplicates = self._tries = 0
        self._patience = PATIENCE
        self._waits = False  # a look at what was acknowledged is due
        self._reading = self._writing = False

    # --- the handshake ------------------------------------------------------------------------------------------------

    def connect(self, place: Place, segment: Segment) -> None:
        """The guest's SYN has come: make the host's side of the connection first."""
        self._learn(segment)
        if self._socket.connect_ex(place) not in (0, errno.EINPROGRESS):
            self.abort()
            return
        self._writing = True
        self._inputs.add_writer(self._socket.fileno(), self._connected)

    def greet(self) -> None:
        """The host's side is there: ask the guest."""
        self.state = State.SYN_SENT
        self._send_syn()

    def _learn(self, segment: Segment) -> None:
        """What a SYN of the guest's says."""
        self._expected = segment.seq + 1 & _MASK
        self._window = segment.window
        self._mss = min(MSS, max(LEAST_MSS, segment.mss or DEFAULT_MSS))

    def _connected(self) -> None:
        """The host's side is there, or never will be."""
        self._inputs.remove_writer(self._socket.fileno())
        self._writing = False
        if self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.abort()
        else:
            self.state = State.SYN_RECEIVED
            self._send_syn()

    def _send_syn(self) -> None:
        self._emit(SYN | (ACK if self.state is State.SYN_RECEIVED else 0), self._una, mss=MSS)
        self._sent(self._una + 1 & _MASK)

    # --- segments of the guest ----------------------------------------------------------------------------------------

    def receive(self, segment: Segment) -> None:
        """A segment from the guest (RFC 9293, 3.10.7)."""
        if self.state is State.CONNECTING:
            if segment.flags & RST:
                self.abort(tell=False)
            return
        if self.state is State.SYN_SENT:
            self._greeted(segment)
        elif self._acceptable(segment) and self._acknowledge(segment):
            self._take(segment)
        self._go_on()

    def _greeted(self, segment: Segment) -> None:
        """What comes while our SYN is not answered."""
        right = segment.flags & ACK and segment.ack == self._highest
        if segment.flags & RST:
            if right:
                self.abort(tell=False)
        elif segment.flags & ACK and not right:
            self._emit(RST, segment.ack)
        elif segment.flags & SYN and right:
            self._learn(segment)
            self._una = self._nxt = segment.ack
            self.state = State.OPEN
            self._answer = True

    def _acceptable(self, segment: Segment) -> bool:
        """Whether it may be looked at; what is out of the window, or a SYN, is told how far we are."""
        ahead = distance(segment.seq, self._expected)
        if segment.flags & RST:
            if ahead == 0:
                self.abort(tell=False)
            elif 0 < ahead < self._room:
                self._answer = True
            return False
        if segment.flags & SYN:
            if self.state is State.SYN_RECEIVED:
                self._nxt = self._una  # it has not seen ours
                self._send_syn()
            else:
                self._answer = True
            return False
        if ahead > 0 or ahead + len(segment.payload) + bool(segment.flags & FIN) < 0:
            self._answer = True
        return bool(segment.flags & ACK)

    def _acknowledge(self, segment: Segment) -> bool:
        """Take what it says of our segments; false if it speaks of what was never sent."""
        new = distance(segment.ack, self._una)
        if new > distance(self._highest, self._una):
            if self.state is State.SYN_RECEIVED:
                self._emit(RST, segment.ack)
            else:
                self._answer = True
            return False
        if self.state is State.SYN_RECEIVED:
            if new <= 0:
                return False
            self.state = State.OPEN
            self._una = self._nxt = segment.ack
            self._window = segment.window
            return True
        if new < 0:
            return True  # an old one
        if new > 0:
            data = min(new, len(self._for_guest))
            del self._for_guest[:data]
            self._end_acknowledged = self._end_acknowledged or new > data
            self._una = segment.ack
            if distance(self._nxt, self._una) < 0:
                self._nxt = self._una
            self._duplicates = 0
        elif not segment.payload and segment.window == self._window and self._nxt != self._una:
            self._duplicates += 1
            if self._duplicates == DUPLICATES:
                self._nxt = self._una
        self._window = segment.window
        return True

    def _take(self, segment: Segment) -> None:
        """Take the data of a segment, as much as is new and has room."""
        known = distance(self._expected, segment.seq)
        length = len(segment.payload)
        if length or segment.flags & FIN:
            self._answer = True
        if known < 0 or self._guest_ended:
            return
        data = segment.payload[known : known + self._room]
        self._for_host += data
        self._expected = self._expected + len(data) & _MASK
        if segment.flags & FIN and known <= length and known + len(data) == length:
            self._expected = self._expected + 1 & _MASK
            self._guest_ended = True

    @property
    def _room(self) -> int:
        """Bytes that the guest may send."""
        return BUFFER - len(self._for_host)

    # --- segments of ours ---------------------------------------------------------------------------------------------

    def _go_on(self) -> None:
        """Do all that can be done now, in both directions; then tell the guest, if it has not been told."""
        if self.state is State.OPEN:
            self._to_host()
        if self.state is State.OPEN:
            self._from_host()
        if self.state is State.OPEN:
            self._to_guest()
        if self._answer and self.state is not State.CLOSED:
            self._emit(ACK, self._nxt)
        self._answer = False
        if self.state is State.OPEN and self._end_acknowledged and self._shut:
            self._end()
        elif self.state is State.OPEN:
            self._watch()

    def _to_guest(self) -> None:
        """Send what the guest's window takes, and the end behind it."""
        while True:
            sent = distance(self._nxt, self._una)
            left = len(self._for_guest) - sent
            size = min(left, self._mss, self._window - sent)
            if size > 0 and (size in (left, self._mss) or not sent):
                data = bytes(self._for_guest[sent : sent + size])
                self._emit(ACK | (PSH if size == left else 0), self._nxt, data)
                self._sent(self._nxt + size & _MASK)
            elif left == 0 and self._host_ended and not self._end_acknowledged and self._window > sent:
                self._emit(FIN | ACK, self._nxt)
                self._sent(self._nxt + 1 & _MASK)
            else:
                return

    def _emit(self, flags: int, seq: int, data: bytes = b"", mss: int = 0) -> None:
        ends, ack = self._ends, self._expected if flags & ACK else 0
        segment = Segment(ends.remote_port, ends.port, seq, ack, flags, self._room, data, mss)
        self._answer = self._answer and not flags & ACK
        self._tcp.network.emit(segment.packet(ends.remote, ends.guest))

    def _sent(self, nxt: int) -> None:
        """The numbers before this one were sent: look after a while whether they are acknowledged."""
        self._nxt = nxt
        if distance(nxt, self._highest) > 0:
            self._highest = nxt
        if not self._waits:
            self._waits = True
            self._inputs.after(self._patience, partial(self._look, self._una))

    def _look(self, una: int) -> None:
        """What was not acknowledged for so long is sent again."""
        self._waits = False
        if self.state is State.CLOSED:
            return
        if una != self._una:
            self._tries, self._patience = 0, PATIENCE
        elif self._nxt != self._una:
            self._tries += 1
            self._patience = min(2 * self._patience, MOST_PATIENCE)
            if self._tries > TRIES:
                self.abort()
                return
            self._nxt = self._una
        if self.state in (State.SYN_SENT, State.SYN_RECEIVED):
            self._send_syn()
        elif self._nxt != self._una:
            self._sent(self._nxt)
        else:
            self._go_on()

    # --- the host's side ----------------------------------------------------------------------------------------------

    def _from_host(self) -> None:
        """Read as much as the guest's window takes."""
        try:
            while not self._host_ended and len(self._for_guest) < min(self._window, BUFFER):
                data = self._socket.recv(min(self._window, BUFFER) - len(self._for_guest))
                self._for_guest += data
                self._host_ended = not data
        except BlockingIOError:
            pass
        except OSError:
            self.abort()

    def _to_host(self) -> None:
        """Write what the guest has sent, and its end behind it."""
        before = self._room
        try:
            while self._for_host:
                del self._for_host[: self._socket.send(self._for_host)]
            if self._guest_ended and not self._shut:
                self._shut = True
                self._socket.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            pass
        except OSError:
            self.abort()
        self._answer = self._answer or before < BUFFER // 2 <= self._room

    def _watch(self) -> None:
        """Have the socket looked at for what can be done with it."""
        descriptor = self._socket.fileno()
        reading = not self._host_ended and len(self._for_guest) < min(self._window, BUFFER)
        if reading != self._reading:
            self._reading = reading
            self._inputs.add(descriptor, self._go_on) if reading else self._inputs.remove(descriptor)
        writing = bool(self._for_host)
        if writing != self._writing:
            self._writing = writing
            self._inputs.add_writer(descriptor, self._go_on) if writing else self._inputs.remove_writer(descriptor)

    def abort(self, tell: bool = True) -> None:
        """End at once, for both; `tell`: the guest does not know of it."""
        if self.state is State.CLOSED:
            return
        if tell and self.state is State.CONNECTING:
            self._emit(RST | ACK, 0)
        elif tell:
            self._emit(RST | ACK, self._nxt)
        self._end(reset=True)

    def _end(self, reset: bool = False) -> None:
        self.state = State.CLOSED
        if self._reading:
            self._inputs.remove(self._socket.fileno())
        if self._writing:
            self._inputs.remove_writer(self._socket.fileno())
        if reset:
            _reset(self._socket)
        else:
            self._socket.close()
        self._tcp.gone(self._ends)


def _reset(made: socket.socket) -> None:
    """Close a socket so that the other end sees a reset."""
    with suppress(OSError):
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    made.close()
