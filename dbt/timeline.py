"""A run over time: a recorder that notes the engine's counts every few milliseconds, and the page that shows them.

A sample is a row of counts since the start, so that any of them may be left out: a long run has fewer to the second.
What is installed is noticed at the next sample. Times are the host's, in microseconds.
Owns: when samples are taken, the form of the data, the page (with `timeline.html`, which draws it). Must not know: how
an engine runs, where the page goes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dbt.block import Key, Made, Translation
    from dbt.cache.disk import Disk
    from dbt.process import Process
    from dbt.report import Symbols

INTERVAL = 0.005  # seconds between samples, at least
SMALL = 20  # a sample takes one part in so many of the time, at most
FINEST, COARSEST = 1 << 12, 1 << 21  # instructions until the engine is to tell its pc again
MOST = 3000  # samples: when there are more, each second one goes
MOST_INSTALLED = 5000  # regions that are noted
COLUMNS = (
    "wall",  # microseconds since the start
    "count",  # instructions: virtual time,
    "reference",  # and of these: in the reference interpreter, since they were cold,
    "monitor",  # callouts and slow paths,
    "regions",  # in regions; the rest in tier 0
    "syscalls",  # system calls
    "host",  # microseconds in host code: regions and tier 0,
    "calls",  # in system calls,
    "stencils",  # on loading stencils, or making them,
    "made",  # of CPU time: on translations made here, placed or found on disk
    "busy",  # in which the worker had something to do
    "queue",  # translations that wait for the worker
    "bytes",  # of host code in the cache
    "translations",  # in the cache
    "dropped",  # that went: evicted, overwritten or invalid
)
_LEVELS = ("queue",)  # columns whose highest values are kept when samples go


class Recorder:
    """Samples of one process under the translating engine."""

    def __init__(self, process: Process, clock: Callable[[], float] = time.perf_counter) -> None:
        self._process = process
        self._engine = process.engine
        self._clock = clock
        self.samples: dict[str, list[int]] = {name: [] for name in COLUMNS}
        self.installed: list[dict[str, Any]] = []
        self._noted: dict[Key, Translation] = {}
        self._made = self._found = 0
        self._interval = INTERVAL
        self._begin = self._next = self._seen = clock()
        self._count = process.state.count
        self._busy = False
        self._seconds = dict.fromkeys(("host", "calls", "stencils", "busy"), 0.0)
        self._ready = False  # whether there is tier 0
        self._timed = False

    def attach(self) -> None:
        """Begin: time is zero now."""
        kernel = self._process.kernel
        call = kernel.call

        def timed(number: int, arguments: tuple[int, ...]) -> int:
            begin = self._clock()
            try:
                return call(number, arguments)
            finally:
                end = self._clock()
                if end - begin > self._interval:  # it stands alone between two samples
                    self._sample(begin)
                self._seconds["calls"] += end - begin
                if end - begin > self._interval:
                    self._sample(end)

        kernel.call = timed  # type: ignore[method-assign]
        self._engine.install_found = self._finding(self._engine.install_found)
        self._begin = self._next = self._seen = self._clock()
        self._engine.watcher, self._engine.due = self.watch, 0

    def watch(self, pc: int) -> int:
        """Take a sample if it is time to; returns the count at which it may be again."""
        now, count = self._clock(), self._process.state.count
        self._note_busy(now)
        if not self._ready and self._engine.tier0 is not None:
            self._ready = True
            self._seconds["stencils"] += now - self._seen
        if now >= self._next:
            self._sample(now)
        elapsed = now - self._seen
        step = int((count - self._count) / elapsed * self._interval / 2) if elapsed > 0 else FINEST
        self._seen, self._count = now, count
        return count + min(max(step, FINEST), COARSEST)

    def finish(self) -> None:
        """The run has ended: the last sample, and what each region was good for."""
        self._sample(self._clock())
        retired = self._engine.cache.all_retired
        for row in self.installed:
            row["retired"] = retired.get((row["address"], row["boundary"]), 0)

    def data(self, title: str, symbols: Symbols) -> dict[str, Any]:
        """What `page` shows, as plain data."""
        named = [row | {"symbol": symbols.at(row["address"])} for row in self.installed]
        return {"title": title, "samples": self.samples, "installed": named}

    # --- inside -------------------------------------------------------------------------------------------------

    def _note_busy(self, now: float) -> None:
        background = self._engine.promotion.background
        if self._busy:
            self._seconds["busy"] += now - self._seen
        self._busy = background is not None and background.asked is not None

    def _sample(self, now: float) -> None:
        engine, translator, cache = self._engine, self._engine.translator, self._engine.cache
        if translator.started and not self._timed:
            self._timed = True
            translator.backend.enter = self._entering(translator.backend.enter)
        monitor = sum(engine.monitor.classes.values()) - engine.monitor.trapped
        disk = engine.disk.stats.seconds if engine.disk is not None else 0.0
        background, gone = engine.promotion.background, cache.stats
        row = {
            "wall": _micro(now - self._begin),
            "count": self._process.state.count,
            "reference": engine.interpreted,
            "monitor": monitor - engine.interpreted,
            "regions": sum(map(cache.retired, cache.translations())) + sum(cache.gone.values()),
            "syscalls": self._process.syscalls,
            "host": _micro(self._seconds["host"]),
            "calls": _micro(self._seconds["calls"]),
            "stencils": _micro(self._seconds["stencils"]),
            "made": _micro(sum(translator.stats.seconds.values()) + disk),
            "busy": _micro(self._seconds["busy"]),
            "queue": len(background.queue) if background is not None else 0,
            "bytes": cache.bytes if len(cache) else 0,
            "translations": len(cache),
            "dropped": gone.evictions + gone.invalidations + gone.overwrites,
        }
        for name, column in self.samples.items():
            column.append(row[name])
        self._note_installed(now)
        if len(self.samples["wall"]) > MOST:
            self._thin()
        self._next = max(now + self._interval, self._clock() + SMALL * (self._clock() - now))

    def _entering(self, enter: Callable[[int, int], object]) -> Callable[[int, int], None]:
        clock, seconds = self._clock, self._seconds

        def timed(state: int, code: int) -> None:
            begin = clock()
            enter(state, code)
            seconds["host"] += clock() - begin

        return timed

    def _finding(self, install: Callable[[Disk, Sequence[Made]], None]) -> Callable[[Disk, Sequence[Made]], None]:
        def noted(disk: Disk, made: Sequence[Made]) -> None:
            self._note_installed(self._clock())  # what came before is not from there
            install(disk, made)
            self._note_installed(self._clock())

        return noted

    def _note_installed(self, now: float) -> None:
        """What has come into the cache since this was asked last is at its end, all from one place."""
        engine = self._engine
        found = engine.disk.stats.found if engine.disk is not None else 0
        here, disk = engine.translator.stats.translations - self._made, found - self._found
        if not here and not disk:
            return
        self._made += here
        self._found = found
        by = "disk" if disk else "worker" if engine.promotion.background is not None else "here"
        new, wall, count = [], _micro(now - self._begin), self._process.state.count
        for region in reversed(list(engine.cache.translations())):
            if self._noted.get(region.key) is region:
                break
            self._noted[region.key] = region
            new.append({
                "wall": wall, "count": count, "address": region.key[0], "boundary": region.key[1], "by": by,
                "guest_instructions": region.instructions, "host_bytes": region.size, "blocks": len(region.source),
                "retired": 0,
            })  # fmt: skip
        self.installed += new[::-1][: MOST_INSTALLED - len(self.installed)]

    def _thin(self) -> None:
        for name, column in self.samples.items():
            kept = column[::2]
            if name in _LEVELS:
                kept = [max(column[i : i + 2]) for i in range(0, len(column), 2)]
            self.samples[name] = kept
        self._interval *= 2


def _micro(seconds: float) -> int:
    return round(seconds * 1e6)


# --- the page -----------------------------------------------------------------------------------------------------


def page(data: dict[str, Any]) -> str:
    """The data of a recorder as one page of HTML that needs nothing else. The data stands in it as JSON."""
    from pathlib import Path

    from dbt.page import filled

    return filled(Path(__file__).with_suffix(".html"), str(data["title"]), data)
