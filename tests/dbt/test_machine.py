"""Machines: memory and its map, exits, interrupts at boundaries, waiting, and what no hart comes back from."""

from __future__ import annotations

from random import Random

import pytest
from support.riscv import Tally, asm, scaled

import guests
from dbt.machine.devices.aclint import Aclint
from dbt.machine.exits import Exit, Hlt, Intr, Mmio, Shutdown, SystemEvent
from dbt.machine.memory import Memory
from dbt.machine.vm import Machine, Vcpu, Vm
from dbt.options import Options
from dbt.state import ENTRY_BITS, FETCH_BITS, FETCHES, HIGHEST, LOADS, STORES
from guests.decode import encode
from guests.riscv import machine, mmu, traps, two_stage
from guests.riscv import privileged as p
from guests.spec import Absent, Guest, Trap

RAM, SIZE = 0x8000_0000, 0x10_0000
HANDLER = RAM + 0x400
ENGINE = "reference"
GUEST = machine.guest()
HYPERVISOR = machine.guest(None, True)
ROWS = {row.name: row for row in GUEST.rows if row.extension == "system"}
NOP = asm("addi", rd=0, rs1=0, imm=0)
SPIN = asm("jal", rd=0, imm=0)
WFI = encode(ROWS["wfi"])


@pytest.fixture(autouse=True, params=["reference", "translated"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What harts here are run by."""
    monkeypatch.setitem(globals(), "ENGINE", request.param)
    return str(request.param)


def made(*words: int, handler: tuple[int, ...] = (SPIN,), guest: Guest = GUEST) -> Vcpu:
    """A hart at the first of these instructions, whose traps go to the handler's."""
    vm = Machine(guest, ENGINE, Options(patience=0)).create_vm()
    vm.set_user_memory_region(RAM, SIZE)
    vcpu = vm.create_vcpu()
    for at, code in ((RAM, words), (HANDLER, handler)):
        vm.memory.poke(at, b"".join(word.to_bytes(4, "little") for word in code))
    vcpu.reset(RAM)
    vcpu.state.slots[p.MTVEC] = HANDLER
    return vcpu


class Box:
    """A device that remembers what it is told, and gives it back."""

    name = "box"
    size = 16

    def __init__(self) -> None:
        self.seen: list[tuple[int, int, int]] = []
        self.value = 0

    def read(self, offset: int, size: int) -> int:
        if offset == 8:
            raise Absent
        return self.value

    def write(self, offset: int, size: int, value: int) -> None:
        self.seen.append((offset, size, value))
        self.value = value


# --- the map ----------------------------------------------------------------------------------------------------


def test_ram_reads_what_was_written() -> None:
    memory, tally = Memory(), Tally("accesses")
    memory.add_ram(RAM, SIZE)
    memory.add_ram(0x1000, 0x1000)
    for base in (RAM, RAM + SIZE - 8, 0x1000, 0x1FF8):
        for size in (1, 2, 4, 8):
            value = 0x8877_6655_4433_2211 & (1 << 8 * size) - 1
            memory.write(base, size, value)
            tally.check(memory.read(base, size) == value)
            tally.check(memory.peek(base, size) == value.to_bytes(8, "little")[:size])
    tally.done()


@pytest.mark.parametrize("address", [0, 0xFFF, 0x1FF9, 0x2000, RAM - 1, RAM + SIZE - 7, RAM + SIZE, (1 << 56) - 8])
def test_absent_memory_is_absent_to_all(address: int) -> None:
    memory = Memory()
    memory.add_ram(RAM, SIZE)
    memory.add_ram(0x1000, 0x1000)
    for access in (
        lambda: memory.read(address, 8), lambda: memory.write(address, 8, 0), lambda: memory.peek(address, 8),
        lambda: memory.poke(address, bytes(8)), lambda: memory.check(address, 8), lambda: memory.fetch(address, 8),
    ):  # fmt: skip
        with pytest.raises(Absent):
            access()
    assert not memory.is_ram(address, 8)


@pytest.mark.parametrize(
    ("base", "size", "sentence"),
    [
        (RAM, 0x1000, "overlaps RAM"),
        (RAM - 0x1000, 0x2000, "overlaps RAM"),
        (0x3000, 0x1000, "overlaps box"),
        (0x10, 0x1000, "not whole pages"),
        (0x10000, 0x10, "not whole pages"),
        (0x10000, 0, "not whole pages"),
    ],
)
def test_ram_that_cannot_be_there_is_refused(base: int, size: int, sentence: str) -> None:
    memory = Memory()
    memory.add_ram(RAM, SIZE)
    memory.add_device(0x3008, Box())
    with pytest.raises(ValueError, match=sentence):
        memory.add_ram(base, size)


def test_devices_may_not_overlap_and_may_lie_over_ram() -> None:
    memory = Memory()
    memory.add_ram(RAM, SIZE)
    first = Box()
    memory.add_device(RAM + 0x100, first)
    with pytest.raises(ValueError, match="overlaps box at"):
        memory.add_device(RAM + 0x108, Box())
    with pytest.raises(ValueError, match="partly over RAM"):
        memory.add_device(RAM + SIZE - 8, Box())
    memory.write(RAM + 0x100, 4, 7)
    memory.write(RAM + 0x110, 4, 9)
    assert first.seen == [(0, 4, 7)]
    assert memory.peek(RAM + 0x100, 4) == bytes(4)
    assert memory.read(RAM + 0x110, 4) == 9 and memory.read(RAM + 0x100, 4) == 7


@pytest.mark.parametrize(("offset", "size"), [(2, 4), (14, 4), (-2, 4), (8, 4)])
def test_an_access_that_a_device_does_not_take_is_an_access_fault(offset: int, size: int) -> None:
    """Out of line, partly beside it, or refused by it."""
    vcpu = made(asm("lw", rd=11, rs1=10, imm=0))
    vcpu.vm.add_device(0x3000, Box())
    vcpu.state.slots[10] = 0x3000 + offset
    vcpu.vm.step()
    slots = vcpu.state.slots
    assert (slots[p.MCAUSE], slots[p.MTVAL], vcpu.state.pc) == (traps.LOAD_FAULT, 0x3000 + offset, HANDLER)


def test_nothing_is_executed_from_a_device() -> None:
    vcpu = made(asm("jalr", rd=0, rs1=10, imm=0))
    vcpu.vm.add_device(0x3000, Box())
    vcpu.state.slots[10] = 0x3000
    vcpu.vm.step()
    vcpu.vm.step()
    assert vcpu.state.slots[p.MCAUSE] == traps.FETCH_FAULT


# --- what is remembered of translations ---------------------------------------------------------------------------


def test_what_is_remembered_is_what_a_walk_would_find() -> None:
    """Random tables, edited by guest stores and from outside, in changing contexts, against a hart that forgets."""
    remembered(False)


def test_what_is_remembered_is_what_both_stages_would_find() -> None:
    """The same in a hypervisor's guest, with edits of the second stage as well."""
    remembered(True)


def remembered(inside: bool) -> None:
    tally, rng = Tally("accesses"), Random(6)
    vcpu = made(NOP, SPIN, guest=HYPERVISOR if inside else GUEST)
    vcpu.vm.run(most=1)  # native code is there from now on, where there is any
    slots, memory = vcpu.state.slots, vcpu.vm.memory
    tables = [RAM + 0x1_0000 + 0x1000 * i for i in range(6)]
    pages = [RAM + 0x2_0000 + 0x1000 * i for i in range(4)]
    for i, page in enumerate(pages):
        memory.poke(page, bytes([4 * i + 3]) * 0x1000)  # as code, words of 32 bits

    def entry(to: int, flags: int) -> int:
        return to >> 12 << 10 | flags

    second = RAM + 0x8_0000, RAM + 0x8_4000, RAM + 0x8_5000  # tables of the second stage
    for at, value in ((second[0] + 16, entry(second[1], 1)), (second[1], entry(second[2], 1))):
        memory.poke(at, value.to_bytes(8, "little"))
    for i in range(256):
        memory.poke(second[2] + 8 * i, entry(RAM + 0x1000 * i, 0xDF).to_bytes(8, "little"))

    def put(at: int, value: int) -> None:
        """From outside, or as the hart's own store."""
        if rng.getrandbits(1):
            memory.poke(at, value.to_bytes(8, "little"))
            return
        slots[p.PRIVILEGE] = p.MACHINE
        if inside:
            slots[p.VIRTUAL] = 0
        vcpu.space.remap()
        for _ in range(2):  # the first tells whom it concerns, so the second can be remembered
            vcpu.space.store(at, 8, value)

    def edit() -> None:
        """Change an entry: of a root, of a middle table, or a leaf; or of the second stage."""
        if inside and rng.randrange(3) == 0:
            of = rng.choice((pages, pages, tables[2:4], tables[4:]))
            page = rng.choice(of)
            flags = rng.choice((0xDF, 0xDF, 0xDF, 0xDF, 0, 0xCF, 0x5F, 0x1F, 0xDB, 0xD9))
            put(second[2] + 8 * (page >> 12 & 511), entry(rng.choice((page, page, *of)), flags))
            return
        table = rng.choice(tables)
        if table in tables[:4]:
            low = tables[2:4] if table in tables[:2] else tables[4:]
            big = entry(RAM, 0xCF), entry(RAM, 0x1F), entry(low[0], 3)
            value = rng.choice((entry(rng.choice(low), 1),) * 6 + big)
        else:
            value = entry(rng.choice(pages), rng.choice((0, 0xCF, 0xDF, 0x4B, 0x0F, 0x0F, 0x1F, 0x5F, 0xC7, 0xD9)))
            value |= rng.choice((0,) * 12 + (1 << 63, 1 << 63 | 8 << 10, 1 << 54, 1 << 61))
        put(table + 8 * rng.randrange(2), value)

    def looked_up(access: str, address: int) -> int | None:
        """Where the access is made in RAM, if native code finds that in the TLB."""
        words = vcpu.state.words
        offset, bits, size = {"load": (LOADS, ENTRY_BITS, 16), "store": (STORES, ENTRY_BITS, 16),
                              "fetch": (FETCHES, FETCH_BITS, 32)}[access]  # fmt: skip
        at = words[HIGHEST] - vcpu.state.address + offset + (address >> 12 & (1 << bits) - 1) * size >> 3
        if ENGINE == "reference" or words[at] != address & -0x1000:
            return None
        hits.append(access)
        return address + words[at + size // 16] - memory.slots[0].host & (1 << 64) - 1

    def attempt(access: str, address: int, value: int) -> object:
        place = looked_up(access, address)
        if place is not None:
            if access == "store":
                memory.slots[0].memory[place : place + 4] = value.to_bytes(4, "little")
                return None
            return int.from_bytes(memory.slots[0].memory[place : place + 4], "little")
        try:
            if access == "store":
                return vcpu.space.store(address, 4, value)
            return vcpu.space.load(address, 4) if access == "load" else vcpu.space.fetch(address)
        except Trap as trap:
            return trap.cause, trap.value

    def walked(access: str, address: int) -> object:
        """The same once more, by a walk that nobody watches: what is there now, if it may be reached."""
        try:
            return memory.read(walker.translate(address, 4, access), 4)
        except Trap as trap:
            return trap.cause, trap.value
        except Absent:
            return mmu.ACCESS_FAULTS[access], address

    def marks(at: int, value: int) -> None:
        raise AssertionError("the access has not left the marks that a walk leaves")

    walker = (two_stage.TwoStage if inside else mmu.Mmu)(slots, lambda at: memory.read(at, 8), marks)
    slots[p.PMPCFG0], slots[p.PMPADDR0] = 0x1F, (1 << 54) - 1
    hits: list[str] = []
    reached, mode = 0, p.SUPERVISOR
    satp, status = (p.VSATP, p.VSSTATUS) if inside else (p.SATP, p.MSTATUS)
    slots[satp] = 8 << 60 | tables[0] >> 12
    if inside:
        slots[p.HGATP] = 8 << 60 | second[0] >> 12
    for _ in range(scaled(6000)):
        if rng.randrange(3) == 0:
            edit()
        if rng.randrange(8) == 0:
            mode = rng.choice((p.USER, p.SUPERVISOR, p.SUPERVISOR))
            slots[satp] = 8 << 60 | rng.choice(tables[:2]) >> 12
            slots[status] = rng.choice((0, p.SUM, p.MXR, p.SUM | p.MXR))
            if inside:
                slots[p.MSTATUS] = rng.choice((0, p.MXR))
        if rng.randrange(200) == 0:  # with these all is forgotten
            slots[p.MENVCFG] = rng.choice((0, p.ADUE))
            slots[p.PMPCFG0] = rng.choice((0x1F, 0x1F, 0x1F, 0x19))
            if inside:
                slots[p.HENVCFG] = rng.choice((0, p.ADUE, p.ADUE))
        slots[p.PRIVILEGE] = mode
        if inside:
            slots[p.VIRTUAL] = 1
        vcpu.space.remap()
        access, address = rng.choice(("load", "store", "fetch")), rng.randrange(2) << 30 | rng.randrange(2) << 21
        address |= rng.randrange(2) << 12 | rng.choice((0, 64, 0x802, 0xFFC))
        value = rng.getrandbits(30) << 2 | 3
        mine, theirs = attempt(access, address, value), walked(access, address)
        same = tally.check((value if mine is None else mine) == theirs)
        same or tally.note(f"{access} at {address:#x}: {mine}, walking {theirs}")
        reached += not isinstance(mine, tuple)
    assert reached > 100 and (ENGINE == "reference" or set(hits) == {"load", "store", "fetch"})
    tally.done(f"{reached} reached")


# --- exits ------------------------------------------------------------------------------------------------------


def run(vcpu: Vcpu, most: int = 100_000) -> Exit:
    return vcpu.vm.run(vcpu.vm.clock.count + most)


def test_accesses_that_the_caller_makes() -> None:
    """A store, a load and an atomic, which is both: each access leaves once, and its instruction is executed once."""
    vcpu = made(asm("sw", rs1=10, rs2=11, imm=4), asm("ld", rd=12, rs1=10, imm=8),
                asm("amoadd.w", rd=13, rs1=10, rs2=11, aq=0, rl=0), SPIN)  # fmt: skip
    vcpu.vm.add_mmio(0x3000, 16)
    vcpu.state.slots[10], vcpu.state.slots[11] = 0x3000, 5
    assert run(vcpu) == Mmio(0x3004, 4, True, 5)
    assert run(vcpu) == Mmio(0x3008, 8, False, 0)
    vcpu.data = 0x1122_3344_5566_7788
    assert run(vcpu) == Mmio(0x3000, 4, False, 0)
    vcpu.data = 37
    assert run(vcpu) == Mmio(0x3000, 4, True, 42)
    assert run(vcpu) == Intr()
    assert vcpu.state.slots[12] == 0x1122_3344_5566_7788 and vcpu.state.slots[13] == 37


def test_the_numbers_of_exits_are_those_of_kvm() -> None:
    numbers = {kind: kind.reason for kind in (Hlt, Mmio, Shutdown, Intr, SystemEvent)}
    assert numbers == {Hlt: 5, Mmio: 6, Shutdown: 8, Intr: 10, SystemEvent: 24}


def test_a_hart_whose_handler_traps_is_shut_down() -> None:
    vcpu = made(0xFFFF_FFFF, handler=(0xFFFF_FFFF,))
    assert run(vcpu) == Shutdown(HANDLER, traps.ILLEGAL_INSTRUCTION)


def test_a_trap_at_its_own_handler_is_not_the_end_where_the_mode_differs() -> None:
    """User mode's mret is illegal; the handler is that same instruction, which machine mode may execute."""
    vcpu = made(handler=(encode(ROWS["mret"]),))
    slots = vcpu.state.slots
    slots[p.PRIVILEGE] = p.USER
    slots[p.PMPCFG0], slots[p.PMPADDR0] = 0x1F, (1 << 54) - 1
    vcpu.state.pc = HANDLER
    vcpu.vm.step()
    assert slots[p.PRIVILEGE] == p.MACHINE and slots[p.MEPC] == HANDLER
    vcpu.vm.step()
    assert slots[p.PRIVILEGE] == p.USER and vcpu.state.pc == HANDLER


def test_a_device_ends_the_run_at_a_boundary() -> None:
    class Off(Box):
        def write(self, offset: int, size: int, value: int) -> None:
            vm.end(SystemEvent(1, value))

    vcpu = made(asm("sw", rs1=10, rs2=11, imm=0), NOP, NOP, SPIN)
    vm: Vm = vcpu.vm
    vm.add_device(0x3000, Off())
    vcpu.state.slots[10], vcpu.state.slots[11] = 0x3000, 3
    assert run(vcpu) == SystemEvent(1, 3)
    assert vcpu.state.count == 4 and vcpu.state.pc == RAM + 12


# --- interrupts -------------------------------------------------------------------------------------------------


def enabled(vcpu: Vcpu, interrupts: int) -> None:
    vcpu.state.slots[p.MIE] = interrupts
    vcpu.state.slots[p.MSTATUS] |= p.MIE_BIT


def test_an_interrupt_comes_at_the_boundary_after_its_line_and_no_sooner() -> None:
    """The line rises in the middle of a block; the trap comes after the jump that ends it."""

    class Bell(Box):
        def write(self, offset: int, size: int, value: int) -> None:
            vcpu.set_line("external", bool(value))

    vcpu = made(NOP, asm("sw", rs1=10, rs2=10, imm=0), NOP, NOP, asm("jal", rd=0, imm=16), NOP, NOP, NOP, SPIN)
    vcpu.vm.add_device(0x3000, Bell())
    vcpu.state.slots[10] = 0x3000
    enabled(vcpu, p.MEI)
    run(vcpu, 40)
    slots = vcpu.state.slots
    assert (slots[p.MCAUSE], slots[p.MEPC]) == (1 << 63 | 11, RAM + 32)
    assert slots[p.MSTATUS] & p.MPIE and not slots[p.MSTATUS] & p.MIE_BIT


def test_unmasking_takes_what_is_pending_before_the_next_instruction() -> None:
    csr = 0x300 << 20 | 8 << 15 | 6 << 12 | 0x73  # csrrsi x0, mstatus, 8
    vcpu = made(csr, asm("addi", rd=5, rs1=0, imm=1), SPIN)
    vcpu.state.slots[p.MIE] = p.MSI
    vcpu.set_line("software", True)
    run(vcpu, 10)
    assert vcpu.state.slots[p.MEPC] == RAM + 4 and vcpu.state.slots[5] == 0


def test_events_come_in_virtual_time_that_includes_waiting() -> None:
    vcpu = made(WFI, SPIN)
    enabled(vcpu, p.MTI)
    vcpu.vm.events.at(50_000, lambda: vcpu.set_line("timer", True))
    assert vcpu.vm.run(60_000) == Intr()
    assert vcpu.state.slots[p.MEPC] == RAM + 4
    assert vcpu.vm.clock.waited == 50_000 - 1 and vcpu.vm.clock.count == 60_000


def test_the_clock_register_shows_all_time() -> None:
    """What was waited, and what the guest has set, count too."""
    vcpu = made(NOP, NOP, 0xC0102573)  # rdtime a0
    vcpu.vm.clock.wait_until(12_345)
    vcpu.vm.clock.time = 5
    vcpu.vm.clock.wait_until(98_765)
    assert isinstance(vcpu.vm.run(98_768), Intr)
    assert vcpu.state.slots[10] == vcpu.vm.clock.time == 5 + 987 - 123


def test_a_masked_interrupt_ends_a_wait_and_is_not_taken() -> None:
    vcpu = made(WFI, asm("addi", rd=5, rs1=0, imm=1), SPIN)
    vcpu.state.slots[p.MIE] = p.MTI
    vcpu.vm.events.at(50_000, lambda: vcpu.set_line("timer", True))
    vcpu.vm.run(50_010)
    assert vcpu.state.slots[5] == 1 and vcpu.state.slots[p.MCAUSE] == 0


def test_waiting_for_nothing_is_an_exit() -> None:
    vcpu = made(WFI, SPIN)
    enabled(vcpu, p.MTI)
    assert vcpu.vm.run() == Hlt()
    vcpu.set_line("timer", True)
    vcpu.vm.events.at(100, lambda: vcpu.vm.end(SystemEvent(1)))
    assert vcpu.vm.run() == SystemEvent(1)
    assert vcpu.state.slots[p.MEPC] == RAM + 4


def test_the_timer_of_supervisor_mode() -> None:
    """stimecmp (Sstc): the interrupt comes at the first boundary at which `time` has reached it."""
    vcpu = made(SPIN)
    slots = vcpu.state.slots
    slots[p.MENVCFG], slots[p.STIMECMP], slots[p.MIDELEG] = p.STCE, 30, p.STI
    slots[p.MIE], slots[p.STVEC], slots[p.PRIVILEGE] = p.STI, HANDLER, p.SUPERVISOR
    slots[p.MSTATUS] |= p.SIE
    slots[p.PMPCFG0], slots[p.PMPADDR0] = 0x1F, (1 << 54) - 1
    vcpu.vm.run(30 * GUEST.ticks - 1)
    assert slots[p.SCAUSE] == 0 and p.STI & ~p.pending(vcpu.engine.domain)
    vcpu.vm.run(30 * GUEST.ticks + 1)
    assert slots[p.SCAUSE] == 1 << 63 | 5 and slots[p.PRIVILEGE] == p.SUPERVISOR
    assert p.pending(vcpu.engine.domain) & p.STI


@pytest.mark.parametrize("deadline", [1, 1000, 1023, 1024, 1025, 100_000])
def test_straight_line_code_is_interrupted_at_the_end_of_a_page(deadline: int) -> None:
    """A megabyte without a jump: the delay has a bound, since a page's end is a boundary."""
    vcpu = made()
    vcpu.vm.memory.poke(RAM + 0x1000, NOP.to_bytes(4, "little") * (SIZE - 0x1000 >> 2))
    vcpu.state.pc = RAM + 0x1000
    enabled(vcpu, p.MTI)
    vcpu.vm.events.at(deadline, lambda: vcpu.set_line("timer", True))
    assert run(vcpu, 150_000) == Intr()
    taken = (vcpu.state.slots[p.MEPC] - RAM - 0x1000) // 4
    assert taken % 1024 == 0 and 0 <= taken - deadline < 1024


def test_mtimecmp_may_be_written_in_the_middle_of_a_block() -> None:
    """The deadline that it sets is past: the interrupt comes at the end of this block, not at the next deadline."""
    vcpu = made(asm("sd", rs1=10, rs2=0, imm=0), NOP, NOP, asm("jal", rd=0, imm=4), SPIN)
    vcpu.vm.add_device(0x200_0000, Aclint(vcpu.vm.clock, vcpu.vm.events, [vcpu.set_line]))
    vcpu.state.slots[10] = 0x200_4000
    enabled(vcpu, p.MTI)
    run(vcpu, 50)
    assert vcpu.state.slots[p.MCAUSE] == 1 << 63 | 7 and vcpu.state.slots[p.MEPC] == RAM + 16


def test_an_instruction_across_pages_of_which_the_second_is_absent() -> None:
    """A page fault of the fetch, whose value is where the second page begins; mapped, the instruction is executed."""
    vcpu = made(NOP)
    memory, slots = vcpu.vm.memory, vcpu.state.slots
    root, low, leaves = (RAM + 0x4000 + 0x1000 * i for i in range(3))
    memory.poke(root, (low >> 12 << 10 | 1).to_bytes(8, "little"))
    memory.poke(low, (leaves >> 12 << 10 | 1).to_bytes(8, "little"))
    memory.poke(leaves + 8, (RAM + 0x8000 >> 12 << 10 | 0x4B).to_bytes(8, "little"))
    word = asm("addi", rd=5, rs1=0, imm=7).to_bytes(4, "little")
    memory.poke(RAM + 0x8FFE, word[:2])
    memory.poke(RAM + 0xF000, word[2:])  # the pages are not neighbours in memory
    slots[p.SATP], slots[p.PRIVILEGE] = 8 << 60 | root >> 12, p.SUPERVISOR
    slots[p.PMPCFG0], slots[p.PMPADDR0] = 0x1F, (1 << 54) - 1
    for entry in (0, RAM + 0xF000 >> 12 << 10 | 0x4B):
        memory.poke(leaves + 16, entry.to_bytes(8, "little"))
        slots[p.PRIVILEGE], vcpu.state.pc = p.SUPERVISOR, 0x1FFE
        vcpu.vm.step()
    assert (slots[p.MCAUSE], slots[p.MTVAL], slots[p.MEPC]) == (traps.FETCH_PAGE_FAULT, 0x2000, 0x1FFE)
    assert slots[5] == 7 and vcpu.state.pc == 0x2002


def test_counters_stop_start_and_are_set() -> None:
    """instret: written, read back, stopped for some instructions, started again."""
    def csr(number: int, form: int, rd: int, source: int) -> int:
        return number << 20 | source << 15 | form << 12 | rd << 7 | 0x73

    minstret, inhibit = 0xB02, 0x320
    vcpu = made(csr(minstret, 1, 0, 10), csr(minstret, 2, 11, 0), NOP, csr(minstret, 2, 12, 0),
                csr(inhibit, 5, 0, 4), csr(minstret, 2, 13, 0), NOP, NOP, csr(minstret, 2, 14, 0),
                csr(inhibit, 5, 0, 0), csr(minstret, 2, 15, 0), SPIN)  # fmt: skip
    vcpu.state.slots[10] = 1000
    for _ in range(11):
        vcpu.vm.step()
    assert list(vcpu.state.slots[11:16]) == [1000, 1002, 1003, 1003, 1004]


# --- who may be a machine --------------------------------------------------------------------------------------------


def test_a_guest_of_user_mode_is_no_machine() -> None:
    with pytest.raises(ValueError, match="user mode only"):
        Machine(guests.load("riscv64"))


def test_floating_point_is_off_on_and_dirty() -> None:
    vcpu = made(asm("fadd.d", rd=1, rs1=1, rs2=1, rm=0), handler=(SPIN,))
    slots = vcpu.state.slots
    vcpu.vm.step()
    assert slots[p.MCAUSE] == traps.ILLEGAL_INSTRUCTION
    for row, dirty in (("fadd.d", True), ("fsd", False), ("fmv.x.d", False), ("feq.d", True), ("fld", True)):
        fields = {"fadd.d": {"rd": 1, "rs1": 1, "rs2": 1, "rm": 0}, "fsd": {"rs1": 10, "rs2": 1, "imm": 0},
                  "fmv.x.d": {"rd": 5, "rs1": 1}, "feq.d": {"rd": 5, "rs1": 1, "rs2": 1},
                  "fld": {"rd": 1, "rs1": 10, "imm": 0}}[row]  # fmt: skip
        again = made(asm(row, **fields))
        again.state.slots[p.MSTATUS] |= 1 << 13
        again.state.slots[10] = RAM + 0x800
        again.step()
        assert again.state.pc == RAM + 4
        assert (again.state.slots[p.MSTATUS] & p.FS == p.FS) == dirty, row


def test_the_instructions_of_a_process_are_those_of_a_machine() -> None:
    """What a machine adds is privileged; what it changes is guarded, and named here."""
    process = {(row.name, row.pattern): row for row in guests.load("riscv64").rows}
    mine = {(row.name, row.pattern): row for row in GUEST.rows}
    assert set(process) < set(mine)
    assert {row.extension for key, row in mine.items() if key not in process} == {"system", "svinval"}
    changed = [row for key, row in process.items() if mine[key].body is not row.body and row.extension != "zicsr"]
    named = machine.SPINS | set(machine.CACHE_BLOCKS)
    assert all(row.requires & machine.FLOAT or row.name in named for row in changed)
    assert len(changed) > 80
