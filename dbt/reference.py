"""The reference interpreter: instruction bodies run over Python integers, one instruction at a time.

It is the specification in motion: no LLVM, no cache of translations, no tricks. Decoding is remembered by
instruction word, never by address, so code that changes is seen at once. It also executes what translated
code leaves to the monitor. Owns: the integer domain and the step. Must not know: how code is translated.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from dbt.memory import MemoryFault
from dbt.state import State
from guests.spec import Decoded, IllegalInstruction, Trap, Treat
from ir import fp
from ir.ops import AMO, OPS, sext

MASK = (1 << 64) - 1
FAR = 1 << 62  # a count that no run reaches


class Stop(NamedTuple):
    """Why an engine returned: the limit was reached at a boundary, or a trap (cause, value) was taken."""

    trap: bool
    cause: int = 0
    value: int = 0


LIMIT = Stop(False)
GRANULARITIES = ("block", "insn")


def _nothing() -> None:
    """The addresses of a process mean what they mean."""


class Space(Protocol):
    """What bodies reach: the memory of a process, or of a hart. All raise MemoryFault or Trap."""

    def load(self, address: int, size: int) -> int: ...

    def store(self, address: int, size: int, value: int) -> None: ...

    def fetch(self, address: int) -> int: ...

    def check(self, address: int, length: int, protection: int) -> None: ...

    def modify(self, address: int, size: int, change: Callable[[int], int]) -> int:
        """The aligned value there, in whose place change(value) is put with no other's access between."""

    def others_write(self, address: int) -> bool:
        """Whether somebody else may write there at any moment."""

    def fence(self) -> None:
        """Accesses before come before accesses behind, for all who see them."""


class Integers:
    """The domain in which values are Python ints: the vocabulary of bodies, executed."""

    def __init__(self, state: State, space: Space, wall_clock: Callable[[], int]) -> None:
        guest = state.guest
        self._state = state
        self._slots = state.slots
        self._flags = guest.flags_slot
        self._rounding = guest.rounding_slot
        self._align = guest.align
        self._misaligned = guest.fetch_misaligned_cause
        self._load = space.load
        self._store = space.store
        self._modify = space.modify
        self._space: Any = space
        self.wall_clock = wall_clock
        self.remap: Callable[[], None] = _nothing  # addresses may mean something else from now on
        self.code_fences: list[Callable[[], None]] = []
        self.at = 0  # address of the instruction being executed
        self.next = 0  # address of the next one, as the body decides
        self.next_sequential = 0  # address after it
        self.count = 0  # instructions retired before it
        self.until = 0  # the count from which on the engine returns at a boundary
        guest.link(self)

    def files(self) -> Callable[..., memoryview]:
        """A maker of register files: views of the state. Slot 0 stays 0 since its writes go to the sink."""
        return lambda first, count, zero=None, sink=None: self._slots[first : first + count]

    # --- control flow and traps -------------------------------------------------------------------

    def pc(self) -> int:
        return self.at

    def next_pc(self) -> int:
        return self.next_sequential

    def goto(self, displacement: int) -> None:
        self.jump(self.at + displacement & MASK)

    def branch(self, condition: bool, displacement: int) -> None:
        if condition:
            self.jump(self.at + displacement & MASK)

    def jump(self, target: int) -> None:
        if target % self._align:
            raise Trap(self._misaligned, target)
        self.next = target

    def trap(self, cause: int, value: int = 0) -> None:
        raise Trap(cause, value)

    def trap_if(self, condition: bool, cause: int, value: int = 0) -> None:
        if condition:
            raise Trap(cause, value)

    def illegal(self) -> None:
        raise IllegalInstruction

    def illegal_if(self, condition: bool, cause: int = 0) -> None:
        if condition:
            raise IllegalInstruction(cause)

    def attend(self) -> None:
        """Something may be due at the next boundary: the engine returns there."""
        self.until = 0

    def monitor_if(self, condition: bool) -> None:
        """Translated code leaves the instruction to the monitor, before it has an effect: this is the monitor."""

    def attend_if(self, condition: bool) -> None:
        if condition:
            self.attend()

    def remap_if(self, condition: bool) -> None:
        if condition:
            self.remap()

    def fence_code(self) -> None:
        for fence in self.code_fences:
            fence()

    def instret(self) -> int:
        return self.count

    # --- memory -----------------------------------------------------------------------------------

    def load(self, address: int, offset: int, size: int, signed: bool) -> int:
        value = self._load(address + offset & MASK, size)
        return sext(value, size * 8) if signed else value

    def store(self, address: int, value: int, offset: int, size: int) -> None:
        self._store(address + offset & MASK, size, value & (1 << size * 8) - 1)

    def load_as(self, access: str, address: int, size: int, signed: bool) -> int:
        """A load of a kind that the guest's own translation knows; in a machine."""
        found: int = self._space.load_as(access, address, size)
        return sext(found, size * 8) if signed else found

    def store_as(self, access: str, address: int, value: int, size: int) -> None:
        """A store of such a kind."""
        self._space.store_as(access, address, size, value & (1 << size * 8) - 1)

    def amo(self, address: int, operand: int, kind: str, size: int) -> int:
        """Old value, sign-extended; min and max compare as their kind says."""
        meaning, mask, unsigned = AMO[kind], (1 << size * 8) - 1, kind.endswith("u") or size == 8

        def changed(old: int) -> int:
            return meaning(old if unsigned else sext(old, size * 8), operand) & mask

        old = self._modify(address, size, changed)
        return sext(old, size * 8) if size < 8 else old

    def store_conditional(self, address: int, expected: int, new: int, held: bool, size: int) -> bool:
        """Whether it was stored: if it is held, and what others may write is as expected."""
        mask = (1 << size * 8) - 1

        def won(old: int) -> bool:
            return held and (old == expected & mask or not self._space.others_write(address))

        return won(self._modify(address, size, lambda old: new & mask if won(old) else old))

    def fence(self, before: int, after: int) -> None:
        """x86-64 keeps all other orders by itself."""
        if before & 1 and after & 2:
            self._space.fence()

    def need_any_access(self, address: int) -> None:
        """Fault as a store does where the byte may neither be loaded nor stored."""
        try:
            self._space.check(address, 1, 1)
        except (MemoryFault, Trap):
            self._space.check(address, 1, 2)

    # --- floating point: exact integers, flags accrued at once -----------------------------------------

    def rounding(self, mode: int, dynamic: int) -> int:
        if mode == dynamic:
            mode = self._slots[self._rounding]
            if mode > fp.RMM:
                raise IllegalInstruction
        return mode

    static_rounding = rounding

    def _accrue(self, result: tuple[int, int]) -> int:
        if result[1]:
            self._slots[self._flags] |= result[1]
        return result[0]

    def fadd(self, a: int, b: int, width: int, mode: int) -> int:
        return self._accrue(fp.add(fp.FORMATS[width], a, b, mode))

    def fsub(self, a: int, b: int, width: int, mode: int) -> int:
        return self._accrue(fp.sub(fp.FORMATS[width], a, b, mode))

    def fmul(self, a: int, b: int, width: int, mode: int) -> int:
        return self._accrue(fp.mul(fp.FORMATS[width], a, b, mode))

    def fdiv(self, a: int, b: int, width: int, mode: int) -> int:
        return self._accrue(fp.div(fp.FORMATS[width], a, b, mode))

    def fsqrt(self, a: int, width: int, mode: int) -> int:
        return self._accrue(fp.sqrt(fp.FORMATS[width], a, mode))

    def fma(self, a: int, b: int, c: int, width: int, mode: int) -> int:
        return self._accrue(fp.fma(fp.FORMATS[width], a, b, c, mode))

    def fconvert(self, a: int, width: int, to: int, mode: int) -> int:
        return self._accrue(fp.convert(fp.FORMATS[width], fp.FORMATS[to], a, mode))

    def from_int(self, a: int, width: int, mode: int, signed: bool, bits: int) -> int:
        value = a - (1 << 64) if signed and a >> 63 else a
        return self._accrue(fp.from_int(fp.FORMATS[width], value, mode))

    def to_int(self, a: int, width: int, mode: int, signed: bool, bits: int) -> int:
        low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
        value = self._accrue(fp.to_int(fp.FORMATS[width], a, mode, low, high))
        return sext(value & MASK, 32) if bits == 32 else value & MASK

    def feq(self, a: int, b: int, width: int) -> bool:
        return bool(self._accrue(fp.eq(fp.FORMATS[width], a, b)))

    def flt(self, a: int, b: int, width: int) -> bool:
        return bool(self._accrue(fp.lt(fp.FORMATS[width], a, b)))

    def fle(self, a: int, b: int, width: int) -> bool:
        return bool(self._accrue(fp.le(fp.FORMATS[width], a, b)))

    def host_flags(self) -> int:
        return 0

    def clear_host_flags(self) -> None:
        """Nothing accrues on the host here."""

    def set_host_rounding(self, mode: int) -> None:
        """The mode is read from its slot at every use."""


for _op in OPS.values():
    if _op.meaning is not None:
        setattr(Integers, _op.identifier, staticmethod(_op.meaning))


class Reference:
    """The engine. `watch`, when set, is called with (pc, decoded) after every instruction.

    `granularity` "insn": it may be interrupted after any instruction, as a processor may, and not at boundaries only.
    """

    name = "reference"

    def __init__(
        self, state: State, space: Space, wall_clock: Callable[[], int], granularity: str = "block"
    ) -> None:
        if granularity not in GRANULARITIES:
            raise ValueError(f"no granularity {granularity!r} (there are: {', '.join(GRANULARITIES)})")
        self._anywhere = granularity == "insn"
        self.state = state
        self.space = space
        self.domain = Integers(state, space, wall_clock)
        self.watch: Callable[[int, Decoded], None] | None = None
        self.classes = dict.fromkeys(Treat, 0)  # instructions executed by class
        self.trapped = 0  # callouts among them that trapped, so that they are not in the count
        guest = state.guest
        self._decode = guest.decode
        self._syscall_word = guest.syscall_word if guest.privileged is None else None
        self._syscall = Stop(True, guest.syscall_cause, 0)

    @property
    def interruptible(self) -> bool:
        """Whether an event may come before the next instruction."""
        return self._anywhere or not self.state.mid_block

    def run(self, until: int, near: int = 0) -> Stop:
        """Run to the first boundary (or instruction) at which the count is at least `until`, or to a trap; never less.

        At a trap the state is that before the instruction that took it.
        """
        if self.interruptible and self.state.count >= until:
            return LIMIT
        return self._go(until, once=False)

    def observe_stores(self, seen: Callable[[int, int, int], None]) -> None:
        """Call `seen(address, size, value)` for every guest store from now on."""
        store, modify = self.domain._store, self.domain._modify

        def noted(address: int, size: int, value: int) -> None:
            seen(address, size, value)
            store(address, size, value)

        def modified(address: int, size: int, change: Callable[[int], int]) -> int:
            old = modify(address, size, change)
            seen(address, size, change(old))
            return old

        self.domain._store, self.domain._modify = noted, modified

    def kept(self) -> list[tuple[str, str]]:
        """What is kept to be faster, for people: (what, how much)."""
        return [("translations", "none: it interprets")]

    def fence(self) -> None:
        """Instruction fetches see all stores: they do so anyway."""

    def system_call(self) -> Stop | None:
        """The trap of the system call that pc is at: what `step` does, in less time. None: it is none."""
        state, word = self.state, self._syscall_word
        if word is None:
            return None
        try:
            if self.space.fetch(state.pc) != word:
                return None
        except MemoryFault:
            return None
        state.mid_block = False
        self.classes[_CALLOUT] += 1
        self.trapped += 1
        return self._syscall

    def step(self) -> Stop:
        """Execute exactly one instruction, or take its trap."""
        return self._go(FAR, once=True)

    def _go(self, until: int, once: bool) -> Stop:
        state, m, decode, fetch, watch = self.state, self.domain, self._decode, self.space.fetch, self.watch
        pc, count, blocks, anywhere = state.pc, state.count, state.blocks, self._anywhere
        inline = callout = 0
        start = count
        boundary = not state.mid_block
        m.until = until
        try:
            while True:
                treat = _IDENT  # until it is known: a fetch may trap
                word = fetch(pc)
                decoded = decode(word)
                if decoded is None:
                    raise IllegalInstruction
                row, operands, length, _, treat, ends = decoded
                m.at = pc
                m.next = m.next_sequential = pc + length & MASK
                m.count = count
                row.body(m, operands)  # type: ignore[misc]
                count += 1
                if treat is not _IDENT:
                    if treat is _INLINE:
                        inline += 1
                    else:
                        callout += 1
                if watch is not None:
                    watch(pc, decoded)
                following = m.next
                boundary = ends or following >> 12 != pc >> 12
                pc = following
                if boundary:
                    blocks += 1
                    if count >= m.until:
                        return LIMIT
                if once or (anywhere and count >= until):
                    return LIMIT
        except IllegalInstruction as illegal:
            boundary = True  # entering a trap is one
            return Stop(True, illegal.cause or state.guest.illegal_cause, word)
        except Trap as trap:
            boundary = True
            if treat is _CALLOUT:  # a system call: executed, though what traps is not retired
                self.classes[_CALLOUT] += 1
                self.trapped += 1
            return Stop(True, trap.cause, trap.value)
        except MemoryFault as fault:
            boundary = True
            return Stop(True, state.guest.fault_causes[fault.access], fault.address)
        finally:
            state.pc, state.count, state.blocks, state.mid_block = pc, count, blocks, not boundary
            if inline or callout:
                self.classes[_INLINE] += inline
                self.classes[_CALLOUT] += callout
            if count != start:
                self.classes[_IDENT] += count - start - inline - callout


_IDENT, _INLINE, _CALLOUT = Treat.IDENT, Treat.INLINE, Treat.CALLOUT
