"""Guest architectures and bundled guest programs. An explicit table names what there is.

The distribution is `dragoman`; `DISTRIBUTION` lets the entry point tell this package from a namesake.
"""

from __future__ import annotations

from guests.spec import Guest

DISTRIBUTION = "dragoman"


def load(name: str, isa: str | None = None) -> Guest:
    """The guest architecture of this name, with the extensions of an ISA string in its own naming."""
    if name == "riscv64":
        from guests.riscv import isa as riscv

        return riscv.guest(isa or riscv.DEFAULT)
    if name == "toy":
        from guests.toy.isa import GUEST

        return GUEST
    raise KeyError(f"no guest architecture {name!r} (there are: riscv64, toy)")
