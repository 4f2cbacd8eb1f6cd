"""KVM's numbers and structures (Linux, include/uapi/linux/kvm.h, for 64-bit RISC-V).

Owns: this interface as data: requests, exits, flags, and the layouts of what requests point to. Must not know: what
any of it does.
"""

from __future__ import annotations

import ctypes

API_VERSION = 12
U8, U16, U32, U64 = ctypes.c_uint8, ctypes.c_uint16, ctypes.c_uint32, ctypes.c_uint64


class UserspaceMemoryRegion(ctypes.Structure):
    """kvm_userspace_memory_region"""

    _fields_ = (("slot", U32), ("flags", U32), ("guest_phys_addr", U64), ("memory_size", U64), ("userspace_addr", U64))


class DirtyLog(ctypes.Structure):
    """kvm_dirty_log; `dirty_bitmap` is an address."""

    _fields_ = (("slot", U32), ("padding", U32), ("dirty_bitmap", U64))


class OneReg(ctypes.Structure):
    """kvm_one_reg; `addr` is the address of the value."""

    _fields_ = (("id", U64), ("addr", U64))


class MpState(ctypes.Structure):
    """kvm_mp_state"""

    _fields_ = (("mp_state", U32),)


class Interrupt(ctypes.Structure):
    """kvm_interrupt"""

    _fields_ = (("irq", U32),)


class GuestDebug(ctypes.Structure):
    """kvm_guest_debug"""

    _fields_ = (("control", U32), ("pad", U32))


class RegList(ctypes.Structure):
    """kvm_reg_list: `n` numbers follow."""

    _fields_ = (("n", U64),)


class _Mmio(ctypes.Structure):
    _fields_ = (("phys_addr", U64), ("data", U8 * 8), ("len", U32), ("is_write", U8))


class _Io(ctypes.Structure):
    _fields_ = (("direction", U8), ("size", U8), ("port", U16), ("count", U32), ("data_offset", U64))


class _FailEntry(ctypes.Structure):
    _fields_ = (("hardware_entry_failure_reason", U64), ("cpu", U32))


class _Internal(ctypes.Structure):
    _fields_ = (("suberror", U32), ("ndata", U32), ("data", U64 * 16))


class _SystemEvent(ctypes.Structure):
    _fields_ = (("type", U32), ("ndata", U32), ("data", U64 * 16))


class _RiscvSbi(ctypes.Structure):
    _fields_ = (("extension_id", U64), ("function_id", U64), ("args", U64 * 6), ("ret", U64 * 2))


class _Exit(ctypes.Union):
    _fields_ = (
        ("mmio", _Mmio), ("io", _Io), ("fail_entry", _FailEntry), ("internal", _Internal),
        ("system_event", _SystemEvent), ("riscv_sbi", _RiscvSbi), ("padding", ctypes.c_char * 256),
    )  # fmt: skip


class Run(ctypes.Structure):
    """kvm_run, as far as exits go that there are"""

    _anonymous_ = ("exit",)
    _fields_ = (
        ("request_interrupt_window", U8), ("immediate_exit", U8), ("padding1", U8 * 6), ("exit_reason", U32),
        ("ready_for_interrupt_injection", U8), ("if_flag", U8), ("flags", U16), ("cr8", U64), ("apic_base", U64),
        ("exit", _Exit),
    )  # fmt: skip


# --- requests (asm-generic/ioctl.h: direction, size, type, number) ----------------------------------------------------

KVMIO = 0xAE
NONE, WRITE, READ = 0, 1, 2


def request(number: int, direction: int = NONE, structure: type[ctypes.Structure] | None = None) -> int:
    """The number of a request that reads or writes a structure."""
    size = 0 if structure is None else ctypes.sizeof(structure)
    return direction << 30 | size << 16 | KVMIO << 8 | number


KVM_GET_API_VERSION = request(0x00)
KVM_CREATE_VM = request(0x01)
KVM_CHECK_EXTENSION = request(0x03)
KVM_GET_VCPU_MMAP_SIZE = request(0x04)
KVM_CREATE_VCPU = request(0x41)
KVM_GET_DIRTY_LOG = request(0x42, WRITE, DirtyLog)
KVM_SET_USER_MEMORY_REGION = request(0x46, WRITE, UserspaceMemoryRegion)
KVM_RUN = request(0x80)
KVM_INTERRUPT = request(0x86, WRITE, Interrupt)
KVM_GET_MP_STATE = request(0x98, READ, MpState)
KVM_SET_MP_STATE = request(0x99, WRITE, MpState)
KVM_SET_GUEST_DEBUG = request(0x9B, WRITE, GuestDebug)
KVM_GET_ONE_REG = request(0xAB, WRITE, OneReg)
KVM_SET_ONE_REG = request(0xAC, WRITE, OneReg)
KVM_GET_REG_LIST = request(0xB0, READ | WRITE, RegList)

# --- exits ----------------------------------------------------------------------------------------------------------

KVM_EXIT_UNKNOWN, KVM_EXIT_EXCEPTION, KVM_EXIT_IO, KVM_EXIT_HYPERCALL, KVM_EXIT_DEBUG, KVM_EXIT_HLT = range(6)
KVM_EXIT_MMIO, KVM_EXIT_IRQ_WINDOW_OPEN, KVM_EXIT_SHUTDOWN, KVM_EXIT_FAIL_ENTRY, KVM_EXIT_INTR = range(6, 11)
KVM_EXIT_INTERNAL_ERROR = 17
KVM_EXIT_SYSTEM_EVENT = 24
KVM_EXIT_RISCV_SBI, KVM_EXIT_RISCV_CSR = 35, 36
KVM_SYSTEM_EVENT_SHUTDOWN, KVM_SYSTEM_EVENT_RESET, KVM_SYSTEM_EVENT_CRASH = 1, 2, 3

# --- flags and states -----------------------------------------------------------------------------------------------

KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY = 1, 2
KVM_MP_STATE_RUNNABLE, KVM_MP_STATE_STOPPED = 0, 5
KVM_INTERRUPT_SET, KVM_INTERRUPT_UNSET = 0xFFFF_FFFF, 0xFFFF_FFFE
KVM_GUESTDBG_ENABLE, KVM_GUESTDBG_SINGLESTEP = 1, 2
KVM_REG_RISCV = 0x80 << 56
KVM_REG_SIZE_SHIFT, KVM_REG_SIZE_MASK = 52, 0xF << 52

MAX_VCPUS = 64
MEMORY_SLOTS = 512
CAPABILITIES = {  # KVM_CAP_...: what KVM_CHECK_EXTENSION answers
    3: 1,  # USER_MEMORY
    9: MAX_VCPUS,  # NR_VCPUS
    10: MEMORY_SLOTS,  # NR_MEMSLOTS
    14: 1,  # MP_STATE
    21: 1,  # DESTROY_MEMORY_REGION_WORKS
    23: 1,  # SET_GUEST_DEBUG
    66: MAX_VCPUS,  # MAX_VCPUS
    70: 1,  # ONE_REG
    81: 1,  # READONLY_MEM
    128: MAX_VCPUS,  # MAX_VCPU_ID
    136: 1,  # IMMEDIATE_EXIT
}
