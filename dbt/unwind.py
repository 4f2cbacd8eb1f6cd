"""The calls that a guest is in: from its registers and its stack back to where the program begins.

A frame's caller is found by call frame information (`dbt.cfi`); where there is none, by the function's instructions up
to there; where no symbol says where it begins, by the frame pointer, or by the return address if that looks untouched.
A handler's frame leads to what the signal has interrupted.
Owns: that walk, and which file an address belongs to. Must not know: how it is shown. Whatever memory and files hold,
it ends with frames and a clause that says why there are no more.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from dbt import elf
from dbt.cfi import Row, Rule, Unusable, row_at
from dbt.elf import Image, NotRunnable
from dbt.linux import siginfo
from dbt.linux.abi import layout
from dbt.mappings import Region
from dbt.memory import EXEC, READ, MemoryFault, page_down
from dbt.report import image_symbols
from guests.spec import Decoded

if TYPE_CHECKING:
    from dbt.process import Process

MOST = 64  # frames
_READ_MOST = 4096  # instructions of a function
_MASK = (1 << 64) - 1
_EXPRESSION = "the frame information is an expression, and these are not evaluated"


class Module:
    """An ELF file in the guest's memory. `name` is what the guest calls it."""

    def __init__(self, name: str, image: Image, bias: int) -> None:
        self.name, self.image, self.bias = name, image, bias
        self.symbols = image_symbols(image, bias)

    @property
    def entry(self) -> int:
        return self.image.entry + self.bias


class Frame(NamedTuple):
    """A function that was entered and not left. pc is what it executes next; `exact`: it did not call, but stopped."""

    pc: int
    exact: bool
    module: Module | None
    function: str  # "" where there is no symbol
    start: int  # of the function; pc, where there is no symbol
    signal: int = 0  # not 0: no function, but the kernel's frame for a handler of this signal


_Caller = tuple[int, bool, dict[int, int]]  # pc, whether it stopped there, registers by DWARF number


class _End(Exception):
    """There is no further frame; the message is a clause."""


class Unwinder:
    """One walk over a process that stands still."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._kernel, self._space = process.kernel, process.space
        abi = process.kernel.abi
        numbers = {name: number for number, name in enumerate(abi.DWARF_REGISTERS)}
        self._return, self._pointer = numbers[abi.RETURN_ADDRESS], numbers[abi.FRAME_POINTER]
        self._stack = next(n for name, n in numbers.items() if process.state.slot(name) == process.guest.stack_slot)
        self._modules: dict[tuple[str, int], Module | None] = {}

    def frames(self) -> tuple[list[Frame], str]:
        """The frames, the innermost first, and why they end."""
        state = self._process.state
        registers = {n: state.slots[state.slot(name)] for n, name in enumerate(self._kernel.abi.DWARF_REGISTERS)}
        frame = self._frame(self._process.pc, True)
        found = [frame]
        try:
            while len(found) < MOST:
                pc, exact, registers = self._caller(frame, registers)
                frame = self._frame(pc, exact, registers)
                found.append(frame)
            return found, f"no more than {MOST} frames are looked at"
        except _End as end:
            return found, str(end)
        except Unusable as why:
            return found, f"of {frame.pc:#x} {why}"

    def _frame(self, pc: int, exact: bool, registers: dict[int, int] | None = None) -> Frame:
        if pc == self._kernel.sigreturn and registers is not None:
            try:
                number = int.from_bytes(self._space.peek(registers[self._stack], 4), "little")
            except MemoryFault:
                number = 0
            if 1 <= number <= siginfo.COUNT:
                return Frame(pc, True, None, "", pc, number)
        module = self._module(pc)
        name, start = module.symbols.around(pc if exact else pc - 1) if module else ("", pc)
        return Frame(pc, exact, module, name, start if name else pc)

    # --- files ----------------------------------------------------------------------------------------------

    def _module(self, address: int) -> Module | None:
        """The file that an address of code is in."""
        region = self._space.region_at(address)
        if region is None or not region.protection & EXEC:
            return None
        for loaded in filter(None, (self._kernel.loaded, self._kernel.loader)):
            if loaded.start <= address < loaded.end and region.name == loaded.image.name:
                return self._known(region.name, loaded.image, loaded.bias)
        return self._mapped(region) if region.file else None

    def _known(self, name: str, image: Image, bias: int) -> Module:
        module = self._modules.get((name, bias))
        if module is None:
            module = self._modules[name, bias] = Module(name, image, bias)
        return module

    def _mapped(self, region: Region) -> Module | None:
        """A file that the guest has mapped, such as a library; None if it cannot be read, or is not one of those."""
        key = region.name, region.start - region.offset
        if key not in self._modules:
            self._modules[key] = None
            try:
                image = elf.open_image(region.name, self._kernel.abi)
            except (OSError, NotRunnable):
                return None
            for segment in image.segments:
                first = page_down(segment.offset)
                if first <= region.offset < segment.offset + segment.file_size:
                    name = os.fsdecode(self._kernel.sysroot.guest_path(os.fsencode(region.name)))
                    bias = region.start - region.offset + first - page_down(segment.address)
                    self._modules[key] = Module(name, image, bias)
                    break
        return self._modules[key]

    # --- the step -------------------------------------------------------------------------------------------

    def _caller(self, frame: Frame, registers: dict[int, int]) -> _Caller:
        """Who called a function, or was interrupted; _End, Unusable."""
        if frame.signal:
            return self._interrupted(registers)
        if frame.module is not None:
            if frame.start == frame.module.entry:
                raise _End(f"{frame.function or hex(frame.pc)} is where {frame.module.name} begins")
            address = frame.pc if frame.exact else frame.pc - 1
            row = row_at(frame.module.image, address - frame.module.bias)
            if row is not None:
                return self._by_information(frame, row, registers)
            row = self._prologue(frame)
            if row is not None:
                return self._by_information(frame, row, registers)
        return self._by_pointer(frame, registers)

    def _load(self, address: int) -> int:
        try:
            return int.from_bytes(self._space.peek(address & _MASK, 8), "little")
        except MemoryFault:
            raise _End(f"the stack cannot be read at {address & _MASK:#x}") from None

    def _interrupted(self, registers: dict[int, int]) -> _Caller:
        abi = self._kernel.abi
        context, at = layout(abi, "ucontext"), registers[self._stack] + siginfo.SIZE
        try:
            found = context.unpack(self._space.peek(at & _MASK, context.size))
        except MemoryFault:
            raise _End(f"the frame of a handler cannot be read at {at & _MASK:#x}") from None
        values = {name: value for field, names in abi.CONTEXT_ARRAYS.items()
                  for name, value in zip(names, found[field], strict=True)}  # fmt: skip
        zero = self._process.guest.zero_slot
        return values["pc"], True, {n: values.get(name, 0) for n, name in enumerate(abi.DWARF_REGISTERS)
                                    if name in values or self._process.state.slot(name) == zero}  # fmt: skip

    def _by_information(self, frame: Frame, row: Row, registers: dict[int, int]) -> _Caller:
        if row.cfa is None or row.cfa[0] not in registers:
            raise Unusable(_EXPRESSION if row.cfa is None else "the frame information leads to an unknown register")
        top = registers[row.cfa[0]] + row.cfa[1] & _MASK
        before = dict(registers)
        before[self._stack] = top
        for number, rule in row.rules.items():
            if number not in registers:
                continue
            if rule.kind == "offset":
                before[number] = self._load(top + rule.value)
            elif rule.kind == "value":
                before[number] = top + rule.value & _MASK
            elif rule.kind == "register" and rule.value in registers:
                before[number] = registers[rule.value]
            elif rule.kind == "undefined" and number == row.return_column:
                raise _End(f"{frame.function or hex(frame.pc)} was called by nobody")
            elif rule.kind in ("expression", "register"):
                raise Unusable(_EXPRESSION)
        if not row.signal and top <= registers[self._stack] and not (frame.exact and top == registers[self._stack]):
            raise _End(f"the stack does not go on: the caller of {frame.pc:#x} would have sp {top:#x}")
        return self._went(frame, before.get(row.return_column, 0), row.signal, before)

    def _prologue(self, frame: Frame) -> Row | None:
        """What the instructions of a function say; None if that leads nowhere."""
        read = self._kernel.abi.prologue(self._instructions(frame)) if frame.function else None
        if read is None or not (frame.exact or self._return in read[2]):
            return None
        register, offset, saved = read
        rules = {number: Rule("offset", place) for number, place in saved.items()}
        return Row((register, offset), rules, self._return, False)

    def _instructions(self, frame: Frame) -> Iterator[Decoded]:
        guest, pc = self._process.guest, frame.start
        for _ in range(_READ_MOST):
            try:
                decoded = guest.decode(self._space.fetch(pc)) if pc < frame.pc else None
            except MemoryFault:
                return
            if decoded is None:
                return
            yield decoded
            pc += decoded.length

    def _by_pointer(self, frame: Frame, registers: dict[int, int]) -> _Caller:
        """Without information: by the return address where that looks untouched, else by the frame pointer."""
        at, stack = registers[self._pointer], registers[self._stack]
        saved = self._record(at, stack)
        back = registers[self._return]
        if frame.exact and self._is_code(back) and (saved is None or saved[0] != back):
            module = self._module(back)
            caller = module.symbols.around(back - 1)[1] if module else back
            if frame.module is None or caller != frame.start:
                return self._went(frame, back, False, self._left_leaf(registers) if saved is None else registers)
        if saved is None:
            raise _End(f"nothing tells of the caller of {frame.pc:#x}")
        return self._went(frame, saved[0], False, {**registers, self._pointer: saved[1], self._stack: at})

    def _left_leaf(self, registers: dict[int, int]) -> dict[int, int]:
        """A function that calls none saves, of the two, the frame pointer alone, where the return address would be."""
        at = registers[self._pointer]
        try:
            previous = self._load(at + self._kernel.abi.FRAME_RECORD[0])
        except _End:
            return registers
        if at <= registers[self._stack] or self._record(previous, at) is None:
            return registers
        return {**registers, self._pointer: previous, self._stack: at}

    def _record(self, pointer: int, stack: int) -> tuple[int, int] | None:
        """The return address and the frame pointer that a frame pointer leads to, if it can be one."""
        back, previous = self._kernel.abi.FRAME_RECORD
        if pointer <= stack or pointer % 8:
            return None
        try:
            found = self._load(pointer + back), self._load(pointer + previous)
        except _End:
            return None
        return found if self._is_code(found[0]) else None

    def _is_code(self, address: int) -> bool:
        region = self._space.region_at(address - 1 & _MASK)
        return region is not None and region.protection & (EXEC | READ) == EXEC | READ

    def _went(self, frame: Frame, back: int, exact: bool, registers: dict[int, int]) -> _Caller:
        if back == 0:
            raise _End(f"{frame.function or hex(frame.pc)} was called by nobody")
        if back % self._kernel.abi.CODE_ALIGNMENT or (back != self._kernel.sigreturn and not self._is_code(back)):
            raise _End(f"{back:#x}, to which {frame.function or hex(frame.pc)} would return, is no code")
        return back, exact, registers
