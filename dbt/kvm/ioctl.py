"""The same virtual machines as KVM's user sees them: descriptors, requests by number, structures, the page kvm_run.

    kvm = open("/dev/kvm", method="bt");  vm = ioctl(kvm, KVM_CREATE_VM);  vcpu = ioctl(vm, KVM_CREATE_VCPU, 0)
    run = mmap(vcpu);  ioctl(vcpu, KVM_RUN);  run.exit_reason

A request that is refused raises an OSError, with KVM's error number (`dbt.kvm.errors`).
Owns: what each request reads and writes. Must not know: what it does, which `dbt.kvm` says.
"""

from __future__ import annotations

import builtins
import ctypes
import errno
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from dbt.kvm import abi
from dbt.kvm.errors import BadMemory, BadRegion, BadValue, Closed, KvmError, UnknownRequest
from dbt.kvm.memory import PAGE
from dbt.kvm.vcpu import Vcpu
from dbt.kvm.vm import Kvm, Vm
from dbt.machine.exits import Exit, Intr, Mmio, RiscvSbi, SystemEvent

PATH = "/dev/kvm"


class Interrupted(KvmError):
    """KVM_RUN returned since `immediate_exit` was set."""

    number = errno.EINTR


class TooLong(KvmError):
    """A list has more entries than the caller has room for; it says how many."""

    number = errno.E2BIG


class Descriptor:
    """What `open` and requests that make something return; it stands for a file descriptor."""

    def __init__(self, of: Kvm | Vm | Vcpu) -> None:
        self.of: Any = of
        self.closed = False

    def close(self) -> None:
        """A virtual machine ends when its descriptor is closed."""
        if isinstance(self.of, Vm):
            self.of.close()
        self.closed = True


def open(path: str = PATH, method: str = "bt", **settings: Any) -> Descriptor:
    """What opening /dev/kvm gives; `method` and settings are those of `Kvm`. Raises FileNotFoundError."""
    if path != PATH:
        raise FileNotFoundError(errno.ENOENT, "there is only one device to open", path)
    return Descriptor(Kvm(method, **settings))


def mmap(vcpu: Descriptor, size: int = ctypes.sizeof(abi.Run)) -> abi.Run:
    """The page that a virtual CPU shares with its user. Raises Closed, BadValue."""
    check(vcpu)
    if not isinstance(vcpu.of, Vcpu) or not 0 < size <= ctypes.sizeof(abi.Run):
        raise BadValue(f"only a virtual CPU can be mapped, and {ctypes.sizeof(abi.Run)} bytes of it")
    return vcpu.of.shared


def ioctl(descriptor: Descriptor, request: int, argument: Any = 0) -> Any:
    """Do a request: a number, or a Descriptor of what was made. Raises KvmError."""
    check(descriptor)
    found = REQUESTS[type(descriptor.of)].get(request)
    if found is None:
        raise UnknownRequest(f"request {request:#x} is not one of a {type(descriptor.of).__name__}'s")
    if not isinstance(argument, found.wants):
        raise BadValue(f"request {request:#x} wants {found.wants.__name__}, and not {type(argument).__name__}")
    return found.answer(descriptor.of, argument)


def check(descriptor: Descriptor) -> None:
    """Raises Closed."""
    if not isinstance(descriptor, Descriptor):
        raise Closed(f"{descriptor!r} is no descriptor")
    if descriptor.closed:
        raise Closed("the descriptor is closed")


# --- host memory by address -----------------------------------------------------------------------------------------


def memory_at(address: int, size: int) -> memoryview:
    """The host's memory there, which can be read and written. BadMemory where it cannot."""
    at = address
    with builtins.open("/proc/self/maps") as maps:
        for line in maps:
            span, rights = line.split()[:2]
            low, high = (int(part, 16) for part in span.split("-"))
            if low <= at < high and rights.startswith("rw"):
                at = high
            if at >= address + size:
                return memoryview((ctypes.c_char * size).from_address(address)).cast("B")
    raise BadMemory(f"the host has no memory of {size:#x} bytes at {address:#x} that can be read and written")


# --- requests -------------------------------------------------------------------------------------------------------


def _create_vm(kvm: Kvm, kind: int) -> Descriptor:
    if kind:
        raise BadValue(f"there is no machine type {kind}")
    return Descriptor(kvm.create_vm())


def _region(vm: Vm, region: abi.UserspaceMemoryRegion) -> int:
    memory = None
    if region.memory_size:
        if region.userspace_addr % PAGE:
            raise BadRegion(f"host memory at {region.userspace_addr:#x} does not begin at a page")
        memory = memory_at(region.userspace_addr, region.memory_size)
    vm.set_user_memory_region(region.slot, region.guest_phys_addr, region.memory_size, memory, region.flags)
    return 0


def _dirty_log(vm: Vm, log: abi.DirtyLog) -> int:
    room = len(vm.regions.of(log.slot).pages) + 63 >> 6 << 3
    bitmap = memory_at(log.dirty_bitmap, room)
    bitmap[:] = vm.get_dirty_log(log.slot)
    return 0


def _one_reg(reg: abi.OneReg) -> memoryview:
    size = 1 << ((reg.id & abi.KVM_REG_SIZE_MASK) >> abi.KVM_REG_SIZE_SHIFT)
    return memory_at(reg.addr, size)


def _get_one_reg(vcpu: Vcpu, reg: abi.OneReg) -> int:
    value = vcpu.get_one_reg(reg.id)
    place = _one_reg(reg)
    place[:] = value.to_bytes(len(place), "little")
    return 0


def _set_one_reg(vcpu: Vcpu, reg: abi.OneReg) -> int:
    vcpu.set_one_reg(reg.id, int.from_bytes(_one_reg(reg), "little"))
    return 0


def _reg_list(vcpu: Vcpu, room: Any) -> int:
    """`room` is a buffer: a kvm_reg_list with as many numbers as fit behind it."""
    try:
        words = memoryview(room).cast("B").cast("Q")
    except TypeError as error:
        raise BadMemory(f"this is no list of registers: {error}") from None
    if not words or words.readonly:
        raise BadMemory("a list of registers is a buffer that can be written, and begins with a number")
    numbers = vcpu.reg_list()
    fits = min(words[0], len(words) - 1)
    words[0] = len(numbers)
    if fits < len(numbers):
        raise TooLong(f"there are {len(numbers)} registers, and room for {fits}")
    for i, number in enumerate(numbers):
        words[1 + i] = number
    return 0


def _get_mp_state(vcpu: Vcpu, state: abi.MpState) -> int:
    state.mp_state = vcpu.mp_state
    return 0


def _set_mp_state(vcpu: Vcpu, state: abi.MpState) -> int:
    vcpu.mp_state = state.mp_state
    return 0


def _interrupt(vcpu: Vcpu, interrupt: abi.Interrupt) -> int:
    if interrupt.irq not in (abi.KVM_INTERRUPT_SET, abi.KVM_INTERRUPT_UNSET):
        raise BadValue(f"an interrupt is set or unset, and not {interrupt.irq:#x}")
    vcpu.interrupt(interrupt.irq == abi.KVM_INTERRUPT_SET)
    return 0


def _set_guest_debug(vcpu: Vcpu, debug: abi.GuestDebug) -> int:
    vcpu.guest_debug = debug.control
    return 0


def _run(vcpu: Vcpu, argument: int) -> int:
    shared = vcpu.shared
    match vcpu.exit:  # that was shown last, and may have been answered
        case Mmio(is_write=False):
            vcpu.reply(int.from_bytes(bytes(shared.mmio.data)[: vcpu.exit.size], "little"))
        case RiscvSbi():
            vcpu.reply(shared.riscv_sbi.ret[0], shared.riscv_sbi.ret[1])
    shared.exit_reason = abi.KVM_EXIT_UNKNOWN
    exit = vcpu.run()
    shared.exit_reason = exit.reason
    _show(shared, exit)
    if isinstance(exit, Intr):
        raise Interrupted("the run was interrupted: immediate_exit is set")
    return 0


def _show(shared: abi.Run, exit: Exit) -> None:
    """Write what an exit says into the page."""
    match exit:
        case Mmio():
            mmio = shared.mmio
            mmio.phys_addr, mmio.len, mmio.is_write = exit.address, exit.size, exit.is_write
            mmio.data[:] = list(exit.data.to_bytes(8, "little"))
        case RiscvSbi():
            sbi = shared.riscv_sbi
            sbi.extension_id, sbi.function_id = exit.extension, exit.function
            sbi.args[:] = list(exit.args)
            sbi.ret[:] = [NOT_SUPPORTED, 0]
        case SystemEvent():
            event = shared.system_event
            event.type, event.ndata = exit.kind, 1
            event.data[0] = exit.code


NOT_SUPPORTED = -2 & (1 << 64) - 1  # what a call is answered whose user knows nothing of it


class Request(NamedTuple):
    """What answers a request, and what its argument is: a structure, or a number."""

    answer: Callable[[Any, Any], Any]
    wants: type = int


REQUESTS: Mapping[type, Mapping[int, Request]] = {
    Kvm: {
        abi.KVM_GET_API_VERSION: Request(lambda kvm, argument: abi.API_VERSION),
        abi.KVM_CREATE_VM: Request(_create_vm),
        abi.KVM_CHECK_EXTENSION: Request(lambda kvm, capability: kvm.check_extension(capability)),
        abi.KVM_GET_VCPU_MMAP_SIZE: Request(lambda kvm, argument: ctypes.sizeof(abi.Run)),
    },
    Vm: {
        abi.KVM_CREATE_VCPU: Request(lambda vm, number: Descriptor(vm.create_vcpu(number))),
        abi.KVM_CHECK_EXTENSION: Request(lambda vm, capability: vm.kvm.check_extension(capability)),
        abi.KVM_SET_USER_MEMORY_REGION: Request(_region, abi.UserspaceMemoryRegion),
        abi.KVM_GET_DIRTY_LOG: Request(_dirty_log, abi.DirtyLog),
    },
    Vcpu: {
        abi.KVM_RUN: Request(_run),
        abi.KVM_GET_ONE_REG: Request(_get_one_reg, abi.OneReg),
        abi.KVM_SET_ONE_REG: Request(_set_one_reg, abi.OneReg),
        abi.KVM_GET_REG_LIST: Request(_reg_list, object),
        abi.KVM_GET_MP_STATE: Request(_get_mp_state, abi.MpState),
        abi.KVM_SET_MP_STATE: Request(_set_mp_state, abi.MpState),
        abi.KVM_INTERRUPT: Request(_interrupt, abi.Interrupt),
        abi.KVM_SET_GUEST_DEBUG: Request(_set_guest_debug, abi.GuestDebug),
    },
}
