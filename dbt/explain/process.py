"""A process, as an explanation asks for it: an address says which code is meant, and where its bytes are.

Owns: what of an explanation is a process's. Must not know: what is noted of a run, how anything is shown.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dbt.memory import EXEC, MemoryFault
from dbt.report import Symbols, symbols_of

if TYPE_CHECKING:
    from dbt.block import Key
    from dbt.lift import GuestCode
    from dbt.process import Process
    from dbt.regions import Request

Name = tuple[int, int]  # code by its guest address, and by the one that its bytes have: see `dbt.explain.hart`


class InProcess:
    """A process under the translating engine."""

    kind = "program"

    def __init__(self, process: Process) -> None:
        self.engine = process.engine
        self.guest = process.guest
        self._process = process
        self._space = process.space

    ways_out: tuple[tuple[Any, str, str], ...] = ()  # calls in which translations go, besides the cache's, and why

    @property
    def symbols(self) -> Symbols:
        return symbols_of(self._process)

    @property
    def position(self) -> tuple[int, int]:
        """What has been executed, and where the program is."""
        return self.engine.state.count, self.engine.state.pc

    @property
    def retired(self) -> dict[str, int]:
        """That by what executed it."""
        found: dict[str, int] = self.engine.retired
        return found

    # --- while it runs --------------------------------------------------------------------------------

    def here(self) -> Name:
        """The code that is next."""
        return self.named(self.engine.state.pc)

    def named(self, place: int) -> Name:
        """The code that tier 0 and translations know by this."""
        return place, place

    def listen(self, written: Callable[[int, int], None]) -> None:
        """Call it before anything else hears of a write to code: with its first byte, and behind its last."""
        self._space.watchers.insert(0, written)

    def depends(self, start: int, end: int) -> bool:
        """Whether stencils were copied for these bytes, or for others in their pages."""
        tier = self.engine.tier0
        pages = range(start >> 12, (end - 1 >> 12) + 1)
        return tier is not None and any(tier.blocks(page, page) for page in pages[:100_000])

    def writer(self) -> str:
        """Who writes now, if it is not the instruction at pc alone."""
        return ""

    # --- afterwards -----------------------------------------------------------------------------------

    def find(self, address: int, physical: bool) -> Name:
        """The code at a guest address."""
        return address, address

    def is_code(self, name: Name) -> bool:
        """Whether an instruction may begin there."""
        pc = name[0]
        if pc % self.guest.align or not 0 <= pc < self._space.size:
            return False
        try:
            self._space.fetch(pc)
        except MemoryFault:
            return False
        return bool((self._space.protection(pc) or 0) & EXEC)

    def place(self, name: Name) -> int | None:
        """What tier 0 and translations know it by; None if they do not."""
        return name[0]

    def request(self, name: Name) -> Request:
        """What a translation of it is to be made of."""
        return self.engine.request((name[0], True))

    def around(self, name: Name) -> GuestCode:
        """The guest's code in the page of this, as it is."""
        return self._space

    def code(self, request: Request) -> GuestCode:
        """The guest's code around a request, as it is."""
        return self._space

    def name(self, request: Request, pc: int) -> Name:
        """The code at a guest address, as the request's code sees it."""
        return pc, pc

    def key(self, request: Request, pc: int) -> Key:
        """The key of a guest address."""
        return pc, True

    def bounds(self, request: Request, pc: int) -> tuple[int, int] | None:
        """Addresses around one in which there may be code that leads there."""
        region = self._space.region_at(pc)
        return None if region is None else (region.start, region.end)

    def facts(self, request: Request) -> dict[str, Any]:
        """What there is to say of where a request's entry is."""
        return {}

    def devices(self, name: Name) -> list[dict[str, Any]]:
        """Accesses of the instruction there to devices."""
        return []
