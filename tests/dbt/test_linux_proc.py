"""What a guest sees of itself below /proc. `tests/programs/proc_probe.c` is asked on the host's own kernel, too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support import cross, peers

import dragoman
from dbt.linux.paths import ABSENT

NAME = "proc_probe"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the probe for the guest in `guest`, and for the host in `host`."""
    folder = tmp_path_factory.mktemp("proc")
    cross.build(folder / "guest", NAME, "-w")
    cross.native(folder / "host", NAME, "-w")
    return folder


def run(command: list[str], cwd: Path) -> tuple[int, bytes]:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, cwd=cwd,
                          timeout=60, env={"PYTHONPATH": str(peers.REPOSITORY)})  # fmt: skip
    return done.returncode, done.stdout


@pytest.mark.parametrize("options", [(), ("--engine=reference",), ("--deterministic",)], ids=str)
def test_a_guest_sees_itself_as_a_program_of_the_host_does(
    folder: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    """Its descriptors and none of ours, its one thread, its memory, its program, which nobody may write to."""
    wanted = run([str(folder / "host" / NAME)], tmp_path)
    assert wanted[0] == 0 and wanted[1].count(b"\n") > 35 and b"0/10 1/10 2/10 3/10 4/10 77/10\n" in wanted[1]
    command = [sys.executable, "-m", "dragoman", "run", "-L", str(cross.ROOT), *options]
    assert run([*command, str(folder / "guest" / NAME)], tmp_path) == wanted


def test_from_python_too(folder: Path, tmp_path: Path) -> None:
    """Where other threads and descriptors are the caller's."""
    wanted = run([str(folder / "host" / NAME)], tmp_path)
    done = dragoman.run(folder / "guest" / NAME, sysroot=cross.ROOT, engine="reference")
    assert (done.status, done.stdout) == wanted


def test_files_that_would_tell_of_us_are_not_there() -> None:
    busybox = peers.debian_program("usr/bin/busybox")
    for name in sorted(ABSENT):
        done = dragoman.run(busybox, ["cat", f"/proc/self/{name}"], engine="reference")
        assert done.status == 1 and b"No such file or directory" in done.stderr
