"""E05: benchmarks tell cold from warm, and two records of them can be compared: counts exactly, times as ratios.

This is the method in small, on loops; the suites in `bench/`, which are not installed, apply it to whole programs.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import guests
from dbt.lab.report import Report
from dbt.lab.workbench import DATA, Machine, asm
from dbt.options import Options
from guests.spec import Guest

ROUNDS = 20_000  # of each kernel's loop
TIMES = ("seconds", "translation")  # what repeats only roughly; everything else repeats exactly
Record = dict[str, dict[str, dict[str, Any]]]  # kernel -> case -> what was measured


def kernels(guest: Guest) -> dict[str, list[int]]:
    """Loops of t2 rounds, ended by a trap."""

    def loop(*words: int) -> list[int]:
        return [*words, asm(guest, "addi", rd=7, rs1=7, imm=-1),
                asm(guest, "bne", rs1=7, rs2=0, imm=-4 * (len(words) + 1)), asm(guest, "ebreak")]  # fmt: skip

    return {
        "arithmetic": loop(asm(guest, "mul", rd=10, rs1=10, rs2=12), asm(guest, "add", rd=10, rs1=10, rs2=7),
                           asm(guest, "xor", rd=10, rs1=10, rs2=13)),
        "memory": loop(asm(guest, "andi", rd=14, rs1=7, imm=0x7F8), asm(guest, "add", rd=14, rs1=14, rs2=9),
                       asm(guest, "ld", rd=15, rs1=14, imm=0), asm(guest, "add", rd=15, rs1=15, rs2=7),
                       asm(guest, "sd", rs2=15, rs1=14, imm=0), asm(guest, "add", rd=10, rs1=10, rs2=15)),
        "calls": [*loop(asm(guest, "jal", rd=1, imm=16)),
                  asm(guest, "addi", rd=10, rs1=10, imm=3), asm(guest, "jalr", rd=0, rs1=1, imm=0)],
    }  # fmt: skip


def measure(options: Options | None = None) -> Record:
    """Every kernel interpreted, translated for the first time (cold), and once more (warm)."""
    guest = guests.load("riscv64")
    record: Record = {}
    for name, words in kernels(guest).items():
        record[name] = {}
        with Machine(guest, words) as machine:
            record[name]["interpreted"] = once(machine)
        with Machine(guest, words, True, options or Options(tiers=(1,))) as machine:
            record[name]["cold"] = once(machine)
            record[name]["warm"] = once(machine)
    return record


def once(machine: Machine) -> dict[str, Any]:
    """Call the kernel; what that took."""
    machine.set(t2=ROUNDS, a0=1, a2=0x9E3779B9, a3=0x5555, s1=DATA)
    machine.space.poke(DATA, bytes(4096))
    before, count, start = stats(machine), machine.state.count, time.perf_counter()
    machine.call()
    seconds = time.perf_counter() - start
    spent = {name: value - before[name] for name, value in stats(machine).items()}
    return {"result": machine.get("a0"), "instructions": machine.state.count - count, "seconds": seconds, **spent}


def stats(machine: Machine) -> dict[str, float]:
    """What the engine counts; the interpreter translates nothing."""
    if machine.engine.name == "reference":
        return {"translations": 0, "code bytes": 0, "translation": 0.0, "interpreted": 0}
    found = machine.engine.translator.stats
    return {"translations": found.translations, "code bytes": found.code_bytes,
            "translation": sum(found.seconds.values()), "interpreted": machine.engine.interpreted}  # fmt: skip


def compare(old: Record, new: Record) -> tuple[list[str], list[str]]:
    """Counts that differ between two records, and the ratio of their times, a line each."""
    counts, times = [], []
    for kernel, cases in old.items():
        for case, before in cases.items():
            after = new[kernel][case]
            counts += [f"{kernel}, {case}: {name} {before[name]:,} -> {after[name]:,}" for name in before
                       if name not in TIMES and before[name] != after[name]]  # fmt: skip
            times.append(f"{kernel}, {case}: {after['seconds'] / before['seconds']:.2f} of the time")
    return counts, times


def run(report: Report) -> None:
    report.say(f"three loops of {ROUNDS:,} rounds: interpreted, translated the first time (cold), and again (warm)")
    first, second, third = measure(), measure(), measure(Options(hot=0))
    titles = f"{'instructions':>12}{'seconds':>10}{'in translation':>16}{'translations':>14}{'interpreted':>13}"
    report.show(f"{'':25}{titles}")
    for kernel, cases in first.items():
        for case, m in cases.items():
            report.show(f"{kernel:12}{case:13}{m['instructions']:12,}{m['seconds']:10.4f}{m['translation']:16.4f}"
                        f"{m['translations']:14}{m['interpreted']:13,}")  # fmt: skip
    every = list(first.values())
    report.check(all(len({(m["result"], m["instructions"]) for m in cases.values()}) == 1 for cases in every),
                 "result and instructions are the same in all three cases")  # fmt: skip
    report.check(all(cases["cold"]["translations"] > 0 for cases in every), "cold, there is translation in the time")
    report.check(all(not any(cases["warm"][name] for name in ("translations", "translation")) for cases in every),
                 "warm, there is none: no translation is made")  # fmt: skip

    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{number}.json" for number in range(3)]
        for file, record in zip(files, (first, second, third)):
            file.write_text(json.dumps(record, indent=1))
        records: list[Record] = [json.loads(file.read_text()) for file in files]
    report.say("the same again, both kept as JSON and compared")
    counts, times = compare(records[0], records[1])
    report.show("\n".join(times))
    report.check(not counts, "every count is the same; times differ, and decide nothing")
    report.say("compared with a translator that interprets no cold block and translates each by itself")
    counts, _ = compare(records[0], records[2])
    report.show("\n".join(counts))
    report.check(any("interpreted" in line for line in counts) and not any("result" in line for line in counts),
                 "the comparison shows what changed: the work, and not the results")  # fmt: skip
