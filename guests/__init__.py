"""Guest architectures and bundled guest programs. An explicit table names what there is.

The distribution is `dragoman`; `DISTRIBUTION` lets the entry point tell this package from a namesake.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from guests.spec import Guest

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

DISTRIBUTION = "dragoman"
GUESTS = {  # name -> the module whose `guest` makes it
    "riscv64": "guests.riscv.isa",
    "toy": "guests.toy.isa",
}


MACHINES = {"riscv64": "guests.riscv.machine"}  # name -> the module whose `guest` makes that of a machine


def load_machine(name: str, isa: str | None = None, hypervisor: bool = False) -> Guest:
    """The guest of a machine of this architecture: with its privileged part, `Guest.privileged`.

    `hypervisor`: with what hypervisors need of a hart, which an ISA string may say as well.
    """
    guest: Guest = import_module(MACHINES[name]).guest(isa, hypervisor)
    return guest


VIRTUAL = {"riscv64": "guests.riscv.kvm"}  # name -> the module that says what a virtual CPU of KVM's is
WORLDS = {"riscv64": {  # name -> ways in which a hart has a guest of KVM's -> module and class
    "direct": ("guests.riscv.worlds", "Direct"), "nesting": ("guests.riscv.worlds", "Nesting"),
    "hypervised": ("guests.riscv.worlds", "Hypervised"),
    "deprivileged": ("guests.riscv.worlds", "Deprivileged"),
    "paravirtual": ("guests.riscv.paravirtual", "Paravirtual"),
}}  # fmt: skip
SHADOWS = {"riscv64": "guests.riscv.shadow"}  # name -> the module that makes shadow tables
STAGES = {"riscv64": "guests.riscv.second_stage"}  # name -> the module that makes tables of guest physical addresses


def load_virtual(name: str) -> ModuleType:
    """What KVM's virtual CPU of this architecture is."""
    return import_module(VIRTUAL[name])


def load_world(name: str, features: frozenset[str], world: str) -> Any:
    """How a hart has a guest of these extensions: in its own modes ("direct"), or there with guests of its own
    ("nesting"), in those of a hypervisor's guest ("hypervised"), or in user mode alone: one that does not know it
    ("deprivileged"), or that does ("paravirtual").
    """
    module, kind = WORLDS[name][world]
    return getattr(import_module(module), kind)(features)


def load_shadow(name: str) -> ModuleType:
    """Page tables of a guest that has no mode of its own for its kernel: `View` and `Shadow`."""
    return import_module(SHADOWS[name])


def load_second_stage(name: str, base: int) -> Any:
    """Tables of guest physical addresses, which are to lie at this address; nothing is mapped."""
    return import_module(STAGES[name]).SecondStage(base)


def load(name: str, isa: str | None = None, extensions: Sequence[Any] = ()) -> Guest:
    """The guest architecture of this name, with the extensions of an ISA string in its own naming.

    `extensions` are instructions of the user's own, in the form in which the guest has its own; the toy has none.
    """
    if name not in GUESTS:
        raise KeyError(f"no guest architecture {name!r} (there are: {', '.join(GUESTS)})")
    guest: Guest = import_module(GUESTS[name]).guest(isa, tuple(extensions))
    return guest


def extensions_of(path: str | Path) -> list[Any]:
    """The RISC-V extensions that a Python file of the user's defines, for `load`; raises BadExtension."""
    from guests.riscv import custom, isa

    return list(custom.from_file(path, isa.EXTENSIONS))
