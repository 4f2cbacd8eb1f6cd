"""The table of lines in an object file: which line of its source each piece of code is for (DWARF 4, section 6.2).

Owns: that format, as far as LLVM writes it for one function. Must not know: what a line is.
"""

from __future__ import annotations

import struct

_COPY, _ADVANCE_PC, _ADVANCE_LINE, _CONST_ADD_PC, _FIXED_ADVANCE_PC = 1, 2, 3, 8, 9  # standard opcodes
_END, _SET_ADDRESS = 1, 2  # of the extended opcodes


class LineTable:
    """Rows of (first offset of a piece of code, line), in order; the last is the end, with line 0."""

    def __init__(self, program: bytes, addresses: dict[int, int]) -> None:
        """`addresses`: what a relocation puts at an offset of the program."""
        self.rows: list[tuple[int, int]] = []
        self._data, self._at, self._addresses = program, 0, addresses
        while self._at < len(program):
            self._unit()
        self.rows.sort(key=lambda row: row[0])

    def line(self, offset: int) -> int:
        """The line of the code at an offset, 0 if there is none."""
        found = 0
        for start, line in self.rows:
            if start > offset:
                break
            found = line
        return found

    def _take(self, form: str) -> int:
        (value,) = struct.unpack_from(f"<{form}", self._data, self._at)
        self._at += struct.calcsize(f"<{form}")
        return int(value)

    def _leb(self, signed: bool = False) -> int:
        value = shift = 0
        while True:
            byte = self._take("B")
            value |= (byte & 127) << shift
            shift += 7
            if not byte & 128:
                return value - (1 << shift) if signed and byte & 64 else value

    def _unit(self) -> None:
        end = self._take("I") + self._at
        version = self._take("H")
        if version != 4:
            raise ValueError(f"a table of lines of DWARF {version}, and not 4")
        start = self._take("I") + self._at
        unit, _, _ = self._take("B"), self._take("B"), self._take("B")
        base, step, first = self._take("b"), self._take("B"), self._take("B")
        lengths = [self._take("B") for _ in range(first - 1)]
        self._at = start
        address, line = 0, 1
        while self._at < end:
            opcode = self._take("B")
            if opcode >= first:
                address += (opcode - first) // step * unit
                line += base + (opcode - first) % step
                self.rows.append((address, line))
            elif opcode == 0:
                length = self._leb()
                following = self._at + length
                kind = self._take("B")
                if kind == _SET_ADDRESS:
                    address = self._addresses.get(self._at, 0)
                elif kind == _END:
                    self.rows.append((address, 0))
                    address, line = 0, 1
                self._at = following
            elif opcode == _COPY:
                self.rows.append((address, line))
            elif opcode == _ADVANCE_PC:
                address += self._leb() * unit
            elif opcode == _ADVANCE_LINE:
                line += self._leb(signed=True)
            elif opcode == _CONST_ADD_PC:
                address += (255 - first) // step * unit
            elif opcode == _FIXED_ADVANCE_PC:
                address += self._take("H")
            else:  # of no interest here
                for _ in range(lengths[opcode - 1]):
                    self._leb()
