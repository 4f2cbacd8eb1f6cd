"""A digest of all that a guest can see of itself: registers, counts, memory map, contents of writable memory.

Two runs are in the same state where their digests are equal, whatever engine made them. A page that was never
written and one that was filled with zeros are the same to a guest, and so they are here.
Owns: what is digested and in which order. Must not know: any engine.
"""

from __future__ import annotations

import struct

from dbt.blake2 import blake2b
from dbt.memory import PAGE_SIZE, WRITE, AddressSpace
from dbt.state import State

_ZEROS = bytes(PAGE_SIZE)


def digest(state: State, space: AddressSpace) -> str:
    """BLAKE2b, 16 bytes in hexadecimal. Reads every writable page that was touched: about 1 ms for 2 MB."""
    hashed = blake2b(digest_size=16)
    hashed.update(struct.pack("<QQQ", state.pc, state.count, state.blocks))
    hashed.update(b"".join(state.slots[r.slot].to_bytes(8, "little") for r in state.guest.registers))
    for region in space.regions():
        hashed.update(struct.pack("<QQB", region.start, region.end, region.protection))
        if region.protection & WRITE and not (region.file and region.shared):
            for page in space.touched(region):
                content = space.peek(page * PAGE_SIZE, PAGE_SIZE)
                if content != _ZEROS:
                    hashed.update(struct.pack("<Q", page))
                    hashed.update(content)
    return hashed.hexdigest()
