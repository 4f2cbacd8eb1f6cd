"""Runs named tests of ours in a process that has a defect planted in one module; no file is changed.

    Server                    a process that has imported pytest and the foreign packages, and nothing of ours
      run(tests, defect)      a fork of it plants the defect, runs pytest on these tests, and says how each went

The defect is an edit of a module's source, made when the module is imported: the byte code of the module as it is on
disk is neither read nor written. A test that starts a process of its own starts it without the defect.
Owns: the planting and the judgement of what pytest did. Must not know: which defects there are.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import find_spec
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
OURS = ("ir", "guests", "dbt", "dragoman")
PLUGINS = ("pytest_timeout", "pytest_benchmark.plugin")  # that our pytest settings name; all others are left out
FOREIGN = ("pytest", *PLUGINS, "capstone", "llvmlite.binding", "cachetools")
VERBOSE = ("CI", "BUILD_NUMBER")  # where pytest finds these, it spends up to half a minute on how long lists differ
TIME_LIMIT = 120  # seconds a test may take


class Stale(Exception):
    """The text that a defect replaces is not in the file exactly once."""


class Defect(NamedTuple):
    """`new` in the place of `old` in a file, named from the root of the tree."""

    file: str
    old: str
    new: str

    def source(self) -> str:
        """The file's text with the defect."""
        text = (ROOT / self.file).read_text(encoding="utf-8")
        if text.count(self.old) != 1:
            raise Stale(f"{self.file}: {self.old!r} is there {text.count(self.old)} times")
        return text.replace(self.old, self.new)

    @property
    def module(self) -> str:
        return self.file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


@dataclass
class Outcome:
    """How the run of some tests went."""

    status: int | None = None  # pytest's exit status; None if it ended in another way
    tests: dict[str, dict[str, str]] = field(default_factory=dict)  # node -> phase -> outcome, or what was raised
    broken: list[str] = field(default_factory=list)  # what could not be collected
    planted: bool = False  # whether the module with the defect was imported
    seconds: float = 0.0
    output: str = ""


class Planting(MetaPathFinder):
    """Finds one module, and gives it the source with the defect."""

    def __init__(self, defect: Defect) -> None:
        self.module, self.path, self.text = defect.module, str(ROOT / defect.file), defect.source()
        self.done = False

    def find_spec(self, name: str, path: Sequence[str] | None, target: Any = None) -> ModuleSpec | None:
        if name != self.module:
            return None
        spec = PathFinder.find_spec(name, path, target)
        assert spec is not None and spec.origin == self.path, f"{name} is not {self.path}"
        spec.loader = _Loader(name, self.path, self)
        spec.cached = None
        return spec


class _Loader(SourceFileLoader):
    def __init__(self, name: str, path: str, planting: Planting) -> None:
        super().__init__(name, path)
        self.planting = planting

    def get_code(self, fullname: str) -> CodeType:
        self.planting.done = True
        return compile(self.planting.text, self.path, "exec", dont_inherit=True)


class _Recorder:
    """A plugin of pytest that notes what became of every test."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self.outcome.broken.append(report.nodeid)

    def pytest_runtest_makereport(self, item: Any, call: Any) -> None:
        raised = "passed" if call.excinfo is None else call.excinfo.typename
        self.outcome.tests.setdefault(item.nodeid, {})[call.when] = raised


# --- the server's side ---------------------------------------------------------------------------------------------


def serve() -> None:
    """Answer requests, one line of JSON each, until there are no more."""
    del os.environ["PYTHONPATH"]  # it is for finding us, not for what tests start
    for name in FOREIGN:
        if find_spec(name.partition(".")[0]):
            import_module(name)
    assert not set(OURS) & set(sys.modules)
    requests, answers = sys.stdin, os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    with tempfile.TemporaryDirectory(prefix="dragoman-planted-") as scratch:
        for number, line in enumerate(requests):
            tests, defect, os.environ["DRAGOMAN_TEST_SCALE"] = json.loads(line)
            outcome = _forked(tests, Defect(*defect) if defect else None, Path(scratch, str(number)))
            answers.write(json.dumps(asdict(outcome)) + "\n")
            answers.flush()


def _forked(tests: list[str], defect: Defect | None, scratch: Path) -> Outcome:
    begin = time.monotonic()
    reading, writing = os.pipe()
    with open(scratch.with_suffix(".log"), "w+b") as log:
        child = os.fork()
        if not child:
            try:
                os.setsid()
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
                os.write(writing, json.dumps(asdict(_run(tests, defect, scratch))).encode())
            except BaseException:  # it is ours to tell; the server must not go on twice
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(0)
        os.close(writing)
        answer = _all_of(reading, begin + TIME_LIMIT * len(tests))
        os.close(reading)
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        log.seek(0)
        outcome = Outcome(**json.loads(answer)) if answer else Outcome()
        outcome.output = log.read().decode(errors="replace")
    outcome.seconds = time.monotonic() - begin
    return outcome


def _all_of(descriptor: int, deadline: float) -> bytes:
    """What comes until the other end is closed, or until it is too late."""
    parts = []
    while (left := deadline - time.monotonic()) > 0 and select.select([descriptor], [], [], left)[0]:
        part = os.read(descriptor, 1 << 16)
        if not part:
            break
        parts.append(part)
    return b"".join(parts)


def _run(tests: list[str], defect: Defect | None, scratch: Path) -> Outcome:
    import pytest

    outcome = Outcome()
    planting = Planting(defect) if defect else None
    if planting:
        sys.meta_path.insert(0, planting)
    options = ["-q", "--no-header", "--tb=short", "-pno:cacheprovider", f"--basetemp={scratch}"]
    options += [f"-p{plugin}" for plugin in PLUGINS]
    outcome.status = int(pytest.main([*options, *tests], plugins=[_Recorder(outcome)]))
    outcome.planted = planting is not None and planting.done
    return outcome


# --- the side of whoever asks --------------------------------------------------------------------------------------


class Server:
    """A process that runs tests, planted or not. To be closed."""

    def __init__(self) -> None:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_") and k not in VERBOSE}
        places = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "support.planted"], cwd=ROOT, text=True,
            env=kept | {"PYTHONPATH": places, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def run(self, tests: Sequence[str], defect: Defect | None = None, scale: float = 1) -> Outcome:
        """Run tests by their node identifiers, with the numbers of random cases scaled."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps([list(tests), defect, str(scale)]) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the server ended"
        return Outcome(**json.loads(answer))

    def close(self) -> None:
        self._process.communicate()


if __name__ == "__main__":
    serve()
