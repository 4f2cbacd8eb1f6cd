"""LLVM IR text in, code bytes out: the only module that imports llvmlite.

The object file is taken apart here: the bytes of .text, constants behind them, where each function begins,
the closed list of relocations that our loader applies, and the table of accesses that may fault. Anything
else in the object (writable data, a call) is refused, for such code could not be moved or kept.
Owns: LLVM. Must not know: what the functions mean, where the code will live.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import llvmlite.binding as llvm

from dbt.code import Code, CodegenError, Relocation
from dbt.line_table import LineTable
from dbt.tier0.layout import (
    ACCESS,
    FOLLOWING,
    OUT_AT_HEAD,
    OUT_HEAD,
    OUT_LEAVE,
    OUT_MISS,
    OUT_NATIVE,
    OUT_NEXT,
    OUT_SIDE,
    OUT_TAKEN,
    PARAM64,
    PC,
    READ,
    SMALL,
    WRITTEN,
)
from dbt.tier0.library import Stencil, hole_of

_R_X86_64_64, _R_X86_64_PC32, _R_X86_64_PLT32, _R_X86_64_32, _R_X86_64_32S, _R_X86_64_8 = 1, 2, 4, 10, 11, 14
_HOLES = {
    _R_X86_64_64: "wide", _R_X86_64_PC32: "out", _R_X86_64_PLT32: "out", _R_X86_64_32: "value",
    _R_X86_64_32S: "value", _R_X86_64_8: "byte",
}  # fmt: skip
_WIDTH = {
    PC: "wide", FOLLOWING: "wide", PARAM64: "wide",
    OUT_NEXT: "out", OUT_TAKEN: "out", OUT_MISS: "out", OUT_SIDE: "out", OUT_HEAD: "out", OUT_LEAVE: "out",
    OUT_AT_HEAD: "out", OUT_NATIVE: "out", READ: "byte", WRITTEN: "byte", SMALL: "byte",
}  # fmt: skip
_JUMP = 0xE9
OPTIONS = (  # of LLVM's code generation, for the whole process
    "-enable-tail-merge=false",  # every exit jumps for itself: better predicted
    "-disable-lsr",  # the guest's compiler has chosen induction variables; more of them cost registers and time
    "-disable-post-ra",  # a second scheduling, which gives nothing measurable
)


class Compiler:
    """One LLVM target machine. `optimisation` is its code-generation level, 0 to 3."""

    def __init__(self, triple: str, optimisation: int = 1) -> None:
        for option in OPTIONS:
            llvm.set_option("", option)
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        llvm.initialize_native_asmparser()
        self.cpu = llvm.get_host_cpu_name()
        self.features = llvm.get_host_cpu_features()
        # Of a choice between two floats LLVM makes a table; it must not be addressed absolutely.
        self.machine, self.stencil_machine = (
            llvm.Target.from_triple(triple).create_target_machine(
                cpu=self.cpu, features=self.features.flatten(), opt=optimisation, reloc=reloc, codemodel="small"
            )
            for reloc in ("pic", "static")
        )

        self._managers: dict[tuple[str, ...], Any] = {}

    def has(self, feature: str) -> bool:
        """Whether the host CPU has this feature, by LLVM's name."""
        return bool(self.features.get(feature))

    def compile(self, text: str, check: bool = False, passes: Sequence[str] | None = ()) -> Code:
        """Compile a module. `check` runs LLVM's verifier first. Raises CodegenError.

        `passes` are those of LLVM's, by llvmlite's names, that every function goes through; None: all of -O2.
        """
        return read_object(self.object(text, check, passes))

    def object(self, text: str, check: bool, passes: Sequence[str] | None) -> bytes:
        """The ELF object of this module."""
        return self.machine.emit_object(self._improved(text, check, passes))

    def traced(self, text: str, passes: Sequence[str] | None = ()) -> tuple[Code, LineTable, str]:
        """The same of a module with debug locations: the code, whose lines it is, and the text after the passes."""
        module = self._improved(text, True, passes)
        data = self.machine.emit_object(module)
        return read_object(data), read_lines(data), str(module)

    def _improved(self, text: str, check: bool, passes: Sequence[str] | None) -> Any:
        """LLVM's module of a text, after these passes. Raises CodegenError."""
        try:
            module = llvm.parse_assembly(text, llvm.create_context())
            if check:
                module.verify()
        except RuntimeError as error:
            raise CodegenError(str(error)) from error
        if passes is None:
            builder = llvm.create_pass_builder(self.machine, llvm.create_pipeline_tuning_options(speed_level=2))
            builder.getModulePassManager().run(module, builder)
        elif passes:
            # A builder keeps what each run registers with it, so each run has its own; a manager may be used again.
            builder = llvm.create_pass_builder(self.machine, llvm.create_pipeline_tuning_options(speed_level=2))
            manager = self._manager(tuple(passes))
            for function in module.functions:
                if not function.is_declaration:
                    manager.run(function, builder)
        return module

    def _manager(self, passes: tuple[str, ...]) -> Any:
        if passes not in self._managers:
            manager = self._managers[passes] = llvm.create_new_function_pass_manager()
            for name in passes:
                getattr(manager, f"add_{name}_pass")()
        return self._managers[passes]

    def stencils(self, text: str) -> dict[str, Stencil]:
        """Compile a module of stencils, each function by itself. Raises CodegenError."""
        return read_stencils(self.stencil_object(text))

    def stencil_object(self, text: str) -> bytes:
        """The ELF object of this module."""
        return self.stencil_machine.emit_object(self._improved(text, True, ()))


def read_object(data: bytes) -> Code:
    """Take an ELF relocatable object apart; raises CodegenError for what we cannot place."""
    (sections_at,) = struct.unpack_from("<Q", data, 40)
    count, names_index = struct.unpack_from("<HH", data, 60)
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, sections_at + 64 * i) for i in range(count)]
    strings = sections[names_index]

    def string(table: tuple[int, ...], at: int) -> str:
        start = table[4] + at
        return data[start : data.index(0, start)].decode()

    def body(section: tuple[int, ...]) -> bytes:
        return data[section[4] : section[4] + section[5]]

    named = {string(strings, s[0]): (i, s) for i, s in enumerate(sections)}
    text_index, text = named[".text"]
    symtab = named[".symtab"][1]
    symbol_names = sections[symtab[6]]
    symbols = [struct.unpack_from("<IBBHQQ", data, symtab[4] + 24 * i) for i in range(symtab[5] // 24)]
    functions = {string(symbol_names, s[0]): (s[4], s[5]) for s in symbols if s[1] & 15 == 2 and s[3] == text_index}
    code = bytearray(body(text))
    constants = len(code)
    starts = {text_index: 0}
    for name, (index, section) in named.items():
        if name.startswith(".rodata") and section[5]:
            alignment = section[8]
            code.extend(bytes(-len(code) % alignment))
            if len(starts) == 1:
                constants = len(code)
            starts[index] = len(code)
            code.extend(body(section))
        elif name.startswith((".data", ".bss", ".ltext", ".lrodata", ".text.")) and section[5]:
            raise CodegenError(f"the object has a section {name}, which cannot be placed")
    relocations = []
    for offset, info, addend in _relocations(data, named.get(".rela.text")):
        kind, symbol = info & 0xFFFFFFFF, symbols[info >> 32]
        name = string(symbol_names, symbol[0])
        if kind in (_R_X86_64_32, _R_X86_64_32S) and symbol[3] == 0:
            relocations.append(Relocation(offset, name, addend))
        elif kind in (_R_X86_64_PC32, _R_X86_64_PLT32) and symbol[3] in starts:
            struct.pack_into("<i", code, offset, starts[symbol[3]] + symbol[4] + addend - offset)
        else:
            raise CodegenError(f"the object has a relocation of type {kind} to {name or 'a section'}")
    ends = []
    for offset, info, addend in _relocations(data, named.get(".rela.ext")):
        if info & 0xFFFFFFFF != _R_X86_64_PC32 or symbols[info >> 32][3] != text_index:
            raise CodegenError("the object's fault table is not relative to its code")
        ends.append((offset, symbols[info >> 32][4] + addend))
    ends.sort()
    table = [target for _, target in ends]
    faults = tuple(zip(table[::2], table[1::2]))
    return Code(bytes(code), functions, tuple(relocations), faults, constants)


def read_lines(data: bytes) -> LineTable:
    """The table of lines of an object whose code is all in .text."""
    (sections_at,) = struct.unpack_from("<Q", data, 40)
    count, names_index = struct.unpack_from("<HH", data, 60)
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, sections_at + 64 * i) for i in range(count)]
    names = sections[names_index][4]
    named = {data[names + s[0] : data.index(0, names + s[0])].decode(): (i, s) for i, s in enumerate(sections)}
    symtab, program = named[".symtab"][1], named[".debug_line"][1]
    values = [struct.unpack_from("<IBBHQQ", data, symtab[4] + 24 * i)[4] for i in range(symtab[5] // 24)]
    places = {at: values[info >> 32] + addend for at, info, addend in _relocations(data, named.get(".rela.debug_line"))}
    return LineTable(data[program[4] : program[4] + program[5]], places)


def read_stencils(data: bytes) -> dict[str, Stencil]:
    """The functions of an object as stencils, by name; raises CodegenError for what cannot be copied."""
    (sections_at,) = struct.unpack_from("<Q", data, 40)
    count, names_index = struct.unpack_from("<HH", data, 60)
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, sections_at + 64 * i) for i in range(count)]

    def string(table: tuple[int, ...], at: int) -> str:
        start = table[4] + at
        return data[start : data.index(0, start)].decode()

    named = {string(sections[names_index], s[0]): (i, s) for i, s in enumerate(sections)}
    for name, (_, section) in named.items():
        if name.startswith((".data", ".bss", ".ltext", ".lrodata", ".text.", ".rodata")) and section[5]:
            raise CodegenError(f"the object has a section {name}, which a stencil cannot have")
    text_index, text = named[".text"]
    symtab = named[".symtab"][1]
    symbols = [struct.unpack_from("<IBBHQQ", data, symtab[4] + 24 * i) for i in range(symtab[5] // 24)]
    names = [string(sections[symtab[6]], s[0]) for s in symbols]
    fields = []
    for offset, info, addend in _relocations(data, named.get(".rela.text")):
        kind, name = info & 0xFFFFFFFF, names[info >> 32]
        if symbols[info >> 32][3] or kind not in _HOLES:
            raise CodegenError(f"a stencil has a relocation of type {kind} to {name or 'a section'}")
        hole, argument, more = hole_of(name)
        if _HOLES[kind] != _WIDTH.get(hole, "value"):
            raise CodegenError(f"a stencil has a relocation of type {kind} to {name}")
        fields.append((offset, hole, argument, addend + more))
    for offset, info, addend in _relocations(data, named.get(".rela.ext")):
        if info & 0xFFFFFFFF != _R_X86_64_PC32 or symbols[info >> 32][3] != text_index:
            raise CodegenError("a stencil's table of accesses is not relative to its code")
        fields.append((symbols[info >> 32][4] + addend, ACCESS, 0, 0))
        del offset
    made = {}
    for symbol, name in zip(symbols, names):
        if symbol[1] & 15 == 2 and symbol[3] == text_index:
            start, end = symbol[4], symbol[4] + symbol[5]
            code = data[text[4] + start : text[4] + end]
            holes = sorted((at - start, *rest) for at, *rest in fields if start <= at < end)
            falls = bool(holes) and holes[-1][:2] == (len(code) - 4, OUT_NEXT) and code[-5] == _JUMP
            if falls:
                code, holes = code[:-5], holes[:-1]
            made[name] = Stencil(code, holes, falls or any(hole[1] == OUT_NEXT for hole in holes))
    return made


def _relocations(data: bytes, entry: tuple[int, tuple[int, ...]] | None) -> list[tuple[int, int, int]]:
    if entry is None:
        return []
    section = entry[1]
    return [struct.unpack_from("<QQq", data, section[4] + 24 * i) for i in range(section[5] // 24)]
