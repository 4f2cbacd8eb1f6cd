"""Boards as data: where their devices are, which interrupts they have, and the device tree that tells a guest of them.

`virt` follows QEMU's board of that name, so that kernels for it start unchanged. Owns: memory maps, device trees,
the order in which a machine is put together. Must not know: files, terminals.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from dbt.machine import fdt
from dbt.machine.devices.aclint import Aclint
from dbt.machine.devices.console import Console
from dbt.machine.devices.finisher import Finisher
from dbt.machine.devices.htif import Htif
from dbt.machine.devices.plic import SOURCES, Plic
from dbt.machine.devices.rtc import Rtc
from dbt.machine.devices.uart import Uart
from dbt.machine.devices.virtio import Function, Nothing, Virtio
from dbt.machine.exits import SYSTEM_EVENT_CRASH, SYSTEM_EVENT_RESET, SYSTEM_EVENT_SHUTDOWN, SystemEvent
from dbt.machine.memory import Device
from dbt.machine.pool import Pool
from dbt.machine.vm import Machine, Vcpu
from dbt.options import Options
from guests.spec import Guest

TIMEBASE = 10_000_000  # ticks of `time` a second
EPOCH = 1_700_000_000 * 1_000_000_000  # nanoseconds since 1970, in 2023: when a machine begins that is not told


class Place(NamedTuple):
    """Where a device is, and its source at the PLIC."""

    base: int
    irq: int = 0


VIRT = {
    "rom": Place(0x1000),
    "test": Place(0x10_0000),
    "rtc": Place(0x10_1000, 11),
    "clint": Place(0x200_0000),
    "plic": Place(0xC00_0000),
    "serial": Place(0x1000_0000, 10),
    "ram": Place(0x8000_0000),
}
VIRTIO = [Place(0x1000_1000 + 0x1000 * i, 1 + i) for i in range(8)]  # transports, in the order of devices
IRQS = {place.base: place.irq for place in (*VIRT.values(), *VIRTIO) if place.irq}
ROM_SIZE = 0x1000
PLIC_HANDLE, TEST_HANDLE, HARTS_HANDLE = 1, 2, 3  # phandles; those of harts follow one another
MODES = (11, 9)  # interrupts of a hart that the PLIC's contexts raise


class Platform:
    """What firmware of ours wants of a board, for a hart (`guests.riscv.sbi.Platform`)."""

    def __init__(self, board: Board, vcpu: Vcpu) -> None:
        self._vm = board.vm
        self._vcpu = vcpu
        self.put = board.console.output
        self.get = board.console.get
        self.read = board.vm.memory.peek
        self.write = board.vm.memory.poke
        self.load = vcpu.space.load

    def shut_down(self, failed: bool) -> None:
        self._vm.end(SystemEvent(SYSTEM_EVENT_CRASH, 1) if failed else SystemEvent(SYSTEM_EVENT_SHUTDOWN))

    def restart(self) -> None:
        self._vm.end(SystemEvent(SYSTEM_EVENT_RESET))

    def go_to(self, address: int) -> None:
        self._vcpu.state.pc = address
        self._vcpu.space.remap()


class Board:
    """A machine of the board `virt` with this much RAM, and harts. `reset` puts them at the beginning.

    `epoch`: what its clock of the day shows then, in nanoseconds since 1970. `pool`: whose pages its RAM is made of.
    `vcpu` is the hart that people look at, the first until they choose another.
    """

    def __init__(
        self, guest: Guest, ram: int, console: Console, engine: str = "reference", options: Options | None = None,
        epoch: int = EPOCH, harts: int = 1, pool: Pool | None = None,
    ) -> None:  # fmt: skip
        self.guest = guest
        self.console = console
        self.ram = ram
        self.vm = Machine(guest, engine, options).create_vm(pool)
        self.vm.set_user_memory_region(VIRT["ram"].base, ram)
        self.vm.set_user_memory_region(VIRT["rom"].base, ROM_SIZE)
        self.vcpus = [self.vm.create_vcpu() for _ in range(harts)]
        self.vcpu = self.vcpus[0]
        lines = [vcpu.set_line for vcpu in self.vcpus]
        self.mistaken: Callable[[str, str], None] = lambda device, what: None  # told of what a driver did wrong
        self.plic = plic = Plic(lines)
        self._add(Finisher(self.vm.end))
        self._add(Aclint(self.vm.clock, self.vm.events, lines))
        self._add(plic)
        self._add(Rtc(self.vm.clock, self.vm.events, lambda level: plic.raise_source(VIRT["rtc"].irq, level), epoch))
        self._add(Uart(console, lambda level: plic.raise_source(VIRT["serial"].irq, level)))
        self._transports = [self._transport(place) for place in VIRTIO]

    def _add(self, device: Device) -> None:
        self.vm.add_device(VIRT[device.name].base, device)

    def _transport(self, place: Place) -> Virtio:
        """A transport at its place, without a device."""
        transport = Virtio(
            Nothing(), self.vm.memory, lambda level: self.plic.raise_source(place.irq, level),
            lambda what: self.mistaken(transport.name, what),
        )  # fmt: skip
        self.vm.add_device(place.base, transport)
        return transport

    def add_virtio(self, function: Function, number: int = 0) -> Virtio:
        """Put a virtio device at the transport of this number, before the machine starts."""
        self._transports[number].attach(function)
        return self._transports[number]

    def add_htif(self, symbols: Mapping[str, int]) -> None:
        """The interface of test programs, where their symbols are."""
        htif = Htif(self.vm.memory, self.console, self.vm.end)
        for device in (htif.tohost, htif.fromhost):
            if device.name in symbols:
                self.vm.add_device(symbols[device.name], device)

    def reset(self, start: int, tree: int, next_stage: int = 0) -> None:
        """All harts begin in ROM, which leads to `start` and hands on the device tree."""
        rom = VIRT["rom"].base
        self.vm.memory.poke(rom, self.vcpu.privileged.reset_rom(start, tree, next_stage))
        for vcpu in self.vcpus:
            vcpu.reset(rom)

    def start_supervisor(self, start: int, tree: int) -> None:
        """The first hart begins at `start` as a supervisor, which starts the others; firmware of ours answers it."""
        harts: list[Any] = []
        for vcpu in self.vcpus:
            vcpu.reset(start)
            vcpu.firmware = vcpu.privileged.firmware(vcpu.state.slots, Platform(self, vcpu), harts)
            vcpu.firmware.stop()
        harts[0].begin(tree)

    def tree(
        self, arguments: str = "", initrd: tuple[int, int] | None = None, own: fdt.Node | None = None
    ) -> bytes:
        """The device tree, flattened: the user's own, or that of the board.

        `initrd` is where the kernel's file system begins, and behind its last byte. Both trees are told of it and of
        the kernel's arguments.
        """
        tree = dict(self._tree() if own is None else own)
        chosen = tree["chosen"] = dict(tree.get("chosen", {}))
        if arguments:
            chosen["bootargs"] = arguments
        if initrd is not None:
            chosen["linux,initrd-start"] = fdt.cells(initrd[0])
            chosen["linux,initrd-end"] = fdt.cells(initrd[1])
        return fdt.flatten(tree)

    def _tree(self) -> dict[str, Any]:
        return {
            "#address-cells": 2,
            "#size-cells": 2,
            "compatible": "riscv-virtio",
            "model": "riscv-virtio,dragoman",
            "chosen": {"stdout-path": f"/soc/serial@{VIRT['serial'].base:x}"},
            f"memory@{VIRT['ram'].base:x}": {
                "device_type": "memory",
                "reg": fdt.cells(VIRT["ram"].base, self.ram),
            },
            "cpus": {
                "#address-cells": 1,
                "#size-cells": 0,
                "timebase-frequency": TIMEBASE,
                **{
                    f"cpu@{vcpu.number}": vcpu.privileged.cpu_node(vcpu.number, HARTS_HANDLE + vcpu.number)
                    for vcpu in self.vcpus
                },
            },
            "soc": self._soc(),
            "poweroff": {
                "compatible": "syscon-poweroff", "regmap": TEST_HANDLE, "offset": 0, "value": 0x5555,
            },
            "reboot": {
                "compatible": "syscon-reboot", "regmap": TEST_HANDLE, "offset": 0, "value": 0x7777,
            },
        }  # fmt: skip

    def _soc(self) -> dict[str, Any]:
        def at(name: str, size: int) -> list[int]:
            return fdt.cells(VIRT[name].base, size)

        def interrupts(*numbers: int) -> list[int]:
            return [cell for vcpu in self.vcpus for number in numbers for cell in (HARTS_HANDLE + vcpu.number, number)]

        virtio = {
            f"virtio_mmio@{place.base:x}": {
                "compatible": "virtio,mmio",
                "reg": fdt.cells(place.base, 0x1000),
                "interrupt-parent": PLIC_HANDLE,
                "interrupts": place.irq,
            }
            for place in VIRTIO
        }
        return {
            "#address-cells": 2,
            "#size-cells": 2,
            "compatible": "simple-bus",
            "ranges": None,
            **virtio,
            f"test@{VIRT['test'].base:x}": {
                "compatible": ["sifive,test1", "sifive,test0", "syscon"],
                "reg": at("test", Finisher.size),
                "phandle": TEST_HANDLE,
            },
            f"rtc@{VIRT['rtc'].base:x}": {
                "compatible": "google,goldfish-rtc",
                "reg": at("rtc", Rtc.size),
                "interrupt-parent": PLIC_HANDLE,
                "interrupts": VIRT["rtc"].irq,
            },
            f"clint@{VIRT['clint'].base:x}": {
                "compatible": ["sifive,clint0", "riscv,clint0"],
                "reg": at("clint", Aclint.size),
                "interrupts-extended": interrupts(3, 7),
            },
            f"plic@{VIRT['plic'].base:x}": {
                "compatible": ["sifive,plic-1.0.0", "riscv,plic0"],
                "reg": at("plic", Plic.size),
                "#address-cells": 0,
                "#interrupt-cells": 1,
                "interrupt-controller": None,
                "interrupts-extended": interrupts(*MODES),
                "riscv,ndev": SOURCES - 1,
                "phandle": PLIC_HANDLE,
            },
            f"serial@{VIRT['serial'].base:x}": {
                "compatible": "ns16550a",
                "reg": at("serial", Uart.size),
                "clock-frequency": 3_686_400,
                "interrupt-parent": PLIC_HANDLE,
                "interrupts": VIRT["serial"].irq,
            },
        }
