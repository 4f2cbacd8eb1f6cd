"""The ways between tier 0, regions and the run loop, in native code; and the module of all that is native here.

    missing, at_head, leave_here   where code of tier 0 goes for a block that is not there, at the begin of one that is
                                   late or hot, and to return to the run loop
    dispatch, resume, on           the ways in: at the guest's pc, at the host code whose address is in EXIT, at a guest
                                   address from code that carries other registers
    through                        where regions leave: what leads to a boundary goes on in tier 0
    to_tail, to_tail_again         in a machine, on at an instruction that lies in two pages

In a machine a trap is taken on the way out, if it is no affair of the monitor's (`dbt.tier0.reach`).
Owns: these ways. Must not know: how code is copied, what a trap does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from dbt.state import (
    BUDGET,
    BUDGET_SHIFT,
    CHANGED,
    CODE,
    CODE_SIZE,
    CROSS,
    EXIT,
    EXITS,
    GO_ON,
    HIGHEST,
    LEADS,
    NOT_MADE,
    PC,
    RAISED,
)
from dbt.tier0 import copier, reach
from dbt.tier0.copier import ADDRESSES, PAGE
from guests.spec import Guest
from ir.llvm.lines import Lines
from ir.llvm.stencil import PARAMETERS, entry_of
from ir.llvm.target import CALLOUT, HOT, LATE, MISS, SIDE, SIDE_REASONS, Target

FIRST = "ptr %m, ptr %s, i64 %t, i64 %via"
ENTERED = FIRST + ", i64 %first"  # parameters of what is entered with a guest register where the limit is carried


def text(target: Target, guest: Guest) -> str:
    """The module of all that is native here and is no stencil."""
    machine = []
    causes = guest.illegal_cause, guest.privileged.refused_cause if guest.privileged is not None else 0
    ways: list[Callable[[Target], str]] = [
        _missing, _head, partial(_leave, causes), _dispatch, _resume, partial(_through, causes),
    ]  # fmt: skip
    if guest.privileged is not None:
        ways += [_on, _crossing("tail"), _crossing("tail_again")]
        entries = [target.host.native_entry.format(name=name, function=function).splitlines()
                   for name, function in (("found", "reach"), ("moved", "remap"))]  # fmt: skip
        machine = [*(f'module asm "{line}"' for lines in entries for line in lines),
                   *reach.functions(guest.privileged, guest.link, target.log is not None)]  # fmt: skip
    return "\n".join([
        f'target triple = "{target.host.triple}"', copier.translate(target), *machine,
        *(make(target) for make in ways),
        'attributes #1 = { nounwind noimplicitfloat "no-jump-tables"="true" }', "",
    ])  # fmt: skip


class _Lines(Lines):
    """What the functions here are made of."""

    def __init__(self, target: Target) -> None:
        super().__init__()
        self.target = target

    def load(self, field: int, kind: str = "i64") -> str:
        return self.let(f"load {kind}, ptr {self.let(f'getelementptr i8, ptr %s, i64 {8 * field}')}")

    def store(self, value: str, field: int) -> None:
        self.put(f"store i64 {value}, ptr {self.let(f'getelementptr i8, ptr %s, i64 {8 * field}')}")

    def look(self, pc: str, beyond: str) -> None:
        """Go on at `look` if the directory has a place for a guest address, else at `beyond`."""
        if self.target.translations is None:
            self.put(f"%beyond = icmp ugt i64 {pc}, {ADDRESSES}")
            self.put(f"br i1 %beyond, label %{beyond}, label %look")
        else:
            self.put("br label %look")
        self.lines.append("look:")

    def begin(self) -> None:
        """Code that comes from elsewhere does not carry the limit."""
        self.put(f"%limit = load i64, ptr {self.let(f'getelementptr i8, ptr %s, i64 {8 * HIGHEST}')}")

    def remap(self) -> None:
        """A region may have changed what addresses mean: all of its registers are in their slots now."""
        self.put(f"%changed = icmp ne i64 {self.load(CHANGED)}, 0")
        self.put("br i1 %changed, label %remap, label %same")
        self.lines.append("remap:")
        self.store("0", CHANGED)
        self.put(f"call preserve_mostcc i64 @remap(i64 {self.let('ptrtoint ptr %s to i64')})")
        self.put("br label %same")
        self.lines.append("same:")

    def take(self, code: str, causes: tuple[int, int], pc: str = "", more: str = "") -> None:
        """If the instruction at `pc`, or where the state says, is left because of its trap, go on in the handler.

        `code` says why it is left, and `causes` which trap each of the two reasons is for which it is illegal.
        """
        pc = pc or self.load(PC)
        reasons = [SIDE | SIDE_REASONS.index(reason) << 3 for reason in ("illegal", "refused")]
        one, other = (self.let(f"icmp eq i64 {code}, {reason}") for reason in reasons)
        self.put(f"br i1 {self.let(f'or i1 {one}, {other}')}, label %refuse, label %look_again")
        self.lines.append("refuse:")
        cause = self.let(f"select i1 {one}, i64 {causes[0]}, i64 {causes[1]}")
        self.let(f"call i64 @refuse(i64 {self.let('ptrtoint ptr %s to i64')}, i64 {pc}, i64 {cause})")
        self.put("br label %look_again")
        self.lines.append("look_again:")
        self.put(f"%raised = icmp ne i64 {self.load(RAISED)}, 0")
        self.put("br i1 %raised, label %take, label %told")
        self.lines.append("take:")
        at = self.let("ptrtoint ptr %s to i64")
        handler = self.let(f"call i64 @take(i64 {at}, i64 {pc}, i64 %t)")
        self.put(f"%taken = icmp ne i64 {handler}, 0")
        self.put("br i1 %taken, label %enter, label %told")
        self.lines.append("enter:")
        on = self.load(GO_ON, "ptr")
        self.put(f"musttail call preserve_nonecc void {on}(ptr %m, ptr %s, i64 %t, i64 {handler}, i64 poison{more})")
        self.put("ret void")
        self.lines.append("told:")

    def cross(self, more: str) -> None:
        """A region is left for an instruction that lies in two pages: it may be copied."""
        pc = self.load(PC)
        last = self.let(f"icmp eq i64 {self.let(f'and i64 {pc}, {PAGE - 1}')}, {PAGE - 2}")
        callout = self.let(f"icmp eq i64 %via, {CALLOUT}")
        self.put(f"br i1 {self.let(f'and i1 {last}, {callout}')}, label %cross, label %leave")
        self.lines.append("cross:")
        cross = self.load(CROSS, "ptr")
        self.put(f"musttail call preserve_nonecc void {cross}(ptr %m, ptr %s, i64 %t, i64 {pc}, i64 poison{more})")
        self.put("ret void")
        self.lines.append("leave:")

    def go(self, to: str, via: str, more: str = "") -> None:
        self.put(f"musttail call preserve_nonecc void {to}(ptr %m, ptr %s, i64 %t, i64 {via}, i64 %limit{more})")
        self.put("ret void")

    def leave(self, pc: str, code: int) -> None:
        self.store(pc, PC)
        self.store("%t", BUDGET)
        self.store(str(code), EXIT)
        self.put("ret void")


def _function(name: str, lines: _Lines, parameters: str = PARAMETERS) -> str:
    body = "\n".join(lines.lines)
    return f"define preserve_nonecc void @{name}({parameters}) #1 {{\nentry:\n{body}\n}}"


def _missing(target: Target) -> str:
    """What is missing at %via is made, unless it is not to be."""
    t = _Lines(target)
    t.look("%via", "out")
    entry = entry_of(t, "%via", target)
    missing = t.load(NOT_MADE, "ptr")
    t.put(f"%there = icmp ne ptr {entry}, {missing}")
    t.put("br i1 %there, label %known, label %make")
    t.lines.append("known:")
    t.go(entry, "%via")
    t.lines.append("make:")
    t.put("%state = ptrtoint ptr %s to i64")
    if target.translations is not None:  # the page may be one whose code is known, or can be
        t.put("%host = call preserve_mostcc i64 @reach(i64 %state, i64 %via, i64 2, i64 2)")
        t.store("0", RAISED)  # what it would raise is the monitor's
        entry = entry_of(t, "%via", target)
        t.put(f"%found = icmp ne ptr {entry}, {missing}")
        t.put("br i1 %found, label %reached, label %copy")
        t.lines.append("reached:")
        t.go(entry, "%via")
        t.lines.append("copy:")
    t.put("%made = call i64 @translate(i64 %state, i64 %via, i64 0)")
    t.put("%none = icmp eq i64 %made, 0")
    t.put("br i1 %none, label %out, label %on")
    t.lines.append("on:")
    t.put("%code = inttoptr i64 %made to ptr")
    t.go("%code", "%via")
    t.lines.append("out:")
    t.leave("%via", MISS)
    return _function("missing", t)


def _head(target: Target) -> str:
    """At a head: %via is the block's address. It is late, or hot; what is hot may be translated already."""
    t = _Lines(target)
    t.put(f"%late = icmp slt i64 %t, {1 << BUDGET_SHIFT}")
    t.put("br i1 %late, label %out, label %look")
    t.lines.append("look:")
    entry = entry_of(t, "%via", target)
    address = t.let(f"ptrtoint ptr {entry} to i64")
    offset = t.let(f"sub i64 {address}, {t.load(CODE)}")
    here = t.let(f"icmp ult i64 {offset}, {t.load(CODE_SIZE)}")
    ours = t.let(f"icmp eq ptr {entry}, {t.load(NOT_MADE, 'ptr')}")
    either = t.let(f"or i1 {here}, {ours}")
    t.put(f"br i1 {either}, label %hot, label %go")
    t.lines.append("go:")
    t.go(entry, "%via")
    t.lines.append("hot:")
    t.leave("%via", HOT)
    t.lines.append("out:")
    t.leave("%via", LATE)
    return _function("at_head", t)


def _leave(causes: tuple[int, int], target: Target) -> str:
    """%via is the guest's address, %limit the code of the way out."""
    t = _Lines(target)
    if target.translations is not None:
        t.take("%limit", causes, "%via")
    t.store("%via", PC)
    t.store("%t", BUDGET)
    t.store("%limit", EXIT)
    t.put("ret void")
    return _function("leave_here", t)


def _dispatch(target: Target) -> str:
    t = _Lines(target)
    t.begin()
    pc = t.load(PC)
    t.look(pc, "out")
    t.go(entry_of(t, pc, target), pc)
    t.lines.append("out:")
    t.leave(pc, MISS)
    return _function("dispatch", t, ENTERED)


def _crossing(name: str) -> Callable[[Target], str]:
    def make(target: Target) -> str:
        """On at the instruction at %via, which lies in two pages: its copy is what the function of that name gives."""
        t = _Lines(target)
        made = t.let(f"call i64 @{name}(i64 {t.let('ptrtoint ptr %s to i64')}, i64 %via)")
        t.put(f"%none = icmp eq i64 {made}, 0")
        t.put("br i1 %none, label %out, label %on")
        t.lines.append("on:")
        t.begin()
        t.go(t.let(f"inttoptr i64 {made} to ptr"), "%via")
        t.lines.append("out:")
        t.leave("%via", CALLOUT)
        return _function(f"to_{name}", t, ENTERED)

    return make


def _on(target: Target) -> str:
    """On at the guest address %via, from code that does not carry what tier 0 carries."""
    t = _Lines(target)
    t.begin()
    t.look("%via", "out")
    t.go(entry_of(t, "%via", target), "%via")
    t.lines.append("out:")
    t.leave("%via", MISS)
    return _function("on", t, ENTERED)


def _resume(target: Target) -> str:
    t = _Lines(target)
    t.begin()
    t.go(t.load(EXIT, "ptr"), "0")
    return _function("resume", t, ENTERED)


def _through(causes: tuple[int, int], target: Target) -> str:
    """As `leave` of translations, but what leads to a boundary goes on in tier 0: the registers go to their slots."""
    t = _Lines(target)
    pinned = [f"%p{i}" for i in range(len(target.pinned))]
    for slot, name in zip(target.pinned, pinned):
        t.put(f"store i64 {name}, ptr {t.let(f'getelementptr i8, ptr %s, i64 {target.slot(slot)}')}")
    if target.translations is not None:
        t.remap()
    t.begin()
    t.put(f"%exit = icmp uge i64 %via, {EXITS}")
    t.put("br i1 %exit, label %slot, label %other")
    t.lines.append("slot:")
    place = t.let("getelementptr i8, ptr %s, i64 %via")
    lead = t.let(f"load i64, ptr {t.let(f'getelementptr i8, ptr {place}, i64 {LEADS - EXITS}')}")
    t.put(f"%odd = trunc i64 {lead} to i1")
    t.put("br i1 %odd, label %out, label %on")
    t.lines.append("other:")
    pc = t.load(PC)
    t.put(f"%miss = icmp eq i64 %via, {MISS}")
    t.put("br i1 %miss, label %on, label %out")
    t.lines.append("on:")
    t.put(f"%to = phi i64 [{lead}, %slot], [{pc}, %other]")
    t.look("%to", "far")
    t.go(entry_of(t, "%to", target), "%to", ", i64 poison" * len(pinned[1:]))
    t.lines.append("far:")
    t.leave("%to", MISS)
    t.lines.append("out:")
    more = ", i64 poison" * len(pinned[1:])
    if target.translations is not None:
        t.take("%via", causes, more=more)
        t.cross(more)
    t.store("%t", BUDGET)
    t.store("%via", EXIT)
    t.put("ret void")
    return _function("through", t, FIRST + "".join(f", i64 {p}" for p in pinned or ["%first"]))
