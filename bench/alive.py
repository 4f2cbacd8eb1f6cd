"""What a first run costs, and what tier 0 is worth: `python -m bench.alive [--runs=5] [--json=FILE] [PART...]`.

Three parts. *start*: until a short program has ended, with translations of it on disk, without, and with nothing on
disk at all. *speed*: guest instructions a second of the first instructions of bundled programs, beside Spike, which
runs the same instructions of the same files (`bench.spike`). *busybox*: commands of Debian's busybox at two sizes, in
a first run and in a second one, beside qemu-riscv64, whose output theirs must be byte for byte.
Runs of all that is compared are taken in turn, and medians are told; what is measured is told by `dbt.bench`.
Owns: which runs, in which cache folders, with which files. Must not know: how any engine works.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

from bench import spike
from dbt import bench
from dbt.bench import columns, show
from dbt.runs import (
    CLOCKS,
    GROUPS,
    LEAST,
    ROOT,
    SEED,
    Caches,
    Case,
    Differ,
    Failed,
    Sample,
    bundled,
    checked,
    measure,
    own,
    prepare,
    way_name,
)  # fmt: skip
from guests.programs import PROGRAMS

Words = tuple[str, ...]

# How ours is started where --tiers does not say it; each is a column. With tiers to choose among, the parts "start"
# and "busybox" are about what a user gets, "speed" about tier 0 alone.
WAYS: dict[str, tuple[Words, ...]] = {
    "start": ((),), "speed": (("--tiers=0",), ("--tiers=1",)), "busybox": ((),),
}  # fmt: skip

NEVER_SEEN = ("sieve", "sort", "json", "nbody", "sha256")
INSTRUCTIONS = 100_000_000  # the first ones of a large size, in "speed"
USAGE, DIFFER, FAILURE = 2, 3, 125

BUSYBOX = Path("usr/bin/busybox")
LINES, BYTES = 100_000, 4 << 20
LOOP = "i=0; while [ $i -lt {} ]; do i=$((i+1)); done"
SUM = "{ s += $1; n[$2]++ } END { for (w in n) k++; print NR, s, k }"
SIZES = ("page", "long")  # of the page of real guests, and so long that qemu-riscv64 takes about three seconds


@dataclass(frozen=True)
class Command:
    """A command line after "busybox". `{}` is an amount: a number in a word, or how often the last word is given."""

    name: str
    words: Words
    page: int = 1
    long: int | None = None  # None: there is nothing to be longer

    def line(self, size: str) -> Words | None:
        amount = self.page if size == "page" else self.long
        if amount is None:
            return None
        if any("{}" in word for word in self.words):
            return tuple(word.replace("{}", str(amount)) for word in self.words)
        return (*self.words[:-1], *self.words[-1:] * amount)


COMMANDS = (
    Command("echo", ("echo", "hello")),
    Command("sh loop", ("sh", "-c", LOOP), 10_000, 390_000),
    Command("sha256sum", ("sha256sum", "bytes"), 1, 55),
    Command("gzip -c", ("gzip", "-c", "bytes"), 1, 13),
    Command("gunzip -c", ("gunzip", "-c", "bytes.gz"), 1, 31),
    Command("sort", ("sort", "lines"), 1, 9),
    Command("awk", ("awk", SUM, "lines"), 1, 7),
    Command("md5sum", ("md5sum", "bytes"), 1, 180),
    Command("grep", ("grep", "-c", "-E", "(on|sh)+[rdlu]{2}", "lines"), 1, 10),
    Command("sed", ("sed", "-E", r"s/([a-z]+) ([a-z]+)/\2-\1/g", "lines"), 1, 3),
    Command("bzip2 -c", ("bzip2", "-c", "bytes"), 1, 4),
)


class LeftOut(Exception):
    """A part cannot be measured here; the message says what is missing and how to get it."""


# --- one run ------------------------------------------------------------------------------------------------------


@dataclass
class Row:
    """A line of a table: what was run and each of its runs."""

    name: str
    samples: list[Sample] = field(default_factory=list)

    def seconds(self, clock: str = "cpu") -> float:
        return statistics.median(getattr(sample, clock) for sample in self.samples)

    def beyond(self, other: Row, clock: str = "cpu") -> float:
        """How much longer than another row, in the same turn."""
        return statistics.median(getattr(a, clock) - getattr(b, clock) for a, b in zip(self.samples, other.samples))

    def as_dict(self) -> dict[str, Any]:
        return {"name": self.name, **{f"{clock}_seconds": self.seconds(clock) for clock in CLOCKS},
                "samples": [{"cpu": s.cpu, "wall": s.wall, **({"stats": s.stats} if s.stats else {})}
                            for s in self.samples]}  # fmt: skip


def label(who: str) -> str:
    """The same, over a column: of ours only how it was started and what is told."""
    return who.removeprefix("dragoman").removeprefix(",").strip()


def groups() -> dict[str, list[str]]:
    """Bundled programs that compute, by what with."""
    found: dict[str, list[str]] = {group: [] for group in GROUPS}
    for name, program in PROGRAMS.items():
        if program.kind != "misc":
            found[bundled(name).group].append(name)
    return found


def command_of(case: Case, way: Words) -> list[str]:
    return [sys.executable, "-m", "dragoman", "run", *way, "--", case.name, *case.arguments]


# --- all runs -----------------------------------------------------------------------------------------------------


@dataclass
class Measuring:
    """What the parts share: how often, how ours is started, a folder for files and caches."""

    runs: int
    folder: Path
    tiers: tuple[Words, ...] | None = None  # None: as WAYS says
    instructions: int = INSTRUCTIONS
    sizes: Sequence[str] = SIZES
    progress: Callable[[str], None] = lambda text: None

    def __post_init__(self) -> None:
        self.caches = Caches(self.folder)

    def ways(self, part: str) -> tuple[Words, ...]:
        return WAYS[part] if self.tiers is None else self.tiers

    def ours(
        self, case: Case, way: Words, cache: Path, wanted: Sample | None = None, cwd: Path | None = None
    ) -> Sample:
        """One run as a user starts it. A failure of ours is not a difference, and ends all."""
        sample = measure(command_of(case, way), env={"DRAGOMAN_CACHE_DIR": str(cache)}, cwd=cwd)
        if sample.status in (USAGE, FAILURE) and sample.stderr.startswith(b"dragoman: "):
            raise Failed(f"{way_name(way)}, {case.title}: {sample.stderr.decode(errors='replace').strip()[10:]}")
        return checked(case, way_name(way), sample, wanted, "it must have" if wanted is None else "qemu-riscv64")


def qemu() -> str:
    found = shutil.which("qemu-riscv64")
    if found is None:
        raise LeftOut("qemu-riscv64 is not installed: install the package qemu-user (make peers)")
    return found


# --- start --------------------------------------------------------------------------------------------------------


def start(measuring: Measuring) -> dict[str, Any]:
    """Short programs, from nothing to their end. Times, and how much more than `python -c pass` in the same turn."""
    peer, cases = qemu(), [bundled("hello"), *map(bundled, NEVER_SEEN)]
    rows: dict[str, Row] = {}

    def add(name: str, sample: Sample) -> None:
        rows.setdefault(name, Row(name)).samples.append(sample)

    with ExitStack() as stack:
        commands = {case: [peer, "-0", case.argv0, str(bench.executable(case.path, stack)), *case.arguments]
                    for case in (*cases, bundled(SEED))}  # fmt: skip
        warm = {}
        for way in measuring.ways("start"):  # untimed: caches, and the .pyc files of all that is imported
            measuring.progress(f"start: filling caches of {way_name(way)}")
            warm[way] = measuring.caches.never_seen(cases[0], way)
            for _ in range(2):
                measuring.ours(cases[0], way, warm[way])
        for turn in range(measuring.runs):
            measuring.progress(f"start: turn {turn + 1} of {measuring.runs}")
            add(BASE, measure([sys.executable, "-c", "pass"]))
            for way in warm:
                name = way_name(way)
                add(f"{name}: @hello, warm", measuring.ours(cases[0], way, warm[way]))
                for case in cases[1:]:
                    cache = measuring.caches.never_seen(case, way)
                    add(f"{name}: {case.title}, never seen", measuring.ours(case, way, cache))
                    add(f"{name}: {case.title}, again", measuring.ours(case, way, cache))
                    shutil.rmtree(cache)
                cache = measuring.caches.empty()
                add(f"{name}: {bundled(SEED).title}, nothing on disk", measuring.ours(bundled(SEED), way, cache))
                shutil.rmtree(cache, ignore_errors=True)
            for case, command in commands.items():
                add(f"qemu-riscv64: {case.title}", checked(case, "qemu-riscv64", measure(command)))
    base = rows[BASE]
    found = [row.as_dict() | {f"{clock}_beyond_python": row.beyond(base, clock) for clock in CLOCKS}
             for row in rows.values()]  # fmt: skip
    return {"rows": found}


BASE = "python -c pass"


def start_text(found: dict[str, Any]) -> str:
    table: list[Words] = [("CPU ms", "more", "wall ms", "more", "")]
    table += [(*(show(row[key], 1, 1e-3) for key in ("cpu_seconds", "cpu_beyond_python", "wall_seconds",
                                                     "wall_beyond_python")), row["name"])
              for row in found["rows"]]  # fmt: skip
    return "\n".join([
        "Until a short program has ended; more: than python -c pass, in the same turn. Warm, again: what an earlier",
        f"run left is on disk. Never seen: the cache folder holds what one other program, @{SEED}, left there.",
        *columns(table, text=4),
    ])  # fmt: skip


# --- speed --------------------------------------------------------------------------------------------------------


def speed(measuring: Measuring) -> dict[str, Any]:
    """Instructions a second of the same first instructions: ours without Python's start, and Spike's own loop."""
    if (reason := spike.missing()) is not None:
        raise LeftOut(reason)
    limit = measuring.instructions
    cases = [(group, bundled(name, "large"), f"@{name}") for group, names in groups().items() for name in names]
    found: dict[str, Any] = {"instructions": limit, "programs": [], "left_out": None}
    work: Path | None = None
    try:
        busybox, work = debian_busybox(), input_files(measuring)
        cases += [("busybox", case, f"busybox {command.name}") for command, case in lines(busybox, "long")]
    except LeftOut as reason:
        found["left_out"] = str(reason)
    runs: dict[Case, dict[str, list[tuple[float, float]]]] = {case: {} for _, case, _ in cases}
    for turn in range(measuring.runs):
        for group, case, title in cases:
            measuring.progress(f"speed: turn {turn + 1} of {measuring.runs}, {title}")
            by = runs[case]
            for way in measuring.ways("speed"):
                cache = measuring.caches.never_seen(case, way)
                sample = own(case, "translated", case.arguments, limit, options=way, kept=cache,
                             cwd=work if group == "busybox" else None)  # fmt: skip
                shutil.rmtree(cache)
                if not sample.bounded:
                    # What busybox prints is compared in its own part.
                    checked(case, way_name(way), sample, replace(sample, status=0) if group == "busybox" else None)
                count, cpu = sample.stats["instructions"], sample.stats["cpu_seconds"]
                translating = sum(sample.stats["seconds"].values())
                by.setdefault(f"{way_name(way)}, running", []).append((count, max(cpu - translating, LEAST)))
                by.setdefault(f"{way_name(way)}, with translation", []).append((count, max(cpu, LEAST)))
            if group != "busybox":
                by.setdefault("Spike", []).append(on_spike(case, limit))
    for group, case, title in cases:
        engines = {who: {"instructions_per_second": statistics.median(n / t for n, t in samples),
                         "samples": [{"instructions": n, "cpu": t} for n, t in samples]}
                   for who, samples in runs[case].items()}  # fmt: skip
        found["programs"].append({"group": group, "program": title, "engines": engines})
    found["means"] = speed_means(found["programs"])
    return found


def on_spike(case: Case, limit: int) -> tuple[float, float]:
    """Instructions of a bundled program on Spike, and CPU seconds of its loop."""
    words = [sys.executable, "-m", "bench.spike", case.argv0, str(limit), *case.arguments]
    sample = measure(words, cwd=ROOT)
    if sample.status != 0:
        raise Failed(f"{case.title} on Spike: {sample.stderr.decode(errors='replace').strip()}")
    ran = json.loads(sample.stdout)
    if ran["status"] is not None:
        checked(case, "Spike", Sample(0, 0, ran["status"], ran["output"].encode(), b""))
    return ran["instructions"], max(ran["cpu_seconds"], LEAST)


def speed_means(programs: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Geometric means of instructions a second: of each group, by engine."""
    found: dict[str, dict[str, list[float]]] = {}
    for program in programs:
        for who, figures in program["engines"].items():
            found.setdefault(program["group"], {}).setdefault(who, []).append(figures["instructions_per_second"])
    return {group: {who: statistics.geometric_mean(speeds) for who, speeds in by.items()}
            for group, by in found.items()}  # fmt: skip


def speed_text(found: dict[str, Any]) -> str:
    whos = list(found["programs"][0]["engines"])

    def cells(engines: dict[str, float], name: str, to: float | None) -> Words:
        return (*(show(engines.get(who), 1, 1e6) for who in whos),
                *(show(engines[who] / to if to else None, 2) for who in whos if who != "Spike"), name)  # fmt: skip

    heads = list(map(label, whos))
    table: list[Words] = [(*heads, *(f"{head} / Spike" for head in heads if head != "Spike"), "")]
    for program in found["programs"]:
        engines = {who: figures["instructions_per_second"] for who, figures in program["engines"].items()}
        table.append(cells(engines, program["program"], engines.get("Spike")))
    means = found["means"]
    for group, by in means.items():
        # Spike runs no Linux programs: busybox is set against what it does with the integer programs.
        to = by.get("Spike") or means["integer"]["Spike"]
        what = f"geometric mean, {group}" + (", / Spike's of integer programs" if "Spike" not in by else "")
        table.append(cells(by, what, to))
    said = [
        "Million guest instructions per CPU second, of the same first instructions of each program at its large size:",
        f"{found['instructions']:,}, or all there are. Ours: without Python's start and loading; running: without",
        "translation too. The cache folder holds what one other program left. Spike: the same file, in user mode",
        "without paging, by processor_t::step in C++; system calls go to Python, and their time is not counted.",
        *columns(table, text=len(table[0]) - 1),
    ]
    if found["left_out"]:
        said.append(f"Without busybox: {found['left_out']}")
    return "\n".join(said)


# --- busybox ------------------------------------------------------------------------------------------------------


def debian_busybox() -> Path:
    """Debian's busybox for riscv64."""
    root = Path(os.environ.get("DRAGOMAN_DEBIAN_ROOT") or ROOT / ".cache/debian-riscv64/root")
    if not (root / BUSYBOX).exists():
        raise LeftOut(f"{root / BUSYBOX} is missing: run `make debian-guests`")
    return (root / BUSYBOX).resolve()


def input_files(measuring: Measuring) -> Path:
    """A folder with what the commands read, the same bytes on every machine."""
    work = measuring.folder / "work"
    if work.exists():
        return work
    measuring.progress("making input files")
    rng = Random(20)
    words = ["".join(rng.choices("etaoinshrdlu", k=rng.randrange(1, 9))) for _ in range(400)]
    text = "".join(
        f"{rng.randrange(1_000_000)} {' '.join(rng.choices(words, k=rng.randrange(1, 8)))}\n" for _ in range(LINES)
    ).encode()
    mixed = (text[: BYTES // 2] + rng.randbytes(BYTES // 4)).ljust(BYTES, b"\0")
    work.mkdir()
    for name, content in {"lines": text, "bytes": mixed, "bytes.gz": gzip.compress(mixed, mtime=0)}.items():
        (work / name).write_bytes(content)
        os.utime(work / name, (0, 0))
    return work


def lines(busybox: Path, size: str) -> list[tuple[Command, Case]]:
    """The commands that there are at this size, as they are run."""
    return [(command, Case(str(busybox), busybox, line))
            for command in COMMANDS if (line := command.line(size)) is not None]  # fmt: skip


def busybox(measuring: Measuring) -> dict[str, Any]:
    """The list, a first run and a second one in each turn; every output is what qemu-riscv64 printed."""
    program, peer, work = debian_busybox(), qemu(), input_files(measuring)
    ways = measuring.ways("busybox")
    found: dict[str, Any] = {"version": version_of(peer, program), "sizes": {}}
    with ExitStack() as stack:
        runnable = str(bench.executable(program, stack))
        for size in measuring.sizes:
            rows: dict[str, dict[str, Row]] = {}
            for turn in range(measuring.runs):
                for command, case in lines(program, size):
                    measuring.progress(f"busybox, {size}: turn {turn + 1} of {measuring.runs}, {command.name}")
                    by = rows.setdefault(command.name, {})
                    # argv[0] is the path for both, for busybox tells it in messages
                    theirs = measure([peer, "-0", case.name, runnable, *case.arguments], cwd=work)
                    by.setdefault("qemu-riscv64", Row("qemu-riscv64")).samples.append(short(theirs))
                    for way in ways:
                        cache = measuring.caches.never_seen(case, way)
                        for when in ("cold", "warm"):
                            name = f"{way_name(way)}, {when}"
                            sample = measuring.ours(case, way, cache, theirs, work)
                            by.setdefault(name, Row(name)).samples.append(short(sample))
                        shutil.rmtree(cache)
            found["sizes"][size] = {
                "commands": [{"command": name, "engines": {who: row.as_dict() for who, row in by.items()},
                              "ratios": ratios(by)} for name, by in rows.items()],
                "means": ratio_means([ratios(by) for by in rows.values()]),
            }  # fmt: skip
    return found


def short(sample: Sample) -> Sample:
    """Without what was printed, which was compared and may be a hundred megabytes."""
    return replace(sample, stdout=b"", stderr=b"")


Ratios = dict[str, dict[str, float]]


def ratios(by: dict[str, Row]) -> Ratios:
    """Each of ours in times of qemu-riscv64, by either clock."""
    peer = by["qemu-riscv64"]
    return {who: {clock: row.seconds(clock) / max(peer.seconds(clock), LEAST) for clock in CLOCKS}
            for who, row in by.items() if row is not peer}  # fmt: skip


def ratio_means(each: Sequence[Ratios]) -> Ratios:
    """Geometric means over commands."""
    return {who: {clock: statistics.geometric_mean([one[who][clock] for one in each]) for clock in CLOCKS}
            for who in each[0]}  # fmt: skip


def version_of(peer: str, program: Path) -> str:
    said = measure([peer, "-0", "busybox", str(program), "--help"])
    return said.stdout.decode(errors="replace").partition("\n")[0]


def busybox_text(found: dict[str, Any]) -> str:
    texts = [found["version"]]
    for size, told in found["sizes"].items():
        whos = list(told["means"])
        heads = list(map(label, whos))
        table: list[Words] = [("qemu", *heads, *(f"{head} / qemu" for head in heads),
                               *(f"{head} / qemu, wall" for head in heads), "")]  # fmt: skip
        for command in told["commands"]:
            engines, of = command["engines"], command["ratios"]
            table.append((
                *(show(engines[who]["cpu_seconds"], 3) for who in ("qemu-riscv64", *whos)),
                *(show(of[who][clock], 2) for clock in CLOCKS for who in whos), command["command"],
            ))  # fmt: skip
        means = (show(told["means"][who][clock], 2) for clock in CLOCKS for who in whos)
        table.append((*("" for _ in ("qemu", *whos)), *means, "geometric mean"))
        texts.append(f"\nsize {size}; CPU seconds, and ratios of CPU and of wall time:")
        texts += columns(table, text=len(table[0]) - 1)
    texts.append(f"cold: the cache folder holds what @{SEED} left; warm: the second run. All outputs are equal.")
    return "\n".join(texts)


# --- the command --------------------------------------------------------------------------------------------------

PARTS: dict[str, tuple[Callable[[Measuring], dict[str, Any]], Callable[[dict[str, Any]], str]]] = {
    "start": (start, start_text), "speed": (speed, speed_text), "busybox": (busybox, busybox_text),
}  # fmt: skip


def machine() -> dict[str, str]:
    """Where this is measured, and against what."""
    return bench.machine() | {"spike": bench.version("spike") or "not installed"}


def at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 1 on")
    return int(text)


def arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m bench.alive", description="What a first run costs, and what tier 0 is worth.", allow_abbrev=False,
        epilog="exit status: 0; 2 bad usage, 3 if an output differs, 125 if a run failed or a part that was named "
        "cannot be measured here",
    )  # fmt: skip
    parser.add_argument("parts", metavar="PART", nargs="*", help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--runs", metavar="N", type=at_least_one, default=5, help="turns (default: 5)")
    parser.add_argument("--json", metavar="FILE", help="write all figures and all runs there")
    parser.add_argument(
        "--tiers", metavar="LIST", action="append",
        help="start ours with --tiers=LIST; may be repeated, to compare (default: what each part is about)",
    )
    parser.add_argument("--size", choices=SIZES, action="append", help="of busybox commands; may be repeated")
    parser.add_argument(
        "--instructions", metavar="N", type=at_least_one, default=INSTRUCTIONS,
        help=f"in speed, how many instructions of each program (default: {INSTRUCTIONS:,})",
    )
    options = parser.parse_args(words)
    for part in options.parts:
        if part not in PARTS:
            parser.error(f"there is no part {part!r} (there are: {', '.join(PARTS)})")
    return options


def progress(text: str) -> None:
    """On a terminal a line that is written over, elsewhere a line each."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
    elif text:
        sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def main(words: Sequence[str]) -> int:
    options = arguments(words)
    prepare()
    told: dict[str, Any] = {"machine": machine(), "runs": options.runs, "parts": {}, "left_out": {}, "differences": []}
    print("\n".join(f"{name}: {value}" for name, value in told["machine"].items()), flush=True)
    status = 0
    with ExitStack() as stack:
        if options.json:
            try:
                output = stack.enter_context(open(options.json, "w"))
            except OSError as error:
                sys.stderr.write(f"cannot write {options.json}: {error.strerror}\n")
                return USAGE
            stack.callback(lambda: output.write(json.dumps(told, indent=1) + "\n"))  # until Ctrl-C, too
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="alive")))
        tiers = tuple((f"--tiers={of}",) for of in options.tiers) if options.tiers else None
        measuring = Measuring(options.runs, folder, tiers, options.instructions, options.size or SIZES, progress)
        for part in options.parts or PARTS:
            measure, text = PARTS[part]
            try:
                told["parts"][part] = measure(measuring)
            except LeftOut as reason:
                told["left_out"][part] = str(reason)
                status = FAILURE if part in options.parts else status
                progress("")
                print(f"\n{part}: left out. {reason}", flush=True)
                continue
            except Differ as difference:
                told["differences"].append(str(difference))
                progress("")
                sys.stderr.write(f"outputs differ: {difference}\n")
                return DIFFER
            except Failed as failure:
                progress("")
                sys.stderr.write(f"{failure}\n")
                return FAILURE
            progress("")
            print(f"\n{part}\n{text(told['parts'][part])}", flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
