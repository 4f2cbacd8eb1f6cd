"""`vmexit`: the lecture's handler of exits, for guests that are not the lecture's.

Wanted: vmexit_handler(vcpu, trap), which answers a trap and returns whether the guest has ended.
"""

from __future__ import annotations

from random import Random
from typing import Any

from dbt.kvm import Exit
from dbt.lab.exercises.machines import METHODS, guest, words_of
from dbt.lab.exercises.reading import function, require
from dbt.lab.simple_monitor import CALL, HARTID, ILLEGAL, SHUTDOWN, WORD

MOST = 50  # exits
NOT_SUPPORTED = (1 << 64) - 2
REGISTERS = ("a1", "a2", "a5", "s2", "t3", "t6")  # for the hart's number
LOADS = ("ld a0, {far}(zero)", "lw a0, {far}(zero)", "c.ld a0, {near}(s1)")  # of four bytes, and of two
OTHERS = ("mscratch", "mstatus", "mepc", "mcause")  # registers that the guest's own handler has to hear of


def text(rng: Random, rd: str, load: str) -> str:
    """A guest that reads its number into `rd`, loads a word where nothing is, reads a register that nobody gives it,
    makes a call that nobody knows, and ends. Its own handler counts in s3 and keeps causes in s4.
    """
    return f"""
            j main
    own:    csrr s4, scause
            addi s3, s3, 1
            csrr t1, sepc
            addi t1, t1, 4
            csrw sepc, t1
            sret
    main:   la t0, own
            csrw stvec, t0
            csrrs {rd}, mhartid, zero
            {load.format(far=8 * rng.randint(1, 200), near=8 * rng.randint(0, 31))}
            mv s5, a0
            csrrs t2, {rng.choice(OTHERS)}, zero
            li a7, {rng.randint(100, 999)}
            ecall
            mv s6, a0
            li a7, 8
            ecall
    """


def run(handler: Any, words: list[int], method: str, what: str) -> tuple[dict[str, int], int]:
    """The guest under this handler: registers in its end, and how often it was left."""
    with guest(words, method, a0=0, s1=0).vm as vm:
        vcpu, exits, ended = vm.vcpus[0], 0, False
        while not ended:
            trap, exits = vcpu.enter(10_000), exits + 1
            require(not isinstance(trap, Exit) and exits < MOST, f"{what}: the guest goes round and does not end")
            ended = bool(handler(vcpu, trap))
        require(trap.scause == CALL and vcpu.get("a7") == SHUTDOWN, f"{what}: a trap of cause {trap.scause} at "
                f"{trap.sepc:#x} has ended the guest, which had not asked for it")  # fmt: skip
        return {name: vcpu.get(name) for name in ("s3", "s4", "s5", "s6", *REGISTERS)}, exits


def check(file: str) -> str:
    handler, rng, total = function(file, "vmexit_handler"), Random(), 0
    for method in METHODS:
        for load in LOADS:
            rd = rng.choice(REGISTERS)
            what = f"a guest with `csrrs {rd}, mhartid, zero` and `{load.split()[0]}`"
            end, exits = run(handler, words_of(text(rng, rd, load)), method, what)
            require(end[rd] == HARTID, f"{what}: {rd} is {end[rd]:#x} where the hart's number, {HARTID:#x}, should be")
            require(end["s5"] == WORD, f"{what}: what it has loaded is {end['s5']:#x}, not {WORD:#x}")
            require(end["s3"] == 1 and end["s4"] == ILLEGAL, f"{what}: its own handler has run {end['s3']} times, not "
                    "once, for a register that is not mhartid")  # fmt: skip
            require(end["s6"] == NOT_SUPPORTED, f"{what}: a call that nobody knows gives {end['s6']:#x}, not -2")
            total += exits
    return f"{len(METHODS) * len(LOADS)} guests, {total} exits"
