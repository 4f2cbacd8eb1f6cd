"""The RISC-V register list: slots of the CPU state, names, and the files that bodies index.

Owns: slot numbers and names (RISC-V Unprivileged ISA, RV32I and F; psABI names). Must not know: instructions.
"""

from __future__ import annotations

from typing import Any

from guests.spec import Register

ABI_X = ("zero ra sp gp tp t0 t1 t2 s0 s1 a0 a1 a2 a3 a4 a5 a6 a7 s2 s3 s4 s5 s6 s7 s8 s9 s10 s11 t3 t4 t5 t6").split()
ABI_F = (
    "ft0 ft1 ft2 ft3 ft4 ft5 ft6 ft7 fs0 fs1 fa0 fa1 fa2 fa3 fa4 fa5 fa6 fa7 "
    "fs2 fs3 fs4 fs5 fs6 fs7 fs8 fs9 fs10 fs11 ft8 ft9 ft10 ft11"
).split()

X = 0  # x0-x31 are slots 0-31
SINK = 32  # what writes to x0 go to
F = 33  # f0-f31 are slots 33-64, always NaN-boxed 64-bit patterns
FFLAGS = 65
FRM = 66
RESERVED_ADDRESS = 67  # of the last LR
RESERVED_SIZE = 68  # in bytes; 0 is no reservation
RESERVED_VALUE = 69  # what it read
SLOTS = 70
HOT = (15, 14, 10, 2, 11, 13, 12, 16, 17, 8)  # a5 a4 a0 sp a1 a3 a2 a6 a7 s0: what compilers use most

REGISTERS = (
    *(Register(f"x{i}", X + i, "x", (name,)) for i, name in enumerate(ABI_X)),
    *(Register(f"f{i}", F + i, "f", (name,)) for i, name in enumerate(ABI_F)),
    Register("fflags", FFLAGS, "csr"),
    Register("frm", FRM, "csr"),
    Register("reserved_address", RESERVED_ADDRESS, "reservation"),
    Register("reserved_size", RESERVED_SIZE, "reservation"),
    Register("reserved_value", RESERVED_VALUE, "reservation"),
)


def link(domain: Any) -> None:
    """Give a domain the register files that RISC-V bodies index: x, f, and s (any slot by number)."""
    file = domain.files()
    domain.x = file(X, 33, zero=0, sink=SINK)
    domain.f = file(F, 32)
    domain.s = file(0, SLOTS)
