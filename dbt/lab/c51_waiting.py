"""C51: who waits for an interrupt gives its time to others, is woken in time, and is told of if nothing can wake it.

Each virtual CPU has a thread of the host's; and again with a scheduler, on one physical CPU, where times are counted.
The method is that of the hypervisor extension, in which waiting is a trap to HS mode.
"""

from __future__ import annotations

from dbt.kvm import Hlt, SystemEvent, errors
from dbt.kvm.schedule import Scheduler
from dbt.lab.c49_threads import A0, A7, ECALL, S2, SPIN, in_threads, vcpus
from dbt.lab.report import Report
from dbt.lab.two_stages import csrr
from dbt.lab.workbench import asm, riscv

WFI = 0x1050_0073
IPI = 0x735049
QUANTUM, SLEEP, NAPS = 1000, 103, 5  # instructions; ticks of a guest's clock, 100 instructions of time each
TIME, STIMECMP = 0xC01, 0x14D


def run(report: Report) -> None:
    threads(report)
    scheduled(report)
    stuck(report)


def threads(report: Report) -> None:
    """Each has a thread of the host's. The one that works begins when the other one is there."""
    rows = riscv()
    calls = [asm(rows, "lui", rd=A7, imm=IPI + 0x800 & ~0xFFF), asm(rows, "addi", rd=A7, rs1=A7, imm=IPI & 0xFFF)]
    loop = [asm(rows, "addi", rd=S2, rs1=S2, imm=-1), asm(rows, "bne", rs1=S2, rs2=0, imm=-4)]
    here = [asm(rows, "auipc", rd=A0, imm=0x1000), asm(rows, "sw", rs1=A0, rs2=A0, imm=0)]
    waits = [*here, WFI, asm(rows, "addi", rd=A7, rs1=0, imm=8), ECALL]
    meets = [asm(rows, "auipc", rd=A0, imm=0x2000), asm(rows, "lw", rd=A0, rs1=A0, imm=0),
             asm(rows, "beq", rs1=A0, rs2=0, imm=-8)]  # fmt: skip
    works = [*meets, *loop, asm(rows, "addi", rd=A0, rs1=0, imm=2), *calls, ECALL, SPIN]
    worker, waiter = vcpus(works, waits)
    waiter.set(sie=2)
    worker.set(s2=5_000_000)
    found = in_threads([worker, waiter], lambda: waiter.stats.to_user)
    light = waiter.stats.reasons["virtual instruction"]
    report.figure("instructions: who waited, who worked", f"{waiter.instructions:,}, {worker.instructions:,}")
    report.check(light == 1 and waiter.instructions < 10, "wfi is one light exit, and who waits has none of the time")
    report.check(worker.instructions > 10_000_000, "the other one has all of it")
    report.check(found.get(waiter.id) == SystemEvent(1), "the interrupt of the one has woken the other, which goes on")
    waiter.vm.close()
    alone, also = vcpus([WFI, SPIN], [WFI, SPIN])
    report.check([alone.run(), also.run()] == [Hlt(), Hlt()], "where all wait and nothing will come, it is said: HLT")
    alone.vm.close()


def scheduled(report: Report) -> None:
    """Two machines on one physical CPU: one sleeps for its timer, again and again."""
    rows = riscv()
    nap = [csrr(A0, TIME), asm(rows, "addi", rd=A0, rs1=A0, imm=SLEEP), asm(rows, "csrrw", rd=0, rs1=A0, csr=STIMECMP),
           WFI, asm(rows, "addi", rd=S2, rs1=S2, imm=-1)]  # fmt: skip
    sleeps = [*nap, asm(rows, "bne", rs1=S2, rs2=0, imm=-4 * len(nap)), asm(rows, "addi", rd=A7, rs1=0, imm=8), ECALL]
    works = [asm(rows, "addi", rd=S2, rs1=S2, imm=1), asm(rows, "jal", rd=0, imm=-4)]
    (sleeper,), (worker,) = vcpus(sleeps), vcpus(works)
    sleeper.set(sie=32, s2=NAPS)
    scheduler = Scheduler([sleeper.vm, worker.vm], lambda vcpu, exit: False, quantum=QUANTUM)
    while scheduler.machines[0].end is None and scheduler.now < 2 * NAPS * SLEEP * 100:
        scheduler.run(scheduler.instructions + QUANTUM)
    report.say(f"on one pCPU, a quantum of {QUANTUM:,}: one sleeps {NAPS} times, {SLEEP * 100:,} instructions long")
    report.figure("instructions: who slept, who worked", f"{sleeper.instructions:,}, {worker.instructions:,}")
    report.check(worker.instructions > 0.99 * scheduler.now, "the other one has more than 99 % of the time")
    latency = scheduler.entities[0].latency
    report.figure("late after its timer, at most", f"{latency:,}")
    report.check(scheduler.machines[0].end == SystemEvent(1) and 0 < latency <= QUANTUM,
                 "who slept has come to its end, and was woken within a quantum, each time")  # fmt: skip
    report.check(sleeper.stats.to_user == 1 and worker.stats.to_user == 0, "neither is any exit to the user")
    for vcpu in (sleeper, worker):
        vcpu.vm.close()


def stuck(report: Report) -> None:
    """All wait, with no timer."""
    alone, _ = vcpus([WFI, SPIN], [WFI, SPIN])
    scheduler = Scheduler([alone.vm], lambda vcpu, exit: False)
    scheduler.run()
    end = scheduler.machines[0].end
    report.check(isinstance(end, errors.Deadlock), f"a scheduler has a name for it: {end}")
    alone.vm.close()
