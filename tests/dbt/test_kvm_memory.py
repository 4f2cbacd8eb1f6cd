"""Memory of virtual machines: regions, what is refused, what the host shares, what was written."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support import virtual
from support.riscv import asm
from support.virtual import A0, A1, A2, OFF, PAGE, RAM, SIZE, code, dirty, kvm_of, made

from dbt.kvm import Vcpu, abi, errors
from dbt.machine.exits import Intr, Mmio, SystemEvent

method = virtual.method  # of each test, under each of them


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
