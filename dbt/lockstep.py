"""Lockstep: both engines run the same program, and at every architectural boundary everything is compared.

With a stride, at the first boundary after so many instructions, at random up to that: then regions of several blocks
run, which are entered only where that much is left.

The translated engine leads; system calls run once, there, and their effects on memory are replayed to the
reference interpreter's process. Compared at each boundary: pc, every register slot (x, f, flags, rounding
mode, reservation), counts, and all memory written since by either side; translations log the very pointers
that they store through, so a store to a wrong place is seen too. All mapped memory is compared at intervals
and at the end. Virtual time and randomness are deterministic.

Owns: the comparison, the report, the reproducer. Must not know: how either engine works.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from dbt.engine import Translated
from dbt.memory import PAGE_SHIFT, PAGE_SIZE, READ, WRITE, AddressSpace, page_down
from dbt.options import Options
from dbt.process import Process, Settings
from dbt.reference import Reference, Stop
from dbt.state import LOG, LOG_END, State
from guests.spec import BadExtension, Guest
from ir.text import show

FULL_EVERY = 4096  # boundaries between comparisons of all memory
PROMOTE = 4  # executions; a region takes blocks that ran
MOST_STRIDE = 4000  # instructions: a log of stores must hold all of them
_libc = ctypes.CDLL(None)
_libc.memcmp.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


class ReproducerError(ValueError):
    """The file is no lockstep reproducer; the message says why."""


@dataclass
class Difference:
    """The first boundary at which the engines disagree."""

    pc: int  # of the block that made the difference
    count: int  # instructions retired before it
    what: list[str]  # one line a difference: name, reference, translated
    block: list[str]  # disassembly
    ir: str
    reproducer: dict[str, Any]

    def text(self) -> str:
        """The report for a person."""
        lines = [f"the engines differ after the block at {self.pc:#x} (instruction {self.count})", *self.block]
        lines += ["", f"{'':24}{'reference':>18}  {'translated':>18}", *self.what, "", "IR after the passes:", self.ir]
        return "\n".join(lines)


@dataclass
class Report:
    """What was compared, and the difference if there was one."""

    instructions: int = 0
    boundaries: int = 0
    syscalls: int = 0
    pages: int = 0  # page comparisons
    in_regions: int = 0  # instructions that those translations of several blocks executed which are there in the end
    status: int | None = None
    signal: int | None = None
    difference: Difference | None = None
    limited: bool = False


def lockstep(
    path: str | Path,
    args: Sequence[str] = (),
    settings: Settings | None = None,
    max_instructions: int | None = None,
    progress: Callable[[Report], None] | None = None,
    mutate: Callable[[Process], None] | None = None,
    stride: int = 1,
) -> Report:
    """Run a program in both engines at once. The guest's own output is the leader's.

    `stride`: compare after at most so many instructions and the rest of a block. With 1, at every boundary, each
    translation is one block, and there are no stencils; with more, what has run a few times, or as often as
    `settings` say, is promoted to regions.
    `mutate` may plant a defect in the leading process before it runs. Raises what `Process` raises.
    """
    if not 1 <= stride <= MOST_STRIDE:
        raise ValueError(f"a stride is from 1 to {MOST_STRIDE:,} instructions")
    settings = settings or Settings()
    options = replace(settings.options or Options(), log_stores=True, background=False)
    if stride == 1:
        options = replace(options, hot=0, region=0)
    else:
        promote = PROMOTE if options.promote == Options().promote else options.promote
        options = replace(options, patience=0, promote=promote)
    seed = settings.seed or 0
    settings = replace(settings, engine="translated", options=options, seed=seed)
    with closing(Process(path, args, settings)) as leader:
        with closing(Process(path, args, replace(settings, engine="reference"))) as follower:
            if mutate is not None:
                mutate(leader)
            return _Pair(leader, follower, stride, seed).run(max_instructions, progress)


class _Pair:
    def __init__(self, leader: Process, follower: Process, stride: int, seed: int) -> None:
        self.leader = leader
        self.follower = follower
        self.stride = stride
        self.random = Random(seed)
        self.report = Report()
        follower.space.dirty = set()
        follower.space.undo = []
        self.before = b""
        leader.engine.prepare()

    def run(self, limit: int | None, progress: Callable[[Report], None] | None) -> Report:
        leader, follower, report = self.leader, self.follower, self.report
        left, right = leader.state, follower.state
        size = 8 * leader.guest.slots
        while not leader.ended:
            if limit is not None and left.count >= limit:
                report.limited = True
                break
            where = (left.pc, left.count, left.mid_block)
            self.before = right.snapshot(size)
            left.words[LOG_END] = 0
            undo = follower.space.undo
            assert undo is not None
            undo.clear()
            step = self.random.randint(1, self.stride)
            if limit is not None:
                step = min(step, limit - left.count)
            step = max(1, min(step, leader.events.due - left.count))
            mine = leader.engine.run(left.count + step)
            theirs = follower.engine.run(right.count + step)
            report.boundaries += 1
            what = self._compare(mine, theirs, size)
            if not what and (mine.trap or report.boundaries % FULL_EVERY == 0):
                what = self._compare_all()
            if what:
                report.difference = self._difference(where, step, what)
                break
            if mine.trap:
                self._lead(partial(leader.handle, mine))
            if leader.events.due <= left.count and not left.mid_block and not leader.ended:
                self._lead(leader.events.deliver)
            if progress is not None and report.boundaries % 1024 == 0:
                report.instructions = left.count
                progress(report)
        report.instructions, report.status, report.signal = left.count, leader.status, leader.signal
        report.syscalls = leader.syscalls
        cache = leader.engine.cache
        report.in_regions = sum(cache.retired(t) for t in cache.translations() if len(t.source) > 1)
        return report

    def _lead(self, act: Callable[[], object]) -> None:
        """The leader handles a trap, or timers that expire; the follower takes over the result."""
        leader, follower = self.leader, self.follower
        with leader.space.record() as effects:
            act()
        follower.space.replay(effects)
        left, right = leader.state, follower.state
        right.slots[:] = left.slots[:]
        right.pc, right.mid_block = left.pc, left.mid_block
        dirty = follower.space.dirty
        assert dirty is not None
        dirty.clear()

    # --- comparing ----------------------------------------------------------------------------------

    def _compare(self, mine: Stop, theirs: Stop, size: int) -> list[str]:
        """What differs in state and in the pages written since the last boundary."""
        left, right = self.leader.state, self.follower.state
        what = []
        if mine != theirs:
            what.append(_line("stop", str(theirs), str(mine)))
        for name in ("pc", "count", "blocks", "mid_block"):
            a, b = getattr(right, name), getattr(left, name)
            if a != b:
                what.append(_line(name, _hex(a), _hex(b)))
        if left.snapshot(size) != right.snapshot(size):
            for register in self.leader.guest.registers:
                a, b = right.slots[register.slot], left.slots[register.slot]
                if a != b:
                    what.append(_line("/".join((register.name, *register.aliases)), _hex(a), _hex(b)))
        return what + self._compare_pages(self._written())

    def _written(self) -> set[int]:
        """Numbers of the pages that either side wrote."""
        left, base = self.leader.state, self.leader.space.base
        dirty = self.follower.space.dirty
        assert dirty is not None
        pages = set(dirty)
        dirty.clear()
        first = LOG >> 3
        for address in left.words[first : first + left.words[LOG_END]]:
            pages.add(address - base >> PAGE_SHIFT)
            pages.add(address - base + 7 >> PAGE_SHIFT)
        return pages

    def _compare_pages(self, pages: set[int]) -> list[str]:
        ours, theirs = self.leader.space, self.follower.space
        what: list[str] = []
        for page in sorted(pages):
            start = page << PAGE_SHIFT
            rights = (theirs.protection(start), ours.protection(start))
            if rights[0] != rights[1]:
                what.append(_line(f"protection {start:#x}", str(rights[0]), str(rights[1])))
                continue
            if not (rights[0] or 0) & READ:
                continue
            self.report.pages += 1
            if _libc.memcmp(ours.base + start, theirs.base + start, PAGE_SIZE):
                what += _bytes_differing(start, theirs.peek(start, PAGE_SIZE), ours.peek(start, PAGE_SIZE))
        return what

    def _compare_all(self) -> list[str]:
        """All writable memory, region by region, where it has ever been touched."""
        ours, theirs = self.leader.space, self.follower.space
        if ours.regions() != theirs.regions():
            return [_line("memory map", f"{len(theirs.regions())} regions", f"{len(ours.regions())} regions")]
        what: list[str] = []
        for region in ours.regions():
            if region.protection & WRITE and not (region.file and region.shared):
                what += self._compare_pages({*ours.touched(region), *theirs.touched(region)})
        return what

    # --- reporting ----------------------------------------------------------------------------------

    def _difference(self, where: tuple[int, int, bool], step: int, what: list[str]) -> Difference:
        """Undo the follower's step, and keep all that it needs to run again."""
        follower = self.follower
        pc, count, mid_block = where
        space, state = follower.space, follower.state
        for address, old in reversed(space.undo or ()):
            space.poke(address, old)
        space.undo = None
        state.restore(self.before)
        state.pc, state.count, state.mid_block = pc, count, mid_block
        pages = _pages_of_one_step(follower, step)
        state.restore(self.before)
        translator = self.leader.engine.translator
        try:
            block = translator.optimised(pc, not mid_block)
            text, ir = [f"  {g.pc:12x}  {g.text}" for g in block.guest], show(block)
        except Exception as error:  # the report must come out whatever the defect is
            text, ir = [], f"(no IR: {type(error).__name__}: {error})"
        reproducer = {
            "dragoman": "lockstep reproducer 1",
            "guest": follower.guest.name,
            "isa": follower.guest.isa,
            "extensions": list(follower.guest.own),
            "program": str(follower.path),
            "pc": pc,
            "count": count,
            "mid_block": mid_block,
            "step": step,
            "registers": self.before.hex(),
            "pages": pages,
            "what": what,
        }
        return Difference(pc, count, what, text, ir, reproducer)


def _pages_of_one_step(process: Process, step: int) -> dict[str, dict[str, Any]]:
    """Every page that the follower's next step fetches, loads or stores: content before it."""
    space, state = process.space, process.state
    touched: dict[int, bytes] = {}

    def note(address: int, size: int) -> None:
        for page in range(page_down(address), page_down(address + size - 1) + 1, PAGE_SIZE):
            if page not in touched and space.protection(page) is not None:
                touched[page] = space.peek(page, PAGE_SIZE)

    watching = _Watching(space, note)
    engine = Reference(state, watching, lambda: 0)
    engine.run(state.count + step)
    return {
        hex(page): {"protection": space.protection(page), "bytes": content.rstrip(b"\0").hex()}
        for page, content in sorted(touched.items())
    }


class _Watching:
    """An address space that says what the CPU is about to touch."""

    def __init__(self, space: AddressSpace, note: Callable[[int, int], None]) -> None:
        self._space = space
        self._note = note

    def fetch(self, address: int) -> int:
        self._note(address, 4)
        return self._space.fetch(address)

    def load(self, address: int, size: int) -> int:
        self._note(address, size)
        return self._space.load(address, size)

    def store(self, address: int, size: int, value: int) -> None:
        self._note(address, size)
        self._space.store(address, size, value)

    def check(self, address: int, length: int, protection: int) -> None:
        self._note(address, length)
        self._space.check(address, length, protection)

    def modify(self, address: int, size: int, change: Callable[[int], int]) -> int:
        self._note(address, size)
        return self._space.modify(address, size, change)

    def others_write(self, address: int) -> bool:
        return self._space.others_write(address)

    def fence(self) -> None:
        self._space.fence()


def save(difference: Difference, path: str | Path) -> None:
    """Write the reproducer."""
    Path(path).write_text(json.dumps(difference.reproducer, indent=1) + "\n")


def reproduce(
    path: str | Path, mutate: Callable[[Translated], None] | None = None, extensions: Sequence[Any] = ()
) -> list[str]:
    """Run a reproducer's one step, mostly a block, in both engines; returns the lines that differ, if any do.

    `extensions` are those that the run had: the file names them only.
    Raises ReproducerError, FileNotFoundError, BadExtension.
    """
    import guests

    try:
        data = json.loads(Path(path).read_text())
        if data["dragoman"] != "lockstep reproducer 1":
            raise KeyError("dragoman")
        own = [str(name) for name in data.get("extensions", [])]
        guest = guests.load(data["guest"], data["isa"], extensions)
        registers = bytes.fromhex(data["registers"])
        pages = {
            int(start, 16): (int(page["protection"]), bytes.fromhex(page["bytes"]))
            for start, page in data["pages"].items()
        }
        start = (int(data["pc"]), int(data["count"]), bool(data["mid_block"]))
        step = int(data.get("step", 1))
    except BadExtension:
        raise
    except (KeyError, TypeError, ValueError, UnicodeDecodeError) as error:
        raise ReproducerError(f"{path} is not a lockstep reproducer ({error})") from error
    missing = sorted(set(own) - set(guest.own))
    if missing:
        raise ReproducerError(f"{path} needs the extension {missing[0]} of the run's --extension, which is not given")
    ends = []
    for kind in (Reference, Translated):
        space, state = _world(guest, registers, pages, start)
        with closing(space):
            if kind is Reference:
                engine: Any = Reference(state, space, lambda: 0)
            else:
                engine = Translated(state, space, lambda: 0, Options(hot=0) if step > 1 else Options(hot=0, region=0))
                if mutate is not None:
                    mutate(engine)
            stop = engine.run(state.count + step)
            ends.append(
                (stop, state.registers(), state.count, state.blocks, {p: space.peek(p, PAGE_SIZE) for p in pages})
            )
            if kind is Translated:
                engine.close()
    return _describe(*ends)


def _world(
    guest: Guest, registers: bytes, pages: dict[int, tuple[int, bytes]], start: tuple[int, int, bool]
) -> tuple[AddressSpace, State]:
    space, state = AddressSpace(), State(guest)
    for address, (protection, content) in pages.items():
        space.map(address, PAGE_SIZE, READ | WRITE, fixed=True)
        space.write(address, content)
        space.protect(address, PAGE_SIZE, protection)
    state.restore(registers)
    state.pc, state.count, state.mid_block = start
    return space, state


def _describe(reference: tuple[Any, ...], translated: tuple[Any, ...]) -> list[str]:
    what = []
    for name, a, b in zip(("stop", "registers", "count", "blocks", "memory"), reference, translated):
        if a == b:
            continue
        if name == "registers":
            what += [_line(key, _hex(a[key]), _hex(b[key])) for key in a if a[key] != b[key]]
        elif name == "memory":
            for page in a:
                what += _bytes_differing(page, a[page], b[page])
        else:
            what.append(_line(name, str(a), str(b)))
    return what


def _bytes_differing(start: int, a: bytes, b: bytes, most: int = 8) -> list[str]:
    """A line for each aligned double word that differs, up to a few."""
    what = []
    for at in range(0, len(a), 8):
        if a[at : at + 8] != b[at : at + 8]:
            what.append(_line(f"memory {start + at:#x}", a[at : at + 8][::-1].hex(), b[at : at + 8][::-1].hex()))
    return what if len(what) <= most else [*what[:most], f"  ... and {len(what) - most} double words more"]


def _hex(value: int) -> str:
    return str(value) if isinstance(value, bool) else hex(value)


def _line(name: str, reference: str, translated: str) -> str:
    return f"  {name:22}{reference:>18}  {translated:>18}"


__all__ = ["Difference", "Report", "ReproducerError", "lockstep", "reproduce", "save"]
