"""Tables of text. Owns: how they are aligned. Must not know: what is in them."""

from __future__ import annotations

from collections.abc import Sequence


def table(head: Sequence[str], lines: Sequence[Sequence[str]], words: int) -> str:
    """Columns, the first of which are words, to the left; the others are numbers, to the right."""
    widths = [max(map(len, column)) for column in zip(head, *lines)]
    return "\n".join(
        "  ".join(cell.ljust(w) if i < words else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths)))
        for line in (head, *lines)
    )
