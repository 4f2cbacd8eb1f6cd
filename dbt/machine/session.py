"""A machine under somebody's hand: it runs, stands still, goes step by step, starts again, ends.

Requests come from input that is looked at between slices of the run, or while the machine stands still. Owns: whether
it runs, and what follows an exit. Must not know: what requests look like, files, devices.
"""

from __future__ import annotations

from collections.abc import Callable

from dbt.events import NEVER
from dbt.machine.boards import Board
from dbt.machine.exits import SYSTEM_EVENT_RESET, SYSTEM_EVENT_SHUTDOWN, Exit, Intr, SystemEvent
from dbt.machine.outside import Inputs, Outside

_LOOK = Intr()  # the run is left only to see what was asked for


class Abandoned(Exception):
    """The machine stands still, and nobody is left who could let it go on."""


class Session:
    """`build` makes a board with everything in it, ready to start; after a reset it is called again.

    `follows`: the machine's time is the host's. Without, and with nothing among `inputs`, a run depends on its input
    alone. `most`: the instructions after which it ends, with those before a reset. `seen` is called with the board at
    the first boundary after every `period` instructions, and at the end.
    """

    def __init__(
        self, build: Callable[[], Board], inputs: Inputs, follows: bool = True, reboots: bool = True, most: int = NEVER,
        period: int = NEVER, seen: Callable[[Board], None] = lambda board: None,
    ) -> None:  # fmt: skip
        self._build = build
        self._inputs = inputs
        self._follows = follows
        self._reboots = reboots
        self._period = period
        self._seen = seen
        self._left = most  # instructions until the limit of this start
        self.ended: Exit | None = None
        self.running = True
        self.retired = 0  # instructions before the last reset
        self._start()

    def _start(self) -> None:
        self.board = self._build()
        self._due = self._period  # instructions of this start at which the board is to be seen

    def run(self) -> Exit:
        """Run until the machine ends. Raises Abandoned."""
        while self.ended is None:
            if self.running:
                vm = self.board.vm
                if vm.outside is None and (self._follows or self._inputs):
                    vm.outside = Outside(vm.clock, self._inputs, self._follows)
                exit = vm.run(most=min(self._left, self._due))
                if vm.clock.retired >= self._due:
                    self._due = (vm.clock.retired // self._period + 1) * self._period
                    self._seen(self.board)
                if exit is not _LOOK and (not isinstance(exit, Intr) or vm.clock.retired >= self._left):
                    self._follow(exit)
            elif self._inputs:
                self._inputs.look(None)
            else:
                raise Abandoned
        if self._period < NEVER:
            self._seen(self.board)
        return self.ended

    def stop(self) -> None:
        """Stand still at the next boundary."""
        if self.running:
            self.running = False
            self._leave()

    def go_on(self) -> None:
        """Run on from where it stands."""
        if not self.running and self.board.vm.outside is not None:
            self.board.vm.outside.resume()
        self.running = True

    def step(self) -> None:
        """Do the next thing: an interrupt, a wait, an instruction or its trap. Nothing at the end."""
        vm = self.board.vm
        if vm.ending is _LOOK:
            vm.take_ending()
        exit = vm.step() if self.ended is None else None
        if exit is not None:
            self._follow(exit)
        elif vm.ending is not None:
            self._follow(vm.take_ending())
        if vm.ending is None:
            vm.end(_LOOK)  # if we were asked in the midst of the run, it has been overtaken

    def reset(self) -> None:
        """Start again from the beginning, and stand still there if it stood still."""
        if self.running:
            self.board.vm.end(SystemEvent(SYSTEM_EVENT_RESET))
        else:
            self._restart()

    def end(self) -> None:
        """End as if the guest had turned itself off."""
        self.ended = SystemEvent(SYSTEM_EVENT_SHUTDOWN)
        self._leave()

    def _leave(self) -> None:
        if self.board.vm.ending is None:  # what a device has asked for is not lost
            self.board.vm.end(_LOOK)

    def _follow(self, exit: Exit | None) -> None:
        if isinstance(exit, SystemEvent) and exit.kind == SYSTEM_EVENT_RESET and self._reboots:
            self._restart()
        else:
            self.ended = exit

    def _restart(self) -> None:
        self.retired += self.board.vm.clock.retired
        if self._left < NEVER:
            self._left = max(0, self._left - self.board.vm.clock.retired)
        self.board.vm.close()
        self._start()
