"""The toy's traps and interrupts: numbers, the dispatch table, and what entering an interrupt does.

Owns: the notes' CPU_Vector. Must not know: when an interrupt is taken; that is the engine's or the lab's.
"""

from __future__ import annotations

from collections.abc import MutableSequence

from guests.toy.registers import IE, LR

HALT = 0  # not a fault: the program has ended
ILLEGAL_INSTRUCTION = 1
MISALIGNED = 2
FETCH_FAULT = 3
NAMES = {
    HALT: "halt",
    ILLEGAL_INSTRUCTION: "illegal instruction",
    MISALIGNED: "misaligned jump",
    FETCH_FAULT: "fetch fault",
}

INTERRUPT = 0  # the notes' EXC_INT
TABLE = {INTERRUPT: 0x11000}  # the notes' disTab: where each exception's handler is


def vector(slots: MutableSequence[int] | memoryview, pc: int, exception: int = INTERRUPT) -> int:
    """Enter an exception: interrupts off, the interrupted address in LR. Returns the handler's address."""
    slots[IE] = 0
    slots[LR] = pc
    return TABLE[exception]
