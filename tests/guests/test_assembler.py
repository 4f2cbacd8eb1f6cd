"""Our encoder and disassembler against an assembler: every row's text must assemble to our bytes.

The assembler is binutils' if it is there, else clang from ziglang; where both are, both are asked.
"""

from __future__ import annotations

import importlib.util
import shutil
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from support import peers
from support.riscv import COUNTERS, FLOAT_CSRS, GUEST, draw, label, register_fields, scaled

from guests.decode import layout
from guests.riscv.disasm import EXACT
from guests.spec import Row

ORIGIN = 0x10_0000  # where the text stands, so that no branch target is negative
NEW = sorted({row.extension for row in GUEST.rows} - set("imafdc"))  # with names of several letters


def _binutils(source: Path, out: Path) -> None:
    march = "_".join(["rv64imafdc", *(name for name in NEW if name not in UNKNOWN["binutils"])])
    subprocess.run(["riscv64-linux-gnu-as", f"-march={march}", "-mno-relax", "-o", out, source], check=True)


def _zig(source: Path, out: Path) -> None:
    target = ["-target", "riscv64-freestanding-none", "-mcpu=" + "+".join(["generic_rv64", *"mafdc", *NEW])]
    subprocess.run([sys.executable, "-m", "ziglang", "cc", "-c", *target, source, "-o", out], check=True)


ASSEMBLERS: dict[str, tuple[Callable[[], bool], Callable[[Path, Path], None], str]] = {
    "binutils": (
        lambda: shutil.which("riscv64-linux-gnu-as") is not None,
        _binutils,
        "riscv64-linux-gnu-as is not installed: install the Debian package binutils-riscv64-linux-gnu",
    ),
    "clang": (
        lambda: importlib.util.find_spec("ziglang") is not None,
        _zig,
        'clang is not installed: pip install "dragoman[cross]"',
    ),
}

# Encodings that have no assembly of their own, by row: fields that the syntax does not show must be as given.
FENCE_TSO = 0x8330000F
UNSHOWN: dict[str, dict[str, int]] = {
    "fence": {"fm": 0, "rs1": 0, "rd": 0},  # the other values are reserved
    "fence.i": {"imm": 0, "rs1": 0, "rd": 0},
    "c.nop": {"imm": 0},
}
UNKNOWN: dict[str, tuple[str, ...]] = {  # extensions that 2.40 has not
    "binutils": ("zcb", "zcmop", "zfa", "zicond", "zimop"),
    "clang": (),
}
SHORT = ("zcb", "zcmop")  # 16-bit instructions that `.option norvc` takes away, and `rvc` does not bring back
# Rows whose other encodings an assembler refuses or writes otherwise, by assembler: field -> values left out.
LEFT_OUT: dict[str, dict[str, dict[str, tuple[int, ...]]]] = {
    "binutils": {
        "fence": {"pred": (0,), "succ": (0,)},  # 2.40 has no text for an empty set
        # 2.40 takes no rounding mode on conversions that cannot round, and encodes rne
        **{name: {"rm": (1, 2, 3, 4, 7)} for name in EXACT},
        **{name: {"imm": (0,)} for name in ("c.slli", "c.srli", "c.srai")},  # HINTs, which 2.40 refuses
    },
    "clang": {},
}


def _words(row: Row, rng: Random, assembler: str) -> list[int]:
    """Random words of a row, with those where all registers are alike and where each is x0."""
    fixed = dict(UNSHOWN.get(row.name, {}))
    left_out = LEFT_OUT[assembler].get(row.name, {})
    choices: dict[str, int | tuple[int, ...]] = dict(fixed)
    if "csr" in row.syntax.split(", "):
        choices["csr"] = FLOAT_CSRS + COUNTERS if label(row).endswith("only)") else FLOAT_CSRS
    fields = layout(row.pattern).fields
    for name, values in left_out.items():
        width = sum(p.width for p in next(f for f in fields if f.name == name).pieces)
        choices[name] = tuple(v for v in range(1 << width) if v not in values)
    variants: list[dict[str, int]] = [{}]
    for name in register_fields(row) - set(choices):
        variants.append({name: 0})
    found = {FENCE_TSO} if row.name == "fence" else set()
    for variant in variants + [{}] * scaled(12):
        try:
            found.add(draw(row, rng, **{**choices, **variant}))
        except AssertionError:
            assert variant, f"{label(row)}: no word"
    return sorted(found)


def _source(words: list[int]) -> tuple[str, bytes]:
    """The text of the words, one after another from ORIGIN, and their bytes."""
    lines = [".option norelax", f".org {ORIGIN:#x}"]
    expected = b""
    for word in words:
        decoded = GUEST.decode(word)
        assert decoded is not None
        at = ORIGIN + len(expected)
        body = GUEST.disassemble(decoded, at)
        if "target" in decoded.row.syntax:  # an absolute address is a relocation to an assembler: say it from here
            head, _, target = body.rpartition(" ")
            distance = (int(target, 16) - at + (1 << 63)) % (1 << 64) - (1 << 63)
            body = f"{head} . {'-' if distance < 0 else '+'} {abs(distance)}"
        short = f".option arch, +{decoded.row.extension}" if decoded.row.extension in SHORT else ".option rvc"
        lines += [short if decoded.length == 2 else ".option norvc", body]
        expected += word.to_bytes(decoded.length, "little")
    return "\n".join(lines) + "\n", expected


def _text_section(elf: bytes) -> bytes:
    """The bytes of .text."""
    (sections,) = struct.unpack_from("<Q", elf, 40)
    size, count, names = struct.unpack_from("<HHH", elf, 58)
    headers = [struct.unpack_from("<IIQQQQ", elf, sections + i * size) for i in range(count)]
    strings = headers[names][4]
    for name, _, _, _, offset, length in headers:
        if elf[strings + name : elf.index(b"\0", strings + name)] == b".text":
            return elf[offset : offset + length]
    raise AssertionError("no .text")


@pytest.mark.parametrize("name", ASSEMBLERS)
def test_every_row_assembles_to_our_bytes(name: str, tmp_path: Path) -> None:
    present, assemble, install = ASSEMBLERS[name]
    if not present():
        peers.missing(install)
    rng = Random(11)
    rows = [row for row in GUEST.rows if row.extension not in UNKNOWN[name]]
    words = [(row, word) for row in rows for word in _words(row, rng, name)]
    text, expected = _source([word for _, word in words])
    source, out = tmp_path / "rows.s", tmp_path / "rows.o"
    source.write_text(text)
    assemble(source, out)
    got = _text_section(out.read_bytes())[ORIGIN:]
    per_row: Counter[str] = Counter()
    wrong = []
    at = 0
    for (row, word), line in zip(words, text.splitlines()[3::2], strict=True):
        length = layout(row.pattern).length
        if got[at : at + length] != expected[at : at + length]:
            wrong.append(f"{label(row)}: {line!r} is {word:#x}, {name} made {got[at : at + length][::-1].hex()}")
        per_row[label(row)] += 1
        at += length
    print(f"\nassembler {name}: {len(per_row)} rows, {sum(per_row.values())} words, {len(wrong)} differ; "
          f"not asked: {', '.join(UNKNOWN[name]) or 'none'}")  # fmt: skip
    assert not wrong, "\n".join(wrong[:30])
    assert len(got) == len(expected)
    assert set(per_row) == {label(row) for row in rows}
