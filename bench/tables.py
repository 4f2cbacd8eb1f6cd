"""The tables of `docs/benchmarks.md`, from the JSON of `make bench-stages`: `python -m bench.tables FILE`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bench.bench_cache import KILOBYTES
from bench.bench_granularity import PROGRAMS as GRANULARITY
from bench.bench_granularity import SIZES
from bench.bench_programs import KERNELS
from bench.bench_sensitive import PAIRS
from bench.bench_stages import PROGRAMS
from dbt.cache.policies import POLICIES
from ir.passes import PIPELINE

DISPATCH = (  # benchmark, what it is, the amount that a round is counted in
    ("test_chained_to_itself", "a loop of one block", "blocks"),
    ("test_chained_jumps", "direct jumps, chained", "blocks"),
    ("test_indirect_jumps_through_the_jump_cache", "calls and returns through the jump cache", "blocks"),
    ("test_indirect_jumps_that_collide_in_the_jump_cache", "of two blocks, one missed in the jump cache", "blocks"),
    ("test_through_python", "nothing chained: each block looked up and entered by Python", "blocks"),
    ("test_into_host_code_and_back", "into host code and back, and nothing else", "round_trips"),
    ("test_callout", "a callout: one instruction by the monitor", "round_trips"),
    ("test_trap[ecall]", "a system call, up to the kernel and back", "round_trips"),
    ("test_trap[ld]", "a page fault, up to the kernel and back", "round_trips"),
)
CACHE = (
    ("test_hit", "look-up, found"), ("test_miss", "look-up, not found"),
    ("test_insert_where_there_is_room", "place and link"),
    ("test_insert_where_another_must_go", "the same, and evict one"), ("test_evict_all", "evict"),
    ("test_invalidate_a_page", "invalidate"),
)  # fmt: skip


class Results:
    """Benchmarks by name."""

    def __init__(self, path: Path) -> None:
        self._found = {entry["name"]: entry for entry in json.loads(path.read_text())["benchmarks"]}

    def seconds(self, name: str) -> float:
        return float(self._found[name]["stats"]["median"])

    def extra(self, name: str, what: str) -> Any:
        return self._found[name]["extra_info"][what]

    def each(self, name: str, what: str, unit: float) -> float:
        """Time for one of what a round did, in units of a second."""
        return self.seconds(name) / self.extra(name, what) / unit


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def number(value: float) -> str:
    """Two significant digits, or all before the point."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def stages(found: Results) -> str:
    names = {"decode, words seen before": "test_decode_known_words[{}]", "decode and lift": "test_decode_and_lift[{}]",
             **{f"pass {name}": f"test_pass[{{}}-{name}]" for name, _ in PIPELINE},
             "verify, once of five times": "test_verify_once[{}]", "lower": "test_lower[{}]", "LLVM": "test_llvm[{}]",
             "place": "test_place[{}]"}  # fmt: skip
    rows = [[text, *(number(found.each(name.format(p), "guest_instructions", 1e-6)) for p in PROGRAMS)]
            for text, name in names.items()]  # fmt: skip
    return table(["stage", *(f"@{p}" for p in PROGRAMS)], rows)


def dispatch(found: Results) -> str:
    rows = []
    for name, text, what in DISPATCH:
        seconds = found.each(name, what, 1)
        rows.append([text, f"{seconds * 1e9:.1f} ns" if seconds < 1e-7 else f"{seconds * 1e6:.1f} µs"])
    return table(["way", "each"], rows)


def cache(found: Results) -> str:
    rows = [[text, *(number(found.each(f"{name}[{policy}]", "operations", 1e-6)) for policy in POLICIES)]
            for name, text in CACHE]  # fmt: skip
    return table(["microseconds each", *POLICIES], rows)


def small_cache(found: Results) -> str:
    rows = []
    for policy in POLICIES:
        names = [f"test_a_program_in_a_small_cache[{size}-{policy}]" for size in KILOBYTES]
        rows.append([policy, *(f"{found.extra(name, 'translations'):,}" for name in names),
                     *(f"{found.seconds(name):.2f}" for name in names)])  # fmt: skip
    sizes = [f"{size} KiB" for size in KILOBYTES]
    return table(["policy", *(f"translations, {size}" for size in sizes), *(f"s, {size}" for size in sizes)], rows)


def granularity(found: Results) -> str:
    return "\n".join(f"@{program}:\n\n{granularity_of(found, program)}" for program in GRANULARITY)


def granularity_of(found: Results, program: str) -> str:
    rows = []
    for size, past in SIZES:
        name = f"test_granularity[{size}-{past}-{program}]"
        extra = {what: found.extra(name, what) for what in
                 ("translations", "translation_seconds", "dispatches", "latency", "latency_granule")}  # fmt: skip
        rows.append([str(size), str(past), f"{extra['translations']:,}", f"{extra['translation_seconds']:.2f}",
                     f"{found.extra(name, 'instructions_per_second') / 1e6:,.0f}", f"{extra['dispatches']:.2f}",
                     f"{extra['latency']:.1f}", f"{extra['latency_granule']:.1f}"])  # fmt: skip
    head = ["at most", "past", "translations", "to translate, s", "M instr/s then", "dispatches", "latency", "could be"]
    return table(head, rows)


def sensitive(found: Results) -> str:
    rows = []
    for register in PAIRS:
        inline, callout = (found.each(f"test_sensitive[{register}-{way}]", "loops", 1e-9)
                           for way in ("inline", "callout"))  # fmt: skip
        rows.append([register, f"{inline:,.1f}", f"{callout:,.0f}", f"{callout / inline:,.0f}"])
    return table(["register", "inline, ns a loop", "callout, ns a loop", "ratio"], rows)


def programs(found: Results) -> str:
    rows = []
    for name in KERNELS:
        reference, cold, warm = (found.seconds(f"test_{how}[{name}]") * 1e3 for how in
                                 ("reference", "translated_cold", "translated_warm"))  # fmt: skip
        rows.append([f"@{name}", f"{reference:,.0f}", f"{cold:,.0f}", f"{warm:.2f}", f"{reference / cold:.1f}",
                     f"{reference / warm:,.0f}"])  # fmt: skip
    return table(["program", "reference", "cold", "warm", "reference / cold", "reference / warm"], rows)


if __name__ == "__main__":
    results = Results(Path(sys.argv[1]))
    print("\n".join(made(results) for made in (stages, dispatch, cache, small_cache, granularity, sensitive, programs)))
