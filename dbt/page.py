"""Data as one page of HTML that needs nothing else: a template with a script that draws what stands in it.

Owns: that the page is whole. Must not know: any page, where the data comes from.
"""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any


def filled(template: Path, title: str, data: dict[str, Any]) -> str:
    """The page: `@@` stands in a template for the title, and for the data, which is JSON."""
    embedded = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")  # "</script>" is no end of it
    head, middle, tail = template.read_text(encoding="utf-8").split("@@")
    return head + escape(title) + middle + embedded + tail
