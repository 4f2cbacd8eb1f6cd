"""What a machine does, a line for each thing: the items of -d, with QEMU's names.

An item hooks itself to what it is about when it is chosen, and is silent afterwards if it is left out again. Owns: the
items, what their lines say. Must not know: where lines go.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial

from dbt.machine import views
from dbt.machine.boards import Board
from dbt.machine.vm import Vcpu
from guests.spec import Absent, Decoded, Trap

ITEMS = {
    "int": "each trap and interrupt that is taken",
    "in_asm": "each instruction, when it is first executed",
    "exec": "the address of each block that is executed (many lines)",
    "mmu": "each translation of an address, and what it gave (many lines)",
    "guest_errors": "access faults, and rings of a virtio driver that make no sense",
    "cpu_reset": "the registers at reset",
}
WATCHED = {"in_asm", "exec", "mmu"}  # these look at each instruction


class Log:
    """`write` takes lines. A log may be attached to one board after the other."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._chosen: frozenset[str] = frozenset()
        self._board: Board | None = None  # that has our hooks
        self._seen: set[int] = set()  # addresses of instructions
        self._new_block = True

    @staticmethod
    def help() -> str:
        """The items there are."""
        return "".join(f"{name:<13} {about}\n" for name, about in ITEMS.items())

    def line(self, text: str) -> None:
        """Write a line that is no item's."""
        self._write(text + "\n")

    def choose(self, text: str, board: Board | None = None) -> None:
        """Log these items, with commas between them, and no others. ValueError for one that there is not."""
        chosen = frozenset(text.split(",")) - {""}
        for name in sorted(chosen):
            if name not in ITEMS:
                raise ValueError(f"there is no item {name!r} (there are: {' '.join(ITEMS)})")
        self._chosen = chosen
        if board is not None:
            self._hook(board)

    def attach(self, board: Board) -> None:
        """This board, which has just been reset, is logged from now on."""
        self._seen.clear()
        self._new_block = True
        if self._chosen:
            self._hook(board)
        if "cpu_reset" in self._chosen:
            for vcpu in board.vcpus:
                self._write(f"CPU Reset (CPU {vcpu.number})\n" + views.registers(vcpu))

    def _hook(self, board: Board) -> None:
        for vcpu in board.vcpus:
            vcpu.engine.watch = self._executed if self._chosen & WATCHED else None
            vcpu.space.observe(self._translated if "mmu" in self._chosen else None)
        if self._board is not board:
            self._board = board
            for vcpu in board.vcpus:
                vcpu.observe = partial(self._trapped, vcpu)
            board.mistaken = self._mistaken

    def _trapped(self, vcpu: Vcpu, cause: int, mode: int, pc: int, value: int) -> None:
        assert self._board is not None
        self._new_block = True
        privileged = vcpu.privileged
        number, name = privileged.inspection.trap(cause, mode)
        if "in_asm" in self._chosen and not number >> 63 and pc not in self._seen:
            with suppress(Absent):  # it was fetched from nowhere
                self._first(pc, views.instruction(self._board, pc, views.reader(vcpu))[0])
        if "guest_errors" in self._chosen and cause in privileged.access_faults.values():
            self._write(f"guest error: {name} at {value:#x}, from {pc:#x}\n")
        if "int" in self._chosen:
            self._write(
                f"riscv_cpu_do_interrupt: hart:{vcpu.number}, async:{number >> 63}, "
                f"cause:{number & (1 << 63) - 1:016x}, "
                f"epc:0x{pc:016x}, tval:0x{value:016x}, desc={name}\n"
            )

    def _translated(self, address: int, size: int, access: str, found: int | Trap) -> None:
        what = f"trap {found.cause}" if isinstance(found, Trap) else f"{found:#x}"
        self._write(f"mmu: {access} of {size} at {address:#x}: {what}\n")

    def _mistaken(self, device: str, what: str) -> None:
        if "guest_errors" in self._chosen:
            self._write(f"guest error: {device}: {what}\n")

    def _executed(self, pc: int, decoded: Decoded) -> None:
        """An instruction was executed."""
        assert self._board is not None
        if self._new_block and "exec" in self._chosen:
            self._write(f"Trace 0: {pc:016x}\n")
        if "in_asm" in self._chosen and pc not in self._seen:
            self._first(pc, views.decoded(self._board, pc, decoded.word, decoded))
        self._new_block = decoded.ends_block or (pc + decoded.length) >> 12 != pc >> 12  # as the engine has it

    def _first(self, pc: int, line: str) -> None:
        self._seen.add(pc)
        self._write(line + "\n")
