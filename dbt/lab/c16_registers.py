"""C16: a region loads a guest register once and stores it once, however often it is used; faults stay exact."""

from __future__ import annotations

import re
from collections import Counter
from random import Random

import guests
from dbt.lab.report import Report
from dbt.lab.workbench import CODE, Machine, asm, go_on, run_program
from dbt.options import Options
from guests.spec import Guest

PROGRAMS = ("strings", "sha256", "poly")
INSTRUCTIONS = 4_000  # of each, all of them translated
LENGTH = 12  # of the blocks with a fault in them
NOWHERE = 1 << 36  # no guest memory is mapped there


def traffic(text: str, slots: int) -> tuple[Counter[int], Counter[int]]:
    """How often one LLVM function loads and stores each register slot, in all its text: each run does no more, unless
    it is in a loop, and what is in one is counted as often as it may be."""
    pointers = re.findall(r"(%\w+) = getelementptr i8, ptr %s, i64 (\d+)", text)
    places = {name: int(offset) // 8 for name, offset in pointers if int(offset) // 8 < slots}
    loads, stores = Counter[int](), Counter[int]()
    for number, part in enumerate(re.split(r"^[\w.]+:$", text.partition("{\n")[2], flags=re.MULTILINE)):
        looped = 1 if number <= 1 or "ret void" in part else 2  # the way in and the way out are taken once
        loads.update([places[n] for n in re.findall(r"= load \w+, ptr (%\w+)", part) if n in places] * looped)
        stores.update([places[n] for n in re.findall(r"store .*, ptr (%\w+)", part) if n in places] * looped)
    return loads, stores


def run(report: Report) -> None:
    guest = guests.load("riscv64")
    texts, ir = blocks()
    uses = sum(len(re.findall(r"= getreg|setreg", text)) for text in ir["ir"])
    kept = [Counter(re.findall(r"= getreg (\d+)", text)) for text in ir["opt"]]
    found = [traffic(text, guest.slots) for text in texts]
    report.say(f"the regions of the first {INSTRUCTIONS:,} instructions of @{', @'.join(PROGRAMS)}")
    report.figure("regions, and blocks in them", f"{len(texts)}, {len(kept)}")
    report.figure("registers read and written by their instructions", uses)
    report.figure("reads left after the passes", sum(sum(counts.values()) for counts in kept))
    report.check(all(count == 1 for counts in kept for count in counts.values()),
                 "after the passes no block reads a register twice")  # fmt: skip
    report.say("and the LLVM text made of it: where register slots of the CPU state are loaded and stored")
    for what, counts in zip(("loads", "stores"), zip(*found)):
        report.figure(what, sum(map(Counter.total, counts)))
        report.figure(f"most {what} of one register in a region", max(map(most, counts)))
    report.check(all(most(loads) <= 1 for loads, _ in found), "a register is loaded once, on the way in")
    report.check(all(most(stores) <= 1 for _, stores in found), "and stored once, on the one way out")
    report.check(all(not stores.keys() - loads.keys() for loads, stores in found), "what is stored was loaded")
    report.check(len(kept) > 100 and uses > 10 * sum(loads.total() for loads, _ in found) // 4,
                 "there was something to count")  # fmt: skip
    report.say(f"a load that faults at every place in a block of {LENGTH} instructions, which count up registers")
    wrong = [place for place in range(LENGTH) if not precise(guest, place)]
    report.show(f"places at which the state was not exact: {wrong or 'none'}")
    report.check(not wrong, "registers, pc and count are those after the preceding instructions, every time")


def most(counts: Counter[int]) -> int:
    return max(counts.values(), default=0)


def blocks() -> tuple[list[str], dict[str, list[str]]]:
    """The LLVM text, and the IR before and after the passes, of every block of the programs' beginnings."""
    stages: dict[str, list[str]] = {"ir": [], "opt": [], "llvm": []}

    def write(text: str) -> None:
        stages[text.split()[1]].append(text.partition("\n")[2])

    options = Options(hot=0, dump=frozenset(stages), write=write)
    for name in PROGRAMS:
        run_program(name, options=options, drive=lambda process: go_on(process, INSTRUCTIONS))
    return stages.pop("llvm"), stages


def precise(guest: Guest, place: int) -> bool:
    """Whether both engines have the exact state when the instruction at `place` of a block faults."""
    rng = Random(place)
    registers = [rng.randrange(8, 20) for _ in range(LENGTH)]  # some more often than others
    words = [asm(guest, "addi", rd=r, rs1=r, imm=r) for r in registers]
    words[place] = asm(guest, "ld", rd=registers[place], rs1=5, imm=0)
    expected = {r: r * 1000 + r * registers[:place].count(r) for r in range(8, 20)}
    for translated in (False, True):
        with Machine(guest, [*words, asm(guest, "ebreak")], translated, Options(hot=0)) as machine:
            machine.set(t0=NOWHERE, **{f"x{r}": 1000 * r for r in range(8, 20)})
            stop = machine.call()
            state = machine.state
            if (stop.value, state.count, state.pc - CODE) != (NOWHERE, place, 4 * place):
                return False
            if any(machine.get(f"x{r}") != value for r, value in expected.items()):
                return False
    return True
