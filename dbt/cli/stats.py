"""`--stats`: the option, and what it shows.

Owns: these. Must not know: what is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from dbt.cli.options import Parser


def stats_option(parser: Parser, whose: str = "") -> None:
    """Have the option; `whose` says of what, if that is no whole run."""
    parser.option(
        "--stats", metavar="json", nargs="?", const="text", choices=("text", "json"),
        help=f"at the end show what was executed, translated and how fast{whose}; --stats=json for one line of JSON",
    )  # fmt: skip


def show_stats(
    counts: Mapping[str, Any], times: tuple[float, float, float], form: str, line: Callable[[str], None]
) -> None:
    """Write what was counted, and the times of `dbt.report.statistics`."""
    import json

    from dbt import report

    stats = report.statistics(counts, *times)
    line(json.dumps(stats) if form == "json" else report.statistics_text(stats))
