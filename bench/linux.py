"""A machine with Linux beside qemu-system-riscv64: `python -m bench.linux KERNEL [--runs=3] [--json=FILE] [NAME...]`.

One kernel, one file system, one command line, in turn: by QEMU; by Dragoman where its cache holds the stencils and
nothing of this kernel (cold); and again (warm). Timed are the boot, from exec to the first line of the first process,
and each bundled program (large) inside, from a line before it to one behind; what it prints must be what it prints
everywhere. CPU time is that of all processes of an emulator. Medians are told.
Owns: what is started, which lines are waited for, the table. Must not know: how either works.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench import initramfs
from dbt.bench import SHORT
from dbt.runs import ROOT, Failed, bundled, spent
from guests.programs import PROGRAMS, path

WAYS = ("qemu", "cold", "warm")
BOOT = "boot"
LONGEST = 1200.0  # seconds for one start with all of its programs
BEGIN, END, LAST = "--- begin {}", "--- end {}", "--- the last line"
Times = dict[str, tuple[float, float]]  # by name: seconds of CPU and of wall


class Bench:
    """Starts the machine, in a folder of its own."""

    def __init__(self, kernel: Path, busybox: Path, names: Sequence[str], folder: Path) -> None:
        self._names = names
        self._seed, self._kept, initrd = folder / "seed", folder / "kept", folder / "initrd"
        lines = ["#!/bin/sh", f"echo '{BEGIN.format(BOOT)}'"]
        for name in names:
            words = " ".join(PROGRAMS[name].large)
            lines += [f"echo '{BEGIN.format(name)}'", f"/bin/{name} {words}", f"echo '{END.format(name)}'"]
        lines += [f"echo '{LAST}'", "poweroff -f", ""]
        files = {"bin/busybox": busybox.read_bytes(), "init": "\n".join(lines).encode()}
        files |= {f"bin/{name}": Path(path(name)).read_bytes() for name in names}
        links = {f"bin/{name}": "busybox" for name in ("sh", "echo", "poweroff")}
        initrd.write_bytes(initramfs.archive(("bin", "dev"), links, files))
        self._words = ["-m", "256", "-nographic", "-kernel", str(kernel), "-initrd", str(initrd), "-append",
                       "console=ttyS0 quiet"]  # fmt: skip
        env = {**os.environ, "DRAGOMAN_CACHE_DIR": str(self._seed)}
        made = subprocess.run([sys.executable, "-m", "dragoman", "boot", "@kernel"], input=b"shutdown\n", env=env,
                              capture_output=True)  # fmt: skip
        if made.returncode:
            raise Failed("dragoman boot @kernel did not end well")

    def run(self, way: str) -> Times:
        """One start. Raises Failed."""
        env = dict(os.environ)
        if way == "qemu":
            command = ["qemu-system-riscv64", "-machine", "virt", *self._words]
        else:
            if way == "cold":
                shutil.rmtree(self._kept, ignore_errors=True)
                shutil.copytree(self._seed, self._kept)
            env["DRAGOMAN_CACHE_DIR"] = str(self._kept)
            command = [sys.executable, "-m", "dragoman", "boot", *self._words]
        begin = time.perf_counter()
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=env, text=True) as process:
            try:
                return self._watched(process, way, begin)
            finally:
                process.kill()

    def _watched(self, process: subprocess.Popen[str], way: str, begin: float) -> Times:
        assert process.stdout is not None
        times: Times = {}
        began = 0.0, begin
        printed: list[str] = []
        for raw in process.stdout:
            now = spent(process.pid), time.perf_counter()
            if now[1] - begin > LONGEST:
                raise Failed(f"{way}: it did not come to its end in {LONGEST:.0f} seconds")
            line = raw.rstrip("\r\n")
            if line == BEGIN.format(BOOT):
                times[BOOT] = now[0], now[1] - begin
            elif line.startswith(BEGIN.format("")):
                began, printed = now, []
            elif line.startswith(END.format("")):
                name = line.removeprefix(END.format(""))
                times[name] = now[0] - began[0], now[1] - began[1]
                if "".join(f"{each}\n" for each in printed) != PROGRAMS[name].large_output:
                    raise Failed(f"{way}: {name} has not printed what it prints everywhere")
            elif line == LAST:
                process.wait(60)
                return times
            else:
                printed.append(line)
        raise Failed(f"{way}: it ended before its last line")


def table(found: dict[str, dict[str, tuple[float, float]]]) -> str:
    """A line a program: seconds of CPU by way, ratios to QEMU's, of CPU and of wall time; geometric means by group.

    Groups, and what is too short for a mean, are those of `dragoman bench`.
    """
    lines = [f"{'':10}" + "".join(f"{way:>8}" for way in WAYS) + "".join(
        f"  {way} / qemu{clock}" for clock in ("", ", wall") for way in WAYS[1:])]  # fmt: skip
    ratios: dict[str, list[list[float]]] = {}
    short: list[str] = []
    for name, of in found.items():
        each = [of[way][clock] / of["qemu"][clock] for clock in (0, 1) for way in WAYS[1:]]
        if name == BOOT or PROGRAMS[name].large_instructions >= SHORT:
            ratios.setdefault(BOOT if name == BOOT else bundled(name).group, []).append(each)
        else:
            short.append(f"@{name}")
        lines.append(f"{name:10}" + "".join(f"{of[way][0]:8.2f}" for way in WAYS) + _columns(each))
    for group, rows in ratios.items():
        if group != BOOT:
            means = [math.exp(statistics.fmean(math.log(max(row[i], 1e-6)) for row in rows)) for i in range(4)]
            lines.append(f"geometric mean, {group} ({len(rows)}):".ljust(34) + _columns(means))
    if short:
        lines.append(f"Not in the means, since they are too short: {', '.join(short)}.")
    return "\n".join(lines)


def _columns(ratios: Sequence[float]) -> str:
    return "".join(f"{ratio:{13 if i < 2 else 19}.2f}" for i, ratio in enumerate(ratios))


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.linux", description=__doc__)
    parser.add_argument("--runs", type=int, default=3, metavar="N")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("kernel", metavar="KERNEL", help="such as vmlinux-* of Debian's linux-image for riscv64")
    parser.add_argument("names", nargs="*", metavar="NAME", help="bundled programs; default: all")
    options = parser.parse_args(words)
    names = options.names or list(PROGRAMS)
    unknown = sorted(set(names) - set(PROGRAMS))
    busybox = Path(os.environ.get("DRAGOMAN_DEBIAN_ROOT") or ROOT / ".cache/debian-riscv64/root") / "usr/bin/busybox"
    if unknown or options.runs < 1:
        parser.error(f"there is no program {unknown[0]}" if unknown else "at least one run")
    if not busybox.exists():
        parser.error(f"{busybox} is not there: run `make debian-guests`")
    if shutil.which("qemu-system-riscv64") is None:
        parser.error("qemu-system-riscv64 is not installed: install the package qemu-system-misc")
    samples: dict[str, dict[str, list[tuple[float, float]]]] = {}
    with tempfile.TemporaryDirectory(prefix="linux") as folder:
        try:
            bench = Bench(Path(options.kernel), busybox, names, Path(folder))
            for run in range(options.runs):
                for way in WAYS:
                    sys.stderr.write(f"run {run + 1} of {options.runs}: {way}\n")
                    for name, times in bench.run(way).items():
                        samples.setdefault(name, {}).setdefault(way, []).append(times)
        except Failed as failure:
            sys.stderr.write(f"{failure}\n")
            return 125
    found = {name: {way: (statistics.median(t[0] for t in times), statistics.median(t[1] for t in times))
                    for way, times in of.items()} for name, of in samples.items()}  # fmt: skip
    print(table(found))
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
