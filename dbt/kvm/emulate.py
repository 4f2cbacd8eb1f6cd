"""Single instructions of a guest, executed by its monitor: those that left, since what they access is no memory, or
since they wait.

A hart's second stage leads nowhere for these addresses, and a trap says of an access where it goes but not what it
stores. So the instruction is interpreted, by its own body, as the guest with the second stage off: its addresses are
guest physical ones then, at which the monitor's view of memory has devices, and the user behind them.
Owns: this. Must not know: which traps lead here, how a guest is entered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dbt.machine.exits import Mmio
from dbt.machine.memory import Memory
from dbt.machine.space import HartSpace
from dbt.reference import Reference
from guests.spec import Treat

if TYPE_CHECKING:
    from dbt.machine.vm import Vcpu as Hart


class Emulator:
    """For one hart. `memory` is guest physical memory."""

    def __init__(self, hart: Hart, world: Any, memory: Memory) -> None:
        self._hart = hart
        self._world = world
        self.space = HartSpace(hart.vm.guest, hart.state.slots, memory)
        self._engine = Reference(hart.state, self.space, lambda: hart.vm.clock.time)
        self._at: int | None = None  # the pc of an instruction that waits for its answer

    def execute(self) -> tuple[Mmio | None, tuple[int, int] | None]:
        """The instruction at the guest's pc: the trap that it has (cause, value), and the access that is the user's, if
        that is why; neither if it was executed. It is come back to when the access has been answered.
        """
        hart, world = self._hart, self._world
        at = world.pc(hart)
        if at != self._at:
            hart.forget_access()
        hart.vm.wanted = None
        with world.as_guest(hart):
            stop = self._engine.step()
        wanted = hart.vm.wanted
        self._at = at if wanted is not None else None
        return wanted, (stop.cause, stop.value) if stop.trap else None

    def forget(self) -> None:
        """The instruction has not begun: whoever has seen its access goes on in another way."""
        self._hart.forget_access()
        self._at = None

    @property
    def classes(self) -> dict[Treat, int]:
        """Instructions executed, by class."""
        return self._engine.classes

    @property
    def waits(self) -> bool:
        """Whether the instruction at the guest's pc waits for an answer, or has it."""
        return self._at is not None and self._world.pc(self._hart) == self._at
