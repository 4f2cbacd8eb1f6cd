"""The data of an explanation as one page of HTML that needs nothing else.

Owns: that the page is whole; `page.html` draws it. Must not know: where the data comes from.
"""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any


def page(data: dict[str, Any]) -> str:
    """The page. The data stands in it as JSON."""
    template = Path(__file__).with_suffix(".html").read_text(encoding="utf-8")
    embedded = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")  # "</script>" is no end of it
    head, middle, tail = template.split("@@")
    return head + escape(str(data["program"])) + middle + embedded + tail
