"""Atomic accesses of the host's memory, for Python: a compare-and-exchange and a fence, a few bytes of machine code.

A host without such code of ours has both in Python, where other processes' accesses may come between.
Owns: the page with the code. Must not know: guests, what is shared with whom.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Callable, Mapping
from functools import cache
from typing import NamedTuple


class Atomic(NamedTuple):
    """`exchange[size](address, expected, new)`: the aligned value at a host address, in whose place `new` is put if it
    is `expected`; all unsigned, of 4 or 8 bytes. `fence()`: all accesses before come before all behind."""

    exchange: Mapping[int, Callable[[int, int, int], int]]
    fence: Callable[[], None]


@cache
def atomic() -> Atomic:
    """This host's."""
    if os.uname().machine != "x86_64":
        return Atomic({4: _in_python(ctypes.c_uint32), 8: _in_python(ctypes.c_uint64)}, lambda: None)
    from dbt.hosts import x86_64_atomic as host

    memory = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory[: len(host.CODE)] = host.CODE
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))  # which keeps the memory
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    protect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    if protect(base, mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_EXEC):
        raise OSError(ctypes.get_errno(), "mprotect of the code for atomic accesses failed")
    _kept.append(memory)
    made = {
        size: ctypes.PYFUNCTYPE(kind, ctypes.c_void_p, kind, kind)(base + host.EXCHANGE[size])
        for size, kind in ((4, ctypes.c_uint32), (8, ctypes.c_uint64))
    }
    return Atomic(made, ctypes.PYFUNCTYPE(None)(base + host.FENCE))


def _in_python(kind: type[ctypes.c_uint32] | type[ctypes.c_uint64]) -> Callable[[int, int, int], int]:
    def exchange(address: int, expected: int, new: int) -> int:
        place = kind.from_address(address)
        old = place.value
        if old == expected:
            place.value = new
        return old

    return exchange


_kept: list[mmap.mmap] = []
