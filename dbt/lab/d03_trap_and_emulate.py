"""D03, D04 and D06 to D09: a guest's kernel in user mode. What it may not do there is emulated."""

from __future__ import annotations

import tempfile
from itertools import product
from pathlib import Path
from random import Random

from dbt.kvm import Kvm, Vcpu, abi
from dbt.lab.a04_schedule import run_harts, said
from dbt.lab.a15_causes import guest
from dbt.lab.report import Report
from dbt.lab.simple_monitor import OPTIONS, RAM, SIZE, Monitor
from dbt.lab.workbench import asm, code_bytes, riscv
from guests.programs import VIRTUALS, virtual_file

PROGRAM = "tasks"
CSRS = {"sstatus": 0x100, "sie": 0x104, "stvec": 0x105, "scounteren": 0x106, "senvcfg": 0x10A, "sscratch": 0x140,
        "sepc": 0x141, "scause": 0x142, "stval": 0x143, "sip": 0x144, "stimecmp": 0x14D, "satp": 0x180}  # fmt: skip
FORMS = {"csrrw": 1, "csrrs": 2, "csrrc": 3, "csrrwi": 5, "csrrsi": 6, "csrrci": 7}
MHARTID = 0xF14
ILLEGAL, CALLED = 2, 8  # scause
A0, A1, A2, A7 = 10, 11, 12, 17
ECALL, SRET, SPIN = 0x73, 0x1020_0073, 0x6F
HANDLER = RAM + 0x800
CALLS, HARTS = 100, 4
SEED = 6


def csr(form: str, number: int, rd: int, source: int) -> int:
    """An instruction on a CSR; `source` is rs1, or the immediate."""
    return number << 20 | source << 15 | FORMS[form] << 12 | rd << 7 | 0x73


def read(rd: int, name: str) -> int:
    return csr("csrrs", CSRS[name], rd, 0)


def with_handler(method: str, words: list[int], handler: list[int], mode: int) -> Vcpu:
    """A virtual CPU in this mode at the first of these instructions, whose kernel takes its traps."""
    vcpu = guest(method, *words)
    vcpu.vm.write(HANDLER, code_bytes(handler))
    vcpu.set(mode=mode, stvec=HANDLER)
    return vcpu


def state(vcpu: Vcpu) -> list[int]:
    """All registers."""
    return [vcpu.get_one_reg(number) for number in vcpu.reg_list()]


def counts(report: Report) -> None:
    """D03"""
    ends = {}
    for method in ("interp", "te"):
        monitor = Monitor(virtual_file(PROGRAM), f"@{PROGRAM}", method)
        ends[method] = monitor.run(), monitor.printed, monitor.vcpu.instructions
    stats = monitor.vcpu.stats
    report.say(f"te: @{PROGRAM}, {monitor.vcpu.instructions:,} instructions, {stats.total} traps")
    for name, count in stats.reasons.most_common():
        report.figure(name, count)
    report.check(ends["te"] == ends["interp"] == (0, VIRTUALS[PROGRAM].output, ends["te"][2]),
                 "it prints the same as interpreted, and retires the same instructions")  # fmt: skip
    own = sum(count for name, count in stats.reasons.items() if name.startswith("csr ") or name == "sret")
    report.check(own > 50, "the instructions of its kernel on registers are traps, each counted by its register")
    vcpu = guest("te", word := read(A0, "sepc"), SPIN)
    vcpu.set(sepc=0x6688)
    vcpu.run(2)
    real = vcpu.vm.world.real(vcpu.hart)
    report.figure("csrr a0, sepc: scause, stval of the hart", f"{real['scause']}, {real['stval']:#x}")
    taken = vcpu.hart.taken
    report.check((real["scause"], real["stval"]) == (ILLEGAL, word) and taken[ILLEGAL, 0] == 1,
                 "from user mode: illegal (2), with the instruction as the value")  # fmt: skip
    report.check(vcpu.get("a0") == 0x6688, "and what it has read is its own")
    vcpu.vm.close()


def nobody(report: Report) -> None:
    """D04"""
    words = [asm(riscv(), "addi", rd=A0, rs1=0, imm=1), csr("csrrw", CSRS["satp"], 0, A0), SPIN]  # no mode: no effect
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "kernel")
        file.write_bytes(code_bytes(words))
        naive, emulating = (Monitor(str(file), "kernel", method, arms=(), gpa=RAM) for method in ("none", "te"))
    status = naive.run()
    report.say(f"none: {naive.lines[-1]}, status {status}")
    wanted = f"panicked: illegal instruction csrw satp at PC {RAM + 4:#x} (guest crashed)"
    report.check((status, naive.lines[-1]) == (1, wanted), "the naive way: its first such instruction is its end")
    emulating.vcpu.enter(1000)
    report.figure("te: satp, pc", f"{emulating.vcpu.get('satp'):#x}, {emulating.vcpu.get('pc'):#x}")
    report.check(emulating.vcpu.get("pc") == RAM + 8, "with a monitor that emulates, the same guest goes on")
    emulating.vm.close()


def forms(report: Report) -> None:
    """D06"""
    rng = Random(SEED)
    pair = [guest(method, SPIN, SPIN) for method in ("interp", "te")]
    cases = different = 0
    for number, form, rd, source in product(CSRS.values(), FORMS, (0, A0), (0, A1)):
        value = rng.getrandbits(64)
        found = []
        for vcpu in pair:
            immediate = source and value & 31
            vcpu.vm.write(RAM, code_bytes([csr(form, number, rd, immediate if form.endswith("i") else source), SPIN]))
            vcpu.set(pc=RAM, mode=1, satp=0, sstatus=0, sie=0, a0=5, a1=value, stvec=HANDLER)
            vcpu.run(1)
            found.append(state(vcpu))
        cases += 1
        different += found[0] != found[1]
    emulated = sum(count for name, count in pair[1].stats.reasons.items() if name.startswith("csr "))
    report.figure("cases: registers, forms, rd and rs1 x0 or not", cases)
    report.figure("emulated by the monitor", emulated)
    report.figure("with another result than interpreted", different)
    report.check(cases == len(CSRS) * len(FORMS) * 4 and different == 0, "none has")
    report.check(emulated >= cases, "each was a trap, and was emulated")
    for vcpu in pair:
        vcpu.vm.close()


def reflected(report: Report) -> None:
    """D07"""
    vcpu = with_handler("te", [word := read(A1, "scause"), SPIN], [read(A2, "scause"), SPIN], 0)
    vcpu.set(a1=77)
    vcpu.run(3)
    found = {name: vcpu.get(name) for name in ("a1", "a2", "stval", "sepc", "mode")}
    report.say(f"a program reads scause: its kernel finds scause {found['a2']}, stval {found['stval']:#x}")
    report.check(found == {"a1": 77, "a2": ILLEGAL, "stval": word, "sepc": RAM, "mode": 1},
                 "the kernel's handler has it as illegal (2), and nothing was emulated for the program")  # fmt: skip
    vcpu.vm.close()
    vcpu = with_handler("te", [csr("csrrw", CSRS["sepc"], 0, A1), SRET, SPIN], [SPIN], 1)
    vcpu.set(a1=RAM + 8)
    vcpu.run(3)
    report.check((vcpu.get("mode"), vcpu.get("pc")) == (0, RAM + 8), "the mode is kept: `sret` is a trap, to user mode")
    vcpu.vm.close()


def numbers(report: Report) -> None:
    """D08"""
    vm = Kvm("te", options=OPTIONS).create_vm()
    vm.set_user_memory_region(0, RAM, SIZE)
    put = [asm(riscv(), "addi", rd=A0, rs1=A0, imm=ord("0")), asm(riscv(), "addi", rd=A7, rs1=0, imm=1), ECALL, SPIN]
    vm.write(RAM, code_bytes([csr("csrrs", MHARTID, A0, 0), *put]))
    printed = ""
    for number in range(HARTS):
        vcpu = vm.create_vcpu()
        vcpu.mp_state = abi.KVM_MP_STATE_RUNNABLE
        vcpu.set(pc=RAM, a0=99)
        trap = vcpu.enter()
        report.figure(f"vCPU {number}: scause, stval", f"{trap.scause}, {trap.stval:#x}")
        report.check(trap.scause == ILLEGAL and trap.stval >> 20 == MHARTID, "mhartid is machine mode's: a trap")
        vcpu.set(a0=vcpu.id)
        vcpu.skip()
        vcpu.enter()  # its call
        printed += chr(vcpu.get("a0"))
    report.say(f"the guests print: {printed}")
    report.check(printed == "0123", "each has the number that the monitor keeps for it")
    vm.close()
    together = run_harts(HARTS, 2, method="te")
    report.check(together.printed == said(HARTS), "and so has each hart of @harts, which is handed it")


def calls(report: Report) -> None:
    """D09"""
    touched = ("scause", "sepc", "sepc")
    handler = [read(A2, "scause"), read(A2, "sepc"), asm(riscv(), "addi", rd=A2, rs1=A2, imm=4),
               csr("csrrw", CSRS["sepc"], 0, A2), SRET]  # fmt: skip
    exits = {}
    for method in ("te", "hw", "bt"):
        vcpu = with_handler(method, [ECALL, asm(riscv(), "jal", rd=0, imm=-4)], handler, 0)
        vcpu.run(CALLS * (len(handler) + 1))
        exits[method] = vcpu.stats.total - vcpu.stats.reasons["Intr"]
        report.figure(f"{method}: exits for {CALLS} calls", exits[method])
        seen = vcpu.get("scause") == CALLED and vcpu.get("sepc") == RAM + 4
        report.check(seen, "the kernel has found cause 8, and gone on behind the call")
        vcpu.vm.close()
    wanted = CALLS * (1 + len(touched) + 1)
    report.check(exits["te"] == wanted, "te: the call, each register that is touched, and `sret`")
    report.check(exits["hw"] == exits["bt"] == 0, "hw and bt: none")

