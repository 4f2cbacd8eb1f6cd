"""Events of a guest of a virtual machine: each world switch, the time in the guest, and why it was left.

Owns: what is looked at for them. Must not know: who takes events, how a method runs a guest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dbt.machine.exits import Trapped

if TYPE_CHECKING:
    from dbt.kvm import Vcpu
    from dbt.tracing.events import Recorder

TRACK = "guest"
RESUMED = "resumed"  # the guest goes on without anything that is an exit


class GuestEvents:
    """Has a recorder told of a virtual CPU, which must not have run yet."""

    def __init__(self, vcpu: Vcpu, recorder: Recorder) -> None:
        self._vcpu = vcpu
        self._recorder = recorder
        self._left: tuple[float, str, int, dict[str, Any]] | None = None  # since when the guest is left, why, where
        vm: Any = vcpu.vm
        self._switch, vm.switch = vm.switch, self._switched
        vcpu.stats.told = self._noted

    def finish(self) -> None:
        """The run has ended: the guest is not entered again."""
        if self._left is not None:
            since, name, count, what = self._left
            self._recorder.note("vmexit", name or RESUMED, count, f"{TRACK}: monitor", since, **what)
            self._left = None

    def _switched(self, *arguments: Any) -> Any:
        self.finish()
        since = self._recorder.now()
        exit = self._switch(*arguments)
        count, pc = self._vcpu.instructions, self._vcpu.get("pc")
        self._recorder.note("switch", "in the guest", count, TRACK, since, pc=pc)
        cause = {"cause": exit.cause, "value": exit.value} if isinstance(exit, Trapped) else {}
        self._left = self._recorder.now(), "", count, {"pc": pc, **cause}
        return exit

    def _noted(self, name: str) -> None:
        """An exit has its name; another one of the same switch is what the first led to."""
        if self._left is not None and not self._left[1]:
            since, _, count, what = self._left
            self._left = since, name, count, what
