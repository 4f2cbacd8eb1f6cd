"""Lockstep of machines: both engines run the same machine, and wherever they stop everything is compared.

They stop at the first boundary after at most `stride` instructions, at random; with 1, at every boundary. Time is that
of instructions alone, so both take the same interrupts at the same places. Compared at each stop: pc, every register
and CSR, and counts of each hart, whose turn it is, the time waited, what was printed, and the pages that translated
code stored to since, by the very pointers that it stored through. All of RAM is compared at intervals and at the end.
Owns: the comparison and its report. Must not know: how either engine works, what the machine runs.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextlib import closing
from random import Random

from dbt.machine.boards import Board
from dbt.machine.devices.console import Console
from dbt.machine.exits import Exit, Intr
from dbt.machine.memory import PAGE_SHIFT
from dbt.options import Options
from dbt.state import LOG, LOG_END
from ir.records import field, record, replace

FULL_EVERY = 4096  # stops between comparisons of all memory
MOST_STRIDE = 4000  # instructions: a log of stores must hold all of them
PROMOTE = 4  # executions until a block is translated
PAGE = 1 << PAGE_SHIFT
_libc = ctypes.CDLL(None)
_libc.memcmp.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)

Make = Callable[[Console, str, Options], Board]  # a machine at its begin: console, engine, options


@record
class Report:
    """What was compared, and the lines of the first difference, if there was one."""

    instructions: int = 0
    stops: int = 0
    pages: int = 0  # page comparisons
    exit: Exit | None = None  # how the machine ended; Intr: the limit was reached
    output: bytes = b""
    difference: list[str] = field(default_factory=list)


def lockstep(
    make: Make, stride: int = 1, seed: int = 0, max_instructions: int | None = None, options: Options | None = None,
    mutate: Callable[[Board], None] | None = None, progress: Callable[[Report], None] | None = None,
) -> Report:  # fmt: skip
    """Run a machine in both engines, to its end. `mutate` may plant a defect in the translated one before it runs."""
    if not 1 <= stride <= MOST_STRIDE:
        raise ValueError(f"a stride is from 1 to {MOST_STRIDE:,} instructions")
    options = options or Options()
    promote = PROMOTE if options.promote == Options().promote else options.promote
    options = replace(options, log_stores=True, patience=0, promote=promote, background=False)
    printed: tuple[bytearray, bytearray] = bytearray(), bytearray()
    leader, follower = (
        make(Console(each.extend), engine, options) for each, engine in zip(printed, ("translated", "reference"))
    )
    if mutate is not None:
        mutate(leader)
    with closing(leader.vm), closing(follower.vm):
        pair = _Pair(leader, follower, printed)
        return pair.run(stride, Random(seed), max_instructions, progress)


class _Pair:
    def __init__(self, leader: Board, follower: Board, printed: tuple[bytearray, bytearray]) -> None:
        self.leader = leader
        self.follower = follower
        self.printed = printed
        self.report = Report()

    def run(
        self, stride: int, random: Random, limit: int | None, progress: Callable[[Report], None] | None
    ) -> Report:
        mine, theirs, report = self.leader.vm, self.follower.vm, self.report
        clock = mine.clock
        while not report.difference and (limit is None or clock.count < limit):
            where = mine.turn.number, mine.turn.state.pc, clock.retired
            for vcpu in mine.vcpus:
                vcpu.state.words[LOG_END] = 0
            until = max(clock.count + random.randint(1, stride), mine.waits_until)
            exits = mine.run(until), theirs.run(until)
            report.stops += 1
            report.exit = exits[0]
            ended = not isinstance(exits[0], Intr)
            full = ended or report.stops % FULL_EVERY == 0
            report.difference = self._compare(exits) + self._compare_pages(self._all() if full else self._written())
            if report.difference:
                hart = f"hart {where[0]} at " if len(mine.vcpus) > 1 else ""
                report.difference.insert(0, f"the engines differ after {hart}{where[1]:#x} (instruction {where[2]:,})")
            report.instructions, report.output = clock.retired, bytes(self.printed[0])
            if progress is not None and full:
                progress(report)
            if ended:
                break
        return report

    def _compare(self, exits: tuple[Exit, Exit]) -> list[str]:
        """What differs but for memory: a line each, the reference's value first."""
        mine, theirs = self.leader.vm, self.follower.vm
        pairs: list[tuple[str, object, object]] = [("exit", exits[1], exits[0])]
        pairs.append(("turn", theirs.turn.number, mine.turn.number))
        pairs.append(("turn's end", theirs.ends, mine.ends))
        pairs.append(("waited", theirs.clock.waited, mine.clock.waited))
        pairs.append(("output", bytes(self.printed[1]), bytes(self.printed[0])))
        for ours, other in zip(mine.vcpus, theirs.vcpus):
            a, b = other.state, ours.state
            each = [(name, getattr(a, name), getattr(b, name)) for name in ("pc", "count", "blocks", "mid_block")]
            if a.snapshot() != b.snapshot():
                each += [(r.name, a.slots[r.slot], b.slots[r.slot]) for r in self.leader.guest.registers]
            hart = f"hart {ours.number} " if len(mine.vcpus) > 1 else ""
            pairs += [(hart + name, *values) for name, *values in each]
        return [f"  {name:22}{_text(a):>18}  {_text(b):>18}" for name, a, b in pairs if a != b]

    def _written(self) -> set[int]:
        """Host addresses of the leader's pages that its code has stored to since the last stop."""
        found: set[int] = set()
        for vcpu in self.leader.vcpus:
            words, first = vcpu.state.words, LOG >> 3
            for address in words[first : first + words[LOG_END]]:
                found |= {address & -PAGE, address + 7 & -PAGE}
        return found

    def _all(self) -> set[int]:
        """Those of all pages that differ."""
        found: set[int] = set()
        for ours, theirs in zip(self.leader.vm.memory.slots, self.follower.vm.memory.slots):
            self.report.pages += ours.size >> PAGE_SHIFT
            if _libc.memcmp(ours.host, theirs.host, ours.size):
                found.update(range(ours.host, ours.host + ours.size, PAGE))
        return found

    def _compare_pages(self, pages: set[int]) -> list[str]:
        found = []
        for ours, theirs in zip(self.leader.vm.memory.slots, self.follower.vm.memory.slots):
            for page in sorted(pages):
                offset = page - ours.host
                if not 0 <= offset < ours.size:
                    continue
                self.report.pages += 1
                if _libc.memcmp(page, theirs.host + offset, PAGE):
                    a, b = (slot.memory[offset : offset + PAGE] for slot in (theirs, ours))
                    at = next(i for i in range(0, PAGE, 8) if a[i : i + 8] != b[i : i + 8])
                    values = (int.from_bytes(each[at : at + 8], "little") for each in (a, b))
                    found.append("  memory {:<#15x}{:#18x}  {:#18x}".format(ours.base + offset + at, *values))
        return found


def _text(value: object) -> str:
    return hex(value) if isinstance(value, int) and not isinstance(value, bool) else str(value)
