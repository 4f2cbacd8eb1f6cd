"""`guest`: the simplest guest. It prints the digit in a0 and a newline, by calls, and turns its machine off."""

from __future__ import annotations

from dbt.kvm import RiscvSbi, SystemEvent
from dbt.lab.exercises.machines import METHODS, RAM, guest, run_on
from dbt.lab.exercises.reading import Wrong, assembly, require
from dbt.lab.workbench import riscv


def check(file: str) -> str:
    program = assembly(file, riscv(), RAM)
    exits = 0
    for method in METHODS:
        for digit in range(10):
            printed = ""
            with guest(program.words, method, a0=digit).vm as vm:
                vcpu = vm.vcpus[0]
                while True:
                    exit, where = run_on(vcpu, program)
                    match exit:
                        case SystemEvent(kind=1):
                            break
                        case RiscvSbi(extension=1, args=args):
                            printed += chr(args[0] & 0xFF)
                            vcpu.reply(0, 0)
                        case _:
                            raise Wrong(f"with a0 = {digit} it is left at {where}, which nobody answers: {exit}")
                exits = vcpu.stats.total
            wanted = f"{digit}\n"
            require(printed == wanted, f"with a0 = {digit} it prints {printed!r}, not {wanted!r}")
            require(exits == 3, f"it is left {exits} times; for two letters and its end, three are enough")
    return f"ten digits, {exits} exits each, under the methods {', '.join(METHODS)}"
