"""The host's own KVM: a guest of ten bytes on the real processor, where the host lets us. x86-64 hosts.

It stores a letter to a port and to memory that is not there, and halts. Requests, exits and the page kvm_run are those
that `dbt.kvm` has (`dbt.kvm.abi`). Owns: this guest, and what x86 has in place of KVM_SET_ONE_REG. Must not know: our
own virtual machines.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
from collections.abc import Callable
from typing import NamedTuple

from dbt.kvm import abi

PATH = "/dev/kvm"
GUEST = bytes.fromhex("b041 baf803 ee a20080 f4")  # mov al, 'A'; mov dx, 0x3f8; out dx, al; mov [0x8000], al; hlt
ENTRY, PAGE = 0x1000, 0x1000
MOST = 10  # exits of three
EXPECTED = ("IO 0x3f8 = 'A'", "MMIO write 0x8000 = 0x41", "HLT")


class Segment(ctypes.Structure):
    """kvm_segment, x86"""

    _fields_ = (("base", abi.U64), ("limit", abi.U32), ("selector", abi.U16), ("rest", abi.U8 * 10))


class Sregs(ctypes.Structure):
    """kvm_sregs, x86: the code segment, and what is not changed"""

    _fields_ = (("cs", Segment), ("rest", abi.U8 * 288))


class Regs(ctypes.Structure):
    """kvm_regs, x86: sixteen registers, rip and rflags"""

    _fields_ = (("general", abi.U64 * 16), ("rip", abi.U64), ("rflags", abi.U64))


KVM_SET_REGS = abi.request(0x82, abi.WRITE, Regs)
KVM_GET_SREGS = abi.request(0x83, abi.READ, Sregs)
KVM_SET_SREGS = abi.request(0x84, abi.WRITE, Sregs)


class Live(NamedTuple):
    """What came of it: the exits, as text; or why there are none."""

    exits: tuple[str, ...]
    refused: str = ""


def run(open_device: Callable[[str, int], int] = os.open, path: str = PATH) -> Live:
    """Run the guest. Whatever the host refuses is a sentence, and no error."""
    if platform.machine() != "x86_64":
        return Live((), f"this guest is one of x86-64, and the host is {platform.machine()}")
    try:
        device = open_device(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        return Live((), f"{path} cannot be opened: {(error.strerror or str(error)).lower()}")
    opened = [device]
    try:
        return Live(_exits(device, opened))
    except OSError as error:
        return Live((), f"{path} refuses: {(error.strerror or str(error)).lower()}")
    finally:
        for descriptor in reversed(opened):
            os.close(descriptor)


def _exits(device: int, opened: list[int]) -> tuple[str, ...]:
    from fcntl import ioctl

    version = ioctl(device, abi.KVM_GET_API_VERSION)
    if version != abi.API_VERSION:
        raise OSError(f"version {version} of its interface")
    vm = ioctl(device, abi.KVM_CREATE_VM, 0)
    opened.append(vm)
    memory = mmap.mmap(-1, PAGE)
    memory[: len(GUEST)] = GUEST
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    ioctl(vm, abi.KVM_SET_USER_MEMORY_REGION, abi.UserspaceMemoryRegion(0, 0, ENTRY, PAGE, address))
    vcpu = ioctl(vm, abi.KVM_CREATE_VCPU, 0)
    opened.append(vcpu)
    size = ioctl(device, abi.KVM_GET_VCPU_MMAP_SIZE)
    shared = mmap.mmap(vcpu, size)
    run = abi.Run.from_buffer(shared)
    sregs = Sregs()
    ioctl(vcpu, KVM_GET_SREGS, sregs)
    sregs.cs.base = sregs.cs.selector = 0
    ioctl(vcpu, KVM_SET_SREGS, sregs)
    ioctl(vcpu, KVM_SET_REGS, Regs(rip=ENTRY, rflags=2))
    exits: list[str] = []
    while len(exits) < MOST and (not exits or exits[-1] != "HLT"):
        ioctl(vcpu, abi.KVM_RUN, 0)
        exits.append(_text(run, shared))
    return tuple(exits)


def _text(run: abi.Run, shared: mmap.mmap) -> str:
    match run.exit_reason:
        case abi.KVM_EXIT_IO:
            data = shared[run.io.data_offset : run.io.data_offset + run.io.size]
            return f"IO {run.io.port:#x} = {data.decode('latin-1')!r}"
        case abi.KVM_EXIT_MMIO:
            way = "write" if run.mmio.is_write else "read"
            value = int.from_bytes(bytes(run.mmio.data)[: run.mmio.len], "little")
            return f"MMIO {way} {run.mmio.phys_addr:#x} = {value:#x}"
        case abi.KVM_EXIT_HLT:
            return "HLT"
        case reason:
            return f"reason {reason}"
