"""Shadow page tables: from a guest's virtual addresses to the machine's physical ones, for a guest without a mode of
its own. They are made of the guest's tables and of where its monitor has put its memory.

Each of the guest's contexts has tables of its own: its tables (satp), its mode, and what of sstatus says who may access
what. All leaves are of user mode, since the guest's supervisor runs there as well; what only that may access is in
tables of its contexts alone. A leaf may be stored to when the guest's own has its dirty bit, and is there when that has
its accessed bit: so the first use of each is a fault, at which the guest's entry is marked as its hart would have done.

Owns: which leaf there is for a guest's page, and which are forgotten at a fence. Must not know: traps, exits, the form
of tables (`guests.riscv.tables`), the guest's walk (`guests.riscv.mmu`).
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

from guests.riscv import inspection
from guests.riscv import privileged as p
from guests.riscv.mmu import FETCH, LOAD, PAGE, PHYSICAL_BITS, STORE, Mmu, R, U, W, X
from guests.riscv.tables import LARGEST, Full, Tables, leaf, rights
from guests.spec import Absent, Mapped, Trap

SIZE = 32 << 20  # bytes of tables; when they are used up, all are made anew
Key = tuple[int, ...]
BARE: Key = (0,)  # without tables: what the guest was granted is mapped at once


class Piece(NamedTuple):
    """Guest physical memory that is in one piece in the machine's; `single`: its pages are mapped one by one."""

    gpa: int
    size: int
    physical: int
    writable: bool
    single: bool

    def part(self, start: int, end: int) -> Piece:
        """That from one guest physical address to another."""
        return self._replace(gpa=start, size=end - start, physical=self.physical + start - self.gpa)


class Memory(Protocol):
    """Guest physical memory. Addresses at which there is none raise Absent."""

    def read(self, gpa: int) -> int:
        """A doubleword of a table."""

    def write(self, gpa: int, value: int) -> None: ...

    def pieces(self, gpa: int, size: int) -> Iterator[Piece]:
        """The runs of memory that the guest was granted which have any of these addresses."""


class View:
    """What a guest's own tables say on one hart, whose state has the guest's registers in `slots`."""

    def __init__(self, slots: Any, memory: Memory) -> None:
        self._slots = slots
        self._memory = memory
        self._walk = Mmu(slots, memory.read, memory.write)
        self._look = Mmu(slots, memory.read, _refuse)

    @property
    def key(self) -> Key:
        """The context in which the guest is."""
        s = self._slots
        satp, mode = s[p.SATP], s[p.PRIVILEGE]
        if not satp >> 60:
            return BARE
        return satp, mode, s[p.MSTATUS] & (p.MXR | (p.SUM if mode == p.SUPERVISOR else 0))

    def walk(self, address: int, access: str) -> int:
        """Where an access goes, by guest physical address; its entry is marked. Raises Trap."""
        return self._walk.translate(address, 1, access)

    def leaf(self, address: int) -> tuple[int, int, set[str]]:
        """Where an address leads, how many bytes around it go the same way, and accesses that would mark nothing."""
        found, gpa, span = set(), 0, 0
        for access in (LOAD, STORE, FETCH):
            try:
                gpa = self._look.translate(address, 1, access)
            except Trap:
                continue
            span = self._look.span
            found.add(access)
        return gpa, span, found

    def leaves(self) -> Iterator[Mapped]:
        """All that is mapped. Without tables nothing is."""
        return inspection.mappings(self._slots, self._memory.read) or iter(())


class Shadow:
    """The shadow tables of a virtual machine, which lie at this physical address.

    `changed` is called when an entry that a hart may have read is another one. `eager`: the tables of a context are
    made as a whole, and again at each fence; else page by page, as they are used.
    """

    def __init__(self, base: int, memory: Memory, eager: bool, changed: Callable[[], None]) -> None:
        self.tables = Tables(base, mmap.mmap(-1, SIZE))
        self.rebuilds = 0  # times that tables of a context were begun
        self._memory = memory
        self._eager = eager
        self._changed = changed
        self._roots: dict[Key, int] = {}

    def satp(self, view: View) -> int:
        """The tables of the context in which the guest is."""
        return self.tables.register(self._root(view))

    def fill(self, view: View, address: int) -> bool:
        """Have the leaf of an address be what the guest's own says; False where the guest has no memory there."""
        gpa, span, accesses = view.leaf(address)
        piece = next(self._memory.pieces(gpa, 1), None) if accesses else None
        if piece is None:
            return False
        size = PAGE
        while not piece.single and size < 1 << LARGEST and size << 9 <= span and (
            piece.gpa <= gpa & -(size << 9) and (gpa & -(size << 9)) + (size << 9) <= piece.gpa + piece.size
        ):
            size <<= 9
        block = piece.part(gpa & -size, (gpa & -size) + size)
        self._retrying(lambda: self._map(self._root(view), address & -size, block, accesses))
        return True

    def fence(self, address: int | None, asid: int | None) -> None:
        """Forget what was made of the guest's entries: of one page or all, of the tables with one number or all."""
        if address is None and asid is None:
            self.clear()
            return
        for key in list(self._roots):
            if asid is not None and key[0] >> 44 & 0xFFFF != asid:
                continue
            if address is None:
                del self._roots[key]  # its tables lie unused until all are made anew
            else:
                self._forget(self._roots[key], address)
        self._changed()

    def clear(self) -> None:
        """Forget all."""
        self._changed()
        self._roots.clear()
        self.tables.clear()

    def leaves(self, view: View) -> Iterator[Mapped]:
        """What the tables of the context say, in the order of addresses."""
        root = self._roots.get(view.key)
        if root is None:
            return iter(())
        read = lambda at: int(struct.unpack_from("<Q", self.tables.content, at - self.tables.base)[0])
        return inspection.leaves(read, self.tables.register(root)) or iter(())

    def _root(self, view: View) -> int:
        key = view.key
        if key not in self._roots:
            self._retrying(lambda: self._begin(key, view))
        return self._roots[key]

    def _begin(self, key: Key, view: View) -> None:
        self._roots[key] = root = self.tables.root()
        self.rebuilds += 1
        if key == BARE:
            for piece in self._memory.pieces(0, 1 << PHYSICAL_BITS):
                if not piece.single:
                    self._map(root, piece.gpa, piece, {LOAD, STORE, FETCH})
            return
        for address, _, size, _ in view.leaves() if self._eager else ():
            if self.tables.used > SIZE // 2:
                break  # the others are made when they are used
            gpa, span, accesses = view.leaf(address)
            for piece in self._memory.pieces(gpa, min(size, span)) if accesses else ():
                part = piece.part(max(gpa, piece.gpa), min(gpa + size, piece.gpa + piece.size))
                self._map(root, address + part.gpa - gpa & p.ALL, part, accesses)

    def _map(self, root: int, address: int, piece: Piece, accesses: set[str]) -> None:
        bits = U | rights(LOAD in accesses, STORE in accesses and piece.writable, FETCH in accesses)
        old = [entry for _, _, entry in self.tables.path(root, address) if entry & (R | X)]
        self.tables.map(root, address, piece.physical, piece.size, bits, piece.single)
        if old and (old[0] ^ leaf(piece.physical, bits)) & ~W:  # more than that it may be stored to now
            self._changed()

    def _retrying(self, make: Callable[[], None]) -> None:
        """Do what needs tables; with none but its own, where there is no room for more."""
        try:
            make()
        except Full:
            self.clear()
            make()

    def _forget(self, root: int, address: int) -> None:
        for _, at, entry in self.tables.path(root, address):
            if entry & (R | X):
                struct.pack_into("<Q", self.tables.content, at, 0)
                return


def _refuse(at: int, value: int) -> None:
    """Nobody may mark an entry who only looks."""
    raise Absent(at)
