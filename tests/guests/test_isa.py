"""ISA strings: what they select, what is refused, and what the guest they make does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.riscv import GUEST, Rig, asm, words_to_bytes

import guests
from dbt.reference import Stop
from guests.riscv import traps
from guests.riscv.isa import DEFAULT, NAMES, UnknownIsa, parse

CODE = 0x1_0000
G = {"i", "m", "a", "f", "d", "zicsr", "zifencei"}
B = {"zba", "zbb", "zbs"}


RVA22U64 = G | B | {"c", "zicbom", "zicbop", "zicboz", "zicntr", "zihintpause", "zihpm", "zfhmin"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rv64i", {"i"}),
        ("rv64im", {"i", "m"}),
        ("rv64imac", {"i", "m", "a", "c"}),
        ("rv64g", G),
        ("rv64gc", G | {"c"}),
        ("RV64GC", G | {"c"}),
        ("rv64imafdc", {"i", "m", "a", "f", "d", "c", "zicsr"}),
        ("rv64if", {"i", "f", "zicsr"}),
        ("rv64id", {"i", "f", "d", "zicsr"}),
        ("rv64i_zicsr", {"i", "zicsr"}),
        ("rv64imac_zicsr_zifencei", {"i", "m", "a", "c", "zicsr", "zifencei"}),
        ("rv64izicsr", {"i", "zicsr"}),
        ("rv64i_zicntr", {"i", "zicsr", "zicntr"}),
        ("rv64gc_zicntr", G | {"c", "zicntr"}),
        ("rv64i_zihpm", {"i", "zicsr", "zihpm"}),
        ("rv64i_zfa", {"i", "f", "zicsr", "zfa"}),
        ("rv64i_zcb", {"i", "c", "zcb"}),
        ("rv64i_zimop_zcmop", {"i", "c", "zimop", "zcmop"}),
        ("rv64g_zic64b_ziccamoa_ziccif_zicclsm_ziccrse_za64rs_za128rs", G),  # what holds in any case
        ("rv64icam", {"i", "m", "a", "c"}),  # the order of letters is not insisted on
        ("rv64gcc", G | {"c"}),
        ("rv64ib", {"i"} | B),
        ("rv64gcb_zbc", G | B | {"c", "zbc"}),
        ("rv64gc_zba_zbb_zbs", G | B | {"c"}),
        ("rv64i_zfhmin", {"i", "f", "zicsr", "zfhmin"}),
        ("rva22u64", RVA22U64),
        ("RVA22U64", RVA22U64),
    ],
)
def test_parse(text: str, expected: set[str]) -> None:
    assert parse(text) == expected


def test_default_is_everything() -> None:
    assert parse(DEFAULT) == NAMES
    assert guests.load("riscv64").isa == DEFAULT


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("rv64gcv", "extension 'v' is not implemented"),
        ("rv64gc_zacas", "extension 'zacas' is not implemented"),
        ("rva23u64", "not of the form"),
        ("rv64gc_zfinx", "extension 'zfinx' is not implemented"),
        ("rv64e", "must begin with rv64i or rv64g"),
        ("rv64mac", "must begin with rv64i or rv64g"),
        ("rv32gc", "not of the form"),
        ("rv128i", "not of the form"),
        ("rv64", "not of the form"),
        ("", "not of the form"),
        ("x86-64", "not of the form"),
        ("rv64gc_", "not of the form"),
        ("rv64gc zicntr", "not of the form"),
        ("rv64gc_xfoo", "not of the form"),
    ],
)
def test_bad_strings_are_refused_by_name(text: str, says: str) -> None:
    with pytest.raises(UnknownIsa, match=says) as caught:
        guests.load("riscv64", text or "?")
    assert repr(text or "?") in str(caught.value)


def test_message_lists_what_there_is() -> None:
    with pytest.raises(UnknownIsa) as caught:
        parse("rv64gcq")
    assert all(name in str(caught.value) for name in NAMES)


def test_unknown_guest() -> None:
    with pytest.raises(KeyError, match="riscv64"):
        guests.load("pdp11")


def test_same_string_is_the_same_guest() -> None:
    assert guests.load("riscv64", "rv64imac") is guests.load("riscv64", "rv64imac")


def test_rows_need_their_extensions() -> None:
    """A row is there exactly if every extension it needs is; compressed forms need the base row's as well."""
    names = "rv64i rv64im rv64ic rv64imac rv64if rv64ifc rv64gc rv64ib rv64i_zfhmin rva22u64".split()
    for text in (*names, DEFAULT):
        features = parse(text)
        present = {(row.name, row.pattern) for row in guests.load("riscv64", text).rows}
        expected = {(row.name, row.pattern) for row in GUEST.rows if row.requires <= features}
        assert present == expected, text


@pytest.mark.parametrize(
    ("isa", "name", "fields", "legal"),
    [
        ("rv64i", "mul", {"rd": 1, "rs1": 2, "rs2": 3}, False),
        ("rv64im", "mul", {"rd": 1, "rs1": 2, "rs2": 3}, True),
        ("rv64i", "amoadd.d", {"rd": 1, "rs1": 2, "rs2": 3, "aq": 0, "rl": 0}, False),
        ("rv64ia", "amoadd.d", {"rd": 1, "rs1": 2, "rs2": 3, "aq": 0, "rl": 0}, True),
        ("rv64imac", "fld", {"rd": 1, "rs1": 2, "imm": 0}, False),
        ("rv64imac", "c.fld", {"rd": 8, "rs1": 8, "imm": 0}, False),
        ("rv64imac", "c.fldsp", {"rd": 8, "imm": 0}, False),
        ("rv64imac", "c.ld", {"rd": 8, "rs1": 8, "imm": 0}, True),
        ("rv64ifc", "flw", {"rd": 8, "rs1": 8, "imm": 0}, True),
        ("rv64ifc", "c.fld", {"rd": 8, "rs1": 8, "imm": 0}, False),
        ("rv64idc", "c.fld", {"rd": 8, "rs1": 8, "imm": 0}, True),
        ("rv64g", "c.ld", {"rd": 8, "rs1": 8, "imm": 0}, False),
        ("rv64i", "fence.i", {"rd": 0, "rs1": 0, "imm": 0}, False),
        ("rv64i", "csrrs (reads only)", {"rd": 1, "csr": 0xC02}, False),
        ("rv64i_zicsr", "csrrs (reads only)", {"rd": 1, "csr": 0xC02}, False),
        ("rv64i_zicsr", "csrrs (reads only)", {"rd": 1, "csr": 0x003}, False),
        ("rv64if", "csrrs (reads only)", {"rd": 1, "csr": 0x003}, True),
        ("rv64i_zicntr", "csrrs (reads only)", {"rd": 1, "csr": 0xC02}, True),
        ("rv64gc", "csrrs (reads only)", {"rd": 1, "csr": 0xC02}, False),
        ("rv64i_zicntr", "csrrs (reads only)", {"rd": 1, "csr": 0xC03}, False),
        ("rv64i_zihpm", "csrrs (reads only)", {"rd": 1, "csr": 0xC03}, True),
        ("rv64i_zihpm", "csrrs (reads only)", {"rd": 1, "csr": 0xC1F}, True),
        ("rv64i_zihpm", "csrrs (reads only)", {"rd": 1, "csr": 0xC02}, False),
        ("rv64if_zfa", "fli.s", {"rd": 1, "imm": 3}, True),
        ("rv64if_zfa", "fli.d", {"rd": 1, "imm": 3}, False),
        ("rv64if_zfa", "fcvtmod.w.d", {"rd": 1, "rs1": 3}, False),
        ("rv64id_zfa", "fcvtmod.w.d", {"rd": 1, "rs1": 3}, True),
        ("rv64i_zcb", "c.lbu", {"rd": 8, "rs1": 9, "imm": 3}, True),
        ("rv64ic", "c.lbu", {"rd": 8, "rs1": 9, "imm": 3}, False),
        ("rv64i_zcb", "c.mul", {"rd": 8, "rs2": 9}, False),
        ("rv64im_zcb", "c.mul", {"rd": 8, "rs2": 9}, True),
        ("rv64i_zcb", "c.zext.h", {"rd": 8}, False),
        ("rv64i_zcb_zbb", "c.zext.h", {"rd": 8}, True),
        ("rv64i_zcb_zbb", "c.zext.w", {"rd": 8}, False),
        ("rv64i_zcb_zba", "c.zext.w", {"rd": 8}, True),
        ("rv64i_zimop", "mop.r.31", {"rd": 8, "rs1": 1}, True),
        ("rv64i", "mop.r.31", {"rd": 8, "rs1": 1}, False),
        ("rv64ic", "c.mop.1", {}, False),
        ("rv64i_zcmop", "c.mop.1", {}, True),
        ("rv64gc", "fleq.s", {"rd": 1, "rs1": 3, "rs2": 4}, False),
        ("rv64gc", "sh1add", {"rd": 1, "rs1": 2, "rs2": 3}, False),
        ("rv64gcb", "sh1add", {"rd": 1, "rs1": 2, "rs2": 3}, True),
        ("rv64gcb", "clmul", {"rd": 1, "rs1": 2, "rs2": 3}, False),
        ("rv64i", "pause", {}, True),  # as the fence that it is
        ("rv64i", "prefetch.r", {"rs1": 1, "imm": 32}, True),  # as the ori that it is
        ("rv64i", "cbo.zero", {"rs1": 1}, False),
        ("rv64if_zfhmin", "fcvt.s.h", {"rd": 1, "rs1": 1, "rm": 0}, True),
        ("rv64if_zfhmin", "fcvt.d.h", {"rd": 1, "rs1": 1, "rm": 0}, False),
        ("rv64id_zfhmin", "fcvt.d.h", {"rd": 1, "rs1": 1, "rm": 0}, True),
    ],
)
def test_what_is_left_out_is_illegal(isa: str, name: str, fields: dict[str, int], legal: bool) -> None:
    word = asm(name, **fields)
    assert GUEST.decode(word) is not None
    assert (guests.load("riscv64", isa).decode(word) is not None) == legal


@pytest.fixture(params=[False, True], ids=["reference", "translated"])
def plain(request: pytest.FixtureRequest) -> Iterator[Rig]:
    """A guest without compressed instructions: instructions are aligned to four bytes."""
    made = Rig([(CODE, 0x1000, 7)], translated=request.param, guest=guests.load("riscv64", "rv64ima"))
    yield made
    made.close()


def _start(rig: Rig, words: list[int]) -> None:
    rig.space.poke(CODE, words_to_bytes(words))
    rig.state.slots[1:32] = type(rig.state.slots)(bytes(31 * 8)).cast("Q")
    rig.state.pc, rig.state.mid_block, rig.state.count = CODE, False, 0


@pytest.mark.parametrize(
    ("words", "target"),
    [
        ([asm("jal", rd=1, imm=6)], CODE + 4 + 6),
        ([asm("jal", rd=0, imm=-2)], CODE + 4 - 2),
        ([asm("beq", rs1=0, rs2=0, imm=10)], CODE + 4 + 10),
        ([asm("jalr", rd=1, rs1=5, imm=2)], CODE + 2),
        ([asm("jalr", rd=5, rs1=5, imm=3)], CODE + 2),
    ],
    ids=["jal", "jal back", "beq", "jalr", "jalr odd"],
)
def test_jump_to_two_bytes_is_misaligned(plain: Rig, words: list[int], target: int) -> None:
    """The jump itself traps, and writes no register, with the target as the trap's value."""
    _start(plain, [asm("auipc", rd=5, imm=0), *words, asm("ecall")])
    stop = plain.run(100)
    assert stop == Stop(True, traps.FETCH_MISALIGNED, target)
    assert (plain.state.pc, plain.state.count) == (CODE + 4, 1)
    assert (plain.state.slots[1], plain.state.slots[5]) == (0, CODE)


def test_branch_not_taken_to_two_bytes_is_no_trap(plain: Rig) -> None:
    _start(plain, [asm("bne", rs1=0, rs2=0, imm=10), asm("ecall")])
    assert plain.run(100) == Stop(True, traps.USER_ECALL, 0)
    assert (plain.state.pc, plain.state.count) == (CODE + 4, 1)


def test_aligned_jumps_work_without_compressed_instructions(plain: Rig) -> None:
    _start(plain, [asm("jal", rd=1, imm=8), asm("ecall"), asm("jalr", rd=6, rs1=1, imm=1), asm("ebreak")])
    assert plain.run(100) == Stop(True, traps.USER_ECALL, 0)
    assert (plain.state.pc, plain.state.slots[1], plain.state.slots[6]) == (CODE + 4, CODE + 4, CODE + 12)


def test_parcel_is_illegal_without_compressed_instructions(plain: Rig) -> None:
    _start(plain, [asm("c.addi", rd=5, imm=1), asm("c.addi", rd=5, imm=1)])
    assert plain.run(100) == Stop(True, traps.ILLEGAL_INSTRUCTION, asm("c.addi", rd=5, imm=1))
    assert plain.state.count == 0


@pytest.mark.parametrize("translated", [False, True], ids=["reference", "translated"])
def test_two_byte_targets_work_with_compressed_instructions(translated: bool) -> None:
    rig = Rig([(CODE, 0x1000, 7)], translated=translated)
    _start(rig, [asm("jal", rd=1, imm=6), asm("c.nop", imm=0), asm("ecall")])
    assert rig.run(100) == Stop(True, traps.USER_ECALL, 0)
    assert (rig.state.pc, rig.state.count) == (CODE + 6, 1)
    rig.close()
