"""C24: para-virtualization wants the kernel's source: one that was not changed is refused; how much was changed."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from dbt.kvm import Kvm, KvmError, RiscvSbi
from dbt.kvm.errors import NotParavirtual
from dbt.lab.report import Report
from dbt.lab.simple_monitor import OPTIONS, RAM, SIZE
from guests.programs import VIRTUALS, virtual_file

PROGRAM = "quad"
MOST = 100_000  # instructions until it is refused
BOTH, NATIVE, PV = "both", "native", "pv"


def shares(text: str) -> Counter[str]:
    """Lines of a source by the builds that have them; empty ones and those of the preprocessor are in none."""
    found, inside = Counter[str](), [BOTH]
    for line in text.splitlines():
        word = line.strip()
        if match := re.match(r"#if(n?)def (\w+)", word):
            inside.append({"": PV, "n": NATIVE}[match[1]] if match[2] == "PV" else inside[-1])
        elif word.startswith("#else"):
            inside[-1] = {PV: NATIVE, NATIVE: PV}.get(inside[-1], inside[-1])
        elif word.startswith("#endif"):
            inside.pop()
        elif word and not re.match(r"#(include|define)", word):
            found[inside[-1]] += 1
    return found


def differences(folder: Path) -> Counter[str]:
    """The same for all sources of a guest, and those that it shares. What is in pv.h is for one build."""
    sources = [path for each in (folder, folder.parent / "common") for path in sorted(each.glob("*.[cSh]"))]
    return sum((shares(path.read_text()) for path in sources if path.name != "pv.h"), Counter[str]())


def refusal(file: str) -> tuple[KvmError | None, bool]:
    """What the monitor says to a guest that pv is not for, and whether its kernel is where it was refused."""
    with Kvm("pv", options=OPTIONS).create_vm() as vm:
        vm.set_user_memory_region(0, RAM, SIZE)
        vcpu = vm.create_vcpu()
        vcpu.set(pc=vm.load(file))
        try:
            while isinstance(vcpu.run(MOST), RiscvSbi):  # marks of phases
                vcpu.reply(0, 0)
        except NotParavirtual as error:
            return error, f"PC {vcpu.get('pc'):#x} " in str(error)
    return None, False


def run(report: Report) -> None:
    for name in (PROGRAM, "tasks"):
        error, there = refusal(virtual_file(name))
        report.say(f"@{name}, its native build, under pv: {error}")
        report.check(there and "csr" in str(error), "it is refused, by the name and place of an instruction")
    for name in (name for name, each in VIRTUALS.items() if each.paravirtual):
        found = differences(Path(virtual_file(name)).parent)
        report.say(f"@{name} has two builds")
        for build, what in ((BOTH, "in both"), (NATIVE, "in the native one alone"), (PV, "in that for pv alone")):
            report.figure(f"lines of its sources {what}", found[build])
        if name == PROGRAM:
            report.check(0 < found[NATIVE] + found[PV] < found[BOTH], "more is common to the two than not")
