"""Virtual CPUs that are interrupted, wait, run on threads of the host and interrupt one another."""

from __future__ import annotations

import signal
import threading
import time

import pytest
from support import virtual
from support.riscv import asm, csrr
from support.virtual import A0, A1, A2, A3, A7, ECALL, OFF, PAGE, RAM, SPIN, T0, WFI, call, code, li, made

from dbt.kvm import Vcpu, abi, errors
from dbt.machine.exits import Debug, Exit, Hlt, Intr, Mmio, SystemEvent

method = virtual.method  # of each test, under each of them


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
    assert vcpu.stats.reasons == {"environment call from VS-mode": 1} | (light if virtual.METHOD == "te" else {})
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
