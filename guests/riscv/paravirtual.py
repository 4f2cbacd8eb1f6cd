"""A guest that knows that it is one: what its kernel asks of its monitor instead of doing it, and what the two share.

    calls   `ecall` of the kernel's with EXTENSION in a7 and the number of one of CALLS in a6, arguments from a0 on;
            an error and a value come back in a0 and a1, as of SBI. Addresses are physical ones
    block   words in the guest's memory (BLOCK) that both may write, at the address that `set_entry` was given

Its traps and interrupts go to its entry as they would go by stvec, and what it has to know of them is in the block. The
flag for its interrupts is a word there as well: to clear and to set it is a store. Who sets it while `pending` is set
calls `irq_enable`, since the monitor has not been told.

Owns: these conventions, and what calls do to a hart. Must not know: how the monitor is entered, exits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from guests.riscv import privileged as p
from guests.riscv import privileged_insns, sbi, traps
from guests.riscv.worlds import Deprivileged
from guests.spec import Absent

EXTENSION = 0x0A50_5601  # among those that SBI leaves to firmware
CALLS = (
    "set_entry", "set_tables", "flush", "irq_enable", "irq_disable", "set_timer", "wait", "resume", "set_leaf",
    "multicall",
)  # fmt: skip
BLOCK = ("enabled", "pending", "cause", "value", "pc", "user", "stack", "a0", "a1", "a6", "a7")  # 8 bytes each
KEPT = {"a0": 10, "a1": 11, "a6": 16, "a7": 17}  # registers that a trap leaves in the block, and `resume` takes there
SP = 2
BLOCK_AT = p.SLOT["sscratch"]  # where a hart has the address of its block
ARGUMENTS = 3  # of a call in a multicall; its number is in front of them
MOST = 4096  # calls in one
SATP = 0x180


class Paravirtual(Deprivileged):
    """The guest has the hart's user mode alone, and no registers of a supervisor's: those of the hart are its monitor's
    notes between two runs, among them the block's address, in sscratch.
    """

    memory: Any  # guest physical memory: `read` and `write` of doublewords, which raise Absent; and `shadow`

    def enter(self, hart: Any, waiting: bool) -> None:
        """Interrupts are the hart's, unless its kernel wants none and has been told of one."""
        s = hart.state.slots
        on = not s[BLOCK_AT] or self.get(hart, "enabled") or not self.get(hart, "pending")
        s[p.MSTATUS] = s[p.MSTATUS] & ~p.SIE | (p.SIE if on else 0)
        super().enter(hart, waiting)

    def redirect(self, hart: Any, cause: int, value: int) -> None:
        """Its kernel's entry takes a trap at its pc."""
        s = hart.state.slots
        user = self.is_user(hart)
        super().redirect(hart, cause, value)
        if not s[BLOCK_AT]:
            return
        found = {"cause": cause, "value": value, "pc": s[p.SEPC], "user": int(user), "enabled": 0}
        for name, word in found.items() | {name: s[register] for name, register in KEPT.items()}.items():
            self.put(hart, name, word)
        if user:
            self.swap_stacks(hart)

    @staticmethod
    def is_user(hart: Any) -> bool:
        """Whether a program of the guest's runs, and not its kernel."""
        return bool(hart.state.slots[p.PRIVILEGE] == p.USER)

    def look(self, hart: Any) -> None:
        """The kernel may have written the flag for its interrupts."""
        s = hart.state.slots
        if s[BLOCK_AT]:
            s[p.MSTATUS] = s[p.MSTATUS] & ~p.SIE | (p.SIE if self.get(hart, "enabled") else 0)

    def is_pending(self, hart: Any) -> None:
        """The hart has been interrupted."""
        if hart.state.slots[BLOCK_AT]:
            self.put(hart, "pending", 1)

    def get(self, hart: Any, name: str) -> int:
        """A word of the block."""
        found: int = self.memory.read(hart.state.slots[BLOCK_AT] + 8 * BLOCK.index(name))
        return found

    def put(self, hart: Any, name: str, value: int) -> None:
        self.memory.write(hart.state.slots[BLOCK_AT] + 8 * BLOCK.index(name), value)

    def swap_stacks(self, hart: Any) -> None:
        """As a kernel's entry would do with sscratch."""
        s = hart.state.slots
        mine = self.get(hart, "stack")
        self.put(hart, "stack", s[SP])
        s[SP] = mine

    def called(self, hart: Any, cause: int, view: Any) -> str | None:
        """The name of the kernel's call that this trap was, which has been answered; None if it was none."""
        s = hart.state.slots
        if cause != traps.USER_ECALL or s[p.PRIVILEGE] != p.SUPERVISOR or s[sbi.A7] != EXTENSION:
            return None
        number = s[sbi.A6]
        Calls(self, hart, view).answer(number, s[10 : 10 + ARGUMENTS])
        return CALLS[number] if number < len(CALLS) else "unknown"


class Calls:
    """What the kernel on a hart asks for."""

    def __init__(self, world: Paravirtual, hart: Any, view: Any) -> None:
        self._world = world
        self._hart = hart
        self._view = view
        self._slots = hart.state.slots
        self._left = False  # the kernel does not go on behind its call
        self._table: dict[str, Callable[[list[int]], int]] = {name: getattr(self, f"_{name}") for name in CALLS}

    def answer(self, number: int, arguments: list[int]) -> None:
        """Do it, and have the hart go on."""
        s, world = self._slots, self._world
        error, value = sbi.SUCCESS, 0
        behind = world.pc(self._hart) + 4
        try:
            value = self._one(number, arguments)
        except sbi.Failed as failed:
            error = failed.error
        except Absent:
            error = sbi.INVALID_ADDRESS
        if not self._left:
            s[10], s[11] = error & p.ALL, value & p.ALL
            world.set_pc(self._hart, behind)

    def _one(self, number: int, arguments: list[int]) -> int:
        if number >= len(CALLS):
            raise sbi.Failed(sbi.NOT_SUPPORTED)
        return self._table[CALLS[number]](arguments)

    # --- by their names: arguments, and what they return ----------------------------------------------------------

    def _set_entry(self, a: list[int]) -> int:
        """Where traps and interrupts go, and the block."""
        for i in range(len(BLOCK)):
            self._world.memory.read(a[1] + 8 * i)  # all of it must be there
        if a[1] & 7 or a[0] & 3:
            raise sbi.Failed(sbi.INVALID_PARAM)
        self._slots[p.STVEC], self._slots[BLOCK_AT] = a[:2]
        self._slots[p.MIE] = p.SUPERVISOR_INTERRUPTS
        return 0

    def _set_tables(self, a: list[int]) -> int:
        """Page tables, in the form of satp."""
        self._world.csrs[SATP].write(self._hart.at_rest(), a[0])
        return 0

    def _flush(self, a: list[int]) -> int:
        """Forget what is known of a page, or of all (-1)."""
        self._world.memory.shadow.fence(None if a[0] == p.ALL else a[0], None)
        return 0

    def _irq_enable(self, a: list[int]) -> int:
        self._world.put(self._hart, "pending", 0)
        self._world.put(self._hart, "enabled", 1)
        return 0

    def _irq_disable(self, a: list[int]) -> int:
        self._world.put(self._hart, "enabled", 0)
        return 0

    def _set_timer(self, a: list[int]) -> int:
        """The timer interrupts at this time; what it has told of before is over."""
        self._slots[p.STIMECMP] = a[0]
        self._hart.set_timer()
        self._world.put(self._hart, "pending", 0)
        return 0

    def _wait(self, a: list[int]) -> int:
        """Until an interrupt is pending: another virtual CPU may run."""
        if not self._world.get(self._hart, "pending"):
            self._slots[p.WAITING] = p.WFI
        return 0

    def _resume(self, a: list[int]) -> int:
        """Return from a trap to where the block says, or begin there: as `sret` does, on a supervisor's registers."""
        s, hart, world = self._slots, self._hart, self._world
        user = world.get(hart, "user")
        s[p.SEPC] = world.get(hart, "pc") & ~1
        s[p.MSTATUS] = s[p.MSTATUS] & ~p.SPP | (0 if user else p.SPP)
        if user:
            world.swap_stacks(hart)
        for name, register in KEPT.items():
            s[register] = world.get(hart, name)
        m = hart.at_rest()
        privileged_insns.sret.body(m, None)
        world.set_pc(hart, m.next)
        world.put(hart, "enabled", int(bool(s[p.MSTATUS] & p.SIE)))
        self._left = True
        return 0

    def _set_leaf(self, a: list[int]) -> int:
        """Write an entry of a page table, and have it hold for a page: address of the entry, its value, the page."""
        memory = self._world.memory
        memory.write(a[0] & ~7, a[1])
        memory.shadow.fence(a[2], None)
        memory.shadow.fill(self._view, a[2])
        return 0

    def _multicall(self, a: list[int]) -> int:
        """Calls one after the other, from an array of them (address, number of them); how many there were."""
        address, count = a[:2]
        if count > MOST:
            raise sbi.Failed(sbi.INVALID_PARAM)
        for done in range(count):
            at = address + 8 * (1 + ARGUMENTS) * done
            number, *arguments = (self._world.memory.read(at + 8 * i) for i in range(1 + ARGUMENTS))
            if number < len(CALLS) and CALLS[number] == "multicall":
                raise sbi.Failed(sbi.INVALID_PARAM)
            self._one(number, arguments)
            if self._left:
                break
        return count
