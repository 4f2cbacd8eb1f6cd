"""Machines of several harts: turns, interrupts from one to another, locks, code and page tables that another hart
changes; each program in both engines, side by side.
"""

from __future__ import annotations

from functools import partial

import pytest
from support.riscv import asm, scaled, words_to_bytes
from support.several import (
    A0,
    A1,
    A2,
    A7,
    BOUNDARY,
    CODE,
    DATA,
    END,
    FENCE_I,
    FUNCTION,
    HANDLER,
    IDLE,
    JUMP,
    LONG,
    MOST,
    MSIP,
    PAUSE,
    RA,
    S0,
    S1,
    S2,
    S3,
    S4,
    S5,
    S6,
    SFENCE,
    SIP,
    T0,
    T1,
    T2,
    TABLES,
    WFI,
    Item,
    call,
    made,
    program,
    run,
    to,
)
from support.small import ECALL, GUEST, MRET, RAM, SIZE, agreed

from dbt.machine import vm
from dbt.machine.boards import Board
from dbt.machine.devices.console import Console
from dbt.machine.digest import digest
from dbt.machine.exits import Hlt, Intr, SystemEvent
from dbt.machine.lockstep import lockstep
from dbt.options import Options
from guests.riscv import machine, sbi
from guests.riscv import privileged as p
from guests.spec import Guest

NOP = asm("addi", rd=0, rs1=0, imm=0)
SIE, TIME = 0x104, 0xC01
TURNS = pytest.mark.parametrize("turn", [19, 500, LONG])


# --- locks --------------------------------------------------------------------------------------------------------

SWAP: tuple[Item, ...] = ("acquire", asm("amoswap.w", rd=T0, rs1=S3, rs2=S4, aq=1, rl=0),
                          to("bne", "acquire", rs1=T0, rs2=0))  # fmt: skip
POLITE: tuple[Item, ...] = (
    to("jal", "acquire", **JUMP), "spin", PAUSE, "acquire", asm("amoswap.w", rd=T0, rs1=S3, rs2=S4, aq=1, rl=0),
    to("bne", "spin", rs1=T0, rs2=0),
)
RESERVED: tuple[Item, ...] = ("acquire", asm("lr.w", rd=T0, rs1=S3, aq=1, rl=0), to("bne", "acquire", rs1=T0, rs2=0),
                              BOUNDARY, asm("sc.w", rd=T0, rs1=S3, rs2=S4, aq=0, rl=0),
                              to("bne", "acquire", rs1=T0, rs2=0))  # fmt: skip
RELEASE = asm("amoswap.w", rd=0, rs1=S3, rs2=0, aq=0, rl=1)
READ_TIME = TIME << 20 | 2 << 12 | T2 << 7 | 0x73
LOCKS = {"swap": SWAP, "swap and pause": POLITE, "reserved": RESERVED}


def counting(acquire: tuple[Item, ...]) -> list[int]:
    """Each hart adds 1 to a counter S2 times, in two instructions between which its turn may end, and looks whether
    `time` has gone back since the last one looked. Hart 0, whose A0 is 0, waits for all and ends the machine.
    """
    return program(
        "loop", *acquire, asm("ld", rd=T0, rs1=S5, imm=0), BOUNDARY, asm("addi", rd=T0, rs1=T0, imm=1),
        READ_TIME, asm("ld", rd=T1, rs1=S5, imm=8), to("bltu", "wrong", rs1=T2, rs2=T1),
        asm("sd", rs1=S5, rs2=T2, imm=8),
        BOUNDARY, asm("sd", rs1=S5, rs2=T0, imm=0), RELEASE,
        asm("addi", rd=S2, rs1=S2, imm=-1), to("bne", "loop", rs1=S2, rs2=0),
        asm("amoadd.d", rd=0, rs1=S6, rs2=S4, aq=0, rl=0), to("bne", "idle", rs1=A0, rs2=0),
        "wait", PAUSE, asm("ld", rd=T0, rs1=S6, imm=0), to("bne", "wait", rs1=T0, rs2=A1), *END,
        "wrong", asm("sd", rs1=S5, rs2=S4, imm=16), *IDLE,
    )  # fmt: skip


def counters(harts: int, rounds: int) -> list[tuple[int, dict[int, int]]]:
    shared = {S2: rounds, S3: DATA + 0x100, S4: 1, S5: DATA, S6: DATA + 0x200, A1: harts}
    return [(CODE, {**shared, A0: hart}) for hart in range(harts)]


@TURNS
@pytest.mark.parametrize("harts", [2, 3])
@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_keeps_harts_apart(lock: str, harts: int, turn: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The count is exact, and time goes forward from one hart to the next."""
    monkeypatch.setattr(vm, "TURN", turn)
    rounds = 2000 if turn == LONG else 100
    memory = run(counters(harts, rounds), {CODE: counting(LOCKS[lock])}, most=500 * harts * rounds).vm.memory
    assert memory.read(DATA, 8) == harts * rounds and memory.read(DATA + 8, 8) > 0
    assert memory.read(DATA + 16, 8) == 0  # nobody saw time go back


@pytest.mark.parametrize("turn", [19, 500, 700])
def test_without_a_lock_they_would_not_be(turn: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vm, "TURN", turn)
    assert run(counters(2, 300), {CODE: counting(())}).vm.memory.read(DATA, 8) < 600


@TURNS
def test_harts_that_spin_do_not_keep_others_from_running(turn: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each waits, without a hint, until a word has come to its number, and adds 1."""
    monkeypatch.setattr(vm, "TURN", turn)
    relay = program(
        "wait", asm("ld", rd=T0, rs1=S5, imm=0), to("bne", "wait", rs1=T0, rs2=A0), asm("addi", rd=T0, rs1=T0, imm=1),
        asm("sd", rs1=S5, rs2=T0, imm=0), asm("addi", rd=A0, rs1=A0, imm=3), to("bne", "wait", rs1=T0, rs2=S2), *END,
    )  # fmt: skip
    board = run([(CODE, {S5: DATA, A0: hart, S2: 20}) for hart in range(3)], {CODE: relay})
    assert board.vm.memory.read(DATA, 8) == 20


def test_harts_that_all_spin_do_it_in_native_code() -> None:
    """Both wait for a time: a hint gives no turn to a hart that has just given its own up."""
    delay = program("wait", PAUSE, READ_TIME, to("bltu", "wait", rs1=T2, rs2=S2), to("bne", "idle", rs1=A0, rs2=0),
                    *END, *IDLE)  # fmt: skip
    board = run([(CODE, {S2: 3000, A0: hart}) for hart in range(2)], {CODE: delay}, stride=4000)
    assert board.vm.clock.retired > 300_000
    assert sum(vcpu.engine.stepped for vcpu in board.vcpus) < 100


def test_a_reservation_ends_with_the_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hart 0 loads reserved and passes its turn; hart 1 stores there, what is there already. The store fails."""
    monkeypatch.setattr(vm, "TURN", 100)
    first = program(
        asm("lr.d", rd=T0, rs1=S5, aq=0, rl=0), PAUSE, BOUNDARY, asm("sc.d", rd=S2, rs1=S5, rs2=S4, aq=0, rl=0),
        asm("lr.d", rd=T0, rs1=S5, aq=0, rl=0), NOP, BOUNDARY, asm("sc.d", rd=S3, rs1=S5, rs2=S4, aq=0, rl=0), *END,
    )  # fmt: skip
    second = program("again", asm("ld", rd=T0, rs1=S5, imm=0), asm("sd", rs1=S5, rs2=T0, imm=0), PAUSE,
                     to("jal", "again", **JUMP))  # fmt: skip
    board = run([(CODE, {S5: DATA, S4: 7}), (FUNCTION, {S5: DATA})], {CODE: first, FUNCTION: second}, stride=1)
    slots = board.vcpus[0].state.slots
    assert (slots[S2], slots[S3]) == (1, 0) and board.vm.memory.read(DATA, 8) == 7


def test_a_hart_alone_keeps_its_reservation_and_its_turn() -> None:
    """The other one waits. A pause is nothing then: it is not left to Python."""
    first = program(
        PAUSE, BOUNDARY, asm("lr.d", rd=T0, rs1=S5, aq=0, rl=0), PAUSE, BOUNDARY,
        asm("sc.d", rd=S3, rs1=S5, rs2=S4, aq=0, rl=0),
        "loop", PAUSE, asm("addi", rd=S2, rs1=S2, imm=-1), to("bne", "loop", rs1=S2, rs2=0), *END,
    )  # fmt: skip
    harts = [(CODE, {S5: DATA, S4: 7, S3: 9, S2: 5000}), (FUNCTION, {})]
    board = run(harts, {CODE: first, FUNCTION: program(*IDLE)}, stride=4000)
    assert board.vcpus[0].state.slots[S3] == 0 and board.vcpus[1].retired == 1
    assert board.vcpus[0].engine.stepped < 50


# --- interrupts from one hart to another ------------------------------------------------------------------------------


def listening(board: Board) -> None:
    """Software interrupts are enabled on every hart."""
    for vcpu in board.vcpus:
        vcpu.state.slots[p.MIE] = p.MSI
        vcpu.state.slots[p.MSTATUS] |= p.MIE_BIT


@TURNS
@pytest.mark.parametrize("stride", [1, 200])
def test_interrupts_go_back_and_forth(turn: int, stride: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each interrupt raises the other hart's: as many arrive as were sent, and a hart that waits is woken."""
    monkeypatch.setattr(vm, "TURN", turn)
    rounds = 100
    handler = program(
        asm("sw", rs1=S3, rs2=0, imm=0), asm("addi", rd=A0, rs1=A0, imm=1), to("beq", "end", rs1=A0, rs2=S2),
        asm("sw", rs1=S4, rs2=S5, imm=0), MRET, "end", *END,
    )  # fmt: skip
    first = program(asm("sw", rs1=S4, rs2=S5, imm=0), *IDLE)
    harts = [(CODE, {S2: rounds, S3: MSIP, S4: MSIP + 4, S5: 1}), (CODE + 4, {S3: MSIP + 4, S4: MSIP, S5: 1})]
    board = run(harts, {CODE: first, HANDLER: handler}, listening, stride)
    assert [vcpu.state.slots[A0] for vcpu in board.vcpus] == [rounds, rounds]
    cause = 1 << 63 | 3
    assert [vcpu.taken[cause, p.MACHINE] for vcpu in board.vcpus] == [rounds, rounds]


def test_harts_that_all_wait_for_nothing_are_told_of() -> None:
    make = partial(made, [(CODE, {})] * 3, {CODE: program(*IDLE)}, None, GUEST)
    report = agreed(lockstep(make, 10))
    assert report.exit == Hlt()


def test_each_hart_has_a_timer_of_its_own() -> None:
    """mtimecmp of hart 1 is due before that of hart 0: time jumps to one after the other."""
    timer = program(asm("sd", rs1=S3, rs2=S2, imm=0), *IDLE)
    handler = program(
        asm("sd", rs1=S3, rs2=S4, imm=0), asm("amoadd.d", rd=A0, rs1=S5, rs2=S6, aq=0, rl=0),
        to("bne", "end", rs1=A0, rs2=0), MRET, "end", *END,
    )  # fmt: skip
    harts = [(CODE, {S2: due, S3: MSIP + 0x4000 + 8 * hart, S4: (1 << 64) - 1, S5: DATA, S6: 1, A0: 9})
             for hart, due in enumerate((5000, 3000))]  # fmt: skip

    def setup(board: Board) -> None:
        listening(board)
        for vcpu in board.vcpus:
            vcpu.state.slots[p.MIE] = p.MTI

    board = run(harts, {CODE: timer, HANDLER: handler}, setup)
    assert [vcpu.state.slots[A0] for vcpu in board.vcpus] == [1, 0] and board.vm.clock.time == 5000


@pytest.mark.parametrize("turn", [500, LONG])
def test_a_hart_s_own_timer_wakes_it_while_another_runs(turn: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hart 1 waits for its stimecmp, and then says what time it is; hart 0 is at work meanwhile. Afterwards hart 0 sets
    the clock back, and hart 1 waits again.
    """
    monkeypatch.setattr(vm, "TURN", turn)
    worker = program("work", asm("ld", rd=T0, rs1=S5, imm=0), to("beq", "work", rs1=T0, rs2=0),
                     asm("sd", rs1=S3, rs2=0, imm=0), asm("sd", rs1=S5, rs2=0, imm=0), "again",
                     asm("ld", rd=T0, rs1=S5, imm=0), to("beq", "again", rs1=T0, rs2=0),
                     asm("sd", rs1=S5, rs2=T0, imm=8), *END)  # fmt: skip
    sleeper = program(WFI, READ_TIME, asm("sd", rs1=S5, rs2=T2, imm=16), asm("sd", rs1=S5, rs2=T2, imm=0), "seen",
                      asm("ld", rd=T0, rs1=S5, imm=0), to("bne", "seen", rs1=T0, rs2=0), WFI, READ_TIME,
                      asm("sd", rs1=S5, rs2=T2, imm=0), *IDLE)  # fmt: skip

    def setup(board: Board) -> None:
        slots = board.vcpus[1].state.slots
        slots[p.MENVCFG] |= p.STCE
        slots[p.STIMECMP], slots[p.MIE] = 700, p.STI

    harts = [(CODE, {S5: DATA, S3: MSIP + 0xBFF8}), (FUNCTION, {S5: DATA})]
    board = run(harts, {CODE: worker, FUNCTION: sleeper}, setup, 4000)
    first, second = (board.vm.memory.read(DATA + at, 8) for at in (16, 8))
    assert 700 <= first <= 700 + turn // 100 + 1 and 700 <= second <= 700 + turn // 100 + 1


# --- code and tables that another hart changes ----------------------------------------------------------------------


@TURNS
@pytest.mark.parametrize("tells", [True, False], ids=["fence.i by interrupt", "only stored"])
def test_code_that_another_hart_writes_runs_as_written(tells: bool, turn: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hart 1 calls a function again and again; hart 0 writes what it adds and waits until the sum shows it.

    Code is never stale here, so it is right without the fence, too.
    """
    monkeypatch.setattr(vm, "TURN", turn)
    rounds = 30
    writer = program(
        "loop", asm("lw", rd=T0, rs1=S3, imm=0), asm("add", rd=T0, rs1=T0, rs2=S6), asm("sw", rs1=S3, rs2=T0, imm=0),
        asm("addi", rd=A0, rs1=A0, imm=1), *([asm("sw", rs1=S4, rs2=A2, imm=0)] if tells else []),
        "wait", PAUSE, asm("ld", rd=T0, rs1=S5, imm=0), to("bne", "wait", rs1=T0, rs2=A0),
        asm("addi", rd=S2, rs1=S2, imm=-1), to("bne", "loop", rs1=S2, rs2=0), *END,
    )  # fmt: skip
    caller = program(
        "loop", asm("addi", rd=A0, rs1=0, imm=0), asm("jalr", rd=RA, rs1=S3, imm=0),
        to("blt", "wrong", rs1=A0, rs2=A1), asm("addi", rd=A1, rs1=A0, imm=0), asm("sd", rs1=S5, rs2=A0, imm=0),
        to("jal", "loop", **JUMP), "wrong", asm("sd", rs1=S5, rs2=S6, imm=8), *IDLE,
    )  # fmt: skip
    handler = program(asm("sw", rs1=S4, rs2=0, imm=0), FENCE_I, asm("addi", rd=A2, rs1=A2, imm=1), MRET)
    function = [asm("addi", rd=A0, rs1=A0, imm=0), asm("jalr", rd=0, rs1=RA, imm=0)]
    shared = {S2: rounds, S3: FUNCTION, S4: MSIP + 4, S5: DATA, S6: 1 << 20}
    board = run([(CODE, {**shared, A2: 1}), (CODE + 0x800, {**shared, A2: 0})],
                {CODE: writer, CODE + 0x800: caller, HANDLER: handler, FUNCTION: function}, listening)  # fmt: skip
    assert board.vm.memory.read(DATA, 8) == rounds and board.vm.memory.read(DATA + 8, 8) == 0
    assert board.vcpus[1].state.slots[A2] == (rounds if tells else 0)


def test_a_page_with_code_that_is_filled_is_soon_a_page_like_others() -> None:
    """A kernel gives a page of code back and fills it. Not each of the stores is told of, and the function there
    runs on as before: its bytes are not written.
    """
    worker = program(
        asm("jalr", rd=RA, rs1=S3, imm=0), asm("addi", rd=T2, rs1=S3, imm=1024),
        "fill", asm("sb", rs1=T2, rs2=S2, imm=0), asm("addi", rd=T2, rs1=T2, imm=1),
        asm("addi", rd=S2, rs1=S2, imm=-1), to("bne", "fill", rs1=S2, rs2=0),
        asm("jalr", rd=RA, rs1=S3, imm=0), asm("sd", rs1=S5, rs2=A0, imm=0), *END,
    )  # fmt: skip
    function = [asm("addi", rd=A0, rs1=A0, imm=5), asm("jalr", rd=0, rs1=RA, imm=0)]
    board = run([(CODE, {S2: 3000, S3: FUNCTION, S5: DATA}), (CODE + 0x800, {})],
                {CODE: worker, CODE + 0x800: program(*IDLE), FUNCTION: function}, stride=4000)  # fmt: skip
    assert board.vm.memory.read(DATA, 8) == 10 and board.vm.memory.read(FUNCTION + 1024, 1) == 3000 & 0xFF
    assert board.vcpus[0].engine.coherence.writes < 200


@TURNS
@pytest.mark.parametrize("tells", [True, False], ids=["sfence.vma by interrupt", "only stored"])
def test_a_page_table_that_another_hart_writes(tells: bool, turn: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hart 1 copies from one page of addresses to another as a supervisor; hart 0 maps other pages there, one and the
    other in turn, and waits until the copy shows it.
    """
    monkeypatch.setattr(vm, "TURN", turn)
    rounds, away, pages = 30, 0x1000_0000, [RAM + 0x20_0000, RAM + 0x20_1000]
    leaf = TABLES + 0x2000
    remapper = program(
        "loop", asm("xor", rd=S3, rs1=S3, rs2=S6), asm("xor", rd=A0, rs1=A0, rs2=A1), asm("sd", rs1=S5, rs2=S3, imm=0),
        *([asm("sw", rs1=S4, rs2=A2, imm=0)] if tells else []),
        "wait", PAUSE, asm("ld", rd=T0, rs1=S0, imm=0), to("bne", "wait", rs1=T0, rs2=A0),
        asm("addi", rd=S2, rs1=S2, imm=-1), to("bne", "loop", rs1=S2, rs2=0), *END,
    )  # fmt: skip
    copier = program("loop", asm("ld", rd=T0, rs1=S1, imm=8), asm("sd", rs1=S0, rs2=T0, imm=0),
                     asm("sd", rs1=S1, rs2=T0, imm=16), to("jal", "loop", **JUMP))  # fmt: skip
    handler = program(asm("sw", rs1=S4, rs2=0, imm=0), SFENCE, asm("addi", rd=A2, rs1=A2, imm=1), MRET)
    entries = [page >> 2 | 0xCF for page in pages]
    shared = {S2: rounds, S4: MSIP + 4, S0: DATA, S1: away, S5: leaf + 8 * (away >> 12 & 511)}
    first = {S3: entries[0], S6: entries[0] ^ entries[1], A0: 100, A1: 100 ^ 200, A2: 1}

    def setup(board: Board) -> None:
        memory, slots = board.vm.memory, board.vcpus[1].state.slots
        for at, value in ((TABLES, TABLES + 0x1000 >> 2 | 1), (TABLES + 16, RAM >> 2 | 0xCF),
                          (TABLES + 0x1000 + 8 * (away >> 21), leaf >> 2 | 1), (shared[S5], entries[0]),
                          (pages[0] + 8, 100), (pages[1] + 8, 200)):  # fmt: skip
            memory.poke(at, value.to_bytes(8, "little"))
        slots[p.PMPADDR0], slots[p.PMPCFG0] = (1 << 54) - 1, 0x1F
        slots[p.SATP], slots[p.PRIVILEGE] = 8 << 60 | TABLES >> 12, p.SUPERVISOR
        for vcpu in board.vcpus:
            vcpu.state.slots[p.MIE] = p.MSI

    board = run([(CODE, {**shared, **first}), (CODE + 0x800, {**shared, A2: 0})],
                {CODE: remapper, CODE + 0x800: copier, HANDLER: handler}, setup)  # fmt: skip
    assert board.vcpus[1].state.slots[A2] == (rounds if tells else 0)
    assert [board.vm.memory.read(page + 16, 8) for page in pages] == [100, 200]


def test_digests_of_twenty_runs_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of both engines; and a machine that is stopped and stepped now and then ends the same way."""
    monkeypatch.setattr(vm, "TURN", 2000)
    make = partial(made, counters(2, 3000), {CODE: counting(RESERVED)}, None, GUEST, Console(lambda data: None))
    found = set()
    for i in range(scaled(20)):
        board = make("reference" if i == 0 else "translated", Options(patience=0))
        while i == 1 and board.vm.clock.count < 90_000:
            assert board.vm.run(board.vm.clock.count + 7_000) == Intr()
            for _ in range(100):
                assert board.vm.step() is None
        assert board.vm.run(most=MOST) == SystemEvent(1)
        found.add(digest(board))
        board.vm.close()
    assert len(found) == 1


# --- harts that firmware of our own starts and stops ------------------------------------------------------------------

HSM, IPI, RFENCE, SRST = 0x48534D, 0x735049, 0x52464E43, 0x53525354
FLAG = 0x200  # behind the results
CLEAR = asm("csrrci", rd=0, imm=p.SSI, csr=SIP)


def start(hart: int, argument: int) -> list[int]:
    """Start a hart at the address that is in S3."""
    return [*call(HSM, 0, hart, 0, argument)[:-1], asm("addi", rd=A1, rs1=S3, imm=0), ECALL]


def flag(value: int) -> list[int]:
    return [asm("addi", rd=T0, rs1=0, imm=value), asm("sd", rs1=S5, rs2=T0, imm=FLAG)]


def until_flag(value: int) -> tuple[Item, ...]:
    return (f"flag {value}", PAUSE, asm("ld", rd=T0, rs1=S5, imm=FLAG), asm("addi", rd=T1, rs1=0, imm=value),
            to("bne", f"flag {value}", rs1=T0, rs2=T1), asm("sd", rs1=S5, rs2=0, imm=FLAG))  # fmt: skip


def until_status(hart: int, value: int) -> tuple[Item, ...]:
    again = f"status {value}"
    return again, *call(HSM, 2, hart), asm("addi", rd=T1, rs1=0, imm=value), to("bne", again, rs1=A1, rs2=T1)


@TURNS
@pytest.mark.parametrize("stride", [1, 300])
def test_a_supervisor_starts_stops_and_wakes_a_hart(turn: int, stride: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vm, "TURN", turn)
    wanted: list[tuple[int, int]] = []

    def seen(words: list[int], error: int, value: int = 0) -> list[int]:
        """A call whose answer is kept."""
        wanted.append((error, value))
        at = 16 * (len(wanted) - 1)
        return [*words, asm("sd", rs1=S5, rs2=A0, imm=at), asm("sd", rs1=S5, rs2=A1, imm=at + 8)]

    def round_of(argument: int) -> list[Item]:
        """Start hart 1, see it begin, interrupt it."""
        begun = program(*until_flag(1))
        awake = program(*until_flag(2))
        return [*seen(start(1, argument), 0), *begun, *seen(call(HSM, 2, 1), 0, sbi.STARTED),
                *seen(start(1, 0), sbi.ALREADY_AVAILABLE), *seen(call(IPI, 0, 1, 1), 0), *awake]  # fmt: skip

    first = program(
        *seen(call(HSM, 2, 1), 0, 1), *seen(call(HSM, 2, 2), sbi.INVALID_PARAM), *seen(start(2, 0), sbi.INVALID_PARAM),
        *seen(call(HSM, 0, 1, 0x100, 0), sbi.INVALID_ADDRESS), *seen(call(RFENCE, 0, 3, 0), 0),
        *seen(call(RFENCE, 1, 4, 0), sbi.INVALID_PARAM), *seen(call(IPI, 0, 6, 0), sbi.INVALID_PARAM),
        *round_of(0x123), *program(*until_status(1, 1)), *seen(call(IPI, 0, 2, 0), 0), PAUSE, BOUNDARY,
        *seen(call(HSM, 2, 1), 0, 1), *round_of(0x456), *program(*until_status(1, 4)),
        *seen(call(IPI, 0, 2, 0), 0), *until_flag(3), *call(SRST, 0, 0, 0), NOP,
    )  # fmt: skip
    second = program(
        asm("csrrsi", rd=0, imm=p.SSI, csr=SIE), asm("amoadd.d", rd=0, rs1=S6, rs2=A1, aq=0, rl=0),
        asm("sd", rs1=S6, rs2=A0, imm=8), asm("addi", rd=S0, rs1=A1, imm=-0x123), *flag(1), WFI, CLEAR, *flag(2),
        to("bne", "suspend", rs1=S0, rs2=0), *call(HSM, 1), asm("sd", rs1=S6, rs2=A7, imm=16),
        "suspend", *call(HSM, 3, 0), CLEAR, *flag(3), *IDLE,
    )  # fmt: skip
    boards: list[Board] = []

    def make(console: Console, engine: str, options: Options) -> Board:
        board = Board(GUEST, SIZE, console, engine, options, harts=2)
        board.vm.memory.poke(CODE, words_to_bytes(first))
        board.vm.memory.poke(FUNCTION, words_to_bytes(second))
        board.start_supervisor(CODE, 0)
        for vcpu in board.vcpus:
            for slot, value in {S3: FUNCTION, S5: DATA, S6: DATA + 0x800}.items():
                vcpu.state.slots[slot] = value
        boards.append(board)
        return board

    report = agreed(lockstep(make, stride, 3, MOST))
    assert report.exit == SystemEvent(1), report.exit
    memory = boards[0].vm.memory
    answers = [(memory.read(DATA + 16 * i, 8), memory.read(DATA + 16 * i + 8, 8)) for i in range(len(wanted))]
    assert answers == [(error & sbi.ALL, value) for error, value in wanted] and 16 * len(wanted) <= FLAG
    assert [memory.read(DATA + 0x800 + 8 * i, 8) for i in range(3)] == [0x123 + 0x456, 1, 0]


@pytest.mark.parametrize("guest", [GUEST, machine.guest(None, True)], ids=["rv64", "rv64,h=true"])
def test_a_started_hart_has_the_timer_and_the_modes_of_the_first(guest: Guest) -> None:
    """All that a supervisor finds, but for its number and what it was started with."""
    board = Board(guest, SIZE, Console(lambda data: None), harts=2)
    board.start_supervisor(CODE, DATA)
    board.vcpus[1].firmware.begin(DATA)
    first, second = (dict(vcpu.state.registers()) for vcpu in board.vcpus)
    assert {name for name in first if first[name] != second[name]} == {"x10", "mhartid"}
