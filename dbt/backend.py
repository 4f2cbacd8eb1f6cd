"""From LLVM text to code that runs: compiler, arena, way in and out, and service of faults, as one thing.

It is made when the first block is translated, so that a program that never gets hot pays for none of it:
this module is where LLVM is first imported. Owns: that assembly. Must not know: blocks, when to translate.
"""

from __future__ import annotations

from dataclasses import replace

from dbt.arena import Arena
from dbt.codegen import Compiler
from dbt.hosts import select, x86_64
from dbt.native import FaultHandler, Runtime
from dbt.options import Options
from dbt.state import (
    BUDGET_SHIFT,
    INLINE,
    JUMP_BITS,
    JUMP_CACHE,
    LEAVE,
    LIMIT,
    LOG,
    LOG_END,
    NAN32,
    NAN64,
    PC,
    SCRATCH,
    SOFT_FLAGS,
    State,
)
from guests.spec import Guest
from ir.llvm import Host, Target


class Backend:
    """Host code of one engine. Raises UnsupportedHost."""

    def __init__(self, state: State, options: Options) -> None:
        host = select.host()
        self.compiler = compiler(host.triple, options.optimisation)
        self.arena = Arena(arena_size(options.cache_size))
        fused = self.compiler.has(x86_64.FEATURE_FUSED)
        carryless = host.carryless if self.compiler.has(x86_64.FEATURE_CARRYLESS) else ""
        self.target = target_of(state.guest, options, replace(host, fused=fused, carryless=carryless))
        self.runtime = Runtime(self.compiler, self.arena, self.target, 8 * state.guest.flags_slot)
        self.enter = self.runtime.enter
        state.words[LEAVE] = self.runtime.leave
        self._faults = FaultHandler.get(self.compiler)
        self.close = self._faults.add(self.arena)  # stop serving faults; the code must not run afterwards
        self.prepare()

    def prepare(self) -> None:
        """Make sure that guest faults come here, whoever installed a handler meanwhile."""
        self._faults.install()


def arena_size(bound: int) -> int:
    """Room for the runtime, and an eighth more than the cache may use, since free ranges are of all sizes."""
    return bound + bound // 8 + (1 << 14)


def target_of(guest: Guest, options: Options, host: Host) -> Target:
    """Where everything is, for the lowering."""
    count = host.pinned if options.pinned is None else options.pinned
    return Target(
        host=host,
        slot=_slot_offset,
        pc=8 * PC,
        inline=8 * INLINE,
        limit=8 * LIMIT,
        scratch=8 * SCRATCH,
        soft_flags=8 * SOFT_FLAGS,
        leave=8 * LEAVE,
        nan={32: 8 * NAN32, 64: 8 * NAN64},
        jump_cache=JUMP_CACHE,
        jump_bits=JUMP_BITS,
        rounding_slot=8 * guest.rounding_slot,
        budget_shift=BUDGET_SHIFT,
        space_bits=38,
        pinned=tuple(guest.hot_slots[:count]),
        log=(8 * LOG_END, LOG) if options.log_stores else None,
        loops=options.chain and not options.cache_off and options.superblock > 0,
        checks=options.checks,
    )


def _slot_offset(slot: int) -> int:
    return 8 * slot


_compilers: dict[int, Compiler] = {}


def compiler(triple: str, optimisation: int) -> Compiler:
    """One LLVM target machine for each level in a process: they hold no state of ours."""
    if optimisation not in _compilers:
        _compilers[optimisation] = Compiler(triple, optimisation)
    return _compilers[optimisation]
