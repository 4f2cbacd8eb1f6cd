"""How a guest process ends, as exceptions that leave `Kernel.call`."""

from __future__ import annotations


class ExitGroup(Exception):
    """The guest called exit or exit_group."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Killed(Exception):
    """A signal ends the guest."""

    def __init__(self, signal: int) -> None:
        super().__init__(signal)
        self.signal = signal
