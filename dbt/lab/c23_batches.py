"""C23: many calls in one exit: 256 entries of a page table, changed one by one, by a call each, and by one call."""

from __future__ import annotations

import struct
from typing import NamedTuple

from dbt.kvm import SystemEvent, Vm
from dbt.lab.a15_causes import ECALL, guest
from dbt.lab.report import Report
from dbt.lab.simple_monitor import RAM
from dbt.lab.workbench import LEAF, asm, riscv

EDITS, PAGE, WINDOW = 256, 4096, 0x4000_0000
ROOT, MIDDLE, LEAVES, QUEUE, FRAMES = (RAM + n * PAGE for n in (16, 17, 18, 20, 32))
EXTENSION, SET_LEAF, MULTICALL = 0x0A50_5601, 8, 9
A0, A1, A2, A6, A7, T0, S0, S1, S2, S3, S4, S5 = 10, 11, 12, 16, 17, 5, 8, 9, 18, 19, 20, 21
NATIVE, SINGLE, BATCHED = "sfence.vma", "hypercall set_leaf", "hypercall multicall"


class Ran(NamedTuple):
    """Exits by name, the page of entries at the end, and the sum of what the guest has loaded by them."""

    reasons: dict[str, int]
    entries: bytes
    sum: int


def entry(page: int) -> int:
    return page >> 12 << 10 | LEAF


def words(way: str) -> list[int]:
    """The edits, then a load from each page, then the end."""
    rows = riscv()
    move = lambda to, source: asm(rows, "addi", rd=to, rs1=source, imm=0)
    step = [asm(rows, "addi", rd=S1, rs1=S1, imm=8), asm(rows, "addi", rd=S2, rs1=S2, imm=PAGE >> 2),
            asm(rows, "add", rd=S3, rs1=S3, rs2=S4), asm(rows, "addi", rd=S0, rs1=S0, imm=-1)]  # fmt: skip
    edit = {
        NATIVE: [asm(rows, "sd", rs1=S1, rs2=S2, imm=0), asm(rows, "sfence.vma", rs1=S3, rs2=0)],
        SINGLE: [move(A0, S1), move(A1, S2), move(A2, S3), ECALL],
    }
    if way == BATCHED:
        edits = [ECALL]
    else:
        body = [*edit[way], *step]
        edits = [*body, asm(rows, "bne", rs1=S0, rs2=0, imm=-4 * len(body))]
    load = [
        asm(rows, "ld", rd=T0, rs1=T0, imm=0), asm(rows, "add", rd=S5, rs1=S5, rs2=T0),
        asm(rows, "add", rd=A2, rs1=A2, rs2=S4), move(T0, A2), asm(rows, "addi", rd=A1, rs1=A1, imm=-1),
    ]  # fmt: skip
    loads = [
        asm(rows, "lui", rd=A2, imm=WINDOW), move(T0, A2), asm(rows, "addi", rd=A1, rs1=0, imm=EDITS),
        *load, asm(rows, "bne", rs1=A1, rs2=0, imm=-4 * len(load)),
    ]  # fmt: skip
    return [*edits, *loads, asm(rows, "addi", rd=A7, rs1=0, imm=8), ECALL]


def map_window(vm: Vm) -> list[int]:
    """Tables of a guest for its RAM, and for pages that all lead to the first of the frames, which are returned."""
    frames = [FRAMES + i * PAGE for i in range(EDITS)]
    for at, value in (
        (ROOT + 8 * (RAM >> 30), RAM >> 12 << 10 | LEAF), (ROOT + 8 * (WINDOW >> 30), MIDDLE >> 2 | 1),
        (MIDDLE, LEAVES >> 2 | 1), *((LEAVES + 8 * i, entry(frames[0])) for i in range(EDITS)),
    ):  # fmt: skip
        vm.write(at, value.to_bytes(8, "little"))
    return frames


def edited(method: str, way: str) -> Ran:
    vcpu = guest(method, *words(way))
    vm = vcpu.vm
    frames = map_window(vm)
    for i, frame in enumerate(frames):
        vm.write(frame, (i * i).to_bytes(8, "little"))
    calls = ((SET_LEAF, LEAVES + 8 * i, entry(frame), WINDOW + i * PAGE) for i, frame in enumerate(frames))
    vm.write(QUEUE, b"".join(struct.pack("<4Q", *call) for call in calls))
    vcpu.set(satp=8 << 60 | ROOT >> 12, a7=EXTENSION, a6=MULTICALL if way == BATCHED else SET_LEAF, a0=QUEUE, a1=EDITS,
             s0=EDITS, s1=LEAVES, s2=entry(FRAMES), s3=WINDOW, s4=PAGE)  # fmt: skip
    assert vcpu.run() == SystemEvent(1)
    found = Ran(dict(vcpu.stats.reasons), vm.read(LEAVES, 8 * EDITS), vcpu.get("s5"))
    vm.close()
    return found


def run(report: Report) -> None:
    wanted = b"".join(entry(FRAMES + i * PAGE).to_bytes(8, "little") for i in range(EDITS))
    total = sum(i * i for i in range(EDITS))
    for method, way, exits in (("te", NATIVE, EDITS), ("pv", SINGLE, EDITS), ("pv", BATCHED, 1)):
        ran = edited(method, way)
        report.figure(f"{method}, {way}: exits for {EDITS} entries", ran.reasons.get(way, 0))
        if fills := ran.reasons.get("shadow fill"):
            report.figure(f"{method}: and pages that shadow tables did not have", fills)
        report.check(ran.reasons.get(way) == exits, f"{exits}")
        report.check(ran.entries == wanted and ran.sum == total, "the entries hold: each page is the one it names")
