"""The guest of a machine: the instructions of a process, guarded, and the privileged architecture around them.

One meaning stays one: what depends on the mode (floating point by mstatus.FS, cache blocks by the environment
configuration) and on other harts (hints) is put around the bodies of the extensions, not into them. Owns: these guards,
and the `Guest` of a machine. Must not know: boards, devices.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

from guests.decode import Decoder
from guests.riscv import (
    disasm,
    firmware,
    inspection,
    isa,
    mmu,
    privileged_csrs,
    privileged_traps,
    registers,
    sbi,
    walk,
    zicsr,
)
from guests.riscv import privileged as p
from guests.riscv.privileged_insns import SVINVAL, SYSTEM
from guests.spec import Body, Guest, Inspection, Privileged, Row, Treat
from ir.records import replace

EXTENSIONS = ("sstc", "svadu", "svinval", "svnapot", "svpbmt", "sv39", "sv48", "sv57")
"""What every machine has beyond its ISA string, by the names that a device tree gives them."""
FLOAT = frozenset({"f", "d", "zfa", "zfhmin"})
SPINS = {"pause", "wrs.nto", "wrs.sto"}  # what programs have in loops that wait for another hart
# A machine's own affair, where a process calls its kernel, or has its engine look for code that was written.
INLINE = frozenset({"ecall", "ebreak", "c.ebreak", "fence.i"})
CACHE_BLOCKS = {"cbo.inval": p.CBIE, "cbo.clean": p.CBCFE, "cbo.flush": p.CBCFE, "cbo.zero": p.CBZE}


def float_guarded(row: Row) -> Body:
    """Illegal while FS is off; dirty afterwards, but for stores and what only looks at bits."""
    body = row.body
    assert body is not None
    looks = not row.writes or (row.writes == "x" and row.name.startswith(("fmv", "fclass")))

    def clean(m, o):
        privileged_csrs.float_on(m)
        body(m, o)

    def dirtying(m, o):
        clean(m, o)
        privileged_csrs.float_dirty(m)

    return clean if looks else dirtying


def cache_block_guarded(row: Row) -> Body:
    """Illegal where menvcfg forbids it to modes below machine mode, or senvcfg to user mode."""
    body, field = row.body, CACHE_BLOCKS[row.name]
    assert body is not None

    def guarded(m, o):
        mode = m.s[p.PRIVILEGE]
        m.illegal_if(m.both(m.ltu(mode, p.MACHINE), m.not_(p.has(m, m.s[p.MENVCFG], field))))
        m.illegal_if(m.both(m.ltu(mode, p.SUPERVISOR), m.not_(p.has(m, m.s[p.SENVCFG], field))))
        body(m, o)

    return guarded


def yielding(row: Row) -> Body:
    """Gives the turn up where another hart could go on: who spins waits for what that does."""

    def body(m, o):
        crowded = m.ne(m.s[p.CROWDED], 0)
        m.monitor_if(crowded)
        m.s[p.WAITING] = m.select(crowded, p.YIELDED, 0)
        m.attend_if(crowded)

    return body


def names(features: frozenset[str]) -> list[str]:
    """The extensions as a device tree lists them: in the manual's order, the base first."""
    letters = [letter for letter in "imafdc" if letter in features]
    others = sorted(name for name in features if len(name) > 1 and name != "system")
    return [*letters, *(name for name in others if name[0] == "z"), *(name for name in others if name[0] == "s")]


def _guard(row: Row) -> Callable[[Row], Body] | None:
    if row.requires & FLOAT:
        return float_guarded
    if row.name in SPINS:
        return yielding
    return cache_block_guarded if row.name in CACHE_BLOCKS else None


def guarded(row: Row) -> Row:
    """The row as a machine executes it."""
    guard = _guard(row)
    return row if guard is None else replace(row, body=guard(row))


@cache
def guest(text: str | None = None) -> Guest:
    """The guest of a machine whose harts have the extensions of an ISA string. Raises UnknownIsa."""
    process = isa.guest(text)
    features = process.features | set(EXTENSIONS) | {"system"}
    table = privileged_csrs.table(process.features)
    rows = [guarded(row) for row in process.rows if row.extension != "zicsr"]
    rows = [replace(row, treat=Treat.INLINE) if row.name in INLINE else row for row in rows]
    rows += [row for part in (zicsr.extension(table), SYSTEM, SVINVAL) for row in part.rows if row.requires <= features]
    return replace(
        process,
        registers=p.REGISTERS,
        slots=p.SLOTS,
        decode=Decoder(rows, registers.SINK),
        rows=rows,
        disassemble=partial(disasm.text, csrs=table),
        link=p.link,
        features=features,
        privileged=Privileged(
            enter=privileged_traps.enter,
            due=privileged_traps.due,
            awake=privileged_traps.awake,
            walk=walk.walk,
            context=walk.context,
            tables_slot=p.SATP,
            mmu=mmu.Mmu,
            access_faults=mmu.ACCESS_FAULTS,
            reset={p.SLOT[name]: value for name, value in p.RESET.items()},
            mode_slot=p.PRIVILEGE,
            waiting_slot=p.WAITING,
            lines_slot=p.LINES,
            hart_slot=p.SLOT["mhartid"],
            reservation_slot=registers.RESERVED_SIZE,
            yielded=p.YIELDED,
            crowded_slot=p.CROWDED,
            idle_slot=p.IDLE,
            offset_slot=p.TIME_OFFSET,
            lines={"software": p.MSI, "timer": p.MTI, "external": p.MEI, "supervisor external": p.SEI},
            reset_rom=firmware.reset_rom,
            cpu_node=partial(firmware.cpu_node, names(features)),
            timer=privileged_traps.timer,
            inspection=Inspection(
                control=partial(inspection.control, table),
                modes=inspection.MODES,
                waiting=inspection.WAITING,
                interrupts=inspection.interrupts,
                trap=inspection.trap,
                mappings=inspection.mappings,
                physical=inspection.physical,
            ),
            firmware=sbi.Firmware,
        ),
    )
