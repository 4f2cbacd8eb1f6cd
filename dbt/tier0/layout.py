"""The form of the library of stencils: what the packer writes and native code reads.

It is one string of bytes, which the copier reads where it lies (`dbt.tier0.copier`). All offsets are from its
begin, all numbers 32 bits, little endian:

    header     where the tables are, and the stencils that are no instruction (HEADER)
    parcels    the form of each 16-bit instruction, as its offset; 0: none
    buckets    256 pairs (offset of candidates, how many), by opcode[6:2] and funct3
    candidates (mask, match, form), the most special first
    form       stencil, flags, length, number of fields, then fields
    field      number of pieces, sign bit (0: unsigned), addend, then pieces (low, width, to)
    stencil    bytes of code, number of holes, offset of the code, then holes
    hole       offset in the code, kind, argument, addend

Owns: these numbers. Must not know: how stencils are made.
"""

from __future__ import annotations

import struct

HEADER = ("parcels", "buckets", "head", "late", "segment", "link", "side", "callout", "door", "tail", "cross")
IMM = 0  # kinds of holes: the value of a field, 32 bits;
FAR = 1  # the displacement of the slot of a register field, 32 bits;
READ, WRITTEN = 2, 17  # 8 bits: of one that is read; of one that is written, by an instruction that becomes `addend`, a
# NOP, if its register is 0;
SMALL = 18  # the value of a field, 8 bits;
PC, FOLLOWING = 3, 4  # 64 bits: the guest address of the instruction, and of the next one;
OUT_NEXT, OUT_TAKEN, OUT_MISS, OUT_SIDE = 5, 6, 7, 8  # distances to what lies behind, or where the guest goes;
BEHIND = 9  # how many instructions of its part of the block are not executed yet;
ACCESS = 10  # no hole: here a guest access may fault;
PARAM32, PARAM64 = 11, 12  # in what is no instruction: a parameter of 32 bits, or the one of 64;
OUT_HEAD, OUT_LEAVE, OUT_AT_HEAD = 13, 14, 15  # distances;
OUT_NATIVE = 16  # the distance to a native function, by its number
ENDS, FALLS, FLOATS = 1, 2, 4  # flags of a form: it ends a block; code goes on behind it; it computes with floats


def door(library: bytes, room: int) -> bytes:
    """Code that leads from tier 0 into a translation which begins `room` bytes before it."""
    (stencil,) = struct.unpack_from("<I", library, 4 * HEADER.index("door"))
    size, _, at = struct.unpack_from("<3I", library, stencil)
    return library[at : at + size] + b"\xe9" + struct.pack("<i", -(room + size + 5))


def head_at(library: bytes, parameter: int) -> int:
    """Where in a block's head a parameter is: 1, the displacement of its counter; 2, what an execution counts for."""
    (stencil,) = struct.unpack_from("<I", library, 4 * HEADER.index("head"))
    _, holes, _ = struct.unpack_from("<3I", library, stencil)
    for number in range(holes):
        offset, kind, argument, _ = struct.unpack_from("<4I", library, stencil + 12 + 16 * number)
        if (kind, argument) == (PARAM32, parameter):
            return int(offset)
    raise AssertionError(f"a block's head has no parameter {parameter}")
