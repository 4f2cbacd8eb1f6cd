"""Where the time of a start goes: `python -m bench.start [RUNS]`.

Whole processes first, interleaved with Python's own start, since machines are slower at some times than at others;
then the steps within one process, and what it imports. Each program is run once before, so that compiled modules and
translations are there.
Owns: these tables. Must not know: how anything is made faster.
"""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from statistics import median

PROGRAMS: Mapping[str, Sequence[str]] = {  # what is run: of the second one, translations are on disk
    "python -c pass": ("-c", "pass"),
    "run @hello": ("-m", "dragoman", "run", "@hello"),
    "run @json small": ("-m", "dragoman", "run", "@json", "small"),
}
STEPS = """
import sys, time
marks = [("", time.perf_counter())]
def mark(name):
    marks.append((name, time.perf_counter()))
import dragoman; dragoman._check_packages(); mark("dragoman: import, and whether the packages are ours")
from dbt import cli; mark("dbt.cli: import")
from dbt.cli import run; options, rest = run._parser().split(["@hello"]); mark("the command's options")
import dbt.process; mark("dbt.process, dbt.linux: import")
import dbt.engine; mark("dbt.engine, dbt.cache: import")
import guests.programs, guests.riscv.isa; mark("guests: import, with the rows of all extensions")
guest = guests.load("riscv64"); mark("the guest: patterns of all rows")
process = dragoman.load("@hello", options=dragoman.Options(disk=True), stdout=2); mark("the process")
process.run(); mark("550 instructions")
process.close(); mark("close")
for (_, before), (name, after) in zip(marks, marks[1:]):
    print(f"{(after - before) * 1e3:.3f} {name}")
"""


def environment(folder: str) -> dict[str, str]:
    """Ours, with modules compiled once and kept, and translations in a folder of this measurement."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    path = os.pathsep.join([os.getcwd(), *filter(None, [os.environ.get("PYTHONPATH")])])
    return kept | {"DRAGOMAN_CACHE_DIR": folder, "PYTHONPATH": path}


def once(words: Sequence[str], env: Mapping[str, str]) -> tuple[float, float]:
    """Wall and processor seconds of a run."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, *words], env=env, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def processes(runs: int, env: Mapping[str, str]) -> dict[str, tuple[float, float]]:
    """Medians of wall and processor seconds of each program."""
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in PROGRAMS}
    for turn in range(runs + 1):
        for name, words in PROGRAMS.items():
            sample = once(words, env)
            if turn:  # the first one prepares
                samples[name].append(sample)
    return {name: (median(wall for wall, _ in of), median(cpu for _, cpu in of)) for name, of in samples.items()}


def steps(runs: int, env: Mapping[str, str]) -> list[tuple[str, float]]:
    """Medians of the milliseconds of each step of a run of @hello."""
    found: dict[str, list[float]] = {}
    for _ in range(runs):
        done = subprocess.run([sys.executable, "-c", STEPS], env=env, check=True, capture_output=True, text=True)
        for line in done.stdout.splitlines():
            spent, _, name = line.partition(" ")
            found.setdefault(name, []).append(float(spent))
    return [(name, median(spent)) for name, spent in found.items()]


def imports(words: Sequence[str], env: Mapping[str, str]) -> list[tuple[str, float]]:
    """What a run imports, in order, and the milliseconds of each module itself."""
    done = subprocess.run([sys.executable, "-X", "importtime", *words], env=env, check=True, capture_output=True)
    lines = re.findall(rb"^import time: +(\d+) \| +\d+ \| +(\S+)$", done.stderr, re.MULTILINE)
    return [(name.decode(), int(spent) / 1000) for spent, name in lines]


def main(runs: int = 15) -> None:
    with tempfile.TemporaryDirectory() as folder:
        env = environment(folder)
        whole = processes(runs, env)
        base = whole["python -c pass"]
        print(f"{'whole process, medians of ' + str(runs):44} {'wall ms':>8} {'CPU ms':>8} {'above Python':>14}")
        for name, (wall, cpu) in whole.items():
            above, burnt = wall - base[0], cpu - base[1]
            print(f"{name:44} {wall * 1e3:8.1f} {cpu * 1e3:8.1f} {above * 1e3:6.1f} {burnt * 1e3:7.1f}")
        print(f"\n{'steps of run @hello, within a process':60} {'ms':>8}")
        for name, spent in steps(runs, env):
            print(f"{name:60} {spent:8.2f}")
        python = {name for name, _ in imports(PROGRAMS["python -c pass"], env)}
        found = [entry for entry in imports(PROGRAMS["run @hello"], env) if entry[0] not in python]
        print(f"\nrun @hello imports {len(found)} modules beyond Python's own; those of 0.3 ms and more:")
        for name, spent in sorted(found, key=lambda entry: -entry[1]):
            if spent >= 0.3:
                print(f"{name:60} {spent:8.2f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
