"""A kernel personality without a CPU: an address space, and system calls by name."""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path

import guests.riscv.linux as abi
from dbt.linux.kernel import Kernel
from dbt.memory import READ, WRITE, AddressSpace

AT_FDCWD = (1 << 64) - 100
NUMBERS = {name: number for number, name in abi.CALLS.items()}
BUFFER, SCRATCH, TEXT = 0x100000, 0x120000, 0x130000
BAD = 0x10  # an address where nothing is mapped


class Guest:
    """A kernel with some memory, and calls by name. Results are signed; strings become pointers."""

    def __init__(self, **keywords: object) -> None:
        self.space = AddressSpace()
        self.space.map(BUFFER, 0x40000, READ | WRITE, fixed=True)
        self.said: list[str] = []
        defaults: dict[str, object] = {"argv": [b"prog", b"x"], "env": [b"A=1"], "executable": "/bin/prog",
                                       "warn": self.said.append}
        self.kernel = Kernel(self.space, abi, **(defaults | keywords))  # type: ignore[arg-type]

    def close(self) -> None:
        self.kernel.close()
        self.space.close()

    def call(self, name: str, *arguments: int | bytes | str | Path) -> int:
        words = []
        cursor = TEXT
        for argument in arguments:
            if isinstance(argument, int):
                words.append(argument & (1 << 64) - 1)
            else:
                text = os.fsencode(argument) + b"\0"
                self.space.write(cursor, text)
                words.append(cursor)
                cursor += len(text)
        result = self.kernel.call(NUMBERS[name], tuple(words + [0] * (6 - len(words))))
        assert 0 <= result < 1 << 64
        return result - (1 << 64) if result >> 63 else result

    def ok(self, name: str, *arguments: int | bytes | str | Path) -> int:
        result = self.call(name, *arguments)
        assert result >= 0, (name, errno.errorcode.get(-result))
        return result

    def fails(self, code: int, name: str, *arguments: int | bytes | str | Path) -> None:
        result = self.call(name, *arguments)
        assert result == -code, (name, errno.errorcode.get(-result, result))

    def put(self, address: int, form: str, *values: int) -> None:
        self.space.write(address, struct.pack(form, *values))

    def taken(self) -> int:
        """The number of the next signal that is to be delivered, 0 if there is none; it is taken."""
        found = self.kernel.signals.take(~self.kernel.signals.mask)
        return 0 if found is None else found[0]

    def get(self, address: int, form: str) -> tuple[int, ...]:
        return struct.unpack(form, self.space.read(address, struct.calcsize(form)))
