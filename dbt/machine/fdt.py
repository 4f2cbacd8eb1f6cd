"""Flattened device trees (Devicetree specification, version 17 of the format): a tree of Python values to bytes.

A node is a dictionary: a name leads to a node, or to a property's value. A value is None (no bytes), an int (a cell),
a str, bytes, or a list of ints or of strs. Owns: the format. Must not know: any board.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

MAGIC, VERSION, COMPATIBLE = 0xD00DFEED, 17, 16
BEGIN, END, PROPERTY, LAST = 1, 2, 3, 9
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
