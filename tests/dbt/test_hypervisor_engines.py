"""Guests of a hypervisor in both engines, side by side: two stages of tables, traps to each mode, interrupts."""

from __future__ import annotations

import io
import sys
from functools import partial
from pathlib import Path
from random import Random

import pytest
from support import tablefs
from support.pair import csr_word, word
from support.riscv import asm, csrr, scaled
from support.small import (
    A0,
    A1,
    A2,
    A3,
    CODE,
    ECALL,
    GUEST,
    HANDLER,
    LEAF,
    OTHER,
    RAM,
    S2,
    S3,
    S4,
    SATP,
    SIZE,
    STRIDES,
    T0,
    T1,
    T2,
    TABLES,
    TEST,
    USER_LEAF,
    Setup,
    agreed,
    loop,
    mapped,
    run,
)

from dbt.cli import main
from dbt.lab.workbench import board
from dbt.machine import start
from dbt.machine.boards import Board
from dbt.machine.devices.console import Console
from dbt.machine.exits import SystemEvent
from dbt.machine.lockstep import MOST_STRIDE, lockstep
from dbt.options import Options
from guests.decode import encode
from guests.programs import system_file
from guests.riscv import machine
from guests.riscv import privileged as p
from guests.riscv.two_stage import WIDER

HYPERVISOR = machine.guest(None, True)
G_TABLES, HS_HANDLER = RAM + 0x14_0000, RAM + 0x3000
SCAUSE, STVAL, SEPC, HTVAL, HTINST, HSTATUS, HGATP = 0x142, 0x143, 0x141, 0x643, 0x64A, 0x600, 0x680
GUEST_LEAF = USER_LEAF  # the second stage asks for the user bit
DATA = RAM + 0x30_0000
MHARTID = 0xF14
SRET = word("sret")


def write(csr: int, rs1: int) -> int:
    return asm("csrrw", rd=0, rs1=rs1, csr=csr)


def guest(
    virtual: dict[int, tuple[int, int]], physical: dict[int, tuple[int, int]], mode: int = p.SUPERVISOR,
    levels: tuple[int, int] = (3, 3),
) -> Setup:  # fmt: skip
    """Begin in a guest, whose pages these are, and its guest-physical ones; what it needs beside is where it is.
    `levels` are those of its own tables and of the second stage: 3 are Sv39, 5 are Sv57.
    """

    def setup(board: Board) -> None:
        own = {CODE: (CODE, LEAF), TEST: (TEST, LEAF), HANDLER: (HANDLER, LEAF)}
        mapped(board, TABLES, {**own, **virtual}, levels=levels[0])
        tables = range(TABLES, TABLES + 0x1_0000, 0x1000)
        same = {at: (at, GUEST_LEAF) for at in (CODE, TEST, HANDLER, *tables)}
        mapped(board, G_TABLES, {**same, **physical}, 0x4000, levels[1])
        slots = board.vcpu.state.slots
        slots[p.PMPADDR0], slots[p.PMPCFG0] = (1 << 54) - 1, 0x1F
        slots[p.VSATP] = levels[0] + 5 << 60 | TABLES >> 12
        slots[p.HGATP] = levels[1] + 5 << 60 | 5 << 44 | G_TABLES >> 12
        slots[p.PRIVILEGE], slots[p.VIRTUAL] = mode, 1
        slots[p.STVEC], slots[p.VSTVEC] = HS_HANDLER, HANDLER
        slots[p.MEDELEG], slots[p.HEDELEG] = 0xF0_B7FF, 1 << 13 | 1 << 8
        slots[p.MCOUNTEREN] = slots[p.HCOUNTEREN] = slots[p.SCOUNTEREN] = 7
        slots[p.MSTATUS] |= p.FS
        slots[p.VSSTATUS] |= p.FS

    return setup


STEP_OVER = [  # a hypervisor that adds up what it is told, and has its guest go on behind the instruction
    *(one for csr, total in ((SCAUSE, A1), (STVAL, A2), (HTVAL, A3)) for one in (
        csrr(T0, csr), asm("add", rd=total, rs1=total, rs2=T0))),
    csrr(T0, HTINST), asm("add", rd=A3, rs1=A3, rs2=T0), csrr(T0, HSTATUS), asm("xor", rd=A2, rs1=A2, rs2=T0),
    csrr(T0, SEPC), asm("addi", rd=T0, rs1=T0, imm=4), write(SEPC, T0), SRET,
]  # fmt: skip


@STRIDES
def test_a_guest_calls_its_hypervisor(stride: int) -> None:
    """A call, an instruction that it may not execute, one that none may, and an address that is not there."""
    body = [ECALL, csrr(T1, HSTATUS), csrr(T1, MHARTID), asm("ld", rd=T1, rs1=S3, imm=8),
            asm("sd", rs1=S3, rs2=T1, imm=8)]  # fmt: skip
    board = run(stride, {CODE: loop(*body), HS_HANDLER: STEP_OVER}, {S2: 30, S3: DATA},
                guest({DATA: (DATA, LEAF)}, {}), HYPERVISOR)  # fmt: skip
    slots = board.vcpu.state.slots
    assert slots[A1] == 30 * (10 + 22 + 2 + 21 + 23)
    assert slots[A3] == 30 * 2 * (DATA + 8 >> 2)
    if stride > 1:
        assert board.vcpu.taken == {(cause, 5): 30 for cause in (8, 22, 2, 21, 23)}
        assert board.vcpu.engine.stepped < 30  # all of these traps are taken in native code


@pytest.mark.parametrize("own", [3, 4, 5])
@pytest.mark.parametrize("second", [3, 4, 5])
def test_each_width_of_both_stages(own: int, second: int) -> None:
    """Guest-physical addresses have two bits more than virtual ones, and no further one: a page at the highest of them
    is loaded from and stored to; one behind it is where no guest's memory can be. In native code.
    """
    top = min(11 + 9 * second + WIDER, 55)  # entries of the guest's own have no addresses beyond
    high, behind, page = 1 << top, 1 << 12 + 9 * second + WIDER, DATA + 0x1000
    body = [asm("ld", rd=T1, rs1=S3, imm=0), asm("add", rd=T1, rs1=T1, rs2=S2), asm("sd", rs1=S3, rs2=T1, imm=0),
            asm("ld", rd=T2, rs1=S4, imm=8), asm("sd", rs1=S4, rs2=T1, imm=16)]  # fmt: skip
    far = behind if behind < 1 << 56 else DATA + 0x2000
    setup = guest({page: (high, LEAF), DATA: (far, LEAF)}, {high: (OTHER, GUEST_LEAF)}, levels=(own, second))
    board = run(300, {CODE: loop(*body), HS_HANDLER: STEP_OVER}, {S2: 30, S3: page, S4: DATA}, setup, HYPERVISOR)
    slots = board.vcpu.state.slots
    assert board.vm.memory.read(OTHER, 8) == sum(range(31))
    assert slots[A1] == 30 * (21 + 23) and slots[A3] == 30 * ((far + 8 >> 2) + (far + 16 >> 2))
    assert board.vcpu.engine.stepped < 30


@STRIDES
def test_a_hypervisor_reads_what_its_guest_has(stride: int) -> None:
    """Its instruction at sepc, by hlvx, and a word of its data, which is elsewhere by both stages; in native code."""
    loads = {row.name: row for row in HYPERVISOR.rows if row.extension == "h"}
    hlv, hlvx = (encode(loads[name], rd=T1, rs1=rs1) for name, rs1 in (("hlv.d", S3), ("hlvx.hu", T0)))
    handler = [csrr(T0, SEPC), hlvx, asm("add", rd=A1, rs1=A1, rs2=T1), hlv, asm("add", rd=A2, rs1=A2, rs2=T1),
               asm("addi", rd=T0, rs1=T0, imm=4), write(SEPC, T0), SRET]  # fmt: skip
    body = [asm("sd", rs1=S3, rs2=S2, imm=0), ECALL]
    board = run(stride, {CODE: loop(*body), HS_HANDLER: handler}, {S2: 40, S3: DATA},
                guest({DATA: (DATA + 0x5000, LEAF)}, {DATA + 0x5000: (OTHER, GUEST_LEAF)}), HYPERVISOR)  # fmt: skip
    slots = board.vcpu.state.slots
    assert (slots[A1], slots[A2]) == (40 * (ECALL & 0xFFFF), sum(range(1, 41)))
    assert stride == 1 or board.vcpu.engine.stepped < 30


@STRIDES
def test_a_guests_own_handler(stride: int) -> None:
    """User mode of a guest: its calls and page faults are its supervisor's, by its own registers."""
    handler = [csrr(T0, SCAUSE), asm("add", rd=A1, rs1=A1, rs2=T0), csrr(T0, SEPC), asm("addi", rd=T0, rs1=T0, imm=4),
               write(SEPC, T0), asm("ld", rd=T0, rs1=S3, imm=0), asm("add", rd=A0, rs1=A0, rs2=T0), SRET]  # fmt: skip
    body = [asm("sd", rs1=S4, rs2=S2, imm=0), ECALL, asm("ld", rd=T1, rs1=S3, imm=0), asm("ld", rd=T2, rs1=S4, imm=0)]
    virtual = {CODE: (CODE, USER_LEAF), TEST: (TEST, USER_LEAF), DATA: (DATA, LEAF),
               DATA + 0x1000: (DATA + 0x1000, USER_LEAF)}  # fmt: skip
    physical = {DATA: (DATA + 0x8000, GUEST_LEAF), DATA + 0x1000: (DATA + 0x9000, GUEST_LEAF)}
    setup = guest(virtual, physical, p.USER)

    def with_data(board: Board) -> None:
        setup(board)
        board.vm.memory.poke(DATA + 0x8000, (5).to_bytes(8, "little"))

    board = run(stride, {CODE: loop(*body), HANDLER: handler}, {S2: 30, S3: DATA, S4: DATA + 0x1000}, with_data,
                HYPERVISOR)  # fmt: skip
    slots = board.vcpu.state.slots
    assert (slots[A0], slots[A1]) == (30 * 2 * 5, 30 * (8 + 13))
    assert board.vm.memory.read(DATA + 0x9000, 8) == 1


@STRIDES
def test_a_second_stage_that_changes_under_its_guest(stride: int) -> None:
    """Its hypervisor leads a page elsewhere at each call, by a store: loads, stores and code go there at once."""
    away = RAM + 0x40_0000
    pages = DATA, DATA + 0x1000
    handler = [asm("xor", rd=S4, rs1=S4, rs2=A2), asm("sd", rs1=S3, rs2=S4, imm=0), csrr(T0, SEPC),
               asm("addi", rd=T0, rs1=T0, imm=4), write(SEPC, T0), SRET]  # fmt: skip
    body = [ECALL, asm("jalr", rd=1, rs1=A3, imm=0), asm("ld", rd=T1, rs1=A3, imm=64),
            asm("add", rd=A1, rs1=A1, rs2=T1), asm("sd", rs1=A3, rs2=S2, imm=128)]  # fmt: skip
    setup = guest({away: (away, LEAF)}, {away: (pages[0], GUEST_LEAF)})
    code = {at: [asm("addi", rd=A0, rs1=A0, imm=n), asm("jalr", rd=0, rs1=1, imm=0)] for at, n in zip(pages, (1, 100))}

    def changing(board: Board) -> None:
        setup(board)
        memory, slots = board.vm.memory, board.vcpu.state.slots
        for i, at in enumerate(pages):
            memory.poke(at + 64, (1000 + i).to_bytes(8, "little"))
        entry = pages[0] >> 2 | GUEST_LEAF
        places = range(G_TABLES, G_TABLES + 0x1_0000, 8)
        slots[S3] = next(at for at in places if memory.read(at, 8) == entry)
        slots[S4], slots[A2] = entry, pages[0] >> 2 ^ pages[1] >> 2

    board = run(stride, {CODE: loop(*body), HS_HANDLER: handler, **code}, {S2: 40, A3: away}, changing, HYPERVISOR)
    slots, memory = board.vcpu.state.slots, board.vm.memory
    assert slots[A0] == 20 * 101 and slots[A1] == 20 * 2001
    assert [memory.read(at + 128, 8) for at in pages] == [1, 2]


@STRIDES
def test_two_guests_with_one_address_space(stride: int) -> None:
    """Their vsatp is the same, and so are their tables' guest-physical addresses; what these lead to is not."""
    other = G_TABLES + 0x1_0000
    handler = [csrr(T0, HGATP), asm("xor", rd=T0, rs1=T0, rs2=A2), write(HGATP, T0), csrr(T0, SEPC),
               asm("addi", rd=T0, rs1=T0, imm=4), write(SEPC, T0), SRET]  # fmt: skip
    body = [ECALL, asm("ld", rd=T1, rs1=S3, imm=0), asm("add", rd=T1, rs1=T1, rs2=S4), asm("sd", rs1=S3, rs2=T1, imm=0)]
    setup = guest({DATA: (DATA, LEAF)}, {DATA: (DATA, GUEST_LEAF)})

    def two(board: Board) -> None:
        setup(board)
        tables = range(TABLES, TABLES + 0x1_0000, 0x1000)
        same = {at: (at, GUEST_LEAF) for at in (CODE, TEST, HANDLER, *tables)}
        mapped(board, other, {**same, DATA: (DATA + 0x1000, GUEST_LEAF)}, 0x4000)
        board.vcpu.state.slots[A2] = G_TABLES >> 12 ^ other >> 12 | 1 << 44

    board = run(stride, {CODE: loop(*body), HS_HANDLER: handler}, {S2: 40, S3: DATA, S4: 1}, two, HYPERVISOR)
    assert [board.vm.memory.read(DATA + 0x1000 * i, 8) for i in range(2)] == [20, 20]
    assert stride == 1 or board.vcpu.engine.stepped < 20  # a world switch is native code's


def test_what_people_are_shown_of_a_guest() -> None:
    """Where its addresses lead, through both stages, from which modes traps come, and who takes its interrupts."""
    board = Board(HYPERVISOR, SIZE, Console(lambda data: None), "reference", Options())
    guest({DATA: (DATA + 0x5000, LEAF)}, {DATA + 0x5000: (OTHER, GUEST_LEAF)})(board)
    slots, read = board.vcpu.state.slots, lambda at: board.vm.memory.read(at, 8)
    inspection = board.vcpu.privileged.inspection
    leads = partial(inspection.physical, slots, read)
    assert leads(DATA + 8) == OTHER + 8 and leads(CODE) == CODE and leads(DATA + 0x1000) is None
    slots[p.VSATP] = 0
    assert leads(DATA + 0x5008) == OTHER + 8 and leads(DATA) is None and leads(1 << 41 | DATA) is None
    slots[p.VIRTUAL] = 0
    assert leads(DATA) == DATA
    slots[p.HIDELEG] = p.VSTI
    takers = {one.name: one.mode for one in inspection.interrupts(board.vcpu.at_rest())}
    assert takers["virtual supervisor timer"] == "VS" and takers["virtual supervisor software"] == "S"
    assert inspection.trap(8, 5) == (10, "environment call from VS-mode")
    assert inspection.trap(22, 4) == (22, "virtual instruction")
    assert inspection.control(board.vcpu.at_rest())["hgatp"] == slots[p.HGATP]


def test_firmware_fences_guests_of_a_supervisor_that_may_have_some() -> None:
    """The SBI's remote hfence.gvma and hfence.vvma, functions 3 to 6."""
    for guest, answer in ((HYPERVISOR, 0), (GUEST, -2 & (1 << 64) - 1)):
        board = Board(guest, SIZE, Console(lambda data: None), "reference", Options())
        slots = board.vcpu.state.slots
        firmware = board.vcpu.privileged.firmware(slots, None, [])
        firmware.begin(0)
        for function in range(3, 7):
            slots[A0], slots[11], slots[16], slots[17] = 1, 0, function, 0x52464E43
            assert firmware.answers(8) and slots[A0] == answer
        assert slots[p.MEDELEG] >> 21 & 1 == (answer == 0)


@pytest.mark.parametrize("cpu, letters", [("rv64", "imafdc"), ("rv64,h=true", "imafdch"), ("rv64gch", "imafdch")])
def test_the_command_takes_it_and_the_tree_says_so(cpu: str, letters: str, tmp_path: Path) -> None:
    assert main(["boot", "-cpu", cpu, "--dumpdtb", str(tmp_path / "tree"), "@hypervisor"]) == 0
    assert f"rv64{letters}_".encode() in (tmp_path / "tree").read_bytes()


def test_the_command_knows_no_other_property(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["boot", "-cpu", "rv64,x=true", "@hypervisor"]) == 2
    assert capfd.readouterr().err.startswith("dragoman: --cpu: 'x=true' is no property of a model (there is: h=true)")


def test_the_hypervisor_says_what_it_needs(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    assert main(["boot", "--deterministic", "@hypervisor"]) == 1
    assert "this hart has no hypervisor extension" in capfd.readouterr().out


def test_the_hypervisor_and_its_guest_from_reset_to_shutdown() -> None:
    """World switches, both stages, an emulated console, calls, interrupts: all registers and CSRs at every stop."""
    boards: list[Board] = []

    def make(console: Console, engine: str, options: Options) -> Board:
        board = Board(HYPERVISOR, 2 * SIZE, console, engine, options)
        console.feed(b"primes 300\nforks\nshutdown\n")
        start.place(board, start.Files(None, system_file("hypervisor"), None))
        return board

    report = agreed(lockstep(make, MOST_STRIDE, mutate=boards.append))
    assert report.exit == SystemEvent(1)
    assert b"15 processes, 0 pages lost" in report.output and b"the guest has ended with status 0" in report.output
    taken = boards[0].vcpu.taken
    assert sum(taken[cause, 4] for cause in (8, 13, 15)) > 100  # the guest's own traps
    assert sum(taken[cause, 5] for cause in (8, 20, 21, 23)) > 400  # exits
    assert boards[0].vcpu.engine.stepped < 4000  # of 1.7 million


def test_ways_into_a_guest_and_out_of_it_are_told_where_they_are() -> None:
    """Each, in each engine, at its instruction: as who watches all instructions sees the mode."""
    most = 200_000
    told: dict[str, list[tuple[str, int]]] = {}
    for engine in ("reference", "translated"):
        made, _ = board("world", engine=engine)
        vcpu, seen = made.vcpu, told.setdefault(engine, [])
        vcpu.crossed = partial(lambda vcpu, seen, trap: seen.append((trap, vcpu.retired)), vcpu, seen)
        made.vm.run(most=most)
    made, _ = board("world", engine="reference")
    vcpu, watched, inside = made.vcpu, [], [False]

    def watch(pc: int, decoded: object) -> None:
        """An instruction, not counted yet: the last one before a way in, or the first one behind a way out."""
        if inside[-1] != (now := vcpu.mode >= 4):
            inside.append(now)
            watched.append(("" if now else "environment call from VS-mode", vcpu.retired + now))

    vcpu.engine.watch = watch
    made.vm.run(most=most)
    assert told["reference"] == told["translated"] == watched and len(watched) > 100


def test_a_disk_is_passed_through_to_the_guest(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads and writes files by its own driver, where the hypervisor has mapped the transport for it."""
    disk = tmp_path / "disk"
    disk.write_bytes(tablefs.write({"note": b"kept\n"}))
    script = b"cat note\nwrite other words\nshutdown 3\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(script)))
    words = ["-cpu", "rv64,h=true", "--deterministic", "-drive", f"file={disk}", "@hypervisor"]
    assert main(["boot", *words]) == 3
    assert "$ cat note\r\nkept\r\n" in capfd.readouterr().out.replace("\r\r", "\r")
    assert tablefs.read(disk.read_bytes()) == {"note": b"kept\n", "other": b"words\n"}


INSIDE = [RAM + 0x30_0000 + 0x1000 * i for i in range(6)]
CSRS = (0x100, 0x104, 0x140, 0x141, 0x142, 0x143, 0x144, 0x106, 0x10A, 0xC01, 0xC02, SATP, 0x200, 0x600, 0x680, 0x300)


def wild(rng: Random) -> int:
    """An instruction of a guest that may do anything but jump; its data is around S3."""
    match rng.randrange(8):
        case 0:
            number = rng.choice(CSRS)
            changed = 0 if number == SATP else rng.choice((0, T1))  # its tables stay
            return csr_word(rng.choice(("csrrs", "csrrc")), number, {"rs1": changed})
        case 1:
            return rng.choice((ECALL, 0x100073, word("sfence.vma", rs1=0, rs2=0), word("hfence.gvma", rs1=0, rs2=0)))
        case 2:
            return word(rng.choice(("hlv.d", "hlvx.wu", "hlv.bu")), rd=T1, rs1=S3)
        case 3:
            return asm("add", rd=S3, rs1=S3, rs2=A0)
        case 4:
            return asm("sub", rd=S3, rs1=S3, rs2=A0)
        case 5 | 6:
            return asm(rng.choice(("ld", "lw", "lbu", "lh")), rd=T1, rs1=S3, imm=rng.randrange(-64, 2048))
    return asm(rng.choice(("sd", "sw", "sb")), rs1=S3, rs2=T1, imm=rng.randrange(-64, 2048))


@pytest.mark.parametrize("seed", range(scaled(12)))
def test_random_guests(seed: int) -> None:
    """Random rights in both stages, random instructions, traps in each mode: every register and CSR at each stop."""
    rng = Random(seed)
    rights = lambda leaf: rng.choice((leaf, leaf, leaf, leaf & ~4, leaf & ~2, leaf & ~0x80, leaf & ~0x40, leaf & ~1))
    flags = lambda: rights(LEAF) ^ rng.choice((0, 0, 0x10))
    code = [wild(rng) for _ in range(60)]
    own = [csrr(T0, SEPC), asm("addi", rd=T0, rs1=T0, imm=4), write(SEPC, T0), SRET]
    setup = guest({at: (rng.choice(INSIDE), flags()) for at in INSIDE},
                  {at: (rng.choice(INSIDE), rights(GUEST_LEAF)) for at in INSIDE},
                  levels=(rng.choice((3, 4, 5)), rng.choice((3, 4, 5))))  # fmt: skip

    def random(board: Board) -> None:
        setup(board)
        slots = board.vcpu.state.slots
        slots[p.HEDELEG] = rng_state[0] & 0xB1FF
        slots[p.HENVCFG] = rng_state[1] & (p.ADUE | p.CBZE)
        slots[p.HSTATUS] |= rng_state[2] & (p.VTVM | p.SPVP)
        slots[p.VSSTATUS] |= rng_state[3] & (p.SUM | p.MXR)
        slots[p.MSTATUS] |= rng_state[4] & (p.SUM | p.MXR)

    rng_state = [rng.getrandbits(64) for _ in range(5)]
    places = {CODE: loop(*code), HANDLER: own, HS_HANDLER: STEP_OVER, OTHER: [SRET]}
    registers = {S2: 8, S3: INSIDE[2], A0: 0x1000, T1: rng.getrandbits(64)}
    run(rng.choice((1, 7, 300)), places, registers, random, HYPERVISOR)
