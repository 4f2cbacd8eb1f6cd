"""Virtual machines of a few words, under each method that runs them: what the tests of `dbt.kvm` begin with.

Owns: their memory's place and size, and `METHOD`, which the fixture sets. Must not know: what a test asks of them.
"""

from __future__ import annotations

import sys

import pytest
from support.riscv import asm

from dbt.kvm import METHODS, Kvm, Vcpu, Vm
from dbt.options import Options
from guests.decode import encode
from guests.riscv import machine

RAM, SIZE, PAGE = 0x8000_0000, 0x4_0000, 0x1000
NOP = asm("addi", rd=0, rs1=0, imm=0)
SPIN = asm("jal", rd=0, imm=0)
ECALL = 0x73
AMO = 0x2F  # the opcode
EBREAK = 0x0010_0073
SYSTEM = {row.name: row for row in machine.guest().rows if row.extension == "system"}
WFI = encode(SYSTEM["wfi"])
A0, A1, A2, A3, A7, T0 = 10, 11, 12, 13, 17, 5
METHOD = "bt"


@pytest.fixture(autouse=True, params=[name for name, each in METHODS.items() if each.native])
def method(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How guests here are run."""
    monkeypatch.setattr(sys.modules[__name__], "METHOD", request.param)
    return str(request.param)


def code(*words: int) -> bytes:
    return b"".join(word.to_bytes(4, "little") for word in words)


def li(rd: int, value: int) -> tuple[int, ...]:
    """Load a constant of at most 43 bits."""
    low = (value & 0xFFF) - (value << 1 & 0x1000)
    high = value - low
    if high < 1 << 31:
        return asm("lui", rd=rd, imm=high), asm("addiw", rd=rd, rs1=rd, imm=low)
    return *li(rd, high >> 12), asm("slli", rd=rd, rs1=rd, imm=12), asm("addi", rd=rd, rs1=rd, imm=low)


def kvm_of(**more: object) -> Kvm:
    return Kvm(METHOD, options=Options(patience=0), **more)  # type: ignore[arg-type]


def made(*words: int, **more: object) -> Vcpu:
    """A virtual CPU at the first of these instructions, the begin of its memory."""
    vm = kvm_of(**more).create_vm()
    vm.set_user_memory_region(0, RAM, SIZE)
    vm.write(RAM, code(*words))
    vcpu = vm.create_vcpu()
    vcpu.set(pc=RAM)
    return vcpu


def call(extension: int, function: int = 0) -> tuple[int, ...]:
    return *li(A7, extension), *li(16, function), ECALL


OFF = call(8)


def dirty(vm: Vm, slot: int = 0) -> list[int]:
    bits = int.from_bytes(vm.get_dirty_log(slot), "little")
    return [i for i in range(bits.bit_length()) if bits >> i & 1]
