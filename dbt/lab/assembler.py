"""An assembler for what readers of the lab write: a guest's rows, their `syntax` column read backwards.

    loop:   addi a0, a0, -1      # a comment; labels end in a colon
            bnez a0, loop
            .word 0x0010_0073

Names are those that disassembly prints, `targets` are labels or addresses, and the few usual shorthands of `SHORT` are
known. One statement a line. Owns: the text's grammar, labels. Must not know: any instruction, who runs the words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import NamedTuple

from guests.decode import PatternError, encode, layout
from guests.riscv.disasm import EXACT, ORDERING, ROUNDING
from guests.riscv.hypervisor_csrs import table
from guests.riscv.zfa import CONSTANTS
from guests.spec import Guest, Row

SHORT = {  # a shorthand: its operands, and what it stands for
    "nop": ("", "addi zero, zero, 0"),
    "mv": ("rd, rs1", "addi {rd}, {rs1}, 0"),
    "j": ("target", "jal zero, {target}"),
    "ret": ("", "jalr zero, 0(ra)"),
    "beqz": ("rs1, target", "beq {rs1}, zero, {target}"),
    "bnez": ("rs1, target", "bne {rs1}, zero, {target}"),
    "csrw": ("csr, rs1", "csrrw zero, {csr}, {rs1}"),
    "csrr": ("rd, csr", "csrrs {rd}, {csr}, zero"),
    "csrs": ("csr, rs1", "csrrs zero, {csr}, {rs1}"),
    "csrc": ("csr, rs1", "csrrc zero, {csr}, {rs1}"),
    "csrsi": ("csr, imm", "csrrsi zero, {csr}, {imm}"),
    "csrci": ("csr, imm", "csrrci zero, {csr}, {imm}"),
}
_FIELD = re.compile(r"\b(?:f?rd|f?rs[123]|imm|upper|target|constant|csr|rm|pred|succ)\b")
_LABEL = re.compile(r"\s*([A-Za-z_]\w*):")
_SAME = {"zero": "(?:zero|x0)", "sp": "(?:sp|x2)"}  # registers that a syntax names, by either of their names
_HIGH, _LOW = "%high:", "%low:"  # the halves of a label's distance, for `la`: of its first and second instruction
_SMALL = range(-2048, 2048)
_WORD = range(-(1 << 31), 1 << 31)


class AssemblyError(ValueError):
    """The text is not assembly of this guest; the message is one sentence with the line's number."""


class Assembled(NamedTuple):
    """`words` from the first address on; the line of the text that the one at an address came from; the labels."""

    words: list[int]
    lines: dict[int, int]
    labels: dict[str, int]

    def where(self, pc: int) -> str:
        """An address, for people."""
        return f"line {self.lines[pc]}" if pc in self.lines else f"{pc:#x}"


class _Statement(NamedTuple):
    line: int
    address: int
    name: str
    operands: str


def assemble(guest: Guest, text: str, base: int) -> Assembled:
    """The words of a text whose first instruction stands at `base`. Raises AssemblyError."""
    rows: dict[str, list[Row]] = {}
    for row in guest.rows:
        if row.body is not None:
            rows.setdefault(row.name, []).append(row)
    labels: dict[str, int] = {}
    statements, address = [], base
    for number, written in enumerate(text.splitlines(), 1):
        rest = re.split(r"#|//", written, maxsplit=1)[0]
        while m := _LABEL.match(rest):
            if m[1] in labels:
                raise AssemblyError(f"line {number}: there are two labels {m[1]}")
            labels[m[1]], rest = address, rest[m.end() :]
        name, _, operands = rest.strip().partition(" ")
        for plain, given in _plain(number, name, operands.strip(), rows) if name else ():
            statements.append(_Statement(number, address, plain, given))
            address += 4 if plain == ".word" else layout(rows[_stem(plain, rows)][0].pattern).length
    read = _Reader(guest, labels)
    words = [read.statement(each, rows) for each in statements]
    return Assembled(words, {each.address: each.line for each in statements}, labels)


def _stem(name: str, rows: Mapping[str, list[Row]]) -> str:
    """The row's name: of an atomic without what it says about order."""
    if name in rows:
        return name
    return next((stem for suffix in ORDERING[1:] if (stem := name.removesuffix(suffix)) in rows), "")


def _plain(line: int, name: str, operands: str, rows: Mapping[str, list[Row]]) -> Iterator[tuple[str, str]]:
    """A statement as instructions that have rows."""
    if name == ".word" or _stem(name, rows):
        yield name, operands
    elif name == "li" and "addi" in rows:
        yield from _load_immediate(line, operands)
    elif name == "la" and "auipc" in rows:
        rd, _, label = (part.strip() for part in operands.partition(","))
        yield "auipc", f"{rd}, {_HIGH}{label}"
        yield "addi", f"{rd}, {rd}, {_LOW}{label}"
    elif name in SHORT and _stem(SHORT[name][1].split()[0], rows):
        syntax, stands_for = SHORT[name]
        given = _operands(syntax, operands)
        if given is None:
            raise AssemblyError(f"line {line}: it is written `{name} {syntax}`".rstrip("` ") + "`")
        plain, _, rest = stands_for.format(**given).partition(" ")
        yield plain, rest
    else:
        raise AssemblyError(f"line {line}: there is no instruction {name!r}")


def _load_immediate(line: int, operands: str) -> Iterator[tuple[str, str]]:
    rd, _, number = (part.strip() for part in operands.partition(","))
    value = _number(number)
    if value is None or value not in _WORD:
        raise AssemblyError(f"line {line}: li takes a register and a number of 32 bits, with its sign")
    low = (value + 2048 & 0xFFF) - 2048
    if value in _SMALL:
        yield "addi", f"{rd}, zero, {value}"
    else:
        yield "lui", f"{rd}, {(value - low) >> 12 & 0xFFFFF}"
        yield "addiw", f"{rd}, {rd}, {low}"


def _number(text: str) -> int | None:
    """A number in any of Python's forms, or a letter in quotes."""
    if letter := re.fullmatch(r"'([ -~])'", text):
        return ord(letter[1])
    try:
        return int(text, 0)
    except ValueError:
        return None


@cache
def _shape(syntax: str) -> re.Pattern[str]:
    """What matches operands that are written so. A rounding mode may be left out."""
    mode = syntax.endswith(", rm")
    pieces, at, text = [], 0, syntax.removesuffix(", rm")
    for m in _FIELD.finditer(text):
        pieces += [re.escape(text[at : m.start()]), rf"(?P<{m[0]}>[^\s,()]+)"]
        at = m.end()
    shape = "".join([*pieces, re.escape(text[at:]), r"(?:,\ (?P<rm>[a-z]+))?" if mode else ""])
    shape = re.sub(r"\b(zero|sp)\b", lambda m: _SAME[m[0]], shape)
    return re.compile(shape.replace(r",\ ", r"\s*,\s*").replace(r"\(", r"\s*\(\s*").replace(r"\)", r"\s*\)"))


def _operands(syntax: str, text: str) -> dict[str, str] | None:
    m = _shape(syntax).fullmatch(text)
    return None if m is None else m.groupdict()


class _Reader:
    """Operands to numbers: of one guest, with the labels of one text."""

    def __init__(self, guest: Guest, labels: Mapping[str, int]) -> None:
        self._labels = labels
        self._registers: dict[str, dict[str, int]] = {"x": {}, "f": {}}
        for kind, names in self._registers.items():
            of_kind = [each for each in guest.registers if each.kind in (kind, "r")]
            for number, register in enumerate(of_kind):
                names.update(dict.fromkeys((register.name, *register.aliases), number))
        self._csrs = {csr.name: csr.number for csr in table(guest.features | {"h"}).values()}

    def statement(self, statement: _Statement, rows: Mapping[str, list[Row]]) -> int:
        line, address, name, operands = statement
        if name == ".word":
            word = _number(operands)
            if word is None or not 0 <= word < 1 << 32:
                raise AssemblyError(f"line {line}: .word takes a number of 32 bits")
            return word
        stem = _stem(name, rows)
        order = ORDERING.index(name.removeprefix(stem)) if name != stem else 0
        refused = ""
        for row in rows[stem]:
            given = _operands(row.syntax, operands)
            if given is None:
                continue
            try:
                return self._encode(row, given, address, order)
            except (PatternError, AssemblyError) as error:
                refused = refused or f"line {line}: {error}"
        ways = " or ".join(dict.fromkeys(f"`{row.name} {row.syntax}`".replace(" `", "`") for row in rows[stem]))
        raise AssemblyError(refused or f"line {line}: it is written {ways}")

    def _encode(self, row: Row, given: Mapping[str, str | None], address: int, order: int) -> int:
        fields = {field.name: 0 for field in layout(row.pattern).fields}
        unsaid = {"rm": 0 if row.name in EXACT else ROUNDING.index("dyn"), "aq": order >> 1, "rl": order & 1}
        fields |= {name: value for name, value in unsaid.items() if name in fields}
        for name, text in given.items():
            if text is not None:
                field, value = self._operand(name, text, address)
                fields[field] = value
        return encode(row, **fields)

    def _operand(self, name: str, text: str, address: int) -> tuple[str, int]:
        """An operand's field and its value."""
        match name:
            case "rd" | "rs1" | "rs2":
                return name, _among(self._registers["x"], text, "register")
            case "frd" | "frs1" | "frs2" | "frs3":
                return name[1:], _among(self._registers["f"], text, "floating-point register")
            case "upper" if text.startswith(_HIGH):
                return "imm", self._label(text.removeprefix(_HIGH)) - address + 2048 & -4096
            case "imm" if text.startswith(_LOW):
                return "imm", (self._label(text.removeprefix(_LOW)) - (address - 4) + 2048 & 0xFFF) - 2048
            case "upper":
                return "imm", _signed(_integer(text) << 12, 32)
            case "target":
                return "imm", self._label(text) - address
            case "constant":
                return "imm", _among({each: i for i, each in enumerate(CONSTANTS)}, text, "constant")
            case "csr":
                number = _number(text)
                return name, _among(self._csrs, text, "CSR") if number is None else number
            case "rm":
                return name, _among({each: i for i, each in enumerate(ROUNDING)}, text, "rounding mode")
            case "pred" | "succ":
                return name, sum(8 >> "iorw".index(letter) for letter in text) if set(text) <= set("iorw") else 0
        return "imm", _integer(text)

    def _label(self, text: str) -> int:
        return self._labels[text] if text in self._labels else _integer(text, "label")


def _among(names: Mapping[str, int], text: str, what: str) -> int:
    if text not in names:
        raise AssemblyError(f"there is no {what} {text!r}")
    return names[text]


def _integer(text: str, what: str = "number") -> int:
    value = _number(text)
    if value is None:
        raise AssemblyError(f"{text!r} is no {what}")
    return value


def _signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> bits - 1 & 1 else value

