"""One run of a program, under any engine: how long it took, with all that it started, how much memory, what it printed.

Every run is a process of its own that is started as a user would start it. Its time is what the kernel says: wall until
it ended, and CPU of it and of all processes that it started, of those too that outlive it. Its memory is the sum of
each one's largest resident set, looked at again and again while they run.
Owns: how a run is measured, cache folders that earlier runs left, what is alike. Must not know: what is compared with
what, or how any engine works.
"""

from __future__ import annotations

import compileall
import ctypes
import json
import os
import re
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import dbt
from guests import programs
from guests.programs import Program

CLOCKS = ("cpu", "wall")
LIMIT_REACHED = 124  # the status of `dragoman run` then
LEAST = 1e-4  # seconds: what is left of a run may be below the clocks' resolution
LOOK = 50  # milliseconds: how often the memory of a run is looked at
SET_CHILD_SUBREAPER = 36  # prctl
ROOT = Path(dbt.__file__).resolve().parent.parent

GROUPS = ("integer", "floating point")  # told apart, since qemu-riscv64 does floating point in software
FLOATING = ("stream",)  # computes with doubles, whatever its kind is called

SEED = "queens"  # the other program, which has run before in a cache folder that holds no translation of what comes
SEED_OF_SEED = "recurse"  # and the one that did where SEED itself is to be new


class Failed(Exception):
    """A run could not be made or was cut short by us; the message says which and why."""


class Differ(Exception):
    """Two runs of one program were not alike; the message says how."""


@dataclass(frozen=True)
class Case:
    """A program as it is to be run."""

    name: str  # as people write it: a path, or @NAME
    path: Path
    arguments: tuple[str, ...]
    bundled: Program | None = None
    native: tuple[tuple[str, Path], ...] = ()  # the same built for this machine, by the names of `dbt.bench.NATIVE`
    floating: bool = False  # of one that is not bundled: whether it computes with floating point

    @property
    def title(self) -> str:
        return " ".join((self.name, *self.arguments))

    @property
    def argv0(self) -> str:
        return self.bundled.name if self.bundled else self.name

    @property
    def group(self) -> str:
        """What it computes with: one of GROUPS."""
        known = self.bundled
        return GROUPS[known.kind == "fp" or known.name in FLOATING if known else self.floating]

    @property
    def small(self) -> tuple[str, ...] | None:
        """Of a bundled program at its large size, the arguments for its small one."""
        return self.bundled.small if self.bundled and self.arguments == self.bundled.large else None

    def output(self, arguments: tuple[str, ...]) -> str | None:
        """What it must print, where the table of programs says it."""
        if self.bundled and arguments == self.bundled.large:
            return self.bundled.large_output
        return self.bundled.small_output if self.bundled and arguments == self.bundled.small else None


def case_of(name: str, path: Path, arguments: Sequence[str], native: Mapping[str, Path] | None = None) -> Case:
    """A program with these arguments; a bundled one without arguments is run at its large size."""
    known = programs.find(name) if name.startswith("@") else None
    words = tuple(arguments) or (known.large if known else ())
    return Case(name, path, words, known, tuple((native or {}).items()))


def bundled(name: str, size: str = "small") -> Case:
    """A bundled program at one of its sizes."""
    program = programs.PROGRAMS[name]
    return Case(f"@{name}", programs.path(name), getattr(program, size), program)


# --- any command ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sample:
    """One run: how long it took, how it ended and what it printed; of our engines the statistics too."""

    wall: float
    cpu: float  # of the process and of all that it started, user and system
    status: int  # negative: the number of the signal that killed it
    stdout: bytes
    stderr: bytes
    stats: dict[str, Any] = field(default_factory=dict)
    others: float = 0.0  # what of `cpu` is not of the process itself
    memory: int = 0  # bytes: the sum of each process's largest resident set; 0 if it ended before that was looked at
    cut: bool = False  # it took too long, and was killed

    @property
    def bounded(self) -> bool:
        return bool(self.stats.get("bounded"))

    def as_dict(self) -> dict[str, Any]:
        """Plain data, without what was printed."""
        return {"wall": self.wall, "cpu": self.cpu, "others": self.others, "memory": self.memory, "stats": self.stats}


def prepare() -> None:
    """Make this process and our modules ready for measuring: to be called once by a command that does."""
    # Processes that a run leaves behind become our children, so that their time is known too.
    if ctypes.CDLL(None, use_errno=True).prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    # Modules are compiled as in an installation, or the first run, or every one, would do it.
    for package in ("dbt", "ir", "guests"):
        compileall.compile_dir(ROOT / package, quiet=2)


def measure(command: Sequence[str], stdin: str = os.devnull, executable: str | None = None, *,
            env: Mapping[str, str] | None = None, cwd: Path | None = None, longest: float | None = None,
            ) -> Sample:  # fmt: skip
    """Run a command alone, wait for it and for what it leaves behind.

    `env`: variables besides those of every run. `longest`: seconds of wall time, after which it is killed.
    """
    before = set(_children(os.getpid()))
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors, open(stdin, "rb") as given:
        inherited = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # a child's ru_maxrss starts with ours
        begin = time.perf_counter()
        try:
            child = subprocess.Popen(
                command, executable=executable, stdin=given, stdout=output, stderr=errors,
                env={**_env(), **(env or {})}, cwd=cwd,
            )  # fmt: skip
        except OSError as error:
            raise Failed(f"{executable or command[0]} cannot be run: {error.strerror}") from None
        try:
            sets, cut = _watched(child.pid, before, longest)
        except BaseException:
            _kill(before)
            child.wait()
            raise
        wall = time.perf_counter() - begin
        others = _of_children(child.pid)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if usage.ru_maxrss > inherited:  # what it reached after the last look
            sets[child.pid] = max(sets.get(child.pid, 0), usage.ru_maxrss << 10)
        late = _left_behind(before)
        texts = []
        for file in (output, errors):
            file.seek(0)
            texts.append(file.read())
    return Sample(wall, usage.ru_utime + usage.ru_stime + late, child.returncode, texts[0], texts[1],
                  others=others + late, memory=sum(sets.values()), cut=cut)  # fmt: skip


def _env() -> dict[str, str]:
    """The environment of every run, in which Python finds us."""
    path = os.pathsep.join(p for p in (str(ROOT), os.environ.get("PYTHONPATH")) if p)
    return {**os.environ, "PYTHONPATH": path}


def _watched(pid: int, before: set[int], longest: float | None) -> tuple[dict[int, int], bool]:
    """Wait until a process has ended, and look at the memory of all that run: bytes of each, and whether it was cut."""
    sets: dict[int, int] = {}
    end = None if longest is None else time.perf_counter() + longest
    ended = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(ended, select.POLLIN)
        pause, cut = 0, False
        while not poll.poll(pause):
            # The last look counts: what a process was before it became another program is no part of it.
            sets |= {each: found for each in _running(before) if (found := _resident(each))}
            pause = min(2 * pause + 1, LOOK)
            if end is not None and time.perf_counter() > end:
                cut = True
                _kill(before)
    finally:
        os.close(ended)
    return sets, cut


def _children(pid: int) -> list[int]:
    """The children of a process that may be gone."""
    found: list[int] = []
    with suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            found += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
    return found


def _running(before: set[int]) -> list[int]:
    """All processes below this one, but for children that were there before."""
    found = [pid for pid in _children(os.getpid()) if pid not in before]
    for pid in found:  # which grows
        found += _children(pid)
    return found


def _resident(pid: int) -> int:
    """The largest resident set of a process so far, in bytes; 0 if it is gone."""
    with suppress(OSError):
        match = re.search(rb"VmHWM:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_bytes())
        return int(match[1]) << 10 if match else 0
    return 0


def _times(pid: int) -> list[float]:
    """CPU seconds of a process, user and system, and of the children that it has waited for, user and system."""
    text = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return [int(ticks) / os.sysconf("SC_CLK_TCK") for ticks in text[11:15]]


def _of_children(pid: int) -> float:
    """CPU seconds of the children that a process which has ended has waited for."""
    return sum(_times(pid)[2:])


def spent(pid: int) -> float:
    """CPU seconds so far of a process and of all that it has started; 0 if it is gone."""
    with suppress(OSError):
        return sum(_times(pid)) + sum(map(spent, _children(pid)))
    return 0.0


def _left_behind(before: set[int]) -> float:
    """CPU seconds of processes that outlived the one that started them; waits for their end, which is in no wall time.

    They are known where `prepare` was called.
    """
    seconds = 0.0
    while late := [pid for pid in _children(os.getpid()) if pid not in before]:
        for pid in late:
            _, _, usage = os.wait4(pid, 0)
            seconds += usage.ru_utime + usage.ru_stime
    return seconds


def _kill(before: set[int]) -> None:
    for pid in _running(before):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


# --- what is alike ----------------------------------------------------------------------------------------------


def check(found: Sample, wanted: Sample, by: str) -> None:
    """Raise Differ unless a run ended and printed as another one did, `by` whom; a bounded one as far as it went."""
    if found.bounded or found.cut:
        if not wanted.stdout.startswith(found.stdout):
            raise Differ(_difference(found.stdout, wanted.stdout, "stdout", by))
        return
    if found.status != wanted.status:
        said = last_line(found.stderr)
        raise Differ(f"{ended(found.status)}{f' ({said})' if said else ''}, {by} {ended(wanted.status)}")
    # Of a program that dies by a signal, engines tell on stderr in words of their own.
    for stream in ("stdout",) if found.status < 0 else ("stdout", "stderr"):
        a, b = getattr(found, stream), getattr(wanted, stream)
        if a != b:
            raise Differ(_difference(a, b, stream, by))


def checked(case: Case, who: str, sample: Sample, wanted: Sample | None = None, by: str = "it must have") -> Sample:
    """The sample, if it ended and printed as the table of programs says, or as another run did."""
    if wanted is None:
        text = case.output(case.arguments)
        assert text is not None, case
        wanted = Sample(0, 0, 0, text.encode(), b"")
    try:
        check(sample, wanted, by)
    except Differ as differ:
        raise Differ(f"{case.title}: {who} {differ}") from None
    return sample


def ended(status: int) -> str:
    return f"ended with status {status}" if status >= 0 else f"killed by {signal.Signals(-status).name}"


def last_line(text: bytes) -> str:
    lines = text.decode(errors="replace").strip().splitlines()
    return lines[-1].removeprefix("dragoman: ") if lines else ""


def _difference(text: bytes, other: bytes, stream: str, by: str) -> str:
    """The lines in which two texts begin to differ."""
    at = next((i for i, (a, b) in enumerate(zip(text, other)) if a != b), min(len(text), len(other)))
    start = text.rfind(b"\n", 0, at) + 1
    lines = [repr(t[start:].partition(b"\n")[0][:60].decode(errors="replace")) for t in (text, other)]
    return f"printed {lines[0]} on {stream}, {by} {lines[1]}"


# --- our engines ------------------------------------------------------------------------------------------------


def own(case: Case, engine: str, arguments: Sequence[str], limit: int | None = None, stdin: str = os.devnull, *,
        options: Sequence[str] = (), kept: Path | None = None, cwd: Path | None = None, longest: float | None = None,
        ) -> Sample:  # fmt: skip
    """One run of `dragoman run`, with its statistics. `kept`: the folder of its disk cache, which translations need."""
    with tempfile.NamedTemporaryFile("r", suffix=".json") as report:
        words = [f"--engine={engine}", "--stats=json", f"--log={report.name}", *options]
        if limit is not None:
            words.append(f"--max-instructions={limit}")
        program = ["--", case.name] if case.bundled else [f"--argv0={case.argv0}", "--", str(case.path)]
        command = [sys.executable, "-m", "dragoman", "run", *words, *program, *arguments]
        env = None if kept is None else {"DRAGOMAN_CACHE_DIR": str(kept)}
        sample = measure(command, stdin, env=env, cwd=cwd, longest=longest)
        text = report.read()
    if not text and not sample.cut:
        how = f"{way_name(options)}, " if options else ""
        raise Failed(f"{how}{case.title}: {last_line(sample.stderr) or ended(sample.status)}")
    stats = json.loads(text) if text else {}
    stats["bounded"] = limit is not None and sample.status == LIMIT_REACHED and stats["instructions"] >= limit
    return replace(sample, stats=stats)


def way_name(options: Sequence[str]) -> str:
    """What was started, as it is told."""
    return " ".join(("dragoman", *options))


class Caches:
    """Folders of translations on disk, below one that is ours. What is new in them is a program, not the translator."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seeds: dict[tuple[tuple[str, ...], str], Path] = {}
        self._made = 0

    def empty(self) -> Path:
        """The name of a folder that is not there yet."""
        self._made += 1
        return self._folder / f"cache{self._made}"

    def never_seen(self, case: Case, options: Sequence[str] = (), folder: Path | None = None) -> Path:
        """A folder in which one other program has run: it holds what every program needs, and nothing of this one.

        `folder`: one that is no longer needed, whose place it takes.
        """
        name = SEED_OF_SEED if case.bundled and case.bundled.name == SEED else SEED
        seed = self._seeds.get((tuple(options), name))
        if seed is None:
            seed = self._seeds[tuple(options), name] = self.empty()
            other = bundled(name)
            checked(other, way_name(options), own(other, "translated", other.arguments, options=options, kept=seed))
        if folder is None:
            folder = self.empty()
        else:
            shutil.rmtree(folder, ignore_errors=True)
        seed.mkdir(exist_ok=True)  # an option may keep nothing
        return shutil.copytree(seed, folder)
