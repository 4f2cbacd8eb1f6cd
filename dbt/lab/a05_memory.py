"""A05: RAM is contiguous for each machine, and its pages are anywhere in the host; machines of one pool share none."""

from __future__ import annotations

from itertools import combinations

from dbt.lab.report import Report
from dbt.lab.workbench import RAM_SIZE, board
from dbt.machine.boards import ROM_SIZE, Board
from dbt.machine.digest import digest
from dbt.machine.exits import Intr, SystemEvent
from dbt.machine.memory import PAGE_SHIFT
from dbt.machine.pool import Pool, runs
from dbt.machine.views import pool_map
from dbt.options import Options
from guests.programs import SYSTEMS

FEED = b"shutdown\n"
RUNS = (("identity", "reference"), ("identity", "translated"), ("scatter", "translated"))  # layouts, and engines
SEED = 7
EACH = RAM_SIZE + ROM_SIZE
TOGETHER = ("uart", "pagefault", "tree")  # programs of machines that run in turns
TURN = 1_000  # instructions
MOST = 60_000  # more than each of them needs
OPTIONS = Options(patience=0)


def pages_of(machine: Board) -> list[int]:
    """The pages of the pool that a machine has."""
    return [page for pages in machine.vm.memory.pooled.values() for page in pages]


def is_real(machine: Board, pool: Pool) -> tuple[int, bool]:
    """Pages of RAM that are not all zeros; and whether the pool's page that each is said to be has the same bytes."""
    memory, used, same = machine.vm.memory, 0, True
    for base, pages in memory.pooled.items():
        for i, page in enumerate(pages):
            content = memory.peek(base + (i << PAGE_SHIFT), 1 << PAGE_SHIFT)
            used += any(content)
            same = same and pool.read(page) == content
    return used, same


def run(report: Report) -> None:
    report.say("the kernel, with RAM of a pool in its order, and scattered over it")
    digests = set()
    for layout, engine in RUNS:
        pool = Pool(EACH, SEED if layout == "scatter" else None)
        machine, _ = board("kernel", FEED, engine, OPTIONS, pool)
        report.check(machine.vm.run(most=1_000_000) == SystemEvent(1), f"{layout}, {engine}: it comes to its shutdown")
        digests.add(digest(machine))
        report.figure("digest", digest(machine))
        used, same = is_real(machine, pool)
        ram = max(machine.vm.memory.pooled.values(), key=len)
        report.figure("pages of RAM; contiguous runs of the pool", f"{len(ram):,}; {len(list(runs(ram))):,}")
        report.check(used > 20 and same, f"the map is real: the pool has what RAM has, in {used} pages with content")
    report.show("\n".join(pool_map(machine).splitlines()[:5]))
    report.check(len(digests) == 1, "one digest, for both layouts and both engines")
    report.check(len(list(runs(ram))) > 0.9 * len(ram), "scattered: hardly a page follows the one before it")

    report.say(f"{len(TOGETHER)} machines of one pool, in turns of {TURN:,} instructions: {', '.join(TOGETHER)}")
    pool = Pool(len(TOGETHER) * EACH, SEED)
    machines = [board(name, SYSTEMS[name].input.encode(), options=OPTIONS, pool=pool) for name in TOGETHER]
    left = [machine.vm for machine, _ in machines]
    for until in range(TURN, MOST, TURN):
        left = [vm for vm in left if isinstance(vm.run(most=until), Intr)]
    printed = [bytes(output).decode().replace("\r", "") for _, output in machines]
    report.check(printed == [SYSTEMS[name].output for name in TOGETHER], "each prints what it has to")
    sets = [set(pages_of(machine)) for machine, _ in machines]
    report.figure("pages of each", ", ".join(f"{len(each):,}" for each in sets))
    report.check(all(one.isdisjoint(other) for one, other in combinations(sets, 2)), "no page is that of two machines")
    report.check(all(is_real(machine, pool)[1] for machine, _ in machines), "and each has its content in its own")
