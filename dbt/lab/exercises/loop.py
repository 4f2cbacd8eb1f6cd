"""`loop`: the loop around KVM_RUN, with a device of its own.

Wanted: run(vcpu, letters), which runs the guest to its end and returns, as bytes, what it has printed. The guest reads
a letter from its device by a load at 0x10000000, 0 behind the last one; prints by a store at 0x10000001; may print by
the call of number 1 as well; and asks for its end.
"""

from __future__ import annotations

import string
from random import Random

from dbt.lab.exercises.machines import METHODS, guest, words_of
from dbt.lab.exercises.reading import function, require

GUEST = words_of("""
            lui t0, 0x10000
    next:   lbu a0, 0(t0)       # a letter of the device's
            beqz a0, done
            addi s2, s2, 1
            sb a0, 1(t0)        # is sent back
            andi t1, a0, 1
            beqz t1, next
            li a7, 1            # and half of them are printed once more, by a call
            ecall
            j next
    done:   li a7, 8
            ecall
""")


def check(file: str) -> str:
    run, rng, exits = function(file, "run"), Random(), 0
    for method in METHODS:
        letters = "".join(rng.choices(string.ascii_letters, k=rng.randint(20, 60))).encode()
        expected = b"".join(bytes([letter]) * (1 + (letter & 1)) for letter in letters)
        with guest(GUEST, method, s2=0).vm as vm:
            vcpu = vm.vcpus[0]
            printed = run(vcpu, letters)
            require(isinstance(printed, bytes | bytearray), f"{method}: run returns {printed!r}, which are no bytes")
            read, ended = vcpu.get("s2"), vcpu.get("a7") == 8
            exits += vcpu.stats.to_user
        require(read == len(letters), f"{method}: the guest has had {read} letters of {len(letters)}")
        require(ended, f"{method}: the guest is not at its end")
        require(bytes(printed) == expected, f"{method}: it is said to have printed {bytes(printed)!r}, and has printed "
                f"{expected!r}")  # fmt: skip
    return f"{exits} exits under the methods {', '.join(METHODS)}, and every letter in its place"
