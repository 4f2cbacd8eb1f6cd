"""`memory`: a guest's RAM, contiguous for it, of pages that lie anywhere in the host's memory.

Wanted: lay(vm, host, pages), which gives the VM its RAM, from 0x80000000 on. `host` is a bytearray, the host's memory;
`pages` are the numbers of the pages in it that are this guest's, in the order in which the guest is to see them.
"""

from __future__ import annotations

from random import Random

from dbt.kvm import Kvm, SystemEvent
from dbt.lab.exercises.machines import METHODS, RAM, words_of
from dbt.lab.exercises.reading import Wrong, function, require
from dbt.lab.simple_monitor import OPTIONS
from dbt.lab.workbench import code_bytes

PAGE, PAGES, HOST = 4096, 16, 64
GUEST = f"""
            la s0, {RAM:#x}     # in its first page; it numbers the words at the begins of the others, by steps of a1
            li t0, {PAGES - 1}
            lui t1, 1
            li s1, 0
    loop:   add s0, s0, t1
            add s1, s1, a1
            sd s1, 0(s0)
            addi t0, t0, -1
            bnez t0, loop
            li a7, 8
            ecall
"""
LIMIT = 1_000  # instructions


def check(file: str) -> str:
    lay, rng = function(file, "lay"), Random()
    for method in METHODS:
        host = bytearray(rng.randbytes(HOST * PAGE))
        first = rng.randrange(HOST - PAGES)  # so many pages in a row would fit behind it
        pages = [first, *rng.sample([page for page in range(HOST) if page != first], PAGES - 1)]
        code = code_bytes(words_of(GUEST))
        host[pages[0] * PAGE : pages[0] * PAGE + len(code)] = code
        before, step = bytes(host), rng.randint(1, 1 << 30)
        with Kvm(method, options=OPTIONS).create_vm() as vm:
            lay(vm, host, pages)
            has = {gpa for region in vm.regions for gpa in range(region.gpa, region.end, PAGE)}
            wanted = set(range(RAM, RAM + PAGES * PAGE, PAGE))
            for gpa in sorted(wanted ^ has):
                what = "no memory" if gpa in wanted else "memory that is not its own"
                raise Wrong(f"the guest has {what} at {gpa:#x}")
            vcpu = vm.create_vcpu()
            vcpu.set(pc=RAM, a1=step)
            exit = vcpu.run(LIMIT)
            where = f"{vcpu.get('pc'):#x}"
            require(exit == SystemEvent(1), f"the guest is left at {where}, and not at its end: {exit}")
        for number in range(PAGES):
            at = pages[number] * PAGE
            found = int.from_bytes(host[at : at + 8], "little")
            require(number == 0 or found == step * number, f"page {pages[number]} of the host should be the guest's "
                    f"page {number}, and has not what the guest wrote there")  # fmt: skip
            host[at : at + 8] = before[at : at + 8]
        require(host == before, "something else in the host's memory has changed")
    return f"{PAGES} pages of {HOST}: contiguous for the guest, and each in its place in the host"
