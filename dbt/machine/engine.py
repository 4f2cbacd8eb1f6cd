"""The translating engine of a hart: the run loop is that of a process, what code is made from is a machine's memory.

Owns: the difference. Must not know: page tables, devices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from dbt.block import Key, Translation
from dbt.cache import TranslationCache
from dbt.engine import Translated
from dbt.hosts import select
from dbt.machine.memory import PAGE_SHIFT, Memory
from dbt.machine.space import HartSpace
from dbt.options import Options
from dbt.state import MADE_BLOCKS, MADE_INSTRUCTIONS, State
from guests.spec import Decoded
from ir.records import replace

if TYPE_CHECKING:
    from random import Random

    from dbt.code import Code
    from dbt.tier0 import Tier0


class MachineCoherence:
    """Keeps code true to the memory of a machine: what depends on a byte that is written goes, by whomever."""

    def __init__(self, memory: Memory, cache: TranslationCache) -> None:
        self.writes = 0  # writes seen to pages that code was made from
        self.changed: Callable[[int, int], bool] = lambda start, end: False  # told of them; is there other code there?
        self._memory = memory
        memory.watchers.append(self._written)

    def close(self) -> None:
        """Look no longer."""
        if self._written in self._memory.watchers:
            self._memory.watchers.remove(self._written)

    def copied(self, page: int) -> None:
        """Tier 0 copies from a page of RAM; from now on it is looked after."""
        self._memory.watch(page << PAGE_SHIFT, page + 1 << PAGE_SHIFT)

    def patience(self, pc: int) -> int:
        """Code is made anew as often as it is written."""
        return 1

    def fence(self) -> None:
        """All writes are seen when they are made."""

    def _written(self, start: int, end: int) -> bool:
        self.writes += 1
        return self.changed(start, end)


class MachineTranslated(Translated):
    """The engine of a hart. Raises UnsupportedHost."""

    def __init__(
        self, state: State, space: HartSpace, memory: Memory, wall_clock: Callable[[], int], options: Options
    ) -> None:
        select.host()  # raises UnsupportedHost
        self._memory = memory
        super().__init__(state, space, wall_clock, replace(options, tiers=(0,), background=False))

    @property
    def watch(self) -> Callable[[int, Decoded], None] | None:
        """As the reference's: while it is set, the monitor executes all instructions."""
        return self.monitor.watch

    @watch.setter
    def watch(self, seen: Callable[[int, Decoded], None] | None) -> None:
        self.monitor.watch = seen

    def kept(self) -> list[tuple[str, str]]:
        """What is kept to be faster, for people: (what, how much)."""
        words = self.state.words
        left = {name: f"{count:,}" for name, count in self.exits.items() if count}
        return [
            ("stencils", f"{words[MADE_INSTRUCTIONS]:,} instructions in {words[MADE_BLOCKS]:,} blocks"),
            ("interpreted", f"{self.interpreted:,} instructions"),
            ("entered", f"{self.entries:,} times; left for: {', '.join(f'{k} {v}' for k, v in left.items())}"),
        ]

    def _cold_code(self) -> int | None:
        return None if self.monitor.watch is not None else super()._cold_code()

    def _new_coherence(self) -> MachineCoherence:
        coherence = MachineCoherence(self._memory, self.cache)
        coherence.changed = self._changed
        return coherence

    def _new_tier0(self, library: bytes, natives: Code) -> Tier0:
        from dbt.machine.tier0 import MachineTier0

        return MachineTier0(self.state, library, natives, self.options.promote, self._may_open, self.space)

    def _may_open(self, page: int) -> bool:
        """Have the copier read a page of RAM: from now on its bytes are looked after."""
        self.coherence.copied(page)
        return True

    def _changed(self, start: int, end: int) -> bool:
        from dbt.machine.tier0 import MachineTier0

        return isinstance(self.tier0, MachineTier0) and self.tier0.changed(start, end)

    def _look_up(self, page: int) -> bool:
        """Nothing of a machine's code is on disk."""
        return False

    def _recalled(self, key: Key) -> Translation | None:
        return None

    def _disturb(self, chaos: Random) -> None:
        """As in a process."""
        match chaos.randrange(64):
            case 0:
                self.flush()
            case 1 | 2 | 3:
                self.space.forget()
            case 4 | 5 | 6 | 7:  # the next store into that page leaves and is done by the monitor
                slot = chaos.choice(self._memory.slots)
                at = slot.base + chaos.randrange(slot.size)
                self._memory.watch(at, at + 1)
