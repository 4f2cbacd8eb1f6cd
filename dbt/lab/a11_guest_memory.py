"""A11: hstatus.SPVP is the privilege of a hypervisor's accesses to its guest's memory, and no permission."""

from __future__ import annotations

from dbt.lab.report import Report
from dbt.lab.two_stages import ENGINES, INSIDE, SPIN, SV39, TABLES, go, hypervised, with_h
from dbt.lab.workbench import asm, map_pages
from guests.riscv import mmu
from guests.riscv import privileged as p

PAGE = 0x7000  # of the guest's own addresses
A0, A1, A2 = 10, 11, 12
LOAD_FAULT, STORE_FAULT, GUEST_LOAD_FAULT, VIRTUAL_INSTRUCTION = 13, 15, 21, 22
NOWHERE = 0x1000
MARKED = mmu.V | mmu.A | mmu.D
VALUE = 0x1122_3344_5566_7788
HLV, HLVX, HSV = "hlv.d", "hlvx.wu", "hsv.d"
CASES = (  # instruction, rights of the page, SPVP, cause
    (HLV, mmu.R, 1, 0), (HLV, mmu.R, 0, LOAD_FAULT), (HLV, mmu.R | mmu.U, 0, 0), (HLV, mmu.R | mmu.U, 1, LOAD_FAULT),
    (HLV, mmu.X, 1, LOAD_FAULT), (HLVX, mmu.X, 1, 0), (HLVX, mmu.R, 1, LOAD_FAULT), (HLVX, mmu.X, 0, LOAD_FAULT),
    (HSV, mmu.R | mmu.W, 1, 0), (HSV, mmu.R, 1, STORE_FAULT), (HSV, mmu.R | mmu.W, 0, STORE_FAULT),
)  # fmt: skip


def run(report: Report) -> None:
    rows = with_h()
    words = {
        HLV: asm(rows, HLV, rd=A0, rs1=A1), HLVX: asm(rows, HLVX, rd=A0, rs1=A1), HSV: asm(rows, HSV, rs1=A1, rs2=A2),
    }  # fmt: skip
    letters = {mmu.R: "r", mmu.W: "w", mmu.X: "x", mmu.U: "u"}
    for engine in ENGINES:
        for name, rights, spvp, cause in CASES:
            vcpu = hypervised(engine, [words[name], SPIN])
            memory, slots = vcpu.vm.memory, vcpu.state.slots
            memory.write(INSIDE, 8, VALUE)
            map_pages(memory, TABLES, {PAGE: INSIDE}, MARKED | rights)
            slots[p.VSATP] = SV39 | TABLES >> 12
            slots[p.HSTATUS] |= spvp * p.SPVP
            slots[A1], slots[A2] = PAGE, VALUE + 1
            seen = go(vcpu)
            shown = "".join(letter for right, letter in letters.items() if rights & right)
            what = f"{name}, page {shown}, SPVP {spvp}: "
            if cause:
                right = (seen.scause, seen.stval) == (cause, PAGE) and bool(seen.hstatus & p.H_GVA)
                what += f"page fault {cause}, and GVA says that the address is the guest's"
            else:
                value = memory.read(INSIDE, 8) if name == HSV else slots[A0]
                right = seen.scause == 0 and value == {HLV: VALUE, HLVX: VALUE & 0xFFFF_FFFF, HSV: VALUE + 1}[name]
                what += "it is made"
            report.check(right, f"{engine}: {what}")
        vcpu = hypervised(engine, [words[HLV], SPIN])
        vcpu.state.slots[A1] = NOWHERE
        seen = go(vcpu)
        report.check((seen.scause, seen.stval, seen.htval << 2) == (GUEST_LOAD_FAULT, NOWHERE, NOWHERE)
                     and bool(seen.hstatus & p.H_GVA),
                     f"{engine}: where the second stage has nothing it is the guest-page fault of a load")  # fmt: skip
        inside = go(hypervised(engine, [words[HLV], SPIN], "VS"))
        report.check((inside.scause, inside.stval) == (VIRTUAL_INSTRUCTION, words[HLV]),
                     f"{engine}: in the guest the instruction is virtual, whatever SPVP says")  # fmt: skip
