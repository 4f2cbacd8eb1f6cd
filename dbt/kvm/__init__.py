"""Virtual machines in KVM's shape, for monitors written in Python: `dragoman.kvm`.

    Kvm(method).create_vm() -> Vm: memory regions  .create_vcpu() -> Vcpu  .run() -> Exit

and the same by KVM's own requests: `open`, `ioctl`, `mmap`, with the numbers and structures of `abi`. What KVM's user
decides is the caller's: devices, consoles, what follows an exit. See docs/howto/monitor.md.
"""

from __future__ import annotations

from dbt.kvm import abi, console, errors, schedule
from dbt.kvm.errors import KvmError
from dbt.kvm.ioctl import ioctl, mmap, open
from dbt.kvm.memory import Region
from dbt.kvm.vcpu import Vcpu
from dbt.kvm.vm import METHODS, Kvm, Vm
from dbt.machine.exits import Debug, Exit, Hlt, Intr, Mmio, RiscvSbi, Shutdown, SystemEvent

__all__ = [
    "METHODS", "Debug", "Exit", "Hlt", "Intr", "Kvm", "KvmError", "Mmio", "Region", "RiscvSbi", "Shutdown",
    "SystemEvent", "Vcpu", "Vm", "abi", "console", "errors", "ioctl", "mmap", "open", "schedule",
]  # fmt: skip
