"""`dbt.runs`: what is charged to a run, its memory, cache folders, and what is alike."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import cache_from_source
from pathlib import Path
from typing import Any

import pytest
from support import peers, tiny

from dbt import runs

SPEND = "import time\nwhile time.process_time() < {}: pass"
HOLD = "import time; kept = bytes({} << 20).replace(b'\\0', b'x'); time.sleep(0.3)"
START = "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {!r}])"
WAIT = "; p.wait()"


def alone(code: str) -> Any:
    """What it prints as JSON, from a process of its own that has called `prepare` and has no other children."""
    before = f"import json, sys\nfrom dbt import runs\nruns.prepare()\nSPEND, START = {SPEND!r}, {START!r}\n"
    done = subprocess.run([sys.executable, "-c", before + code], capture_output=True, text=True, timeout=120,
                          cwd=peers.REPOSITORY, env={**os.environ, "PYTHONPATH": str(peers.REPOSITORY)})  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def python(code: str, **more: Any) -> runs.Sample:
    return runs.measure([sys.executable, "-c", code], **more)


def test_cpu_is_of_all_that_a_run_starts() -> None:
    itself = python(SPEND.format(0.3))
    assert itself.cpu >= 0.3 and itself.others == 0
    started = python(START.format(SPEND.format(0.5)) + WAIT)
    assert started.cpu >= started.others >= 0.45  # which the kernel tells in hundredths
    assert started.cpu - started.others < 0.3


def test_cpu_is_of_what_outlives_a_run_too() -> None:
    sample = alone("""
sample = runs.measure([sys.executable, "-c", START.format(START.format(SPEND.format(0.5)))])
print(json.dumps(sample.as_dict()))
""")
    assert sample["cpu"] >= sample["others"] >= 0.5 and sample["wall"] < 0.5


def test_children_that_are_not_of_the_run_are_left_alone() -> None:
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert python("pass").memory < 40 << 20
        assert other.poll() is None
    finally:
        other.communicate(b"\n")


def test_memory_is_of_all_processes_and_of_nothing_else() -> None:
    large = bytes(100 << 20).replace(b"\0", b"x")  # a child's ru_maxrss begins with what its parent has
    small = runs.measure(["/bin/sh", "-c", "sleep 0.1"])
    assert len(large) > small.memory > 0 and small.memory < 20 << 20
    base = python(HOLD.format(1)).memory
    assert python(HOLD.format(40)).memory - base == pytest.approx(39 << 20, rel=0.1)
    both = python(f"{START.format(HOLD.format(40))}; {HOLD.format(20)}{WAIT}").memory
    assert both == pytest.approx(2 * base + (58 << 20), rel=0.2)


def test_what_takes_too_long_is_killed_with_all_it_started() -> None:
    sample = alone("""
forever = "import time; time.sleep(60)"
code = f"print('begun', flush=True); {START.format(forever)}; {forever}"
sample = runs.measure([sys.executable, "-c", code], longest=0.7)
print(json.dumps({"cut": sample.cut, "wall": sample.wall, "stdout": sample.stdout.decode()}))
""")
    assert sample["cut"] and 0.7 <= sample["wall"] < 30 and sample["stdout"] == "begun\n"


def test_modules_are_compiled() -> None:
    alone("print('null')")
    for name in ("dbt/engine.py", "dbt/lab/report.py", "ir/builder.py", "guests/riscv/rv64i.py"):
        assert Path(cache_from_source(str(runs.ROOT / name))).exists()


# --- cache folders ------------------------------------------------------------------------------------------------


def test_a_program_is_new_in_a_folder_where_another_one_ran(tmp_path: Path) -> None:
    caches, case = runs.Caches(tmp_path), runs.bundled("sieve")
    folder = caches.never_seen(case)
    assert list(folder.iterdir()), "what every program needs is there"

    def run() -> dict[str, Any]:
        sample = runs.own(case, "translated", case.arguments, options=["--tiers=1"], kept=folder)
        return runs.checked(case, "it", sample).stats

    first, second = run(), run()
    assert first["translations"] > 0 and first["disk"]["found"] == 0
    assert second["translations"] == 0 and second["disk"]["found"] > 0
    assert caches.never_seen(case, folder=folder) == folder and run()["translations"] == first["translations"]
    assert caches.never_seen(case) != folder


def test_what_fills_a_folder_is_never_the_program_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []

    def own(case: runs.Case, *words: Any, **named: Any) -> runs.Sample:
        ran.append((case.argv0, *named["options"]))
        return runs.Sample(0, 0, 0, (case.output(case.arguments) or "").encode(), b"")

    monkeypatch.setattr(runs, "own", own)
    caches = runs.Caches(tmp_path)
    for name in ("sieve", "nbody", runs.SEED, runs.SEED_OF_SEED):
        caches.never_seen(runs.bundled(name))
    assert ran == [(runs.SEED,), (runs.SEED_OF_SEED,)], "each once"
    caches.never_seen(runs.bundled("sieve"), ["--tiers=1"])
    assert ran[2:] == [(runs.SEED, "--tiers=1")], "options may shape all that is kept"


def test_a_run_that_fails_says_how_it_was_started(tmp_path: Path) -> None:
    with pytest.raises(runs.Failed, match=r"^dragoman --tiers=2, @sieve small: .*tiers"):
        runs.own(runs.bundled("sieve"), "translated", ["small"], options=["--tiers=2"], kept=tmp_path)
    path = tiny.program(tmp_path / "program", [0])
    with pytest.raises(runs.Failed, match=f"^{path}: "):
        runs.own(runs.case_of(str(path), Path("/dev/null"), ()), "nothing", ())


# --- what is alike ------------------------------------------------------------------------------------------------


def sample(stdout: bytes = b"", status: int = 0, stderr: bytes = b"", **stats: Any) -> runs.Sample:
    return runs.Sample(1.0, 1.0, status, stdout, stderr, stats)


@pytest.mark.parametrize(
    "found, sentence",
    [
        (sample(b"one\ntwo\n"), None),
        (sample(b"one\nTwo\n"), "printed 'Two' on stdout, x 'two'"),
        (sample(b"one\n"), "printed '' on stdout, x 'two'"),
        (sample(b"one\ntwo\n", stderr=b"oh"), "printed 'oh' on stderr, x ''"),
        (sample(b"one\ntwo\n", status=1), "ended with status 1, x ended with status 0"),
        (sample(b"one\ntwo\n", status=-9), "killed by SIGKILL, x ended with status 0"),
        (sample(b"one\nt", status=124, bounded=True), None),
        (sample(b"one\nx", status=124, bounded=True), "printed 'x' on stdout, x 'two'"),
        (sample(b"one\nt", status=124, bounded=False), "ended with status 124, x ended with status 0"),
    ],
)
def test_check(found: runs.Sample, sentence: str | None) -> None:
    wanted = sample(b"one\ntwo\n")
    if sentence is None:
        runs.check(found, wanted, "x")
    else:
        with pytest.raises(runs.Differ) as differ:
            runs.check(found, wanted, "x")
        assert str(differ.value) == sentence


def test_engines_tell_of_a_signal_in_their_own_words() -> None:
    runs.check(sample(status=-11, stderr=b"dragoman: guest killed"), sample(status=-11, stderr=b"qemu: uncaught"), "x")
