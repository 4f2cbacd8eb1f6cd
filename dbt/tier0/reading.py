"""What the copier made, for people: which stencils a block's code is, and what its holes were filled with.

The library is looked at as the copier does (`dbt.tier0.layout`), and the code is read where it lies: what is said of a
hole stands there. Bytes that are in no hole must be the stencil's own, or this is not what the copier made.
Owns: that reading. Must not know: why code was copied, how it is shown.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import NamedTuple

from dbt.state import SLOTS
from dbt.tier0 import layout as lib
from dbt.tier0.copier import SEGMENT

KINDS = {
    lib.IMM: "immediate", lib.SMALL: "immediate", lib.FAR: "register", lib.READ: "register",
    lib.WRITTEN: "register written", lib.PC: "pc", lib.FOLLOWING: "next pc",
    lib.OUT_NEXT: "next instruction", lib.OUT_TAKEN: "branch taken", lib.OUT_MISS: "directory",
    lib.OUT_SIDE: "side exit", lib.BEHIND: "instructions behind", lib.ACCESS: "access that may fault",
    lib.OUT_HEAD: "out of the head", lib.OUT_LEAVE: "monitor", lib.OUT_AT_HEAD: "event", lib.OUT_NATIVE: "native code",
}  # fmt: skip
PARAMETERS = {
    "head": {0: "price of the segment", 1: "counter", 2: "an execution counts for"},
    "segment": {0: "price of the segment"}, "callout": {1: "given back", 2: "reason"},
}  # fmt: skip
_WIDE = {lib.PC, lib.FOLLOWING, lib.PARAM64}
_OUT = {lib.OUT_NEXT, lib.OUT_TAKEN, lib.OUT_MISS, lib.OUT_SIDE, lib.OUT_HEAD, lib.OUT_LEAVE, lib.OUT_AT_HEAD,
        lib.OUT_NATIVE}  # fmt: skip
_BYTES = {lib.READ, lib.WRITTEN, lib.SMALL}
_SIZES = {lib.ACCESS: 0, **dict.fromkeys(_WIDE, 8), **dict.fromkeys(_BYTES, 1)}


class Hole(NamedTuple):
    """`value`: a number, the displacement of a register's slot in the CPU state, or the host address of a way out."""

    offset: int
    kind: str
    value: int


class Piece(NamedTuple):
    """A stencil as it was copied: `pc` of the guest instruction, None for what is no instruction; its name then."""

    pc: int | None
    name: str
    address: int
    code: bytes
    holes: tuple[Hole, ...]


class _Stencil(NamedTuple):
    code: bytes
    holes: list[tuple[int, int, int, int]]  # offset, kind, argument, addend


class NotCopied(ValueError):
    """The code is not what the copier makes of these instructions."""


class Reading:
    """The stencils of one library."""

    def __init__(self, library: bytes) -> None:
        self._library = library

    def block(
        self, words: Iterable[tuple[int, int, int, bool]], head: int, bytes_at: Callable[[int, int], bytes]
    ) -> list[Piece]:
        """The pieces at `head`, of instructions (pc, word, length, whether it ends the block) one behind the other.

        Raises NotCopied.
        """
        pieces = [self._special("head", head, bytes_at)]
        at = head + len(pieces[0].code)
        for count, (pc, word, length, ends) in enumerate(words, 1):
            form = self._form(word, length)
            if not form:
                pieces.append(self._special("callout", at, bytes_at))
                break
            pieces.append(self._piece(pc, "", self._stencil(self._word(form)), at, bytes_at))
            at += len(pieces[-1].code)
            if count % SEGMENT == 0 and not ends:
                pieces.append(self._special("segment", at, bytes_at))
                at += len(pieces[-1].code)
        return pieces

    def _word(self, at: int) -> int:
        return int(struct.unpack_from("<I", self._library, at)[0])

    def _stencil(self, at: int) -> _Stencil:
        size, count, code = struct.unpack_from("<3I", self._library, at)
        holes = [struct.unpack_from("<3Ii", self._library, at + 12 + 16 * n) for n in range(count)]
        return _Stencil(self._library[code : code + size], holes)

    def _form(self, word: int, length: int) -> int:
        """Where the form of an instruction is; 0 if the monitor executes it."""
        if length == 2:
            return self._word(self._word(4 * lib.HEADER.index("parcels")) + 4 * word)
        pair = self._word(4 * lib.HEADER.index("buckets")) + 8 * (word >> 2 & 31 | (word >> 12 & 7) << 5)
        first, count = struct.unpack_from("<2I", self._library, pair)
        for n in range(count):
            mask, match, form = struct.unpack_from("<3I", self._library, first + 12 * n)
            if word & mask == match:
                return int(form)
        return 0

    def _special(self, name: str, at: int, bytes_at: Callable[[int, int], bytes]) -> Piece:
        return self._piece(None, name, self._stencil(self._word(4 * lib.HEADER.index(name))), at, bytes_at)

    def _piece(
        self, pc: int | None, name: str, stencil: _Stencil, at: int, bytes_at: Callable[[int, int], bytes]
    ) -> Piece:
        code = bytes_at(at, len(stencil.code))
        rest = bytearray(code)
        holes = []
        for offset, kind, argument, addend in stencil.holes:
            size = _SIZES.get(kind, 4)
            first, value = offset, int.from_bytes(code[offset : offset + size], "little", signed=size in (1, 4))
            if kind == lib.WRITTEN and code[offset - 3 : offset + 1] == addend.to_bytes(4, "little"):
                first, value = offset - 3, SLOTS  # the register that is always zero is not written
            rest[first : offset + size] = stencil.code[first : offset + size]
            if kind in _OUT:
                value += at + offset - addend
            elif kind == lib.IMM:
                value -= addend
            called = KINDS.get(kind) or PARAMETERS.get(name, {}).get(argument, "guest address")
            holes.append(Hole(offset, called, value))
        if rest != stencil.code:
            raise NotCopied(f"the code at {at:#x} is not made of a stencil")
        return Piece(pc, name, at, code, tuple(holes))
