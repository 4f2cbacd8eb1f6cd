"""C05: CLI and STI, as RISC-V has them: what is raised between the two is taken right behind the second, once.

The guest clears sstatus.SIE, works, and sets it again. A software interrupt is raised after each number of
instructions, once, under each method.
"""

from __future__ import annotations

from typing import NamedTuple

from dbt.kvm import Debug, SystemEvent, abi
from dbt.lab.exercises.machines import guest, words_of
from dbt.lab.report import Report
from dbt.lab.simple_monitor import METHODS, RAM
from dbt.lab.workbench import code_bytes

HANDLER = RAM + 0x1000
SIE, SSI = 2, 2  # in sstatus; in sie and sip
PROGRAM = """
        addi s2, s2, 1
        addi s2, s2, 1
        csrrci zero, sstatus, 2     # CLI
        addi s2, s2, 1
        addi s2, s2, 1
        csrrsi zero, sstatus, 2     # STI
        addi s2, s2, 1
        addi s2, s2, 1
        j end
end:    li a7, 8
        ecall
"""
TAKE = """
        csrr s10, sepc
        addi s11, s11, 1
        csrrci zero, sip, 2
        sret
"""
CLI, STI, WORK = 2, 5, 6  # which instructions they are; how often it works
LENGTH = 9  # up to the jump
STEP = abi.KVM_GUESTDBG_ENABLE | abi.KVM_GUESTDBG_SINGLESTEP


class Taken(NamedTuple):
    """Where the interrupt was taken, how often; what the guest has done; instructions it had done when it was raised"""

    place: int
    times: int
    work: int
    raised: int


def raised(method: str, after: int) -> Taken:
    """The interrupt is raised once so many instructions have been executed."""
    vcpu = guest(words_of(PROGRAM), method, stvec=HANDLER, sie=SSI, sstatus=SIE)
    with vcpu.vm as vm:
        vm.write(HANDLER, code_bytes(words_of(TAKE, HANDLER)))
        vcpu.guest_debug = STEP
        for _ in range(after):
            exit = vcpu.run()
            assert isinstance(exit, Debug), exit
        vcpu.guest_debug = 0
        at = vcpu.instructions
        vcpu.set(sip=SSI)
        exit = vcpu.run()
        assert exit == SystemEvent(1), exit
        return Taken((vcpu.get("s10") - RAM) // 4, vcpu.get("s11"), vcpu.get("s2"), at)


def run(report: Report) -> None:
    found = {method: [raised(method, k) for k in range(LENGTH)] for method in METHODS}
    report.show("raised after  " + "".join(f"{method:>8}" for method in found))
    for k in range(LENGTH):
        masked = "  (masked)" if CLI < k <= STI else ""
        report.show(f"{k:>12}  " + "".join(f"{taken[k].place:>8}" for taken in found.values()) + masked)
    for method, taken in found.items():
        report.check({each.raised for each in taken} == set(range(LENGTH)), f"{method}: it was raised everywhere")
        inside = [taken[k].place for k in range(CLI + 1, STI + 1)]
        report.check(inside == [STI + 1] * len(inside),
                     "raised between the two: taken before the instruction behind STI")  # fmt: skip
        report.check(all(each.times == 1 and each.work == WORK for each in taken), "once, and no work is lost")
    outside = [k for k in range(LENGTH) if not CLI < k <= STI]
    report.check(all(k <= taken[k].place <= max(k, STI + 1) or taken[k].place == LENGTH for taken in found.values()
                     for k in outside), "raised elsewhere: at that boundary or the next")  # fmt: skip
    # Under hw each step is an entry by `sret`, behind which an interrupt may be taken at once.
    report.check(all(taken == found["interp"] for method, taken in found.items() if method != "hw"),
                 "interp, bt and te take it at the same place, wherever it was raised")  # fmt: skip
