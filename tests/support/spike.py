"""Spike in this process, as an oracle that executes one user-level instruction at a time.

The binding gives integer registers, CSRs, pc and one step. Floating-point registers are reached by stepping
`fmv` instructions, memory by reservations (so reading memory ends with a reservation: see `Spike.poke`).
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

from support import peers
from support.riscv import MASK, asm

from bench.spike import missing
from guests.riscv.isa import DEFAULT

RAM, RAM_SIZE = 0x8000_0000, 0x10_0000
SNIPPETS = RAM + 0x100
CODE = RAM + 0x1000  # instructions under test
HANDLER = RAM + 0x8000  # where traps go; nothing is executed there
DATA, DATA_SIZE = RAM + 0x1_0000, 0x1000
MEPC, MCAUSE, MTVAL, MTVEC, MSTATUS = 0x341, 0x342, 0x343, 0x305, 0x300
MCOUNTEREN, SCOUNTEREN = 0x306, 0x106
MENVCFG, SENVCFG = 0x30A, 0x10A
ALL_COUNTERS = (1 << 32) - 1
CACHE_BLOCKS = 0xD0  # environment configuration: all cache-block instructions are allowed, cbo.inval as a flush
FCSR = 0x003
FS_ON = 0x6000  # mstatus: floating point is on, previous privilege is user
USER = 0


class Spike:
    """One machine in user mode. `misaligned` makes plain loads and stores work at any address (Zicclsm)."""

    def __init__(self, misaligned: bool) -> None:
        reason = missing()
        if reason is not None:
            peers.missing(reason)
        from riscv.cfg import cfg_t, mem_cfg_t
        from riscv.sim import sim_t

        isa = DEFAULT + ("_zicclsm" if misaligned else "")
        memory = [mem_cfg_t(RAM, RAM_SIZE)]
        configuration = cfg_t(isa=isa, priv="MSU", mem_layout=memory, start_pc=RAM)
        with _quiet():
            self._sim = sim_t(cfg=configuration, halted=False, plugin_device_factories=[], args=["none"])
        self.core: Any = self._sim.get_core(0)
        self.state: Any = self.core.state
        self.x: Any = self.state.XPR
        self._memory: Any = self.core.mmu
        put = self.core.put_csr
        put(0x3B0, (1 << 54) - 1)  # physical memory protection: user mode may do anything
        put(0x3A0, 0x1F)
        put(MTVEC, HANDLER)
        put(MCOUNTEREN, ALL_COUNTERS)
        put(SCOUNTEREN, ALL_COUNTERS)
        put(MENVCFG, CACHE_BLOCKS)
        put(SENVCFG, CACHE_BLOCKS)
        put(MSTATUS, FS_ON)
        snippets = [0x30200073, asm("fence.i", imm=0, rs1=0, rd=0)]
        snippets += [asm("fmv.d.x", rd=i, rs1=31) for i in range(32)]
        snippets += [asm("fmv.x.d", rd=31, rs1=i) for i in range(32)]
        self._mret, self._fence, self._write_f = SNIPPETS, SNIPPETS + 4, SNIPPETS + 8
        self._read_f = self._write_f + 32 * 4
        self.poke_code(SNIPPETS, b"".join(w.to_bytes(4, "little") for w in snippets))
        self._to_user(CODE)

    def _to_user(self, pc: int) -> None:
        self.core.put_csr(MSTATUS, FS_ON)
        self.core.put_csr(MEPC, pc)
        self.state.pc = self._mret
        self.core.step(1)
        assert self.state.prv == USER

    # --- memory ------------------------------------------------------------------------------------

    def poke(self, address: int, value: int) -> None:
        """Write an aligned doubleword. Whatever was reserved is no longer."""
        self._memory.load_reserved_64(address)
        assert self._memory.store_conditional_64(address, value)

    def peek(self, address: int) -> int:
        """Read an aligned doubleword. It is reserved afterwards."""
        return self._memory.load_reserved_64(address) & MASK

    def poke_code(self, address: int, code: bytes) -> None:
        """Write instructions at an aligned address, so that they are fetched."""
        code += bytes(-len(code) % 8)
        for at in range(0, len(code), 8):
            self.poke(address + at, int.from_bytes(code[at : at + 8], "little"))
        self.state.pc = self._fence
        self.core.step(1)
        assert self.state.pc == self._fence + 4

    # --- registers ---------------------------------------------------------------------------------

    def read_f(self, number: int) -> int:
        """A floating-point register; x31 is lost."""
        self.state.pc = self._read_f + 4 * number
        self.core.step(1)
        return self.x[31] & MASK

    def write_f(self, number: int, value: int) -> None:
        """Set a floating-point register; x31 is lost."""
        self.x.write(31, value)
        self.state.pc = self._write_f + 4 * number
        self.core.step(1)

    @property
    def fcsr(self) -> int:
        return self.core.get_csr(FCSR)

    @fcsr.setter
    def fcsr(self, value: int) -> None:
        self.core.put_csr(FCSR, value)

    # --- execution ---------------------------------------------------------------------------------

    def step(self, pc: int) -> tuple[int, int, int] | None:
        """Execute the instruction at `pc` in user mode; a trap is (cause, value, pc of the trap), else None."""
        self.state.pc = pc
        self.core.step(1)
        if self.state.prv == USER:
            return None
        trap = tuple(self.core.get_csr(number) & MASK for number in (MCAUSE, MTVAL, MEPC))
        self._to_user(CODE)
        return trap

    @property
    def pc(self) -> int:
        return self.state.pc & MASK


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Spike warns about its arguments on standard error, from C++."""
    sys.stderr.flush()
    kept = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)
