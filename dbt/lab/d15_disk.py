"""D15: a virtual device, whose driver knows it: one exit for a request, or for several; of a UART, one for a byte."""

from __future__ import annotations

import os
import struct
import tempfile
from random import Random
from typing import NamedTuple

from dbt.lab.report import Report
from dbt.lab.workbench import RAM, WARM, answered, asm, hart, riscv, start_virtio
from dbt.machine.boards import VIRT, VIRTIO
from dbt.machine.devices.block import IN, OUT, SECTOR, Block
from dbt.machine.devices.console import Console
from dbt.machine.devices.uart import Uart
from dbt.machine.devices.virtio import Virtio
from dbt.machine.disks import Raw
from dbt.machine.exits import Intr
from guests.spec import Guest

SECTORS, PRINTED = 100, 4  # sectors that go to the disk and come back, and that go to the UART
BATCH = 4  # requests for one notification, where it is not one
CHAINS = 64  # requests that the queue has room for, of four descriptors each
TABLE, DRIVER, DEVICE, HEADS, BUFFERS = (RAM + 0x10_0000 * (1 + i) for i in range(5))
STATUSES = HEADS + 16 * CHAINS
DISK, UART = VIRTIO[0].base, VIRT["serial"].base
T0, T1, T2, A1, A2, A3, S2, S3, S4, S5 = 5, 6, 7, 11, 12, 13, 18, 19, 20, 21
NEXT, WRITES = 1, 2  # flags of a descriptor


class Ran(NamedTuple):
    """What a run has cost, in exits, and what came of it: buffers and statuses of the guest."""

    exits: int
    buffers: bytes
    statuses: bytes


def driver(guest: Guest, batch: int) -> list[int]:
    """Make a request of each sector, in order, and tell of every `batch` of them; then spin."""
    words = [
        asm(guest, "andi", rd=T1, rs1=T0, imm=CHAINS - 1),
        asm(guest, "slli", rd=T2, rs1=T1, imm=6), asm(guest, "add", rd=A3, rs1=S5, rs2=T2),
        asm(guest, "sd", rs1=A3, rs2=A1, imm=16),  # its buffer
        asm(guest, "slli", rd=T2, rs1=T1, imm=4), asm(guest, "add", rd=A3, rs1=A2, rs2=T2),
        asm(guest, "sd", rs1=A3, rs2=T0, imm=8),  # its sector
        asm(guest, "addi", rd=T0, rs1=T0, imm=1), asm(guest, "addi", rd=A1, rs1=A1, imm=SECTOR),
        asm(guest, "sh", rs1=S3, rs2=T0, imm=2),  # it is available
        asm(guest, "andi", rd=T1, rs1=T0, imm=batch - 1), asm(guest, "bne", rs1=T1, rs2=0, imm=12),
        asm(guest, "fence", fm=0, pred=15, succ=15, rs1=0, rd=0),
        asm(guest, "sw", rs1=S4, rs2=0, imm=0x50),
    ]  # fmt: skip
    return [*words, asm(guest, "bne", rs1=T0, rs2=S2, imm=-4 * len(words)), asm(guest, "jal", rd=0, imm=0)]


def sectors(engine: str, path: str, kind: int, buffers: bytes, batch: int = 1) -> Ran:
    """Requests of all sectors, for a disk that is the caller's; its queue is set up as a driver does at its start."""
    vcpu = hart(driver(riscv(), batch), engine, WARM)
    memory, slots = vcpu.vm.memory, vcpu.state.slots
    vcpu.vm.add_mmio(DISK, Virtio.size)
    image = Raw(path)
    disk = Virtio(Block(image), memory, lambda level: None)
    start_virtio(disk, 0, 4 * CHAINS, TABLE, DRIVER, DEVICE)
    for i in range(CHAINS):
        memory.poke(HEADS + 16 * i, struct.pack("<IIQ", kind, 0, 0))
        for j, (address, length, flags) in enumerate((
            (HEADS + 16 * i, 16, NEXT), (0, SECTOR, NEXT | WRITES * (kind == IN)), (STATUSES + i, 1, WRITES),
        )):  # fmt: skip
            memory.poke(TABLE + 16 * (4 * i + j), struct.pack("<QIHH", address, length, flags, 4 * i + j + 1))
    memory.poke(DRIVER + 4, struct.pack(f"<{4 * CHAINS}H", *(4 * (i % CHAINS) for i in range(4 * CHAINS))))
    memory.poke(STATUSES, b"\xff" * CHAINS)
    memory.poke(BUFFERS, buffers)
    for register, value in {S2: SECTORS, S3: DRIVER, S4: DISK, S5: TABLE, A1: BUFFERS, A2: HEADS}.items():
        slots[register] = value
    exit, exits = answered(vcpu.vm, {DISK: disk}, 50 * SECTORS)
    assert isinstance(exit, Intr)
    image.close()
    return Ran(len(exits), memory.peek(BUFFERS, len(buffers)), memory.peek(STATUSES, CHAINS))


def bytewise(engine: str, data: bytes) -> tuple[int, bytes]:
    """Send bytes to a UART that is the caller's: exits, and what arrived."""
    guest = riscv()
    words = [asm(guest, "lb", rd=T1, rs1=A1, imm=0), asm(guest, "sb", rs1=S4, rs2=T1, imm=0),
             asm(guest, "addi", rd=A1, rs1=A1, imm=1), asm(guest, "bne", rs1=A1, rs2=S2, imm=-12),
             asm(guest, "jal", rd=0, imm=0)]  # fmt: skip
    vcpu, arrived = hart(words, engine, WARM), bytearray()
    vcpu.vm.add_mmio(UART, Uart.size)
    vcpu.vm.memory.poke(BUFFERS, data)
    for register, value in {S4: UART, A1: BUFFERS, S2: BUFFERS + len(data)}.items():
        vcpu.state.slots[register] = value
    _, exits = answered(vcpu.vm, {UART: Uart(Console(arrived.extend), lambda level: None)}, 5 * len(data))
    return len(exits), bytes(arrived)


def run(report: Report) -> None:
    data, zeros = Random(15).randbytes(SECTORS * SECTOR), bytes(SECTORS * SECTOR)
    for engine in ("reference", "translated"):
        report.say(f"{SECTORS} sectors to a disk, and back from it, in the {engine} engine")
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "disk")
            with open(path, "wb") as file:
                file.write(zeros)
            written = sectors(engine, path, OUT, data)
            with open(path, "rb") as file:
                image = file.read()
            read = sectors(engine, path, IN, zeros)
            batches = sectors(engine, path, IN, zeros, BATCH)
        figures = (("written", written), ("read", read), (f"read, {BATCH} at once", batches))
        for what, ran in figures:
            report.figure(f"exits, {what}", ran.exits)
        report.check(image == data, "the image has the bytes that were written")
        report.check(read.buffers == batches.buffers == data, "and they come back")
        report.check(not any(any(ran.statuses) for _, ran in figures), "each request has the status of success")
        report.check(written.exits == read.exits == SECTORS, "one exit for each request: the notification")
        report.check(batches.exits == SECTORS // BATCH, f"one for {BATCH} requests, where they are told of together")
        exits, arrived = bytewise(engine, data[: PRINTED * SECTOR])
        report.figure(f"exits of {PRINTED} sectors to a UART", exits)
        report.check(arrived == data[: PRINTED * SECTOR], "the UART has sent them")
        report.check(exits == PRINTED * SECTOR, "a UART: one exit for each byte")
