"""IR as text: every block of the bundled programs prints and parses back to itself; bad text is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from random import Random

import pytest
from support.riscv import scaled

from dbt.memory import EXEC
from dbt.process import Process, Settings
from guests.programs import PROGRAMS, path
from ir import passes
from ir.block import Block, Branch, Callout, Continue, Indirect, Inst, Jump
from ir.text import ParseError, parse, show
from ir.verify import verify


def lifted(name: str, limit: int) -> Iterator[Block]:
    """The blocks of a bundled program that its functions lead to, up to a limit."""
    with Process(path(name), (), Settings(env={}, seed=0)) as process:
        protection = process.space.protection
        code = [s.address for s in process.image.symbols() if s.size and (protection(s.address) or 0) & EXEC]
        Random(name).shuffle(code)
        queue, seen = [(process.pc, True), *((address, True) for address in code)], set()
        while queue and len(seen) < limit:
            key = queue.pop()
            if key in seen:
                continue
            seen.add(key)
            block = process.engine.translator.lifter.lift(*key)
            yield block
            match block.exit:
                case Jump(target):
                    queue += [(block.end, True), (target, True)]
                case Branch(_, target, otherwise):
                    queue += [(target, True), (otherwise, True)]
                case Indirect():
                    queue.append((block.end, True))
                case Continue(target):
                    queue.append((target, False))
                case Callout(pc):
                    queue.append((pc + process.guest.syscall_length, True))


def shape(block: Block) -> list[object]:
    """Everything a block says, with values by number."""
    numbers: dict[Inst, int] = {inst: i for i, inst in enumerate(block.insts)}

    def operand(value: object) -> object:
        return ("value", numbers[value]) if isinstance(value, Inst) else (type(value).__name__, value)

    insts = [(i.op.name, [operand(a) for a in i.args], [(type(a), a) for a in i.attrs], i.at) for i in block.insts]
    exit = (type(block.exit), [operand(v) for v in block.exit or ()])
    return [block.pc, block.boundary, block.guest, insts, exit]


def test_blocks_of_all_programs_survive_the_round_trip() -> None:
    blocks = 0
    ops: Counter[str] = Counter()
    exits: Counter[str] = Counter()
    for name in PROGRAMS:
        for block in lifted(name, scaled(120)):
            for version in (block, passes.optimise(block)):
                text = show(version)
                again = verify(parse(text))
                assert show(again) == text
                assert shape(again) == shape(version), text
            blocks += 1
            ops.update(i.op.name for i in block.insts)
            exits[type(block.exit).__name__] += 1
    print(f"\nround trip: {blocks} blocks, {len(ops)} ops, exits {dict(exits)}")
    assert len(ops) > 25 and {"Branch", "Jump", "Indirect"} <= set(exits)


HEAD = "block 0x1000\n  guest 0x1000 4 ident addi a0, a0, 1\n"
WHOLE = HEAD + """  at 0
  %0 = getreg 10
  %1 = add %0, 0xffffffffffffffff
  %2 = eq %1, 0
  leave_if %2, trap
  store %0, %1, 0x10, 8
  setreg %1, 10
  branch %2, 0x1000, 0x1004"""


def test_whole_example() -> None:
    block = verify(parse(WHOLE))
    assert isinstance(block.exit, Branch) and block.exit.target == 0x1000 and block.exit.otherwise == 0x1004
    assert [i.op.name for i in block.insts] == ["getreg", "add", "eq", "leave_if", "store", "setreg"]
    assert block.insts[1].args[1] == (1 << 64) - 1
    assert block.insts[3].attrs == ("trap",)
    assert block.guest[0].text == "addi a0, a0, 1"


ENDS = ("jump 0x2000", "callout 0x1004", "continue 0x1004", "indirect 0x40", "branch true, 0x0, 0x4")


@pytest.mark.parametrize("end", ENDS)
def test_exits(end: str) -> None:
    text = f"{HEAD}  {end}"
    block = parse(text)
    assert show(block) == text
    kinds = {"jump": Jump, "callout": Callout, "continue": Continue, "indirect": Indirect, "branch": Branch}
    assert type(block.exit) is kinds[end.split()[0]]


def test_not_at_a_boundary() -> None:
    text = "block 0x1000 inside\n  callout 0x1000"
    assert parse(text).boundary is False and show(parse(text)) == text


def test_no_exit_parses_and_does_not_verify() -> None:
    """A file test may hold a piece; the verifier is who insists."""
    assert parse(HEAD).exit is None


REFUSED = {
    "": "no block",
    "  jump 0x10": "line 1: 'jump 0x10': no block line",
    "blob 0x1000": "line 1: 'blob 0x1000'",
    "block zero": "line 1",
    HEAD + "  %0 = fly 1": "line 3: '%0 = fly 1': 'fly'",
    HEAD + "  %0 = add %1, 1": "line 3: '%0 = add %1, 1': '%1'",
    HEAD + "  %0 = add 1": "line 3: .*add takes 2 arguments and 0 attributes",
    HEAD + "  %0 = add 1, 2, 3": "line 3: .*add takes 2 arguments and 0 attributes",
    HEAD + "  %0 = add one, 2": "line 3",
    HEAD + "  %0 = sext 1": "line 3: .*sext takes 1 arguments and 1 attributes",
    HEAD + "  jump": "line 3: 'jump'",
    HEAD + "  branch true, 0x0": "line 3",
    HEAD + "  at here": "line 3: 'at here'",
    "block 0x1000\n  guest 0x1000 4 ident": "line 2",
}


@pytest.mark.parametrize("text", REFUSED, ids=[repr(t.removeprefix(HEAD)) for t in REFUSED])
def test_refused(text: str) -> None:
    with pytest.raises(ParseError, match=REFUSED[text]):
        parse(text)
