"""How fast programs are: the interpreter, the translator, qemu-riscv64 and native code, taken in turn.

Every run is a process of its own that is started as a user would start it, and its time is what the kernel says of
it: wall, and CPU of it and of its children. Of a translated run that is Python's start, imports and translation too:
it is *cold*. What the same run took without its start and without translation is told beside it, as *running*. All
runs of a program must end and print alike, for the speed of wrong code is worth nothing.
Owns: the order of runs, what is equal, the arithmetic, the texts. Must not know: how any engine works.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dbt
from guests import programs
from guests.programs import Program

ENGINES = {  # as they are told, in the order of the table of one program
    "reference": "reference, running",
    "cold": "translated, cold",
    "running": "translated, running",
    "qemu": "qemu-riscv64",
    "native": "native",
}
CLOCKS = ("cpu", "wall")
LIMIT = 1_000_000  # instructions of the reference interpreter: about two seconds
LIMIT_REACHED = 124  # the status of `dragoman run` then
SHORT = 10_000_000  # a program with fewer instructions measures the start of an engine, and counts in no mean
LEAST = 1e-4  # seconds: what is left of a run may be below the clocks' resolution


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

    @property
    def title(self) -> str:
        return " ".join((self.name, *self.arguments))

    @property
    def argv0(self) -> str:
        return self.bundled.name if self.bundled else self.name

    @property
    def small(self) -> tuple[str, ...] | None:
        """Of a bundled program at its large size, the arguments for its small one."""
        return self.bundled.small if self.bundled and self.arguments == self.bundled.large else None

    def output(self, arguments: tuple[str, ...]) -> str | None:
        """What it must print, where the table of programs says it."""
        if self.bundled and arguments == self.bundled.large:
            return self.bundled.large_output
        return self.bundled.small_output if self.bundled and arguments == self.bundled.small else None


def case_of(name: str, path: Path, arguments: Sequence[str]) -> Case:
    """A program with these arguments; a bundled one without arguments is run at its large size."""
    if not name.startswith("@"):
        return Case(name, path, tuple(arguments))
    known = programs.find(name)
    return Case(name, path, tuple(arguments) or known.large, known)


def bundled_cases() -> list[Case]:
    """All bundled programs, at their large sizes."""
    return [case_of(f"@{name}", programs.path(name), ()) for name in programs.PROGRAMS]


# --- one run ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sample:
    """One run: how long it took, how it ended and what it printed; of our engines the statistics too."""

    wall: float
    cpu: float  # of the process and its children, user and system
    status: int  # negative: the number of the signal that killed it
    stdout: bytes
    stderr: bytes
    stats: dict[str, Any] = field(default_factory=dict)

    @property
    def bounded(self) -> bool:
        return bool(self.stats.get("bounded"))


def measure(command: Sequence[str], stdin: str = os.devnull, executable: str | None = None, *,
            env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Sample:  # fmt: skip
    """Run a command alone and wait for it. `env`: variables besides those of every run."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors, open(stdin, "rb") as given:
        begin = time.perf_counter()
        try:
            child = subprocess.Popen(
                command, executable=executable, stdin=given, stdout=output, stderr=errors,
                env={**_env(), **(env or {})}, cwd=cwd,
            )  # fmt: skip
        except OSError as error:
            raise Failed(f"{executable or command[0]} cannot be run: {error.strerror}") from None
        try:
            _, status, usage = os.wait4(child.pid, 0)
        except BaseException:
            child.kill()
            child.wait()
            raise
        wall = time.perf_counter() - begin
        child.returncode = os.waitstatus_to_exitcode(status)
        texts = []
        for file in (output, errors):
            file.seek(0)
            texts.append(file.read())
        return Sample(wall, usage.ru_utime + usage.ru_stime, child.returncode, texts[0], texts[1])


def _env() -> dict[str, str]:
    """The environment of every run, in which Python finds us."""
    root = str(Path(dbt.__file__).resolve().parent.parent)
    return {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in (root, os.environ.get("PYTHONPATH")) if p)}


def own(case: Case, engine: str, arguments: Sequence[str], limit: int | None, stdin: str = os.devnull, *,
        options: Sequence[str] = (), kept: Path | None = None, cwd: Path | None = None) -> Sample:  # fmt: skip
    """One run of `dragoman run`, with its statistics. `kept`: the folder of its disk cache; None is no disk cache."""
    with tempfile.NamedTemporaryFile("r", suffix=".json") as report:
        words = [f"--engine={engine}", "--stats=json", f"--log={report.name}", *options]
        if engine == "translated" and kept is None:
            words.append("--no-disk-cache")
            if not any(word.startswith("--tiers") for word in options):
                words.append("--tiers=1")  # stencils that are made for one run alone would be all that one sees
        if limit is not None:
            words.append(f"--max-instructions={limit}")
        command = [sys.executable, "-m", "dragoman", "run", *words, "--", case.name, *arguments]
        sample = measure(command, stdin, env=None if kept is None else {"DRAGOMAN_CACHE_DIR": str(kept)}, cwd=cwd)
        text = report.read()
    if not text:
        raise Failed(f"{case.title}: {_last_line(sample.stderr) or _ended(sample.status)}")
    stats = json.loads(text)
    stats["bounded"] = limit is not None and sample.status == LIMIT_REACHED and stats["instructions"] >= limit
    return Sample(sample.wall, sample.cpu, sample.status, sample.stdout, sample.stderr, stats)


# --- what is alike ----------------------------------------------------------------------------------------------


def check(found: Sample, wanted: Sample, by: str) -> None:
    """Raise Differ unless a run ended and printed as another one did, `by` whom; a bounded one as far as it went."""
    if found.bounded:
        if not wanted.stdout.startswith(found.stdout):
            raise Differ(_difference(found.stdout, wanted.stdout, "stdout", by))
        return
    if found.status != wanted.status:
        said = _last_line(found.stderr)
        raise Differ(f"{_ended(found.status)}{f' ({said})' if said else ''}, {by} {_ended(wanted.status)}")
    # Of a program that dies by a signal, engines tell on stderr in words of their own.
    for stream in ("stdout",) if found.status < 0 else ("stdout", "stderr"):
        a, b = getattr(found, stream), getattr(wanted, stream)
        if a != b:
            raise Differ(_difference(a, b, stream, by))


def _ended(status: int) -> str:
    return f"ended with status {status}" if status >= 0 else f"killed by {signal.Signals(-status).name}"


def _difference(text: bytes, other: bytes, stream: str, by: str) -> str:
    """The lines in which two texts begin to differ."""
    at = next((i for i, (a, b) in enumerate(zip(text, other)) if a != b), min(len(text), len(other)))
    start = text.rfind(b"\n", 0, at) + 1
    lines = [repr(t[start:].partition(b"\n")[0][:60].decode(errors="replace")) for t in (text, other)]
    return f"printed {lines[0]} on {stream}, {by} {lines[1]}"


def _last_line(text: bytes) -> str:
    lines = text.decode(errors="replace").strip().splitlines()
    return lines[-1].removeprefix("dragoman: ") if lines else ""


# --- one program ------------------------------------------------------------------------------------------------


@dataclass
class Result:
    """All runs of one program, and what they come to: medians, each figure for itself."""

    case: Case
    samples: dict[str, list[Sample]] = field(default_factory=dict)  # by who ran: translated, qemu, native, reference
    difference: str | None = None

    def _median(self, who: str, figure: Callable[[Sample], float]) -> float | None:
        found = self.samples.get(who)
        return statistics.median(map(figure, found)) if found else None

    @property
    def instructions(self) -> int | None:
        """Guest instructions, by the translator's count."""
        found = self._median("translated", lambda sample: sample.stats["instructions"])
        return None if found is None else round(found)

    def start(self) -> float | None:
        """CPU seconds until the first guest instruction, and after the last."""
        return self._median("translated", lambda sample: sample.cpu - sample.stats["cpu_seconds"])

    def translation(self) -> float | None:
        return self._median("translated", _translation)

    def seconds(self, engine: str, clock: str = "cpu") -> float | None:
        """How long an engine took, by one of CLOCKS."""
        if engine == "running":
            return self._median("translated", lambda s: max(s.stats[f"{clock}_seconds"] - _translation(s), LEAST))
        if engine == "reference":
            return self._median("reference", lambda s: max(s.stats[f"{clock}_seconds"], LEAST))
        return self._median("translated" if engine == "cold" else engine, lambda s: max(getattr(s, clock), LEAST))

    def speed(self, engine: str, clock: str = "cpu") -> float | None:
        """Guest instructions a second. Of native code: as many as the guest needs for the same."""
        count: float | None = self.instructions
        if engine == "reference":
            count = self._median("reference", lambda sample: sample.stats["instructions"])
        seconds = self.seconds(engine, clock)
        return None if count is None or seconds is None else count / seconds

    def ratio(self, engine: str, to: str, clock: str = "cpu") -> float | None:
        """The time of an engine, for the same work, in times of another one: 0.5 is twice as fast."""
        own, other = self.speed(engine, clock), self.speed(to, clock)
        return None if not own or other is None else other / own

    def as_dict(self) -> dict[str, Any]:
        """Plain data: figures of each engine, then every run."""
        engines = {}
        for engine in ENGINES:
            if self.seconds(engine) is not None:
                figures = {f"{clock}_seconds": self.seconds(engine, clock) for clock in CLOCKS}
                figures |= {"instructions_per_second": self.speed(engine)}
                engines[engine] = figures | {f"time_to_{to}": self.ratio(engine, to) for to in ("qemu", "native")}
        first = next(iter(self.samples.get("translated", ())), None)
        bounded = [sample.bounded for sample in self.samples.get("reference", ())]
        return {
            "program": self.case.name, "arguments": list(self.case.arguments), "equal": self.difference is None,
            "difference": self.difference, "instructions": self.instructions, "status": first and first.status,
            "reference_bounded": any(bounded), "start_seconds": self.start(), "translation_seconds": self.translation(),
            "engines": engines,
            "samples": {who: [{"wall": s.wall, "cpu": s.cpu, "stats": s.stats} for s in found]
                        for who, found in self.samples.items()},
        }  # fmt: skip


def _translation(sample: Sample) -> float:
    """CPU seconds of translation, which are wall seconds too: it has no threads and waits for nothing."""
    return float(sum(sample.stats["seconds"].values()))


@dataclass
class Bench:
    """How programs are to be measured."""

    runs: int = 5
    limit: int | None = None  # of the reference interpreter; None: LIMIT, or a bundled program's small size
    stdin: str = os.devnull
    native: Path | None = None  # None: bundled programs are built, where there is a compiler
    progress: Callable[[str], None] = lambda text: None

    def measure(self, case: Case) -> Result:
        """Run a program under every engine in turn, as often as wanted or until two runs differ."""
        result = Result(case)
        with ExitStack() as stack:
            engines = self._engines(case, stack)
            for turn in range(self.runs):
                for who, run in engines.items():
                    self.progress(f"{case.title}: run {turn + 1} of {self.runs}, {who}")
                    sample = run()
                    try:
                        check(sample, *self._wanted(result, who, sample))
                    except Differ as differ:
                        result.difference = f"{case.title}: {who} {differ}"
                        return result
                    result.samples.setdefault(who, []).append(sample)
        return result

    def _reference(self, case: Case) -> tuple[tuple[str, ...], int | None]:
        """Arguments and limit of the reference interpreter."""
        if self.limit is None and case.small is not None:
            return case.small, None
        return case.arguments, self.limit or LIMIT

    def _engines(self, case: Case, stack: ExitStack) -> dict[str, Callable[[], Sample]]:
        """Who can run this program here. The translator comes first: others are compared with what it does."""
        found = {"translated": lambda: own(case, "translated", case.arguments, None, self.stdin)}
        qemu = shutil.which("qemu-riscv64")
        if qemu is not None:
            command = [qemu, "-0", case.argv0, str(executable(case.path, stack)), *case.arguments]
            found["qemu"] = lambda: measure(command, self.stdin)
        native = self.native or _native(case, stack)
        if native is not None:
            found["native"] = lambda: _in_guest_words(
                case, measure([case.argv0, *case.arguments], self.stdin, str(native))
            )
        found["reference"] = lambda: own(case, "reference", *self._reference(case), self.stdin)
        return found

    def _wanted(self, result: Result, who: str, sample: Sample) -> tuple[Sample, str]:
        """What a run must be like, and who says so."""
        case = result.case
        known = case.output(self._reference(case)[0] if who == "reference" else case.arguments)
        if known is not None:
            return Sample(0, 0, 0, known.encode(), b""), "it must have"
        first = result.samples.get("translated")
        return (first[0], "translated") if first else (sample, who)


def executable(path: Path, stack: ExitStack) -> Path:
    """The file, or a copy of it that may be executed: qemu-riscv64 wants that, we do not."""
    if os.access(path, os.X_OK):
        return path
    copy = Path(stack.enter_context(tempfile.TemporaryDirectory())) / path.name
    shutil.copyfile(path, copy)
    copy.chmod(0o700)
    return copy


def _native(case: Case, stack: ExitStack) -> Path | None:
    """A bundled program built for this machine, where that can be had."""
    if case.bundled is None or version("ziglang") is None or platform.machine() != "x86_64":
        return None
    from guests.programs import build

    output = Path(stack.enter_context(tempfile.TemporaryDirectory())) / case.bundled.name
    try:
        build.build(case.bundled.name, output, "x86_64")
    except build.BuildError as error:
        raise Failed(str(error)) from None
    return output


def _in_guest_words(case: Case, sample: Sample) -> Sample:
    """A bundled program may name the machine that it was built for."""
    text = sample.stdout.replace(b"x86-64", b"RISC-V") if case.bundled else sample.stdout
    return Sample(sample.wall, sample.cpu, sample.status, text, sample.stderr)


# --- all of them ------------------------------------------------------------------------------------------------

MEANS = {  # what is told of all programs together: (engine, in times of)
    ("running", "qemu"): "translated, running / qemu-riscv64",
    ("cold", "qemu"): "translated, cold / qemu-riscv64",
    ("running", "native"): "translated, running / native",
    ("cold", "native"): "translated, cold / native",
    ("qemu", "native"): "qemu-riscv64 / native",
    ("reference", "running"): "reference, running / translated, running",
}
WITHOUT_FP = f"{MEANS['running', 'qemu']}, without floating point"  # qemu-riscv64 does that in software


def counted(results: Iterable[Result]) -> list[Result]:
    """Those that are long enough to be in the means, and right."""
    return [r for r in results if r.difference is None and (r.instructions or 0) >= SHORT]


def means(results: Iterable[Result]) -> dict[str, dict[str, float]]:
    """Of each ratio of times, and of each engine's speed: geometric mean by either clock, median, least, greatest."""
    kept = counted(results)
    figures: dict[str, dict[str, list[float | None]]] = {
        text: {clock: [r.ratio(*pair, clock) for r in kept] for clock in CLOCKS} for pair, text in MEANS.items()
    }
    integer = [r for r in kept if r.case.bundled is not None and r.case.bundled.kind != "fp"]
    figures[WITHOUT_FP] = {clock: [r.ratio("running", "qemu", clock) for r in integer] for clock in CLOCKS}
    for engine in ("cold", "running", "qemu", "native", "reference"):
        figures[f"instructions/s: {ENGINES[engine]}"] = {c: [r.speed(engine, c) for r in kept] for c in CLOCKS}
    found = {}
    for text, clocks in figures.items():
        by = {clock: [value for value in values if value is not None] for clock, values in clocks.items()}
        if by["cpu"]:
            found[text] = {
                "programs": len(by["cpu"]), "geomean": statistics.geometric_mean(by["cpu"]),
                "geomean_wall": statistics.geometric_mean(by["wall"]), "median": statistics.median(by["cpu"]),
                "least": min(by["cpu"]), "greatest": max(by["cpu"]),
            }  # fmt: skip
    return found


def version(module: str) -> str | None:
    """The version of an installed Python module, by the name of its distribution."""
    try:
        return importlib.metadata.version(module)
    except importlib.metadata.PackageNotFoundError:
        return None


def machine() -> dict[str, str]:
    """Where this is measured, and against what."""
    model = platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    kernel = ".".join(platform.release().split(".")[:2])
    found = {
        "processor": f"{model}, {os.cpu_count()} processors", "system": f"{platform.system()} {kernel}",
        "python": platform.python_version(), "dragoman": version("dragoman") or "not installed: a source tree",
    }  # fmt: skip
    qemu = shutil.which("qemu-riscv64")
    said = qemu and subprocess.run([qemu, "--version"], capture_output=True, text=True).stdout.partition("\n")[0]
    found["qemu-riscv64"] = said or "not installed, so not compared with"
    for name in ("llvmlite", "ziglang"):
        found[name] = version(name) or "not installed"
    return found


# --- texts ------------------------------------------------------------------------------------------------------


def result_text(result: Result) -> str:
    """The table of one program: a row for each engine."""
    table: list[tuple[str, ...]] = [("engine", "wall s", "CPU s", "M instr/s", "/ qemu", "/ native", "reference /")]
    for engine, name in ENGINES.items():
        if result.seconds(engine) is not None:
            table.append((
                name, show(result.seconds(engine, "wall"), 3), show(result.seconds(engine), 3),
                show(result.speed(engine), 2, 1e6), show(result.ratio(engine, "qemu"), 3),
                show(result.ratio(engine, "native"), 2), show(result.ratio("reference", engine), 2),
            ))  # fmt: skip
    first = result.samples["translated"][0]
    runs = len(result.samples["translated"])
    lines = [
        f"{result.case.title}: {result.instructions or 0:,} instructions, {_ended(first.status)}, in all runs alike; "
        + (f"medians of {runs} runs" if runs > 1 else "one run"),
        *columns(table),
        f"cold: a whole process, of which {show(result.start(), 3)} s of CPU are Python's start and loading and "
        f"{show(result.translation(), 3)} s translation;",
        "running: the same run without these. Speeds and ratios are by CPU time; a ratio is time for the same work,",
        "so 0.5 is twice as fast.",
    ]
    if (result.instructions or 0) < SHORT:
        lines.append("The program is short: what qemu-riscv64 and native code took is hardly more than their start.")
    bounded = [sample for sample in result.samples["reference"] if sample.bounded]
    if bounded:
        lines.append(f"The reference interpreter was stopped after {bounded[0].stats['instructions']:,} instructions.")
    elif result.case.small and result.case.small != result.case.arguments:
        lines.append(f"The reference interpreter ran {' '.join((result.case.name, *result.case.small))}.")
    target = result.ratio("running", "qemu")
    if target is not None:
        lines.append(f"\ntranslated, running: {target:.2f} x qemu-riscv64's time")
    return "\n".join(lines)


LINE = "{:<10} {:>8} {:>8} {:>8} {:>7} {:>7} {:>8} {:>8} {:>9} {:>9} {:>8} {:>9}"


def heading() -> str:
    """Above the lines of many programs."""
    above = LINE.format("", "", "CPU s", "", "of cold", "", "", "", "M instr/s", "M instr/s", "running", "running")
    below = LINE.format(
        "program", "M instr", "cold", "running", "start", "transl", "qemu", "native", "running", "reference", "/ qemu",
        "/ native",
    )  # fmt: skip
    return f"{above}\n{below}"


def line(result: Result) -> str:
    """One of many programs."""
    if result.difference is not None:
        return f"{result.case.name:<10} DIFFERS"
    return LINE.format(
        result.case.name, show(result.instructions, 0, 1e6), show(result.seconds("cold"), 2),
        show(result.seconds("running"), 2), show(result.start(), 2), show(result.translation(), 2),
        show(result.seconds("qemu"), 2), show(result.seconds("native"), 2), show(result.speed("running"), 0, 1e6),
        show(result.speed("reference"), 2, 1e6), show(result.ratio("running", "qemu"), 2),
        show(result.ratio("running", "native"), 2),
    )  # fmt: skip


def means_text(results: Sequence[Result]) -> str:
    """`means` as a table, and the figure that matters most."""
    found = means(results)
    table: list[tuple[str, ...]] = [("geomean", "by wall", "median", "least", "greatest", "")]
    for text, values in found.items():
        unit, places = (1e6, 2) if text.startswith("instructions") else (1, 2)
        keys = ("geomean", "geomean_wall", "median", "least", "greatest")
        table.append((*(show(values[key], places, unit) for key in keys), "million " * (unit > 1) + text))
    lines = columns(table, text=5)
    short = [result.case.name for result in results if result.difference is None and result not in counted([result])]
    if short:
        lines.append(f"Not in the means, since they are too short: {', '.join(short)}.")
    target = found.get(MEANS["running", "qemu"])
    if target is not None:
        lines.append(f"\ntranslated, running: {target['geomean']:.2f} x qemu-riscv64's time "
                     f"(geometric mean of {target['programs']} programs)")  # fmt: skip
    integer = found.get(WITHOUT_FP)
    if integer is not None:
        lines.append(f"without floating point: {integer['geomean']:.2f} x, of {integer['programs']} programs")
    return "\n".join(lines)


def report(results: Iterable[Result], runs: int) -> dict[str, Any]:
    """All there is to tell, as plain data."""
    found = list(results)
    return {"machine": machine(), "runs": runs, "programs": [r.as_dict() for r in found], "means": means(found),
            "differences": [r.difference for r in found if r.difference is not None]}  # fmt: skip


def show(value: float | None, places: int, unit: float = 1) -> str:
    """A figure, or a dash where there is none."""
    return "-" if value is None else f"{value / unit:,.{places}f}"


def columns(table: Sequence[tuple[str, ...]], text: int = 0) -> list[str]:
    """Rows with aligned columns: numbers to the right, the one of text to the left."""
    widths = [max(map(len, column)) for column in zip(*table)]
    return ["  ".join(cell.ljust(w) if i == text else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths)))
            .rstrip() for row in table]  # fmt: skip
