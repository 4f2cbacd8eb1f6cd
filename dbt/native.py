"""The few functions of host code that are not translations: the way in, the way out, the fault handler.

    enter(state, code)   C calling convention: loads the budget, pinned registers and the floating-point
                         environment from the CPU state, calls translated code, and on return merges the
                         host's floating-point flags and restores the host's environment
    leave                where translated code goes to return to the run loop
    handler              the process's SIGSEGV and SIGBUS action: a fault of a guest access resumes at its
                         landing; any other fault is given back to whoever handled the signal before, and a
                         signal that was sent, which is no fault, is theirs while ours stays

Their texts are compiled once and their code may be kept: what is where in this process comes in by relocation.
Owns: these functions and the signal action. Must not know: guests, blocks, what exits mean, who compiles.
"""

from __future__ import annotations

import ctypes
import gc
import mmap
import signal
import weakref
from collections.abc import Callable
from typing import Protocol

from dbt.arena import Arena
from dbt.code import Code
from dbt.hosts import x86_64
from dbt.state import BUDGET, EXIT, MEMORY
from ir.llvm import Target, flag_lines, rounding_code
from ir.llvm.lines import Lines

_libc = ctypes.CDLL(None, use_errno=True)
ARENAS = 256  # arenas alive at once in a process
RESTORE = ARENAS * 24  # after them: the addresses of the C library's sigaction and raise
PREVIOUS = RESTORE + 64  # then struct sigaction of SIGSEGV, and of SIGBUS


class Served(Protocol):
    """Memory with code in which guest accesses may fault: its address, its size, and the address of its fault table."""

    base: int
    size: int
    table: int


class _Text(Lines):
    """What the functions here are made of."""

    def field(self, offset: int) -> str:
        return self.let(f"getelementptr i8, ptr %s, i64 {offset}", "a")

    def load(self, offset: int, kind: str = "i64") -> str:
        return self.let(f"load {kind}, ptr {self.field(offset)}")

    def store(self, value: str, offset: int) -> None:
        self.put(f"store i64 {value}, ptr {self.field(offset)}")


def runtime_text(target: Target, flags: int) -> str:
    """The module of `enter` and `leave`. `flags` is the byte offset of the guest's accrued flags."""
    host = target.host
    pinned = [f"%p{i}" for i in range(len(target.pinned))]
    t = _Text()
    t.put("%saved = alloca i32")
    t.put("%now = alloca i32")
    t.put(f"call void @{host.read_control}(ptr %saved)")
    code = rounding_code(host, t.load(target.rounding_slot), t.let)
    t.put(f"store i32 {t.let(f'or i32 {code}, {host.control}')}, ptr %now")
    t.put(f"call void @{host.write_control}(ptr %now)")
    values = [f"i64 {t.load(target.slot(slot))}" for slot in target.pinned]
    arguments = ", ".join([f"ptr {t.load(8 * MEMORY, 'ptr')}", "ptr %s", f"i64 {t.load(8 * BUDGET)}", "i64 0", *values])
    t.put(f"call preserve_nonecc void %code({arguments})")
    t.put(f"call void @{host.read_control}(ptr %now)")
    control = t.let(f"zext i32 {t.let('load i32, ptr %now')} to i64")
    total = t.let(f"or i64 {t.load(flags)}, {t.load(target.soft_flags)}")
    for part in flag_lines(host, control, t.let):
        total = t.let(f"or i64 {total}, {part}")
    t.store(total, flags)
    t.store("0", target.soft_flags)
    t.put(f"call void @{host.write_control}(ptr %saved)")
    t.put("ret void")
    leave = _Text()
    leave.store("%t", 8 * BUDGET)
    leave.store("%via", 8 * EXIT)
    for slot, name in zip(target.pinned, pinned):
        leave.store(name, target.slot(slot))
    leave.put("ret void")
    parameters = "".join(f", i64 {p}" for p in pinned)
    return "\n".join([
        f'target triple = "{host.triple}"',
        f"declare void @{host.read_control}(ptr)", f"declare void @{host.write_control}(ptr)",
        "define void @enter(ptr %s, ptr %code) nounwind {", *t.lines, "}",
        f"define preserve_nonecc void @leave(ptr %m, ptr %s, i64 %t, i64 %via{parameters}) nounwind {{",
        *leave.lines, "}", "",
    ])  # fmt: skip


class Runtime:
    """`enter` and `leave` placed in an arena."""

    def __init__(self, code: Code, arena: Arena) -> None:
        at = arena.place(code, _no_symbols)
        self.leave = at + code.functions["leave"][0]
        prototype = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)
        self.enter: Callable[[int, int], None] = prototype(at + code.functions["enter"][0])


def _no_symbols(name: str) -> int:
    raise KeyError(name)


def handler_text(triple: str) -> str:
    """The module of `handler`. `rows` is the address of the arenas served, below 2 GiB (see `FaultHandler`)."""
    return f"""target triple = "{triple}"
define void @handler(i32 %signal, ptr %info, ptr %context) nounwind {{
entry:
  %rows = call ptr asm "{x86_64.ADDRESS % 'rows'}", "=r"()
  %at = getelementptr i8, ptr %context, i64 {x86_64.UCONTEXT_PC}
  %pc = load i64, ptr %at
  br label %loop
loop:
  %i = phi i64 [0, %entry], [%next, %again]
  %end = icmp eq i64 %i, {ARENAS * 24}
  br i1 %end, label %other, label %look
look:
  %p0 = getelementptr i8, ptr %rows, i64 %i
  %base = load i64, ptr %p0
  %p1 = getelementptr i8, ptr %p0, i64 8
  %size = load i64, ptr %p1
  %offset = sub i64 %pc, %base
  %inside = icmp ult i64 %offset, %size
  br i1 %inside, label %known, label %again
again:
  %next = add i64 %i, 24
  br label %loop
known:
  %p2 = getelementptr i8, ptr %p0, i64 16
  %table = load ptr, ptr %p2
  %index = lshr i64 %offset, 1
  %entryp = getelementptr i32, ptr %table, i64 %index
  %landing = load i32, ptr %entryp
  %none = icmp eq i32 %landing, 0
  br i1 %none, label %other, label %resume
resume:
  %wide = zext i32 %landing to i64
  %to = add i64 %base, %wide
  store i64 %to, ptr %at
  ret void
other:
  %bus = icmp eq i32 %signal, {signal.SIGBUS}
  %skip = select i1 %bus, i64 {PREVIOUS + x86_64.SIGACTION[3]}, i64 {PREVIOUS}
  %oldp = getelementptr i8, ptr %rows, i64 %skip
  %codep = getelementptr i8, ptr %info, i64 {x86_64.SI_CODE}
  %code = load i32, ptr %codep
  %sent = icmp sle i32 %code, 0
  br i1 %sent, label %asked, label %give
asked:
  %old = load ptr, ptr %oldp
  %which = ptrtoint ptr %old to i64
  switch i64 %which, label %theirs [ i64 0, label %give  i64 1, label %done ]
theirs:
  call void %old(i32 %signal, ptr %info, ptr %context)
  ret void
give:
  %fp = getelementptr i8, ptr %rows, i64 {RESTORE}
  %f = load ptr, ptr %fp
  %r = call i32 %f(i32 %signal, ptr %oldp, ptr null)
  br i1 %sent, label %once_more, label %done
once_more:
  %raisep = getelementptr i8, ptr %rows, i64 {RESTORE + 8}
  %raise = load ptr, ptr %raisep
  %r2 = call i32 %raise(i32 %signal)
  br label %done
done:
  ret void
}}
"""


class FaultHandler:
    """The process-wide signal action. It is one a process because signal actions are."""

    one: FaultHandler | None = None

    @classmethod
    def get(cls, code: Code) -> FaultHandler:
        """The process's handler, made at the first call of what `handler_text` was compiled to."""
        if cls.one is None:
            cls.one = cls(code)
        return cls.one

    def __init__(self, code: Code) -> None:
        self.code = code
        self._data = mmap.mmap(-1, 8192, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | x86_64.MAP_LOW)
        self._words = memoryview(self._data).cast("Q")
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(self._data))
        self._words[RESTORE >> 3] = ctypes.cast(_libc.sigaction, ctypes.c_void_p).value or 0
        self._words[(RESTORE >> 3) + 1] = ctypes.cast(_libc["raise"], ctypes.c_void_p).value or 0
        self._previous = self._address + PREVIOUS
        self._arena = Arena(1 << 16)
        self._handler = self._arena.place(code, {"rows": self._address}.__getitem__) + code.functions["handler"][0]

    def add(self, arena: Served) -> Callable[[], object]:
        """Serve an arena; returns what ends that. An arena that is forgotten ends it too, before its memory is free."""
        row = self._free()
        if row is None:
            gc.collect()  # translators that nobody has any more refer to themselves
            row = self._free()
        if row is None:
            raise RuntimeError(f"more than {ARENAS} translators are alive in this process")
        self._words[3 * row] = arena.base
        self._words[3 * row + 2] = arena.table
        self._words[3 * row + 1] = arena.size
        ending = weakref.finalize(arena, self._remove, row)
        ending.atexit = False
        return ending

    def _free(self) -> int | None:
        return next((row for row in range(ARENAS) if not self._words[3 * row + 1]), None)

    def _remove(self, row: int) -> None:
        self._words[3 * row + 1] = 0

    def install(self) -> None:
        """Make sure that the signals are ours; whoever had them is asked for the faults that are not."""
        handler, mask, flags, size = x86_64.SIGACTION
        for number, previous in ((signal.SIGSEGV, self._previous), (signal.SIGBUS, self._previous + size)):
            current = ctypes.create_string_buffer(size)
            _libc.sigaction(number, None, current)
            if int.from_bytes(current.raw[handler : handler + 8], "little") == self._handler:
                continue
            ctypes.memmove(previous, current, size)
            ours = bytearray(size)
            ours[handler : handler + 8] = self._handler.to_bytes(8, "little")
            ours[flags : flags + 4] = (0x4 | 0x08000000 | 0x40000000).to_bytes(4, "little")  # SIGINFO, ONSTACK, NODEFER
            _libc.sigaction(number, bytes(ours), None)
