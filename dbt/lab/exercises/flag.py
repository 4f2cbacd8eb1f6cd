"""`flag`: the critical section of a kernel, with the interrupt-enable flag edited in place.

Given, in supervisor mode with interrupts enabled: a1, the address of a table of WORDS doublewords, all equal; a2, how
often to add 1 to every one of them. Wanted: that, then the label `end`, a jump to itself, in LENGTH instructions. A
handler that may interrupt at any moment has to find them all equal. a1 and t2 to t6 are the handler's.
"""

from __future__ import annotations

from random import Random

from dbt.lab.exercises.machines import words_of
from dbt.lab.exercises.reading import assembly, require
from dbt.lab.workbench import RAM, WARM, hart, riscv, supervise
from dbt.machine.vm import Vcpu
from guests.riscv import privileged as p
from ir.records import replace

WORDS, LENGTH = 16, 16
HANDLER, TABLE = RAM + 0x1000, RAM + 0x2000
SERVICE = f"""
            ld t3, 0(a1)
            mv t5, a1
            li t4, {WORDS}
            li t6, 0        # bits in which a word is not as the first one
    each:   ld t2, 0(t5)
            xor t2, t2, t3
            or t6, t6, t2
            addi t5, t5, 8
            addi t4, t4, -1
            bnez t4, each
            csrci sip, {p.SSI}
            sret
"""
SERVED = 6 + 6 * WORDS  # instructions of the handler
PATIENCE = 150  # instructions for which an interrupt may have to wait
LIMIT = 100_000  # instructions
MOMENTS = 30
A1, A2, SEEN = 11, 12, 31
UNSEEN = 1 << 63


def start(words: list[int], engine: str, value: int, times: int) -> Vcpu:
    """A hart at the program's begin, in supervisor mode, with software interrupts let in."""
    vcpu = hart(words, engine, replace(WARM, region=0), {HANDLER: words_of(SERVICE, HANDLER)})
    supervise(vcpu, HANDLER)
    slots = vcpu.state.slots
    slots[p.MIE], slots[p.MSTATUS] = p.SSI, slots[p.MSTATUS] | p.SIE
    slots[A1], slots[A2], slots[SEEN] = TABLE, times, UNSEEN
    vcpu.vm.memory.poke(TABLE, WORDS * value.to_bytes(8, "little"))
    return vcpu


def check(file: str) -> str:
    program, rng = assembly(file, riscv(), RAM), Random()
    require("end" in program.labels, "it has no label end")
    require(len(program.words) <= LENGTH, f"it has {len(program.words)} instructions; {LENGTH} are allowed")
    end, times, value = program.labels["end"], rng.randint(3, 6), rng.randint(1_000, 9_999)
    for engine in ("reference", "translated"):
        vcpu = start(program.words, engine, value, times)
        vcpu.vm.run(most=LIMIT)
        where = program.where(vcpu.state.pc)
        require(vcpu.state.pc == end, f"after {LIMIT:,} instructions it is not at its end, but at {where}")
        wanted = WORDS * (value + times).to_bytes(8, "little")
        require(vcpu.vm.memory.peek(TABLE, 8 * WORDS) == wanted, f"{times} has not been added to each of the words")
        callouts = getattr(vcpu.engine, "exits", {}).get("callout", 0)
        require(callouts == 0, f"translated, it has left for the monitor {callouts} times: what it does to mask "
                "interrupts is not done in place")  # fmt: skip
        vcpu = start(program.words, engine, value, times)
        while vcpu.state.pc != end:
            vcpu.vm.step()
        for moment in sorted(rng.sample(range(1, vcpu.state.count), MOMENTS)):
            vcpu = start(program.words, engine, value, times)
            slots = vcpu.state.slots
            vcpu.vm.run(most=moment)
            at = program.where(vcpu.state.pc)
            slots[p.MIP] |= p.SSI
            vcpu.vm.attend()
            vcpu.vm.run(most=vcpu.state.count + PATIENCE + SERVED)
            require(slots[SEEN] != UNSEEN, f"an interrupt raised at {at} waits for more than {PATIENCE} instructions")
            require(slots[SEEN] == 0, f"an interrupt raised at {at} finds words of the table that are not equal")
    return f"{2 * MOMENTS} interrupts, in two engines: each found the table whole, and masking was never a callout"
