"""D16: a card of two functions, each of them one guest's own: no exits, no way to the other's registers or memory.

The same packets go out by an emulated device, by a virtual one and by one that is passed through; the table has what
each costs in exits.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import NamedTuple

from dbt.kvm import KvmError, Mmio, SystemEvent, Vcpu, Vm
from dbt.lab.exercises.machines import guest, words_of
from dbt.lab.report import Report
from dbt.lab.simple_monitor import LOAD_FAULT, METHODS, RAM, SIZE
from dbt.lab.workbench import start_virtio
from dbt.machine.devices.virtio import Virtio
from dbt.machine.devices.virtio_net import TRANSMIT, VirtioNet
from dbt.machine.memory import Device

PAGE = 0x1000
CARD = 0x4000_0000  # in each guest: its function. The other one is behind it on the card
PACKETS, LENGTH, BATCH = 64, 64, 16
BUFFER = RAM + 0x10_0000  # the same address in both guests
OUTSIDE = RAM + SIZE  # where neither has memory
TABLE, AVAILABLE, USED = RAM + 0x20_0000, RAM + 0x21_0000, RAM + 0x22_0000
HEADER, STRIDE = 12, 128  # bytes of virtio's in front of a packet; from one packet to the next
SEND_FROM, SEND, RECEIVE_AT, RECEIVED, FAULTS = 0, 8, 16, 24, 32  # registers of a function
ACCESS_FAULT = 5

END = """
        li a7, 8
        ecall
"""
SENDER = """
next:   sd s3, 0(s1)        # the packet: a number
        sd s1, 0(s0)        # its address
        sd s4, 8(s0)        # its length: it goes
        addi s3, s3, 1
        addi s2, s2, -1
        bnez s2, next
"""
RECEIVER = """
next:   sd s1, 16(s0)       # a buffer for a packet
wait:   ld t0, 24(s0)       # the length of what has come
        beqz t0, wait
        ld t1, 0(s1)
        add s3, s3, t1
        addi s2, s2, -1
        bnez s2, next
"""
VIRTUAL = """
next:   sw s3, 12(s1)
        addi s1, s1, 128
        addi s3, s3, 1
        addi t0, t0, 1
        andi t1, t0, 15
        bnez t1, next
        sh t0, 2(s4)        # so many are available
        fence rw, rw
        sw s5, 0x50(s0)     # the queue is told of
        bne t0, s2, next
"""


class Remapping:
    """What stands between a card and memory: of which machine a function's addresses are. `faults` are accesses that
    were refused: function, address.
    """

    def __init__(self) -> None:
        self.domains: dict[int, Vm] = {}
        self.faults: list[tuple[int, int]] = []

    def read(self, function: int, address: int, size: int) -> bytes | None:
        """Memory; None where there is none."""
        try:
            return self.domains[function].read(address, size)
        except KvmError:
            self.faults.append((function, address))
            return None

    def write(self, function: int, address: int, data: bytes) -> bool:
        """Whether it was written."""
        try:
            self.domains[function].write(address, data)
        except KvmError:
            self.faults.append((function, address))
            return False
        return True


class Function:
    """One of a card, with a page of registers: 64 bits each. Packets go by a wire to the other one, `peer`."""

    size = PAGE

    def __init__(self, number: int, remapping: Remapping) -> None:
        self.name = f"function {number}"
        self.number = number
        self.peer: Function
        self.accesses = 0
        self._remapping = remapping
        self._registers = dict.fromkeys((SEND_FROM, SEND, RECEIVE_AT, RECEIVED, FAULTS), 0)
        self._waiting: deque[bytes] = deque()

    def read(self, offset: int, size: int) -> int:
        self.accesses += 1
        return self._registers.get(offset, 0)

    def write(self, offset: int, size: int, value: int) -> None:
        self.accesses += 1
        if offset in (SEND_FROM, SEND, RECEIVE_AT):
            self._registers[offset] = value
        if offset == SEND:
            packet = self._remapping.read(self.number, self._registers[SEND_FROM], min(value, PAGE))
            if packet is None:
                self._registers[FAULTS] += 1
            else:
                self.peer.arrive(packet)
        elif offset == RECEIVE_AT:
            self._registers[RECEIVED] = 0
            self._deliver()

    def arrive(self, packet: bytes) -> None:
        """A packet has come by the wire."""
        self._waiting.append(packet)
        self._deliver()

    def _deliver(self) -> None:
        """Into the buffer, if there is one."""
        if self._waiting and self._registers[RECEIVE_AT]:
            packet, at = self._waiting.popleft(), self._registers[RECEIVE_AT]
            if self._remapping.write(self.number, at, packet):
                self._registers[RECEIVED] = len(packet)
            else:
                self._registers[FAULTS] += 1
            self._registers[RECEIVE_AT] = 0


def card(remapping: Remapping) -> tuple[Function, Function]:
    """Both functions of a card, connected."""
    first, second = Function(0, remapping), Function(1, remapping)
    first.peer, second.peer = second, first
    return first, second


def driver(method: str, text: str, function: Function, own: bool, **registers: int) -> Vcpu:
    """A guest with a function of the card: its own, or one that a monitor emulates."""
    vcpu = guest(words_of(text + END), method, s0=CARD, s1=BUFFER, s2=PACKETS, s4=LENGTH, **registers)
    if own:
        vcpu.vm.assign_device(CARD, function)
    return vcpu


def emulate(vcpu: Vcpu, device: Device) -> int:
    """Run a guest to its end, and make each access that leaves it; the exits, but for the last one."""
    while isinstance(exit := vcpu.run(), Mmio):
        at = exit.address - CARD
        if exit.is_write:
            device.write(at, exit.size, exit.data)
        else:
            vcpu.reply(device.read(at, exit.size))
    assert exit == SystemEvent(1), exit
    return vcpu.stats.total - 1


class Pair(NamedTuple):
    """Two guests that have talked: the exits of each, the accesses of its function; the sum that came; both buffers."""

    exits: tuple[int, int]
    accesses: tuple[int, int]
    received: int
    buffers: tuple[bytes, bytes]
    faults: list[tuple[int, int]]


def talk(method: str, own: bool) -> Pair:
    """One guest sends PACKETS to the other."""
    remapping = Remapping()
    functions = card(remapping)
    with driver(method, SENDER, functions[0], own, s3=1).vm as a, driver(method, RECEIVER, functions[1], own).vm as b:
        remapping.domains = {0: a, 1: b}
        exits = tuple(emulate(vm.vcpus[0], function) for vm, function in zip((a, b), functions))
        return Pair((exits[0], exits[1]), (functions[0].accesses, functions[1].accesses), b.vcpus[0].get("s3"),
                    (a.read(BUFFER, 8), b.read(BUFFER, 8)), remapping.faults)  # fmt: skip


class Collector:
    """The end of a wire, which keeps what comes."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.send = self.frames.append

    def plug_in(self, receive: object) -> None:
        """Nothing is sent from here."""

    def described(self) -> list[str]:
        return [f"{len(self.frames)} frames"]

    def close(self) -> None:
        """There is nothing to close."""


def virtual(method: str) -> tuple[int, list[bytes]]:
    """The same packets by a virtual device, BATCH to a notification: exits, and what came."""
    vcpu = guest(words_of(VIRTUAL + END), method, s0=CARD, s1=BUFFER, s2=PACKETS, s3=1, s4=AVAILABLE, s5=TRANSMIT)
    with vcpu.vm as vm:
        wire = Collector()
        device = Virtio(VirtioNet(bytes(6), wire), vm.memory, lambda level: None)
        start_virtio(device, TRANSMIT, PACKETS, TABLE, AVAILABLE, USED)
        for i in range(PACKETS):
            vm.write(TABLE + 16 * i, struct.pack("<QIHH", BUFFER + STRIDE * i, HEADER + LENGTH, 0, 0))
        vm.write(AVAILABLE + 4, struct.pack(f"<{PACKETS}H", *range(PACKETS)))
        return emulate(vcpu, device), wire.frames


def across(method: str) -> tuple[int, int, int, int]:
    """A guest looks for the other function behind its own: scause, guest-physical address, what its own handler then
    finds in its own registers, and accesses of that function.
    """
    functions = card(Remapping())
    vcpu = driver(method, "ld t0, 0(s3)", functions[0], True, s3=CARD + PAGE, stvec=RAM + 0x100)
    with vcpu.vm:
        trap = vcpu.enter()
        vcpu.inject(ACCESS_FAULT, trap.stval)
        return trap.scause, trap.gpa, vcpu.get("scause"), functions[1].accesses


def stray(method: str) -> tuple[list[tuple[int, int]], int, int]:
    """A guest tells its function of memory that it does not have: refused accesses; what its register counts; and
    packets that have come to the other one.
    """
    remapping = Remapping()
    functions = card(remapping)
    vcpu = driver(method, SENDER.replace("sd s3, 0(s1)", "nop"), functions[0], True, s3=0)
    with vcpu.vm as vm:
        remapping.domains = {0: vm}
        vcpu.set(s1=OUTSIDE, s2=1)
        emulate(vcpu, functions[0])
        return remapping.faults, functions[0].read(FAULTS, 8), len(functions[1]._waiting)


def run(report: Report) -> None:
    table = [("", "emulated: sender, receiver", f"virtual, {BATCH} at once", "passed through: both")]
    for method in METHODS:
        emulated, passed = talk(method, False), talk(method, True)
        exits, frames = virtual(method)
        table.append((method, f"{emulated.exits[0]}, {emulated.exits[1]}", f"{exits}",
                      f"{passed.exits[0]}, {passed.exits[1]}"))  # fmt: skip
        each = (2 * PACKETS, 2 * PACKETS)
        report.say(f"{method}: {PACKETS} packets of {LENGTH} bytes from one guest to another")
        report.check(emulated.exits == emulated.accesses == each, "emulated: each access of a register is an exit")
        report.check(exits == PACKETS // BATCH, f"virtual: one exit for {BATCH} packets")
        report.check(passed.exits == (0, 0) and passed.accesses == each,
                     "passed through: as many accesses, and no exit at all")  # fmt: skip
        numbers = range(1, PACKETS + 1)
        report.check(emulated.received == passed.received == sum(numbers)
                     and [int.from_bytes(frame[:8], "little") for frame in frames] == list(numbers),
                     "all packets come, in each of the three ways")  # fmt: skip
        ends = tuple(int.from_bytes(buffer, "little") for buffer in passed.buffers)
        report.check(ends == (PACKETS, PACKETS) and not passed.faults,
                     "both have their packets at the same address: each function's is its own guest's")  # fmt: skip
        cause, gpa, seen, touched = across(method)
        report.check(
            (cause, gpa, seen, touched) == (LOAD_FAULT, CARD + PAGE, ACCESS_FAULT, 0),
            f"the other function is not there ({gpa:#x}): an exit, and an access fault for the guest",
        )
        faults, counted, packets = stray(method)
        report.check((faults, counted, packets) == ([(0, OUTSIDE)], 1, 0),
                     f"an address that the guest does not have ({OUTSIDE:#x}) is refused to its function")  # fmt: skip
    report.say(f"exits for {PACKETS} packets")
    for line in table:
        report.show(f"{line[0]:8}{line[1]:>28}{line[2]:>24}{line[3]:>24}")
