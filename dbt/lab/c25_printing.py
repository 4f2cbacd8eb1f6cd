"""C25: a driver that knows of its monitor needs fewer exits: 1 KiB printed by a device, by calls, and by one call."""

from __future__ import annotations

from typing import NamedTuple

from dbt.kvm import METHODS, Mmio, RiscvSbi, SystemEvent
from dbt.lab.a15_causes import ECALL, guest
from dbt.lab.report import Report
from dbt.lab.simple_monitor import RAM
from dbt.lab.workbench import asm, riscv

TEXT = bytes(32 + i % 95 for i in range(1024))
PLACE, UART = RAM + 0x1000, 0x1000_0000
PUT, PRINT = 1, 0x4442_434E
A0, A7, S0, S1, S2 = 10, 17, 8, 9, 18
WAYS = ("a UART, a byte at a time", "calls, a character each", "one call")


class Ran(NamedTuple):
    printed: bytes
    exits: int


def printing(method: str, way: str) -> Ran:
    """A guest that prints TEXT in this way, and ends."""
    rows = riscv()
    act = asm(rows, "sb", rs1=S2, rs2=A0, imm=0) if way == WAYS[0] else ECALL
    body = [asm(rows, "lbu", rd=A0, rs1=S1, imm=0), act, asm(rows, "addi", rd=S1, rs1=S1, imm=1),
            asm(rows, "addi", rd=S0, rs1=S0, imm=-1)]  # fmt: skip
    loop = [ECALL] if way == WAYS[2] else [*body, asm(rows, "bne", rs1=S0, rs2=0, imm=-4 * len(body))]
    vcpu = guest(method, *loop, asm(rows, "addi", rd=A7, rs1=0, imm=8), ECALL)
    vcpu.vm.write(PLACE, TEXT)
    vcpu.set(s0=len(TEXT), s1=PLACE, s2=UART, a7=PRINT if way == WAYS[2] else PUT, a6=0, a0=len(TEXT), a1=PLACE, a2=0)
    printed = b""
    while (exit := vcpu.run()) != SystemEvent(1):
        match exit:
            case Mmio(address=at, is_write=True, data=data) if at == UART:
                printed += bytes([data])
            case RiscvSbi(extension=extension, args=args) if extension == PUT:
                printed += bytes([args[0] & 0xFF])
                vcpu.reply(0, 0)
            case RiscvSbi(extension=extension, args=args) if extension == PRINT:
                printed += vcpu.vm.read(args[1], args[0])
                vcpu.reply(0, args[0])
            case _:
                break
    exits = vcpu.stats.to_user - 1  # without the end
    vcpu.vm.close()
    return Ran(printed, exits)


def run(report: Report) -> None:
    for method in (name for name, each in METHODS.items() if each.emulates):
        for way, exits in zip(WAYS, (len(TEXT), len(TEXT), 1)):
            ran = printing(method, way)
            report.figure(f"{method}, {way}: exits", ran.exits)
            report.check(ran.exits == exits and ran.printed == TEXT, f"{exits}, and all of it arrives")
    report.say("(a virtio disk's requests, of which one exit tells of many: lab D15)")
