"""What a guest architecture is, as plain data: the whole contract between `guests/<arch>` and `dbt`.

Owns: the types `Row`, `Decoded`, `Register`, `Guest`, the exceptions `Trap`, `IllegalInstruction`, `BadExtension`.
Must not know: any particular architecture, LLVM, caches, or who runs the bodies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from typing import Any, NamedTuple

from ir.records import field, record


class Treat(Enum):
    """How the translator treats an instruction: the classes of a classical binary translator.

    IDENT   lowers to IR that touches general registers and memory only.
    INLINE  lowers to IR that edits other virtual CPU state in place (a CSR, the flags).
    CALLOUT leaves translated code; the monitor executes it (by the reference body).
    """

    IDENT = "ident"
    INLINE = "inline"
    CALLOUT = "callout"

    __hash__ = object.__hash__  # Enum's own is a Python function, and dictionaries by class are on every slow path


class Trap(Exception):
    """A synchronous trap: `cause` in the guest's own numbering, `value` what the trap-value CSR would hold.

    The instruction that raised it has had no effect and is not counted as retired.
    """

    def __init__(self, cause: int, value: int = 0) -> None:
        super().__init__(cause, value)
        self.cause = cause
        self.value = value


class Absent(Exception):
    """There is no memory at a physical address, or a device that does not take such an access."""


class IllegalInstruction(Exception):
    """The word is not an instruction here and now; the engine turns it into the guest's trap, whose value is the word.

    `cause` is that of the trap, or 0 for the guest's own of illegal instructions.
    """

    def __init__(self, cause: int = 0) -> None:
        super().__init__(cause)
        self.cause = cause


class BadExtension(ValueError):
    """Instructions of the user's own cannot be added to a guest; the message is one sentence that says why."""


class Operands:
    """The operand fields of one decoded instruction, by the names its row gives them.

    Register fields are slot numbers of their file (a write to a hard-wired zero register is the sink
    slot); immediates are 64-bit unsigned integers, sign-extended already. Absent fields are absent.
    """

    __slots__ = ("aq", "csr", "fm", "imm", "pred", "rd", "rl", "rm", "rs1", "rs2", "rs3", "succ")
    rd: int
    rs1: int
    rs2: int
    rs3: int
    imm: int
    csr: int
    rm: int
    aq: int
    rl: int
    pred: int
    succ: int
    fm: int

    def __repr__(self) -> str:
        return ", ".join(f"{n}={getattr(self, n):#x}" for n in self.__slots__ if hasattr(self, n))


Body = Callable[[Any, Operands], None]


@record(frozen=True)
class Row:
    """One instruction of the manual: its bit pattern, the columns the engine asks for, and its meaning.

    `syntax` is the operand part of the assembly text, with field names in braces of `guests.decode`'s
    printer. `body` is None for a row that is known and not done yet: it decodes to illegal instruction.
    """

    name: str
    pattern: str
    syntax: str
    extension: str
    requires: frozenset[str]  # every extension that must be present
    body: Body | None
    treat: Treat = Treat.IDENT
    ends_block: bool = False
    may_trap: bool = False
    manual: str = ""
    writes: str = ""  # "x" where `rd` is an integer register, "f" where it is a floating-point one
    fixed: tuple[tuple[str, int | str], ...] = ()  # operand fields a compressed form fixes or copies
    treat_of: Callable[[Operands], Treat] | None = None  # where the class depends on a static field
    ends_block_of: Callable[[Operands], bool] | None = None
    legal: Callable[[Operands], bool] | None = None  # static fields that decode to illegal instruction


class Decoded(NamedTuple):
    """One instruction word, decoded: independent of its address."""

    row: Row
    operands: Operands
    length: int
    word: int
    treat: Treat
    ends_block: bool


@record(frozen=True)
class Register:
    """One 64-bit slot of the CPU state. `slot` is its index; `kind` groups registers for dumps."""

    name: str
    slot: int
    kind: str
    aliases: tuple[str, ...] = ()


class Mapped(NamedTuple):
    """A leaf of a page table, for people: where it leads, its size in bytes, its permissions as letters."""

    virtual: int
    physical: int
    size: int
    rights: str


class Interrupt(NamedTuple):
    """An interrupt of a hart, for people."""

    cause: int
    name: str
    pending: bool
    enabled: bool
    mode: str  # that takes it


class Step(NamedTuple):
    """One thing that a walk of page tables does. Walks of a second stage lie within those of the first: `depth`.

    `what` is begin, of a stage; read, of a table's entry; write, which marks an entry; then where it all leads: end, or
    fault, with its cause.
    """

    depth: int
    what: str
    stage: str  # its name, "" at the end of all
    address: int  # that is translated in this stage; of an entry: its physical address
    value: int = 0  # of an entry; where an end leads; the cause of a fault
    level: int = 0  # of a table: 0 has pages
    rights: str = ""  # of an entry


@record(frozen=True)
class Inspection:
    """What people are shown of a hart. Nothing of it changes the hart. `m` is the domain of integers."""

    control: Callable[[Any], dict[str, int]]  # (m): control registers by name, as they are read
    modes: dict[int, str]  # privilege modes by name, the highest first
    guests: frozenset[int]  # those of them that are a guest's of a hypervisor
    waiting: dict[int, str]  # what is said of a hart, by the value of its waiting slot
    interrupts: Callable[[Any], list[Interrupt]]
    trap: Callable[[int, int], tuple[int, str]]  # (cause, mode it comes from): its number there, and its name
    mappings: Callable[..., Iterator[Mapped] | None]  # (slots, read): of the page tables; None: there are none
    physical: Callable[..., int | None]  # (slots, read, address): where an address leads, None for nowhere
    walk: Callable[..., list[Step]]  # (slots, read, address, size, access): each step of a walk, as the hart makes it


@record(frozen=True)
class Privileged:
    """What a machine asks of an architecture beyond its instructions. The functions are written against a domain `m`.

    A guest that has only user mode has none.
    """

    enter: Callable[[Any, Any, Any, Any], Any]  # (m, pc, cause, value): into a trap; the handler's address
    due: Callable[[Any], int]  # (m): the cause of the interrupt to take now, or 0
    awake: Callable[[Any], bool]  # (m): whether a hart that waits goes on
    walk: Callable[[Any, Any, Any], None]  # (f, address, kind): what is common of `mmu`, for native code
    accesses: dict[str, int]  # kinds of loads that `walk` has beyond a load, a store and a fetch (0 to 2), by number
    second: Callable[[Any], Any] | None  # (f): of the second stage, where addresses may go through two
    context: Callable[[Any], tuple[Any, ...]]  # (m): what addresses mean depends on these two words, or three
    tables: Callable[[Any], Any]  # (m): says where the tables are, or those of the first stage
    mmu: Callable[..., Any]  # (slots, read, write): what translates addresses, as `guests.riscv.mmu.Mmu` does
    access_faults: dict[str, int]  # "load" / "store" / "fetch" -> the cause where there is no memory
    refused_cause: int  # of what is illegal for one mode alone (`illegal_if` with a cause); 0: there is no such cause
    reset: dict[int, int]  # slot -> its value at reset, where that is not 0
    mode: Callable[[Any], Any]  # (m): the mode in which the hart is, for counts and for people; less than 8
    waiting_slot: int  # not 0: the hart waits, for an interrupt or its next turn, or was stopped
    yielded: int  # its value while it waits for its next turn
    crowded_slot: int  # not 0: another hart could go on
    told_slot: int | None  # not 0: it comes to a boundary where it goes into a guest; None: it can have none
    lines_slot: int  # the interrupt lines of devices
    hart_slot: int  # the number of the hart
    reservation_slot: int  # not 0: a store-conditional may succeed
    idle_slot: int  # time in which the hart retired no instruction, in instructions
    offset_slot: int  # ticks that the clock register was put forward, or back
    lines: dict[str, int]  # name -> the bit of its line
    reset_rom: Callable[[int, int, int], bytes]  # (start, device tree, next stage): what a hart executes first
    cpu_node: Callable[[int, int], dict[str, Any]]  # (hart, phandle): what a device tree says of it
    timer: Callable[[Any, int], int]  # (m, time): sets the line of the hart's timer; when it will be due, or all ones
    inspection: Inspection
    firmware: Callable[[Any, Any, Any], Any]  # (slots, platform, harts): as `guests.riscv.sbi.Firmware`


@record(frozen=True)
class Guest:
    """A guest architecture: everything `dbt` needs to know, as one value."""

    name: str
    isa: str
    registers: Sequence[Register]
    slots: int
    decode: Callable[[int], Decoded | None]
    rows: Sequence[Row]
    disassemble: Callable[[Decoded, int], str]
    link: Callable[[Any], None]  # gives a domain the architecture's own vocabulary (files, csrs)
    flags_slot: int  # accrued floating-point exceptions, in `ir.fp` bits
    rounding_slot: int  # dynamic rounding mode, in `ir.fp` numbering
    zero_slot: int
    sink_slot: int
    stack_slot: int
    floats: range  # slots of the floating-point registers, at most 32
    syscall_cause: int
    illegal_cause: int
    breakpoint_cause: int
    fetch_misaligned_cause: int
    syscall_length: int  # bytes of the system call instruction
    signals: dict[int, int]  # cause -> the signal that Linux sends for it
    signal_codes: dict[int, int]  # cause -> si_code, where it does not depend on a page's state
    ticks: int  # retired instructions a tick of the guest's clock register in virtual time
    syscall_word: int | None = None  # that instruction, if it does nothing but trap by `syscall_cause`
    hot_slots: tuple[int, ...] = ()  # registers most worth keeping in host registers, best first
    reset_on_trap: tuple[int, ...] = ()  # slots that every trap sets to 0
    fault_causes: dict[str, int] = field(default_factory=dict)  # "load" / "store" / "fetch" -> cause
    align: int = 2  # instruction alignment in bytes
    trap_names: dict[int, str] = field(default_factory=dict)
    linux: Any = None  # the guest's Linux ABI, as data
    elf_machine: int = 0
    features: frozenset[str] = frozenset()
    own: tuple[str, ...] = ()  # those of them that the user brought
    privileged: Privileged | None = None  # for machines
    planned: Sequence[Row] = ()  # rows that are known and not done: illegal instructions, by name
