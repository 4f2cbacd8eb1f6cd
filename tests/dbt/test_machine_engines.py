"""Machines in both engines, side by side: bundled programs, code that changes, addresses that come to mean others."""

from __future__ import annotations

import io
import struct
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
from support import peers
from support.riscv import asm, csrr, scaled, words_to_bytes
from support.small import (
    A0,
    A1,
    A2,
    A3,
    A4,
    A5,
    CODE,
    ECALL,
    FENCE,
    GUEST,
    HANDLER,
    LEAF,
    MCAUSE,
    MEPC,
    MRET,
    MTVAL,
    OTHER,
    RA,
    RAM,
    RETURN,
    ROWS,
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
    TREE,
    USER_LEAF,
    Setup,
    agreed,
    end,
    loop,
    mapped,
    run,
)

from dbt.cli import main
from dbt.machine import images, start
from dbt.machine.boards import VIRTIO, Board
from dbt.machine.devices.block import Block
from dbt.machine.devices.console import Console
from dbt.machine.digest import digest
from dbt.machine.disks import Raw
from dbt.machine.exits import SystemEvent
from dbt.machine.lockstep import MOST_STRIDE, lockstep
from dbt.machine.tlb import Ram, TlbSpace
from dbt.options import Options
from dbt.state import NO_ADDRESS, RAM_HOST, State
from guests.decode import encode
from guests.programs import SYSTEMS, system_file
from guests.riscv import machine
from guests.riscv import privileged as p
from guests.spec import Treat
from ir.ops import MASK

OPENSBI = Path("/usr/share/qemu/opensbi-riscv64-generic-fw_dynamic.bin")


def bundled(name: str, feed: bytes, console: Console, engine: str, options: Options) -> Board:
    """A bundled program at its begin."""
    guest = machine.guest(hypervisor=SYSTEMS[name].hypervisor)
    board = Board(guest, SIZE, console, engine, options)
    console.feed(feed)
    placed = images.place(board.vm.memory, guest, system_file(name), RAM)
    board.vm.memory.poke(TREE, board.tree())
    board.reset(placed.entry, TREE)
    return board


LARGE = ("kernel", "hypervisor", "world")


@pytest.mark.parametrize("name", [name for name in SYSTEMS if name not in LARGE])
@STRIDES
def test_bundled_programs_from_reset_to_shutdown(name: str, stride: int) -> None:
    report = agreed(lockstep(partial(bundled, name, SYSTEMS[name].input.encode()), stride))
    assert report.exit == SystemEvent(1) and report.output.decode().replace("\r", "") == SYSTEMS[name].output


def test_a_thousand_world_switches() -> None:
    test_bundled_programs_from_reset_to_shutdown("world", 300)


@pytest.mark.parametrize("stride", [pytest.param(1, marks=pytest.mark.long), 500, MOST_STRIDE])
def test_the_kernel_from_reset_to_shutdown(stride: int) -> None:
    """Preemption, faults, forks: all registers and CSRs at every stop, all memory at the end.

    What is hot is in regions, where the stride lets it.
    """
    boards: list[Board] = []
    make = partial(bundled, "kernel", b"primes 300\nforks\nshutdown\n")
    report = agreed(lockstep(make, stride, seed=stride, mutate=boards.append))
    if stride == MOST_STRIDE:
        assert sum(boards[0].vcpu.engine.cache.all_retired.values()) > report.instructions // 2
    assert report.exit == SystemEvent(1) and b"15 processes, 0 pages lost" in report.output
    assert report.instructions > 1_000_000


def test_firmware_and_what_it_starts() -> None:
    """OpenSBI in machine mode, our kernel in supervisor mode: delegation, protection, calls from one to the other."""
    if not OPENSBI.exists():
        peers.missing(f"{OPENSBI} is not there: install the package opensbi or qemu-system-data")

    def make(console: Console, engine: str, options: Options) -> Board:
        board = Board(GUEST, 2 * SIZE, console, engine, options)
        console.feed(b"primes 300\nshutdown\n")
        start.place(board, start.Files(str(OPENSBI), system_file("kernel"), None))
        return board

    report = agreed(lockstep(make, MOST_STRIDE))
    assert report.exit == SystemEvent(1) and b"62 primes below 300" in report.output


@pytest.mark.parametrize("seed", range(scaled(2)))
def test_chaos_changes_nothing(seed: int) -> None:
    make = partial(bundled, "kernel", b"forks\nshutdown\n")
    assert agreed(lockstep(make, 2000, options=Options(chaos=seed))).exit == SystemEvent(1)


def test_a_worker_translates_for_a_machine() -> None:
    """When its answers come is chance, and what the machine does is not."""
    made = []
    for engine in ("translated", "reference"):
        board = bundled("kernel", b"primes 90000\nshutdown\n", Console(lambda data: None), engine,
                        Options(patience=0, promote=2000, background=True))  # fmt: skip
        assert board.vm.run() == SystemEvent(1)
        made.append(digest(board))
        if engine == "translated":
            background = board.vcpu.engine.promotion.background
            assert background.stats.asked and not background.stats.lost
        board.vm.close()
    assert made[0] == made[1]


def test_lockstep_finds_an_entry_that_leads_elsewhere() -> None:
    """A defect in what native code is told: RAM is one page further up."""

    def mutate(board: Board) -> None:
        board.vcpu.state.words[RAM_HOST] += 4096

    report = lockstep(partial(bundled, "kernel", b"shutdown\n"), 100, mutate=mutate)
    assert report.difference and report.difference[0].startswith("the engines differ after 0x")


def test_the_command_shows_a_difference_line_by_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    add = Ram.add

    def wrong(ram: Ram, state: State, space: TlbSpace) -> None:
        add(ram, state, space)
        state.words[RAM_HOST] += 4096

    monkeypatch.setattr(Ram, "add", wrong)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"shutdown\n")))
    assert main(["boot", "--lockstep=100", "@kernel"]) == 3
    first, *differences, last = capfd.readouterr().err.splitlines()
    assert first.startswith("dragoman: the engines differ after 0x") and last.endswith(" stops")
    assert differences and all(line.startswith("  ") for line in differences)


def ends(engine: str) -> str:
    """A digest of our kernel's end."""
    board = bundled("kernel", b"forks\nshutdown\n", Console(lambda data: None), engine, Options(patience=0))
    assert board.vm.run() == SystemEvent(1)
    found = digest(board)
    board.vm.close()
    return found


def test_twenty_translated_runs_end_as_the_reference_does() -> None:
    digests = {ends("translated") for _ in range(scaled(20))}
    assert digests == {ends("reference")}


def test_a_machine_finds_what_an_earlier_one_translated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Regions are found by a page's address and its bytes, so the second boot compiles nothing."""
    monkeypatch.setenv("DRAGOMAN_CACHE_DIR", str(tmp_path))
    made, found, digests = [], [], set()
    for options in (Options(patience=0, promote=2000, disk=True),) * 2 + (Options(patience=0),):
        board = bundled("kernel", b"primes 3000\nshutdown\n", Console(lambda data: None), "translated", options)
        assert board.vm.run() == SystemEvent(1)
        engine = board.vcpu.engine
        digests.add(digest(board))
        made.append(engine.translator.stats.translations)
        found.append(0 if engine.disk is None else engine.disk.stats.found)
        board.vm.close()
    assert made[0] > 3 and made[1:] == [0, 0] and found == [0, made[0], 0]
    assert len(digests) == 1


def test_what_goes_on_in_another_page_is_found_when_that_is_come_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loop calls a function two pages away: in the second run nothing has to become hot again."""
    monkeypatch.setenv("DRAGOMAN_CACHE_DIR", str(tmp_path))
    places = {CODE: loop(asm("jalr", rd=RA, rs1=S3, imm=0)), OTHER: [asm("addi", rd=A0, rs1=A0, imm=1), RETURN]}
    hot, found = [], []
    for _ in range(2):
        board = Board(GUEST, SIZE, Console(lambda data: None), "translated",
                      Options(patience=0, promote=2000, disk=True))  # fmt: skip
        for at, words in places.items():
            board.vm.memory.poke(at, words_to_bytes(words))
        board.vcpu.reset(CODE)
        board.vcpu.state.slots[S2], board.vcpu.state.slots[S3] = 20_000, OTHER
        assert board.vm.run() == SystemEvent(1) and board.vcpu.state.slots[A0] == 20_000
        engine = board.vcpu.engine
        assert engine.disk is not None
        hot.append(engine.exits["hot"])
        found.append(engine.disk.stats.found)
        board.vm.close()
    assert hot[0] and not hot[1] and not found[0] and found[1]


def test_masking_interrupts_is_done_in_place() -> None:
    """What a kernel does around each lock and in each trap: no call, and Python is not entered for it."""
    body = [asm("csrrci", rd=T0, imm=2, csr=0x100), asm("csrrsi", rd=T1, imm=2, csr=0x100),
            asm("csrrw", rd=T2, rs1=T0, csr=0x140), asm("csrrw", rd=0, rs1=T1, csr=MEPC)]  # fmt: skip
    board = Board(GUEST, SIZE, Console(lambda data: None), "translated", Options(patience=0))
    board.vm.memory.poke(CODE, words_to_bytes(loop(*body)))
    board.vcpu.reset(CODE)
    board.vcpu.state.slots[S2] = 10_000
    assert board.vm.run() == SystemEvent(1)
    engine = board.vcpu.engine
    assert engine.entries < 20 and engine.classes[Treat.INLINE] == 40_000


# --- programs of a few words ------------------------------------------------------------------------------------------

@STRIDES
@pytest.mark.parametrize("target", [CODE + 0x100, OTHER, CODE + 16], ids=["same page", "other page", "just behind"])
def test_code_that_the_guest_writes_runs_as_written(target: int, stride: int) -> None:
    """Each turn makes the instruction add one more than before."""
    patch = [asm("lw", rd=T0, rs1=S3, imm=0), asm("add", rd=T0, rs1=T0, rs2=S4), asm("sw", rs1=S3, rs2=T0, imm=0)]
    add = asm("addi", rd=A0, rs1=A0, imm=0)
    if target == CODE + 16:
        places = {CODE: loop(*patch, asm("addi", rd=0, rs1=0, imm=0), add)}
    else:
        places = {CODE: loop(*patch, asm("jalr", rd=RA, rs1=S3, imm=0)), target: [add, RETURN]}
    board = run(stride, places, {S2: 100, S3: target, S4: 1 << 20})
    assert board.vcpu.state.slots[A0] == 100 * 101 // 2


@STRIDES
def test_a_region_goes_with_its_bytes(stride: int) -> None:
    """A function that has become hot is written over, again and again."""
    body = [asm("addi", rd=T2, rs1=0, imm=16), asm("jalr", rd=RA, rs1=S3, imm=0), asm("addi", rd=T2, rs1=T2, imm=-1),
            asm("bne", rs1=T2, rs2=0, imm=-8), asm("lw", rd=T0, rs1=S3, imm=0), asm("add", rd=T0, rs1=T0, rs2=S4),
            asm("sw", rs1=S3, rs2=T0, imm=0)]  # fmt: skip
    places = {CODE: loop(*body), OTHER: [asm("addi", rd=A0, rs1=A0, imm=0), RETURN]}
    board = run(stride, places, {S2: 40, S3: OTHER, S4: 1 << 20})
    assert board.vcpu.state.slots[A0] == 16 * 39 * 40 // 2
    assert stride == 1 or board.vcpu.engine.cache.stats.invalidations > 10


@STRIDES
def test_a_region_goes_with_its_bytes_though_its_page_was_written_before(stride: int) -> None:
    """What is beside it is written first, which drops the page's code of tier 0."""
    add = asm("add", rd=T0, rs1=T0, rs2=S4)
    patch = lambda at: [asm("lw", rd=T0, rs1=at, imm=0), add, asm("sw", rs1=at, rs2=T0, imm=0)]
    call = lambda at: asm("jalr", rd=RA, rs1=at, imm=0)
    body = [asm("addi", rd=T2, rs1=0, imm=16), call(S3), asm("addi", rd=T2, rs1=T2, imm=-1),
            asm("bne", rs1=T2, rs2=0, imm=-8), call(A4), *patch(A4), *patch(S3)]  # fmt: skip
    places = {CODE: loop(*body), OTHER: [asm("addi", rd=A0, rs1=A0, imm=0), RETURN],
              OTHER + 0x100: [asm("addi", rd=A1, rs1=A1, imm=0), RETURN]}  # fmt: skip
    board = run(stride, places, {S2: 40, S3: OTHER, A4: OTHER + 0x100, S4: 1 << 20})
    assert board.vcpu.state.slots[A0] == 16 * 39 * 40 // 2 and board.vcpu.state.slots[A1] == 39 * 40 // 2


@STRIDES
def test_data_beside_code_costs_no_code(stride: int) -> None:
    """A counter in the page of the loop that counts: the loop is copied once, and no store of it is Python's."""
    body = asm("ld", rd=T0, rs1=S3, imm=0), asm("addi", rd=T0, rs1=T0, imm=1), asm("sd", rs1=S3, rs2=T0, imm=0)
    board = run(stride, {CODE: loop(*body)}, {S2: 200, S3: CODE + 0x800})
    assert board.vm.memory.read(CODE + 0x800, 8) == 200
    assert board.vcpu.engine.coherence.writes == 0 and board.vcpu.engine.interpreted < 50


@STRIDES
def test_code_that_a_disk_brings_runs_as_it_came(stride: int, tmp_path: Path) -> None:
    """Each turn has virtio read the next sector over the function that it calls."""
    turns = 6
    sectors = [words_to_bytes([asm("addi", rd=A0, rs1=A0, imm=1 << i), RETURN]).ljust(512, b"\0") for i in range(turns)]
    (tmp_path / "disk").write_bytes(b"".join(sectors))
    table, driver, device, head = (RAM + 0x20_0000 + 0x1000 * i for i in range(4))

    def setup(board: Board) -> None:
        disk = board.add_virtio(Block(Raw(str(tmp_path / "disk"), True)))
        for offset, value in ((0x70, 3), (0x24, 1), (0x20, 1), (0x70, 11), (0x30, 0), (0x38, 8), (0x80, table),
                              (0x90, driver), (0xA0, device), (0x44, 1), (0x70, 15)):  # fmt: skip
            disk.write(offset, 4, value)
        poke = board.vm.memory.poke
        for i, (address, length, flags) in enumerate(((head, 16, 1), (OTHER, 512, 3), (head + 64, 1, 2))):
            poke(table + 16 * i, struct.pack("<QIHH", address, length, flags, i + 1))

    body = [
        asm("addi", rd=T2, rs1=T2, imm=1), asm("sh", rs1=S3, rs2=T2, imm=2), asm("sw", rs1=S4, rs2=0, imm=0x50),
        asm("ld", rd=T0, rs1=A5, imm=8), asm("addi", rd=T0, rs1=T0, imm=1), asm("sd", rs1=A5, rs2=T0, imm=8),
        asm("jalr", rd=RA, rs1=A4, imm=0),
    ]  # fmt: skip
    registers = {S2: turns, S3: driver, S4: VIRTIO[0].base, A5: head, A4: OTHER}
    board = run(stride, {CODE: loop(*body), OTHER: [RETURN]}, registers, setup)
    assert board.vcpu.state.slots[A0] == (1 << turns) - 1


def supervisor(*roots: dict[int, tuple[int, int]], handler: int = HANDLER) -> Setup:
    """Begin in supervisor mode, with tables of these pages; CODE and the finisher are where they are."""

    def setup(board: Board) -> None:
        for i, pages in enumerate(roots):
            here = {CODE: (CODE, LEAF), TEST: (TEST, LEAF)}
            mapped(board, TABLES + 0x1_0000 * i, {**here, **pages})
        slots = board.vcpu.state.slots
        slots[p.PMPADDR0], slots[p.PMPCFG0] = (1 << 54) - 1, 0x1F
        slots[p.SATP] = 8 << 60 | TABLES >> 12
        slots[p.PRIVILEGE], slots[p.MTVEC] = p.SUPERVISOR, handler

    return setup


AWAY = 0x40_0000_0000 - 0x1000  # the last page of the lower half
TO_AWAY = asm("jalr", rd=RA, rs1=A4, imm=0)
ONE, HUNDRED = ([asm("addi", rd=A0, rs1=A0, imm=n), RETURN] for n in (1, 100))
PAGES = {OTHER: ONE, OTHER + 0x4000: HUNDRED}


@STRIDES
@pytest.mark.parametrize("fence", [True, False])
def test_a_page_that_is_mapped_anew_under_code_that_leads_to_it(fence: bool, stride: int) -> None:
    """The entry changes between two calls, by a store and with or without a fence: translations are never stale."""
    fences = [FENCE] if fence else []
    body = [TO_AWAY, asm("sd", rs1=S3, rs2=S4, imm=0), *fences, TO_AWAY, asm("sd", rs1=S3, rs2=A5, imm=0), *fences]
    before, after = (at >> 2 | LEAF for at in PAGES)

    def setup(board: Board) -> None:
        supervisor({AWAY: (OTHER, LEAF), **{at: (at, LEAF) for at in range(TABLES, TABLES + 0x1_0000, 0x1000)}})(board)
        entries = range(TABLES, TABLES + 0x1_0000, 8)
        board.vcpu.state.slots[S3] = [at for at in entries if board.vm.memory.read(at, 8) == before][-1]

    registers = {S2: 40, S4: after, A5: before, A4: AWAY}
    board = run(stride, {CODE: loop(*body), **PAGES}, registers, setup)
    assert board.vcpu.state.slots[A0] == 40 * 101


@STRIDES
def test_an_instruction_in_two_pages_is_what_both_hold(stride: int) -> None:
    """Its second half is written over, then another page takes the place of the second one, and goes again."""
    first, second, third = OTHER, OTHER + 0x4000, OTHER + 0x8000
    patch = [asm("lhu", rd=T0, rs1=A2, imm=0), asm("addi", rd=T0, rs1=T0, imm=1 << 4), asm("sh", rs1=A2, rs2=T0, imm=0)]
    body = [TO_AWAY, *patch, TO_AWAY, asm("sd", rs1=S3, rs2=S4, imm=0), TO_AWAY, asm("sd", rs1=S3, rs2=A5, imm=0)]
    tables = {at: (at, LEAF) for at in range(TABLES, TABLES + 0x1_0000, 0x1000)}

    def setup(board: Board) -> None:
        supervisor({AWAY - 0x1000: (first, LEAF), AWAY: (second, LEAF), second: (second, LEAF), **tables})(board)
        memory = board.vm.memory
        for page, (word, back) in {second: ONE, third: HUNDRED}.items():
            memory.poke(first + 0xFFA, words_to_bytes([asm("addi", rd=T2, rs1=T2, imm=1), word])[:6])
            memory.poke(page, words_to_bytes([word, back])[2:])
        entries = range(TABLES, TABLES + 0x1_0000, 8)
        board.vcpu.state.slots[S3] = [at for at in entries if memory.read(at, 8) == second >> 2 | LEAF][-1]

    turns = 40
    registers = {S2: turns, S4: third >> 2 | LEAF, A5: second >> 2 | LEAF, A4: AWAY - 6, A2: second}
    slots = run(stride, {CODE: loop(*body)}, registers, setup).vcpu.state.slots
    assert slots[A0] == turns * (turns + 1) + turns * 101 and slots[T2] == 3 * turns


@STRIDES
def test_two_address_spaces_with_different_code_at_one_address(stride: int) -> None:
    """satp goes back and forth; code that was made is found again."""
    write = lambda rs1: asm("csrrw", rd=0, rs1=rs1, csr=SATP)
    body = [write(S3), FENCE, TO_AWAY, write(S4), FENCE, TO_AWAY]
    spaces = supervisor({AWAY: (OTHER, LEAF)}, {AWAY: (OTHER + 0x4000, LEAF)})
    registers = {S2: 60, S3: 8 << 60 | TABLES >> 12, S4: 8 << 60 | TABLES + 0x1_0000 >> 12, A4: AWAY}
    board = run(stride, {CODE: loop(*body), **PAGES}, registers, spaces)
    assert board.vcpu.state.slots[A0] == 60 * 101
    tier0 = board.vcpu.engine.tier0
    assert tier0.flushes == 0 and board.vcpu.state.words[tier0_made()] < 200


def tier0_made() -> int:
    from dbt.state import MADE_INSTRUCTIONS

    return MADE_INSTRUCTIONS


STEP_OVER = [  # a handler: adds up causes, values and places, and goes on behind the instruction
    csrr(T0, MCAUSE), asm("add", rd=A1, rs1=A1, rs2=T0),
    csrr(T0, MTVAL), asm("add", rd=A2, rs1=A2, rs2=T0),
    csrr(T0, MEPC), asm("add", rd=A3, rs1=A3, rs2=T0), asm("addi", rd=T0, rs1=T0, imm=4),
    asm("csrrw", rd=0, rs1=T0, csr=MEPC), MRET,
]  # fmt: skip


@STRIDES
def test_what_a_handler_reaches_its_program_does_not(stride: int) -> None:
    """One table for both modes: the handler of a call loads what its program then may not, and the other way round."""
    data = RAM + 0x30_0000
    handler = [asm("ld", rd=T0, rs1=S3, imm=0), asm("add", rd=A0, rs1=A0, rs2=T0),
               csrr(T0, 0x142), asm("add", rd=A1, rs1=A1, rs2=T0), csrr(T0, 0x141), asm("addi", rd=T0, rs1=T0, imm=4),
               asm("csrrw", rd=0, rs1=T0, csr=0x141), encode(ROWS["sret"])]  # fmt: skip
    body = [asm("sd", rs1=S4, rs2=S2, imm=0), ECALL, asm("ld", rd=T1, rs1=S3, imm=0), asm("ld", rd=T2, rs1=S4, imm=0)]
    pages = {CODE: (CODE, USER_LEAF), TEST: (TEST, USER_LEAF), HANDLER: (HANDLER, LEAF), data: (data, LEAF),
             data + 0x1000: (data + 0x1000, USER_LEAF)}  # fmt: skip

    def setup(board: Board) -> None:
        supervisor(pages)(board)
        slots = board.vcpu.state.slots
        slots[p.PRIVILEGE], slots[p.STVEC], slots[p.MEDELEG] = p.USER, HANDLER, 1 << 8 | 1 << 13
        board.vm.memory.poke(data, (5).to_bytes(8, "little"))

    registers = {S2: 30, S3: data, S4: data + 0x1000}
    board = run(stride, {CODE: loop(*body), HANDLER: handler}, registers, setup)
    slots = board.vcpu.state.slots
    assert (slots[A0], slots[A1]) == (30 * 2 * 5, 30 * (8 + 13))
    assert stride == 1 or board.vcpu.taken == {(8, p.USER): 30, (13, p.USER): 30}
    assert stride == 1 or board.vcpu.engine.stepped < 20  # calls, faults and returns are native code's


@STRIDES
@pytest.mark.parametrize("size", [2, 4, 8])
def test_accesses_across_pages_of_which_one_is_not_there(size: int, stride: int) -> None:
    """First the second page is absent, then the first one: no byte is written, and the trap's value is the page's."""
    names = {2: ("lh", "sh"), 4: ("lw", "sw"), 8: ("ld", "sd")}[size]
    body = []
    for base in (S3, S4):
        for imm in (-size, -1, 1 - size, 0):
            body += [asm("addi", rd=T2, rs1=T2, imm=3), asm(names[1], rs1=base, rs2=T2, imm=imm),
                     asm(names[0], rd=T1, rs1=base, imm=imm), asm("add", rd=A0, rs1=A0, rs2=T1)]  # fmt: skip
    data = RAM + 0x30_0000
    pages = {AWAY - 0x3000: (data, LEAF), AWAY - 0x1000: (data + 0x1000, LEAF), HANDLER: (HANDLER, LEAF)}
    registers = {S2: 10, S3: AWAY - 0x2000, S4: AWAY - 0x1000}
    board = run(stride, {CODE: loop(*body), HANDLER: STEP_OVER}, registers, supervisor(pages))
    slots = board.vcpu.state.slots
    assert slots[A1] == 10 * 6 * (15 + 13) and slots[A2] and slots[A3]


@STRIDES
@pytest.mark.parametrize("there", [True, False])
def test_accesses_from_one_register_around_the_end_of_a_page(there: bool, stride: int) -> None:
    """They are looked up as one, which holds where all of them are in one page; then the next one is absent, or not."""
    body = [asm("addi", rd=A4, rs1=A4, imm=24)]
    for imm in (-40, 33, 1, -8, 16):
        body += [asm("addi", rd=T2, rs1=T2, imm=3), asm("sd", rs1=A4, rs2=T2, imm=imm),
                 asm("lw", rd=T1, rs1=A4, imm=imm + 4), asm("add", rd=A0, rs1=A0, rs2=T1),
                 asm("lh", rd=T1, rs1=A4, imm=-imm), asm("add", rd=A0, rs1=A0, rs2=T1)]  # fmt: skip
    data, edge = RAM + 0x30_0000, AWAY - 0x1000
    pages = {edge - 0x1000: (data, LEAF), HANDLER: (HANDLER, LEAF), **({edge: (data + 0x2000, LEAF)} if there else {})}
    registers = {S2: 60, A4: edge - 30 * 24}
    board = run(stride, {CODE: loop(*body), HANDLER: STEP_OVER}, registers, supervisor(pages))
    written = [any(board.vm.memory.peek(data + at, 0x1000)) for at in (0, 0x1000, 0x2000, 0x3000)]
    assert written == [True, False, there, False]
    assert bool(board.vcpu.state.slots[A1]) != there


@STRIDES
def test_pages_behind_one_that_is_accessed_have_their_own_rights(stride: int) -> None:
    """Without tables a first access brings what is behind it; protection ends in the midst of that."""
    data = RAM + 0x20_0000
    body = []
    for i in range(8):
        body += [asm("lui", rd=T2, imm=i << 12), asm("add", rd=T2, rs1=T2, rs2=S3), asm("sd", rs1=T2, rs2=S2, imm=8),
                 asm("ld", rd=T1, rs1=T2, imm=8), asm("add", rd=A0, rs1=A0, rs2=T1)]  # fmt: skip

    def setup(board: Board) -> None:
        slots = board.vcpu.state.slots
        slots[p.PMPADDR0], slots[p.PMPADDR0 + 1] = data + 0x4000 >> 2, (1 << 54) - 1
        slots[p.PMPCFG0] = 0x0F | 0x19 << 8  # below, all rights; all else may be read
        slots[p.PRIVILEGE], slots[p.MTVEC] = p.SUPERVISOR, HANDLER

    board = run(stride, {CODE: loop(*body), HANDLER: STEP_OVER}, {S2: 30, S3: data}, setup)
    assert board.vcpu.state.slots[A1] == 30 * 4 * 7
    written = [board.vm.memory.read(data + 0x1000 * i + 8, 8) for i in range(8)]
    assert written == [1] * 4 + [0] * 4 and board.vcpu.state.slots[A0] == 4 * 30 * 31 // 2


@STRIDES
def test_a_big_page_that_is_mapped_anew(stride: int) -> None:
    """What a first access brought of it goes with its entry."""
    big, first, second = AWAY & -0x20_0000, RAM + 0x40_0000, RAM + 0x60_0000
    write = [asm("sd", rs1=A4, rs2=S2, imm=0), asm("add", rd=T2, rs1=A4, rs2=A2), asm("sd", rs1=T2, rs2=S2, imm=0)]
    body = [*write, asm("sd", rs1=S3, rs2=S4, imm=0), *write, asm("sd", rs1=S3, rs2=A5, imm=0)]
    table = TABLES + 0x8000

    def setup(board: Board) -> None:
        supervisor({table: (table, LEAF)})(board)
        board.vm.memory.poke(TABLES + 8 * (big >> 30 & 511), (table >> 2 | 1).to_bytes(8, "little"))
        board.vm.memory.poke(table + 8 * (big >> 21 & 511), (first >> 2 | LEAF).to_bytes(8, "little"))

    registers = {S2: 20, S3: table + 8 * (big >> 21 & 511), S4: second >> 2 | LEAF, A5: first >> 2 | LEAF, A4: big,
                 A2: 0x5000}  # fmt: skip
    board = run(stride, {CODE: loop(*body)}, registers, setup)
    memory = board.vm.memory
    assert [memory.read(at + offset, 8) for at in (first, second) for offset in (0, 0x5000)] == [1] * 4


@STRIDES
def test_a_region_goes_on_in_another_page_for_as_long_as_that_is_there(stride: int) -> None:
    """Between rounds of calls the page of what is called is mapped anew: what was made of the old one is not run."""
    near = CODE + 0x1000
    call = lambda at: asm("jal", rd=RA, imm=near - CODE - 4 * at)
    calls = lambda at: [asm("addi", rd=T2, rs1=0, imm=16), call(at + 1), asm("addi", rd=T2, rs1=T2, imm=-1),
                        asm("bne", rs1=T2, rs2=0, imm=-8)]  # fmt: skip
    body = [*calls(0), asm("sd", rs1=S3, rs2=S4, imm=0), FENCE, *calls(6), asm("sd", rs1=S3, rs2=A5, imm=0), FENCE]
    before, after = (at >> 2 | LEAF for at in PAGES)

    def setup(board: Board) -> None:
        supervisor({near: (OTHER, LEAF), **{at: (at, LEAF) for at in range(TABLES, TABLES + 0x1_0000, 0x1000)}})(board)
        entries = range(TABLES, TABLES + 0x1_0000, 8)
        board.vcpu.state.slots[S3] = [at for at in entries if board.vm.memory.read(at, 8) == before][-1]

    board = run(stride, {CODE: loop(*body), **PAGES}, {S2: 40, S4: after, A5: before}, setup)
    assert board.vcpu.state.slots[A0] == 40 * 16 * 101
    assert stride == 1 or any(len(region.words) == 2 for region in board.vcpu.engine.cache.translations())


LOOK = [asm("ld", rd=T1, rs1=A2, imm=0), asm("add", rd=A0, rs1=A0, rs2=A0), asm("add", rd=A0, rs1=A0, rs2=T1)]
BLOCK_ENDS = asm("bne", rs1=0, rs2=0, imm=8)


def looked(values: Sequence[int], turns: int) -> int:
    """What A0 is when LOOK has found these values, in each turn."""
    found = 0
    for value in [*values] * turns:
        found = 2 * found + value & MASK
    return found


@STRIDES
@pytest.mark.parametrize("writes", [1, 9])
def test_a_page_that_is_written_becomes_a_table(writes: int, stride: int) -> None:
    """By one register a page is written that a walk then reads as a table, and written again; by another one what that
    table leads to is read. After nine writes the page is no table, until the first look.
    """
    first, second, table = OTHER, OTHER + 0x4000, TABLES + 0x8000
    leads = asm("sd", rs1=A4, rs2=S4, imm=0), asm("sd", rs1=A4, rs2=A5, imm=0)
    body = [*writes * [asm("sd", rs1=A4, rs2=S2, imm=-256)], BLOCK_ENDS, leads[0], *LOOK, leads[1], *LOOK]

    def setup(board: Board) -> None:
        supervisor({table: (table, LEAF)})(board)
        memory = board.vm.memory
        memory.poke(TABLES + 8 * (AWAY >> 30 & 511), (TABLES + 0x9000 >> 2 | 1).to_bytes(8, "little"))
        memory.poke(TABLES + 0x9000 + 8 * (AWAY >> 21 & 511), (table >> 2 | 1).to_bytes(8, "little"))
        memory.poke(first, (1).to_bytes(8, "little"))
        memory.poke(second, (100).to_bytes(8, "little"))

    registers = {S2: 60, A4: table + 8 * (AWAY >> 12 & 511), S4: first >> 2 | LEAF, A5: second >> 2 | LEAF,
                 A2: AWAY}  # fmt: skip
    board = run(stride, {CODE: loop(*body)}, registers, setup)
    assert board.vcpu.state.slots[A0] == looked([1, 100], 60)


@STRIDES
def test_what_a_block_has_found_is_gone_when_its_table_is_stored_to(stride: int) -> None:
    """The same address is read twice in a block, and between the two it comes to mean another page."""
    first, second, table = OTHER, OTHER + 0x4000, TABLES + 0x8000
    body = [each for leads in (S4, A5)
            for each in (*LOOK, BLOCK_ENDS, *LOOK, asm("sd", rs1=S3, rs2=leads, imm=0), *LOOK, BLOCK_ENDS)]  # fmt: skip

    def setup(board: Board) -> None:
        supervisor({table: (table, LEAF), AWAY: (second, LEAF)})(board)
        memory = board.vm.memory
        memory.poke(TABLES + 8 * (AWAY >> 30 & 511), (TABLES + 0x9000 >> 2 | 1).to_bytes(8, "little"))
        memory.poke(TABLES + 0x9000 + 8 * (AWAY >> 21 & 511), (table >> 2 | 1).to_bytes(8, "little"))
        memory.poke(table + 8 * (AWAY >> 12 & 511), (second >> 2 | LEAF).to_bytes(8, "little"))
        memory.poke(first, (1).to_bytes(8, "little"))
        memory.poke(second, (100).to_bytes(8, "little"))

    registers = {S2: 60, S3: table + 8 * (AWAY >> 12 & 511), S4: first >> 2 | LEAF, A5: second >> 2 | LEAF, A2: AWAY}
    board = run(stride, {CODE: loop(*body)}, registers, setup)
    assert board.vcpu.state.slots[A0] == looked([100, 100, 1, 1, 1, 100], 60)


@STRIDES
def test_two_regions_of_two_address_spaces(stride: int) -> None:
    """A loop reads at one address, in one space and in another: what it kept in the one is nothing in the other."""
    reads = [asm("addi", rd=T0, rs1=0, imm=3), asm("ld", rd=T1, rs1=A2, imm=0), asm("add", rd=A0, rs1=A0, rs2=T1),
             asm("addi", rd=T0, rs1=T0, imm=-1), asm("bne", rs1=T0, rs2=0, imm=-12)]  # fmt: skip
    body = [each for space in (S3, S4) for each in (asm("csrrw", rd=0, rs1=space, csr=SATP), FENCE, *reads)]

    def setup(board: Board) -> None:
        supervisor({AWAY: (OTHER, LEAF)}, {AWAY: (OTHER + 0x4000, LEAF)})(board)
        board.vm.memory.poke(OTHER, (1).to_bytes(8, "little"))
        board.vm.memory.poke(OTHER + 0x4000, (100).to_bytes(8, "little"))

    registers = {S2: 60, S3: 8 << 60 | TABLES >> 12, S4: 8 << 60 | TABLES + 0x1_0000 >> 12, A2: AWAY}
    board = run(stride, {CODE: loop(*body)}, registers, setup)
    assert board.vcpu.state.slots[A0] == 60 * 3 * 101


@STRIDES
@pytest.mark.parametrize("supervised", [True, False])
def test_the_address_that_stands_for_none_leads_nowhere(supervised: bool, stride: int) -> None:
    """It traps as any other that means nothing, though a region's accesses begin as if they had found it."""
    body = [asm("ld", rd=T1, rs1=A4, imm=0), asm("sd", rs1=A4, rs2=T1, imm=8)]
    begin = supervisor({HANDLER: (HANDLER, LEAF)})

    def setup(board: Board) -> None:
        begin(board) if supervised else board.vcpu.state.slots.__setitem__(p.MTVEC, HANDLER)

    board = run(stride, {CODE: loop(*body), HANDLER: STEP_OVER}, {S2: 60, A4: NO_ADDRESS}, setup)
    causes = 13 + 15 if supervised else 5 + 7
    assert board.vcpu.state.slots[A1] == 60 * causes
    assert board.vcpu.state.slots[A2] == 60 * (2 * NO_ADDRESS + 8) & MASK


@STRIDES
def test_one_page_of_ram_in_three_modes(stride: int) -> None:
    """What a mode may not do traps there, though another mode has made code of the same bytes."""
    work = [asm("addi", rd=A0, rs1=A0, imm=1), csrr(T1, 0x140), asm("ecall")]
    mpp = asm("csrrw", rd=0, rs1=A5, csr=0x300)  # mstatus
    # A handler that steps over what is illegal, and at a system call goes to the next of the three modes.
    handler = [
        csrr(T0, MCAUSE), asm("add", rd=A1, rs1=A1, rs2=T0),
        asm("addi", rd=T1, rs1=T0, imm=-2), asm("bne", rs1=T1, rs2=0, imm=20),
        csrr(T0, MEPC), asm("addi", rd=T0, rs1=T0, imm=4), asm("csrrw", rd=0, rs1=T0, csr=MEPC),
        MRET,
        asm("addi", rd=S2, rs1=S2, imm=-1), asm("bne", rs1=S2, rs2=0, imm=8),
        asm("jalr", rd=0, rs1=RA, imm=0),
        asm("addi", rd=T1, rs1=T0, imm=-8), asm("beq", rs1=T1, rs2=0, imm=28),
        asm("addi", rd=T1, rs1=T0, imm=-9), asm("beq", rs1=T1, rs2=0, imm=36),
        asm("csrrw", rd=0, rs1=0, csr=0x300), asm("csrrw", rd=0, rs1=S3, csr=MEPC), MRET,  # from machine mode to user
        asm("addi", rd=0, rs1=0, imm=0),
        mpp, asm("csrrw", rd=0, rs1=S4, csr=MEPC), MRET, asm("addi", rd=0, rs1=0, imm=0),  # from user to supervisor
        asm("csrrw", rd=0, rs1=A4, csr=0x300), asm("csrrw", rd=0, rs1=A2, csr=MEPC), MRET,  # to machine mode
    ]  # fmt: skip
    away, here = AWAY, AWAY - 0x1000
    registers = {S2: 30, S3: away, S4: here, A2: OTHER, A5: 1 << 11, A4: 3 << 11, RA: CODE + 0x100}
    places = {CODE: [asm("jalr", rd=0, rs1=A2, imm=0)], CODE + 0x100: end(), OTHER: work, HANDLER: handler}

    def setup(board: Board) -> None:
        supervisor({away: (OTHER, USER_LEAF), here: (OTHER, LEAF)})(board)
        board.vcpu.state.slots[p.PRIVILEGE] = p.MACHINE

    board = run(stride, places, registers, setup)
    slots = board.vcpu.state.slots
    assert slots[A0] == 30 and slots[A1] == 10 * (8 + 9 + 11 + 2)

