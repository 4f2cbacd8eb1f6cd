"""The lab book's pages and the README: commands are run, and what is printed is compared, or written into the page.

    python tests/support/book.py [PAGE...]      refreshes pages, all of them by default (`make lab-book`)

A fenced block of a page is one of three things, by the words behind its fence:

    console              commands behind `$ `, and under each all that it prints
    asm mine.s           a file with this content, whatever its language
    sh                   commands that are not run: they set up, or need what is not here

What varies from run to run or with the program is not compared: times, how many times faster something is, and digests
(VARIES), of which rows say themselves whether they are equal; and for one block what `<!-- varies: PATTERN -->`, a
regular expression in a line of its own above the block, matches. A page that says the same but for that is left as it
is. Owns: pages as commands and outputs. Must not know: what any command does.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from support.desk import ROOT, Desk

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "lab").glob("*.md"))]
VARIES = (r"[\d.,]+ (?:s|ms|us)\b", r"[\d.,]+ times\b", r"\b(?=\d*[a-f])(?:[0-9a-f]{16}|[0-9a-f]{32})\b")
_BLOCK = re.compile(
    r"^(?:<!-- varies: (?P<varies>[^\n]*) -->\n)?```(?P<language>\w+) ?(?P<file>\S*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_COMMAND = re.compile(r"^\$ (?P<command>.*)\n(?P<printed>(?:(?!\$ ).*\n)*)", re.MULTILINE)


class Said(NamedTuple):
    """A command, what the page says that it prints, what it printed now, and what of that may differ."""

    command: str
    page: str
    now: str
    varies: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether it printed what the page says."""
        return self._without(self.page) == self._without(self.now)

    def _without(self, text: str) -> str:
        for pattern in self.varies:
            text = re.sub(rf" *(?:{pattern})", " ~", text)
        return text


def follow(page: str, desk: Desk) -> Iterator[Said]:
    """Do what a page says, in its order. The desk has the documents at hand, as a clone has."""
    (desk.folder / "docs").symlink_to(ROOT / "docs")
    for block in _BLOCK.finditer(page):
        if block["file"]:
            (desk.folder / block["file"]).write_text(block["text"])
        elif block["language"] == "console":
            varies = (*VARIES, *filter(None, [block["varies"]]))
            for part in _COMMAND.finditer(block["text"]):
                now = "".join(f"{line.rstrip()}\n" for line in desk.run(part["command"]).stdout.splitlines())
                yield Said(part["command"], part["printed"], now, varies)


def refreshed(page: str, said: list[Said]) -> str:
    """The page with what its commands print now, where that is not the same."""
    left = iter(said)

    def block(found: re.Match[str]) -> str:
        if found["language"] != "console" or found["file"]:
            return found[0]
        text = _COMMAND.sub(command, found["text"])
        return found[0].replace(found["text"], text)

    def command(found: re.Match[str]) -> str:
        each = next(left)
        return found[0] if each.same else f"$ {each.command}\n{each.now}"

    return _BLOCK.sub(block, page)


def main(names: list[str]) -> None:
    """Refresh these pages, or all."""
    for path in [Path(name).resolve() for name in names] or PAGES:
        text = path.read_text()
        with tempfile.TemporaryDirectory() as folder:
            said = list(follow(text, Desk(Path(folder))))
        stale = [each.command for each in said if not each.same]
        print(f"{path.relative_to(ROOT)}: {len(said)} commands, {len(stale)} of them print something else now")
        if stale:
            path.write_text(refreshed(text, said))


if __name__ == "__main__":
    main(sys.argv[1:])
