"""The emitting domain: instruction bodies run against it and leave IR behind.

A body sees the same vocabulary as in the reference interpreter (see `dbt/reference.py`): the ops by
name, register files, memory, `goto`, `branch`, `jump`, `trap`. Here every call appends to a block.
Owns: construction. Must not know: any guest; what the values become; how blocks are cached.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ir.block import Block, Branch, Exit, GuestInsn, Indirect, Inst, Jump, Value
from ir.ops import OPS, Op

DYNAMIC = "dynamic"
OFFSETS = 1 << 31  # an access's constant offset lies within so many bytes of its base
HOST_MODES = 4  # rounding modes 0-3 of `ir.fp` are the host's too; ties-to-max-magnitude is not


class NeedsCallout(Exception):
    """The body did something that translated code leaves to the monitor (a trap, the wall clock)."""


class SlotFile:
    """A register file in the emitting domain: item access emits getreg and setreg.

    `zero` reads as constant 0 (None: no such register); writes to `sink` go nowhere.
    """

    def __init__(self, builder: Builder, first: int, zero: int | None = None, sink: int | None = None) -> None:
        self._builder = builder
        self._first = first
        self._zero = zero
        self._sink = sink

    def __getitem__(self, number: int) -> Value:
        if number == self._zero:
            return 0
        return self._builder.emit("getreg", (), (self._first + number,))

    def __setitem__(self, number: int, value: Value) -> None:
        if number != self._sink:
            self._builder.emit("setreg", (value,), (self._first + number,))


class Builder:
    """Builds one block. Every op of the table is a method: values first, then attributes."""

    def __init__(
        self, pc: int, boundary: bool = True, align: int = 2, rounding_slot: int = 0,
        accesses: dict[str, int] | None = None,
    ) -> None:  # fmt: skip
        """`accesses`: in a machine, kinds of loads that the guest's own translation has, by number; None: a process."""
        self.block = Block(pc, boundary)
        self._align = align
        self._rounding_slot = rounding_slot
        self._machine = accesses is not None
        self._accesses = accesses or {}
        self._pc = pc
        self._next = pc
        self._at = 0
        self._exit: Exit | None = None

    # --- driven by the translator ---------------------------------------------------------------

    def begin(self, insn: GuestInsn) -> None:
        """The next body belongs to this guest instruction."""
        self._pc = insn.pc
        self._next = insn.pc + insn.length & (1 << 64) - 1
        self._at = len(self.block.guest)
        self._mark = len(self.block.insts)
        self.block.guest.append(insn)

    def drop(self) -> None:
        """Forget the current guest instruction: its body needs a callout."""
        del self.block.insts[self._mark :]
        self.block.guest.pop()
        self._exit = None

    def finish(self, exit: Exit) -> Block:
        """End the block with this exit."""
        self.block.exit = exit
        return self.block

    @property
    def taken(self) -> Exit | None:
        """The exit that the current body asked for, if any."""
        return self._exit

    def files(self) -> Callable[..., SlotFile]:
        """A maker of register files over this builder."""
        return lambda first, count, zero=None, sink=None: SlotFile(self, first, zero, sink)

    def emit(self, name: str, args: tuple[Value, ...], attrs: tuple[object, ...]) -> Inst:
        """Append one instruction and return it as a value."""
        inst = Inst(OPS[name], args, attrs, self._at)
        self.block.insts.append(inst)
        return inst

    # --- the vocabulary of bodies ---------------------------------------------------------------

    def pc(self) -> int:
        return self._pc

    def next_pc(self) -> int:
        return self._next

    def goto(self, displacement: int) -> None:
        self._exit = Jump(self._aligned(displacement))

    def branch(self, condition: Value, displacement: int) -> None:
        self._exit = Branch(condition, self._aligned(displacement), self._next)

    def jump(self, target: Value) -> None:
        if self._align > 2:
            misaligned = self.emit("ne", (self.emit("and", (target, self._align - 1), ()), 0), ())
            self.emit("leave_if", (misaligned,), ("misaligned",))
        self._exit = Indirect(target)

    def _aligned(self, displacement: int) -> int:
        """The target of a direct jump; a misaligned one traps when it is taken, which the monitor does."""
        if displacement % self._align:
            raise NeedsCallout
        return self._pc + displacement & (1 << 64) - 1

    def trap(self, cause: int, value: Value = 0) -> None:
        """In a machine, code leaves for it; in a process it is the monitor's."""
        if not self._machine:
            raise NeedsCallout
        self.emit("raise", (value,), (cause,))
        self.emit("leave_if", (True,), ("trap",))

    def illegal(self) -> None:
        raise NeedsCallout

    def illegal_if(self, condition: Value, cause: int = 0) -> None:
        """In a machine the trap may be taken where code has left to; `cause` is the guest's other one for this."""
        self.emit("leave_if", (condition,), ("trap" if not self._machine else "refused" if cause else "illegal",))

    def attend(self) -> None:
        raise NeedsCallout

    def remap(self) -> None:
        self.remap_if(True)

    def monitor_if(self, condition: Value) -> None:
        self.emit("leave_if", (condition,), ("monitor",))

    def attend_if(self, condition: Value) -> None:
        """Never: `monitor_if` has left."""

    def remap_if(self, condition: Value) -> None:
        self.emit("remaps", (condition,), ())

    def trap_if(self, condition: Value, cause: int, value: Value = 0) -> None:
        self.emit("leave_if", (condition,), ("trap",))

    def wall_clock(self) -> Value:
        raise NeedsCallout

    def fence_code(self) -> None:
        """In a machine, writes to code are seen when they are made; in a process the monitor may have to look."""
        if not self._machine:
            raise NeedsCallout

    def load_as(self, access: str, address: Value, size: int, signed: bool) -> Value:
        if access not in self._accesses:
            raise NeedsCallout
        return self.emit("load_of_kind", (address,), (self._accesses[access], size, signed))

    def store_as(self, access: str, address: Value, value: Value, size: int) -> None:
        raise NeedsCallout

    def need_any_access(self, address: Value) -> None:
        raise NeedsCallout

    def rounding(self, mode: int, dynamic: int) -> object:
        """A static rounding mode, or DYNAMIC; modes that the host has not are left to the monitor."""
        if mode == dynamic:
            return DYNAMIC
        if mode >= HOST_MODES:
            raise NeedsCallout
        return mode

    def static_rounding(self, mode: int, dynamic: int) -> int:
        """Any mode of `ir.fp`, for a body that rounds by itself; a dynamic one is left to the monitor."""
        if mode == dynamic:
            raise NeedsCallout
        return mode

    def need_rounding(self, mode: object) -> None:
        """Leave unless the host, which follows the guest's rounding slot, rounds as `mode` asks."""
        current = self.emit("getreg", (), (self._rounding_slot,))
        if mode == DYNAMIC:
            wrong = self.emit("ltu", (HOST_MODES - 1, current), ())
        else:
            assert isinstance(mode, int)
            wrong = self.emit("ne", (current, mode), ())
        self.emit("leave_if", (wrong,), ("rounding",))


def _emitter(op: Op) -> Callable[..., Any]:
    count = len(op.args)

    def method(self: Builder, *operands: Any) -> Inst:
        return self.emit(op.name, operands[:count], operands[count:])

    method.__name__ = op.name
    method.__doc__ = f"Emit `{op.name}` ({' '.join(op.args)} -> {op.result}; {' '.join(op.attrs)})."
    return method


def _rounded(op: Op, exact: Callable[[tuple[Any, ...]], bool]) -> Callable[..., Any]:
    """As `_emitter`, with the guard that the host's rounding mode is the instruction's.

    What is exact needs none, unless its mode is dynamic: a reserved dynamic mode is the monitor's to refuse.
    """
    plain = _emitter(op)
    where = len(op.args) + op.attrs.index("rounding")

    def method(self: Builder, *operands: Any) -> Inst:
        if operands[where] == DYNAMIC or not exact(operands):
            self.need_rounding(operands[where])
        inst: Inst = plain(self, *operands)
        return inst

    method.__name__, method.__doc__ = op.name, plain.__doc__
    return method


def _within_reach(op: Op) -> Callable[..., Any]:
    """As `_emitter`, for accesses: an offset that is large becomes a part of the base."""
    plain = _emitter(op)
    where = len(op.args) + op.attrs.index("offset")

    def method(self: Builder, base: Value, *operands: Any) -> Inst:
        offset = operands[where - 1]
        if isinstance(offset, int) and not -OFFSETS <= offset < OFFSETS:
            base = self.emit("add", (base, offset & (1 << 64) - 1), ())
            operands = (*operands[: where - 1], 0, *operands[where:])
        inst: Inst = plain(self, base, *operands)
        return inst

    method.__name__, method.__doc__ = op.name, plain.__doc__
    return method


_EXACT: dict[str, Callable[[tuple[Any, ...]], bool]] = {
    "to_int": lambda o: o[2] == 1,  # the host truncates without looking at its mode
    "from_int": lambda o: o[1] == 64 and o[4] == 32,  # 32 bits fit a double
    "fconvert": lambda o: o[2] > o[1],  # widening
}
for _op in OPS.values():
    if "rounding" in _op.attrs:
        _method = _rounded(_op, _EXACT.get(_op.name, lambda o: False))
    elif "offset" in _op.attrs:
        _method = _within_reach(_op)
    else:
        _method = _emitter(_op)
    setattr(Builder, _op.identifier, _method)
