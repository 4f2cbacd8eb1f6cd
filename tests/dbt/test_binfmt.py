"""`dragoman binfmt`: what its line matches, and the kernel's own opinion, in a namespace that ends with the test."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from support import tiny
from support.peers import REPOSITORY

import guests
from dbt import cli
from dbt.cli import binfmt
from guests.programs import PROGRAMS, file

MACHINE = guests.load("riscv64").linux.ELF_MACHINE
DEBIAN = Path(os.environ.get("DRAGOMAN_DEBIAN_ROOT") or REPOSITORY / ".cache/debian-riscv64/root")


def taken(head: bytes) -> bool:
    return binfmt.matches(head, *binfmt.magic(MACHINE))


def test_the_magic_takes_programs_of_riscv64_and_no_others() -> None:
    for program in PROGRAMS:
        assert taken(Path(file(f"@{program}")).read_bytes()[:64]), program
    good = tiny.elf(bytes(8))
    assert taken(good) and taken(tiny.header(kind=3)) and taken(good[:7] + b"\3" + good[8:])
    for bad in (tiny.header(machine=62), tiny.header(machine=183), tiny.header(bits=1), tiny.header(kind=1),
                tiny.header(kind=4), good[:5] + b"\2" + good[6:], b"#!/bin/sh\n" + bytes(60), b"MZ" + bytes(60),
                good[:19], b"", b"\x7fELG" + good[4:]):
        assert not taken(bad), bad[:20]
    assert not taken(Path(sys.executable).resolve().read_bytes()[:64])


def test_the_magic_takes_what_debian_ships() -> None:
    found = 0
    for folder in ("usr/bin", "usr/lib/riscv64-linux-gnu"):
        for path in sorted((DEBIAN / folder).glob("*")) if (DEBIAN / folder).is_dir() else []:
            if path.is_file() and not path.is_symlink() and os.access(path, os.R_OK):
                with path.open("rb") as opened:
                    head = opened.read(64)
                assert taken(head) == (head[:4] == b"\x7fELF" and head[16] in (2, 3)), path  # no object file
                found += taken(head)
    if not found:
        pytest.skip(f"{DEBIAN} has no programs: run `make debian-guests`")


def test_the_line_and_what_is_said_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runner = tmp_path / "dragoman-riscv64"
    runner.write_text("#!/bin/sh\n")
    assert cli.main(["binfmt", f"--interpreter={runner}"]) == 2
    assert "there is no such command" in capsys.readouterr().err
    runner.chmod(0o755)
    assert cli.main(["binfmt", f"--interpreter={runner}"]) == 0
    out, err = capsys.readouterr()
    assert out.count("\n") == 1 and out.startswith(":dragoman-riscv64:M::\\x7f\\x45\\x4c\\x46\\x02\\x01\\x01\\x00")
    assert out.endswith(f":{runner}:P\n") and err.startswith("dragoman: ") and err.count("\n") == 1
    colon = tmp_path / "a:b"
    colon.symlink_to(runner)
    assert cli.main(["binfmt", f"--interpreter={colon}"]) == 2
    assert "colon" in capsys.readouterr().err
    assert cli.main(["binfmt", "register"]) == 2


def test_what_is_registered_is_found(tmp_path: Path) -> None:
    assert binfmt.state(MACHINE, str(tmp_path)).endswith("is not mounted at " + str(tmp_path) + " here")
    (tmp_path / "status").write_text("enabled\n")
    (tmp_path / "register").touch()
    assert binfmt.state(MACHINE, str(tmp_path)) == "nothing is registered here for RISC-V programs"
    value, mask = binfmt.magic(MACHINE)
    text = "{}\ninterpreter /usr/bin/{}\nflags: POCF\noffset 0\nmagic {}\nmask {}\n"
    (tmp_path / "arm").write_text(text.format("enabled", "arm", binfmt.magic(183)[0].hex(), mask.hex()))
    (tmp_path / "python").write_text("enabled\ninterpreter /usr/bin/python\nflags: \nextension .py\n")
    assert not list(binfmt.registered(MACHINE, str(tmp_path)))
    (tmp_path / "qemu").write_text(text.format("disabled", "qemu", value.hex(), mask.hex()))
    (tmp_path / "ours").write_text(text.format("enabled", "dragoman", value.hex(), mask.hex()))
    assert binfmt.state(MACHINE, str(tmp_path)).endswith("ours (/usr/bin/dragoman), qemu (/usr/bin/qemu, disabled)")


# What happens in the namespace. The line goes with it.
INSIDE = """
import json, subprocess, sys
from dbt.cli import binfmt
runner, program, machine = sys.argv[1], sys.argv[2], int(sys.argv[3])
def mount():
    return subprocess.run(["mount", "-t", "binfmt_misc", "none", binfmt.FOLDER], capture_output=True, text=True)
mounted = mount()
if mounted.returncode:
    print(json.dumps({"skip": mounted.stderr.strip()}))
    sys.exit()
before = binfmt.state(machine)
try:
    with open(binfmt.FOLDER + "/register", "w") as file:
        file.write(binfmt.line(runner, machine))
except OSError as error:
    print(json.dumps({"skip": str(error)}))
    sys.exit()
after = binfmt.state(machine)
done = subprocess.run(["a name", "-strace", "two words"], executable=program, env={"A": "1"}, capture_output=True)
print(json.dumps({"before": before, "after": after, "status": done.returncode, "error": done.stderr.decode(),
                  "seen": done.stdout.split(b"\\0")[:4] and [w.decode() for w in done.stdout.split(b"\\0")[:4]]}))
"""


def test_the_kernel_takes_the_line_and_runs_programs_with_us(tmp_path: Path) -> None:
    runner = tmp_path / "dragoman-riscv64"
    runner.write_text(f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(REPOSITORY)!r})\n"
                      "import dragoman\nsys.exit(dragoman.main())\n")
    runner.chmod(0o755)
    program = tiny.program(tmp_path / "program", tiny.show_strings())
    program.chmod(0o755)
    env = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    inside = [sys.executable, "-c", INSIDE, str(runner), str(program), str(MACHINE)]
    try:
        done = subprocess.run(["unshare", "-Urm", *inside], env=env, capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        pytest.skip("unshare is not installed: install the package util-linux")
    if done.returncode:
        pytest.skip(f"user and mount namespaces are not to be had here: {done.stderr.strip()[-200:]}")
    said = json.loads(done.stdout)
    if "skip" in said:
        pytest.skip(f"binfmt_misc cannot be used in a user namespace here (Linux 6.7 can): {said['skip']}")
    assert said["before"] == "nothing is registered here for RISC-V programs"
    assert said["after"] == f"registered here for RISC-V programs: dragoman-riscv64 ({runner})"
    assert (said["status"], said["error"]) == (0, "")
    assert said["seen"] == ["a name", "-strace", "two words", "A=1"]


def test_the_kernel_s_words_are_told_from_a_user_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def auxiliary(flags: int) -> None:
        (tmp_path / "auxv").write_bytes(struct.pack("<6Q", 6, 4096, 8, flags, 0, 0))
        monkeypatch.setattr(cli, "_AUXILIARY", str(tmp_path / "auxv"))

    called = ["/bin/dragoman-riscv64", "/bin/busybox", "ls", "-l"]
    auxiliary(1)
    assert cli.words_of(called) == ["run", "--argv0=ls", "--", "/bin/busybox", "-l"]
    assert cli.words_of(called[:2]) == ["run", "/bin/busybox"]
    assert cli.words_of(["/bin/dragoman", "run", "x"]) == ["run", "x"]
    auxiliary(0)
    assert cli.words_of(called) == ["run", "/bin/busybox", "ls", "-l"]
    monkeypatch.setattr(cli, "_AUXILIARY", str(tmp_path / "none"))
    assert cli.words_of(called) == ["run", "/bin/busybox", "ls", "-l"]
