"""A hart of a machine, as an explanation asks for it: code is known by its guest address and its physical one.

The same address is other code in another process of the guest, and the same bytes may be executed at two addresses, by
whom and in which mode. So a hart's context is looked at whenever Python is about to have something executed.
Owns: what of an explanation is a machine's, accesses of devices among it. Must not know: page tables, how anything is
shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dbt.explain.process import Name
from dbt.machine.engine import MachineTranslated, Pages
from dbt.machine.memory import PAGE_SHIFT
from dbt.regions import Bytes, Request, single
from guests.spec import Absent, Trap

if TYPE_CHECKING:
    from dbt.block import Key
    from dbt.lift import GuestCode
    from dbt.machine.boards import Board
    from dbt.machine.memory import Device, Memory
    from dbt.machine.vm import Vcpu
    from dbt.regions import Home
    from dbt.report import Symbols

PAGE = 1 << PAGE_SHIFT
ADDRESSES = (1 << 64) - 1


class Devices:
    """What of a machine is noted for all harts: accesses of devices by instruction, and who writes to memory."""

    def __init__(self, board: Board) -> None:
        self.accesses: Counter[tuple[Name, str, str]] = Counter()
        self.of: dict[Vcpu, OnHart] = {}
        self.writer = ""
        self._board = board
        memory: Any = board.vm.memory
        memory.accessed.append(self._accessed)
        for _, device in memory.devices:
            device.write = self._as(device.name, device.write)
        memory.poke = self._as("the machine", memory.poke)

    def _as(self, who: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def within(*arguments: Any) -> Any:
            before = self.writer
            self.writer = before or who
            try:
                return call(*arguments)
            finally:
                self.writer = before

        return within

    def _accessed(self, device: Device, written: bool, address: int, size: int, value: int) -> None:
        vcpu = self._board.vm.turn
        self.accesses[self.of[vcpu].at(vcpu.engine.domain.at), device.name, "write" if written else "read"] += 1


class OnHart:
    """A hart under the translating engine, of a machine that has not run yet."""

    kind = "machine"
    engine: MachineTranslated

    def __init__(self, board: Board, vcpu: Vcpu, devices: Devices, symbols: Symbols) -> None:
        assert isinstance(vcpu.engine, MachineTranslated)
        self.engine = vcpu.engine
        self.guest = board.guest
        self.symbols = symbols
        self.modes: Counter[tuple[Name, int]] = Counter()  # (page, mode): times that Python saw it there
        self._board = board
        self._vcpu = vcpu
        self._devices = devices
        self._memory = board.vm.memory
        self._last: Name = (0, 0)
        self._around: _Around | None = None
        devices.of[vcpu] = self
        self.ways_out = (
            (self.engine, "given_up", "its page of memory was written: its code, or what is beside it, time and again"),
        )

    @property
    def position(self) -> tuple[int, int]:
        """What the machine has executed, on all harts, and where the one is that runs."""
        return self._board.vm.clock.retired, self._board.vm.turn.state.pc

    @property
    def retired(self) -> dict[str, int]:
        """That by what executed it."""
        found: Counter[str] = Counter()
        for vcpu in self._board.vcpus:
            assert isinstance(vcpu.engine, MachineTranslated)
            found.update(vcpu.engine.retired)
        return dict(found)

    # --- while it runs --------------------------------------------------------------------------------

    def here(self) -> Name:
        """The code that is next. It is looked for as its fetch will do."""
        self._last = self._seen(self.engine.state.pc)
        self.modes[_page(self._last), self._vcpu.mode] += 1
        return self._last

    def at(self, pc: int) -> Name:
        """The code of an instruction behind the one that was next."""
        page, place = self._last
        return (pc, place & -PAGE | pc & PAGE - 1) if pc & -PAGE == page & -PAGE else self._seen(pc)

    def _seen(self, pc: int) -> Name:
        number = self.engine.space.code_page(pc)
        if number is not None:
            return pc, number << PAGE_SHIFT | pc & PAGE - 1
        try:
            return pc, self.engine.space.mmu.translate(pc, 2, "fetch")
        except Trap:  # which its fetch will meet
            return pc, ADDRESSES

    def named(self, place: int) -> Name:
        """The code that tier 0 and translations know by this."""
        pair = None if self.engine.tier0 is None else self.engine.tier0.pair(place)
        if pair is None:
            return place, ADDRESSES
        return pair[0] << PAGE_SHIFT | place & PAGE - 1, pair[1] << PAGE_SHIFT | place & PAGE - 1

    def listen(self, written: Callable[[int, int], None]) -> None:
        """Call it before anything else hears of a write to code: with its first byte, and behind its last."""

        def heard(start: int, end: int) -> bool:
            written(start, end)
            return False

        self._memory.watchers.insert(0, heard)

    def depends(self, start: int, end: int) -> bool:
        """Whether stencils were copied for these bytes."""
        return self.engine.tier0 is not None and self.engine.tier0.depends(start, end)

    def writer(self) -> str:
        """Who writes now: a hart, or a device."""
        if self._devices.writer:
            return self._devices.writer
        vcpu = self._board.vm.turn
        return f"hart {vcpu.number} in {vcpu.privileged.inspection.modes[vcpu.mode]}-mode"

    # --- afterwards -----------------------------------------------------------------------------------

    def find(self, address: int, physical: bool) -> Name:
        """The code at a guest address, or at a physical one: where it was executed most often; else where it leads now.
        """
        column = 1 if physical else 0
        seen: Counter[Name] = Counter()
        for (page, _), times in self.modes.items():
            if page[column] == address & -PAGE and page[1] != ADDRESSES & -PAGE:
                seen[page] += times
        if seen:
            page = max(seen, key=lambda page: seen[page])
            return page[0] | address & PAGE - 1, page[1] | address & PAGE - 1
        return (address, address) if physical else self._leads(address)

    def _leads(self, address: int) -> Name:
        """Where an address leads in the hart's page tables, whatever it may do there."""
        vcpu, peek = self._vcpu, self._memory.peek
        try:
            found = vcpu.privileged.inspection.physical(
                vcpu.state.slots, lambda at: int.from_bytes(peek(at, 8), "little"), address)  # fmt: skip
        except Absent:
            found = None
        return address, ADDRESSES if found is None else found

    def is_code(self, name: Name) -> bool:
        """Whether an instruction may begin there."""
        return name[1] % self.guest.align == 0 and self._memory.is_ram(name[1], 2)

    def place(self, name: Name) -> int | None:
        """What tier 0 and translations know it by; None if they do not."""
        if self.engine.tier0 is None:
            return None
        base = self.engine.tier0.known(name[0] >> PAGE_SHIFT, name[1] >> PAGE_SHIFT)
        return None if base is None else base | name[0] & PAGE - 1

    def request(self, name: Name) -> Request:
        """What a translation of it is to be made of; of a page that tier 0 does not know, a block."""
        place = self.place(name)
        if place is not None:
            return self.engine.request((place, True))
        pc = name[0]
        made = single(self.engine.translator.lifter_of(self.around(name)), (pc, True))
        return made._replace(homes={pc >> PAGE_SHIFT: (0, name[1] - pc, 0)})

    def around(self, name: Name) -> GuestCode:
        """The guest's code in the page of this, as it is."""
        return Bytes(((name[0] & -PAGE, self._memory.peek(name[1] & -PAGE, PAGE)),))

    def code(self, request: Request) -> GuestCode:
        """The guest's code around a request, as it is: of its pages, of others that the hart's context knows if it is
        there, and of those that were seen in one place only, as a kernel's are.
        """
        return self._pages(request)

    def _pages(self, request: Request) -> _Around:
        if self._around is None or self._around.request is not request:
            self._around = _Around(self, self._memory, request)
        return self._around

    def only(self, page: int) -> Home | None:
        """Where a page of addresses is, if it was seen in one place only."""
        found = {each[1] for each, _ in self.modes if each[0] >> PAGE_SHIFT == page}
        if len(found) != 1 or ADDRESSES & -PAGE in found:
            return None
        (at,) = found
        place = self.place((page << PAGE_SHIFT, at))
        return (0 if place is None else place - (page << PAGE_SHIFT), at - (page << PAGE_SHIFT), 0)

    def name(self, request: Request, pc: int) -> Name:
        """The code at a guest address, as the request's code sees it."""
        home = request.homes.get(pc >> PAGE_SHIFT) or self._pages(request).home(pc)
        return pc, ADDRESSES if home is None else pc + home[1]

    def key(self, request: Request, pc: int) -> Key:
        """The key of a guest address."""
        home = request.homes.get(pc >> PAGE_SHIFT) or self._pages(request).home(pc)
        return (pc if home is None else pc + home[0]), True

    def bounds(self, request: Request, pc: int) -> tuple[int, int] | None:
        """Addresses around one in which there may be code that leads there."""
        return 0, ADDRESSES

    def facts(self, request: Request) -> dict[str, Any]:
        """What there is to say of where a request's entry is."""
        pc, physical = self.name(request, request.blocks[0][0])
        names = self._vcpu.privileged.inspection.modes
        page = _page((pc, physical))
        elsewhere = {each for each, _ in self.modes if page[0] == each[0] or page[1] == each[1]} - {page}
        return {
            "hart": self._vcpu.number, "physical": physical,
            "modes": {names[mode]: times for (each, mode), times in sorted(self.modes.items()) if each == page},
            "elsewhere": [{"address": each[0] | pc & PAGE - 1, "physical": each[1] | pc & PAGE - 1}
                          for each in sorted(elsewhere)],
        }  # fmt: skip

    def devices(self, name: Name) -> list[dict[str, Any]]:
        """Accesses of the instruction there to devices."""
        found: dict[str, dict[str, Any]] = {}
        for (where, device, kind), times in self._devices.accesses.items():
            if where == name:
                row = found.setdefault(device, {"device": device, "read": 0, "write": 0})
                row[kind] += times
        return list(found.values())


class _Around(Pages):
    """The pages of addresses around a request."""

    def __init__(self, where: OnHart, memory: Memory, request: Request) -> None:
        page = request.blocks[0][0] >> PAGE_SHIFT
        super().__init__(where.engine, memory, page, request.homes[page])
        self.request = request
        self.homes.update(request.homes)
        self._where = where
        self._only: dict[int, Home | None] = {}

    def home(self, pc: int) -> Home | None:
        found = super().home(pc)
        page = pc >> PAGE_SHIFT
        if found is None and page not in self._only:
            self._only[page] = self._where.only(page)
        return found or self._only[page]


def _page(name: Name) -> Name:
    return name[0] & -PAGE & ADDRESSES, name[1] & -PAGE & ADDRESSES
