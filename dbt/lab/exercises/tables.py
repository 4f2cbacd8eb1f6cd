"""`tables`: page tables of Sv39, made by hand, for a kernel that switches to them.

Wanted: tables(write, root, pages), which builds tables from the address `root` on, by write(address, word), a store of
eight bytes. `pages` says which virtual page leads to which physical one; nothing else may be mapped.
"""

from __future__ import annotations

from functools import partial
from random import Random

from dbt.lab.exercises.machines import words_of
from dbt.lab.exercises.reading import function, require
from dbt.lab.workbench import RAM, WARM, hart, supervise
from dbt.machine.memory import Memory
from dbt.machine.vm import Vcpu
from guests.riscv import privileged as p

PAGE, PAGES = 4096, 12
ROOT, DATA = RAM + 0x10_0000, RAM + 0x20_0000
TABLES = range(ROOT, ROOT + 64 * PAGE, 8)  # where tables may be
VECTOR = RAM + 0x400
GUEST = words_of("""
            ld a0, 0(a1)        # through the tables
            sd a2, 8(a1)
            j 0x80000008
""")
SPIN = words_of("j 0x80000400", VECTOR)
A0, A1, A2 = 10, 11, 12
FETCH_PAGE_FAULT, LOAD_PAGE_FAULT = 12, 13


def pages(rng: Random) -> dict[int, int]:
    """Virtual pages, some close together and some far away, and pages of data that they lead to."""
    near = rng.randrange(1 << 20, 1 << 24)
    virtual = [near, near + 1, near + 512, *rng.sample(range(1 << 14, 1 << 26), PAGES - 3)]
    to = rng.sample(range(PAGES * 2), PAGES)
    return {page * PAGE: DATA + PAGE * data for page, data in zip(virtual, to)}


def write(memory: Memory, address: int, word: int) -> None:
    """A store into a table; raises Wrong where no table is."""
    require(address in TABLES, f"it writes to {address:#x}: tables lie from {ROOT:#x} to {TABLES.stop:#x}, in words of "
            "eight bytes")  # fmt: skip
    memory.write(address, 8, word)


def access(vcpu: Vcpu, address: int, store: int) -> int | None:
    """A kernel's load at an address and a store behind it: what it loaded; None if that was a page fault."""
    slots = vcpu.state.slots
    vcpu.state.pc, vcpu.state.mid_block = RAM, False
    slots[A1], slots[A2], slots[p.SCAUSE] = address, store, 0
    vcpu.vm.run(most=vcpu.state.count + 3)
    cause = slots[p.SCAUSE]
    if cause == LOAD_PAGE_FAULT:
        return None
    require(cause != FETCH_PAGE_FAULT, f"the kernel's code, at {RAM:#x}, is gone when it has switched to the tables")
    require(cause == 0, f"a load at {address:#x} is well, and a store behind it a page fault")
    return int(slots[A0])


def check(file: str) -> str:
    build, rng = function(file, "tables"), Random()
    for engine in ("reference", "translated"):
        wanted = pages(rng)
        vcpu = hart(GUEST, engine, WARM, {VECTOR: SPIN})
        supervise(vcpu, VECTOR)
        memory = vcpu.vm.memory
        for data in wanted.values():
            memory.poke(data, data.to_bytes(8, "little"))

        build(partial(write, memory), ROOT, {**wanted, RAM: RAM})  # the kernel's code is wanted as well
        vcpu.state.slots[p.SATP] = 8 << 60 | ROOT >> 12
        vcpu.space.remap()
        for virtual, physical in wanted.items():
            found = access(vcpu, virtual, virtual)
            require(found is not None, f"a load at {virtual:#x} is a page fault, and should lead to {physical:#x}")
            require(found == physical, f"{virtual:#x} does not lead to {physical:#x}")
            require(memory.read(physical + 8, 8) == virtual, f"a store at {virtual + 8:#x} does not arrive in RAM")
        for virtual in wanted:
            for beside in (virtual - PAGE, virtual + PAGE, virtual + (PAGE << 9), virtual ^ 1 << 38):
                if beside not in wanted and beside < 1 << 38:
                    require(access(vcpu, beside, 0) is None, f"{beside:#x} is mapped, and nobody asked for that")
    return f"{PAGES} pages, in both engines: each leads where it should, and their neighbours nowhere"
