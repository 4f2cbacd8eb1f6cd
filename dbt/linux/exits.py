"""What a system call may lead to besides a result, as exceptions that leave `Kernel.call`: the guest's end, another
program, another process, the return from a signal handler.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dbt.linux.programs import Program


class ExitGroup(Exception):
    """The guest called exit or exit_group."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Killed(Exception):
    """A signal ends the guest. `outside`: another process has sent it."""

    def __init__(self, signal: int, outside: bool = False) -> None:
        super().__init__(signal)
        self.signal = signal
        self.outside = outside


class Executed(Exception):
    """Another program is to take the place of this one: nothing can go back to the old one any more."""

    def __init__(self, program: Program, env: list[bytes]) -> None:
        super().__init__(program, env)
        self.program = program
        self.env = env


class Forked(Exception):
    """We are a child now, whose guest goes on with 0, on `stack` and with this thread pointer if they are not None."""

    def __init__(self, stack: int | None, thread_pointer: int | None) -> None:
        super().__init__(stack, thread_pointer)
        self.stack = stack
        self.thread_pointer = thread_pointer


class Resumed(Exception):
    """The call has no result of its own: registers come from the frame of a signal handler."""


class ThreadEnded(Exception):
    """The guest's thread called exit: its process goes on if there are others."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Waits(Exception):
    """The call has to wait, and there are other threads: it is made again when what it waits for may have come."""


class Yields(Exception):
    """The thread gives its turn up; its call gives 0."""
