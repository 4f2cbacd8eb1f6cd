"""How the translator works, as one value.

Owns: the options and their defaults. Must not know: who reads them.
"""

from __future__ import annotations

from collections.abc import Callable

from guests.spec import Treat
from ir.records import field, record


@record
class Options:
    """How the translator works. Which of these shape code, and so are part of what it assumed: `dbt.cache.assumed`."""

    hot: int = 64  # times a block is interpreted before it is translated; LLVM costs that much
    max_instructions: int = 512  # in a block; the guest's own boundaries do not move
    region: int = 500  # guest instructions in a region, about; 0: each translation is one block
    return_prediction: bool = True  # whether a return looks for its caller in its region first
    tiers: tuple[int, ...] = (0, 1)  # 0: stencils, from the first executions on; 1: translations by LLVM of what is hot
    promote: int = 1_000_000  # times a block runs in tier 0 until it may be worth a region (dbt.worth)
    patience: int | None = None  # blocks that a run interprets before anything is loaded or made for it; None: 128,
    # none where a large C library begins, or 20,000 where stencils would have to be made for this run alone
    optimisation: int = 2  # LLVM's code-generation level
    # LLVM's passes before that: registers become SSA values, addresses and truth values are simplified. More of them
    # were measured to cost as much as they save.
    passes: tuple[str, ...] = ("sroa", "instruction_combine", "simplify_cfg")
    pinned: int | None = None  # guest registers carried in host registers; None: as many as the host has
    log_stores: bool = False  # every store notes its address, for lockstep
    cache_size: int = 32 << 20  # most bytes of host code; what exceeds them is evicted
    cache_policy: str = "lru"  # which translation goes first: one of `dbt.cache.policies.POLICIES`
    chain: bool = True  # False: no block leads to another; the monitor is asked at every one
    sensitive: str = "inline"  # instructions of class inline: translated in place, or each a "callout"
    smc: str = "detect"  # what makes a translation stale: one of `dbt.coherence.MODES`
    cache_off: bool = False  # translate whenever a block is entered, keep nothing, link nothing: the control
    chaos: int | None = None  # a seed: leave, flush and interpret at random; nothing a guest sees may change
    background: bool = False  # translate in a process of its own while the guest runs on in stencils
    disk: bool = False  # take translations from disk that earlier runs left there, and leave what is new
    # What follows is there to measure what a mechanism costs, on programs that are known: without the first three,
    # wild addresses are not caught, instructions not counted, floating-point exceptions not accrued.
    checks: bool = True  # the base-register check, in regions and stencils
    counts: bool = True  # the exact count, in regions
    fp_flags: bool = True  # the floating-point flags, in regions
    jump_cache: bool = True  # probed by indirect jumps
    dump: frozenset[str] = frozenset()
    write: Callable[[str], None] = field(default=print)


def callouts(options: Options) -> frozenset[Treat]:
    """The classes of instructions that translated code leaves to the monitor."""
    return frozenset({Treat.CALLOUT, *([Treat.INLINE] if options.sensitive == "callout" else [])})
