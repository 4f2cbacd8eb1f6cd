"""The CPU state that both engines share: one block of host memory, laid out from the register list.

    slots            the guest's registers, 8 bytes each, by slot number
    engine fields    pc, exit, budget, counters (below)
    store log        host addresses of stores, for differential testing
    jump cache       JUMP_ENTRIES pairs (guest pc, host entry), filled on a miss
    exit slots       one host pointer for every exit of translated code: where it goes

Translated code addresses all of it from one pointer with constant displacements. Owns: the layout.
Must not know: what registers mean, how code is made.
"""

from __future__ import annotations

import ctypes
import mmap

from guests.spec import Guest
from ir.fp import F32, F64

FIELDS = 128  # index of the first engine field; guests have fewer register slots
PC = FIELDS  # next instruction, valid outside translated code and where an exit says so
EXIT = FIELDS + 1  # displacement of the exit slot through which translated code left
BUDGET = FIELDS + 2  # instructions left, times BUDGET_UNIT, plus blocks executed (see `Budget`)
LIMIT = FIELDS + 3  # the count at which the budget ends: instret = LIMIT - left
MEMORY = FIELDS + 4  # host address of guest address 0
INLINE = FIELDS + 5  # inline-class instructions retired in translated code
SCRATCH = FIELDS + 6  # for the host's floating-point control register
LEAVE = FIELDS + 7  # host address of the code that returns to the run loop
SOFT_FLAGS = FIELDS + 8  # floating-point flags that translated code raised and the host did not
NAN32 = FIELDS + 9  # canonical NaNs, to be loaded
NAN64 = FIELDS + 10
LOG_END = FIELDS + 11  # entries in the store log, where translations keep one (differential testing)

BUDGET_SHIFT = 24  # the budget register: instructions left above, blocks executed in the low 24 bits
BUDGET_UNIT = 1 << BUDGET_SHIFT
SLICE = BUDGET_UNIT - (1 << 13)  # most instructions in one entry, so that the block count cannot overflow

LOG = 4096  # byte offset: host addresses of guest stores
LOG_ENTRIES = 8192
JUMP_CACHE = LOG + 8 * LOG_ENTRIES  # byte offset
JUMP_BITS = 16
JUMP_ENTRIES = 1 << JUMP_BITS
JUMP_EMPTY = 1  # an odd pc is never looked up
EXITS = JUMP_CACHE + 16 * JUMP_ENTRIES  # byte offset of the first exit slot
EXIT_SLOTS = 1 << 22
SIZE = EXITS + 8 * EXIT_SLOTS


class State:
    """Registers and engine fields of one vCPU.

    `slots` indexes registers by slot number; reading and writing are unsigned 64-bit.
    `count` is virtual time: instructions retired. `mid_block` says that the next instruction is not at an
    architectural boundary (an engine stopped inside a block), so no event may be delivered before it.
    """

    def __init__(self, guest: Guest) -> None:
        assert guest.slots <= FIELDS
        self.guest = guest
        self._memory = mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.words = memoryview(self._memory).cast("Q")
        self.slots = self.words[: guest.slots]
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        self.words[NAN32] = F32.canonical_nan
        self.words[NAN64] = F64.canonical_nan
        self.count = 0
        self.blocks = 0
        self.mid_block = False

    @property
    def pc(self) -> int:
        return self.words[PC]

    @pc.setter
    def pc(self, value: int) -> None:
        self.words[PC] = value

    def snapshot(self, size: int | None = None) -> bytes:
        """The register slots as bytes."""
        return self._memory[: size or 8 * self.guest.slots]

    def restore(self, registers: bytes) -> None:
        """Put back what `snapshot` gave."""
        self._memory[: len(registers)] = registers

    def registers(self) -> dict[str, int]:
        """Every register by name, and pc."""
        return {r.name: self.slots[r.slot] for r in self.guest.registers} | {"pc": self.pc}

    def slot(self, name: str) -> int:
        """The slot of a register by name or alias; KeyError if there is none."""
        for register in self.guest.registers:
            if name == register.name or name in register.aliases:
                return register.slot
        raise KeyError(f"{self.guest.name} has no register {name!r}")
