"""C47: KVM's loop: descriptors, requests, the page kvm_run, a switch; and the same on the host's own KVM."""

from __future__ import annotations

import ctypes
import mmap

from dbt.kvm import abi, ioctl, live
from dbt.kvm import mmap as map_vcpu
from dbt.kvm import open as open_kvm
from dbt.lab.report import Report
from dbt.lab.simple_monitor import METHODS

RAM, SIZE = 0x1000, 0x1000
GUEST = b"".join(word.to_bytes(4, "little") for word in (
    0x04100513,  # li a0, 'A'
    0x00100893,  # li a7, 1
    0x00000073,  # ecall: to the console
    0x000082B7,  # lui t0, 8
    0x04100513,  # li a0, 'A'
    0x00A28023,  # sb a0, 0(t0)
    0x0002C503,  # lbu a0, 0(t0)
    0x10500073,  # wfi
))  # fmt: skip
PC, A0 = (abi.KVM_REG_RISCV | 3 << 52 | 2 << 24 | index for index in (0, 10))
EXPECTED = ["RISCV_SBI 0x1 = 'A'", "MMIO write 0x8000 = 0x41", "MMIO read 0x8000", "HLT"]


def exits(method: str) -> tuple[list[str], int]:
    """What the guest is left for, and what it has loaded in the end."""
    system = open_kvm("/dev/kvm", method)
    vm = ioctl(system, abi.KVM_CREATE_VM)
    memory = mmap.mmap(-1, SIZE)
    memory[: len(GUEST)] = GUEST
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    ioctl(vm, abi.KVM_SET_USER_MEMORY_REGION, abi.UserspaceMemoryRegion(0, 0, RAM, SIZE, address))
    vcpu = ioctl(vm, abi.KVM_CREATE_VCPU, 0)
    run = map_vcpu(vcpu, ioctl(system, abi.KVM_GET_VCPU_MMAP_SIZE))
    value = ctypes.c_uint64(RAM)
    ioctl(vcpu, abi.KVM_SET_ONE_REG, abi.OneReg(PC, ctypes.addressof(value)))
    found: list[str] = []
    while len(found) < 2 * len(EXPECTED):
        ioctl(vcpu, abi.KVM_RUN)
        match run.exit_reason:
            case abi.KVM_EXIT_RISCV_SBI:
                found.append(f"RISCV_SBI {run.riscv_sbi.extension_id:#x} = {chr(run.riscv_sbi.args[0])!r}")
            case abi.KVM_EXIT_MMIO if run.mmio.is_write:
                found.append(f"MMIO write {run.mmio.phys_addr:#x} = {run.mmio.data[0]:#x}")
            case abi.KVM_EXIT_MMIO:
                found.append(f"MMIO read {run.mmio.phys_addr:#x}")
                run.mmio.data[0] = 0x42
            case abi.KVM_EXIT_HLT:
                found.append("HLT")
                break
            case reason:
                found.append(f"reason {reason}")
    ioctl(vcpu, abi.KVM_GET_ONE_REG, abi.OneReg(A0, ctypes.addressof(value)))
    vm.close()
    return found, value.value


def run(report: Report) -> None:
    for method in METHODS:
        found, loaded = exits(method)
        report.say(f"{method}: {', '.join(found)}")
        report.check(found == EXPECTED, "each exit has KVM's number, and its values in the page")
        report.check(loaded == 0x42, "what was written into the page for a load is what the guest has loaded")
    real = live.run()
    if real.refused:
        report.say(f"the host's own KVM is not used: {real.refused}")
    else:
        report.say(f"the host's own KVM, a guest of {len(live.GUEST)} bytes: {', '.join(real.exits)}")
        report.check(real.exits == live.EXPECTED, "a port, memory that is not there, a halt")
