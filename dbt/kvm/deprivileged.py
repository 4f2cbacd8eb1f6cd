"""The monitor of a guest that has user mode alone: it answers the traps of a hart which is the guest's no further than
that, and hands on those that the guest's own hart would have had.

    Emulating   trap and emulate: an instruction that user mode may not execute is executed on the guest's registers, by
                its own body; a page that its shadow tables do not have is put there
    Called      para-virtualization: the guest's kernel calls instead (`guests.riscv.paravirtual`)
    Alone       nobody emulates: such an instruction is the guest's end

Owns: which trap is answered how. Must not know: any architecture's registers, the form of tables, exits of the user's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dbt.kvm.emulate import Emulator
from dbt.kvm.errors import NotEmulated, NotParavirtual
from dbt.kvm.physical import Shadowed
from dbt.machine.exits import Exit, Trapped
from guests.spec import Trap

if TYPE_CHECKING:
    from dbt.machine.vm import Vcpu as Hart

Note = Callable[[str], None]


class Emulating:
    """For one hart. `note` is told of each trap that is answered here, by name; `redirect` has the guest's own handler
    take one.
    """

    def __init__(
        self, hart: Hart, world: Any, virtual: Any, physical: Shadowed, emulator: Emulator, note: Note,
        redirect: Callable[[int, int], Exit | None],
    ) -> None:  # fmt: skip
        self._hart = hart
        self._world = world
        self._virtual = virtual
        self._physical = physical
        self._emulator = emulator
        self._note = note
        self._redirect = redirect
        self._view = physical.view_of(hart)
        world.spaces[hart.number] = emulator.space

    def answer(self, trap: Trapped) -> Exit | None:
        """What is left of a trap of the hart: one that the guest's own hart would leave with, an exit, or nothing."""
        hart, virtual = self._hart, self._virtual
        if trap.cause & virtual.INTERRUPT:
            self._note(hart.privileged.inspection.trap(trap.cause, hart.mode)[1])
            due = hart.privileged.due(hart.at_rest())
            if due:
                self._world.redirect(hart, due, 0)
            return None
        left: Exit | None = trap
        if trap.cause in self._world.FILLS:
            left = self._fill(trap)
        elif trap.cause == virtual.ILLEGAL:
            left = self._emulate(trap)
        if not isinstance(left, Trapped) or self._world.stays(hart, left.cause):
            return left
        self._note(virtual.NAMES[left.cause])
        return self._redirect(left.cause, left.value)

    def fence(self) -> None:
        """Another hart's guest has said that it has changed tables."""
        self._physical.shadow.fence(None, None)

    def _emulate(self, trap: Trapped) -> Exit | None:
        """The instruction at the guest's pc, on the guest's registers."""
        decoded = self._hart.vm.guest.decode(trap.value)
        fenced = None if decoded is None else self._world.fenced(self._hart, decoded)
        left = self._execute()
        if left is None:
            if fenced is not None:
                self._physical.shadow.fence(*fenced)
            self._note(self._world.named(decoded))
        return left

    def _fill(self, trap: Trapped) -> Exit | None:
        """A page that is missing, or may not be stored to yet; or else what the access comes to for the guest."""
        view, physical = self._view, self._physical
        access = self._world.FILLS[trap.cause]
        try:
            if access != "store" or not self._asks_only():
                gpa = view.walk(trap.value, access)
                if (access != "store" or physical.answers(gpa)) and physical.shadow.fill(view, trap.value):
                    self._note("shadow fill")
                    self._hart.state.mid_block = True  # the instruction goes on: no interrupt comes before it
                    return None
        except Trap:
            pass  # the instruction, when it is executed, has the same
        return self._execute()

    def _asks_only(self) -> bool:
        world, hart = self._world, self._hart
        decoded = hart.vm.guest.decode(world.fetch(hart, world.pc(hart)))
        return decoded is not None and bool(world.accesses_nothing(decoded))

    def _execute(self) -> Trapped | None:
        access, trap = self._emulator.execute()
        return None if trap is None else Trapped(*trap, access)


    def _text(self, trap: Trapped) -> str:
        """The instruction, for people, and where it is."""
        decoded = self._hart.vm.guest.decode(trap.value)
        text = f"{trap.value:#x}" if decoded is None else self._world.written(decoded)
        return f"{text} at PC {self._world.pc(self._hart):#x}"


class Called(Emulating):
    """The same where the kernel knows of its monitor: it is asked, and emulates nothing."""

    def answer(self, trap: Trapped) -> Exit | None:
        hart, world = self._hart, self._world
        world.look(hart)
        name = world.called(hart, trap.cause, self._view)
        if name is not None:
            self._note(f"hypercall {name}")
            return None
        left = super().answer(trap)
        if trap.cause & self._virtual.INTERRUPT:
            world.is_pending(hart)
        return left

    def _emulate(self, trap: Trapped) -> Exit | None:
        """A program's own trap is its kernel's. Raises NotParavirtual for the kernel."""
        if self._world.is_user(self._hart):
            return trap
        raise NotParavirtual(f"the guest is not para-virtualized: {self._text(trap)} is nothing that its kernel may do "
                             f"under pv, where it has to call its monitor")  # fmt: skip


class Alone(Emulating):
    """The same where nobody emulates."""

    def _emulate(self, trap: Trapped) -> Exit | None:
        """Raises NotEmulated."""
        raise NotEmulated(f"illegal instruction {self._text(trap)} (guest crashed)")
