"""The library of stencils: every row's body compiled once, and the tables by which native code finds and fills them.

A *form* is a row with the fields that its template had to know: a pattern of its own, a stencil, and where the
values of the stencil's holes come from. Several forms share a stencil: compressed ones that of their base.
The result is one string of bytes, whose form is in `dbt.tier0.layout`.
Owns: the making of these bytes. Must not know: where code is copied to, who runs it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from dbt.code import CodegenError
from dbt.state import BUDGET_SHIFT
from dbt.tier0.layout import (
    BEHIND,
    ENDS,
    FALLS,
    FAR,
    FLOATS,
    FOLLOWING,
    HEADER,
    IMM,
    OUT_AT_HEAD,
    OUT_HEAD,
    OUT_LEAVE,
    OUT_MISS,
    OUT_NATIVE,
    OUT_NEXT,
    OUT_SIDE,
    OUT_TAKEN,
    PARAM32,
    PARAM64,
    PC,
    READ,
    SMALL,
    WRITTEN,
)
from dbt.tier0.template import REGISTERS, NeedsCallout, NeedsStatic, Unsuited, template
from guests.decode import Field, Layout, layout
from guests.spec import Guest, Operands, Row, Treat
from ir.block import Block
from ir.llvm import Target
from ir.llvm.lines import Lines
from ir.llvm.stencil import (
    IMMEDIATE,
    MISSED,
    NATIVES,
    NOPS,
    PARAMETERS,
    SHORT,
    TAKEN,
    StencilLowering,
    declarations,
    entry_of,
)
from ir.llvm.target import SIDE_REASONS

MOST_STATIC = 64  # values of a field that a row may be made for
ANY = "any"  # the name of a stencil until it has one
BATCH = 64  # stencils compiled together


@dataclass
class Stencil:
    """Code with holes: (offset, kind, argument, addend). An argument that is a field is its name."""

    code: bytes
    holes: list[tuple[int, int, int | str, int]]
    falls: bool  # its end leads to what follows


@dataclass
class Form:
    """One pattern and its stencil; None: the monitor executes it."""

    row: Row
    length: int
    mask: int
    match: int
    known: dict[str, int] = field(default_factory=dict)
    block: Block | None = None
    stencil: int = -1

    @property
    def ends(self) -> bool:
        """Whether it ends a block."""
        return self.row.ends_block_of(_operands(self.known)) if self.row.ends_block_of else self.row.ends_block

    @property
    def floats(self) -> bool:
        """Whether it computes in floating point."""
        return self.block is not None and any("flags" in inst.op.effects for inst in self.block.insts)


def forms(guest: Guest, callouts: frozenset[Treat]) -> Iterator[Form]:
    """All forms of a guest, but those of rows that the user brought, which the monitor executes."""
    for row in guest.rows:
        shape = layout(row.pattern)
        fixed = {name: value for name, value in row.fixed if isinstance(value, int)}
        known = {name: value for name, value in fixed.items() if value == 0 or name not in REGISTERS}
        if row.writes == "x" and "rd" in known:
            known["rd"] = guest.sink_slot
        yield from _variants(guest, callouts, row, shape, known, shape.mask, shape.match)
        yield Form(row, shape.length, shape.mask, shape.match)
        for one in shape.fields:
            for value in one.forbidden:
                mask, match = _placed(one, value)
                yield Form(row, shape.length, shape.mask | mask, shape.match | match)


def _variants(
    guest: Guest, callouts: frozenset[Treat], row: Row, shape: Layout, known: dict[str, int], mask: int, match: int
) -> Iterator[Form]:
    if row.extension in guest.own or row.body is None or (row.treat_of is None and row.treat in callouts):
        return
    try:
        made = template(guest, row, known)
    except NeedsStatic as need:
        fields = [one for one in shape.fields if one.name == need.field]
        if not fields:
            fixed = dict(row.fixed)[need.field]
            assert isinstance(fixed, int)
            yield from _variants(guest, callouts, row, shape, {**known, need.field: fixed}, mask, match)
            return
        bits = sum(piece.width for piece in fields[0].pieces)
        for value in range(1 << bits):
            operands = _operands({**known, need.field: value})
            if row.legal is not None and not row.legal(operands):
                continue
            if row.treat_of is not None and row.treat_of(operands) in callouts:
                continue
            where, what = _placed(fields[0], value)
            yield from _variants(guest, callouts, row, shape, {**known, need.field: value}, mask | where, match | what)
        return
    except (NeedsCallout, Unsuited):
        return
    yield Form(row, shape.length, mask, match, known, made)


def _operands(known: dict[str, int]) -> Operands:
    """Those that are known."""
    operands = Operands()
    for name, content in known.items():
        setattr(operands, name, content)
    return operands


def _placed(one: Field, value: int) -> tuple[int, int]:
    """Mask and bits of a field's value in the word."""
    mask = match = 0
    for low, width, to in one.pieces:
        mask |= ((1 << width) - 1) << low
        match |= (value - one.add >> to & (1 << width) - 1) << low
    return mask, match


# --- compiling ------------------------------------------------------------------------------------------------


def compile_stencils(
    lowered: Sequence[StencilLowering], target: Target, compile: Callable[[str], dict[str, Stencil]],
    progress: Callable[[int, int], None],
) -> list[Stencil]:  # fmt: skip
    """The stencils of templates, in their order."""
    made: list[Stencil] = []
    for start in range(0, len(lowered), BATCH):
        batch = lowered[start : start + BATCH]
        texts = [one.result.text.replace(f'@"{ANY}"', f"@s{i}") for i, one in enumerate(batch)]
        symbols = sorted({line for one in batch for line in one.symbols()})
        found = compile("\n".join([*declarations(target), *symbols, *texts, ""]))
        made += [whole(found[f"s{i}"], one.marked) for i, one in enumerate(batch)]
        progress(len(made), len(lowered))
    return made


def whole(stencil: Stencil, marked: Sequence[str]) -> Stencil:
    """A stencil with all bytes that were marked as holes, where what becomes a NOP has the length of one.

    Raises CodegenError.
    """
    found = [hole[1:] for hole in stencil.holes]
    for symbol in marked:
        if found.count(hole_of(symbol)) < marked.count(symbol):
            raise CodegenError(f"a stencil has lost its hole {symbol}")
    for offset, kind, *_ in stencil.holes:
        if kind == WRITTEN and stencil.code[offset - 3] >> 4 != 4:  # REX, opcode, ModRM, and the displacement
            raise CodegenError("a stencil writes a register by an instruction of another length")
    return stencil


def special_text(target: Target, pinned: Sequence[int]) -> str:
    """The stencils that are no instruction: the begin of a block, and what lies behind blocks."""

    def value(name: str, number: str, bits: int = 32) -> str:
        return f' %{name} = call i64 asm "{"movq" if bits == 32 else "movabsq"} $${number}, $0", "=r"()'

    def go(to: str, t: str = "%t", via: str = "%via", limit: str = "%limit") -> str:
        at = f"ptr %m, ptr %s, i64 {t}, i64 {via}, i64 {limit}"
        return f" musttail call preserve_nonecc void {to}({at})\n ret void"

    less = ' %u = call i64 asm "subq $$p0, $0", "=r,0,~{flags}"(i64 %t)'
    head = f"""define preserve_nonecc void @head({PARAMETERS}) #1 {{
entry:
 %late = icmp slt i64 %t, {1 << BUDGET_SHIFT}
 br i1 %late, label %out, label %on, !prof !1
on:
 %below = call i8 asm sideeffect "subl $$p2, p1($1)", "={{@ccs}},r,~{{memory}}"(ptr %s)
 %hot = icmp ne i8 %below, 0
 br i1 %hot, label %out, label %go, !prof !1
go:
{less}
{go('@"to.next"', "%u")}
out:
{go('@"to.head"')}
}}"""
    segment = f"""define preserve_nonecc void @segment({PARAMETERS}) #1 {{
{less}
{go('@"to.next"', "%u")}
}}"""
    there = Lines()
    if target.translations is None:  # the entry in the directory is known
        code = there.let(f"load ptr, ptr {there.let('getelementptr i8, ptr %s, i64 ptrtoint (ptr @p1 to i64)')}")
    else:
        code = entry_of(there, "%pc", target)
    link = "\n".join([
        f"define preserve_nonecc void @link({PARAMETERS}) #1 {{", value("pc", "q0", 64), *there.lines,
        go(code, "%t", "%pc"), "}",
    ])  # fmt: skip
    side = f"""define preserve_nonecc void @side({PARAMETERS}) #1 {{
{value("pc", "q0", 64)}
{value("restore", "p1")}
{value("code", "p2")}
 %u = add i64 %t, %restore
{go('@"to.leave"', "%u", "%pc", "%code")}
}}"""
    late = f"""define preserve_nonecc void @late({PARAMETERS}) #1 {{
{value("pc", "q0", 64)}
{go('@"to.at_head"', "%t", "%pc")}
}}"""
    callout = side.replace("@side", "@callout")
    rest = [f"%p{i}" for i in range(1, len(pinned))]
    loads = "".join(
        f" %a{i} = getelementptr i8, ptr %s, i64 {target.slot(slot)}\n %r{i} = load i64, ptr %a{i}\n"
        for i, slot in enumerate(pinned)
    )
    carried = "".join(f", i64 %r{i}" for i in range(len(pinned))) or ", i64 %limit"
    door = (
        f"define preserve_nonecc void @door({PARAMETERS}{''.join(f', i64 {p}' for p in rest)}) #1 {{\n{loads}"
        f' musttail call preserve_nonecc void @"to.next"(ptr %m, ptr %s, i64 %t, i64 %via{carried})\n ret void\n}}'
    )
    symbols = [f"@{p} = external global i8, !absolute_symbol !3" for p in ("p0", "p1", "p2", "q0")]
    outs = ("to.head", "to.leave", "to.at_head", *NATIVES[2:])
    symbols += [f'declare preserve_nonecc void @"{name}"(ptr, ptr, i64, i64, i64)' for name in outs]
    tail = f"""define preserve_nonecc void @tail({PARAMETERS}) #1 {{
{value("pc", "q0", 64)}
{go('@"to.cross"', "%t", "%pc")}
}}"""
    cross = f"""define preserve_nonecc void @cross({PARAMETERS}) #1 {{
entry:
{value("page", "q0", 64)}
 %set = inttoptr i64 %limit to ptr
 %row = getelementptr i8, ptr %set, i64 ptrtoint (ptr @p1 to i64)
 %tag = load i64, ptr %row
 %known = icmp eq i64 %tag, %page
 br i1 %known, label %look, label %out, !prof !2
look:
 %a = getelementptr i8, ptr %row, i64 16
 %delta = load i64, ptr %a
 %at = add i64 %page, %delta
 %there = inttoptr i64 %at to ptr
 %half = load i16, ptr %there
 %now = zext i16 %half to i64
{value("then", "p2")}
 %same = icmp eq i64 %now, %then
 br i1 %same, label %on, label %out, !prof !2
on:
{go('@"to.next"')}
out:
 %pc = sub i64 %page, 2
{go('@"to.again"', "%t", "%pc")}
}}"""
    crossing = [] if target.translations is None else [tail, cross]
    return "\n".join([*declarations(target), *symbols, head, segment, link, side, late, callout, door, *crossing, ""])


SPECIAL = {
    "p0": (PARAM32, 0), "p1": (PARAM32, 1), "p2": (PARAM32, 2), "q0": (PARAM64, 0),
    "to.cross": (OUT_NATIVE, 2), "to.again": (OUT_NATIVE, 3),
    "to.head": (OUT_HEAD, 0), "to.at_head": (OUT_AT_HEAD, 0), "to.leave": (OUT_LEAVE, 0), "to.next": (OUT_NEXT, 0),
}  # fmt: skip


def hole_of(symbol: str) -> tuple[int, int | str, int]:
    """Kind, argument (a field's name, until the form gives it a number) and what is added, by a symbol's name."""
    if symbol in SPECIAL:
        return (*SPECIAL[symbol], 0)
    if symbol in (IMMEDIATE, SHORT):
        return (IMM if symbol == IMMEDIATE else SMALL), "imm", 0
    if symbol == "pc":
        return PC, 0, 0
    if symbol == "next":
        return FOLLOWING, 0, 0
    if symbol == "behind":
        return BEHIND, 0, 0
    if symbol == TAKEN:
        return OUT_TAKEN, "imm", 0
    if symbol == MISSED:
        return OUT_MISS, 0, 0
    if symbol in NATIVES:
        return OUT_NATIVE, NATIVES.index(symbol), 0
    if symbol.startswith("side."):
        return OUT_SIDE, SIDE_REASONS.index(symbol[5:]), 0
    what, *middle, name = symbol.split(".")
    if what == "read":
        return READ, name, 0
    if what in NOPS:
        return WRITTEN, name, NOPS[what]
    return FAR, name, 8 * int(middle[0])


# --- the bytes -------------------------------------------------------------------------------------------------


def build(
    guest: Guest, callouts: frozenset[Treat], target: Target, pinned: Sequence[int],
    compile: Callable[[str], dict[str, Stencil]], progress: Callable[[int, int], None] = lambda done, of: None,
) -> bytes:  # fmt: skip
    """The library of a guest's rows, and of what `target` says of the host and the CPU state.

    Instructions of the classes in `callouts` have none. `pinned` are the guest registers that
    translations carry in host registers, and stencils do not.
    """
    found = list(forms(guest, callouts))
    lowered: dict[str, tuple[int, StencilLowering]] = {}
    for form in found:
        if form.block is not None:
            one = StencilLowering(form.block, ANY, target)
            form.stencil = lowered.setdefault(one.run().text, (len(lowered), one))[0]
    stencils = compile_stencils([one for _, one in lowered.values()], target, compile, progress)
    special = compile(special_text(target, pinned))
    return _Packer(guest, found, stencils, special).packed()


class _Packer:
    """Puts the parts one behind the other."""

    def __init__(
        self, guest: Guest, found: list[Form], stencils: list[Stencil], special: dict[str, Stencil]
    ) -> None:
        self._out = bytearray(4 * len(HEADER))
        self._stencils = stencils
        self._codes: dict[bytes, int] = {}
        for name in HEADER[2:]:
            if name in special:
                self._set(name, self._stencil(special[name], []))
        at = {id(form): self._form(form) for form in found}
        self._set("parcels", self._parcels([f for f in found if f.length == 2], at))
        self._set("buckets", self._buckets([f for f in found if f.length == 4], at))

    def packed(self) -> bytes:
        return bytes(self._out)

    def _set(self, name: str, at: int) -> None:
        struct.pack_into("<I", self._out, 4 * HEADER.index(name), at)

    def _put(self, data: bytes) -> int:
        self._out.extend(bytes(-len(self._out) % 16))
        at = len(self._out)
        self._out.extend(data)
        return at

    def _words(self, *words: int) -> int:
        return self._put(struct.pack(f"<{len(words)}I", *(w & 0xFFFFFFFF for w in words)))

    def _stencil(self, stencil: Stencil, fields: Sequence[str]) -> int:
        code = self._codes.get(stencil.code)
        if code is None:
            code = self._codes[stencil.code] = self._put(stencil.code + bytes(16))
        words = [len(stencil.code), len(stencil.holes), code]
        for offset, kind, argument, addend in stencil.holes:
            number = fields.index(argument) if isinstance(argument, str) else argument
            words += [offset, kind, number, addend]
        return self._words(*words)

    def _form(self, form: Form) -> int:
        """0 is none, which the monitor executes."""
        if form.stencil < 0:
            return 0
        stencil, row = self._stencils[form.stencil], form.row
        names = sorted({a for _, _, a, _ in stencil.holes if isinstance(a, str)})
        fixed: dict[str, int | str] = dict(row.fixed)
        fields = {one.name: one for one in layout(row.pattern).fields}
        flags = (ENDS if form.ends else 0) | (FALLS if stencil.falls else 0) | (FLOATS if form.floats else 0)
        words = [self._stencil(stencil, names), flags]
        words += [form.length, len(names)]
        for name in names:
            source = fixed.get(name, name)
            short = any(hole[1] == SMALL and hole[2] == name for hole in stencil.holes)
            if isinstance(source, int):
                assert not short, f"{row.name}: {name}"
                words += [0, 0, source]
                continue
            one = fields[source]
            assert not short or max(piece.to + piece.width for piece in one.pieces) <= 8, f"{row.name}: {name}"
            words += [len(one.pieces), one.signed, one.add]
            for piece in one.pieces:
                words += [piece.low, piece.width, piece.to]
        return self._words(*words)

    def _parcels(self, found: list[Form], at: dict[int, int]) -> int:
        table = [0] * (1 << 16)
        for form in sorted(found, key=lambda f: (f.mask.bit_count(), f.stencil >= 0)):
            free = [1 << b for b in range(16) if not form.mask >> b & 1]
            words = [form.match]
            for bit in free:
                words += [word | bit for word in words]
            place = at[id(form)]
            for word in words:
                table[word] = place
        return self._words(*table)

    def _buckets(self, found: list[Form], at: dict[int, int]) -> int:
        rows: list[list[Form]] = [[] for _ in range(256)]
        for form in found:
            for key in range(256):
                word = (key & 31) << 2 | (key >> 5) << 12
                if not (word ^ form.match) & form.mask & 0x707C:
                    rows[key].append(form)
        pairs = []
        for bucket in rows:
            bucket.sort(key=lambda f: (-f.mask.bit_count(), f.stencil < 0))
            words = [w for f in bucket for w in (f.mask, f.match, at[id(f)])]
            pairs += [self._words(*words) if words else 0, len(bucket)]
        return self._words(*pairs)


__all__ = ["Form", "Stencil", "build", "forms", "hole_of", "whole"]
