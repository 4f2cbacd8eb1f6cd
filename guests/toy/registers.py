"""The toy's register list. The notes keep all of it in one structure in memory; so does every guest here.

Owns: slot numbers and names. Must not know: instructions.
"""

from __future__ import annotations

from typing import Any

from guests.spec import Register

R = 0  # r0-r31, all of them ordinary
LR = 32  # where an interrupt came from
IE = 33  # 1: interrupts are enabled
NONE = 34  # stands in for what the toy has not (rounding mode, zero register, ...): nobody names it, it stays 0
SLOTS = 35

REGISTERS = (
    *(Register(f"r{i}", R + i, "r") for i in range(32)),
    Register("lr", LR, "system"),
    Register("ie", IE, "system"),
)


def link(domain: Any) -> None:
    """Give a domain the register files that the toy's bodies index: r, and s (any slot by number)."""
    file = domain.files()
    domain.r = file(R, 32)
    domain.s = file(0, SLOTS)
