"""C12: ident, inline, callout: each instruction carries its class, and ident code calls nobody."""

from __future__ import annotations

import re

import guests
from dbt.lab.report import Report
from dbt.lab.workbench import DATA, Machine, asm, run_program
from dbt.options import Options

EXPECTED = {"add s2, s3, s4": "ident", "ld a0, 8(a1)": "ident", "sd a0, 0(a1)": "ident",
            "csrrsi zero, fflags, 1": "inline", "ecall": "callout"}  # fmt: skip


def run(report: Report) -> None:
    guest = guests.load("riscv64")
    words = [
        asm(guest, "add", rd=18, rs1=19, rs2=20),
        asm(guest, "ld", rd=10, rs1=11, imm=8),
        asm(guest, "sd", rs2=10, rs1=11, imm=0),
        asm(guest, "csrrsi", rd=0, csr=1, imm=1),
        asm(guest, "ecall"),
    ]
    lines: list[str] = []
    options = Options(hot=0, dump=frozenset({"decode", "opt", "llvm"}), write=lines.append)
    with Machine(guest, words, translated=True, options=options) as machine:
        machine.set(a1=DATA, s3=40, s4=2)
        machine.call()
        result = machine.get("s2")
    dump = "\n".join(lines)
    decode, opt, llvm = (section(dump, stage) for stage in ("decode", "opt", "llvm"))
    report.say("one block as `--dump=decode` shows it: every guest instruction with its class")
    report.show(decode)
    line = re.compile(r"^ *[0-9a-f]+ +[0-9a-f]+ +(ident|inline|callout) +(.*)$", re.MULTILINE)
    classes = {m[2].strip(): m[1] for m in line.finditer(decode)}
    classes |= {"ecall": "callout"} if "callout: the monitor executes" in decode else {}
    report.check(classes == EXPECTED, "the classes are those of the manual's instructions")

    report.say("IR of `add s2, s3, s4`, and the LLVM instructions made of it")
    ir = opt.partition("at 0\n")[2].partition("  at 1")[0]
    report.show(ir)
    host = [line.strip() for line in llvm.partition("\nb0:\n")[2].splitlines()]
    done = next((i + 1 for i, line in enumerate(host) if "= add i64" in line), len(host))  # then come the others
    computed = [line for line in host[:done] if re.search(r"= (load i64, ptr %r\d+|add )", line)]
    stored = [line for line in host if line.startswith("store i64") and line.split()[2].rstrip(",") in
              {line.split()[0] for line in computed if "= add " in line}]  # fmt: skip
    report.show("\n".join([*computed, *stored]))
    ops = [line.split("= ")[-1].split()[0] for line in ir.splitlines() if line.strip()]
    report.check(ops == ["getreg", "getreg", "add", "setreg"], "two registers read, one addition, one register written")
    kinds = [line.split("= ")[1].split()[0] for line in computed] + ["store"] * bool(stored)
    report.check(kinds == ["load", "load", "add", "store"], "in LLVM's text: load, load, add, store")
    calls = [line for line in host if re.search(r"\bcall\b", line) and "musttail call preserve_nonecc" not in line
             and "ldmxcsr" not in line and "stmxcsr" not in line]  # fmt: skip
    report.check(not calls, "the block calls nothing; only its ends jump on")
    report.check(result == 42, "and it adds: 40 + 2 = 42")

    report.say("how a whole program divides")
    ran = run_program("strings")
    total = ran.stats["instructions"]
    for name in ("ident", "inline", "callout"):
        report.figure(name, f"{ran.stats[name]:>12,}  {100 * ran.stats[name] / total:6.2f} %")
    report.figure("system calls (traps, which retire nothing)", ran.stats["syscalls"])
    parts = sum(ran.stats[name] for name in ("ident", "inline", "callout"))
    report.check(parts == total + ran.stats["syscalls"], "every instruction executed is in one class")
    report.check(ran.stats["ident"] >= 0.95 * total, "at least 95 % are ident")


def section(dump: str, stage: str) -> str:
    """What the dump says of one stage of its first block."""
    return dump.partition(f"--- {stage} ")[2].partition("\n")[2].partition("\n--- ")[0]
