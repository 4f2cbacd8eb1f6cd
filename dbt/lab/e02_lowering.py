"""E02: every row lowers to IR that verifies and to LLVM IR that LLVM verifies; one golden text for each class."""

from __future__ import annotations

from collections import Counter
from random import Random

import guests
from dbt.lab.report import Report
from dbt.lab.workbench import CODE, Machine, asm, run_program
from dbt.options import Options
from guests.decode import PatternError, encode, extract, layout
from guests.spec import Guest, Row, Treat
from ir import llvm, passes
from ir.block import Callout
from ir.region import Region
from ir.text import show
from ir.verify import verify

GOLDEN = {
    "ident": """block 0x10000
  guest 0x10000 4 ident add s2, s3, s4
  at 0
  %0 = getreg 19
  %1 = getreg 20
  %2 = add %0, %1
  setreg %2, 18
  callout 0x10004""",
    "inline": """block 0x10000
  guest 0x10000 4 inline csrrs a0, frm, zero
  at 0
  %0 = getreg 66
  setreg %0, 10
  callout 0x10004""",
    "callout": """block 0x10000
  callout 0x10000""",
}


def golden_words(guest: Guest) -> dict[str, list[int]]:
    """One instruction of each class, and an ecall so that the block ends there."""
    ecall = asm(guest, "ecall")
    return {
        "ident": [asm(guest, "add", rd=18, rs1=19, rs2=20), ecall],
        "inline": [asm(guest, "csrrs", rd=10, csr=2), ecall],
        "callout": [ecall],
    }


def example(guest: Guest, row: Row, rng: Random) -> int | None:
    """A random word that decodes to this row."""
    shape = layout(row.pattern)
    csrs = (1, 2, 3, 0xC00, 0xC02)
    for _ in range(200):
        noise = rng.getrandbits(32)
        fields = {f.name: rng.choice(csrs) if f.name == "csr" else extract(f, noise) for f in shape.fields}
        try:
            word = encode(row, **fields)
        except PatternError:
            continue
        decoded = guest.decode(word)
        if decoded is not None and decoded.row is row:
            return word
    return None


def run(report: Report) -> None:
    guest, rng = guests.load("riscv64"), Random(2)
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    with Machine(guest, [asm(guest, "ecall")] * 2, translated=True) as machine:
        translator, space = machine.engine.translator, machine.space
        functions = []
        for number, row in enumerate(guest.rows):
            word = example(guest, row, rng)
            if word is None:
                wrong.append(f"{row.name}: no word of it was found")
                continue
            space.poke(CODE, word.to_bytes(4 if word & 3 == 3 else 2, "little"))
            try:
                lifted = translator.lifter.lift(CODE, True)
                optimised = verify(passes.optimise(verify(lifted)))
                functions.append(llvm.lower(Region([optimised]), f"row{number}", translator.backend.target))
            except Exception as error:  # whatever a row does wrong is a finding
                wrong.append(f"{row.name}: {type(error).__name__}: {error}")
                continue
            called = isinstance(lifted.exit, Callout) and not lifted.guest
            counts["left to the monitor" if called else "lowered"] += 1
            decoded = guest.decode(word)
            if decoded is not None and decoded.treat is Treat.CALLOUT and not called:
                wrong.append(f"{row.name}: of class callout, but lowered")
        report.say("one random word of every row: lift, verify, passes, verify, lower, LLVM's verifier")
        report.figure("rows", len(guest.rows))
        for name, count in counts.items():
            report.figure(name, count)
        report.show("\n".join(wrong[:10]))
        report.check(not wrong, "every block verifies")
        try:
            code = translator.backend.compiler.compile(llvm.module(functions, translator.backend.target), check=True)
            done = len(code.functions)
            report.check(done == len(functions), f"LLVM verifies and compiles all {len(functions)} functions")
        except RuntimeError as error:
            report.check(False, f"LLVM verifies all functions: {error}")
    report.say("the IR of one block of each class, against the text written down here")
    for name, code_words in golden_words(guest).items():
        with Machine(guest, code_words, translated=True) as machine:
            text = show(passes.optimise(machine.engine.translator.lifter.lift(CODE, True)))
        report.show(text)
        report.check(text == GOLDEN[name], f"the {name} block is as written down")
    report.say("all blocks that @hello reaches, with LLVM's verifier on")
    for what, region in (("blocks", 0), ("regions", 500)):
        options = Options(hot=0, region=region, dump=frozenset({"decode"}), write=lambda line: None)
        ran = run_program("hello", options=options)
        report.figure(what, ran.stats["translations"])
        good = ran.status == 0 and ran.stats["translations"] > (0 if region else 10)
        report.check(good, f"all {what} verify, and the program ends well")
