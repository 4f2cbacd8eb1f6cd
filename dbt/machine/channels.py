"""Where a serial port and a monitor lead: nowhere, to a file, or to a socket. The terminal is `dbt.machine.terminal`.

Owns: these ends. Must not know: what goes through them.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from dbt.machine.outside import Inputs

PATIENCE = 5.0  # seconds that a machine waits for a client that does not read what it is sent
Feed = Callable[[bytes], None]


class Channel(Protocol):
    """One end of a line of bytes."""

    def write(self, data: bytes) -> None:
        """Send, if anybody is there."""

    def listen(self, inputs: Inputs, feed: Feed, came: Callable[[], None] = lambda: None) -> None:
        """Give what comes to `feed`, from now on; `came` is called when somebody has come to the other end."""

    def close(self) -> None:
        """Nothing is sent any more."""


class Nowhere:
    """Nothing comes from there, and nothing arrives."""

    def write(self, data: bytes) -> None:
        """It is gone."""

    def listen(self, inputs: Inputs, feed: Feed, came: Callable[[], None] = lambda: None) -> None:
        """Nothing will come."""

    def close(self) -> None:
        """There is nothing to close."""


class File(Nowhere):
    """A file that is written from its beginning. OSError if it cannot be."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)

    def write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._file, data) :]

    def close(self) -> None:
        os.close(self._file)


class Socket:
    """A socket of the host's at a path, for one client at a time; the next one waits until it has left.

    OSError if there can be none. What is written while nobody is there is lost.
    """

    def __init__(self, path: str) -> None:
        with suppress(FileNotFoundError), socket.socket(socket.AF_UNIX) as probe:
            if stat.S_ISSOCK(os.stat(path).st_mode) and probe.connect_ex(path):  # nobody serves it any more
                os.unlink(path)
        self._path = path
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._server.bind(path)
        self._server.listen(1)
        self._client: socket.socket | None = None

    def listen(self, inputs: Inputs, feed: Feed, came: Callable[[], None] = lambda: None) -> None:
        self._inputs, self._feed, self._came = inputs, feed, came
        inputs.add(self._server.fileno(), self._accept)

    def write(self, data: bytes) -> None:
        if self._client is not None:
            try:
                self._client.sendall(data)
            except OSError:  # it has left, or does not listen
                self._leave()

    def close(self) -> None:
        with suppress(OSError):
            os.unlink(self._path)
        self._server.close()

    def _accept(self) -> None:
        self._client, _ = self._server.accept()
        self._client.settimeout(PATIENCE)
        self._inputs.remove(self._server.fileno())  # the next one waits
        self._inputs.add(self._client.fileno(), self._read)
        self._came()

    def _read(self) -> None:
        assert self._client is not None
        data = b""
        with suppress(OSError):
            data = self._client.recv(4096)
        if data:
            self._feed(data)
        else:
            self._leave()

    def _leave(self) -> None:
        assert self._client is not None
        self._inputs.remove(self._client.fileno())
        self._client.close()
        self._client = None
        self._inputs.add(self._server.fileno(), self._accept)
