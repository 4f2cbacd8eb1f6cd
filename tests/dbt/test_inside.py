"""How often blocks ran inside regions, which have no counters for them."""

from __future__ import annotations

from support.riscv import Rig, asm, words_to_bytes

from dbt.inside import Inside
from dbt.options import Options
from dbt.regions import Request
from dbt.worth import INSTRUCTION

CODE = 0x10000
PROMOTE, INNER, OUTER = 1000, 200, 3000


def test_what_a_region_retires_is_shared_by_what_ran_before() -> None:
    """Two blocks of two and one instructions, of which the second ran three times as often."""
    first, second = CODE, CODE + 2 * INSTRUCTION
    source = (first, bytes(2 * INSTRUCTION)), (second, bytes(INSTRUCTION))
    inside = Inside()
    inside.note(Request(((first, True), (second, True)), {first: 100, second: 300}, {}, source))
    assert [inside.executions(place, {(first, True): 500}.get) for place in (first, second)] == [200, 600]
    assert inside.executions(first, lambda key: None) == 0, "the region is no more"
    assert inside.executions(CODE + 4, {(first, True): 500}.get) == 0
    inside.note(Request(((second, True),), {second: 600}, {}, source[1:]))
    retired = {(first, True): 500, (second, True): 50}.get
    assert [inside.executions(place, retired) for place in (first, second)] == [200, 650], "the last one counts"
    inside.note(Request(((first, True),), {}, {}, source[:1]))  # nothing is known of it
    inside.forget()
    assert inside.executions(first, retired) == 0


def test_a_loop_with_a_region_of_its_own_is_hot_in_that_of_the_loop_around_it() -> None:
    """Its counter had stopped when its region was made, which is long before the other one's."""
    outer = [asm("addi", rd=6, rs1=0, imm=INNER), asm("addi", rd=7, rs1=7, imm=1), asm("addi", rd=6, rs1=6, imm=-1),
             asm("bne", rs1=6, rs2=0, imm=-8), asm("addi", rd=5, rs1=5, imm=-1), asm("bne", rs1=5, rs2=0, imm=-20),
             asm("ecall")]  # fmt: skip
    options = Options(patience=0, promote=PROMOTE, background=False)
    rig = Rig(((CODE, 0x1000, 7),), options, translated=True)
    rig.space.poke(CODE, words_to_bytes(outer))
    rig.state.pc, rig.state.slots[5] = CODE, OUTER
    requests: list[Request] = []
    make = rig.engine.request
    rig.engine.request = lambda key: requests.append(make(key)) or requests[-1]  # type: ignore[method-assign, func-returns-value]
    rig.run(1 << 60)
    assert rig.state.slots[7] == INNER * OUTER
    inner = CODE + 4
    around = [r for r in requests if r.blocks[0][0] in (CODE, CODE + 16) and (inner, True) in r.blocks]
    assert requests[0].blocks[0][0] == inner and around
    for request in around:
        ran = request.weights[request.blocks[0][0]]
        assert 0.6 * INNER < request.weights[inner] / ran < 1.4 * INNER  # an instruction is taken for three bytes
    rig.close()
