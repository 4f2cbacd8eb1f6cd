"""A virtual CPU as KVM has it on RISC-V: how it begins, which traps end its run, its registers by KVM's numbers.

The guest of a virtual machine sees supervisor and user mode, and no machine mode: what would be machine mode's, or a
hypervisor's, is its monitor's. Whether the guest has the hart's own two modes or VS and VU mode is its world's affair
(`guests.riscv.worlds`).
Owns: these conventions, register numbers (Linux, arch/riscv/include/uapi/asm/kvm.h). Must not know: memory, exits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from guests.riscv import csrs, privileged_csrs, privileged_traps, registers, sbi, traps
from guests.riscv import privileged as p
from guests.riscv.zicbo import BLOCK

# Causes that a hart without the hypervisor extension has not (scause).
SUPERVISOR_CALL = traps.VS_ECALL
FETCH_GUEST, LOAD_GUEST, STORE_GUEST = (traps.GUEST_FAULTS[access] for access in ("fetch", "load", "store"))
GUEST_FAULTS = {traps.FETCH_FAULT: FETCH_GUEST, traps.LOAD_FAULT: LOAD_GUEST, traps.STORE_FAULT: STORE_GUEST}
VIRTUAL_INSTRUCTION = traps.VIRTUAL_INSTRUCTION
VSXL = 2 << 32  # of hstatus
REFUSED = frozenset({"h"})  # extensions with which its supervisor would be a hypervisor

# What a supervisor never takes by itself: those that hedeleg cannot give it, and those that Linux's KVM does not.
STAYS = sum(1 << cause for cause in (
    traps.FETCH_FAULT, traps.ILLEGAL_INSTRUCTION, traps.LOAD_MISALIGNED, traps.LOAD_FAULT, traps.STORE_MISALIGNED,
    traps.STORE_FAULT,
))  # fmt: skip
CALL = 1 << traps.USER_ECALL
BREAKPOINT = 1 << traps.BREAKPOINT
TAKEN = frozenset(sbi.EXCEPTIONS)  # causes of a guest's own traps

# SBI calls that KVM leaves to its user: the console, and numbers of experiments and vendors.
CONSOLE = (0x01, 0x02, 0x4442434E)
FREE = range(0x0800_0000, 0x0A00_0000)

FENCES = 0x52464E43  # the extension of calls that fence on other harts

STOPPED = p.STOPPED
BREAK = traps.BREAKPOINT
INTERRUPT = privileged_traps.INTERRUPT  # of a cause
A0, A1, A6, A7 = 10, 11, 16, 17


class VmExit(NamedTuple):
    """A trap that ended a guest's run, as HS mode finds it. The guest's registers are those before the instruction."""

    scause: int
    stval: int
    sepc: int
    htval: int  # the guest physical address of a guest-page fault, shifted right by 2
    htinst: int  # 0 of explicit accesses, as is legal: the instruction is not handed over
    hstatus: int

    @property
    def gpa(self) -> int:
        """The guest physical address of a guest-page fault: of the access, or of the guest's table entry."""
        return self.htval << 2 | (0 if self.htinst else self.stval & 3)


NAMES = {
    **traps.NAMES, **traps.GUEST_NAMES, SUPERVISOR_CALL: "environment call from VS-mode",
}  # fmt: skip


class Hart(Protocol):
    """What is asked of a hart: its state, and the domain of integers while it stands still."""

    state: Any
    vm: Any
    space: Any

    def at_rest(self) -> Any: ...


def call(slots: Any) -> tuple[int, int, tuple[int, ...]]:
    """The supervisor's call: extension, function, arguments."""
    return slots[A7], slots[A6], tuple(slots[A0:A6])


def is_for_user(extension: int) -> bool:
    """Whether this call is left to KVM's user."""
    return extension in CONSOLE or extension in FREE


def answer(slots: Any, extension: int, error: int, value: int) -> None:
    """Give a call its answer. Calls of version 0.1 have no second word."""
    slots[A0] = error & p.ALL
    if extension > 8:
        slots[A1] = value & p.ALL


NOT_SUPPORTED = sbi.NOT_SUPPORTED
WAIT = 0x1050_0073  # wfi
ILLEGAL = traps.ILLEGAL_INSTRUCTION


def length(word: int) -> int:
    """Bytes of the instruction that begins with this parcel."""
    return 4 if word & 3 == 3 else 2


# --- registers by their numbers -------------------------------------------------------------------------------------

RISCV = 0x80 << 56
U32, U64 = 2 << 52, 3 << 52
CONFIG, CORE, CSR, TIMER, FP_F, FP_D, ISA_EXT = (kind << 24 for kind in (1, 2, 3, 4, 5, 6, 7))


class Register(NamedTuple):
    """One that KVM_GET_ONE_REG reads. What cannot be set may be set to its value."""

    name: str
    get: Callable[[Hart], int]
    set: Callable[[Hart, int], None] | None = None


def number(kind: int, index: int, size: int = U64) -> int:
    """The number of a register of KVM's: its kind (CORE, CSR, ...), its place there, its size."""
    return RISCV | size | kind | index


EXTENSIONS = """a c d f h i m svpbmt sstc svinval zihintpause zicbom zicboz zbb ssaia v svnapot zba zbs zicntr zicsr
zifencei zihpm smstateen zicond zbc zbkb zbkc zbkx zknd zkne zknh zkr zksed zksh zkt zvbb zvbc zvkb zvkg zvkned zvknha
zvknhb zvksed zvksh zvkt zfh zfhmin zihintntl zvfh zvfhmin zfa ztso zacas sscofpmf zimop zca zcb zcd zcf zcmop zawrs
smnpm ssnpm svade svadu svvptc zabha ziccrse zaamo zalrsc zicbop zfbfmin zvfbfmin zvfbfwma zclsd zilsd zalasr""".split()
CSRS = {  # in KVM's order
    "sstatus": 0x100, "sie": 0x104, "stvec": 0x105, "sscratch": 0x140, "sepc": 0x141, "scause": 0x142, "stval": 0x143,
    "sip": 0x144, "satp": 0x180, "scounteren": 0x106, "senvcfg": 0x10A,
}  # fmt: skip
SATP_MODE = 10  # the largest that there is: Sv57


class View(Protocol):
    """Where a hart has what is the guest's (`guests.riscv.worlds`)."""

    compare: int  # the slot of the time at which its timer comes

    def csr(self, number: int) -> int:
        """The CSR in which this one of the guest's is, by number."""

    def pc(self, hart: Any) -> int: ...

    def set_pc(self, hart: Any, value: int) -> None: ...

    def mode(self, hart: Any) -> int: ...

    def set_mode(self, hart: Any, mode: int) -> None: ...


def one_regs(features: frozenset[str], table: dict[int, csrs.Csr], view: View) -> dict[int, Register]:
    """All registers of a virtual CPU by number: of a guest with these extensions, on a hart that has these CSRs."""
    found = {number(CORE, 0): Register("pc", view.pc, lambda hart, value: view.set_pc(hart, value & p.ALL & ~1))}
    for i, name in enumerate(registers.ABI_X):
        if i:
            found[number(CORE, i)] = _slot(name, registers.X + i)
    # supervisor mode for 1, user mode for everything else, as KVM has it
    set_mode = lambda hart, value: view.set_mode(hart, p.SUPERVISOR if value == 1 else p.USER)
    found[number(CORE, 32)] = Register("mode", view.mode, set_mode)
    for i, (name, at) in enumerate(CSRS.items()):
        found[number(CSR, i)] = _control(name, table[view.csr(at)])
    compare = _slot("compare", view.compare)
    for i, register in enumerate((
        Register("frequency", lambda hart: 10**9 // csrs.TICKS),
        Register("time", lambda hart: hart.vm.clock.time, _set_time),
        compare,
        Register("state", lambda hart: int(compare.get(hart) != p.ALL), _timer_off(view.compare)),
    )):  # fmt: skip
        found[number(TIMER, i)] = register
    if "f" in features:
        for kind, size, mask in ((FP_F, U32, 0xFFFF_FFFF), (FP_D, U64, p.ALL)):
            for i, name in enumerate(registers.ABI_F):
                found[number(kind, i, size)] = _float(name, registers.F + i, mask)
            found[number(kind, 32, U32)] = _control("fcsr", csrs.CSRS[0x003])
    for i, (name, value) in enumerate((
        ("isa", privileged_csrs.misa(features) & (1 << 26) - 1), ("zicbom_block_size", BLOCK), ("mvendorid", 0),
        ("marchid", 0), ("mimpid", 0), ("zicboz_block_size", BLOCK), ("satp_mode", SATP_MODE),
    )):  # fmt: skip
        found[number(CONFIG, i)] = _constant(name, value)
    for i, name in enumerate(EXTENSIONS):
        if name in features:
            found[number(ISA_EXT, i)] = _constant(name, 1)
    return found


def _slot(name: str, slot: int) -> Register:
    def put(hart: Hart, value: int) -> None:
        hart.state.slots[slot] = value

    return Register(name, lambda hart: hart.state.slots[slot], put)


def _float(name: str, slot: int, mask: int) -> Register:
    """The single-precision view of a register is its low half, boxed when it is set."""

    def put(hart: Hart, value: int) -> None:
        hart.state.slots[slot] = value | p.ALL & ~mask

    return Register(name, lambda hart: hart.state.slots[slot] & mask, put)


def _constant(name: str, value: int) -> Register:
    return Register(name, lambda hart: value)


def _control(name: str, csr: csrs.Csr) -> Register:
    """As an instruction reads and writes it; who may is not asked."""

    def put(hart: Hart, value: int) -> None:
        assert csr.write is not None
        csr.write(hart.at_rest(), value)

    return Register(name, lambda hart: int(csr.read(hart.at_rest())), put)


def _set_time(hart: Hart, value: int) -> None:
    hart.vm.clock.time = value


def _timer_off(compare: int) -> Callable[[Hart, int], None]:
    """Off: it never comes. On: it comes at `compare`, which is set before."""

    def put(hart: Hart, value: int) -> None:
        if value == 0:
            hart.state.slots[compare] = p.ALL

    return put
