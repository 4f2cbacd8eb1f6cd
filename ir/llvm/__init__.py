"""Lowering: a block of IR becomes the text of one LLVM function.

    define preserve_nonecc void @NAME(ptr %m, ptr %s, i64 %t, i64 %via, i64 %p0, ...)

%s is the CPU state, %m the host address of guest address 0 (0 in a machine, where tables lead to host addresses),
%t the budget register (instructions left in its high bits, blocks executed in the low ones), %via says to the monitor
which way code left, and %pK are guest registers that travel in host registers from block to block. Every way out is a
tail call with the same arguments: through an exit slot, through the jump cache, or to the code that returns to the
monitor.

Guest memory is accessed by `callbr` inline assembly whose fault label is a side exit: before the access, or before an
earlier one, if all that is between may be done again. A table of (access, landing) offsets goes with the code, so that
a host fault leaves with exact state. The base register is looked at where it is not known to be near the guest's memory
(`ir.addresses`); guard zones around that memory cover the offset's reach.

`lowering` is imported when it is first asked for: a program that never gets hot, or finds its translations on disk,
needs the records and constants of `target` only.

Owns: the text. Must not know: any guest (slots are numbers in a `Target`), who compiles it, where it lives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ir.llvm.target import CALLOUT, LATE, MISS, SIDE, SIDE_REASONS, Host, Lowered, Target, flag_lines, rounding_code

if TYPE_CHECKING:
    from ir.llvm.lowering import Lowering as Lowering
    from ir.llvm.lowering import lower as lower
    from ir.llvm.lowering import module as module

__all__ = [
    "CALLOUT", "LATE", "MISS", "SIDE", "SIDE_REASONS", "Host", "Lowered", "Lowering", "Target", "flag_lines", "lower",
    "module", "rounding_code",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in ("Lowering", "lower", "module"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ir.llvm import lowering

    return getattr(lowering, name)
