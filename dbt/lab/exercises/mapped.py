"""`mapped`: a device passed through. Its page becomes the guest's at the first access, and is never an exit again.

Wanted: run(vcpu, device), which runs the guest to its end, its call 8. `device` is a bytearray, the page of a device
that the guest looks for at 0x22000000.
"""

from __future__ import annotations

from random import Random

from dbt.lab.a06_device import FLASH, PAGE
from dbt.lab.exercises.machines import METHODS, guest, words_of
from dbt.lab.exercises.reading import function, require

WORDS = 100
GUEST = f"""
            li a1, {FLASH:#x}   # a sum over the device's words, and a mark into it
            li t0, {WORDS}
            li a0, 0
    loop:   lw t1, 0(a1)
            add a0, a0, t1
            sw t0, 0(a1)
            addi a1, a1, 4
            addi t0, t0, -1
            bnez t0, loop
            li a7, 8
            ecall
"""
EXITS = 2  # the first access, and the end


def check(file: str) -> str:
    run, rng = function(file, "run"), Random()
    for method in METHODS:
        device = bytearray(rng.randbytes(PAGE))
        words = [int.from_bytes(device[4 * i : 4 * i + 4], "little", signed=True) for i in range(WORDS)]
        with guest(words_of(GUEST), method).vm as vm:
            vcpu = vm.vcpus[0]
            run(vcpu, device)
            exits, total, left = vcpu.stats.total, vcpu.get("a0"), vcpu.get("t0")
            ended = vcpu.get("a7") == 8
        require(ended, f"{method}: the guest has not come to its end: {left} of {WORDS} words are left")
        require(total == sum(words) & (1 << 64) - 1, f"{method}: the guest's sum of {WORDS} words is wrong: it has not "
                "read what the device has")  # fmt: skip
        marks = [int.from_bytes(device[4 * i : 4 * i + 4], "little") for i in range(WORDS)]
        require(marks == list(range(WORDS, 0, -1)), f"{method}: the guest's marks are not in the device")
        require(exits == EXITS, f"{method}: {exits} exits for {2 * WORDS} accesses; passed through, {EXITS} do: the "
                "first access, and the guest's end")  # fmt: skip
    return f"{2 * WORDS} accesses, {EXITS} exits, under the methods {', '.join(METHODS)}"
