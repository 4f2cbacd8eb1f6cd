"""C19: self-modifying code: wrong where nobody looks, right at the guest's fence, or right at once."""

from __future__ import annotations

import re

from dbt.lab.report import Report
from dbt.lab.workbench import Ran, run_program
from dbt.options import Options

PROGRAM = "smc"
OLD, NEW = 1, 2
WHERE = ("without a fence", "with a fence", "in its own block")
EXPECTED = {
    "off": (OLD, OLD, OLD),
    "fencei": (OLD, NEW, OLD),
    "detect": (NEW, NEW, NEW),
}
PROMISED = {"off": (), "fencei": ("with a fence",), "detect": WHERE}  # where a mode is right


def printed(*runs: Ran) -> dict[str, int]:
    """What the program said that changed code returned."""
    said = "".join(ran.stdout for ran in runs)
    return {where: int(value) for where, value in re.findall(r"^smc (.*): (\d)$", said, re.MULTILINE)}


def both(engine: str = "translated", options: Options | None = None) -> tuple[Ran, Ran]:
    """The program's two parts: code that other code changes, and a block that changes itself."""
    return (run_program(PROGRAM, engine=engine, options=options),
            run_program(PROGRAM, "itself", engine=engine, options=options))  # fmt: skip


def run(report: Report) -> None:
    report.say(f"@{PROGRAM} calls routines that return {OLD}, writes {NEW} into their code, and calls them again")
    right = printed(*both("reference"))
    report.show(f"{'':12}" + "".join(f"{where:>18}" for where in WHERE) + f"{'invalidations':>16}")
    report.show(f"{'interpreter':12}" + "".join(f"{right.get(where):18}" for where in WHERE))
    report.check(right == dict.fromkeys(WHERE, NEW), "the interpreter sees every change at once")
    for mode, expected in EXPECTED.items():
        runs = both(options=Options(smc=mode, tiers=(1,), region=0))
        found = printed(*runs)
        dropped = sum(ran.stats["invalidations"] for ran in runs)
        report.show(f"--smc={mode:6}" + "".join(f"{found.get(where):18}" for where in WHERE) + f"{dropped:16}")
        said = f"--smc={mode} prints {', '.join(f'{value} {where}' for where, value in zip(WHERE, expected))}"
        report.check(found == dict(zip(WHERE, expected)), said)
        agrees = tuple(where for where in WHERE if found.get(where) == right.get(where))
        report.check(agrees == PROMISED[mode], f"the interpreter agrees {', '.join(agrees) or 'nowhere'}")
        report.check((dropped > 0) == (mode != "off"), f"{dropped} translations were dropped for that")
    report.say("so the claim is true of a cache that does not look, and not of binary translation: the cost is one")
    report.say("protected page, and one translation for each change that is seen")
