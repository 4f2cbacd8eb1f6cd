"""The monitor of a machine: what it shows, compared with QEMU's; stopping, steps, resets; the log of -d."""

from __future__ import annotations

import hashlib
import os
import pty
import re
import select
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest
from support import peers
from support.riscv import asm, scaled, words_to_bytes

from dbt.events import NEVER
from dbt.machine import start
from dbt.machine.boards import Board
from dbt.machine.devices.console import Console
from dbt.machine.devices.entropy import Entropy
from dbt.machine.exits import SYSTEM_EVENT_CRASH, SYSTEM_EVENT_SHUTDOWN, Intr, SystemEvent
from dbt.machine.log import Log
from dbt.machine.monitor import COMMANDS, SUBJECTS, Monitor
from dbt.machine.outside import Inputs
from dbt.machine.session import Abandoned, Session
from dbt.machine.vm import ENGINES, TURN
from dbt.options import Options
from guests.decode import encode
from guests.programs import system_file
from guests.riscv import machine

RAM = 0x8000_0000
SPIN = asm("jal", rd=0, imm=0)
MRET = encode(next(row for row in machine.guest().rows if row.name == "mret"))
KERNEL = start.Files(None, system_file("kernel"), None)


def constant(register: int, value: int) -> list[int]:
    """Load 64 bits, a byte at a time."""
    words = [asm("addi", rd=register, rs1=0, imm=0)]
    for shift in range(56, -8, -8):
        words += [asm("slli", rd=register, rs1=register, imm=8),
                  asm("ori", rd=register, rs1=register, imm=value >> shift & 0xFF)]  # fmt: skip
    return words


INNER = 0x8000  # where the part in supervisor mode begins
QEMU_SHOWS = """pc mhartid mstatus mie mideleg medeleg mtvec stvec mepc sepc mcause scause mtval stval mscratch sscratch
satp""".split()
TABLES = RAM + 0x1_0000  # three pages: of 1 GiB, of 2 MiB, of 4 KiB
V, R, W, X, U, G, A, D = (1 << bit for bit in range(8))


def leaf(physical: int, flags: int) -> int:
    return physical >> 12 << 10 | flags | V


def program() -> bytes:
    """Registers with known values, page tables with pages of each size, and then a loop in supervisor mode."""
    random = Random(5)
    body = [*constant(5, 0x2000), asm("csrrw", rd=0, rs1=5, csr=0x300)]  # mstatus.FS: initial
    for register in range(32):
        body += [*constant(6, random.getrandbits(64)), asm("fmv.d.x", rd=register, rs1=6)]
    for csr, value in ((0x3B0, (1 << 54) - 1), (0x3A0, 0x1F), (0x180, 8 << 60 | TABLES >> 12), (0x302, 0xB108),
                       (0x304, 0x2), (0x305, RAM), (0x105, RAM + 4), (0x140, 0x1234), (0x340, 1 << 63), (0x143, 77),
                       (0x342, 1 << 63 | 7), (0x300, 0x6800), (0x341, RAM + INNER)):  # fmt: skip
        body += [*constant(5, value), asm("csrrw", rd=0, rs1=5, csr=csr)]
    body.append(MRET)
    inner: list[int] = []
    for register in range(1, 32):
        inner += constant(register, random.getrandbits(64))
    inner.append(SPIN)
    image = bytearray(TABLES - RAM + 0x4000)
    image[: 4 * len(body)] = words_to_bytes(body)
    image[INNER : INNER + 4 * len(inner)] = words_to_bytes(inner)

    def entry(table: int, index: int, value: int) -> None:
        at = TABLES - RAM + 0x1000 * table + 8 * index
        image[at : at + 8] = value.to_bytes(8, "little")

    entry(0, 0, leaf(0, R | W | A | D))
    entry(0, 2, leaf(RAM, R | W | X | A | D))
    entry(0, 1, (TABLES + 0x1000) >> 12 << 10 | V)
    entry(0, 511, (TABLES + 0x1000) >> 12 << 10 | V)
    entry(1, 0, leaf(RAM, R | X | G | A))
    entry(1, 1, (TABLES + 0x2000) >> 12 << 10 | V)
    entry(1, 511, leaf(RAM + 0x20_0000, R | W | U | A | D))
    for index, physical, flags in ((0, RAM, R), (1, RAM + 0x1000, R), (2, RAM + 0x3000, R), (3, RAM + 0x4000, R | W),
                                   (9, 0x1000_0000, R | W | A | D), (511, RAM + INNER, X | U)):  # fmt: skip
        entry(2, index, leaf(physical, flags))
    return bytes(image)


ASKED = """info registers
info mem
x /7xw 0x80000000
x /5xg 0x40000ff8
x /4i 0x80000000
xp /3xh 0x80000001
xp /9xb 0x80010000
xp /4ug 0x80010000
xp /3dw 0x80008000
xp /5ow 0x80008000
x /1xw 0x50000000
xp /1xw 0x5000000000
print 0x20+7-1
print/d 0-5
""".splitlines()


@contextmanager
def started(*words: str | Path, **pipes: int) -> Iterator[subprocess.Popen[bytes]]:
    """`dragoman boot` with these words."""
    environment = {**os.environ, "PYTHONPATH": str(peers.REPOSITORY)}
    command = [sys.executable, "-m", "dragoman", "boot", *map(str, words)]
    process = subprocess.Popen(command, env=environment, **{"stderr": subprocess.PIPE, **pipes})
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


class Talk:
    """A monitor or a console on a descriptor that is read and written."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._seen = b""

    def expect(self, text: str) -> str:
        """What comes up to this text, which must come."""
        wanted = text.encode()
        while wanted not in self._seen:
            assert select.select([self.descriptor], [], [], 60)[0], f"{text!r} did not come: {self._seen!r}"
            more = os.read(self.descriptor, 1 << 16)
            assert more, f"{text!r} did not come: {self._seen!r}"
            self._seen += more.replace(b"\r", b"")
        before, _, self._seen = self._seen.partition(wanted)
        return before.decode()

    def type(self, text: str) -> None:
        os.write(self.descriptor, text.encode())

    def ask(self, command: str) -> str:
        """The answer to a command of a monitor, whose prompt has been seen."""
        self.type(command + "\n")
        return self.expect("(dragoman) ")


# --- compared with QEMU's -----------------------------------------------------------------------------------------


def from_qemu(kernel: Path) -> list[list[str]]:
    """What QEMU's monitor answers, without what its terminal is sent besides."""
    qemu = peers.need("qemu-system-riscv64", "qemu-system-misc")
    words = "-M virt -m 32 -bios none -display none -serial none -monitor stdio -kernel".split()
    with subprocess.Popen([qemu, *words, kernel], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        time.sleep(1)
        process.stdin.write(("stop\n" + "\n".join(ASKED) + "\nquit\n").encode())
        process.stdin.flush()
        text = re.sub(r"\x1b\[[KD]", "", process.stdout.read().decode()).replace("\r", "")
    return [part.strip("\n").split("\n")[1:] for part in text.split("(qemu) ")[2:-1]]


def test_what_is_shown_is_what_qemu_s_monitor_shows(tmp_path: Path) -> None:
    """Registers, page tables and memory of the same program, in the same words."""
    kernel = tmp_path / "kernel"
    kernel.write_bytes(program())
    theirs = dict(zip(ASKED, from_qemu(kernel), strict=True))
    made = Hand(files=start.Files(None, str(kernel), None))
    made.session.board.vm.run(200_000)
    for command, answer in theirs.items():
        ours = made.ask(command).splitlines()
        if command.startswith("x /4i"):
            assert [line.split()[:2] for line in ours] == [line.split()[:2] for line in answer]
        elif command == "info registers":
            assert control(ours) == control(answer) and len(control(ours)) == 17
            assert [line for line in ours if "/" in line] == [line for line in answer if "/" in line]
        else:
            assert [line.strip() for line in ours] == [line.strip() for line in answer if line], command


def control(lines: list[str]) -> dict[str, str]:
    """The control registers that both show, but for the timer's line, which is time's."""
    rows = dict(line.split() for line in lines if len(line.split()) == 2)
    return {name: value for name, value in rows.items() if name in QEMU_SHOWS}


def trapping() -> bytes:
    """Traps of many kinds in machine mode, and in user mode; the handler goes on behind each, and ends at an ecall."""
    kinds = [0xFFFF_FFFF, asm("ld", rd=7, rs1=0, imm=8), asm("sd", rs1=0, rs2=0, imm=16),
             asm("csrrw", rd=0, rs1=0, csr=0x7C0), asm("ecall")]  # fmt: skip
    to_user = [*constant(5, 0), asm("csrrw", rd=0, rs1=5, csr=0x300), *constant(5, (1 << 54) - 1),
               asm("csrrw", rd=0, rs1=5, csr=0x3B0), *constant(5, 0x1F), asm("csrrw", rd=0, rs1=5, csr=0x3A0),
               asm("auipc", rd=5, imm=0), asm("addi", rd=5, rs1=5, imm=16), asm("csrrw", rd=0, rs1=5, csr=0x341),
               MRET]  # fmt: skip
    handler = [asm("csrrw", rd=6, rs1=0, csr=0x342), asm("addi", rd=7, rs1=0, imm=8),
               asm("beq", rs1=6, rs2=7, imm=20), asm("csrrw", rd=6, rs1=6, csr=0x341),
               asm("addi", rd=6, rs1=6, imm=4), asm("csrrw", rd=0, rs1=6, csr=0x341), MRET,
               *constant(5, 0x10_0000), *constant(6, 0x5555), asm("sw", rs1=5, rs2=6, imm=0), SPIN]  # fmt: skip
    begin = [*constant(5, RAM + 0x1000), asm("csrrw", rd=0, rs1=5, csr=0x305)]
    return words_to_bytes([*begin, *kinds, *to_user, *kinds]).ljust(0x1000, b"\0") + words_to_bytes(handler)


def test_traps_are_logged_as_qemu_logs_them(tmp_path: Path) -> None:
    """-d int: the same traps at the same addresses with the same values; the names of causes are the manual's."""
    qemu = peers.need("qemu-system-riscv64", "qemu-system-misc")
    kernel, ours, theirs = tmp_path / "kernel", tmp_path / "ours", tmp_path / "theirs"
    kernel.write_bytes(trapping())
    words = ["-M", "virt", "-m", "32", "-bios", "none", "-nographic", "-kernel", str(kernel), "-d", "int", "-D"]
    subprocess.run([qemu, *words, theirs], stdin=subprocess.DEVNULL, check=True, timeout=60)
    with started(*words, ours, stdin=subprocess.DEVNULL) as process:
        assert process.wait(60) == 0
    lines = [[line.partition(", desc=")[0] for line in path.read_text().splitlines()] for path in (ours, theirs)]
    assert lines[0] == lines[1] and len(lines[0]) == 10
    assert "desc=environment call from U-mode" in ours.read_text()


# --- under a hand -------------------------------------------------------------------------------------------------


class Hand:
    """A machine without a host's clock, and its monitor."""

    def __init__(
        self, feed: bytes = b"", files: start.Files = KERNEL, most: int = NEVER, engine: str = "reference",
        harts: int = 1,
    ) -> None:  # fmt: skip
        self.printed = bytearray()
        self.logged: list[str] = []
        self.answers = bytearray()
        self.inputs = Inputs()
        console = Console(self.printed.extend)
        console.feed(feed)
        self.log = Log(self.logged.append)

        def build() -> Board:
            board = Board(machine.guest(), 32 << 20, console, engine, Options(disk=True), harts=harts)
            start.place(board, files)
            self.log.attach(board)
            return board

        self.session = Session(build, self.inputs, follows=False, most=most)
        self.monitor = Monitor(self.session, self.log, self.answers.extend)

    def ask(self, command: str) -> str:
        """A command's answer."""
        return self.monitor.answer(command)

    def digest(self) -> tuple[int, str]:
        """Where the machine is, and all that it has."""
        vcpu = self.session.board.vcpu
        slots = list(vcpu.state.slots)
        slots[vcpu.state.guest.sink_slot] = 0  # what was written to x0: nothing reads it, and engines need not keep it
        everything = self.session.board.vm.memory.peek(RAM, 32 << 20) + struct.pack(f"<{len(slots)}Q", *slots)
        everything += bytes(self.printed)
        return vcpu.retired, hashlib.sha256(everything).hexdigest()


@pytest.fixture
def hand() -> Hand:
    """Our kernel at its prompt, with a command typed."""
    made = Hand(b"echo hello\nshutdown 3\n")
    while b"$ " not in made.printed:
        made.session.board.vm.run(made.session.board.vm.clock.count + 1000)
    return made


@pytest.mark.parametrize("engine", ENGINES)
def test_a_machine_that_is_stepped_goes_where_it_would_have_gone(engine: str) -> None:
    """Steps, stops and views change nothing: the digest is that of a run without, and of the reference's."""
    straight = Hand(b"echo hello\nshutdown 3\n")
    assert straight.session.run() == SystemEvent(SYSTEM_EVENT_CRASH, 3)
    stepped, random = Hand(b"echo hello\nshutdown 3\n", engine=engine), Random(1)
    for _ in range(scaled(20)):
        stepped.session.board.vm.run(stepped.session.board.vm.clock.count + random.randrange(10_000))
        stepped.ask("stop")
        stepped.ask(f"step {random.randrange(300)}")
        for subject in SUBJECTS:
            stepped.ask(f"info {subject}")
        stepped.ask("x /20i $pc")
        stepped.ask("cont")
    assert stepped.session.run() == SystemEvent(SYSTEM_EVENT_CRASH, 3)
    assert stepped.digest() == straight.digest() and b"hello" in stepped.printed
    stepped.session.board.vm.close()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["ticks", "pagefault"])
def test_a_step_is_one_thing(name: str, engine: str) -> None:
    """An instruction, a trap or an interrupt that is taken, or time that passes until one is due; and then the end."""
    hand, kinds = Hand(files=start.Files(None, system_file(name), None), engine=engine), set()
    hand.ask("stop")
    board = hand.session.board
    while hand.session.ended is None:
        before = board.vcpu.retired, sum(board.vcpu.taken.values()), board.vm.clock.waited
        hand.ask("step")
        after = board.vcpu.retired, sum(board.vcpu.taken.values()), board.vm.clock.waited
        change = tuple(new != old for old, new in zip(before, after))
        kinds.add(change)
        assert sum(change) == 1 and after[0] - before[0] <= 1 and after[1] - before[1] <= 1
    assert kinds >= {(True, False, False), (False, True, False)} and len(kinds) == 2 + (name == "ticks")
    there = board.vcpu.retired
    hand.ask("step")
    assert board.vcpu.retired == there and hand.session.run() == SystemEvent(SYSTEM_EVENT_SHUTDOWN)
    board.vm.close()


def test_a_reset_begins_anew() -> None:
    """The second start is as the first: devices too. A machine that stood still stands still at its beginning."""
    fresh, hand = Hand(), Hand()
    hand.session.board.vm.run(200_000)
    hand.ask("stop")
    hand.ask("system_reset")
    assert hand.ask("info status") == "VM status: paused\n" and hand.session.retired > 100_000
    assert hand.ask("x /1i $pc") == fresh.ask("x /1i $pc") and hand.ask("info qtree") == fresh.ask("info qtree")
    hand.printed.clear()
    hand.ask("cont")
    assert "before resets" in hand.ask("info clock")
    for each in (hand, fresh):
        each.session.board.vm.run(400_000)
    assert hand.digest() == fresh.digest() and b"$ " in hand.printed


def test_a_guest_s_reset_starts_again_unless_it_is_to_end(tmp_path: Path) -> None:
    """It counts its starts on the serial port; the limit holds for all of them together."""
    words = [*constant(5, 0x1000_0000), *constant(6, ord("R")), asm("sb", rs1=5, rs2=6, imm=0),
             *constant(5, 0x10_0000), *constant(6, 0x7777), asm("sw", rs1=5, rs2=6, imm=0), SPIN]  # fmt: skip
    kernel = tmp_path / "resets"
    kernel.write_bytes(words_to_bytes(words))
    made = Hand(files=start.Files(None, str(kernel), None), most=1000)
    assert isinstance(made.session.run(), Intr)
    assert made.session.retired + made.session.board.vcpu.retired in range(1000, 1010)
    assert bytes(made.printed) == b"R" * (1000 // 77 + 1)
    with started("-no-reboot", "-kernel", kernel, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, b"R") and b"asked for a reset, and ended" in err


def test_the_monitor_ends_the_machine(hand: Hand) -> None:
    hand.ask("quit")
    assert hand.session.run() == SystemEvent(SYSTEM_EVENT_SHUTDOWN)


def test_who_stands_still_with_nobody_there_is_abandoned(hand: Hand) -> None:
    hand.ask("stop")
    with pytest.raises(Abandoned):
        hand.session.run()


def test_what_a_device_asks_for_is_not_lost_by_a_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The guest turns itself off in the slice in which somebody says stop."""
    made = Hand(b"shutdown 7\n")
    finisher = next(m.device for m in made.session.board.vm.memory.devices if m.device.name == "test")
    write = finisher.write

    def written(offset: int, size: int, value: int) -> None:
        write(offset, size, value)
        made.ask("stop")

    monkeypatch.setattr(finisher, "write", written)
    assert made.session.run() == SystemEvent(SYSTEM_EVENT_CRASH, 7)


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("", ""),
        ("foo", "unknown command: 'foo'"),
        ("info foo", "unknown command: 'info foo'"),
        ("help foo", "unknown command: 'foo'"),
        ("help stop", "stop|s -- stop the machine"),
        ("?", "system_reset -- start"),
        ("info", "info mem -- what its page tables map"),
        ("step", "step: the machine runs: stop it first"),
        ("stop/4", "stop: takes no format"),
        ("x", "x: an address is wanted"),
        ("x /4q 0", "x: the format '4q' is not understood"),
        ("x /0x 0", "x: from 1 to"),
        ("x /9999999x 0", "x: from 1 to"),
        ("x /4xw $nothing", "x: there is no register $nothing"),
        ("x /4xw here", "x: 'here' is no address or number"),
        ("x /4xw 1 2", "x: '1 2' is no address"),
        ("x /1xw 0xffffffffffffffff", "ffffffffffffffff: Cannot access memory"),
        ("xp /1xg 0x81fffffc", "0000000081fffffc: Cannot access memory"),
        ("xp /2i 0x100000", "0000000000100000: Cannot access memory"),
        ("print $a0 - $x10 + 0x10", "0x10"),
        ("print /d 0-1", "-1"),
        ("print /c 65", "'A'"),
        ("print /i 1", "print: the format 'i' is not understood"),
        ("log foo", "log: there is no item 'foo' (there are: int "),
        ("log help", "guest_errors "),
        ("log int,exec", ""),
        ("info status", "VM status: running"),
        ("info block", "there is none"),
        ("info network", "there is none"),
    ],
)
def test_answers(hand: Hand, command: str, answer: str) -> None:
    found = hand.ask(command)
    assert answer in found and (found.endswith("\n") or not found) and bool(found) == bool(answer)


def test_no_line_brings_the_monitor_down(hand: Hand) -> None:
    """Random bytes, and words of commands at random: an answer each, and the machine ends as it would have."""
    random = Random(3)
    names = [name for name in COMMANDS if name not in ("quit", "q", "system_reset")]
    words = [*names, *SUBJECTS, "/4xw", "/i", "/", "$pc", "$", "0x", "-1", "+", "99999999999999999999", "$satp", "none"]
    for _ in range(scaled(1000)):
        if random.random() < 0.3:
            line = random.randbytes(random.randrange(40)).replace(b"\n", b"")
        else:
            line = " ".join(random.choice(words) for _ in range(random.randrange(5))).encode()
        hand.monitor.feed(line + random.choice([b"\n", b"\r", b"\r\n"]))
    assert hand.answers.count(b"(dragoman) ") >= scaled(1000) * 9 // 10
    hand.ask("cont")
    assert hand.session.run() == SystemEvent(SYSTEM_EVENT_CRASH, 3)


def test_interrupts_and_traps_are_counted(hand: Hand) -> None:
    """The ticks of a timer that print a line each; calls of a shell, and the source of the console."""
    ticks = Hand(files=start.Files(None, system_file("ticks"), None))
    ticks.session.run()
    text = ticks.ask("info irq")
    found = re.search(r"^machine timer +7 +\S+ +\S+ +M +(\d+)$", text, re.M)
    assert found and int(found[1]) == sum(ticks.session.board.vcpu.taken.values()) > 2
    hand.session.run()
    text = hand.ask("info irq")
    calls = re.search(r"^environment call from U-mode +8 from U +(\d+)$", text, re.M)
    assert calls and int(calls[1]) > 5 and re.search(r"^    10 +1 .* 1 serial$", text, re.M)


def test_what_is_remembered_is_what_is_mapped(hand: Hand) -> None:
    """Each page of `info tlb` is in a run of `info mem`, at the same distance, with rights for what it is used for."""
    runs = [line.split() for line in hand.ask("info mem").splitlines()[2:]]
    pages = [line.split() for line in hand.ask("info tlb").splitlines()[1:]]
    assert len(pages) > 5
    for at, where, kinds in pages:
        inside = [(int(r[0], 16), int(r[1], 16), r[3]) for r in runs
                  if int(r[0], 16) <= int(at, 16) < int(r[0], 16) + int(r[2], 16)]  # fmt: skip
        virtual, physical, rights = inside[0]
        assert int(at, 16) - virtual == int(where, 16) - physical
        assert all(right in rights for kind, right in zip("lsf", "rwx") if kind in kinds)


# --- the log --------------------------------------------------------------------------------------------------------


def test_the_log_has_each_block_and_each_instruction_once() -> None:
    made = Hand(b"shutdown\n")
    made.ask("log exec,in_asm")
    made.session.run()
    vcpu = made.session.board.vcpu
    blocks = [line for line in made.logged if line.startswith("Trace 0: ")]
    listing = [line.split(":")[0] for line in made.logged if line.startswith("0x")]
    assert len(blocks) == vcpu.state.blocks + sum(vcpu.taken.values()) and len(listing) == len(set(listing)) > 1000
    assert any("ecall" in line for line in made.logged) and any("mret" in line for line in made.logged)


def test_the_log_is_silent_when_it_is_told_so(hand: Hand) -> None:
    hand.ask("log int,mmu,exec,in_asm")
    hand.session.board.vm.run(hand.session.board.vm.clock.count + 1000)
    seen = len(hand.logged)
    hand.ask("log none")
    hand.session.run()
    assert seen and len(hand.logged) == seen


def test_what_a_guest_does_wrong_is_told() -> None:
    made = Hand(b"fault load\nshutdown\n")
    made.ask("log guest_errors,mmu,cpu_reset")
    made.ask("stop")
    made.ask("system_reset")
    assert made.logged[0].startswith("CPU Reset") and "pc       0000000000001000" in made.logged[0]
    made.ask("cont")
    made.session.run()
    assert any(line.startswith("mmu: load of ") and ": trap 13" in line for line in made.logged)


def test_rings_that_make_no_sense_are_told(hand: Hand) -> None:
    """A chain without an end, and a ring where no memory is; the monitor shows what the driver has set up."""
    hand.ask("log guest_errors")
    board, table = hand.session.board, RAM + 0x10_0000
    for rings in (table, 1 << 40):
        transport = board.add_virtio(Entropy(bytes))
        for number, value in ((0x70, 0xF), (0x38, 4), (0x80, rings), (0x90, table + 0x100), (0xA0, table + 0x200),
                              (0x84, rings >> 32), (0x44, 1)):  # fmt: skip
            transport.write(number, 4, value & 0xFFFF_FFFF)
        board.vm.memory.poke(table, struct.pack("<QIHH", table + 0x1000, 16, 1, 0))  # itself is the next one
        board.vm.memory.poke(table + 0x100, struct.pack("<HHH", 0, 1, 0))
        assert "queue 0: 4 descriptors at" in hand.ask("info qtree")
        transport.write(0x50, 4, 0)
        assert transport.read(0x70, 4) & 64 and "status 0x4f" in hand.ask("info qtree")
    assert hand.logged == ["guest error: virtio_entropy: a chain without an end\n",
                           "guest error: virtio_entropy: a ring that is not in memory\n"]  # fmt: skip


# --- lines ----------------------------------------------------------------------------------------------------------


def test_ctrl_a_c_leads_to_the_monitor_and_back() -> None:
    """At a terminal: the guest's prompt, the monitor's, lines that are edited, and the guest again."""
    master, slave = pty.openpty()
    with started("-m", "32", "@kernel", stdin=slave, stdout=slave) as process:
        talk = Talk(master)
        talk.expect("$ ")
        talk.type("ec\x01cinfo statuz\x7fs\r")
        talk.expect("VM status: running\n(dragoman) ")
        time.sleep(0.5)  # it waits for another key
        talk.type("nonsense\x15stop\r")
        talk.expect("stop\n(dragoman) ")
        talk.type("step 2\r")
        assert "the hart waits for an interrupt\n0x00000000" in talk.expect("(dragoman) ")
        talk.type("cont\r\x01cho back\n")
        talk.expect("\nback\n$ ")
        talk.type("\x01c")
        talk.expect("(dragoman) ")
        talk.type("q\r")
        assert process.wait(60) == 0
    os.close(master)
    os.close(slave)


def test_a_monitor_at_a_socket_for_one_after_the_other(tmp_path: Path) -> None:
    path, serial = tmp_path / "monitor", tmp_path / "serial"
    words = ["-S", "-m", "32", "-monitor", f"unix:{path},server=on,wait=off", "-serial", f"file:{serial}", "@kernel"]

    def meet() -> tuple[socket.socket, Talk]:
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(path))
        talk = Talk(client.fileno())
        talk.expect("(dragoman) ")
        return client, talk

    with started(*words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not path.exists():
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
        client, talk = meet()
        assert talk.ask("info status") == "VM status: paused\n"
        assert "pc       0000000000001000" in talk.ask("info registers")
        assert talk.ask("step 4").startswith("0x0000000000001010:")
        talk.ask("cont")
        client.close()
        client, talk = meet()
        while "interrupt" not in talk.ask("info irq") or b"$ " not in serial.read_bytes():
            assert time.monotonic() < deadline
        talk.type("quit\n")
        assert process.wait(60) == 0
        client.close()
    assert not path.exists()


def test_commands_from_a_pipe(tmp_path: Path) -> None:
    """The machine runs on when they have ended, and if it stands still then it ends with a sentence."""
    serial = tmp_path / "serial"
    words = ["-monitor", "stdio", "-serial", f"file:{serial}", "-kernel", system_file("ticks")]
    with started(*words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        out, err = process.communicate(b"info status\n", timeout=60)
    assert process.returncode == 0 and out.endswith(b"VM status: running\n(dragoman) ") and err == b""
    assert serial.read_bytes()
    with started(*words, "-S", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        out, err = process.communicate(b"step 2\n", timeout=60)
    assert process.returncode == 125 and b"the machine is stopped, and the monitor's input has ended" in err
    assert b"0x0000000000001008:" in out


def test_a_repeatable_machine_at_a_terminal_hears_the_monitor_alone() -> None:
    """With --deterministic keys for the guest go nowhere, and Ctrl-A is ours."""
    master, slave = pty.openpty()
    with started("--deterministic", "-S", "-m", "32", "@kernel", stdin=slave, stdout=slave) as process:
        talk = Talk(master)
        while termios.tcgetattr(slave)[3] & termios.ECHO:  # it is ours from then on
            assert process.poll() is None
            time.sleep(0.05)
        talk.type("ignored\x01c")
        talk.expect("(dragoman) ")
        talk.type("step 3\r")
        talk.expect("0x000000000000100c:")
        talk.type("\x01x")
        assert process.wait(60) == 0
    os.close(master)
    os.close(slave)


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        (["-S"], 2, "there is no monitor that could"),
        (["-monitor", "stdio"], 2, "the serial port has the terminal"),
        (["-monitor", "vc"], 2, "'vc' is not understood (there are: mon:stdio"),
        (["-serial", "unix:{here}/s"], 2, "is not understood"),
        (["-serial", "file:{here}/absent/s"], 2, "no such file"),
        (["-serial", "mon:stdio", "--deterministic"], 2, "read before the machine starts"),
        (["-d", "everything"], 2, "there is no item 'everything' (there are: int "),
        (["-d", "int", "-D", "{here}/absent/log"], 2, "cannot write"),
    ],
)
def test_lines_that_cannot_be_get_a_sentence(tmp_path: Path, words: list[str], status: int, sentence: str) -> None:
    made = [word.format(here=tmp_path) for word in words]
    with started(*made, "@ticks", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        _, err = process.communicate(timeout=60)
    message = err.decode()
    assert process.returncode == status and sentence in message and message.startswith("dragoman: "), message
    assert message.count("\n") == 1


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("kept")
    words = ["-monitor", f"unix:{path},server,nowait", "@ticks"]
    with started(*words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        _, err = process.communicate(timeout=60)
    assert process.returncode == 2 and b"in use" in err and path.read_text() == "kept"


def test_items_of_the_log_are_listed() -> None:
    with started("-d", "help", stdout=subprocess.PIPE) as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and out.decode() == Log.help() and err == b""


def test_commands_that_come_together(tmp_path: Path) -> None:
    """All in one piece, while the machine runs: it stops, is stepped, starts again and goes on."""
    serial = tmp_path / "serial"
    words = ["-monitor", "stdio", "-serial", f"file:{serial}", "-m", "32", "@kernel"]
    with started(*words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        talk = Talk(process.stdout.fileno())
        talk.expect("(dragoman) ")
        while b"$ " not in (serial.read_bytes() if serial.exists() else b""):
            assert process.poll() is None
            time.sleep(0.05)
        process.stdin.write(b"stop\nstep 3\nsystem_reset\nstep\nx /1i $pc\ncont\ninfo status\n")
        process.stdin.flush()
        assert "0x0000000000001004:" in talk.expect("VM status: running\n(dragoman) ")
        while serial.read_bytes().count(b"$ ") < 2:
            assert process.poll() is None
            time.sleep(0.05)
        out, err = process.communicate(b"quit\n", timeout=60)
    assert process.returncode == 0 and err == b""


def test_people_look_at_one_hart_or_another() -> None:
    """Our kernel on two harts, of which the second one waits."""
    hand = Hand(b"shutdown\n", harts=2)
    hand.session.board.vm.run(TURN + 10_000)  # so the second one has had its turn
    first, second = hand.ask("info cpus").splitlines()
    assert re.fullmatch(r"\* CPU #0: pc=0x[0-9a-f]{16} running, [\d,]+ instructions", first)
    assert re.fullmatch(r"  CPU #1: pc=0x[0-9a-f]{16} waiting, \d+ instructions", second)
    assert hand.ask("info registers").startswith("CPU#0\n") and hand.ask("cpu 1") == ""
    shown = hand.ask("info registers")
    assert shown.startswith("CPU#1\n") and re.search(r"mhartid +0{15}1\n", shown)
    assert hand.ask("info cpus").splitlines()[1].startswith("* CPU #1")
    hand.ask("stop")
    assert hand.ask("step").startswith("CPU#0\n0x") and hand.ask("info registers").startswith("CPU#0\n")
    for wrong in ("cpu", "cpu 2", "cpu -1"):
        assert hand.ask(wrong) == "cpu: a hart is wanted, from 0 to 1\n"


def test_traps_are_logged_with_their_hart() -> None:
    hand = Hand(b"shutdown\n", harts=2)
    hand.ask("log int")
    assert hand.session.run() == SystemEvent(SYSTEM_EVENT_SHUTDOWN)
    assert hand.logged and all("hart:0, " in line for line in hand.logged)
    assert "CPU Reset (CPU 1)" in "".join(reset_log(2))


def reset_log(harts: int) -> list[str]:
    hand = Hand(harts=harts)
    hand.ask("log cpu_reset")
    hand.log.attach(hand.session.board)
    return hand.logged
