"""Stencils out of an object file: code, and a hole for each relocation of it.

Owns: which relocation is which hole. Must not know: what fills holes.
"""

from __future__ import annotations

from dbt.code import CodegenError
from dbt.object_file import (
    R_X86_64_8,
    R_X86_64_32,
    R_X86_64_32S,
    R_X86_64_64,
    R_X86_64_PC32,
    R_X86_64_PLT32,
    ObjectFile,
)
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

_HOLES = {
    R_X86_64_64: "wide", R_X86_64_PC32: "out", R_X86_64_PLT32: "out", R_X86_64_32: "value",
    R_X86_64_32S: "value", R_X86_64_8: "byte",
}  # fmt: skip
_WIDTH = {
    PC: "wide", FOLLOWING: "wide", PARAM64: "wide",
    OUT_NEXT: "out", OUT_TAKEN: "out", OUT_MISS: "out", OUT_SIDE: "out", OUT_HEAD: "out", OUT_LEAVE: "out",
    OUT_AT_HEAD: "out", OUT_NATIVE: "out", READ: "byte", WRITTEN: "byte", SMALL: "byte",
}  # fmt: skip
_JUMP = 0xE9


def read_stencils(data: bytes) -> dict[str, Stencil]:
    """The functions of an object as stencils, by name; raises CodegenError for what cannot be copied."""
    file = ObjectFile(data)
    file.refuse((".data", ".bss", ".ltext", ".lrodata", ".text.", ".rodata"),
                "the object has a section {}, which a stencil cannot have")  # fmt: skip
    fields: list[tuple[int, int, int | str, int]] = []
    for offset, kind, symbol, addend in file.relocations(".text"):
        if symbol.section or kind not in _HOLES:
            raise CodegenError(f"a stencil has a relocation of type {kind} to {symbol.name or 'a section'}")
        hole, argument, more = hole_of(symbol.name)
        if _HOLES[kind] != _WIDTH.get(hole, "value"):
            raise CodegenError(f"a stencil has a relocation of type {kind} to {symbol.name}")
        fields.append((offset, hole, argument, addend + more))
    for _, kind, symbol, addend in file.relocations(".ext"):
        if kind != R_X86_64_PC32 or symbol.section != file.text:
            raise CodegenError("a stencil's table of accesses is not relative to its code")
        fields.append((symbol.value + addend, ACCESS, 0, 0))
    text = file.body(file.named[".text"][1])
    made = {}
    for one in file.functions():
        start, end = one.value, one.value + one.size
        code = text[start:end]
        holes = sorted((at - start, hole, what, more) for at, hole, what, more in fields if start <= at < end)
        falls = bool(holes) and holes[-1][:2] == (len(code) - 4, OUT_NEXT) and code[-5] == _JUMP
        if falls:
            code, holes = code[:-5], holes[:-1]
        made[one.name] = Stencil(code, holes, falls or any(hole[1] == OUT_NEXT for hole in holes))
    return made
