"""E01: the decoder against capstone, over random words. The test suite does this with a million words and operands."""

from __future__ import annotations

import re
from collections import Counter
from random import Random

import guests
from dbt.lab.report import Report
from guests.decode import layout
from guests.spec import Decoded, Guest

WORDS = 40_000
ISA = "rv64gc_zicntr"  # capstone 5 decodes no more of what we do
# capstone's pseudo-instructions: what each is short for.
SHORT = {
    "nop": "addi", "li": "addi", "mv": "addi", "not": "xori", "neg": "sub", "negw": "subw", "sext.w": "addiw",
    "seqz": "sltiu", "snez": "sltu", "sltz": "slt", "sgtz": "slt", "beqz": "beq", "bnez": "bne", "blez": "bge",
    "bgez": "bge", "bltz": "blt", "bgtz": "blt", "j": "jal", "jr": "jalr", "ret": "jalr", "fmv.s": "fsgnj.s",
    "fabs.s": "fsgnjx.s", "fneg.s": "fsgnjn.s", "fmv.d": "fsgnj.d", "fabs.d": "fsgnjx.d", "fneg.d": "fsgnjn.d",
    "csrr": "csrrs", "csrw": "csrrw", "csrs": "csrrs", "csrc": "csrrc", "csrwi": "csrrwi", "csrsi": "csrrsi",
    "csrci": "csrrci", "frcsr": "csrrs", "frrm": "csrrs", "frflags": "csrrs", "fscsr": "csrrw", "fsrm": "csrrw",
    "fsflags": "csrrw", "fsrmi": "csrrwi", "fsflagsi": "csrrwi", "rdcycle": "csrrs", "rdtime": "csrrs",
    "rdinstret": "csrrs", "c.unimp": "",
}  # fmt: skip
_NUMBER = re.compile(r"-?0x[0-9a-f]+|-?\b\d+\b")


def words(guest: Guest, rng: Random, count: int) -> list[int]:
    """A third 16-bit parcels, a third noise under a valid opcode, a third drawn from the rows' patterns."""
    shapes = [s for s in (layout(row.pattern) for row in guest.rows) if s.length == 4]
    opcodes = sorted({s.match & 0x7F for s in shapes})
    drawn = []
    for i in range(count):
        noise = rng.getrandbits(32)
        if i % 3 == 0:
            drawn.append(noise & 0xFFFF & ~3 | rng.choice((0, 1, 2)))
        elif i % 3 == 1:
            drawn.append(noise & ~0x7F | rng.choice(opcodes))
        else:
            shape = rng.choice(shapes)
            drawn.append(noise & ~shape.mask | shape.match)
    return drawn


def excused(word: int, ours: Decoded | None, theirs: str | None) -> str:
    """Why the two may differ on this word, "" if nothing explains it."""
    name = ours.row.name if ours else ""
    if ours is None and word & 0x7F == 0x73 and word >> 12 & 3 and theirs is not None:
        return "a CSR that is not there: capstone takes every number"
    if name in ("fence", "fence.i") and theirs is None:
        return "reserved fields of fence and fence.i are to be ignored; capstone 5 rejects them"
    if name in ("fcvt.d.w", "fcvt.d.wu", "fcvt.d.s") and theirs is None and word >> 12 & 7:
        return "exact conversions: capstone 5 takes rounding mode 0 only"
    if ours is not None and theirs is None and ours.length == 2:
        return "16-bit hints: capstone 5 rejects them"
    if ours is None and word & 0xF07F == 0x6001:
        return "c.lui with immediate 0 is reserved; capstone 5 takes it"
    return ""


def same(guest: Guest, ours: Decoded, mnemonic: str, operands: str) -> bool:
    """Mnemonics, and operands too where capstone printed the instruction itself and not a pseudo-instruction."""
    text = guest.disassemble(ours, 0)
    mine, _, mine_operands = text.partition(" ")
    if mnemonic in SHORT:
        return SHORT[mnemonic] == mine
    if mnemonic != mine:
        return False
    if ours.row.extension == "zicsr" or mine in ("jal", "jalr", "c.jalr", "c.jal", "fence"):  # printed in other forms
        return True
    return _plain(mine_operands) == _plain(operands)


def _plain(operands: str) -> list[str]:
    """Operand names and numbers modulo 2^64, in order."""
    numbers = _NUMBER.sub(lambda m: str(int(m[0], 0) & (1 << 64) - 1), operands)
    return re.findall(r"[a-z0-9]+", numbers)


def run(report: Report) -> None:
    import capstone

    guest = guests.load("riscv64", ISA)
    md = capstone.Cs(capstone.CS_ARCH_RISCV, capstone.CS_MODE_RISCV64 | capstone.CS_MODE_RISCVC)
    counts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    wrong: list[str] = []
    for word in words(guest, Random(1), WORDS):
        ours = guest.decode(word)
        length = 4 if word & 3 == 3 else 2
        theirs = next(md.disasm_lite(word.to_bytes(length, "little"), 0), None)
        mnemonic = None if theirs is None or theirs[2] == "c.unimp" else theirs[2]
        if ours is None and mnemonic is None:
            counts["both illegal"] += 1
        elif ours is not None and mnemonic is not None and theirs is not None and (
            ours.length == theirs[1] and same(guest, ours, mnemonic, theirs[3])
        ):
            counts["the same instruction"] += 1
        elif why := excused(word, ours, mnemonic):
            counts["excused"] += 1
            reasons[why] += 1
        else:
            text = guest.disassemble(ours, 0) if ours else "illegal"
            wrong.append(f"{word:#010x}: {text} / capstone {theirs and theirs[2:]}")
    report.say(f"{WORDS:,} random words as {ISA}, ours against capstone: legal or not, length, mnemonic, operands")
    for name, count in counts.items():
        report.figure(name, count)
    for why, count in reasons.most_common():
        report.figure(f"  {count:,} times", why)
    report.show("\n".join(wrong[:10]))
    report.check(counts["the same instruction"] > WORDS // 4, "more than a quarter of the words are legal in both")
    report.check(not wrong, f"{len(wrong)} differences that no known reason explains")
