"""A13 and C32: the world switch. What software moves of two worlds' registers, and what the hart moves by itself.

`@world` is a hypervisor in assembly that enters its guest a thousand times and compares digests (guests/programs).
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

from dbt import elf
from dbt.lab.report import Report
from dbt.lab.two_stages import ENGINES, GUEST, SPIN, go, hypervised, with_h
from dbt.lab.workbench import asm, board
from dbt.machine.exits import SystemEvent
from guests.programs import SYSTEMS, system_file
from guests.riscv import privileged as p
from guests.riscv import registers

PROGRAM = "world"
ROUNDS = 1000
CALL, FROM_VS = 8, 5  # as an instruction says it; the mode
MOVED = 2 * (31 + 6) - 2  # stores of a switch there and back: of the guest's stvec and sscratch there are none
LIMIT = 10_000_000
SENTINEL = 0x5A5A_0000


def run(report: Report) -> None:
    """A13"""
    for engine in ENGINES:
        made, printed = board(PROGRAM, engine=engine)
        exit = made.vm.run(most=LIMIT)
        hart = made.vm.vcpus[0]
        text = printed.decode().replace("\r", "")
        report.say(f"@{PROGRAM}, {engine}, {hart.retired:,} instructions")
        report.show(text)
        report.check(exit == SystemEvent(1) and text == SYSTEMS[PROGRAM].output,
                     "it ends with success, and says what it does under QEMU")  # fmt: skip
        digests = re.findall(r"\b[0-9a-f]{16}\b", text)
        report.check(len(digests) == 2 and len(set(digests)) == 1,
                     "after a thousand entries the hypervisor's digest is that from before them")  # fmt: skip
        report.check("31 registers of 31 went on" in text, "and the guest has gone on in registers of its own")
        report.check(hart.taken[CALL, FROM_VS] == ROUNDS, "it was in VS mode each time: so many traps came from there")


# --- C32 ----------------------------------------------------------------------------------------------------------


def moved() -> Counter[str]:
    """Instructions of `@world` in one switch to the guest and back, by what they move."""
    made, _ = board(PROGRAM, engine="reference")
    image = elf.parse(Path(system_file(PROGRAM)).read_bytes(), made.guest.linux, PROGRAM)
    places = {symbol.name: symbol.address for symbol in image.symbols()}
    switch = range(places["run_guest"], places["observe_switch"])
    engine: Any = made.vm.vcpus[0].engine
    found: Counter[str] = Counter()

    def watch(pc: int, decoded: Any) -> None:
        name = decoded.row.name.removeprefix("c.")
        if pc in switch and not found["switches"]:
            found["csr" if name.startswith("csr") else name[:2]] += 1
        elif pc >= switch.stop and found["sr"]:  # sret was among them: it is behind the way back
            found["switches"] += 1

    engine.watch = watch
    while not found["switches"]:
        made.vm.run(most=made.vm.clock.retired + 100)
    return found


def by_the_hart(engine: str) -> tuple[set[str], set[str]]:
    """Which slots of a hart's state a trap from VS mode changes, and which an sret there."""
    changed = []
    for words, mode in (([0], "VS"), ([asm(with_h(), "sret"), SPIN], "HS")):
        vcpu = hypervised(engine, words, mode)
        slots = vcpu.state.slots
        for name in ("scause", "stval", "sepc"):
            slots[p.SLOT[name]] = SENTINEL
        for name in ("htval", "htinst", "vsepc", "vscause", "vstval"):
            slots[p.HYPERVISOR_SLOT[name]] = SENTINEL
        if mode == "HS":
            slots[p.HSTATUS] |= p.SPV | p.SPVP
            slots[p.MSTATUS] |= p.SPP
            slots[p.SEPC] = GUEST
        before = vcpu.state.registers()
        go(vcpu, 1)
        after = vcpu.state.registers()
        changed.append({name for name in before if before[name] != after[name]} - {"pc"})
    return changed[0], changed[1]


def counts(report: Report) -> None:
    """C32"""
    names = {register.name for register in registers.REGISTERS}
    for engine in ENGINES:
        trap, back = by_the_hart(engine)
        report.show(f"{engine}: a trap from VS mode changes {', '.join(sorted(trap))}")
        report.show(f"{engine}: sret to VS mode changes {', '.join(sorted(back))}")
        report.check({"scause", "stval", "sepc", "htval", "htinst", "hstatus", "mstatus", "virtual"} <= trap,
                     "a trap notes why, where, and from which mode")  # fmt: skip
        report.check({"virtual", "hstatus", "mstatus"} <= back, "sret undoes what a trap has noted of the mode")
        guests = {name for name in trap | back if name in names or name.startswith("vs")}
        report.check(not guests, "neither moves a register of the guest's, nor what VS mode has of CSRs")
    found = moved()
    report.figure("by software, in and out: loads, stores", f"{found['ld']}, {found['sd']}")
    report.figure("by software, in and out: accesses of CSRs", found["csr"])
    report.check((found["ld"], found["sd"]) == (MOVED - 1, MOVED),  # the hypervisor's a0 is where it has to be
                 "software stores 31 registers and six CSRs of one world, loads the other's, and back")  # fmt: skip
    report.show(f"{'':14} {'by the processor':42} by software")
    for row in (
        ("RISC-V, here", f"{len(trap) - 1} CSRs at a trap, {len(back) - 1} at sret", "31 registers and 6 CSRs of each"),
        ("Arm EL2", "ELR, SPSR, ESR, FAR, HPFAR at EL2", "31 registers, and the system registers of EL1"),
        ("VT-x", "the VMCS: 47 fields of a guest's, and more", "15 registers"),
    ):  # fmt: skip
        report.show(f"{row[0]:14} {row[1]:42} {row[2]}")
