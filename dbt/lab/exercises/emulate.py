"""`emulate`: a monitor's emulation of instructions on privileged registers, as of trap and emulate.

Wanted: emulate(instruction, virtual, registers), for an instruction of Zicsr, its 32 bits, that has trapped. `virtual`
are the guest's privileged registers by number, `registers` the 32 general ones of its trap frame; both are changed as
the instruction would have changed a supervisor's. What a supervisor does, the reference interpreter shows.
"""

from __future__ import annotations

from random import Random

from dbt.lab.assembler import assemble
from dbt.lab.exercises.reading import function, require
from dbt.lab.workbench import RAM, code_bytes, hart, riscv, supervise
from guests.riscv import privileged as p

CASES = 400
CSRS = {"sscratch": 0x140, "stval": 0x143}  # those that hold any value
FORMS = ("csrrw", "csrrs", "csrrc", "csrrwi", "csrrsi", "csrrci")


def shown(value: object) -> str:
    """What a reader's function has left in a register."""
    return f"{value:#x}" if isinstance(value, int) else repr(value)


def check(file: str) -> str:
    emulate, rng, guest = function(file, "emulate"), Random(), riscv()
    vcpu = hart([], "reference")
    supervise(vcpu, RAM + 0x400)
    slots = vcpu.state.slots
    for case in range(CASES):
        form, csr = FORMS[case % len(FORMS)], rng.choice(tuple(CSRS))
        rd, rs1 = rng.choice((0, 5, 6)), rng.choice((0, 5, 7))
        operand = rng.choice((0, 21, 31)) if form.endswith("i") else f"x{rs1}"
        text = f"{form} x{rd}, {csr}, {operand}"
        (word,) = assemble(guest, text, RAM).words
        registers = [0, *(rng.getrandbits(64) for _ in range(31))]
        virtual = {number: rng.getrandbits(64) for number in CSRS.values()}
        vcpu.vm.memory.poke(RAM, code_bytes([word]))
        slots[:32] = memoryview(b"".join(each.to_bytes(8, "little") for each in registers)).cast("Q")
        for name, number in CSRS.items():
            slots[p.SLOT[name]] = virtual[number]
        vcpu.state.pc = RAM
        vcpu.vm.step()
        emulate(word, virtual, registers)
        for number, found in enumerate(registers):
            require(found == slots[number], f"`{text}`: x{number} is {shown(found)}, and should be {slots[number]:#x}")
        for name, number in CSRS.items():
            found, wanted = virtual[number], slots[p.SLOT[name]]
            require(found == wanted, f"`{text}`: {name} is {shown(found)}, and should be {wanted:#x}")
    return f"{CASES} instructions, as the reference interpreter executes them"
