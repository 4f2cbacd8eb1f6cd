"""Virtual machines in KVM's shape: accesses and what they are answered, calls, registers, breakpoints."""

from __future__ import annotations

import pytest
from support import virtual
from support.riscv import asm, csrr
from support.virtual import A0, A1, A2, A3, EBREAK, NOP, OFF, PAGE, RAM, SPIN, T0, call, code, li, made

from dbt.kvm import abi, errors
from dbt.machine.exits import Debug, Exit, Intr, Mmio, RiscvSbi, Shutdown, SystemEvent
from guests.riscv import kvm, sbi
from guests.riscv import privileged as p

method = virtual.method  # of each test, under each of them


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
    assert faults == {"hw": [1, 2], "te": [2, 1]}.get(virtual.METHOD, [2, 2])
    assert vcpu.stats.total == vcpu.stats.to_user == 5


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
    assert vcpu.stats.light == (2 if virtual.METHOD == "te" else 1)  # its handler reads scause


def test_a_handler_that_traps_for_ever_is_shut_down() -> None:
    vcpu = made(0xFFFF_FFFF)
    vcpu.set(stvec=RAM)
    assert vcpu.run() == Shutdown(RAM, 2)


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
