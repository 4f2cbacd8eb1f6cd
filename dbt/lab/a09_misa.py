"""A09: misa.H says whether a hart has the hypervisor extension. The manual lets it be fixed, and here it is."""

from __future__ import annotations

from dbt.lab.report import Report
from dbt.lab.two_stages import ENGINES, SPIN, csrr, with_h
from dbt.lab.workbench import RAM, asm, hart
from guests.riscv import privileged as p

MISA, HSTATUS, H = 0x301, 0x600, 1 << 7
A0, A1, A2, A3, S0 = 10, 11, 12, 13, 8
ILLEGAL = 2
BEFORE = 6  # instructions before that which reads hstatus


def run(report: Report) -> None:
    rows = with_h()
    look = csrr(A3, HSTATUS)
    words = [
        csrr(A0, MISA), asm(rows, "addi", rd=S0, rs1=0, imm=H),
        asm(rows, "csrrc", rd=0, rs1=S0, csr=MISA), csrr(A1, MISA),
        asm(rows, "csrrs", rd=0, rs1=S0, csr=MISA), csrr(A2, MISA), look, SPIN,
    ]  # fmt: skip
    assert words.index(look) == BEFORE
    for engine in ENGINES:
        for has in (True, False):
            vcpu = hart(words, engine, hypervisor=has)
            slots = vcpu.state.slots
            slots[p.MTVEC] = RAM + 4 * (BEFORE + 1)
            vcpu.vm.run(most=20)
            bits = [slots[register] >> 7 & 1 for register in (A0, A1, A2)]
            name = "with the extension" if has else "without"
            report.figure(f"{engine}, {name}: misa.H, cleared, set", ", ".join(map(str, bits)))
            report.check(bits == [int(has)] * 3, "misa.H is what the hart is, whatever is written to it")
            trap = slots[p.MCAUSE], slots[p.MTVAL], slots[p.MEPC]
            if has:
                report.check(trap == (0, 0, 0) and slots[A3] == p.reset(True)[p.HSTATUS], "hstatus is there")
            else:
                report.check(trap == (ILLEGAL, look, RAM + 4 * BEFORE), "hstatus is not there: an illegal instruction")
