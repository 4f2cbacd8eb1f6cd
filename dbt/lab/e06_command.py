"""E06: the commands are there; a bad image gets one clear sentence and a status, never a traceback."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import CompletedProcess

from dbt.lab.report import Report
from dbt.lab.workbench import command
from guests.programs import find, path

COMMANDS = ("run", "compare", "lockstep", "info", "lab")
NOT_RUNNABLE, NOT_FOUND, USAGE = 126, 127, 2


def bad_images(folder: Path) -> Iterator[tuple[str, str, int]]:
    """What it is, the argument that names it, the status that it must give."""
    good = path("hello").read_bytes()
    x86 = bytearray(good)
    x86[18:20] = (62).to_bytes(2, "little")
    short = bytearray(good)
    short[4] = 1
    cases = {
        "an empty file": b"",
        "a text file": b"#!/bin/sh\necho hello\n",
        "a truncated ELF file": good[:40],
        "an ELF file without its segments": good[:200],
        "an x86-64 program": bytes(x86),
        "a 32-bit program": bytes(short),
    }
    for what, content in cases.items():
        file = folder / what.replace(" ", "-")
        file.write_bytes(content)
        os.chmod(file, 0o755)
        yield what, str(file), NOT_RUNNABLE
    yield "a folder", str(folder), NOT_RUNNABLE
    yield "a file that is not there", str(folder / "nothing"), NOT_FOUND
    yield "a bundled program that is not there", "@nothing", NOT_FOUND


def one_sentence(done: CompletedProcess[str]) -> bool:
    """Whether all that was said is one line of ours."""
    lines = done.stderr.splitlines()
    return done.stdout == "" and len(lines) == 1 and lines[0].startswith("dragoman:")


def run(report: Report) -> None:
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        report.say("every command explains itself")
        for name, done in zip(COMMANDS, pool.map(lambda name: command(name, "--help"), COMMANDS)):
            report.check(done.returncode == 0 and "usage:" in done.stdout, f"dragoman {name} --help")
        report.say("a good program runs")
        hello = command("run", "@hello")
        report.check((hello.returncode, hello.stdout) == (0, find("hello").small_output), "dragoman run @hello")
        report.say("what cannot be run gets a sentence and a status")
        cases = list(bad_images(Path(folder)))
        for (what, _, status), done in zip(cases, pool.map(lambda case: command("run", case[1]), cases)):
            report.show(done.stderr.strip().replace(folder + "/", "")[:150])
            report.check(done.returncode == status and one_sentence(done), f"{what}: status {status}")
        mistakes = (("nothing",), ("run",), ("run", "--nothing", "@hello"))
        for words, done in zip(mistakes, pool.map(lambda words: command(*words), mistakes)):
            report.show(done.stderr.strip().splitlines()[-1][:150])
            good = done.returncode == USAGE and "Traceback" not in done.stderr
            report.check(good, f"dragoman {' '.join(words)}: status {USAGE}")
