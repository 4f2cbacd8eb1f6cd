"""The CPU state that both engines share: one block of host memory, laid out from the register list.

    slots            the guest's registers, 8 bytes each, by slot number, from SLOTS on
    engine fields    pc, exit, budget, counters (below)
    store log        host addresses of stores, for differential testing
    jump cache       JUMP_ENTRIES pairs (guest pc, host entry), filled on a miss
    exit slots       one host pointer for every exit of translated code: where it goes
    directory        from guest addresses to code of tier 0, and what else its native code needs
    translations     of a machine's addresses, in sets: one for each context in which its hart may be

Translated code addresses all of it from one pointer with constant displacements. Owns: the layout.
Must not know: what registers mean, how code is made.
"""

from __future__ import annotations

import ctypes
import mmap

from guests.spec import Guest
from ir.fp import F32, F64

SLOTS = -128  # displacement of the first slot: those of 32 registers have displacements of one byte
FIELDS = 160  # index of the first engine field; guests have fewer register slots
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
HIGHEST = FIELDS + 12  # the highest guest address; in a machine the host address of the current set of translations
SHARES = FIELDS + 13  # whether other processes may write to memory of this one at any moment

# Of tier 0 (see `dbt.tier0`); addresses are the host's.
LIBRARY = FIELDS + 16  # the stencils
CODE = FIELDS + 17  # its code as it is executed,
WRITE = FIELDS + 18  # and as it is written
CODE_USED = FIELDS + 19  # bytes of code
CODE_SIZE = FIELDS + 20
CODE_FAULTS = FIELDS + 21  # the table of landings
COUNTERS_USED = FIELDS + 22
HOT_AFTER = FIELDS + 23  # executions of a block until it is told to be hot
TABLES_USED = FIELDS + 24  # bytes
NOT_MADE = FIELDS + 25  # the code that makes what is missing
HEAD_OUT = FIELDS + 26  # where the begin of a block leads that is late, or hot
LEAVE_HERE = FIELDS + 27  # as LEAVE, but for code that carries no registers
WORK = FIELDS + 28  # memory for the copier
MADE_INSTRUCTIONS = FIELDS + 29  # guest instructions that stencils were copied for
MADE_BLOCKS = FIELDS + 30

# Of a machine (see `dbt.tier0.reach`).
GO_ON = FIELDS + 32  # the code that goes on at a guest address
FOUND = FIELDS + 33  # for stencils and regions (`ir.llvm.stencil.NATIVES`): what finds the host address of an access,
MOVED = FIELDS + 34  # and the set of the context in which the hart is now;
CROSS = FIELDS + 35  # code that goes on at an instruction which lies in two pages,
AGAIN = FIELDS + 36  # and that does so if its copy seems not to be right
RAM_BASE = FIELDS + 37  # its RAM: physical address,
RAM_HOST = FIELDS + 38  # host address;
RECORDS = FIELDS + 39  # host address of what is known of its pages (`dbt.machine.pages`)
HARTS = FIELDS + 40  # host address of the addresses of all harts' states,
HARTS_COUNT = FIELDS + 41  # and how many there are
RAISED = FIELDS + 42  # 0, or the cause of a trap, plus one, that the instruction takes which is being left,
RAISED_VALUE = FIELDS + 43  # and its value
CHANGED = FIELDS + 44  # a region has changed what addresses mean
TRAPPED_AT = FIELDS + 45  # where the last trap was taken in native code,
TRAPPED_LEFT = FIELDS + 46  # and the budget then
STAMP = FIELDS + 47  # times that a context was come back to
WINDOWS = FIELDS + 50  # for all modes but the highest, and for that: physical address and size of RAM that they may use
TOLD = FIELDS + 54  # for each of eight modes: causes, as bits, whose traps are not taken in native code
PATH = FIELDS + 62  # five words for a walk: the entries that it has read
WANTED = FIELDS + 67  # three words: the context that has no set
CONTEXTS = FIELDS + 72  # of each set of translations: its context, in three words, and when it was come back to
CONTEXT = 4  # words
STAGE_BASE = FIELDS + 200  # tables of a second stage that the machine alone writes, if there are: physical address,
STAGE_SIZE = FIELDS + 201  # bytes,
STAGE_HOST = FIELDS + 202  # host address
TRAPS = FIELDS + 208  # how often each trap was taken in native code: by cause, of each mode
CAUSES, MODES = 32, 8
RECENT = FIELDS + 464  # so many pairs of words for loads of regions, and for stores: entries that some found last
RECENT_MOST = 8

BUDGET_SHIFT = 24  # the budget register: instructions left above, blocks executed in the low 24 bits
BUDGET_UNIT = 1 << BUDGET_SHIFT
SLICE = BUDGET_UNIT - (1 << 13)  # most instructions in one entry, so that the block count cannot overflow

LOG = 8192  # byte offset: host addresses of guest stores
LOG_ENTRIES = 8192
JUMP_CACHE = LOG + 8 * LOG_ENTRIES  # byte offset
JUMP_BITS = 16
JUMP_ENTRIES = 1 << JUMP_BITS
JUMP_EMPTY = 1  # an odd pc is never looked up
EXITS = JUMP_CACHE + 16 * JUMP_ENTRIES  # byte offset of the first exit slot
EXIT_SLOTS = 1 << 22
LEADS = EXITS + 8 * EXIT_SLOTS  # byte offset: for every exit slot the guest address where it leads, at a boundary
NO_LEAD = 1  # an odd address: it leads to no boundary
COUNTERS = LEADS + 8 * EXIT_SLOTS  # byte offset: for every block of tier 0, executions left until it is hot
COUNTERS_MOST = 1 << 20
SPACE_BITS = 38  # of guest addresses
OPEN = COUNTERS + 4 * COUNTERS_MOST  # byte offset: for every guest page, a byte: whether tier 0 may read code there
PAGES = OPEN + (1 << SPACE_BITS - 12)  # byte offset: for every guest page, where its table is, from TABLES on
TABLES = PAGES + (4 << SPACE_BITS - 12)  # byte offset: tables of host entries, one for every two bytes of the page;
TABLE = 8 << 11  # the first is that of all pages without one
TABLES_MOST = 1 << 13
# In a machine OPEN is for every table a byte, and tables are found by entries for fetches. An entry's tag is the first
# address of a page of addresses, or NO_PAGE.
SETS = TABLES + TABLES_MOST * TABLE  # byte offset: sets of entries, each with
ENTRY_BITS, FETCH_BITS = 12, 10
LOADS = 0  # entries for loads: tag, host address of address 0 as this page sees it;
STORES = LOADS + (16 << ENTRY_BITS)  # for stores, the same;
FETCHES = STORES + (16 << ENTRY_BITS)  # for fetches: tag, the page's table, host address of address 0
SET = FETCHES + (32 << FETCH_BITS)
SETS_MOST = 32  # and one more, in which nothing is ever known
NO_PAGE = (1 << 64) - 1
NO_ADDRESS = (1 << 63) - (1 << 12)  # a page of addresses that leads nowhere in any mode
NOWHERE = SETS + SETS_MOST * SET  # byte offset: that one
COPIED = NOWHERE + SET  # byte offset: for every table, a byte for every two bytes of its page: 1 where they
PAIRS = COPIED + (TABLES_MOST * TABLE >> 3)  # were looked at to make code. Then by hash: page of addresses, page of
PAIR_BITS = 14  # RAM, their table;
PAIR = 24  # bytes
PAIR_FACTORS = 0x9E37_79B9_7F4A_7C15, 0xC2B2_AE3D_27D4_EB4F  # the hash: the high bits of a sum of products
TAILS = PAIRS + (PAIR << PAIR_BITS)  # and for each table the host code of an instruction that begins in its page's last
TAIL = 16  # two bytes, and the two bytes behind
SIZE = TAILS + TAIL * TABLES_MOST

HUGE_PAGE = 2 << 20  # of the host
_NORESERVE = 0x4000  # MAP_NORESERVE, which the standard library names from Python 3.13 on


class State:
    """Registers and engine fields of one vCPU.

    `slots` indexes registers by slot number; reading and writing are unsigned 64-bit.
    `count` is virtual time: instructions retired. `mid_block` says that the next instruction is not at an
    architectural boundary (an engine stopped inside a block), so no event may be delivered before it.
    """

    def __init__(self, guest: Guest) -> None:
        assert guest.slots <= FIELDS
        self.guest = guest
        before = mmap.PAGESIZE  # room for slots
        memory = mmap.mmap(-1, before + SIZE + HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NORESERVE)
        # Tables are taken one after the other, from the beginning of a huge page on.
        start = ctypes.addressof(ctypes.c_char.from_buffer(memory)) + before
        first = before + -(start + TABLES) % HUGE_PAGE
        memory.madvise(mmap.MADV_HUGEPAGE, first + TABLES, SIZE - TABLES)
        self.words = memoryview(memory)[first : first + SIZE].cast("Q")
        self._bytes = memoryview(memory)[first + SLOTS : first + SLOTS + 8 * guest.slots]
        self.slots = self._bytes.cast("Q")
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.words))
        self.words[NAN32] = F32.canonical_nan
        self.words[NAN64] = F64.canonical_nan
        self.words[HIGHEST] = (1 << SPACE_BITS) - 1
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
        return bytes(self._bytes[:size])

    def restore(self, registers: bytes) -> None:
        """Put back what `snapshot` gave."""
        self._bytes[: len(registers)] = registers

    def registers(self) -> dict[str, int]:
        """Every register by name, and pc."""
        return {r.name: self.slots[r.slot] for r in self.guest.registers} | {"pc": self.pc}

    def slot(self, name: str) -> int:
        """The slot of a register by name or alias; KeyError if there is none."""
        for register in self.guest.registers:
            if name == register.name or name in register.aliases:
                return register.slot
        raise KeyError(f"{self.guest.name} has no register {name!r}")
