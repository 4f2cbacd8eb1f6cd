"""A wire between two machines: frames over a stream socket, each behind its length in four bytes, as QEMU's
`-netdev socket` has them.

While nobody is at the other end, and while it does not read what it is sent, frames are lost, as on a wire. Owns: the
socket. Must not know: what is in a frame, the device.
"""

from __future__ import annotations

import socket
from contextlib import suppress

from dbt.machine.net.host import Place, bound, usable
from dbt.machine.net.wire import Receive
from dbt.machine.outside import Inputs

LENGTH = 4  # bytes in front of a frame
LONGEST = 1 << 16  # bytes of a frame that another one may send
WAITING = 1 << 20  # bytes that wait for the other end
PATIENCE = 10.0  # seconds that somebody at the other end has to be there
PIECE = 1 << 16  # bytes that are read in one go


class Cable:
    """The wire over a connected socket; or, with a `listener`, over those that come to it, one at a time."""

    def __init__(self, inputs: Inputs, made: socket.socket | None, listener: socket.socket | None = None) -> None:
        self._inputs = inputs
        self._socket: socket.socket | None = None
        self._listener = listener
        self._receive: Receive = lambda frame: None
        if made is not None:
            self._begin(usable(made))
        self._listen()

    @classmethod
    def listening(cls, inputs: Inputs, place: Place) -> Cable:
        """Wait for another machine at a place of the host. OSError if that cannot be."""
        listener = bound(socket.SOCK_STREAM, place)
        listener.listen(1)
        return cls(inputs, None, listener)

    @classmethod
    def connecting(cls, inputs: Inputs, place: Place) -> Cable:
        """Go to a machine that waits. OSError if none is there."""
        return cls(inputs, socket.create_connection(place, PATIENCE))

    def plug_in(self, receive: Receive) -> None:
        self._receive = receive

    def described(self) -> list[str]:
        return ["cable, connected" if self._socket is not None else "cable, nobody at the other end"]

    def send(self, frame: bytes) -> None:
        if self._socket is not None and len(self._out) < WAITING:
            self._out += len(frame).to_bytes(LENGTH, "big") + frame
            if not self._writing:
                self._write()

    def close(self) -> None:
        if self._socket is not None:
            self._leave()
        if self._listener is not None:
            self._inputs.remove(self._listener.fileno())
            self._listener.close()

    def _listen(self) -> None:
        if self._listener is not None and self._socket is None:
            self._inputs.add(self._listener.fileno(), self._accept)

    def _accept(self) -> None:
        assert self._listener is not None
        with suppress(OSError):  # who came has left again
            made, _ = self._listener.accept()
            made = usable(made)
            self._inputs.remove(self._listener.fileno())
            self._begin(made)

    def _begin(self, made: socket.socket) -> None:
        self._socket = made
        self._in, self._out, self._writing = bytearray(), bytearray(), False
        self._inputs.add(made.fileno(), self._read)

    def _read(self) -> None:
        assert self._socket is not None
        data = b""
        try:
            data = self._socket.recv(PIECE)
        except BlockingIOError:
            return
        except OSError:
            pass  # it has left
        self._in += data
        while data and len(self._in) >= LENGTH:
            length = int.from_bytes(self._in[:LENGTH], "big")
            if length > LONGEST:  # it speaks of something else
                data = b""
            elif len(self._in) < LENGTH + length:
                break
            else:
                frame = bytes(self._in[LENGTH : LENGTH + length])
                del self._in[: LENGTH + length]
                self._receive(frame)
        if not data:
            self._leave()

    def _write(self) -> None:
        assert self._socket is not None
        try:
            while self._out:
                del self._out[: self._socket.send(self._out)]
        except BlockingIOError:
            pass
        except OSError:
            self._out.clear()  # it has left, which is read
        if bool(self._out) != self._writing:
            self._writing = bool(self._out)
            if self._writing:
                self._inputs.add_writer(self._socket.fileno(), self._write)
            else:
                self._inputs.remove_writer(self._socket.fileno())

    def _leave(self) -> None:
        assert self._socket is not None
        self._inputs.remove(self._socket.fileno())
        if self._writing:
            self._inputs.remove_writer(self._socket.fileno())
        self._socket.close()
        self._socket = None
        self._listen()
