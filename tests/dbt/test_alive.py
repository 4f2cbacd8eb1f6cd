"""`python -m bench.alive`: what is run and compared, the arithmetic. Timings decide nothing here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import peers

import guests
from bench import alive
from dbt import runs
from dbt.elf import open_image
from dbt.memory import EXEC
from guests.programs import PROGRAMS, path
from guests.riscv import linux


def run(module: str, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(peers.REPOSITORY)} | env
    done = subprocess.run([sys.executable, "-m", module, *words], env=environment, text=True, timeout=300,
                          stdin=subprocess.DEVNULL, capture_output=True, cwd=peers.REPOSITORY)  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done


def folder_with_qemu(tmp_path: Path, text: str) -> str:
    """A PATH in which qemu-riscv64 is this shell script; $QEMU is the true one."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "qemu-riscv64").write_text(f"#!/bin/sh\n{text}\n")
    (folder / "qemu-riscv64").chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


# --- what is run --------------------------------------------------------------------------------------------------


def test_the_groups_are_by_what_the_programs_execute() -> None:
    decode = guests.load("riscv64").decode
    groups = alive.groups()
    assert {name for names in groups.values() for name in names} == set(PROGRAMS) - {"hello", "smc"}
    for group, names in groups.items():
        for name in names:
            image = open_image(path(name), linux)
            found = set()
            for segment in image.segments:
                code = image.data[segment.offset : segment.offset + segment.file_size]
                at = 0 if segment.protection & EXEC else len(code)
                while at + 2 <= len(code):
                    word = int.from_bytes(code[at : at + 4], "little")
                    word, length = (word, 4) if word & 3 == 3 else (word & 0xFFFF, 2)
                    decoded = decode(word)
                    found |= {decoded.row.extension} if decoded is not None else set()
                    at += length
            assert "i" in found and bool(found & {"f", "d"}) == (group == "floating point"), name


def test_no_program_is_measured_as_new_in_a_cache_that_it_filled() -> None:
    assert runs.SEED not in alive.NEVER_SEEN and runs.SEED != runs.SEED_OF_SEED
    assert {runs.SEED, runs.SEED_OF_SEED, *alive.NEVER_SEEN} <= set(PROGRAMS)


def test_commands_grow() -> None:
    by_name = {command.name: command for command in alive.COMMANDS}
    assert len(by_name) == len(alive.COMMANDS) == 11
    assert by_name["echo"].line("page") == ("echo", "hello") and by_name["echo"].line("long") is None
    loop = by_name["sh loop"].line("page")
    assert loop == ("sh", "-c", "i=0; while [ $i -lt 10000 ]; do i=$((i+1)); done")
    assert by_name["awk"].line("long") == ("awk", alive.SUM, *["lines"] * 7)
    assert by_name["grep"].line("page") == ("grep", "-c", "-E", "(on|sh)+[rdlu]{2}", "lines")


def test_input_files_are_the_same_every_time(tmp_path: Path) -> None:
    contents = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        work = alive.input_files(alive.Measuring(1, tmp_path / name))
        contents.append({file.name: file.read_bytes() for file in work.iterdir()})
    assert contents[0] == contents[1] and set(contents[0]) == {"lines", "bytes", "bytes.gz"}
    assert len(contents[0]["bytes"]) == 4 << 20 and contents[0]["lines"].count(b"\n") == 100_000


# --- the command --------------------------------------------------------------------------------------------------


def test_start(tmp_path: Path) -> None:
    peers.need("qemu-riscv64", "qemu-user")
    report = tmp_path / "report.json"
    done = run("bench.alive", "--runs=1", f"--json={report}", "start")
    assert done.returncode == 0 and "start: turn 1 of 1" in done.stderr, done.stderr
    told = json.loads(report.read_text())
    assert (told["runs"], told["left_out"], told["differences"]) == (1, {}, [])
    assert {"spike", "qemu-riscv64"} <= set(told["machine"])
    rows = {row["name"]: row for row in told["parts"]["start"]["rows"]}
    assert rows[alive.BASE]["cpu_beyond_python"] == 0
    for name in ("dragoman: @hello, warm", "dragoman: @sort small, never seen", "dragoman: @sort small, again",
                 "dragoman: @queens small, nothing on disk", "qemu-riscv64: @hello"):  # fmt: skip
        assert rows[name]["cpu_seconds"] > 0 and name in done.stdout
        beyond = rows[name]["cpu_seconds"] - rows[alive.BASE]["cpu_seconds"]
        assert rows[name]["cpu_beyond_python"] == pytest.approx(beyond)


@pytest.fixture
def debian(tmp_path: Path) -> Path:
    """A root whose busybox is @hello: it prints its arguments, which are the commands'."""
    (tmp_path / "root/usr/bin").mkdir(parents=True)
    shutil.copyfile(path("hello"), tmp_path / "root/usr/bin/busybox")
    return tmp_path / "root"


def test_busybox(tmp_path: Path, debian: Path) -> None:
    peers.need("qemu-riscv64", "qemu-user")
    report = tmp_path / "report.json"
    done = run("bench.alive", "--runs=1", f"--json={report}", "busybox", DRAGOMAN_DEBIAN_ROOT=str(debian))
    assert done.returncode == 0 and "All outputs are equal." in done.stdout, done.stderr
    sizes = json.loads(report.read_text())["parts"]["busybox"]["sizes"]
    commands = [command["command"] for command in sizes["page"]["commands"]]
    assert commands == [command.name for command in alive.COMMANDS]
    assert [command["command"] for command in sizes["long"]["commands"]] == commands[1:]  # echo is never long
    for size in sizes.values():
        assert set(size["means"]) == {"dragoman, cold", "dragoman, warm"}
        assert all(mean[clock] > 0 for mean in size["means"].values() for clock in runs.CLOCKS)


def test_one_byte_more_is_a_difference(tmp_path: Path, debian: Path) -> None:
    true = peers.need("qemu-riscv64", "qemu-user")
    script = '"$QEMU" "$@"; case "$*" in *sha256sum*) echo more ;; esac'
    done = run("bench.alive", "--runs=1", "--size=page", "busybox", DRAGOMAN_DEBIAN_ROOT=str(debian), QEMU=true,
               PATH=folder_with_qemu(tmp_path, script))  # fmt: skip
    assert done.returncode == 3 and "All outputs" not in done.stdout
    assert "outputs differ: " in done.stderr and "sha256sum bytes: dragoman printed '' on stdout" in done.stderr
    assert "qemu-riscv64 'more'" in done.stderr


def test_a_wrong_qemu_is_found_in_start(tmp_path: Path) -> None:
    done = run("bench.alive", "--runs=1", "start", PATH=folder_with_qemu(tmp_path, "echo Hello from elsewhere"))
    assert done.returncode == 3
    assert "outputs differ: @hello: qemu-riscv64 printed 'Hello from elsewhere'" in done.stderr


@pytest.mark.parametrize(
    "words, status, sentence",
    [
        (("nothing",), 2, "there is no part 'nothing'"),
        (("--runs=0",), 2, "not a number from 1 on"),
        (("--json=/no/such/file", "start"), 2, "cannot write /no/such/file"),
    ],
)
def test_what_is_misused_is_refused(words: tuple[str, ...], status: int, sentence: str) -> None:
    done = run("bench.alive", *words)
    assert done.returncode == status and sentence in done.stderr


def test_tiers_are_handed_on_and_what_we_say_of_them_ends_it() -> None:
    peers.need("qemu-riscv64", "qemu-user")
    done = run("bench.alive", "--runs=1", "--tiers=nonesuch", "start")
    assert done.returncode == 125 and "dragoman --tiers=nonesuch, @queens small: " in done.stderr


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    done = run("bench.alive", f"--json={report}", "busybox", DRAGOMAN_DEBIAN_ROOT=str(tmp_path / "none"))
    assert done.returncode == 125 and "run `make debian-guests`" in done.stdout
    told = json.loads(report.read_text())
    assert told["parts"] == {} and "make debian-guests" in told["left_out"]["busybox"]


# --- the arithmetic -----------------------------------------------------------------------------------------------


def row(name: str, *seconds: float) -> alive.Row:
    return alive.Row(name, [runs.Sample(2 * s, s, 0, b"", b"") for s in seconds])


def test_differences_are_of_the_same_turn() -> None:
    """Of a machine that is slower in the second turn and has a hiccup in the third."""
    base, other = row("base", 1.0, 2.0, 1.0), row("other", 1.5, 2.5, 9.0)
    assert other.seconds() == 2.5 and other.beyond(base) == 0.5 and other.beyond(base, "wall") == 1.0


def test_ratios_and_their_means() -> None:
    first = alive.ratios({"qemu-riscv64": row("q", 2.0), "dragoman, cold": row("c", 8.0)})
    second = alive.ratios({"qemu-riscv64": row("q", 4.0, 1.0, 4.0), "dragoman, cold": row("c", 4.0, 4.0, 4.0)})
    assert first == {"dragoman, cold": {"cpu": 4.0, "wall": 4.0}}
    assert second == {"dragoman, cold": {"cpu": 1.0, "wall": 1.0}}
    assert alive.ratio_means([first, second])["dragoman, cold"]["cpu"] == pytest.approx(2.0)


def test_means_of_speeds_keep_groups_apart() -> None:
    programs = [
        {"group": group, "program": "x", "engines": {"Spike": {"instructions_per_second": speed}}}
        for group, speed in (("integer", 1e6), ("integer", 4e6), ("floating point", 9e6))
    ]
    means = alive.speed_means(programs)
    assert means["integer"]["Spike"] == pytest.approx(2e6) and means["floating point"]["Spike"] == pytest.approx(9e6)
