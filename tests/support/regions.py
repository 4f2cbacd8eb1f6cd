"""What tests of regions need: programs from words and labels, both engines on them, whether it was regions that ran."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from support.riscv import GUEST, Rig, asm, words_to_bytes

from dbt.backend import Workshop
from dbt.block import Translation
from dbt.code import Code
from dbt.engine import Translated
from dbt.lift import Lifter
from dbt.options import Options
from dbt.reference import Stop
from dbt.regions import Bytes, Request
from dbt.translate import TIMED, make
from guests.spec import Guest

PAGE = 0x1000
CODE, DATA = 0x10000, 0x20000
REGIONS = ((CODE, 0x4000, 7), (DATA, 0x2000, 3))
ECALL, RET, NOP = asm("ecall"), asm("jalr", rd=0, rs1=1, imm=0), asm("addi", rd=0, rs1=0, imm=0)
ZERO, RA, SP, T0, T1, T2, S0, S1, A0, A1, A2, A3 = 0, 1, 2, 5, 6, 7, 8, 9, 10, 11, 12, 13
Item = int | str | tuple[Any, ...]


def addi(rd: int, rs1: int, imm: int) -> int:
    return asm("addi", rd=rd, rs1=rs1, imm=imm)


def assemble(*items: Item, base: int = CODE) -> tuple[list[int], dict[str, int]]:
    """Words, and addresses of labels. A string is a label; a tuple a branch or jump, with a label as its last part."""
    labels, at = {}, base
    for item in items:
        if isinstance(item, str):
            labels[item] = at
        else:
            at += 4
    words, at = [], base
    for item in items:
        if isinstance(item, tuple):
            name, *registers, label = item
            fields = ("rd",) if name == "jal" else ("rs1", "rs2")
            words.append(asm(name, imm=labels[label] - at, **dict(zip(fields, registers, strict=True))))
        elif isinstance(item, int):
            words.append(item)
        at += 4 * (not isinstance(item, str))
    return words, labels


def made_of(words: list[int], options: Options | None = None, at: int = CODE, translated: bool = True,
            **registers: int) -> Rig:  # fmt: skip
    rig = Rig(REGIONS, options, translated=translated)
    rig.space.poke(at, words_to_bytes(words))
    rig.state.pc = at
    for name, value in registers.items():
        rig.state.slots[rig.state.slot(name)] = value
    return rig


def text_of(request: Request, options: Options, guest: Guest = GUEST) -> str:
    """What LLVM is given for it."""
    shop, texts = Workshop(guest, options), list[str]()

    def compile(text: str) -> Code:
        texts.append(text)
        return shop.compile(text)

    lifter = Lifter(guest, options, Bytes(request.source))
    make(request, lifter, shop.target, compile, dict.fromkeys(TIMED, 0.0))
    return texts[0]


class Watch:
    """Counts the instructions that translations of several blocks retire in an engine, those that are gone too."""

    def __init__(self, engine: Translated) -> None:
        self._cache = cache = engine.cache
        self._gone = 0
        told = cache.dropped

        def dropped(translation: Translation) -> None:
            if len(translation.source) > 1:
                self._gone += cache.retired(translation)
            told(translation)

        cache.dropped = dropped

    @property
    def retired(self) -> int:
        return self._gone + sum(self._cache.retired(t) for t in self._cache.translations() if len(t.source) > 1)


def outcome(rig: Rig, stop: Stop) -> tuple[object, ...]:
    return rig.outcome(stop), rig.memory()


def both(words: list[int], options: Options | None = None, prepare: Callable[[Rig], None] = lambda rig: None,
         strides: tuple[int, ...] = (1 << 40,), share: float = 0.5, **registers: int) -> tuple[Rig, Rig]:  # fmt: skip
    """Run this in both engines in these strides, and then to a trap: all the same, and in regions mostly."""
    rigs = [made_of(words, options, translated=translated, **registers) for translated in (False, True)]
    engine = rigs[1].engine
    assert isinstance(engine, Translated)
    watch = Watch(engine)
    seen = []
    for rig in rigs:
        prepare(rig)
        trace = []
        for stride in (*strides, 1 << 40):
            stop = rig.run(rig.state.count + stride)
            trace.append(outcome(rig, stop))
            if stop.trap:
                break
        assert stop.trap
        seen.append(trace)
    assert seen[0] == seen[1]
    assert watch.retired >= share * rigs[1].state.count, f"{watch.retired} of {rigs[1].state.count} in regions"
    return rigs[0], rigs[1]


def closed(*rigs: Rig) -> None:
    for rig in rigs:
        rig.close()
