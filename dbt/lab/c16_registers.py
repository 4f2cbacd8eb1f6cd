"""C16: a region loads and stores a guest register that it often uses once, a block any other one; faults stay exact."""

from __future__ import annotations

import re
from collections import Counter
from random import Random

import guests
from dbt.lab.report import Report
from dbt.lab.workbench import CODE, Machine, asm, go_on, run_program
from dbt.options import Options
from dbt.state import SLOTS
from guests.spec import Guest

PROGRAMS = ("strings", "sha256", "poly")
INSTRUCTIONS = 4_000  # of each, all of them translated
LENGTH = 12  # of the blocks with a fault in them
NOWHERE = 1 << 36  # no guest memory is mapped there


def traffic(text: str, slots: int) -> list[tuple[int, str, int, int]]:
    """Loads and stores of register slots in one LLVM function: (byte in the slots, where, loads, stores) for each place
    with one.

    A register with a variable has one place, all of the function, and what is neither on the way in nor on the one way
    out counts twice; one with a single has two, for its float and for what is above that. Another one has each block of
    the guest, and each way out of it.
    """
    pointers = re.findall(r"(%\w+) = getelementptr i8, ptr %s, i64 (-?\d+)", text)
    numbers = {name: int(displacement) - SLOTS for name, displacement in pointers}
    places = {name: at for name, at in numbers.items() if at < 8 * slots}
    variables = {int(slot) for slot in re.findall(r"%r(\d+) = alloca", text)}
    loads, stores = Counter[tuple[int, str]](), Counter[tuple[int, str]]()
    block = "entry"
    for part in re.split(r"^(?=[\w.]+:$)", text.partition("{\n")[2], flags=re.MULTILINE):
        label = part.partition(":")[0]
        block = label if re.fullmatch(r"b\d*|side\d+|meet\d+|leave", label) else block
        for counts, accesses in ((loads, r"= load \w+, ptr (%\w+)"), (stores, r"store .*, ptr (%\w+)")):
            for at in [places[name] for name in re.findall(accesses, part) if name in places]:
                once = block in ("entry", "leave") or at // 8 not in variables
                counts[at, "" if at // 8 in variables else block] += 1 if once else 2
    return [(*place, loads[place], stores[place]) for place in loads | stores]


def run(report: Report) -> None:
    guest = guests.load("riscv64")
    texts, ir = blocks()
    uses = sum(len(re.findall(r"= getreg|setreg", text)) for text in ir["ir"])
    kept = [Counter(re.findall(r"= getreg (\d+)", text)) for text in ir["opt"]]
    found = [place for text in texts for place in traffic(text, guest.slots)]
    report.say(f"the regions of the first {INSTRUCTIONS:,} instructions of @{', @'.join(PROGRAMS)}")
    report.figure("regions, and blocks in them", f"{len(texts)}, {len(kept)}")
    report.figure("registers read and written by their instructions", uses)
    report.figure("reads left after the passes", sum(sum(counts.values()) for counts in kept))
    report.check(all(count == 1 for counts in kept for count in counts.values()),
                 "after the passes no block reads a register twice")  # fmt: skip
    report.say("and the LLVM text made of it: where register slots of the CPU state are loaded and stored")
    for what, places in (("registers with a variable, of all regions", [place for place in found if not place[1]]),
                         ("the others, by blocks and ways out of them", [place for place in found if place[1]])):
        report.figure(what, len(places))
        report.figure("  loads, stores", f"{sum(place[2] for place in places)}, {sum(place[3] for place in places)}")
        report.check(len(places) > 100 and all(max(place[2:]) <= 1 for place in places),
                     "each is loaded once at most, and stored once at most")  # fmt: skip
    report.check(all(loads for _, block, loads, stores in found if stores and not block),
                 "of those with a variable, what is stored on the one way out was loaded on the way in")  # fmt: skip
    report.check(len(kept) > 100 and uses > sum(place[2] for place in found), "there was something to count")
    report.say(f"a load that faults at every place in a block of {LENGTH} instructions, which count up registers")
    wrong = [place for place in range(LENGTH) if not precise(guest, place)]
    report.show(f"places at which the state was not exact: {wrong or 'none'}")
    report.check(not wrong, "registers, pc and count are those after the preceding instructions, every time")


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
