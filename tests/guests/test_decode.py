"""The decoder: against capstone over random words, and against itself (overlaps, encoder, bad patterns)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random

import pytest
from support.riscv import GUEST, MASK, SCALE, label, scaled

from guests.decode import Decoder, PatternError, encode, extract, layout, overlaps
from guests.riscv.csrs import CSRS
from guests.riscv.registers import SINK
from guests.spec import Decoded, Row

# --- against capstone --------------------------------------------------------------------------------

Canonical = tuple[str, ...]  # mnemonic, then operands: register names, or decimal numbers modulo 2^64

# Capstone's pseudo-instruction -> the instruction, with {0}, {1} for its operands.
PSEUDO = {
    ("nop", 0): "addi zero zero 0",
    ("li", 2): "addi {0} zero {1}",
    ("mv", 2): "addi {0} {1} 0",
    ("not", 2): "xori {0} {1} -1",
    ("neg", 2): "sub {0} zero {1}",
    ("negw", 2): "subw {0} zero {1}",
    ("sext.w", 2): "addiw {0} {1} 0",
    ("seqz", 2): "sltiu {0} {1} 1",
    ("snez", 2): "sltu {0} zero {1}",
    ("sltz", 2): "slt {0} {1} zero",
    ("sgtz", 2): "slt {0} zero {1}",
    ("beqz", 2): "beq {0} zero {1}",
    ("bnez", 2): "bne {0} zero {1}",
    ("blez", 2): "bge zero {0} {1}",
    ("bgez", 2): "bge {0} zero {1}",
    ("bltz", 2): "blt {0} zero {1}",
    ("bgtz", 2): "blt zero {0} {1}",
    ("j", 1): "jal zero {0}",
    ("jal", 1): "jal ra {0}",
    ("jr", 1): "jalr zero {0} 0",
    ("jr", 2): "jalr zero {0} {1}",
    ("jalr", 1): "jalr ra {0} 0",
    ("jalr", 2): "jalr ra {0} {1}",
    ("ret", 0): "jalr zero ra 0",
    ("fmv.s", 2): "fsgnj.s {0} {1} {1}",
    ("fabs.s", 2): "fsgnjx.s {0} {1} {1}",
    ("fneg.s", 2): "fsgnjn.s {0} {1} {1}",
    ("fmv.d", 2): "fsgnj.d {0} {1} {1}",
    ("fabs.d", 2): "fsgnjx.d {0} {1} {1}",
    ("fneg.d", 2): "fsgnjn.d {0} {1} {1}",
    ("fence", 0): "fence iorw iorw",
    ("csrr", 2): "csrrs {0} {1} zero",
    ("csrw", 2): "csrrw zero {0} {1}",
    ("csrs", 2): "csrrs zero {0} {1}",
    ("csrc", 2): "csrrc zero {0} {1}",
    ("csrwi", 2): "csrrwi zero {0} {1}",
    ("csrsi", 2): "csrrsi zero {0} {1}",
    ("csrci", 2): "csrrci zero {0} {1}",
    ("frcsr", 1): "csrrs {0} 3 zero",
    ("frrm", 1): "csrrs {0} 2 zero",
    ("frflags", 1): "csrrs {0} 1 zero",
    ("fscsr", 1): "csrrw zero 3 {0}",
    ("fsrm", 1): "csrrw zero 2 {0}",
    ("fsflags", 1): "csrrw zero 1 {0}",
    ("fscsr", 2): "csrrw {0} 3 {1}",
    ("fsrm", 2): "csrrw {0} 2 {1}",
    ("fsflags", 2): "csrrw {0} 1 {1}",
    ("fsrmi", 1): "csrrwi zero 2 {0}",
    ("fsrmi", 2): "csrrwi {0} 2 {1}",
    ("fsflagsi", 1): "csrrwi zero 1 {0}",
    ("fsflagsi", 2): "csrrwi {0} 1 {1}",
    ("rdcycle", 1): "csrrs {0} cycle zero",
    ("rdtime", 1): "csrrs {0} time zero",
    ("rdinstret", 1): "csrrs {0} instret zero",
}
CSR_NUMBERS = {"fflags": "1", "frm": "2", "fcsr": "3", "cycle": "3072", "time": "3073", "instret": "3074"}
_OPERANDS = re.compile(r"-?\d+\.\d+(?:e-\d+)?|-?0x[0-9a-f]+|-?\b\d+\b|[a-z_.][a-z0-9_.]*|0")


def canonical(mnemonic: str, operands: str) -> Canonical:
    """One form for both disassemblers: no pseudo-instructions, numbers in decimal modulo 2^64, no brackets."""
    parts = _OPERANDS.findall(operands)
    expansion = PSEUDO.get((mnemonic, len(parts)))
    if expansion is not None:
        mnemonic, *parts = expansion.format(*parts).split()
    if mnemonic in ("jalr",) and "(" in operands:  # ours: rd, imm(rs1)
        parts = [parts[0], parts[2], parts[1]]
    return (mnemonic, *(_value(p) for p in parts))


def _value(part: str) -> str:
    if part in CSR_NUMBERS:
        return CSR_NUMBERS[part]
    if "." in part:  # the constant of fli
        return part
    if part[0] in "-0123456789":
        return str(int(part, 0) & MASK)
    return part


Rule = Callable[[int, Decoded | None, Canonical | None], bool]


def _mnemonic(decoded: Decoded | None) -> str:
    return "" if decoded is None else decoded.row.name


def _unknown_csr(word: int, ours: Decoded | None, theirs: Canonical | None) -> bool:
    number, writes = word >> 20, word >> 12 & 3 == 1 or word >> 15 & 31 != 0
    system = word & 0x7F == 0x73 and word >> 12 & 3 != 0 and theirs is not None
    return system and ours is None and (number not in CSRS or (writes and CSRS[number].write is None))


def _exact_conversion(word: int, ours: Decoded | None, theirs: Canonical | None) -> bool:
    return _mnemonic(ours) in ("fcvt.d.w", "fcvt.d.wu", "fcvt.d.s") and theirs is None and word >> 12 & 7 != 0


HINTS = ("c.li", "c.lui", "c.slli", "c.mv", "c.add")  # with rd = x0


def _hint(word: int, ours: Decoded | None, theirs: Canonical | None) -> bool:
    if ours is None or theirs is not None:
        return False
    rd = word >> 7 & 31
    return rd == 0 and (ours.row.name in HINTS or (ours.row.name == "c.nop" and word != 1))


# Extensions that capstone 5 does not know, and what it takes their words for.
UNKNOWN = {
    "zba": "", "zbb": "", "zbs": "", "zbc": "", "zicond": "", "zicbom": "", "zicboz": "", "zawrs": "", "zfa": "",
    "zfhmin": "", "zcb": "", "zimop": "", "zicbop": "ori", "zihintpause": "fence", "zcmop": "c.lui",
}  # fmt: skip


def _unknown_extension(extension: str) -> Rule:
    def applies(word: int, ours: Decoded | None, theirs: Canonical | None) -> bool:
        return ours is not None and ours.row.extension == extension and (theirs or ("",))[0] == UNKNOWN[extension]

    return applies


# rule -> (why, predicate). A disagreement is excused by the first rule whose predicate holds.
RULES: dict[str, tuple[str, Rule]] = {
    "csr": ("capstone takes every CSR number; absent ones, and writes to read-only ones, are illegal", _unknown_csr),
    "fence": (
        "the manual: reserved fm, rs1, rd of fence are ignored; capstone 5 rejects them",
        lambda w, ours, theirs: _mnemonic(ours) == "fence" and theirs is None and w & 0xF00F8F80 != 0,
    ),
    "fence.i": (
        "the manual: reserved imm, rs1, rd of fence.i are ignored; capstone 5 rejects them",
        lambda w, ours, theirs: _mnemonic(ours) == "fence.i" and theirs is None and w & 0xFFFF8F80 != 0,
    ),
    "empty set": (
        "a fence of an empty set is a HINT that we print as 0; capstone prints `unknown`",
        lambda w, ours, theirs: _mnemonic(ours) == "fence" and theirs is not None and "unknown" in theirs,
    ),
    "exact conversion": ("capstone 5 takes conversions that cannot round with rm = 0 only", _exact_conversion),
    "hint": ("16-bit HINTs execute as what they are forms of; capstone 5 rejects them", _hint),
    "c.lui 0": (
        "reserved (c.lui with immediate 0); capstone 5 accepts it",
        lambda w, ours, theirs: ours is None and w & 0xF07F == 0x6001 and theirs is not None and theirs[0] == "c.lui",
    ),
    "c.unimp": ("parcel 0 is defined to be illegal; capstone names it", lambda w, ours, theirs: w == 0 and not ours),
    "privileged": (
        "instructions of the privileged manual, such as sfence.vma, are illegal at user level",
        lambda w, ours, theirs: ours is None and w & 0x707F == 0x73 and theirs is not None,
    ),
    **{
        name: (f"capstone 5 has not this extension{known and f': its words are {known}'}", _unknown_extension(name))
        for name, known in UNKNOWN.items()
    },
}


PRIVILEGED = (0x30200073, 0x10200073, 0x10500073, 0x12000073)  # mret, sret, wfi, sfence.vma


def words(rng: Random, count: int) -> Iterator[int]:
    """Privileged words, 16-bit parcels (all at full scale), 32-bit words: a row's pattern, or an opcode and noise.

    In the former each field is 0 with probability 1/4, and a CSR one that exists with probability 1/2, so that
    what needs fields to be so is reached.
    """
    yield from PRIVILEGED
    parcels = [w for w in range(1 << 16) if w & 3 != 3]
    rng.shuffle(parcels)
    parcels = parcels[: count // 2]
    yield from parcels
    shapes = [s for s in (layout(row.pattern) for row in GUEST.rows) if s.length == 4]
    opcodes = sorted({s.match & 0x7F for s in shapes})
    csrs = sorted(CSRS)
    for _ in range(count - len(parcels)):
        noise = rng.getrandbits(32)
        if noise & 1:
            yield noise & ~0x7F | rng.choice(opcodes)
            continue
        shape = rng.choice(shapes)
        word = noise & ~shape.mask | shape.match
        for field in shape.fields:
            bits = sum(((1 << p.width) - 1) << p.low for p in field.pieces)
            chance = rng.randrange(4)
            if field.name == "csr" and chance < 2:
                word = word & ~bits | rng.choice(csrs) << 20
            elif chance == 0:
                word &= ~bits
        yield word


def _text(decoded: Decoded) -> list[str]:
    """Mnemonic and operands of our disassembly at address 0."""
    return (GUEST.disassemble(decoded, 0) + " ").split(" ", 1)


def test_random_words_against_capstone() -> None:
    import capstone

    disassembler = capstone.Cs(capstone.CS_ARCH_RISCV, capstone.CS_MODE_RISCV64 | capstone.CS_MODE_RISCVC)
    look_up = GUEST.decode.look_up  # type: ignore[attr-defined]
    counts: Counter[str] = Counter()
    excepted: Counter[str] = Counter()
    unexplained: list[str] = []
    seen: set[int] = set()
    for word in words(Random(20240801), scaled(1_000_000)):
        if word in seen:
            counts["repeated"] += 1
            continue
        seen.add(word)
        ours: Decoded | None = look_up(word)
        length = 4 if word & 3 == 3 else 2
        found = next(disassembler.disasm_lite(word.to_bytes(length, "little"), 0), None)
        counts["compared"] += 1
        theirs = None if found is None else canonical(found[2], found[3])
        if ours is None:
            mine = None
        else:
            assert ours.length == length
            mine = canonical(*_text(ours))
        if mine == theirs and (found is None or found[1] == length):
            counts["agreed"] += 1
            counts["both legal" if mine else "both illegal"] += 1
            continue
        for name, (_, applies) in RULES.items():
            if applies(word, ours, theirs):
                excepted[name] += 1
                break
        else:
            counts["unexplained"] += 1
            if len(unexplained) < 40:
                unexplained.append(f"{word:#010x}: {mine} / capstone {theirs}")
    print("\ndecode against capstone: " + ", ".join(f"{n} {c}" for n, c in counts.items()))
    for name, (why, _) in RULES.items():
        print(f"  excepted {excepted[name]:7} {name}: {why}")
    assert not unexplained, "\n".join([f"{counts['unexplained']} unexplained differences", *unexplained])
    if SCALE >= 1:
        assert all(excepted[name] for name in RULES), "an exception that never applies must go"


# --- against itself ----------------------------------------------------------------------------------


def test_no_two_rows_overlap() -> None:
    found = overlaps(GUEST.rows)
    print(f"\noverlaps: {len(GUEST.rows)} rows, {len(found)} overlapping pairs")
    assert found == []


def test_overlap_is_found() -> None:
    first, second = GUEST.rows[0], GUEST.rows[1]
    clash = replace(second, name="clash", pattern="imm[31:12] rd 0110111")
    partial = replace(second, name="partial", pattern="0000000 rs2 rs1 rm rd 0110011")
    assert overlaps([first, clash]) == [("lui", "clash")]
    half = replace(second, name="half", pattern="csr rs1 000 rd 0110011")
    assert overlaps([partial, half]) == [("partial", "half")]


def test_overlap_check_knows_special_cases() -> None:
    """A row with more fixed bits wins over the general one, in either order, and is no mistake."""
    general = replace(GUEST.rows[0], name="general", pattern="csr rs1 010 rd 1110011", syntax="")
    special = replace(GUEST.rows[0], name="special", pattern="csr 00000 010 rd 1110011", syntax="")
    for table in ([general, special], [special, general]):
        assert overlaps(table) == []
        decoder = Decoder(table, SINK)
        assert decoder(encode(special, csr=1, rd=2)).row is special  # type: ignore[union-attr]
        assert decoder(encode(general, csr=1, rd=2, rs1=3)).row is general  # type: ignore[union-attr]


def _row_fields(row: Row, rng: Random) -> dict[str, int]:
    """Random encodable values of a row's fields, immediates as signed integers at random."""
    shape = layout(row.pattern)
    while True:
        noise = rng.getrandbits(8 * shape.length)
        values = {f.name: extract(f, noise) for f in shape.fields}
        if all(values[f.name] not in f.forbidden for f in shape.fields):
            return {n: v - (1 << 64) if v >> 63 and rng.getrandbits(1) else v for n, v in values.items()}


def test_encode_decode_round_trip() -> None:
    rng = Random(7)
    count = 0
    for row in GUEST.rows:
        for _ in range(scaled(200)):
            values = _row_fields(row, rng)
            if "csr" in values and rng.getrandbits(2):
                values["csr"] = rng.choice(sorted(CSRS))
            word = encode(row, **values)
            decoded = GUEST.decode(word)
            if decoded is None or decoded.row is not row:
                taken_by = decoded and decoded.row
                assert _is_exception(row, values, taken_by), (label(row), values, taken_by and taken_by.name)
                continue
            count += 1
            assert decoded.word == word and decoded.length == layout(row.pattern).length
            for name, value in values.items():
                expected = value & MASK
                if name == "rd" and row.writes == "x" and value == 0:
                    expected = SINK
                assert getattr(decoded.operands, name) == expected, (label(row), name, values)
            for name, source in row.fixed:
                value = getattr(decoded.operands, name)
                if isinstance(source, str):
                    assert value == values[source], (label(row), name)
                else:
                    expected = SINK if (name, source, row.writes) == ("rd", 0, "x") else source
                    assert value == expected, (label(row), name)
    print(f"\nencode/decode round trip: {len(GUEST.rows)} rows, {count} words")


def _is_exception(row: Row, values: dict[str, int], taken_by: Row | None) -> bool:
    """Words of a row that are not its: a reserved rounding mode, a CSR that is not there or not writable."""
    if "csr" in values:
        known = CSRS.get(values["csr"])
        reads_only = row is not None and label(row).endswith("(reads only)")
        return taken_by is None and (known is None or (known.write is None and not reads_only))
    return taken_by is None and values.get("rm") in (5, 6)


def test_encode_refuses_what_does_not_fit() -> None:
    by_name = {label(row): row for row in GUEST.rows}
    for name, values in (
        ("addi", {"rd": 1, "rs1": 2, "imm": 2048}),
        ("addi", {"rd": 1, "rs1": 2, "imm": -2049}),
        ("addi", {"rd": 32, "rs1": 2, "imm": 0}),
        ("addi", {"rd": 1, "rs1": 2}),
        ("jal", {"rd": 1, "imm": 3}),
        ("jal", {"rd": 1, "imm": 1 << 20}),
        ("beq", {"rs1": 1, "rs2": 1, "imm": 4096}),
        ("slli", {"rd": 1, "rs1": 1, "imm": 64}),
        ("slliw", {"rd": 1, "rs1": 1, "imm": 32}),
        ("lui", {"rd": 1, "imm": 4095}),
        ("c.lw", {"rd": 7, "rs1": 8, "imm": 0}),
        ("c.lw", {"rd": 16, "rs1": 8, "imm": 0}),
        ("c.lw", {"rd": 8, "rs1": 8, "imm": 2}),
        ("c.addi4spn", {"rd": 8, "imm": 0}),
        ("c.lui", {"rd": 2, "imm": 4096}),
        ("c.addi16sp", {"imm": 0}),
        ("c.jr", {"rs1": 0}),
        ("csrrs", {"csr": 1, "rs1": 0, "rd": 0}),
    ):
        with pytest.raises(PatternError, match=re.escape(name.split(" ")[0])):
            encode(by_name[name], **values)


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("imm[11:0] rs1 000 rd 001001", "31 bits"),
        ("imm[11:0] rs1 000 rd 00100111", "33 bits"),
        ("imm[11:0] rs1 000 rd 0010001", "low two bits"),
        ("000 imm[5] rd imm[4:0] 11", "low two bits"),
        ("imm[11:0] rs9 000 rd 0010011", "unknown field"),
        ("imm rs1 000 rd 0010011", "unknown field"),
        ("imm[11:0 rs1 000 rd 0010011", "bad token"),
        ("imm[11:0] rs1 002 rd 0010011", "bad token"),
        ("imm[11:0] rs1 000 rd!=x 0010011", "bad token"),
        ("IMM[11:0] rs1 000 rd 0010011", "bad token"),
        ("", "0 bits"),
    ],
)
def test_bad_patterns_are_refused(pattern: str, why: str) -> None:
    with pytest.raises(PatternError, match=why):
        layout(pattern)


def test_memo_and_look_up_agree() -> None:
    """The memo is bounded and gives what a look-up without it gives."""
    decoder = Decoder(GUEST.rows, SINK)
    decoder.MEMO = 64  # type: ignore[misc]
    rng = Random(3)
    for word in words(rng, 2000):
        for _ in range(2):
            got, again = decoder(word), decoder.look_up(word)
            assert (got and (got.row, repr(got.operands))) == (again and (again.row, repr(again.operands)))
        assert len(decoder._memo) <= 64
