"""Call frame information: what the compiler wrote into a file about where a function's caller has its registers.

The tables are those of .eh_frame (DWARF 5, section 6.4; Linux Standard Base, Core, sections 10.5 and 10.6), found
through PT_GNU_EH_FRAME. Owns: finding and reading them, whatever bytes they hold. Must not know: memory, registers'
values, any architecture. What is not understood is refused by `Unusable`, whose message is a clause.
"""

from __future__ import annotations

from typing import NamedTuple

from dbt.elf import Image

_ABSENT = 0xFF  # DW_EH_PE_omit
_SEARCHED = 0x3B  # DW_EH_PE_datarel | DW_EH_PE_sdata4: the one form of the table that linkers write
_RELATIVE_TO_PC, _RELATIVE_TO_HEADER, _INDIRECT = 0x10, 0x30, 0x80
_FIXED = {0: 8, 2: 2, 3: 4, 4: 8, 0xA: 2, 0xB: 4, 0xC: 8}  # bytes by the low half of an encoding; signed from 8 on
_MASK = (1 << 64) - 1


class Unusable(Exception):
    """The information is damaged, or says something that we do not evaluate; the message is a clause."""


class Rule(NamedTuple):
    """How the caller's value of a register is found: kind "undefined", "same", "offset" (in memory, `value` from the
    CFA), "value" (it is the CFA plus that), "register" (in that one) or "expression"."""

    kind: str
    value: int = 0


class Row(NamedTuple):
    """What holds at one address. The CFA is a register's value plus an offset; None: an expression gives it."""

    cfa: tuple[int, int] | None
    rules: dict[int, Rule]  # by DWARF number; a register that is absent keeps its value
    return_column: int
    signal: bool  # the frame of a signal: its caller was interrupted, so that its pc is not behind a call


class _Bytes:
    """A place in a file, with the address that it has in memory."""

    def __init__(self, image: Image, address: int) -> None:
        segment = next((s for s in image.segments if s.address <= address < s.address + s.file_size), None)
        if segment is None:
            raise Unusable("its frame information lies outside the file")
        self.data = image.data
        self.bias = segment.address - segment.offset
        self.at = address - self.bias
        self.end = segment.offset + segment.file_size

    @property
    def address(self) -> int:
        return self.at + self.bias

    def part(self, length: int) -> _Bytes:
        """The next bytes, to be read by themselves; we go on behind them."""
        if not 0 <= length <= self.end - self.at:
            raise Unusable("its frame information is damaged")
        found: _Bytes = object.__new__(_Bytes)
        found.data, found.bias, found.at, found.end = self.data, self.bias, self.at, self.at + length
        self.at += length
        return found

    def raw(self, length: int) -> bytes:
        part = self.part(length)
        return part.data[part.at : part.end]

    def fixed(self, length: int, signed: bool = False) -> int:
        return int.from_bytes(self.raw(length), "little", signed=signed)

    def leb(self, signed: bool = False) -> int:
        value = shift = 0
        while True:
            byte = self.fixed(1)
            value |= (byte & 127) << shift
            shift += 7
            if not byte & 128:
                return value - (1 << shift) if signed and byte & 64 else value
            if shift > 63:
                raise Unusable("its frame information is damaged")

    def text(self) -> bytes:
        end = self.data.find(b"\0", self.at, self.end)
        if end < 0:
            raise Unusable("its frame information is damaged")
        found = self.data[self.at : end]
        self.at = end + 1
        return found

    def pointer(self, encoding: int, header: int = 0) -> int:
        """A value in one of the encodings DW_EH_PE_*; where it is behind a pointer, the address of that."""
        base = {0: 0, _RELATIVE_TO_PC: self.address, _RELATIVE_TO_HEADER: header}.get(encoding & 0x70)
        form = encoding & 15
        if base is None or (form not in _FIXED and form not in (1, 9)):
            raise Unusable(f"its frame information has addresses in the encoding {encoding:#x}")
        value = self.fixed(_FIXED[form], form >= 8) if form in _FIXED else self.leb(form == 9)
        return base + value & _MASK


class _Common(NamedTuple):
    """A CIE: what several functions have in common."""

    code_factor: int
    data_factor: int
    return_column: int
    encoding: int
    augmented: bool
    signal: bool
    instructions: _Bytes


def row_at(image: Image, address: int) -> Row | None:
    """What holds at an unbiased address; None: nothing is said of it. Unusable."""
    entry = _find(image, address)
    if entry is None:
        return None
    common, begin, instructions = entry
    machine = _Machine(common, begin)
    machine.execute(common.instructions, address)
    machine.initial = dict(machine.rules)
    machine.location = begin
    machine.execute(instructions, address)
    return Row(machine.cfa, machine.rules, common.return_column, common.signal)


def _find(image: Image, address: int) -> tuple[_Common, int, _Bytes] | None:
    """The FDE of an address: its CIE, where its function begins, its instructions."""
    if not image.frame_header:
        return None
    header = _Bytes(image, image.frame_header)
    version, pointer_encoding, count_encoding, table_encoding = header.raw(4)
    if version != 1 or pointer_encoding == _ABSENT:
        raise Unusable("its frame information has an unknown form")
    frames = header.pointer(pointer_encoding, image.frame_header)
    if count_encoding == _ABSENT or table_encoding != _SEARCHED:
        return _walk(image, frames, address)
    count = header.pointer(count_encoding, image.frame_header)
    table = header.part(8 * count)
    low, high = 0, count  # the last entry that begins at or before the address is below `high`
    while low < high:
        middle = (low + high) // 2
        at = table.at + 8 * middle
        if int.from_bytes(table.data[at : at + 4], "little", signed=True) + image.frame_header <= address:
            low = middle + 1
        else:
            high = middle
    if low == 0:
        return None
    at = table.at + 8 * low - 4
    place = int.from_bytes(table.data[at : at + 4], "little", signed=True) + image.frame_header
    found = _entry(image, _Bytes(image, place))
    return _covering(found, address) if found else None


def _walk(image: Image, frames: int, address: int) -> tuple[_Common, int, _Bytes] | None:
    reader = _Bytes(image, frames)
    while reader.at < reader.end:
        before = reader.at
        found = _entry(image, reader)
        if reader.at - before == 4:  # the terminator, of length 0
            return None
        if found and (covering := _covering(found, address)):
            return covering
    return None


_Entry = tuple[_Common, int, int, _Bytes]


def _covering(entry: _Entry, address: int) -> tuple[_Common, int, _Bytes] | None:
    common, begin, length, instructions = entry
    return (common, begin, instructions) if begin <= address < begin + length else None


def _record(reader: _Bytes) -> _Bytes:
    length = reader.fixed(4)
    return reader.part(reader.fixed(8) if length == 0xFFFFFFFF else length)


def _entry(image: Image, reader: _Bytes) -> _Entry | None:
    """The record at `reader`: an FDE, with its CIE; None for anything else."""
    record = _record(reader)
    if record.at == record.end:
        return None
    place = record.address
    back = record.fixed(4)
    if back == 0:
        return None
    common = _common(_record(_Bytes(image, place - back)))
    begin = record.pointer(common.encoding)
    length = record.pointer(common.encoding & 15)
    if common.augmented:
        record.part(record.leb())
    return common, begin, length, record


def _common(record: _Bytes) -> _Common:
    if record.fixed(4) != 0:
        raise Unusable("its frame information is damaged")
    version = record.fixed(1)
    augmentation = record.text()
    if version not in (1, 3) or (augmentation and not augmentation.startswith(b"z")):
        raise Unusable("its frame information has an unknown form")
    code_factor, data_factor = record.leb(), record.leb(signed=True)
    return_column = record.fixed(1) if version == 1 else record.leb()
    encoding, signal = 0, False
    if augmentation:
        data = record.part(record.leb())
        for letter in augmentation[1:].decode("latin-1"):
            if letter == "R":
                encoding = data.fixed(1)
            elif letter == "P":
                data.pointer(data.fixed(1) & ~_INDIRECT)
            elif letter == "L":
                data.fixed(1)
            elif letter == "S":
                signal = True
            else:
                raise Unusable(f"its frame information has the unknown augmentation {letter!r}")
    return _Common(code_factor, data_factor, return_column, encoding, bool(augmentation), signal, record)


class _Machine:
    """The interpreter of call frame instructions (DW_CFA_*)."""

    def __init__(self, common: _Common, begin: int) -> None:
        self.common = common
        self.location = begin
        self.cfa: tuple[int, int] | None = (-1, 0)  # of no register, to begin with: compilers give one and keep the 0
        self.rules: dict[int, Rule] = {}
        self.initial: dict[int, Rule] = {}  # what the CIE says, which a register can be given back
        self._kept: list[tuple[tuple[int, int] | None, dict[int, Rule]]] = []

    def execute(self, code: _Bytes, address: int) -> None:
        """Up to what holds at `address`."""
        while code.at < code.end:
            opcode = code.fixed(1)
            high, low = opcode & 0xC0, opcode & 0x3F
            if high == 0x40 or opcode in (1, 2, 3, 4):
                if high:
                    self.location += low * self.common.code_factor
                elif opcode == 1:
                    self.location = code.pointer(self.common.encoding)
                else:
                    self.location += code.fixed(1 << opcode - 2) * self.common.code_factor
                if self.location > address:
                    return
            elif high == 0x80:
                self.rules[low] = Rule("offset", code.leb() * self.common.data_factor)
            elif high == 0xC0:
                self._restore(low)
            else:
                self._extended(opcode, code)

    def _restore(self, register: int) -> None:
        if register in self.initial:
            self.rules[register] = self.initial[register]
        else:
            self.rules.pop(register, None)

    def _extended(self, opcode: int, code: _Bytes) -> None:
        factor = self.common.data_factor
        if opcode == 0x00:  # nop
            pass
        elif opcode in (0x05, 0x11, 0x14, 0x15):  # offset_extended, offset_extended_sf, val_offset, val_offset_sf
            register = code.leb()
            kind = "value" if opcode >= 0x14 else "offset"
            self.rules[register] = Rule(kind, code.leb(signed=opcode in (0x11, 0x15)) * factor)
        elif opcode == 0x06:  # restore_extended
            self._restore(code.leb())
        elif opcode == 0x07:
            self.rules[code.leb()] = Rule("undefined")
        elif opcode == 0x08:  # same_value
            self.rules[code.leb()] = Rule("same")
        elif opcode == 0x09:
            register = code.leb()
            self.rules[register] = Rule("register", code.leb())
        elif opcode == 0x0A:  # remember_state
            self._kept.append((self.cfa, dict(self.rules)))
        elif opcode == 0x0B:  # restore_state
            if not self._kept:
                raise Unusable("its frame information is damaged")
            self.cfa, self.rules = self._kept.pop()
        elif opcode in (0x0C, 0x12):  # def_cfa, def_cfa_sf
            register = code.leb()
            self.cfa = register, code.leb(signed=True) * factor if opcode == 0x12 else code.leb()
        elif opcode in (0x0D, 0x0E, 0x13):  # def_cfa_register, def_cfa_offset, def_cfa_offset_sf
            if self.cfa is None:
                raise Unusable("its frame information is damaged")
            if opcode == 0x0D:
                self.cfa = code.leb(), self.cfa[1]
            else:
                self.cfa = self.cfa[0], code.leb(signed=True) * factor if opcode == 0x13 else code.leb()
        elif opcode == 0x0F:  # def_cfa_expression
            code.part(code.leb())
            self.cfa = None
        elif opcode in (0x10, 0x16):  # expression, val_expression
            register = code.leb()
            code.part(code.leb())
            self.rules[register] = Rule("expression")
        elif opcode == 0x2E:  # GNU_args_size
            code.leb()
        else:
            raise Unusable(f"its frame information has the unknown instruction {opcode:#x}")
