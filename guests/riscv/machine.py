"""The guest of a machine: the instructions of a process, guarded, and the privileged architecture around them.

One meaning stays one: what depends on the mode (floating point by mstatus.FS, cache blocks by the environment
configuration) and on other harts (hints) is put around the bodies of the extensions, not into them. Owns: these guards,
and the `Guest` of a machine. Must not know: boards, devices.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache, partial

from guests.decode import Decoder
from guests.riscv import (
    disasm,
    firmware,
    hypervisor_csrs,
    inspection,
    isa,
    mmu,
    privileged_csrs,
    privileged_traps,
    registers,
    sbi,
    traps,
    two_stage,
    walk,
    zicsr,
)
from guests.riscv import privileged as p
from guests.riscv.hypervisor_insns import H
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
    """Illegal where menvcfg forbids it to modes below machine mode, or senvcfg to user mode; henvcfg to guests."""
    body, field = row.body, CACHE_BLOCKS[row.name]
    assert body is not None

    def guarded(m, o):
        mode = m.s[p.PRIVILEGE]
        m.illegal_if(m.both(m.ltu(mode, p.MACHINE), m.not_(p.has(m, m.s[p.MENVCFG], field))))
        user = m.both(m.ltu(mode, p.SUPERVISOR), m.not_(p.has(m, m.s[p.SENVCFG], field)))
        if m.hypervisor:
            refused = m.either(user, m.not_(p.has(m, m.s[p.HENVCFG], field)))
            p.virtual_if(m, m.both(p.virtual(m), refused))
        m.illegal_if(user)
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
    letters = [letter for letter in "imafdch" if letter in features]
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


def with_h(text: str) -> str:
    """An ISA string with the letter of the hypervisor extension behind its letters, in the manual's order."""
    return re.sub("^rv64[a-y]+", lambda letters: f"{letters[0]}h", text)


def _without_h(text: str) -> tuple[str, bool]:
    """An ISA string without that letter, and whether it was there."""
    found = re.match("rv64[a-gi-y]*h", text.lower())
    return (text[: found.end() - 1] + text[found.end() :], True) if found else (text, False)


@cache
def guest(text: str | None = None, hypervisor: bool = False) -> Guest:
    """The guest of a machine whose harts have the extensions of an ISA string, which may have H. Raises UnknownIsa."""
    text, has_h = _without_h(text or isa.DEFAULT)
    hypervisor = hypervisor or has_h
    process = isa.guest(text)
    own = {"h"} if hypervisor else set()
    features = process.features | set(EXTENSIONS) | {"system"} | own
    table = hypervisor_csrs.table(process.features | own)
    rows = [guarded(row) for row in process.rows if row.extension != "zicsr"]
    rows = [replace(row, treat=Treat.INLINE) if row.name in INLINE else row for row in rows]
    parts = zicsr.extension(table), SYSTEM, SVINVAL, H
    rows += [row for part in parts for row in part.rows if row.requires <= features]
    return replace(
        process,
        isa=with_h(text) if hypervisor else text,
        registers=(*p.REGISTERS, *p.HYPERVISOR_REGISTERS) if hypervisor else p.REGISTERS,
        slots=p.HYPERVISOR_SLOTS if hypervisor else p.SLOTS,
        decode=Decoder(rows, registers.SINK),
        rows=rows,
        disassemble=partial(disasm.text, csrs=table),
        link=p.link_hypervisor if hypervisor else p.link,
        features=features,
        trap_names=process.trap_names | (traps.GUEST_NAMES if hypervisor else {}),
        privileged=Privileged(
            enter=privileged_traps.enter,
            due=privileged_traps.due,
            awake=privileged_traps.awake,
            walk=walk.two_stage if hypervisor else walk.walk,
            accesses=walk.ACCESSES if hypervisor else {},
            second=walk.second if hypervisor else None,
            context=walk.context,
            tables=walk.tables,
            mmu=two_stage.TwoStage if hypervisor else mmu.Mmu,
            access_faults=two_stage.ACCESS_FAULTS if hypervisor else mmu.ACCESS_FAULTS,
            refused_cause=traps.VIRTUAL_INSTRUCTION if hypervisor else 0,
            reset=p.reset(hypervisor),
            mode=privileged_traps.mode,
            waiting_slot=p.WAITING,
            lines_slot=p.LINES,
            hart_slot=p.SLOT["mhartid"],
            reservation_slot=registers.RESERVED_SIZE,
            yielded=p.YIELDED,
            crowded_slot=p.CROWDED,
            told_slot=p.TOLD if hypervisor else None,
            idle_slot=p.IDLE,
            offset_slot=p.TIME_OFFSET,
            lines={"software": p.MSI, "timer": p.MTI, "external": p.MEI, "supervisor external": p.SEI},
            reset_rom=firmware.reset_rom,
            cpu_node=partial(firmware.cpu_node, names(features)),
            timer=privileged_traps.timer,
            inspection=Inspection(
                control=partial(inspection.control, table),
                modes=inspection.modes(hypervisor),
                guests=inspection.GUESTS,
                waiting=inspection.WAITING,
                interrupts=inspection.interrupts,
                trap=inspection.trap,
                mappings=inspection.mappings,
                physical=inspection.physical,
                walk=partial(inspection.walk, two_stage.TwoStage if hypervisor else mmu.Mmu),
            ),
            firmware=sbi.Firmware,
        ),
    )
