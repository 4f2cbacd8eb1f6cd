"""C03: the three kinds of sensitive instructions: on special registers, on sensitive memory, on devices.

Of each instruction: its class, as `dragoman explain` gives it with the reason, and whether it leaves its guest under
each method. An access is ident by its instruction: that its memory is sensitive is found by where it goes.
"""

from __future__ import annotations

from typing import NamedTuple

from dbt.explain import why
from dbt.kvm import Intr, Mmio, abi
from dbt.lab.exercises.machines import guest, words_of
from dbt.lab.report import Report
from dbt.lab.simple_monitor import METHODS, OPTIONS, RAM
from dbt.lab.workbench import code_bytes, riscv
from dbt.lift import Lifter
from dbt.options import callouts
from dbt.regions import Bytes
from guests.spec import Treat

ROM, UART, NOWHERE = 0x2000_0000, 0x1000_0000, 0x3000_0000
NEVER: dict[str, int] = {}
EVERYWHERE = dict.fromkeys(METHODS, 1)


class Case(NamedTuple):
    """An instruction, its class, and by method how often it leaves the guest."""

    text: str
    treat: str
    exits: dict[str, int]


CASES = {
    "harmless": (Case("add s2, s2, s1", "ident", NEVER), Case("ld a0, 0(s1)", "ident", NEVER)),
    "special registers": (
        Case("csrrci zero, sstatus, 2", "inline", {"te": 1}),
        Case("csrrw zero, sscratch, s1", "inline", {"te": 1}),
        Case("csrrw zero, stimecmp, s2", "callout", {"te": 1}),
        Case("sfence.vma zero, zero", "inline", {"te": 1}),
    ),
    "sensitive memory": (
        Case("ld a0, 0(s3)", "ident", EVERYWHERE),  # nothing is there
        Case("ld a0, 0(s4)", "ident", NEVER),  # read-only memory may be read
        Case("sd a0, 0(s4)", "ident", EVERYWHERE),  # and not written
    ),
    "devices": (Case("lbu a0, 0(s5)", "ident", EVERYWHERE), Case("sb a0, 0(s5)", "ident", EVERYWHERE)),
}


def exits(method: str) -> dict[str, int]:
    """How often a guest is left for each of the instructions, which it executes by themselves. It has memory, read-only
    memory, and a device of its user's.
    """
    vcpu = guest((), method, s1=RAM + 0x1000, s2=(1 << 64) - 1, s3=NOWHERE, s4=ROM, s5=UART)
    found = {}
    with vcpu.vm as vm:
        vm.set_user_memory_region(1, ROM, 0x1000, bytearray(0x1000), abi.KVM_MEM_READONLY)
        for at, text in enumerate((case.text for cases in CASES.values() for case in cases), RAM >> 6):
            vm.write(at << 6, code_bytes(words_of(f"{text}\nx: j x")))
            vcpu.set(pc=at << 6)
            before = vcpu.stats.total
            while isinstance(exit := vcpu.run(1), Mmio):
                if not exit.is_write:
                    vcpu.reply(0)
            assert exit == Intr() and vcpu.get("pc") == (at << 6) + 4, exit
            found[text] = vcpu.stats.total - before - 1  # without that at the end
    return found


def classified(text: str) -> tuple[str, str]:
    """The class of an instruction, and why."""
    rows = riscv()
    code = Bytes(((RAM, code_bytes(words_of(text + "\nx: j x"))),))
    decoded = rows.decode(code.fetch(RAM))
    assert decoded is not None
    if decoded.treat is Treat.CALLOUT:
        return decoded.treat.value, why.of_callout(decoded, callouts(OPTIONS))
    insts = [inst for inst in Lifter(rows, OPTIONS, code).lift(RAM, True).insts if inst.at == 0]
    return decoded.treat.value, why.of_class(rows, decoded, insts)


def run(report: Report) -> None:
    left = {method: exits(method) for method in METHODS}
    for kind, cases in CASES.items():
        report.say(kind)
        for case in cases:
            treat, reason = classified(case.text)
            found = {method: left[method][case.text] for method in METHODS}
            report.show(f"{case.text:26} {treat:8} exits: {', '.join(f'{name} {n}' for name, n in found.items())}")
            report.show(f"    {reason}")
            report.check(treat == case.treat, f"it is {case.treat}")
            report.check(found == dict.fromkeys(METHODS, 0) | case.exits,
                         f"exits: {', '.join(case.exits) or 'none'}")  # fmt: skip
