"""What the site needs besides the pages: their order, the README among them, and fences as its Markdown has them.

The order is that of the links of `index.md`: a line that ends in a colon begins a section, and a link to an index in a
folder below is a section of what that one links to. Owns: these three. Must not know: what pages say. See mkdocs.yml.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

DOCS = Path(__file__).parent
ROOT = DOCS.parent
FROM_ROOT = {"README.md": "readme.md", "LICENSE": "license.txt"}  # files that pages link to, and their places here
_LINK = re.compile(r"\]\(([^)#\s]+\.md)\)")
_SECTION = re.compile(r"^(\w[^|\[]*):$")
_FENCE = re.compile(r"^```(\w+) (\S+)$", re.MULTILINE)


def order(index: Path) -> list[Any]:
    """The pages that an index links to, each where it is linked first, and the sections that they are in."""
    nav: list[Any] = [_place(index)]
    section, seen = nav, {index}
    for line in index.read_text(encoding="utf-8").splitlines():
        if found := _SECTION.match(line):
            section = []
            nav.append({found[1]: section})
        for target in _LINK.findall(line):
            page = (index.parent / target).resolve()
            if page in seen or not (page.is_relative_to(index.parent) or page == ROOT / "README.md"):
                continue
            seen.add(page)
            section.append({_title(page): order(page)} if page.name == index.name else _place(page))
    return nav


def _place(page: Path) -> str:
    """A page's place in the site."""
    return page.relative_to(DOCS).as_posix() if page.is_relative_to(DOCS) else FROM_ROOT[page.name]


def _title(page: Path) -> str:
    return page.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")


def on_config(config: Any) -> Any:
    """The configuration is read: the order is known now."""
    config.nav = order(DOCS / "index.md")
    return config


def on_files(files: Files, config: Any) -> Files:
    """The files of the documents are known: what lies beside their folder is added."""
    for name, place in FROM_ROOT.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, place, content=text.replace("](docs/", "](")))
    return files


def on_page_markdown(text: str, page: Any, config: Any, files: Files) -> str:
    """A page is about to be rendered: links to what lies beside the folder, and the names behind its fences."""
    for name, place in FROM_ROOT.items():
        text = re.sub(rf"\]\((?:\.\./)*{re.escape(name)}\)", f"]({place})", text)
    return _FENCE.sub(r'```\1 title="\2"', text)
