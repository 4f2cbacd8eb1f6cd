"""`batch`: para-virtualization: many entries of a page table are changed by one call of the monitor.

Given: a0, where the first of a1 entries of a page table is; a2, the virtual page that it is of; a3, an array of the
physical pages that they are to lead to; a4, room. Wanted: a para-virtualized kernel that changes them all, and ends, in
two exits. Its pages were used before, so that the monitor's shadow tables lead where they led.
"""

from __future__ import annotations

import struct
from random import Random

from dbt.kvm import SystemEvent, Vcpu
from dbt.lab.c23_batches import EDITS, LEAVES, PAGE, ROOT, WINDOW, entry, map_window
from dbt.lab.exercises.machines import RAM, guest, run_on, words_of
from dbt.lab.exercises.reading import Wrong, assembly, require
from dbt.lab.workbench import code_bytes, riscv

WANTED, ROOM, LOOK, SEEN = (RAM + n * PAGE for n in (8, 20, 10, 12))
EXITS = 2
LOOKS = words_of("""
    next:   ld t0, 0(a2)        # what the page has that the guest's address leads to
            sd t0, 0(a3)
            lui t0, 1
            add a2, a2, t0
            addi a3, a3, 8
            addi a1, a1, -1
            bnez a1, next
            li a7, 8
            ecall
""", LOOK)


def look(vcpu: Vcpu, pages: int) -> tuple[int, ...]:
    """What the guest loads from each page of its window: the physical address of what it leads to."""
    vcpu.set(pc=LOOK, a1=pages, a2=WINDOW, a3=SEEN)
    vcpu.run()
    return struct.unpack(f"<{pages}Q", vcpu.vm.read(SEEN, 8 * pages))


def check(file: str) -> str:
    program, rng = assembly(file, riscv(), RAM), Random()
    pages = rng.randint(20, 99)
    with guest(program.words, "pv").vm as vm:
        vcpu, frames = vm.vcpus[0], map_window(vm)
        for frame in frames:
            vm.write(frame, frame.to_bytes(8, "little"))
        vm.write(LOOK, code_bytes(LOOKS))
        wanted = rng.sample(frames, pages)
        vm.write(WANTED, struct.pack(f"<{pages}Q", *wanted))
        vcpu.set(satp=8 << 60 | ROOT >> 12)
        look(vcpu, pages)

        before = vcpu.stats.total
        vcpu.set(pc=RAM, a0=LEAVES, a1=pages, a2=WINDOW, a3=WANTED, a4=ROOM)
        exit, where = run_on(vcpu, program)
        if exit != SystemEvent(1):
            raise Wrong(f"it is left at {where}, which nobody answers: {exit}")
        exits = vcpu.stats.total - before
        entries = struct.unpack(f"<{EDITS}Q", vm.read(LEAVES, 8 * EDITS))
        seen = look(vcpu, pages)
    for number, frame in enumerate(wanted):
        page = f"page {WINDOW + number * PAGE:#x}"
        require(entries[number] == entry(frame), f"the entry of {page} is {entries[number]:#x}, and should be "
                f"{entry(frame):#x}")  # fmt: skip
        require(seen[number] == frame, f"{page} still leads to {seen[number]:#x}, and its entry to {frame:#x}: nobody "
                "has told the monitor")  # fmt: skip
    require(set(entries[pages:]) == {entry(frames[0])}, "it has changed entries behind those that it was to change")
    require(exits <= EXITS, f"{pages} entries with {exits} exits; {EXITS} are enough, its end among them")
    return f"{pages} entries with {exits} exits, its end among them, and each page leads where it should"
