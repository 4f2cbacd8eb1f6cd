"""Many seeds of one program: which of its schedules end otherwise, fail, or never end.

Each seed is one deterministic run in a process of its own, of which some go on at once. Runs that end alike and print
the same are one outcome. Owns: those processes, outcomes. Must not know: how a seed chooses turns.
"""

from __future__ import annotations

import marshal
import os
import selectors
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import dbt.linux.children
import dbt.linux.futexes
import dbt.linux.scheduler  # noqa: F401 - each run would import them by itself
from dbt.process import LimitReached, Process, Settings
from dbt.report import reason
from ir.records import replace

EXITED = "exit status"


class Deadlock(Exception):
    """Nothing but a signal from outside could let the guest go on."""


@dataclass
class Outcome:
    """What runs of some seeds have in common: how they ended, and what they printed."""

    end: str
    stdout: bytes
    stderr: bytes
    seeds: list[int] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        """Whether it is wrong whatever others do: a signal, a limit, threads that wait for each other."""
        return not self.end.startswith(EXITED)


@dataclass
class Exploration:
    """All outcomes, that of most seeds first, or of the lowest where there are as many."""

    outcomes: list[Outcome]

    @property
    def suspects(self) -> list[Outcome]:
        """Those that differ from the most frequent one, and that one if it failed."""
        return [outcome for at, outcome in enumerate(self.outcomes) if at or outcome.failed]


def explore(
    path: str | Path, args: Sequence[str] = (), settings: Settings | None = None, *, seeds: Sequence[int],
    jobs: int = 1, max_instructions: int | None = None, progress: Callable[[int], None] = lambda done: None,
) -> Exploration:  # fmt: skip
    """Run a program once for every seed, `jobs` of them at a time. Raises what `Process` raises."""
    settings = settings or Settings()
    Process(path, args, replace(settings, seed=0)).close()  # what is wrong with it is said once, and all is imported
    found: dict[tuple[str, bytes, bytes], Outcome] = {}
    waiting, running = list(reversed(seeds)), selectors.DefaultSelector()
    done = 0
    try:
        while waiting or running.get_map():
            while waiting and len(running.get_map()) < jobs:
                seed = waiting.pop()
                pid, answers = _start(path, args, replace(settings, seed=seed), max_instructions)
                running.register(answers, selectors.EVENT_READ, (seed, pid, bytearray()))
            for key, _events in running.select():
                seed, pid, data = key.data
                part = os.read(key.fd, 1 << 16)
                data += part
                if part:
                    continue
                running.unregister(key.fd)
                os.close(key.fd)
                status = os.waitpid(pid, 0)[1]
                outcome = marshal.loads(data) if data else (f"our own failure, status {status}", b"", b"")
                found.setdefault(outcome, Outcome(*outcome)).seeds.append(seed)
                done += 1
                progress(done)
    finally:
        for key in running.get_map().values():
            os.kill(key.data[1], signal.SIGKILL)
            os.waitpid(key.data[1], 0)
    for each in found.values():
        each.seeds.sort()
    return Exploration(sorted(found.values(), key=lambda each: (-len(each.seeds), each.seeds)))


def _start(path: str | Path, args: Sequence[str], settings: Settings, limit: int | None) -> tuple[int, int]:
    """A process that runs one seed: its number, and where it tells its outcome."""
    answers, telling = os.pipe()
    made = os.fork()
    if made:
        os.close(telling)
        return made, answers
    os.close(answers)
    _run(path, args, settings, limit, telling)


def _run(path: str | Path, args: Sequence[str], settings: Settings, limit: int | None, telling: int) -> NoReturn:
    status = 1
    try:
        outputs = [os.memfd_create(name, os.MFD_CLOEXEC) for name in ("stdout", "stderr")]
        nothing = os.open(os.devnull, os.O_RDONLY)
        settings = replace(settings, stdin=nothing, stdout=outputs[0], stderr=outputs[1])
        end = _end(Process(path, args, settings), limit)
        texts = [os.pread(each, os.fstat(each).st_size, 0) for each in outputs]
        with open(telling, "wb") as sink:
            sink.write(marshal.dumps((end, *texts)))
        status = 0
    finally:
        os._exit(status)


def _end(process: Process, limit: int | None) -> str:
    """How a run ends, in words."""
    process.kernel.warn = lambda text: None  # of what every run would say
    process.kernel.on_stuck = _stuck
    try:
        process.run(limit)
    except LimitReached as reached:
        return f"no end after {reached.count:,} instructions"
    except Deadlock:
        return "a deadlock: all that is left of it waits, and nothing can end that"
    except Exception as error:
        return f"our own failure: {type(error).__name__}: {error}"
    return f"{EXITED} {process.status}" if process.signal is None else reason(process)


def _stuck() -> Any:
    raise Deadlock
