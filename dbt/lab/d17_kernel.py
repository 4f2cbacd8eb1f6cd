"""D17: an operating system, whole: our kernel from its start in machine mode to its shutdown, in both engines."""

from __future__ import annotations

import os
import tempfile
import time
from typing import NamedTuple

from dbt.lab.report import Report
from dbt.lab.workbench import board
from dbt.machine.devices.block import SECTOR, Block
from dbt.machine.digest import digest
from dbt.machine.disks import Raw
from dbt.machine.exits import Exit, Intr, SystemEvent
from dbt.options import Options
from guests.riscv import privileged as p

NOTE = "kept on the disk"
LINES = (f"write note {NOTE}", "sleep 5", "primes 300", "fault load", "cat note", "shutdown")
PRINTED = ("kernel: started in machine mode", "disk: 256 sectors, formatted", "62 primes below 300",
           "load page fault at pc", f"\n{NOTE}\n")  # fmt: skip
SECTORS = 256
SLEEP = 5_000_000  # nanoseconds, of "sleep 5"
MOST = 2_000_000  # instructions, several times as many as are needed
SAMPLE = 2_000  # instructions between looks at the hart
TRAMPOLINE = 0x3F_FFFF_F000  # the last page of the lower half, in all address spaces
SV39 = 8
TRAPS = {"calls of the kernel": 8, "page faults of loads": 13, "page faults of stores": 15,
         "interrupts by the PLIC": 1 << 63 | 9}  # fmt: skip


class Ran(NamedTuple):
    """A run in its end. `looks`: mode, satp and stvec from time to time."""

    exit: Exit
    printed: str
    digest: str
    instructions: int
    waited: int  # nanoseconds
    traps: dict[str, int]
    protection: int  # pmpcfg0
    looks: list[tuple[int, int, int]]
    image: bytes
    seconds: float


def once(engine: str) -> Ran:
    """The kernel with a disk, from reset to the end."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "disk")
        with open(path, "wb") as file:
            file.write(bytes(SECTORS * SECTOR))
        made, printed = board("kernel", "".join(f"{line}\n" for line in LINES).encode(), engine, Options(patience=0))
        image = Raw(path)
        made.add_virtio(Block(image))
        vm, slots, looks = made.vm, made.vcpu.state.slots, list[tuple[int, int, int]]()
        start = time.perf_counter()
        exit: Exit = Intr()
        for most in range(SAMPLE, MOST, SAMPLE):
            exit = vm.run(most=most)
            looks.append((slots[p.PRIVILEGE], slots[p.SATP], slots[p.STVEC]))
            if not isinstance(exit, Intr):
                break
        seconds = time.perf_counter() - start
        taken = {what: sum(count for (cause, _), count in made.vcpu.taken.items() if cause == code)
                 for what, code in TRAPS.items()}  # fmt: skip
        ran = Ran(exit, printed.decode().replace("\r", ""), digest(made), vm.clock.retired, vm.clock.waited, taken,
                  slots[p.PMPCFG0], looks, image.read(0, SECTORS), seconds)  # fmt: skip
        image.close()
        return ran


def run(report: Report) -> None:
    runs = {engine: once(engine) for engine in ("reference", "translated")}
    report.show(runs["translated"].printed)
    for engine, ran in runs.items():
        report.say(f"{engine}: {ran.instructions:,} instructions in {ran.seconds:.2f} s, digest {ran.digest}")
        report.check(ran.exit == SystemEvent(1), "it comes to its shutdown")
        report.check(all(text in ran.printed for text in PRINTED), "the UART has what it has to print")
        modes = {mode for mode, _, _ in ran.looks}
        report.check(modes == {p.MACHINE, p.SUPERVISOR, p.USER}, "it was seen in all three modes")
        report.check(ran.protection != 0, f"memory protection is set up: pmpcfg0 {ran.protection:#x}")
        tables = {satp for _, satp, _ in ran.looks if satp >> 60 == SV39}
        report.check(len(tables) > 2, f"Sv39: {len(tables)} page tables were seen")
        vectors = {stvec for mode, _, stvec in ran.looks if mode == p.USER}
        report.check(vectors == {TRAMPOLINE}, f"out of user mode all traps go to {TRAMPOLINE:#x}, the trampoline")
        for what, count in ran.traps.items():
            report.figure(what, count)
        report.check(all(ran.traps.values()), "there were traps of each of these kinds")
        report.figure("waited, in ms", ran.waited / 1e6)
        report.check(ran.waited >= 0.99 * SLEEP, "the timer has ended a wait that nothing else could end")
        report.check(NOTE.encode() in ran.image, "virtio: what was written to a file is in the disk's image")
    reference, translated = runs.values()
    report.check(reference.digest == translated.digest, "one digest of memory, harts, time, devices and disk")
    report.check(reference[:4] == translated[:4] and reference.looks == translated.looks,
                 "the same console, the same instructions, the same state whenever it was looked at")  # fmt: skip
