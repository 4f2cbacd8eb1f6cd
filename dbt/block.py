"""A translation: where its host code is, and what it was made from; and one that is not placed yet.

Owns: these records. Must not know: how it was made, who links to it.
"""

from __future__ import annotations

from dbt.code import Code
from ir.records import field, record

Key = tuple[int, bool]  # guest address, whether it is entered at an architectural boundary


@record(frozen=True)
class Made:
    """A translation as it was made, before it has a place: what may be kept on disk."""

    key: Key
    source: bytes  # the guest's code that it was made from; empty where there is none to be fetched
    instructions: int  # guest instructions
    size: int  # bytes of host code, without constants
    code: Code
    exits: dict[str, Key]  # where the exit of each symbol in its relocations leads


@record(eq=False)
class Translation:
    """One block of host code. `exits` maps each exit slot's displacement to the key it leads to."""

    key: Key
    source: bytes  # the guest's code that it was made from; empty where there is none to be fetched
    entry: int  # host address
    size: int  # bytes of host code
    room: int  # bytes that it takes in the arena: with its constants, to the next boundary of a placement
    instructions: int  # guest instructions
    exits: dict[int, Key] = field(default_factory=dict)
    door: int = 0  # host address where code of tier 0 enters, if there is such a place

    @property
    def end(self) -> int:
        """The guest address after the last byte that it depends on."""
        return self.key[0] + max(len(self.source), 1)
