"""The wheel: it holds what runs and nothing else, and runs where there is no source tree.

Nothing is downloaded: the wheel is built by the build back end of this environment, and the fresh environment that it
is installed into borrows the dependencies from this one.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Sequence
from email import message_from_bytes
from pathlib import Path

import pytest
from support import peers

from guests.programs import PROGRAMS

ROOT = peers.REPOSITORY


def run(command: Sequence[str | Path], cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, without what would lead Python back to the source tree."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return subprocess.run(command, cwd=cwd, env=clean | env, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the source tree as `pip wheel .` would."""
    peers.need("hatchling", "hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    done = run([sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder], ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        assert archive.testzip() is None
        listed = archive.namelist()
    assert len(listed) == len(set(listed)), "a file is in the wheel twice"
    return set(listed)


def test_name_is_pure_python(wheel: Path) -> None:
    assert re.fullmatch(r"dragoman-\d+(\.\d+)+-py3-none-any\.whl", wheel.name)


def test_only_what_is_ours(names: set[str]) -> None:
    tops = {name.split("/")[0] for name in names}
    (information,) = {top for top in tops if top.endswith(".dist-info")}
    assert tops == {"dragoman.py", "dbt", "ir", "guests", information}


def test_every_module_is_there(names: set[str]) -> None:
    modules = {
        str(path.relative_to(ROOT)) for package in ("dbt", "ir", "guests") for path in (ROOT / package).rglob("*.py")
    }
    assert modules | {"dragoman.py"} == {name for name in names if name.endswith(".py")}


def test_programs_come_with_their_sources(names: set[str]) -> None:
    for name in PROGRAMS:
        assert f"guests/programs/{name}/{name}.elf" in names
        assert f"guests/programs/{name}/{name}.c" in names
    assert any(name.startswith("guests/programs/runtime/") for name in names)


def test_no_leftovers(names: set[str]) -> None:
    unwanted = re.compile(r"(^|/)(__pycache__|tests?|bench|\.[^/]*)/|\.(pyc|so|o|log|tmp)$|(^|/)(test_|conftest)[^/]*$")
    assert not {name for name in names if unwanted.search(name)}


def test_description(wheel: Path, names: set[str]) -> None:
    (information,) = {name for name in names if name.endswith(".dist-info/METADATA")}
    folder = information.rpartition("/")[0]
    with zipfile.ZipFile(wheel) as archive:
        description = message_from_bytes(archive.read(information))
        commands = archive.read(f"{folder}/entry_points.txt").decode()
    assert description["Name"] == "dragoman"
    assert description["Requires-Python"] == ">=3.11"
    assert description["License-Expression"] == "Apache-2.0"
    assert f"{folder}/licenses/LICENSE" in names
    needed = [line for line in description.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert {re.split(r"[^\w-]", line)[0] for line in needed} == {"llvmlite", "capstone", "cachetools"}
    assert "dragoman = dragoman:main" in commands


# --- installed --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of commands of a fresh environment with the wheel in it."""
    pip = importlib.util.find_spec("pip")
    if pip is None:
        peers.missing("pip is not installed: install the package pip")
    home = tmp_path_factory.mktemp("installed") / "environment"
    venv.create(home, with_pip=False, symlinks=True)
    python = home / "bin" / "python"
    target = run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], home)
    done = run([sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index",
                "--disable-pip-version-check", wheel], home)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    # A path in a .pth file: the modules there are found, but the .pth files there, an editable install, are not read.
    Path(target.stdout.strip(), "borrowed.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return home / "bin"


def test_comes_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    code = "import dragoman, dbt.cli, ir, guests\nfor m in dragoman, dbt.cli, ir, guests: print(m.__file__)"
    done = run([installed / "python", "-c", code], tmp_path)
    assert done.returncode == 0, done.stderr
    assert all(Path(line).is_relative_to(installed.parent) for line in done.stdout.splitlines()), done.stdout


def test_version(installed: Path, wheel: Path, tmp_path: Path) -> None:
    for command in ([installed / "dragoman"], [installed / "python", "-m", "dragoman"]):
        done = run([*command, "--version"], tmp_path)
        assert (done.returncode, done.stdout, done.stderr) == (0, f"dragoman {wheel.name.split('-')[1]}\n", "")


@pytest.mark.parametrize("engine", ["reference", "translated"])
def test_runs_a_bundled_program(installed: Path, engine: str, tmp_path: Path) -> None:
    done = run([installed / "dragoman", "run", f"--engine={engine}", "@hello", "wheel"], tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "Hello from RISC-V!\nargc = 2\nargv[1] = wheel\n"


def test_leaves_nothing_behind(installed: Path, tmp_path: Path) -> None:
    done = run([installed / "dragoman", "compare", "@hello"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []
