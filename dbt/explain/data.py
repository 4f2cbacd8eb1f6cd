"""A piece of a guest program, from its bytes to host code, as plain data: what the text, the JSON and the page show.

Guest instructions are numbered from 1 in the order of the region's blocks, and each line of IR, LLVM IR and host code
says the number of the one that it is `of`, or 0: several, or none. What is shown of a translation that is there is what
lies in the arena; it is made once more for the numbers, and `same_code` says whether that gave the same bytes.
Owns: the form of this data. Must not know: how it is shown, which piece is wanted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from dbt import regions
from dbt.code import Code, CodegenError
from dbt.explain import why
from dbt.explain.process import Name
from dbt.explain.subject import Subject
from dbt.explain.why import times
from dbt.lift import Lifter, Shape, entry
from dbt.line_table import LineTable
from dbt.memory import PAGE_SHIFT, MemoryFault
from dbt.options import callouts
from dbt.state import LEAVE, SLOTS
from dbt.tier0.reading import NotCopied, Piece, Reading
from dbt.trace import host_lines
from dbt.translate import region_of
from ir import llvm, passes
from ir import text as ir_text
from ir.block import Block, Branch, Callout, Continue, Indirect, Jump
from ir.llvm.origins import FIRST, TracedLowering
from ir.region import Region, link_of

NEAR = 1 << 15  # bytes of guest code on each side in which is looked for what leads to a block
SHOWN_WRITES = 20  # writes to code that are told one by one
_LOCATION = re.compile(r"^!(\d+) = !DILocation\(line: (\d+),", re.MULTILINE)
_DEBUG = re.compile(r",? !dbg !(\d+)")
_REGISTER = re.compile(r"(?:= getreg|setreg .*,) (\d+)$")


def explain(subject: Subject, title: str, run: str | None, total: Counter[Name] | None = None) -> dict[str, Any]:
    """All there is to say of a subject. `run`: how the run ended that was watched; None if there was none. `total`: how
    often blocks ran in all, in regions too, if that is known.
    """
    return _Explanation(subject, total).data(title, run)


class _Explanation:
    def __init__(self, subject: Subject, total: Counter[Name] | None) -> None:
        self._total = total
        self._where = where = subject.where
        self._engine: Any = where.engine
        self._watch = subject.watch
        self._subject = subject
        self._symbols = where.symbols
        self._names = why.register_names(where.guest)
        self._made = subject.translation
        request = subject.request
        translator = self._engine.translator
        self._lifter: Lifter = translator.lifter_of(where.code(request))
        self._now = self._lifter  # which reads the code as it is now
        if not all(self._is_there(start, code) for start, code in request.source):
            self._lifter = translator.lifter_of(regions.Bytes(request.source))  # as it was before
        lifted = request.lifted(self._lifter)
        pipeline = passes.pipeline_of(translator.guest.privileged is not None)
        self._stages = {block.pc: _stages(block, pipeline) for block in lifted}
        optimised = [self._stages[block.pc][-1][1] for block in lifted]
        self._region: Region = region_of(request, optimised, self._engine.options)
        self._left_out = [block.pc for block in optimised if block not in self._region.blocks]

    def _is_there(self, start: int, code: bytes) -> bool:
        try:
            return self._now.code.peek(start, len(code)) == code
        except MemoryFault:
            return False

    def _name(self, pc: int) -> Name:
        """What the watch knows the code at a guest address by."""
        return self._where.name(self._subject.request, pc)

    def _place(self, pc: int) -> int:
        """What tier 0 and translations know it by."""
        return self._where.key(self._subject.request, pc)[0]

    def _is_code(self, pc: int) -> bool:
        return self._where.is_code(self._name(pc))

    def data(self, title: str, run: str | None) -> dict[str, Any]:
        pc, boundary = self._subject.request.blocks[0]
        guest = list(self._guest())
        found: dict[str, Any] = {
            "program": title,
            "run": None if run is None else self._run(run),
            "kind": "region" if len(self._region.blocks) > 1 else "block",
            "address": pc, "symbol": self._symbols.at(pc), "boundary": boundary, "asked": self._subject.asked,
            **self._where.facts(self._subject.request),
            "translation": self._standing(), "guest": guest,
            "blocks": [self._block(block) for block in self._region.blocks],
            "left_out": self._left_out,
            "links": {"in": self._links_in(), "out": self._links_out()},
            "stencils": [one for block in self._region.blocks if (one := self._stencils(block)) is not None],
            **self._host(),
            "retired": self._watch.retired()[self._subject.name, boundary],
            **self._changes(),
        }  # fmt: skip
        return found

    def _run(self, ended: str) -> dict[str, Any]:
        return {"ended": ended, "instructions": self._where.position[0], "retired": self._where.retired,
                "promote": self._engine.options.promote}  # fmt: skip

    def _standing(self) -> str:
        """One of: made, dropped, none."""
        if self._made is not None:
            return "made"
        return "dropped" if any(gone.name == self._subject.name for gone in self._watch.gone) else "none"

    # --- the guest's side -----------------------------------------------------------------------------

    def _guest(self) -> Iterator[dict[str, Any]]:
        guest, number = self._where.guest, 0
        for block in self._region.blocks:
            lifted = self._stages[block.pc][0][1]
            for at, insn in enumerate(block.guest):
                number += 1
                decoded = guest.decode(self._lifter.code.fetch(insn.pc))
                assert decoded is not None
                reason = why.of_class(guest, decoded, [i for i in lifted.insts if i.at == at])
                yield self._row(number, block, insn.pc, insn.length, insn.text, insn.treat, reason) | {
                    "extension": decoded.row.extension, "manual": decoded.row.manual,
                }  # fmt: skip
            if isinstance(block.exit, Callout):
                yield from self._called_out(block, block.exit.pc)

    def _called_out(self, block: Block, pc: int) -> Iterator[dict[str, Any]]:
        """The instruction that the monitor executes behind a block: it is no part of the translation."""
        guest = self._where.guest
        try:
            word = self._lifter.code.fetch(pc)
        except MemoryFault:
            return
        decoded = guest.decode(word)
        length = decoded.length if decoded else 4 if word & 3 == 3 else 2
        text = guest.disassemble(decoded, pc) if decoded else "(no instruction)"
        reason = why.of_callout(decoded, callouts(self._engine.options))
        row = self._row(0, block, pc, length, text, "callout", reason)
        yield row | ({"extension": decoded.row.extension, "manual": decoded.row.manual} if decoded else {})

    def _row(self, number: int, block: Block, pc: int, length: int, text: str, treat: str, why: str) -> dict[str, Any]:
        return {
            "n": number, "pc": pc, "bytes": self._lifter.code.peek(pc, length).hex(), "text": text, "class": treat,
            "why": why, "block": block.pc, "symbol": self._symbols.at(pc),
            "monitor": self._watch.stepped[self._name(pc)], "devices": self._where.devices(self._name(pc)),
        }  # fmt: skip

    def _block(self, block: Block) -> dict[str, Any]:
        first = self._first(block)
        return {
            "address": block.pc, "symbol": self._symbols.at(block.pc), "instructions": len(block.guest),
            "entered": self._entered(block),
            "ended": why.of_end(block, self._engine.options.max_instructions),
            "stages": [
                {"name": name, "lines": [
                    {"text": line.strip(), "of": 0 if at is None else first + at, "note": self._register(line)}
                    for line, at in ir_text.lines(stage) if not line.startswith(("block ", "  guest ", "  at "))
                ]} for name, stage in self._stages[block.pc]
            ],
        }  # fmt: skip

    def _entered(self, block: Block) -> dict[str, int]:
        """How often a block was come to in each way, with a jump or without; inside regions, if that is known."""
        names = [self._name(pc) for pc in self._region.running(block.pc)]
        found = {"reference": sum(self._watch.interpreted[name] for name in names),
                 "tier0": sum(self._watch.tier0(name) for name in names)}  # fmt: skip
        if self._total is None:
            return found
        return found | {"regions": sum(self._total[name] for name in names) - sum(found.values())}

    def _register(self, line: str) -> str:
        """The name of the register that a line of IR reads or writes; IR knows its slot's number."""
        found = _REGISTER.search(line)
        return self._names.get(int(found[1]), "") if found else ""

    def _first(self, block: Block) -> int:
        """The number of a block's first instruction."""
        number = 1
        for one in self._region.blocks:
            if one is block:
                break
            number += len(one.guest)
        return number

    # --- the host's side ------------------------------------------------------------------------------

    def _host(self) -> dict[str, Any]:
        """LLVM IR before and after LLVM's passes, and host code."""
        engine = self._engine
        shop = engine.translator.backend.shop
        lowering = TracedLowering(self._region, entry(self._subject.request.blocks[0]), shop.target)
        lowered = lowering.run()
        text = llvm.module([lowered], shop.target) + lowering.metadata()
        before = _lines(lowered.text, {str(FIRST + n): n for n in range(lowering.instructions + 1)})
        try:
            code, table, improved = shop.compiler.traced(text, engine.options.passes)
        except CodegenError as error:
            return {"llvm": before, "improved": [], "host": [], "same_code": None,
                    "refused": " ".join(str(error).split())}  # fmt: skip
        numbers = {number: int(line) for number, line in _LOCATION.findall(improved)}
        start = improved.index("\ndefine ") + 1
        size = max(at + length for at, length in code.functions.values())
        placed, same = self._placed(code, size)
        words = {symbol: f"where the page at {page << PAGE_SHIFT:#x} is" for symbol, page in lowered.pages.items()}
        leads = {symbol: f"slot of the exit to {key[0]:#x}" for symbol, key in lowered.exits.items()}
        leads |= words | {lowered.counter: "the region's counter"}
        return {
            "llvm": before,
            "improved": _lines(improved[start : improved.index("\n}", start) + 2], numbers),
            "host": list(self._host_lines(code, placed, size, table, leads)),
            "same_code": same, "refused": "", "host_bytes": size,
        }  # fmt: skip

    def _placed(self, code: Code, size: int) -> tuple[tuple[int, bytes], bool | None]:
        """Where the code is and its bytes; and whether a translation that is there is the same but for its slots."""
        if self._made is None:
            return (0, code.text[:size]), None
        there = self._engine.translator.backend.arena.bytes_at(self._made.entry, self._made.size)
        plain = [bytearray(code.text[:size]), bytearray(there)]
        for offset, _, _ in code.relocations:
            for text in plain:
                text[offset : offset + 4] = bytes(4)
        return (self._made.entry, there), plain[0] == plain[1]

    def _host_lines(
        self, code: Code, placed: tuple[int, bytes], size: int, table: LineTable, leads: dict[str, str]
    ) -> Iterator[dict[str, Any]]:
        base, text = placed
        faults = dict(code.faults)
        for at, raw, shown in host_lines(text, base):
            offset = at - base
            notes = [f"{name}: the region is entered here" for name, (start, _) in code.functions.items()
                     if start == offset and offset]  # fmt: skip
            for field, symbol, _ in code.relocations:
                if offset <= field < offset + len(raw):
                    notes.append(leads[symbol])
            if offset in faults:
                notes.append(f"guest access: a fault goes on at {base + faults[offset]:#x}")
            yield {"at": at, "bytes": raw.hex(), "text": shown, "of": table.line(offset), "note": "; ".join(notes)}

    def _stencils(self, block: Block) -> dict[str, Any] | None:
        """The stencils that the block's code in tier 0 is made of, as they lie there; None if there is none."""
        tier, backend = self._engine.tier0, self._engine.translator.backend
        head = tier.head(self._place(block.pc)) if tier is not None else None
        if head is None or not block.boundary:
            return None
        words = []
        for insn in block.guest:
            decoded = self._where.guest.decode(self._lifter.code.fetch(insn.pc))
            assert decoded is not None
            words.append((insn.pc, decoded.word, insn.length, decoded.ends_block))
        if isinstance(block.exit, Callout):
            words.append((block.exit.pc, 0, 4, True))
        try:
            pieces = Reading(backend.library).block(words, head, tier.memory.bytes_at)
        except NotCopied:  # of older guest code, which is about to go
            return None
        numbers = {insn.pc: self._first(block) + at for at, insn in enumerate(block.guest)}
        return {"block": block.pc, "pieces": [self._piece(piece, numbers) for piece in pieces]}

    def _piece(self, piece: Piece, numbers: dict[int, int]) -> dict[str, Any]:
        holes = []
        for hole in piece.holes:
            shown = f"{hole.value:#x}"
            if hole.kind.startswith("register"):
                shown = self._names.get(hole.value - SLOTS >> 3, shown)
            elif hole.kind == "immediate":
                shown = str(hole.value)
            holes.append({"offset": hole.offset, "kind": hole.kind, "value": shown})
        code = host_lines(piece.code, piece.address)
        lines = [{"at": at, "bytes": raw.hex(), "text": text} for at, raw, text in code]
        return {"of": 0 if piece.pc is None else numbers.get(piece.pc, 0), "name": piece.name, "lines": lines,
                "holes": holes}  # fmt: skip

    # --- links ------------------------------------------------------------------------------------------

    def _links_in(self) -> list[dict[str, Any]]:
        """What leads here: exits of translations, and blocks of the guest's code near by."""
        cache, words = self._engine.cache, self._engine.state.words
        request = self._subject.request
        pc, boundary = request.blocks[0]
        keys = ((pc, boundary), (self._place(pc), boundary))  # that of the address: of an exit to another page
        found = []
        for translation in cache.translations():
            for slot, leads in translation.exits.items():
                if leads in keys and translation is not self._made:
                    there = self._made is not None and words[slot >> 3] == self._made.entry
                    state = "linked" if there else "not linked"
                    found.append(self._link(self._watch.name(translation.key)[0], "exit of a region", state))
        inside = {block.pc for block in self._region.blocks}
        ran = {name[0]: count for name, count in self._watch.entered().items() if self._name(name[0]) == name}
        for at, shape in sorted(self._near(pc, ran)):
            state = "in this region" if at in inside else f"entered {times(ran[at])}" if at in ran else ""
            if pc in shape.leads:
                found.append(self._link(at, "block", state))
            elif shape.indirect and pc in self._engine.promotion.ways(self._place(at)):
                found.append(self._link(at, "indirect jump, as it was seen to go", state))
        return found

    def _link(self, pc: int, how: str, state: str) -> dict[str, Any]:
        return {"address": pc, "symbol": self._symbols.at(pc), "how": how, "state": state}

    def _near(self, pc: int, ran: Iterable[int]) -> Iterator[tuple[int, Shape]]:
        """Blocks around an address: those that ran, and all others one behind the other, as far as bytes are code."""
        bounds, lifter = self._where.bounds(self._subject.request, pc), self._now
        if bounds is None:
            return
        low, high = max(bounds[0], pc - NEAR), min(bounds[1], pc + NEAR)
        seen = {at for at in ran if low <= at < high and self._is_code(at)}
        yield from ((at, lifter.shape(at)) for at in seen)
        starts = [s.address + self._symbols.bias for s in self._symbols.symbols]
        at = min((start for start in starts if low <= start <= pc), default=low if low == bounds[0] else pc)
        while at < high:
            shape = lifter.shape(at) if self._is_code(at) else None
            if shape is None or not shape.addresses:
                at += self._where.guest.align
                continue
            if at not in seen:
                yield at, shape
            at = shape.end

    def _links_out(self) -> list[dict[str, Any]]:
        """Where the blocks lead that is not in the region."""
        inside = {block.pc for block in self._region.blocks}
        found: dict[int, dict[str, Any]] = {}
        for block in self._region.blocks:
            for to, how in self._leads(block):
                if to not in inside and to not in found:
                    state = "" if isinstance(block.exit, Callout) else self._state_of(to)
                    found[to] = self._link(to, how, state)
        return list(found.values())

    def _leads(self, block: Block) -> Iterator[tuple[int, str]]:
        """Where a block may lead, as far as that is known, and how."""
        match block.exit:
            case Callout(pc):
                yield pc, "the monitor executes it"
            case Continue(pc):
                yield pc, "cut"
            case Jump(pc) | Indirect(int(pc)):
                yield pc, "jump" if block.ends_by_jump else "next"
            case Branch(_, taken, otherwise):
                yield taken, "taken"
                yield otherwise, "not taken"
            case Indirect():
                for pc in self._engine.promotion.ways(self._place(block.pc)):
                    yield pc, "indirect jump, as it was seen to go"
        if link_of(block) is not None:
            yield block.end, "behind the call"

    def _state_of(self, to: int) -> str:
        """What runs when an exit leads there."""
        engine, made = self._engine, self._made
        keys = ((to, True), self._where.key(self._subject.request, to))
        known = engine.cache.get(keys[1])
        slot = next((slot for slot, key in made.exits.items() if key in keys), None) if made else None
        if known is not None:
            where = f"the translation of {self._watch.name((known.of or known).key)[0]:#x}"
            linked = slot is not None and engine.state.words[slot >> 3] not in (0, engine.state.words[LEAVE])
            return f"linked to {where}" if linked else where
        weight = self._subject.request.weights.get(to)
        if made is not None and weight:
            return "stencils: the region had no room for it"
        tier = engine.tier0
        if tier is not None and tier.head(keys[1][0]) is not None:
            return "stencils"
        if not self._is_code(to):  # it is not known where that is
            return ""
        return "interpreted so far" if self._watch.interpreted[self._name(to)] else "never ran"

    # --- what became of it --------------------------------------------------------------------------------

    def _changes(self) -> dict[str, Any]:
        """Translations of the same key that went, and writes to the bytes, or to their pages."""
        request = self._subject.request
        source = [(self._name(start)[1], code) for start, code in request.source or ((request.blocks[0][0], b"?"),)]
        pages = {at >> PAGE_SHIFT for start, code in source for at in (start, start + len(code) - 1)}

        def hits(start: int, end: int) -> bool:
            return any(at < end and start < at + len(code) for at, code in source)

        gone = [{"why": g.why, "instructions": g.instructions, "pc": g.pc, "symbol": self._symbols.at(g.pc)}
                for g in self._watch.gone if g.name == self._subject.name]  # fmt: skip
        bytes_written = [w for w in self._watch.written if hits(w.start, w.end)]
        beside = [w for w in self._watch.written
                  if not hits(w.start, w.end) and pages & set(range(w.start >> 12, (w.end - 1 >> 12) + 1))]  # fmt: skip
        written = [w._asdict() | {"symbol": self._symbols.at(w.pc)} for w in bytes_written[:SHOWN_WRITES]]
        return {"gone": gone, "written": written, "writes": len(bytes_written), "writes_beside": len(beside)}


def _stages(block: Block, pipeline: tuple[tuple[str, passes.Pass], ...]) -> list[tuple[str, Block]]:
    """The block as it was lifted, and after each pass."""
    found = [("lifted", block)]
    for name, run in pipeline:
        found.append((name, passes.optimise(found[-1][1], ((name, run),))))
    return found


def _lines(text: str, numbers: dict[str, int]) -> list[dict[str, Any]]:
    """Lines of LLVM IR without their locations, each with the number that its location stands for.

    What LLVM writes in several lines has its location in the last one.
    """
    found: list[dict[str, Any]] = []
    begun: list[dict[str, Any]] = []
    for line in text.splitlines():
        if not line.strip():
            continue
        mark = _DEBUG.search(line)
        found.append({"text": re.sub(" +; ", "  ; ", _DEBUG.sub("", line)), "of": 0})
        if not line.startswith(" "):  # a label, or the function's first or last line
            continue
        begun.append(found[-1])
        if mark is not None:
            for one in begun:
                one["of"] = numbers.get(mark[1], 0)
            begun = []
    return found
