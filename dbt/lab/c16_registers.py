"""C16: in a block a guest register is loaded once and stored once, however often it is used; faults stay exact."""

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

Traffic = dict[str, tuple[Counter[int], Counter[int]]]  # exit's label -> most loads and stores of each slot on the way


def traffic(text: str, slots: int) -> Traffic:
    """How often one LLVM function loads and stores each register slot at most, on the way to each of its exits."""
    parts = re.split(r"^([\w.]+):$", text.partition("{\n")[2], flags=re.MULTILINE)
    ways: Traffic = {"entry": (Counter(), Counter())}
    exits: Traffic = {}
    pointers = re.findall(r"(%\w+) = getelementptr i8, ptr %s, i64 (\d+)", text)
    places = {name: int(offset) // 8 for name, offset in pointers if int(offset) // 8 < slots}
    for label, body in zip(parts[1::2], parts[2::2]):
        loads, stores = ways[label]  # every way into a part stands before it: a block has no loop
        loads = loads + Counter(places[name] for name in re.findall(r"= load \w+, ptr (%\w+)", body) if name in places)
        stores = stores + Counter(places[name] for name in re.findall(r"store .*, ptr (%\w+)", body) if name in places)
        leads = {name for line in body.splitlines() if "label" in line for name in re.findall(r"label %([\w.]+)", line)}
        for name in leads:
            known = ways.get(name, (Counter(), Counter()))
            ways[name] = loads | known[0], stores | known[1]
        if not leads:
            exits[label] = loads, stores
    return exits


def run(report: Report) -> None:
    guest = guests.load("riscv64")
    texts, ir = blocks()
    uses = sum(len(re.findall(r"= getreg|setreg", text)) for text in ir["ir"])
    kept = [Counter(re.findall(r"= getreg (\d+)", text)) for text in ir["opt"]]
    found = [(len(exits), label.startswith("side"), loads, stores) for exits in (traffic(t, guest.slots) for t in texts)
             for label, (loads, stores) in exits.items()]  # fmt: skip
    ordinary = [(loads, stores) for _, side, loads, stores in found if not side]
    side = [(loads, stores) for _, side, loads, stores in found if side]
    report.say(f"the blocks of the first {INSTRUCTIONS:,} instructions of @{', @'.join(PROGRAMS)}")
    report.figure("blocks", len(texts))
    report.figure("registers read and written by their instructions", uses)
    report.figure("reads left after the passes", sum(sum(counts.values()) for counts in kept))
    report.check(all(count == 1 for counts in kept for count in counts.values()),
                 "after the passes no block reads a register twice")  # fmt: skip
    report.say("and the LLVM text made of it: loads and stores of register slots on the way to each exit, at most")
    report.figure("exits, and side exits among them", f"{len(found)}, {len(side)}")
    for name, ways in (("ordinary exit", ordinary), ("side exit", side)):
        for what, counts in zip(("loads", "stores"), zip(*ways)):
            report.figure(f"most {what} of one register up to one {name}", max(map(most, counts)))
    report.check(
        all(most(loads) <= 1 for loads, _ in ordinary), "a register is loaded at most once on the way to an exit"
    )
    report.check(all(most(stores) <= 1 for _, stores in ordinary + side), "and stored at most once, at the end")
    report.check(all(most(loads) <= 2 for loads, _ in side),
                 "a side exit, which puts the state in order, may load what it will store once more")  # fmt: skip
    report.check(len(side) > 10 and len(ordinary) > 100, "there was something to count")
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
