"""What exercises share that run a reader's guest: to its ebreak, or as a virtual CPU of a new machine.

Owns: starting it, and what is said where it does not come to its end. Must not know: any exercise.
"""

from __future__ import annotations

from collections.abc import Iterable

from dbt.kvm import Intr, Kvm, Vcpu
from dbt.lab.assembler import Assembled, assemble
from dbt.lab.exercises.reading import require
from dbt.lab.simple_monitor import METHODS, OPTIONS, RAM, SIZE
from dbt.lab.workbench import Machine, code_bytes, riscv

__all__ = ["METHODS", "RAM", "guest", "run_on", "run_to_ebreak", "words_of"]
LIMIT = 10_000  # instructions that any of them needs, and more


def run_to_ebreak(machine: Machine, program: Assembled, who: str = "it") -> None:
    """Run a program on a CPU without Linux; raises Wrong where it does not end with ebreak."""
    stop = machine.engine.run(LIMIT)
    where = program.where(machine.state.pc)
    require(stop.trap, f"{who} has not come to ebreak after {LIMIT:,} instructions; it is at {where}")
    cause = machine.guest.trap_names.get(stop.cause, str(stop.cause))
    require(stop.cause == machine.guest.breakpoint_cause, f"{who} ends with {cause} at {where}, and not with ebreak")


def words_of(text: str, base: int = RAM) -> list[int]:
    """A text of ours, assembled for a machine's guest."""
    return assemble(riscv(), text, base).words


def guest(words: Iterable[int], method: str, **registers: int) -> Vcpu:
    """A virtual CPU of a new machine, at the first of these words, with these registers."""
    vm = Kvm(method, options=OPTIONS).create_vm()
    vm.set_user_memory_region(0, RAM, SIZE)
    vm.write(RAM, code_bytes(words))
    vcpu = vm.create_vcpu()
    vcpu.set(pc=RAM, **registers)
    return vcpu


def run_on(vcpu: Vcpu, program: Assembled) -> tuple[object, str]:
    """Run a reader's guest to its next exit: that, and where. Raises Wrong if there is none."""
    exit = vcpu.run(LIMIT)
    where = program.where(vcpu.get("pc"))
    require(not isinstance(exit, Intr), f"it has not come to its end after {LIMIT:,} instructions; it is at {where}")
    return exit, where
