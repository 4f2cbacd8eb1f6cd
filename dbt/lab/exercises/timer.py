"""`timer`: a timer for a guest, made of the host's: two exits, and an interrupt that is the guest's own.

Wanted: answer(vcpu, exit, start), which is called for each exit of a guest, and returns whether that was its end. The
guest's call with 0 in a7 sets its timer to the time in a0, which `start(time)` does to the host's; when that is due,
`exit` is None. The guest then has an interrupt of its own, once for each time that it has set.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from dbt.kvm import Intr, Vcpu
from dbt.lab.exercises.machines import METHODS, RAM, guest, words_of
from dbt.lab.exercises.reading import Wrong, function, require

NEVER = (1 << 64) - 1
HANDLER, STI = RAM + 0x100, 1 << 5
GUEST = words_of("""
            csrr a0, time
            add a0, a0, s3
            mv s4, a0
            li a7, 0
            ecall               # set the timer
    spin:   j spin
""")
TICK = words_of("""
            csrr t0, time
            addi s5, s5, 1      # interrupts
            bgeu t0, s4, due
            addi s6, s6, 1      # those that came too early
    due:    add a0, t0, s3
            mv s4, a0
            li a7, 0
            addi s2, s2, -1
            bnez s2, set
            li a7, 8
    set:    ecall
            sret
""", HANDLER)  # fmt: skip


def followed(answer: Callable[..., object], vcpu: Vcpu, most: int) -> int:
    """Run a guest by a reader's function; how often the host's timer was due. Raises Wrong where it has no end."""
    due, ticks = NEVER, 0

    def start(time: int) -> None:
        nonlocal due
        due = time

    for _ in range(4 * most):
        if due == NEVER:
            exit = vcpu.enter(10**6)
            require(not isinstance(exit, Intr), "the guest waits for its timer, and the host's was not started; "
                    f"{ticks} interrupts so far")  # fmt: skip
        else:
            exit = vcpu.enter(max(due - vcpu.get("time"), 0) * (10**9 // vcpu.get("frequency")))
        if isinstance(exit, Intr):
            due, ticks = NEVER, ticks + 1
        if answer(vcpu, None if isinstance(exit, Intr) else exit, start):
            return ticks
    raise Wrong(f"after {4 * most} exits the guest is not at its end; it has had {vcpu.get('s5')} interrupts of {most}")


def check(file: str) -> str:
    answer, rng, total = function(file, "answer"), Random(), 0
    for method in METHODS:
        wanted, apart = rng.randint(4, 9), rng.randint(20, 90)
        with guest(GUEST, method, stvec=HANDLER, sie=STI, sstatus=2, s2=wanted, s3=apart, s5=0, s6=0).vm as vm:
            vm.write(HANDLER, b"".join(word.to_bytes(4, "little") for word in TICK))
            vcpu = vm.vcpus[0]
            ticks = followed(answer, vcpu, wanted)
            left, early, seen = vcpu.get("s2"), vcpu.get("s6"), vcpu.get("s5")
        require(early == 0, f"{method}: {early} of the guest's {seen} interrupts came before the time that it had set")
        require(left == 0, f"{method}: said to be at its end, the guest waits for {left} interrupts of {wanted}")
        require(ticks == wanted, f"{method}: {wanted} interrupts of the guest's, and the host's timer was due {ticks} "
                "times")  # fmt: skip
        total += ticks
    return f"{total} interrupts under the methods {', '.join(METHODS)}, none of them early"
