"""The how-to pages: what they say is done, in their order, and must work.

A fenced block of a page is one of three things, by the words behind its fence:

    python xsat.py        a file with this content, whatever its language
    diff ir/ops.py        a change of a file: lines with -, + and a blank in front; what is there must be there once
    console make          commands behind `$ `, and under each what its output must contain, line by line, in order;
                          where the programs that are named behind `console` are not installed, it is left out
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from support.desk import ROOT, Desk

PAGES = sorted((ROOT / "docs" / "howto").glob("*.md"))
TREE = ("dragoman.py", "pyproject.toml", "dbt", "guests", "ir", "tests")  # what a change of the tree needs
BLOCK = re.compile(r"^```(\w*) ?(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Follower(Desk):
    """Follows a page in its folder; a copy of the tree stands in it, if the page changes that."""

    def __init__(self, folder: Path, page: str) -> None:
        changes = "```diff" in page
        super().__init__(folder, None if changes else ROOT)
        self.missing: list[str] = []  # programs that were not here for what the page does
        for name in TREE if changes else ():
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, self.folder / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, self.folder / name)

    def follow(self, language: str, name: str, text: str) -> None:
        if language == "console":
            missing = [tool for tool in filter(None, name.split(",")) if not self.has(tool)]
            if not missing:
                self.execute(text)
            self.missing += missing
        elif language == "diff":
            self.change(self.folder / name, text)
        else:
            assert name, f"a block of {language or 'text'} that nobody reads"
            (self.folder / name).parent.mkdir(exist_ok=True)
            (self.folder / name).write_text(text)

    def has(self, tool: str) -> bool:
        """Whether a program is installed, or, as in `rustc>=1.89`, is one of at least that version."""
        name, _, version = tool.partition(">=")
        path = shutil.which(name, path=self.environment["PATH"])
        if path is None or not version:
            return path is not None
        said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=60).stdout
        found = re.search(r"\d+(?:\.\d+)*", said)
        return found is not None and _numbers(found[0]) >= _numbers(version)

    def change(self, file: Path, text: str) -> None:
        lines = text.splitlines()
        old = "".join(f"{line[1:]}\n" for line in lines if line[:1] != "+")
        new = "".join(f"{line[1:]}\n" for line in lines if line[:1] != "-")
        before = file.read_text()
        assert before.count(old) == 1, f"{file.name} does not have, once:\n{old}"
        file.write_text(before.replace(old, new))

    def execute(self, text: str) -> None:
        for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
            command, *expected = part.splitlines()
            done = self.run(command)
            assert done.returncode == 0, f"$ {command}\n{done.stdout}"
            at = 0
            for line in expected:
                at = done.stdout.find(line, at)
                assert at >= 0, f"$ {command}\nshould say {line!r} and says:\n{done.stdout}"
                at += len(line)


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_a_page_can_be_followed(page: Path, tmp_path: Path) -> None:
    text = page.read_text()
    blocks = BLOCK.findall(text)
    assert len(blocks) == text.count("\n```") / 2 and any(language == "console" for language, _, _ in blocks)
    desk = Follower(tmp_path, text)
    for block in blocks:
        desk.follow(*block)
    if desk.missing:
        pytest.skip(f"followed but for what needs {', '.join(dict.fromkeys(desk.missing))}, not installed here")


def test_a_page_that_is_wrong_is_found(tmp_path: Path) -> None:
    desk = Follower(tmp_path, "")
    desk.follow("text", "notes", "one\ntwo\n")
    for block in (
        ("console", "", "$ dragoman run @nothing\n"),
        ("console", "", "$ cat notes\ntwo\none\n"),
        ("diff", "notes", "-three\n+four\n"),
        ("python", "", "print()\n"),
    ):
        with pytest.raises(AssertionError):
            desk.follow(*block)
    desk.follow("console", "sh,no-such-tool,python>=3.3,python>=99", "$ false\n")
    assert desk.missing == ["no-such-tool", "python>=99"]
    desk.follow("diff", "notes", " one\n-two\n+three\n")
    desk.follow("console", "", "$ cat notes\none\nthree\n$ python -c 'print(1)'; dragoman --version\n1\ndragoman")
