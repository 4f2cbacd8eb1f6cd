"""Compiling in a worker process: it answers, it may die at any moment, and nothing that happens to it shows."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
from support.regions import Watch
from support.riscv import GUEST, Rig, asm, words_to_bytes

import dbt.background
import dbt.orphans
import dbt.worker
from dbt.backend import Workshop
from dbt.background import FAILURES, Background
from dbt.block import Key
from dbt.cache.record import pack_made
from dbt.code import Code, CodegenError
from dbt.options import Options
from dbt.translate import TIMED, make

ROOT = Path(__file__).resolve().parents[2]
CODE, DATA, STEP = 0x10000, 0x20000, 0x100
REGIONS = ((CODE, 0x4000, 7), (DATA, 0x2000, 3))
FUNCTIONS = 6
PROMOTE = 3000
OFTEN = 200_000  # instructions between looks, so that a test soon sees what has come
NOP = asm("addi", rd=0, rs1=0, imm=0)
SECONDS = 30  # until something that must happen has happened


def program() -> list[int]:
    """An endless loop over phases: in each, another function is called 4,000 times, so that ever new ones get hot."""
    words = []
    for i in range(FUNCTIONS):
        words += [asm("addi", rd=5, rs1=0, imm=2000), asm("slli", rd=5, rs1=5, imm=1)]
        words += [asm("jal", rd=1, imm=(i + 1) * STEP - 20 * i - 8), asm("addi", rd=5, rs1=5, imm=-1)]
        words += [asm("bne", rs1=5, rs2=0, imm=-8)]
    words += [asm("addi", rd=6, rs1=6, imm=1), asm("jal", rd=0, imm=-4 * len(words) - 4)]
    assert len(words) * 4 < STEP
    words += [NOP] * (STEP // 4 - len(words))
    for i in range(FUNCTIONS):
        body = [asm("ld", rd=11, rs1=9, imm=8 * i), asm("addi", rd=11, rs1=11, imm=i + 1),
                asm("andi", rd=12, rs1=11, imm=3),
                asm("beq", rs1=12, rs2=0, imm=8), asm("xor", rd=10, rs1=10, rs2=11),
                asm("sd", rs1=9, rs2=11, imm=8 * i),
                asm("jalr", rd=0, rs1=1, imm=0)]  # fmt: skip
        words += body + [NOP] * (STEP // 4 - len(body))
    return words


class Machine(Rig):
    """The program in an engine with a worker, or in one that translates by itself."""

    def __init__(self, **options: Any) -> None:
        chosen = {"background": True, "patience": 0, "promote": PROMOTE} | options
        super().__init__(REGIONS, Options(**chosen), translated=True)
        self.space.poke(CODE, words_to_bytes(program()))
        self.state.pc, self.state.slots[9] = CODE, DATA
        self.engine: Any
        self.watch = Watch(self.engine)

    @property
    def background(self) -> Any:
        return self.engine.promotion.background

    @property
    def worker(self) -> int:
        """Its process; 0 if there is none."""
        return self.background._child if self.background is not None else 0

    def go(self, until: Callable[[], object], alone: float | None = None) -> None:
        """Run until something is so. `alone`: in so many seconds of this process' time, for it waits for no other."""
        clock, seconds = (time.monotonic, SECONDS) if alone is None else (time.process_time, alone)
        deadline = clock() + seconds
        while not until():
            assert clock() < deadline, f"it did not happen: {self.background and self.background.stats}"
            assert not self.run(self.state.count + OFTEN).trap

    def answered(self, count: int = 1) -> Callable[[], bool]:
        return lambda: self.background is not None and self.background.stats.answered >= count

    def check(self) -> None:
        """What it has come to is what an engine comes to that has no worker and translates at once."""
        other = Machine(background=False, patience=None, hot=0)
        other.run(self.state.count)
        assert self.outcome() == other.outcome() and self.memory() == other.memory()
        other.close()


@pytest.fixture(autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How workers are started here: as new processes, if the test does not say otherwise."""
    copied = getattr(request, "param", "new") == "copied"
    monkeypatch.setattr(dbt.orphans, "alone", lambda: copied)


EITHER_WAY = pytest.mark.parametrize("way", ["copied", "new"], indirect=True)


@pytest.fixture
def machine(way: None) -> Iterator[Machine]:
    made = Machine()
    yield made
    made.close()


def gone(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"  # nobody waits for it here


def wait_for(what: Callable[[], object], seconds: float = SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# --- answers ----------------------------------------------------------------------------------------------------------


@EITHER_WAY
def test_the_worker_translates_what_is_hot_while_the_guest_runs_on(machine: Machine) -> None:
    machine.go(machine.answered(3))
    stats = machine.background.stats
    assert stats.asked >= stats.answered >= 3 and stats.lost == stats.refused == 0 and stats.seconds > 0
    machine.go(lambda: machine.watch.retired > 1_000_000)
    assert machine.engine.translator.stats.seconds["llvm"] == 0, "nothing was compiled here"
    assert machine.engine.note == "" and os.getpgid(machine.worker) == machine.worker
    machine.check()


@EITHER_WAY
def test_what_is_translated_is_what_would_be_here(machine: Machine) -> None:
    """The worker has the guest's code by what is sent along: the translation is the same, byte by byte."""
    translator, made = machine.engine.translator, []
    translator.keep = lambda asked, one: made.append((asked, one))
    machine.go(lambda: len(made) >= 3)
    shop = Workshop(machine.state.guest, machine.engine.options)
    for asked, one in made:
        lifter = translator.lifter_of(machine.space)
        here = make(asked, lifter, shop.target, shop.compile, dict.fromkeys(TIMED, 0.0))
        assert pack_made(here) == pack_made(one)


def test_what_translations_lead_to_comes_before_what_is_as_hot() -> None:
    """Only what is about as hot; and the rest of a cut block before all else."""
    ran = {0: 0, 1: 0, 2: 1000, 3: 1020, 4: 1010, 5: 3000}
    asked: list[int] = []

    def request(key: Key, starting: bool) -> None:
        assert starting
        asked.append(key[0])

    background = Background(GUEST, Options(), request, lambda key: ran[key[0]], lambda key: key[0] in (2, 3),
                            lambda key, cold: asked.append(-key[0]))  # fmt: skip
    background.queue.update({(pc, pc != 0): 0 for pc in ran})
    assert background.poll() is None and not background.waiting and background.stats.asked == 0
    assert asked == [0, 5, 3, 2, 4, 1], "what has not run is asked for where nothing else is wanted"
    background.close()


def test_what_has_gone_cold_is_forgotten_when_its_turn_comes(machine: Machine) -> None:
    """While the worker is stopped all functions get hot; some of them do not run when it goes on."""
    machine.go(lambda: machine.worker)
    os.kill(machine.worker, signal.SIGSTOP)
    machine.go(lambda: len(machine.background.queue) >= 3)
    waiting = dict(machine.background.queue)
    ran, inside = machine.background._ran, {pc for pc, _ in machine.background.asked.blocks}
    machine.background._ran = lambda key: waiting.get(key, 0)
    os.kill(machine.worker, signal.SIGCONT)
    machine.go(machine.answered(2))
    stats = machine.background.stats
    assert stats.forgotten >= len([pc for pc, _ in waiting if pc not in inside]) - 1 > 0
    machine.background._ran = ran
    machine.go(machine.answered(4))  # they got hot again
    machine.check()


# --- it may die -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dies", [
    "import os; os.abort()", "import sys; sys.stdin.buffer.read(10); import os; os.abort()",
    "import os; os.read(0, 1 << 16); os.write(1, b'\\xff\\xff\\0\\0 half an answer')", "raise SystemExit(3)",
], ids=["at once", "on a request", "in an answer", "in silence"])  # fmt: skip
def test_without_a_worker_that_lives_the_guest_runs_on(dies: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dbt.worker, "command", lambda: [sys.executable, "-c", dies])
    machine = Machine()
    machine.go(lambda: machine.engine.note or (machine.background and machine.background.stats.lost > FAILURES))
    assert machine.engine.note == f"{FAILURES} compile workers died: hot code stays in stencils from now on"
    assert machine.background.stats.lost == FAILURES and machine.worker == 0
    for _ in range(3):
        machine.run(machine.state.count + OFTEN)
    assert len(machine.engine.cache) == 0 and machine.engine.interpreted * 50 < machine.state.count
    assert machine.background.stats.lost == FAILURES, "it is not tried for ever"
    machine.check()
    machine.close()


def test_a_worker_that_dies_before_it_is_told_who_we_are_is_lost_like_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was wanted first stays wanted of the next one."""
    introduction, command, told = dbt.worker.introduction, dbt.worker.command, []

    def late(*words: Any) -> bytes:
        told.append(words)
        if len(told) < FAILURES:
            time.sleep(0.5)
        return introduction(*words)

    def short() -> list[str]:
        return [sys.executable, "-c", ""] if len(told) < FAILURES - 1 else command()

    monkeypatch.setattr(dbt.worker, "introduction", late)
    monkeypatch.setattr(dbt.worker, "command", short)
    machine = Machine()
    machine.go(machine.answered())
    assert machine.background.stats.lost == FAILURES - 1 and not machine.engine.note
    machine.check()
    machine.close()


def test_where_no_worker_can_be_started_one_sentence_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", "/nowhere/python")
        machine.go(lambda: machine.engine.note)
    assert machine.engine.note == "no compile worker could be started: No such file or directory"
    machine.check()
    machine.close()


def test_what_no_code_can_be_made_of_is_refused_and_not_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse = (
        "from dbt import backend, code, worker\n"
        "def wrong(self, text): raise code.CodegenError('no')\n"
        "backend.Workshop.compile = wrong\nworker.main()"
    )
    monkeypatch.setattr(dbt.worker, "command", lambda: [sys.executable, "-P", "-c", refuse])
    machine = Machine()
    asked = []
    machine.go(lambda: machine.worker)
    request = machine.background._request
    machine.background._request = lambda key, starting: asked.append(key) or request(key, starting)
    twice = lambda: len(asked) > len(set(asked))
    machine.go(lambda: twice() or (machine.background.stats.refused > FUNCTIONS and not machine.background.waiting))
    for _ in range(5):
        machine.run(machine.state.count + OFTEN)
    assert machine.background.stats.lost == 0 and len(machine.engine.cache) == 0
    assert not twice() and len(asked) >= FUNCTIONS
    machine.check()
    machine.close()


def test_what_no_code_can_be_made_of_is_refused_in_this_process_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(self: Workshop, text: str) -> Code:
        tried.append(text)
        raise CodegenError("no")

    tried: list[str] = []
    machine = Machine(background=False)
    machine.run(OFTEN)
    made = len(machine.engine.cache)
    monkeypatch.setattr(Workshop, "compile", wrong)
    for _ in range(40):
        assert not machine.run(machine.state.count + OFTEN).trap
    stats = machine.engine.translator.stats
    assert stats.refused == len(tried) == len(set(tried)) >= FUNCTIONS - made
    assert len(machine.engine.cache) == made
    monkeypatch.undo()
    machine.check()
    machine.close()


def killed_at_random(seed: int) -> int:
    """A run in which the worker is killed now and then; returns how many were lost."""
    rng, machine = Random(seed), Machine(promote=500)
    wanted, last, due = rng.randrange(1, FAILURES), 0, 0.0
    while machine.background is None or machine.background.stats.lost < wanted:
        machine.run(machine.state.count + rng.randrange(1, OFTEN))
        if machine.worker != last:
            last, due = machine.worker, time.monotonic() + rng.choice((0.0, 0.3, 0.6)) * rng.random()
        if last and time.monotonic() > due:
            os.kill(last, signal.SIGKILL)
        if rng.randrange(20) == 0:
            machine.engine.flush()  # so that there is something to ask for
    machine.run(machine.state.count + OFTEN)
    machine.check()
    lost: int = machine.background.stats.lost
    machine.close()
    return lost


@EITHER_WAY
def test_a_worker_that_is_killed_at_random_moments_changes_nothing() -> None:
    assert sum(killed_at_random(seed) for seed in range(6)) >= 6


@EITHER_WAY
@pytest.mark.long
def test_a_worker_that_is_killed_at_random_moments_changes_nothing_in_a_hundred_runs() -> None:
    lost = sum(killed_at_random(seed) for seed in range(100))
    print(f"\n100 runs, {lost} workers lost")
    assert lost >= 100


@EITHER_WAY
def test_a_worker_that_hangs_is_replaced(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.go(lambda: machine.worker)
    first = machine.worker
    os.kill(first, signal.SIGSTOP)
    with monkeypatch.context() as patch:
        patch.setattr(dbt.background, "PATIENCE", 0.3)
        machine.go(lambda: machine.background.stats.lost, alone=3)
    wait_for(lambda: gone(first))
    assert machine.engine.note == ""
    machine.go(machine.answered())
    assert machine.worker not in (0, first)
    machine.check()


def test_a_request_that_takes_too_long_ends_the_worker() -> None:
    slow = "from dbt import worker\nworker.MOST_SECONDS = 1\nworker.Request = lambda *a: (_ for _ in iter(int, 1))\n"
    slow += "import dbt.translate, time\ndbt.translate.make = lambda *a: time.sleep(60)\nworker.main()"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    started = subprocess.Popen([sys.executable, "-c", slow], env=environment, stdin=subprocess.PIPE,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    assert started.stdin is not None
    one = Machine()
    guest = one.state.guest
    started.stdin.write(dbt.worker.introduction(guest, Options()))
    started.stdin.write(dbt.worker.request_message(one.engine.request((CODE, True))))
    started.stdin.flush()
    assert started.wait(SECONDS) in (-signal.SIGALRM, 1)
    one.close()


@EITHER_WAY
def test_a_worker_is_replaced_before_it_has_grown(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dbt.worker, "LATE_BOUND", 2)
    workers = set()
    machine.go(lambda: workers.add(machine.worker) or machine.answered(5)())
    assert len(workers - {0}) >= 3 and machine.background.stats.lost == 0
    wait_for(lambda: all(map(gone, workers - {0, machine.worker})))
    machine.check()


# --- nothing is left behind -------------------------------------------------------------------------------------------


def descriptors() -> list[str]:
    """What the open descriptors of this process are."""
    found = []
    gc.collect()
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # that of the listing itself
            found.append(os.readlink(f"/proc/self/fd/{number}"))
    return sorted(found)


@EITHER_WAY
def test_a_guest_that_waits_for_any_child_does_not_meet_the_worker(machine: Machine) -> None:
    machine.go(lambda: machine.worker)
    assert machine.worker
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@EITHER_WAY
def test_nothing_is_left_when_an_engine_is_closed() -> None:
    Machine().close()
    before = descriptors()
    for stopped in (False, True):
        machine = Machine()
        machine.go(lambda machine=machine: machine.worker)  # type: ignore[misc]
        worker = machine.worker
        if stopped:
            os.kill(worker, signal.SIGSTOP)
        machine.close()
        wait_for(partial(gone, worker))
        machine.engine.promotion.background.close()
        del machine
    assert descriptors() == before


HOT = """
import sys, time
sys.path[:0] = [{root!r}, {tests!r}]
from dbt.test_background import Machine
{before}
machine = Machine()
machine.go({until})
print(machine.worker, flush=True)
{then}
"""


# A process of its own has one thread, and so copies itself, unless there is another thread.
EACH_START = pytest.mark.parametrize("before", [
    "", "import threading; threading.Thread(target=time.sleep, args=[999], daemon=True).start()",
], ids=["copied", "new"])  # fmt: skip


def started(until: str, then: str, before: str, **how: Any) -> tuple[subprocess.Popen[str], int]:
    """Another process with a worker; its output is the worker's number."""
    text = HOT.format(root=str(ROOT), tests=str(ROOT / "tests"), until=until, then=then, before=before)
    text = text.replace("from dbt.test_background", "import importlib.util as u\nspec = u.spec_from_file_location"
                        f"('background_tests', {__file__!r})\nmodule = u.module_from_spec(spec)\n"
                        "sys.modules['background_tests'] = module\nspec.loader.exec_module(module)\n#")  # fmt: skip
    text = text.replace("machine = Machine()", "machine = module.Machine()")
    made = subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True, **how)
    assert made.stdout is not None
    return made, int(made.stdout.readline())


@EACH_START
def test_nothing_is_left_at_exit(before: str) -> None:
    """Without a close, too."""
    parent, worker = started("lambda: machine.worker", "", before)
    assert parent.wait(SECONDS) == 0
    wait_for(lambda: gone(worker))


@EACH_START
@pytest.mark.parametrize("when", ["lambda: machine.worker", "machine.answered(2)"], ids=["starting", "at work"])
def test_nothing_is_left_when_the_parent_is_killed(when: str, before: str) -> None:
    parent, worker = started(when, "while True: machine.run(machine.state.count + 1000000)", before)
    parent.kill()
    parent.wait(SECONDS)
    wait_for(lambda: gone(worker))


@EACH_START
def test_ctrl_c_is_for_the_guest_and_not_for_the_worker(before: str) -> None:
    """The terminal sends it to its foreground process group, where the worker is not; nor does it mind it."""
    then = "machine.go(lambda: False)"
    parent, worker = started("machine.answered(1)", then, before, start_new_session=True, stderr=subprocess.DEVNULL)
    with open(f"/proc/{worker}/cmdline", "rb") as words:
        assert (b"dbt.worker" in words.read()) == bool(before), "a copy has our name, a new process its own"
    assert os.getpgid(worker) == worker != os.getpgid(parent.pid)
    os.kill(worker, signal.SIGINT)
    time.sleep(0.3)
    assert not gone(worker)
    os.killpg(parent.pid, signal.SIGINT)
    parent.wait(SECONDS)
    wait_for(lambda: gone(worker))


@EITHER_WAY
def test_a_forked_child_goes_on_with_a_worker_of_its_own(machine: Machine) -> None:
    machine.go(machine.answered())
    first = machine.worker
    child = os.fork()
    if not child:
        try:
            assert machine.worker == 0 and not machine.background.waiting
            seen = machine.background.stats.answered
            machine.engine.flush()
            machine.go(machine.answered(seen + 1))
            assert machine.worker not in (0, first)
            machine.check()
            machine.close()
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert machine.worker == first and not gone(first)
    machine.go(machine.answered(machine.background.stats.answered + 1))
    machine.check()


@EITHER_WAY
def test_who_ignores_children_that_end_loses_nothing() -> None:
    """Then nobody can wait for the worker: the system has already forgotten it."""
    ignored = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        machine = Machine()
        machine.go(machine.answered())
        os.kill(machine.worker, signal.SIGKILL)
        machine.engine.flush()
        machine.go(lambda: machine.background.stats.lost or machine.answered(5)())
        machine.check()
        machine.close()
    finally:
        signal.signal(signal.SIGCHLD, ignored)


# --- the guest's code changes -----------------------------------------------------------------------------------------


def test_what_was_made_from_code_that_has_changed_is_not_installed(machine: Machine) -> None:
    machine.go(lambda: machine.background is not None and machine.background.asked is not None)
    asked = machine.background.asked
    os.kill(machine.worker, signal.SIGSTOP)
    start, code = asked.source[-1]
    victim = start  # its first instruction becomes another one
    machine.space.write(victim, asm("addi", rd=13, rs1=13, imm=1).to_bytes(4, "little"))
    os.kill(machine.worker, signal.SIGCONT)
    machine.go(machine.answered())
    for translation in machine.engine.cache.translations():
        assert all(machine.space.peek(at, len(old)) == old for at, old in translation.source)
    machine.go(machine.answered(4))
    other = Machine(background=False, patience=None, hot=0)
    for translation in machine.engine.cache.translations():
        assert all(machine.space.peek(at, len(old)) == old for at, old in translation.source)
    other.close()


def test_a_page_that_may_not_be_executed_any_more_gets_no_translation(machine: Machine) -> None:
    machine.go(lambda: machine.background is not None and machine.background.asked is not None)
    os.kill(machine.worker, signal.SIGSTOP)
    machine.space.protect(CODE, 0x4000, 3)
    os.kill(machine.worker, signal.SIGCONT)
    deadline = time.monotonic() + SECONDS
    while machine.background.waiting and time.monotonic() < deadline:
        machine.engine.promotion.collect()
        time.sleep(0.01)
    assert machine.background.stats.answered and len(machine.engine.cache) == 0
    stop = machine.run(machine.state.count + OFTEN)
    assert (stop.trap, stop.cause) == (True, 12)
