"""The lecture's loop around KVM, with the calls that it leaves out: `python docs/examples/kvm_loop.py --method bt`.

It is the loop of a user of /dev/kvm: descriptors, requests by number, structures, and a switch over exit reasons. The
guest reads letters from a device, sends each back to it, and turns itself off at the end of its input.
"""

from __future__ import annotations

import argparse
import ctypes
import mmap
import sys

from dragoman import kvm

abi, ioctl = kvm.abi, kvm.ioctl
RAM, SIZE = 0x8000_0000, 0x10000
DEVICE = 0x1000_0000
GUEST = (
    0x100002B7,  #       lui  t0, 0x10000
    0x0002C503,  # next: lbu  a0, 0(t0)
    0x00050663,  #       beqz a0, done
    0x00A280A3,  #       sb   a0, 1(t0)
    0xFF5FF06F,  #       j    next
    0x00800893,  # done: li   a7, 8
    0x00000073,  #       ecall
)
PC = kvm.abi.KVM_REG_RISCV | 3 << 52 | 2 << 24  # a core register of 64 bits, the first


def main(method: str, letters: bytes) -> int:
    """Run the guest; returns how often it was left."""
    system = kvm.open("/dev/kvm", method)
    assert ioctl(system, abi.KVM_GET_API_VERSION) == abi.API_VERSION
    vm = ioctl(system, abi.KVM_CREATE_VM)
    memory = mmap.mmap(-1, SIZE)
    memory[: 4 * len(GUEST)] = b"".join(word.to_bytes(4, "little") for word in GUEST)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    ioctl(vm, abi.KVM_SET_USER_MEMORY_REGION, abi.UserspaceMemoryRegion(0, 0, RAM, SIZE, address))
    vcpu = ioctl(vm, abi.KVM_CREATE_VCPU, 0)
    run = kvm.mmap(vcpu, ioctl(system, abi.KVM_GET_VCPU_MMAP_SIZE))
    pc = ctypes.c_uint64(RAM)
    ioctl(vcpu, abi.KVM_SET_ONE_REG, abi.OneReg(PC, ctypes.addressof(pc)))

    left = list(letters)
    exits = 0
    while True:
        ioctl(vcpu, abi.KVM_RUN)
        exits += 1
        match run.exit_reason:
            case abi.KVM_EXIT_MMIO if run.mmio.is_write:
                sys.stdout.write(chr(run.mmio.data[0]))
            case abi.KVM_EXIT_MMIO:
                run.mmio.data[0] = left.pop(0) if left else 0
            case abi.KVM_EXIT_SYSTEM_EVENT if run.system_event.type == abi.KVM_SYSTEM_EVENT_SHUTDOWN:
                vm.close()
                return exits
            case reason:
                sys.exit(f"the guest was left for reason {reason}, which this loop does not know")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Run a guest of seven instructions under KVM's interface.")
    parser.add_argument("--method", choices=kvm.METHODS, default="bt")
    parser.add_argument("--letters", default="Hello through KVM's interface!\n")
    options = parser.parse_args()
    print(f"{main(options.method, options.letters.encode())} exits, method {options.method}")
