"""`shadow`: a shadow page table, made of a guest's own and of where its monitor has put the guest's memory.

Wanted: shadow(read, table, place, write, root). `read(gpa)` reads eight bytes of the guest's tables, of which the first
is at the guest physical address `table`; `place(gpa)` says where the host has that page, or None. From `root` on it
builds tables by write(address, word). A hart in user mode, as the guest's kernel is, then goes through them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product
from random import Random
from typing import NamedTuple

from dbt.lab.exercises.machines import words_of
from dbt.lab.exercises.reading import function, require
from dbt.lab.exercises.tables import A0, A1, ROOT, SPIN, VECTOR, write
from dbt.lab.workbench import RAM, WARM, hart, map_pages, supervise
from dbt.machine.memory import Memory
from dbt.machine.vm import Vcpu
from guests.riscv import privileged as p
from guests.riscv.mmu import A, D, R, U, V, W, X

PAGE, LARGE = 4096, 2 << 20
GUEST_RAM, GUEST_SIZE = RAM, 4 << 20  # as the guest has it; its second half is one leaf of its tables
GUEST_ROOT, GUEST_DATA = GUEST_RAM + 0x1000, GUEST_RAM + 0x18_0000
FRAMES = range(RAM + (8 << 20), RAM + (16 << 20), PAGE)  # the host's pages, of which the guest has some
CODE = words_of("""
            ld a0, 0(a1)
    loaded: j loaded
            sd a1, 8(a1)
    stored: j stored
""")
LOAD, STORE, FETCH = "load", "store", "fetch"
FAULT = {FETCH: 12, LOAD: 13, STORE: 15}
KINDS = {  # bits of the guest's entry beside V: accesses that it allows the guest's kernel, as it is now
    "code": (R | X | A, {FETCH, LOAD}),  # the first: by it all others are tried
    "for loads and stores": (R | W | A | D, {LOAD, STORE}),
    "read only": (R | A | D, {LOAD}),
    "not written yet": (R | W | A, {LOAD}),
    "not used yet": (R | W, set[str]()),
    "its program's": (R | W | U | A | D, set[str]()),
}


class Leaf(NamedTuple):
    """A page of the guest's: where it is for the guest, and in the host (None: the guest was not given that)."""

    virtual: int
    gpa: int
    place: int | None
    what: str
    allowed: set[str]


def guest_of(rng: Random) -> tuple[Memory, dict[int, int], list[Leaf]]:
    """A guest with tables: its memory, of which only these matter; where the host has its pages; and what it maps."""
    memory = Memory()
    memory.add_ram(GUEST_RAM, GUEST_SIZE)
    places = dict(zip(range(GUEST_RAM, GUEST_RAM + GUEST_SIZE, PAGE), rng.sample(FRAMES, GUEST_SIZE // PAGE)))
    virtual = iter(rng.sample(range(1 << 14, 1 << 26), 2 * len(KINDS) + 1))
    gpas = iter(rng.sample(range(GUEST_DATA, GUEST_DATA + 0x8_0000, PAGE), 2 * len(KINDS)))
    leaves = []
    for what, (_, allowed) in [*KINDS.items()] * 2:
        gpa = next(gpas)
        leaves.append(Leaf(next(virtual) * PAGE, gpa, places[gpa], what, allowed))
    absent = GUEST_RAM + GUEST_SIZE + PAGE * rng.randrange(16)
    leaves.append(Leaf(next(virtual) * PAGE, absent, None, "nobody's", set()))
    entries = map_pages(memory, GUEST_ROOT, {leaf.virtual: leaf.gpa for leaf in leaves})
    for leaf in leaves:
        bits, _ = KINDS.get(leaf.what, KINDS["for loads and stores"])
        memory.write(entries[leaf.virtual], 8, leaf.gpa >> 2 | bits | V)

    base = next(at for at in range(0, 1 << 30, LARGE) if all(leaf.virtual & -LARGE != at for leaf in leaves))
    middle = memory.read(GUEST_ROOT, 8)
    if not middle:
        middle = GUEST_ROOT + 0x8_0000 >> 2 | V
        memory.write(GUEST_ROOT, 8, middle)
    half = GUEST_RAM + GUEST_SIZE // 2
    memory.write((middle >> 10 << 12) + 8 * (base >> 21), 8, half >> 2 | R | W | A | D | V)
    for at in (0, LARGE - PAGE, *(PAGE * rng.randrange(512) for _ in range(4))):
        leaves.append(Leaf(base + at, half + at, places[half + at], "a part of 2 MiB", {LOAD, STORE}))
    return memory, places, leaves


def cause(vcpu: Vcpu, leaf: Leaf, access: str, code: int) -> int:
    """Why an access, of user mode, is trapped; 0 if it is not."""
    slots = vcpu.state.slots
    vcpu.state.pc = {LOAD: code, STORE: code + 8, FETCH: leaf.virtual}[access]
    vcpu.state.mid_block = False
    slots[p.PRIVILEGE], slots[p.MCAUSE], slots[A1] = p.USER, 0, leaf.virtual
    vcpu.vm.run(most=vcpu.state.count + 2)
    return int(slots[p.MCAUSE])


def entered(build: Callable[..., object], engine: str, rng: Random) -> tuple[Vcpu, list[Leaf]]:
    """A hart that goes through what the reader has built of a new guest's tables, and what that guest maps."""
    guest, places, leaves = guest_of(rng)
    vcpu = hart([], engine, WARM, {VECTOR: SPIN, **{leaf.place or 0: CODE for leaf in leaves if leaf.what == "code"}})
    supervise(vcpu, VECTOR)
    memory, slots = vcpu.vm.memory, vcpu.state.slots
    slots[p.MTVEC], slots[p.MEDELEG] = VECTOR, 0  # the monitor is in machine mode
    for leaf in leaves:
        if leaf.place is not None and leaf.what != "code":
            memory.poke(leaf.place, leaf.gpa.to_bytes(8, "little"))

    def read(gpa: int) -> int:
        require(gpa in range(GUEST_ROOT, GUEST_DATA, 8), f"it reads at {gpa:#x}, where the guest has no table")
        return guest.read(gpa, 8)

    build(read, GUEST_ROOT, lambda gpa: places.get(gpa & -PAGE), partial(write, memory), ROOT)
    slots[p.SATP] = 8 << 60 | ROOT >> 12
    vcpu.space.remap()
    return vcpu, leaves


def arrives(vcpu: Vcpu, leaf: Leaf, access: str) -> bool:
    """Whether an access that was let through was made where the host has the page."""
    if access == STORE and leaf.place is not None:
        return vcpu.vm.memory.read(leaf.place + 8, 8) == leaf.virtual
    return access == FETCH or leaf.what == "code" or vcpu.state.slots[A0] == leaf.gpa


def check(file: str) -> str:
    build, rng, tried = function(file, "shadow"), Random(), 0
    for engine in ("reference", "translated"):
        vcpu, leaves = entered(build, engine, rng)
        code = next(leaf.virtual for leaf in leaves if leaf.what == "code")
        for leaf, access in product(leaves, FAULT):
            found, tried = cause(vcpu, leaf, access, code), tried + 1
            name = f"a {access} at {leaf.virtual:#x}, which is {leaf.what},"
            if access not in leaf.allowed:
                require(found == FAULT[access], f"{name} is to be a page fault")
            else:
                require(found == 0, f"{name} is allowed, and is trapped by cause {found}")
                require(arrives(vcpu, leaf, access), f"{name} does not lead to {leaf.place:#x}, where the guest's "
                        f"{leaf.gpa:#x} is")  # fmt: skip
    return f"{tried} accesses of two guests, one in each engine: each goes where it should, or is trapped"
