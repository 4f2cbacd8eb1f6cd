"""What each mechanism of the translator is worth: programs with one switched off at a time, beside all switched on.

In every turn a program is run with everything on and then without each mechanism, twice each: a first run, in a cache
folder in which one other program has run, and a second one in the same folder. Told are the times in times of those
with everything on, so more than 1 is what the mechanism saves. What takes SLOWEST times as long is killed. No switch
may change what a program prints or how it ends.
Owns: the table of mechanisms, the order of runs, the arithmetic, the texts. Must not know: how a mechanism works.
"""

from __future__ import annotations

import os
import shutil
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dbt.bench import columns, machine, show
from dbt.runs import CLOCKS, LEAST, Caches, Case, Differ, Sample, checked, own

MECHANISMS: dict[str, tuple[str, ...]] = {  # what is switched off, and the words of `dragoman run` that do it
    "regions": ("--region=0",),
    "the background worker": ("--background=off",),
    "chaining": ("--chain=off",),
    "the jump cache": ("--jump-cache=off",),
    "return prediction": ("--return-prediction=off",),
    "translations on disk": ("--no-disk-cache",),
    "stencils": ("--tiers=1",),
    "LLVM": ("--tiers=0",),
    # What is exact costs this:
    "address checks": ("--checks=off",),
    "instruction counts": ("--counts=off",),
    "floating-point flags": ("--fp-flags=off",),
}
EVERYTHING = "everything on"
RUNS = ("first", "second")
SLOWEST = 10  # times of a run with everything on
AT_LEAST = 5.0  # seconds that a run may take in any case
DEFAULT = ("sieve", "life", "nbody", "ray", "fft", "sort", "lz", "recurse", "dispatch", "vm", "json", "sha256")
TURNS = 3


@dataclass
class Ablation:
    """One program: its runs by what is switched off, a first and a second one in each turn."""

    case: Case
    samples: dict[str, dict[str, list[Sample]]] = field(default_factory=dict)
    difference: str | None = None

    def add(self, name: str, when: str, sample: Sample) -> None:
        self.samples.setdefault(name, {}).setdefault(when, []).append(sample)

    def of(self, name: str, when: str) -> list[Sample]:
        return self.samples.get(name, {}).get(when, [])

    def cut(self, name: str, when: str) -> bool:
        """Whether it was killed, as often as it took too long; it is not run again."""
        return any(sample.cut for sample in self.of(name, when))

    def seconds(self, name: str, when: str, clock: str = "cpu") -> float | None:
        found = [max(getattr(sample, clock), LEAST) for sample in self.of(name, when)]
        return statistics.median(found) if found and not self.cut(name, when) else None

    def ratio(self, name: str, when: str, clock: str = "cpu") -> float | None:
        """Time in times of everything on."""
        seconds, base = self.seconds(name, when, clock), self.seconds(EVERYTHING, when, clock)
        return None if seconds is None or base is None else seconds / base

    def cell(self, name: str, when: str, clock: str) -> str:
        return f"> {SLOWEST}" if self.cut(name, when) else show(self.ratio(name, when, clock), 2)

    def as_dict(self) -> dict[str, Any]:
        return {
            "program": self.case.name, "arguments": list(self.case.arguments), "difference": self.difference,
            "runs": {name: {when: {
                "cut": self.cut(name, when),
                **{f"{clock}_seconds": self.seconds(name, when, clock) for clock in CLOCKS},
                **{f"{clock}_ratio": self.ratio(name, when, clock) for clock in CLOCKS},
                "samples": [sample.as_dict() for sample in found],
            } for when, found in by.items()} for name, by in self.samples.items()},
        }  # fmt: skip


def ablate(cases: Sequence[Case], caches: Caches, turns: int = TURNS, stdin: str = os.devnull,
           progress: Callable[[str], None] = lambda text: None) -> Iterable[Ablation]:  # fmt: skip
    """Run programs with everything on and without each mechanism; one after the other, as far as they are done."""
    for case in cases:
        found = Ablation(case)
        try:
            for turn in range(turns):
                for name, options in ({EVERYTHING: ()} | MECHANISMS).items():
                    progress(f"{case.title}: turn {turn + 1} of {turns}, {_without(name)}")
                    _twice(found, name, options, caches, stdin)
        except Differ as differ:
            found.difference = str(differ)
        yield found


def _twice(found: Ablation, name: str, options: Sequence[str], caches: Caches, stdin: str) -> None:
    """A first and a second run, as far as they do not take too long."""
    case, cache = found.case, caches.never_seen(found.case, options)
    try:
        for when in RUNS:
            if found.cut(name, when):
                return
            longest = None
            if name != EVERYTHING:
                base = statistics.median(sample.wall for sample in found.of(EVERYTHING, when))
                longest = max(SLOWEST * base, AT_LEAST)
            sample = own(case, "translated", case.arguments, None, stdin, options=options, kept=cache, longest=longest)
            first = next(iter(found.of(EVERYTHING, RUNS[0])), None)
            if case.output(case.arguments) is not None:
                checked(case, _without(name), sample)
            elif first is not None:
                checked(case, _without(name), sample, first, EVERYTHING)
            found.add(name, when, sample)
            if sample.cut:
                return
    finally:
        shutil.rmtree(cache, ignore_errors=True)


def _without(name: str) -> str:
    return name if name == EVERYTHING else f"without {name}"


def text(found: Sequence[Ablation], turns: int) -> str:
    """A table for each run and clock: a row for what is switched off, a column for a program."""
    kept = [ablation for ablation in found if ablation.difference is None]
    if not kept:
        return ""
    lines = [
        "Time without a mechanism, in times of that with everything on, "
        + (f"medians of {turns} turns" if turns > 1 else "of one turn"),
        f"More than {SLOWEST} was not waited for, and then there is no second run. First run: in a cache folder in",
        "which another program has run; second run: once more in that folder.",
    ]
    for when in RUNS:
        for clock, told in zip(CLOCKS, ("CPU time of all processes", "wall time")):
            table = [(f"{when} run, {told}", *(ablation.case.name for ablation in kept), "geomean")]
            table.append((
                f"{EVERYTHING}, s", *(show(ablation.seconds(EVERYTHING, when, clock), 2) for ablation in kept), "",
            ))  # fmt: skip
            for name, options in MECHANISMS.items():
                cells = (ablation.cell(name, when, clock) for ablation in kept)
                table.append((f"{_without(name)} ({' '.join(options)})", *cells, _mean(kept, name, when, clock)))
            lines += ["", *columns(table, text=0)]
    return "\n".join(lines)


def _mean(found: Sequence[Ablation], name: str, when: str, clock: str) -> str:
    """The geometric mean of a row, or what it is more than."""
    ratios = [ablation.ratio(name, when, clock) for ablation in found]
    least = [SLOWEST if ablation.cut(name, when) else ratio for ablation, ratio in zip(found, ratios)]
    known = [ratio for ratio in least if ratio is not None]
    if len(known) < len(least):
        return show(None, 2)
    return ("> " if None in ratios else "") + show(statistics.geometric_mean(known), 2)


def report(found: Iterable[Ablation], turns: int) -> dict[str, Any]:
    """All there is to tell, as plain data."""
    kept = list(found)
    return {
        "machine": machine(), "runs": turns, "mechanisms": {name: list(words) for name, words in MECHANISMS.items()},
        "programs": [ablation.as_dict() for ablation in kept],
        "differences": [ablation.difference for ablation in kept if ablation.difference is not None],
    }  # fmt: skip
