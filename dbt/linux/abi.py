"""The form in which a guest architecture describes its Linux, and packing of the structures it lists.

Owns: the protocol `Abi` and `Layout`. Must not know: any particular architecture.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Protocol

_SIZES = {"u8": "B", "i8": "b", "u16": "H", "i16": "h", "u32": "I", "i32": "i", "u64": "Q", "i64": "q"}


class Names(Protocol):
    """A module such as `guests.riscv.linux_names`; the meaning of each name is said there."""

    @property
    def FLAGS(self) -> dict[str, dict[str, int]]: ...
    @property
    def FIELDS(self) -> dict[str, int]: ...
    @property
    def NUMBERS(self) -> dict[str, dict[str, int]]: ...
    @property
    def FILE_TYPES(self) -> dict[str, int]: ...


class Abi(Protocol):
    """A module such as `guests.riscv.linux`; the meaning of each name is said there."""

    @property
    def MACHINE(self) -> str: ...
    @property
    def PAGE_SIZE(self) -> int: ...
    @property
    def STACK_ALIGNMENT(self) -> int: ...
    @property
    def ELF_MACHINE(self) -> int: ...
    @property
    def ELF_FLAGS(self) -> int: ...
    @property
    def CODE_ALIGNMENT(self) -> int: ...
    @property
    def ELF_REFUSED_FLAGS(self) -> tuple[tuple[int, int, str], ...]: ...
    @property
    def PIE_BASE(self) -> int: ...
    @property
    def AUXILIARY(self) -> dict[int, int]: ...
    @property
    def HWPROBE(self) -> dict[int, int]: ...
    @property
    def HWPROBE_BITS(self) -> frozenset[int]: ...
    @property
    def CPUINFO(self) -> str: ...
    @property
    def OPEN_FLAGS(self) -> dict[str, int]: ...
    @property
    def STRUCTS(self) -> dict[str, tuple[str, ...]]: ...
    @property
    def CALLS(self) -> dict[int, str]: ...
    @property
    def CALL_NUMBER(self) -> str: ...
    @property
    def CALL_RESULT(self) -> str: ...
    @property
    def HANDLER_REGISTERS(self) -> tuple[str, ...]: ...
    @property
    def CONTEXT_ARRAYS(self) -> dict[str, tuple[str, ...]]: ...
    @property
    def CONTEXT_BITS(self) -> dict[str, tuple[tuple[str, int, int], ...]]: ...
    @property
    def VDSO_NAME(self) -> bytes: ...
    @property
    def VDSO_VERSION(self) -> bytes: ...
    @property
    def VDSO(self) -> dict[bytes, int]: ...
    def vdso_code(self, number: int) -> bytes: ...
    @property
    def DWARF_REGISTERS(self) -> tuple[str, ...]: ...
    @property
    def RETURN_ADDRESS(self) -> str: ...
    @property
    def FRAME_POINTER(self) -> str: ...
    @property
    def FRAME_RECORD(self) -> tuple[int, int]: ...
    def prologue(self, instructions: Iterable[Any]) -> tuple[int, int, dict[int, int]] | None: ...
    def ioctl_rows(self) -> str: ...
    def names(self) -> Names: ...


class Layout:
    """One C structure, little endian: offsets from natural alignment, pack and unpack by field name."""

    def __init__(self, fields: tuple[str, ...]) -> None:
        self.offsets: dict[str, int] = {}
        self._codes: dict[str, tuple[int, str]] = {}
        offset, widest = 0, 1
        for text in fields:
            name, kind = text.split()
            base, _, count = kind.partition("*")
            if base in _SIZES:
                width = int(base[1:]) // 8
                code = f"<{count}{_SIZES[base]}"
            else:
                width, code = 1, f"<{base}"
            offset = (offset + width - 1) // width * width
            self.offsets[name] = offset
            self._codes[name] = offset, code
            offset += struct.calcsize(code)
            widest = max(widest, width)
        self.size = (offset + widest - 1) // widest * widest

    def pack(self, values: Mapping[str, Any]) -> bytes:
        """Fields not named are zero. An array takes a sequence."""
        data = bytearray(self.size)
        for name, value in values.items():
            offset, code = self._codes[name]
            struct.pack_into(code, data, offset, *(value if isinstance(value, (tuple, list)) else (value,)))
        return bytes(data)

    def unpack(self, data: bytes) -> dict[str, Any]:
        """Every field but padding; an array gives a tuple."""
        found: dict[str, Any] = {}
        for name, (offset, code) in self._codes.items():
            if not name.startswith("_"):
                values = struct.unpack_from(code, data, offset)
                found[name] = values[0] if len(values) == 1 else values
        return found


@cache
def _layout(fields: tuple[str, ...]) -> Layout:
    return Layout(fields)


def layout(abi: Abi, name: str) -> Layout:
    return _layout(abi.STRUCTS[name])
