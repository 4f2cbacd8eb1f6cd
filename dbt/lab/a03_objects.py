"""A03: what is virtualized are objects of the interface: VM, vCPU, memory, devices, and what connects them."""

from __future__ import annotations

from collections.abc import Iterator

from dbt.kvm import METHODS, Kvm, SystemEvent, Vm
from dbt.lab.report import Report
from dbt.lab.simple_monitor import OPTIONS, RAM, SIZE
from dbt.machine.devices.console import Console
from dbt.machine.devices.uart import Uart
from guests.programs import virtual_file

UART = 0x1000_0000
FLASH = 0x2200_0000


def tree(vm: Vm) -> Iterator[str]:
    """What a virtual machine is made of, a line each."""
    method = next(name for name, method in METHODS.items() if method == vm.kvm.method)
    yield f"VM: method {method}, guest {vm.guest.isa[:24]}..."
    for vcpu in vm.vcpus:
        yield f"  vCPU {vcpu.id}: pc {vcpu.get('pc'):#x}, {'runnable' if vcpu.mp_state == 0 else 'stopped'}"
    for region in vm.regions:
        yield f"  vMem slot {region.slot}: {region.gpa:#x} to {region.end:#x}{', read-only' if region.readonly else ''}"
    for base, device in vm.devices:
        yield f"  vDevice {device.name}: {base:#x}"
    for vcpu in vm.vcpus:
        yield f"  vUtilities of vCPU {vcpu.id}: timer {'on' if vcpu.get('state') else 'off'}, external interrupt"


def run(report: Report) -> None:
    with Kvm("bt", options=OPTIONS).create_vm() as vm:
        vm.set_user_memory_region(0, RAM, SIZE)
        vm.set_user_memory_region(1, FLASH, 0x1000, bytearray(b"pfld" * 0x400), flags=2)
        vm.add_device(UART, Uart(Console(lambda data: None), lambda level: None))
        entry = vm.load(virtual_file("skernel"))
        first, second = vm.create_vcpu(), vm.create_vcpu()
        first.set(pc=entry)
        lines = list(tree(vm))
        report.show("\n".join(lines))
        kinds = [line.split()[0].rstrip(":") for line in lines]
        report.check(set(kinds) == {"VM", "vCPU", "vMem", "vDevice", "vUtilities"}, "five kinds of objects, no other")
        report.check(first.run() == SystemEvent(1), "the first vCPU is a flow of execution: it ends the machine")
        report.check(second.instructions == 0 and first.instructions > 0, "the second one is another, and did not run")
    with Kvm("bt", options=OPTIONS).create_vm() as other:
        other.set_user_memory_region(0, RAM, SIZE)
        report.check(other.read(entry, 8) == bytes(8), "another VM at the same addresses has memory of its own")
