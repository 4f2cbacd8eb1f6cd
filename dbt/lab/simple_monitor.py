"""The simplest monitor, as the lecture has it: it enters a guest, looks why it came back, and answers a few things.

Its guest is a file that begins as a supervisor. What it prints are values of exits. It is no row itself: rows put
guests under it, and leave parts of it out.
Owns: what this monitor answers. Must not know: what a row claims.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from dbt.kvm import Exit, Intr, Kvm, KvmError
from dbt.machine.pool import Pool
from dbt.options import Options

RAM, SIZE = 0x8000_0000, 8 << 20
PAGE_SHIFT = 12
ILLEGAL, CALL, LOAD_FAULT = 2, 10, 21  # scause
SET_TIMER, PUT, SHUTDOWN = 0, 1, 8  # calls of SBI 0.1
NEVER = (1 << 64) - 1
HARTID, WORD = 0x1234, 0x6688  # what the guest is made to believe
ALL = (ILLEGAL, LOAD_FAULT, CALL)
OPTIONS = Options(patience=0)
METHODS = ("interp", "bt", "hw", "te")
RESET = "Reset(Reset { reset_type: Shutdown, reason: NoReason })"


class Panic(Exception):
    """The monitor has no answer."""


class Monitor:
    """With a guest, by its file. It answers those causes that are among `arms`, and panics at others.

    `lines` is its console, `printed` the guest's, `exits` are all traps by which the guest was left, `ticks` the
    guest's pc at each interrupt of the host's timer.
    """

    def __init__(self, file: str, name: str, method: str = "bt", arms: Collection[int] = ALL, gpa: int = RAM) -> None:
        self.lines: list[str] = []
        self.printed = ""
        self.exits: list[Any] = []
        self.ticks: list[int] = []
        self._due = NEVER  # the guest's time at which the host's timer will be due
        self.vm = Kvm(method, options=OPTIONS).create_vm()
        memory, pages = Pool(SIZE, seed=1).take(SIZE)
        self.vm.set_user_memory_region(0, RAM, SIZE, memory)
        self.entry = self.vm.load(file, gpa)
        self.host_page = pages[self.entry - RAM >> PAGE_SHIFT] << PAGE_SHIFT
        self.vcpu = self.vm.create_vcpu()
        self.vcpu.set(pc=self.entry)
        answers: Mapping[int, Callable[[Any], bool]] = {
            ILLEGAL: self._illegal, LOAD_FAULT: self._load_fault, CALL: self._call,
        }  # fmt: skip
        self._answers = {cause: answers[cause] for cause in arms}
        self._say("Hypervisor ...")
        self._say(f"app: {name}")
        self._say(f"paddr: PA:{self.host_page:#x}")

    def run(self) -> int:
        """To the guest's end; the status: 1 where the monitor had no answer."""
        try:
            while not self._turn():
                pass
        except (Panic, KvmError) as panic:
            self._say(f"panicked: {panic}")
            return 1
        finally:
            self.vm.close()
        self._say("Shutdown vm normally!")
        self._say("Hypervisor ok!")
        return 0

    def _turn(self) -> bool:
        """Enter the guest, and answer what it is left for; whether that is its end."""
        vcpu = self.vcpu
        left = (self._due - vcpu.get("time")) * (10**9 // vcpu.get("frequency"))
        exit = vcpu.enter(NEVER if self._due == NEVER else max(left, 0))
        if isinstance(exit, Intr):
            self._tick()
            return False
        if isinstance(exit, Exit):
            raise Panic(f"{exit}")
        self.exits.append(exit)
        answer = self._answers.get(exit.scause)
        if answer is None:
            raise Panic(f"scause {exit.scause}, stval {exit.stval:#x}, sepc {exit.sepc:#x}")
        return answer(exit)

    def _say(self, line: str) -> None:
        self.lines.append(line)

    # --- answers ------------------------------------------------------------------------------------------------

    def _illegal(self, exit: Any) -> bool:
        self._say(f"Bad instruction: {exit.stval:#x} sepc: {exit.sepc:#x}")
        self.vcpu.set(a1=HARTID)
        self.vcpu.skip()
        return False

    def _load_fault(self, exit: Any) -> bool:
        self._say(f"LoadGuestPageFault: stval{exit.stval:#x} sepc: {exit.sepc:#x}")
        self.vcpu.set(a0=WORD)
        self.vcpu.skip()
        return False

    def _call(self, exit: Any) -> bool:
        vcpu = self.vcpu
        a0, a1, a7 = (vcpu.get(name) for name in ("a0", "a1", "a7"))
        if a7 == SHUTDOWN:
            self._say(f"VmxExit Reason: VSuperEcall: Some({RESET})")
            self._say(f"a0 = {a0:#x}, a1 = {a1:#x}")
            return True
        if a7 == PUT:
            self.printed += chr(a0 & 0xFF)
        elif a7 == SET_TIMER:  # and the guest's timer is not pending any more
            self._due = a0
            vcpu.set(compare=NEVER)
        else:
            vcpu.set(a0=NEVER - 1)  # -2: not supported
        vcpu.skip()
        return False

    def _tick(self) -> None:
        """The host's timer has interrupted the guest: its own is pending now."""
        self.ticks.append(self.vcpu.get("pc"))
        self._due = NEVER
        self.vcpu.set(compare=self.vcpu.get("time"))
