"""Ways out in the middle of a region: faults, landings that accesses share, callouts. All is exact there.

Every run is compared with the reference interpreter. Each test makes sure that it was regions that ran.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
from support.regions import (
    A0,
    A1,
    A2,
    A3,
    CODE,
    DATA,
    ECALL,
    RA,
    REGIONS,
    RET,
    S0,
    S1,
    T0,
    T1,
    ZERO,
    addi,
    assemble,
    both,
    closed,
    made_of,
    outcome,
    text_of,
)
from support.riscv import Rig, asm, words_to_bytes

import dragoman
import guests
from dbt.engine import Translated
from dbt.options import Options
from guests.decode import encode
from guests.riscv import traps
from guests.riscv.registers import F


@pytest.mark.usefixtures("registers")
@pytest.mark.parametrize("turn", [1, 2, 3, 9, 10])
@pytest.mark.parametrize("store", [False, True])
def test_a_fault_in_the_middle_of_a_region_is_exact(turn: int, store: bool) -> None:
    """In the function that a loop calls, at a turn: pc, registers of all blocks and counts are the reference's."""
    access = asm("sd", rs1=S0, rs2=A0, imm=0) if store else asm("ld", rd=A3, rs1=S0, imm=0)
    words, at = assemble(
        "loop", addi(A0, A0, 1), ("jal", RA, "f"), addi(A1, A1, 5), asm("fadd.d", rd=3, rs1=3, rs2=4, rm=0),
        addi(T0, T0, -1), ("bne", T0, ZERO, "loop"), ECALL,
        "f", addi(A2, A2, 7), ("bne", T0, T1, "good"), addi(S0, ZERO, 64), "good", addi(28, 28, 1), access,
        addi(A2, A2, 1), RET,
    )  # fmt: skip
    reference, translated = both(words, t0=10, t1=11 - turn, s0=DATA, share=0.2)
    assert translated.state.pc == at["good"] + 4
    stop = translated.run(1 << 40)
    assert (stop.cause, stop.value) == (traps.STORE_PAGE_FAULT if store else traps.LOAD_PAGE_FAULT, 64)
    assert translated.state.slots[28] == turn and translated.state.slots[A2] == 8 * turn - 1
    closed(reference, translated)


INEXACT = asm("fdiv.d", rd=3, rs1=4, rs2=5, rm=7)
BETWEEN = {  # between a load and two accesses that may fault: what is there, and how many landings the block has then
    "nothing": (1, []),
    "few registers": (1, [addi(A3, A3, 1), addi(14, 14, 1)]),
    "many registers": (2, [addi(n, n, n) for n in (14, 15)]),
    "a store": (2, [addi(A3, A3, 3), asm("sd", rs1=S1, rs2=A3, imm=0)]),
    "an atomic operation": (3, [asm("amoadd.d", rd=A3, rs1=S1, rs2=A3, aq=0, rl=0)]),  # which may be misaligned, too
    "flags read and cleared": (2, [asm("csrrw", rd=A3, csr=1, rs1=ZERO)]),
    "arithmetic with flags": (3, [INEXACT]),  # whose rounding mode the host may not have
}


@pytest.mark.usefixtures("registers")
@pytest.mark.parametrize("between", BETWEEN)
@pytest.mark.parametrize("store", [False, True])
def test_what_may_not_be_done_again_is_not(between: str, store: bool) -> None:
    """An access that faults leaves before an earlier one of its block, if what is between may be done again."""
    words, _ = assemble(
        "loop", INEXACT, asm("ld", rd=A3, rs1=S1, imm=0), *BETWEEN[between][1],
        asm("sd", rs1=S0, rs2=A3, imm=0) if store else asm("ld", rd=A3, rs1=S0, imm=0),
        addi(S0, S0, 256), ("jal", ZERO, "loop"),
    )  # fmt: skip

    def numbers(rig: Rig) -> None:
        rig.state.slots[F + 4], rig.state.slots[F + 5] = 0x3FF0 << 48, 0x4008 << 48  # 1.0 and 3.0
        rig.space.poke(DATA + 0x1F08, bytes(range(8)))

    closed(*both(words, prepare=numbers, share=0, s0=DATA, s1=DATA + 0x1F08))  # a region of one block


def test_an_instruction_is_done_again_as_it_began() -> None:
    """One of the user's own that changes a register, and stores twice: the one store faults, or the other."""
    own = dragoman.Extension("xpush", "our manual")

    @own.insn("x.push", "0000000 rs2 rs1 000 rd 0001011", "rd, rs1, rs2")
    def push(m: Any, o: Any) -> None:
        """Two words, the second of which lies far off."""
        m.x[o.rs1] = m.sub(m.x[o.rs1], 8)
        m.store(m.x[o.rs1], m.x[o.rs2], 0, 8)
        m.x[o.rd] = m.add(m.x[o.rd], 512)
        m.store(m.x[o.rd], m.x[o.rs1], 0, 8)

    guest = guests.load("riscv64", extensions=[own])
    words, _ = assemble(
        "loop", addi(A2, A2, 1), asm("ld", rd=A3, rs1=S0, imm=-8), encode(own.rows[0], rd=S1, rs1=S0, rs2=A3),
        ("jal", ZERO, "loop"),
    )  # fmt: skip
    for s0, s1 in ((DATA + 0x100, DATA), (DATA + 0x1000, DATA)):
        seen = []
        for translated in (False, True):
            rig = Rig(REGIONS, translated=translated, guest=guest)
            rig.space.poke(CODE, words_to_bytes(words))
            rig.space.poke(DATA, bytes(range(256)) * 16)
            rig.state.pc, rig.state.slots[S0], rig.state.slots[S1] = CODE, s0, s1
            seen.append(outcome(rig, rig.run(1 << 40)))
            rig.close()
        assert seen[0] == seen[1]


@pytest.mark.parametrize("between", BETWEEN)
def test_accesses_have_landings_of_their_own_only_where_they_must(between: str) -> None:
    """Even flags are not raised twice: memory that is shared may have changed, and raise others the second time."""
    landings, what = BETWEEN[between]
    words, _ = assemble("loop", asm("ld", rd=A3, rs1=S1, imm=0), *what, asm("ld", rd=A3, rs1=S0, imm=0),
                        asm("sd", rs1=S0, rs2=A3, imm=0), ("jal", ZERO, "loop"))  # fmt: skip
    rig = made_of(words, Options(hot=0), s0=DATA, s1=DATA)
    assert isinstance(rig.engine, Translated)
    text = text_of(rig.engine.request((CODE, True)), Options())
    rig.close()
    assert len(re.findall(r"^side\d+:", text, re.MULTILINE)) == landings


def test_callouts_inside() -> None:
    """fence.i and a system call in a loop: each leaves the region, and what follows comes back into it."""
    words, _ = assemble(
        "loop", addi(A0, A0, 1), addi(A3, ZERO, 9), "inner", addi(A3, A3, -1), ("bne", A3, ZERO, "inner"),
        ("beq", A0, A1, "skip"), addi(A2, A2, 1), asm("fence.i", imm=0, rs1=0, rd=0), addi(A2, A2, 1),
        "skip", addi(A2, A2, 1), asm("csrrs (reads only)", csr=0xC01, rd=A3), addi(T0, T0, -1),
        ("bne", T0, ZERO, "loop"),
        ECALL,
    )  # fmt: skip
    reference, translated = both(words, strides=(100, 7, 1000), t0=500, a1=300)
    assert isinstance(translated.engine, Translated) and translated.engine.exits["callout"] > 900
    closed(reference, translated)


