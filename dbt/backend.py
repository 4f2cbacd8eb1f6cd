"""From LLVM text to code that runs: compiler, arena, way in and out, and service of faults, as one thing.

It is made when the first translation is made or found on disk, so that a program that never gets hot pays for none of
it. The compiler in it is made when something has to be compiled: this is where LLVM is first imported.
Owns: that assembly. Must not know: blocks, when to translate.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from dbt.arena import Arena
from dbt.code import Code
from dbt.hosts import select, x86_64
from dbt.memory import GUARD
from dbt.native import FaultHandler, Runtime, handler_text, runtime_text
from dbt.options import Options, callouts
from dbt.state import (
    BUDGET_SHIFT,
    CHANGED,
    ENTRY_BITS,
    FETCH_BITS,
    FETCHES,
    FOUND,
    HIGHEST,
    INLINE,
    JUMP_BITS,
    JUMP_CACHE,
    LEAVE,
    LIMIT,
    LOADS,
    LOG,
    LOG_END,
    NAN32,
    NAN64,
    PAGES,
    PC,
    RAISED,
    RECENT,
    RECENT_MOST,
    SCRATCH,
    SHARES,
    SLOTS,
    SOFT_FLAGS,
    SPACE_BITS,
    STORES,
    TABLES,
    State,
)
from guests.spec import Guest
from ir.llvm import Host, Target
from ir.llvm.target import Translations
from ir.records import replace

if TYPE_CHECKING:
    from dbt.codegen import Compiler
    from dbt.tier0 import Tier0

Progress = Callable[[int, int], None]  # stencils made, of how many
Keep = Callable[[str, Callable[[], Code]], Code]  # the code of a name: kept from an earlier run, or made now


class Workshop:
    """The compiler for one guest, and what lowering for it must know. Raises UnsupportedHost."""

    def __init__(self, guest: Guest, options: Options) -> None:
        self._guest = guest
        self._options = options
        self.host = select.host()

    @cached_property
    def compiler(self) -> Compiler:
        """LLVM, made at the first use."""
        return compiler(self.host.triple, self._options.optimisation)

    @cached_property
    def target(self) -> Target:
        """What lowering must know; which features the host has, LLVM says."""
        fused = self.compiler.has(x86_64.FEATURE_FUSED)
        carryless = self.host.carryless if self.compiler.has(x86_64.FEATURE_CARRYLESS) else ""
        return target_of(self._guest, self._options, replace(self.host, fused=fused, carryless=carryless))

    def compile(self, text: str) -> Code:
        """The code of a module of regions. Raises CodegenError."""
        return self.compiler.compile(text, check=bool(self._options.dump), passes=self._options.passes)


class Backend:
    """Host code of one engine. `keep` gives the code of the runtime. Raises UnsupportedHost."""

    def __init__(self, state: State, options: Options, keep: Keep = lambda name, make: make()) -> None:
        self._guest = state.guest
        self._options = options
        self.shop = Workshop(state.guest, options)
        self.arena = Arena(arena_size(options.cache_size))
        flags = _slot_offset(state.guest.flags_slot)
        runtime = keep("runtime", lambda: self._compile(runtime_text(self.target, flags)))
        self.runtime = Runtime(runtime, self.arena)
        self.enter = self.runtime.enter
        state.words[LEAVE] = self.runtime.leave
        known = FaultHandler.one
        handler = keep("handler", lambda: known.code if known else self._compile(handler_text(self.shop.host.triple)))
        self._faults = FaultHandler.get(handler)
        self.close = self._faults.add(self.arena)  # stop serving faults; the code must not run afterwards
        self.prepare()
        self.library: bytes | None = None
        self._keep = keep

    def tier0(self, state: State, made: Callable[[bytes, Code], Tier0], progress: Progress) -> Tier0:
        """Tier 0, `made` of stencils and native code that were kept or are made now."""
        from dbt.tier0 import as_code

        options = self._options
        guest = self._guest
        assumed = (
            guest.name, guest.isa, guest.features, guest.own, options.pinned, options.log_stores, options.checks,
            options.sensitive,
        )  # fmt: skip
        if assumed not in _tiers:  # an engine's stencils are good for all that are alike
            stencils = self._keep("stencils", lambda: as_code(self._stencils(progress)))
            _tiers[assumed] = stencils.text, self._keep("natives", self._natives)
        self.library, natives = _tiers[assumed]
        tier = made(self.library, natives)
        state.words[LEAVE] = tier.through
        return tier

    def _stencils(self, progress: Progress) -> bytes:
        from dbt.tier0 import library

        target = replace(self.target, pinned=(), slot=_slot_or_hole)
        pinned, compile = self.target.pinned, self.compiler.stencils
        return library.build(self._guest, callouts(self._options), target, pinned, compile, progress)

    def _natives(self) -> Code:
        from dbt.tier0 import ways

        return self.compiler.compile(ways.text(self.target, self._guest), passes=None)

    def door(self, room: int) -> bytes:
        """Where tier 0, if there is one, enters a translation that is `room` bytes before."""
        from dbt.tier0.layout import door

        return b"" if self.library is None else door(self.library, room)

    @property
    def compiler(self) -> Compiler:
        return self.shop.compiler

    @property
    def target(self) -> Target:
        return self.shop.target

    def _compile(self, text: str) -> Code:
        return self.compiler.compile(text)

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
        rounding_slot=_slot_offset(guest.rounding_slot),
        stack_slot=guest.stack_slot,
        floats=guest.floats,
        budget_shift=BUDGET_SHIFT,
        space_bits=SPACE_BITS,
        guard=GUARD,
        highest=8 * HIGHEST,
        translations=None if guest.privileged is None else MACHINE,
        directory=(PAGES, TABLES),
        pinned=tuple(guest.hot_slots[:count]),
        shares=8 * SHARES if guest.privileged is None else None,
        log=(8 * LOG_END, LOG) if options.log_stores else None,
        checks=options.checks,
        counts=options.counts,
        fp_flags=options.fp_flags,
        probes=options.jump_cache,
    )


MACHINE = Translations(
    LOADS, STORES, FETCHES, ENTRY_BITS, FETCH_BITS, 8 * FOUND, 8 * CHANGED, 8 * RAISED, 8 * RECENT, RECENT_MOST
)


def _slot_or_hole(slot: object) -> Any:
    """In a stencil a slot may be a hole."""
    return _slot_offset(slot) if isinstance(slot, int) else slot


def _slot_offset(slot: int) -> int:
    return SLOTS + 8 * slot


_tiers: dict[tuple[object, ...], tuple[bytes, Code]] = {}  # stencils and natives of this process, by what they assume
_compilers: dict[int, Compiler] = {}


def compiler(triple: str, optimisation: int) -> Compiler:
    """One LLVM target machine for each level in a process: they hold no state of ours."""
    from dbt.codegen import Compiler

    if optimisation not in _compilers:
        _compilers[optimisation] = Compiler(triple, optimisation)
    return _compilers[optimisation]
