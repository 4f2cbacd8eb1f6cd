"""Finding and starting programs: dynamic ones with their loader, scripts with their interpreter, the sysroot."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from support import cross, peers
from support.hostile import has_namespaces

import dragoman
import guests.riscv.linux as facts
from dbt.elf import NotRunnable
from dbt.linux.programs import MOST_SCRIPTS, Program, find
from dbt.linux.sysroot import Sysroot
from dbt.options import Options
from guests import programs

HELLO = os.fsencode(programs.file("@hello"))


def plain(path: bytes) -> bytes:
    return path


def script(path: Path, line: str, mode: int = 0o755) -> bytes:
    path.write_text(line)
    path.chmod(mode)
    return os.fsencode(path)


def found(path: bytes, argv: Sequence[bytes] = (b"name", b"x", b"y"), **how: bool) -> Program:
    return find(path, argv, facts, plain, **how)


# Dynamic programs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["translated", "reference"])
def test_a_dynamic_program_finds_what_linux_promises(engine: str, tmp_path: Path) -> None:
    program = cross.build(tmp_path, "dynamic_probe")
    env = {"PROBE": "set"}
    wanted = cross.qemu(program, ["a", "last"], env=env)
    assert wanted[0] == 3, wanted
    ours = dragoman.run(program, ["a", "last"], engine=engine, env=env, sysroot=cross.ROOT)
    output = wanted[1].replace(b"comm qemu-riscv64\n", b"comm dynamic_probe\n")  # where qemu shows itself
    assert (ours.status, ours.stdout, ours.stderr) == (3, output, wanted[2])
    found = ours.stdout.decode().replace("secure 0", "").replace("cos 0.", "")
    assert " 0" not in found, found  # each number says that something is as it should be


@pytest.mark.parametrize("kind", ["dynamic", "static", "small"])
def test_a_program_with_a_library_is_none_of_the_short_ones(kind: str, tmp_path: Path) -> None:
    """A short program is over before it would be worth loading stencils. One that begins with a loader, or with the
    relocations of a static library, is never that short.
    """
    flags = {"dynamic": (), "static": ("-static",)}
    program = cross.build(tmp_path, "dynamic_probe", *flags[kind]) if kind in flags else "@json"
    ran = dragoman.run(program, ["small"], sysroot=cross.ROOT, options=Options(disk=True))
    assert (ran.stats["interpreted_cold"] < 30) == (kind in flags), ran.stats["interpreted_cold"]


def test_a_loader_that_is_missing_is_named(tmp_path: Path) -> None:
    program = cross.build(tmp_path, "dynamic_probe")
    with pytest.raises(NotRunnable, match=r"its loader /lib/ld-linux.* is not here: -L DIR or ") as caught:
        find(os.fsencode(program), [b"x"], facts, lambda path: b"/nonesuch" + path)
    assert caught.value.code == errno.ENOENT
    with pytest.raises(NotRunnable, match=r"its loader .* cannot be used \(.* is not an ELF file\)") as caught:
        find(os.fsencode(program), [b"x"], facts, lambda path: script(tmp_path / "loader", "text"))
    assert caught.value.code == errno.ELIBBAD


# Scripts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rest", "argument"), [
    ("\nmore", []), (" one argument \t\n", [b"one argument"]), ("\t-x\n", [b"-x"]), (" \n", []), ("", []),
], ids=["none", "one", "after a tab", "blank", "cut"])  # fmt: skip
def test_a_script_is_run_by_its_interpreter(rest: str, argument: list[bytes], tmp_path: Path) -> None:
    path = script(tmp_path / "script", f"#! {os.fsdecode(HELLO)}{rest}")
    program = found(path)
    assert program.argv == (HELLO, *argument, path, b"x", b"y")
    assert (program.path, program.name, program.loader) == (os.path.realpath(HELLO), path, None)


@pytest.mark.parametrize("head", ["#!\n", "#! \t\n", "#!/" + "x" * 300, "#!" + " " * 300 + "/bin/sh\n"])
def test_a_first_line_without_an_interpreter(head: str, tmp_path: Path) -> None:
    with pytest.raises(NotRunnable, match="its first line names no interpreter in 256 bytes") as caught:
        found(script(tmp_path / "script", head))
    assert caught.value.code == errno.ENOEXEC


def test_scripts_may_run_scripts_but_not_for_ever(tmp_path: Path) -> None:
    below = HELLO
    for depth in range(MOST_SCRIPTS):
        below = script(tmp_path / f"script{depth}", f"#!{os.fsdecode(below)} -{depth}\n")
    assert found(below).argv[:5] == (HELLO, b"-0", os.fsencode(tmp_path / "script0"), b"-1",
                                     os.fsencode(tmp_path / "script1"))  # fmt: skip
    with pytest.raises(NotRunnable, match="more than 5 deep") as caught:
        found(script(tmp_path / "last", f"#!{os.fsdecode(below)}\n"))
    assert caught.value.code == errno.ELOOP


def test_what_execve_refuses(tmp_path: Path) -> None:
    refusals = [
        (script(tmp_path / "plain", "#!/bin/sh\n", 0o644), "permission denied", errno.EACCES),
        (os.fsencode(tmp_path), "is a directory", errno.EACCES),
        (script(tmp_path / "text", "echo\n"), "is not an ELF file", errno.ENOEXEC),
        (script(tmp_path / "gone", "#!/nonesuch/sh\n"), "the script's interpreter /nonesuch/sh is not here: -L",
         errno.ENOENT),
        (script(tmp_path / "to-host", "#!/bin/sh\n"), "the script's interpreter /bin/sh: is for .*: -L", errno.ENOEXEC),
        (script(tmp_path / "to-folder", "#!/usr\n"), "the script's interpreter /usr: is a directory", errno.EACCES),
    ]  # fmt: skip
    for path, sentence, code in refusals:
        with pytest.raises(NotRunnable, match=sentence) as caught:
            found(path, checked=True)
        assert caught.value.code == code, sentence
    with pytest.raises(FileNotFoundError):
        found(b"/nonesuch")


def test_a_script_runs_from_the_command(tmp_path: Path) -> None:
    result = dragoman.run(script(tmp_path / "script", f"#!{os.fsdecode(HELLO)} from\n").decode(), ["here"])
    assert result.stdout.decode().splitlines()[1:] == [
        "argc = 4", "argv[1] = from", f"argv[2] = {tmp_path}/script", "argv[3] = here"
    ]  # fmt: skip


# The sysroot --------------------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "usr/lib").mkdir(parents=True)
    (root / "etc/alternatives").mkdir(parents=True)
    (root / "usr/lib/thing").write_text("thing")
    links = {
        "lib": "usr/lib", "etc/alternatives/thing": "/usr/lib/thing", "thing": "/etc/alternatives/thing",
        "up": "../../../usr/lib", "loop": "/loop", "away": "/proc/version", "gone": "/nonesuch/it",
    }  # fmt: skip
    for link, target in links.items():
        (root / link).symlink_to(target)
    return root


@pytest.mark.parametrize(("path", "follow", "below"), [
    ("/usr/lib/thing", True, "/usr/lib/thing"), ("/lib/thing", True, "/usr/lib/thing"),
    ("/thing", True, "/usr/lib/thing"), ("/thing", False, "/thing"), ("/lib", False, "/lib"),
    ("/lib/", False, "/usr/lib/"),
    ("/up/thing", True, "/usr/lib/thing"), ("/usr/../../..//./lib/thing", True, "/usr/lib/thing"), ("/", True, "/"),
])  # fmt: skip
def test_links_lead_to_places_inside(path: str, follow: bool, below: str, root: Path) -> None:
    assert Sysroot(root).host_path(path.encode(), follow) == os.fsencode(f"{root}{below}")


@pytest.mark.parametrize(("path", "outside"), [
    ("/etc/passwd", "/etc/passwd"), ("/usr/lib/none/at/all", "/usr/lib/none/at/all"), ("/away", "/proc/version"),
    ("/gone", "/nonesuch/it"), ("/proc/self/maps", "/proc/self/maps"), ("/usr/lib/thing/below", "/usr/lib/thing/below"),
])  # fmt: skip
def test_what_is_not_below_is_the_hosts(path: str, outside: str, root: Path) -> None:
    assert Sysroot(root).host_path(path.encode()) == outside.encode()
    assert Sysroot(None).host_path(path.encode()) == path.encode()


def test_links_in_a_circle(root: Path) -> None:
    with pytest.raises(OSError) as caught:
        Sysroot(root).host_path(b"/loop")
    assert caught.value.errno == errno.ELOOP
    assert Sysroot(root).host_path(b"/loop", follow=False) == os.fsencode(root / "loop")


def test_a_host_path_as_the_guest_calls_it(root: Path) -> None:
    sysroot = Sysroot(root / "../root")
    pairs = {b"/usr/lib": root / "usr/lib", b"/": root, os.fsencode(f"{root}er"): f"{root}er", b"/etc": "/etc"}
    assert {guest: sysroot.guest_path(os.fsencode(host)) for guest, host in pairs.items()} == {g: g for g in pairs}


# Another root -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["translated", "reference"])
def test_calls_are_there_when_our_files_are_not(engine: str, tmp_path: Path) -> None:
    """A handler that is first wanted after pivot_root could not be imported any more."""
    if not has_namespaces():
        pytest.skip("users and mounts of one's own are not to be had here")
    (tmp_path / "root").mkdir()
    wanted = subprocess.run([cross.native(tmp_path / "host", "pivot", "-w"), tmp_path / "root"], capture_output=True)
    assert wanted.returncode == 5 and b"pivot_root: 0" in wanted.stdout and wanted.stdout.count(b"\n") > 15
    guest = cross.build(tmp_path / "guest", "pivot", "-static", "-w")
    done = subprocess.run([sys.executable, "-m", "dragoman", "run", f"--engine={engine}", guest, tmp_path / "root"],
                          capture_output=True, cwd=peers.REPOSITORY)  # fmt: skip
    assert (done.returncode, done.stdout) == (wanted.returncode, wanted.stdout), done.stderr
