"""Machine code that was made and not yet placed: bytes, and the closed list of what they still need.

It holds no host address, so it can lie anywhere, be cut into its functions, and be kept on disk for another process.
Owns: the record. Must not know: LLVM, what the code does, where it will live.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from ir.records import record

CONSTANTS_ALIGN = 64  # what LLVM asks for at most


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
    references: tuple[tuple[int, int], ...]  # (offset of a 32-bit distance, offset of what it leads to)

    def split(self) -> dict[str, Code]:
        """Each function as code of its own, at offset 0; one that refers to constants has a copy of all of them."""
        return {name: self._piece(start, start + size) for name, (start, size) in self.functions.items()}

    def _piece(self, start: int, end: int) -> Code:
        text = bytearray(self.text[start:end])
        inside = [(at, to) for at, to in self.references if start <= at < end]
        constants = len(text)
        if any(to >= self.constants for _, to in inside):
            constants += (self.constants - constants) % CONSTANTS_ALIGN
            text.extend(bytes(constants - len(text)))
            text.extend(self.text[self.constants :])
        references = []
        for at, to in inside:
            if to >= self.constants:
                moved = to - self.constants + constants
            elif start <= to < end:
                moved = to - start
            else:
                raise CodegenError("a function refers to another one")
            (distance,) = struct.unpack_from("<i", text, at - start)
            struct.pack_into("<i", text, at - start, distance + (moved - (at - start)) - (to - at))
            references.append((at - start, moved))
        return Code(
            bytes(text),
            {name: (at - start, size) for name, (at, size) in self.functions.items() if at == start},
            tuple(
                Relocation(r.offset - start, r.symbol, r.addend) for r in self.relocations if start <= r.offset < end
            ),
            tuple((access - start, landing - start) for access, landing in self.faults if start <= access < end),
            constants,
            tuple(references),
        )
