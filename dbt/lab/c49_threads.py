"""C49 and C50: a virtual CPU is a thread's; the end of its slice and its timer are no user's affair.

The method is that of the hypervisor extension, in which all of these are traps to HS mode.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from dbt.kvm import Exit, Intr, Kvm, SystemEvent, Vcpu, abi, errors
from dbt.lab.report import Report
from dbt.lab.simple_monitor import OPTIONS, RAM, SIZE
from dbt.lab.two_stages import csrr
from dbt.lab.workbench import asm, code_bytes, riscv

METHOD = "hw"
A0, A7, S2 = 10, 17, 18
ECALL, SPIN = 0x73, 0x6F
SLICES, TICKS = 5, 10
PATIENCE = 60  # seconds
EACH_TICK = 20_000  # instructions, at least, of the guest's time


def vcpus(*programs: list[int]) -> list[Vcpu]:
    """A machine's virtual CPUs, each at a program of its own."""
    vm = Kvm(METHOD, options=OPTIONS).create_vm()
    vm.set_user_memory_region(0, RAM, SIZE)
    made = []
    for i, words in enumerate(programs):
        vm.write(RAM + 0x1000 * i, code_bytes(words))
        vcpu = vm.create_vcpu()
        vcpu.mp_state = abi.KVM_MP_STATE_RUNNABLE
        vcpu.set(pc=RAM + 0x1000 * i)
        made.append(vcpu)
    return made


def in_threads(vcpus: list[Vcpu], until: Callable[[], object]) -> dict[int, Exit]:
    """Run each in a thread, and ask it to be left when `until` says so, or patience has an end; their exits.

    One is started when the one before it runs: who is alone in its machine and waits is left, since nothing can come.
    """
    found: dict[int, Exit] = {}
    threads = [threading.Thread(target=lambda vcpu=vcpu: found.update({vcpu.id: vcpu.run()})) for vcpu in vcpus]
    end = time.monotonic() + PATIENCE
    for vcpu, thread in zip(vcpus, threads, strict=True):
        thread.start()
        while not vcpu.instructions and thread.is_alive() and time.monotonic() < end:
            time.sleep(0.001)
    while not until() and time.monotonic() < end:
        time.sleep(0.001)
    for vcpu in vcpus:
        vcpu.immediate_exit = True
    for thread in threads:
        thread.join(PATIENCE)
    return found


def threads(report: Report) -> None:
    """C49: two endless guests of one machine."""
    endless = [asm(riscv(), "addi", rd=S2, rs1=S2, imm=1), asm(riscv(), "jal", rd=0, imm=-4)]
    first, _ = both = vcpus(endless, endless)
    refused: list[str] = []

    def enough() -> bool:
        if not refused:
            try:
                first.set(a0=0)
            except errors.VcpuBusy as busy:
                refused.append(str(busy))
        return min(vcpu.stats.reasons["turn of another thread"] for vcpu in both) >= SLICES

    found = in_threads(both, enough)
    for vcpu in both:
        stats = vcpu.stats
        report.figure(f"CPU {vcpu.id}: instructions, exits, to the user",
                      f"{vcpu.instructions:,}, {stats.total}, {stats.to_user}")  # fmt: skip
        report.check(stats.reasons["turn of another thread"] >= SLICES and stats.to_user <= 2,
                     "slices ended again and again, and none of it went to the user")  # fmt: skip
        report.check(vcpu.get("s2") == (vcpu.instructions + 1) // 2, "none of its instructions was lost")
    report.check(found == {0: Intr(), 1: Intr()}, "each thread is left when it is asked to be")
    report.check(bool(refused), f"a second thread is refused: {refused[0] if refused else ''}")
    first.vm.close()


def ticks(report: Report) -> None:
    """C50: a guest's timer: by stimecmp without any exit, and by calls with light ones."""
    rows = riscv()
    set_timer = {
        "stimecmp": [asm(rows, "csrrw", rd=0, rs1=A0, csr=0x14D)],
        "a call": [asm(rows, "addi", rd=A7, rs1=0, imm=0), ECALL],
    }  # fmt: skip
    for name, words in set_timer.items():
        again = [csrr(A0, 0xC01), asm(rows, "addi", rd=A0, rs1=A0, imm=EACH_TICK // 100), *words]
        body = [*again, SPIN]
        handler = [
            asm(rows, "addi", rd=S2, rs1=S2, imm=-1), asm(rows, "beq", rs1=S2, rs2=0, imm=4 * (len(again) + 2)),
            *again, asm(rows, "sret"), asm(rows, "addi", rd=A7, rs1=0, imm=8), ECALL,
        ]  # fmt: skip
        (vcpu,) = vcpus(body)
        vcpu.vm.write(RAM + 0x800, code_bytes(handler))
        vcpu.set(stvec=RAM + 0x800, sie=32, sstatus=2, s2=TICKS)
        exit = vcpu.run(10 * TICKS * EACH_TICK)
        stats = vcpu.stats
        report.figure(f"{TICKS} ticks, set by {name}: exits, to the user", f"{stats.total}, {stats.to_user}")
        wanted = 1 if name == "stimecmp" else 1 + TICKS
        report.check(exit == SystemEvent(1) and (stats.total, stats.to_user) == (wanted, 1),
                     "the timer's interrupts are the guest's own, and its asking is no user's affair")  # fmt: skip
        report.check(vcpu.instructions > TICKS * EACH_TICK, "so much time has passed")
        vcpu.vm.close()
