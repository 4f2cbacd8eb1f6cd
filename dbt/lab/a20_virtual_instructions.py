"""A20: what a hypervisor could do and its guest may not is a virtual instruction (22); what nobody below machine mode
may is an illegal one (2)."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from dbt.lab.report import Report
from dbt.lab.two_stages import ENGINES, SPIN, csrr, go, hypervised, with_h
from dbt.lab.workbench import asm
from guests.riscv import privileged as p

A0, A1 = 10, 11
VIRTUAL, ILLEGAL = 22, 2
TIME_BIT = 2


class Case(NamedTuple):
    """An instruction in a mode of a guest, its cause; and what traps it: bits of hstatus, or of hcounteren that are 0.
    `free`: the cause where nothing does (None: nothing changes that).
    """

    name: str
    mode: str
    cause: int
    word: int
    hstatus: int = 0
    hidden: int = 0
    free: int | None = None


def cases() -> list[Case]:
    rows = with_h()
    read = partial(csrr, A0)
    fences = {name: asm(rows, name, rs1=0, rs2=0) for name in ("hfence.vvma", "hfence.gvma", "sfence.vma")}
    hlv, hsv = asm(rows, "hlv.d", rd=A0, rs1=A1), asm(rows, "hsv.d", rs1=A1, rs2=A0)
    return [
        Case("hstatus", "VS", VIRTUAL, read(0x600)),
        Case("hgatp", "VS", VIRTUAL, read(0x680)),
        Case("vsatp", "VS", VIRTUAL, read(0x280)),
        Case("hfence.vvma", "VS", VIRTUAL, fences["hfence.vvma"]),
        Case("hfence.gvma", "VS", VIRTUAL, fences["hfence.gvma"]),
        Case("hlv.d", "VS", VIRTUAL, hlv),
        Case("hsv.d", "VS", VIRTUAL, hsv),
        Case("wfi, VTW", "VS", VIRTUAL, asm(rows, "wfi"), p.VTW, free=0),
        Case("sret, VTSR", "VS", VIRTUAL, asm(rows, "sret"), p.VTSR, free=0),
        Case("sfence.vma, VTVM", "VS", VIRTUAL, fences["sfence.vma"], p.VTVM, free=0),
        Case("satp, VTVM", "VS", VIRTUAL, read(0x180), p.VTVM, free=0),
        Case("time, hcounteren.TM 0", "VS", VIRTUAL, read(0xC01), hidden=TIME_BIT, free=0),
        Case("sstatus", "VU", VIRTUAL, read(0x100)),
        Case("sret", "VU", VIRTUAL, asm(rows, "sret")),
        Case("wfi", "VU", VIRTUAL, asm(rows, "wfi")),
        Case("hlv.d", "VU", VIRTUAL, hlv),
        Case("mhartid", "VS", ILLEGAL, read(0xF14)),
        Case("mret", "VS", ILLEGAL, asm(rows, "mret")),
        Case("a CSR that is not there", "VS", ILLEGAL, read(0x5C0)),
    ]


def tried(engine: str, case: Case, trapped: bool) -> tuple[int, int]:
    """Cause and value of its trap, or zeros."""
    vcpu = hypervised(engine, [case.word, SPIN], case.mode)
    slots = vcpu.state.slots
    slots[p.VSEPC] = vcpu.state.pc + 4
    slots[p.VSSTATUS] |= p.SPP
    if trapped:
        slots[p.HSTATUS] |= case.hstatus
        slots[p.HCOUNTEREN] &= ~case.hidden
    seen = go(vcpu)
    return seen.scause, seen.stval


def run(report: Report) -> None:
    for case in cases():
        found = {engine: tried(engine, case, True) for engine in ENGINES}
        report.show(f"{case.mode}  {case.name:24} {case.word:#010x}  cause {found['reference'][0]}")
        report.check(set(found.values()) == {(case.cause, case.word)},
                     f"{case.name} in {case.mode}: {case.cause}, and stval has the instruction")  # fmt: skip
        if case.free is not None:
            allowed = {tried(engine, case, False)[0] for engine in ENGINES}
            report.check(allowed == {case.free}, "without the bit it is the guest's own affair")
