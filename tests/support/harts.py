"""Two harts with one interface, to be driven through the same steps: Spike's, and a machine's of ours.

Both have RAM and nothing else, a clock that stands still, and start each case in machine mode.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from support import peers
from support.riscv import MASK, asm
from support.spike import _quiet, missing

from dbt.machine.vm import Machine
from guests.riscv import hypervisor_csrs, machine
from guests.riscv import privileged as p
from guests.riscv.isa import DEFAULT

RAM, RAM_SIZE = 0x8000_0000, 0x20_0000
SNIPPETS = RAM + 0x100  # mret, fence.i
CODE = RAM + 0x1000
HANDLER = RAM + 0x8000  # of machine mode
S_HANDLER = RAM + 0x9000
MTIMECMP, MTIME = 0x200_4000, 0x200_BFF8  # Spike's
NOWHERE = 1 << 62  # no address, whatever the tables say
MRET, FENCE_I, SFENCE = 0x30200073, 0x100F, 0x12000073
ISA = DEFAULT + "_zicclsm_svade_svadu_svinval_svnapot_svpbmt"


class SpikeHart:
    """Spike's hart, in this process."""

    def __init__(self, hypervisor: bool = False) -> None:
        reason = missing()
        if reason is not None:
            peers.missing(reason)
        from riscv.cfg import cfg_t, mem_cfg_t
        from riscv.sim import sim_t

        isa = machine.with_h(ISA) if hypervisor else ISA
        memory = [mem_cfg_t(RAM, RAM_SIZE)]
        configuration = cfg_t(isa=isa + "_sstc", priv="MSU", mem_layout=memory, start_pc=RAM)
        with _quiet():
            self._sim = sim_t(cfg=configuration, halted=False, plugin_device_factories=[], args=["none"])
        self.core: Any = self._sim.get_core(0)
        self.state: Any = self.core.state
        self.poke(SNIPPETS, MRET | FENCE_I << 32)
        self.poke(SNIPPETS + 8, SFENCE | asm("sd", rs1=5, rs2=6, imm=0) << 32)
        self._store(MTIMECMP, MASK)  # no timer of machine mode
        assert self.get(0x344) == 0

    def _store(self, address: int, value: int) -> None:
        """By an instruction, in machine mode."""
        self.set_x(5, address)
        self.set_x(6, value)
        self.state.pc = SNIPPETS + 12
        self.core.step(1)
        assert self.pc == SNIPPETS + 16

    def set_time(self, time: int) -> None:
        """In machine mode. Timers are looked at."""
        self._store(MTIME, time)

    def reset(self) -> None:
        """As after a reset, at CODE. Spike's own reset opens the first entry of memory protection."""
        self.core.reset()
        self.put(0x3A0, 0)
        self.put(0x3B0, 0)
        self.pc = CODE
        self.put(0x305, HANDLER)
        self.put(0x105, S_HANDLER)

    def get(self, csr: int) -> int:
        return int(self.core.get_csr(csr)) & MASK

    def put(self, csr: int, value: int) -> None:
        self.core.put_csr(csr, value)

    def x(self, number: int) -> int:
        return int(self.state.XPR[number]) & MASK

    def set_x(self, number: int, value: int) -> None:
        if number:
            self.state.XPR.write(number, value)

    @property
    def pc(self) -> int:
        return int(self.state.pc) & MASK

    @pc.setter
    def pc(self, value: int) -> None:
        self.state.pc = value

    @property
    def mode(self) -> int:
        return int(self.state.prv) | int(self.state.v) << 2

    def step(self) -> None:
        self.core.step(1)

    def to_machine_mode(self) -> None:
        """By a trap, which changes what traps change."""
        if self.mode != p.MACHINE:
            self.put(0x302, 0)
            self.put(0x303, 0)
            self.put(0x304, 0)
            self.state.pc = NOWHERE
            self.core.step(1)
            assert self.mode == p.MACHINE

    def to(self, mode: int, pc: int) -> None:
        """From machine mode, by mret."""
        status = self.get(0x300)
        self.put(0x341, pc)
        self.put(0x300, status & ~(p.MPP | p.MPV) | (mode & 3) << p.MPP_SHIFT | (p.MPV if mode & 4 else 0))
        self.state.pc = SNIPPETS
        self.core.step(1)
        assert self.mode == mode and self.pc == pc

    def fence(self) -> None:
        """New code and new tables become visible; in machine mode, with interrupts off."""
        for snippet in (SNIPPETS + 4, SNIPPETS + 8):
            self.state.pc = snippet
            self.core.step(1)
            assert self.pc == snippet + 4

    def poke(self, address: int, value: int) -> None:
        """Write an aligned doubleword; in machine mode."""
        self.core.mmu.load_reserved_64(address)
        assert self.core.mmu.store_conditional_64(address, value)

    def peek(self, address: int) -> int:
        return int(self.core.mmu.load_reserved_64(address)) & MASK


class OurHart:
    """The reference engine's hart of a machine of ours."""

    def __init__(self, hypervisor: bool = False) -> None:
        self.guest = machine.guest(machine.with_h(DEFAULT) if hypervisor else DEFAULT)
        self.vm = Machine(self.guest).create_vm()
        self.vm.set_user_memory_region(RAM, RAM_SIZE)
        self.vcpu = self.vm.create_vcpu()
        self.slots = self.vcpu.state.slots
        self.csrs = hypervisor_csrs.table(self.guest.features)
        self.poke(SNIPPETS, MRET)

    def reset(self) -> None:
        self.vm.clock.ticks = 1 << 60  # it stands still
        self.vcpu.reset(CODE)
        if "h" in self.guest.features:
            self.put(0x60A, 0)
        self.put(0x30A, 0)  # Spike's reset leaves accessed and dirty bits to software
        self.put(0x305, HANDLER)
        self.put(0x105, S_HANDLER)

    def get(self, csr: int) -> int:
        value: int = self.csrs[csr].read(self.vcpu.engine.domain)
        return value

    def put(self, csr: int, value: int) -> None:
        write: Callable[[Any, int], None] | None = self.csrs[csr].write
        assert write is not None
        write(self.vcpu.engine.domain, value)

    def x(self, number: int) -> int:
        return self.slots[number]

    def set_x(self, number: int, value: int) -> None:
        if number:
            self.slots[number] = value

    @property
    def pc(self) -> int:
        return self.vcpu.state.pc

    @pc.setter
    def pc(self, value: int) -> None:
        self.vcpu.state.pc = value
        self.vcpu.state.mid_block = False

    @property
    def mode(self) -> int:
        return self.vcpu.mode

    def step(self) -> None:
        self.vcpu.vm.step()

    def to_machine_mode(self) -> None:
        if self.mode != p.MACHINE:
            self.put(0x302, 0)
            self.put(0x303, 0)
            self.put(0x304, 0)
            self.pc = NOWHERE
            self.step()
            assert self.mode == p.MACHINE

    def to(self, mode: int, pc: int) -> None:
        status = self.get(0x300)
        self.put(0x341, pc)
        self.put(0x300, status & ~(p.MPP | p.MPV) | (mode & 3) << p.MPP_SHIFT | (p.MPV if mode & 4 else 0))
        self.pc = SNIPPETS
        self.step()
        assert self.mode == mode and self.pc == pc

    def set_time(self, time: int) -> None:
        """A tick begins, which is longer than any test: the clock stands still for instructions, too."""
        clock = self.vm.clock
        clock.ticks = self.guest.ticks
        clock.wait_until(clock.count + -clock.count % clock.ticks)
        clock.time = time
        self.vcpu.set_timer()

    def fence(self) -> None:
        """All is visible always."""

    def poke(self, address: int, value: int) -> None:
        self.vm.memory.poke(address, value.to_bytes(8, "little"))

    def peek(self, address: int) -> int:
        return int.from_bytes(self.vm.memory.peek(address, 8), "little")
