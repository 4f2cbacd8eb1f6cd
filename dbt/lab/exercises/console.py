"""`console`: a virtual device, which the guest knows: a whole text with one exit, not one for each letter.

Given: a0, how long a text is, and a1, its address. Wanted: a guest that prints it and turns its machine off, in two
exits. The call of the debug console (extension 0x4442434E, function 0) takes a length and an address.
"""

from __future__ import annotations

import string
from random import Random

from dbt.kvm import RiscvSbi, SystemEvent
from dbt.lab.exercises.machines import METHODS, RAM, guest, run_on
from dbt.lab.exercises.reading import Wrong, assembly, require
from dbt.lab.workbench import riscv

TEXT = RAM + 0x1000
EXITS = 2


def check(file: str) -> str:
    program, rng, exits = assembly(file, riscv(), RAM), Random(), 0
    for method in METHODS:
        text, printed = "".join(rng.choices(string.ascii_letters, k=rng.randint(30, 99))).encode(), b""
        with guest(program.words, method, a0=len(text), a1=TEXT).vm as vm:
            vm.write(TEXT, text)
            vcpu = vm.vcpus[0]
            while True:
                exit, where = run_on(vcpu, program)
                match exit:
                    case SystemEvent(kind=1):
                        break
                    case RiscvSbi(extension=1, args=args):
                        printed += bytes([args[0] & 0xFF])
                        vcpu.reply(0, 0)
                    case RiscvSbi(extension=0x4442434E, function=0, args=args):
                        length, address = args[0], args[2] << 64 | args[1]
                        inside = address >= RAM and length <= 4096 and address + length <= TEXT + 4096
                        require(inside, f"{where} has {length} letters at {address:#x} printed, where no text is")
                        printed += vm.read(address, length)
                        vcpu.reply(0, length)
                    case _:
                        raise Wrong(f"it is left at {where}, which nobody answers: {exit}")
            exits = vcpu.stats.total
        require(printed == text, f"it has printed {printed!r}, and the text is {text!r}")
        require(exits == EXITS, f"it has printed {len(text)} letters with {exits} exits; {EXITS} are enough, its end "
                "among them")  # fmt: skip
    return f"a text of any length, with {exits} exits, under the methods {', '.join(METHODS)}"
