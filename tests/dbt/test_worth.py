"""When a region is asked for: after more executions, the more code it is, and the worker's start is worth it."""

from __future__ import annotations

from itertools import count

import pytest
from support.riscv import Rig, asm, words_to_bytes

from dbt.options import Options
from dbt.regions import Request
from dbt.worth import BLOCK, INSTRUCTION, PAID, START, Worth

CODE = 0x10000
PROMOTE = 1000


def of_size(size: int, *more: int) -> Request:
    """A region of so many bytes, and its blocks."""
    return Request(((CODE, True), *((pc, True) for pc in more)), {}, {}, ((CODE, bytes(size)),))


def test_a_region_has_to_run_in_proportion_to_its_bytes() -> None:
    worth = Worth(Options(promote=PROMOTE))
    sizes = 2, PAID // 2, PAID, 2 * PAID, 5 * PAID
    assert [worth.of(of_size(size)) for size in sizes] == [PROMOTE, PROMOTE, PROMOTE, 2 * PROMOTE, 5 * PROMOTE]
    assert Worth(Options(promote=0)).of(of_size(PAID)) == 0


def test_before_it_is_formed_a_region_is_what_is_hot() -> None:
    """Up to the largest one; and it has to pay for the worker's start, if there is none."""
    options = Options(promote=PROMOTE)
    worth = Worth(options)
    hot = [2 * n for n in range(2 * options.region * INSTRUCTION // BLOCK)]
    needed = [worth.guessed(place, False) for place in hot]
    assert needed == sorted(needed) and needed[0] == PROMOTE and needed[40] > PROMOTE
    assert needed[-1] == PROMOTE * options.region * INSTRUCTION // PAID
    assert worth.guessed(hot[0], False) == needed[-1], "a block that says so again is counted once"
    assert worth.guessed(hot[0], True) == PROMOTE * (options.region * INSTRUCTION + START) // PAID
    worth.settled(lambda place: place not in hot[:40])
    assert worth.guessed(hot[0], False) == needed[39], "what is in a region from disk is hot no more"
    worth.translated(of_size(8, *hot[1:]))
    assert worth.guessed(hot[0], False) == PROMOTE, "nor what is in one that was asked for"
    assert worth.of(of_size(3 * PAID, hot[1])) == 3 * PROMOTE == worth.guessed(hot[1], False), "it was formed"
    worth.forget()
    assert worth.guessed(hot[1], True) == Worth(options).guessed(hot[1], True)


def looping(times: int, blocks: int, **options: object) -> Rig:
    """A loop of so many blocks has run, from stencils until it is hot."""
    chosen = Options(**{"patience": 0, "promote": PROMOTE, "background": False} | options)  # type: ignore[arg-type]
    rig = Rig(((CODE, 0x4000, 7),), chosen, translated=True)
    jump = asm("jal", rd=0, imm=4)
    code = [*[asm("addi", rd=6, rs1=6, imm=1), jump] * (blocks - 1), asm("addi", rd=5, rs1=5, imm=-1)]
    rig.space.poke(CODE, words_to_bytes([*code, asm("bne", rs1=5, rs2=0, imm=-4 * len(code)), asm("ecall")]))
    rig.state.pc, rig.state.slots[5] = CODE, times
    rig.run(1 << 60)
    assert rig.state.slots[6] == times * (blocks - 1)
    return rig


@pytest.mark.parametrize(("times", "blocks", "translated"), [
    (900, 1, False), (1300, 1, True), (1300, 40, True), (1900, 100, False), (2400, 100, True), (3500, 200, False),
    (4400, 200, True),
])  # fmt: skip
def test_the_more_is_hot_the_later_it_is_translated(times: int, blocks: int, translated: bool) -> None:
    """A block here is of 8 bytes, half of what is guessed; a loop of them is one region."""
    rig = looping(times, blocks, region=500)
    assert (rig.engine.translator.stats.translations > 0) == translated
    rig.close()


def test_small_loops_start_no_worker() -> None:
    """It takes longer to start than what the first region would save."""
    for times, started in ((1100, False), (1400, True)):
        rig = looping(times, 1, background=True)
        assert (rig.engine.background is not None) == started and rig.engine.exits["hot"] > 0
        rig.close()


def test_what_ran_for_a_64th_of_the_first_block_is_in_its_region() -> None:
    """Of what makes a block hot at least."""
    rig = looping(900, 3)
    seldom = CODE + 8
    ran = rig.engine.tier0.executions(seldom)
    assert 800 < ran < PROMOTE
    for beside in (0, PROMOTE, 63 * ran):
        assert rig.engine.executions(seldom, beside) == ran
    assert rig.engine.executions(seldom, 65 * ran) == 0
    rig.close()


def test_what_waits_goes_on_being_counted() -> None:
    """A block that said that it is hot, and was told to say so later, has run as often as it has."""
    rig = looping(1900, 100)
    assert rig.engine.exits["hot"] >= 100 and all(
        1800 < rig.engine.tier0.executions(CODE + at) <= 1900 for at, _ in zip(count(0, 8), range(99))
    )
    rig.close()


def test_what_runs_beside_its_region_is_no_part_of_others() -> None:
    """A loop has a region, and then its middle is entered from outside: blocks there get hot as well, from stencils."""
    rig = Rig(((CODE, 0x4000, 7),), Options(patience=0, promote=PROMOTE, background=False), translated=True)
    jump, blocks, middle = asm("jal", rd=0, imm=4), 100, 10
    code = [*[asm("addi", rd=6, rs1=6, imm=1), jump] * (blocks - 1), asm("addi", rd=5, rs1=5, imm=-1)]
    code.append(asm("bne", rs1=5, rs2=0, imm=-4 * len(code)))
    code += [asm("addi", rd=7, rs1=7, imm=-1), asm("beq", rs1=7, rs2=0, imm=12), asm("addi", rd=5, rs1=0, imm=1)]
    code += [asm("jal", rd=0, imm=8 * middle - 4 * len(code)), asm("ecall")]
    rig.space.poke(CODE, words_to_bytes(code))
    inner, outer = 2400, 2600  # too few for a block beside 90 that wait to be translated
    rig.state.pc, rig.state.slots[5], rig.state.slots[7] = CODE, inner, outer
    rig.run(1 << 60)
    assert rig.state.slots[6] == inner * (blocks - 1) + (outer - 1) * (blocks - 1 - middle)
    assert rig.engine.translator.stats.translations == 2
    rig.close()
