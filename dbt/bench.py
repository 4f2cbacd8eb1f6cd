"""How fast programs are: the interpreter, the translator, qemu-riscv64 and native code, taken in turn.

Every run is a process of its own (`dbt.runs`). Ours is run thrice in a turn: *cold*, from a cache folder in which one
other program has run, so that what every program needs is there and all of this one is translated; and *warm*, the
third run in that folder, since the second may still make what the first was too short for. *Running* is the warm run
without Python's start, loading and whatever was translated still: what is left when programs are long. All runs of a
program must end and print alike, for the speed of wrong code is worth nothing.
Owns: the order of runs, the arithmetic, the texts. Must not know: how any engine works.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from dbt.runs import (
    CLOCKS,
    GROUPS,
    LEAST,
    Caches,
    Case,
    Differ,
    Failed,
    Sample,
    case_of,
    check,
    ended,
    measure,
    own,
)
from guests import programs

ENGINES = {  # as they are told, in the order of the table of one program
    "reference": "reference, running",
    "cold": "translated, cold",
    "warm": "translated, warm",
    "running": "translated, running",
    "qemu": "qemu-riscv64",
    "native": "native",
    "tuned": "native, tuned",
}
NATIVE = {  # how bundled programs are built for this machine, besides the flags that the guest's have
    "native": ("-mcpu=baseline", "-fno-vectorize", "-fno-slp-vectorize"),  # what the guest's code was made of, too
    "tuned": ("-mcpu=native",),  # all that the processor and the compiler can do
}
GUEST = ".riscv64"  # how the names of guest programs end, in a folder of pairs
TURNS = 5
LIMIT = 1_000_000  # instructions of the reference interpreter: about two seconds
SHORT = 10_000_000  # a program with fewer instructions measures the start of an engine, and counts in no mean


def bundled_cases() -> list[Case]:
    """All bundled programs, at their large sizes."""
    return [case_of(f"@{name}", programs.path(name), ()) for name in programs.PROGRAMS]


def pairs(folder: Path) -> list[Case]:
    """The programs in a folder, each of which is there for the guest and for this machine."""
    found = []
    for path in sorted(folder.glob(f"*{GUEST}")):
        name = path.name.removesuffix(GUEST)
        arguments, native = folder / f"{name}.args", {way: (folder / f"{name}.{way}").resolve() for way in NATIVE}
        found.append(Case(
            name, path, tuple(arguments.read_text().splitlines()) if arguments.exists() else (),
            native=tuple((way, file) for way, file in native.items() if file.exists() or way == "native"),
            floating=(folder / f"{name}.fp").exists(),
        ))  # fmt: skip
    if not found:
        raise Failed(f"{folder}: there is no NAME{GUEST} in it")
    return found


# --- one program ------------------------------------------------------------------------------------------------


@dataclass
class Result:
    """All runs of one program, and what they come to: medians, each figure for itself."""

    case: Case
    samples: dict[str, list[Sample]] = field(default_factory=dict)  # by who ran: cold, warm, qemu, native, reference
    difference: str | None = None

    def _median(self, who: str, figure: Callable[[Sample], float]) -> float | None:
        found = self.samples.get(who)
        return statistics.median(map(figure, found)) if found else None

    @property
    def instructions(self) -> int | None:
        """Guest instructions, by the translator's count."""
        found = self._median("cold", lambda sample: sample.stats["instructions"])
        return None if found is None else round(found)

    def start(self) -> float | None:
        """CPU seconds of a cold run until the first guest instruction, and after the last."""
        return self._median("cold", lambda sample: sample.cpu - sample.others - sample.stats["cpu_seconds"])

    def translation(self) -> float | None:
        """CPU seconds of translation in a cold run, and of all processes that were started for it."""
        return self._median("cold", lambda sample: _translation(sample) + sample.others)

    def seconds(self, engine: str, clock: str = "cpu") -> float | None:
        """How long an engine took, by one of CLOCKS."""
        if engine == "running":
            return self._median("warm", lambda s: max(s.stats[f"{clock}_seconds"] - _translation(s), LEAST))
        if engine == "reference":
            return self._median("reference", lambda s: max(s.stats[f"{clock}_seconds"], LEAST))
        return self._median(engine, lambda s: max(getattr(s, clock), LEAST))

    def memory(self, engine: str) -> float | None:
        """The largest resident sets of an engine's processes, in bytes."""
        seen = [sample.memory for sample in self.samples.get(engine, ()) if sample.memory]
        return statistics.median(seen) if seen else None

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
                figures |= {"instructions_per_second": self.speed(engine), "peak_memory": self.memory(engine)}
                peers = ("qemu", *NATIVE)
                engines[engine] = figures | {f"time_to_{peer}": self.ratio(engine, peer) for peer in peers}
        first = next(iter(self.samples.get("cold", ())), None)
        bounded = [sample.bounded for sample in self.samples.get("reference", ())]
        return {
            "program": self.case.name, "arguments": list(self.case.arguments), "equal": self.difference is None,
            "difference": self.difference, "instructions": self.instructions, "status": first and first.status,
            "reference_bounded": any(bounded), "start_seconds": self.start(), "translation_seconds": self.translation(),
            "engines": engines,
            "samples": {who: [s.as_dict() for s in found] for who, found in self.samples.items()},
        }  # fmt: skip


def _translation(sample: Sample) -> float:
    """CPU seconds of translation in the process itself, which are wall seconds too: it waits for nothing then."""
    return float(sum(sample.stats["seconds"].values()))


@dataclass
class Bench:
    """How programs are to be measured."""

    caches: Caches
    runs: int = TURNS
    limit: int | None = None  # of the reference interpreter; None: LIMIT, or a bundled program's small size
    stdin: str = os.devnull
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
        """Who can run this program here, in order. A cold run comes first: others are compared with what it does."""
        cache = self.caches.empty()
        stack.callback(shutil.rmtree, cache, ignore_errors=True)

        def translated() -> Sample:
            return own(case, "translated", case.arguments, None, self.stdin, kept=cache)

        def cold() -> Sample:
            self.caches.never_seen(case, folder=cache)
            return translated()

        def warm() -> Sample:
            translated()  # which may still make what the first run was too short for
            return translated()

        found = {"cold": cold, "warm": warm}
        qemu = shutil.which("qemu-riscv64")
        if qemu is not None:
            command = [qemu, "-0", case.argv0, str(executable(case.path, stack)), *case.arguments]
            found["qemu"] = lambda: measure(command, self.stdin)
        for who, path in case.native or _native(case, stack):
            found[who] = partial(self._natively, case, path)
        found["reference"] = lambda: own(case, "reference", *self._reference(case), self.stdin)
        return found

    def _natively(self, case: Case, path: Path) -> Sample:
        sample = measure([case.argv0, *case.arguments], self.stdin, str(path))
        # A bundled program may name the machine that it was built for.
        return replace(sample, stdout=sample.stdout.replace(b"x86-64", b"RISC-V")) if case.bundled else sample

    def _wanted(self, result: Result, who: str, sample: Sample) -> tuple[Sample, str]:
        """What a run must be like, and who says so."""
        case = result.case
        known = case.output(self._reference(case)[0] if who == "reference" else case.arguments)
        if known is not None:
            return Sample(0, 0, 0, known.encode(), b""), "it must have"
        first = result.samples.get("cold")
        return (first[0], "the cold run") if first else (sample, who)


def executable(path: Path, stack: ExitStack) -> Path:
    """The file, or a copy of it that may be executed: qemu-riscv64 wants that, we do not."""
    if os.access(path, os.X_OK):
        return path
    copy = Path(stack.enter_context(tempfile.TemporaryDirectory())) / path.name
    shutil.copyfile(path, copy)
    copy.chmod(0o700)
    return copy


def _native(case: Case, stack: ExitStack) -> list[tuple[str, Path]]:
    """A bundled program built for this machine in each way, where that can be had."""
    if case.bundled is None or version("ziglang") is None or platform.machine() != "x86_64":
        return []
    from guests.programs import build

    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    for way, flags in NATIVE.items():
        build.TARGETS[way] = (*build.TARGETS["x86_64"], *flags)
        try:
            build.build(case.bundled.name, folder / way, way)
        except build.BuildError as error:
            raise Failed(str(error)) from None
    return [(way, folder / way) for way in NATIVE]


# --- all of them ------------------------------------------------------------------------------------------------

MEANS = {  # what is told of all programs together: (engine, in times of)
    ("cold", "qemu"): "translated, cold / qemu-riscv64",
    ("warm", "qemu"): "translated, warm / qemu-riscv64",
    ("running", "qemu"): "translated, running / qemu-riscv64",
    ("cold", "native"): "translated, cold / native",
    ("warm", "native"): "translated, warm / native",
    ("running", "native"): "translated, running / native",
    ("qemu", "native"): "qemu-riscv64 / native",
    ("native", "tuned"): "native / native, tuned",
    ("reference", "running"): "reference, running / translated, running",
}
ALL = "all"  # the group of all programs
WORST = 3  # programs that are named as slowest beside native code


def counted(results: Iterable[Result]) -> list[Result]:
    """Those that are long enough to be in the means, and right."""
    return [r for r in results if r.difference is None and (r.instructions or 0) >= SHORT]


def means(results: Iterable[Result]) -> dict[str, dict[str, dict[str, Any]]]:
    """Of each group of programs, of each ratio of times and each engine's speed: how many there are of it, geometric
    mean by either clock, median, least, greatest."""
    kept = counted(results)
    groups = {group: [r for r in kept if r.case.group == group] for group in GROUPS} | {ALL: kept}
    return {group: _means(members) for group, members in groups.items() if members}


def _means(kept: Sequence[Result]) -> dict[str, dict[str, Any]]:
    figures: dict[str, dict[str, list[float | None]]] = {
        text: {clock: [r.ratio(*pair, clock) for r in kept] for clock in CLOCKS} for pair, text in MEANS.items()
    }
    for engine, name in ENGINES.items():
        figures[f"instructions/s: {name}"] = {clock: [r.speed(engine, clock) for r in kept] for clock in CLOCKS}
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


def outliers(results: Iterable[Result]) -> dict[str, dict[str, float]]:
    """Programs by name, the worst first: those that are slower than under qemu-riscv64, and the slowest beside native
    code, each cold and running."""
    found = {}
    for engine in ("cold", "running"):
        for peer, what in (("qemu", "slower than qemu-riscv64"), ("native", "slowest beside native code")):
            ratios = {r.case.name: ratio for r in counted(results) if (ratio := r.ratio(engine, peer)) is not None}
            worst = sorted(ratios, key=lambda name: -ratios[name])
            chosen = [name for name in worst if ratios[name] > 1] if peer == "qemu" else worst[:WORST]
            if ratios:
                found[f"{what}, {engine}"] = {name: ratios[name] for name in chosen}
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
    table: list[tuple[str, ...]] = [
        ("engine", "wall s", "CPU s", "peak MB", "M instr/s", "/ qemu", "/ native", "reference /")
    ]
    for engine, name in ENGINES.items():
        if result.seconds(engine) is not None:
            table.append((
                name, show(result.seconds(engine, "wall"), 3), show(result.seconds(engine), 3),
                show(result.memory(engine), 2, 1e6), show(result.speed(engine), 2, 1e6),
                show(result.ratio(engine, "qemu"), 3), show(result.ratio(engine, "native"), 2),
                show(result.ratio("reference", engine), 2),
            ))  # fmt: skip
    first = result.samples["cold"][0]
    runs = len(result.samples["cold"])
    lines = [
        f"{result.case.title}: {result.instructions or 0:,} instructions, {ended(first.status)}, in all runs alike; "
        + (f"medians of {runs} runs" if runs > 1 else "one run"),
        *columns(table),
        f"cold: a first run, of which {show(result.start(), 3)} s of CPU are Python's start and loading and "
        f"{show(result.translation(), 3)} s translation;",
        "warm: the third run, from translations on disk; running: the same without start, loading and translation.",
        "CPU and memory are of all processes that a run starts. Speeds and ratios are by CPU time; a ratio is time for",
        "the same work, so 0.5 is twice as fast.",
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


MANY: tuple[tuple[str, str, Callable[[Result], str]], ...] = (  # the table of many programs: two lines above, a figure
    ("", "M instr", lambda r: show(r.instructions, 0, 1e6)),
    ("wall s", "cold", lambda r: show(r.seconds("cold", "wall"), 2)),
    ("CPU s", "cold", lambda r: show(r.seconds("cold"), 2)),
    ("of it", "start", lambda r: show(r.start(), 2)),
    ("of it", "transl", lambda r: show(r.translation(), 2)),
    ("CPU s", "warm", lambda r: show(r.seconds("warm"), 2)),
    ("CPU s", "running", lambda r: show(r.seconds("running"), 2)),
    ("CPU s", "qemu", lambda r: show(r.seconds("qemu"), 2)),
    ("CPU s", "native", lambda r: show(r.seconds("native"), 2)),
    ("CPU s", "tuned", lambda r: show(r.seconds("tuned"), 2)),
    ("cold", "/ qemu", lambda r: show(r.ratio("cold", "qemu"), 2)),
    ("running", "/ qemu", lambda r: show(r.ratio("running", "qemu"), 2)),
    ("cold", "/ native", lambda r: show(r.ratio("cold", "native"), 2)),
    ("running", "/ native", lambda r: show(r.ratio("running", "native"), 2)),
)


def row(name: str, cells: Iterable[str], width: int) -> str:
    """A line of the table of many programs, whose names are at most so wide."""
    return " ".join((name.ljust(width), *(cell.rjust(8) for cell in cells))).rstrip()


def heading(width: int) -> str:
    """Above the lines of many programs."""
    return f"{row('', (above for above, _, _ in MANY), width)}\n{row('program', (name for _, name, _ in MANY), width)}"


def line(result: Result, width: int) -> str:
    """One of many programs."""
    if result.difference is not None:
        return row(result.case.name, ["DIFFERS"], width)
    return row(result.case.name, (figure(result) for _, _, figure in MANY), width)


def means_text(results: Sequence[Result]) -> str:
    """`means` as a table, programs that stick out, and the figures that matter most."""
    found = means(results)
    if len(found) == 2:  # there is one group, and all is the same
        del found[ALL]
    first, second = [""], [""]
    for group, figures in found.items():
        first += [group, f"of {max(figure['programs'] for figure in figures.values())}"]
        second += ["CPU", "wall"]
    table = [(*first[1:], ""), (*second[1:], "geometric means")]
    for text in dict.fromkeys(text for figures in found.values() for text in figures):
        unit = 1e6 if text.startswith("instructions") else 1
        cells = [show(figures[text][key] if text in figures else None, 2, unit)
                 for figures in found.values() for key in ("geomean", "geomean_wall")]  # fmt: skip
        table.append((*cells, "million " * (unit > 1) + text))
    lines = columns(table, text=len(table[0]) - 1)
    lines += [f"{what}: {', '.join(f'{name} {ratio:.2f}' for name, ratio in named.items()) or 'none'}"
              for what, named in outliers(results).items()]  # fmt: skip
    short = [result.case.name for result in results if result.difference is None and result not in counted([result])]
    if short:
        lines.append(f"Not in the means, since they are too short: {', '.join(short)}.")
    for engine in ("cold", "running"):
        told = [f"{figures[text]['geomean']:.2f} on {group} programs (geometric mean of {figures[text]['programs']})"
                for group, figures in found.items()
                if group != ALL and (text := MEANS[engine, "qemu"]) in figures]  # fmt: skip
        if told:
            lines.append(f"translated, {engine}, x qemu-riscv64's time: {', '.join(told)}")
    return "\n".join(lines)


def report(results: Iterable[Result], runs: int) -> dict[str, Any]:
    """All there is to tell, as plain data."""
    found = list(results)
    return {
        "machine": machine(), "runs": runs, "programs": [r.as_dict() for r in found], "means": means(found),
        "outliers": outliers(found), "differences": [r.difference for r in found if r.difference is not None],
    }  # fmt: skip


def show(value: float | None, places: int, unit: float = 1) -> str:
    """A figure, or a dash where there is none."""
    return "-" if value is None else f"{value / unit:,.{places}f}"


def columns(table: Sequence[tuple[str, ...]], text: int = 0) -> list[str]:
    """Rows with aligned columns: numbers to the right, the one of text to the left."""
    widths = [max(map(len, column)) for column in zip(*table)]
    return ["  ".join(cell.ljust(w) if i == text else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths)))
            .rstrip() for row in table]  # fmt: skip
