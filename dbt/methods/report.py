"""Rows of a comparison, next to each other: as text, as plain data, and as a page, which `page.html` draws.

Owns: which rows there are, what of them must be equal, the model of costs, the layout of the text. Must not know: how a
guest is run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dbt.kvm import METHODS
from dbt.kvm.errors import BadValue
from dbt.methods.run import HARDWARE, NESTED, Counts, Level, Row, engines, run
from dbt.options import Options
from dbt.page import filled
from dbt.table import table
from guests.spec import Treat

HONESTY = (
    "Wall time ranks this simulator, not processors: under te, pv and hw the guest runs on a processor that is itself "
    "simulated, where walks of two stages of tables are software, and an exit is Python. Speeds that say something are "
    "those of the engines against each other, and of bt with and without one of its mechanisms. What methods cost on a "
    "processor is what the modelled cycles are for: instructions, and for each exit the cycles of the table of costs, "
    "which are assumptions in round figures, not measurements."
)
LEVELS = (
    " nested is hw with a hypervisor that is a guest itself: level 2 is the guest, which is left for its hypervisor, "
    "and level 1 that hypervisor, which is left for the monitor. It has the processor's extension for itself; where "
    "the monitor needs that too, as KVM does, each exit of level 2 comes to it first, and costs more than here."
)


@dataclass(frozen=True)
class Costs:
    """Cycles of a processor for an exit that the monitor answers, and for one that goes on to the monitor's user."""

    light: int = 1_000
    user: int = 5_000

    def cycles(self, counts: Counts) -> int:
        """An instruction is one cycle."""
        return counts.instructions + (counts.exits - counts.to_user) * self.light + counts.to_user * self.user


@dataclass(frozen=True)
class Comparison:
    """A guest under several methods. `expected` is what it has to print: what is known of it, or the first row's."""

    guest: str
    expected: str
    rows: tuple[Row, ...]
    costs: Costs = Costs()

    def why(self, row: Row) -> str:
        """What is wrong with a row, or nothing."""
        return row.failure or ("" if row.console == self.expected else f"it printed {row.console!r}")

    @property
    def equal(self) -> bool:
        """Whether the guest came to its end, and printed what it has to, under each method."""
        return not any(map(self.why, self.rows))

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        rows = [asdict(row) | {"ok": not self.why(row), "why": self.why(row), "cycles": self.costs.cycles(row.total),
                               "speed": row.speed, "levels": [self._level(each) for each in row.levels]}
                for row in self.rows]  # fmt: skip
        return {"guest": self.guest, "equal": self.equal, "expected": self.expected, "rows": rows,
                "costs": asdict(self.costs), "note": self.note}  # fmt: skip

    def _level(self, level: Level) -> dict[str, Any]:
        return asdict(level) | {"cycles": self.costs.cycles(level.total), "speed": level.speed}

    def text(self) -> str:
        """Tables: a line for each row; exits by phase and by reason; costs; and what the figures do not say."""
        parts = [table(HEAD, [line for row in self.rows for line in self._lines(row)], WORDS)]
        parts += [f"{row.method}/{row.engine}: {why}" for row in self.rows if (why := self.why(row))]
        columns = [(f"{each.name}/{row.engine}", each) for row in self.rows for each in row.levels or (row.whole,)]
        by_phase = {name: {phase: counts.exits for phase, counts in each.phases.items()} for name, each in columns}
        parts += _columns("exits by phase", by_phase)
        parts += _columns("exits by reason", {name: each.total.reasons for name, each in columns})
        costs = {f"{name}, cycles each": cost for name, cost in self.shown_costs.items()}
        parts.append("\n".join(f"{name:<52}{cost:>8,}" for name, cost in costs.items()))
        parts.append(_wrapped(self.note))
        return "\n\n".join(parts)

    def page(self) -> str:
        """All of it as one page of HTML."""
        return filled(Path(__file__).with_name("page.html"), self.guest, self.as_dict())

    @property
    def note(self) -> str:
        """What the figures do not say."""
        return HONESTY + (LEVELS if any(row.levels for row in self.rows) else "")

    @property
    def shown_costs(self) -> dict[str, int]:
        """The table of costs, for people."""
        return {
            "an instruction": 1, "an exit that the monitor answers": self.costs.light,
            "an exit that its user answers": self.costs.user,
        }  # fmt: skip

    def _lines(self, row: Row) -> list[list[str]]:
        """Of a row, and of each of its levels."""
        ok, late = "no" if self.why(row) else "yes", f"{row.latency:,}"
        below = [self._line(each, row.engine, "", "") for each in row.levels]
        return [self._line(row.whole, row.engine, ok, late), *below]

    def _line(self, level: Level, engine: str, ok: str, late: str) -> list[str]:
        total = level.total
        return [
            level.name, engine, ok, f"{total.instructions:,}", f"{total.blocks:,}",
            *(f"{total.classes.get(treat.value, 0):,}" for treat in Treat), f"{total.exits:,}", f"{total.to_user:,}",
            f"{total.invalidations:,}", f"{total.rebuilds:,}", late, f"{total.seconds:.3f}", f"{level.speed:,.1f}",
            f"{self.costs.cycles(total):,}",
        ]  # fmt: skip


HEAD = (
    "method", "engine", "ok", "instructions", "blocks", *(treat.value for treat in Treat), "exits", "to user",
    "stale", "rebuilt", "late", "wall s", "ns/instr", "cycles",
)  # fmt: skip
WORDS = 3  # columns of HEAD that are words


def compare(
    guest: str, file: str, expected: str | None, methods: Sequence[str], wanted: Sequence[str],
    options: Options, most: int | None = None, paravirtual: str | None = None, nested: bool = False,
) -> Comparison:  # fmt: skip
    """Run a guest, an ELF file, under each of these methods by each of these engines that it has, to its end or for
    `most` instructions. `paravirtual`: the file of its build for pv, if it is another one. `nested`: under hw once
    more, with a hypervisor that is a guest itself.

    BadValue where that leaves nothing, or nothing to be nested; NotRunnable, FileNotFoundError.
    """
    if nested and HARDWARE not in methods:
        raise BadValue(f"to be nested is a way of {HARDWARE}, which is not among the methods {', '.join(methods)}")
    pairs = list(_pairs(methods, wanted, nested))
    if not pairs:
        raise BadValue(f"no method of {', '.join(methods)} has an engine {' or '.join(wanted)}")
    other = {method for method, how in METHODS.items() if not how.native and paravirtual is not None}
    files = {method: paravirtual if method in other and paravirtual else file for method, _ in pairs}
    rows = tuple(run(files[method], method, engine, options, most) for method, engine in pairs)
    return Comparison(guest, rows[0].console if expected is None else expected, rows)


def _pairs(methods: Iterable[str], wanted: Sequence[str], nested: bool) -> Iterable[tuple[str, str]]:
    for method in methods:
        if method not in METHODS:
            raise BadValue(f"there is no method {method!r} (there are: {', '.join(METHODS)})")
        for each in (method, NESTED) if nested and method == HARDWARE else (method,):
            yield from ((each, engine) for engine in engines(each) if engine in wanted)


# --- layout -------------------------------------------------------------------------------------------------------


def _columns(title: str, columns: dict[str, dict[str, int]]) -> list[str]:
    """A table of counts by name, a line for each name; nothing if there is no name."""
    names = list(dict.fromkeys(name for counts in columns.values() for name in counts))
    lines = [[name, *(f"{counts.get(name, 0):,}" for counts in columns.values())] for name in names]
    return [table((title, *columns), lines, 1)] if lines else []


def _wrapped(text: str, width: int = 110) -> str:
    import textwrap

    return textwrap.fill(text, width)
