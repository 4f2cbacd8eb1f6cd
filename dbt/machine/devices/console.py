"""The machine's end of a console: bytes to the host, and bytes that wait for the guest.

Owns: the queue of input. Must not know: terminals, or which device the guest reads from.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from dbt.blake2 import blake2b


class Console:
    """`output` takes what the guest writes. `arrived` is called when input has come for it."""

    def __init__(self, output: Callable[[bytes], None]) -> None:
        self.output = output
        self.written = ""  # a digest of all that the guest has written
        self.arrived: Callable[[], None] = lambda: None
        self._input: deque[int] = deque()

    def feed(self, data: bytes) -> None:
        """Input from the host."""
        self._input.extend(data)
        if data:
            self.arrived()

    def write(self, data: bytes) -> None:
        """Output of the guest."""
        self.written = blake2b(self.written.encode() + data, digest_size=16).hexdigest()
        self.output(data)

    def get(self) -> int | None:
        """The next byte of input, or None."""
        return self._input.popleft() if self._input else None

    def __len__(self) -> int:
        """Bytes that wait."""
        return len(self._input)
