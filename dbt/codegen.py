"""LLVM IR text in, code bytes out: the only module that imports llvmlite.

The object file is taken apart here: the bytes of .text, constants behind them, where each function begins,
the closed list of relocations that our loader applies, and the table of accesses that may fault. Anything
else in the object (writable data, a call) is refused, for such code could not be moved or kept.
Owns: LLVM. Must not know: what the functions mean, where the code will live.
"""

from __future__ import annotations

import struct

import llvmlite.binding as llvm

from dbt.code import Code, CodegenError, Relocation

_R_X86_64_PC32, _R_X86_64_32, _R_X86_64_32S = 2, 10, 11


class Compiler:
    """One LLVM target machine. `optimisation` is its code-generation level, 0 to 3."""

    def __init__(self, triple: str, optimisation: int = 1) -> None:
        llvm.set_option("", "-enable-tail-merge=false")  # every exit jumps for itself: better predicted
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        llvm.initialize_native_asmparser()
        self.cpu = llvm.get_host_cpu_name()
        self.features = llvm.get_host_cpu_features()
        self.machine = llvm.Target.from_triple(triple).create_target_machine(
            cpu=self.cpu, features=self.features.flatten(), opt=optimisation, reloc="static", codemodel="small"
        )

    def has(self, feature: str) -> bool:
        """Whether the host CPU has this feature, by LLVM's name."""
        return bool(self.features.get(feature))

    def compile(self, text: str, check: bool = False) -> Code:
        """Compile a module; `check` runs LLVM's verifier first. Raises CodegenError."""
        try:
            module = llvm.parse_assembly(text, llvm.create_context())
            if check:
                module.verify()
        except RuntimeError as error:
            raise CodegenError(str(error)) from error
        return read_object(self.machine.emit_object(module))


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
    relocations, references = [], []
    for offset, info, addend in _relocations(data, named.get(".rela.text")):
        kind, symbol = info & 0xFFFFFFFF, symbols[info >> 32]
        name = string(symbol_names, symbol[0])
        if kind in (_R_X86_64_32, _R_X86_64_32S) and symbol[3] == 0:
            relocations.append(Relocation(offset, name, addend))
        elif kind == _R_X86_64_PC32 and symbol[3] in starts:
            struct.pack_into("<i", code, offset, starts[symbol[3]] + symbol[4] + addend - offset)
            references.append((offset, starts[symbol[3]] + symbol[4]))
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
    return Code(bytes(code), functions, tuple(relocations), faults, constants, tuple(references))


def _relocations(data: bytes, entry: tuple[int, tuple[int, ...]] | None) -> list[tuple[int, int, int]]:
    if entry is None:
        return []
    section = entry[1]
    return [struct.unpack_from("<QQq", data, section[4] + 24 * i) for i in range(section[5] // 24)]
