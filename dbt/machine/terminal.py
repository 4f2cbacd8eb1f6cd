"""The host's terminal as a machine's console, with QEMU's escape: Ctrl-A x ends it.

While a machine runs, its terminal is raw: the guest sees each key, Ctrl-C too. Owns: the terminal's mode, the escape.
Must not know: what the guest makes of it.
"""

from __future__ import annotations

import os
import termios
import tty
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from dbt.machine.boards import Board
from dbt.machine.exits import SYSTEM_EVENT_SHUTDOWN, SystemEvent
from dbt.machine.outside import Outside

ESCAPE = 1  # Ctrl-A
HELP = b"\r\nCtrl-A h  this help\r\nCtrl-A x  end\r\nCtrl-A Ctrl-A  send Ctrl-A\r\n"


class Terminal:
    """Standard input and output. What is typed goes nowhere until it is connected."""

    def __init__(self) -> None:
        self._feed: Callable[[bytes], None] = lambda data: None
        self._end: Callable[[], None] = lambda: None
        self._escaped = False
        self._kept: list[Any] | None = None
        self.interactive = os.isatty(0)

    def __enter__(self) -> Terminal:
        if self.interactive:
            self._kept = termios.tcgetattr(0)
            tty.setraw(0)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._kept is not None:
            with suppress(termios.error):  # the terminal is gone
                termios.tcsetattr(0, termios.TCSADRAIN, self._kept)

    def connect(self, board: Board) -> None:
        """Input goes to the board's console, time is the host's, and Ctrl-A x ends the machine."""
        self._feed = board.console.feed
        self._end = lambda: board.vm.end(SystemEvent(SYSTEM_EVENT_SHUTDOWN))
        board.vm.outside = Outside(board.vm.clock, 0, self.typed)

    def write(self, data: bytes) -> None:
        """Output of the guest."""
        while data:
            data = data[os.write(1, data) :]

    def typed(self, data: bytes) -> None:
        """Input for the guest; from a terminal, without what is for us."""
        if not self.interactive:
            self._feed(data)
            return
        passed = bytearray()
        for byte in data:
            if self._escaped:
                self._escaped = False
                if byte in b"xX":
                    self._end()
                elif byte in b"hH":
                    self.write(HELP)
                elif byte == ESCAPE:
                    passed.append(byte)
            elif byte == ESCAPE:
                self._escaped = True
            else:
                passed.append(byte)
        self._feed(bytes(passed))
