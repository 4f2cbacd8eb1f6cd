"""Programs with a C library, statically linked: glibc, musl, and musl as a position-independent executable."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.peers import need

import dragoman

SOURCE = Path(__file__).parent.parent / "programs" / "libc_probe.c"
MUSL = [sys.executable, "-m", "ziglang", "cc", "-target", "riscv64-linux-musl"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("static")


def build(folder: Path, name: str, command: list[str]) -> Path:
    out = folder / name
    subprocess.run([*command, "-O2", "-ffp-contract=off", str(SOURCE), "-o", str(out), "-lm"], check=True)
    return out


def agrees(program: Path) -> None:
    """Output and status under both engines are those of qemu-riscv64."""
    qemu = need("qemu-riscv64", "qemu-user")
    env = {**os.environ, "PROBE": "set"}
    wanted = subprocess.run([qemu, str(program), "last"], capture_output=True, env=env, timeout=60)
    assert wanted.returncode == 5
    for engine in ("translated", "reference"):
        result = dragoman.run(program, ["last"], engine=engine, env=env)
        assert (result.status, result.stdout, result.stderr) == (5, wanted.stdout, wanted.stderr), engine


def test_glibc(folder: Path) -> None:
    agrees(build(folder, "glibc", [need("riscv64-linux-gnu-gcc", "gcc-riscv64-linux-gnu"), "-static"]))


@pytest.mark.long  # the first link for a target builds the C library: a minute or two
@pytest.mark.timeout(1200)
def test_musl(folder: Path) -> None:
    need("ziglang", "ziglang")
    agrees(build(folder, "musl", [*MUSL, "-static"]))


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_musl_position_independent(folder: Path) -> None:
    need("ziglang", "ziglang")
    program = build(folder, "pie", [*MUSL, "-fPIE", "-pie", "-static"])
    assert dragoman.load(program).image.position_independent
    agrees(program)
