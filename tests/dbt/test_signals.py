"""Signals of guests: handlers, masks, queues, faults, timers. The same C program is asked on the host's own kernel."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support import cross
from support.peers import need

import dragoman
from dbt.lockstep import lockstep
from dbt.options import Options

ROOT = Path(__file__).resolve().parents[2]
ENGINES = ("translated", "reference")
ANYWHERE = ("info", "order", "nested", "stack", "longjmp", "restart", "families", "masks", "timers", "loop", "queue",
            "exec")  # fmt: skip
FOR_RISCV = ("faults", "misaligned", "repair", "registers")
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
MISALIGNED = b"signal 7 code 1 address pc\n" * 6 + b"same 16\n"
PAUSE = "100000"  # microseconds after which a signal comes, so that what it is to interrupt waits on a busy machine too
REPEATED = 100  # runs of what has to be the same each time


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
    assert output([*command(program, case, *options), PAUSE]) == expected


@pytest.fixture(scope="module")
def descriptors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("signalfd")
    return {"guest": cross.build(folder / "guest", "signalfd", "-static", "-w"),
            "host": cross.native(folder / "host", "signalfd", "-w")}  # fmt: skip


READ = ("reads", "update", "epoll", "fork", "exec", "ignored")
TIMED = ("waits", "interrupted")  # by another process, for which virtual time does not wait


@pytest.mark.parametrize(("options", "case"), [
    *((options, case) for options in ((), ("--engine=reference",)) for case in READ + TIMED),
    *((("--deterministic",), case) for case in READ),
], ids=str)  # fmt: skip
def test_signals_are_read_from_descriptors(
    descriptors: dict[str, Path], options: tuple[str, ...], case: str
) -> None:
    expected = output([str(descriptors["host"]), case])
    assert expected[0] == 0 and expected[1].count(b"\n") > 1
    assert output(command(descriptors["guest"], case, *options)) == expected


def test_descriptors_of_signals_inside_another_program(descriptors: dict[str, Path]) -> None:
    for case in ("reads", "update", "epoll", "ignored"):
        done = dragoman.run(descriptors["guest"], [case], engine="reference")
        assert (done.status, done.stdout) == output([str(descriptors["host"]), case])


@pytest.mark.parametrize("engine", ENGINES)
def test_inside_another_program_too(program: Path, native: Path, engine: str) -> None:
    """Without a signal of the host's, but for timers; and the caller's handlers stay."""
    before = [signal.getsignal(number) for number in range(1, 32)]
    for case in ("order", "restart", "masks", "timers"):
        done = dragoman.run(program, [case], engine=engine)
        assert (done.status, done.stdout) == output([str(native), case])
    assert [signal.getsignal(number) for number in range(1, 32)] == before


@pytest.mark.parametrize("engine", ENGINES)
def test_misaligned_atomics_are_told_exactly(program: Path, engine: str) -> None:
    """SIGBUS, BUS_ADRALN and, as Linux does on riscv64, the address of the instruction (do_trap_error with epc).

    qemu-riscv64 says the same but for that: it gives the address of the data.
    """
    options = Options(hot=0, tiers=(0,)) if engine == "translated" else None
    done = dragoman.run(program, ["misaligned"], engine=engine, options=options)
    assert (done.status, done.stdout) == (0, MISALIGNED)
    assert cross.qemu(program, ["misaligned"], root=None)[:2] == (0, MISALIGNED.replace(b"address pc", b"address page"))


@pytest.mark.parametrize("engine", ENGINES)
def test_faults_are_told_exactly(program: Path, engine: str) -> None:
    """As Linux does on riscv64; qemu-riscv64 says the same."""
    done = dragoman.run(program, ["faults"], engine=engine)
    assert (done.status, done.stdout) == (0, FAULTS)
    assert cross.qemu(program, ["faults"], root=None)[:2] == (0, FAULTS)


@pytest.mark.parametrize("options", [
    {"engine": "reference"}, {"engine": "translated", "options": dragoman.Options(tiers=(0,))},
    {"engine": "translated", "options": dragoman.Options(tiers=(1,), hot=0, region=0)},
    {"engine": "translated", "options": dragoman.Options(tiers=(1,), hot=0, region=50)},
    {"engine": "translated", "options": dragoman.Options(promote=20, patience=0)},
], ids=["reference", "tier 0", "blocks", "regions of all", "regions"])
def test_handlers_repair_and_all_registers_are_kept(program: Path, options: dict[str, object]) -> None:
    for case in ("repair", "registers"):
        done = dragoman.run(program, [case], **options)  # type: ignore[arg-type]
        assert (done.status, done.stdout) == cross.qemu(program, [case], root=None)[:2]


@pytest.mark.parametrize("case", DEADLY)
def test_what_is_not_handled_ends_the_guest(program: Path, case: str) -> None:
    assert output(command(program, case))[0] == -DEADLY[case]


def test_timers_of_virtual_time_end_at_the_same_instruction_in_both_engines(program: Path) -> None:
    seen = [dragoman.run(program, ["ticks"], engine=engine, seed=1) for engine in ENGINES]
    assert seen[0].stdout == seen[1].stdout and seen[0].instructions == seen[1].instructions
    assert len({int(word) for word in seen[0].stdout.split()}) == 5


@pytest.mark.parametrize("case", ["order", "longjmp", "masks", "ticks"])
def test_the_engines_agree_at_every_boundary(program: Path, case: str) -> None:
    report = lockstep(program, [case])
    assert report.difference is None and report.status == 0 and report.boundaries > 5000


# What others send ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def signalled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cross.build(tmp_path_factory.mktemp("signalled"), "signalled", "-static", "-w")


def sending(words: list[str], *numbers: int, lines: int = 1, pause: float = 0.2) -> tuple[int, bytes, bytes]:
    """Run a command, send signals once it has said that it is ready, then a byte; its status, output and errors."""
    child = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT)
    assert child.stdout is not None
    before = b"".join(child.stdout.readline() for _ in range(lines))
    for number in numbers:
        time.sleep(pause)
        child.send_signal(number)
    try:
        out, err = child.communicate(b"x", timeout=60)
    finally:
        child.kill()
    return child.returncode, before + out, err


SENT = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGSEGV, signal.SIGBUS, signal.SIGWINCH, signal.SIGTSTP)
ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGALRM, signal.SIGSEGV)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("number", SENT)
@pytest.mark.parametrize("case", ["loop", "read"])
def test_what_is_sent_to_us_reaches_the_guest(signalled: Path, engine: str, number: int, case: str) -> None:
    expected = b"ready\nseen 1 last %d code 0 parent 1\n" % number
    assert sending(command(signalled, case, f"--engine={engine}"), number) == (0, expected, b"")


def test_a_sent_fault_leaves_our_own_handler(signalled: Path) -> None:
    """SIGSEGV from outside is the guest's; what it does wrong afterwards is still told with its registers."""
    status, out, err = sending(command(signalled, "wild"), signal.SIGSEGV)
    assert (status, out) == (-signal.SIGSEGV, b"ready\n") and b"store/AMO page fault at 0x" in err


@pytest.mark.parametrize("number", ENDING)
def test_without_a_handler_it_ends_us_without_a_word(signalled: Path, number: int) -> None:
    assert sending(command(signalled, "default"), number) == (-number, b"ready\n", b"")


def test_ctrl_c_without_a_handler_is_ours(signalled: Path) -> None:
    status, out, err = sending(command(signalled, "default"), signal.SIGINT)
    assert (status, out) == (130, b"ready\n") and err.startswith(b"dragoman: interrupted after ")


def test_what_is_blocked_waits(signalled: Path) -> None:
    numbers = (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR1, signal.SIGTERM)
    done = sending(command(signalled, "blocked"), *numbers, lines=2)
    assert done == (0, b"ready\nblocked\nseen 0\nseen 3 last 2 code 0 parent 1\n", b"")


def test_stopping_and_going_on(signalled: Path) -> None:
    """As a shell sees it: the default action of SIGTSTP stops us, and SIGCONT lets us go on."""
    words = command(signalled, "default")
    child = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, start_new_session=False)
    assert child.stdout is not None and child.stdout.readline() == b"ready\n"
    child.send_signal(signal.SIGSTOP)
    assert os.WIFSTOPPED(os.waitpid(child.pid, os.WUNTRACED)[1])
    child.send_signal(signal.SIGCONT)
    assert child.communicate(b"x", timeout=60)[0] == b"seen 0 last 0 code 0 parent 0\n" and child.returncode == 0


# Each time ------------------------------------------------------------------------------------------------------------


def each_time(run: Callable[[], object], expected: object) -> None:
    wrong = [found for found in (run() for _ in range(REPEATED)) if found != expected]
    print(f"{REPEATED - len(wrong)} of {REPEATED} runs are as expected")
    assert not wrong, wrong[:3]


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("case", [*ANYWHERE, *FOR_RISCV, *DEADLY])
def test_a_guest_sees_so_every_time(program: Path, native: Path, case: str) -> None:
    if case in DEADLY:
        expected = -DEADLY[case], b""
    elif case in ANYWHERE:
        expected = output([str(native), case])
    else:
        expected = (0, MISALIGNED) if case == "misaligned" else cross.qemu(program, [case], root=None)[:2]
    each_time(lambda: output([*command(program, case), PAUSE]), expected)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("case", READ + TIMED)
def test_signals_are_read_so_every_time(descriptors: dict[str, Path], case: str) -> None:
    each_time(lambda: output(command(descriptors["guest"], case)), output([str(descriptors["host"]), case]))


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("number", SENT)
@pytest.mark.parametrize("case", ["loop", "read"])
def test_what_is_sent_at_any_time_reaches_the_guest(signalled: Path, number: int, case: str) -> None:
    rng, expected = random.Random(1), b"ready\nseen 1 last %d code 0 parent 1\n" % number
    each_time(lambda: sending(command(signalled, case), number, pause=rng.random() * 0.05), (0, expected, b""))


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("number", ENDING)
def test_it_ends_us_so_at_any_time(signalled: Path, number: int) -> None:
    rng, words = random.Random(1), command(signalled, "default")
    each_time(lambda: sending(words, number, pause=rng.random() * 0.05), (-number, b"ready\n", b""))


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_ctrl_c_is_ours_at_any_time(signalled: Path) -> None:
    rng, words = random.Random(1), command(signalled, "default")

    def run() -> tuple[int, bytes, bytes]:
        status, out, err = sending(words, signal.SIGINT, pause=rng.random() * 0.05)
        return status, out, err[:28]

    each_time(run, (130, b"ready\n", b"dragoman: interrupted after "))
