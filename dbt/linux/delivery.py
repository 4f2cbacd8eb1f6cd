"""Signals on their way into the guest: the frame that a handler finds on its stack, and the way back from it.

What lies where in a frame is data of the architecture: the structure "ucontext", and which registers its fields hold
(`CONTEXT_ARRAYS`, `CONTEXT_BITS`). What an interrupted system call gives is decided here as well, as it depends on
whether a handler runs (Linux, kernel/signal.c and arch/*/kernel/signal.c).
Owns: `Delivery`. Must not know: when the guest may be interrupted (the process says so), who sends signals.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from dbt.linux import siginfo
from dbt.linux.abi import layout
from dbt.linux.blocking import ERESTART_RESTARTBLOCK, ERESTARTNOINTR, ERESTARTSYS, INTERRUPTED
from dbt.linux.exits import Killed
from dbt.linux.host import int32
from dbt.linux.rseq import leave_section
from dbt.linux.siginfo import (
    BUS_ADRERR,
    IGNORED_BY_DEFAULT,
    SEGV_ACCERR,
    SEGV_MAPERR,
    SIGBUS,
    SIGSEGV,
    SIGSTOP,
    STOPPING,
    SYNCHRONOUS,
    bit,
)
from dbt.linux.signals import (
    SA_NODEFER,
    SA_ONSTACK,
    SA_RESETHAND,
    SA_RESTART,
    SIG_DFL,
    SIG_IGN,
    SS_AUTODISARM,
)
from dbt.linux.threads import NO_STACK
from dbt.memory import MemoryFault

if TYPE_CHECKING:
    from dbt.linux.kernel import Kernel

_MASK = (1 << 64) - 1


class Registers(Protocol):
    """The CPU state, by slot; pc apart."""

    slots: memoryview
    pc: int

    def slot(self, name: str) -> int: ...


class Delivery:
    """`told`, when set, is called with every signal that a handler is entered for, and its siginfo."""

    def __init__(self, kernel: Kernel, state: Registers) -> None:
        self._kernel = kernel
        self._signals = kernel.signals
        self._state = state
        self.told: Callable[[int, bytes], None] | None = None
        abi, slot = kernel.abi, state.slot
        self._context = layout(abi, "ucontext")
        self._size = siginfo.SIZE + self._context.size
        self._arrays = [(field, [None if name == "pc" else slot(name) for name in names])
                        for field, names in abi.CONTEXT_ARRAYS.items()]
        self._bits = [(field, [(slot(name), shift, width) for name, shift, width in parts])
                      for field, parts in abi.CONTEXT_BITS.items()]
        self._number, self._info, self._ucontext, self._return, self._stack = map(slot, abi.HANDLER_REGISTERS)
        self._result, self._call = slot(abi.CALL_RESULT), slot(abi.CALL_NUMBER)
        self._restart_call = next(number for number, name in abi.CALLS.items() if name == "restart_syscall")

    def deliver(self, result: int = 0, argument: int = 0, length: int = 0) -> None:
        """Have the guest do what all signals ask for that its mask lets through; Killed.

        If `result` says that a system call was interrupted: pc is behind the call, of `length` bytes, and `argument`
        was its first one.
        """
        signals, state = self._signals, self._state
        code = INTERRUPTED.get(result, 0)
        while (found := signals.take(signals.ready)) is not None:
            number, info = found
            action = signals.actions.get(number)
            handler = action["handler"] if action else SIG_DFL
            if action is None or handler in (SIG_DFL, SIG_IGN):
                if handler == SIG_DFL:
                    self._default(number, info)
                continue
            if code:
                again = code == ERESTARTNOINTR or (code == ERESTARTSYS and bool(action["flags"] & SA_RESTART))
                self._finish(argument, length, again)
                code = 0
            if self.told is not None:
                self.told(number, info)
            if signals.thread.rseq is not None:
                leave_section(self._kernel, state)
            self._enter(number, info, action)
        if code:
            if code == ERESTART_RESTARTBLOCK:
                state.slots[self._call] = self._restart_call
            self._finish(argument, length, True)
        signals.restore_mask()

    def _finish(self, argument: int, length: int, again: bool) -> None:
        state = self._state
        if again:
            state.slots[self._result] = argument
            state.pc = state.pc - length & _MASK
        else:
            state.slots[self._result] = -errno.EINTR & _MASK

    def _default(self, number: int, info: bytes) -> None:
        if bit(number) & IGNORED_BY_DEFAULT:
            return
        if bit(number) & STOPPING:
            ours = self._signals.mirror is None or bool(self._signals.claimed & bit(number))
            os.kill(os.getpid(), SIGSTOP if ours else number)  # what the host has us note does not stop us
            return
        fault = bit(number) & SYNCHRONOUS and siginfo.code_of(info) > 0
        raise Killed(number, not fault and int.from_bytes(info[16:20], "little") != self._kernel.pid)

    def fault(self, number: int, code: int, address: int) -> None:
        """The guest's own instruction is to blame for a signal: it is entered at once, or kills."""
        self._signals.force(number, siginfo.build(self._kernel.abi, "fault", number, code, si_addr=address))
        self.deliver()

    def page_fault(self, number: int, address: int, protection: int) -> None:
        """The same for an access to a page that does not allow it, or has nothing behind it any more."""
        allowed = self._kernel.space.protection(address)
        if allowed is not None and allowed & protection:
            self.fault(SIGBUS, BUS_ADRERR, address)  # beyond the end of a mapped file
        else:
            self.fault(number, SEGV_MAPERR if allowed is None else SEGV_ACCERR, address)

    # --- frames ---------------------------------------------------------------------------------------------

    def _enter(self, number: int, info: bytes, action: dict[str, int]) -> None:
        """Put a frame on the stack and go to the handler."""
        signals, state, slots = self._signals, self._state, self._state.slots
        thread, flags = signals.thread, action["flags"]
        before = thread.mask if thread.saved_mask is None else thread.saved_mask
        pointer = slots[self._stack]
        if flags & SA_RESETHAND:
            signals.actions[number] = {**action, "handler": SIG_DFL}
        top = pointer
        alternate = thread.alternate
        if flags & SA_ONSTACK and alternate["ss_size"] and not signals.on_alternate(pointer):
            top = alternate["ss_sp"] + alternate["ss_size"]
        frame = (top - self._size) & -self._kernel.abi.STACK_ALIGNMENT & _MASK
        try:
            if signals.on_alternate(top) and not signals.on_alternate(frame):
                raise MemoryFault(frame, "store", True)  # a frame that leaves the alternate stack is none
            self._kernel.space.write(frame, info + self._context.pack(self._saved(before)))
        except MemoryFault:
            if number == SIGSEGV:
                signals.actions.pop(SIGSEGV, None)
            signals.force(SIGSEGV, siginfo.build(self._kernel.abi, "kill", SIGSEGV, siginfo.SI_KERNEL))
            return
        if alternate["ss_flags"] & SS_AUTODISARM:
            thread.alternate = dict(NO_STACK)
        slots[self._number] = number
        slots[self._info], slots[self._ucontext] = frame, frame + siginfo.SIZE
        slots[self._return], slots[self._stack] = self._kernel.sigreturn, frame
        state.pc = action["handler"]
        thread.saved_mask = None
        signals.set_mask(signals.mask | action["mask"] | (0 if flags & SA_NODEFER else bit(number)))

    def _saved(self, mask: int) -> dict[str, object]:
        state, slots, alternate = self._state, self._state.slots, self._signals.thread.alternate
        values: dict[str, object] = {
            **alternate, "ss_flags": int32(alternate["ss_flags"]), "uc_sigmask": mask}
        for field, registers in self._arrays:
            values[field] = [state.pc if slot is None else slots[slot] for slot in registers]
        for field, parts in self._bits:
            values[field] = sum(slots[slot] << shift for slot, shift, _width in parts)
        return values

    def resume(self) -> None:
        """Return from a handler: registers, mask and alternate stack are those of the frame that sp points to."""
        signals, state, slots = self._signals, self._state, self._state.slots
        pointer = slots[self._stack]
        try:
            if pointer % self._kernel.abi.STACK_ALIGNMENT:
                raise MemoryFault(pointer, "load", True)
            found = self._context.unpack(self._kernel.space.read(pointer + siginfo.SIZE, self._context.size))
        except MemoryFault:
            signals.force(SIGSEGV, siginfo.build(self._kernel.abi, "kill", SIGSEGV, siginfo.SI_KERNEL))
            return
        for field, registers in self._arrays:
            for slot, value in zip(registers, found[field], strict=True):
                if slot is None:
                    state.pc = value & -self._kernel.abi.CODE_ALIGNMENT & _MASK
                else:
                    slots[slot] = value
        for field, parts in self._bits:
            for slot, shift, width in parts:
                slots[slot] = found[field] >> shift & (1 << width) - 1
        signals.set_mask(found["uc_sigmask"])
        with suppress(OSError):  # as Linux does: a handler may have written nonsense there
            signals.set_alternate({name: found[name] for name in NO_STACK}, slots[self._stack])
