"""Decoding from rows that look like the manual: pattern strings to fields, masks, look-up, encoder.

A pattern lists the bits of an instruction from the most to the least significant, in words:

    imm[11:0] rs1 000 rd 0010011          literal bits, register fields, pieces of an immediate
    imm[12|10:5] rs2 rs1 000 imm[4:1|11] 1100011
    000 uimm[5:4|9:6|2|3] rd' 00          a 16-bit pattern; rd' is a three-bit register (x8-x15)
    100 0 rd!=0 rs2!=0 10                 a field that must not be zero

`imm` pieces form a sign-extended, `uimm` pieces a zero-extended immediate; both are the operand `imm`.
Unlisted low bits of an immediate are zero. Owns: the pattern grammar, look-up, encoding, overlap check.
Must not know: what any instruction means.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache, cached_property
from typing import NamedTuple

from guests.spec import Decoded, Operands, Row

MASK64 = (1 << 64) - 1

# Width in bits of every field that a pattern may name without spelling out its bits.
WIDTHS = {
    "rd": 5, "rs1": 5, "rs2": 5, "rs3": 5, "rd'": 3, "rs1'": 3, "rs2'": 3, "rm": 3, "csr": 12,
    "aq": 1, "rl": 1, "pred": 4, "succ": 4, "fm": 4,
}  # fmt: skip
_TOKEN = re.compile(
    r"^(?:(?P<bits>[01]+)|(?P<name>[a-z][a-z0-9]*'?)(?:\[(?P<pieces>[0-9:|]+)\])?(?:!=(?P<not>[0-9,]+))?)$"
)


class PatternError(ValueError):
    """A row's pattern or syntax is wrong; the message names the row."""


class Piece(NamedTuple):
    """`width` bits of the word from bit `low` become bits of the field from bit `to`."""

    low: int
    width: int
    to: int


class Field(NamedTuple):
    """One operand: its name, where its bits come from, and what becomes of them."""

    name: str
    pieces: tuple[Piece, ...]
    signed: int  # bit width to sign-extend from, 0 for an unsigned field
    add: int  # 8 for three-bit register fields
    forbidden: tuple[int, ...]


class _Token(NamedTuple):
    """One word of a pattern: `width` bits that are `ones`, or belong to the field `name`."""

    width: int
    name: str  # "" where the bits are literal
    ones: int
    spans: tuple[tuple[int, int], ...]  # (lowest bit of the field, bits), from the most significant
    forbidden: tuple[int, ...]


class Layout:
    """A parsed pattern: `word & mask == match`, and the fields, which are worked out when they are first asked for."""

    def __init__(self, length: int, mask: int, match: int, tokens: Sequence[_Token]) -> None:
        self.length = length
        self.mask = mask
        self.match = match
        self._tokens = tokens

    @cached_property
    def fields(self) -> tuple[Field, ...]:
        pieces: dict[str, list[Piece]] = {}
        forbidden: dict[str, tuple[int, ...]] = {}
        low = 8 * self.length
        for token in self._tokens:
            if not token.name:
                low -= token.width
                continue
            for to, span in token.spans:
                low -= span
                pieces.setdefault(token.name, []).append(Piece(low, span, to))
            if token.forbidden:
                forbidden[token.name] = token.forbidden
        return tuple(_field(name, tuple(ps), forbidden.get(name, ())) for name, ps in pieces.items())


@cache
def layout(pattern: str) -> Layout:
    """Parse a pattern; raises PatternError with the offending token."""
    try:
        tokens = [_token(text) for text in pattern.split()]
    except PatternError as error:
        raise PatternError(f"pattern {pattern!r}: {error}") from None
    total = mask = match = 0
    for width, name, ones, _, _ in tokens:
        total += width
        mask, match = mask << width, match << width | ones
        if not name:
            mask |= (1 << width) - 1
    if total not in (16, 32):
        raise PatternError(f"pattern {pattern!r}: {total} bits, not 16 or 32")
    if (total == 32 and match & 3 != 3) or (total == 16 and mask & 3 == 3 and match & 3 == 3):
        raise PatternError(f"pattern {pattern!r}: the low two bits contradict its length")
    return Layout(total // 8, mask, match, tokens)


@cache
def _token(text: str) -> _Token:
    """Parse one word: there are far fewer distinct ones than patterns."""
    m = _TOKEN.match(text)
    if m is None:
        raise PatternError(f"bad token {text!r}")
    if m["bits"]:
        return _Token(len(text), "", int(text, 2), (), ())
    if m["pieces"]:
        spans = tuple(map(_span, m["pieces"].split("|")))
    elif m["name"] in WIDTHS:
        spans = ((0, WIDTHS[m["name"]]),)
    else:
        raise PatternError(f"unknown field {text!r}")
    forbidden = tuple(map(int, m["not"].split(","))) if m["not"] else ()
    return _Token(sum(width for _, width in spans), m["name"], 0, spans, forbidden)


def _span(text: str) -> tuple[int, int]:
    high, _, low = text.partition(":")
    return int(low or high), int(high) - int(low or high) + 1


def _field(name: str, pieces: tuple[Piece, ...], forbidden: tuple[int, ...]) -> Field:
    top = max(p.to + p.width for p in pieces)
    operand = {"uimm": "imm"}.get(name, name.rstrip("'"))
    return Field(operand, pieces, top if name == "imm" else 0, 8 if name.endswith("'") else 0, forbidden)


def extract(field: Field, word: int) -> int:
    """The field's value in `word`: unsigned, or sign-extended to 64 bits and taken unsigned."""
    value = 0
    for low, width, to in field.pieces:
        value |= (word >> low & (1 << width) - 1) << to
    if field.signed and value >> (field.signed - 1):
        value |= MASK64 >> field.signed << field.signed
    return value + field.add


class Decoder:
    """Look-up from instruction words to rows. `sink` is the slot that a write to register 0 goes to.

    Decoding is by word alone, so its memo never goes stale when guest code changes.
    """

    MEMO = 1 << 16  # words remembered; a program has far fewer distinct ones

    def __init__(self, rows: Iterable[Row], sink: int) -> None:
        self.rows: Sequence[Row] = tuple(rows)
        self._sink = sink
        self._memo: dict[int, Decoded | None] = {}
        shapes = [layout(row.pattern) for row in self.rows]
        self._shapes = [(shape.mask, shape.match, row, shape) for row, shape in zip(self.rows, shapes)]
        self._shapes.sort(key=lambda entry: -entry[0].bit_count())  # the more specific ones first
        self._buckets: list[dict[int, list[_Entry]]] = [{} for _ in _KEYS]  # by key, made at the first word with it

    def __call__(self, word: int) -> Decoded | None:
        """Decode one parcel (16 bits) or word (32 bits, low bits 11); None is an illegal instruction."""
        try:
            return self._memo[word]
        except KeyError:
            decoded = self.look_up(word)
            if len(self._memo) >= self.MEMO:
                self._memo.clear()
            self._memo[word] = decoded
            return decoded

    def look_up(self, word: int) -> Decoded | None:
        """Decode without the memo."""
        for mask, match, row, shape in self._bucket(word, len(_KEYS) - 1):
            if word & mask != match:
                continue
            operands = self._operands(row, shape, word)
            if operands is None:
                continue
            if row.body is None or (row.legal is not None and not row.legal(operands)):
                return None
            treat = row.treat_of(operands) if row.treat_of else row.treat
            ends = row.ends_block_of(operands) if row.ends_block_of else row.ends_block
            return Decoded(row, operands, shape.length, word, treat, ends)
        return None

    def _bucket(self, word: int, step: int) -> list[_Entry]:
        """The rows that a word with these key bits may be; of a bucket of the step before, if that was not made yet."""
        key = word & _KEYS[step]
        found = self._buckets[step].get(key)
        if found is None:
            among = self._bucket(word, step - 1) if step else self._shapes
            found = [entry for entry in among if not (entry[1] ^ key) & entry[0] & _KEYS[step]]
            self._buckets[step][key] = found
        return found

    def _operands(self, row: Row, shape: Layout, word: int) -> Operands | None:
        operands = Operands()
        for field in shape.fields:
            value = extract(field, word)
            if value in field.forbidden:
                return None
            setattr(operands, field.name, value)
        for name, given in row.fixed:
            setattr(operands, name, getattr(operands, given) if isinstance(given, str) else given)
        if row.writes == "x" and operands.rd == 0:
            operands.rd = self._sink
        return operands


_Entry = tuple[int, int, Row, Layout]  # mask and match once more, which look-up compares
# The bits that choose a bucket, step by step: the length, the opcode, funct3 of a compressed word (bits 15:13).
_KEYS = (0b11, 0b111_1111, 0b1110_0000_0111_1111)


def encode(row: Row, **values: int) -> int:
    """The instruction word of a row with these field values (register numbers and signed immediates).

    Raises PatternError when a value does not fit its field, is forbidden there, or a field is missing.
    """
    shape = layout(row.pattern)
    word = shape.match
    for field in shape.fields:
        if field.name not in values:
            raise PatternError(f"{row.name}: no value for {field.name}")
        value = values[field.name]
        raw = value - field.add
        taken = 0
        for low, width, to in field.pieces:
            taken |= ((1 << width) - 1) << to
            word |= (raw >> to & (1 << width) - 1) << low
        if (extract(field, word) - (value & MASK64)) & MASK64 or extract(field, word) in field.forbidden:
            raise PatternError(f"{row.name}: {field.name}={value} cannot be encoded")
    return word


def planned(rows: Sequence[Row], word: int) -> Row | None:
    """The row, if any, of an instruction word that no engine executes yet: for messages."""
    for row in rows:
        shape = layout(row.pattern)
        if word & shape.mask == shape.match:
            return row
    return None


def overlaps(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Pairs of rows that can both match one word, neither being the more specific of the two.

    A row whose fixed bits contain all of the other's is a special case of it and wins; so does a row
    whose forbidden values exclude the other. Anything else is a mistake in the table.
    """
    found = []
    shapes = [(row, layout(row.pattern)) for row in rows]
    for i, (a, x) in enumerate(shapes):
        for b, y in shapes[i + 1 :]:
            if not _meet(x, y):
                continue
            if x.mask == y.mask or (x.mask & y.mask) not in (x.mask, y.mask):
                found.append((a.name, b.name))
    return found


def have_common_word(a: Row, b: Row) -> bool:
    """Whether any word matches both rows, one of them being a special case of the other or not."""
    return _meet(layout(a.pattern), layout(b.pattern))


def _meet(x: Layout, y: Layout) -> bool:
    if x.length != y.length or (x.match ^ y.match) & x.mask & y.mask:
        return False
    return not _excludes(x, y) and not _excludes(y, x)


def _excludes(x: Layout, y: Layout) -> bool:
    """Whether a forbidden value of x is all that y can have there."""
    for field in x.fields:
        bits = sum(((1 << p.width) - 1) << p.low for p in field.pieces)
        if bits & ~y.mask == 0 and extract(field, y.match) in field.forbidden:
            return True
    return False
