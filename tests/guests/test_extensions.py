"""What the row-by-row oracles cannot see of the newer extensions: protection, block ends, hosts that lack a feature."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.riscv import GUEST, Rig, asm, words_to_bytes

from dbt.engine import Translated
from dbt.hosts import x86_64
from dbt.reference import Stop
from guests.riscv import linux, traps
from guests.riscv.registers import FRM

CODE, DATA, READ_ONLY, NOTHING = 0x1_0000, 0x2_0000, 0x2_1000, 0x2_2000
REGIONS = ((CODE, 0x1000, 7), (DATA, 0x1000, 3), (READ_ONLY, 0x1000, 1), (NOTHING, 0x1000, 0))
MANAGEMENT = ("cbo.inval", "cbo.clean", "cbo.flush")
PREFETCH = ("prefetch.i", "prefetch.r", "prefetch.w")


@pytest.fixture(params=[False, True], ids=["reference", "translated"])
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    made = Rig(REGIONS, translated=request.param)
    yield made
    made.close()


def run(rig: Rig, words: list[int], address: int) -> Stop:
    """Execute the words and an ecall with `address` in a0, and ones in all of the data."""
    rig.space.poke(CODE, words_to_bytes([*words, asm("ecall")]))
    rig.space.poke(DATA, b"\xff" * 0x2000)
    rig.state.pc, rig.state.mid_block, rig.state.count, rig.state.blocks = CODE, False, 0, 0
    rig.state.slots[10] = address
    return rig.run(100)


@pytest.mark.parametrize("place", [0, 1, 63, 64, 0xFC0, 0xFFF])
def test_zero_clears_the_block_around_the_address(rig: Rig, place: int) -> None:
    assert run(rig, [asm("cbo.zero", rs1=10)], DATA + place) == Stop(True, traps.USER_ECALL, 0)
    block = place & -64
    assert rig.space.peek(DATA, 0x1000) == b"\xff" * block + bytes(64) + b"\xff" * (0x1000 - 64 - block)


@pytest.mark.parametrize("address", [READ_ONLY, READ_ONLY + 63, NOTHING + 5, DATA - 1, 1 << 38, (1 << 64) - 3])
def test_zero_faults_at_the_address_and_stores_nothing(rig: Rig, address: int) -> None:
    assert run(rig, [asm("cbo.zero", rs1=10)], address) == Stop(True, traps.STORE_PAGE_FAULT, address)
    assert rig.space.peek(DATA, 0x2000) == b"\xff" * 0x2000
    assert (rig.state.pc, rig.state.count) == (CODE, 0)


@pytest.mark.parametrize("name", MANAGEMENT)
def test_management_needs_a_load_or_a_store_to_be_allowed(rig: Rig, name: str) -> None:
    for address in (DATA, DATA + 0xFFF, READ_ONLY + 77, CODE):
        assert run(rig, [asm(name, rs1=10)], address) == Stop(True, traps.USER_ECALL, 0)
        assert rig.space.peek(DATA, 0x2000) == b"\xff" * 0x2000
    for address in (NOTHING + 7, DATA - 1, 1 << 38, (1 << 64) - 1):
        assert run(rig, [asm(name, rs1=10)], address) == Stop(True, traps.STORE_PAGE_FAULT, address)
        assert (rig.state.pc, rig.state.count) == (CODE, 0)


def test_prefetch_of_anything_is_no_fault(rig: Rig) -> None:
    for address in (DATA, NOTHING, 1 << 63):
        words = [asm(name, rs1=10, imm=imm) for name in PREFETCH for imm in (-2048, 0, 2016)]
        assert run(rig, words, address) == Stop(True, traps.USER_ECALL, 0)
        assert rig.state.slots[10] == address


@pytest.mark.parametrize("name", ["wrs.nto", "wrs.sto"])
def test_a_wait_ends_at_once_and_ends_the_block(rig: Rig, name: str) -> None:
    run(rig, [asm("addi", rd=5, rs1=0, imm=1), asm(name), asm("addi", rd=5, rs1=5, imm=1)], 0)
    assert (rig.state.slots[5], rig.state.count, rig.state.blocks) == (2, 3, 1)


@pytest.mark.parametrize("rm", range(8))
@pytest.mark.parametrize("name", ["fround.s", "froundnx.s", "fround.d", "froundnx.d"])
def test_rounding_to_integral_is_translated_unless_its_mode_is_dynamic(name: str, rm: int) -> None:
    """Whatever the host's mode is; a dynamic mode is the monitor's, as the ecall is, and a reserved one is illegal."""
    rig = Rig(REGIONS, translated=True)
    rig.state.slots[FRM] = 3
    word = asm(name, rd=1, rs1=1, rm=0) & ~(7 << 12) | rm << 12
    stop = run(rig, [word], 0)
    assert isinstance(rig.engine, Translated)
    monitored = rig.engine.stepped
    rig.close()
    assert stop.cause == (traps.ILLEGAL_INSTRUCTION if rm in (5, 6) else traps.USER_ECALL)
    assert monitored == (2 if rm == 7 else 1)


def test_carryless_product_without_a_host_instruction(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that has none leaves each to the monitor; the results are the same."""
    words = [asm(name, rd=rd, rs1=10, rs2=11) for name, rd in (("clmul", 5), ("clmulh", 6), ("clmulr", 7))]
    results = []
    for feature in (x86_64.FEATURE_CARRYLESS, "no-such-feature"):
        monkeypatch.setattr(x86_64, "FEATURE_CARRYLESS", feature)
        rig = Rig(REGIONS, translated=True)
        rig.state.slots[11] = 0x8000000000000003
        assert run(rig, words, 0xC000000000000001) == Stop(True, traps.USER_ECALL, 0)
        results.append(list(rig.state.slots[5:8]))
        assert isinstance(rig.engine, Translated)
        assert bool(rig.engine.translator.backend.target.host.carryless) == (feature != "no-such-feature")
        rig.close()
    # (x^63 + x^62 + 1)(x^63 + x + 1) = x^126 + x^125 + x^64 + x^63 + x^62 + x + 1, as two of three x^63 cancel
    assert results == [[0xC000000000000003, 0x6000000000000001, 0xC000000000000003]] * 2


def test_what_linux_is_said_to_have_is_there() -> None:
    assert set(linux.IMA_EXTENSIONS) - {"fd"} <= GUEST.features and {"f", "d"} <= GUEST.features
    assert linux.HWPROBE[4] == 0x008D_9419_1000_00FB
