"""Signals of guests: handlers, masks, queues, faults, timers. The same C program is asked on the host's own kernel."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support import cross
from support.peers import need

import dragoman

ROOT = Path(__file__).resolve().parents[2]
ENGINES = ("translated", "reference")
ANYWHERE = ("info", "order", "nested", "stack", "longjmp", "restart", "masks", "timers", "loop", "queue")
DEADLY = {"blocked_fault": signal.SIGSEGV, "ignored_fault": signal.SIGSEGV, "no_stack": signal.SIGSEGV,
          "term": signal.SIGTERM, "abort": signal.SIGABRT}  # fmt: skip
FAULTS = b"""\
signal 11 code 1 address page
signal 11 code 2 address page
signal 7 code 2 address page
signal 11 code 2 address pc
signal 4 code 1 address pc
signal 5 code 1 address pc
masked 0
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cross.build(tmp_path_factory.mktemp("signals"), "signals", "-static", "-lm", "-w")


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same program for the host."""
    out = tmp_path_factory.mktemp("native") / "signals"
    source = cross.PROGRAMS / "signals.c"
    subprocess.run([need("gcc", "gcc"), "-O2", "-w", str(source), "-o", str(out), "-lm"], check=True)
    return out


def command(program: Path, case: str, *options: str) -> list[str]:
    return [sys.executable, "-m", "dragoman", "run", *options, str(program), case]


def output(words: list[str]) -> tuple[int, bytes]:
    done = subprocess.run(words, capture_output=True, timeout=120, cwd=ROOT)
    return done.returncode, done.stdout


@pytest.mark.parametrize("case", ANYWHERE)
@pytest.mark.parametrize("options", [(), ("--engine=reference",), ("--deterministic",)], ids=str)
def test_a_guest_sees_what_a_program_of_the_host_sees(
    program: Path, native: Path, case: str, options: tuple[str, ...]
) -> None:
    expected = output([str(native), case])
    assert expected[0] == 0
    assert output(command(program, case, *options)) == expected


@pytest.mark.parametrize("engine", ENGINES)
def test_inside_another_program_too(program: Path, native: Path, engine: str) -> None:
    """Without a signal of the host's, but for timers; and the caller's handlers stay."""
    before = [signal.getsignal(number) for number in range(1, 32)]
    for case in ("order", "restart", "masks", "timers"):
        done = dragoman.run(program, [case], engine=engine)
        assert (done.status, done.stdout) == output([str(native), case])
    assert [signal.getsignal(number) for number in range(1, 32)] == before


@pytest.mark.parametrize("engine", ENGINES)
def test_faults_are_told_exactly(program: Path, engine: str) -> None:
    """As Linux does on riscv64; qemu-riscv64 says the same."""
    done = dragoman.run(program, ["faults"], engine=engine)
    assert (done.status, done.stdout) == (0, FAULTS)
    assert cross.qemu(program, ["faults"], root=None)[:2] == (0, FAULTS)


@pytest.mark.parametrize("options", [
    {"engine": "reference"}, {"engine": "translated", "options": dragoman.Options(tiers=(0,))},
    {"engine": "translated", "options": dragoman.Options(tiers=(1,), hot=0)},
    {"engine": "translated", "options": dragoman.Options(promote=20, patience=0)},
], ids=["reference", "tier 0", "blocks", "regions"])
def test_handlers_repair_and_all_registers_are_kept(program: Path, options: dict[str, object]) -> None:
    for case in ("repair", "registers"):
        done = dragoman.run(program, [case], **options)  # type: ignore[arg-type]
        assert (done.status, done.stdout) == cross.qemu(program, [case], root=None)[:2]


@pytest.mark.parametrize("case", DEADLY)
def test_what_is_not_handled_ends_the_guest(program: Path, case: str) -> None:
    assert output(command(program, case))[0] == -DEADLY[case]
