"""The host's terminal: a machine's console and its monitor on one line, with the keys of QEMU.

While a machine runs, its terminal is raw: the guest sees each key, Ctrl-C too, and Ctrl-A is ours. Owns: the terminal's
mode, the keys. Must not know: what the guest or the monitor makes of what is typed.
"""

from __future__ import annotations

import os
import termios
import tty
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from dbt.machine.channels import Feed
from dbt.machine.monitor import Monitor
from dbt.machine.outside import Inputs

ESCAPE = 1  # Ctrl-A
HELP = b"""
Ctrl-A h       this help
Ctrl-A x       end
Ctrl-A c       to the monitor, and back
Ctrl-A Ctrl-A  send Ctrl-A
"""


def _nobody(data: bytes) -> None:
    """What is typed before the machine is there is for nobody."""


class Terminal:
    """Standard input and output. `escapes`: Ctrl-A is ours; `monitored`: what is typed is for the monitor at first."""

    def __init__(self, escapes: bool, monitored: bool = False) -> None:
        self._escapes = escapes
        self._monitored = monitored
        self._escaped = False
        self._kept: list[Any] | None = None
        self.interactive = self.is_interactive()
        self.commands = escapes or monitored  # whether a monitor can be reached
        self._console: Feed = _nobody
        self._monitor: Feed = _nobody
        self._greet: Callable[[], None] = lambda: None
        self._end: Callable[[], None] = lambda: None

    @staticmethod
    def is_interactive() -> bool:
        """Whether somebody sits there."""
        return os.isatty(0)

    def __enter__(self) -> Terminal:
        if self.interactive:
            self._kept = termios.tcgetattr(0)
            tty.setraw(0)
            mode = termios.tcgetattr(0)
            mode[1] |= termios.OPOST  # a newline begins a line, also one of ours
            if not self._escapes:
                mode[3] |= termios.ISIG  # there is no other key that ends us
            termios.tcsetattr(0, termios.TCSANOW, mode)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._kept is not None:
            with suppress(termios.error):  # the terminal is gone
                termios.tcsetattr(0, termios.TCSADRAIN, self._kept)

    def attend(self, monitor: Monitor, end: Callable[[], None]) -> None:
        """Give it a monitor, and what Ctrl-A x does."""
        self._monitor, self._greet, self._end = monitor.feed, monitor.greet, end

    def listen(self, inputs: Inputs, feed: Feed) -> None:
        """What is typed is looked at from now on; what is for the guest goes to `feed`."""
        self._console = feed

        def ready() -> None:
            data = b""
            with suppress(OSError):  # it was closed, or the terminal is gone
                data = os.read(0, 4096)
            if data:
                self.typed(data)
            else:
                inputs.remove(0)

        inputs.add(0, ready)
        if self._monitored:
            self._greet()

    def write(self, data: bytes) -> None:
        """Output of the guest, or of the monitor."""
        while data:
            data = data[os.write(1, data) :]

    def typed(self, data: bytes) -> None:
        """Input, without what is for us, for the guest or the monitor."""
        passed = bytearray()
        for byte in data:
            if not self._escapes or (byte != ESCAPE and not self._escaped):
                passed.append(byte)
            elif not self._escaped:
                self._escaped = True
            else:
                self._escaped = False
                if byte == ESCAPE:
                    passed.append(byte)
                elif byte in b"cC":
                    self._pass(passed)
                    self._monitored = not self._monitored
                    if self._monitored:
                        self._greet()
                    else:
                        self.write(b"\n")
                elif byte in b"xX":
                    self._pass(passed)
                    self._end()
                elif byte in b"hH?":
                    self.write(HELP)
        self._pass(passed)

    def _pass(self, data: bytearray) -> None:
        if data:
            (self._monitor if self._monitored else self._console)(bytes(data))
            data.clear()
