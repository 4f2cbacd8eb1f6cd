"""Hypervisors on machines of several harts, each with a guest in VS mode: interrupts from one guest to another, fences
by firmware, tables that another hart writes; each program in both engines, side by side.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.pair import word
from support.riscv import asm, csrr
from support.several import (
    A0,
    CODE,
    DATA,
    END,
    HANDLER,
    JUMP,
    PAUSE,
    RAM,
    S0,
    S1,
    S2,
    S3,
    S4,
    S5,
    S6,
    SIP,
    T0,
    TABLES,
    WFI,
    Item,
    call,
    program,
    run,
    to,
)
from support.small import LEAF, USER_LEAF, mapped

from dbt.machine import vm
from dbt.machine.boards import Board
from guests.riscv import machine
from guests.riscv import privileged as p

HYPERVISOR = machine.guest(None, True)
HS_CODE, HS_HANDLER = RAM + 0x4000, RAM + 0x5000
G_TABLES, PAGES = [RAM + 0x20_0000, RAM + 0x24_0000], [RAM + 0x30_0000, RAM + 0x30_1000]
SCAUSE, SEPC, HVIP = 0x142, 0x141, 0x645
IPI, RFENCE = 0x735049, 0x52464E43
SRET = word("sret")
TURNS = pytest.mark.parametrize("turn", [19, 500])


@pytest.fixture(autouse=True)
def _turns(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(vm, "TURN", request.getfixturevalue("turn"))
    yield


def enter(board: Board, hart: int, pages: dict[int, tuple[int, int]]) -> None:
    """Firmware is below this hart, which is in a guest of its own with these guest-physical pages."""
    vcpu = board.vcpus[hart]
    vcpu.firmware.begin(0)
    mapped(board, G_TABLES[hart], pages, 0x4000)
    slots = vcpu.state.slots
    slots[p.HGATP] = 8 << 60 | hart + 1 << 44 | G_TABLES[hart] >> 12
    slots[p.STVEC], slots[p.VSTVEC] = HS_HANDLER, HANDLER
    slots[p.PRIVILEGE], slots[p.VIRTUAL] = p.SUPERVISOR, 1


@TURNS
@pytest.mark.parametrize("waits", [True, False])
def test_guests_on_two_harts_interrupt_each_other(waits: bool, turn: int) -> None:
    """A guest calls its hypervisor, which interrupts the other hart by firmware; the hypervisor there raises the
    external interrupt of its own guest, which counts and calls in turn. Both have one address, and a page each.
    """
    rounds = 30
    body: tuple[Item, ...] = (WFI,) if waits else (asm("addi", rd=S0, rs1=S0, imm=1),)
    idle: tuple[Item, ...] = ("idle", *body, to("jal", "idle", **JUMP))
    counts = [asm("ld", rd=T0, rs1=S5, imm=0), asm("addi", rd=T0, rs1=T0, imm=1), asm("sd", rs1=S5, rs2=T0, imm=0),
              asm("ecall"), SRET]  # fmt: skip
    hypervisor = program(
        csrr(T0, SCAUSE), to("blt", "told", rs1=T0, rs2=0),
        asm("csrrc", rd=0, rs1=S4, csr=HVIP), csrr(T0, SEPC), asm("addi", rd=T0, rs1=T0, imm=4),
        asm("csrrw", rd=0, rs1=T0, csr=SEPC), asm("addi", rd=S1, rs1=S1, imm=1), to("beq", "end", rs1=S1, rs2=S2),
        *call(IPI, 0, 1, 0)[:-1], asm("addi", rd=A0, rs1=S3, imm=0), asm("ecall"), SRET,
        "told", asm("csrrci", rd=0, imm=p.SSI, csr=SIP), asm("csrrs", rd=0, rs1=S4, csr=HVIP), SRET, "end", *END,
    )  # fmt: skip

    def setup(board: Board) -> None:
        board.start_supervisor(CODE, 0)
        for hart, vcpu in enumerate(board.vcpus):
            enter(board, hart, {at: (at, USER_LEAF) for at in (CODE, HANDLER)} | {DATA: (PAGES[hart], USER_LEAF)})
            slots = vcpu.state.slots
            slots[p.HIDELEG], slots[p.MIE] = p.VSEI, p.SSI | p.VSEI
            slots[p.VSSTATUS] |= p.SIE

    shared = {S4: p.VSEI, S5: DATA}
    harts = [(CODE, {**shared, S2: rounds + 1, S3: 2}), (CODE + 4, {**shared, S3: 1})]
    places = {CODE: [asm("ecall"), *program(*idle)], HANDLER: counts, HS_HANDLER: hypervisor}
    board = run(harts, places, setup, guest=HYPERVISOR)
    assert [board.vm.memory.read(page, 8) for page in PAGES] == [rounds, rounds]
    told = [vcpu.taken[1 << 63 | 1, 5] for vcpu in board.vcpus]
    assert told == [rounds, rounds], [dict(vcpu.taken) for vcpu in board.vcpus]


@TURNS
@pytest.mark.parametrize("fenced", [True, False], ids=["fenced by firmware", "only stored"])
@pytest.mark.parametrize("function", [4, 6], ids=["second stage", "the guest's own"])
def test_a_guest_s_tables_that_another_hart_writes(function: int, fenced: bool, turn: int) -> None:
    """The guest on hart 1 copies from one page of its addresses to another; a hypervisor on hart 0 leads them to other
    pages, in the second stage or in the guest's own tables, and waits until the copy shows it.
    """
    rounds, away, values = 20, RAM + 0x40_0000, (100, 200)
    remapper = program(
        "loop", asm("xor", rd=S3, rs1=S3, rs2=S6), asm("xor", rd=S1, rs1=S1, rs2=S4), asm("sd", rs1=S5, rs2=S3, imm=0),
        *(call(RFENCE, function, 2, 0, 0, 0) if fenced else []), to("bne", "wrong", rs1=A0, rs2=0),
        "wait", PAUSE, asm("ld", rd=T0, rs1=S0, imm=0), to("bne", "wait", rs1=T0, rs2=S1),
        asm("addi", rd=S2, rs1=S2, imm=-1), to("bne", "loop", rs1=S2, rs2=0), "wrong", *END,
    )  # fmt: skip
    copier = program("loop", asm("ld", rd=T0, rs1=S1, imm=8), asm("sd", rs1=S0, rs2=T0, imm=0),
                     asm("sd", rs1=S1, rs2=T0, imm=16), to("jal", "loop", **JUMP))  # fmt: skip
    entries = [page >> 2 | (USER_LEAF if function == 4 else LEAF) for page in PAGES]
    tables = range(TABLES, TABLES + 0x8000, 0x1000)

    def setup(board: Board) -> None:
        board.start_supervisor(HS_CODE, 0)
        same = {at: (at, USER_LEAF) for at in (CODE, DATA, *tables, *PAGES)}
        enter(board, 1, {**same, away: (PAGES[0], USER_LEAF)})
        memory, slots = board.vm.memory, [vcpu.state.slots for vcpu in board.vcpus]
        edited, size = G_TABLES[1], 0x4_0000
        if function == 6:
            mapped(board, TABLES, {at: (at, LEAF) for at in (CODE, DATA)} | {away: (PAGES[0], LEAF)})
            slots[1][p.VSATP] = 8 << 60 | TABLES >> 12
            edited, size = TABLES, 0x8000
        for page, value in zip(PAGES, values):
            memory.poke(page + 8, value.to_bytes(8, "little"))
        places = [at for at in range(edited, edited + size, 8) if memory.read(at, 8) == entries[0]]
        slots[0][S5] = places[-1]

    remaps = {S0: DATA, S1: values[0], S2: rounds, S3: entries[0], S4: values[0] ^ values[1],
              S6: entries[0] ^ entries[1]}  # fmt: skip
    board = run([(HS_CODE, remaps), (CODE, {S0: DATA, S1: away})], {HS_CODE: remapper, CODE: copier}, setup,
                guest=HYPERVISOR)  # fmt: skip
    assert board.vcpus[0].state.slots[S2] == 0
    assert [board.vm.memory.read(page + 16, 8) for page in PAGES] == list(values)
