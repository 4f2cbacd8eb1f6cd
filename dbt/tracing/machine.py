"""Events of a machine: traps and interrupts, world switches, turns of harts, accesses of devices, and those of engines.

Traps are taken in native code, unless somebody looks; so does a return into a guest. To see them, all come to Python.
Owns: what is looked at for these events. Must not know: who takes them, any architecture.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from dbt.tracing.engine import EngineEvents

if TYPE_CHECKING:
    from dbt.machine.boards import Board
    from dbt.machine.memory import Device
    from dbt.machine.vm import Vcpu
    from dbt.report import Symbols
    from dbt.tracing.events import Recorder

TRAPS = {"trap", "interrupt", "switch"}  # kinds for which all traps come to Python
INTERRUPT = 1 << 63


class MachineEvents:
    """Has a recorder told of a machine whose harts translate, and which has not run yet."""

    def __init__(self, board: Board, recorder: Recorder, symbols: Symbols) -> None:
        self._board = board
        self._recorder = recorder
        self._symbols = symbols
        self._memory = board.vm.memory
        self._engines = []
        vcpu: Any
        for vcpu in board.vcpus:
            mode = partial(_mode, vcpu)
            self._engines.append(EngineEvents(vcpu.engine, recorder, self._count, symbols.at, _track(vcpu), mode))
            if TRAPS & recorder.kinds:
                vcpu.observe = lambda cause, mode, pc, value: None
                vcpu.enter_trap = self._trapping(vcpu, vcpu.enter_trap)
            if "switch" in recorder.kinds and vcpu.privileged.second is not None:
                vcpu.crossed = partial(self._crossed, vcpu)
        if "switch" in recorder.kinds and len(board.vcpus) > 1:
            vm: Any = board.vm
            vm.give_turn = self._turning(vm.give_turn)
        if "device" in recorder.kinds:
            self._memory.accessed.append(self._accessed)

    def finish(self) -> None:
        """The run has ended."""
        for engine in self._engines:
            engine.finish()

    def _count(self) -> int:
        return self._board.vm.clock.retired

    def _place(self, pc: int) -> dict[str, Any]:
        return {"pc": pc, "at": self._symbols.at(pc)}

    # --- traps, and what leads back ---------------------------------------------------------------------

    def _trapping(self, vcpu: Vcpu, enter: Callable[[int, int], None]) -> Callable[[int, int], None]:
        inspection = vcpu.privileged.inspection

        def noted(cause: int, value: int) -> None:
            before, pc, guest = vcpu.mode, vcpu.state.pc, _in_guest(vcpu)
            number, name = inspection.trap(cause, before)
            calls = vcpu.firmware is not None and vcpu.firmware.is_called(cause)
            enter(cause, value)
            to = "firmware" if calls else inspection.modes[vcpu.mode]
            kind = "interrupt" if cause & INTERRUPT else "trap"
            what = self._place(pc) | {"cause": number & INTERRUPT - 1, "from": inspection.modes[before], "to": to}
            if kind == "trap":
                what["value"] = value
            self._recorder.note(kind, name, self._count(), _track(vcpu), **what)
            if guest and not _in_guest(vcpu):
                self._switched(vcpu, "guest left", pc, name)

        return noted

    def _crossed(self, vcpu: Vcpu, trap: str) -> None:
        """A way into a guest; those out of it are noted behind their traps."""
        if not trap:
            self._switched(vcpu, "guest entered", vcpu.state.pc, "return")

    def _switched(self, vcpu: Vcpu, name: str, pc: int, why: str) -> None:
        self._recorder.note("switch", name, self._count(), _track(vcpu), **self._place(pc), mode=_mode(vcpu), why=why)

    def _turning(self, give_turn: Callable[[Vcpu], None]) -> Callable[[Vcpu], None]:
        def noted(vcpu: Vcpu) -> None:
            give_turn(vcpu)
            self._recorder.note("switch", "turn", self._count(), _track(vcpu), **self._place(vcpu.state.pc))

        return noted

    # --- devices ------------------------------------------------------------------------------------------

    def _accessed(self, device: Device, written: bool, address: int, size: int, value: int) -> None:
        vcpu = self._board.vm.turn
        self._recorder.note("device", f"{device.name} {'write' if written else 'read'}", self._count(), _track(vcpu),
                            **self._place(vcpu.engine.domain.at), address=address, size=size, value=value)  # fmt: skip


def _track(vcpu: Vcpu) -> str:
    return f"hart {vcpu.number}"


def _mode(vcpu: Vcpu) -> str:
    return vcpu.privileged.inspection.modes[vcpu.mode]


def _in_guest(vcpu: Vcpu) -> bool:
    """Whether it runs a guest of its hypervisor's."""
    return vcpu.mode in vcpu.privileged.inspection.guests
