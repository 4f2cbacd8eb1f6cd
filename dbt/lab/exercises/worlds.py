"""`worlds`: a hypervisor that enters a guest, answers its calls, and loses none of its registers.

Given, in HS mode, with a second stage: a0, the guest's first instruction; a1, 1 if it is to begin in VS mode, 0 if in
VU; a2, memory. Wanted: the guest is entered; each of its calls adds its a0 to a sum, and it goes on behind the call; at
the one with 8 in a7 the sum goes into a0, and the hypervisor to the label `end`, a jump to itself.
"""

from __future__ import annotations

from random import Random

from dbt.lab.exercises.machines import words_of
from dbt.lab.exercises.reading import assembly, require
from dbt.lab.two_stages import ENGINES, GUEST, INSIDE, hypervised, mode_of, with_h, words_at
from dbt.lab.workbench import RAM
from dbt.machine.vm import Vcpu
from guests.riscv import privileged as p
from guests.riscv.registers import ABI_X

LIMIT = 10_000  # instructions
ROOM, MOST = RAM + 0x8000, INSIDE - RAM  # the hypervisor's memory; bytes of its code
A0, A1, A2, A7, END = 10, 11, 12, 17, 8
ECALL = 0x73
CALL = 8  # as an instruction says it; scause depends on the mode
MODES = ("VS", "VU")


class Guest:
    """A guest on a hart: what its calls find is looked at. Each has to be the next one, with all registers kept."""

    def __init__(self, vcpu: Vcpu, mode: str, rng: Random) -> None:
        self.calls, self.sum, self.wrong = 0, 0, ""
        self.mode, self._vcpu = mode, vcpu
        self._kept = {name: rng.getrandbits(31) for name in ABI_X[1:]} | {"a7": 0}
        calls = rng.randint(3, 9)
        text = "".join(f"li {name}, {value}\n" for name, value in self._kept.items())
        text += "addi a0, a0, 1\necall\n" * calls + f"li a7, {END}\necall\n"
        words = words_of(text, GUEST)
        self._places = [GUEST + 4 * i for i, word in enumerate(words) if word == ECALL]
        words_at(vcpu, INSIDE, words)
        vcpu.observe = self._seen

    @property
    def ended(self) -> bool:
        return self.calls == len(self._places)

    def _seen(self, cause: int, mode: int, pc: int, value: int) -> None:
        """A trap of the hart's, about to be entered: what is wrong with it if it is the guest's."""
        slots = self._vcpu.state.slots
        if self.wrong or not slots[p.VIRTUAL]:
            return
        if mode_of(self._vcpu) != self.mode:
            self.wrong = f"the guest is in {mode_of(self._vcpu)} mode, and should be in {self.mode}"
        elif cause != CALL or self.ended or pc != self._places[self.calls]:
            self.wrong = f"behind its call number {self.calls} the guest traps at {pc:#x}, which is not its next call"
        else:
            self.calls += 1
            self._kept["a0"] += not self.ended
            self._kept["a7"] = END if self.ended else 0
            for number, name in enumerate(ABI_X[1:], 1):
                if slots[number] != self._kept[name] and not self.wrong:
                    self.wrong = (f"behind its call number {self.calls - 1} the guest has {slots[number]:#x} in "
                                  f"{name}, and should have {self._kept[name]:#x}")  # fmt: skip
            self.sum += 0 if self.ended else self._kept["a0"]


def check(file: str) -> str:
    program, rng, calls = assembly(file, with_h(), RAM), Random(), 0
    require("end" in program.labels, "it has no label end")
    require(4 * len(program.words) <= MOST, f"it has {len(program.words)} instructions; {MOST // 4} are allowed")
    for engine in ENGINES:
        for mode in MODES:
            vcpu = hypervised(engine, program.words)
            guest = Guest(vcpu, mode, rng)
            slots = vcpu.state.slots
            slots[A0], slots[A1], slots[A2] = GUEST, int(mode == "VS"), ROOM
            vcpu.vm.run(most=LIMIT)
            require(not guest.wrong, guest.wrong)
            require(guest.calls > 0, f"its guest has not begun; the hypervisor is at {program.where(vcpu.state.pc)}")
            require(guest.ended and vcpu.state.pc == program.labels["end"], f"after {LIMIT:,} instructions it is not "
                    f"at its end, but at {program.where(vcpu.state.pc)}")  # fmt: skip
            require(slots[A0] == guest.sum, f"a0 is {slots[A0]:#x}, and the sum is {guest.sum:#x}")
            calls += guest.calls
    return f"{calls} calls of guests in {' and '.join(MODES)} mode, and each found its registers as they were"
