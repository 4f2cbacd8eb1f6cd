"""Commands of a Debian system beside qemu-riscv64: `python -m bench.debian [--runs=3] [--json=FILE] [NAME...]`.

Each command of `bench.debian_commands`, and a C++ pool of threads that is built here, is run in a fresh folder: by
qemu-riscv64, by Dragoman where its disk cache knows nothing of the program (cold), and by Dragoman again (warm), in
turn; medians are told. Output and status must be those of qemu. CPU time is that of all processes of a command, the
compile worker's included.
Owns: what is run in which order, the table. Must not know: how either works.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from bench.debian_commands import COMMANDS, Command, arguments, environment, fill
from bench.registered import NotPossible, registered
from dbt.runs import ROOT, Differ, Failed, Sample, check, measure, prepare

WAYS = ("qemu", "cold", "warm")
CLOCKS = ("cpu", "wall")
LONG = 0.5  # seconds of qemu's: longer commands are told as a ratio, shorter ones as a difference
LONGEST = 300.0  # seconds for one run
DIFFER, FAILURE = 3, 125
POOL = "cpp-pool"  # a command of ours beside Debian's: tests/programs/pool.cpp


class Bench:
    """Runs commands in folders below one of its own."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.root, self.folder = root, folder
        qemu = shutil.which("qemu-riscv64")
        if qemu is None:
            raise Failed("qemu-riscv64 is not installed: install the package qemu-user")
        self._qemu = qemu
        self._seed, self._kept = folder / "seed", folder / "kept"
        hello = measure([sys.executable, "-m", "dragoman", "run", "@queens", "small"], env=self._cache(self._seed))
        if hello.status:
            raise Failed("dragoman run @queens did not end well")

    def medians(self, command: Command, runs: int) -> dict[str, dict[str, float]]:
        """Seconds by way and clock. Raises Differ and Failed."""
        samples: dict[str, list[Sample]] = {way: [] for way in WAYS}
        for _ in range(runs):
            for way in WAYS:
                samples[way].append(self._run(command, way))
                check(samples[way][-1], samples["qemu"][0], "qemu-riscv64")
        return {way: {clock: statistics.median(getattr(s, clock) for s in of) for clock in CLOCKS}
                for way, of in samples.items()}  # fmt: skip

    def _cache(self, folder: Path) -> dict[str, str]:
        return {"DRAGOMAN_CACHE_DIR": str(folder)}

    def _run(self, command: Command, way: str) -> Sample:
        work, given = self.folder / "work", self.folder / "stdin"
        shutil.rmtree(work, ignore_errors=True)
        fill(work, self.root / "usr/bin")
        given.write_bytes(command.stdin)
        words = [str(self.root / command.program), *arguments(command, self.root)]
        env = environment(self.root)
        if way == "qemu":
            front = registered(self._qemu, self.root) if command.executes else (self._qemu, "-L", str(self.root))
        else:
            if way == "cold":
                shutil.rmtree(self._kept, ignore_errors=True)
                shutil.copytree(self._seed, self._kept)
            front = (sys.executable, "-m", "dragoman", "run", "-L", str(self.root))
            env |= self._cache(self._kept)
        return measure([*front, *words], str(given), env=env, cwd=work, longest=LONGEST)


def pool(folder: Path) -> Command:
    """The pool of threads, built here for the guest. Raises Failed."""
    compiler, built = shutil.which("riscv64-linux-gnu-g++"), folder / "pool"
    if compiler is None:
        raise Failed("riscv64-linux-gnu-g++ is not installed: run `make peers`")
    source = ROOT / "tests/programs/pool.cpp"
    subprocess.run([compiler, "-O2", "-std=c++20", "-static", "-pthread", str(source), "-o", str(built)], check=True)
    return Command(POOL, "", (str(built), "100"))


def table(found: dict[str, dict[str, dict[str, float]]]) -> str:
    """A line a command, and the sums: of those that work in one thread, and of the others."""
    lines = [f"{'':18}{'CPU seconds':^36}{'wall seconds':^36}", f"{'':18}" + "".join(f"{way:>12}" for way in WAYS) * 2]
    for name, of in found.items():
        lines.append(f"{name:18}" + "".join(f"{of[way][clock]:12.2f}" for clock in CLOCKS for way in WAYS))
    several = {command.name for command in COMMANDS if command.threads} | {POOL}
    for clock, way in product(CLOCKS, WAYS[1:]):
        for kind, chosen in (("", found.keys() - several), (" with threads", found.keys() & several)):
            times = [(found[name][way][clock], found[name]["qemu"][clock]) for name in chosen]
            long = [each for each in times if each[1] > LONG]
            short = [ours - theirs for ours, theirs in times if theirs <= LONG]
            if long:
                ours, theirs = map(sum, zip(*long))
                lines.append(f"{clock}, {way}: {len(long)} commands{kind} over {LONG} s take {ours:.2f} s, "
                             f"{ours / theirs:.2f} of qemu's {theirs:.2f} s")  # fmt: skip
            if short:
                more = statistics.median(short)
                lines.append(f"{clock}, {way}: {len(short)} shorter commands{kind} take {more:+.3f} s more (median)")
    return "\n".join(lines)


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.debian", description=__doc__)
    parser.add_argument("--runs", type=int, default=3, metavar="N")
    parser.add_argument("--json", metavar="FILE")
    fetched = os.environ.get("DRAGOMAN_DEBIAN_ROOT") or ROOT / ".cache/debian-riscv64/root"
    parser.add_argument("--root", metavar="DIR", default=fetched, help="default: what `make debian-guests` fetched")
    parser.add_argument("names", nargs="*", metavar="NAME")
    options = parser.parse_args(words)
    names = options.names or [*(command.name for command in COMMANDS), POOL]
    unknown = sorted(set(names) - {command.name for command in COMMANDS} - {POOL})
    if unknown or options.runs < 1:
        parser.error(f"there is no command {unknown[0]}" if unknown else "at least one run")
    root = Path(options.root).resolve()
    if not (root / "usr/bin/bash").exists():
        parser.error(f"{root} holds no such system: run `make debian-guests`")
    prepare()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="debian") as folder:
        try:
            bench = Bench(root, Path(folder))
            commands = [command for command in COMMANDS if command.name in names]
            for command in [*commands, pool(Path(folder))] if POOL in names else commands:
                sys.stderr.write(f"{command.name}\n")
                found[command.name] = bench.medians(command, options.runs)
        except Differ as difference:
            sys.stderr.write(f"{command.name}: {difference}\n")
            return DIFFER
        except (Failed, NotPossible) as failure:
            sys.stderr.write(f"{failure}\n")
            return FAILURE
    print(table(found))
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
