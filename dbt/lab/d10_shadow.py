"""D10 to D13: shadow page tables: of what they are made, what they never show, when they change, whose they are."""

from __future__ import annotations

import time
from itertools import pairwise

from dbt.kvm import Kvm, Mmio, Vcpu, Vm, views
from dbt.kvm.physical import HOST, TABLES, Shadowed
from dbt.lab.report import Report
from dbt.lab.simple_monitor import OPTIONS, RAM, SIZE
from dbt.lab.workbench import asm, code_bytes, riscv
from dbt.machine.memory import PAGE_SHIFT
from dbt.machine.pool import Pool
from guests.spec import Mapped, Trap

PAGE = 1 << PAGE_SHIFT
A0, A1, A2, A3, A4 = 10, 11, 12, 13, 14
FENCE, SPIN = 0x1200_0073, 0x6F
HANDLER = RAM + 0x800
ROOT, MIDDLE, LOW = RAM + 0x10_0000, RAM + 0x10_1000, RAM + 0x10_2000  # tables of three levels
DATA, OTHER, LARGE = RAM + 0x20_0000, RAM + 0x30_0000, RAM + 0x40_0000
SV39 = 8 << 60
GONE = 1 << 55  # a guest physical address far from everything
EDITS, USED, MAPPED = 64, 32, 128  # edits of tables; pages that are used between two, at most; pages that are mapped
CANARY = bytes(range(256)) * (PAGE // 256)
RIGHTS = {"load": "r", "store": "w", "fetch": "x"}


def machine(memory: object = None, eager: bool = False) -> Vm:
    """A machine with RAM."""
    vm = Kvm("te", options=OPTIONS, eager=eager).create_vm()
    vm.set_user_memory_region(0, RAM, SIZE, memory)
    return vm


def kernel(vm: Vm, words: list[int], pages: dict[int, int]) -> Vcpu:
    """A kernel with tables: its code by a gigabyte leaf; of the first 2 MiB these pages, by number, as entries; behind
    them 2 MiB by one leaf, marked as used, and not as written. Its handler is a loop.
    """
    vm.write(HANDLER, code_bytes([SPIN]))
    vm.write(RAM, code_bytes([*words, SPIN]))
    for at, entry in {ROOT + 16: RAM >> 2 | 0xCF, ROOT: MIDDLE >> 2 | 1, MIDDLE: LOW >> 2 | 1,
                      MIDDLE + 8: LARGE >> 2 | 0x47, **{LOW + 8 * n: e for n, e in pages.items()}}.items():  # fmt: skip
        vm.write(at, entry.to_bytes(8, "little"))
    vcpu = vm.create_vcpu()
    vcpu.set(pc=RAM, stvec=HANDLER, satp=SV39 | ROOT >> 12)
    return vcpu


def shadowed(vcpu: Vcpu) -> Shadowed:
    physical = vcpu.vm.physical
    assert isinstance(physical, Shadowed)
    return physical


def shadows(vcpu: Vcpu) -> list[Mapped]:
    """The leaves of the shadow tables, in the context of now."""
    physical = shadowed(vcpu)
    return list(physical.shadow.leaves(physical.view_of(vcpu.hart)))


def wrong(vcpu: Vcpu) -> int:
    """Accesses, of all that the leaves of the shadow tables allow, which do not go where the monitor has put what the
    guest's own tables lead to: walk(shadow) = map[walk(guest)].
    """
    physical = shadowed(vcpu)
    view, places, found = physical.view_of(vcpu.hart), physical.places(), 0
    for leaf in shadows(vcpu):
        for access, right in RIGHTS.items():
            for offset in {0, leaf.size - PAGE} if right in leaf.rights else ():
                try:
                    gpa = view.walk(leaf.virtual + offset, access)
                except Trap:
                    found += 1
                    continue
                there = [place + gpa - low for low, size, place in places if low <= gpa < low + size]
                found += there != [leaf.physical + offset]
    return found


def three(report: Report) -> None:
    """D10"""
    words = [asm(riscv(), "ld", rd=A0, rs1=0, imm=8), asm(riscv(), "ld", rd=A0, rs1=A1, imm=0),
             asm(riscv(), "jal", rd=0, imm=4), asm(riscv(), "sd", rs1=A1, rs2=A0, imm=0)]  # fmt: skip
    vcpu = kernel(machine(), words, {0: DATA >> 2 | 0x07, 1: OTHER >> 2 | 0xDF, 2: GONE >> 2 | 0xCF})
    vcpu.set(a1=2 << 20)
    vcpu.run(3)
    report.say("two loads, one of them in 2 MiB that are one leaf")
    report.show(views.tables(vcpu))
    by_address = {leaf.virtual: leaf for leaf in shadows(vcpu)}
    report.check(wrong(vcpu) == 0, "each leaf leads to map[walk(guest)], with rights that the guest's own has")
    report.check(by_address[2 << 20].size == 2 << 20 and by_address[2 << 20].rights == "r--u-ad",
                 "a large leaf is a large leaf; it is not written yet, and cannot be")  # fmt: skip
    report.check(vcpu.vm.read(LOW, 1)[0] == 0x47, "the first load has marked the guest's entry as used")
    report.check(PAGE not in by_address, "a page of its programs is none of its kernel's: SUM is 0")
    vcpu.run(2)
    report.say("a store there")
    report.show(views.tables(vcpu))
    by_address = {leaf.virtual: leaf for leaf in shadows(vcpu)}
    report.check(by_address[2 << 20].rights == "rw-u-ad" and vcpu.vm.read(MIDDLE + 8, 1)[0] == 0xC7,
                 "the store has marked it as written, in the guest's tables, and from then on it may be")  # fmt: skip
    vcpu.set(mode=0, pc=PAGE)
    vcpu.vm.write(OTHER, code_bytes([asm(riscv(), "ld", rd=A0, rs1=0, imm=8), SPIN]))
    before = {leaf.virtual for leaf in by_address.values()}
    vcpu.run(1)
    vcpu.set(mode=0)
    report.say("its program, which has loaded from a page of the kernel's")
    report.show(views.tables(vcpu))
    report.check((vcpu.get("scause"), vcpu.get("stval")) == (13, 8), "that is a page fault of its own kernel's")
    report.check(not before & {leaf.virtual for leaf in shadows(vcpu)}, "no page of the kernel is in its shadow tables")
    vcpu.vm.close()


def isolated(report: Report) -> None:
    """D11"""
    pool = Pool(2 * SIZE, seed=1)
    mine, other = (machine(pool.take(SIZE)[0]) for _ in range(2))
    other.write(RAM, CANARY * (SIZE // PAGE))
    places = {"behind its memory": RAM + SIZE, "where its monitor has put it": HOST + RAM,
              "where its shadow tables are": TABLES, "at 0": 0}  # fmt: skip
    words = [asm(riscv(), "sd", rs1=0, rs2=A1, imm=8), asm(riscv(), "ld", rd=A0, rs1=0, imm=8)]
    vcpu = kernel(mine, words, {})
    for name, gpa in places.items():
        mine.write(LOW, (gpa >> 2 | 0xCF).to_bytes(8, "little"))
        shadowed(vcpu).shadow.fence(None, None)
        vcpu.set(pc=RAM, a1=0x6688)
        exits = [vcpu.run(100), vcpu.run(100)]
        vcpu.run(1)
        report.figure(f"mapped: {name}", f"{gpa:#x}: {', '.join(type(exit).__name__ for exit in exits)}")
        wanted = [Mmio(gpa + 8, 8, True, 0x6688), Mmio(gpa + 8, 8, False, 0)]
        report.check(exits == wanted, "each access is an exit, with its guest physical address")
    granted = [(place, size) for _, size, place in shadowed(vcpu).places()]
    inside = all(any(low <= leaf.physical and leaf.physical + leaf.size <= low + size for low, size in granted)
                 for leaf in shadows(vcpu))  # fmt: skip
    report.check(inside, "no leaf of its shadow tables leads to anything else than its own memory")
    report.check(other.read(RAM, SIZE) == CANARY * (SIZE // PAGE), "the other machine's canary is intact")
    mine.close()
    other.close()


def edits(report: Report) -> None:
    """D12"""
    words = [asm(riscv(), "ld", rd=A0, rs1=0, imm=8), asm(riscv(), "sd", rs1=A1, rs2=A2, imm=0),
             asm(riscv(), "ld", rd=A3, rs1=0, imm=8), FENCE, asm(riscv(), "ld", rd=A4, rs1=0, imm=8)]  # fmt: skip
    vcpu = kernel(machine(), words, {0: DATA >> 2 | 0xC7})
    vcpu.vm.write(DATA + 8, b"\1")
    vcpu.vm.write(OTHER + 8, b"\2")
    vcpu.set(a1=LOW, a2=OTHER >> 2 | 0xC7)
    vcpu.run(6)
    seen = [vcpu.get(name) for name in ("a0", "a3", "a4")]
    report.figure("before the edit, after it, after its fence", seen)
    report.check(seen[0] == 1 and seen[1] in (1, 2), "without a fence the old page is allowed")
    report.check(seen[2] == 2, "with it the new one is a must")
    vcpu.vm.close()
    figures = {}
    for pages in (1, USED):
        for eager in (False, True):
            exits, rebuilds, fills, spent = edited(pages, eager)
            kind = "eager" if eager else "lazy"
            figures[pages, eager] = exits, rebuilds, fills
            report.figure(f"{EDITS} edits, {pages} of {MAPPED} pages used, {kind}: exits, rebuilds, fills, CPU time",
                          f"{exits:,}, {rebuilds}, {fills:,}, {spent:.2f} s")  # fmt: skip
    fewer = all(figures[pages, True][0] < figures[pages, False][0] for pages in (1, USED))
    report.check(fewer, "eager has fewer exits")
    report.check({figures[key][1] for key in figures} == {EDITS + 1}, "each fence is one rebuild")
    report.check(not any(figures[pages, True][2] for pages in (1, USED)), "eager: no page is filled in when it is used")
    wanted = {pages: EDITS * (pages + 1) + 1 for pages in (1, USED)}  # and the code, which the first edit needs as well
    report.check(wanted == {pages: figures[pages, False][2] for pages in wanted}, "lazy: those in use are")


def edited(pages: int, eager: bool) -> tuple[int, int, int, float]:
    """A guest that edits an entry and fences, again and again, and then uses some of its pages: exits, rebuilds, pages
    filled in, seconds.
    """
    loads = [asm(riscv(), "ld", rd=A0, rs1=A3, imm=0), asm(riscv(), "add", rd=A3, rs1=A3, rs2=A4)] * pages
    body = [asm(riscv(), "sd", rs1=A1, rs2=A2, imm=0), FENCE, asm(riscv(), "addi", rd=A3, rs1=0, imm=0), *loads]
    again = asm(riscv(), "bne", rs1=5, rs2=0, imm=-4 * (len(body) + 1))
    entries = {n: DATA + n * PAGE >> 2 | 0xC7 for n in range(MAPPED)}
    vcpu = kernel(machine(eager=eager), [*body, asm(riscv(), "addi", rd=5, rs1=5, imm=-1), again], entries)
    vcpu.set(t0=EDITS, a1=LOW, a2=DATA >> 2 | 0xC7, a4=PAGE)
    start = time.process_time()
    vcpu.run(EDITS * (len(body) + 2))
    spent = time.process_time() - start
    reasons = vcpu.stats.reasons
    found = vcpu.stats.total - reasons["Intr"], shadowed(vcpu).shadow.rebuilds, reasons["shadow fill"], spent
    vcpu.vm.close()
    return found


def maps(report: Report) -> None:
    """D13"""
    pool = Pool(3 * SIZE, seed=2)
    sets, placed = [], []
    for number in range(2):
        memory, numbers = pool.take(SIZE)
        vm = machine(memory)
        vm.set_user_memory_region(1, DATA + SIZE, SIZE // 2)
        vcpu = kernel(vm, [asm(riscv(), "ld", rd=A0, rs1=0, imm=0)], {0: DATA >> 2 | 0xC7})
        vm.write(DATA, bytes([number + 1]) * 8)
        vcpu.run(2)
        own = bytes([number + 1]) * 8
        report.check(vcpu.get("a0") == int.from_bytes(own), f"machine {number} reads what is its own")
        for gpa, size, place in shadowed(vcpu).places():
            report.figure(f"machine {number}: {gpa:#x}, {size >> 20} MiB, leads to", f"{place:#x}")
        page = numbers[DATA - RAM >> PAGE_SHIFT]
        report.figure(f"machine {number}: the host's page behind {DATA:#x}", page)
        report.check(pool.read(page)[:8] == own, "that page of the host's has it")
        sets.append(set(numbers))
        placed.append(shadowed(vcpu).places())
        vm.close()
    report.check(not sets[0] & sets[1], "no page of the host's is that of both")
    for places in placed:
        ends = [(place, place + size) for _, size, place in places]
        report.check(all(high <= low for (_, high), (low, _) in pairwise(ends)), "regions of one machine lie apart")
