"""Tier 0: cold guest code runs at once, from stencils that native code decodes for, copies and fills (copy-and-patch).

Python is asked for a guest page's first execution, never for a block. A page that is open may be read by the copier;
what it makes is found through the page's table in the directory, and all jumps that leave a page go through it. So a
page is dropped by emptying its table, and code that it had stays as waste until everything is flushed.

The code is one memory that is mapped twice, to be written and to be executed, since making a mapping writable for each
batch would cost more than the batch. A forked child shares with its parent what was there, which neither writes any
more, and has memory of its own behind.
Owns: this memory, which pages are open. Must not know: what stencils are made of, when to promote.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import weakref
from collections.abc import Callable, Collection

from dbt.child import FAILURE
from dbt.code import Code
from dbt.native import FaultHandler
from dbt.state import (
    CODE,
    CODE_FAULTS,
    CODE_SIZE,
    CODE_USED,
    COUNTERS_MOST,
    COUNTERS_USED,
    EXIT,
    HEAD_OUT,
    HOT_AFTER,
    LEAVE_HERE,
    LIBRARY,
    NOT_MADE,
    OPEN,
    PAGES,
    SPACE_BITS,
    TABLE,
    TABLES,
    TABLES_MOST,
    TABLES_USED,
    WORK,
    WRITE,
    State,
)
from dbt.tier0.layout import head_at

PAGE_SHIFT = 12
SIZE = 32 << 20  # bytes of code
HEADROOM = 1 << 20  # bytes of code that a batch may take, with all that it needs out of line
WORK_SIZE = 1 << 20
START = 64  # offset of native functions, then of code
REFUSED = (1 << 31) - 1
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mremap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p)
_libc.mremap.restype = ctypes.c_void_p
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_libc.mprotect.argtypes = _libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64)
_libc.mmap.restype = ctypes.c_void_p
_MADV_DONTNEED, _MREMAP_MAYMOVE, _MREMAP_FIXED, _MAP_FIXED = 4, 1, 2, 0x10
_FAILED = (1 << 64) - 1


class Memory:
    """Code mapped twice, and its fault table; what `dbt.native.FaultHandler` serves."""

    def __init__(self, size: int) -> None:
        self.size, self.base = size, 0
        self._written = mmap.mmap(-1, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        self._table = mmap.mmap(-1, size * 2, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._table.madvise(mmap.MADV_HUGEPAGE)  # it is filled from its beginning on
        self.writes = ctypes.addressof(ctypes.c_char.from_buffer(self._written))
        self.table = ctypes.addressof(ctypes.c_char.from_buffer(self._table))
        self._execute()

    def __del__(self) -> None:
        if self.base:
            _libc.munmap(self.base, self.size)

    def _execute(self, kept: int = 0) -> None:
        """Map what is written once more, to be executed: at `base`, or anywhere the first time."""
        size = self.size - kept
        at = _map_again(self.writes + kept, size, self.base + kept if self.base else 0)
        self.base = self.base or at
        if _libc.mprotect(at, size, mmap.PROT_READ | mmap.PROT_EXEC):
            raise OSError(ctypes.get_errno(), "memory for code may not be executed")

    def own(self, kept: int) -> None:
        """Have other memory, of zeros, in the place of all behind the first `kept` bytes, which are whole pages."""
        size, flags = self.size - kept, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS | _MAP_FIXED
        if _libc.mmap(self.writes + kept, size, mmap.PROT_READ | mmap.PROT_WRITE, flags, -1, 0) in (None, _FAILED):
            raise OSError(ctypes.get_errno(), "mapping memory for code failed")
        self._execute(kept)

    def put(self, offset: int, data: bytes) -> None:
        self._written[offset : offset + len(data)] = data

    def forget_faults(self) -> None:
        _forget(self.table, self.size * 2)

    def bytes_at(self, address: int, length: int) -> bytes:
        """The code bytes at a host address, for dumps."""
        return self._written[address - self.base : address - self.base + length]


def _forget(address: int, size: int) -> None:
    """Make private memory of whole pages zero."""
    if _libc.madvise(address, size, _MADV_DONTNEED):
        raise OSError(ctypes.get_errno(), "giving memory back failed")


def _map_again(address: int, size: int, to: int) -> int:
    """The address of a second mapping of shared memory: `to`, or where there is room (mremap(2), of no old bytes)."""
    found = _libc.mremap(address, 0, size, _MREMAP_MAYMOVE | (_MREMAP_FIXED if to else 0), to)
    if found in (None, _FAILED):
        raise OSError(ctypes.get_errno(), "mapping memory for code failed")
    return int(found)


class Tier0:
    """The tier of one engine of a process. `library` are the stencils, `natives` the copier and what goes with it.

    `may_open` is asked before a guest page is read for the first time, and says which pages may be read from then on;
    `opened` is told of them, and `reaches_on` asked whether an instruction seems to begin in a page's last two
    bytes and to end in the next page.
    """

    def __init__(
        self, state: State, library: bytes, natives: Code, promote: int, may_open: Callable[[int], range],
        opened: Callable[[range], None], reaches_on: Callable[[int], bool],
    ) -> None:  # fmt: skip
        self._state = state
        self._words = words = state.words
        self._bytes = words.cast("B")
        self._narrow = self._bytes.cast("I")
        self._library = ctypes.create_string_buffer(library, len(library) + 64)
        self._work = mmap.mmap(-1, WORK_SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.memory = Memory(SIZE)
        self._may_open = may_open
        self._opened = opened
        self._reaches_on = reaches_on
        assert not natives.relocations
        self._natives = natives.text
        self._start = START + len(natives.text) + 15 & -16
        self.memory.put(START, natives.text)  # near the code, which jumps to it
        self._at = at = {name: self.memory.base + START + offset for name, (offset, _) in natives.functions.items()}
        self._missing = at["missing"]
        self._empty = self._missing.to_bytes(8, "little") * (TABLE // 8)
        self.dispatch = at["dispatch"]
        self._resume = at["resume"]
        self.through = at["through"]
        self._translate = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint64)(
            at["translate"]
        )
        words[LIBRARY] = ctypes.addressof(self._library)
        words[CODE], words[WRITE] = self.memory.base, self.memory.writes
        words[CODE_SIZE], words[CODE_FAULTS] = SIZE, self.memory.table
        words[HOT_AFTER] = promote
        words[NOT_MADE], words[HEAD_OUT], words[LEAVE_HERE] = self._missing, at["at_head"], at["leave_here"]
        words[WORK] = ctypes.addressof(ctypes.c_char.from_buffer(self._work))
        self._begin()  # another engine may have run in this state
        self._pages: set[int] = set()
        self._counter_at, self._cost_at = head_at(library, 1), head_at(library, 2)
        self._inside: dict[int, int] = {}  # what is no boundary: guest address -> host code
        self.forgetting: Callable[[int], None] | None = None  # told of each page whose code is about to go
        self.flushes = 0
        self._shared = False  # other processes execute what is in this memory
        handler = FaultHandler.one
        assert handler is not None
        self.close = handler.add(self.memory)
        _alive.add(self)

    # --- the run loop's side --------------------------------------------------------------------------

    def code(self, pc: int, inside: bool) -> int | None:
        """Host code to enter for a guest address; None if the page is not for tier 0."""
        page = pc >> PAGE_SHIFT
        if page not in self._pages and not self._open(page):
            return None
        if self._full:
            self.flush()
            return self.code(pc, inside)
        return self._inside_of(pc, pc) if inside else self.dispatch

    def _inside_of(self, key: int, pc: int) -> int | None:
        """Host code to enter for a guest address that is no boundary, and is known as `key`."""
        known = self._inside.get(key)
        if known is None:
            known = self._translate(self._state.address, pc, 1)
            if not known:
                return None
            self._inside[key] = known
        self._words[EXIT] = known
        return self._resume

    @property
    def _full(self) -> bool:
        words = self._words
        return (
            SIZE - words[CODE_USED] < HEADROOM
            or words[COUNTERS_USED] + 1024 > COUNTERS_MOST
            or words[TABLES_USED] + 1024 * TABLE >= TABLES_MOST * TABLE
        )

    def is_open(self, page: int) -> bool:
        """Whether the copier reads this guest page."""
        return page in self._pages

    def _open(self, page: int) -> bool:
        """Have the copier read this page and others that may be read as well, and the one after them if an instruction
        may reach into that.

        Of an instruction that begins in the last two bytes the copier makes a callout if it may not read the rest.
        """
        pages = range(0) if page >> SPACE_BITS - PAGE_SHIFT else self._may_open(page)
        if not pages:
            return False
        self._pages.update(pages)
        self._bytes[OPEN + pages.start : OPEN + pages.stop] = b"\1" * len(pages)
        if pages.stop not in self._pages and self._reaches_on(pages[-1]):
            self._open(pages.stop)
        self._opened(pages)
        return True

    # --- what becomes of guest code -------------------------------------------------------------------

    def drop(self, first: int, last: int) -> bool:
        """Forget the code of these guest pages; returns whether there was any."""
        numbers = range(first, last + 1)
        found = [p for p in (numbers if len(numbers) < len(self._pages) else list(self._pages)) if p in numbers]
        found = [p for p in found if p in self._pages]
        for page in found:
            # An instruction may begin at the end of the page before.
            for one in (page, page - 1):
                if one in self._pages:
                    self._pages.discard(one)
                    self._bytes[OPEN + one] = 0
                    if self.forgetting is not None:
                        self.forgetting(one)
                    self._clear(one)
        return bool(found)

    def flush(self) -> None:
        """Forget all code, and have all room again."""
        self._close_all()
        self.flushes += 1
        self._inside.clear()
        self._begin()
        self.memory.forget_faults()
        if self._shared:
            self._shared = False
            self.memory.own(0)
            self.memory.put(START, self._natives)

    def _begin(self) -> None:
        """There is no code, no page is open or has a table."""
        words = self._words
        _forget(self._state.address + OPEN, TABLES - OPEN + words[TABLES_USED])
        self._bytes[TABLES : TABLES + TABLE] = self._empty
        words[CODE_USED], words[COUNTERS_USED], words[TABLES_USED] = self._start, 0, TABLE
        self._counted: dict[int, int] = {}  # of counters that began anew: what is left and what has run add up to

    def _coded(self) -> Collection[int]:
        """Pages that there may be code for."""
        return self._pages

    def _close_all(self) -> None:
        """Know no page that is open."""
        if self.forgetting is not None:
            for page in self._pages:
                self.forgetting(page)
        self._pages.clear()

    def in_parent(self) -> None:
        """The code that is there is the child's too: it is not written any more, and new code is behind it."""
        self._shared = True

    def in_child(self) -> None:
        """Write into memory of its own, where the parent writes into its own. Without, it cannot live."""
        self._shared = True
        kept = self._words[CODE_USED] + (1 << PAGE_SHIFT) - 1 & -1 << PAGE_SHIFT
        try:
            self.memory.own(kept)
        except OSError:
            os.write(2, b"dragoman: there is no memory for the code of a new process, which ends\n")
            os._exit(FAILURE)
        self._words[CODE_USED] = kept

    def _new_table(self) -> int:
        """An empty one; its displacement."""
        table = self._words[TABLES_USED]
        self._words[TABLES_USED] = table + TABLE
        self._bytes[TABLES + table : TABLES + table + TABLE] = self._empty
        return table

    def _table(self, page: int) -> int:
        """Displacement of a page's table; 0 if it has none."""
        return self._narrow[(PAGES >> 2) + page] if page >> SPACE_BITS - PAGE_SHIFT == 0 else 0

    def _clear(self, page: int) -> None:
        table = self._table(page)
        if table:
            self._bytes[TABLES + table : TABLES + table + TABLE] = self._empty
        for pc in [pc for pc in self._inside if pc >> PAGE_SHIFT == page]:
            del self._inside[pc]

    def _entry(self, pc: int) -> int | None:
        """Index of the directory's word for a guest address."""
        table = self._table(pc >> PAGE_SHIFT)
        return (TABLES + table >> 3) + ((pc & 4095) >> 1) if table else None

    # --- promotion ------------------------------------------------------------------------------------

    def lead(self, pc: int, door: int) -> None:
        """Let jumps to this guest address go to `door`, the way from here into a translation.

        Direct jumps to a block that is there lead to its head still, which finds out when it is told to be hot.
        """
        if self.is_open(pc >> PAGE_SHIFT):
            self._count_down(pc, 0, self._words[HOT_AFTER])
            at = self._entry(pc)
            if at is None:
                if self._words[TABLES_USED] >= TABLES_MOST * TABLE:
                    return
                self._narrow[(PAGES >> 2) + (pc >> PAGE_SHIFT)] = self._new_table()
                at = self._entry(pc)
                assert at is not None
            self._words[at] = door

    def executions(self, pc: int) -> int:
        """How often the block there has run, or since its counter began again; 0 if there is none. A long block's
        executions count for more.
        """
        counter = self._counter(pc)
        if counter is None:
            return 0
        left = self._narrow[counter]
        if left >> 31:  # below zero: it has said that it is hot
            left = 0
        return self._counted.get(counter, self._words[HOT_AFTER]) - left

    def rest(self, pc: int) -> None:
        """Say no more that the block there is hot."""
        self.later(pc, REFUSED)

    def later(self, pc: int, more: int) -> None:
        """Say so once it has run so many times more."""
        more = min(more, REFUSED)
        self._count_down(pc, more, self.executions(pc) + more)

    def again(self, pc: int) -> None:
        """Forget how often it ran, and say so once it has run as often again."""
        left = min(self._words[HOT_AFTER], REFUSED)
        self._count_down(pc, left, left)

    def _count_down(self, pc: int, left: int, counted: int) -> None:
        """From now on the block has `left` to go, of `counted`: what it ran before is a part of that, or forgotten."""
        counter = self._counter(pc)
        if counter is not None:
            self._narrow[counter] = left
            self._counted[counter] = counted

    def _counter(self, pc: int) -> int | None:
        """Index of the counter of the block there."""
        head = self.head(pc)
        if head is None:
            return None
        return self._parameter(head, self._counter_at) >> 2

    def _parameter(self, head: int, at: int) -> int:
        return int.from_bytes(self.memory.bytes_at(head + at, 4), "little")

    # --- for people -------------------------------------------------------------------------------------

    def head(self, pc: int) -> int | None:
        """Host address of the block's code there, where jumps to it lead; None if there is none."""
        at = self._entry(pc)
        if at is None or not self._start <= self._words[at] - self.memory.base < SIZE:
            return None
        return self._words[at]

    def left(self, pc: int) -> int | None:
        """What is left of the count after which the block there says that it is hot; None if there is no such block."""
        counter = self._counter(pc)
        if counter is None:
            return None
        left = self._narrow[counter]
        return 0 if left >> 31 else left  # below zero: it has said so, and did not run

    def cost(self, pc: int) -> int:
        """What an execution of the block there counts for: 1, or more for a long one."""
        head = self.head(pc)
        return 1 if head is None else self._parameter(head, self._cost_at)

    def blocks(self, first: int = 0, last: int = 1 << 64 - PAGE_SHIFT) -> list[int]:
        """Guest addresses of the blocks that there is code for, in pages of these numbers."""
        places = (page << PAGE_SHIFT | at for page in sorted(self._coded()) if first <= page <= last
                  for at in range(0, 1 << PAGE_SHIFT, 2))  # fmt: skip
        return [pc for pc in places if self.head(pc) is not None]

    def unlead(self, pc: int, door: int) -> None:
        """Let them no longer."""
        at = self._entry(pc)
        if at is not None and self._words[at] == door:
            self._words[at] = self._missing


_alive: weakref.WeakSet[Tier0] = weakref.WeakSet()


def _forks(what: Callable[[Tier0], None]) -> None:
    for tier in list(_alive):
        what(tier)


os.register_at_fork(
    after_in_parent=lambda: _forks(Tier0.in_parent),
    after_in_child=lambda: _forks(Tier0.in_child),
)


def as_code(library: bytes) -> Code:
    """The stencils in the form that is kept on disk."""
    return Code(library, {}, (), (), len(library))
