"""Who may import what. The direction is written here once and read from the source, imports inside functions too.

    ir  <---  guests  <---  dbt  <---  dragoman, tests, bench
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OURS = ("ir", "guests", "dbt", "dragoman")

MAY_IMPORT = {  # package -> which of ours it may import
    "ir": {"ir"},
    "guests": {"guests", "ir"},
    "dbt": {"dbt", "guests", "ir", "dragoman"},
    "dragoman": {"dbt", "guests", "ir", "dragoman"},
}
ONLY_IN = {  # foreign package -> the files, or folders, that may import it
    "llvmlite": ("dbt/codegen.py",),
    "capstone": ("dbt/trace.py", "dbt/lab/"),
    "cachetools": ("dbt/cache.py", "dbt/cache/"),
    "ziglang": ("guests/programs/build.py",),
}
FORBIDDEN = ("llvmlite.ir",)  # its builder is 25 times slower than text


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, as `package.module` or `package.module.name`, wherever it stands."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in ("import_module", "__import__", "find_spec", "importorskip"):
                yield str(node.args[0].value)


def sources() -> list[Path]:
    return [ROOT / "dragoman.py", *(p for name in OURS[:3] for p in sorted((ROOT / name).rglob("*.py")))]


SOURCES = pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(ROOT)))


def within(path: Path, places: tuple[str, ...]) -> bool:
    name = path.relative_to(ROOT).as_posix()
    return any(name == place or (place.endswith("/") and name.startswith(place)) for place in places)


@SOURCES
def test_direction(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0].removesuffix(".py")
    for module in imports(path):
        top = module.partition(".")[0]
        assert top not in OURS or top in MAY_IMPORT[package], f"{path}: {package} must not import {module}"
        assert top not in ("tests", "bench", "support"), f"{path}: imports {module}"


@SOURCES
def test_foreign_packages_have_one_place(path: Path) -> None:
    known = {*sys.stdlib_module_names, *OURS, *ONLY_IN}
    for module in imports(path):
        top = module.partition(".")[0]
        assert top in known, f"{path}: {top} is no dependency of ours"
        assert top not in ONLY_IN or within(path, ONLY_IN[top]), f"{path}: {top} belongs to {ONLY_IN[top]}"
        assert not module.startswith(FORBIDDEN), f"{path}: imports {module}"


def test_only_the_command_line_uses_the_public_face_and_only_when_asked() -> None:
    for path in sources():
        if path == ROOT / "dragoman.py":
            continue
        users = {module.partition(".")[0] for module in imports(path)}
        assert "dragoman" not in users or within(path, ("dbt/cli/", "dbt/lab/")), f"{path} imports dragoman"
    for path in sorted((ROOT / "dbt/cli").glob("*.py")):
        top = [n for n in ast.parse(path.read_text()).body if isinstance(n, ast.Import | ast.ImportFrom)]
        names = {getattr(n, "module", None) or n.names[0].name for n in top}
        foreign = {name for name in names if name.partition(".")[0] in OURS and not name.startswith("dbt.cli")}
        assert not foreign, f"{path} must be quick to import"


@pytest.mark.parametrize("path", sorted((ROOT / "dbt").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_no_engine_names_a_guest(path: Path) -> None:
    """A guest is a value: `guests.load`. Experiments of the lab may look at one."""
    if within(path, ("dbt/lab/",)):
        return
    for module in imports(path):
        parts = module.split(".")
        known = ("load", "spec", "decode", "programs")
        assert parts[0] != "guests" or len(parts) == 1 or parts[1] in known, f"{path}: imports {module}"


def test_the_packages_carry_our_mark() -> None:
    for name in OURS[:3]:
        tree = ast.parse((ROOT / name / "__init__.py").read_text())
        assert any(isinstance(n, ast.Assign) and ast.unparse(n) == "DISTRIBUTION = 'dragoman'" for n in tree.body)


def test_no_package_below_tests() -> None:
    """`tests/ir/__init__.py` would shadow the package `ir`."""
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_the_checks_see_what_they_look_for(tmp_path: Path) -> None:
    path = tmp_path / "sample.py"
    path.write_text("def f():\n from llvmlite import ir\n import dbt.engine\n importlib.import_module('guests.x')\n")
    found = list(imports(path))
    assert found == ["llvmlite.ir", "dbt.engine", "guests.x"]
    assert importlib.util.find_spec("ir") is not None
