"""The privileged state of a hart: slots, fields, modes, and what bodies ask of them (Privileged ISA, 1.13).

Everything that a machine's guest has and a Linux process has not: slots behind those of `registers`. Owns: their
numbers, the fields of mstatus and of the environment configuration, reset values. Must not know: CSR numbers, traps.
"""

from __future__ import annotations

from typing import Any

from guests.riscv import registers, traps
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
_HYPERVISOR_NAMES = (
    "virtual",  # the virtualization mode V: 1 in VS and VU mode
    "hstatus", "hedeleg", "hideleg", "hcounteren", "htval", "htinst", "hgatp", "henvcfg", "htimedelta",
    "vsstatus", "vstvec", "vsscratch", "vsepc", "vscause", "vstval", "vsatp", "vstimecmp", "mtval2", "mtinst",
    "guest_address", "guest_access",  # what the access that faulted leaves for the trap (below)
    "told",  # whether the machine is to be told where the hart goes into a guest
)  # fmt: skip
_SLOT = {name: registers.SLOTS + i for i, name in enumerate((*_NAMES, *_HYPERVISOR_NAMES))}
SLOT = {name: _SLOT[name] for name in _NAMES}
HYPERVISOR_SLOT = {name: _SLOT[name] for name in _HYPERVISOR_NAMES}  # of a hart with the hypervisor extension
SLOTS = registers.SLOTS + len(SLOT)
HYPERVISOR_SLOTS = SLOTS + len(HYPERVISOR_SLOT)
REGISTERS = (*registers.REGISTERS, *(Register(name, slot, "privileged") for name, slot in SLOT.items()))
HYPERVISOR_REGISTERS = tuple(Register(name, slot, "hypervisor") for name, slot in HYPERVISOR_SLOT.items())
PRIVILEGE, WAITING, LINES = (SLOT[name] for name in ("privilege", "waiting", "lines"))
MSTATUS, MEDELEG, MIDELEG, MIE, MIP = (SLOT[name] for name in ("mstatus", "medeleg", "mideleg", "mie", "mip"))
MTVEC, MEPC, MCAUSE, MTVAL = (SLOT[name] for name in ("mtvec", "mepc", "mcause", "mtval"))
STVEC, SEPC, SCAUSE, STVAL = (SLOT[name] for name in ("stvec", "sepc", "scause", "stval"))
MCOUNTEREN, SCOUNTEREN, MCOUNTINHIBIT = (SLOT[name] for name in ("mcounteren", "scounteren", "mcountinhibit"))
MENVCFG, SENVCFG, SATP, STIMECMP = (SLOT[name] for name in ("menvcfg", "senvcfg", "satp", "stimecmp"))
IDLE, TIME_OFFSET, CROWDED = SLOT["idle"], SLOT["time_offset"], SLOT["crowded"]
CYCLE_BASE, INSTRET_BASE = SLOT["cycle_base"], SLOT["instret_base"]
PMPCFG0, PMPADDR0 = SLOT["pmpcfg0"], SLOT["pmpaddr0"]
VIRTUAL, HSTATUS, HEDELEG, HIDELEG, HCOUNTEREN, HTVAL, HTINST, HGATP, HENVCFG, HTIMEDELTA = (
    _SLOT[name] for name in _HYPERVISOR_NAMES[:10]
)
VSSTATUS, VSTVEC, VSSCRATCH, VSEPC, VSCAUSE, VSTVAL, VSATP, VSTIMECMP, MTVAL2, MTINST = (
    _SLOT[name] for name in _HYPERVISOR_NAMES[10:20]
)
GUEST_ADDRESS, GUEST_ACCESS, TOLD = (_SLOT[name] for name in _HYPERVISOR_NAMES[20:])

# Fields of mstatus. SD, the highest bit, is not stored.
ALL = (1 << 64) - 1
SIE, MIE_BIT, SPIE, MPIE, SPP = 1 << 1, 1 << 3, 1 << 5, 1 << 7, 1 << 8
MPP_SHIFT, MPP = 11, 3 << 11
FS = 3 << 13
MPRV, SUM, MXR, TVM, TW, TSR = (1 << bit for bit in range(17, 23))
GVA, MPV = 1 << 38, 1 << 39  # of a hart with the hypervisor extension
MAPPING = MPRV | MPP | SUM | MXR  # what translation of addresses depends on
UXL, SXL = 2 << 32, 2 << 34  # both 64 bits, and fixed
SD = 1 << 63

# Interrupts by their place in mip, mie and mideleg.
SSI, MSI, STI, MTI, SEI, MEI = (1 << code for code in (1, 3, 5, 7, 9, 11))
SUPERVISOR_INTERRUPTS = SSI | STI | SEI
INTERRUPTS = SUPERVISOR_INTERRUPTS | MSI | MTI | MEI
VSSI, VSTI, VSEI = (1 << code for code in (2, 6, 10))
GUEST_INTERRUPTS = VSSI | VSTI | VSEI  # their numbers in a guest are lower by one
GUEST_EXCEPTIONS = 1 << 10 | 1 << 20 | 1 << 21 | 1 << 22 | 1 << 23  # of medeleg
# There is no external interrupt controller for guests: GEILEN is 0, and with it SGEI, hgeip, hgeie and hstatus.VGEIN.

# Fields of hstatus.
H_GVA, SPV, SPVP, HU, VTVM, VTW, VTSR = (1 << bit for bit in (6, 7, 8, 9, 20, 21, 22))

# What is in the slot guest_access while a trap is on its way: whether the address is a guest's though V is 0 (HLV,
# HSV, MPRV), and the pseudoinstruction that htinst and mtinst get, of an implicit access to the guest's page tables.
GUEST_VIRTUAL, TABLE_READ, TABLE_WRITE = 1, 0x3000, 0x3020

# Fields of menvcfg and senvcfg.
FIOM, CBIE, CBCFE, CBZE = 1, 3 << 4, 1 << 6, 1 << 7
ADUE, PBMTE, STCE = 1 << 61, 1 << 62, 1 << 63
TIME = 2  # the bit of `time` in the counter enables

# Accessed and dirty bits are the hardware's at first: kernels that know nothing of menvcfg rely on it.
RESET = {"privilege": MACHINE, "mstatus": UXL | SXL, "menvcfg": ADUE}
HYPERVISOR_RESET = {"hstatus": UXL, "vsstatus": UXL, "henvcfg": ADUE, "mideleg": GUEST_INTERRUPTS}


def reset(hypervisor: bool) -> dict[int, int]:
    """The slots that are not 0 after a reset, and their values."""
    values = RESET | (HYPERVISOR_RESET if hypervisor else {})
    return {_SLOT[name]: value for name, value in values.items()}


def link(domain: Any) -> None:
    """Give a domain the register files that bodies index: those of a process, and all of the slots."""
    registers.link(domain)
    domain.s = domain.files()(0, SLOTS)
    domain.hypervisor = False


def link_hypervisor(domain: Any) -> None:
    """The same for a hart with the hypervisor extension, of which bodies ask `m.hypervisor`."""
    registers.link(domain)
    domain.s = domain.files()(0, HYPERVISOR_SLOTS)
    domain.hypervisor = True


def virtual(m):
    """Whether V is 1; a hart without the extension must not be asked."""
    return m.ne(m.s[VIRTUAL], 0)


def virtual_if(m, condition) -> None:
    """A virtual-instruction exception: a guest's hypervisor could do what the guest may not."""
    m.illegal_if(condition, traps.VIRTUAL_INSTRUCTION)


def need(m, mode: int) -> None:
    """An illegal instruction in a less privileged mode. What supervisor mode may, a guest's user mode has virtual."""
    low = m.ltu(m.s[PRIVILEGE], mode)
    if m.hypervisor and mode == SUPERVISOR:
        virtual_if(m, m.both(low, virtual(m)))
    m.illegal_if(low)


def need_hypervisor(m) -> None:
    """What HS mode and machine mode may: an illegal instruction in user mode, a virtual one in a guest."""
    virtual_if(m, virtual(m))
    m.illegal_if(m.ltu(m.s[PRIVILEGE], SUPERVISOR))


def need_clear(m, mask: int, guest: int = 0) -> None:
    """An illegal instruction below machine mode where a bit of mstatus that traps it (TVM, TW, TSR) is set.

    In a guest it is another bit that does, of hstatus (VTVM, VTW, VTSR), and the instruction is a virtual one; only TW
    traps there as well.
    """
    trapped = m.both(m.ne(m.and_(m.s[MSTATUS], mask), 0), m.ltu(m.s[PRIVILEGE], MACHINE))
    if m.hypervisor:
        if mask != TW:
            trapped = m.both(trapped, m.not_(virtual(m)))
        m.illegal_if(trapped)
        virtual_if(m, m.both(virtual(m), has(m, m.s[HSTATUS], guest)))
    else:
        m.illegal_if(trapped)


def replaced(m, value, mask: int, field):
    """`value` with the bits of `mask` made those of `field`."""
    return m.or_(m.and_(value, ALL & ~mask), field)


def merged(m, old, mask, new):
    """`old` with the bits of `mask`, which may be no constant, from `new`."""
    return m.or_(m.and_(old, m.xor(mask, ALL)), m.and_(new, mask))


def bit_if(m, condition, mask: int):
    """`mask` where the condition holds, else 0."""
    return m.select(condition, mask, 0)


def has(m, value, mask: int):
    """Whether any bit of the mask is set."""
    return m.ne(m.and_(value, mask), 0)


def mapping(m) -> int:
    """The bits of mstatus on which translation of addresses depends."""
    return MAPPING | MPV if m.hypervisor else MAPPING


def by_virtual(m, slot: int, guest: int):
    """The value of a supervisor's register as its own name says it: in a guest that of another slot."""
    return m.select(virtual(m), m.s[guest], m.s[slot]) if m.hypervisor else m.s[slot]


def pending(m, stored=None):
    """mip as it is read: what software set (`stored`, if it is to be another), and the lines. With Sstc on, STIP is the
    timer's alone.
    """
    stored = m.s[MIP] if stored is None else stored
    stored = m.select(has(m, m.s[MENVCFG], STCE), m.and_(stored, ALL & ~STI), stored)
    return m.or_(stored, m.s[LINES])
