"""C18: a translation may end early or hold many blocks: whatever its limits, everything comes out the same."""

from __future__ import annotations

import hashlib
from collections import Counter
from random import Random
from typing import Any

import guests
from dbt.lab.report import Report
from dbt.lab.workbench import CODE, DATA, Machine, Ran, asm, run_program
from dbt.memory import READ
from dbt.options import Options
from dbt.process import Process
from guests.programs import find
from guests.spec import Guest

MOST = 64  # instructions
REGION = 80  # more than the pieces of code have
PROGRAMS = ("stream", "recurse")
SHORT = 8  # few of their blocks are longer
LENGTHS = 2  # random ones for each program, then one for each translation
CASES = 15  # of random code
BODY = 60  # instructions of each


def digest(process: Process) -> str:
    """All that the guest made: memory, registers, counts."""
    space, state = process.space, process.state
    whole = hashlib.sha256(repr((state.registers(), state.count, state.blocks, process.status)).encode())
    for region in space.regions():
        if (space.protection(region.start) or 0) & READ:
            whole.update(space.peek(region.start, region.end - region.start))
    return whole.hexdigest()[:16]


def run(report: Report) -> None:
    rng, guest = Random(18), guests.load("riscv64")
    report.say(f"programs, their translations limited to a random number of instructions, 1 to {SHORT}")
    same = True
    for name in PROGRAMS:
        wanted, _ = finish(name, Options(), "reference")
        report.show(f"@{name:10} reference   {wanted}")
        for fixed in [rng.randint(1, SHORT) for _ in range(LENGTHS)] + [None]:
            options = Options(max_instructions=fixed or MOST, hot=32, tiers=(1,))
            found, ran = finish(name, options, lengths=None if fixed else rng)
            same = same and found == wanted and ran.stdout == find(name).small_output
            made, translated = ran.stats["translations"], ran.stats["translated_instructions"]
            report.show(f"{'':11} {f'{fixed:2} at most' if fixed else 'any length'}  {found}  "
                        f"{made:4} translations of {translated / made:4.1f} instructions")  # fmt: skip
    report.check(same, "memory, registers, instructions, blocks and output are those of the interpreter")

    report.say(f"{CASES} random pieces of code, each with its own limits: to {MOST} in a block, {REGION} in a region")
    wrong, cuts = [], Counter[str]()
    for case in range(CASES):
        length, region, words = rng.randint(1, MOST), rng.randint(0, REGION), piece(guest, Random(case))
        options, outcomes = Options(hot=0, max_instructions=length, region=region), []
        for translated in (False, True):
            with Machine(guest, words, translated, options) as machine:
                machine.set(s1=DATA, t2=3, **{f"x{r}": case * r for r in range(10, 16)})
                stop = machine.call()
                state = machine.state
                outcomes.append((stop, state.registers(), state.count, state.blocks, machine.space.peek(DATA, 4096)))
                if translated:
                    made = list(machine.engine.cache.translations())
                    sizes = [t.instructions for t in made]
                    cuts["translations"] += len(sizes)
                    cuts["of full length"] += sum(size >= length for size in sizes)
                    cuts["longer"] += sum(t.instructions > max(region, length) for t in made)
                    cuts["of several blocks"] += sum(len(t.source) > 1 for t in made)
        wrong += [case] * (outcomes[0] != outcomes[1])
    for what, count in cuts.items():
        report.figure(what, count)
    report.check(not wrong, "both engines end alike in every case")
    report.check(cuts["of several blocks"] > CASES, "many hold several blocks")
    report.check(cuts["longer"] == 0 and cuts["of full length"] > CASES // 2, "no translation is longer than its limit")
    ends(report, guest)


def finish(name: str, options: Options, engine: str = "translated", lengths: Random | None = None) -> tuple[str, Ran]:
    """Run a program to its end; returns its digest, and how it ended. `lengths`: a new limit for every translation."""
    found: list[str] = []

    def drive(process: Process) -> None:
        if lengths is not None:
            translator = process.engine.translator
            request = translator.request

            def limited(*arguments: Any) -> Any:
                translator.options.max_instructions = lengths.randint(1, SHORT)
                return request(*arguments)

            translator.request = limited
        process.run()
        found.append(digest(process))

    ran = run_program(name, engine=engine, options=options, drive=drive)
    return found[0], ran


def piece(guest: Guest, rng: Random) -> list[int]:
    """Random straight code with a few short branches forward, in a loop of t2 rounds."""
    words: list[int] = []
    for left in range(BODY, 0, -1):
        rd, rs1, rs2 = (rng.randrange(10, 16) for _ in range(3))
        match rng.randrange(8):
            case 0:
                words.append(asm(guest, "ld", rd=rd, rs1=9, imm=8 * rng.randrange(64)))
            case 1:
                words.append(asm(guest, "sd", rs2=rs2, rs1=9, imm=8 * rng.randrange(64)))
            case 2:
                words.append(asm(guest, "bne", rs1=rs1, rs2=rs2, imm=4 * rng.randint(1, min(left, 9))))
            case 3:
                words.append(asm(guest, "csrrwi", rd=rd, csr=1, imm=rng.randrange(32)))
            case _:
                words.append(asm(guest, rng.choice(("add", "sub", "xor", "mul")), rd=rd, rs1=rs1, rs2=rs2))
    words += [asm(guest, "addi", rd=7, rs1=7, imm=-1), asm(guest, "bne", rs1=7, rs2=0, imm=-4 * (BODY + 1))]
    return [*words, asm(guest, "ebreak")]


def ends(report: Report, guest: Guest) -> None:
    """What else ends a block, one example of each."""
    add = asm(guest, "addi", rd=10, rs1=10, imm=1)
    fence, rounding = asm(guest, "fence.i", imm=0, rs1=0, rd=0), asm(guest, "csrrwi", rd=0, csr=2, imm=1)
    cases = (
        ("a branch backwards", [add, asm(guest, "bne", rs1=10, rs2=0, imm=-4), add], 0, 2, "Branch"),
        ("a branch forwards", [add, asm(guest, "bne", rs1=10, rs2=0, imm=8), add, fence], 0, 2, "Branch"),
        ("the length limit", [add] * 9, 0, 8, "Continue"),
        ("the end of a page", [add] * 9, 4096 - 12, 3, "Jump"),
        ("fence.i, which the monitor executes", [add, fence, add], 0, 1, "Callout"),
        ("an edit of the rounding mode does not end it", [add, rounding, fence], 0, 2, "Callout"),
        ("a system call", [add, asm(guest, "ecall"), add], 0, 1, "Callout"),
    )
    report.say("what ends a block, with a limit of 8")
    for what, words, offset, count, kind in cases:
        with Machine(guest, [add], True, Options(max_instructions=8), also={CODE + 4096 + offset: words}) as machine:
            block = machine.engine.translator.lifter.lift(CODE + 4096 + offset, True)
        found = len(block.guest), type(block.exit).__name__
        report.check(found == (count, kind), f"{what}: after {found[0]}, {found[1].lower()}")
