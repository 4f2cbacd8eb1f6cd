"""A12: the context that enters a guest for the first time is forged: sstatus.SPP, sepc, hstatus.SPV, hgatp."""

from __future__ import annotations

from dbt.lab.report import Report
from dbt.lab.two_stages import (
    ENGINES,
    GUEST,
    GUEST_LEAF,
    INSIDE,
    ROOT,
    SPIN,
    SV39,
    Seen,
    csrr,
    go,
    hypervised,
    mode_of,
    with_h,
    words_at,
)
from dbt.lab.workbench import RAM, asm
from dbt.machine.vm import Vcpu
from guests.riscv import mmu
from guests.riscv import privileged as p

HGATP = 0x680
A0, S0 = 10, 8
FETCH_FAULT = 20
FAR = 5 << 39  # an address of 42 bits: only the root of 16 KiB has an entry for those of 41
HIGH = 1 << 40 | GUEST


def entered(engine: str, spp: int, where: int = GUEST, leaf: int | None = None) -> tuple[Vcpu, Seen]:
    """A hypervisor forges a context and enters its guest; what came of it. `leaf`: the second stage's for `where`."""
    vcpu = hypervised(engine, [asm(with_h(), "sret"), SPIN])
    slots = vcpu.state.slots
    words_at(vcpu, INSIDE, [SPIN])
    if leaf is not None:
        vcpu.vm.memory.write(ROOT + 8 * (where >> 30), 8, leaf)
    slots[p.MSTATUS] |= spp * p.SPP
    slots[p.HSTATUS] |= p.SPV
    slots[p.SEPC] = where
    return vcpu, go(vcpu)


def run(report: Report) -> None:
    rows = with_h()
    there = RAM >> 2 | GUEST_LEAF
    for engine in ENGINES:
        for spp, mode in ((1, "VS"), (0, "VU")):
            vcpu, seen = entered(engine, spp)
            report.check((mode_of(vcpu), vcpu.state.pc, seen.scause) == (mode, GUEST, 0),
                         f"{engine}: SPV 1, SPP {spp}: the guest begins at sepc, in {mode}")  # fmt: skip
        vcpu = hypervised(engine, [asm(rows, "csrrw", rd=0, rs1=S0, csr=HGATP),
                                   csrr(A0, HGATP), SPIN])  # fmt: skip
        vcpu.state.slots[S0] = SV39 | ROOT >> 12 | 3
        go(vcpu)
        report.check(vcpu.state.slots[A0] == SV39 | ROOT >> 12,
                     f"{engine}: a root is at 16 KiB: the lowest two bits of its page number are 0")  # fmt: skip
        vcpu, seen = entered(engine, 1, HIGH, there)
        report.check(mode_of(vcpu) == "VS" and vcpu.state.pc == HIGH,
                     f"{engine}: guest physical addresses have two bits more: {HIGH:#x} is one")  # fmt: skip
        vcpu, seen = entered(engine, 1, FAR)
        report.check((seen.scause, seen.htval << 2) == (FETCH_FAULT, FAR), f"{engine}: and no more than two")
        vcpu, seen = entered(engine, 1, GUEST, there & ~mmu.U)
        report.figure(f"{engine}, a leaf without U: scause, htval", f"{seen.scause}, {seen.htval:#x}")
        report.check((seen.scause, seen.stval, seen.htval << 2) == (FETCH_FAULT, GUEST, GUEST),
                     f"{engine}: a leaf of the second stage needs U, in VS mode as well")  # fmt: skip
        slots = vcpu.state.slots
        vcpu.vm.memory.write(ROOT + 8 * (GUEST >> 30), 8, there)
        words_at(vcpu, RAM, [asm(rows, "hfence.gvma", rs1=0, rs2=0), asm(rows, "sret")])
        vcpu.state.pc = RAM
        slots[p.SCAUSE] = 0
        seen = go(vcpu)
        report.check((mode_of(vcpu), vcpu.state.pc, seen.scause) == ("VS", GUEST, 0),
                     f"{engine}: mended, and fenced by hfence.gvma, it is entered")  # fmt: skip
