"""One program in both engines: is all that can be seen equal, and how fast is each.

The reference interpreter runs first, to the end or to a limit. The translator is stopped at the same place,
compared, and goes on to the end. Owns: what is compared, the clocks. Must not know: how either engine works.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from dbt.process import LimitReached, Process, Settings
from dbt.report import reason
from dbt.table import table
from guests.spec import Treat

HEAD = (
    "engine", "ok", "instructions", "blocks", "ident", "inline", "callout",
    "start s", "transl. s", "wall s", "CPU s", "M instr/s", "warm", "ratio",
)  # fmt: skip


@dataclass(frozen=True)
class Snapshot:
    """All that can be seen of a guest at one moment."""

    status: int | None
    signal: int | None
    reason: str
    instructions: int
    blocks: int
    classes: dict[str, int]
    syscalls: int
    registers: dict[str, int]
    stdout: bytes
    stderr: bytes
    events: tuple[str, ...]  # "count pc digest" each


@dataclass(frozen=True)
class Run:
    """One engine's run. Times are seconds; `translate` is processor time and part of `wall` and `cpu`."""

    engine: str
    compared: Snapshot  # at the end, or where the reference stopped
    instructions: int
    blocks: int
    classes: dict[str, int]
    status: int | None
    signal: int | None
    start: float  # until the first instruction: imports, loading, setting the engine up
    translate: float
    wall: float
    cpu: float

    @property
    def speed(self) -> float:
        """Instructions a second of running, translation included."""
        return self.instructions / self.wall if self.wall else 0.0

    @property
    def warm_speed(self) -> float:
        """Instructions a second of running, translation left out."""
        left = self.wall - self.translate
        return self.instructions / left if left > 0 else 0.0


@dataclass(frozen=True)
class Comparison:
    """What `compare` found. `equal` is the verdict; `bounded` says that the reference did not run to the end."""

    program: str
    differences: tuple[str, ...]
    bounded: bool
    reference: Run
    translated: Run

    @property
    def runs(self) -> tuple[Run, Run]:
        return self.reference, self.translated

    @property
    def equal(self) -> bool:
        return not self.differences

    @property
    def ratio(self) -> float:
        """How many times as fast as the reference the translator was, translation included."""
        return self.translated.speed / self.reference.speed if self.reference.speed else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON; outputs as lengths and SHA-256."""
        runs = []
        for run in self.runs:
            data = asdict(run)
            compared = data.pop("compared")
            for stream in ("stdout", "stderr"):
                text = compared.pop(stream)
                compared[stream] = {"bytes": len(text), "sha256": hashlib.sha256(text).hexdigest()}
            compared["events"] = {"number": len(events := compared["events"]), "last": events[-1] if events else None}
            runs.append(data | {"compared": compared, "speed": run.speed, "warm_speed": run.warm_speed})
        return {"program": self.program, "equal": self.equal, "differences": list(self.differences),
                "bounded": self.bounded, "ratio": self.ratio, "runs": runs}  # fmt: skip

    def text(self) -> str:
        """A table, and a sentence for whatever it does not say."""
        rows: list[tuple[str, ...]] = []
        for run in self.runs:
            classes = [f"{run.classes[treat.value]:,}" for treat in Treat]
            ratio = f"{run.speed / self.reference.speed:.1f}" if self.reference.speed else "-"
            rows.append((
                run.engine, "yes" if self.equal else "NO", f"{run.instructions:,}", f"{run.blocks:,}", *classes,
                f"{run.start:.3f}", f"{run.translate:.3f}", f"{run.wall:.3f}", f"{run.cpu:.3f}",
                f"{run.speed / 1e6:.2f}", f"{run.warm_speed / 1e6:.2f}", ratio,
            ))  # fmt: skip
        lines = [table(HEAD, rows, words=2)]
        if self.bounded:
            count = self.reference.instructions
            lines.append(f"The reference was stopped after {count:,} instructions (--max-instructions); both were "
                         f"compared there, and the translator went on to the end.")  # fmt: skip
        end = self.translated
        how = f"exit status {end.status}" if end.signal is None else end.compared.reason or f"signal {end.signal}"
        if compared := len(self.reference.compared.events):
            lines.append(f"Registers and memory were compared at {compared:,} events on the way.")
        lines.append(f"The engines are equal; {how}." if self.equal else "The engines differ:")
        lines += [f"  {difference}" for difference in self.differences]
        return "\n".join(lines)


def compare(
    path: str | Path, args: Sequence[str], settings: Settings, *, stdin: bytes = b"",
    max_instructions: int | None = None, events: int | None = None,
) -> Comparison:  # fmt: skip
    """Run `path` in both engines. `settings.engine` and its descriptors are not looked at.

    The program runs twice, and what it does to files it does twice.
    """
    reference, stopped = _run(path, args, replace(settings, engine="reference"), stdin, max_instructions, False, events)
    at = reference.instructions if stopped else None
    translated, _ = _run(path, args, replace(settings, engine="translated"), stdin, at, True, events)
    differences = tuple(_differences(reference.compared, translated.compared))
    return Comparison(str(path), differences, stopped, reference, translated)


def _run(
    path: str | Path, args: Sequence[str], settings: Settings, stdin: bytes, pause: int | None, on: bool,
    events: int | None,
) -> tuple[Run, bool]:  # fmt: skip
    """Run to the end or to `pause`, look, and then go on if `on`. Also says whether it paused."""
    with ExitStack() as stack:
        files = [stack.enter_context(os.fdopen(os.memfd_create("dragoman"), "w+b")) for _ in range(3)]
        files[0].write(stdin)
        files[0].seek(0)
        given, out, err = (file.fileno() for file in files)
        clock, cpu_clock = time.perf_counter, time.process_time
        begin = clock()
        process = stack.enter_context(Process(path, args, replace(settings, stdin=given, stdout=out, stderr=err)))
        noted: list[str] = []
        if events:
            process.trace_events(events, noted.append)
        start = clock() - begin
        wall, cpu = clock(), cpu_clock()
        paused = False
        try:
            process.run(pause)
        except LimitReached:
            paused = True
        wall, cpu = clock() - wall, cpu_clock() - cpu
        compared = _snapshot(process, out, err, noted)
        if paused and on:
            again, cpu_again = clock(), cpu_clock()
            process.run()
            wall, cpu = wall + clock() - again, cpu + cpu_clock() - cpu_again
        stats = process.stats()
        run = Run(
            settings.engine, compared, stats["instructions"], stats["blocks"], _classes(stats), process.status,
            process.signal, start, sum(stats.get("seconds", {}).values()), wall, cpu,
        )  # fmt: skip
        return run, paused


def _classes(stats: dict[str, Any]) -> dict[str, int]:
    return {treat.value: stats[treat.value] for treat in Treat}


def _snapshot(process: Process, out: int, err: int, events: Sequence[str]) -> Snapshot:
    stats = process.stats()
    return Snapshot(
        process.status, process.signal, reason(process) if process.signal is not None else "", stats["instructions"],
        stats["blocks"], _classes(stats), stats["syscalls"], process.registers, _whole(out), _whole(err),
        tuple(events),
    )  # fmt: skip


def _whole(descriptor: int) -> bytes:
    """All of a file, its position left alone."""
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0)


def _differences(reference: Snapshot, translated: Snapshot) -> list[str]:
    """A sentence for each thing that is not equal."""
    found = []
    for name in ("status", "signal", "reason", "instructions", "blocks", "syscalls"):
        a, b = getattr(reference, name), getattr(translated, name)
        if a != b:
            found.append(f"{name}: reference {a}, translated {b}")
    for name, count in reference.classes.items():
        if count != translated.classes[name]:
            found.append(f"instructions of class {name}: reference {count}, translated {translated.classes[name]}")
    for name in ("stdout", "stderr"):
        a, b = getattr(reference, name), getattr(translated, name)
        if a != b:
            at = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
            found.append(f"{name}: {len(a)} and {len(b)} bytes, first different at byte {at}: "
                         f"reference {a[at:at + 16]!r}, translated {b[at:at + 16]!r}")  # fmt: skip
    if reference.events != translated.events:
        a, b = next((a, b) for a, b in zip_longest(reference.events, translated.events, fillvalue="none") if a != b)
        found.append(f"events: first different: reference {a}, translated {b}")
    for name, value in reference.registers.items():
        if value != translated.registers[name]:
            found.append(f"register {name}: reference {value:#x}, translated {translated.registers[name]:#x}")
    return found
