"""PLIC: interrupts of devices, for the machine mode and the supervisor mode of each hart (RISC-V PLIC specification).

Owns: priorities, enables, thresholds, and which source is claimed. Must not know: devices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

SOURCES = 96  # source 0 is none
LINES = ("external", "supervisor external")  # of the contexts of a hart: machine mode first, then supervisor mode
PRIORITY, PENDING, ENABLE, CONTEXT = 0, 0x1000, 0x2000, 0x20_0000
HIGHEST = 7  # priorities, and thresholds
BITS = (1 << SOURCES) - 2


class Plic:
    """Sources are levels. `lines`, one for each hart, raise and lower its lines.

    A source whose level stays up is pending again when its device says so again, not when it has been served: a gateway
    of the specification would ask again at once. QEMU's board does as this one, and drivers that leave an interrupt of
    the UART standing, as xv6's does, work there.
    """

    name = "plic"
    size = 0x60_0000

    def __init__(self, lines: Sequence[Callable[[str, bool], None]]) -> None:
        self._lines = [(set_line, name) for set_line in lines for name in LINES]  # by context
        self._pending = 0
        self._claimed = 0
        self._priorities = [0] * SOURCES
        self._enabled = [0] * len(self._lines)
        self._thresholds = [0] * len(self._lines)

    def raise_source(self, source: int, level: bool) -> None:
        """What a device says of its line, whether that is new or not; while it is being served the source waits."""
        bit = 1 << source
        self._pending = self._pending | bit if level else self._pending & ~bit
        self._update()

    def sources(self) -> Iterator[tuple[int, int, bool, bool, str]]:
        """The sources that are enabled or pending: number, priority, pending, being served, contexts that enable it."""
        for source in range(1, SOURCES):
            bit = 1 << source
            contexts = " ".join(str(i) for i, enabled in enumerate(self._enabled) if enabled & bit)
            if contexts or self._pending & bit:
                yield source, self._priorities[source], bool(self._pending & bit), bool(self._claimed & bit), contexts

    def read(self, offset: int, size: int) -> int:
        if size != 4:
            return 0
        if offset < PRIORITY + 4 * SOURCES:
            return self._priorities[offset // 4]
        if PENDING <= offset < PENDING + SOURCES // 8:
            return self._pending >> 8 * (offset - PENDING) & 0xFFFF_FFFF
        context, where = self._enable(offset)
        if context is not None:
            return self._enabled[context] >> 8 * where & 0xFFFF_FFFF
        context, where = self._context(offset)
        if context is None:
            return 0
        return self._thresholds[context] if where == 0 else self._claim(context) if where == 4 else 0

    def write(self, offset: int, size: int, value: int) -> None:
        if size != 4:
            return
        if 4 <= offset < PRIORITY + 4 * SOURCES:
            self._priorities[offset // 4] = value & HIGHEST
        context, where = self._enable(offset)
        if context is not None:
            mask = 0xFFFF_FFFF << 8 * where
            self._enabled[context] = (self._enabled[context] & ~mask | value << 8 * where) & BITS
        context, where = self._context(offset)
        if context is not None and where == 0:
            self._thresholds[context] = value & HIGHEST
        elif context is not None and where == 4:
            self._complete(context, value)
        self._update()

    def _enable(self, offset: int) -> tuple[int | None, int]:
        """The context whose enable bits these are, and the byte of them."""
        context, where = divmod(offset - ENABLE, 0x80)
        return (context if 0 <= context < len(self._lines) and where < SOURCES // 8 else None), where

    def _context(self, offset: int) -> tuple[int | None, int]:
        """The context whose threshold and claim register these are, and which."""
        context, where = divmod(offset - CONTEXT, 0x1000)
        return (context if 0 <= context < len(self._lines) else None), where

    def _best(self, context: int) -> int:
        """The source to serve next, or 0: the highest priority, and of equals the lowest number."""
        best, found = self._thresholds[context], 0
        ready = self._pending & ~self._claimed & self._enabled[context]
        while ready:
            source = (ready & -ready).bit_length() - 1
            ready &= ready - 1
            if self._priorities[source] > best:
                best, found = self._priorities[source], source
        return found

    def _claim(self, context: int) -> int:
        source = self._best(context)
        if source:
            self._pending &= ~(1 << source)
            self._claimed |= 1 << source
            self._update()
        return source

    def _complete(self, context: int, source: int) -> None:
        bit = 1 << source if source < SOURCES else 0
        if bit & self._enabled[context]:
            self._claimed &= ~bit

    def _update(self) -> None:
        for context, (set_line, name) in enumerate(self._lines):
            set_line(name, bool(self._best(context)))
