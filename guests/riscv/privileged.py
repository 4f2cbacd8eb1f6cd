"""The privileged state of a hart: slots, fields, modes, and what bodies ask of them (Privileged ISA, 1.13).

Everything that a machine's guest has and a Linux process has not: slots behind those of `registers`. Owns: their
numbers, the fields of mstatus and of the environment configuration, reset values. Must not know: CSR numbers, traps.
"""

from __future__ import annotations

from typing import Any

from guests.riscv import registers
from guests.spec import Register

USER, SUPERVISOR, MACHINE = 0, 1, 3  # privilege modes, as mstatus.MPP holds them
WFI, STOPPED, SUSPENDED, YIELDED = 1, 2, 3, 4  # what a hart waits for: an interrupt; its start; as 1; its next turn

PMP_ENTRIES = 16
_NAMES = (
    "privilege", "waiting", "lines",  # the mode; what it waits for (below); interrupt lines, by their place in mip
    "mstatus", "medeleg", "mideleg", "mie", "mip", "mtvec", "mcounteren", "mcountinhibit", "menvcfg", "mscratch",
    "mepc", "mcause", "mtval", "mhartid", "cycle_base", "instret_base", "stvec", "scounteren", "senvcfg", "sscratch",
    "sepc", "scause", "stval", "satp", "stimecmp", "pmpcfg0", "pmpcfg2", *(f"pmpaddr{i}" for i in range(PMP_ENTRIES)),
    "idle", "time_offset",  # instructions' worth of time in which it retired none; ticks that `time` was put forward
    "crowded",  # whether another hart could go on, in this one's place
)  # fmt: skip
SLOT = {name: registers.SLOTS + i for i, name in enumerate(_NAMES)}
SLOTS = registers.SLOTS + len(_NAMES)
REGISTERS = (*registers.REGISTERS, *(Register(name, slot, "privileged") for name, slot in SLOT.items()))
PRIVILEGE, WAITING, LINES = (SLOT[name] for name in ("privilege", "waiting", "lines"))
MSTATUS, MEDELEG, MIDELEG, MIE, MIP = (SLOT[name] for name in ("mstatus", "medeleg", "mideleg", "mie", "mip"))
MTVEC, MEPC, MCAUSE, MTVAL = (SLOT[name] for name in ("mtvec", "mepc", "mcause", "mtval"))
STVEC, SEPC, SCAUSE, STVAL = (SLOT[name] for name in ("stvec", "sepc", "scause", "stval"))
MCOUNTEREN, SCOUNTEREN, MCOUNTINHIBIT = (SLOT[name] for name in ("mcounteren", "scounteren", "mcountinhibit"))
MENVCFG, SENVCFG, SATP, STIMECMP = (SLOT[name] for name in ("menvcfg", "senvcfg", "satp", "stimecmp"))
IDLE, TIME_OFFSET, CROWDED = SLOT["idle"], SLOT["time_offset"], SLOT["crowded"]
CYCLE_BASE, INSTRET_BASE = SLOT["cycle_base"], SLOT["instret_base"]
PMPCFG0, PMPADDR0 = SLOT["pmpcfg0"], SLOT["pmpaddr0"]

# Fields of mstatus. SD, the highest bit, is not stored.
ALL = (1 << 64) - 1
SIE, MIE_BIT, SPIE, MPIE, SPP = 1 << 1, 1 << 3, 1 << 5, 1 << 7, 1 << 8
MPP_SHIFT, MPP = 11, 3 << 11
FS = 3 << 13
MPRV, SUM, MXR, TVM, TW, TSR = (1 << bit for bit in range(17, 23))
MAPPING = MPRV | MPP | SUM | MXR  # what translation of addresses depends on
UXL, SXL = 2 << 32, 2 << 34  # both 64 bits, and fixed
SD = 1 << 63

# Interrupts by their place in mip, mie and mideleg.
SSI, MSI, STI, MTI, SEI, MEI = (1 << code for code in (1, 3, 5, 7, 9, 11))
SUPERVISOR_INTERRUPTS = SSI | STI | SEI
INTERRUPTS = SUPERVISOR_INTERRUPTS | MSI | MTI | MEI

# Fields of menvcfg and senvcfg.
FIOM, CBIE, CBCFE, CBZE = 1, 3 << 4, 1 << 6, 1 << 7
ADUE, PBMTE, STCE = 1 << 61, 1 << 62, 1 << 63
TIME = 2  # the bit of `time` in the counter enables

# Accessed and dirty bits are the hardware's at first: kernels that know nothing of menvcfg rely on it.
RESET = {"privilege": MACHINE, "mstatus": UXL | SXL, "menvcfg": ADUE}


def link(domain: Any) -> None:
    """Give a domain the register files that bodies index: those of a process, and all of the slots."""
    registers.link(domain)
    domain.s = domain.files()(0, SLOTS)


def need(m, mode: int) -> None:
    """An illegal instruction in a less privileged mode."""
    m.illegal_if(m.ltu(m.s[PRIVILEGE], mode))


def need_clear(m, mask: int) -> None:
    """An illegal instruction below machine mode where a bit of mstatus that traps it (TVM, TW, TSR) is set."""
    trapped = m.ne(m.and_(m.s[MSTATUS], mask), 0)
    m.illegal_if(m.both(trapped, m.ltu(m.s[PRIVILEGE], MACHINE)))


def replaced(m, value, mask: int, field):
    """`value` with the bits of `mask` made those of `field`."""
    return m.or_(m.and_(value, ALL & ~mask), field)


def bit_if(m, condition, mask: int):
    """`mask` where the condition holds, else 0."""
    return m.select(condition, mask, 0)


def has(m, value, mask: int):
    """Whether any bit of the mask is set."""
    return m.ne(m.and_(value, mask), 0)


def pending(m):
    """mip as it is read: what software set, and the lines. With Sstc on, STIP is the timer's alone."""
    stored = m.s[MIP]
    stored = m.select(has(m, m.s[MENVCFG], STCE), m.and_(stored, ALL & ~STI), stored)
    return m.or_(stored, m.s[LINES])
