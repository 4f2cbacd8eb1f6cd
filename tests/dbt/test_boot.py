"""`dragoman boot`: from files to a machine that runs, and what is said of files that cannot be started."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import pty
import select
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from support import peers
from support.loopback import free_port
from support.riscv import asm, words_to_bytes
from support.tiny import header, segment

from dbt.cli import main
from dbt.cli.boot import OPENSBI
from dbt.machine import fdt, images
from dbt.machine.boards import EPOCH, Board
from dbt.machine.devices.block import Block
from dbt.machine.devices.console import Console
from dbt.machine.digest import digest
from dbt.machine.disks import Raw
from dbt.machine.vm import ENGINES
from guests.riscv import machine
from guests.riscv import privileged as p

RAM, UART, TEST = 0x8000_0000, 0x1000_0000, 0x10_0000
SPIN = asm("jal", rd=0, imm=0)


def boot(*words: str | Path, feed: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(peers.REPOSITORY)}
    command = [sys.executable, "-m", "dragoman", "boot", *map(str, words)]
    done = subprocess.run(command, input=feed, capture_output=True, env=environment, timeout=120)
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return done


def li(register: int, value: int) -> list[int]:
    """Load a positive constant of 31 bits."""
    high = (value + 0x800) >> 12
    return [asm("lui", rd=register, imm=high << 12), asm("addi", rd=register, rs1=register, imm=value - (high << 12))]


def off(status: int = 0) -> list[int]:
    """End the machine."""
    value = 0x5555 if status == 0 else status << 16 | 0x3333
    return [*li(5, TEST), *li(6, value), asm("sw", rs1=5, rs2=6, imm=0), SPIN]


def says(text: bytes) -> list[int]:
    """Write to the serial port."""
    return [*li(5, UART), *(w for byte in text for w in (*li(6, byte), asm("sb", rs1=5, rs2=6, imm=0)))]


def raw(path: Path, words: Sequence[int]) -> Path:
    path.write_bytes(words_to_bytes(words))
    return path


def test_a_raw_program_speaks_and_ends(tmp_path: Path) -> None:
    done = boot("-nographic", "-m", "16", "-kernel", raw(tmp_path / "hello", [*says(b"hello\n"), *off()]))
    assert (done.returncode, done.stdout, done.stderr) == (0, b"hello\n", b"")


@pytest.mark.parametrize("engine", ENGINES)
def test_statistics_of_each_hart(engine: str) -> None:
    done = boot("--smp=2", f"--engine={engine}", "--stats=json", "--deterministic", "@kernel", feed=b"shutdown\n")
    harts = [json.loads(line) for line in done.stderr.splitlines()]
    assert [each["hart"] for each in harts] == [0, 1]
    for each in harts:
        assert each["engine"] == engine and each["blocks"] > 1
        trapped = each["ident"] + each["inline"] + each["callout"] - each["instructions"]
        assert 0 <= trapped <= each["traps"]
        assert engine == "reference" or sum(each["retired"].values()) == each["instructions"]
    assert harts[0]["instructions"] > 100_000 and harts[0]["traps"] >= 3
    text = boot(f"--engine={engine}", "--stats", "--deterministic", "@kernel", feed=b"shutdown\n").stderr.decode()
    assert text.startswith("hart ") and "million instructions/s" in text and "system calls" not in text
    assert ("python entries" in text) == (engine == "translated")


def test_options_may_come_behind_a_bundled_program() -> None:
    done = boot("-m", "32", "@pagefault", "-d", "int", "-nographic")
    assert done.returncode == 0 and done.stderr.count(b"riscv_cpu_do_interrupt") == 3
    assert b"what is 'more'" in boot("@pagefault", "-d", "int", "more").stderr


def test_words_that_say_nothing_new_are_taken(tmp_path: Path) -> None:
    """As they stand in other people's scripts."""
    words = """-machine virt,aclint=off -cpu rv64 -smp 1 -m 128M -nographic -accel tcg -display none -nodefaults -name x
    -rtc base=utc -no-user-config -vga none -nic none -parallel none -bios none -no-reboot -kernel""".split()
    assert boot(*words, raw(tmp_path / "ends", off(6))).returncode == 6


def test_the_extensions_of_a_hart_are_those_of_its_isa_string(tmp_path: Path) -> None:
    """Multiplying with M is done, and without it an illegal instruction, at which its handler ends the machine."""
    multiplies = [asm("auipc", rd=7, imm=0), asm("addi", rd=7, rs1=7, imm=0x100),
                  asm("csrrw", rd=0, rs1=7, csr=0x305), asm("mul", rd=1, rs1=2, rs2=3), *off(2)]  # fmt: skip
    path = raw(tmp_path / "multiplies", multiplies)
    path.write_bytes(path.read_bytes().ljust(0x100, b"\0") + words_to_bytes(off(3)))
    for engine in ENGINES:
        assert boot(f"--engine={engine}", "-bios", "none", "-cpu", "rv64im_zicsr", "-kernel", path).returncode == 2
        assert boot(f"--engine={engine}", "-bios", "none", "-cpu", "rv64i_zicsr", "-kernel", path).returncode == 3


@pytest.mark.parametrize("status", [1, 7, 255])
def test_the_status_is_the_guest_s(tmp_path: Path, status: int) -> None:
    assert boot("-kernel", raw(tmp_path / "ends", off(status))).returncode == status


@pytest.mark.parametrize(
    ("words", "low", "high"),
    [
        (["-rtc", "base=1970-01-01T00:00:01", "--deterministic"], 59, 59),  # 10 ** 9 >> 24
        (["-rtc", "base=1970-01-01T00:00:02,clock=vm"], 119, 120),
        (["--deterministic"], (EPOCH & 0xFFFF_FFFF) >> 24, (EPOCH & 0xFFFF_FFFF) >> 24),
    ],
)
def test_the_clock_of_the_day_begins_where_it_is_told(tmp_path: Path, words: list[str], low: int, high: int) -> None:
    """A program ends with a part of its time as status."""
    program = [*li(7, 0x10_1000), asm("lw", rd=8, rs1=7, imm=0), asm("srliw", rd=8, rs1=8, imm=24),
               asm("slli", rd=8, rs1=8, imm=16), *li(6, 0x3333), asm("add", rd=6, rs1=6, rs2=8), *li(5, TEST),
               asm("sw", rs1=5, rs2=6, imm=0), SPIN]  # fmt: skip
    assert low <= boot(*words, "-kernel", raw(tmp_path / "asks", program)).returncode <= high


def test_the_net_devices_are_those_that_were_asked_for(tmp_path: Path) -> None:
    """The last byte of their addresses, as a program reads it; and what the monitor says of their networks."""
    probe = [*li(7, 0x1000_1000), asm("lbu", rd=9, rs1=7, imm=0x105), asm("slli", rd=9, rs1=9, imm=16), *li(6, 0x3333),
             asm("add", rd=6, rs1=6, rs2=9), *li(5, TEST), asm("sw", rs1=5, rs2=6, imm=0), SPIN]  # fmt: skip
    path = raw(tmp_path / "probe", probe)
    assert boot("-kernel", path, "-nic", "user").returncode == 0x56
    assert boot("-kernel", path, "-nic", "user,mac=52:54:00:12:34:77").returncode == 0x77
    words = "-netdev user,id=n -device virtio-net-device,netdev=n,bus=virtio-mmio-bus.7 -nic user".split()
    assert boot("-kernel", path, *words).returncode == 0x57
    done = boot("-kernel", path, *words, "-S", "-serial", "none", "-monitor", "stdio", feed=b"info network\nquit\n")
    for line in (b"mac 52:54:00:12:34:56, 0 frames wait", b"  user network 10.0.2.0", b"mac 52:54:00:12:34:57"):
        assert line in done.stdout


def driver() -> bytes:
    """A program for bare metal that waits for a frame of 60 bytes and returns it; its word at 16 is for the finisher.

    Its rings are a part of it: eight descriptors each, at 0x1000 for what it receives and at 0x2000 for what it sends.
    """
    base, rings, buffer = 0x1000_1000, {0: RAM + 0x1000, 1: RAM + 0x2000}, RAM + 0x4000
    registers = [(0x70, 0), (0x70, 3), (0x24, 0), (0x20, 0), (0x24, 1), (0x20, 1), (0x70, 11)]
    for number, ring in rings.items():
        registers += [(0x30, number), (0x38, 8), (0x80, ring), (0x84, 0), (0x90, ring + 0x100), (0x94, 0),
                      (0xA0, ring + 0x200), (0xA4, 0), (0x44, 1)]  # fmt: skip
    words = [asm("auipc", rd=20, imm=0)]
    plic = [(0xC00_0004, 1), (0xC00_2000, 2)]  # source 1, of the first transport, for machine mode
    for address, value in [*((base + offset, value) for offset, value in (*registers, (0x70, 15), (0x50, 0))), *plic]:
        words += [*li(5, address), *li(6, value - (value >> 31 << 32)), asm("sw", rs1=5, rs2=6, imm=0)]
    words += [*li(6, 0x800), asm("csrrs", rd=0, rs1=6, csr=0x304), *li(7, 0x1202), asm("add", rd=7, rs1=7, rs2=20),
              0x1050_0073, asm("lhu", rd=8, rs1=7, imm=0), asm("beq", rs1=8, rs2=0, imm=-8)]  # fmt: skip
    words += [*li(5, base), *li(6, 1), asm("sw", rs1=5, rs2=6, imm=0x50)]
    words += [*li(7, 0x4000 + 12 + 16), asm("add", rd=7, rs1=7, rs2=20), asm("lw", rd=6, rs1=7, imm=0), *li(5, TEST),
              asm("sw", rs1=5, rs2=6, imm=0), SPIN]  # fmt: skip
    image = bytearray(words_to_bytes(words).ljust(0x5000, b"\0"))
    for number, length, flags in ((0, 2048, 2), (1, 72, 0)):
        at = rings[number] - RAM
        image[at : at + 16] = struct.pack("<QIHH", buffer, length, flags, 0)
        image[at + 0x100 : at + 0x106] = struct.pack("<HHH", 0, 1, 0)
    return bytes(image)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_machine_that_sleeps_is_woken_by_a_frame_and_answers(tmp_path: Path, engine: str) -> None:
    """Over a wire whose other end is a socket of the test: what it sends comes back, before a reset and after it."""
    (tmp_path / "driver").write_bytes(driver())
    place = "127.0.0.1", free_port()
    command = [sys.executable, "-m", "dragoman", "boot", f"--engine={engine}", "-bios", "none",
               "-kernel", str(tmp_path / "driver"), "-nic", f"socket,listen={place[0]}:{place[1]}"]  # fmt: skip
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(peers.REPOSITORY)})
    try:
        end = time.monotonic() + 60
        while (wire := socket.socket()).connect_ex(place):
            wire.close()
            assert time.monotonic() < end
            time.sleep(0.05)
        with wire:
            for word in (0x7777, 20 << 16 | 0x3333):  # a reset, a status
                frame = b"\0\0\0\x3c" + bytes(range(16)) + word.to_bytes(4, "little") + bytes(range(40))
                wire.settimeout(1)
                answer = b""
                while not answer:  # what comes in the midst of a reset is lost
                    assert time.monotonic() < end
                    wire.sendall(frame)
                    with suppress(TimeoutError):
                        answer = wire.recv(64, socket.MSG_WAITALL)
                assert answer == frame
        assert process.wait(60) == 20
    finally:
        process.kill()
        process.wait()


def by_program(*words: str) -> Callable[[bytes], bytes]:
    """What a program of the host makes of bytes."""
    return lambda data: subprocess.run([peers.need(words[0], words[0]), *words[1:]], input=data, check=True,
                                       capture_output=True).stdout  # fmt: skip


def zboot(data: bytes) -> bytes:
    """A kernel that unpacks itself where there is UEFI."""
    packed = gzip.compress(data)
    return struct.pack("<4s4sII", b"MZ\0\0", b"zimg", 64, len(packed)).ljust(64, b"\0") + packed + b"behind"


PACKS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE), "zboot": zboot, "zstd": by_program("zstd", "-c"),
    "lz4": by_program("lz4", "-c"), "lz4 as Linux has it": by_program("lz4", "-lc"), "lzo": by_program("lzop", "-c"),
}  # fmt: skip


@pytest.mark.parametrize("name", PACKS)
def test_compressed_kernels_are_unpacked(tmp_path: Path, name: str) -> None:
    (tmp_path / "packed").write_bytes(PACKS[name](words_to_bytes(off(9))))
    assert boot("-kernel", tmp_path / "packed").returncode == 9


def test_who_unpacks_what_we_cannot_is_named(tmp_path: Path) -> None:
    (tmp_path / "packed").write_bytes(b"\x04\x22\x4d\x18....")
    command = [sys.executable, "-m", "dragoman", "boot", "-kernel", tmp_path / "packed"]
    environment = {"PATH": str(tmp_path), "PYTHONPATH": str(peers.REPOSITORY)}
    done = subprocess.run(command, capture_output=True, env=environment, timeout=120)
    assert done.returncode == 126 and b"compressed with lz4, which is not installed" in done.stderr


def elf(code: bytes, at: int, symbols: dict[str, int], entry: int | None = None) -> bytes:
    """An ELF file with a segment that is all of it, and a table of symbols."""
    names = b"\0" + b"".join(name.encode() + b"\0" for name in symbols)
    table, place = bytes(24), 1
    for name, value in symbols.items():
        table += struct.pack("<IBBHQQ", place, 1, 0, 1, value, 8)
        place += len(name) + 1
    body = 120 + len(code)
    strings, sections = body + len(table), body + len(table) + len(names)
    made = bytearray(header(entry=at + 120 if entry is None else entry))
    made[40:48] = struct.pack("<Q", sections)  # e_shoff, and below e_shentsize, e_shnum, e_shstrndx
    made[58:64] = struct.pack("<HHH", 64, 3, 0)
    head = "<IIQQQQIIQQ"
    rows = struct.pack(head, *[0] * 10) + struct.pack(head, 0, 2, 0, 0, body, len(table), 2, 0, 8, 24)
    rows += struct.pack(head, 0, 3, 0, 0, strings, len(names), 0, 0, 1, 0)
    return bytes(made) + segment(at, 0, body, body + 0x3000) + code + table + names + rows


def test_a_program_for_test_benches_ends_by_tohost(tmp_path: Path) -> None:
    """It counts, writes to the console of HTIF, and gives its status."""
    tohost = RAM + 0x1000
    byte = [*li(6, ord("!")), *li(7, 0x101), asm("slli", rd=7, rs1=7, imm=48), asm("add", rd=6, rs1=6, rs2=7),
            asm("sd", rs1=5, rs2=6, imm=0)]  # fmt: skip
    code = [asm("auipc", rd=5, imm=0x1000), asm("addi", rd=5, rs1=5, imm=-120), *byte,
            *li(6, 3 << 1 | 1), asm("sd", rs1=5, rs2=6, imm=0), SPIN]  # fmt: skip
    (tmp_path / "bench.elf").write_bytes(elf(words_to_bytes(code), RAM, {"tohost": tohost, "fromhost": tohost + 64}))
    done = boot("-bios", "none", "-kernel", tmp_path / "bench.elf")
    assert (done.returncode, done.stdout) == (3, b"!")


def test_firmware_hands_on_the_tree_and_the_kernel(tmp_path: Path) -> None:
    """a0 is the hart, a1 the tree, a2 the record of fw_dynamic, which names the kernel; it is behind the firmware."""
    firmware = [
        asm("bne", rs1=10, rs2=0, imm=8), asm("jal", rd=0, imm=8), SPIN,
        asm("lw", rd=5, rs1=11, imm=0), asm("ld", rd=6, rs1=12, imm=0), asm("ld", rd=7, rs1=12, imm=16),
        asm("jalr", rd=0, rs1=7, imm=0),
    ]  # fmt: skip
    # The kernel's status: the magic number of the tree, its first byte, and a bit of the record's.
    kernel = [asm("andi", rd=28, rs1=5, imm=0xFF), asm("slli", rd=28, rs1=28, imm=16), *li(29, 0x3333),
              asm("add", rd=28, rs1=28, rs2=29), *li(5, TEST), asm("sw", rs1=5, rs2=28, imm=0), SPIN]  # fmt: skip
    done = boot("-bios", raw(tmp_path / "firmware", firmware), "-kernel", raw(tmp_path / "kernel", kernel))
    assert done.returncode == 0xD0  # d00dfeed, big endian


@pytest.mark.parametrize(("kind", "said"), [(0, b""), (1, b"dragoman: the machine asked for a reset, and ended\n")])
def test_a_kernel_behind_opensbi_turns_the_machine_off_or_resets_it(tmp_path: Path, kind: int, said: bytes) -> None:
    """By the call of SBI's extension SRST, in supervisor mode, from the firmware that `-bios default` finds."""
    if not any(os.path.exists(path) for path in OPENSBI):
        peers.missing("OpenSBI is not installed: install the package opensbi, or qemu-system-data")
    words = [*li(17, 0x5352_5354), asm("addi", rd=16, rs1=0, imm=0), asm("addi", rd=10, rs1=0, imm=kind),
             asm("addi", rd=11, rs1=0, imm=0), asm("ecall"), SPIN]  # fmt: skip
    done = boot("-bios", "default", "-no-reboot", "-kernel", raw(tmp_path / "kernel", words))
    assert (done.returncode, done.stderr) == (0, said) and b"OpenSBI" in done.stdout


def test_input_reaches_the_guest_and_a_deterministic_run_repeats(tmp_path: Path) -> None:
    """It echoes what it reads until a newline; the second run is the same to the instruction."""
    echo = [*li(5, UART), asm("lbu", rd=7, rs1=5, imm=5), asm("andi", rd=7, rs1=7, imm=1),
            asm("beq", rs1=7, rs2=0, imm=-8), asm("lbu", rd=8, rs1=5, imm=0), asm("sb", rs1=5, rs2=8, imm=0),
            *li(9, 10), asm("bne", rs1=8, rs2=9, imm=-28), *off()]  # fmt: skip
    path = raw(tmp_path / "echo", echo)
    assert boot("-kernel", path, feed=b"machine\n").stdout == b"machine\n"
    runs = [boot("--deterministic", "--max-instructions=200", "-kernel", path, feed=b"twice") for _ in range(2)]
    assert runs[0].stderr == runs[1].stderr and runs[0].stderr.startswith(b"dragoman: the limit was reached after 20")
    assert runs[0].stdout == runs[1].stdout == b"twice"


SHELL = b"write a %s\nls\ncat a\nforks\nprimes %d\nshutdown\n"


def digests(image: Path, feed: bytes, every: int, seed: str) -> tuple[list[str], bytes]:
    """Our kernel's run with a disk of its own: where it is and the digest of all it has, from time to time; its output.

    The disk begins with zeros each time. Each run is a process with another order of Python's sets.
    """
    image.write_bytes(bytes(1 << 20))
    environment = {**os.environ, "PYTHONPATH": str(peers.REPOSITORY), "PYTHONHASHSEED": seed}
    words = ["--deterministic", f"--events={every}", "-m", "32", "-kernel", "@kernel", "-drive", f"file={image}"]
    done = subprocess.run([sys.executable, "-m", "dragoman", "boot", *words], input=feed, capture_output=True,
                          env=environment, timeout=3000)  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    return done.stderr.decode().splitlines(), done.stdout


def is_one_run(tmp_path: Path, runs: int, primes: int, every: int) -> None:
    """So many runs have the same digests, which count up; with one byte of input changed, all but the first differ."""
    image = tmp_path / "disk"
    found = [digests(image, SHELL % (b"x", primes), every, str(seed)) for seed in range(runs)]
    assert all(each == found[0] for each in found)
    lines, printed = found[0]
    counts = [int(line.split()[0]) for line in lines]
    assert len(lines) >= 3 and b"primes below" in printed
    assert all(every * i <= count < every * i + 4096 for i, count in enumerate(counts[:-1], 1))
    others, _ = digests(image, SHELL % (b"y", primes), every, "0")
    assert not set(lines) & set(others)


def test_a_run_is_the_same_each_time_and_another_with_other_input(tmp_path: Path) -> None:
    """RAM, registers, CSRs, devices, disk and console."""
    is_one_run(tmp_path, runs=2, primes=100, every=300_000)


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_twenty_runs_are_one(tmp_path: Path) -> None:
    """The same, each 10 million instructions of a longer run."""
    is_one_run(tmp_path, runs=20, primes=2_000_000, every=10_000_000)


def test_the_digest_sees_each_part(tmp_path: Path) -> None:
    """A bit of RAM, a register, a CSR, the time, a device, a queue, the disk, input that waits and output change it."""
    image = tmp_path / "disk"
    image.write_bytes(bytes(1 << 16))
    made = board(16 << 20)
    transport = made.add_virtio(Block(Raw(str(image))))
    devices = {each.device.name: each.device for each in made.vm.memory.devices}
    changes: list[Callable[[], object]] = [
        lambda: made.vm.memory.poke(RAM + 0x1234, b"\1"),
        lambda: made.vcpu.state.slots.__setitem__(5, 1),
        lambda: made.vcpu.state.slots.__setitem__(p.SLOT["sscratch"], 1),
        lambda: made.vm.clock.wait_until(made.vm.clock.count + 1),
        lambda: setattr(made.vm.clock, "time", 99),
        lambda: setattr(made.vcpu.state, "pc", 4),
        lambda: devices["plic"].write(4, 4, 3),
        lambda: devices["clint"].write(0x4000, 8, 1 << 40),
        lambda: devices["serial"].write(7, 1, 0x55),
        lambda: transport.write(0x80, 4, 0x8000_1000),
        lambda: image.write_bytes(bytes(9999) + b"x" + bytes((1 << 16) - 10_000)),
        lambda: made.console.feed(b"k"),
        lambda: made.console.write(b"k"),
    ]
    seen = {digest(made)}
    for change in changes:
        change()
        assert digest(made) == digest(made)
        seen.add(digest(made))
    assert len(seen) == 1 + len(changes)


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        ([], 2, "-kernel or -bios is wanted"),
        (["-kernel", "{here}/absent"], 127, "there is no such file"),
        (["@none"], 127, "no bundled program of a machine @none"),
        (["@sieve"], 127, "is a program of user mode"),
        (["-kernel", "{here}"], 126, "is a directory"),
        (["-kernel", "{here}/empty"], 126, "is empty"),
        (["-kernel", "{here}/cut"], 126, "is compressed, and damaged"),
        (["-kernel", "{here}/zstd"], 126, "zstd"),
        (["-kernel", "{here}/zboot"], 126, "is empty"),
        (["-kernel", "{here}/big", "-m", "16"], 126, "not in the machine's RAM"),
        (["-bios", "none", "-kernel", "{here}/full", "-m", "16"], 126, "leaves no room"),
        (["-kernel", "{here}/elf"], 126, "the ELF header is truncated"),
        (["-kernel", "{here}/low"], 126, "not in the machine's RAM"),
        (["-kernel", "{here}/ok", "-m", "1"], 2, "is not from 16M"),
        (["-kernel", "{here}/ok", "-m", "lots"], 2, "is not a size"),
        (["-kernel", "{here}/ok", "-smp", "9"], 2, "is not from 1 to 8 harts"),
        (["-kernel", "{here}/ok", "-smp", "0"], 2, "is not from 1 to 8 harts"),
        (["-kernel", "{here}/ok", "-smp", "2,cores=3"], 2, "these are not 2 harts"),
        (["-kernel", "{here}/ok", "-smp", "many"], 2, "is no number of harts"),
        (["-kernel", "{here}/ok", "-M", "sifive_u"], 2, "there is no board"),
        (["-initrd", "{here}/ok", "-bios", "{here}/ok"], 2, "there is no -kernel"),
        (["{here}/ok"], 2, "given with -kernel"),
        (["-kernel", "{here}/ok", "-drive", "file={here}/absent"], 127, "there is no such file"),
        (["-kernel", "{here}/ok", "-drive", "file={here}/ok"], 126, "smaller than a sector"),
        (["-kernel", "{here}/ok", "-drive", "file={here}/big,format=vmdk"], 2, "'vmdk' is not done"),
        (["-kernel", "{here}/ok", "-drive", "file={here}/big,format=qcow2"], 126, "is no image of format qcow2"),
        (["-kernel", "{here}/ok", "-drive", "file={here}/qcow2"], 2, "say format=qcow2, or format=raw"),
        (["-kernel", "{here}/ok", "-drive", "{here}/big"], 2, "is not understood"),
        (["-kernel", "{here}/ok", "-drive", "file={here}/big,if=none,id=a"], 2, "id=a has no -device"),
        (["-kernel", "{here}/ok", "-device", "virtio-blk-device,drive=a"], 2, "there is no -drive"),
        (["-kernel", "{here}/ok", "-device", "e1000"], 2, "there is no 'e1000'"),
        (["-kernel", "{here}/ok", *["-device", "virtio-rng-device"] * 9], 2, "8 virtio devices at most"),
        (["-kernel", "{here}/ok", "-device", "virtio-rng-device,bus=pcie.0"], 2, "there is no bus 'pcie.0'"),
        (["-kernel", "{here}/ok", *["-device", "virtio-rng-device,bus=virtio-mmio-bus.3"] * 2], 2, "has a device"),
        (["-kernel", "{here}/ok", "-initrd", "{here}/absent"], 127, "absent: there is no such file"),
        (["-fancy"], 2, "there is no option"),
        (["-kernel", "{here}/ok", "-cpu", "sifive-u54"], 2, "there is no model 'sifive-u54'"),
        (["-kernel", "{here}/ok", "-cpu", "rv64imaq"], 2, "'q' is not implemented"),
        (["-kernel", "{here}/ok", "-rtc", "base=soon"], 2, "base=soon is not utc, localtime, or a date"),
        (["-kernel", "{here}/ok", "-rtc", "base=utc", "--deterministic"], 2, "another time in each run"),
        (["-kernel", "{here}/ok", "-rtc", "base=localtime", "--lockstep=9"], 2, "another time in each run"),
        (["-kernel", "{here}/ok", "-nic", "user", "--deterministic"], 2, "cannot be repeated"),
        (["-kernel", "{here}/ok", "-netdev", "user,id=a", "--lockstep=9"], 2, "cannot be repeated"),
        (["-kernel", "{here}/ok", "-net", "user"], 2, "-netdev and -nic are its newer forms"),
        (["-kernel", "{here}/ok", "-nic", "tap"], 2, "there is no network 'tap'"),
        (["-kernel", "{here}/ok", "-nic", "user,smb=/"], 2, "'smb=/' is not understood"),
        (["-kernel", "{here}/ok", "-nic", "user,model=e1000"], 2, "there is no model 'e1000'"),
        (["-kernel", "{here}/ok", "-nic", "user,mac=01:00:00:00:00:00"], 2, "is no address of one device"),
        (["-kernel", "{here}/ok", "-nic", "user,restrict=perhaps"], 2, "is neither on nor off"),
        (["-kernel", "{here}/ok", "-nic", "user,hostfwd=80"], 2, "hostfwd=80 is not [tcp|udp]:[ADDRESS]:PORT"),
        (["-kernel", "{here}/ok", "-nic", "user,hostfwd=:1.2:80-:80"], 2, "'1.2' is no address"),
        (["-kernel", "{here}/ok", "-nic", "user,hostfwd=::80000-:80"], 2, "'80000' is no port"),
        (["-kernel", "{here}/ok", "-nic", "user,hostfwd=::8000-10.1.1.1:80"], 2, "the guest is in 10.0.2.0/24"),
        (["-kernel", "{here}/ok", "-nic", "user,hostfwd=tcp:198.51.100.7:5555-:80"], 2, "cannot assign"),
        (["-kernel", "{here}/ok", "-netdev", "user"], 2, "needs an id= of its own"),
        (["-kernel", "{here}/ok", *["-netdev", "user,id=a"] * 2], 2, "needs an id= of its own"),
        (["-kernel", "{here}/ok", "-netdev", "user,id=a"], 2, "id=a has no -device"),
        (["-kernel", "{here}/ok", "-device", "virtio-net-device,netdev=a"], 2, "there is no -netdev with id=a"),
        (["-kernel", "{here}/ok", "-nic", "socket"], 2, "needs listen=ADDRESS:PORT or connect=ADDRESS:PORT"),
        (["-kernel", "{here}/ok", "-nic", "socket,connect=127.0.0.1:1"], 2, "connection refused"),
        (["-kernel", "{here}/ok", "-s"], 2, "-s of qemu-system-riscv64 is not done: there is no server"),
        (["-icount", "shift=0", "-kernel", "{here}/ok"], 2, "--deterministic makes time the number"),
        (["-dumpdtb", "{here}/absent/tree"], 2, "cannot write"),
    ],
)
def test_what_cannot_be_started_gets_a_sentence(tmp_path: Path, words: list[str], status: int, sentence: str) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "cut").write_bytes(gzip.compress(bytes(1000))[:-9])
    (tmp_path / "qcow2").write_bytes(b"QFI\xfb".ljust(1 << 16, b"\0"))
    (tmp_path / "zboot").write_bytes(struct.pack("<4s4sII", b"MZ", b"zimg", 1 << 31, 1 << 31))
    (tmp_path / "zstd").write_bytes(b"\x28\xb5\x2f\xfd....")
    (tmp_path / "big").write_bytes(bytes(17 << 20))
    (tmp_path / "full").write_bytes(bytes(15 << 20))
    (tmp_path / "elf").write_bytes(b"\x7fELF\x02")
    (tmp_path / "low").write_bytes(elf(b"\x13\0\0\0", 0x1_0000, {}))
    raw(tmp_path / "ok", off())
    done = boot(*[word.format(here=tmp_path) for word in words])
    message = done.stderr.decode()
    assert done.returncode == status and sentence in message, message
    assert message.startswith("dragoman: ") and message.count("\n") == 1


def test_a_lost_hart_and_a_hart_that_waits_for_nothing_are_told(tmp_path: Path) -> None:
    lost = boot("-kernel", raw(tmp_path / "lost", [0xFFFF_FFFF]))
    assert lost.returncode == 126 and b"traps (instruction access fault), for ever" in lost.stderr
    for more in ((), ("--events=1000",), ("--max-instructions=1000",), ("--max-instructions=1",)):
        waits = boot("--deterministic", *more, "-kernel", raw(tmp_path / "waits", [0x10500073, SPIN]))
        assert waits.returncode == (124 if more[-1:] == ("--max-instructions=1",) else 125)
        assert b"nothing will ever send" in waits.stderr or waits.returncode == 124


def test_keys_at_a_terminal() -> None:
    """The guest gets Ctrl-C; Ctrl-A is ours: h helps, twice sends itself, x ends. The terminal is put back."""
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    process = subprocess.Popen(
        [sys.executable, "-m", "dragoman", "boot", "@uart"], stdin=slave, stdout=slave, stderr=slave,
        env={**os.environ, "PYTHONPATH": str(peers.REPOSITORY)},
    )  # fmt: skip
    seen = b""

    def expect(text: bytes) -> None:
        nonlocal seen
        while text not in seen:
            assert select.select([master], [], [], 60)[0], seen
            seen += os.read(master, 4096)
        seen = seen.partition(text)[2]

    try:
        expect(b"a line, please: ")
        os.write(master, b"\x01h")
        expect(b"Ctrl-A x       end\r\n")
        os.write(master, b"a\x03\x01\x01b")
        expect(b"b")
        os.write(master, b"\x01x")
        assert process.wait(60) == 0
        assert termios.tcgetattr(slave) == before
    finally:
        process.kill()
        process.wait()
        os.close(master)
        os.close(slave)


# --- images and trees -------------------------------------------------------------------------------------------------


def board(ram: int = 32 << 20) -> Board:
    return Board(machine.guest(), ram, Console(lambda data: None))


def test_the_image_of_a_kernel_reserves_what_its_header_says(tmp_path: Path) -> None:
    image = struct.pack("<8sQQQIIQQ4sI", b"MZ\0\0" + bytes(4), 0x20_0000, 0x40_0000, 0, 2, 0, 0, 0, b"RSC\x05", 0)
    (tmp_path / "Image").write_bytes(image + bytes(100))
    made = board()
    placed = images.place(made.vm.memory, made.guest, str(tmp_path / "Image"), RAM + 0x20_0000)
    assert placed[:3] == (RAM + 0x20_0000, RAM + 0x20_0000, RAM + 0x60_0000)


def test_an_elf_file_goes_to_its_physical_addresses(tmp_path: Path) -> None:
    """The entry is where its virtual address is in memory."""
    virtual = 0xFFFF_FFFF_8000_0000
    data = bytearray(elf(b"code", RAM, {}, entry=virtual + 122))
    data[64 + 16 : 64 + 24] = struct.pack("<Q", virtual)
    (tmp_path / "kernel").write_bytes(data)
    made = board()
    placed = images.place(made.vm.memory, made.guest, str(tmp_path / "kernel"), 0)
    assert placed.entry == RAM + 122 and made.vm.memory.peek(RAM + 120, 4) == b"code"


def test_harts_are_as_many_as_asked_for(tmp_path: Path) -> None:
    """Each adds 1 to a word; hart 0 waits for three and ends the machine."""
    mhartid = 0xF14 << 20 | 2 << 12 | 8 << 7 | 0x73
    count = [asm("auipc", rd=7, imm=0x1000), asm("addi", rd=6, rs1=0, imm=1),
             asm("amoadd.w", rd=0, rs1=7, rs2=6, aq=0, rl=0), mhartid, asm("bne", rs1=8, rs2=0, imm=0),
             asm("addi", rd=6, rs1=0, imm=3), asm("lw", rd=9, rs1=7, imm=0), asm("bne", rs1=9, rs2=6, imm=-4),
             *off(7)]  # fmt: skip
    path = raw(tmp_path / "count", count)
    for words in (["3"], ["cpus=3"], ["3,maxcpus=3"], ["sockets=1,cores=3,threads=1"]):
        assert boot("-bios", "none", "-m", "16", "-smp", *words, "-kernel", path).returncode == 7
    done = boot("-bios", "none", "-m", "16", "-smp", "3", "--engine=reference", "-kernel", path)
    assert done.returncode == 7
    same = boot("-bios", "none", "-m", "16", "-smp", "3", "--lockstep=7", "-kernel", path)
    assert same.returncode == 0 and b"the engines agree at all of" in same.stderr
    few = boot("-bios", "none", "-m", "16", "-smp", "2", "--max-instructions=100_000", "-kernel", path)
    assert few.returncode == 124


def test_a_machine_of_two_harts_repeats(tmp_path: Path) -> None:
    """Our kernel has one hart, the other waits; digests of all that both are, at the same counts."""
    words = ["-smp", "2", "-m", "32", "--deterministic", "--events=300_000", "@kernel"]
    runs = [boot(*words, feed=b"forks\nshutdown\n") for _ in range(2)]
    runs.append(boot(*words, "--engine=reference", feed=b"forks\nshutdown\n"))
    assert runs[0].returncode == 0 and b"processes, 0 pages lost" in runs[0].stdout
    assert runs[0].stderr.count(b"\n") > 3 and len({(done.stdout, done.stderr) for done in runs}) == 1


@pytest.mark.parametrize("harts", [1, 3, 8])
def test_the_tree_has_each_hart(harts: int) -> None:
    """Its node, and its interrupts at the ACLINT and the PLIC: machine mode's first."""
    made = Board(machine.guest(), 16 << 20, Console(lambda data: None), harts=harts)
    tree = fdt.parse(made.tree())
    cpus = {name: node for name, node in tree["cpus"].items() if name.startswith("cpu@")}
    assert list(cpus) == [f"cpu@{i}" for i in range(harts)]
    assert [struct.unpack(">I", node["reg"])[0] for node in cpus.values()] == list(range(harts))
    handles = [struct.unpack(">I", node["interrupt-controller"]["phandle"])[0] for node in cpus.values()]
    for device, lines in (("clint@2000000", (3, 7)), ("plic@c000000", (11, 9))):
        cells = tree["soc"][device]["interrupts-extended"]
        wanted = [cell for handle in handles for line in lines for cell in (handle, line)]
        assert list(struct.unpack(f">{len(cells) // 4}I", cells)) == wanted
    dtc = peers.need("dtc", "device-tree-compiler")
    done = subprocess.run([dtc, "-I", "dtb", "-O", "dts"], input=made.tree(), capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(("arguments", "initrd"), [("", None), ("console=ttyS0", (RAM + 0x10_0000, RAM + 0x18_0000))])
def test_dtc_finds_nothing_wrong_with_the_tree(arguments: str, initrd: tuple[int, int] | None) -> None:
    dtc = peers.need("dtc", "device-tree-compiler")
    done = subprocess.run([dtc, "-I", "dtb", "-O", "dts"], input=board().tree(arguments, initrd), capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    text = done.stdout.decode()
    assert 'compatible = "ns16550a"' in text and "memory@80000000" in text and "virt" in text
    assert (f'bootargs = "{arguments}"' in text) == bool(arguments)
    assert ("linux,initrd-end = <0x00 0x80180000>" in text) == (initrd is not None)


def test_a_tree_goes_through_dtc_and_back(tmp_path: Path) -> None:
    """What we flatten is what dtc makes of the same tree's source."""
    dtc = peers.need("dtc", "device-tree-compiler")
    tree = fdt.flatten({"a": 1, "list": [1, 2, 3], "text": "x", "texts": ["y", "zz"], "none": None, "bytes": b"\1\2\3",
                        "node@1": {"reg": 1, "inner": {"a": 2}}})  # fmt: skip
    source = subprocess.run([dtc, "-q", "-I", "dtb", "-O", "dts"], input=tree, capture_output=True, check=True).stdout
    again = subprocess.run([dtc, "-q", "-I", "dts", "-O", "dtb"], input=source, capture_output=True, check=True).stdout
    both = [subprocess.run([dtc, "-q", "-s", "-I", "dtb", "-O", "dts"], input=data, capture_output=True).stdout
            for data in (tree, again)]  # fmt: skip
    assert both[0] == both[1] and b"zz" in both[0]


def test_virtio_devices_are_where_the_tree_says(tmp_path: Path) -> None:
    """The guest reads the first one's number; a disk of its own, in xv6's words for QEMU."""
    (tmp_path / "disk").write_bytes(bytes(1 << 16))
    ask = [*li(5, 0x1000_1000), asm("lw", rd=7, rs1=5, imm=8), asm("slli", rd=7, rs1=7, imm=16), *li(6, 0x3333),
           asm("add", rd=6, rs1=6, rs2=7), *li(5, TEST), asm("sw", rs1=5, rs2=6, imm=0), SPIN]  # fmt: skip
    words = ["-drive", f"file={tmp_path}/disk,if=none,format=raw,id=x0", "-global", "virtio-mmio.force-legacy=false",
             "-device", "virtio-blk-device,drive=x0,bus=virtio-mmio-bus.0"]  # fmt: skip
    path = raw(tmp_path / "ask", ask)
    assert boot("-kernel", path, *words).returncode == 2
    assert boot("-kernel", path, "-device", "virtio-rng-device", *words, "-snapshot").returncode == 2
    words[-1] = "virtio-blk-device,drive=x0"
    assert boot("-kernel", path, "-device", "virtio-rng-device", *words).returncode == 4
    assert boot("-kernel", path).returncode == 0
    boot("-dumpdtb", tmp_path / "tree", *words)
    dtc = peers.need("dtc", "device-tree-compiler")
    source = subprocess.run([dtc, tmp_path / "tree"], capture_output=True, check=True)
    assert b"virtio_mmio@10001000" in source.stdout and source.stderr == b""


def test_a_property_of_no_kind_is_refused() -> None:
    with pytest.raises(TypeError, match="property 'x' cannot"):
        fdt.flatten({"x": 1.5})


def test_the_tree_is_written_and_nothing_started(tmp_path: Path) -> None:
    done = boot("-dumpdtb", tmp_path / "tree", "-append", "hello")
    assert done.returncode == 0 and b"hello\0" in (tmp_path / "tree").read_bytes()


@pytest.mark.parametrize(("size", "expected"), [(4096, 0x8220_0000), (40 << 20, 0x8040_0000)])
def test_an_initrd_is_far_behind_its_kernel_if_there_is_room(size: int, expected: int, tmp_path: Path) -> None:
    """Half of RAM behind it, since kernels take what is behind them for themselves before they look."""
    (tmp_path / "kernel").write_bytes(bytes(4096))
    (tmp_path / "initrd").write_bytes(bytes(size - 1) + b"\1")
    words = ["-m", "64", "-kernel", str(tmp_path / "kernel"), "-initrd", str(tmp_path / "initrd")]
    assert main(["boot", *words, "--dumpdtb", str(tmp_path / "tree")]) == 0
    tree = (tmp_path / "tree").read_bytes()
    assert expected.to_bytes(8, "big") in tree and (expected + size).to_bytes(8, "big") in tree
