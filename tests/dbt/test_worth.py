"""When a region is asked for: once what its blocks have cost in stencils comes to what LLVM would take for it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from support.riscv import Rig, asm, words_to_bytes

import dbt.orphans
import dbt.promotion
import dbt.worker
from dbt.options import Options
from dbt.promotion import AT_ONCE, TRIES
from dbt.regions import Request
from dbt.worth import ALIKE, BYTES, LEAST, NEARLY, START, Worth

CODE = 0x10000
PROMOTE = 1000


def region(ran: Sequence[int], size: int = 8) -> Request:
    """A region of blocks of so many bytes, which have run so often."""
    at = [CODE + size * n for n in range(len(ran))]
    return Request(tuple((pc, True) for pc in at), dict(zip(at, ran)), {}, tuple((pc, bytes(size)) for pc in at))


def once(place: int) -> int:
    """An execution counts for one."""
    return 1


def executions(blocks: int, of: int, starting: bool = False) -> float:
    """How often each of the first blocks has to run, if the others of a region do not."""
    return PROMOTE * (LEAST + START * starting + 8 * of / BYTES) / (blocks * (1 + 8 / ALIKE)) / NEARLY


@pytest.mark.parametrize(("blocks", "of", "starting"), [
    (1, 1, False), (1, 1, True), (1, 100, False), (10, 100, False), (100, 100, False), (100, 100, True),
])  # fmt: skip
def test_a_region_has_to_have_cost_what_it_takes_to_translate_it(blocks: int, of: int, starting: bool) -> None:
    worth, enough = Worth(Options(promote=PROMOTE)), executions(blocks, of, starting)
    for share, early in ((0.5, True), (0.98, True), (1.02, False), (9, False)):
        ran = [int(enough * share)] * blocks + [0] * (of - blocks)
        assert worth.is_early(region(ran), starting, once) == early
    assert not Worth(Options(promote=0)).is_early(region([1] * of), starting, once)


def test_its_blocks_are_told_how_often_that_will_be() -> None:
    """Of what is as hot the first in memory is to say so first."""
    worth = Worth(Options(promote=PROMOTE))
    assert worth.needed(CODE) == PROMOTE
    ran = [3000, 4000, 3999, 40] + [0] * 200
    assert worth.is_early(region(ran), False, once)
    needed = [worth.needed(pc) for pc, _ in region(ran).blocks]
    assert needed[3:] == [PROMOTE] * 201 and needed[1] / 4000 < needed[0] / 3000
    assert needed[1] < needed[2] == pytest.approx(needed[1] * NEARLY, rel=1e-3)
    then = [int(n * needed[1] / 4000) for n in ran]
    assert not worth.is_early(region(then), False, once)
    assert [worth.needed(pc) for pc, _ in region([0] * 3).blocks] == then[:3], "no more than that"
    worth.translated(region([0] * 2))
    assert [worth.needed(pc) for pc, _ in region([0] * 3).blocks] == [PROMOTE, PROMOTE, then[2]]
    worth.forget()
    assert worth.needed(CODE + 16) == PROMOTE


def test_what_runs_elsewhere_costs_nothing() -> None:
    enough = int(executions(50, 100) * 1.01)
    request = region([enough] * 50 + [1] * 50)
    assert not Worth(Options(promote=PROMOTE)).is_early(request, False, once)
    assert Worth(Options(promote=PROMOTE)).is_early(request, False, lambda place: place >= CODE + 8)
    assert Worth(Options(promote=PROMOTE)).is_early(request, False, lambda place: 0)


@pytest.mark.parametrize("counts_for", [1, 4])
def test_how_an_execution_was_counted_is_no_length(counts_for: int) -> None:
    """A block whose executions count for many costs that, and once for each execution what its length does."""
    enough = PROMOTE * (LEAST + 360 / BYTES) / NEARLY
    for share, early in ((0.98, True), (1.02, False)):
        ran = [int(enough / (1 + 360 / ALIKE / counts_for) * share)]
        assert Worth(Options(promote=PROMOTE)).is_early(region(ran, 360), False, lambda place: counts_for) == early


def running(code: Sequence[int], rounds: int, **options: object) -> Rig:
    """A program has run, from stencils until something is hot; x5 says how often it goes around."""
    chosen = Options(**{"patience": 0, "promote": PROMOTE, "background": False} | options)  # type: ignore[arg-type]
    rig = Rig(((CODE, 0x4000, 7),), chosen, translated=True)
    rig.space.poke(CODE, words_to_bytes([*code, asm("ecall")]))
    rig.state.pc, rig.state.slots[5] = CODE, rounds
    rig.run(1 << 60)
    return rig


def blocks_of(number: int) -> list[int]:
    """Blocks one after the other; x6 counts them."""
    return [asm("addi", rd=6, rs1=6, imm=1), asm("jal", rd=0, imm=4)] * number


def around(body: Sequence[int], register: int = 5) -> list[int]:
    """A loop."""
    code = [*body, asm("addi", rd=register, rs1=register, imm=-1)]
    return [*code, asm("bne", rs1=register, rs2=0, imm=-4 * len(code))]


def seldom(number: int) -> list[int]:
    """Blocks that are gone through in one of sixteen rounds."""
    return [asm("andi", rd=7, rs1=5, imm=15), asm("bne", rs1=7, rs2=0, imm=4 + 8 * number), *blocks_of(number)]


@pytest.mark.parametrize(("times", "body", "translated"), [
    (900, [], False), (1300, [], True), (900, blocks_of(100), False), (1300, blocks_of(100), True),
    (1900, seldom(100), False), (2900, seldom(100), True), (2200, seldom(160), False), (1300, seldom(10), True),
], ids=["1-", "1+", "100-", "100+", "100 seldom-", "100 seldom+", "160 seldom-", "10 seldom+"])  # fmt: skip
def test_the_less_of_a_loop_is_hot_the_later_it_is_translated(
    times: int, body: list[int], translated: bool
) -> None:
    rig = running(around(body), times)
    assert (rig.engine.translator.stats.translations > 0) == translated
    rig.close()


def test_without_regions_each_block_has_to_be_worth_it() -> None:
    for rounds, translations in ((900, 0), (1300, 4)):
        rig = running(around(blocks_of(3)), rounds, region=0)
        assert rig.engine.translator.stats.translations == translations
        rig.close()


def test_small_loops_start_no_worker() -> None:
    """It takes longer to start than what the first region would save."""
    for times, started in ((4500, False), (8000, True)):
        rig = running(around([]), times, background=True)
        assert (rig.engine.promotion.background.stats.asked > 0) == started and rig.engine.exits["hot"] > 0
        rig.close()


def test_what_ran_for_a_64th_of_the_first_block_is_in_its_region() -> None:
    """Of what makes a block hot at least."""
    rig = running(around(blocks_of(2)), 900)
    later = CODE + 8
    ran = rig.engine.tier0.executions(later)
    assert 800 < ran < PROMOTE
    for beside in (0, PROMOTE, 63 * ran):
        assert rig.engine.promotion.executions(later, beside) == ran
    assert rig.engine.promotion.executions(later, 65 * ran) == 0
    rig.close()


def test_what_waits_goes_on_being_counted() -> None:
    """A block that said that it is hot, and was told to say so later, has run as often as it has."""
    rig = running(around([*seldom(160), *blocks_of(2)]), 1900)
    places = [CODE, *(CODE + 8 + 8 * n for n in range(160, 163))]
    assert rig.engine.exits["hot"] >= len(places) and rig.engine.translator.stats.translations == 0
    assert all(1750 < rig.engine.tier0.executions(place) <= 1900 for place in places)
    rig.close()


@pytest.mark.parametrize(("rounds", "translations"), [(2000, 1), (12000, 2)])
def test_what_is_around_a_loop_has_to_pay_for_it_once_more(rounds: int, translations: int) -> None:
    """A loop has a region. That of what is around it would have its code again, and save what is outside of it."""
    inner = around(blocks_of(40), 8)
    rig = running(around([asm("addi", rd=8, rs1=0, imm=100), *inner]), rounds)
    assert rig.state.slots[6] == 40 * 100 * rounds
    assert rig.engine.translator.stats.translations == translations
    rig.close()


# --- over several runs ----------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where translations are kept, and what was counted."""
    monkeypatch.setenv("DRAGOMAN_CACHE_DIR", str(tmp_path / "kept"))
    return tmp_path / "kept"


def run(rounds: int, code: Sequence[int], slices: int = 1 << 24, ends: bool = True, **options: object) -> Rig:
    """One of several runs of a program."""
    rig = running(code, 1, disk=True, **options)
    rig.engine.slice = slices
    rig.state.pc, rig.state.slots[5] = CODE, rounds - 1
    rig.run(1 << 60)
    rig.engine.save(last=ends)
    return rig


def made(rig: Rig) -> tuple[int, int]:
    """Translations that were made, and that came from disk."""
    rig.close()
    assert rig.engine.disk.stats.damaged == 0
    return rig.engine.translator.stats.translations, rig.engine.disk.stats.found


LATER = around(seldom(100))  # worth it after 2,300 rounds, about


def test_runs_that_are_too_short_pay_together(folder: Path) -> None:
    """The third comes to what it costs, and the fourth has it from the first round on."""
    assert [made(run(1500, LATER)) for _ in range(4)] == [(0, 0), (1, 0), (0, 1), (0, 1)]


def test_what_was_hot_before_is_looked_at_as_soon_as_it_runs(folder: Path) -> None:
    """Not once it has become hot again; but between slices alone."""
    rounds = PROMOTE - 100
    assert made(run(2200, LATER)) == (0, 0)
    assert made(run(rounds, LATER, ends=False)) == (0, 0), "no slice has ended"
    assert made(run(rounds, LATER, slices=2000)) == (1, 0)


def test_what_was_hot_before_is_looked_for_some_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hottest first, and not all at once."""
    rig = running(around([]), 100)
    promotion, tier0 = rig.engine.promotion, rig.engine.tier0
    never = range(0x800, 0x800 + 4 * AT_ONCE, 2)
    looks: list[int] = []
    left = tier0.left
    monkeypatch.setattr(tier0, "left", lambda place: looks.append(place) or left(place))
    promotion.remember(CODE >> 12, {0: PROMOTE, 2: PROMOTE - 1, **dict.fromkeys(never, PROMOTE + 1)})
    promotion.hasten()
    assert looks == [CODE + at for at in never][:AT_ONCE]
    promotion.hasten()
    assert CODE not in looks and left(CODE) == PROMOTE - 100
    for _ in range(3 * TRIES):
        promotion.hasten()
    assert len(looks) == len(never) * (1 + TRIES) + 1 and left(CODE) == 1
    rig.close()


def test_a_run_that_has_not_ended_leaves_no_counts(folder: Path) -> None:
    """It will go on, and leave more."""
    assert [made(run(1500, LATER, ends=False)) for _ in range(3)] == [(0, 0)] * 3


def test_a_child_that_was_forked_leaves_no_counts(folder: Path) -> None:
    rig = run(1500, LATER, ends=False)
    if os.fork() == 0:
        rig.engine.save(last=True)
        os._exit(0)
    os.wait()
    assert made(rig) == made(run(1500, LATER)) == (0, 0) and made(run(1500, LATER)) == (1, 0)


def test_what_was_counted_is_of_the_same_code_alone(folder: Path) -> None:
    other = [*LATER[:-1], LATER[-1], asm("addi", rd=9, rs1=0, imm=1)]
    assert made(run(1500, LATER)) == (0, 0) == made(run(1500, other))
    assert made(run(1500, LATER)) == (1, 0)


def test_a_run_waits_at_its_end_for_what_earlier_runs_have_wanted(folder: Path) -> None:
    """Or else it would be asked for in each run, and be there in none. In the first run nobody waits for it."""
    enough = int(executions(2, 3)) * 3 + START * PROMOTE
    first = run(enough, around([]), background=True)
    assert first.engine.promotion.background.stats.asked == 1 and made(first) == (0, 0)
    begin = time.monotonic()
    second = run(PROMOTE + 100, around([]), background=True)
    assert second.engine.promotion.background.stats.answered == 1 and made(second) == (1, 0)
    assert time.monotonic() - begin < 30
    assert made(run(PROMOTE + 100, around([]), background=True)) == (0, 1)


def test_nobody_waits_for_longer(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor for what this run alone has wanted."""
    monkeypatch.setattr(dbt.orphans, "alone", lambda: False)
    monkeypatch.setattr(dbt.worker, "command", lambda: [sys.executable, "-c", "import time; time.sleep(100)"])
    for most, waits in ((20, False), (0.2, True)):
        monkeypatch.setattr(dbt.promotion, "FINISH", most)
        begin = time.monotonic()
        rig = run(12 * PROMOTE, around([]), background=True)
        took = time.monotonic() - begin
        assert rig.engine.promotion.background.stats.asked == 1 and made(rig) == (0, 0)
        assert took >= most if waits else took < most
