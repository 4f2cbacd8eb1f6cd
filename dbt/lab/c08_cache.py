"""C08: binary translation: blocks are translated in batches, as regions, before they are executed, and kept."""

from __future__ import annotations

import guests
from dbt.lab.report import Report
from dbt.lab.workbench import CODE, Machine, asm, run_program
from dbt.options import Options
from dbt.process import Process
from dbt.regions import Request

PROGRAM = "recurse"


def run(report: Report) -> None:
    report.say(f"run @{PROGRAM}, everything translated (no cold code interpreted)")
    requests: list[tuple[int, int]] = []

    def watched(process: Process) -> None:
        translator, state = process.engine.translator, process.state
        translate = translator.translate

        def noted(request: Request, *args: object) -> object:
            requests.append((state.count, len(request.blocks)))
            return translate(request, *args)

        translator.translate = noted
        process.run()

    ran = run_program(PROGRAM, options=Options(hot=0), drive=watched)
    stats = ran.stats
    report.figure("guest instructions executed", stats["instructions"])
    report.figure("blocks executed", stats["blocks"])
    report.figure("translations made", stats["translations"])
    report.figure("blocks translated", sum(blocks for _, blocks in requests))
    report.figure("block executions a translation", round(stats["blocks"] / stats["translations"]))
    report.check(ran.status == 0, "the program ends well")
    report.check(stats["translations"] * 50 <= stats["blocks"], "at most one translation for 50 block executions")
    count, size = requests[0] if requests else (-1, 0)
    report.check(count == 0 and size > 1, f"the first {size} blocks were translated before the first instruction ran")
    together = sum(blocks for _, blocks in requests) > 2 * stats["translations"]
    report.check(together, "blocks are translated in batches, the regions")

    report.say("a function that is called twice")
    guest = guests.load("riscv64")
    words = [
        asm(guest, "addi", rd=10, rs1=0, imm=100),
        asm(guest, "addi", rd=11, rs1=0, imm=0),
        asm(guest, "add", rd=11, rs1=11, rs2=10),
        asm(guest, "addi", rd=10, rs1=10, imm=-1),
        asm(guest, "bne", rs1=10, rs2=0, imm=-8),
        asm(guest, "ebreak"),
    ]
    with Machine(guest, words, translated=True, options=Options(hot=0)) as machine:
        seen = []
        for _ in range(2):
            stats, state = machine.engine.translator.stats, machine.state
            before = stats.translations, state.blocks
            machine.call(CODE)
            seen.append((stats.translations - before[0], state.blocks - before[1], machine.get("a1")))
    for which, (made, blocks, result) in zip(("first", "second"), seen):
        report.figure(f"{which} call: translations, blocks, result", f"{made}, {blocks}, {result}")
    report.check(seen[0][0] > 0 and seen[1][0] == 0, "the second call makes no translation")
    report.check(seen[0][1:] == seen[1][1:] == (100, 5050), "both calls execute the same blocks and give the same sum")
