"""Accesses of bytes beside each other become one, where a program does by bytes what it may not do otherwise.

Compilers for processors that need not have misaligned accesses load a word of unknown alignment byte by byte, and put
it together by shifts and `or`; so they store words, and copy memory. Here the word is one access, in either order of
its bytes.

- Loads become one at the place of the first, if nothing is stored between, and if their bytes are put together, or are
  stored beside each other. Should it fault, code leaves before the first of them, and nothing has happened.
- Stores become one at the place of the first, if nothing between them accesses memory or may leave. So no byte is there
  before the guest could see it; and where the one store faults, none is.

For processes: in a machine what crosses the end of a page would be left to the monitor each time.
Owns: which accesses, and what the values are then. Must not know: hosts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any, NamedTuple, Union

from ir.block import Block, Inst, Value
from ir.ops import MASK, OPS, signed
from ir.passes.rewrite import rewrite

WIDTHS = (8, 4, 2)  # of what accesses become, in bytes
BYTES = 8  # of a value
AT_REST = frozenset(("getreg", "setreg"))  # effects that are between stores which become one


class Byte(NamedTuple):
    """The one of this number in a load; or copies of its highest bit."""

    load: Inst
    number: int
    sign: bool = False


class Word(NamedTuple):
    """Loads that become one: of so many bytes from `address` on, which is a root and a constant."""

    loads: tuple[Inst, ...]
    address: int
    size: int
    backwards: bool


class Stores(NamedTuple):
    """Stores that become one: of so many bytes from `address` on, of a value that is shifted to the right before."""

    insts: tuple[Inst, ...]
    address: int
    size: int
    value: Value | Word
    shift: int


Part = Union[Byte, int, None]  # a byte that is 0, one of a load, or nothing that is known
Parts = tuple[Part, ...]  # of a value, the lowest first
UNKNOWN: Parts = (None,) * BYTES


def run(block: Block) -> Block:
    if sum(inst.op.name in ("load", "store") and inst.attrs[1] != BYTES for inst in block.insts) < 2:
        return block
    parts = _parts_of(block)
    plan = _Plan(block)
    for size in WIDTHS:
        for inst in block.insts:
            if inst.op.name in ("or", "add", "xor") and inst in parts:
                word = _word(parts[inst], size)
                if word is not None and plan.take(word):
                    plan.sums[inst] = word, parts[inst][size:] != (0,) * (BYTES - size)
    for group in _groups(block, parts):
        if not isinstance(group.value, Word) or plan.take(group.value):
            plan.stores.update((inst, group) for inst in group.insts)
    return plan.done() if plan.words or plan.stores else block


class _Plan:
    """What is to become of a block's instructions."""

    def __init__(self, block: Block) -> None:
        self._block = block
        self._order = {inst: i for i, inst in enumerate(block.insts)}
        self._barriers = [i for inst, i in self._order.items() if inst.op.effects & {"store", "order"}]
        self.words: dict[Inst, Word] = {}  # by load
        self.sums: dict[Inst, tuple[Word, bool]] = {}  # what is such a word, and whether with its sign
        self.stores: dict[Inst, Stores] = {}
        self._loaded: dict[Word, Inst] = {}
        self._new: dict[Inst, Value] = {}

    def take(self, word: Word) -> bool:
        """Whether these loads may become one; then they do."""
        places = [self._order[load] for load in word.loads]
        if any(min(places) < at < max(places) for at in self._barriers):
            return False
        if any(self.words.get(load, word) != word for load in word.loads):
            return False
        self.words.update(dict.fromkeys(word.loads, word))
        return True

    def done(self) -> Block:
        before = iter(self._block.insts)

        def step(now: Inst) -> Value | None:
            inst = next(before)
            became = self._became(inst, now)
            if became is not None:
                self._new[inst] = became
            return became

        return rewrite(self._block, step)

    def _became(self, inst: Inst, now: Inst) -> Value | None:
        """What an instruction becomes whose arguments have become those of `now`."""
        if inst in self.words:
            return self._part(inst, now)
        if inst in self.sums:
            word, has_sign = self.sums[inst]
            whole = self._whole(word, inst.at)
            return _op("sext", inst.at, whole, 8 * word.size) if has_sign else whole
        if inst in self.stores:
            return self._store(self.stores[inst], inst, now)
        return now

    def _part(self, load: Inst, now: Inst) -> Value:
        """What one of the loads gives."""
        word, (_, here, offset) = self.words[load], place_of(load)
        _, size, has_sign = load.attrs
        if word not in self._loaded:
            attrs = (word.address - here + offset, word.size, False)
            self._loaded[word] = Inst(OPS["load"], now.args, attrs, load.at)
        part = _shifted(self._loaded[word], 8 * (here - word.address), load.at)
        return _op("sext" if has_sign else "zext", load.at, part, 8 * int(str(size)))

    def _whole(self, word: Word, at: int) -> Inst:
        """The word as it is put together."""
        if not word.backwards:
            return self._loaded[word]
        return _shifted(_op("byteswap", at, self._loaded[word]), 8 * (BYTES - word.size), at)

    def _store(self, group: Stores, inst: Inst, now: Inst) -> Inst | None:
        if inst is not group.insts[0]:
            return None
        _, here, offset = place_of(inst)
        value = group.value
        if isinstance(value, Word):
            value = self._whole(value, inst.at)
        elif isinstance(value, Inst):
            value = _shifted(self._new[value], group.shift, inst.at)
        return Inst(OPS["store"], (now.args[0], value), (group.address - here + offset, group.size), inst.at)


def _op(name: str, at: int, value: Value, *attrs: object) -> Inst:
    return Inst(OPS[name], (value,), attrs, at)


def _shifted(value: Value, by: int, at: int) -> Any:
    return Inst(OPS["shr"], (value, by), (), at) if by else value


def place_of(access: Inst) -> tuple[Value, int, int]:
    """Where an access is: a root, a constant that is added to it, and how much of that is the access's offset."""
    offset = signed(int(str(access.attrs[0])) & MASK)
    root, away = access.args[0], offset
    while isinstance(root, Inst) and root.op.name in ("add", "sub") and isinstance(root.args[1], int):
        away += signed(root.args[1]) if root.op.name == "add" else -signed(root.args[1])
        root = root.args[0]
    return (0, away + signed(root), offset) if isinstance(root, int) else (root, away, offset)


# --- loads ------------------------------------------------------------------------------------------------------------


def _parts_of(block: Block) -> dict[Inst, Parts]:
    """Of what bytes of loads values are made, as far as any are known."""
    found: dict[Inst, Parts] = {}
    for inst in block.insts:
        if inst.op.name == "load" or any(isinstance(value, Inst) and value in found for value in inst.args):
            parts = _parts(inst, found)
            if parts is not UNKNOWN:
                found[inst] = parts
    return found


def _parts(inst: Inst, found: Mapping[Inst, Parts]) -> Parts:
    def of(value: Value) -> Parts:
        if isinstance(value, int):
            return tuple([0 if value >> 8 * i & 0xFF == 0 else None for i in range(BYTES)])
        return found.get(value, UNKNOWN)

    name, args, attrs = inst.op.name, inst.args, inst.attrs
    if name == "load":
        size = int(str(attrs[1]))
        return tuple([Byte(inst, i) for i in range(size)]) + _above(Byte(inst, size - 1), bool(attrs[2]), size)
    if name in ("zext", "sext"):
        size = int(str(attrs[0])) // 8
        low = of(args[0])[:size]
        return low + _above(low[-1], name == "sext", size)
    if name in ("shl", "shr") and isinstance(args[1], int) and args[1] & 7 == 0:
        by = (args[1] & 63) >> 3
        return ((0,) * by + of(args[0]))[:BYTES] if name == "shl" else of(args[0])[by:] + (0,) * by
    if name in ("or", "add", "xor"):
        pairs = list(zip(of(args[0]), of(args[1])))
        if all(0 in pair for pair in pairs):
            return tuple([other if one == 0 else one for one, other in pairs])
    return UNKNOWN


def _above(part: Part, has_sign: bool, size: int) -> Parts:
    """What is above so many bytes, the last of which is this."""
    if has_sign and part != 0:
        return (part._replace(sign=True) if isinstance(part, Byte) else None,) * (BYTES - size)
    return (0,) * (BYTES - size)


def _word(parts: Parts, size: int) -> Word | None:
    """The loads of which the lowest bytes are made, if they lie beside each other, and above is nothing or the sign."""
    low, high = parts[:size], parts[size:]
    if not all(isinstance(part, Byte) and not part.sign for part in low):
        return None
    bytes = [part for part in low if isinstance(part, Byte)]
    if high != (0,) * len(high) and high != (bytes[-1]._replace(sign=True),) * len(high):
        return None
    places = [(root, away + byte.number) for byte in bytes for root, away, _ in [place_of(byte.load)]]
    loads = tuple(dict.fromkeys(byte.load for byte in bytes))
    if len(loads) < 2 or sum(int(str(load.attrs[1])) for load in loads) != size:
        return None
    root, first = places[0]
    for backwards in (False, True):
        if all(place == (root, first - i if backwards else first + i) for i, place in enumerate(places)):
            return Word(loads, min(away for _, away in places), size, backwards)
    return None


# --- stores -----------------------------------------------------------------------------------------------------------


def _groups(block: Block, parts: Mapping[Inst, Parts]) -> Iterator[Stores]:
    """Stores that may become one, as many as may at a time."""
    run: list[Inst] = []
    for inst in [*block.insts, None]:
        if inst is not None and inst.op.name == "store":
            run.append(inst)
        elif inst is None or not inst.op.effects <= AT_REST:
            yield from _of_run(run, parts)
            run = []


def _of_run(run: list[Inst], parts: Mapping[Inst, Parts]) -> Iterator[Stores]:
    at = 0
    while at < len(run) - 1:
        found = None
        for end in range(min(len(run), at + BYTES), at + 1, -1):
            found = _group(run[at:end], parts)
            if found is not None:
                yield found
                break
        at = end if found is not None else at + 1


def _group(stores: list[Inst], parts: Mapping[Inst, Parts]) -> Stores | None:
    """These as one, if they lie beside each other, and so do the bytes that they store."""
    insts = tuple(stores)
    values = [(inst.args[1], int(str(inst.attrs[1]))) for inst in sorted(insts, key=lambda inst: place_of(inst)[1])]
    aways = sorted(place_of(inst)[1] for inst in insts)
    size, address = sum(width for _, width in values), aways[0]
    if size not in WIDTHS or len({place_of(inst)[0] for inst in insts}) > 1:
        return None
    if any(away + width != behind for (away, behind), (_, width) in zip(pairwise(aways), values)):
        return None
    constant = [(value & (1 << 8 * width) - 1).to_bytes(width, "little") for value, width in values
                if isinstance(value, int)]  # fmt: skip
    if len(constant) == len(values):
        return Stores(insts, address, size, int.from_bytes(b"".join(constant), "little"), 0)
    low = tuple([part for value, width in values for part in
                 (parts.get(value, UNKNOWN) if isinstance(value, Inst) else UNKNOWN)[:width]])  # fmt: skip
    word = _word(low, size)
    if word is not None:
        return Stores(insts, address, size, word, 0)
    source, shift = _source(*values[0])
    for (value, width), away in zip(values, aways):
        if _source(value, width) != (source, shift + 8 * (away - address)):
            return None
    return Stores(insts, address, size, source, shift)


def _source(value: Value, size: int) -> tuple[Value, int]:
    """A value whose bits, from this one on, are the lowest bytes of a value, as far back as it can be found."""
    shift, bits = 0, 8 * size
    while isinstance(value, Inst):
        name, args = value.op.name, value.args
        if name in ("zext", "sext") and shift + bits <= int(str(value.attrs[0])):
            value = args[0]
        elif name in ("shr", "sar") and isinstance(args[1], int) and shift + (args[1] & 63) + bits <= 8 * BYTES:
            shift += args[1] & 63
            value = args[0]
        elif name == "and" and isinstance(args[1], int) and args[1] >> shift & (1 << bits) - 1 == (1 << bits) - 1:
            value = args[0]
        else:
            break
    return value, shift
