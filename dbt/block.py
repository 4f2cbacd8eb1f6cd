"""A translation: where its host code is, and what it was made from; and one that is not placed yet.

Owns: these records. Must not know: how it was made, who links to it.
"""

from __future__ import annotations

from typing import NamedTuple

from dbt.code import Code
from dbt.memory import PAGE_SHIFT
from ir.records import field, record

Key = tuple[int, bool]  # guest address, whether it is entered at an architectural boundary


REACH_MOST = 1 << 16  # instructions: every translation's reach is less, as far as options allow
Source = tuple[tuple[int, bytes], ...]  # ranges of guest code, each with its address; the entry's comes first


class Gate(NamedTuple):
    """Where a region can be entered beside its first block: see `ir.region`."""

    pc: int  # guest address, a boundary
    at: int  # offset in the code
    reach: int  # as of the region


@record(frozen=True)
class Made:
    """A translation as it was made, before it has a place: what may be kept on disk."""

    key: Key
    source: Source  # the guest's code that it was made from; empty where there is none to be fetched
    instructions: int  # guest instructions
    reach: int  # the budget that it must be entered with: see `ir.region`
    size: int  # bytes of host code, without constants
    code: Code
    exits: dict[str, Key]  # where the exit of each symbol in its relocations leads
    counter: str  # the symbol of its counter
    gates: tuple[Gate, ...] = ()
    away: tuple[str, ...] = ()  # in a machine: those exits that lead to another page than the one they leave;
    pages: dict[str, int] = field(default_factory=dict)  # symbols of words that say where a page of addresses is


@record(eq=False)
class Translation:
    """One region of host code. `exits` maps each exit slot's displacement to the key it leads to.

    A gate of it has the same form, without exits, counter or room of its own, and is `of` the region.
    """

    key: Key
    source: Source  # the guest's code that it was made from; empty where there is none to be fetched
    entry: int  # host address
    size: int  # bytes of host code
    room: int  # bytes that it takes in the arena: with its constants, to the next boundary of a placement
    instructions: int  # guest instructions
    reach: int = 1  # the budget that it must be entered with: see `ir.region`
    exits: dict[int, Key] = field(default_factory=dict)
    counter: int = 0  # displacement of the word that counts the instructions it has retired; 0: it has none
    door: int = 0  # host address where tier 0 enters, if there is that tier
    gates: tuple[Translation, ...] = ()
    of: Translation | None = None
    words: dict[int, int] = field(default_factory=dict)  # what its code compares with, by displacement

    def pages(self) -> set[int]:
        """Numbers of the guest pages that it depends on."""
        found = {way.key[0] >> PAGE_SHIFT for way in (self, *self.gates)}
        for start, code in self.source:
            found.update(range(start >> PAGE_SHIFT, (start + len(code) - 1 >> PAGE_SHIFT) + 1))
        return found

    def overlaps(self, start: int, end: int) -> bool:
        """Whether it was made from a byte in [start, end)."""
        ranges = self.source or ((self.key[0], b"?"),)
        return any(at < end and start < at + len(code) for at, code in ranges)
