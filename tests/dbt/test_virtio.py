"""virtio devices as a driver sees them, a good driver and bad ones; disks; and what the host refuses."""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path

import pytest
from support.riscv import Tally, scaled

from dbt.elf import NotRunnable
from dbt.machine.devices.block import (
    DISCARD,
    DISCARD_REQUEST,
    FLUSH,
    FLUSH_REQUEST,
    GET_ID,
    IN,
    IO_ERROR,
    OK,
    OUT,
    READ_ONLY,
    SECTOR,
    UNSUPPORTED,
    Block,
)
from dbt.machine.devices.console import Console
from dbt.machine.devices.entropy import Entropy
from dbt.machine.devices.virtio import CONFIG, NEEDS_RESET, Function, Virtio
from dbt.machine.devices.virtio_console import RECEIVE, TRANSMIT, VirtioConsole
from dbt.machine.devices.virtio_net import LINK_UP, LONGEST, MAC, STATUS, WAITING, VirtioNet
from dbt.machine.disks import CLUSTER, Overlay, Raw
from dbt.machine.memory import Memory
from dbt.machine.net.wire import Receive

RAM = 0x8000_0000
SIZE = 8  # of the queue
TABLE, DRIVER, DEVICE, BUFFERS = RAM, RAM + 0x1000, RAM + 0x2000, RAM + 0x1_0000
WRITE, NEXT = 2, 1


class Rig:
    """A device, and a driver for it."""

    def __init__(self, function: Function) -> None:
        self.memory = Memory()
        self.memory.add_ram(RAM, 1 << 20)
        self.line = False
        self.device = Virtio(function, self.memory, self._raise)
        self.given = 0
        self.index = 0

    def _raise(self, level: bool) -> None:
        self.line = level

    def reg(self, offset: int, value: int | None = None) -> int:
        if value is None:
            return self.device.read(offset, 4)
        self.device.write(offset, 4, value)
        return 0

    def start(self, features: int = 0, index: int = 0) -> Rig:
        """What a driver does first (VIRTIO 1.2, 3.1.1)."""
        self.index = index
        assert (self.reg(0), self.reg(4)) == (0x7472_6976, 2)
        self.reg(0x70, 0)
        self.reg(0x70, 3)
        self.reg(0x24, 0)
        self.reg(0x20, features)
        self.reg(0x24, 1)
        self.reg(0x20, 1)
        self.reg(0x70, 11)
        assert self.reg(0x70) == 11, "the features were refused"
        self.reg(0x30, index)
        assert self.reg(0x34) >= SIZE and not self.reg(0x44)
        self.reg(0x38, SIZE)
        for offset, address in ((0x80, TABLE), (0x90, DRIVER), (0xA0, DEVICE)):
            self.reg(offset, address)
            self.reg(offset + 4, 0)
        self.reg(0x44, 1)
        self.reg(0x70, 15)
        return self

    def number(self, address: int, size: int) -> int:
        return int.from_bytes(self.memory.peek(address, size), "little")

    def descriptor(self, index: int, address: int, length: int, flags: int, behind: int = 0) -> None:
        self.memory.poke(TABLE + 16 * index, struct.pack("<QIHH", address, length, flags, behind))

    def offer(self, head: int = 0) -> None:
        """Put a chain into the driver's ring, and notify."""
        self.memory.poke(DRIVER + 4 + 2 * (self.given % SIZE), head.to_bytes(2, "little"))
        self.given = self.given + 1 & 0xFFFF
        self.memory.poke(DRIVER + 2, self.given.to_bytes(2, "little"))
        self.reg(0x50, self.index)

    def request(self, *buffers: bytes | int) -> tuple[int, bytes]:
        """Send bytes and offer room, in order: how much was written, and what."""
        at, places = BUFFERS, []
        for i, buffer in enumerate(buffers):
            length = buffer if isinstance(buffer, int) else len(buffer)
            self.memory.poke(at, bytes([0xEE]) * length if isinstance(buffer, int) else buffer)
            last = i == len(buffers) - 1
            self.descriptor(i, at, length, (WRITE if isinstance(buffer, int) else 0) | (0 if last else NEXT), i + 1)
            if isinstance(buffer, int):
                places.append((at, length))
            at += length + 64
        self.offer()
        assert self.number(DEVICE + 2, 2) == self.given, "the request has not come back"
        entry = DEVICE + 4 + 8 * ((self.given - 1) % SIZE)
        assert self.number(entry, 4) == 0
        return self.number(entry + 4, 4), b"".join(self.memory.peek(*place) for place in places)


def header(kind: int, sector: int = 0) -> bytes:
    return struct.pack("<IIQ", kind, 0, sector)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A disk of 1,000 sectors, each of its number."""
    made = tmp_path / "disk"
    made.write_bytes(b"".join(i.to_bytes(2, "little") * (SECTOR // 2) for i in range(1000)))
    return made


def sector(number: int) -> bytes:
    return number.to_bytes(2, "little") * (SECTOR // 2)


# --- the transport ----------------------------------------------------------------------------------------------------


def test_features_that_were_not_offered_are_refused(path: Path) -> None:
    rig = Rig(Block(Raw(str(path))))
    for low, high in ((1, 1), (0, 3)):
        rig.reg(0x70, 0)
        rig.reg(0x24, 0)
        rig.reg(0x20, low)
        rig.reg(0x24, 1)
        rig.reg(0x20, high)
        rig.reg(0x70, 11)
        assert rig.reg(0x70) == 3


def test_a_disk_says_what_it_is(path: Path) -> None:
    rig = Rig(Block(Raw(str(path))))
    assert rig.reg(8) == 2 and rig.device.read(CONFIG, 8) == 1000 and rig.device.read(CONFIG + 20, 4) == SECTOR
    rig.reg(0x14, 0)
    assert rig.reg(0x10) & (FLUSH | DISCARD | READ_ONLY) == FLUSH | DISCARD
    rig.reg(0x14, 1)
    assert rig.reg(0x10) == 1
    read_only = Rig(Block(Raw(str(path), True)))
    read_only.reg(0x14, 0)
    assert read_only.reg(0x10) & (DISCARD | READ_ONLY) == READ_ONLY


def test_interrupts_are_acknowledged_and_can_be_declined(path: Path) -> None:
    rig = Rig(Block(Raw(str(path)))).start()
    rig.request(header(IN), SECTOR, 1)
    assert rig.line and rig.reg(0x60) == 1
    rig.reg(0x64, 1)
    assert not rig.line and rig.reg(0x60) == 0
    rig.memory.poke(DRIVER, b"\1\0")
    rig.request(header(IN), SECTOR, 1)
    assert not rig.line


def test_a_reset_forgets_the_queue(path: Path) -> None:
    rig = Rig(Block(Raw(str(path)))).start()
    rig.request(header(IN), SECTOR, 1)
    rig.reg(0x70, 0)
    assert not rig.line and rig.reg(0x44) == 0 and rig.reg(0x60) == 0
    rig.offer()
    assert rig.number(DEVICE + 2, 2) == 1


@pytest.mark.parametrize("wrong", ["loop", "index", "address", "ring", "order", "head", "no status", "huge"])
def test_a_driver_that_makes_no_sense_stops_its_device_and_nothing_else(path: Path, wrong: str) -> None:
    rig = Rig(Block(Raw(str(path)))).start()
    rig.memory.poke(BUFFERS, header(IN))
    head = 0
    rig.descriptor(0, BUFFERS, 16, NEXT, 1)
    rig.descriptor(1, BUFFERS + 64, SECTOR + 1, WRITE)
    match wrong:
        case "loop":
            rig.descriptor(1, BUFFERS + 64, 0, WRITE | NEXT, 1)
        case "index":
            rig.descriptor(0, BUFFERS, 16, NEXT, SIZE)
        case "address":
            rig.descriptor(1, 0x4000, SECTOR + 1, WRITE)
        case "ring":
            rig.reg(0xA0, 0x4000)
        case "order":
            rig.descriptor(1, BUFFERS + 64, SECTOR + 1, WRITE | NEXT, 2)
            rig.descriptor(2, BUFFERS + 64, 16, 0)
        case "head":
            head = 999
        case "no status":
            rig.descriptor(0, BUFFERS, 16, 0)
        case "huge":
            rig.descriptor(1, BUFFERS + 64, 0xFFFF_FFFF, WRITE)
    rig.offer(head)
    assert rig.reg(0x70) & NEEDS_RESET and rig.line and rig.reg(0x60) == 2
    rig.given = 0
    rig.memory.poke(DRIVER, bytes(0x1000))
    rig.memory.poke(DEVICE, bytes(0x1000))
    assert rig.start().request(header(IN, 3), SECTOR, 1) == (SECTOR + 1, sector(3) + b"\0")


# --- disks ------------------------------------------------------------------------------------------------------------


def test_sectors_are_read_and_written(path: Path) -> None:
    tally, rig = Tally("sectors"), Rig(Block(Raw(str(path)))).start()
    for number in (0, 1, 499, 999):
        tally.check(rig.request(header(IN, number), SECTOR, 1) == (SECTOR + 1, sector(number) + b"\0"))
    new = os.urandom(3 * SECTOR)
    tally.check(rig.request(header(OUT, 10), new[:SECTOR], new[SECTOR:], 1) == (1, b"\0"))
    tally.check(path.read_bytes()[10 * SECTOR : 13 * SECTOR] == new)
    tally.check(rig.request(header(IN, 9), 2 * SECTOR, 2 * SECTOR, 1)[1] == sector(9) + new + b"\0")
    tally.check(rig.request(header(FLUSH_REQUEST), 1) == (1, b"\0"))
    tally.check(rig.request(header(GET_ID), 20, 1)[1] == b"dragoman".ljust(20, b"\0") + b"\0")
    tally.check(rig.request(header(DISCARD_REQUEST) + struct.pack("<QII", 10, 2, 0), 1)[1] == b"\0")
    tally.check(rig.request(header(IN, 10), 3 * SECTOR, 1)[1] == bytes(2 * SECTOR) + new[2 * SECTOR :] + b"\0")
    tally.done()


@pytest.mark.parametrize(
    ("sent", "space", "status"),
    [
        ((header(IN, 1000),), SECTOR, IO_ERROR),
        ((header(IN, 999),), 2 * SECTOR, IO_ERROR),
        ((header(IN, (1 << 64) - 1),), SECTOR, IO_ERROR),
        ((header(IN),), 100, IO_ERROR),
        ((header(OUT, 1000), bytes(SECTOR)), 0, IO_ERROR),
        ((header(OUT), bytes(100)), 0, IO_ERROR),
        ((header(77),), 0, UNSUPPORTED),
        ((header(DISCARD_REQUEST), struct.pack("<QII", 999, 2, 0)), 0, IO_ERROR),
        ((header(DISCARD_REQUEST), struct.pack("<QII", 0, 2, 1)), 0, UNSUPPORTED),
        ((header(DISCARD_REQUEST), b"short"), 0, UNSUPPORTED),
    ],
)
def test_requests_that_cannot_be_done(path: Path, sent: tuple[bytes, ...], space: int, status: int) -> None:
    before = path.read_bytes()
    rig = Rig(Block(Raw(str(path)))).start()
    assert rig.request(*sent, space + 1)[1][-1] == status and not rig.reg(0x70) & NEEDS_RESET
    assert path.read_bytes() == before


def test_a_disk_that_is_read_only_is_not_written(path: Path) -> None:
    rig = Rig(Block(Raw(str(path), True))).start()
    assert rig.request(header(OUT), bytes(SECTOR), 1)[1] == bytes([IO_ERROR])
    assert rig.request(header(IN, 5), SECTOR, 1)[1] == sector(5) + bytes([OK])


def test_a_file_that_becomes_shorter_is_an_error_of_the_request(path: Path) -> None:
    rig = Rig(Block(Raw(str(path)))).start()
    os.truncate(path, 100 * SECTOR)
    assert rig.request(header(IN, 99), SECTOR, 1)[1][-1] == OK
    assert rig.request(header(IN, 100), SECTOR, 1)[1][-1] == IO_ERROR


def test_a_full_host_is_an_error_of_the_request(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(Block(Raw(str(path)))).start()

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, "pwrite", full)
    assert rig.request(header(OUT), bytes(SECTOR), 1)[1][-1] == IO_ERROR
    monkeypatch.setattr(os, "fsync", full)
    assert rig.request(header(FLUSH_REQUEST), 1)[1][-1] == IO_ERROR


def test_what_is_written_over_a_disk_leaves_it_as_it_is(path: Path) -> None:
    """Random writes, discards and reads against a model of bytes; 1,000 sectors are no whole number of clusters."""
    import random

    before, rng, tally = path.read_bytes(), random.Random(5), Tally("overlay")
    overlay, model = Overlay(Raw(str(path), True)), bytearray(before)
    for _ in range(300):
        first = rng.randrange(1000)
        count = min(rng.choice((1, 2, CLUSTER, CLUSTER + 1, 300)), 1000 - first)
        at = slice(first * SECTOR, (first + count) * SECTOR)
        match rng.randrange(3):
            case 0:
                model[at] = data = rng.randbytes(count * SECTOR)
                overlay.write(first, data)
            case 1:
                model[at] = bytes(count * SECTOR)
                overlay.discard(first, count)
        tally.check(overlay.read(first, count) == model[at])
    tally.check(overlay.read(0, 1000) == model and path.read_bytes() == before)
    overlay.close()
    tally.done()


@pytest.mark.parametrize(("name", "sentence"), [("tiny", "smaller than a sector"), ("folder", "is a directory")])
def test_what_is_no_disk_gets_a_sentence(tmp_path: Path, name: str, sentence: str) -> None:
    (tmp_path / "tiny").write_bytes(b"x" * 511)
    (tmp_path / "folder").mkdir()
    with pytest.raises(NotRunnable, match=sentence):
        Raw(str(tmp_path / name))
    with pytest.raises(FileNotFoundError):
        Raw(str(tmp_path / "absent"))
    with pytest.raises(NotRunnable, match="no file that could be a disk"):
        Raw("/dev/null", True)


# --- other devices ----------------------------------------------------------------------------------------------------


def test_random_bytes_come_from_the_source() -> None:
    rig = Rig(Entropy(lambda count: bytes(range(count)))).start()
    assert rig.request(16) == (16, bytes(range(16)))


def test_a_console_sends_lines_and_receives_what_has_arrived() -> None:
    sent: list[bytes] = []
    console = Console(sent.append)
    function = VirtioConsole(console)
    rig = Rig(function).start(index=TRANSMIT)
    assert rig.request(b"two buffers, ", b"one request\n")[0] == 0 and sent == [b"two buffers, one request\n"]
    rig = Rig(function).start(index=RECEIVE)
    function.listen(rig.device.serve)
    rig.descriptor(0, BUFFERS, 4, WRITE)
    rig.descriptor(1, BUFFERS + 64, 8, WRITE)
    rig.offer(0)
    rig.offer(1)
    assert rig.number(DEVICE + 2, 2) == 0
    console.feed(b"typed")
    assert rig.number(DEVICE + 2, 2) == 2 and rig.line
    assert rig.memory.peek(BUFFERS, 4) + rig.memory.peek(BUFFERS + 64, 1) == b"typed"


# --- the network device -----------------------------------------------------------------------------------------------


class Far:
    """The other end of a wire: it keeps what it is sent, and sends it back if it is an `echo`."""

    def __init__(self, echo: bool = False) -> None:
        self.frames: list[bytes] = []
        self.echo = echo
        self.receive: Receive = lambda frame: None

    def plug_in(self, receive: Receive) -> None:
        self.receive = receive

    def send(self, frame: bytes) -> None:
        self.frames.append(frame)
        if self.echo:
            self.receive(frame)

    def described(self) -> list[str]:
        return ["far"]

    def close(self) -> None:
        """There is nothing to close."""


ADDRESS = bytes.fromhex("525400123456")
PLAIN = bytes(12)  # the header of a frame without offloads


def test_a_network_device_says_its_address_and_that_its_link_is_up() -> None:
    rig = Rig(VirtioNet(ADDRESS, Far()))
    assert rig.reg(8) == 1 and bytes(rig.device.read(CONFIG + i, 1) for i in range(6)) == ADDRESS
    assert rig.device.read(CONFIG + 6, 2) == LINK_UP
    rig.reg(0x14, 0)
    assert rig.reg(0x10) == MAC | STATUS


def test_frames_are_sent_without_their_header() -> None:
    far = Far()
    rig = Rig(VirtioNet(ADDRESS, far)).start(MAC, TRANSMIT)
    frames = [os.urandom(length) for length in (14, 60, LONGEST)]
    for frame in frames:
        assert rig.request(PLAIN, frame[:7], frame[7:])[0] == 0 and rig.line
    assert rig.request(PLAIN, os.urandom(LONGEST + 1))[0] == 0
    assert far.frames == frames


def test_frames_wait_for_buffers_and_the_newest_are_lost_when_too_many_wait() -> None:
    far = Far()
    rig = Rig(VirtioNet(ADDRESS, far)).start(MAC, RECEIVE)
    frames = [os.urandom(14 + i % 1000) for i in range(WAITING + 5)]
    for frame in frames:
        far.receive(frame)
    assert not rig.line
    for frame in frames[:WAITING]:
        written, data = rig.request(12, 600, 2000)
        assert written == 12 + len(frame) and data[:written] == PLAIN[:10] + b"\1\0" + frame and rig.line
    rig.descriptor(0, BUFFERS, 2000, WRITE)
    rig.offer()
    assert rig.number(DEVICE + 2, 2) == WAITING  # no frame is left for this buffer
    far.receive(b"a frame that finds it")
    assert rig.number(DEVICE + 2, 2) == WAITING + 1
    assert rig.memory.peek(BUFFERS + 12, 21) == b"a frame that finds it"


def test_another_machine_does_not_get_frames_of_the_one_before() -> None:
    far = Far()
    function = VirtioNet(ADDRESS, far)
    Rig(function)
    far.receive(b"of before")
    rig = Rig(function).start(MAC, RECEIVE)
    rig.descriptor(0, BUFFERS, 2000, WRITE)
    rig.offer()
    far.receive(b"of now")
    assert rig.number(DEVICE + 2, 2) == 1 and rig.memory.peek(BUFFERS + 12, 6) == b"of now"


@pytest.mark.parametrize(
    ("index", "buffers", "sound"),
    [
        (TRANSMIT, (b"short",), False), (TRANSMIT, (PLAIN,), True), (TRANSMIT, (b"\1" + PLAIN[1:], b"x" * 60), False),
        (TRANSMIT, (b"\0\1" + PLAIN[2:], b"x" * 60), False), (TRANSMIT, (2000,), False), (RECEIVE, (71,), False),
        (RECEIVE, (72,), True), (RECEIVE, (PLAIN,), False),
    ],
)  # fmt: skip
def test_buffers_of_a_network_driver_that_make_no_sense(
    index: int, buffers: tuple[bytes | int, ...], sound: bool
) -> None:
    """They end as those of a disk do: the device needs a reset, and serves again after one."""
    far = Far()
    rig = Rig(VirtioNet(ADDRESS, far)).start(MAC, index)
    far.receive(b"x" * 60)
    if sound:
        rig.request(*buffers)
    else:
        places = [(BUFFERS + 4096 * i, buffer) for i, buffer in enumerate(buffers)]
        for i, (at, buffer) in enumerate(places):
            length = buffer if isinstance(buffer, int) else len(buffer)
            rig.memory.poke(at, bytes(length) if isinstance(buffer, int) else buffer)
            flags = (WRITE if isinstance(buffer, int) else 0) | (NEXT if i + 1 < len(places) else 0)
            rig.descriptor(i, at, length, flags, i + 1)
        rig.offer()
    assert bool(rig.reg(0x70) & NEEDS_RESET) == (not sound)
    far.receive(b"y" * 60)
    rig.given = 0
    for ring in (DRIVER, DEVICE):
        rig.memory.poke(ring, bytes(0x1000))
    rig.start(MAC, TRANSMIT).request(PLAIN, b"z" * 60)
    assert far.frames[-1] == b"z" * 60


def test_hostile_rings_of_a_network_driver() -> None:
    """Random descriptors, rings and registers, and frames that come in between: no error of ours comes out."""
    import random

    rng, tally, far = random.Random(6), Tally("rings"), Far(echo=True)
    for _ in range(scaled(60)):
        rig = Rig(VirtioNet(ADDRESS, far)).start(MAC, rng.choice((RECEIVE, TRANSMIT)))
        for _ in range(40):
            match rng.randrange(6):
                case 0:
                    rig.memory.poke(rng.choice((TABLE, DRIVER, DEVICE)) + rng.randrange(300), rng.randbytes(8))
                case 1:
                    rig.descriptor(rng.randrange(SIZE), BUFFERS + rng.randrange(5000), rng.choice((0, 12, 72, 1600)),
                                   rng.randrange(4), rng.randrange(SIZE + 1))  # fmt: skip
                case 2:
                    rig.reg(rng.choice((0x50, 0x30, 0x38, 0x44, 0x64, 0x80, 0x90, 0xA0)), rng.randrange(1 << 32))
                case 3:
                    rig.reg(0x50, rng.randrange(3))
                case 4:
                    far.receive(rng.randbytes(rng.randrange(14, 1514)))
                case _:
                    rig.offer(rng.randrange(SIZE + 1))
        tally.check(rig.reg(0x70) in (15, 15 | NEEDS_RESET))
        far.frames.clear()
    tally.done()
