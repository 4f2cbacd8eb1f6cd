"""Virtual machines in KVM's shape: memory regions, exits and what they are answered, registers, and what goes wrong."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.riscv import asm, csrr

from dbt import lab
from dbt.kvm import METHODS, Kvm, Vcpu, Vm, abi, errors, ioctl, live
from dbt.kvm import mmap as map_vcpu
from dbt.kvm import open as open_kvm
from dbt.machine.exits import Debug, Exit, Hlt, Intr, Mmio, RiscvSbi, Shutdown, SystemEvent
from dbt.machine.vm import Machine
from dbt.options import Options
from guests.decode import encode
from guests.riscv import hypervisor_csrs, kvm, machine, sbi
from guests.riscv import privileged as p
from guests.spec import Trap

ROOT = Path(__file__).resolve().parents[2]
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
    monkeypatch.setitem(globals(), "METHOD", request.param)
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


# --- the world switch ------------------------------------------------------------------------------------------------


def test_a_trap_as_a_hypervisor_finds_it() -> None:
    """The three exits of the lecture's guest; values as on hardware (behaviours A14)."""
    vcpu = made()
    vcpu.vm.write(RAM, bytes.fromhex("f32540f1 03350004 a148 73000000"))
    assert vcpu.enter() == (2, 0xF140_25F3, RAM, 0, 0, 0x2_0000_0180)
    vcpu.skip()
    found = vcpu.enter()
    assert found == (21, 0x40, RAM + 4, 0x10, 0, 0x2_0000_01C0) and found.gpa == 0x40
    vcpu.set(a0=0x6688)
    vcpu.skip()
    assert vcpu.enter() == (10, 0, RAM + 10, 0, 0, 0x2_0000_0180)
    assert (vcpu.get("a7"), vcpu.get("a0"), vcpu.get("pc")) == (8, 0x6688, RAM + 10)
    assert (vcpu.stats.total, vcpu.stats.to_user) == (3, 3)


def on_a_hart_with_h(word: int, registers: dict[int, int]) -> tuple[int, ...]:
    """The instruction in VS mode of a hart that has the hypervisor extension: HS mode's registers after its trap."""
    guest = machine.guest(None, True)
    vm = Machine(guest, Kvm(METHOD).engine, Options(patience=0)).create_vm()
    vm.set_user_memory_region(RAM, SIZE)
    hart = vm.create_vcpu()
    root = RAM + 0x8000  # 16 KiB of the second stage; one leaf of 1 GiB for the guest's RAM
    vm.memory.poke(RAM, code(word, SPIN))
    vm.memory.poke(RAM + 0x100, code(SPIN))
    vm.memory.poke(root + 8 * (RAM >> 30), (RAM >> 2 | 0xDF).to_bytes(8, "little"))
    hart.reset(RAM)
    slots = hart.state.slots
    slots[p.PRIVILEGE], slots[p.VIRTUAL], slots[p.STVEC] = p.SUPERVISOR, 1, RAM + 0x100
    slots[p.MEDELEG], slots[p.HGATP] = 0xFF_FFFF, 8 << 60 | root >> 12
    slots[p.PMPCFG0], slots[p.PMPADDR0] = 0x1F, (1 << 54) - 1
    for number, value in registers.items():
        slots[number] = value
    vm.run(most=20)
    return tuple(slots[each] for each in (p.SCAUSE, p.STVAL, p.SEPC, p.HTVAL, p.HTINST, p.HSTATUS))


@pytest.mark.parametrize("word", [
    asm("csrrs (reads only)", rd=A1, csr=0xF14), asm("ld", rd=A0, rs1=A1, imm=0), asm("sd", rs1=A1, rs2=A0, imm=0),
    asm("jalr", rd=0, rs1=A1, imm=0), ECALL, asm("lb", rd=A0, rs1=0, imm=0x40),
])  # fmt: skip
def test_traps_are_those_of_a_hart_with_the_hypervisor_extension(word: int) -> None:
    """But for htinst, which may be 0 for any trap, and is here."""
    away = 0x1000_0AB8
    vcpu = made(word, SPIN)
    vcpu.set(a1=away)
    ours, theirs = vcpu.enter(), on_a_hart_with_h(word, {A1: away})
    assert ours._replace(htinst=0) == (*theirs[:4], 0, theirs[5] | kvm.VSXL)


@pytest.mark.parametrize("word, cause", [
    (asm("ld", rd=A0, rs1=A1, imm=0), 21), (asm("sd", rs1=A1, rs2=A0, imm=0), 23),
    (asm("amoadd.d", rd=A0, rs1=A1, rs2=A0, aq=0, rl=0), 21), (asm("jalr", rd=0, rs1=A1, imm=0), 20),
])  # fmt: skip
def test_each_guest_page_fault(word: int, cause: int) -> None:
    """An AMO's fault is a store's where the hart has it, and that of its first access where it is worked out."""
    if METHOD == "hw" and word & 0x7F == AMO:
        cause = 23
    vcpu = made(word, SPIN)
    vcpu.set(a1=0x9000_0ABC if cause == 20 else 0x9000_0AB8)
    found = vcpu.enter()
    address = vcpu.get("a1")
    assert (found.scause, found.stval, found.htval, found.gpa) == (cause, address, address >> 2, address)
    assert found.sepc == (address if cause == 20 else RAM) and found.hstatus & p.H_GVA


def test_a_fault_says_the_virtual_and_the_physical_address() -> None:
    """Sv39 with one page of 1 GiB for the code, and one that leads to no memory."""
    vcpu = made(asm("lw", rd=A0, rs1=A1, imm=4), SPIN)
    root = RAM + 0x1000
    vcpu.vm.write(root + 8 * 2, (RAM >> 2 | 0xCF).to_bytes(8, "little"))
    vcpu.vm.write(root + 8 * 5, (0x4000_0000 >> 2 | 0xCF).to_bytes(8, "little"))
    vcpu.set(satp=8 << 60 | root >> 12, a1=0x1_4000_2000)
    found = vcpu.enter()
    assert (found.scause, found.stval, found.gpa) == (21, 0x1_4000_2004, 0x4000_2004)
    assert vcpu.run() == Mmio(0x4000_2004, 4, False, 0)
    vcpu.reply(77)
    assert vcpu.run(100) == Intr() and vcpu.get("a0") == 77


def test_an_instruction_that_is_entered_again_traps_again() -> None:
    vcpu = made(asm("sd", rs1=A1, rs2=A0, imm=0), SPIN)
    vcpu.set(a1=0x9000_0000, a0=7)
    assert [vcpu.enter().scause for _ in range(3)] == [23, 23, 23]
    assert vcpu.run() == Mmio(0x9000_0000, 8, True, 7)
    assert vcpu.run(5) == Intr() and vcpu.get("pc") == RAM + 4


def test_mapping_the_page_is_an_answer_too() -> None:
    vcpu = made(*li(A1, 0x9000_0000), asm("ld", rd=A0, rs1=A1, imm=0), *OFF)
    assert vcpu.enter().scause == 21
    vcpu.vm.set_user_memory_region(1, 0x9000_0000, PAGE, bytearray((0x6688).to_bytes(8, "little") + bytes(PAGE)))
    assert vcpu.run() == SystemEvent(1) and vcpu.get("a0") == 0x6688


def test_a_trap_is_injected() -> None:
    vcpu = made(csrr(A0, 0xF14), SPIN)
    vcpu.vm.write(RAM + 0x100, code(csrr(A1, 0x142), csrr(A2, 0x143), SPIN))
    vcpu.set(stvec=RAM + 0x100)
    assert vcpu.enter().scause == 2
    vcpu.inject(2, 0x1234)
    assert vcpu.run(50) == Intr()
    assert (vcpu.get("a1"), vcpu.get("a2"), vcpu.get("sepc")) == (2, 0x1234, RAM)


# --- accesses of what is not memory ------------------------------------------------------------------------------


@pytest.mark.parametrize("name, size, value, loaded", [
    ("lb", 1, 0x81, -0x7F), ("lbu", 1, 0x81, 0x81), ("lh", 2, 0x8001, -0x7FFF), ("lhu", 2, 0x8001, 0x8001),
    ("lw", 4, 0x8000_0001, -0x7FFF_FFFF), ("lwu", 4, 0x8000_0001, 0x8000_0001), ("ld", 8, 1 << 63 | 5, 1 << 63 | 5),
])  # fmt: skip
def test_a_load_is_completed_by_the_reply(name: str, size: int, value: int, loaded: int) -> None:
    vcpu = made(*li(A1, 0x1000_0000), asm(name, rd=A0, rs1=A1, imm=8), *OFF)
    assert vcpu.run() == Mmio(0x1000_0008, size, False, 0)
    vcpu.reply(value)
    assert vcpu.run() == SystemEvent(1)
    assert vcpu.get("a0") == loaded & p.ALL


def test_stores_and_atomics_and_a_load_without_an_answer() -> None:
    vcpu = made(*li(A1, 0x1000_0000), *li(A2, 0x12345678), asm("sh", rs1=A1, rs2=A2, imm=2),
                asm("amoadd.w", rd=A3, rs1=A1, rs2=A2, aq=0, rl=0), asm("lw", rd=A2, rs1=A1, imm=0), *OFF)  # fmt: skip
    assert vcpu.run() == Mmio(0x1000_0002, 2, True, 0x5678)
    assert vcpu.run() == Mmio(0x1000_0000, 4, False, 0)
    vcpu.reply(1)
    assert vcpu.run() == Mmio(0x1000_0000, 4, True, 0x12345679)
    assert vcpu.run() == Mmio(0x1000_0000, 4, False, 0)
    assert vcpu.run() == SystemEvent(1)
    assert (vcpu.get("a3"), vcpu.get("a2")) == (1, 0)
    faults = [vcpu.stats.reasons[f"{kind} guest-page fault"] for kind in ("load", "store/AMO")]
    # an AMO is one fault of a hart's own; its store is what is left of its emulation
    assert faults == {"hw": [1, 2], "te": [2, 1]}.get(METHOD, [2, 2]) and vcpu.stats.total == vcpu.stats.to_user == 5


def test_a_reply_is_refused_where_none_is_wanted() -> None:
    vcpu = made(*li(A1, 0x1000_0000), asm("sb", rs1=A1, rs2=0, imm=0), asm("lb", rd=A0, rs1=A1, imm=0), *OFF)
    for wanted in (None, Mmio(0x1000_0000, 1, True, 0)):
        if wanted is not None:
            assert vcpu.run() == wanted
        with pytest.raises(errors.BadValue, match="wants no reply"):
            vcpu.reply(1)
    assert vcpu.run() == Mmio(0x1000_0000, 1, False, 0)
    with pytest.raises(errors.BadValue, match="wants 1 value"):
        vcpu.reply(1, 2)


def test_an_access_that_is_answered_is_a_step() -> None:
    more = asm("addi", rd=T0, rs1=T0, imm=1)
    vcpu = made(asm("lw", rd=A0, rs1=A1, imm=0), asm("sw", rs1=A1, rs2=A0, imm=0), more, SPIN)
    vcpu.set(a1=0x1000_0000)
    vcpu.guest_debug = abi.KVM_GUESTDBG_ENABLE | abi.KVM_GUESTDBG_SINGLESTEP
    assert vcpu.run() == Mmio(0x1000_0000, 4, False, 0)
    vcpu.reply(7)
    assert vcpu.run() == Debug(RAM + 4)
    assert vcpu.run() == Mmio(0x1000_0000, 4, True, 7)
    assert [vcpu.run() for _ in range(2)] == [Debug(RAM + 8), Debug(RAM + 12)] and vcpu.get("t0") == 1


class Letters:
    """A device that is answered inside."""

    name, size = "letters", 16

    def __init__(self) -> None:
        self.written = bytearray()

    def read(self, offset: int, size: int) -> int:
        return 0x41 + offset

    def write(self, offset: int, size: int, value: int) -> None:
        self.written.append(value)


def test_a_device_is_answered_without_an_exit_to_the_user() -> None:
    vcpu = made(*li(A1, 0x1000_0000), asm("lb", rd=A0, rs1=A1, imm=3), asm("sb", rs1=A1, rs2=A0, imm=0), *OFF)
    device = Letters()
    vcpu.vm.add_device(0x1000_0000, device)
    assert vcpu.run() == SystemEvent(1) and device.written == b"D"
    for region in ((1, 0x1000_0000), (1, 0x0FFF_F000)):
        if region[1] <= 0x1000_0000 < region[1] + PAGE:
            with pytest.raises(errors.RegionOverlap, match="letters"):
                vcpu.vm.set_user_memory_region(*region, PAGE)
    with pytest.raises(errors.RegionOverlap, match="slot 0"):
        vcpu.vm.add_device(RAM, Letters())
    with pytest.raises(errors.RegionOverlap, match="letters at"):
        vcpu.vm.add_device(0x1000_0008, Letters())


class Card(Letters):
    """A device that may be passed through: a page."""

    name, size = "card", PAGE

    def read(self, offset: int, size: int) -> int:
        return offset if offset < PAGE else 0


def test_a_device_that_is_passed_through_is_reached_without_an_exit() -> None:
    at = 0x1000_0000
    vcpu = made(*li(A1, at), asm("lw", rd=A0, rs1=A1, imm=0x34), asm("sb", rs1=A1, rs2=A0, imm=0), *OFF)
    device = Card()
    vcpu.vm.assign_device(at, device)
    assert vcpu.run() == SystemEvent(1) and device.written == b"\x34"
    assert vcpu.stats.total == 1, "the end alone"
    with pytest.raises(errors.RegionOverlap, match="card"):
        vcpu.vm.set_user_memory_region(1, at, PAGE)
    with pytest.raises(errors.RegionOverlap, match="card at"):
        vcpu.vm.add_device(at + 8, Letters())
    with pytest.raises(errors.BadRegion, match="letters at 0x20000000 is not whole pages of 4096"):
        vcpu.vm.assign_device(0x2000_0000, Letters())


def test_a_device_that_is_passed_through_while_its_guest_runs() -> None:
    """It has found nothing there so far; and the answer to that is none to where there is nothing still."""
    at = 0x1000_0000
    load = asm("lw", rd=A0, rs1=A1, imm=0x34)
    vcpu = made(*li(A1, at), load, load, asm("lw", rd=A0, rs1=A2, imm=0), SPIN)
    vcpu.set(a2=at + PAGE)
    assert vcpu.run() == Mmio(at + 0x34, 4, False, 0)
    vcpu.reply(7)
    vcpu.vm.assign_device(at, Card())
    exit = vcpu.run(100)
    assert exit == Mmio(at + PAGE, 4, False, 0) and vcpu.get("a0") == 0x34
    assert vcpu.stats.to_user == 2


# --- calls -----------------------------------------------------------------------------------------------------------


def test_calls_of_the_console_are_the_users() -> None:
    vcpu = made(*li(A0, 65), *call(1), *call(2), *call(0x4442434E, 2), *OFF)
    assert vcpu.run() == RiscvSbi(1, 0, (65, 0, 0, 0, 0, 0))
    vcpu.reply(0, 0)
    vcpu.set(a1=9)
    assert vcpu.run() == RiscvSbi(2, 0, (0, 9, 0, 0, 0, 0))
    vcpu.reply(66, 7)
    exit = vcpu.run()
    assert isinstance(exit, RiscvSbi) and exit.args[:2] == (66, 9)  # version 0.1 has one word of answer
    vcpu.reply(3, 4)
    assert (exit.extension, exit.function) == (0x4442434E, 2)
    assert vcpu.run() == SystemEvent(1)
    assert (vcpu.get("a0"), vcpu.get("a1")) == (3, 4)


def test_a_call_without_a_reply_is_not_supported() -> None:
    vcpu = made(*call(0x0900_0000), SPIN)
    assert vcpu.run() == RiscvSbi(0x0900_0000, 0, (0,) * 6)
    assert vcpu.run(3) == Intr()
    assert (vcpu.get("a0"), vcpu.get("a1")) == (sbi.NOT_SUPPORTED & p.ALL, 0)


@pytest.mark.parametrize("extension, function, a0, a1", [
    (0x10, 0, 0, sbi.VERSION), (0x10, 3, 0, 1), (0x1234, 0, sbi.NOT_SUPPORTED, 0), (0x54494D45, 0, 0, 0),
    (0x735049, 0, 0, 0), (0x52464E43, 1, 0, 0), (0x48534D, 2, 0, 0), (0x4442, 0, sbi.NOT_SUPPORTED, 0),
])  # fmt: skip
def test_other_calls_are_answered_inside(extension: int, function: int, a0: int, a1: int) -> None:
    vcpu = made(*call(extension, function), SPIN)
    assert vcpu.run(30) == Intr()
    assert (vcpu.get("a0"), vcpu.get("a1")) == (a0 & p.ALL, a1)
    assert vcpu.stats.light == 1 and vcpu.stats.reasons["environment call from VS-mode"] == 1


@pytest.mark.parametrize("kind, reason, exit", [
    (0, 0, SystemEvent(1)), (0, 1, SystemEvent(3, 1)), (1, 0, SystemEvent(2)), (2, 0, SystemEvent(2)),
])  # fmt: skip
def test_a_reset_is_an_event(kind: int, reason: int, exit: Exit) -> None:
    vcpu = made(*li(A0, kind), *li(A1, reason), *call(0x53525354))
    assert vcpu.run() == exit
    assert (vcpu.stats.total, vcpu.stats.to_user) == (1, 1)


def test_what_is_illegal_is_the_guests_own() -> None:
    vcpu = made(csrr(A0, 0xF14), *OFF)
    vcpu.vm.write(RAM + 0x100, code(csrr(A1, 0x142), *OFF))
    vcpu.set(stvec=RAM + 0x100)
    assert vcpu.run() == SystemEvent(1)
    assert (vcpu.get("a1"), vcpu.get("sepc"), vcpu.get("stval")) == (2, RAM, 0xF140_2573)
    assert vcpu.stats.reasons["illegal instruction"] == 1
    assert vcpu.stats.light == (2 if METHOD == "te" else 1)  # its handler reads scause


def test_a_handler_that_traps_for_ever_is_shut_down() -> None:
    vcpu = made(0xFFFF_FFFF)
    vcpu.set(stvec=RAM)
    assert vcpu.run() == Shutdown(RAM, 2)


# --- memory ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments, error, says", [
    ((1, RAM, PAGE), errors.RegionOverlap, "slot 0"), ((1, RAM + SIZE - PAGE, SIZE), errors.RegionOverlap, "slot 0"),
    ((1, RAM + 8, PAGE), errors.BadRegion, "not whole pages"), ((1, 0, 100), errors.BadRegion, "not whole pages"),
    ((1, 1 << 56, PAGE), errors.BadRegion, "beyond"), ((1, -PAGE, PAGE), errors.BadRegion, "whole pages"),
    ((1, 0, -PAGE), errors.BadRegion, "whole pages"), ((1, 0, 0), errors.BadRegion, "empty"),
    ((abi.MEMORY_SLOTS, 0, PAGE), errors.BadRegion, "no memory slot"), ((-1, 0, PAGE), errors.BadRegion, "no memory"),
    ((1, 0, PAGE, bytes(PAGE)), errors.BadMemory, "cannot be written"),
    ((1, 0, PAGE, bytearray(100)), errors.BadMemory, "0x64 bytes"), ((1, 0, PAGE, "text"), errors.BadMemory, "no mem"),
    ((1, 0, PAGE, None, 4), errors.BadRegion, "flags 0x4"),
    ((0, RAM, SIZE, bytearray(SIZE)), errors.BadRegion, "other"),
    ((1, 1 << 40, 1 << 50), errors.NoHostMemory, "has no 0x4000000000000 bytes"),
    ((0, RAM, PAGE), errors.BadRegion, "other"), ((0, RAM, SIZE, None, 2), errors.BadRegion, "read-only"),
])  # fmt: skip
def test_a_region_is_refused_and_nothing_has_changed(
    arguments: tuple[object, ...], error: type[errors.KvmError], says: str
) -> None:
    vcpu = made(*OFF)
    with pytest.raises(error, match=says) as refused:
        vcpu.vm.set_user_memory_region(*arguments)  # type: ignore[arg-type]
    assert refused.value.errno == error.number and isinstance(refused.value, OSError)
    assert vcpu.run() == SystemEvent(1)


@pytest.mark.parametrize("wrong, error, says", [
    (lambda vcpu: vcpu.vm.read(RAM, -4), errors.BadValue, "-4 bytes"),
    (lambda vcpu: vcpu.vm.read(-1, 4), errors.NoSuchRegion, "at -0x1"),
    (lambda vcpu: vcpu.vm.read(RAM, 1 << 62), errors.NoSuchRegion, "no memory"),
    (lambda vcpu: vcpu.vm.write(RAM + SIZE - 4, bytes(8)), errors.NoSuchRegion, "no memory"),
    (lambda vcpu: vcpu.vm.written(0, 8), errors.NoSuchRegion, "no memory"),
    (lambda vcpu: vcpu.vm.get_dirty_log(0), errors.NoSuchRegion, "keeps no log"),
    (lambda vcpu: vcpu.vm.get_dirty_log(77), errors.NoSuchRegion, "slot 77"),
    (lambda vcpu: vcpu.vm.create_vcpu(-1), errors.BadValue, "not -1"),
    (lambda vcpu: (vcpu.set(pc=RAM - PAGE), vcpu.skip()), errors.NoSuchRegion, "no instruction at"),
    (lambda vcpu: (vcpu.set(pc=RAM - PAGE), vcpu.run()), errors.NotEmulated, "executes at"),
    (lambda vcpu: (vcpu.set(satp=8 << 60 | 1 << 40), vcpu.run()), errors.NotEmulated, "executes at"),
    (lambda vcpu: vcpu.inject(21, 0), errors.BadValue, "no trap of cause 21"),
    (lambda vcpu: vcpu.inject(1 << 63 | 5, 0), errors.BadValue, "no trap of cause"),
    (lambda vcpu: vcpu.inject(2, 1 << 64), errors.BadValue, "with the value 0x10000000000000000"),
    (lambda vcpu: vcpu.reply(0), errors.BadValue, "no reply"),
    (lambda vcpu: setattr(vcpu, "guest_debug", -1), errors.BadValue, "no control"),
])  # fmt: skip
def test_what_is_wrong_is_refused_and_the_guest_goes_on(
    wrong: Callable[[Vcpu], object], error: type[errors.KvmError], says: str
) -> None:
    vcpu = made(*OFF)
    start = vcpu.get("pc")
    with pytest.raises(error, match=says):
        wrong(vcpu)
    vcpu.set(pc=start, satp=0)
    assert vcpu.run() == SystemEvent(1)
    vcpu.set(pc=start)
    assert vcpu.run() == SystemEvent(1)  # also after it was turned off


def test_a_machine_that_was_closed() -> None:
    """Nothing is run, read or written any more; registers are what they were."""
    vcpu = made(*OFF)
    vm = vcpu.vm
    vcpu.set(a0=7)
    vm.close()
    vm.close()
    for use in (
        vcpu.run, vcpu.enter, vcpu.skip, vm.create_vcpu, lambda: vm.read(RAM, 4), lambda: vm.write(RAM, b"x"),
        lambda: vm.written(RAM, 4), lambda: vm.set_user_memory_region(1, 0, PAGE), lambda: vm.get_dirty_log(0),
        lambda: vm.load(__file__, RAM),
    ):  # fmt: skip
        with pytest.raises(errors.Closed):
            use()
    assert vcpu.get("a0") == 7


def test_memory_is_shared_with_the_host() -> None:
    """A bytearray at no page's begin: what either writes is seen by the other at once."""
    store = bytearray(SIZE + 1)
    memory = memoryview(store)[1:]
    vm = kvm_of().create_vm()
    vm.set_user_memory_region(0, RAM, SIZE, memory)
    loop = (asm("ld", rd=A0, rs1=A1, imm=0), asm("addi", rd=A0, rs1=A0, imm=1), asm("sd", rs1=A1, rs2=A0, imm=8))
    words = (*loop, asm("sb", rs1=A2, rs2=0, imm=0), asm("jal", rd=0, imm=-16))
    memory[: len(code(*words))] = code(*words)
    vcpu = vm.create_vcpu()
    vcpu.set(pc=RAM, a1=RAM + PAGE, a2=0x1000_0000)
    for i in range(50):
        memory[PAGE : PAGE + 8] = (1000 * i).to_bytes(8, "little")
        assert vcpu.run() == Mmio(0x1000_0000, 1, True, 0)
        assert memory[PAGE + 8 : PAGE + 16] == (1000 * i + 1).to_bytes(8, "little")
    with pytest.raises(BufferError):
        store.clear()  # the guest has it


def test_code_that_is_written_from_outside() -> None:
    spin = made(asm("addi", rd=A0, rs1=A0, imm=1), asm("jal", rd=0, imm=-4))
    spin.run(1000)
    spin.vm.write(RAM, code(asm("addi", rd=A1, rs1=A1, imm=1)))
    before = spin.get("a0")
    spin.run(1000)
    assert spin.get("a1") == 500 and spin.get("a0") == before
    region = spin.vm.regions.of(0)
    region.memory[:4] = code(asm("addi", rd=A2, rs1=A2, imm=1))
    spin.vm.written(RAM, 4)
    spin.run(1000)
    assert spin.get("a2") == 500


def test_regions_are_emptied_and_moved_while_the_guest_is_out() -> None:
    vcpu = made(asm("ld", rd=A0, rs1=A1, imm=0), asm("jal", rd=0, imm=-4))
    vm = vcpu.vm
    other = bytearray(b"\x11" * PAGE)
    vm.set_user_memory_region(1, 0x9000_0000, PAGE, other)
    vcpu.set(a1=0x9000_0000)
    assert vcpu.run(1000) == Intr() and vcpu.get("a0") == 0x1111_1111_1111_1111
    vm.set_user_memory_region(1, 0xA000_0000, PAGE, other)
    assert vcpu.run() == Mmio(0x9000_0000, 8, False, 0)
    vcpu.reply(5)
    vcpu.run(1)
    assert vcpu.get("a0") == 5
    vcpu.set(a1=0xA000_0000)
    assert vcpu.run(1000) == Intr() and vcpu.get("a0") == 0x1111_1111_1111_1111
    assert vm.set_user_memory_region(1, 0xA000_0000, 0) is None
    assert vcpu.run() == Mmio(0xA000_0000, 8, False, 0)
    before = vcpu.instructions
    assert vcpu.run(10) == Mmio(0xA000_0000, 8, False, 0) and vcpu.instructions > before
    other.clear()  # it is the host's alone again
    with pytest.raises(errors.NoSuchRegion, match="no memory of"):
        vm.read(0xA000_0000, 8)
    with pytest.raises(errors.NoSuchRegion, match="no memory of"):
        vm.write(0x5000, b"1")


def test_without_memory_nothing_runs_until_there_is() -> None:
    vm = kvm_of().create_vm()
    vcpu = vm.create_vcpu()
    vcpu.set(pc=RAM, a0=7)
    with pytest.raises(errors.NoMemory):
        vcpu.run()
    vm.set_user_memory_region(0, RAM, SIZE)
    vm.write(RAM, code(*OFF))
    assert vcpu.run() == SystemEvent(1)
    vm.set_user_memory_region(0, RAM, 0)
    with pytest.raises(errors.NoMemory):
        vcpu.run()


def test_executing_where_there_is_no_memory() -> None:
    vcpu = made(asm("jalr", rd=0, rs1=A1, imm=0))
    vcpu.set(a1=0x9000_0000)
    with pytest.raises(errors.NotEmulated, match="executes at 0x90000000"):
        vcpu.run()
    with pytest.raises(errors.NotEmulated):
        vcpu.run()
    vcpu.vm.set_user_memory_region(1, 0x9000_0000, PAGE)
    vcpu.vm.write(0x9000_0000, code(*OFF))
    assert vcpu.run() == SystemEvent(1)


def test_memory_that_is_read_only() -> None:
    """Code runs from it, and loads read it; stores leave, however hot they are, and change nothing."""
    rom = bytearray(code(asm("sb", rs1=A1, rs2=A0, imm=0), asm("lb", rd=A2, rs1=A1, imm=0),
                         asm("addi", rd=A0, rs1=A0, imm=1), asm("jal", rd=0, imm=-12)) + bytes(PAGE))  # fmt: skip
    vm = kvm_of().create_vm()
    vm.set_user_memory_region(3, 0, PAGE, rom, abi.KVM_MEM_READONLY)
    vcpu = vm.create_vcpu()
    vcpu.set(a1=0x800)
    for i in range(100):
        assert vcpu.run() == Mmio(0x800, 1, True, i)
        assert rom[0x800] == 0
    assert vcpu.get("a2") == 0
    vm.write(0x800, b"\x42")  # the host may
    vcpu.run()
    assert vcpu.get("a2") == 0x42


def dirty(vm: Vm, slot: int = 0) -> list[int]:
    bits = int.from_bytes(vm.get_dirty_log(slot), "little")
    return [i for i in range(bits.bit_length()) if bits >> i & 1]


def test_the_log_of_pages_that_were_written() -> None:
    """Pages of data, the page that runs, a page that is executed and written, in a loop that is translated."""
    words = (asm("sd", rs1=A1, rs2=A0, imm=0), asm("addi", rd=A0, rs1=A0, imm=1), asm("jal", rd=0, imm=-8))
    vcpu = made(*words)
    vm = vcpu.vm
    with pytest.raises(errors.NoSuchRegion, match="keeps no log"):
        vm.get_dirty_log(0)
    with pytest.raises(errors.NoSuchRegion, match="slot 5 is empty"):
        vm.get_dirty_log(5)
    vcpu.set(a1=RAM + 0x5000)
    vcpu.run(3000)
    vm.set_user_memory_region(0, RAM, SIZE, None, abi.KVM_MEM_LOG_DIRTY_PAGES)
    assert dirty(vm) == []
    for pages in ([5], [7], [5], [0], [0], [63]):
        vcpu.set(a1=RAM + PAGE * pages[0] + 0x800)
        vcpu.run(3000)
        assert dirty(vm) == pages, pages
        assert dirty(vm) == []
    assert len(vm.get_dirty_log(0)) == 8
    vcpu.set(a1=RAM + 3 * PAGE - 4)  # across two pages
    vcpu.run(3000)
    vm.write(RAM + 9 * PAGE, b"1")
    assert dirty(vm) == [2, 3, 9]
    vcpu.run(3000)
    vm.set_user_memory_region(0, RAM, SIZE)
    vm.set_user_memory_region(0, RAM, SIZE, None, abi.KVM_MEM_LOG_DIRTY_PAGES)
    assert dirty(vm) == []


def test_page_tables_that_a_walk_marks_are_written() -> None:
    vcpu = made(asm("lw", rd=A0, rs1=A1, imm=0), *OFF)
    root = RAM + 4 * PAGE
    vcpu.vm.write(root + 8 * 2, (RAM >> 2 | 0x0F).to_bytes(8, "little"))
    vcpu.set(satp=8 << 60 | root >> 12, a1=RAM)
    vcpu.vm.set_user_memory_region(0, RAM, SIZE, None, abi.KVM_MEM_LOG_DIRTY_PAGES)
    assert vcpu.run() == SystemEvent(1)
    assert dirty(vcpu.vm) == [4]


# --- being interrupted ---------------------------------------------------------------------------------------------


def test_a_guest_that_never_exits_is_left_by_another_thread() -> None:
    vcpu = made(SPIN)
    timer = threading.Timer(0.05, lambda: setattr(vcpu, "immediate_exit", True))
    timer.start()
    assert vcpu.run() == Intr()
    timer.join()
    assert vcpu.run() == Intr()  # while it is set
    before = vcpu.instructions
    vcpu.immediate_exit = False
    assert vcpu.run(5000) == Intr() and vcpu.instructions >= before + 5000


def test_a_signal_lets_a_guest_be_left() -> None:
    vcpu = made(asm("addi", rd=A0, rs1=A0, imm=1), asm("jal", rd=0, imm=-4))
    old = signal.signal(signal.SIGALRM, lambda *_: setattr(vcpu, "immediate_exit", True))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        assert vcpu.run() == Intr()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert vcpu.get("a0") == vcpu.instructions // 2


def test_a_guest_goes_on_after_a_signal_handler_has_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C, for who catches it: the guest's registers are its own again."""
    vcpu = made(asm("addi", rd=A0, rs1=A0, imm=1), asm("jal", rd=0, imm=-4))
    vcpu.set(a0=0, sscratch=0x55, stvec=RAM + 0x400)
    vcpu.run(100)

    def sample() -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(vcpu.interruptions, "sample", sample)
    with pytest.raises(KeyboardInterrupt):
        vcpu.run(100)
    assert [vcpu.get(name) for name in ("mode", "sscratch", "stvec", "satp")] == [1, 0x55, RAM + 0x400, 0]
    assert vcpu.run(100) == Intr() and vcpu.get("a0") == 100


def test_two_threads_cannot_run_one_virtual_cpu() -> None:
    vcpu = made(SPIN)
    found: list[Exit] = []
    thread = threading.Thread(target=lambda: found.append(vcpu.run()))
    thread.start()
    deadline = time.monotonic() + 5
    while True:
        try:
            vcpu.set(a0=1)
        except errors.VcpuBusy as busy:
            assert busy.errno == errors.VcpuBusy.number
            break
        assert time.monotonic() < deadline
    with pytest.raises(errors.VcpuBusy, match="runs already"):
        vcpu.run()
    vcpu.immediate_exit = True
    thread.join(10)
    assert found == [Intr()]
    vcpu.immediate_exit = False
    assert vcpu.run(10) == Intr()


def test_an_instruction_that_waits_for_its_answer_waits_over_an_interruption() -> None:
    vcpu = made(*li(A1, 0x1000_0000), asm("lb", rd=A0, rs1=A1, imm=0), *OFF)
    assert vcpu.run() == Mmio(0x1000_0000, 1, False, 0)
    vcpu.reply(9)
    vcpu.immediate_exit = True
    assert vcpu.run() == Intr()
    vcpu.immediate_exit = False
    assert vcpu.run() == SystemEvent(1) and vcpu.stats.reasons["load guest-page fault"] == 1


def test_two_virtual_cpus_on_two_threads() -> None:
    """One waits in a loop for what the other writes, turn by turn, and both end."""
    rounds = 20
    # a1: the word; a2: its own parity; a3: rounds
    words = (
        asm("lw", rd=A0, rs1=A1, imm=0), asm("andi", rd=T0, rs1=A0, imm=1), asm("bne", rs1=T0, rs2=A2, imm=-8),
        asm("addi", rd=A0, rs1=A0, imm=1), asm("sw", rs1=A1, rs2=A0, imm=0), asm("addi", rd=A3, rs1=A3, imm=-1),
        asm("bne", rs1=A3, rs2=0, imm=-24), *li(A1, 0x1000_0000), asm("sb", rs1=A1, rs2=A2, imm=0),
    )  # fmt: skip
    first = made(*words)
    second = first.vm.create_vcpu()
    second.mp_state = abi.KVM_MP_STATE_RUNNABLE
    for i, vcpu in enumerate((first, second)):
        vcpu.set(pc=RAM, a1=RAM + PAGE, a2=i, a3=rounds)
    found: dict[int, Exit] = {}

    def run(vcpu: Vcpu) -> None:
        found[vcpu.id] = vcpu.run()

    threads = [threading.Thread(target=run, args=(vcpu,)) for vcpu in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == {i: Mmio(0x1000_0000, 1, True, i) for i in (0, 1)}
    assert int.from_bytes(first.vm.read(RAM + PAGE, 4), "little") == 2 * rounds


def test_virtual_cpus_are_numbered_and_begin_stopped() -> None:
    first = made(*li(A0, 1), *li(A1, RAM + 0x100), *li(A2, 77), *call(0x48534D), SPIN)
    vm = first.vm
    second = vm.create_vcpu(1)
    for number, error in ((1, errors.VcpuExists), (0, errors.VcpuExists), (5, errors.BadValue)):
        with pytest.raises(error):
            vm.create_vcpu(number)
    assert (first.mp_state, second.mp_state) == (abi.KVM_MP_STATE_RUNNABLE, abi.KVM_MP_STATE_STOPPED)
    assert second.run() == Hlt()
    vm.write(RAM + 0x100, code(SPIN))
    assert first.run(100) == Intr()
    assert second.mp_state == abi.KVM_MP_STATE_RUNNABLE
    assert second.run(10) == Intr()
    assert (second.get("pc"), second.get("a0"), second.get("a1")) == (RAM + 0x100, 1, 77)
    second.mp_state = abi.KVM_MP_STATE_STOPPED
    assert second.run(10) == Hlt()
    with pytest.raises(errors.BadValue, match="state 3"):
        second.mp_state = 3


def test_waiting_is_no_exit_and_a_timer_wakes() -> None:
    """wfi jumps to the timer; without one nothing ever wakes the guest, and it says so."""
    vcpu = made(*li(A0, 1000), asm("csrrw", rd=0, rs1=A0, csr=0x14D), asm("addi", rd=A0, rs1=0, imm=32),
                asm("csrrs", rd=0, rs1=A0, csr=0x104), WFI, csrr(A1, 0xC01),
                asm("addi", rd=A0, rs1=0, imm=-1), asm("csrrw", rd=0, rs1=A0, csr=0x14D), WFI, *OFF)  # fmt: skip
    assert vcpu.run() == Hlt()
    assert vcpu.get("a1") == 1000
    vcpu.interrupt(True)
    assert vcpu.run(10) == Hlt()  # not enabled
    vcpu.set(sie=1 << 9)
    assert vcpu.run() == SystemEvent(1)


def test_the_guests_clock_may_be_the_hosts() -> None:
    vcpu = made(csrr(A0, 0xC01), *li(A1, 500_000), asm("add", rd=A1, rs1=A1, rs2=A0),
                asm("csrrw", rd=0, rs1=A1, csr=0x14D), asm("addi", rd=A0, rs1=0, imm=32),
                asm("csrrs", rd=0, rs1=A0, csr=0x104), WFI, *OFF, follows=True)  # fmt: skip
    start = time.monotonic()
    assert vcpu.run() == SystemEvent(1)
    assert 0.04 < time.monotonic() - start < 10  # 50 ms
    asleep = made(WFI, follows=True)
    timer = threading.Timer(0.05, lambda: setattr(asleep, "immediate_exit", True))
    asleep.set(compare=1 << 40)
    asleep.set(sie=32)
    timer.start()
    assert asleep.run() == Intr()
    timer.join()


def test_an_external_interrupt_is_taken_at_once() -> None:
    vcpu = made(asm("addi", rd=A0, rs1=A0, imm=1), asm("jal", rd=0, imm=-4))
    vcpu.vm.write(RAM + 0x100, code(csrr(A1, 0x142), *OFF))
    vcpu.set(stvec=RAM + 0x100, sie=1 << 9, sstatus=2)
    assert vcpu.run(1000) == Intr()
    vcpu.interrupt(True)
    assert vcpu.run() == SystemEvent(1)
    assert vcpu.get("a1") == 1 << 63 | 9 and vcpu.get("sepc") in (RAM, RAM + 4)


# --- kernels --------------------------------------------------------------------------------------------------------


def test_a_guests_kernel_and_its_program() -> None:
    """`ecall` of a program is its kernel's, in its own page tables, and none of the monitor's."""
    vcpu = made()
    vm, root = vcpu.vm, RAM + 4 * PAGE
    program = 0x4000_0000
    vm.write(RAM, code(asm("csrrw", rd=0, rs1=A1, csr=0x141), 0x10200073))  # sepc, and sret to user mode
    vm.write(RAM + 0x100, code(csrr(A1, 0x142), csrr(A2, 0x141), *OFF))
    vm.write(RAM + 2 * PAGE, code(asm("addi", rd=A0, rs1=0, imm=42), ECALL))
    for at, entry in ((root + 8 * 2, RAM >> 2 | 0xCF), (root + 8, root + PAGE >> 2 | 1),
                      (root + PAGE, root + 2 * PAGE >> 2 | 1),
                      (root + 2 * PAGE, RAM + 2 * PAGE >> 2 | 0xDF)):  # fmt: skip
        vm.write(at, entry.to_bytes(8, "little"))
    vcpu.set(a1=program, satp=8 << 60 | root >> 12, stvec=RAM + 0x100, scounteren=7)
    assert vcpu.run() == SystemEvent(1) and vcpu.stats.to_user == 1
    light = {"csr sepc": 2, "sret": 1, "environment call from U-mode": 1, "csr scause": 1, "shadow fill": 2}
    assert vcpu.stats.reasons == {"environment call from VS-mode": 1} | (light if METHOD == "te" else {})
    assert (vcpu.get("a1"), vcpu.get("a2"), vcpu.get("mode")) == (8, program + 4, 1)
    vcpu.set(pc=program, mode=0, a0=1)
    vcpu.guest_debug = abi.KVM_GUESTDBG_ENABLE | abi.KVM_GUESTDBG_SINGLESTEP
    assert vcpu.run() == Debug(program + 4) and (vcpu.get("a0"), vcpu.get("mode")) == (42, 0)


def test_one_virtual_cpu_interrupts_another() -> None:
    first = made(*li(A0, 2), asm("addi", rd=A1, rs1=0, imm=0), *call(0x735049), SPIN)
    second = first.vm.create_vcpu()
    second.mp_state = abi.KVM_MP_STATE_RUNNABLE
    first.vm.write(RAM + 0x200, code(WFI, SPIN))
    first.vm.write(RAM + 0x300, code(csrr(A1, 0x142), csrr(A2, 0x144), asm("addi", rd=A7, rs1=0, imm=3), ECALL,
                                     csrr(A3, 0x144), SPIN))  # fmt: skip
    second.set(pc=RAM + 0x200, stvec=RAM + 0x300, sie=2, sstatus=2)
    assert second.run(100) == Hlt()
    assert first.run(100) == Intr()
    assert second.run(100) == Intr()
    assert [second.get(name) for name in ("a1", "a2", "a3")] == [1 << 63 | 1, 2, 0]


# --- method hw: what a guest's exits are made of ----------------------------------------------------------------------


of_hw = pytest.mark.parametrize("method", ["hw"], indirect=True)


@of_hw
def test_exits_are_traps_to_hs_mode() -> None:
    """The hart was in VS mode, and is in HS mode with the exit in its registers; the guest is in those of VS mode."""
    vcpu = made(asm("addi", rd=A0, rs1=0, imm=1), asm("sd", rs1=A1, rs2=A0, imm=8), SPIN)
    vcpu.set(a1=0x1000_0000, sscratch=0x55, stvec=RAM + 0x400)
    exit = vcpu.enter()
    hart = vcpu._hart
    slots = hart.state.slots
    assert hart.taken == {(23, 5): 1}  # from VS mode
    assert (slots[p.VIRTUAL], slots[p.PRIVILEGE]) == (0, p.SUPERVISOR)
    assert exit == tuple(slots[each] for each in (p.SCAUSE, p.STVAL, p.SEPC, p.HTVAL, p.HTINST, p.HSTATUS))
    assert (slots[p.VSSCRATCH], slots[p.VSTVEC], slots[p.SLOT["sscratch"]]) == (0x55, RAM + 0x400, 0)
    assert hart.space.load_as("guest execute", exit.sepc, 2).to_bytes(2, "little") == vcpu.vm.read(exit.sepc, 2)
    assert vcpu.run(1000) == Mmio(0x1000_0008, 8, True, 1) and vcpu.run(1000) == Intr()
    assert slots[p.SCAUSE] == 1 << 63 | 5 and vcpu.get("pc") == RAM + 8  # HS mode's timer has left an endless guest


@of_hw
def test_guest_physical_memory_is_elsewhere() -> None:
    """Nothing is where the guest has its memory but by the tables of its second stage, which end with its regions."""
    vcpu = made(SPIN)
    vm = vcpu.vm
    vm.set_user_memory_region(1, 0x7_0000_0000, 2 * PAGE)
    vm.write(0x7_0000_0FF8, b"\x11" * 16)  # across two pages
    vcpu.run(10)
    hart = vcpu._hart
    hart.state.slots[p.HSTATUS] |= p.SPVP
    assert not hart.vm.memory.is_ram(RAM, 8) and not hart.vm.memory.is_ram(0x7_0000_0000, 8)
    assert hart.space.load_as("guest load", RAM, 4) == SPIN
    assert hart.space.load_as("guest load", 0x7_0000_0FFC, 8) == 0x1111_1111_1111_1111
    for address in (RAM - 1, RAM + SIZE, 0x7_0000_0000 - 1, 0x7_0000_0000 + 2 * PAGE, 1 << 58):
        with pytest.raises(Trap) as trap:
            hart.space.load_as("guest load", address, 1)
        assert trap.value.cause == 21


@of_hw
def test_waiting_leaves_by_vtw_and_is_answered_inside() -> None:
    vcpu = made(*li(A0, 1000), asm("csrrw", rd=0, rs1=A0, csr=0x14D), asm("addi", rd=A0, rs1=0, imm=32),
                asm("csrrs", rd=0, rs1=A0, csr=0x104), WFI, *OFF)  # fmt: skip
    assert vcpu.run() == SystemEvent(1) and vcpu.get("time") >= 1000
    assert (vcpu.stats.reasons["virtual instruction"], vcpu.stats.light, vcpu.stats.to_user) == (1, 1, 1)
    assert vcpu._hart.taken[22, 5] == 1


@of_hw
@pytest.mark.parametrize("word", [csrr(A0, 0x600), csrr(A0, 0x680), csrr(A0, 0x280), 0x62000073, 0x6C05_4573])
def test_what_a_hypervisor_could_do_is_illegal_for_its_guest(word: int) -> None:
    """hstatus, hgatp, vsatp; hfence.gvma; hlv.d: virtual instructions, which the first switch makes illegal ones."""
    vcpu = made(word)
    vcpu.vm.write(RAM + 0x100, code(csrr(A1, 0x142), csrr(A2, 0x143), *OFF))
    vcpu.set(stvec=RAM + 0x100, sstatus=2)
    assert vcpu.enter().scause == 22
    assert vcpu.run() == SystemEvent(1)
    assert (vcpu.get("a1"), vcpu.get("a2"), vcpu.get("sepc")) == (2, word, RAM)
    assert vcpu.get("sstatus") & 0x122 == 0x120  # SPP and SPIE: supervisor mode, with interrupts


@of_hw
def test_the_log_is_of_leaves_that_are_not_writable() -> None:
    """One fault for each page, from its first store; then stores to it are no exits."""
    vcpu = made(asm("sd", rs1=A1, rs2=A0, imm=0), asm("addi", rd=A0, rs1=A0, imm=1), asm("jal", rd=0, imm=-8))
    vcpu.vm.set_user_memory_region(0, RAM, SIZE, None, abi.KVM_MEM_LOG_DIRTY_PAGES)
    for number in range(1, 4):
        vcpu.set(a1=RAM + PAGE * (4 + number))
        vcpu.run(3000)
        assert vcpu.stats.reasons["store/AMO guest-page fault"] == number
    assert dirty(vcpu.vm) == [5, 6, 7]
    vcpu.run(3000)
    assert vcpu.stats.reasons["store/AMO guest-page fault"] == 4 and dirty(vcpu.vm) == [7]
    vcpu.vm.set_user_memory_region(0, RAM, SIZE)
    vcpu.run(3000)
    assert vcpu.stats.reasons["store/AMO guest-page fault"] == 4


@of_hw
def test_an_external_interrupt_is_hvips() -> None:
    vcpu = made(SPIN)
    vcpu.interrupt(True)
    csr = hypervisor_csrs.table(frozenset({"h"}))[0x645]
    assert csr.read(vcpu._hart.at_rest()) == p.VSEI and vcpu.get("sip") == p.SEI
    vcpu.interrupt(False)
    assert csr.read(vcpu._hart.at_rest()) == 0 and vcpu.get("sip") == 0


@of_hw
def test_page_tables_where_there_is_no_memory() -> None:
    """The access is that of the table: htval says where it is, htinst that it is no access of the program's own."""
    vcpu = made(asm("lw", rd=A0, rs1=A1, imm=2), SPIN)
    root = RAM + PAGE
    for at, entry in ((2, RAM >> 2 | 0xCF), (5, 0x4000_0000 >> 2 | 1)):
        vcpu.vm.write(root + 8 * at, entry.to_bytes(8, "little"))
    vcpu.set(satp=8 << 60 | root >> 12, a1=0x1_4000_2000)
    exit = vcpu.enter()
    assert (exit.scause, exit.stval, exit.gpa, exit.htinst) == (21, 0x1_4000_2002, 0x4000_0000, 0x3000)


# --- debugging --------------------------------------------------------------------------------------------------------


def test_breakpoints_are_the_guests_or_the_debuggers() -> None:
    vcpu = made(EBREAK, NOP, *OFF)
    vcpu.vm.write(RAM + 0x100, code(csrr(A1, 0x142), *OFF))
    vcpu.set(stvec=RAM + 0x100)
    vcpu.guest_debug = abi.KVM_GUESTDBG_ENABLE
    assert vcpu.run() == Debug(RAM)
    assert vcpu.run() == Debug(RAM)
    vcpu.guest_debug = abi.KVM_GUESTDBG_ENABLE | abi.KVM_GUESTDBG_SINGLESTEP
    vcpu.skip()
    assert [vcpu.run() for _ in range(2)] == [Debug(RAM + 8), Debug(RAM + 12)]
    vcpu.guest_debug = 0
    vcpu.set(pc=RAM)
    assert vcpu.run() == SystemEvent(1) and vcpu.get("a1") == 3
    with pytest.raises(errors.BadValue, match="control 0x10"):
        vcpu.guest_debug = 0x10


# --- registers -----------------------------------------------------------------------------------------------------


def test_every_register_is_read_and_set_by_its_number() -> None:
    vcpu = made(SPIN)
    numbers = vcpu.reg_list()
    assert len(numbers) == len(set(numbers)) > 130
    for number in numbers:
        assert number >> 56 == 0x80
        value = vcpu.get_one_reg(number)
        vcpu.set_one_reg(number, value)
        assert vcpu.get_one_reg(number) == value, hex(number)
    core = [number for number in numbers if number >> 24 & 0xFF == 2]
    assert core == [0x8030_0000_0200_0000 + i for i in range(33)]
    for i, number in enumerate(core[1:32]):
        vcpu.set_one_reg(number, 0x1_0000_0000 + i)
    assert [vcpu.get(name) for name in ("ra", "a0", "t6")] == [0x1_0000_0000 + i for i in (0, 9, 30)]


def test_values_that_a_register_cannot_have() -> None:
    vcpu = made(SPIN)
    numbers = {vcpu._one(number).name: number for number in vcpu.reg_list()}
    with pytest.raises(errors.NoSuchRegister, match="no register 0x12"):
        vcpu.get_one_reg(0x12)
    with pytest.raises(errors.NoSuchRegister, match="no register a99"):
        vcpu.get("a99")
    with pytest.raises(errors.BadValue, match="has 64 bits"):
        vcpu.set(a0=1 << 64)
    with pytest.raises(errors.BadValue, match="has 32 bits"):
        vcpu.set_one_reg(numbers["fcsr"], 1 << 32)
    with pytest.raises(errors.BadValue, match="cannot be set"):
        vcpu.set_one_reg(numbers["zicbom_block_size"], 32)
    vcpu.set(satp=7 << 60)  # a mode that there is not: as the instruction
    assert vcpu.get("satp") == 0
    vcpu.set(sepc=RAM + 1, pc=RAM + 1, mode=0)
    assert (vcpu.get("sepc"), vcpu.get("pc"), vcpu.get("mode")) == (RAM, RAM, 0)
    vcpu.set_one_reg(kvm.number(kvm.FP_F, 10, kvm.U32), 0x3F80_0000)
    assert vcpu.get_one_reg(kvm.number(kvm.FP_D, 10)) == 0xFFFF_FFFF_3F80_0000
    vcpu.set(time=12345)
    assert vcpu.get("time") == 12345 and vcpu.get("frequency") == 10_000_000
    assert vcpu.get("state") == 0
    vcpu.set(compare=99)
    assert vcpu.get("state") == 1
    vcpu.set(state=0)
    assert vcpu.get("compare") == p.ALL


# --- KVM's own interface -----------------------------------------------------------------------------------------


STRUCTURES = {
    "kvm_run": (abi.Run, "immediate_exit exit_reason mmio.phys_addr mmio.data mmio.len mmio.is_write "
                         "riscv_sbi.extension_id riscv_sbi.function_id riscv_sbi.args riscv_sbi.ret "
                         "system_event.type system_event.ndata system_event.data internal.suberror internal.data "
                         "fail_entry.cpu io.port io.data_offset"),
    "kvm_userspace_memory_region": (abi.UserspaceMemoryRegion, "slot flags guest_phys_addr memory_size userspace_addr"),
    "kvm_dirty_log": (abi.DirtyLog, "slot dirty_bitmap"),
    "kvm_one_reg": (abi.OneReg, "id addr"),
    "kvm_mp_state": (abi.MpState, "mp_state"),
    "kvm_interrupt": (abi.Interrupt, "irq"),
    "kvm_reg_list": (abi.RegList, "n"),
}  # fmt: skip


def offset(structure: type[ctypes.Structure], path: str) -> int:
    at = 0
    for name in path.split("."):
        holder = structure
        if not hasattr(holder, name):
            raise AssertionError(name)
        at += getattr(holder, name).offset
        structure = dict(_fields(holder)).get(name, holder)
    return at


def _fields(structure: type[ctypes.Structure]) -> Iterator[tuple[str, type[ctypes.Structure]]]:
    for name, kind, *_ in structure._fields_:
        yield name, kind  # type: ignore[misc]
        if name in getattr(structure, "_anonymous_", ()):
            yield from _fields(kind)  # type: ignore[arg-type]


def test_numbers_and_layouts_are_those_of_the_kernels_headers(tmp_path: Path) -> None:
    """A C program, compiled with the headers for RISC-V, has them in its data."""
    names = [name for name in vars(abi) if name.startswith("KVM_") and name not in ("KVM_REG_RISCV",)]
    wanted = [f"{name}" for name in names]
    expected = [getattr(abi, name) for name in names]
    for structure, (layout, fields) in STRUCTURES.items():
        for field in fields.split():
            wanted.append(f"__builtin_offsetof(struct {structure}, {field})")
            expected.append(offset(layout, field))
        if structure != "kvm_run":
            wanted.append(f"sizeof(struct {structure})")
            expected.append(ctypes.sizeof(layout))
    for kind, names_of in (("ISA_EXT", kvm.EXTENSIONS),):
        wanted += [f"KVM_RISCV_{kind}_{name.upper()}" for name in names_of]
        expected += range(len(names_of))
    source = tmp_path / "numbers.c"
    values = ",\n".join(f"(unsigned long long)({name})" for name in wanted)
    source.write_text(f"#include <linux/kvm.h>\nunsigned long long numbers[] = {{{values}}};")
    done = subprocess.run(
        [sys.executable, "-m", "ziglang", "cc", "-target", "riscv64-linux-musl", "-c", str(source), "-o",
         str(tmp_path / "numbers.o")], capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    raw = (tmp_path / "numbers.o").read_bytes()
    found = b"".join((value & p.ALL).to_bytes(8, "little") for value in expected)
    first = raw.find(found[:64])
    data = [int.from_bytes(raw[at : at + 8], "little") for at in range(first, first + 8 * len(wanted), 8)]
    assert first > 0 and [f"{n} {v}" for n, v in zip(wanted, data)] == [f"{n} {v}" for n, v in zip(wanted, expected)]


def test_the_loop_of_the_lecture(method: str) -> None:
    done = subprocess.run([sys.executable, str(ROOT / "docs/examples/kvm_loop.py"), "--method", method],
                          capture_output=True, text=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT)})  # fmt: skip
    assert (done.stdout, done.stderr) == (f"Hello through KVM's interface!\n64 exits, method {method}\n", "")


def test_requests_that_are_refused() -> None:
    system = open_kvm(method=METHOD)
    vm = ioctl(system, abi.KVM_CREATE_VM)
    vcpu = ioctl(vm, abi.KVM_CREATE_VCPU, 0)
    assert ioctl(system, abi.KVM_CHECK_EXTENSION, 3) == 1 and ioctl(vm, abi.KVM_CHECK_EXTENSION, 12345) == 0
    region = abi.UserspaceMemoryRegion
    memory = mmap.mmap(-1, 2 * PAGE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    refused: list[tuple[type[Exception], object, int, object]] = [
        (errors.UnknownRequest, system, abi.KVM_RUN, 0), (errors.UnknownRequest, vm, 0x1234, 0),
        (errors.BadMemory, vm, abi.KVM_SET_USER_MEMORY_REGION, region(0, 0, 0, PAGE, 0x1000)),
        (errors.BadMemory, vm, abi.KVM_SET_USER_MEMORY_REGION, region(0, 0, 0, 1 << 40, address)),
        (errors.BadRegion, vm, abi.KVM_SET_USER_MEMORY_REGION, region(0, 0, 0, PAGE, address + 8)),
        (errors.BadRegion, vm, abi.KVM_SET_USER_MEMORY_REGION, region(0, 0, 8, PAGE, address)),
        (errors.NoMemory, vcpu, abi.KVM_RUN, 0), (errors.VcpuExists, vm, abi.KVM_CREATE_VCPU, 0),
        (errors.BadValue, system, abi.KVM_CREATE_VM, 1),
        (errors.NoSuchRegion, vm, abi.KVM_GET_DIRTY_LOG, abi.DirtyLog()),
        (errors.NoSuchRegister, vcpu, abi.KVM_GET_ONE_REG, abi.OneReg(5, address)),
        (errors.BadMemory, vcpu, abi.KVM_GET_ONE_REG, abi.OneReg(kvm.number(kvm.CORE, 0), 0x1000)),
        (errors.BadValue, vcpu, abi.KVM_SET_MP_STATE, abi.MpState(9)),
        (errors.BadValue, vcpu, abi.KVM_INTERRUPT, abi.Interrupt(3)),
        (errors.KvmError, vcpu, abi.KVM_GET_REG_LIST, bytearray(16)),
        (errors.BadMemory, vcpu, abi.KVM_GET_REG_LIST, bytearray(13)),
        (errors.BadMemory, vcpu, abi.KVM_GET_REG_LIST, 5),
        (errors.BadMemory, vcpu, abi.KVM_GET_REG_LIST, bytes(4096)),
        (errors.BadMemory, vcpu, abi.KVM_GET_REG_LIST, bytearray()),
        (errors.BadValue, vm, abi.KVM_SET_USER_MEMORY_REGION, abi.MpState(0)),
        (errors.BadValue, vcpu, abi.KVM_INTERRUPT, 1), (errors.BadValue, vm, abi.KVM_CREATE_VCPU, "0"),
        (errors.Closed, 3, abi.KVM_RUN, 0),
    ]  # fmt: skip
    for error, descriptor, request, argument in refused:
        with pytest.raises(error):
            ioctl(descriptor, request, argument)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        open_kvm("/dev/nothing")
    with pytest.raises(errors.BadValue):
        map_vcpu(vm)
    with pytest.raises(errors.BadValue, match="no method 'magic'"):
        open_kvm(method="magic")
    with pytest.raises(errors.BadValue, match="cannot have the extension h"):
        open_kvm(method=METHOD, isa="rv64gch")
    ioctl(vm, abi.KVM_SET_USER_MEMORY_REGION, region(0, 1, 0, 2 * PAGE, address))
    memory[: len(code(*OFF)) + 4] = code(asm("sd", rs1=A1, rs2=0, imm=8), *OFF)
    value = ctypes.c_uint64(PAGE)
    ioctl(vcpu, abi.KVM_SET_ONE_REG, abi.OneReg(kvm.number(kvm.CORE, A1), ctypes.addressof(value)))
    run = map_vcpu(vcpu)
    run.immediate_exit = 1
    with pytest.raises(errors.KvmError, match="interrupted") as left:
        ioctl(vcpu, abi.KVM_RUN)
    assert left.value.errno == 4 and run.exit_reason == abi.KVM_EXIT_INTR
    run.immediate_exit = 0
    ioctl(vcpu, abi.KVM_RUN)
    assert run.exit_reason == abi.KVM_EXIT_SYSTEM_EVENT and run.system_event.type == 1
    bitmap = ctypes.c_uint64()
    ioctl(vm, abi.KVM_GET_DIRTY_LOG, abi.DirtyLog(0, 0, ctypes.addressof(bitmap)))
    assert bitmap.value == 2
    room = bytearray(8 + 8 * 400)
    room[:8] = (400).to_bytes(8, "little")
    ioctl(vcpu, abi.KVM_GET_REG_LIST, room)
    assert int.from_bytes(room[:8], "little") == len(vcpu.of.reg_list())
    state = abi.MpState(9)
    ioctl(vcpu, abi.KVM_GET_MP_STATE, state)
    assert state.mp_state == abi.KVM_MP_STATE_RUNNABLE
    vm.close()
    for descriptor in (vm, vcpu):
        with pytest.raises(errors.Closed):
            ioctl(descriptor, abi.KVM_RUN)
    vcpu.close()
    with pytest.raises(errors.Closed):
        map_vcpu(vcpu)


def test_calls_by_the_page(method: str) -> None:
    system = open_kvm(method=method)
    vm = ioctl(system, abi.KVM_CREATE_VM)
    vcpu = ioctl(vm, abi.KVM_CREATE_VCPU, 0)
    vm.of.set_user_memory_region(0, 0, PAGE)
    vm.of.write(0, code(*li(A0, 65), *call(1), *call(0x4442434E), SPIN))
    run = map_vcpu(vcpu)
    ioctl(vcpu, abi.KVM_RUN)
    assert run.exit_reason == abi.KVM_EXIT_RISCV_SBI
    assert (run.riscv_sbi.extension_id, run.riscv_sbi.args[0]) == (1, 65)
    run.riscv_sbi.ret[0] = 5
    ioctl(vcpu, abi.KVM_RUN)
    assert (run.riscv_sbi.extension_id, run.riscv_sbi.args[0]) == (0x4442434E, 5)
    vcpu.of.run(10)
    assert vcpu.of.get("a0") == sbi.NOT_SUPPORTED & p.ALL


# --- the host's own ------------------------------------------------------------------------------------------------


def refusing(number: int) -> Callable[[str, int], int]:
    def open_device(path: str, flags: int) -> int:
        raise OSError(number, os.strerror(number), path)

    return open_device


@pytest.mark.parametrize("number, says", [
    (errno.ENOENT, "no such file"), (errno.EACCES, "permission denied"), (errno.ENODEV, "no such device"),
])  # fmt: skip
def test_a_host_without_kvm_says_so(number: int, says: str) -> None:
    found = live.run(refusing(number))
    assert found.exits == () and says in found.refused and found.refused.startswith("/dev/kvm cannot be opened: ")


def test_a_device_that_is_none_is_refused(tmp_path: Path) -> None:
    assert "no such file" in live.run(path=str(tmp_path / "kvm")).refused
    found = live.run(lambda path, flags: os.open("/dev/null", flags))
    assert found.exits == () and found.refused.startswith("/dev/kvm refuses: ")


def test_the_row_says_what_the_host_refuses(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = live.run
    monkeypatch.setattr(live, "run", lambda: run(refusing(errno.EACCES)))
    assert lab.main(["C47"]) == 0
    assert "the host's own KVM is not used: /dev/kvm cannot be opened: permission denied" in capsys.readouterr().out


def test_the_hosts_own_kvm() -> None:
    found = live.run()
    if found.refused:
        pytest.skip(found.refused)
    assert found.exits == live.EXPECTED


def test_mechanism_knows_no_device() -> None:
    """Notes 002: KVM has no devices; its user has."""
    script = "import sys, dbt.kvm; print([n for n in sys.modules if n.startswith(('dbt.machine.devices', 'dbt.cli'))])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "[]\n", done.stderr
