"""Guests in user mode: what they do not notice, against the interpreter; and what their monitor does for it."""

from __future__ import annotations

from collections import Counter
from functools import partial
from itertools import product
from random import Random

import pytest
from support.pair import corner, csr_word, word
from support.riscv import asm, scaled, words_to_bytes
from support.small import A0, A1, A2, ECALL, FENCE

from dbt.kvm import Kvm, Vcpu
from dbt.kvm.errors import NotEmulated
from dbt.kvm.physical import Shadowed
from dbt.lab.simple_monitor import Monitor
from dbt.lab.workbench import RAM_SIZE, board
from dbt.machine.boards import VIRT
from dbt.machine.devices.console import Console
from dbt.machine.devices.plic import Plic
from dbt.machine.devices.uart import Uart
from dbt.machine.exits import Intr, Mmio, SystemEvent
from dbt.options import Options
from guests.programs import virtual_file
from guests.riscv import privileged as p
from guests.riscv import shadow as shadow_tables
from guests.riscv.mmu import Mmu
from guests.spec import Absent, Trap

RAM, SIZE, PAGE = 0x8000_0000, 8 << 20, 0x1000
MORE, MORE_SIZE = 0x1_0000_0000, 4 << 20  # a second region
SPIN = asm("jal", rd=0, imm=0)
SRET, WFI = word("sret"), word("wfi")
CSRS = {"sstatus": 0x100, "sie": 0x104, "stvec": 0x105, "scounteren": 0x106, "senvcfg": 0x10A, "sscratch": 0x140,
        "sepc": 0x141, "scause": 0x142, "stval": 0x143, "sip": 0x144, "stimecmp": 0x14D, "satp": 0x180}  # fmt: skip
FORMS = ("csrrw", "csrrs", "csrrc", "csrrwi", "csrrsi", "csrrci")
HANDLER = RAM + 0x800


def made(method: str, *words: int, eager: bool = False) -> Vcpu:
    """A virtual CPU at the first of these instructions, with two regions of memory."""
    vm = Kvm(method, options=Options(patience=0), eager=eager).create_vm()
    vm.set_user_memory_region(0, RAM, SIZE)
    vm.set_user_memory_region(1, MORE, MORE_SIZE)
    vm.write(RAM, words_to_bytes(words))
    vm.write(HANDLER, words_to_bytes([SPIN]))
    vcpu = vm.create_vcpu()
    vcpu.set(pc=RAM, stvec=HANDLER)
    return vcpu


def state(vcpu: Vcpu) -> dict[str, int]:
    """All that a guest's kernel could see of its hart."""
    registers = vcpu._registers()
    return {registers[number].name: vcpu.get_one_reg(number) for number in vcpu.reg_list()}


def memory(vcpu: Vcpu) -> list[bytes]:
    return [bytes(region.memory) for region in vcpu.vm.regions]


def shadow(vcpu: Vcpu) -> Shadowed:
    physical = vcpu.vm.physical
    assert isinstance(physical, Shadowed)
    return physical


# --- virtual CSRs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CSRS)
def test_each_form_of_each_csr_is_as_interpreted(name: str) -> None:
    """Registers that are x0 among them: what reads only, and what reads nothing; by a kernel and by its program."""
    rng = Random(name)
    vcpus = [made(method) for method in ("interp", "te")]
    executed = 0
    for form, rd, source, mode, _ in product(FORMS, (0, A0), (0, A1), (p.SUPERVISOR, p.USER), range(2)):
        value, fields = corner(rng), {"imm": source and rng.randrange(1, 32)} if form.endswith("i") else {"rs1": source}
        found = []
        for vcpu in vcpus:
            vcpu.vm.write(RAM, words_to_bytes([csr_word(form, CSRS[name], fields, rd), SPIN]))
            vcpu.set(pc=RAM, mode=mode, a0=5, a1=value, satp=0, stvec=HANDLER, sstatus=0, sie=0, scause=3, stval=77)
            before = vcpu.instructions
            vcpu.run(1)
            found.append((state(vcpu), vcpu.instructions - before))
        assert found[0] == found[1], (form, rd, source, mode, hex(value))
        executed += vcpus[1].get("pc") != HANDLER
    assert executed >= 40  # the kernel's, all but those of values that lead elsewhere
    reasons = vcpus[1].stats.reasons
    assert reasons[f"csr {name}"] >= 48 and reasons["illegal instruction"] >= 48


def test_a_program_that_reads_a_supervisors_register_is_its_kernels() -> None:
    """Its kernel sees the trap as its hart would have had it; what the hart's own registers hold is another one."""
    vcpu = made("te", csr_word("csrrs", 0x142, {"rs1": 0}))
    vcpu.vm.write(HANDLER, words_to_bytes([csr_word("csrrs", 0x142, {"rs1": 0}, A2), SPIN]))
    vcpu.set(mode=0)
    assert vcpu.run(2) == Intr()
    assert (vcpu.get("a2"), vcpu.get("sepc"), vcpu.get("stval"), vcpu.get("mode")) == (2, RAM, 0x1420_25F3, 1)
    assert vcpu.stats.reasons == {"illegal instruction": 1, "csr scause": 1, "Intr": 1}


def test_a_programs_call_costs_its_trap_and_each_register_that_is_touched() -> None:
    """2 + the registers: the call, `sret`, and here scause twice and sepc twice."""
    body = [csr_word("csrrs", 0x142, {"rs1": 0}, A2), csr_word("csrrs", 0x142, {"rs1": 0}, A2),
            csr_word("csrrs", 0x141, {"rs1": 0}, A2), asm("addi", rd=A2, rs1=A2, imm=4),
            csr_word("csrrw", 0x141, {"rs1": A2}, 0), SRET]  # fmt: skip
    vcpu = made("te", ECALL, asm("jal", rd=0, imm=-4))
    vcpu.vm.write(HANDLER, words_to_bytes(body))
    vcpu.set(mode=0)
    assert vcpu.run(100 * 7) == Intr()
    reasons = vcpu.stats.reasons
    assert (reasons["environment call from U-mode"], reasons["sret"], reasons["csr scause"], reasons["csr sepc"]) == (
        100, 100, 200, 200)  # fmt: skip
    assert vcpu.stats.total == 100 * (2 + 4) + 1
    assert shadow(vcpu).shadow.rebuilds == 1 and vcpu.get("sepc") == RAM + 4


# --- whole guests -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["skernel", "skernel2", "tasks"])
def test_a_guest_is_the_same_with_each_method(name: str) -> None:
    """What it prints, its exits, its instructions, its registers and its memory in the end."""
    ends = []
    for method in ("interp", "bt", "hw", "te"):
        monitor = Monitor(virtual_file(name), f"@{name}", method)
        memory_of = monitor.vm.regions.of(0).memory
        close, monitor.vm.close = monitor.vm.close, lambda: None  # type: ignore[method-assign]
        assert monitor.run() == 0
        seen = state(monitor.vcpu)
        ends.append((method, monitor.lines[3:], monitor.printed, monitor.exits, monitor.vcpu.instructions, seen,
                     bytes(memory_of)))  # fmt: skip
        close()
    for end in ends[1:]:
        assert end[1:5] == ends[0][1:5] and end[6] == ends[0][6], end[0]
        assert end[0] == "hw" or end[5] == ends[0][5], end[0]  # there sie is another register's part
    if name == "tasks":
        assert ends[-1][4] > 200_000


def test_our_kernel_is_the_same_with_each_method() -> None:
    """Processes in page tables of their own, copies on write, timer, UART and PLIC: output, instructions, memory."""
    made_for, _ = board("kernel", engine="reference")
    image, ends = made_for.vm.memory.peek(RAM, RAM_SIZE), []
    for method in ("bt", "hw", "te"):
        printed = bytearray()
        console = Console(printed.extend)
        vm = Kvm(method, options=Options(patience=0)).create_vm()
        vm.set_user_memory_region(0, RAM, RAM_SIZE)
        vm.write(RAM, image)
        vcpu = vm.create_vcpu()

        def line(name: str, level: bool, vcpu: Vcpu = vcpu) -> None:
            if name == "supervisor external":
                vcpu.interrupt(level)

        plic = Plic([line])
        vm.add_device(VIRT["plic"].base, plic)
        vm.add_device(VIRT["serial"].base, Uart(console, partial(plic.raise_source, VIRT["serial"].irq)))
        console.feed(b"primes 300\nforks\nshutdown 5\n")
        vcpu.set(pc=RAM, a0=0, a1=RAM + RAM_SIZE // 2)
        exit = vcpu.run()
        while isinstance(exit, Mmio) and not exit.is_write:  # transports of virtio that are not there
            exit = vcpu.run()
        assert exit == Mmio(VIRT["test"].base, 4, True, 5 << 16 | 0x3333)
        ends.append((printed.decode().replace("\r", ""), vcpu.instructions, vm.read(RAM, RAM_SIZE)))
    assert ends[0][0].endswith("62 primes below 300\n$ forks\n15 processes, 0 pages lost\n$ shutdown 5\n")
    assert ends[1][:2] == ends[2][:2] == ends[0][:2] and ends[1][2] == ends[2][2] == ends[0][2]
    assert vcpu.stats.reasons["sret"] > 100 and vcpu.stats.reasons["store/AMO page fault"] > 30


# --- shadow tables ----------------------------------------------------------------------------------------------------

ROOT, CODE, USER_CODE, TABLES = RAM + 0x1_0000, RAM, RAM + PAGE, RAM + 0x2_0000
CODE_AT, USER_CODE_AT = 2 << 30, 3 << 30  # where the kernel's code and that of its program are mapped
ACCESSES = (asm("ld", rd=A0, rs1=A1, imm=0), asm("sd", rs1=A1, rs2=A0, imm=0), asm("lbu", rd=A0, rs1=A1, imm=5),
            asm("amoadd.d", rd=A2, rs1=A1, rs2=A0, aq=0, rl=0), asm("jalr", rd=0, rs1=A1, imm=0),
            word("cbo.clean", rs1=A1), word("cbo.zero", rs1=A1), asm("lw", rd=A0, rs1=A1, imm=0x7FE))  # fmt: skip


class Random39:
    """Random tables of three levels, with leaves of all sizes, and what is wrong in all ways."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.entries: dict[int, int] = {}
        self.free = TABLES
        self.addresses: list[int] = []
        self._table(ROOT, 2, 0)
        for at, physical, flags in ((CODE_AT, CODE, 0x4B), (USER_CODE_AT, USER_CODE, 0x5B)):  # V R X, A; and U
            self.entries[ROOT + (at >> 30) * 8] = self.free >> 2 | 1
            self.entries[self.free] = self.free + PAGE >> 2 | 1
            self.entries[self.free + PAGE] = physical >> 2 | flags
            self.free += 2 * PAGE

    def _table(self, table: int, level: int, prefix: int) -> None:
        rng, shift = self.rng, 12 + 9 * level
        top = (0, 1, 4, 5, 256, 511) if level == 2 else tuple(sorted(rng.sample(range(512), 3)))
        for index in top:
            address = prefix | index << shift
            if level == 2 and index >> 8:
                address |= -1 << 39 & p.ALL
            self.addresses.append(address | rng.randrange(1 << shift) & -8 & p.ALL)
            if level and rng.random() < 0.6:
                self.entries[table + 8 * index] = self.free >> 2 | 1
                below, self.free = self.free, self.free + PAGE
                self._table(below, level - 1, address)
            else:
                self.entries[table + 8 * index] = self._leaf(shift)

    def _leaf(self, shift: int) -> int:
        rng = self.rng
        place = rng.choice((RAM + SIZE // 2, MORE, MORE, RAM & -1 << 30, 0x4000_0000, MORE + MORE_SIZE - PAGE))
        place += rng.randrange(SIZE // 2) & -PAGE
        if rng.random() < 0.9:
            place &= -1 << shift
        flags = rng.getrandbits(8) | (1 if rng.random() < 0.95 else 0) | rng.choice((0, 2, 6, 14))
        return place >> 2 | flags | (rng.choice((1 << 54, 1 << 61)) if rng.random() < 0.03 else 0)

    def put(self, vcpu: Vcpu) -> None:
        vcpu.vm.write(ROOT, bytes(self.free - ROOT))
        for at, entry in self.entries.items():
            vcpu.vm.write(at, entry.to_bytes(8, "little"))


def leads(vcpu: Vcpu) -> Counter[int]:
    """Whether each leaf of the shadow tables leads where the monitor has put what the guest's own leads to, with no
    right that the guest has not; how many leaves there are, by size. The guest's walk is one that marks nothing.
    """
    def refuse(at: int, value: int) -> None:
        raise Absent(at)

    physical = shadow(vcpu)
    places = physical.places()
    view = physical.view_of(vcpu._hart)
    walk = Mmu(vcpu._hart.state.slots, physical.read, refuse)
    found: Counter[int] = Counter()
    for address, to, size, rights in physical.shadow.leaves(view):
        assert rights.endswith("u-ad") and rights[0] + rights[2] != "--"
        for at in {0, size - PAGE}:
            for access, right in (("load", "r"), ("store", "w"), ("fetch", "x")):
                try:
                    gpa = walk.translate(address + at & p.ALL, 1, access)
                except Trap:
                    assert right not in rights, (hex(address), access)
                    continue
                assert any(low <= gpa < low + length and to + at == there + gpa - low for low, length, there in places)
        found[size] += 1
    return found


def seen_by_user(vcpu: Vcpu) -> list[object]:
    """Run two instructions; the exits, of which each load is answered."""
    found: list[object] = []
    end = vcpu.instructions + 2
    while not found or isinstance(found[-1], Mmio):
        try:
            exit: object = vcpu.run(end - vcpu.instructions)
        except NotEmulated as error:
            exit = str(error)
        if isinstance(exit, Mmio) and not exit.is_write:
            vcpu.reply(0x55)
        found.append(exit)
    return found


@pytest.mark.parametrize("eager", [False, True])
def test_accesses_through_random_tables_are_as_interpreted(eager: bool) -> None:
    """Kernel and program, SUM and MXR: what is loaded, each trap, each accessed and dirty bit, all memory."""
    rng = Random(11)
    words = words_to_bytes([FENCE, SPIN])
    interp, te = vcpus = made("interp"), made("te", eager=eager)
    for vcpu in vcpus:
        vcpu.vm.write(CODE, words)
        vcpu.vm.write(USER_CODE, bytes(4) + words_to_bytes([SPIN]))
    leaves: Counter[int] = Counter()
    seen: set[tuple[int, int]] = set()
    for _ in range(scaled(12)):
        tables = Random39(rng)
        for vcpu in vcpus:
            tables.put(vcpu)
            vcpu.set(pc=CODE_AT, mode=1, satp=8 << 60 | ROOT >> 12, stvec=CODE_AT + 0x800)
            vcpu.run(1)  # the fence
        for _ in range(scaled(25)):
            access, mode = rng.choice(ACCESSES), rng.choice((p.SUPERVISOR, p.USER))
            address, status = rng.choice(tables.addresses), rng.choice((0, p.SUM, p.MXR, p.SUM | p.MXR))
            address = address & -8 if access != ACCESSES[-1] else address
            for vcpu in vcpus:
                vcpu.vm.write(CODE + 8, words_to_bytes([access, SPIN]))
                vcpu.vm.write(USER_CODE, words_to_bytes([access, SPIN]))
                vcpu.set(pc=(CODE_AT + 8 if mode else USER_CODE_AT), mode=mode, sstatus=status, a0=7, a1=address)
            exits = [seen_by_user(vcpu) for vcpu in vcpus]
            assert exits[0] == exits[1]
            ours, theirs = state(te), state(interp)
            assert ours == theirs, {name: (hex(ours[name]), hex(theirs[name])) for name in ours if
                                    ours[name] != theirs[name]}  # fmt: skip
            seen.add((mode, ours["scause"]))
            leaves += leads(te)
        assert memory(te) == memory(interp)
    assert {(mode, cause) for mode in (0, 1) for cause in (12, 13, 15)} <= seen
    assert {PAGE, 1 << 21} <= leaves.keys() and leaves.total() > scaled(200)


def kernel_of(vcpu: Vcpu, *pages: tuple[int, int]) -> None:
    """Three levels of tables for pages of the first 2 MiB of addresses; the kernel's own code is at its address."""
    vcpu.vm.write(ROOT, bytes(3 * PAGE))
    for at, entry in ((ROOT + 16, RAM >> 2 | 0xCF), (ROOT, ROOT + PAGE >> 2 | 1),
                      (ROOT + PAGE, ROOT + 2 * PAGE >> 2 | 1),
                      *((ROOT + 2 * PAGE + (page >> 9), entry) for page, entry in pages)):  # fmt: skip
        vcpu.vm.write(at, entry.to_bytes(8, "little"))
    vcpu.set(satp=8 << 60 | ROOT >> 12)


FIRST, SECOND = RAM + 0x10_0000, RAM + 0x20_0000
CHANGES = [asm("ld", rd=A0, rs1=0, imm=8), asm("sd", rs1=A1, rs2=A2, imm=0), asm("ld", rd=A0, rs1=0, imm=8),
           asm("jal", rd=0, imm=4)]  # fmt: skip
FENCES = {"all": [FENCE], "of the address": [word("sfence.vma", rs1=13, rs2=0)], "by sinval.vma": [
    word("sfence.w.inval"), word("sinval.vma", rs1=13, rs2=0), word("sfence.inval.ir")],
    "of its number": [asm("addi", rd=14, rs1=0, imm=0), word("sfence.vma", rs1=0, rs2=14)]}  # fmt: skip


@pytest.mark.parametrize("eager", [False, True])
@pytest.mark.parametrize("fence", FENCES)
def test_an_entry_that_was_changed_holds_from_its_fence_on(fence: str, eager: bool) -> None:
    """What was mapped before may be seen until then, and is here; afterwards it must not."""
    vcpu = made("te", *CHANGES, *FENCES[fence], asm("ld", rd=A1, rs1=0, imm=8), SPIN, eager=eager)
    vcpu.vm.write(FIRST + 8, b"\1")
    vcpu.vm.write(SECOND + 8, b"\2")
    kernel_of(vcpu, (0, FIRST >> 2 | 0xC7))
    vcpu.set(a1=ROOT + 2 * PAGE, a2=SECOND >> 2 | 0xC7)
    vcpu.run(len(CHANGES))
    assert vcpu.get("a0") == 1
    rebuilds = shadow(vcpu).shadow.rebuilds
    vcpu.run(len(FENCES[fence]) + 1)
    assert vcpu.get("a1") == 2 and vcpu.stats.reasons["sfence.vma"] + vcpu.stats.reasons["sinval.vma"] == 1
    assert shadow(vcpu).shadow.rebuilds == rebuilds + (fence in ("all", "of its number"))
    assert vcpu.stats.reasons["shadow fill"] == (0 if eager and rebuilds != shadow(vcpu).shadow.rebuilds else
                                                 1 if eager else 3 if "address" in fence or "sinval" in fence else 4)


def test_entries_of_other_numbers_are_kept() -> None:
    vcpu = made("te", asm("ld", rd=A0, rs1=0, imm=8), word("sfence.vma", rs1=0, rs2=14), asm("jal", rd=0, imm=-8))
    kernel_of(vcpu, (0, FIRST >> 2 | 0xC7))
    vcpu.set(a4=5)
    vcpu.run(30)
    assert vcpu.stats.reasons["sfence.vma"] == 10 and shadow(vcpu).shadow.rebuilds == 1


def test_addresses_that_were_not_granted() -> None:
    """A guest that maps what is no memory of its own has an exit or a fault, and never what is behind its memory."""
    vcpu = made("te", asm("ld", rd=A0, rs1=0, imm=8), asm("sd", rs1=0, rs2=A1, imm=16), asm("jalr", rd=0, rs1=0, imm=0))
    places = shadow(vcpu).places()
    for gpa in (0x4000_0000, MORE + MORE_SIZE, places[0][2], places[1][2], 1 << 39, 0):
        kernel_of(vcpu, (0, gpa >> 2 | 0xCF))
        vcpu.set(pc=RAM, a1=9)
        shadow(vcpu).shadow.clear()
        assert vcpu.run() == Mmio(gpa + 8, 8, False, 0)
        vcpu.reply(3)
        assert vcpu.run() == Mmio(gpa + 16, 8, True, 9) and vcpu.get("a0") == 3
        with pytest.raises(NotEmulated, match="executes at 0x0, where its guest has no memory"):
            vcpu.run()
    assert all(to in {place + low - gpa for gpa, length, place in places for low in range(gpa, gpa + length, PAGE)}
               for _, to, _, _ in shadow(vcpu).shadow.leaves(shadow(vcpu).view_of(vcpu._hart)))  # fmt: skip


def test_pages_of_the_kernel_are_not_its_programs() -> None:
    """Whatever the kernel has used before: user mode has tables of its own."""
    vcpu = made("te", asm("ld", rd=A0, rs1=0, imm=8), csr_word("csrrw", 0x141, {"rs1": A1}, 0), SRET)
    vcpu.vm.write(FIRST, words_to_bytes([asm("ld", rd=A2, rs1=0, imm=8), SPIN]))
    kernel_of(vcpu, (0, SECOND >> 2 | 0xC7), (PAGE, FIRST >> 2 | 0xDF))
    vcpu.set(a1=PAGE)
    vcpu.run(50)
    assert (vcpu.get("scause"), vcpu.get("stval"), vcpu.get("sepc")) == (13, 8, PAGE)
    assert leads(vcpu)[PAGE] == 1


def test_large_pages_are_large_where_memory_is() -> None:
    vm = Kvm("te", options=Options(patience=0)).create_vm()
    vm.set_user_memory_region(0, 0x4000_0000, 3 << 30)
    vcpu = vm.create_vcpu()
    root = 0x4000_0000 + PAGE
    vm.write(0x4000_0000, words_to_bytes([asm("ld", rd=A0, rs1=A1, imm=0), SPIN]))
    for index in (1, 2, 3):
        vm.write(root + 8 * index, (index << 28 | 0xCF).to_bytes(8, "little"))
    vcpu.set(pc=0x4000_0000, satp=8 << 60 | root >> 12, a1=0x8000_0000)
    vcpu.run(5)
    assert leads(vcpu) == {1 << 30: 2} and vcpu.stats.reasons["shadow fill"] == 2


@pytest.mark.parametrize("eager", [False, True])
def test_tables_that_are_used_up_are_made_anew(monkeypatch: pytest.MonkeyPatch, eager: bool) -> None:
    """Room for sixteen tables, and a kernel that uses many pages far apart, in two contexts."""
    monkeypatch.setattr(shadow_tables, "SIZE", 16 * PAGE)
    vcpu = made("te", asm("ld", rd=A0, rs1=A1, imm=0), asm("add", rd=A1, rs1=A1, rs2=A2), asm("jal", rd=0, imm=-8),
                eager=eager)  # fmt: skip
    kernel_of(vcpu)
    for index in range(3, 40):
        table = RAM + 0x10_0000 + index * 2 * PAGE
        for at, entry in ((ROOT + 8 * index, table >> 2 | 1), (table, table + PAGE >> 2 | 1),
                          (table + PAGE, FIRST >> 2 | 0xC7)):  # fmt: skip
            vcpu.vm.write(at, entry.to_bytes(8, "little"))
    vcpu.set(a1=3 << 30, a2=1 << 30)
    vcpu.run(3 * 37)
    assert vcpu.get("a1") == 40 << 30 and vcpu.get("scause") == 0 and shadow(vcpu).shadow.rebuilds > 3
    assert leads(vcpu).total() > 1


def test_a_fence_for_other_harts_is_a_call() -> None:
    vcpu = made("te", *CHANGES, asm("lui", rd=17, imm=0x52465000), asm("addi", rd=17, rs1=17, imm=-445),
                asm("addi", rd=16, rs1=0, imm=1), asm("addi", rd=A0, rs1=0, imm=0), asm("addi", rd=A1, rs1=0, imm=-1),
                ECALL, asm("ld", rd=A1, rs1=0, imm=8), SPIN)  # fmt: skip
    vcpu.vm.write(FIRST + 8, b"\1")
    vcpu.vm.write(SECOND + 8, b"\2")
    kernel_of(vcpu, (0, FIRST >> 2 | 0xC7))
    vcpu.set(a1=ROOT + 2 * PAGE, a2=SECOND >> 2 | 0xC7)
    vcpu.run(13)
    assert vcpu.get("a7") == 0x5246_4E43 and vcpu.get("a0") == 0 and vcpu.get("a1") == 2


# --- interrupts, and nobody who emulates ------------------------------------------------------------------------------


def test_waiting_without_taking_the_interrupt() -> None:
    """The guest has it enabled, and masked: it goes on behind `wfi`, and is not interrupted."""
    body = [csr_word("csrrw", 0x14D, {"rs1": A0}, 0), csr_word("csrrw", 0x104, {"rs1": A1}, 0), WFI,
            asm("addi", rd=A2, rs1=0, imm=1), SPIN]  # fmt: skip
    found = []
    for method in ("interp", "te"):
        vcpu = made(method, *body)
        vcpu.set(a0=5000, a1=p.STI)
        vcpu.run(100)
        found.append(state(vcpu))
        assert vcpu.get("a2") == 1 and vcpu.get("time") >= 5000 and vcpu.get("scause") == 0
    assert found[0] == found[1]
    assert vcpu.stats.reasons["wfi"] == 1 and vcpu.stats.reasons["supervisor timer interrupt"] == 1


def test_the_harts_own_registers_are_others() -> None:
    """The lecture's example: an environment call of its program is 8 for the guest's kernel, which then reads scause:
    an illegal instruction, 2, in the hart's own register.
    """
    vcpu = made("te", ECALL)
    vcpu.vm.write(HANDLER, words_to_bytes([csr_word("csrrs", 0x142, {"rs1": 0}, A2), SPIN]))
    vcpu.set(mode=0, sie=p.STI)
    vcpu.run(1)
    frame = vcpu.vm.world.frames[0]
    assert (vcpu.get("scause"), vcpu.get("mode"), vcpu.get("sepc"), vcpu.get("satp")) == (8, 1, RAM, 0)
    assert (frame.scause, frame.sepc, frame.stval) == (2, HANDLER, 0x1420_2673)
    assert frame.sstatus & p.SPP == 0 and frame.satp >> 60 == 10 and frame.sie == 0
    assert vcpu._hart.taken == {(8, 0): 1, (2, 0): 1}


def test_nobody_emulates() -> None:
    """The lecture's first idea: a kernel in user mode, and no more. Its first privileged instruction is its end."""
    vcpu = made("none", asm("addi", rd=A0, rs1=0, imm=1), csr_word("csrrw", 0x180, {"rs1": A0}, 0), SPIN)
    with pytest.raises(NotEmulated, match=r"illegal instruction csrw satp at PC 0x80000004 \(guest crashed\)"):
        vcpu.run()
    assert vcpu.get("a0") == 1 and vcpu.get("pc") == RAM + 4
    ends = made("none", asm("addi", rd=17, rs1=0, imm=8), ECALL)
    assert ends.run() == SystemEvent(1)  # who needs none is not harmed
