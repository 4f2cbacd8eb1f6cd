"""Speed of the bundled programs against qemu-riscv64, native code and the interpreter: `python -m bench.programs`.

What: runs each program at its large size in turn under every engine, checks what it prints, and tells CPU and wall
seconds, instructions a second, and ratios with their geometric means and medians. The reference interpreter runs the
small sizes. Every run is a process of its own, and its time is what the kernel charged to it: for the translator that
is Python's start, the imports and the translation too; what it took without these is measured inside and told apart.
Owns: the order of runs, the arithmetic and the tables. Must not know: how any engine works.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import math
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from guests import programs
from guests.programs import PROGRAMS, Program

REPOSITORY = Path(__file__).resolve().parents[1]
NATIVE = REPOSITORY / ".cache" / "native"
ENGINES = ("translated", "qemu", "native", "reference")
COLUMNS = "{:<9} {:>8} {:>8} {:>7} {:>7} {:>7} {:>7} {:>8} {:>7} {:>8} {:>8} {:>8}"


class Wrong(Exception):
    """A program did not do what the table of programs says; the message tells which and how."""


@dataclass
class Sample:
    """One run of one program."""

    cpu: float  # seconds, user and system, of the whole process
    wall: float
    inside: dict[str, Any] = field(default_factory=dict)  # what `bench.inside` measured, of our own engines


@dataclass
class Row:
    """All runs of one program; the figures are those of the run with the median CPU time."""

    name: str
    kind: str
    samples: dict[str, list[Sample]] = field(default_factory=dict)

    def median(self, engine: str) -> Sample | None:
        found = sorted(self.samples.get(engine, ()), key=lambda sample: sample.cpu)
        return found[(len(found) - 1) // 2] if found else None

    def cpu(self, engine: str) -> float | None:
        found = self.median(engine)
        return found.cpu if found else None

    def inside(self, name: str, engine: str = "translated") -> Any:
        found = self.median(engine)
        return found.inside.get(name) if found else None

    def running(self) -> float | None:
        """CPU seconds of translated code and of the monitor: no start, no translation."""
        total = self.inside("run cpu")
        return None if total is None else max(total - self.inside("translation cpu"), 1e-4)

    def start(self) -> float | None:
        total, run = self.cpu("translated"), self.inside("run cpu")
        return None if total is None else total - run

    def figures(self) -> dict[str, float | None]:
        """Everything that is told of a program, by name."""
        ours, running, count = self.cpu("translated"), self.running(), self.inside("instructions")
        qemu, native, reference = self.cpu("qemu"), self.cpu("native"), self.median("reference")
        native = None if _trivial(self) else native
        blocks, entries = self.inside("blocks"), self.inside("python_entries")
        return {
            "instructions": count,
            "translated cpu": ours,
            "translated wall": (self.median("translated") or Sample(0, 0)).wall or None,
            "start cpu": self.start(),
            "translation cpu": self.inside("translation cpu"),
            "running cpu": running,
            "qemu cpu": qemu,
            "native cpu": native,
            "instructions/s": _ratio(count, ours),
            "instructions/s running": _ratio(count, running),
            "qemu/translated": _ratio(qemu, ours),
            "qemu/running": _ratio(qemu, running),
            "translated/native": _ratio(ours, native),
            "running/native": _ratio(running, native),
            "qemu/native": _ratio(qemu, native),
            "python_entries_per_million_blocks": _ratio(entries, blocks, 1e6),
            "reference instructions/s": _ratio(reference.inside["instructions"], reference.inside["run cpu"])
            if reference else None,
        }  # fmt: skip


def _ratio(above: float | None, below: float | None, scale: float = 1) -> float | None:
    return None if above is None or not below else above / below * scale


# --- running ----------------------------------------------------------------------------------------------------


def measure(command: Sequence[str], expected: str, what: str, limit: float) -> Sample:
    """Run a command alone, and check that it prints what it must and succeeds."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        begin = time.perf_counter()
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, cwd=REPOSITORY)
        alarm = threading.Timer(limit, child.kill)
        alarm.start()
        try:
            _, status, usage = os.wait4(child.pid, 0)
        finally:
            alarm.cancel()
        wall = time.perf_counter() - begin
        child.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        text, said = output.read().decode(errors="replace"), errors.read().decode(errors="replace")
    if wall >= limit:
        raise Wrong(f"{what} was not done after {limit:.0f} s")
    if child.returncode != 0 or text != expected:
        said = said.strip().splitlines()[-1] if said.strip() else "nothing"
        raise Wrong(f"{what} ended with {child.returncode} and printed {text!r}, not {expected!r}; on stderr: {said}")
    return Sample(usage.ru_utime + usage.ru_stime, wall)


def own(engine: str, program: Program, size: str, limit: float) -> Sample:
    """One run under an engine of ours, through `bench.inside`, which adds what only the inside can tell."""
    small = program.small, program.small_output
    arguments, expected = small if size == "small" else (program.large, program.large_output)
    with tempfile.NamedTemporaryFile("r", suffix=".json") as report:
        command = [sys.executable, "-m", "bench.inside", report.name, engine, f"@{program.name}", *arguments]
        sample = measure(command, expected, f"{program.name} {size} ({engine})", limit)
        sample.inside = json.load(report)
    return sample


def runners(options: argparse.Namespace) -> dict[str, Callable[[Program], Sample]]:
    """The engines that can be had here, each as a function that runs a program; says which cannot."""
    limit = options.limit
    found: dict[str, Callable[[Program], Sample]] = {}
    if "translated" in options.engines:
        found["translated"] = lambda program: own("translated", program, "large", limit)
    if "qemu" in options.engines:
        qemu = shutil.which("qemu-riscv64")
        if qemu is None:
            print("qemu-riscv64 is not installed: no comparison with it (`make peers` installs it)")
        else:
            found["qemu"] = lambda program: measure(
                [qemu, str(programs.path(program.name)), *program.large], program.large_output,
                f"{program.name} large (qemu)", limit,
            )  # fmt: skip
    if "native" in options.engines:
        if importlib.util.find_spec("ziglang") is None or platform.machine() != "x86_64":
            print('no C compiler for native code: no comparison with it (pip install "dragoman[cross]")')
        else:
            build_native(options.names)
            found["native"] = lambda program: measure(
                [str(NATIVE / program.name), *program.large], program.large_output.replace("RISC-V", "x86-64"),
                f"{program.name} large (native)", limit,
            )  # fmt: skip
    if "reference" in options.engines:
        found["reference"] = lambda program: own("reference", program, "small", limit)
    return found


def build_native(names: Sequence[str]) -> None:
    """Build native programs from the guests' sources where they are missing or older."""
    root = Path(programs.__file__).parent
    shared = [*root.glob("runtime/*"), root / "build.py"]

    def fresh(name: str) -> bool:
        built = NATIVE / name
        sources = [*shared, *root.glob(f"{name}/*.[ch]")]
        return built.exists() and all(source.stat().st_mtime < built.stat().st_mtime for source in sources)

    stale = [name for name in names if not fresh(name)]
    if stale:
        print(f"building {len(stale)} programs natively", flush=True)
        command = [sys.executable, "-m", "guests.programs.build", *stale, "--native", str(NATIVE)]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
        if done.returncode:
            raise Wrong(f"the native programs could not be built: {done.stderr.strip()}")


# --- telling ----------------------------------------------------------------------------------------------------


def heading() -> str:
    above = COLUMNS.format("", "", "CPU s", "of it", "", "", "", "M instr", "qemu /", "qemu /", "ours /", "entries")
    below = COLUMNS.format(
        "program", "M instr", "ours", "start", "transl", "qemu", "native", "/s ours", "ours", "running", "native",
        "/M block",
    )  # fmt: skip
    return f"{above.rstrip()}\n{below}"


def line(row: Row) -> str:
    f = row.figures()
    return COLUMNS.format(
        row.name, _show(f["instructions"], 0, 1e6), _show(f["translated cpu"], 2), _show(f["start cpu"], 2),
        _show(f["translation cpu"], 2), _show(f["qemu cpu"], 2), _show(f["native cpu"], 2),
        _show(f["instructions/s"], 0, 1e6), _show(f["qemu/translated"], 2), _show(f["qemu/running"], 2),
        _show(f["translated/native"], 2), _show(f["python_entries_per_million_blocks"], 1),
    )  # fmt: skip


def _show(value: float | None, places: int, unit: float = 1) -> str:
    return "-" if value is None else f"{value / unit:,.{places}f}"


SUMMARIES = {
    "qemu/translated": "qemu's CPU time / ours, all included (above 1: we are faster)",
    "qemu/running": "qemu's CPU time / ours without start and translation",
    "translated/native": "our CPU time / native code's, all included",
    "running/native": "our CPU time without start and translation / native code's",
    "qemu/native": "qemu's CPU time / native code's",
    "instructions/s": "instructions a CPU second, all included",
    "instructions/s running": "instructions a CPU second, without start and translation",
    "reference instructions/s": "instructions a CPU second of the reference interpreter (small sizes)",
    "python_entries_per_million_blocks": "entries from Python into translated code per million blocks",
}


def summary(rows: Iterable[Row]) -> dict[str, dict[str, float]]:
    """Geometric mean, median, least and greatest of each ratio, over the programs that have it.

    Programs of less than ten million instructions would measure the start of an engine only, and are left out.
    """
    counted = [row.figures() for row in rows if not _trivial(row)]
    found = {}
    for name in SUMMARIES:
        values = [figures[name] for figures in counted]
        known = [value for value in values if value is not None]
        if known:
            found[name] = {
                "geomean": math.exp(statistics.fmean(math.log(max(value, 1e-12)) for value in known)),
                "median": statistics.median(known), "least": min(known), "greatest": max(known), "programs": len(known),
            }  # fmt: skip
    return found


def _trivial(row: Row) -> bool:
    return PROGRAMS[row.name].large_instructions < 10_000_000


def summary_text(rows: Sequence[Row]) -> str:
    lines = [f"{'geomean':>9} {'median':>9} {'least':>9} {'greatest':>9}"]
    for name, values in summary(rows).items():
        unit, places = (1e6, 2) if "instructions/s" in name else (1, 2)
        told = " ".join(f"{_show(values[key], places, unit):>9}" for key in ("geomean", "median", "least", "greatest"))
        lines.append(f"{told}  {'million ' if unit > 1 else ''}{SUMMARIES[name]}")
    left_out = [row.name for row in rows if _trivial(row)]
    if left_out:
        lines.append(f"(left out of these, being too short: {', '.join(left_out)})")
    return "\n".join(lines)


def machine() -> dict[str, str]:
    """Where this was measured, and against what."""
    model = platform.machine()
    try:
        models = [entry for entry in Path("/proc/cpuinfo").read_text().splitlines() if entry.startswith("model name")]
        model = models[0].partition(":")[2].strip() if models else model
    except OSError:
        pass
    found = {"processor": f"{model}, {os.cpu_count()} processors", "python": platform.python_version()}
    for module in ("llvmlite", "ziglang"):
        if importlib.util.find_spec(module):
            found[module] = importlib.metadata.version(module)
    qemu = shutil.which("qemu-riscv64")
    if qemu:
        said = subprocess.run([qemu, "--version"], capture_output=True, text=True).stdout
        found["qemu"] = said.partition("\n")[0]
    return found


# --- the command ------------------------------------------------------------------------------------------------


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.programs", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="programs to run; all if none is named")
    parser.add_argument("--runs", type=int, default=1, help="runs of each; the median is told (default: 1)")
    parser.add_argument("--engines", default=",".join(ENGINES), metavar="LIST",
                        help=f"some of {','.join(ENGINES)} (default: all)")  # fmt: skip
    parser.add_argument("--limit", type=float, default=300, metavar="S",
                        help="seconds after which a run is given up (default: 300)")  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples, figures and means there")
    options = parser.parse_args(words)
    options.engines = options.engines.split(",")
    for engine in options.engines:
        if engine not in ENGINES:
            parser.error(f"there is no engine {engine!r} (there are: {', '.join(ENGINES)})")
    try:
        options.names = [programs.find(name).name for name in options.names] or list(PROGRAMS)
    except programs.UnknownProgram as error:
        parser.error(str(error))
    if options.runs < 1:
        parser.error("--runs must be at least 1")
    return options


def main(words: Sequence[str] | None = None) -> int:
    options = arguments(words)
    failures = []
    rows = []
    about = machine()
    print("\n".join(f"{name}: {value}" for name, value in about.items()))
    try:
        engines = runners(options)
    except Wrong as wrong:
        print(f"bench: {wrong}", file=sys.stderr)
        return 1
    print(f"\n{heading()}", flush=True)
    for name in options.names:
        row = Row(name, PROGRAMS[name].kind)
        rows.append(row)
        for _ in range(options.runs):
            for engine, run in engines.items():
                try:
                    row.samples.setdefault(engine, []).append(run(PROGRAMS[name]))
                except Wrong as wrong:
                    failures.append(str(wrong))
        print(line(row), flush=True)
    print(f"\n{summary_text(rows)}")
    if options.json:
        report = {
            "machine": about, "runs": options.runs, "summary": summary(rows), "failures": failures,
            "programs": [asdict(row) | {"figures": row.figures()} for row in rows],
        }  # fmt: skip
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    for failure in failures:
        print(f"bench: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
