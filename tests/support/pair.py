"""Spike's hart and ours, driven through the same steps and compared: mode, pc, registers, every CSR that both have."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from support.harts import CODE, OurHart, SpikeHart
from support.riscv import MASK, random_integer

from guests.decode import encode
from guests.riscv import machine
from guests.riscv import privileged as p
from guests.riscv.isa import DEFAULT

# What Spike has and we have not: contexts, mseccfg (it traps, without Smepmp), debug mode.
SPIKE_ONLY = {0x5A8, 0x747, 0x7A8, *range(0x7B0, 0x7B4)}
# Counters of steps, which are Spike's own; the clock; triggers, which Spike has; the number of Spike's architecture.
VALUES_DIFFER = {0xB00, 0xB02, 0xC00, 0xC01, 0xC02, *range(0x7A0, 0x7A5), 0xF12}
# Bits that only one of the two has: FIOM (fences are as strong as can be), exceptions 18 and 19 of extensions not here.
BITS_DIFFER = {0x30A: p.FIOM, 0x10A: p.FIOM, 0x302: 3 << 18}
# The same of the hypervisor extension; and VMID in hgatp, which has no bits in Spike.
BITS_DIFFER |= {0x60A: p.FIOM, 0x602: 3 << 18, 0x680: 0x3FFF << 44}
SGEI = 1 << 12
# SGEI, an interrupt that cannot come where GEILEN is 0: Spike has its bit as 1 in mideleg, and writable in mie and hie.
SHOWN_DIFFER = {0x303: SGEI, 0x304: SGEI, 0x604: SGEI}
# misa: Spike lets extensions be turned off, which the manual leaves to us.
NOT_WRITTEN = {0x301}
MSTATUS, MEPC, MCAUSE, MTVAL, MEDELEG, MIDELEG, MIE, MTVEC, MIP = (
    0x300, 0x341, 0x342, 0x343, 0x302, 0x303, 0x304, 0x305, 0x344,
)  # fmt: skip
STVEC, SEPC, SCAUSE, SATP, MENVCFG, PMPCFG0, PMPADDR0 = 0x105, 0x141, 0x142, 0x180, 0x30A, 0x3A0, 0x3B0


def word(name: str, **fields: int) -> int:
    """The word of a row, by a name that only one row has, or of the writing form of a CSR instruction."""
    found = [row for row in machine.guest(machine.with_h(DEFAULT)).rows if row.name == name]
    return encode(found[0], **fields)


class Pair:
    """Both harts, with the hypervisor extension if that is asked for."""

    def __init__(self, hypervisor: bool = False) -> None:
        self.hypervisor = hypervisor
        self.spike = SpikeHart(hypervisor)
        self.ours = OurHart(hypervisor)
        self.compared = sorted(self._common() - VALUES_DIFFER)

    def _common(self) -> set[int]:
        found = set()
        for number in range(1 << 12):
            try:
                self.spike.get(number)
            except Exception:
                continue
            found.add(number)
        assert found - set(self.ours.csrs) == SPIKE_ONLY | ({0x6A8} if self.hypervisor else set())
        assert set(self.ours.csrs) <= found
        return found & set(self.ours.csrs)

    @property
    def both(self) -> tuple[SpikeHart, OurHart]:
        return self.spike, self.ours

    def reset(self) -> None:
        for hart in self.both:
            hart.reset()

    def open_memory(self) -> None:
        """Physical memory protection that allows everything."""
        self.put(PMPADDR0, (1 << 54) - 1)
        self.put(PMPCFG0, 0x1F)

    def put(self, csr: int, value: int) -> None:
        for hart in self.both:
            hart.put(csr, value & ~BITS_DIFFER.get(csr, 0))

    def set_x(self, number: int, value: int) -> None:
        for hart in self.both:
            hart.set_x(number, value)

    def poke(self, address: int, value: int) -> None:
        for hart in self.both:
            hart.poke(address, value)

    def set_time(self, time: int) -> None:
        """In machine mode. The clock stands at this time, and x5 and x6 are lost."""
        for hart in self.both:
            hart.set_time(time)

    def fence(self) -> None:
        for hart in self.both:
            hart.fence()

    def to(self, mode: int, pc: int) -> None:
        """From machine mode to another one; numbers from 4 on are those of a guest's."""
        for hart in self.both:
            hart.to(mode, pc)

    def step(self, pc: int | None = None) -> None:
        for hart in self.both:
            if pc is not None:
                hart.pc = pc
            hart.step()

    def to_machine_mode(self) -> None:
        for hart in self.both:
            hart.to_machine_mode()

    def differences(self, registers: range | tuple[int, ...] = (), ignored: int = 0) -> str:
        """What differs, in words, or nothing; of registers without the bits of `ignored`."""
        found = []
        if self.ours.mode != self.spike.mode:
            found.append(f"mode {self.ours.mode}, Spike {self.spike.mode}")
        if self.ours.pc != self.spike.pc:
            found.append(f"pc {self.ours.pc:#x}, Spike {self.spike.pc:#x}")
        for number in registers:
            mine, theirs = self.ours.x(number), self.spike.x(number)
            if (mine ^ theirs) & ~ignored:
                found.append(f"x{number} {mine:#x}, Spike {theirs:#x}")
        for number in self.compared:
            mine, theirs = self.ours.get(number), self.spike.get(number)
            if mine != theirs and (mine ^ theirs) & ~SHOWN_DIFFER.get(number, 0):
                found.append(f"{self.ours.csrs[number].name} {mine:#x}, Spike {theirs:#x}")
        return ", ".join(found)


def corner(rng: Random) -> int:
    """A value for a CSR: all, nothing, one bit, or random bits."""
    match rng.randrange(5):
        case 0:
            return rng.choice((0, MASK))
        case 1:
            return 1 << rng.randrange(64)
        case 2:
            return random_integer(rng)
    return rng.getrandbits(64)


def csr_word(name: str, number: int, source: dict[str, int], rd: int = 11) -> int:
    code = {"csrrw": 1, "csrrs": 2, "csrrc": 3, "csrrwi": 5, "csrrsi": 6, "csrrci": 7}[name]
    return number << 20 | source.get("rs1", source.get("imm", 0)) << 15 | code << 12 | rd << 7 | 0x73


def csr_instruction(pair: Pair, rng: Random, number: int, modes: Sequence[int], ignored: int = 0) -> tuple[str, str]:
    """Any CSR instruction in any of these modes, executed by both harts: what it was, and what differs afterwards. Of
    what it reads the bits of `ignored` are not compared.
    """
    name = rng.choice(("csrrw", "csrrs", "csrrc", "csrrwi", "csrrsi", "csrrci"))
    reads = rng.getrandbits(1) and name not in ("csrrw", "csrrwi")
    if name.endswith("i"):
        source = {"imm": 0 if reads else rng.randrange(1, 16) << 1}
    else:
        source = {"rs1": 0 if reads else 10}
    pair.poke(CODE, csr_word(name, number, source))
    mode = rng.choice(modes)
    pair.put(MIE, 0)  # what is pending comes in other tests
    pair.fence()
    pair.to(mode, CODE)
    value = corner(rng) & ~BITS_DIFFER.get(number, 0)
    if number == MENVCFG:
        value &= ~p.STCE  # Spike's mip keeps a bit of the timer that is turned off
    pair.set_x(10, value)
    pair.set_x(11, 0x5555)
    pair.step()
    return f"mode {mode}: {name} {number:#x} {source} x10={value:#x}", pair.differences((10, 11), ignored)
