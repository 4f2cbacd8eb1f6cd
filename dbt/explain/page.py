"""The data of an explanation as one page of HTML that needs nothing else.

Owns: that the page is whole; `page.html` draws it. Must not know: where the data comes from.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dbt.page import filled


def page(data: dict[str, Any]) -> str:
    """The page. The data stands in it as JSON."""
    return filled(Path(__file__).with_suffix(".html"), str(data["program"]), data)
