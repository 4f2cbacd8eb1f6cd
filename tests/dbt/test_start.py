"""What a run imports: the time of a short one is the time of its imports, so each one that it does not need is named.

Times are measured by `python -m bench.start`, and decide no test.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHOW = "import sys, dragoman; s = dragoman.main(sys.argv[1:]); print(*sys.modules, file=sys.stderr); sys.exit(s)"

# Modules, with all below them, that no run needs which translates nothing.
TRANSLATOR = (
    "llvmlite", "capstone", "dbt.codegen", "ir.builder", "ir.verify", "ir.text", "ir.passes", "ir.llvm.lowering",
    "ir.llvm.emitter", "ir.llvm.exits", "ir.llvm.floats", "ir.llvm.integers", "ir.llvm.memory",
)  # fmt: skip
OTHERS = (
    "dbt.bench", "dbt.compare", "dbt.digest", "dbt.explore", "dbt.lab", "dbt.lockstep", "dbt.profile", "dbt.report",
    "dbt.timeline", "dbt.trace", "dbt.linux.rendering", "dbt.linux.signatures", "dbt.linux.strace",
    "guests.riscv.custom", "guests.riscv.linux_names", "guests.toy",
    "dbt.cli.arguments", "dbt.cli.bench", "dbt.cli.cache", "dbt.cli.compare",
    "dbt.cli.binfmt", "dbt.cli.explore", "dbt.cli.info", "dbt.cli.lockstep", "dbt.cli.qemu",
)  # fmt: skip
SLOW = ("argparse", "ast", "dataclasses", "hashlib", "inspect", "json", "pathlib", "shutil", "subprocess", "tempfile",
        "threading", "tokenize", "urllib")  # fmt: skip
WARM = TRANSLATOR + OTHERS + SLOW
HELLO = (*WARM, "cachetools", "datetime", "dbt.backend", "dbt.blake2", "dbt.cache.assumed", "dbt.cache.database",
         "dbt.cache.policies", "dbt.cache.record", "dbt.hosts.generic_linux", "dbt.hosts.select", "dbt.hosts.x86_64",
         "dbt.native", "random", "sqlite3")  # fmt: skip


def modules_of(folder: Path, *words: str) -> set[str]:
    """What is imported at the end of a command."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    env = kept | {"PYTHONPATH": str(ROOT), "DRAGOMAN_CACHE_DIR": str(folder)}
    done = subprocess.run([sys.executable, "-c", SHOW, *words], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout, done.stderr
    return set(done.stderr.split())


def among(modules: set[str], names: tuple[str, ...]) -> Iterator[str]:
    for module in sorted(modules):
        if any(module == name or module.startswith(f"{name}.") for name in names):
            yield module


def test_a_cold_run_imports_what_it_executes(tmp_path: Path) -> None:
    modules = modules_of(tmp_path, "run", "@hello")
    assert "dbt.engine" in modules
    assert not [*among(modules, HELLO)]


def test_options_cost_no_more_than_what_they_ask_for(tmp_path: Path) -> None:
    words = "--no-disk-cache", "--isa", "rv64gc", "--max-instructions=1000000", "-L", str(tmp_path), "--cache-size=1M"
    assert not [*among(modules_of(tmp_path, "run", *words, "@hello"), HELLO)]
    edited = modules_of(tmp_path, "run", "-E", "A=b", "@hello")
    parsed = {"argparse", "dbt.cli.arguments"}
    assert parsed <= edited and not [*among(edited, tuple({*HELLO} - parsed))]


def test_a_run_from_the_disk_cache_imports_nothing_that_translates(tmp_path: Path) -> None:
    first = modules_of(tmp_path, "run", "@json", "small")
    assert {"llvmlite", "ir.passes", "ir.builder", "ir.llvm.lowering", "dbt.codegen"} <= first
    later = modules_of(tmp_path, "run", "@json", "small")
    assert {"dbt.cache.database", "dbt.native"} <= later
    assert not [*among(later, WARM)]


@pytest.mark.parametrize("name", HELLO)
def test_the_names_are_those_of_modules(name: str) -> None:
    assert find_spec(name) is not None, f"{name} is not there: what is looked for under this name?"
