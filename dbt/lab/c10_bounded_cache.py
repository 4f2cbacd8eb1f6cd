"""C10: translations are kept within a bound in bytes; how small it is changes no result. What a key is made of."""

from __future__ import annotations

import guests
from dbt.lab.report import Report
from dbt.lab.workbench import CODE, Machine, Ran, asm, run_program
from dbt.options import Options
from guests.programs import find

PROGRAM = "queens"
BOUNDS = (32 << 20, 8 << 10, 2560)  # plenty, more than the program needs, less
NOTHING = 16  # bytes: no translation fits
POLICIES = ("lfu", "fifo", "size")  # besides the default


def line(name: str, ran: Ran) -> str:
    """One row of the table."""
    s = ran.stats
    found = 100 * s["cache_hits"] / max(s["cache_hits"] + s["cache_misses"], 1)
    return (f"{name:22}{s['translations']:8,}{s['cache_evictions']:8,}{s['cache_refused']:8,}{s['cache_bytes_max']:9,}"
            f"{found:8.1f} %{s['interpreted_cold']:12,}{ran.seconds:8.2f} s")  # fmt: skip


def run(report: Report) -> None:
    report.say(f"@{PROGRAM} under ever smaller bounds (--cache-size), and other policies (--cache-policy)")
    runs = [(f"{bound:,} bytes", Options(cache_size=bound, tiers=(1,))) for bound in BOUNDS]
    for name in POLICIES:
        runs.append((f"{BOUNDS[-1]:,} bytes, {name}", Options(cache_size=BOUNDS[-1], cache_policy=name, tiers=(1,))))
    titles = f"{'made':>8}{'evicted':>8}{'refused':>8}{'bytes':>9}{'hit rate':>10}{'interpreted':>12}{'time':>10}"
    report.show(f"{'':22}{titles}")
    done = []
    for name, options in runs:
        ran = run_program(PROGRAM, options=options)
        done.append((options.cache_size, ran))
        report.show(line(name, ran))
    _, plenty = done[0]
    report.say("(the hit rate is that of Python's look-ups; what is linked is not looked up)")
    outcomes = {(ran.status, ran.stdout, str(ran.registers), ran.stats["instructions"], ran.stats["blocks"])
                for _, ran in done}  # fmt: skip
    same = len(outcomes) == 1 and plenty.stdout == find(PROGRAM).small_output
    report.check(same, "output, registers, instructions and blocks are the same under every bound")
    report.check(plenty.stats["cache_evictions"] == 0, "with plenty of room nothing is evicted")
    small = [ran for bound, ran in done if bound == BOUNDS[-1]]
    report.check(all(ran.stats["cache_evictions"] > 0 for ran in small), "with little room every policy evicts")
    bounded = all(ran.stats["cache_bytes_max"] <= bound for bound, ran in done)
    report.check(bounded, "no bound is ever exceeded")
    report.check(max(ran.stats["translations"] for ran in small) > plenty.stats["translations"],
                 "what was evicted and is needed again is translated again")  # fmt: skip

    ran = run_program("hello", options=Options(hot=8, cache_size=NOTHING, tiers=(1,)))
    report.say(f"@hello in {NOTHING} bytes, which hold no translation at all")
    report.figure("blocks refused, which stay interpreted", ran.stats["cache_refused"])
    report.check(ran.stdout == find("hello").small_output and ran.stats["cache_refused"] > 0
                 and ran.stats["translations"] == 0 and ran.stats["interpreted_cold"] > 0,
                 "the program runs, interpreted")  # fmt: skip
    keys(report)


def keys(report: Report) -> None:
    """What tells translations of one engine apart."""
    guest = guests.load("riscv64")
    words = [asm(guest, "addi", rd=10, rs1=10, imm=1)] * 8 + [
        asm(guest, "addi", rd=11, rs1=11, imm=-1),
        asm(guest, "bne", rs1=11, rs2=0, imm=-20),
        asm(guest, "ebreak"),
    ]
    middle = CODE + 16
    report.say(f"a block is cut after four instructions, at {middle:#x}; the loop that it ends with goes back to there")
    outcomes, known = [], set()
    for translated in (False, True):
        with Machine(guest, words, translated, Options(hot=0, max_instructions=4)) as machine:
            machine.set(a1=3)
            machine.call()
            outcomes.append((machine.state.registers(), machine.state.count, machine.state.blocks))
            if translated:
                known = {made.key for made in machine.engine.cache.translations()}
    for pc, boundary in sorted(known):
        report.show(f"{pc:#x}, {'at a boundary' if boundary else 'inside a block'}")
    report.check({(middle, True), (middle, False)} <= known,
                 "the key is the address, and whether it is entered at a boundary: both ways are there")  # fmt: skip
    report.check(outcomes[0] == outcomes[1], "so blocks are counted as the interpreter counts them")
    report.say("options, memory and guest are the engine's own, so no key names them; a machine with page tables and")
    report.say("privilege levels would add the physical page and the mode")
