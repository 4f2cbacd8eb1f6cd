"""What a hart finds at reset on a board: the first instructions, and what they hand on (as QEMU's `virt` does).

Firmware gets the hart's number in a0, the device tree's address in a1, and in a2 that of a record for OpenSBI's
`fw_dynamic`, which says where and in which mode to go on. Owns: these conventions, and what a tree says of a hart.
Must not know: boards.
"""

from __future__ import annotations

import struct
from typing import Any

from guests.decode import encode
from guests.riscv import privileged as p
from guests.riscv.rv64i import I
from guests.riscv.zicbo import BLOCK
from guests.riscv.zicsr import ZICSR

_RECORD = struct.Struct("<6Q")
_MAGIC, _VERSION = 0x4942534F, 2  # of fw_dynamic's record
A0, A1, A2, T0 = 10, 11, 12, 5
MHARTID = 0xF14
CODE = 24  # bytes of instructions


def cpu_node(names: list[str], hart: int, phandle: int) -> dict[str, Any]:
    """The node of a hart in a device tree (`dbt.machine.fdt`), whose interrupts go by this number."""
    letters = "".join(name for name in names if len(name) == 1)
    return {
        "device_type": "cpu",
        "reg": hart,
        "status": "okay",
        "compatible": "riscv",
        "riscv,isa": "_".join((f"rv64{letters}", *(name for name in names if len(name) > 1))),
        "riscv,isa-base": "rv64i",
        "riscv,isa-extensions": names,
        "riscv,cbom-block-size": BLOCK,
        "riscv,cboz-block-size": BLOCK,
        "mmu-type": "riscv,sv57",
        "interrupt-controller": {
            "#address-cells": 0,
            "#interrupt-cells": 1,
            "interrupt-controller": None,
            "compatible": "riscv,cpu-intc",
            "phandle": phandle,
        },
    }


def reset_rom(start: int, tree: int, next_stage: int, hart: int = 0) -> bytes:
    """The bytes at the reset address. `start` is where to go, `next_stage` what the record names, 0 for nothing."""
    insn = {row.name: row for row in I.rows}
    words = (
        encode(insn["auipc"], rd=T0, imm=0),
        encode(insn["addi"], rd=A2, rs1=T0, imm=CODE + 16),
        encode(next(row for row in ZICSR.rows if row.syntax == "rd, csr, zero"), rd=A0, csr=MHARTID),
        encode(insn["ld"], rd=A1, rs1=T0, imm=CODE + 8),
        encode(insn["ld"], rd=T0, rs1=T0, imm=CODE),
        encode(insn["jalr"], rd=0, rs1=T0, imm=0),
    )
    record = _RECORD.pack(_MAGIC, _VERSION, next_stage, p.SUPERVISOR, 0, hart)
    return b"".join(word.to_bytes(4, "little") for word in words) + struct.pack("<2Q", start, tree) + record
