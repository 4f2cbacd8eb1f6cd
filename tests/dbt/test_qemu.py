"""Words and variables of qemu-riscv64 mean with us what they mean there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from support import tiny
from support.peers import REPOSITORY, need

import dragoman
from dbt import cli
from dbt.cli import qemu
from dbt.cli.run import _parser

SOURCE = r"""
#include <stdio.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/resource.h>
#include <sys/utsname.h>
int main(int count, char **words) {
    struct utsname names; struct rlimit limit;
    uname(&names); getrlimit(RLIMIT_STACK, &limit);
    unsigned char *random = (unsigned char *)getauxval(AT_RANDOM);
    for (int i = 0; i < count; i++) printf("%s|", words[i]);
    printf("%s|%s|%s|", getenv("A") ? getenv("A") : "-", getenv("B") ? getenv("B") : "-", names.release);
    printf("%lu|%d\n", (unsigned long)limit.rlim_cur, random[0] << 8 | random[1]);
    return 7;
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = need("riscv64-linux-gnu-gcc", "gcc-riscv64-linux-gnu")
    folder = tmp_path_factory.mktemp("qemu")
    (folder / "shows.c").write_text(SOURCE)
    subprocess.run([compiler, "-O1", "-static", "-o", str(folder / "shows"), str(folder / "shows.c")], check=True)
    return folder / "shows"


def ours(*words: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return _run([sys.executable, "-m", "dragoman", "run", *map(str, words)], variables)


def theirs(*words: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return _run([need("qemu-riscv64", "qemu-user"), *map(str, words)], variables)


def _run(command: list[str], variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("QEMU_")}
    env = kept | {"PYTHONPATH": str(REPOSITORY), "A": "outside"} | variables
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)


FIELDS = {"words": slice(0, -5), "environment": slice(-5, -3), "release": slice(-3, -2), "stack": slice(-2, -1)}
SAME: tuple[tuple[str, Sequence[str], dict[str, str]], ...] = (
    ("environment", ["-E", "A=1", "-E", "B=2"], {}), ("environment", ["-U", "A,HOME"], {}),
    ("environment", ["-E", "A=1", "-U", "A", "-E", "B=3"], {}),
    ("environment", [], {"QEMU_SET_ENV": "A=1,B=x"}), ("environment", [], {"QEMU_UNSET_ENV": "A"}),
    ("environment", ["-E", "A=later"], {"QEMU_SET_ENV": "A=1"}),
    ("words", ["-0", "a name"], {}), ("words", [], {"QEMU_ARGV0": "other"}),
    ("words", ["-0", "mine"], {"QEMU_ARGV0": "other"}),
    ("release", ["-r", "9.9.9"], {}), ("release", [], {"QEMU_UNAME": "8.8"}),
)  # fmt: skip


@pytest.mark.parametrize(("field", "words", "variables"), SAME, ids=lambda value: str(value))
def test_it_is_what_qemu_makes_of_it(
    field: str, words: Sequence[str], variables: dict[str, str], program: Path
) -> None:
    mine, other = ours(*words, program, "-strace", **variables), theirs(*words, program, "-strace", **variables)
    assert (mine.returncode, other.returncode) == (7, 7), mine.stderr
    part = FIELDS[field]
    assert mine.stdout.strip().split("|")[part] == other.stdout.strip().split("|")[part]


def test_sizes_seeds_and_models(program: Path) -> None:
    def stack(*words: str, **variables: str) -> str:
        return ours(*words, program, **variables).stdout.split("|")[-2]

    def random(*words: str, **variables: str) -> str:
        return ours(*words, program, **variables).stdout.split("|")[-1]

    assert stack("-s", "1M") == stack(QEMU_STACK_SIZE="1048576") == str(1 << 20)
    assert random("-seed", "5") == random(QEMU_RAND_SEED="5") != random("-seed", "6")
    assert len({random() for _ in range(4)}) > 1
    for words in (["-cpu", "rv64"], ["-cpu", "max"], ["-cpu", "rv64,zba=true,c=on"], ["-cpu", "rva22u64"],
                  ["-cpu", "rv64gc"], ["-B", "0x1000"], ["-R", "4G"], ["-p", "4096"], ["-one-insn-per-tb"]):
        assert ours(*words, program).returncode == 7, words
    assert ours(program, QEMU_CPU="rv64", QEMU_GUEST_BASE="1").returncode == 7


def test_logs(tmp_path: Path) -> None:
    log = tmp_path / "log-%d"
    done = ours("-strace", "-D", log, "@hello")
    assert done.returncode == 0 and not done.stderr
    (made,) = tmp_path.glob("log-*")
    assert re.fullmatch(r"log-\d+", made.name) and 'write(1, "Hello' in made.read_text()
    assert "exit_group(0)" in ours("@hello", QEMU_STRACE="").stderr
    assert "exit_group(0)" in ours("@hello", QEMU_LOG="strace").stderr
    assert "exited with 0" in ours("-d", "strace,unimp,page", "@hello").stderr
    dump = ours("-d", "in_asm,op_opt,nochain", "@hello").stderr
    assert "--- decode" in dump and "--- opt" in dump and "--- asm" not in dump
    assert "addi" in ours("-d", "exec", "@hello").stderr
    assert ours("-version").stdout.startswith("dragoman ")


@pytest.mark.parametrize(("words", "variables", "sentence"), (
    (["-g", "1234", "@hello"], {}, "there is no server for a debugger yet"),
    (["@hello"], {"QEMU_GDB": "1234"}, "-g of qemu-riscv64 is not done"),
    (["-plugin", "x.so", "@hello"], {}, "callbacks are written in Python"),
    (["-cpu", "sifive-u54", "@hello"], {}, "there is no model 'sifive-u54'"),
    (["-cpu", "rv64,v=true", "@hello"], {}, "the property 'v=true' is not done"),
    (["-cpu", "rv64,c=off", "@hello"], {}, "the property 'c=off' is not done"),
    (["-cpu", "rv64gcv", "@hello"], {}, "extension 'v' is not implemented"),
    (["@hello"], {"QEMU_STACK_SIZE": "1T"}, "QEMU_STACK_SIZE: --stack-size: '1T' is not a size"),
    (["-s", "1K", "@hello"], {}, "1K is not from 64K to 64M"),
    (["-d", "all", "@hello"], {}, "-d: there is no item 'all'"),
    (["-s"], {}, "-s needs a value"),
    (["-stracex", "@hello"], {}, "there is no option"),
))  # fmt: skip
def test_what_is_refused_is_one_sentence(words: list[str], variables: dict[str, str], sentence: str) -> None:
    done = ours(*words, **variables)
    assert done.returncode == 2 and done.stderr.startswith("dragoman: ") and done.stderr.count("\n") == 1
    assert sentence in done.stderr


def test_every_row_is_in_the_help_and_becomes_options_that_there_are() -> None:
    text = qemu.table()
    known = _parser()._takes
    values = {"SIZE": "1M", "MODEL": "rva22u64", "ITEMS": "strace,in_asm,exec,nochain", "VAR=VALUE,...": "A=1"}
    for row in qemu.ROWS:
        assert row.option in text or row.option in ("-h", "-help")
        if row.ours is not None:
            for word in row.words(values.get(row.value, "1")):
                assert word.partition("=")[0] in known, row.option
    assert len(qemu.OPTIONS) == len(qemu.ROWS) - 1


def test_a_runner_s_name(make: Callable[[str], Path]) -> None:
    for name in ("dragoman-riscv64", "qemu-riscv64", "qemu-riscv64-static"):
        done = subprocess.run([str(make(name)), "-E", "A=2", "@hello", "word"], capture_output=True, text=True,
                              timeout=60)
        assert done.returncode == 0 and "argv[1] = word" in done.stdout, done.stderr
    done = subprocess.run([str(make("dragoman")), "@hello"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "dragoman run @hello" in done.stderr
    assert cli.words_of(["/x/dragoman", "info"]) == ["info"]


@pytest.fixture
def make(tmp_path: Path) -> Callable[[str], Path]:
    def script(name: str) -> Path:
        path = tmp_path / name
        path.write_text(f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(REPOSITORY)!r})\n"
                        "import dragoman\nsys.exit(dragoman.main())\n")
        path.chmod(0o755)
        return path

    return script


def test_the_settings_from_python(tmp_path: Path) -> None:
    program = tiny.program(tmp_path / "program", tiny.leave(0))
    with dragoman.load(program, stack_size=1 << 17, release="1.2.3", random_seed=3) as process:
        assert process.kernel.limits.stack() == 1 << 17 and process.kernel.release == "1.2.3"
        first = process.kernel.random_bytes(8)
        assert not process.kernel.deterministic and process.kernel.pid == os.getpid()
    with dragoman.load(program, random_seed=3) as process:
        assert process.kernel.random_bytes(8) == first


def test_words_win_over_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("QEMU_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("QEMU_ARGV0", "variable")
    monkeypatch.setenv("QEMU_SET_ENV", "A=1,B=2,C=x,y")
    options, rest = _parser().split(["-0", "word", "-U", "A", "program", "-0", "its"])
    assert options.argv0 == "word" and rest == ["program", "-0", "its"]
    assert options.edits == [("A", "1"), ("B", "2"), ("C", "x,y"), ("A", None)]
    assert _parser().split(["program"])[0].argv0 == "variable"
