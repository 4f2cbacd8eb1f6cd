"""Zicbom, Zicbop, Zicboz: cache blocks of 64 bytes (Unprivileged ISA, cache-management operations).

There is no cache that a guest could see, so management and prefetch have no effect; but management faults, as a
store does, where neither a load nor a store is allowed. A fault's address is that in rs1, not that of the block.
"""

from __future__ import annotations

from guests.riscv.table import Extension
from guests.spec import Treat

ZICBOM = Extension("zicbom", "Unprivileged ISA, Zicbom")
ZICBOP = Extension("zicbop", "Unprivileged ISA, Zicbop")
ZICBOZ = Extension("zicboz", "Unprivileged ISA, Zicboz")
BLOCK = 64  # bytes; a block lies within one page


def _manage(name, funct12):
    @ZICBOM.insn(name, f"{funct12} rs1 010 00000 0001111", "(rs1)", treat=Treat.CALLOUT, may_trap=True)
    def body(m, o):
        m.need_any_access(m.x[o.rs1])


_manage("cbo.inval", "000000000000")  # performed as a flush, which the execution environment may choose
_manage("cbo.clean", "000000000001")
_manage("cbo.flush", "000000000010")


def _prefetch(name, code):
    """A HINT: the ori with rd = x0 that it is."""

    @ZICBOP.insn(name, f"imm[11:5] {code} rs1 110 00000 0010011", "imm(rs1)")
    def body(m, o):
        pass


_prefetch("prefetch.i", "00000")
_prefetch("prefetch.r", "00001")
_prefetch("prefetch.w", "00011")


@ZICBOZ.insn("cbo.zero", "000000000100 rs1 010 00000 0001111", "(rs1)", may_trap=True)
def cbo_zero(m, o):
    """The first store, at the address itself, decides for all: the block lies within its page."""
    address = m.x[o.rs1]
    m.store(address, 0, 0, 1)
    block = m.and_(address, -BLOCK & (1 << 64) - 1)
    for offset in range(0, BLOCK, 8):
        m.store(block, 0, offset, 8)
