"""What a demonstration writes while it runs, and whether all that it claimed held.

Owns: the layout of the output, the list of failures. Must not know: what is demonstrated.
"""

from __future__ import annotations

from collections.abc import Callable


class Report:
    """Given to a row's function: `say`, `show` and `figure` write, `check` writes and decides."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self.checks = 0
        self.failures: list[str] = []

    @property
    def holds(self) -> bool:
        """Whether something was checked and all of it was true."""
        return self.checks > 0 and not self.failures

    def say(self, text: str) -> None:
        """A sentence: what is run now, or what was seen."""
        self._write(f"  {text}")

    def show(self, text: str) -> None:
        """A listing, indented."""
        for line in text.splitlines():
            self._write(f"      {line}")

    def figure(self, name: str, value: object) -> None:
        """A measured value with its name."""
        shown = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
        self._write(f"    {name:<44} {shown}")

    def check(self, holds: bool, what: str) -> bool:
        """One thing that has to be true; returns whether it is."""
        self.checks += 1
        if not holds:
            self.failures.append(what)
        self._write(f"    [{'ok' if holds else 'NO'}] {what}")
        return holds
