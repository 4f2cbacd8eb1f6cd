"""What `dragoman.run` gives back. Owns: the record. Must not know: how anything is run."""

from __future__ import annotations

from typing import Any

from ir.records import field, record


@record(frozen=True)
class Result:
    """How a guest program ended. Exactly one of `status` and `signal` is set, unless a limit ended the run."""

    status: int | None  # exit status
    signal: int | None  # the signal that killed the guest
    stdout: bytes  # empty if it was not captured
    stderr: bytes
    instructions: int  # guest instructions retired
    stats: dict[str, Any] = field(repr=False)  # counts of the run: `Process.stats()`
    reason: str = ""  # one line on the signal: fault, pc, symbol, instruction
