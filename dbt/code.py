"""Machine code that was made and not yet placed: bytes, and the closed list of what they still need.

It holds no host address, so it can lie anywhere, and be kept on disk for another process.
Owns: the record. Must not know: LLVM, what the code does, where it will live.
"""

from __future__ import annotations

from typing import NamedTuple

from ir.records import record


class CodegenError(RuntimeError):
    """LLVM refused the text, or made an object that our loader cannot place."""


class Relocation(NamedTuple):
    """A 32-bit field at `offset` of the code that takes the value of `symbol` plus `addend`."""

    offset: int
    symbol: str
    addend: int


@record(frozen=True)
class Code:
    """Position-independent machine code of one module."""

    text: bytes
    functions: dict[str, tuple[int, int]]  # name -> (offset, size)
    relocations: tuple[Relocation, ...]
    faults: tuple[tuple[int, int], ...]  # (offset of the access, offset of its landing)
    constants: int  # offset of the constants, which reach to the end of `text`
