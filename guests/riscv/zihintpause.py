"""Zihintpause: the pause hint (Unprivileged ISA), the fence of a write before nothing."""

from __future__ import annotations

from guests.riscv.table import Extension

ZIHINTPAUSE = Extension("zihintpause", "Unprivileged ISA, Zihintpause")


@ZIHINTPAUSE.insn("pause", "000000010000 00000 000 00000 0001111")
def pause(m, o):
    """A hint to slow down, which has no other effect."""
