"""The documents as a site: it builds, has every page in its order, and a link that leads nowhere is found."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as xml
from html import unescape
from pathlib import Path

import pytest
from support.desk import ROOT

pytest.importorskip("material", reason="mkdocs-material is not installed")
SVG = "{http://www.w3.org/2000/svg}"


def build(tree: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """The site of a tree's documents, as `make docs` builds it."""
    words = ["-m", "mkdocs", "build", "--strict", "--config-file", str(tree / "mkdocs.yml"), "--site-dir", str(site)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=300, env=environment)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT, folder)
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr
    return folder


def text_of(page: Path) -> str:
    return unescape(re.sub(r"<[^>]+>", "", page.read_text(encoding="utf-8")))


def test_every_page_is_there_and_in_the_navigation(site: Path) -> None:
    front = (site / "index.html").read_text(encoding="utf-8")
    pages = [path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")]
    for page in [*pages, Path("readme.md")]:
        place = page.with_suffix(".html").as_posix()
        assert (site / place).exists() and f'href="{place}"' in front.replace('href="./"', 'href="index.html"'), place
    index = (ROOT / "docs" / "lab" / "index.md").read_text()
    order = re.findall(r"^\| \[.*?\]\((\w.*?)\.md\)", index, re.MULTILINE)
    assert len(order) > 10
    assert [page for page in re.findall(r'href="lab/([\w-]+)\.html"', front) if page in order][: len(order)] == order


def test_pages_say_what_they_say(site: Path) -> None:
    page = text_of(site / "lab" / "interpretation.html")
    assert "解释执行" in page and "敏感指令" in page and "mine.s" in page and "<!-- varies" not in page
    assert not re.search(r'(?:src|stylesheet" href)="https?:', (site / "lab" / "interpretation.html").read_text())
    assert "```" not in page and "| page |" not in text_of(site / "lab" / "index.html")
    assert (site / "lab" / "solutions" / "toy.s").exists() and not (site / "site.py").exists()


def test_the_picture_of_a_block_says_what_the_page_says(site: Path) -> None:
    assert "images/life-of-a-block.svg" in (site / "life-of-a-block.html").read_text()
    root = xml.parse(site / "images" / "life-of-a-block.svg").getroot()
    page = " ".join((ROOT / "docs" / "life-of-a-block.md").read_text().split())
    lines = list(root.iter(f"{SVG}text"))
    code = [" ".join((each.text or "").split()) for each in lines if each.get("class") == "code"]
    assert len(code) > 25
    for line in code:
        assert line in page or all(word in page for word in line.split()), line
    for each in lines:
        if each.get("class") == "file":
            for name in (each.text or "").split(", "):
                assert (ROOT / name).exists(), name


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    for name in ("mkdocs.yml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    for wrong in ("nowhere.md", "glossary.md#nowhere"):
        page = tmp_path / "docs" / "coverage.md"
        page.write_text(f"# Coverage\n\n[a link]({wrong})\n")
        done = build(tmp_path, tmp_path / "site")
        assert done.returncode != 0 and "nowhere" in done.stderr, done.stderr
    page.write_text("# Coverage\n")
    (tmp_path / "docs" / "other.md").write_text("# Nobody links to it\n")
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode != 0 and "other.md" in done.stderr, done.stderr
