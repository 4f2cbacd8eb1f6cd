"""Flattened device trees (Devicetree specification, version 17 of the format): a tree of Python values, and bytes.

A node is a dictionary: a name leads to a node, or to a property's value. A value is None (no bytes), an int (a cell),
a str, bytes, or a list of ints or of strs. Owns: the format. Must not know: any board.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

MAGIC, VERSION, COMPATIBLE = 0xD00DFEED, 17, 16
BEGIN, END, PROPERTY, NOTHING, LAST = 1, 2, 3, 4, 9
DEEPEST = 64  # nodes inside one another
_HEADER = struct.Struct(">10I")

Node = Mapping[str, Any]


def flatten(root: Node, boot_hart: int = 0) -> bytes:
    """The tree as a guest finds it. TypeError for a value that no property can have."""
    strings: dict[str, int] = {}
    structure = bytearray()
    _node("", root, structure, strings)
    structure += struct.pack(">I", LAST)
    names = b"".join(name.encode() + b"\0" for name in strings)
    reserved = bytes(16)
    at_structure = _HEADER.size + len(reserved)
    at_strings = at_structure + len(structure)
    total = at_strings + len(names)
    header = _HEADER.pack(
        MAGIC, total, at_structure, at_strings, _HEADER.size, VERSION, COMPATIBLE, boot_hart, len(names), len(structure)
    )
    return header + reserved + bytes(structure) + names


def parse(data: bytes) -> dict[str, Any]:
    """A flattened tree as nodes, whose properties are bytes. ValueError for what is none."""
    try:
        magic, total, at, strings, _, version, compatible, _, length, size = _HEADER.unpack_from(data)
        if magic != MAGIC:
            raise ValueError("it does not begin as one")
        if total > len(data) or at + size > total or strings + length > total:
            raise ValueError("it is truncated")
        if version < VERSION or compatible > VERSION:
            raise ValueError(f"its format has version {version}, not {VERSION}")
        return _Reader(data[at : at + size], data[strings : strings + length]).tree()
    except (struct.error, UnicodeDecodeError):
        raise ValueError("it is damaged") from None


class _Reader:
    """Goes through the structure of a tree."""

    def __init__(self, structure: bytes, strings: bytes) -> None:
        self._structure = structure
        self._strings = strings
        self._at = 0

    def tree(self) -> dict[str, Any]:
        if self._token() != BEGIN or self._text(self._structure, self._at):
            raise ValueError("it has no root")
        self._skip(1)
        found = self._node(0)
        if self._token() != LAST:
            raise ValueError("it has something behind its root")
        return found

    def _node(self, depth: int) -> dict[str, Any]:
        """The node whose name has been read."""
        if depth > DEEPEST:
            raise ValueError("its nodes are too deep")
        found: dict[str, Any] = {}
        while (token := self._token()) != END:
            if token == BEGIN:
                name = self._text(self._structure, self._at)
                self._skip(len(name.encode()) + 1)
                found[name] = self._node(depth + 1)
            elif token == PROPERTY:
                length, name_at = struct.unpack_from(">2I", self._structure, self._at)
                self._skip(8)
                value = self._structure[self._at : self._at + length]
                self._skip(length)
                found[self._text(self._strings, name_at)] = value
            else:
                raise ValueError("it is damaged")
        return found

    def _token(self) -> int:
        while True:
            (token,) = struct.unpack_from(">I", self._structure, self._at)
            self._at += 4
            if token != NOTHING:
                return int(token)

    def _skip(self, length: int) -> None:
        self._at += length + -length % 4
        if self._at > len(self._structure):
            raise ValueError("it is truncated")

    @staticmethod
    def _text(data: bytes, at: int) -> str:
        end = data.find(b"\0", at)
        if end < 0:
            raise ValueError("it is damaged")
        return data[at:end].decode("ascii")


def cells(*values: int, width: int = 2) -> list[int]:
    """Numbers of `width` cells each: addresses and sizes."""
    return [value >> 32 * part & 0xFFFF_FFFF for value in values for part in reversed(range(width))]


def _node(name: str, node: Node, out: bytearray, strings: dict[str, int]) -> None:
    out += struct.pack(">I", BEGIN)
    out += _padded(name.encode() + b"\0")
    for key, value in node.items():  # properties come before nodes
        if not isinstance(value, Mapping):
            data = _value(key, value)
            at = strings.setdefault(key, sum(len(other) + 1 for other in strings))
            out += struct.pack(">3I", PROPERTY, len(data), at) + _padded(data)
    for key, value in node.items():
        if isinstance(value, Mapping):
            _node(key, value, out, strings)
    out += struct.pack(">I", END)


def _value(name: str, value: Any) -> bytes:
    match value:
        case None:
            return b""
        case bytes():
            return value
        case str():
            return value.encode() + b"\0"
        case int():
            return struct.pack(">I", value)
        case list() if all(isinstance(one, int) for one in value):
            return struct.pack(f">{len(value)}I", *value)
        case list() if all(isinstance(one, str) for one in value):
            return b"".join(one.encode() + b"\0" for one in value)
    raise TypeError(f"property {name!r} cannot have the value {value!r}")


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
