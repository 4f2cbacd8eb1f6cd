"""The wire of a network device: what the device asks of the other end. Must not know: devices, networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

Receive = Callable[[bytes], None]  # takes a frame, without its check sequence


class Peer(Protocol):
    """What is at the other end."""

    def plug_in(self, receive: Receive) -> None:
        """A machine is there now, at its beginning, in place of any before: frames for it go to `receive`."""

    def send(self, frame: bytes) -> None:
        """The machine has sent a frame."""

    def described(self) -> list[str]:
        """What goes on, for people: lines."""

    def close(self) -> None:
        """Nothing is sent any more."""
