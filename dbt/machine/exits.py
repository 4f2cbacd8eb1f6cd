"""Why a vCPU returned: the reasons of KVM that we have, under KVM's names and numbers (`struct kvm_run`).

Owns: these records. Must not know: who makes them.
"""

from __future__ import annotations

from typing import ClassVar

from ir.records import record

SYSTEM_EVENT_SHUTDOWN, SYSTEM_EVENT_RESET, SYSTEM_EVENT_CRASH = 1, 2, 3


@record(frozen=True)
class Exit:
    """One way out of `Vcpu.run`."""

    reason: ClassVar[int]


@record(frozen=True)
class Trapped(Exit):
    """A trap that the hart does not take by itself (see `Vcpu.leaves`): nothing has changed. `access` is what was tried
    where nothing answers.
    """

    cause: int
    value: int
    access: Mmio | None = None
    reason: ClassVar[int] = 1


@record(frozen=True)
class Debug(Exit):
    """A breakpoint at `pc`, or an instruction that was stepped over."""

    pc: int
    reason: ClassVar[int] = 4


@record(frozen=True)
class Hlt(Exit):
    """The hart waits for an interrupt, and nothing that the machine knows of will ever send one."""

    reason: ClassVar[int] = 5


@record(frozen=True)
class Mmio(Exit):
    """An access that the caller is to make (see `Vm.add_mmio`). For a load it sets `Vcpu.data` before it runs on."""

    address: int
    size: int
    is_write: bool
    data: int
    reason: ClassVar[int] = 6


@record(frozen=True)
class Shutdown(Exit):
    """The hart can do nothing any more: the handler of its traps traps itself, for ever."""

    pc: int
    cause: int
    reason: ClassVar[int] = 8


@record(frozen=True)
class Intr(Exit):
    """The limit that `run` was given has been reached."""

    reason: ClassVar[int] = 10


@record(frozen=True)
class SystemEvent(Exit):
    """The guest asked for the end of the machine, or for a reset. `code` is the status that it gives."""

    kind: int
    code: int = 0
    reason: ClassVar[int] = 24


@record(frozen=True)
class RiscvSbi(Exit):
    """A supervisor's call that is left to the caller, who replies with an error and a value."""

    extension: int
    function: int
    args: tuple[int, ...]
    reason: ClassVar[int] = 35
