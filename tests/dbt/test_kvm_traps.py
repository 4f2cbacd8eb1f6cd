"""What a guest's exits are made of: traps as a hart with the hypervisor extension has them, and those of method hw."""

from __future__ import annotations

import pytest
from support import virtual
from support.riscv import asm, csrr
from support.virtual import A0, A1, A2, AMO, ECALL, OFF, PAGE, RAM, SIZE, SPIN, WFI, code, dirty, li, made

from dbt.kvm import Kvm, abi
from dbt.machine.exits import Intr, Mmio, SystemEvent
from dbt.machine.vm import Machine
from dbt.options import Options
from guests.riscv import hypervisor_csrs, kvm, machine
from guests.riscv import privileged as p
from guests.spec import Trap

method = virtual.method  # of each test, under each of them


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
    vm = Machine(guest, Kvm(virtual.METHOD).engine, Options(patience=0)).create_vm()
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
    if virtual.METHOD == "hw" and word & 0x7F == AMO:
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
