"""The A extension: load-reserved, store-conditional, atomic memory operations (Unprivileged ISA).

An SC succeeds only to the address and size of the last LR whose reservation is intact; every SC and
every trap ends the reservation. Where another process may write at any moment, the word must also hold what
the LR read. Addresses must be aligned to the access size. Each SC and AMO is one access of all processors', which
orders what is before and behind it; so the aq and rl bits ask for nothing more, but rl of an LR.
"""

from __future__ import annotations

from guests.riscv import traps
from guests.riscv.registers import RESERVED_ADDRESS, RESERVED_SIZE, RESERVED_VALUE
from guests.riscv.table import Extension

A = Extension("a", "Unprivileged ISA, A extension")
LOADS = 2  # of the sets that a fence orders


def aligned(m, address, size, cause):
    """Trap unless `address` is a multiple of `size`."""
    m.trap_if(m.ne(m.and_(address, size - 1), 0), cause, address)


def load_reserved(m, o, size):
    address = m.x[o.rs1]
    aligned(m, address, size, traps.LOAD_MISALIGNED)
    m.fence(o.rl, LOADS)
    value = m.load(address, 0, size, size == 4)
    m.s[RESERVED_ADDRESS] = address
    m.s[RESERVED_SIZE] = size
    m.s[RESERVED_VALUE] = value
    m.x[o.rd] = value


def store_conditional(m, o, size):
    """Both outcomes need the right to store."""
    address, new = m.x[o.rs1], m.x[o.rs2]
    aligned(m, address, size, traps.STORE_MISALIGNED)
    held = m.both(m.eq(m.s[RESERVED_SIZE], size), m.eq(m.s[RESERVED_ADDRESS], address))
    won = m.store_conditional(address, m.s[RESERVED_VALUE], new, held, size)
    m.s[RESERVED_SIZE] = 0
    m.x[o.rd] = m.bit(m.not_(won))


def fetch_and_op(m, o, kind, size):
    address, operand = m.x[o.rs1], m.x[o.rs2]
    aligned(m, address, size, traps.STORE_MISALIGNED)
    if size == 4:
        operand = m.zext(operand, 32) if kind.endswith("u") else m.sext(operand, 32)
    m.x[o.rd] = m.amo(address, operand, kind, size)


for _size, _funct3, _suffix in ((4, "010", "w"), (8, "011", "d")):

    @A.insn(f"lr.{_suffix}", f"00010 aq rl 00000 rs1 {_funct3} rd 0101111", "rd, (rs1)", may_trap=True)
    def lr(m, o, size=_size):
        load_reserved(m, o, size)

    @A.insn(f"sc.{_suffix}", f"00011 aq rl rs2 rs1 {_funct3} rd 0101111", "rd, rs2, (rs1)", may_trap=True)
    def sc(m, o, size=_size):
        store_conditional(m, o, size)

    for _kind, _funct5 in (
        ("swap", "00001"), ("add", "00000"), ("xor", "00100"), ("and", "01100"), ("or", "01000"),
        ("min", "10000"), ("max", "10100"), ("minu", "11000"), ("maxu", "11100"),
    ):  # fmt: skip

        @A.insn(
            f"amo{_kind}.{_suffix}",
            f"{_funct5} aq rl rs2 rs1 {_funct3} rd 0101111",
            "rd, rs2, (rs1)",
            may_trap=True,
        )
        def amo(m, o, kind=_kind, size=_size):
            fetch_and_op(m, o, kind, size)
