"""The documents: links lead somewhere; files, commands, programs and targets that are named exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dbt import cli, lab
from dbt.cli.bench import ALL
from guests.programs import PROGRAMS, SYSTEMS, VIRTUALS

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
each = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))

LINK = re.compile(r"\[[^\]\n]+\]\(([^)\s]+)\)")
FILE = re.compile(r"`((?:dbt|ir|guests|tests|bench|docs)/[\w./<>*-]*)`")
COMMAND = re.compile(r"(?:`|\$ |^ {4}|^)dragoman ([a-z-]+)", re.MULTILINE)


def anchor(heading: str) -> str:
    """The fragment that a heading gets on GitHub."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def text_of(document: Path) -> str:
    return document.read_text(encoding="utf-8")


@each
def test_links(document: Path) -> None:
    for target in LINK.findall(text_of(document)):
        if target.startswith(("https://", "http://")):
            continue
        path, _, fragment = target.partition("#")
        file = (document.parent / path).resolve() if path else document
        assert file.is_relative_to(ROOT) and file.exists(), f"{document.name}: {target}"
        if fragment:
            headings = re.findall(r"^#+ (.*)$", text_of(file), re.MULTILINE)
            assert fragment in map(anchor, headings), f"{document.name}: {target}"


@each
def test_files_that_are_named_exist(document: Path) -> None:
    for name in FILE.findall(text_of(document)):
        if "<" in name:
            continue
        assert list(ROOT.glob(name.rstrip("/"))), f"{document.name}: {name}"


@each
def test_commands_that_are_named_exist(document: Path) -> None:
    for word in COMMAND.findall(text_of(document)):
        assert word in (*cli.COMMANDS, "--help", "--version"), f"{document.name}: dragoman {word}"


@each
def test_programs_and_rows_that_are_named_exist(document: Path) -> None:
    text = text_of(document)
    for name in re.findall(r"dragoman [^\n`]*?@([a-z0-9]+)", text):
        assert name in (*PROGRAMS, *SYSTEMS, *VIRTUALS, "name", ALL.removeprefix("@")), f"{document.name}: @{name}"
    for row in re.findall(r"dragoman lab ([A-Z]\d\d)", text):
        assert row in {r.id for r in lab.ROWS}, f"{document.name}: {row}"


@each
def test_make_targets_that_are_named_exist(document: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for target in re.findall(r"(?:`|\$ |^)make ([a-z-]+)", text_of(document), re.MULTILINE):
        assert target in targets, f"{document.name}: make {target}"


@each
def test_lines_are_not_too_long(document: Path) -> None:
    """Tables and listings may be wide; prose is not."""
    for number, line in enumerate(text_of(document).splitlines(), 1):
        assert len(line) <= 120 or line.startswith(("|", "    ")), f"{document.name}:{number}"


def test_every_document_is_reachable() -> None:
    seen: set[Path] = set()
    queue = [ROOT / "README.md"]
    while queue:
        document = queue.pop()
        if document in seen or document.suffix != ".md":
            continue
        seen.add(document)
        for target in LINK.findall(text_of(document)):
            if not target.startswith("http") and (path := target.partition("#")[0]):
                queue.append((document.parent / path).resolve())
    assert set(DOCUMENTS) <= seen, sorted(str(p.relative_to(ROOT)) for p in set(DOCUMENTS) - seen)


def test_the_api_example_of_the_readme_runs(capfd: pytest.CaptureFixture[str]) -> None:
    code = re.search(r"```python\n(.*?)```", text_of(ROOT / "README.md"), re.DOTALL)
    assert code is not None
    exec(compile(code[1], "README.md", "exec"), {})
    assert "Hello from RISC-V!" in capfd.readouterr().out


def test_the_changelog_names_the_lab_rows() -> None:
    text = text_of(ROOT / "docs" / "changelog.md")
    assert all(row.id in text for row in lab.ROWS)
