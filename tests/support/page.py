"""Reading a page of HTML that we write: whether it is whole, the data in it, and what its script draws of them."""

from __future__ import annotations

import json
import os
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from support.peers import need, need_file

MODULES = Path("/usr/share/nodejs")  # where Debian's packages put modules
VOID = {"meta", "input", "br", "hr", "link", "img"}


class Page(HTMLParser):
    """Reads a page: every element that is opened is closed; keeps the scripts and all attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text
        self.open: list[str] = []
        self.scripts: dict[str | None, str] = {}
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self._kind: str | None = None
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += attrs
        if tag == "script":
            self._kind = dict(attrs).get("type")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts[self._kind] = self.scripts.get(self._kind, "") + data
        else:
            self.words.append(data)

    @property
    def data(self) -> Any:
        return json.loads(self.scripts["application/json"])

    def needs_nothing_else(self) -> None:
        """Nothing is loaded, by an element or by a script."""
        foreign = r"https?:|@import|url\(|\bimport\b|fetch\(|XMLHttp|WebSocket|eval\("
        assert not re.search(foreign, self.text)
        assert not [pair for pair in self.attributes if pair[0] in ("src", "href", "action", "srcset", "data")]


def drawn_page(path: Path, fragment: str = "") -> str:
    """The document of a page when its script has run, opened at a fragment such as #2, as text."""
    need_file(MODULES / "jsdom", "apt-get install node-jsdom")
    command = [need("node", "nodejs"), Path(__file__).with_name("draw.js"), path, fragment]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL,
                          env=os.environ | {"NODE_PATH": str(MODULES)})  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout
