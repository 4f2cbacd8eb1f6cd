"""Programs of a Debian system for riscv64, against qemu-riscv64: the table of `bench/debian_commands.py`.

Both run in a fresh folder of one name; status, output, errors and all files there must be the same bytes.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import cross, peers

from bench import debian
from bench.debian_commands import COMMANDS, PACKAGES, Command, arguments, environment, fill

Outcome = tuple[int, bytes, bytes, dict[str, bytes]]


@pytest.fixture(scope="module")
def root() -> Path:
    return peers.debian_program("usr/bin/bash").parents[2].resolve()


def fresh(folder: Path, root: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
    fill(folder, root / "usr/bin")


def files(folder: Path) -> dict[str, bytes]:
    """By name, but for those in which Git keeps times and numbers of files."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in sorted(folder.rglob("*")) if path.name not in ("index", "logs") and not path.is_socket()
    }  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_same_as_qemu(command: Command, root: Path, tmp_path: Path) -> None:
    program = peers.need_file(root / command.program, "make debian-guests")
    words, env, folder = arguments(command, root), environment(root), tmp_path / "work"
    fresh(folder, root)
    wanted: Outcome = (*cross.qemu(program, words, root=root, env=env, stdin=command.stdin, cwd=folder,
                                   executes=command.executes, timeout=240), files(folder))  # fmt: skip
    fresh(folder, root)
    done = subprocess.run(
        [sys.executable, "-m", "dragoman", "run", "-L", str(root), str(program), *words], input=command.stdin,
        capture_output=True, cwd=folder, timeout=240, env={
            **env, "PYTHONPATH": str(peers.REPOSITORY), "DRAGOMAN_CACHE_DIR": os.environ["DRAGOMAN_CACHE_DIR"]},
    )  # fmt: skip
    ours: Outcome = done.returncode, done.stdout, done.stderr, files(folder)
    assert ours[0] == wanted[0], ours[2].decode(errors="replace")
    assert ours[2] == wanted[2]
    assert ours[1] == wanted[1]
    assert ours[3] == wanted[3]


def test_the_table_is_what_it_is_said_to_be() -> None:
    """Commands of each kind, of packages that are fetched, and those are the ones that the Makefile names."""
    assert len(COMMANDS) >= 50 and len({command.name for command in COMMANDS}) == len(COMMANDS)
    assert sum(command.package == "coreutils" for command in COMMANDS) >= 12
    used = {command.package for command in COMMANDS}
    assert used <= set(PACKAGES) and set(PACKAGES) - used == {"busybox-static", "libc6-dev"}
    text = (peers.REPOSITORY / "Makefile").read_text().replace("\\\n", " ")
    named = re.search(r"^DEBIAN_PACKAGES \?= (.*)$", text, re.MULTILINE)
    assert named is not None and named[1].split() == PACKAGES


def test_a_program_that_misses_its_loader_is_told_where_to_look(root: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dragoman", "run", "-L", str(tmp_path), str(root / "usr/bin/bash")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60,
                          env={"PYTHONPATH": str(peers.REPOSITORY)})  # fmt: skip
    assert done.returncode == 126 and done.stdout == ""
    assert re.fullmatch(r"dragoman: .*/bash is dynamically linked, and its loader /lib/.* is not here: -L DIR or .*\n",
                        done.stderr), done.stderr  # fmt: skip


# How fast they are --------------------------------------------------------------------------------------------------


def test_the_benchmark_measures_what_agrees(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert debian.main(["--runs=1", f"--root={root}", "printf", "bash-start"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:4]] == ["bash-start", "printf"]
    assert all(0 < float(word) < 100 for line in lines[2:4] for word in line.split()[1:])


def test_the_benchmark_finds_a_difference(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(debian, "COMMANDS", (Command("own", "bash", ("bash", "-c", "echo $DRAGOMAN_CACHE_DIR")),))
    assert debian.main(["--runs=1", f"--root={root}"]) == debian.DIFFER
    assert "own: printed " in capsys.readouterr().err


def test_sums_are_of_long_commands_and_differences_of_short_ones() -> None:
    def row(qemu: float, cold: float, warm: float) -> dict[str, dict[str, float]]:
        return {way: {"cpu": s, "wall": s} for way, s in (("qemu", qemu), ("cold", cold), ("warm", warm))}

    text = debian.table({"a": row(2, 4, 1), "b": row(1, 2, 2), "c": row(0.1, 0.3, 0.2), "d": row(0.2, 0.3, 0.5),
                         "xz-threads": row(2, 3, 3)})  # fmt: skip
    assert "cpu, warm: 1 commands with threads over 0.5 s take 3.00 s, 1.50 of qemu's 2.00 s" in text
    assert "cpu, cold: 2 commands over 0.5 s take 6.00 s, 2.00 of qemu's 3.00 s" in text
    assert "wall, warm: 2 commands over 0.5 s take 3.00 s, 1.00 of qemu's 3.00 s" in text
    assert "cpu, cold: 2 shorter commands take +0.150 s more (median)" in text


@pytest.mark.parametrize("words", [["nonesuch"], ["--runs=0"], ["--root=/nonesuch"]])
def test_the_benchmark_refuses_what_it_cannot_do(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        debian.main(words)
    assert caught.value.code == 2 and capsys.readouterr().err.count("error: ") == 1
