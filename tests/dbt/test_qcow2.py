"""Images of format qcow2: against a model of bytes, a second reader of the format, and QEMU with our kernel."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest
from support import peers, qcow2, tablefs
from support.qemu_system import console
from support.riscv import Tally, scaled

from dbt.elf import NotRunnable
from dbt.machine.devices.block import SECTOR, Image
from dbt.machine.disks import Overlay, open_image
from guests.programs import system_file

SIZE = 600 * SECTOR
KERNEL = Path(system_file("kernel"))


def content(image: Image) -> bytes:
    return image.read(0, image.sectors)


def clusters(random: Random, bits: int, version: int) -> dict[int, bytes | None]:
    """Random contents of some clusters, some of which are zeros by their entry."""
    found: dict[int, bytes | None] = {}
    for number in range(SIZE >> bits):
        if random.random() < 0.5:
            zero = version == 3 and random.random() < 0.2
            found[number] = None if zero else random.randbytes(40) * ((1 << bits) // 40 + 1)
            if not zero:
                found[number] = (found[number] or b"")[: 1 << bits]
    return found


@pytest.mark.parametrize(("bits", "version", "order"), [(9, 3, 4), (12, 2, 4), (12, 3, 3), (16, 3, 6), (10, 3, 5)])
@pytest.mark.parametrize("shared", [False, True])
def test_reads_writes_and_discards(tmp_path: Path, bits: int, version: int, order: int, shared: bool) -> None:
    """Random ones against bytes; the counts of references are right afterwards, and a snapshot has what it had."""
    random, tally = Random(bits), Tally("accesses")
    below = random.randbytes(SIZE - 100 * SECTOR)  # a smaller disk
    (tmp_path / "below").write_bytes(below)
    had = clusters(random, bits, version)
    packed = frozenset(number for number in had if had[number] is not None and random.random() < 0.3)
    path = tmp_path / "image"
    made = qcow2.make(SIZE, had, bits=bits, version=version, order=order, packed=packed, backing=("below", "raw"),
                      shared=shared)  # fmt: skip
    path.write_bytes(made)
    second = (2 << bits) + max(1, -(-(-(-SIZE // ((1 << bits) ** 2 // 8)) * 8) // (1 << bits))) * (1 << bits)
    snapshot = second if shared else None
    assert qcow2.check(path.read_bytes(), snapshot) == had
    model = bytearray(below.ljust(SIZE, b"\0"))
    for number, data in had.items():
        model[number << bits : (number + 1) << bits] = (bytes(1 << bits) if data is None else data)
    del model[SIZE:]
    image = open_image(str(path), "qcow2", False)
    assert content(image) == model
    for _ in range(scaled(300)):
        sector = random.randrange(SIZE // SECTOR)
        count = random.randrange(1, min(40, SIZE // SECTOR - sector) + 1)
        part = slice(sector * SECTOR, (sector + count) * SECTOR)
        match random.randrange(4):
            case 0:
                image.discard(sector, count)
                model[part] = bytes(count * SECTOR)
            case 1:
                data = random.randbytes(count * SECTOR)
                image.write(sector, data)
                model[part] = data
            case _:
                tally.check(image.read(sector, count) == model[part])
    tally.done()
    image.flush()
    assert content(image) == model
    image.close()
    qcow2.check(path.read_bytes(), snapshot)
    again = open_image(str(path), "qcow2", True)
    assert content(again) == model and (tmp_path / "below").read_bytes() == below
    again.close()
    if shared:  # the snapshot becomes the disk
        old = bytearray(path.read_bytes())
        old[40:48] = struct.pack(">Q", second)
        path.write_bytes(old)
        first = open_image(str(path), "qcow2", True)
        assert [first.read(n << bits - 9, 1 << bits - 9) for n in had] == [
            bytes(1 << bits) if data is None else data for data in had.values()]  # fmt: skip


def test_the_table_of_counts_grows(tmp_path: Path) -> None:
    """A table of one cluster of 512 bytes counts 16,384 clusters; a disk of 12 MiB needs more."""
    size, path, random = 12 << 20, tmp_path / "image", Random(6)
    path.write_bytes(qcow2.make(size, bits=9))
    image = open_image(str(path), "qcow2", False)
    data = random.randbytes(1 << 16)
    for at in range(0, size, len(data)):
        image.write(at // SECTOR, data)
    image.close()
    found = qcow2.check(path.read_bytes())
    assert len(found) == size >> 9 and found[7] == data[7 * 512 : 8 * 512]


def test_a_chain_of_images_and_one_over_it(tmp_path: Path) -> None:
    (tmp_path / "lowest").write_bytes(b"L" * SIZE)
    (tmp_path / "middle").write_bytes(qcow2.make(SIZE, {1: b"M" * 4096}, bits=12, backing=("lowest", "raw")))
    (tmp_path / "image").write_bytes(qcow2.make(SIZE, {2: b"I" * 4096}, bits=12, backing=("middle", "qcow2")))
    before = (tmp_path / "image").read_bytes()
    image = Overlay(open_image(str(tmp_path / "image"), "qcow2", True))
    assert [image.read(8 * i, 1)[:1] for i in range(4)] == [b"L", b"M", b"I", b"L"]
    image.write(0, b"O" * SECTOR)
    assert image.read(0, 2) == b"O" * SECTOR + b"L" * SECTOR
    image.close()
    assert (tmp_path / "image").read_bytes() == before


def ours(disk: Path, *lines: str) -> str:
    """What our machine's kernel prints with this disk."""
    command = [sys.executable, "-m", "dragoman", "boot", "-m", "32", "-kernel", "@kernel"]
    done = subprocess.run([*command, "-drive", f"file={disk},format=qcow2"], capture_output=True, timeout=120,
                          input="".join(f"{line}\n" for line in (*lines, "shutdown")).encode(),
                          env={**os.environ, "PYTHONPATH": str(peers.REPOSITORY)})  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode().replace("\r", "")


def theirs(disk: Path, *lines: str) -> str:
    """The same from QEMU's."""
    flags = "-drive", f"file={disk},format=qcow2,if=none,id=d", "-device", "virtio-blk-device,drive=d"
    with console(KERNEL, *flags) as terminal:
        for line in lines:
            terminal.expect("$ ")
            terminal.type(f"{line}\n")
        terminal.expect("$ ")
        terminal.type("shutdown\n")
        assert terminal.finish() == 0
        return terminal.text


@pytest.mark.parametrize("bits", [12, 16])
def test_qemu_and_we_write_to_one_image_in_turn(tmp_path: Path, bits: int) -> None:
    """Files that one's machine wrote the other's reads, and the image is whole after each."""
    disk = tmp_path / "disk"
    disk.write_bytes(qcow2.make(2048 * tablefs.SECTOR, bits=bits))
    assert "formatted" in ours(disk, "write ours first words")
    qcow2.check(disk.read_bytes())
    text = theirs(disk, "cat ours", "write theirs other words", "cp primes copy", "rm ours")
    assert "\nfirst words\n" in text
    qcow2.check(disk.read_bytes())
    text = ours(disk, "cat theirs", "ls", "append theirs and more", "rm copy")
    assert "\nother words\n" in text and " copy\n" in text
    found = qcow2.check(disk.read_bytes())
    raw = b"".join(found.get(i, None) or bytes(1 << bits) for i in range(2048 * tablefs.SECTOR >> bits))
    assert tablefs.read(raw) == {"theirs": b"other words\nand more\n"}


def edited(at: int, form: str, value: int, **keywords: Any) -> bytes:
    """An image with one field of its header changed."""
    image = qcow2.make(SIZE, {1: b"x"}, **keywords)
    struct.pack_into(form, image, at, value)
    return bytes(image)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"QFI", "is no image of format qcow2"),
        (bytes(1 << 16), "is no image of format qcow2"),
        (edited(4, ">I", 1), "has version 1 of qcow2"),
        (edited(32, ">I", 1), "is encrypted, or needs features"),
        (edited(72, ">Q", 1 << 4), "is encrypted, or needs features"),
        (edited(72, ">Q", 1), "was not closed, or is damaged: qemu-img check"),
        (edited(20, ">I", 30), "has sizes that"),
        (edited(24, ">Q", 0), "has sizes that"),
        (edited(36, ">I", 0), "is truncated, or damaged"),
        (edited(40, ">Q", 1 << 40), "is truncated, or damaged"),
        (qcow2.make(SIZE, {1: b"x"})[: 2 << 16], "is truncated, or damaged"),
        (qcow2.make(SIZE, backing=("image", "qcow2")), "and so on, without an end"),
        (qcow2.make(SIZE, backing=("image", "vmdk")), "format 'vmdk' are not supported"),
        (bytes(qcow2.make(SIZE, backing=("below", "raw"))).replace(struct.pack(">I", 0xE2792ACA), bytes(4)),
         "does not say of which format its backing file below is"),
    ],
)  # fmt: skip
def test_images_that_are_refused(tmp_path: Path, data: bytes, sentence: str) -> None:
    (tmp_path / "image").write_bytes(data)
    with pytest.raises(NotRunnable, match=sentence):
        open_image(str(tmp_path / "image"), "qcow2", False)


def test_an_image_that_is_cut_is_an_error_of_the_request(tmp_path: Path) -> None:
    """While it is used, or when it is opened again without its tables; what is left can be read."""
    path = tmp_path / "image"
    made = qcow2.make(SIZE, {0: b"a" * 4096, 1: b"b" * 4096}, bits=12)
    path.write_bytes(made)
    image = open_image(str(path), "qcow2", False)
    assert image.read(8, 8) == b"b" * 4096
    os.truncate(path, made.index(b"b" * 4096) + 512)
    assert image.read(0, 9) == b"a" * 4096 + b"b" * 512
    again = open_image(str(path), "qcow2", True)
    for reads in (lambda: image.read(9, 1), lambda: again.read(0, 1)):
        with pytest.raises(OSError, match="truncated"):
            reads()


def test_a_backing_file_that_is_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(qcow2.make(SIZE, backing=("elsewhere", "raw")))
    command = [sys.executable, "-m", "dragoman", "boot", "@ticks", "-drive", f"file={tmp_path}/image,format=qcow2"]
    command.append(command.pop(4))
    done = subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONPATH": str(peers.REPOSITORY)})
    assert done.returncode == 127 and b"elsewhere: there is no such file" in done.stderr


def test_damaged_images_are_refused_or_errors_of_requests(tmp_path: Path) -> None:
    """Random damage to all but the data: NotRunnable, or OSError of a request, and nothing else."""
    random, path, tally = Random(9), tmp_path / "image", Tally("images")
    had = clusters(random, 12, 3)
    good = qcow2.make(SIZE, had, bits=12, packed=frozenset(list(had)[::3]))
    for _ in range(scaled(300)):
        bad = bytearray(good)
        for _ in range(random.randrange(1, 20)):
            bad[random.randrange(random.choice([112, len(bad)]))] = random.randrange(256)
        path.write_bytes(bad[: random.choice([len(bad), random.randrange(len(bad))])])
        try:
            image = open_image(str(path), "qcow2", False)
        except (NotRunnable, FileNotFoundError):
            tally.check(True)
            continue
        for sector in range(0, min(image.sectors, 600), 7):
            try:
                image.read(sector, 1)
                image.write(sector, bytes(SECTOR))
                image.discard(sector, min(16, image.sectors - sector))
            except OSError:
                continue
        tally.check(os.path.getsize(path) < 1 << 40)
        image.close()
    tally.done()
