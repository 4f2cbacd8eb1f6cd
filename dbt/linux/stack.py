"""The stack a program starts with: arguments, environment and auxiliary vector (Linux, fs/binfmt_elf.c).

Must not know: registers, system calls.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Sequence

from dbt.elf import Loaded, NotRunnable
from dbt.linux.abi import Abi
from dbt.memory import EXEC, PAGE_SIZE, READ, WRITE, AddressSpace, page_up

AT_NULL, AT_PHDR, AT_PHENT, AT_PHNUM, AT_PAGESZ, AT_BASE, AT_FLAGS, AT_ENTRY = 0, 3, 4, 5, 6, 7, 8, 9
AT_SYSINFO_EHDR = 33
AT_UID, AT_EUID, AT_GID, AT_EGID, AT_CLKTCK, AT_SECURE, AT_RANDOM, AT_EXECFN = 11, 12, 13, 14, 17, 23, 25, 31


def reserve(space: AddressSpace, loaded: Loaded, size: int) -> None:
    """Map the stack."""
    size = page_up(size)
    top = space.size - PAGE_SIZE  # the last page stays unmapped, as Linux leaves it
    protection = READ | WRITE | (EXEC if loaded.image.executable_stack else 0)
    try:
        space.map(top - size, size, protection, fixed=True, noreplace=True, reserve=False, name="[stack]")
    except FileExistsError:
        raise NotRunnable(f"{loaded.image.name}: it has a segment where the stack belongs") from None


def build(space: AddressSpace, abi: Abi, loaded: Loaded, *, base: int, vdso: int, argv: Sequence[bytes],
          env: Sequence[bytes], executable: bytes, random: bytes, size: int) -> tuple[int, bytes]:
    """Fill the stack: (stack pointer, the auxiliary vector as bytes). `base`: where the loader is, or 0."""
    size, top = page_up(size), space.size - PAGE_SIZE
    strings = b"".join(text + b"\0" for text in (*argv, *env, executable))
    strings_at = top - 8 - len(strings)  # Linux ends the stack with a null word
    addresses = []
    cursor = strings_at
    for text in (*argv, *env, executable):
        addresses.append(cursor)
        cursor += len(text) + 1
    random_at = (strings_at - len(random)) & -16
    auxiliary = {
        AT_SYSINFO_EHDR: vdso, **abi.AUXILIARY,
        AT_PAGESZ: abi.PAGE_SIZE, AT_CLKTCK: 100, AT_PHDR: loaded.phdr_address, AT_PHENT: 56,
        AT_PHNUM: loaded.phnum, AT_BASE: base, AT_FLAGS: 0, AT_ENTRY: loaded.entry, AT_UID: os.getuid(),
        AT_EUID: os.geteuid(), AT_GID: os.getgid(), AT_EGID: os.getegid(), AT_SECURE: 0, AT_RANDOM: random_at,
        AT_EXECFN: addresses[-1], AT_NULL: 0,
    }
    vector = b"".join(struct.pack("<QQ", key, value) for key, value in auxiliary.items())
    count = len(argv)
    words = [count, *addresses[:count], 0, *addresses[count:-1], 0]
    block = struct.pack(f"<{len(words)}Q", *words) + vector
    pointer = (random_at - len(block)) & -abi.STACK_ALIGNMENT
    if top - pointer > size // 4 * 3:
        raise NotRunnable(f"{loaded.image.name}: the argument list is too long", errno.E2BIG)
    space.write(strings_at, strings)
    space.write(random_at, random)
    space.write(pointer, block)
    return pointer, vector
