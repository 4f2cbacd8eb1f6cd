"""A10 and C26: five modes. V and the privilege are apart: `sret` goes to one of four, and a trap notes where it was."""

from __future__ import annotations

from itertools import product

from dbt.lab.report import Report
from dbt.lab.two_stages import ENGINES, GUEST, MODES, SPIN, csrr, go, hypervised, mode_of, with_h
from dbt.lab.workbench import RAM, asm
from guests.riscv import privileged as p

A0 = 10
ILLEGAL, VIRTUAL_INSTRUCTION = 2, 22
ZERO = 0xFFFF_FFFF  # no instruction in any mode


def returns(report: Report, engine: str) -> None:
    """sret of HS mode: V becomes SPV, the privilege SPP, SIE SPIE, SPIE 1, SPP and SPV 0."""
    for spv, spp, spie in product((0, 1), repeat=3):
        vcpu = hypervised(engine, [asm(with_h(), "sret"), SPIN])
        slots = vcpu.state.slots
        slots[p.HSTATUS] |= spv * p.SPV
        slots[p.MSTATUS] |= spp * p.SPP | spie * p.SPIE
        slots[p.SEPC] = GUEST + 4 if spv else RAM + 4
        go(vcpu, 1)
        wanted = {place: name for name, place in MODES.items()}[spv, spp]
        status = slots[p.MSTATUS]
        if spie:
            report.show(f"{engine}: SPV {spv}, SPP {spp}: {mode_of(vcpu)}")
        right = mode_of(vcpu) == wanted and not slots[p.HSTATUS] & p.SPV and not status & p.SPP
        right = right and bool(status & p.SIE) == bool(spie) and bool(status & p.SPIE)
        report.check(right, f"sret with SPV {spv}, SPP {spp}, SPIE {spie} goes to {wanted}, and the fields are as said")


def traps(report: Report, engine: str) -> None:
    """A trap to HS mode: SPV is V as it was, SPP the privilege, and SPVP the privilege if V was 1."""
    for (mode, (virtual, privilege)), spvp in product(MODES.items(), (0, 1)):
        vcpu = hypervised(engine, [ZERO], mode)
        slots = vcpu.state.slots
        slots[p.HSTATUS] |= spvp * p.SPVP
        seen = go(vcpu)
        found = [int(bool(bits & bit)) for bits, bit in
                 ((seen.hstatus, p.SPV), (slots[p.MSTATUS], p.SPP), (seen.hstatus, p.SPVP))]  # fmt: skip
        wanted = [virtual, privilege, privilege if virtual else spvp]
        report.check(seen.scause == ILLEGAL and mode_of(vcpu) == "HS" and found == wanted,
                     f"a trap from {mode}, SPVP {spvp}: SPV, SPP, SPVP are {wanted}")  # fmt: skip


def run(report: Report) -> None:
    """A10"""
    for engine in ENGINES:
        returns(report, engine)
        traps(report, engine)


# --- C26 ----------------------------------------------------------------------------------------------------------

CSRS = {"sstatus": 0x100, "hstatus": 0x600, "vsstatus": 0x200, "mstatus": 0x300}
MAY = {  # by mode, of each: 0 if it may be read, else the cause
    "U": (ILLEGAL, ILLEGAL, ILLEGAL, ILLEGAL),
    "HS": (0, 0, 0, ILLEGAL),
    "VU": (VIRTUAL_INSTRUCTION, VIRTUAL_INSTRUCTION, VIRTUAL_INSTRUCTION, ILLEGAL),
    "VS": (0, VIRTUAL_INSTRUCTION, VIRTUAL_INSTRUCTION, ILLEGAL),
}


def orthogonal(report: Report) -> None:
    """C26"""
    for engine in ENGINES:
        report.show(f"{engine:11} {'V':>2} {'privilege':>10}   " + "  ".join(f"{name:9}" for name in CSRS))
        for mode, (virtual, privilege) in MODES.items():
            causes = []
            for number in CSRS.values():
                vcpu = hypervised(engine, [csrr(A0, number), SPIN], mode)
                causes.append(go(vcpu).scause)
            shown = "  ".join(f"{f'trap {cause}' if cause else 'yes':9}" for cause in causes)
            report.show(f"{mode:11} {virtual:2} {privilege:10}   {shown}")
            report.check(tuple(causes) == MAY[mode], f"{mode} may what V and the privilege say together")
        inside = hypervised(engine, [asm(with_h(), "csrrw", rd=0, rs1=A0, csr=0x140), SPIN], "VS")
        inside.state.slots[A0] = 0x77
        go(inside)
        slots = inside.state.slots
        report.check((slots[p.VSSCRATCH], slots[p.SLOT["sscratch"]]) == (0x77, 0),
                     "a guest's kernel has registers of its own under the same names")  # fmt: skip
