"""All CSRs of a machine's guest as one table: number, name, slot, writable bits, legal values, who may, what follows.

A row is data; `table` turns rows into the `Csr`s that the bodies of Zicsr look up. The privilege that a CSR asks for
is in its number, bits 9:8. Where the manual leaves a choice (WARL), the row shows ours. Owns: these rows
(Privileged ISA, CSR listing, machine-level and supervisor-level CSRs). Must not know: engines, page tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from guests.riscv import csrs, privileged_traps
from guests.riscv import privileged as p
from guests.riscv.csrs import Csr
from guests.riscv.privileged import ALL
from guests.riscv.privileged_traps import After
from guests.spec import Treat
from ir.records import record

HYPERVISOR = 2  # the mode that numbers of CSRs ask for which are a hypervisor's
BYTES = 0x0101_0101_0101_0101


@record(frozen=True)
class Row:
    """One CSR. What is not writable keeps its value; `view` is how a CSR shows a part of another one's slot.

    `legal` makes a written value a legal one, given the old; `check` refuses an access beyond what the number says.
    """

    number: int
    name: str
    slot: int | None = None
    mask: int = ALL  # writable bits
    view: int = ALL  # readable bits
    guest: int | None = None  # the slot that takes its place in a guest (V is 1)
    legal: Callable[[Any, Any, Any], Any] | None = None
    read: Callable[[Any], Any] | None = None  # instead of what slot and view say
    write: Callable[[Any, Any], None] | None = None
    check: Callable[[Any], None] | None = None
    attends: bool = False  # whether a write may make an interrupt due, or move a deadline
    inline: bool = False  # translated in place: what systems touch in every trap, and to be left alone
    constant: int | None = None


# --- legal values ---------------------------------------------------------------------------------------


def legal_guest_tables(m, old, new):
    """vsatp as a hypervisor writes it, and hgatp: a mode that is not there is not taken, all else is."""
    return m.select(_is_table_mode(m, new), new, p.replaced(m, new, 0xF << 60, m.and_(old, 0xF << 60)))


def _is_table_mode(m, value):
    mode = m.shr(value, 60)
    return m.either(m.eq(mode, 0), m.both(m.geu(mode, 8), m.ltu(mode, 11)))


def _legal_mstatus(m, old, new):
    """MPP: mode 2 is none, and becomes user mode."""
    hypervisor = m.eq(m.and_(new, p.MPP), 2 << p.MPP_SHIFT)
    return m.select(hypervisor, m.and_(new, ALL & ~p.MPP), new)


def _legal_satp(m, old, new):
    """A write with a mode that is not there has no effect at all."""
    return m.select(_is_table_mode(m, new), new, old)


def legal_envcfg(m, old, new):
    """CBIE 2 is reserved, and becomes 0."""
    return m.select(m.eq(m.and_(new, p.CBIE), 2 << 4), m.and_(new, ALL & ~p.CBIE), new)


def _legal_pmpcfg(m, old, new):
    """By the byte: what is locked stays, and writable without readable (reserved) is neither."""
    locked = m.mul(m.and_(m.shr(old, 7), BYTES), 0xFF)
    unreadable = m.and_(m.xor(new, ALL), BYTES)
    new = m.and_(new, m.xor(m.shl(unreadable, 1), ALL))
    return m.or_(m.and_(old, locked), m.and_(new, m.xor(locked, ALL)))


def _legal_pmpaddr(index: int, m, old, new):
    """A locked entry's address stays, and so does that where a locked range (TOR) behind it begins."""
    config = lambda i: m.shr(m.s[p.PMPCFG0 + i // 8], i % 8 * 8)
    locked = p.has(m, config(index), 0x80)
    if index + 1 < p.PMP_ENTRIES:
        follower = m.and_(config(index + 1), 0x98)
        locked = m.either(locked, m.eq(follower, 0x88))
    return m.select(locked, old, new)


# --- values that are made when they are read -------------------------------------------------------------


def _status(view: int, m):
    """mstatus or what sstatus shows of it, with SD: FS is dirty."""
    return with_dirty(m, m.s[p.MSTATUS], view)


def _supervisor_status(m):
    """sstatus, which is vsstatus in a guest."""
    return with_dirty(m, p.by_virtual(m, p.MSTATUS, p.VSSTATUS), SSTATUS | 3 << 32)


def with_dirty(m, stored, view: int):
    dirty = m.eq(m.and_(stored, p.FS), p.FS)
    return m.or_(m.and_(stored, view), p.bit_if(m, dirty, p.SD))


def _read_counter(base: int, bit: int, m):
    """A counter runs from its base, or is its base while it is inhibited."""
    inhibited = p.has(m, m.s[p.MCOUNTINHIBIT], 1 << bit)
    return m.select(inhibited, m.s[base], m.add(m.s[base], m.instret()))


def _write_counter(base: int, bit: int, m, value):
    """The value is that before the next instruction: the one that writes is not counted."""
    inhibited = p.has(m, m.s[p.MCOUNTINHIBIT], 1 << bit)
    m.s[base] = m.select(inhibited, value, m.sub(value, m.add(m.instret(), 1)))


def _read_time(m):
    """Ticks of all time, in which instructions were retired or none was; a guest's are ahead by htimedelta."""
    time = m.add(m.divu(m.add(m.instret(), m.s[p.IDLE]), csrs.TICKS), m.s[p.TIME_OFFSET])
    return m.add(time, m.select(p.virtual(m), m.s[p.HTIMEDELTA], 0)) if m.hypervisor else time


_COUNTERS = ((p.CYCLE_BASE, 0), (p.INSTRET_BASE, 2))


def _write_inhibit(m, value):
    """Counters keep their values when they stop and when they start again."""
    values = [_read_counter(base, bit, m) for base, bit in _COUNTERS]
    m.s[p.MCOUNTINHIBIT] = m.and_(value, 0xFFFF_FFFD)
    for (base, bit), kept in zip(_COUNTERS, values):
        inhibited = p.has(m, value, 1 << bit)
        m.s[base] = m.select(inhibited, kept, m.sub(kept, m.instret()))


def _write_mip(m, value):
    """The machine's bits belong to devices, and STIP to the timer where there is Sstc."""
    mask = m.select(p.has(m, m.s[p.MENVCFG], p.STCE), p.SSI | p.SEI, p.SUPERVISOR_INTERRUPTS)
    mask = m.or_(mask, p.VSSI) if m.hypervisor else mask
    m.s[p.MIP] = p.merged(m, m.s[p.MIP], mask, value)


def read_vsip(m):
    """What a guest sees of its interrupts, under the supervisor's numbers."""
    return m.shr(m.and_(p.pending(m), m.s[p.HIDELEG]), 1)


def read_vsie(m):
    return m.shr(m.and_(m.s[p.MIE], m.s[p.HIDELEG]), 1)


def _delegated(m):
    """Interrupts of the supervisor that is in HS mode."""
    delegated = m.s[p.MIDELEG]
    return m.and_(delegated, p.SUPERVISOR_INTERRUPTS) if m.hypervisor else delegated


def _read_sip(m):
    own = m.and_(p.pending(m), _delegated(m))
    return m.select(p.virtual(m), read_vsip(m), own) if m.hypervisor else own


def _write_sip(m, value):
    mask, bits = m.and_(m.s[p.MIDELEG], p.SSI), value
    if m.hypervisor:
        inside = p.virtual(m)
        mask = m.select(inside, m.and_(m.s[p.HIDELEG], p.VSSI), mask)
        bits = m.select(inside, m.shl(value, 1), value)
    m.s[p.MIP] = p.merged(m, m.s[p.MIP], mask, bits)


def _read_sie(m):
    own = m.and_(m.s[p.MIE], _delegated(m))
    return m.select(p.virtual(m), read_vsie(m), own) if m.hypervisor else own


def _write_sie(m, value):
    mask, bits = _delegated(m), value
    if m.hypervisor:
        inside = p.virtual(m)
        mask = m.select(inside, m.s[p.HIDELEG], mask)
        bits = m.select(inside, m.shl(value, 1), value)
    m.s[p.MIE] = p.merged(m, m.s[p.MIE], mask, bits)


# --- who may ----------------------------------------------------------------------------------------------


def _counter_enabled(bit: int, m):
    """Below machine mode mcounteren must allow it, in a guest hcounteren, below supervisor mode scounteren too."""
    mode = m.s[p.PRIVILEGE]
    refused = m.both(m.ltu(mode, p.MACHINE), m.not_(p.has(m, m.s[p.MCOUNTEREN], 1 << bit)))
    m.illegal_if(refused)
    user = m.both(m.ltu(mode, p.SUPERVISOR), m.not_(p.has(m, m.s[p.SCOUNTEREN], 1 << bit)))
    if m.hypervisor:
        refused = m.either(user, m.not_(p.has(m, m.s[p.HCOUNTEREN], 1 << bit)))
        p.virtual_if(m, m.both(p.virtual(m), refused))
    m.illegal_if(user)


def timer_enabled(m):
    """stimecmp below machine mode asks for menvcfg.STCE and mcounteren.TM, in a guest for henvcfg and hcounteren."""
    allowed = m.both(p.has(m, m.s[p.MENVCFG], p.STCE), p.has(m, m.s[p.MCOUNTEREN], p.TIME))
    m.illegal_if(m.both(m.ltu(m.s[p.PRIVILEGE], p.MACHINE), m.not_(allowed)))
    if m.hypervisor:
        allowed = m.both(p.has(m, m.s[p.HENVCFG], p.STCE), p.has(m, m.s[p.HCOUNTEREN], p.TIME))
        p.virtual_if(m, m.both(p.virtual(m), m.not_(allowed)))


def _not_trapped(m):
    """satp in supervisor mode, unless mstatus.TVM traps it, or hstatus.VTVM a guest's."""
    p.need_clear(m, p.TVM, p.VTVM)


def float_on(m):
    """Floating-point state can be reached: mstatus.FS is not off, nor a guest's own in vsstatus."""
    off = m.eq(m.and_(m.s[p.MSTATUS], p.FS), 0)
    if m.hypervisor:
        off = m.either(off, m.both(p.virtual(m), m.eq(m.and_(m.s[p.VSSTATUS], p.FS), 0)))
    m.illegal_if(off)


def float_dirty(m):
    """Floating-point state was changed."""
    m.s[p.MSTATUS] = m.or_(m.s[p.MSTATUS], p.FS)
    if m.hypervisor:
        m.s[p.VSSTATUS] = m.or_(m.s[p.VSSTATUS], p.bit_if(m, p.virtual(m), p.FS))


# --- the rows --------------------------------------------------------------------------------------------

def set_status(m, slot: int, old, new, guest: bool = False):
    """mstatus becomes `new`, or where sstatus is written in a `guest`, vsstatus. Where it lets an interrupt in, the
    monitor does it.
    """
    remaps = p.has(m, m.xor(old, new), p.mapping(m))
    own, theirs = new if slot == p.MSTATUS else None, new if slot == p.VSSTATUS else None
    if guest:
        inside = p.virtual(m)
        own, theirs = m.select(inside, m.s[p.MSTATUS], new), m.select(inside, new, m.s[p.VSSTATUS])
    due = m.ne(privileged_traps.due(m, After.of(m, status=own, guest_status=theirs)), 0)
    m.monitor_if(due)
    for slot, value in ((p.MSTATUS, own), (p.VSSTATUS, theirs)):
        if value is not None:
            m.s[slot] = value
    m.remap_if(remaps)
    m.attend_if(due)


SSTATUS = p.SIE | p.SPIE | p.SPP | p.FS | p.SUM | p.MXR
_MSTATUS = SSTATUS | p.MIE_BIT | p.MPIE | p.MPP | p.MPRV | p.TVM | p.TW | p.TSR
_REMAPS = {  # what addresses mean
    p.MENVCFG, p.SATP, p.HENVCFG, p.HGATP, p.VSATP, *range(p.PMPCFG0, p.PMPADDR0 + p.PMP_ENTRIES),
}  # fmt: skip
_DELEGABLE = 0xB3FE  # exceptions 1-9, 12, 13 and 15: all but those that cannot come from below
_CBO = p.FIOM | p.CBIE | p.CBCFE | p.CBZE


def _rows(misa: int, align: int, hypervisor: bool) -> Iterator[Row]:
    writable = _MSTATUS | p.GVA | p.MPV if hypervisor else _MSTATUS
    delegable = _DELEGABLE | (1 if align == 4 else 0) | (p.GUEST_EXCEPTIONS if hypervisor else 0)
    interrupts = p.INTERRUPTS | (p.GUEST_INTERRUPTS if hypervisor else 0)
    slot = p.SLOT
    epc = ALL & -align
    yield Row(0xF11, "mvendorid", constant=0)
    yield Row(0xF12, "marchid", constant=0)
    yield Row(0xF13, "mimpid", constant=0)
    yield Row(0xF14, "mhartid", slot["mhartid"], inline=True)
    yield Row(0xF15, "mconfigptr", constant=0)
    yield Row(0x300, "mstatus", p.MSTATUS, writable, legal=_legal_mstatus, read=partial(_status, ALL), inline=True)
    yield Row(0x301, "misa", constant=misa)
    yield Row(0x302, "medeleg", p.MEDELEG, delegable)
    yield Row(0x303, "mideleg", p.MIDELEG, p.SUPERVISOR_INTERRUPTS, attends=True)
    yield Row(0x304, "mie", p.MIE, interrupts, attends=True, inline=True)
    yield Row(0x305, "mtvec", p.MTVEC, ALL & ~2)
    yield Row(0x306, "mcounteren", p.MCOUNTEREN, 0xFFFF_FFFF)
    yield Row(0x30A, "menvcfg", p.MENVCFG, _CBO | p.ADUE | p.PBMTE | p.STCE, legal=legal_envcfg, attends=True)
    yield Row(0x320, "mcountinhibit", p.MCOUNTINHIBIT, write=_write_inhibit)
    yield Row(0x340, "mscratch", slot["mscratch"], inline=True)
    yield Row(0x341, "mepc", p.MEPC, epc, inline=True)
    yield Row(0x342, "mcause", p.MCAUSE, inline=True)
    yield Row(0x343, "mtval", p.MTVAL, inline=True)
    yield Row(0x344, "mip", p.MIP, read=p.pending, write=_write_mip, attends=True, inline=True)
    for i in range(0, p.PMP_ENTRIES // 4, 2):
        yield Row(0x3A0 + i, f"pmpcfg{i}", p.PMPCFG0 + i // 2, 0x9F * BYTES, legal=_legal_pmpcfg)
    for i in range(p.PMP_ENTRIES // 4, 16, 2):
        yield Row(0x3A0 + i, f"pmpcfg{i}", constant=0)
    for i in range(p.PMP_ENTRIES):
        yield Row(0x3B0 + i, f"pmpaddr{i}", p.PMPADDR0 + i, (1 << 54) - 1, legal=partial(_legal_pmpaddr, i))
    for i in range(p.PMP_ENTRIES, 64):
        yield Row(0x3B0 + i, f"pmpaddr{i}", constant=0)
    for number, name, (base, bit) in ((0xB00, "mcycle", _COUNTERS[0]), (0xB02, "minstret", _COUNTERS[1])):
        yield Row(number, name, base, read=partial(_read_counter, base, bit), write=partial(_write_counter, base, bit))
    for i in range(3, 32):
        yield Row(0xB00 + i, f"mhpmcounter{i}", constant=0)
        yield Row(0x320 + i, f"mhpmevent{i}", constant=0)

    for number, name, value in ((0x7A0, "tselect", 0), (0x7A1, "tdata1", 0), (0x7A2, "tdata2", 0), (0x7A3, "tdata3", 0),
                                (0x7A4, "tinfo", 1)):  # fmt: skip
        yield Row(number, name, constant=value)  # Sdtrig: type 0, there is no trigger

    yield Row(0x100, "sstatus", p.MSTATUS, SSTATUS, guest=p.VSSTATUS, read=_supervisor_status, inline=True)
    yield Row(0x104, "sie", p.MIE, read=_read_sie, write=_write_sie, attends=True, inline=True)
    yield Row(0x105, "stvec", p.STVEC, ALL & ~2, guest=p.VSTVEC, inline=True)
    yield Row(0x106, "scounteren", p.SCOUNTEREN, 0xFFFF_FFFF)
    yield Row(0x10A, "senvcfg", p.SENVCFG, _CBO, legal=legal_envcfg, inline=True)
    yield Row(0x140, "sscratch", slot["sscratch"], guest=p.VSSCRATCH, inline=True)
    yield Row(0x141, "sepc", p.SEPC, epc, guest=p.VSEPC, inline=True)
    yield Row(0x142, "scause", p.SCAUSE, guest=p.VSCAUSE, inline=True)
    yield Row(0x143, "stval", p.STVAL, guest=p.VSTVAL, inline=True)
    yield Row(0x144, "sip", p.MIP, read=_read_sip, write=_write_sip, attends=True, inline=True)
    yield Row(0x14D, "stimecmp", p.STIMECMP, guest=p.VSTIMECMP, check=timer_enabled, attends=True)
    yield Row(0x180, "satp", p.SATP, guest=p.VSATP, legal=_legal_satp, check=_not_trapped, inline=True)


def _read(row: Row) -> Callable[[Any], Any]:
    slot, guest = row.slot, row.guest
    if row.read is not None:
        return row.read
    if row.constant is not None:
        return lambda m: row.constant
    assert slot is not None
    if guest is not None:
        return lambda m: p.by_virtual(m, slot, guest)
    return lambda m: m.s[slot] if row.view == ALL else m.and_(m.s[slot], row.view)


def _write(row: Row) -> Callable[[Any, Any], None]:
    def put(m, value):
        if row.write is not None:
            row.write(m, value)
        elif row.slot is not None:
            shared = row.guest is not None and m.hypervisor
            old = p.by_virtual(m, row.slot, row.guest) if shared else m.s[row.slot]
            new = m.or_(m.and_(old, m.xor(row.mask, ALL)), m.and_(value, row.mask))
            new = new if row.legal is None else row.legal(m, old, new)
            if row.slot in (p.MSTATUS, p.VSSTATUS):
                set_status(m, row.slot, old, new, shared)
                return
            if shared:
                inside = p.virtual(m)
                m.s[row.guest] = m.select(inside, new, m.s[row.guest])
                new = m.select(inside, m.s[row.slot], new)
            m.s[row.slot] = new
        if row.slot in _REMAPS:
            m.remap()
        if row.attends:
            m.attend()

    return put


def _check(number: int, more: Callable[[Any], None] | None) -> Callable[[Any], None]:
    """Who may: the number says which mode, and the row what else."""
    mode = number >> 8 & 3

    def check(m):
        if more is not None:  # first, since what is illegal is so for guests too
            more(m)
        if mode == HYPERVISOR:
            p.need_hypervisor(m)
        else:
            p.need(m, mode)

    return check


def misa(features: frozenset[str]) -> int:
    """MXL 64 bits, and a bit for each letter: supervisor and user mode, what is a letter, and B for its three parts."""
    letters = {"s", "u", *(name for name in features if len(name) == 1)}
    if {"zba", "zbb", "zbs"} <= features:
        letters.add("b")
    return 2 << 62 | sum(1 << ord(letter) - ord("a") for letter in letters)


def table(features: frozenset[str], more: Iterable[Row] = ()) -> dict[int, Csr]:
    """The CSRs of a machine whose harts have these extensions, by number: a process's among them, with their guards.

    `more` are rows of extensions that are not here.
    """
    found = {}
    for row in (*_rows(misa(features), 2 if "c" in features else 4, "h" in features), *more):
        read_only = row.number >> 10 == 3
        write = None if read_only else _write(row)
        stored = (lambda m: m.s[p.MIP]) if row.number == 0x344 else None
        found[row.number] = Csr(
            row.number, row.name, Treat.INLINE if row.inline else Treat.CALLOUT, _read(row), write, True,
            _check(row.number, row.check), stored,
        )
    for number, csr in csrs.CSRS.items():
        if csrs.EXTENSION[number] not in features:
            continue
        if number >= 0xC00:
            bit = number & 31
            counter = {0: found[0xB00].read, 1: _read_time, 2: found[0xB02].read}.get(bit, csr.read)
            found[number] = csr._replace(treat=Treat.INLINE, read=counter, check=partial(_counter_enabled, bit))
        else:
            found[number] = csr._replace(write=_dirtying(csr.write), check=float_on)
    return found


def _dirtying(write: Callable[[Any, Any], None] | None) -> Callable[[Any, Any], None]:
    def put(m, value):
        assert write is not None
        write(m, value)
        float_dirty(m)

    return put
