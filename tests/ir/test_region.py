"""Regions on hand-made blocks: where they lead, which edges close a cycle, and what budget each block needs."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest
from support.riscv import scaled

from ir.block import Block, Branch, Callout, Continue, Exit, GuestInsn, Indirect, Jump
from ir.builder import Builder
from ir.region import MOST_GATES, MOST_WAYS, Region, link_of
from ir.verify import verify

LINK, OTHER = 1, 7  # slots


def block(pc: int, count: int, exit: Exit | None, boundary: bool = True, link: int | None = None) -> Block:
    """A block of `count` instructions of four bytes; `link` is the slot into which the last puts the address behind.

    Without an exit it jumps through the register LINK.
    """
    b = Builder(pc, boundary)
    for i in range(count):
        b.begin(GuestInsn(pc + 4 * i, 4, "made up", "ident"))
    through = b.emit("getreg", (), (LINK,)) if exit is None else None
    if link is not None:
        b.emit("setreg", (pc + 4 * count,), (link,))
    return verify(b.finish(Indirect(through) if through is not None else exit))  # type: ignore[arg-type]


def branch(pc: int, count: int, taken: int, otherwise: int | None = None) -> Block:
    b = Builder(pc)
    for i in range(count):
        b.begin(GuestInsn(pc + 4 * i, 4, "made up", "ident"))
    test = b.emit("eq", (b.emit("getreg", (), (OTHER,)), 0), ())
    return verify(b.finish(Branch(test, taken, pc + 4 * count if otherwise is None else otherwise)))


# --- where blocks lead ------------------------------------------------------------------------------------------------


def test_edges_are_what_exits_say_and_only_inside() -> None:
    region = Region([
        branch(0x100, 3, 0x200), block(0x10C, 1, Jump(0x900)), block(0x200, 2, Callout(0x208)),
        block(0x300, 1, Continue(0x200)), block(0x400, 1, Continue(0x900)),
    ])  # fmt: skip
    assert region.edges == {0x100: [0x200, 0x10C], 0x10C: [], 0x200: [], 0x300: [0x200], 0x400: []}
    assert (region.pc, region.boundary, region.instructions) == (0x100, True, 8)


def test_an_indirect_jump_to_a_known_address_is_a_jump() -> None:
    assert Region([block(0x100, 1, Indirect(0x200)), block(0x200, 1, Jump(0x0))]).edges[0x100] == [0x200]


def test_unlinked_blocks_lead_nowhere() -> None:
    region = Region([branch(0x100, 3, 0x100), block(0x10C, 1, Jump(0x100))], linked=False)
    assert region.edges == {0x100: [], 0x10C: []}
    assert not region.back and region.reach[0x100] == 1
    assert [b.pc for b in region.reachable().blocks] == [0x100]


def test_what_is_entered_inside_a_block_is_led_to_by_nobody() -> None:
    """The address is that of a boundary elsewhere, but this entry is none."""
    region = Region([block(0x100, 2, Jump(0x100), boundary=False)])
    assert not region.boundary and region.by_pc == {} and region.edges == {0x100: []} and region.reach == {0x100: 1}


def test_gates_are_loops_functions_and_what_is_behind_calls_the_most_executed_first() -> None:
    blocks = [
        branch(0x100, 2, 0x300), block(0x108, 1, Jump(0x200), link=LINK), block(0x10C, 1, Jump(0x100)),
        block(0x200, 3, None), block(0x300, 2, Jump(0x100)), branch(0x200 + 12, 1, 0x20C, 0x100),
    ]  # fmt: skip
    region = Region(blocks, {0x100: 9, 0x108: 9, 0x10C: 2, 0x200: 7, 0x300: 9, 0x20C: 8})
    assert region.gates == [0x200, 0x10C], "a loop that nothing leads to is no part of the search"
    ways = Region(blocks, region.weights, {0x200: (0x20C,)})
    assert ways.gates == [0x20C, 0x200, 0x10C]
    assert Region(blocks, region.weights, linked=False).gates == []
    assert Region([block(0x100, 2, Jump(0x100), boundary=False)]).gates == []


def test_no_region_has_more_gates_than_it_may() -> None:
    calls = [block(0x1000 + 4 * i, 1, Jump(0x9000), link=LINK) for i in range(MOST_GATES + 5)]
    region = Region([*calls, block(0x9000, 1, None)], {0x1000 + 4 * i: i for i in range(MOST_GATES + 5)})
    assert len(region.gates) == MOST_GATES and region.gates[0] == 0x1000 + 4 * (MOST_GATES + 4)


def test_a_return_may_go_behind_each_call_the_likely_ones_first() -> None:
    calls = [block(0x100 * i, 2, Jump(0x1000), link=LINK) for i in range(1, 4)]
    behind = [block(0x100 * i + 8, 1, Jump(0x100 * (i + 1))) for i in range(1, 4)]
    returns = block(0x1000, 3, None)
    weights = {0x108: 5, 0x208: 50, 0x308: 7}
    region = Region([*calls, *behind, returns], weights)
    assert region.edges[0x1000] == [0x208, 0x308, 0x108]
    assert Region([*calls, *behind, returns], weights, returns=False).edges[0x1000] == []
    assert Region([*calls, returns], weights).edges[0x1000] == [], "where a call returns to lies outside"
    ways = {0x1000: (0x308, 0x4000)}
    assert Region([*calls, *behind, returns], weights, ways).edges[0x1000] == [0x308, 0x208, 0x108]
    assert Region([*calls, *behind, returns], weights, ways, returns=False).edges[0x1000] == [0x308]


def test_a_jump_through_another_register_is_no_return() -> None:
    calls = [block(0x100, 2, Jump(0x1000), link=OTHER), block(0x108, 1, Jump(0x0))]
    assert Region([*calls, block(0x1000, 3, None)]).edges[0x1000] == []


def test_a_return_is_found_through_arithmetic_and_a_register_that_was_just_written() -> None:
    """jalr clears the lowest bit; a block that loads ra writes it before it jumps through it."""
    calls = [block(0x100, 2, Jump(0x1000), link=LINK), block(0x108, 1, Jump(0x0))]
    for loaded in (False, True):
        b = Builder(0x1000)
        b.begin(GuestInsn(0x1000, 4, "ret", "ident"))
        if loaded:
            target = b.emit("load", (b.emit("getreg", (), (2,)),), (8, 8, False))
            b.emit("setreg", (target,), (LINK,))
        else:
            target = b.emit("add", (b.emit("getreg", (), (LINK,)), 4), ())
        made = verify(b.finish(Indirect(b.emit("and", (target, (1 << 64) - 2), ()))))
        assert Region([*calls, made]).edges[0x1000] == [0x108]


def test_a_call_through_the_link_register_is_no_return() -> None:
    calls = [block(0x100, 2, Jump(0x1000), link=LINK), block(0x108, 1, Jump(0x0))]
    call = block(0x1000, 3, None, link=LINK)
    assert link_of(call) == LINK
    assert Region([*calls, call]).edges[0x1000] == []


def test_only_so_many_ways_are_compared() -> None:
    calls = [block(0x100 * i, 2, Jump(0x100 * i + 8), link=LINK) for i in range(1, 21)]
    behind = [block(0x100 * i + 8, 1, Jump(0x8000)) for i in range(1, 21)]
    region = Region([*calls, *behind, block(0x8000, 1, None)], {b.pc: b.pc for b in behind})
    assert region.edges[0x8000] == [0x100 * i + 8 for i in range(20, 20 - MOST_WAYS, -1)]


def test_a_block_that_is_no_call_has_no_link() -> None:
    assert link_of(block(0x100, 2, Jump(0x200), link=LINK)) == LINK
    assert link_of(branch(0x100, 2, 0x200)) is None
    assert link_of(block(0x100, 2, Callout(0x108), link=LINK)) is None
    b = Builder(0x100)
    b.begin(GuestInsn(0x100, 4, "made up", "ident"))
    b.emit("setreg", (0x200,), (LINK,))
    assert link_of(b.finish(Jump(0x300))) is None, "not the address behind it"


# --- what is left out -------------------------------------------------------------------------------------------------


def test_blocks_that_nothing_leads_to_are_left_out_and_what_they_led_to() -> None:
    """Behind the block that is left out was the only call, so the return does not lead behind it any more."""
    blocks = [
        block(0x100, 1, Jump(0x1000)), block(0x1000, 1, None), block(0x200, 1, Jump(0x1000), link=LINK),
        block(0x204, 1, Jump(0x100)),
    ]  # fmt: skip
    region = Region(blocks)
    assert region.edges[0x1000] == [0x204]
    kept = region.reachable()
    assert [b.pc for b in kept.blocks] == [0x100, 0x1000] and kept.edges == {0x100: [0x1000], 0x1000: []}
    whole = Region([block(0x100, 1, Jump(0x200)), block(0x200, 1, Jump(0x100))])
    assert whole.reachable() is whole


def test_what_is_known_is_kept_when_blocks_are_left_out() -> None:
    blocks = [block(0x100, 1, None), block(0x200, 1, Jump(0x100)), block(0x300, 1, Jump(0x100))]
    region = Region(blocks, {0x100: 9}, {0x100: (0x200,)}, False, True).reachable()
    assert [b.pc for b in region.blocks] == [0x100, 0x200]
    assert (region.weights, region.ways, region.returns, region.linked) == ({0x100: 9}, {0x100: (0x200,)}, False, True)


# --- cycles and reach -------------------------------------------------------------------------------------------------


def test_a_loop_is_checked_where_it_goes_back_and_needs_one_turn() -> None:
    region = Region([
        block(0x100, 5, Jump(0x200)), branch(0x200, 3, 0x300, 0x400), block(0x300, 2, Jump(0x200)),
        block(0x400, 7, Jump(0x9000)),
    ])  # fmt: skip
    assert region.back == {(0x300, 0x200)}
    assert region.reach == {0x300: 1, 0x400: 1, 0x200: 4, 0x100: 9}


def test_a_block_that_leads_to_itself() -> None:
    region = Region([branch(0x100, 6, 0x100)])
    assert region.back == {(0x100, 0x100)} and region.reach == {0x100: 1}


def test_ways_of_one_branch_back_to_a_head_are_checked_together() -> None:
    """A branch around a block, or to one of two; not ways that branch again, or come from other branches."""
    around = Region([branch(0x100, 2, 0x200), branch(0x108, 2, 0x200), branch(0x200, 3, 0x100, 0x300),
                     block(0x300, 1, Jump(0x100))])  # fmt: skip
    assert around.back == {(0x200, 0x100), (0x300, 0x100)} and around.joined == [0x100]
    either = Region([branch(0x100, 2, 0x200, 0x300), block(0x200, 3, Jump(0x100)), block(0x300, 1, Jump(0x100))])
    assert len(either.back) == 2 and either.joined == [0x100]
    again = Region([branch(0x100, 2, 0x200, 0x300), branch(0x200, 3, 0x100, 0x900), branch(0x300, 1, 0x100, 0x900)])
    assert len(again.back) == 2 and again.joined == []
    others = Region([branch(0x100, 2, 0x200, 0x300), branch(0x200, 2, 0x400, 0x900), branch(0x300, 2, 0x500, 0x900),
                     block(0x400, 1, Jump(0x100)), block(0x500, 1, Jump(0x100))])  # fmt: skip
    assert len(others.back) == 2 and others.joined == []


def test_no_cycle_is_closed_where_there_is_no_boundary() -> None:
    """The inner loop is entered first, and what comes before it leads into it without a jump: that way is not checked,
    but the one that leads there is. So it is with what is cut twice, and there the boundary may be the entry.
    """
    inner = branch(0x108, 3, 0x108, 0x114)
    once = Region([inner, branch(0x114, 1, 0x100, 0x900), block(0x100, 2, Continue(0x108))])
    assert once.back == {(0x108, 0x108), (0x114, 0x100)}
    assert once.reach == {0x108: 4, 0x114: 1, 0x100: 6}
    assert once.gates == [0x100]
    chain = block(0xF8, 2, Continue(0x100)), block(0x100, 2, Continue(0x108))
    twice = Region([inner, branch(0x114, 1, 0x100, 0xF8), *chain])
    assert twice.back == {(0x108, 0x108), (0x114, 0x100), (0x114, 0xF8)}
    assert twice.reach == {0x108: 4, 0x114: 1, 0x100: 6, 0xF8: 8}
    for region in (once, twice):
        check_reach(region)
        assert region.reachable() is region


def test_recursion_closes_cycles_by_the_call_or_by_the_return() -> None:
    """A function calls itself: the call goes back to its entry, and the return to where the call is done."""
    region = Region([
        branch(0x100, 2, 0x300), block(0x108, 3, Jump(0x100), link=LINK), block(0x114, 1, Jump(0x300)),
        block(0x300, 1, None),
    ])  # fmt: skip
    assert region.edges[0x300] == [0x114]
    assert (0x108, 0x100) in region.back
    assert ((0x114, 0x300) in region.back) != ((0x300, 0x114) in region.back), "one of the two closes the other cycle"
    check_reach(region)


def walks(region: Region, pc: int) -> Iterator[list[int]]:
    """Every way from a block on that goes along no edge that is checked, to where none is left."""
    ahead = [to for to in region.edges[pc] if (pc, to) not in region.back]
    if not ahead:
        yield [pc]
    for to in ahead:
        for rest in walks(region, to):
            yield [pc, *rest]


def check_reach(region: Region) -> None:
    """Without the edges that are checked there is no cycle, and each block needs what the longest way does."""
    size = {b.pc: len(b.guest) for b in region.blocks}
    for pc in region.reach:
        ways = list(walks(region, pc))
        assert all(len(set(way)) == len(way) for way in ways)
        longest = max(sum(size[at] for at in way[:-1]) for way in ways)
        assert region.reach[pc] == longest + 1
    assert not any(isinstance(region.by_pc[pc].exit, Continue) for pc, _ in region.back), "no boundary is there"


def random_region(rng: Random) -> Region:
    count = rng.randrange(1, 9)
    pcs = [0x1000 * i for i in range(1, count + 1)]
    blocks = []
    for pc in pcs:
        size = rng.randrange(1, 9)
        targets = [rng.choice([*pcs, 0x9_0000]) for _ in range(2)]
        match rng.randrange(8):
            case 0:
                blocks.append(block(pc, size, Jump(targets[0])))
            case 1:
                blocks.append(block(pc, size, Jump(targets[0]), link=LINK))
                blocks.append(block(pc + 4 * size, 2, Jump(targets[1])))
            case 2:
                blocks.append(block(pc, size, None))
            case 3 | 4:
                blocks.append(block(pc, size, Continue(pc + 4 * size)))
                blocks.append(rng.choice([
                    block(pc + 4 * size, 2, Jump(targets[0])), branch(pc + 4 * size, 1, *targets),
                    block(pc + 4 * size, 1, Continue(pc + 4 * size + 4)),
                ]))  # fmt: skip
                if isinstance(blocks[-1].exit, Continue):
                    blocks.append(branch(pc + 4 * size + 4, 3, *targets))
                pcs_inside = [b.pc for b in blocks[-2:]]
                if rng.random() < 0.5:  # what was cut is also jumped to, or entered first
                    blocks.append(block(pc + 0x800, 1, Jump(rng.choice(pcs_inside))))
                if rng.random() < 0.3:
                    blocks.insert(0, blocks.pop(blocks.index(next(b for b in blocks if b.pc == pcs_inside[0]))))
            case _:
                blocks.append(branch(pc, size, *targets))
    ways = {b.pc: tuple(rng.sample(pcs, min(2, count))) for b in blocks if isinstance(b.exit, Indirect)}
    return Region(blocks, ways=ways if rng.random() < 0.3 else {}, returns=rng.random() < 0.8).reachable()


def test_a_check_that_passes_reaches_the_next_one() -> None:
    """In random regions: the ways between checks end, and `reach` is the longest; so no boundary is passed over."""
    rng = Random(5)
    cycles = 0
    for _ in range(scaled(400)):
        region = random_region(rng)
        check_reach(region)
        assert set(region.reach) == {b.pc for b in region.blocks}
        cycles += bool(region.back)
        for _ in range(4):  # at random, with a random budget: who is not stopped by a check may not stop at a boundary
            pc, left = region.pc, rng.randrange(1, 60)
            if left < region.reach[pc]:
                continue
            for _ in range(200):
                left -= len(region.by_pc[pc].guest)
                if not region.edges[pc]:
                    break
                to = rng.choice(region.edges[pc])
                if (pc, to) in region.back:
                    if left < region.reach[to]:
                        break
                elif not isinstance(region.by_pc[pc].exit, Continue):
                    assert left > 0, f"the boundary at {to:#x} was the one to stop at"
                pc = to
    assert cycles > scaled(100)


def test_loops_are_what_jumps_back_to_a_head_come_from() -> None:
    """One inside another, of which each is told; what is behind a loop is in none."""
    blocks = [block(0x100, 1, Jump(0x104)), branch(0x104, 1, 0x104), branch(0x108, 1, 0x100), block(0x10C, 1, None)]
    region = Region(blocks)
    assert region.loops == {0x104: {0x104}, 0x100: {0x100, 0x104, 0x108}}
    assert region.forward == [0x100, 0x104, 0x108, 0x10C]


# --- what is not as it should be --------------------------------------------------------------------------------------


def test_what_is_known_of_other_blocks_does_not_matter() -> None:
    """Counts and ways are hints: of addresses that are not there, of blocks without an indirect jump, of nothing."""
    blocks = [branch(0x100, 1, 0x200, 0x300), block(0x200, 1, None)]
    region = Region(blocks, {0x300: 5, 0xDEAD: 1 << 70}, {0x100: (0x200,), 0x200: (0xDEAD, 0x200), 0x55: (1,)})
    assert region.edges == {0x100: [0x200], 0x200: [0x200]}
    assert region.odds(blocks[0]) is None


@pytest.mark.parametrize("weights", [{0x100: 10, 0x200: 0}, {0x100: 10, 0x200: 1 << 40, 0x104: 1 << 50}, {0x100: 1}])
def test_odds_are_never_negative(weights: dict[int, int]) -> None:
    """Counts are taken at different times, so they need not fit together."""
    first = branch(0x100, 1, 0x200)
    for others in ([], [block(0x200, 1, Jump(0x0))], [block(0x104, 1, Jump(0x200)), block(0x200, 1, Jump(0x100))]):
        odds = Region([first, *others], weights).odds(first)
        assert odds is None or (min(odds) >= 0 and sum(odds) > 0)


def test_odds_are_those_of_the_way_that_is_entered_from_here_only() -> None:
    first = branch(0x100, 1, 0x200)
    blocks = [first, block(0x104, 1, Jump(0x200)), block(0x200, 1, Jump(0x100))]
    assert Region(blocks, {0x100: 100, 0x104: 10, 0x200: 100}).odds(first) == (90, 10)


def test_what_runs_into_a_block_ran_it_too() -> None:
    """A block that was jumped to 10 times ran 100 times if 90 times code came to it without a jump."""
    first, cut, meet = branch(0x100, 1, 0x10C), block(0x104, 2, Continue(0x10C)), branch(0x10C, 1, 0x100, 0x900)
    region = Region([first, cut, meet], {0x100: 100, 0x104: 90, 0x10C: 10, 0x900: 5})
    assert region.odds(first) == (10, 90) and region.odds(meet) == (95, 5) and region.ran(0x10C) == 100


def test_a_region_without_blocks_is_none() -> None:
    with pytest.raises(IndexError):
        _ = Region([]).pc
