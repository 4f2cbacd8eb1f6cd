"""What people are shown of a hart: its CSRs as they are read, its page tables, its interrupts and traps by name.

Nothing here changes a hart: no accessed bit is set, no permission asked. Owns: these views. Must not know: how they
look in print.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping, MutableSequence
from typing import Any

from guests.riscv import mmu, traps
from guests.riscv import privileged as p
from guests.riscv.csrs import Csr
from guests.riscv.privileged_traps import HYPERVISOR_PRIORITY, INTERRUPT, PRIORITY
from guests.riscv.two_stage import WIDER
from guests.spec import Interrupt, Mapped, Step, Trap

SHOWN = """mhartid mstatus mip mie mideleg medeleg mtvec stvec mepc sepc mcause scause mtval stval mscratch sscratch
satp stimecmp mcounteren scounteren menvcfg senvcfg mcycle minstret""".split()
HYPERVISOR_SHOWN = """hstatus hedeleg hideleg hvip hgatp htval htinst htimedelta hcounteren henvcfg vsstatus vsie vsip
vstvec vsepc vscause vstval vsscratch vsatp vstimecmp mtval2 mtinst""".split()
NAMES = {p.SSI: "supervisor software", p.MSI: "machine software", p.STI: "supervisor timer", p.MTI: "machine timer",
         p.SEI: "supervisor external", p.MEI: "machine external", p.VSSI: "virtual supervisor software",
         p.VSTI: "virtual supervisor timer", p.VSEI: "virtual supervisor external"}  # fmt: skip
MODES = {p.MACHINE: "M", p.SUPERVISOR: "S", p.USER: "U", 4 | p.SUPERVISOR: "VS", 4 | p.USER: "VU"}
GUESTS = frozenset(mode for mode in MODES if mode & 4)
WAITING = {p.WFI: "waiting", p.STOPPED: "stopped", p.SUSPENDED: "suspended", p.YIELDED: "ready"}
LETTERS = tuple(zip((mmu.R, mmu.W, mmu.X, mmu.U, mmu.G, mmu.A, mmu.D), "rwxugad"))


def modes(hypervisor: bool) -> dict[int, str]:
    """Names of the modes there are, by number, the highest first."""
    return {mode: name for mode, name in MODES.items() if hypervisor or mode < 4}


def control(table: Mapping[int, Csr], m: Any) -> dict[str, int]:
    """CSRs by name, with the values that machine mode reads."""
    by_name = {csr.name: csr for csr in table.values()}
    shown = SHOWN + HYPERVISOR_SHOWN if m.hypervisor else SHOWN
    return {name: int(by_name[name].read(m)) for name in shown}


def interrupts(m: Any) -> list[Interrupt]:
    """The interrupts there are, the most urgent first."""
    pending = p.pending(m)
    return [
        Interrupt(INTERRUPT | bit.bit_length() - 1, NAMES[bit], bool(pending & bit), bool(m.s[p.MIE] & bit),
                  _taken_by(m, bit))
        for bit in (HYPERVISOR_PRIORITY if m.hypervisor else PRIORITY)
    ]  # fmt: skip


def _taken_by(m: Any, bit: int) -> str:
    if m.hypervisor and m.s[p.HIDELEG] & bit:
        return "VS"
    return "S" if m.s[p.MIDELEG] & bit else "M"


def trap(cause: int, mode: int) -> tuple[int, str]:
    """What mcause or scause holds after a trap of this cause from this mode, and its name."""
    if cause & INTERRUPT:
        return cause, f"{NAMES[1 << (cause & 63)]} interrupt"
    if cause == traps.USER_ECALL:
        number = {4 | p.USER: p.USER, 4 | p.SUPERVISOR: 2}.get(mode, mode)
        return cause + number, f"environment call from {MODES[mode]}-mode"
    return cause, traps.NAMES.get(cause) or traps.GUEST_NAMES[cause]


def mappings(
    slots: MutableSequence[int] | memoryview, read: Callable[[int], int], address: int | None = None
) -> Iterator[Mapped] | None:
    """The leaves of the current page tables in the order of addresses, all or that of one address; None if satp is 0.
    In a guest they are its own, and lead to guest-physical addresses.

    `read` gives a doubleword of physical memory, and raises Absent.
    """
    inside = _in_guest(slots)

    def through(at: int) -> int:
        place = _second(slots, read, at)
        if place is None:
            raise mmu.Absent
        return read(place)

    return leaves(through if inside else read, slots[p.VSATP if inside else p.SATP], address)


def leaves(read: Callable[[int], int], satp: int, address: int | None = None) -> Iterator[Mapped] | None:
    """Those of the tables of a value of satp, as `mappings`."""
    levels = mmu.LEVELS.get(satp >> 60)
    if levels is None:
        return None
    return _leaves(read, (satp & mmu.PPN_MASK) << 12, levels - 1, levels - 1, 0, address)


def physical(slots: MutableSequence[int] | memoryview, read: Callable[[int], int], address: int) -> int | None:
    """Where the hart's loads from this address go, whatever it may; None if nowhere."""
    status, mode = slots[p.MSTATUS], slots[p.PRIVILEGE]
    if status & p.MPRV:
        mode = status >> p.MPP_SHIFT & 3
    found = None if mode == p.MACHINE else mappings(slots, read, address)
    place = address if found is None else _place(found, address)
    return _second(slots, read, place) if place is not None and _in_guest(slots) else place


def walk(
    make: type[mmu.Mmu], slots: memoryview, read: Callable[[int], int], address: int, size: int, access: str
) -> list[Step]:
    """What the hart's translation of an access does, a step after the other, to its end. It is the translation itself
    that is made, on a copy of the hart's registers; what it would write is not written.

    `read` gives a doubleword of physical memory, and raises Absent.
    """
    steps: list[Step] = []
    stages: list[tuple[str, int]] = []  # of walks that have begun: name, and the level that is next

    def write(at: int, value: int) -> None:
        steps.append(Step(len(stages) - 1, "write", stages[-1][0], at, value, stages[-1][1] + 1, _rights(value)))

    copy = memoryview(array("Q", slots))
    tables: Any = make(copy, read, write)
    walked, fetched = tables._walk, tables._entry

    def noted(at: int, kind: str, stage: mmu.Stage) -> int:
        name = "G-stage" if stage.wider else "VS-stage" if stage.place else "S-stage"
        steps.append(Step(len(stages), "begin", name, at, stage.table, stage.levels - 1))
        stages.append((name, stage.levels - 1))
        try:
            found: int = walked(at, kind, stage)
        except Trap as trap:
            stages.pop()
            steps.append(Step(len(stages), "fault", name, at, trap.cause))
            raise
        stages.pop()
        steps.append(Step(len(stages), "end", name, at, found))
        return found

    def entry(at: int, where: int, kind: str) -> int:
        found: int = fetched(at, where, kind)
        name, level = stages[-1]
        steps.append(Step(len(stages) - 1, "read", name, at, found, level, _rights(found)))
        stages[-1] = name, level - 1
        return found

    tables._walk, tables._entry = noted, entry
    try:
        steps.append(Step(0, "end", "", address, tables.translate(address, size, access)))
    except Trap as trap:
        steps.append(Step(0, "fault", "", address, trap.cause))
    return steps


def _rights(entry: int) -> str:
    if not entry & mmu.V:
        return "not valid"
    if not entry & (mmu.R | mmu.W | mmu.X):
        return "a table"
    return "".join(letter if entry & bit else "-" for bit, letter in LETTERS)


def _in_guest(slots: MutableSequence[int] | memoryview) -> bool:
    """Whether loads are a guest's."""
    if len(slots) == p.SLOTS:
        return False
    lent = slots[p.MSTATUS] & p.MPRV and slots[p.MSTATUS] & p.MPP != p.MPP
    return bool(slots[p.MSTATUS] & p.MPV if lent else slots[p.VIRTUAL])


def _second(slots: MutableSequence[int] | memoryview, read: Callable[[int], int], guest: int) -> int | None:
    """Where a guest-physical address leads."""
    levels = mmu.LEVELS.get(slots[p.HGATP] >> 60)
    if levels is None:
        return guest
    top = 9 * levels + 12  # the root is as large as four tables
    if guest >> top + WIDER:
        return None
    table = ((slots[p.HGATP] & mmu.PPN_MASK) << 12) + (guest >> top << 12)
    return _place(_leaves(read, table, levels - 1, levels, guest >> top << top, guest), guest)


def _place(leaves: Iterator[Mapped], address: int) -> int | None:
    for leaf in leaves:
        if leaf.virtual <= address < leaf.virtual + leaf.size:
            return leaf.physical + address - leaf.virtual
    return None


def _leaves(
    read: Callable[[int], int], table: int, level: int, top: int, prefix: int, address: int | None
) -> Iterator[Mapped]:
    shift = 12 + 9 * level
    indexes = range(512) if address is None else (address >> shift & 511,)
    for index in indexes:
        try:
            entry = read(table + 8 * index)
        except mmu.Absent:
            continue
        virtual = prefix | index << shift
        if level == top and index >> 8:  # addresses are sign-extended
            virtual |= p.ALL & -1 << shift + 9
        number = entry >> mmu.PPN_SHIFT & mmu.PPN_MASK
        if not entry & mmu.V:
            continue
        if entry & (mmu.R | mmu.W | mmu.X):
            if entry & mmu.N:
                number = number & -mmu.NAPOT_PAGES | index & mmu.NAPOT_PAGES - 1
            yield Mapped(virtual, number << 12, 1 << shift, _rights(entry))
        elif level:
            yield from _leaves(read, number << 12, level - 1, top, virtual, address)
