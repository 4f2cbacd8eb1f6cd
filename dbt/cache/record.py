"""Code and translations as bytes, for the disk: fixed little-endian fields, and nothing that is executed on reading.

    sealed    16 bytes of BLAKE2b over what follows, keyed by where the record belongs
    made      guest address, boundary, instructions, reach, size; exits; pages; gates; the guest's code in ranges; its
              code
    code      functions, symbols, relocations, the fault table, constants, bytes
    ran       offsets of blocks in a page, and how often each ran

A record that was cut, changed or put elsewhere is `Damaged`. Owns: this form. Must not know: where it is kept.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from dbt.blake2 import blake2b
from dbt.block import Gate, Key, Made
from dbt.code import Code, Relocation

SEAL = 16  # bytes of the checksum
MOST_PLACE = 32  # bytes that a place has at most
_MADE = struct.Struct("<QBHHIHHHH")  # guest address, boundary, instructions, reach, size; ranges, exits, pages, gates
_GATE = struct.Struct("<QIH")  # guest address, offset, reach
_RANGE = struct.Struct("<QH")  # guest address and length
_EXIT = struct.Struct("<QBB")  # guest address, boundary, whether it leads to another page
_PAGE = struct.Struct("<Q")  # number of a page of addresses
_CODE = struct.Struct("<HHIIII")  # functions, symbols, relocations, faults, offset of the constants, bytes
_FUNCTION = struct.Struct("<II")
_RELOCATION = struct.Struct("<IHi")  # offset, number of the symbol, addend
_FAULT = struct.Struct("<II")
_RAN = struct.Struct("<HI")
MOST_RAN = (1 << 32) - 1


class Damaged(ValueError):
    """These bytes are no record, or not the one that belongs here."""


def seal(data: bytes, place: bytes, number: int) -> bytes:
    """The bytes with their checksum, for the record of this number in this place."""
    return _checksum(data, place, number) + data


def unseal(sealed: object, place: object, number: object) -> bytes:
    """The bytes of what was found there; raises Damaged."""
    if not (isinstance(sealed, bytes) and isinstance(place, bytes) and isinstance(number, int) and number >= 0):
        raise Damaged("these are not the kinds of things that a record has")
    data = sealed[SEAL:]
    if len(place) > MOST_PLACE or not sealed.startswith(_checksum(data, place, number)):
        raise Damaged("the checksum is wrong")
    return data


def _checksum(data: bytes, place: bytes, number: int) -> bytes:
    return blake2b(data, digest_size=SEAL, key=place + number.to_bytes(8, "little")).digest()


def pack_code(code: Code) -> bytes:
    """Code as bytes."""
    symbols = sorted({symbol for _, symbol, _ in code.relocations})
    number = {symbol: i for i, symbol in enumerate(symbols)}
    parts = [_CODE.pack(len(code.functions), len(symbols), len(code.relocations), len(code.faults), code.constants,
                        len(code.text))]  # fmt: skip
    for name, (at, size) in code.functions.items():
        parts += _text(name), _FUNCTION.pack(at, size)
    parts += map(_text, symbols)
    parts += [_RELOCATION.pack(offset, number[symbol], addend) for offset, symbol, addend in code.relocations]
    parts += [_FAULT.pack(*fault) for fault in code.faults]
    return b"".join([*parts, code.text])


def unpack_code(data: bytes) -> Code:
    """What `pack_code` made; raises Damaged."""
    reader = _Reader(data)
    code = reader.code()
    reader.end()
    return code


def pack_made(made: Made) -> bytes:
    """A translation that was not placed yet. Its exits, its pages and its counter get numbers, in order, as names."""
    code, symbols, pages = made.code, sorted(made.exits), sorted(made.pages)
    name = {symbol: f"{i:05}" for i, symbol in enumerate([*symbols, *pages, made.counter])}
    relocations = tuple(Relocation(offset, name[symbol], addend) for offset, symbol, addend in code.relocations)
    pc, boundary = made.key
    return b"".join([
        _MADE.pack(pc, boundary, made.instructions, made.reach, made.size, len(made.source), len(symbols),
                   len(pages), len(made.gates)),
        *(_EXIT.pack(*made.exits[symbol], symbol in made.away) for symbol in symbols),
        *(_PAGE.pack(made.pages[symbol]) for symbol in pages),
        *(_GATE.pack(*gate) for gate in made.gates),
        *(_RANGE.pack(start, len(code)) + code for start, code in made.source),
        pack_code(Code(code.text, {}, relocations, code.faults, code.constants)),
    ])  # fmt: skip


def unpack_made(data: bytes) -> Made:
    """What `pack_made` made; raises Damaged."""
    reader = _Reader(data)
    pc, boundary, instructions, reach, size, ranges, count, others, doors = reader.take(_MADE)
    exits: dict[str, Key] = {}
    away = []
    for i in range(count):
        target, at_boundary, leads_away = reader.take(_EXIT)
        exits[f"{i:05}"] = target, bool(at_boundary)
        if leads_away:
            away.append(f"{i:05}")
    pages = {f"{count + i:05}": reader.take(_PAGE)[0] for i in range(others)}
    gates = tuple([Gate(*reader.take(_GATE)) for _ in range(doors)])
    source = []
    for _ in range(ranges):
        start, length = reader.take(_RANGE)
        source.append((start, reader.bytes(length)))
    code = reader.code()
    reader.end()
    counter = f"{count + others:05}"
    fits = {symbol for _, symbol, _ in code.relocations} == {*exits, *pages, counter} and size <= len(code.text) and (
        all(gate.at < size for gate in gates))  # fmt: skip
    if not fits or not all(guest for _, guest in source) or not source or source[0][0] != pc:
        raise Damaged("its parts do not fit together")
    key = pc, bool(boundary)
    return Made(key, tuple(source), instructions, reach, size, code, exits, counter, gates, tuple(away), pages)


def pack_ran(ran: Mapping[int, int]) -> bytes:
    """How often blocks ran, by their offsets in a page."""
    return b"".join(_RAN.pack(offset, min(times, MOST_RAN)) for offset, times in sorted(ran.items()))


def unpack_ran(data: bytes) -> dict[int, int]:
    """What `pack_ran` made; raises Damaged."""
    try:
        return dict(_RAN.iter_unpack(data))
    except struct.error:
        raise Damaged("it ends too early") from None


class _Reader:
    """Takes a record apart from its beginning."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def bytes(self, length: int) -> bytes:
        start = self._at
        self._at += length
        if self._at > len(self._data):
            raise Damaged("it ends too early")
        return self._data[start : self._at]

    def take(self, form: struct.Struct) -> tuple[int, ...]:
        return form.unpack(self.bytes(form.size))

    def text(self) -> str:
        try:
            return self.bytes(self.bytes(1)[0]).decode("ascii")
        except UnicodeDecodeError:
            raise Damaged("a name is none") from None

    def code(self) -> Code:
        functions, names, relocations, faults, constants, length = self.take(_CODE)
        where: dict[str, tuple[int, int]] = {}
        for _ in range(functions):
            name = self.text()
            at, size = self.take(_FUNCTION)
            where[name] = at, size
        symbols = [self.text() for _ in range(names)]
        fields = [self.take(_RELOCATION) for _ in range(relocations)]
        table = [self.take(_FAULT) for _ in range(faults)]
        text = self.bytes(length)
        inside = [*(at + size for at, size in where.values()), *(offset + 4 for offset, _, _ in fields), constants]
        inside += [at for fault in table for at in fault]
        if max(inside) > length or any(number >= names for _, number, _ in fields):
            raise Damaged("it reaches beyond its end")
        patches = tuple(Relocation(offset, symbols[number], addend) for offset, number, addend in fields)
        return Code(text, where, patches, tuple((access, landing) for access, landing in table), constants)

    def end(self) -> None:
        if self._at != len(self._data):
            raise Damaged("more follows")


def _text(name: str) -> bytes:
    return bytes([len(name)]) + name.encode("ascii")
