"""Zawrs: wait on a reservation set (Unprivileged ISA). A wait may end at once, for any reason, and does."""

from __future__ import annotations

from guests.riscv.table import Extension

ZAWRS = Extension("zawrs", "Unprivileged ISA, Zawrs")


@ZAWRS.insn("wrs.nto", "000000001101 00000 000 00000 1110011", ends_block=True)
def wrs_nto(m, o):
    """The end of the block is where others get their turn."""


@ZAWRS.insn("wrs.sto", "000000011101 00000 000 00000 1110011", ends_block=True)
def wrs_sto(m, o):
    """As wrs.nto: the short limit on the wait is no wait at all."""
