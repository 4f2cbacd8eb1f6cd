"""The vDSO: a shared object in one page of the guest's memory, whose functions C libraries and unwinders look for.

They make system calls, the clock's too, which so cost what a call costs (docs/decisions/0020-vdso.md).
Owns: that object: symbols with a version, call frame information, section headers for debuggers. Must not know: any
architecture (the code comes from its `Abi`), what a call does.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from dbt.elf import (
    ET_DYN,
    HEADER,
    MAGIC,
    PF_R,
    PF_X,
    PROGRAM_HEADER,
    PT_GNU_EH_FRAME,
    PT_LOAD,
    SECTION_HEADER,
    SHT_DYNSYM,
    STT_FUNC,
    SYMBOL,
)
from dbt.linux.abi import Abi

_PT_DYNAMIC = 2
_SHT_PROGBITS, _SHT_STRTAB, _SHT_HASH, _SHT_DYNAMIC, _SHT_VERDEF, _SHT_VERSYM = 1, 3, 5, 6, 0x6FFFFFFD, 0x6FFFFFFF
_ALLOC, _EXECUTED = 2, 6  # flags of sections
_DT_NULL, _DT_HASH, _DT_STRTAB, _DT_SYMTAB, _DT_STRSZ, _DT_SYMENT, _DT_SONAME = 0, 4, 5, 6, 10, 11, 14
_DT_VERSYM, _DT_VERDEF, _DT_VERDEFNUM = 0x6FFFFFF0, 0x6FFFFFFC, 0x6FFFFFFD
_GLOBAL = STT_FUNC | 1 << 4  # kind and binding of a symbol
_BASE, _OURS = 1, 2  # versions: of the object itself, of the functions
_ALIGNED = 16  # where a function may begin
_ORDER = (b".hash", b".dynsym", b".dynstr", b".gnu.version", b".gnu.version_d", b".dynamic", b".eh_frame_hdr",
          b".eh_frame", b".text")  # fmt: skip
# Call frame information: registers are as the caller left them, and the CFA is the stack pointer (DWARF 5, 6.4.1).
_RELATIVE, _UNSIGNED, _SEARCHED = 0x1B, 0x03, 0x3B  # DW_EH_PE_pcrel | sdata4, udata4, datarel | sdata4
_FACTORS = b"\x01\x78"  # code 1, data -8


class Vdso(NamedTuple):
    page: bytes
    sigreturn: int  # offset of what handlers return to


class _Section(NamedTuple):
    kind: int
    flags: int
    data: bytes
    alignment: int = 8
    link: bytes = b""  # the section that it refers to
    info: int = 0
    entry: int = 0  # size of one


def vdso(abi: Abi) -> Vdso:
    """The page of an architecture's processes."""
    places = dict.fromkeys(_ORDER, 0)
    heads = end = HEADER.size + PROGRAM_HEADER.size * 3
    for name, section in _sections(abi, places).items():
        places[name] = _up(end, section.alignment)
        end = places[name] + len(section.data)
    sections = _sections(abi, places)
    page = bytearray(abi.PAGE_SIZE)
    for name, section in sections.items():
        page[places[name] : places[name] + len(section.data)] = section.data
    numbers = {name: index for index, name in enumerate(sections, 1)}
    names = _strings([*sections, b".shstrtab"])
    table = _up(end + len(names[0]), 8)
    rows = [bytes(SECTION_HEADER.size)]
    for name, s in sections.items():
        rows.append(SECTION_HEADER.pack(names[1][name], s.kind, s.flags, places[name], places[name], len(s.data),
                                        numbers.get(s.link, 0), s.info, s.alignment, s.entry))  # fmt: skip
    rows.append(SECTION_HEADER.pack(names[1][b".shstrtab"], _SHT_STRTAB, 0, 0, end, len(names[0]), 0, 0, 1, 0))
    page[end : end + len(names[0])] = names[0]
    page[table : table + SECTION_HEADER.size * len(rows)] = b"".join(rows)
    if len(page) > abi.PAGE_SIZE:
        raise ValueError("the vDSO does not fit in a page")
    of = {name: (places[name], len(section.data)) for name, section in sections.items()}
    segments = ((PT_LOAD, PF_R | PF_X, 0, abi.PAGE_SIZE, abi.PAGE_SIZE), (_PT_DYNAMIC, PF_R, *of[b".dynamic"], 8),
                (PT_GNU_EH_FRAME, PF_R, *of[b".eh_frame_hdr"], 4))  # fmt: skip
    page[:heads] = HEADER.pack(
        MAGIC + b"\x02\x01\x01", ET_DYN, abi.ELF_MACHINE, 1, places[b".text"], HEADER.size, table, abi.ELF_FLAGS,
        HEADER.size, PROGRAM_HEADER.size, len(segments), SECTION_HEADER.size, len(rows), len(rows) - 1,
    ) + b"".join(PROGRAM_HEADER.pack(kind, rights, at, at, at, size, size, alignment)
                 for kind, rights, at, size, alignment in segments)  # fmt: skip
    return Vdso(bytes(page), places[b".text"])


def _sections(abi: Abi, places: Mapping[bytes, int]) -> dict[bytes, _Section]:
    """What there is when it lies at these places; its lengths do not depend on them."""
    count = len(abi.VDSO)
    names, offsets = _strings([abi.VDSO_NAME, abi.VDSO_VERSION, *abi.VDSO])
    codes = [abi.vdso_code(number) for number in abi.VDSO.values()]
    text, start = b"", places[b".text"]
    symbols = [bytes(SYMBOL.size)]
    for name, code in zip(abi.VDSO, codes, strict=True):
        symbols.append(SYMBOL.pack(offsets[name], _GLOBAL, 0, 1 + _ORDER.index(b".text"), start + len(text), len(code)))
        text += code.ljust(_up(len(code), _ALIGNED), b"\0")
    others = _up(len(codes[0]), _ALIGNED)
    parts = (start, len(codes[0]), True), (start + others, len(text) - others, False)
    frames, rows = _frames(places[b".eh_frame"], parts)
    versions = b"".join((
        _version(1, _BASE, abi.VDSO_NAME, offsets, 28), _version(0, _OURS, abi.VDSO_VERSION, offsets, 0)))
    dynamic = struct.pack(
        "<20Q", _DT_SONAME, offsets[abi.VDSO_NAME], _DT_HASH, places[b".hash"], _DT_STRTAB, places[b".dynstr"],
        _DT_SYMTAB, places[b".dynsym"], _DT_STRSZ, len(names), _DT_SYMENT, SYMBOL.size, _DT_VERSYM,
        places[b".gnu.version"], _DT_VERDEF, places[b".gnu.version_d"], _DT_VERDEFNUM, 2, _DT_NULL, 0)  # fmt: skip
    searched = _searched(places[b".eh_frame_hdr"], places[b".eh_frame"], rows)
    chain = struct.pack(f"<{count + 4}I", 1, count + 1, 1, 0, *range(2, count + 1), 0)  # one bucket, which has them all
    made = {
        b".hash": _Section(_SHT_HASH, _ALLOC, chain, 8, b".dynsym", entry=4),
        b".dynsym": _Section(SHT_DYNSYM, _ALLOC, b"".join(symbols), 8, b".dynstr", 1, SYMBOL.size),
        b".dynstr": _Section(_SHT_STRTAB, _ALLOC, names, 1),
        b".gnu.version": _Section(_SHT_VERSYM, _ALLOC, struct.pack(f"<{count + 1}H", 0, *[_OURS] * count), 2,
                                  b".dynsym", entry=2),
        b".gnu.version_d": _Section(_SHT_VERDEF, _ALLOC, versions, 8, b".dynstr", 2),
        b".dynamic": _Section(_SHT_DYNAMIC, _ALLOC, dynamic, 8, b".dynstr", entry=16),
        b".eh_frame_hdr": _Section(_SHT_PROGBITS, _ALLOC, searched, 4),
        b".eh_frame": _Section(_SHT_PROGBITS, _ALLOC, frames, 8),
        b".text": _Section(_SHT_PROGBITS, _EXECUTED, text, _ALIGNED),
    }  # fmt: skip
    return {name: made[name] for name in _ORDER}


def _up(size: int, alignment: int) -> int:
    return (size + alignment - 1) // alignment * alignment


def _strings(texts: Sequence[bytes]) -> tuple[bytes, dict[bytes, int]]:
    """A table of strings, and where each is in it."""
    data, offsets = b"\0", {}
    for text in texts:
        offsets[text] = len(data)
        data += text + b"\0"
    return data, offsets


def _version(flags: int, index: int, name: bytes, offsets: Mapping[bytes, int], following: int) -> bytes:
    """A version's definition, with its name (System V ABI, "Hash Table Section"; LSB, "Symbol Versioning")."""
    hashed = 0
    for letter in name:
        hashed = (hashed << 4) + letter
        hashed = (hashed ^ (hashed & 0xF0000000) >> 24) & 0x0FFFFFFF
    return struct.pack("<4HIIIII", 1, flags, index, 1, hashed, 20, following, offsets[name], 0)


def _frames(at: int, parts: Sequence[tuple[int, int, bool]]) -> tuple[bytes, list[tuple[int, int]]]:
    """.eh_frame of parts of the code (address, length, whether it is the frame of a signal); addresses and entries."""
    data, rows = b"", []
    for begin, length, of_signal in parts:
        augmentation = b"zRS\0" if of_signal else b"zR\0"
        common = len(data)
        body = bytes(4) + b"\x01" + augmentation + _FACTORS + b"\x01\x01" + bytes((_RELATIVE,)) + b"\x0c\x02\x00"
        data += _record(body)
        rows.append((begin, at + len(data)))
        place = len(data) + 8  # of the address, from which it counts
        data += _record(struct.pack("<IiI", len(data) + 4 - common, begin - at - place, length) + b"\x00")
    return data + bytes(4), rows


def _record(body: bytes) -> bytes:
    """A record with its length in front, filled with DW_CFA_nop to a multiple of eight bytes."""
    body = body.ljust((len(body) + 11 & -8) - 4, b"\0")
    return struct.pack("<I", len(body)) + body


def _searched(at: int, frames: int, rows: Sequence[tuple[int, int]]) -> bytes:
    """.eh_frame_hdr: the entries by address."""
    return struct.pack("<4BiI", 1, _RELATIVE, _UNSIGNED, _SEARCHED, frames - at - 4, len(rows)) + b"".join(
        struct.pack("<ii", begin - at, entry - at) for begin, entry in rows)
