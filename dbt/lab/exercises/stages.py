"""`stages`: translation in two stages: a guest's tables, each entry of which is behind its hypervisor's.

Wanted: translate(read, table, root, address), which says what a load of a guest's kernel at a virtual address does:
(0, physical address), (13, virtual address) for a page fault, (21, guest physical address) for a guest-page fault.
`read(address)` reads eight bytes at a physical address; `table` is where the guest has the first of its tables, `root`
where its hypervisor has its own. What a load does, a hart shows.
"""

from __future__ import annotations

from array import array
from functools import partial
from random import Random

from dbt.lab.exercises.machines import words_of
from dbt.lab.exercises.reading import function, require
from dbt.lab.two_stages import ENGINES, GUEST_LEAF, ROOT, SPIN, SV39, go, hypervised
from dbt.lab.workbench import LEAF, RAM, code_bytes, map_pages
from dbt.machine.memory import Memory
from dbt.machine.vm import Vcpu
from guests.riscv import privileged as p
from guests.riscv.mmu import A, U, V, X

PAGE, LARGE = 4096, 2 << 20
GUEST_RAM = 0x4000_0000  # as the guest has it: 2 MiB, and 2 MiB more to which one leaf of its tables leads
GUEST_ROOT, CODE, DATA = GUEST_RAM + PAGE, GUEST_RAM + 0x10_0000, GUEST_RAM + 0x10_1000
FRAMES = range(RAM + (4 << 20), RAM + (16 << 20), PAGE)
A0, A1 = 10, 11
KINDS = {  # of pages: bits of the guest's entry, and of its hypervisor's
    "readable": (LEAF, GUEST_LEAF), "read by its programs": (LEAF | U, GUEST_LEAF), "code": (V | X | A, GUEST_LEAF),
    "not valid": (0, GUEST_LEAF), "not given": (LEAF, 0), "without U": (LEAF, GUEST_LEAF & ~U),
}  # fmt: skip
EACH = 3  # pages of each kind
PAGE_FAULT, GUEST_PAGE_FAULT = 13, 21


def inside(engine: str, rng: Random) -> tuple[Vcpu, int, list[int]]:
    """A hart in a guest's kernel, the virtual address of a load and a loop, and addresses that lead everywhere, and
    nowhere.
    """
    guest = Memory()
    guest.add_ram(GUEST_RAM, 2 * LARGE)
    bits = [each for each in KINDS.values() for _ in range(EACH)]
    code, lost, *pages = (page * PAGE for page in rng.sample(range(1 << 14, 1 << 26), len(bits) + 2))
    data = rng.sample(range(DATA, GUEST_RAM + LARGE, PAGE), len(bits))
    entries = map_pages(guest, GUEST_ROOT, {**dict(zip(pages, data)), code: CODE, lost: CODE})
    for page, gpa, (first, _) in zip(pages, data, bits):
        guest.write(entries[page], 8, gpa >> 2 | first)
    gigabyte = code & -(1 << 30)
    large = next(at for at in range(gigabyte, gigabyte + (1 << 30), LARGE) if at != code & -LARGE)
    middle = guest.read(GUEST_ROOT + 8 * (code >> 30), 8) >> 10 << 12
    guest.write(middle + 8 * (large >> 21 & 511), 8, GUEST_RAM + LARGE >> 2 | LEAF)

    vcpu = hypervised(engine, [], "VS", at=code)
    memory, slots = vcpu.vm.memory, vcpu.state.slots
    places = dict(zip(range(GUEST_RAM, GUEST_RAM + 2 * LARGE, PAGE), rng.sample(FRAMES, 2 * LARGE // PAGE)))
    memory.poke(ROOT, bytes(4 * PAGE))  # a root of 16 KiB
    second = map_pages(memory, ROOT, places, GUEST_LEAF, free=ROOT + 4 * PAGE)
    for gpa, place in places.items():  # what is no table holds its own physical addresses
        memory.poke(place, guest.peek(gpa, PAGE) if gpa < CODE else array("Q", range(place, place + PAGE, 8)).tobytes())
    memory.poke(places[CODE], code_bytes([*words_of("ld a0, 0(a1)"), SPIN]))
    for gpa, (_, of_second) in zip(data, bits):
        memory.write(second[gpa], 8, places[gpa] >> 2 | of_second if of_second else 0)
    memory.write(second[entries[lost] & -PAGE], 8, 0)
    slots[p.HGATP], slots[p.VSATP] = SV39 | ROOT >> 12, SV39 | GUEST_ROOT >> 12
    vcpu.space.remap()
    wanted = [*pages, lost, *(page ^ 1 << 37 for page in pages[:EACH]), *range(large, large + LARGE, LARGE // EACH)]
    return vcpu, code, [address & -PAGE | 8 * rng.randrange(PAGE // 8) for address in wanted]


def load(vcpu: Vcpu, code: int, address: int) -> tuple[int, int]:
    """What a guest's load at an address does."""
    slots = vcpu.state.slots
    vcpu.state.pc, vcpu.state.mid_block = code, False
    slots[p.VIRTUAL], slots[p.PRIVILEGE], slots[p.SCAUSE], slots[A1] = 1, p.SUPERVISOR, 0, address
    seen = go(vcpu, 2)
    if seen.scause == 0:
        return 0, int(slots[A0])
    return seen.scause, seen.htval << 2 if seen.scause == GUEST_PAGE_FAULT else seen.stval


def read(memory: Memory, address: int) -> int:
    """Eight bytes at a physical address; raises Wrong where there are none."""
    require(address in range(RAM, FRAMES.stop, 8), f"it reads at {address:#x}, where the machine has no memory")
    return memory.read(address, 8)


def told(found: object) -> str:
    """What a reader's function has returned."""
    match found:
        case (int(cause), int(address)):
            return f"({cause}, {address:#x})"
    return repr(found)


def check(file: str) -> str:
    translate, rng, seen = function(file, "translate"), Random(), list[int]()
    for engine in ENGINES:
        vcpu, code, addresses = inside(engine, rng)
        for address in addresses:
            wanted = load(vcpu, code, address)
            found = translate(partial(read, vcpu.vm.memory), GUEST_ROOT, ROOT, address)
            require(found == wanted, f"a load at {address:#x} is {told(wanted)}, and not {told(found)}")
            seen.append(wanted[0])
    return (f"{seen.count(0)} loads arrive, {seen.count(PAGE_FAULT)} are page faults of the guest's own, "
            f"{seen.count(GUEST_PAGE_FAULT)} its hypervisor's")  # fmt: skip
