"""An ELF relocatable object, as LLVM writes it, taken apart: the bytes of .text, constants behind them, where each
function begins, the closed list of relocations that our loader applies, and the table of accesses that may fault.

Anything else in the object (writable data, a call) is refused, for such code could not be moved or kept.
Owns: that format. Must not know: LLVM, what the functions mean, where the code will live.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from dbt.code import Code, CodegenError, Relocation
from dbt.line_table import LineTable

R_X86_64_64, R_X86_64_PC32, R_X86_64_PLT32, R_X86_64_32, R_X86_64_32S, R_X86_64_8 = 1, 2, 4, 10, 11, 14
_FUNCTION = 2  # kind of a symbol


class Section(NamedTuple):
    """A header of a section (elf(5), Elf64_Shdr)."""

    name: int
    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int
    entry_size: int


class Symbol(NamedTuple):
    """An entry of the symbol table."""

    name: str
    kind: int
    section: int  # 0: it is not defined here
    value: int
    size: int


class ObjectFile:
    """Sections by name with their numbers, and symbols in order."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        (sections_at,) = struct.unpack_from("<Q", data, 40)
        count, names_index = struct.unpack_from("<HH", data, 60)
        sections = [Section(*struct.unpack_from("<IIQQQQIIQQ", data, sections_at + 64 * i)) for i in range(count)]
        self.named = {self._string(sections[names_index], one.name): (i, one) for i, one in enumerate(sections)}
        self.text = self.named[".text"][0]
        table = self.named[".symtab"][1]
        strings = sections[table.link]
        self.symbols = []
        for at in range(table.offset, table.offset + table.size, 24):
            name, info, _, section, value, size = struct.unpack_from("<IBBHQQ", data, at)
            self.symbols.append(Symbol(self._string(strings, name), info & 15, section, value, size))

    def _string(self, table: Section, at: int) -> str:
        start = table.offset + at
        return self._data[start : self._data.index(0, start)].decode()

    def body(self, section: Section) -> bytes:
        return self._data[section.offset : section.offset + section.size]

    def functions(self) -> list[Symbol]:
        """Those of .text."""
        return [one for one in self.symbols if one.kind == _FUNCTION and one.section == self.text]

    def relocations(self, section: str) -> list[tuple[int, int, Symbol, int]]:
        """Of a section by its name: (offset, type, symbol, addend)."""
        if ".rela" + section not in self.named:
            return []
        entries = struct.iter_unpack("<QQq", self.body(self.named[".rela" + section][1]))
        return [(at, info & 0xFFFFFFFF, self.symbols[info >> 32], addend) for at, info, addend in entries]

    def refuse(self, beginnings: tuple[str, ...], why: str) -> None:
        """Raise CodegenError if a section whose name begins so holds anything."""
        for name, (_, section) in self.named.items():
            if name.startswith(beginnings) and section.size:
                raise CodegenError(why.format(name))


def read_object(data: bytes) -> Code:
    """The code of an object of regions, or of the runtime; raises CodegenError for what we cannot place."""
    file = ObjectFile(data)
    file.refuse((".data", ".bss", ".ltext", ".lrodata", ".text."),
                "the object has a section {}, which cannot be placed")  # fmt: skip
    functions = {one.name: (one.value, one.size) for one in file.functions()}
    code = bytearray(file.body(file.named[".text"][1]))
    constants = len(code)
    starts = {file.text: 0}
    for name, (index, section) in file.named.items():
        if name.startswith(".rodata") and section.size:
            code.extend(bytes(-len(code) % section.alignment))
            if len(starts) == 1:
                constants = len(code)
            starts[index] = len(code)
            code.extend(file.body(section))
    relocations = []
    for offset, kind, symbol, addend in file.relocations(".text"):
        if kind in (R_X86_64_32, R_X86_64_32S) and symbol.section == 0:
            relocations.append(Relocation(offset, symbol.name, addend))
        elif kind in (R_X86_64_PC32, R_X86_64_PLT32) and symbol.section in starts:
            struct.pack_into("<i", code, offset, starts[symbol.section] + symbol.value + addend - offset)
        else:
            raise CodegenError(f"the object has a relocation of type {kind} to {symbol.name or 'a section'}")
    ends = []
    for offset, kind, symbol, addend in file.relocations(".ext"):
        if kind != R_X86_64_PC32 or symbol.section != file.text:
            raise CodegenError("the object's fault table is not relative to its code")
        ends.append((offset, symbol.value + addend))
    ends.sort()
    table = [target for _, target in ends]
    return Code(bytes(code), functions, tuple(relocations), tuple(zip(table[::2], table[1::2])), constants)


def read_lines(data: bytes) -> LineTable:
    """The table of lines of an object whose code is all in .text."""
    file = ObjectFile(data)
    places = {at: symbol.value + addend for at, _, symbol, addend in file.relocations(".debug_line")}
    return LineTable(file.body(file.named[".debug_line"][1]), places)
