"""The bundled guest programs: present, static RV64, printing what the table says, rebuilt to the same bytes.

The outputs are checked under qemu-user; the translator's own runs of these programs are tested elsewhere.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from support import peers

from guests import programs
from guests.programs import PROGRAMS, Program, UnknownProgram, build

EACH = pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS.keys())

EXECUTABLE, RISCV, RVC_AND_DOUBLE_FLOAT = 2, 243, 5
DYNAMIC, INTERPRETER = 2, 3


@pytest.fixture(scope="module")
def qemu() -> str:
    return peers.need("qemu-riscv64", "qemu-user")


@pytest.fixture(scope="module")
def compiler() -> None:
    peers.need("ziglang", "ziglang")
    version = importlib.metadata.version("ziglang")
    if version != build.COMPILER:
        pytest.skip(f"the ELFs were made by ziglang {build.COMPILER}, but {version} is installed")


def test_table_lists_every_source() -> None:
    assert sorted(PROGRAMS) == build.names()


@EACH
def test_elf_is_static_rv64gc(program: Program) -> None:
    image = programs.path(program.name).read_bytes()
    assert image[:6] == b"\x7fELF\x02\x01"
    kind, machine = struct.unpack_from("<HH", image, 16)
    (headers,) = struct.unpack_from("<Q", image, 32)
    (flags,) = struct.unpack_from("<I", image, 48)
    size, count = struct.unpack_from("<HH", image, 54)
    assert (kind, machine, flags) == (EXECUTABLE, RISCV, RVC_AND_DOUBLE_FLOAT)
    segments = {struct.unpack_from("<I", image, headers + i * size)[0] for i in range(count)}
    assert not segments & {DYNAMIC, INTERPRETER}
    assert len(image) < 64 << 10


@EACH
def test_table_is_sensible(program: Program) -> None:
    assert program.name == "hello" or program.small_output.split()[0] == program.name
    assert program.name == "hello" or program.large_output.split()[0] == program.name
    assert 0 < program.small_instructions < 1_000_000
    assert "\n" not in program.about


@EACH
def test_small_output_under_qemu(program: Program, qemu: str) -> None:
    command = [qemu, str(programs.path(program.name)), *program.small]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, program.small_output, "")


def test_arguments_arrive(qemu: str) -> None:
    command = [qemu, str(programs.path("hello")), "one", "two words"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout == "Hello from RISC-V!\nargc = 3\nargv[1] = one\nargv[2] = two words\n"


@pytest.mark.parametrize("size", ["", "0", "-1", "huge"])
def test_wrong_size_is_refused(size: str, qemu: str) -> None:
    command = [qemu, str(programs.path("sieve")), size]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert "the work size must be" in done.stderr


@pytest.mark.parametrize("reference", ["collatz", "@collatz"])
def test_find(reference: str) -> None:
    assert programs.find(reference).name == "collatz"
    assert programs.path(reference).name == "collatz.elf"


def test_unknown_name_lists_the_known() -> None:
    with pytest.raises(UnknownProgram) as caught:
        programs.find("@nonesuch")
    assert "@nonesuch" in str(caught.value)
    assert "@collatz" in str(caught.value)


@EACH
def test_rebuild_gives_the_same_bytes(program: Program, compiler: None, tmp_path: Path) -> None:
    build.build(program.name, tmp_path / "again.elf")
    assert (tmp_path / "again.elf").read_bytes() == programs.path(program.name).read_bytes()


def test_bytes_do_not_depend_on_the_directory(
    compiler: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(build.ROOT, tmp_path / "elsewhere", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(build, "ROOT", tmp_path / "elsewhere")
    monkeypatch.setenv("ZIG_GLOBAL_CACHE_DIR", str(tmp_path / "cache"))
    build.build("hello", tmp_path / "hello.elf")
    assert (tmp_path / "hello.elf").read_bytes() == programs.path("hello").read_bytes()


def test_native_program_prints_the_same(compiler: None, tmp_path: Path) -> None:
    assert build.main(["collatz", "--native", str(tmp_path)]) == 0
    try:
        done = subprocess.run([tmp_path / "collatz"], capture_output=True, text=True, timeout=60)
    except OSError:
        pytest.skip("this host does not run x86-64 Linux programs")
    assert done.stdout == PROGRAMS["collatz"].small_output


def test_build_refuses_unknown_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert build.main(["nonesuch"]) == 1
    assert "there is no program 'nonesuch'" in capsys.readouterr().err


def test_build_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert build.main(["hello"]) == 1
    assert capsys.readouterr().err.count("dragoman[cross]") == 1
